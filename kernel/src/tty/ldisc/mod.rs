//! The line discipline (man 3 termios, N_TTY): from bytes that a line delivers to lines or
//! characters that programs read (`input`, `edit`), and from bytes that programs write to what
//! the line shows (`output`).
//!
//! Who calls it: a terminal ([`super::Tty`]), under its lock.
//! Pure: no lock, no device, no process. The caller sends the signals and wakes the readers
//! that an [`Outcome`] asks for.

mod edit;
mod input;
mod output;
mod settings;
#[cfg(test)]
mod tests;

pub use input::Outcome;
pub use settings::Settings;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::abi;

/// Most bytes an unfinished or unread input holds (man 3 termios, MAX_CANON).
pub const INPUT_MAX: usize = 4096;

/// The discipline's state.
pub struct LineDiscipline {
    settings: Settings,
    /// The line being edited (canonical mode).
    edit: Vec<u8>,
    /// Bytes to read.
    ready: VecDeque<u8>,
    /// Lengths of the finished lines at the front of `ready` (canonical mode). A line that
    /// ended with VEOF has no terminator; a length of 0 is an end-of-file.
    lines: VecDeque<usize>,
    /// The next byte is taken literally (VLNEXT).
    literal: bool,
    /// Output is held (VSTOP).
    stopped: bool,
    /// Output is held by a program (TCOOFF), which VSTART does not undo.
    held: bool,
    /// Erased characters are being shown, after a backslash (ECHOPRT).
    erasing: bool,
    /// Cursor column, as far as output tells.
    column: usize,
    /// Column where the line being edited started.
    edit_column: usize,
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new(Settings::cooked())
    }
}

impl LineDiscipline {
    /// A discipline with nothing typed yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            edit: Vec::new(),
            ready: VecDeque::new(),
            lines: VecDeque::new(),
            literal: false,
            stopped: false,
            held: false,
            erasing: false,
            column: 0,
            edit_column: 0,
        }
    }

    /// The settings of now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings. What was typed stays readable across a change of mode.
    pub fn set_settings(&mut self, settings: Settings) {
        let was_canonical = self.settings.canonical();
        self.settings = settings;
        match (was_canonical, settings.canonical()) {
            (true, false) => {
                self.lines.clear();
                let edit = core::mem::take(&mut self.edit);
                self.ready.extend(edit);
            }
            // What is unread counts as one finished line.
            (false, true) if !self.ready.is_empty() => {
                self.lines.push_back(self.ready.len());
            }
            _ => {}
        }
        if !settings.input(abi::IXON) {
            self.stopped = false;
        }
        self.literal = false;
    }

    /// Whether output is held by VSTOP or TCOOFF.
    pub fn stopped(&self) -> bool {
        self.stopped || self.held
    }

    /// Nothing holds output any more.
    pub fn resume(&mut self) {
        self.stopped = false;
        self.held = false;
    }

    /// Holds or resumes output (TCXONC).
    pub fn set_stopped(&mut self, stopped: bool) {
        if self.held && !stopped {
            self.stopped = false;
        }
        self.held = stopped;
    }
}
