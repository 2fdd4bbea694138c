//! The console: init's own words, and the terminal that the shell gets.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// The kernel's choice of terminal (`console=` on its command line).
pub const PATH: &str = "/dev/console";

/// Makes sure that descriptors 0 to 2 are open, so that messages go to the
/// console and nothing else ever gets one of these numbers.
pub fn attach() {
    let mut highest = None;
    for path in [PATH, "/dev/null"] {
        while highest.is_none_or(|fd| fd <= 2) {
            match open(path, OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty()) {
                Ok(fd) => highest = Some(keep_low(fd)),
                Err(_) => break,
            }
        }
    }
}

/// Leaves descriptors 0 to 2 open for good; closes a higher one.
fn keep_low(fd: OwnedFd) -> i32 {
    let number = fd.as_raw_fd();
    if number <= 2 {
        let _ = std::os::fd::IntoRawFd::into_raw_fd(fd);
    }
    number
}

/// Opens the console as the standard streams of the calling process and makes
/// it the controlling terminal. The caller leads a session. Runs between fork
/// and exec: system calls only, no allocation.
pub fn take() -> nix::Result<()> {
    const CONSOLE: &CStr = c"/dev/console";
    let fd = open(CONSOLE, OFlag::O_RDWR, Mode::empty())?;
    // SAFETY: TIOCSCTTY takes an integer and touches no memory. 1 takes the
    // terminal from a session that a dead shell may have left.
    let result = unsafe { nix::libc::ioctl(fd.as_raw_fd(), nix::libc::TIOCSCTTY, 1) };
    nix::errno::Errno::result(result)?;
    nix::unistd::dup2_stdin(fd.as_fd())?;
    nix::unistd::dup2_stdout(fd.as_fd())?;
    nix::unistd::dup2_stderr(fd.as_fd())?;
    if fd.as_raw_fd() <= 2 {
        let _ = std::os::fd::IntoRawFd::into_raw_fd(fd);
    }
    Ok(())
}

/// The terminal's type: what the kernel passed in `TERM`, else the vt100 that
/// every serial terminal program is.
pub fn terminal_type() -> String {
    match std::env::var("TERM") {
        Ok(term) if !term.is_empty() && term != "dumb" => term,
        _ => "vt100".to_owned(),
    }
}

/// Reports a step that failed; the boot goes on without it.
pub fn check<T>(what: &str, result: nix::Result<T>) {
    if let Err(error) = result {
        eprintln!("init: cannot {what}: {}", error.desc());
    }
}
