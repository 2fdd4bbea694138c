//! Turns the bytes of a terminal into keys: UTF-8, control characters, and the
//! escape sequences of vt100, linux and xterm keyboards.

/// One key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// Ctrl with a letter, given in lower case.
    Ctrl(char),
    /// Escape or Alt with a character.
    Alt(char),
    Enter,
    Tab,
    Backspace,
    AltBackspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    WordLeft,
    WordRight,
    Home,
    End,
    PageUp,
    PageDown,
}

/// The state of a sequence that is not complete yet.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

/// Longer than any sequence a keyboard sends: what exceeds it is noise.
const LONGEST: usize = 16;

impl Decoder {
    /// Takes the next byte; returns a key when one is complete. A sequence
    /// that means nothing here is swallowed whole.
    pub fn push(&mut self, byte: u8) -> Option<Key> {
        self.pending.push(byte);
        match decode(&self.pending) {
            Decoded::Key(key) => {
                self.pending.clear();
                Some(key)
            }
            Decoded::Nothing => {
                self.pending.clear();
                None
            }
            Decoded::Incomplete => {
                if self.pending.len() >= LONGEST {
                    self.pending.clear();
                }
                None
            }
        }
    }
}

enum Decoded {
    Key(Key),
    Nothing,
    Incomplete,
}

fn decode(bytes: &[u8]) -> Decoded {
    match bytes {
        [] => Decoded::Incomplete,
        [0x1b] => Decoded::Incomplete,
        [0x1b, b'[' | b'O'] => Decoded::Incomplete,
        [0x1b, b'[', rest @ ..] => decode_csi(rest),
        [0x1b, b'O', final_byte, ..] => known(cursor_key(*final_byte)),
        [0x1b, 0x7f | 0x08] => Decoded::Key(Key::AltBackspace),
        [0x1b, 0x1b] => Decoded::Nothing,
        [0x1b, rest @ ..] => match decode(rest) {
            Decoded::Key(Key::Char(c)) => Decoded::Key(Key::Alt(c)),
            Decoded::Key(_) => Decoded::Nothing,
            other => other,
        },
        [b'\r' | b'\n', ..] => Decoded::Key(Key::Enter),
        [b'\t', ..] => Decoded::Key(Key::Tab),
        [0x7f | 0x08, ..] => Decoded::Key(Key::Backspace),
        [byte @ 0x01..=0x1a, ..] => Decoded::Key(Key::Ctrl(char::from(byte - 1 + b'a'))),
        [byte @ 0x1c..=0x1f, ..] => Decoded::Key(Key::Ctrl(char::from(byte + 0x40))),
        [0, ..] => Decoded::Key(Key::Ctrl('@')),
        _ => decode_utf8(bytes),
    }
}

fn decode_utf8(bytes: &[u8]) -> Decoded {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .next()
            .map_or(Decoded::Nothing, |c| Decoded::Key(Key::Char(c))),
        // An error without a length is a character cut short.
        Err(error) if error.error_len().is_none() => Decoded::Incomplete,
        Err(_) => Decoded::Nothing,
    }
}

/// After `ESC [`: parameters, then one final byte.
fn decode_csi(rest: &[u8]) -> Decoded {
    // The Linux console sends ESC [ [ A for function keys.
    if rest == b"[" {
        return Decoded::Incomplete;
    }
    let Some((final_byte, parameters)) = rest.split_last() else {
        return Decoded::Incomplete;
    };
    if !(0x40..=0x7e).contains(final_byte) {
        return Decoded::Incomplete;
    }
    let mut numbers = parameters.split(|b| *b == b';').map(|digits| {
        std::str::from_utf8(digits)
            .ok()
            .and_then(|d| d.parse::<u8>().ok())
    });
    let first = numbers.next().flatten();
    // 5 is Ctrl, 3 is Alt: both move by words.
    let by_word = matches!(numbers.next().flatten(), Some(3 | 5));
    if *final_byte == b'~' {
        return known(match first {
            Some(1 | 7) => Some(Key::Home),
            Some(3) => Some(Key::Delete),
            Some(4 | 8) => Some(Key::End),
            Some(5) => Some(Key::PageUp),
            Some(6) => Some(Key::PageDown),
            _ => None,
        });
    }
    known(match (cursor_key(*final_byte), by_word) {
        (Some(Key::Left), true) => Some(Key::WordLeft),
        (Some(Key::Right), true) => Some(Key::WordRight),
        (key, _) => key,
    })
}

fn cursor_key(final_byte: u8) -> Option<Key> {
    Some(match final_byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => return None,
    })
}

fn known(key: Option<Key>) -> Decoded {
    key.map_or(Decoded::Nothing, Decoded::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|b| decoder.push(*b)).collect()
    }

    #[test]
    fn plain_and_control() {
        assert_eq!(keys(b"a\r"), [Key::Char('a'), Key::Enter]);
        assert_eq!(
            keys(&[0x01, 0x7f, 0x1f]),
            [Key::Ctrl('a'), Key::Backspace, Key::Ctrl('_')]
        );
        assert_eq!(keys("é日".as_bytes()), [Key::Char('é'), Key::Char('日')]);
    }

    #[test]
    fn cursor_keys_of_all_terminals() {
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[1;5C"),
            [Key::Up, Key::Down, Key::WordRight]
        );
        assert_eq!(
            keys(b"\x1b[1~\x1b[4~\x1b[3~"),
            [Key::Home, Key::End, Key::Delete]
        );
        assert_eq!(keys(b"\x1bb\x1b\x7f"), [Key::Alt('b'), Key::AltBackspace]);
    }

    #[test]
    fn unknown_sequences_leave_no_debris() {
        assert_eq!(keys(b"\x1b[200~x"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1b[[Ax"), [Key::Up, Key::Char('x')]);
        assert_eq!(keys(b"\xff\xc3x"), []);
    }
}
