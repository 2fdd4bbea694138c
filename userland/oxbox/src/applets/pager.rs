//! more and less: a pager that scrolls both ways and searches.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};

use super::Args;
use crate::sys::{fail, options, read_input, terminal_size};

const HELP: &str = "\
  space, f, PgDn  forward a page        b, PgUp  back a page
  enter, j, down  forward a line        k, up    back a line
  d, u            half a page           g, G     first, last line
  /TEXT, ?TEXT    search                n, N     next, previous match
  h               this help             q        quit
";

pub fn more(args: Args) -> i32 {
    page("more", args, true)
}

pub fn less(args: Args) -> i32 {
    page("less", args, false)
}

/// Shows the operands. `leave_at_end`: as `more`, which ends with the text.
fn page(applet: &str, args: Args, leave_at_end: bool) -> i32 {
    let parsed = match options(args, "dfFiIlmMnNrRsSuUXeE", "", &[], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail(applet, message, 1),
    };
    let mut operands = parsed.operands.clone();
    if operands.is_empty() {
        if io::stdin().is_terminal() {
            return fail(applet, "missing file name", 1);
        }
        operands.push("-".to_owned());
    }
    let mut text = Vec::new();
    for path in &operands {
        match read_input(path) {
            Ok(bytes) => text.extend(bytes),
            Err(error) => return fail(applet, format!("{path}: {error}"), 1),
        }
    }
    if !io::stdout().is_terminal() {
        return i32::from(io::stdout().write_all(&text).is_err());
    }
    // Keys come from the terminal even when the text comes from a pipe.
    let keys: Box<dyn Keys> = if io::stdin().is_terminal() {
        Box::new(io::stdin())
    } else {
        match std::fs::File::open("/dev/tty") {
            Ok(tty) => Box::new(tty),
            Err(_) => return i32::from(io::stdout().write_all(&text).is_err()),
        }
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let pager = Pager::new(&text, parsed.has('N'), leave_at_end, parsed.has('F'));
    match pager.run(keys) {
        Ok(()) => 0,
        Err(error) => fail(applet, error, 1),
    }
}

trait Keys: io::Read + std::os::fd::AsFd {}
impl<T: io::Read + std::os::fd::AsFd> Keys for T {}

struct Pager<'a> {
    lines: Vec<&'a str>,
    numbers: bool,
    leave_at_end: bool,
    quit_if_short: bool,
    top: usize,
    pattern: String,
}

impl<'a> Pager<'a> {
    fn new(text: &'a str, numbers: bool, leave_at_end: bool, quit_if_short: bool) -> Self {
        Self {
            lines: text.lines().collect(),
            numbers,
            leave_at_end,
            quit_if_short,
            top: 0,
            pattern: String::new(),
        }
    }

    fn run(mut self, mut keys: Box<dyn Keys>) -> io::Result<()> {
        let (rows, columns) = terminal_size();
        let page = rows.saturating_sub(1).max(1);
        if (self.leave_at_end || self.quit_if_short) && self.lines.len() <= page {
            return self.draw(page, columns, false);
        }
        let cooked = raw_mode(&*keys)?;
        let result = self.interact(&mut keys, page, columns);
        print!("\r\x1b[K");
        if let Some(cooked) = cooked {
            termios::tcsetattr(keys.as_fd(), SetArg::TCSADRAIN, &cooked)?;
        }
        result
    }

    fn interact(
        &mut self,
        keys: &mut Box<dyn Keys>,
        page: usize,
        columns: usize,
    ) -> io::Result<()> {
        let last = self.lines.len().saturating_sub(page);
        loop {
            self.draw(page, columns, true)?;
            if self.leave_at_end && self.top >= last {
                return Ok(());
            }
            match read_key(keys)? {
                'q' | 'Q' | '\x03' | '\x04' => return Ok(()),
                ' ' | 'f' | '\x06' => self.top += page,
                'b' | '\x02' => self.top = self.top.saturating_sub(page),
                '\r' | '\n' | 'j' => self.top += 1,
                'k' => self.top = self.top.saturating_sub(1),
                'd' => self.top += page / 2,
                'u' => self.top = self.top.saturating_sub(page / 2),
                'g' | '<' => self.top = 0,
                'G' | '>' => self.top = last,
                '/' => {
                    self.pattern = ask(keys, '/')?;
                    self.search(true);
                }
                '?' => {
                    self.pattern = ask(keys, '?')?;
                    self.search(false);
                }
                'n' => self.search(true),
                'N' => self.search(false),
                'h' => {
                    print!("\x1b[H\x1b[J{HELP}\n[press a key]");
                    io::stdout().flush()?;
                    read_key(keys)?;
                }
                _ => {}
            }
            self.top = self.top.min(last);
        }
    }

