//! What the edited line looks like on the terminal, and the bytes that bring
//! the terminal from one look to the next.
//!
//! Only relative movements are used, so nothing need be known about where on
//! the screen the prompt stands. Typing at the end of the line costs the bytes
//! of what was typed and no more.

use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar as _;

/// A place relative to the first column of the row on which the prompt's last
/// line starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    row: usize,
    column: usize,
}

/// The terminal as far as the edited line is concerned.
#[derive(Debug)]
pub struct Screen {
    columns: usize,
    /// The prompt's last line.
    prompt: String,
    text: String,
    /// Byte offset of the cursor in `text`.
    cursor: usize,
}

impl Screen {
    /// A screen whose prompt is on display with nothing after it.
    pub fn new(prompt: &str, columns: usize) -> Self {
        Self {
            columns: columns.max(1),
            prompt: prompt.rsplit('\n').next().unwrap_or_default().to_owned(),
            text: String::new(),
            cursor: 0,
        }
    }

    /// Returns the bytes that show `text` with the cursor at byte `cursor`.
    pub fn show(&mut self, text: &str, cursor: usize) -> String {
        let out = self
            .append(text, cursor)
            .or_else(|| self.chop(text, cursor))
            .unwrap_or_else(|| self.redraw(text, cursor));
        self.text.clear();
        self.text.push_str(text);
        self.cursor = cursor;
        out
    }

    /// Like [`Self::show`] with another prompt in place of the current one.
    pub fn show_with_prompt(&mut self, prompt: &str, text: &str, cursor: usize) -> String {
        let mut out = self.to_start();
        self.prompt = prompt.to_owned();
        self.draw(&mut out, text, cursor);
        self.text = text.to_owned();
        self.cursor = cursor;
        out
    }

    /// Bytes that put the terminal's cursor after the last character.
    pub fn leave(&mut self) -> String {
        let end = self.text.len();
        let text = std::mem::take(&mut self.text);
        let mut out = String::new();
        move_between(
            &mut out,
            self.place(&text, self.cursor),
            self.place(&text, end),
        );
        self.text = text;
        self.cursor = end;
        out
    }

    /// Bytes that draw everything again on a terminal whose cursor is at the
    /// start of an empty row, `prompt` (all lines of it) included.
    pub fn again(&mut self, prompt: &str) -> String {
        let mut out = String::new();
        if let Some((above, _)) = prompt.rsplit_once('\n') {
            out.push_str(above);
            out.push('\n');
        }
        let text = self.text.clone();
        self.draw(&mut out, &text, self.cursor);
        out
    }

    /// The common case: characters added at the end, all on one row.
    fn append(&self, text: &str, cursor: usize) -> Option<String> {
        let added = text.strip_prefix(self.text.as_str())?;
        let before = self.place(text, self.text.len());
        let after = self.place(text, text.len());
        (self.cursor == self.text.len()
            && cursor == text.len()
            && before.row == after.row
            && !added.contains(char::is_control))
        .then(|| added.to_owned())
    }

    /// The next most common: one narrow character removed at the end.
    fn chop(&self, text: &str, cursor: usize) -> Option<String> {
        let removed = self.text.strip_prefix(text)?;
        let before = self.place(&self.text, self.text.len());
        let after = self.place(text, text.len());
        (self.cursor == self.text.len()
            && cursor == text.len()
            && before.row == after.row
            && before.column == after.column + 1
            && !removed.is_empty())
        .then(|| "\x08 \x08".to_owned())
    }

    fn redraw(&self, text: &str, cursor: usize) -> String {
        let mut out = String::new();
        if text == self.text {
            move_between(
                &mut out,
                self.place(text, self.cursor),
                self.place(text, cursor),
            );
            return out;
        }
        out = self.to_start();
        self.draw(&mut out, text, cursor);
        out
    }

    /// To the start of the prompt's row, with everything from there cleared.
    fn to_start(&self) -> String {
        let mut out = String::new();
        let row = self.place(&self.text, self.cursor).row;
        if row > 0 {
            let _ = write!(out, "\x1b[{row}A");
        }
        out.push_str("\r\x1b[J");
        out
    }

