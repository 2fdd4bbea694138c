//! What passes between the two ends of a pseudo-terminal. Pure: `Pty` wraps it in a lock.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::abi;

/// Bytes for the master's reader before programs on the terminal wait.
pub(super) const OUTPUT_BYTES: usize = 16 * 1024;
/// Room beyond it: for what a piece that was begun grows to in output processing, and echo.
pub(super) const OUTPUT_SLACK: usize = 4096;
/// Bytes from the master's writer before it waits.
pub(super) const INPUT_BYTES: usize = 8 * 1024;

/// What passes between the two ends.
pub(super) struct Line {
    /// From the terminal, for the master's reader.
    pub(super) output: VecDeque<u8>,
    /// From the master's writer, for the line discipline.
    pub(super) input: VecDeque<u8>,
    /// The terminal cannot be opened yet (TIOCSPTLCK).
    pub(super) locked: bool,
    /// Open files of the terminal.
    pub(super) nr_open: usize,
    pub(super) was_open: bool,
    pub(super) master_gone: bool,
    /// TIOCPKT: reads of the master tell of events.
    pub(super) packet: bool,
    /// Events it was not told of yet (TIOCPKT_*).
    pub(super) events: u8,
    pub(super) stopped: bool,
    /// ^S and ^Q stop and start output (TIOCPKT_DOSTOP).
    pub(super) does_stop: bool,
}

/// What the master's reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Bytes(Vec<u8>),
    Nothing,
    /// The last file of the terminal was closed, and all it wrote was read.
    Closed,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            output: VecDeque::new(),
            input: VecDeque::new(),
            locked: true,
            nr_open: 0,
            was_open: false,
            master_gone: false,
            packet: false,
            events: 0,
            stopped: false,
            does_stop: true,
        }
    }
    pub(super) fn is_closed(&self) -> bool {
        self.was_open && self.nr_open == 0
    }
    pub(super) fn tell(&mut self, event: u32) {
        if self.packet {
            self.events |= event as u8;
        }
    }
    pub(super) fn has_news(&self) -> bool {
        !self.output.is_empty() || self.events != 0
    }
    /// Takes up to `max` (> 0) bytes for the master's reader; in packet mode one of them is
    /// the event byte.
    pub(super) fn take_output(&mut self, max: usize) -> Found {
        if self.events != 0 {
            return Found::Bytes(alloc::vec![core::mem::take(&mut self.events)]);
        }
        if self.output.is_empty() {
            return if self.is_closed() {
                Found::Closed
            } else {
                Found::Nothing
            };
        }
        let head = usize::from(self.packet);
        let n = self.output.len().min(max - head);
        let mut bytes = Vec::with_capacity(n + head);
        if self.packet {
            bytes.push(abi::TIOCPKT_DATA as u8);
        }
        bytes.extend(self.output.drain(..n));
        Found::Bytes(bytes)
    }
    /// Takes what fits of the terminal's output; returns how much. A piece that finds any
    /// room is taken whole, as far as the slack goes.
    pub(super) fn put_output(&mut self, bytes: &[u8]) -> usize {
        if self.master_gone {
            // Nobody will read it.
            return bytes.len();
        }
        if self.output.len() >= OUTPUT_BYTES {
            // Only echo comes then; some of it is kept.
            let room = (OUTPUT_BYTES + OUTPUT_SLACK).saturating_sub(self.output.len());
            if bytes.len() > room {
                return 0;
            }
        }
        let room = (OUTPUT_BYTES + 2 * OUTPUT_SLACK).saturating_sub(self.output.len());
        let n = bytes.len().min(room);
        self.output.extend(&bytes[..n]);
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_waits_for_its_reader_and_ends_with_the_last_close() {
        let mut line = Line::new();
        assert_eq!(line.take_output(9), Found::Nothing);
        line.was_open = true;
        line.nr_open = 1;
        assert_eq!(line.put_output(b"hello"), 5);
        assert_eq!(line.take_output(2), Found::Bytes(b"he".to_vec()));
        line.nr_open = 0;
        assert_eq!(line.take_output(9), Found::Bytes(b"llo".to_vec()));
        assert_eq!(line.take_output(9), Found::Closed);
    }

    #[test]
    fn output_is_bounded() {
        let mut line = Line::new();
        let mut total = 0;
        while line.output.len() < OUTPUT_BYTES {
            total += line.put_output(&[b'x'; 2000]);
        }
        for _ in 0..100 {
            total += line.put_output(&[b'e'; 300]);
        }
        assert_eq!(total, line.output.len());
        assert!(total <= OUTPUT_BYTES + OUTPUT_SLACK);
    }

    #[test]
    fn packets_begin_with_their_kind() {
        let mut line = Line::new();
        line.tell(abi::TIOCPKT_STOP);
        assert_eq!(line.events, 0);
        line.packet = true;
        line.put_output(b"data");
        line.tell(abi::TIOCPKT_STOP);
        line.tell(abi::TIOCPKT_NOSTOP);
        let both = (abi::TIOCPKT_STOP | abi::TIOCPKT_NOSTOP) as u8;
        assert_eq!(line.take_output(9), Found::Bytes(alloc::vec![both]));
        assert_eq!(line.take_output(3), Found::Bytes(b"\0da".to_vec()));
        assert_eq!(line.take_output(1), Found::Bytes(b"\0".to_vec()));
        assert_eq!(line.take_output(9), Found::Bytes(b"\0ta".to_vec()));
    }
}
