//! What becomes of a byte that the line delivers: a signal, flow control, an edit of the line,
//! or a character of it; and what programs read.

use alloc::vec::Vec;

use super::{INPUT_MAX, LineDiscipline};
use crate::abi;

/// What an input byte asks the caller to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A signal for the foreground process group (SIGINT, SIGQUIT, SIGTSTP).
    pub signal: Option<u32>,
    /// Something may have become readable.
    pub wake_readers: bool,
    /// Output was resumed (XON): writers may go on.
    pub wake_writers: bool,
}

/// How a character's echo looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// As its flags say.
    Usually,
    /// A line end as `^J`, though ECHOCTL may be off (VLNEXT).
    Literally,
    /// The return key (ICRNL) moves the cursor, though no line ends.
    AsLineEnd,
}

impl LineDiscipline {
    /// Drops unread input (TCIFLUSH).
    pub fn flush_input(&mut self) {
        self.edit.clear();
        self.ready.clear();
        self.lines.clear();
        self.literal = false;
    }

    /// Whether a read would find something; in raw mode VMIN bytes, or 1 with a VTIME.
    pub fn readable(&self) -> bool {
        if self.settings.canonical() {
            !self.lines.is_empty()
        } else {
            let min = match self.settings.time_tenths() {
                0 => self.settings.min_bytes().max(1),
                _ => 1,
            };
            self.ready.len() >= min
        }
    }

    /// Bytes a read could take now (FIONREAD).
    pub fn nr_readable(&self) -> usize {
        if self.settings.canonical() {
            self.lines.iter().sum()
        } else {
            self.ready.len()
        }
    }

    /// How many bytes may come in without any being lost. An unfinished line that nobody can
    /// read yet takes what comes, however long it is: its end must get through.
    pub fn input_room(&self) -> usize {
        if self.settings.canonical() && self.lines.is_empty() {
            return INPUT_MAX;
        }
        let held = self.ready.len() + self.edit.len() + self.lines.len();
        (INPUT_MAX - 1).saturating_sub(held)
    }

