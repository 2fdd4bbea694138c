//! Pseudo-terminals of sessions.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::libc::winsize;
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use russh::Pty;

use super::modes;

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, winsize);

/// A pseudo-terminal that a client has asked for.
pub struct Terminal {
    pub master: OwnedFd,
    /// Kept until the session's program has it, or the master would be hung up.
    pub slave: OwnedFd,
    /// `/dev/pts/N`.
    pub name: String,
    /// The client's TERM.
    pub term: String,
}

/// Columns, rows and pixels in the order of the protocol.
#[derive(Clone, Copy)]
pub struct Size(pub u32, pub u32, pub u32, pub u32);

impl Size {
    fn to_winsize(self) -> winsize {
        let small = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        winsize {
            ws_col: small(self.0),
            ws_row: small(self.1),
            ws_xpixel: small(self.2),
            ws_ypixel: small(self.3),
        }
    }
}

/// Opens a pseudo-terminal with the client's size and modes. The slave belongs to whom this process is.
pub fn open(term: &str, size: Size, client_modes: &[(Pty, u32)]) -> io::Result<Terminal> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = nix::pty::posix_openpt(flags)?;
    nix::pty::grantpt(&master)?;
    nix::pty::unlockpt(&master)?;
    let name = nix::pty::ptsname_r(&master)?;
    let path = CString::new(name.as_str())?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let slave = nix::fcntl::open(path.as_c_str(), flags, nix::sys::stat::Mode::empty())?;
    let mut termios = tcgetattr(&slave)?;
    modes::apply(&mut termios, client_modes);
    tcsetattr(&slave, SetArg::TCSANOW, &termios)?;
    let master = OwnedFd::from(master);
    resize(&master, size)?;
    Ok(Terminal {
        master,
        slave,
        name,
        term: term.to_string(),
    })
}

/// Sets the window size; the kernel tells the foreground process group.
pub fn resize(master: &impl AsFd, size: Size) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel only reads the structure.
    unsafe { set_window_size(master.as_fd().as_raw_fd(), &size.to_winsize())? };
    Ok(())
}