    fn search(&mut self, forward: bool) {
        if self.pattern.is_empty() {
            return;
        }
        let matches = |at: &usize| self.lines[*at].contains(&self.pattern);
        let found = if forward {
            (self.top + 1..self.lines.len()).find(matches)
        } else {
            (0..self.top.min(self.lines.len())).rev().find(matches)
        };
        if let Some(at) = found {
            self.top = at;
        }
    }

    fn draw(&self, page: usize, columns: usize, prompt: bool) -> io::Result<()> {
        let mut out = String::new();
        if prompt {
            out.push_str("\x1b[H\x1b[J");
        }
        for (at, line) in self.lines.iter().enumerate().skip(self.top).take(page) {
            let number = match self.numbers {
                true => format!("{:>6} ", at + 1),
                false => String::new(),
            };
            let room = columns.saturating_sub(number.len());
            out.push_str(&number);
            out.extend(expand_tabs(line).take(room));
            out.push('\n');
        }
        if prompt {
            let end = (self.top + page).min(self.lines.len());
            let percent = end * 100 / self.lines.len().max(1);
            let mark = if end == self.lines.len() {
                "(END)"
            } else {
                "--More--"
            };
            out.push_str(&format!("\x1b[7m{mark} {percent}%\x1b[0m"));
        }
        io::stdout().write_all(out.as_bytes())?;
        io::stdout().flush()
    }
}

/// The characters of `line` with tabs as blanks up to the next eighth column.
fn expand_tabs(line: &str) -> impl Iterator<Item = char> + '_ {
    let mut column = 0;
    line.chars().flat_map(move |c| {
        let count = if c == '\t' { 8 - column % 8 } else { 1 };
        column += count;
        std::iter::repeat_n(if c == '\t' { ' ' } else { c }, count)
    })
}

fn raw_mode(keys: &dyn Keys) -> io::Result<Option<Termios>> {
    let Ok(cooked) = termios::tcgetattr(keys.as_fd()) else {
        return Ok(None);
    };
    let mut raw = cooked.clone();
    raw.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
    raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    termios::tcsetattr(keys.as_fd(), SetArg::TCSADRAIN, &raw)?;
    Ok(Some(cooked))
}

fn read_byte(keys: &mut Box<dyn Keys>) -> io::Result<u8> {
    let mut byte = [0];
    match keys.read(&mut byte)? {
        0 => Ok(b'q'),
        _ => Ok(byte[0]),
    }
}

/// One key; cursor and page keys as the letters that do the same.
fn read_key(keys: &mut Box<dyn Keys>) -> io::Result<char> {
    let byte = read_byte(keys)?;
    if byte != 0x1b {
        return Ok(char::from(byte));
    }
    if !matches!(read_byte(keys)?, b'[' | b'O') {
        return Ok('\0');
    }
    Ok(match read_byte(keys)? {
        b'A' => 'k',
        b'B' => 'j',
        b'H' => 'g',
        b'F' => 'G',
        digit @ b'0'..=b'9' => {
            while !(0x40..=0x7e).contains(&read_byte(keys)?) {}
            match digit {
                b'5' => 'b',
                b'6' => ' ',
                b'1' | b'7' => 'g',
                b'4' | b'8' => 'G',
                _ => '\0',
            }
        }
        _ => '\0',
    })
}

/// Reads a search pattern on the last row.
fn ask(keys: &mut Box<dyn Keys>, sign: char) -> io::Result<String> {
    let mut text = Vec::new();
    loop {
        print!("\r\x1b[K{sign}{}", String::from_utf8_lossy(&text));
        io::stdout().flush()?;
        match read_byte(keys)? {
            b'\r' | b'\n' => break,
            0x7f | 0x08 => drop(text.pop()),
            0x1b | 0x03 => return Ok(String::new()),
            byte => text.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_reach_the_next_stop() {
        let text: String = expand_tabs("a\tb").collect();
        assert_eq!(text, "a       b");
    }

    #[test]
    fn search_moves_to_the_next_match() {
        let mut pager = Pager::new("one\ntwo\none\n", false, false, false);
        pager.pattern = "one".into();
        pager.search(true);
        assert_eq!(pager.top, 2);
        pager.search(false);
        assert_eq!(pager.top, 0);
    }
}
