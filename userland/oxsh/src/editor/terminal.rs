//! The terminal on standard input and standard error: modes, size, bytes.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::sys::termios::{
    self, ControlFlags, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios,
};

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Columns of a terminal that does not say: a vt100's.
const DEFAULT_COLUMNS: usize = 80;

/// The terminal's modes as they were before the first line was edited.
pub struct Terminal {
    sane: Option<Termios>,
}

/// Raw mode, until dropped.
pub struct RawMode {
    cooked: Option<Termios>,
}

impl Terminal {
    pub fn new() -> Self {
        Self {
            sane: termios::tcgetattr(io::stdin()).ok(),
        }
    }

    /// Undoes what a program that died left behind.
    pub fn restore(&self) {
        if let Some(sane) = &self.sane {
            // Without a terminal there is nothing to restore.
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, sane);
        }
    }

    /// Delivers each byte as it comes, without echo or signals. Input that has
    /// arrived already stays, and output is still processed: a newline is sent
    /// as carriage return and line feed.
    pub fn enter_raw(&self) -> RawMode {
        let stdin = io::stdin();
        let Ok(cooked) = termios::tcgetattr(stdin.as_fd()) else {
            return RawMode { cooked: None };
        };
        let mut raw = cooked.clone();
        raw.input_flags &= !(InputFlags::IXON | InputFlags::INLCR | InputFlags::IGNCR);
        raw.local_flags &=
            !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        raw.control_flags |= ControlFlags::CS8;
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        match termios::tcsetattr(stdin, SetArg::TCSANOW, &raw) {
            Ok(()) => RawMode {
                cooked: Some(cooked),
            },
            Err(_) => RawMode { cooked: None },
        }
    }

    /// Columns of the terminal. A serial line reports 0: it does not know.
    pub fn columns(&self) -> usize {
        let mut size = nix::libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCGWINSZ fills in a `winsize`, which `size` is.
        let answer = unsafe { window_size(io::stdin().as_raw_fd(), &raw mut size) };
        match answer {
            Ok(_) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => DEFAULT_COLUMNS,
        }
    }

    /// The next byte; `None` when the terminal is gone. One byte at a time:
    /// what follows the line belongs to the command that the line starts.
    pub fn read(&self) -> io::Result<Option<u8>> {
        let mut byte = [0u8];
        loop {
            match nix::unistd::read(io::stdin().as_fd(), &mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn write(&self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        io::stderr().write_all(text.as_bytes())
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(cooked) = &self.cooked {
            // Fails only when the terminal is gone.
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, cooked);
        }
    }
}
