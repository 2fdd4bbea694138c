//! What the line shows: the bytes that programs write (OPOST) and the echo of what is typed.

use alloc::vec::Vec;

use super::LineDiscipline;
use crate::abi;

impl LineDiscipline {
    /// Shows a typed byte; control characters as `^X` (ECHOCTL).
    pub(super) fn echo_char(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let shown_as_caret =
            byte.is_ascii_control() && byte != b'\t' && self.settings.local(abi::ECHOCTL);
        if shown_as_caret {
            self.put(&[b'^', byte ^ 0x40], echo);
        } else {
            self.put(&[byte], echo);
        }
    }

    /// Shows bytes as if a program had written them.
    pub(super) fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &b in bytes {
            self.process_output(b, out);
        }
    }

    /// Translates a byte that a program writes (OPOST and its flags), and follows the column.
    pub fn process_output(&mut self, byte: u8, out: &mut Vec<u8>) {
        let s = self.settings;
        if !s.output(abi::OPOST) {
            out.push(byte);
            return;
        }
        match byte {
            b'\n' => {
                if s.output(abi::ONLCR) {
                    out.push(b'\r');
                    self.column = 0;
                }
                if s.output(abi::ONLRET) {
                    self.column = 0;
                }
                out.push(b'\n');
            }
            b'\r' if s.output(abi::ONOCR) && self.column == 0 => {}
            b'\r' if s.output(abi::OCRNL) => out.push(b'\n'),
            b'\r' => {
                self.column = 0;
                out.push(b'\r');
            }
            b'\t' => {
                let width = 8 - self.column % 8;
                if s.oflag & abi::TABDLY == abi::TAB3 {
                    out.extend(core::iter::repeat_n(b' ', width));
                } else {
                    out.push(b'\t');
                }
                self.column += width;
            }
            0x08 => {
                self.column = self.column.saturating_sub(1);
                out.push(byte);
            }
            _ => {
                let byte = if s.output(abi::OLCUC) {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                };
                if !(byte.is_ascii_control() || (s.input(abi::IUTF8) && byte & 0xc0 == 0x80)) {
                    self.column += 1;
                }
                out.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_processing() {
        let mut ld = LineDiscipline::default();
        let mut out = Vec::new();
        b"a\tb\n"
            .iter()
            .for_each(|&b| ld.process_output(b, &mut out));
        assert_eq!(out, b"a\tb\r\n");
        let mut s = *ld.settings();
        s.oflag |= abi::TAB3;
        ld.set_settings(s);
        out.clear();
        b"a\tb".iter().for_each(|&b| ld.process_output(b, &mut out));
        assert_eq!(out, b"a       b");
    }
}
