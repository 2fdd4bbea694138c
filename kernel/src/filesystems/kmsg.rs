//! /dev/kmsg: the kernel's log by records, to read and to add to (Linux's documentation,
//! ABI/testing/dev-kmsg).

use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::devfs::device_stat;
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::log;
use crate::sched::{LOG_READERS, Mutex};
use crate::vfs::Dev;
use crate::vm::{IoDest, IoSource};

/// Longer than any record.
const PIECE: usize = 2048;
/// Longest text that is taken at once, in bytes.
const MAX_TEXT: usize = 1024;
/// Facility of records that name none: user-level messages.
const LOG_USER: u32 = 1 << 3;

/// An open /dev/kmsg. It begins with the oldest record.
pub struct Kmsg {
    dev: Dev,
    /// Position in the log's stream.
    next: Mutex<u64>,
}

impl Kmsg {
    pub fn new(dev: Dev) -> Kmsg {
        Kmsg {
            dev,
            next: Mutex::new(oldest()),
        }
    }

    /// Gives the record at `next`; `None` when there is none yet. EPIPE when it is gone: `next` is
    /// then the oldest that is there. EINVAL for a buffer that is too small for it.
    fn take(next: &mut u64, dst: &mut IoDest<'_>) -> Result<Option<usize>> {
        let mut ring = vec![0; PIECE];
        let (start, n) = log::read_from(*next, &mut ring);
        if start > *next {
            *next = oldest();
            return Err(Errno::EPIPE);
        }
        let Some((record, len)) = first_record(start, &ring[..n]) else {
            return Ok(None);
        };
        if dst.remaining() < record.len() {
            return Err(Errno::EINVAL);
        }
        let n = dst.put(&record)?;
        *next += len as u64;
        Ok(Some(n))
    }
}

/// Position of the oldest record that is whole.
fn oldest() -> u64 {
    let mut ring = vec![0; PIECE];
    let (start, n) = log::read_from(0, &mut ring);
    if start == 0 {
        return 0;
    }
    // The first line may be the end of one.
    let skip = ring[..n].iter().position(|&b| b == b'\n');
    start + skip.map_or(0, |end| end as u64 + 1)
}

/// The record that `ring`, from stream position `at` on, begins with: as /dev/kmsg gives it, and
/// its length in the ring.
fn first_record(at: u64, ring: &[u8]) -> Option<(Vec<u8>, usize)> {
    let len = ring.iter().position(|&b| b == b'\n')?;
    let text = core::str::from_utf8(&ring[..len]).unwrap_or("");
    // `<priority>[seconds.micros] text`
    let parsed = text.strip_prefix('<').and_then(|t| {
        let (priority, t) = t.split_once(">[")?;
        let (time, text) = t.split_once("] ")?;
        let (sec, us) = time.trim_start().split_once('.')?;
        let us = sec.parse::<u64>().ok()? * 1_000_000 + us.parse::<u64>().ok()?;
        Some(alloc::format!("{priority},{at},{us},-;{text}\n"))
    });
    let out = parsed.unwrap_or_else(|| alloc::format!("6,{at},0,c;{text}\n"));
    Some((out.into_bytes(), len + 1))
}

/// What a program writes: `<priority>text`, or the text alone. It is a warning of users by
/// default; the kernel's facility is not to be had.
fn parse(line: &[u8]) -> (u32, &[u8]) {
    let default = (LOG_USER | log::Level::Warning as u32, line);
    let Some(rest) = line.strip_prefix(b"<") else {
        return default;
    };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = core::str::from_utf8(&rest[..digits]).ok();
    match (number.and_then(|n| n.parse::<u32>().ok()), rest.get(digits)) {
        (Some(n), Some(b'>')) => {
            let facility = if n >> 3 == 0 { LOG_USER } else { n & !7 };
            (facility | n & 7, &rest[digits + 1..])
        }
        _ => default,
    }
}

/// Text in which what is not UTF-8 is spelled out.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl File for Kmsg {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        loop {
            let from = {
                let mut next = self.next.lock();
                if let Some(n) = Self::take(&mut next, dst)? {
                    return Ok(n);
                }
                *next
            };
            if of.nonblocking() {
                return Err(Errno::EAGAIN);
            }
            LOG_READERS
                .wait_interruptible(None, || (log::head() > from).then_some(()))
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }
    fn write(&self, _of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        let total = src.remaining();
        if total > MAX_TEXT {
            return Err(Errno::EINVAL);
        }
        let mut line = vec![0; total];
        let n = src.get(&mut line)?;
        let (priority, text) = parse(&line[..n]);
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        log::record_as(priority, format_args!("{}", Escaped(text)));
        Ok(n)
    }
    fn seek(&self, _of: &OpenFile, _pos: u64, offset: i64, whence: u32) -> Result<u64> {
        if offset != 0 {
            return Err(Errno::ESPIPE);
        }
        *self.next.lock() = match whence {
            abi::SEEK_SET | abi::SEEK_DATA => oldest(),
            abi::SEEK_END => log::head(),
            _ => return Err(Errno::EINVAL),
        };
        Ok(0)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register_static(&LOG_READERS);
        }
        let next = *self.next.lock();
        let mut events = PollEvents::OUT;
        if log::head() > next {
            events |= PollEvents::IN | PollEvents::RDNORM;
            // The next one is gone: a read says EPIPE.
            if log::read_from(next, &mut []).0 > next {
                events |= PollEvents::ERR | PollEvents::PRI;
            }
        }
        events
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(device_stat(self.dev))
    }
    fn describe(&self) -> Vec<u8> {
        b"/dev/kmsg".to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_from_the_ring() {
        let ring = b"<6>[    1.000002] hello\n<12>[   12.500000] two\n<6>[";
        let (first, len) = first_record(0, ring).unwrap();
        assert_eq!(first, b"6,0,1000002,-;hello\n");
        let (second, len2) = first_record(len as u64, &ring[len..]).unwrap();
        assert_eq!(second, b"12,24,12500000,-;two\n");
        assert!(first_record(48, &ring[len + len2..]).is_none());
    }

    #[test]
    fn what_is_written_has_a_priority() {
        assert_eq!(parse(b"text"), (12, &b"text"[..]));
        assert_eq!(parse(b"<3>text"), (11, &b"text"[..]));
        assert_eq!(parse(b"<86>text"), (86, &b"text"[..]));
        assert_eq!(parse(b"<x>text"), (12, &b"<x>text"[..]));
        assert_eq!(parse(b"<3"), (12, &b"<3"[..]));
        assert_eq!(parse(b"<99999999999>t"), (12, &b"<99999999999>t"[..]));
        let shown = alloc::format!("{}", Escaped(b"a\xffb"));
        assert_eq!(shown, "a\\xffb");
    }
}
