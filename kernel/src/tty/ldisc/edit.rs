//! Erasing in the line being edited (man 3 termios: ERASE, WERASE, KILL), on the screen too.

use alloc::vec::Vec;

use super::LineDiscipline;
use crate::abi;

impl LineDiscipline {
    /// Takes the last character away, as many bytes and columns as it has.
    pub(super) fn erase_char(&mut self, echo: &mut Vec<u8>) {
        let Some(mut last) = self.edit.pop() else {
            return;
        };
        while self.settings.input(abi::IUTF8) && last & 0xc0 == 0x80 {
            match self.edit.pop() {
                Some(b) => last = b,
                None => break,
            }
        }
        if !self.settings.local(abi::ECHO) {
            return;
        }
        if !self.settings.local(abi::ECHOE) {
            let erase = self.settings.cc[abi::VERASE as usize];
            self.echo_char(erase, echo);
            return;
        }
        let end = self.measure();
        let width = self.column.saturating_sub(end);
        if last == b'\t' {
            (0..width).for_each(|_| echo.push(0x08));
        } else {
            (0..width).for_each(|_| echo.extend_from_slice(b"\x08 \x08"));
        }
        self.column = end;
    }

    /// Takes the last word away, and what follows it.
    pub(super) fn erase_word(&mut self, echo: &mut Vec<u8>) {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        while self.edit.last().is_some_and(|&b| !is_word(b)) {
            self.erase_char(echo);
        }
        while self.edit.last().is_some_and(|&b| is_word(b)) {
            self.erase_char(echo);
        }
    }

    /// Takes the line away; `byte` is the character that asked for it.
    pub(super) fn kill_line(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let s = self.settings;
        if s.local(abi::ECHO) && s.local(abi::ECHOK) && s.local(abi::ECHOKE) && s.local(abi::ECHOE)
        {
            while !self.edit.is_empty() {
                self.erase_char(echo);
            }
            return;
        }
        self.edit.clear();
        if s.local(abi::ECHO) {
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
