//! The bytes ahead: blanks, numbers, and text up to a delimiter.

use super::{Parser, Res};

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip(&mut self, what: fn(u8) -> bool) {
        while self.peek().is_some_and(what) {
            self.at += 1;
        }
    }

    pub(super) fn skip_blanks(&mut self) {
        self.skip(|b| matches!(b, b' ' | b'\t' | b'\r' | 11 | 12));
    }

    pub(super) fn number(&mut self) -> Option<usize> {
        let start = self.at;
        self.skip(|b| b.is_ascii_digit());
        let digits = &self.text[start..self.at];
        if digits.is_empty() {
            return None;
        }
        Some(digits.iter().fold(0usize, |n, b| {
            n.saturating_mul(10).saturating_add(usize::from(b - b'0'))
        }))
    }

    /// Text up to an unescaped `delimiter`, which loses its backslashes. None where it does not end.
    pub(super) fn delimited(&mut self, delimiter: u8, regex: bool) -> Res<Option<Vec<u8>>> {
        let mut out = Vec::new();
        loop {
            let Some(byte) = self.peek() else {
                return Ok(None);
            };
            if byte == delimiter {
                self.at += 1;
                return Ok(Some(out));
            }
            match byte {
                b'\\' => {
                    self.at += 1;
                    let Some(next) = self.peek() else {
                        return Ok(None);
                    };
                    if next == delimiter {
                        // What would be an operator with its backslash is itself with the delimiter's.
                        out.push(next);
                    } else if next == b'\n' && regex {
                        out.push(b'\n');
                    } else {
                        out.extend([b'\\', next]);
                    }
                    self.at += 1;
                }
                b'\n' if regex => return Ok(None),
                b'[' if regex => {
                    let length = bracket_length(&self.text[self.at..]);
                    out.extend_from_slice(&self.text[self.at..self.at + length]);
                    self.at += length;
                }
                _ => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }
}

/// Bytes of the bracket expression that `text` begins with; 1 if it is not closed on its line.
fn bracket_length(text: &[u8]) -> usize {
    let mut at = 1 + usize::from(text.get(1) == Some(&b'^'));
    at += usize::from(text.get(at) == Some(&b']'));
    while let Some(byte) = text.get(at) {
        match byte {
            b'\n' => return 1,
            b']' => return at + 1,
            b'[' if matches!(text.get(at + 1), Some(b':' | b'.' | b'=')) => {
                let kind = text[at + 1];
                match text[at + 2..].windows(2).position(|w| w == [kind, b']']) {
                    Some(end) => at += 2 + end + 2,
                    None => at += 1,
                }
            }
            _ => at += 1,
        }
    }
    1
}
