//! A terminal's settings (man 3 termios) and what kinds of terminal start with.

use crate::abi;

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

/// The byte of a key pressed together with Ctrl.
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

    /// Whether an input flag (`iflag`) is set; [`Settings::local`] and [`Settings::output`] as well.
    pub(super) fn input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }
    pub(super) fn local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }
    pub(super) fn output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }
    /// Whether `byte` is the control character at `index`.
    pub(super) fn is(&self, index: u32, byte: u8) -> bool {
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
