//! The line discipline (man 3 termios, N_TTY): from bytes that a line delivers to lines or
//! characters that programs read, and from bytes that programs write to what the line shows.
//!
//! Pure: no lock, no device, no process. The caller sends the signals and wakes the readers
//! that an [`Outcome`] asks for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::abi;

/// Most bytes an unfinished or unread input holds (man 3 termios, MAX_CANON).
pub const INPUT_MAX: usize = 4096;

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

/// The settings of a terminal: kernel form of `struct termios2` without the gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "man 3 termios names them")]
pub struct Settings {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
    pub ispeed: u32,
    pub ospeed: u32,
}

/// A disabled control character (_POSIX_VDISABLE).
const DISABLED: u8 = 0;

const fn ctrl(c: u8) -> u8 {
    c & 0x1f
}

impl Settings {
    /// What a terminal starts with: cooked, echoing, 115200 8N1.
    pub const fn cooked() -> Self {
        let mut cc = [DISABLED; 19];
        cc[abi::VINTR as usize] = ctrl(b'C');
        cc[abi::VQUIT as usize] = ctrl(b'\\');
        cc[abi::VERASE as usize] = 0x7f;
        cc[abi::VKILL as usize] = ctrl(b'U');
        cc[abi::VEOF as usize] = ctrl(b'D');
        cc[abi::VMIN as usize] = 1;
        cc[abi::VSTART as usize] = ctrl(b'Q');
        cc[abi::VSTOP as usize] = ctrl(b'S');
        cc[abi::VSUSP as usize] = ctrl(b'Z');
        cc[abi::VREPRINT as usize] = ctrl(b'R');
        cc[abi::VDISCARD as usize] = ctrl(b'O');
        cc[abi::VWERASE as usize] = ctrl(b'W');
        cc[abi::VLNEXT as usize] = ctrl(b'V');
        Self {
            iflag: abi::ICRNL | abi::IXON | abi::IUTF8,
            oflag: abi::OPOST | abi::ONLCR,
            cflag: abi::B115200 | abi::CS8 | abi::CREAD | abi::HUPCL | abi::CLOCAL,
            lflag: abi::ISIG
                | abi::ICANON
                | abi::ECHO
                | abi::ECHOE
                | abi::ECHOK
                | abi::ECHOCTL
                | abi::ECHOKE
                | abi::IEXTEN,
            line: 0,
            cc,
            ispeed: 115_200,
            ospeed: 115_200,
        }
    }

    /// What a pseudo-terminal starts with (as Linux's): no modem lines, bytes as characters.
    pub const fn pseudo() -> Self {
        let mut settings = Self::cooked();
        settings.iflag &= !abi::IUTF8;
        settings.cflag = abi::B38400 | abi::CS8 | abi::CREAD;
        settings.ispeed = 38_400;
        settings.ospeed = 38_400;
        settings
    }

