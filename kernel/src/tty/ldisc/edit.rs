//! Erasing in the line being edited (man 3 termios: ERASE, WERASE, KILL), on the screen too.

use alloc::vec::Vec;

use super::LineDiscipline;
use crate::abi;

impl LineDiscipline {
    /// The ERASE character: takes the last character away.
    pub(super) fn erase_char(&mut self, echo: &mut Vec<u8>) {
        let s = self.settings;
        if s.local(abi::ECHO) && !s.local(abi::ECHOE) && !s.local(abi::ECHOPRT) {
            if self.pop_char().is_some() {
                let erase = s.cc[abi::VERASE as usize];
                self.echo_char(erase, echo);
            }
            return;
        }
        self.erase_shown(echo);
    }

    /// Takes the last character off the line, as many bytes as it has; its first byte.
    fn pop_char(&mut self) -> Option<u8> {
        let mut last = self.edit.pop()?;
        while self.settings.input(abi::IUTF8) && last & 0xc0 == 0x80 {
            match self.edit.pop() {
                Some(b) => last = b,
                None => break,
            }
        }
        Some(last)
    }

    /// Erased characters were shown, and others follow: ends them (ECHOPRT).
    pub(super) fn end_erasing(&mut self, echo: &mut Vec<u8>) {
        if core::mem::take(&mut self.erasing) {
            self.put(b"/", echo);
        }
    }

    /// Takes the last character away, and its columns off the screen.
    fn erase_shown(&mut self, echo: &mut Vec<u8>) {
        let shows_erased = self.settings.local(abi::ECHOPRT);
        let whole = match shows_erased {
            true => self.edit.clone(),
            false => Vec::new(),
        };
        let Some(last) = self.pop_char() else {
            return;
        };
        if !self.settings.local(abi::ECHO) {
            return;
        }
        if shows_erased {
            if !core::mem::replace(&mut self.erasing, true) {
                self.put(b"\\", echo);
            }
            let erased = whole.get(self.edit.len()..).unwrap_or(&[]);
            erased.iter().for_each(|&b| self.echo_char(b, echo));
            return;
        }
        if last == b'\t' {
            // As wide as the column it began in made it.
            let end = self.measure();
            (end..self.column).for_each(|_| echo.push(0x08));
            self.column = end;
            return;
        }
        let width = match last.is_ascii_control() {
            true if self.settings.local(abi::ECHOCTL) => 2,
            true => 0,
            false => 1,
        };
        (0..width).for_each(|_| echo.extend_from_slice(b"\x08 \x08"));
        self.column = self.column.saturating_sub(width);
    }

    /// Takes the last word away, and what follows it.
    pub(super) fn erase_word(&mut self, echo: &mut Vec<u8>) {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        while self.edit.last().is_some_and(|&b| !is_word(b)) {
            self.erase_shown(echo);
        }
        while self.edit.last().is_some_and(|&b| is_word(b)) {
            self.erase_shown(echo);
        }
    }

    /// Takes the line away; `byte` is the character that asked for it.
    pub(super) fn kill_line(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let s = self.settings;
        if s.local(abi::ECHO) && s.local(abi::ECHOK) && s.local(abi::ECHOKE) && s.local(abi::ECHOE)
        {
            while !self.edit.is_empty() {
                self.erase_shown(echo);
            }
            return;
        }
        self.edit.clear();
        if s.local(abi::ECHO) {
            self.end_erasing(echo);
            self.echo_char(byte, echo);
            if s.local(abi::ECHOK) {
                self.put(b"\n", echo);
            }
        }
    }

    /// Column at which the line being edited ends.
    fn measure(&self) -> usize {
        let mut column = self.edit_column;
        for &b in &self.edit {
            column += match b {
                b'\t' => 8 - column % 8,
                0x80..=0xbf if self.settings.input(abi::IUTF8) => 0,
                _ if b.is_ascii_control() && self.settings.local(abi::ECHOCTL) => 2,
                _ if b.is_ascii_control() => 0,
                _ => 1,
            };
        }
        column
    }
}