    fn draw(&self, out: &mut String, text: &str, cursor: usize) {
        out.push_str(&self.prompt);
        for c in text.chars() {
            match c {
                '\n' => out.push('\n'),
                c if c.is_control() => {
                    out.push('^');
                    out.push(caret_letter(c));
                }
                c => out.push(c),
            }
        }
        let end = self.place(text, text.len());
        // In the last column the terminal waits with the wrap; make it wrap.
        if end.column == 0 && end.row > 0 && !text.ends_with('\n') {
            out.push_str(" \r");
        }
        move_between(out, end, self.place(text, cursor));
    }

    /// Where the character at byte `offset` of `text` stands.
    fn place(&self, text: &str, offset: usize) -> Place {
        let mut place = Place { row: 0, column: 0 };
        for c in visible(&self.prompt) {
            self.advance(&mut place, c.width().unwrap_or(0));
        }
        for c in text[..offset].chars() {
            match c {
                '\n' => {
                    place = Place {
                        row: place.row + 1,
                        column: 0,
                    }
                }
                c if c.is_control() => {
                    self.advance(&mut place, 1);
                    self.advance(&mut place, 1);
                }
                c => self.advance(&mut place, c.width().unwrap_or(0)),
            }
        }
        place
    }

    /// Moves `place` past a character of `width` columns; one that does not
    /// fit stands on the next row.
    fn advance(&self, place: &mut Place, width: usize) {
        if place.column + width > self.columns {
            place.row += 1;
            place.column = 0;
        }
        place.column += width;
        if place.column >= self.columns {
            place.row += 1;
            place.column = 0;
        }
    }
}

fn caret_letter(c: char) -> char {
    char::from_u32((c as u32) ^ 0x40).unwrap_or('?')
}

/// The characters of `prompt` that take room: no escape sequences.
fn visible(prompt: &str) -> impl Iterator<Item = char> + '_ {
    let mut chars = prompt.chars();
    std::iter::from_fn(move || {
        loop {
            let c = chars.next()?;
            if c != '\x1b' {
                if c.is_control() {
                    continue;
                }
                return Some(c);
            }
            match chars.next()? {
                // CSI: up to its final byte.
                '[' => while !matches!(chars.next()?, '\x40'..='\x7e') {},
                // OSC (window title): up to BEL or ESC \.
                ']' => loop {
                    match chars.next()? {
                        '\x07' => break,
                        '\x1b' => {
                            chars.next()?;
                            break;
                        }
                        _ => {}
                    }
                },
                _ => {}
            }
        }
    })
}

fn move_between(out: &mut String, from: Place, to: Place) {
    if to.row < from.row {
        let _ = write!(out, "\x1b[{}A", from.row - to.row);
    } else if to.row > from.row {
        let _ = write!(out, "\x1b[{}B", to.row - from.row);
    }
    if to.column == from.column {
        return;
    }
    if to.column == 0 {
        out.push('\r');
    } else if to.column < from.column && from.column - to.column <= 4 {
        out.extend(std::iter::repeat_n('\x08', from.column - to.column));
    } else if to.column < from.column {
        let _ = write!(out, "\x1b[{}D", from.column - to.column);
    } else {
        let _ = write!(out, "\x1b[{}C", to.column - from.column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_echoes_only_what_is_typed() {
        let mut screen = Screen::new("\x1b[1mhost\x1b[0m:~ # ", 80);
        assert_eq!(screen.show("l", 1), "l");
        assert_eq!(screen.show("ls", 2), "s");
        assert_eq!(screen.show("l", 1), "\x08 \x08");
    }

    #[test]
    fn editing_in_the_middle_redraws() {
        let mut screen = Screen::new("# ", 80);
        screen.show("ac", 2);
        assert_eq!(screen.show("ac", 1), "\x08");
        assert_eq!(screen.show("abc", 2), "\r\x1b[J# abc\x08");
        assert_eq!(screen.leave(), "\x1b[1C");
    }

    #[test]
    fn long_lines_wrap() {
        let mut screen = Screen::new("# ", 10);
        assert_eq!(screen.show("1234567", 7), "1234567");
        // The eighth character fills the row: the wrap is forced.
        assert_eq!(screen.show("12345678", 8), "\r\x1b[J# 12345678 \r");
        assert_eq!(screen.show("123456789", 9), "9");
        assert_eq!(screen.show("123456789", 0), "\x1b[1A\x1b[1C");
    }

    #[test]
    fn escape_sequences_take_no_room() {
        let shown: String = visible("\x1b]0;title\x07\x1b[31ma\x1b[0mb").collect();
        assert_eq!(shown, "ab");
    }
}