    fn input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }
    fn local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }
    fn output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }
    fn is(&self, index: u32, byte: u8) -> bool {
        byte != DISABLED && self.cc[index as usize] == byte
    }
    /// Whether input is delivered in lines.
    pub fn canonical(&self) -> bool {
        self.local(abi::ICANON)
    }
    /// VMIN: bytes that satisfy a raw read.
    pub fn min_bytes(&self) -> usize {
        self.cc[abi::VMIN as usize] as usize
    }
    /// VTIME: tenths of a second.
    pub fn time_tenths(&self) -> u64 {
        u64::from(self.cc[abi::VTIME as usize])
    }
}

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
        self.stopped
    }

    /// Holds or resumes output (TCXONC).
    pub fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

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
            return self.accept(byte, true, echo);
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
            }
            if s.local(abi::ECHO) {
                self.echo_char(byte, echo);
            }
            let resumed = core::mem::take(&mut self.stopped);
            return Outcome {
                signal: Some(signal),
                wake_readers: false,
                wake_writers: resumed,
            };
        }
        match byte {
            b'\r' if s.input(abi::IGNCR) => return Outcome::default(),
            b'\r' if s.input(abi::ICRNL) => byte = b'\n',
            b'\n' if s.input(abi::INLCR) => byte = b'\r',
            b'A'..=b'Z' if s.input(abi::IUCLC) && s.local(abi::IEXTEN) => {
                byte = byte.to_ascii_lowercase();
            }
            _ => {}
        }
        if s.canonical() {
            self.edit_with(byte, echo)
        } else {
            self.accept(byte, false, echo)
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
                return self.accept(byte, false, echo);
            }
            if self.is_full() {
                return Outcome::default();
            }
            if s.local(abi::ECHO) || (byte == b'\n' && s.local(abi::ECHONL)) {
                self.echo_char(byte, echo);
            }
            self.edit.push(byte);
            return self.finish_line();
        }
        Outcome::default()
    }

    /// Whether so much is unread that not even the end of a line is taken.
    fn is_full(&self) -> bool {
        self.ready.len() + self.lines.len() >= INPUT_MAX
    }

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
    fn accept(&mut self, byte: u8, literal: bool, echo: &mut Vec<u8>) -> Outcome {
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
            if literal && byte == b'\n' {
                self.put(b"^J", echo);
            } else {
                self.echo_char(byte, echo);
            }
        }
        if s.canonical() {
            self.edit.push(byte);
            Outcome::default()
        } else {
            self.ready.push_back(byte);
            Outcome {
                wake_readers: true,
                ..Outcome::default()
            }
        }
    }

    fn erase_char(&mut self, echo: &mut Vec<u8>) {
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

    fn erase_word(&mut self, echo: &mut Vec<u8>) {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        while self.edit.last().is_some_and(|&b| !is_word(b)) {
            self.erase_char(echo);
        }
        while self.edit.last().is_some_and(|&b| is_word(b)) {
            self.erase_char(echo);
        }
    }

    fn kill_line(&mut self, byte: u8, echo: &mut Vec<u8>) {
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

    fn echo_char(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let shown_as_caret = byte.is_ascii_control()
            && !matches!(byte, b'\n' | b'\t')
            && self.settings.local(abi::ECHOCTL);
        if shown_as_caret {
            self.put(&[b'^', byte ^ 0x40], echo);
        } else {
            self.put(&[byte], echo);
        }
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
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

    fn typed(ld: &mut LineDiscipline, bytes: &[u8]) -> (Vec<u8>, Vec<u32>) {
        let (mut echo, mut signals) = (Vec::new(), Vec::new());
        for &b in bytes {
            signals.extend(ld.receive(b, &mut echo).signal);
        }
        (echo, signals)
    }

    fn raw() -> LineDiscipline {
        let mut s = Settings::cooked();
        s.lflag = 0;
        s.iflag = 0;
        LineDiscipline::new(s)
    }

    #[test]
    fn a_line_is_edited_echoed_and_read_once() {
        let mut ld = LineDiscipline::default();
        let (echo, _) = typed(&mut ld, b"lx\x7fs\r");
        assert_eq!(echo, b"lx\x08 \x08s\r\n");
        assert!(ld.readable());
        assert_eq!(ld.read(100).as_deref(), Some(&b"ls\n"[..]));
        assert_eq!(ld.read(100), None);
    }

    #[test]
    fn reads_never_cross_a_line_and_may_split_one() {
        let mut ld = LineDiscipline::default();
        typed(&mut ld, b"abc\nde\n");
        assert_eq!(ld.read(2).as_deref(), Some(&b"ab"[..]));
        assert_eq!(ld.read(100).as_deref(), Some(&b"c\n"[..]));
        assert_eq!(ld.read(100).as_deref(), Some(&b"de\n"[..]));
    }

    #[test]
    fn eof_ends_a_line_without_a_byte() {
        let mut ld = LineDiscipline::default();
        typed(&mut ld, b"ab\x04\x04");
        assert_eq!(ld.read(9).as_deref(), Some(&b"ab"[..]));
        assert_eq!(ld.read(9).as_deref(), Some(&b""[..]));
        assert_eq!(ld.read(9), None);
    }

    #[test]
    fn signals_flush_unless_told_not_to() {
        let mut ld = LineDiscipline::default();
        let (echo, signals) = typed(&mut ld, b"ab\x03");
        assert_eq!(
            (echo.as_slice(), signals.as_slice()),
            (&b"ab^C"[..], &[abi::SIGINT][..])
        );
        typed(&mut ld, b"\n");
        assert_eq!(ld.read(9).as_deref(), Some(&b"\n"[..]));
        let mut s = *ld.settings();
        s.lflag |= abi::NOFLSH;
        ld.set_settings(s);
        assert_eq!(
            typed(&mut ld, b"x\x1c\x1a\n").1,
            [abi::SIGQUIT, abi::SIGTSTP]
        );
        assert_eq!(ld.read(9).as_deref(), Some(&b"x\n"[..]));
    }

    #[test]
    fn erasing_counts_columns_of_tabs_controls_and_utf8() {
        let mut ld = LineDiscipline::default();
        assert_eq!(
            typed(&mut ld, b"a\t\x7f").0,
            b"a\t\x08\x08\x08\x08\x08\x08\x08"
        );
        assert_eq!(
            typed(&mut ld, b"\x16\x01\x7f").0,
            b"^\x08^A\x08 \x08\x08 \x08"
        );
        assert_eq!(
            typed(&mut ld, "é\x7f".as_bytes()).0,
            "é\x08 \x08".as_bytes()
        );
        typed(&mut ld, b"\n");
        assert_eq!(ld.read(9).as_deref(), Some(&b"a\n"[..]));
    }

    #[test]
    fn word_and_line_erase() {
        let mut ld = LineDiscipline::default();
        typed(&mut ld, b"one two \x17x\n");
        assert_eq!(ld.read(99).as_deref(), Some(&b"one x\n"[..]));
        typed(&mut ld, b"one two\x15x\n");
        assert_eq!(ld.read(99).as_deref(), Some(&b"x\n"[..]));
    }

    #[test]
    fn raw_mode_delivers_bytes_and_vmin_holds() {
        let mut ld = raw();
        let mut s = *ld.settings();
        s.cc[abi::VMIN as usize] = 3;
        ld.set_settings(s);
        assert!(typed(&mut ld, b"\x03\r").1.is_empty());
        assert!(!ld.readable());
        typed(&mut ld, b"z");
        assert!(ld.readable());
        assert_eq!(ld.read(9).as_deref(), Some(&b"\x03\rz"[..]));
    }

    #[test]
    fn switching_modes_loses_nothing() {
        let mut ld = LineDiscipline::default();
        typed(&mut ld, b"one\ntwo");
        let mut s = *ld.settings();
        s.lflag &= !abi::ICANON;
        ld.set_settings(s);
        assert_eq!(ld.read(99).as_deref(), Some(&b"one\ntwo"[..]));
        typed(&mut ld, b"three");
        ld.set_settings(Settings::cooked());
        assert_eq!(ld.read(99).as_deref(), Some(&b"three"[..]));
    }

    #[test]
    fn flow_control_stops_and_resumes() {
        let mut ld = LineDiscipline::default();
        typed(&mut ld, b"\x13");
        assert!(ld.stopped());
        let mut echo = Vec::new();
        assert!(ld.receive(0x11, &mut echo).wake_writers);
        assert!(!ld.stopped());
    }

    #[test]
    fn an_overlong_line_keeps_room_for_its_end() {
        let mut ld = LineDiscipline::default();
        typed(&mut ld, &[b'a'; 2 * INPUT_MAX]);
        typed(&mut ld, b"\n");
        let line = ld.read(3 * INPUT_MAX).unwrap();
        assert_eq!((line.len(), line.last()), (INPUT_MAX, Some(&b'\n')));
    }

    #[test]
    fn room_is_what_comes_in_without_loss() {
        let mut ld = LineDiscipline::default();
        // Nobody can read an unfinished line: it takes what comes.
        typed(&mut ld, &[b'a'; 2 * INPUT_MAX]);
        assert_eq!(ld.input_room(), INPUT_MAX);
        typed(&mut ld, b"\n");
        assert_eq!(ld.input_room(), 0);
        assert!(ld.read(INPUT_MAX).is_some());
        assert_eq!(ld.input_room(), INPUT_MAX);
        let mut s = *ld.settings();
        s.lflag &= !(abi::ICANON | abi::ECHO);
        ld.set_settings(s);
        let room = ld.input_room();
        typed(&mut ld, &alloc::vec![b'r'; room]);
        assert_eq!(ld.input_room(), 0);
        assert_eq!(ld.read(2 * INPUT_MAX).map(|b| b.len()), Some(room));
    }

    #[test]
    fn unread_ends_of_lines_are_bounded() {
        let mut ld = LineDiscipline::default();
        typed(&mut ld, &[b'\n'; 3 * INPUT_MAX]);
        typed(&mut ld, &[0x04; 3 * INPUT_MAX]);
        assert!(ld.ready.len() + ld.lines.len() <= INPUT_MAX + 1);
    }

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