    /// Takes input for a reader: at most a line in canonical mode. `None`: nothing is there.
    /// `Some(empty)`: end-of-file, or `max` is 0.
    pub fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        let n = if self.settings.canonical() {
            let line = self.lines.front_mut()?;
            let n = (*line).min(max);
            *line -= n;
            if *line == 0 {
                self.lines.pop_front();
            }
            n
        } else {
            if self.ready.is_empty() {
                return None;
            }
            self.ready.len().min(max)
        };
        Some(self.ready.drain(..n).collect())
    }

    /// Takes a byte from the line; what is to be echoed goes to `echo`, processed for output.
    pub fn receive(&mut self, byte: u8, echo: &mut Vec<u8>) -> Outcome {
        let mut byte = byte;
        let s = self.settings;
        if s.input(abi::ISTRIP) {
            byte &= 0x7f;
        }
        if core::mem::take(&mut self.literal) {
            return self.accept(byte, Shown::Literally, echo);
        }
        if s.input(abi::IXON) {
            if s.is(abi::VSTOP, byte) && !s.is(abi::VSTART, byte) {
                self.stopped = true;
                return Outcome::default();
            }
            if s.is(abi::VSTART, byte) {
                self.stopped = false;
                return Outcome {
                    wake_writers: true,
                    ..Outcome::default()
                };
            }
            if self.stopped && s.input(abi::IXANY) {
                self.stopped = false;
                let outcome = self.receive(byte, echo);
                return Outcome {
                    wake_writers: true,
                    ..outcome
                };
            }
        }
        if s.local(abi::ISIG)
            && let Some(signal) = self.signal_of(byte)
        {
            if !s.local(abi::NOFLSH) {
                self.flush_input();
                // What was not shown yet is not worth it any more.
                echo.clear();
            }
            if s.local(abi::ECHO) {
                self.echo_char(byte, echo);
            }
            let resumed = s.input(abi::IXON) && core::mem::take(&mut self.stopped);
            return Outcome {
                signal: Some(signal),
                wake_readers: false,
                wake_writers: resumed,
            };
        }
        let mut shown = Shown::Usually;
        match byte {
            b'\r' if s.input(abi::IGNCR) => return Outcome::default(),
            b'\r' if s.input(abi::ICRNL) => {
                byte = b'\n';
                shown = Shown::AsLineEnd;
            }
            b'\n' if s.input(abi::INLCR) => byte = b'\r',
            b'A'..=b'Z' if s.input(abi::IUCLC) && s.local(abi::IEXTEN) => {
                byte = byte.to_ascii_lowercase();
            }
            _ => {}
        }
        if s.canonical() {
            self.edit_with(byte, echo)
        } else {
            self.accept(byte, shown, echo)
        }
    }

    fn signal_of(&self, byte: u8) -> Option<u32> {
        let s = &self.settings;
        if s.is(abi::VINTR, byte) {
            Some(abi::SIGINT)
        } else if s.is(abi::VQUIT, byte) {
            Some(abi::SIGQUIT)
        } else if s.is(abi::VSUSP, byte) {
            Some(abi::SIGTSTP)
        } else {
            None
        }
    }

    /// Canonical mode: editing characters, line ends, or a character for the line.
    fn edit_with(&mut self, byte: u8, echo: &mut Vec<u8>) -> Outcome {
        let s = self.settings;
        let extended = s.local(abi::IEXTEN);
        if s.is(abi::VERASE, byte) {
            self.erase_char(echo);
        } else if s.is(abi::VWERASE, byte) && extended {
            self.erase_word(echo);
        } else if s.is(abi::VKILL, byte) {
            self.kill_line(byte, echo);
        } else if s.is(abi::VREPRINT, byte) && extended && s.local(abi::ECHO) {
            self.echo_char(byte, echo);
            self.put(b"\n", echo);
            self.edit_column = self.column;
            let line = self.edit.clone();
            line.iter().for_each(|&b| self.echo_char(b, echo));
        } else if s.is(abi::VLNEXT, byte) && extended {
            self.literal = true;
            if s.local(abi::ECHO) && s.local(abi::ECHOCTL) {
                self.put(b"^\x08", echo);
            }
        } else if s.is(abi::VEOF, byte) {
            if self.is_full() {
                return Outcome::default();
            }
            return self.finish_line();
        } else {
            let ends =
                byte == b'\n' || s.is(abi::VEOL, byte) || (s.is(abi::VEOL2, byte) && extended);
            if !ends {
                return self.accept(byte, Shown::Usually, echo);
            }
            if self.is_full() {
                return Outcome::default();
            }
            if byte == b'\n' && (s.local(abi::ECHO) || s.local(abi::ECHONL)) {
                self.put(b"\n", echo);
            } else if s.local(abi::ECHO) {
                self.echo_char(byte, echo);
            }
            self.erasing = false;
            self.edit.push(byte);
            return self.finish_line();
        }
        Outcome::default()
    }

    /// Whether so much is unread that not even the end of a line is taken.
    fn is_full(&self) -> bool {
        self.ready.len() + self.lines.len() >= INPUT_MAX
    }

    /// Hands the line being edited to the readers.
    fn finish_line(&mut self) -> Outcome {
        self.lines.push_back(self.edit.len());
        let edit = core::mem::take(&mut self.edit);
        self.ready.extend(edit);
        Outcome {
            wake_readers: true,
            ..Outcome::default()
        }
    }

    /// A character that stands for itself.
    fn accept(&mut self, byte: u8, shown: Shown, echo: &mut Vec<u8>) -> Outcome {
        let s = self.settings;
        let held = self.ready.len() + self.edit.len();
        // One place is kept for the newline that ends an overlong line.
        if held >= INPUT_MAX - 1 {
            if s.input(abi::IMAXBEL) {
                echo.push(0x07);
            }
            return Outcome::default();
        }
        if s.local(abi::ECHO) {
            if self.edit.is_empty() {
                self.edit_column = self.column;
            }
            self.end_erasing(echo);
            match shown {
                Shown::Literally if byte == b'\n' => self.put(b"^J", echo),
                Shown::AsLineEnd => self.put(b"\n", echo),
                _ => self.echo_char(byte, echo),
            }
        }
        // PARMRK: what begins the mark of an error is doubled, to be told from it.
        let doubled = byte == 0xff && s.input(abi::PARMRK);
        if s.canonical() {
            self.edit.push(byte);
            if doubled {
                self.edit.push(byte);
            }
            Outcome::default()
        } else {
            self.ready.push_back(byte);
            if doubled {
                self.ready.push_back(byte);
            }
            Outcome {
                wake_readers: true,
                ..Outcome::default()
            }
        }
    }
}
