//! File descriptor polling utilities for timeout support.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::openfiles::OpenFile;

/// Polls an open file for input readability with a timeout.
///
/// Returns `Ok(true)` if data is available for reading, `Ok(false)` if the timeout
/// elapsed without data becoming available.
///
/// For regular files, always returns `Ok(true)` immediately since they're always
/// "ready" (matching bash behavior where `-t` has no effect on regular files).
///
/// # Arguments
///
/// * `file` - The open file to poll.
/// * `timeout` - Maximum time to wait. Use `Duration::ZERO` to check without blocking.
///
/// # Errors
///
/// Returns an error if polling fails or the file descriptor cannot be borrowed.
pub fn poll_for_input(file: &OpenFile, timeout: Duration) -> std::io::Result<bool> {
    let fd = file
        .try_borrow_as_fd()
        .map_err(|e| std::io::Error::other(e.to_string()))?;

    InputWait::default().wait(fd, Some(Instant::now() + timeout))
}

/// Waits for input before each `read` that takes a byte, so that an interrupt ends the wait
/// whenever it comes: a signal that arrives just before a `read` does not end that one.
#[derive(Debug, Default)]
pub struct InputWait {
    /// Bytes that have been seen to be there and are not read yet. (When another process reads the
    /// same pipe they may be gone.)
    ready: usize,
}

impl InputWait {
    /// Waits until a byte can be read from `fd`, or its end or error is to be; `false` when
    /// `deadline` passed first. Regular files can always be read (bash behavior). A deadline that
    /// has passed already still finds input that is there.
    ///
    /// # Errors
    ///
    /// `Interrupted` when the shell's code is to unwind; others as of poll(2).
    pub fn wait(&mut self, fd: BorrowedFd<'_>, deadline: Option<Instant>) -> std::io::Result<bool> {
        if self.ready == 0 {
            self.ready = if is_regular_file(fd) {
                usize::MAX
            } else if poll_for_event(fd, deadline)? {
                // The end, or what cannot be counted, is one read's work.
                bytes_there(fd).max(1)
            } else {
                return Ok(false);
            };
        }
        self.ready -= 1;
        Ok(true)
    }

    /// Takes the next byte of `file`.
    ///
    /// # Errors
    ///
    /// As those of [`Self::wait`], and of read(2).
    pub fn read_byte(
        &mut self,
        file: &mut OpenFile,
        deadline: Option<Instant>,
    ) -> std::io::Result<NextByte> {
        loop {
            // What has no descriptor does not wait either.
            if let Ok(fd) = file.try_borrow_as_fd()
                && !self.wait(fd, deadline)?
            {
                return Ok(NextByte::TimedOut);
            }
            let mut byte = [0];
            match file.read(&mut byte) {
                Ok(0) => return Ok(NextByte::End),
                Ok(_) => return Ok(NextByte::Byte(byte[0])),
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(e),
                Err(_) => self.ready = 0,
            }
        }
    }
}

/// What [`InputWait::read_byte`] found.
#[derive(Clone, Copy, Debug)]
pub enum NextByte {
    /// There was one.
    Byte(u8),
    /// The input ends.
    End,
    /// The deadline passed first.
    TimedOut,
}

/// Polls a file descriptor for input, its end or an error, and for an interrupt.
fn poll_for_event(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> std::io::Result<bool> {
    let interrupt = crate::tasks::interrupt_event()?;
    let mut poll_fds = [
        PollFd::new(fd, PollFlags::POLLIN),
        PollFd::new(interrupt, PollFlags::POLLIN),
    ];
    loop {
        let remaining = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let timeout = match remaining {
            // Rounded up: not to poll in vain through the last millisecond.
            Some(left) => {
                PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        match poll(&mut poll_fds, timeout) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => {
                // What the descriptors have is left from the round before.
                if crate::tasks::is_interrupted() {
                    return Err(std::io::ErrorKind::Interrupted.into());
                }
                continue;
            }
            Err(e) => return Err(e.into()),
        }
        if crate::tasks::is_interrupted() {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let [input, interrupt] = poll_fds
            .each_ref()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if !input.is_empty() {
            return Ok(true);
        }
        if !interrupt.is_empty() {
            crate::tasks::clear_interrupt_event();
        } else if remaining.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
    }
}

/// Bytes that a read would take without waiting; 0 when there is no telling.
fn bytes_there(fd: BorrowedFd<'_>) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which lives across the call.
    let told = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD as _, &raw mut count) };
    if told == 0 {
        usize::try_from(count).unwrap_or(0)
    } else {
        0
    }
}

/// Whether a file descriptor refers to a regular file.
fn is_regular_file(fd: BorrowedFd<'_>) -> bool {
    match nix::sys::stat::fstat(fd) {
        Ok(stat) => {
            use nix::sys::stat::{SFlag, mode_t};
            mode_t::try_from(stat.st_mode)
                .is_ok_and(|mode| SFlag::from_bits_truncate(mode).contains(SFlag::S_IFREG))
        }
        Err(_) => false,
    }
}
