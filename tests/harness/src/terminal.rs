//! A host program at a pseudo-terminal, typed at as a person would.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

use crate::console::{Console, find};
use crate::limit;

nix::ioctl_write_int_bad!(set_controlling_terminal, nix::libc::TIOCSCTTY);
nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, Winsize);

/// A program and its terminal; the program is ended when this is dropped.
pub struct Terminal {
    program: Child,
    keyboard: std::fs::File,
    screen: Console,
    /// Output before this point was looked at.
    seen: usize,
}

fn window(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    /// Starts `command` with a terminal of this size as its controlling one; `log` gets a copy
    /// of what it prints.
    pub fn spawn(mut command: Command, columns: u16, rows: u16, log: PathBuf) -> Terminal {
        let pair = openpty(Some(&window(columns, rows)), None).expect("a pseudo-terminal");
        let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor"));
        command
            .stdin(slave(&pair.slave))
            .stdout(slave(&pair.slave))
            .stderr(slave(&pair.slave));
        // SAFETY: between fork and exec it makes two system calls, which are
        // async-signal-safe, and touches no memory but its stack.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                set_controlling_terminal(0, 0)?;
                Ok(())
            });
        }
        let program = command.spawn().expect("the program");
        // Otherwise the terminal never hangs up: `command` holds its copies of it as well.
        drop((command, pair.slave));
        let reader = std::fs::File::from(pair.master.try_clone().expect("a descriptor"));
        Terminal {
            program,
            keyboard: std::fs::File::from(pair.master),
            screen: Console::collect(reader, &log),
            seen: 0,
        }
    }

    /// Types `text` as it is.
    pub fn send(&mut self, text: &str) {
        use std::io::Write;
        self.keyboard
            .write_all(text.as_bytes())
            .expect("the terminal");
    }

    /// Changes the window's size, which the program is told by SIGWINCH.
    pub fn resize(&self, columns: u16, rows: u16) {
        // SAFETY: the descriptor is the terminal's, and the pointer is to a live value.
        unsafe { set_window_size(self.keyboard.as_raw_fd(), &window(columns, rows)) }
            .expect("a window size");
    }

    /// Waits for `needle`; returns the output before it.
    #[track_caller]
    pub fn expect(&mut self, needle: &str, seconds: u64) -> String {
        let found = self.screen.wait_for(self.seen, limit(seconds), |bytes| {
            let at = find(bytes, needle.as_bytes())?;
            let before = String::from_utf8_lossy(&bytes[..at]).into_owned();
            Some((before, at + needle.len()))
        });
        let Some((before, used)) = found else {
            panic!(
                "no {needle:?} within {seconds} s; the terminal shows:\n{}",
                self.screen.text()
            );
        };
        self.seen += used;
        before
    }

    /// Waits for the program to end.
    #[track_caller]
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        let end = Instant::now() + limit(seconds);
        loop {
            if let Some(status) = self.program.try_wait().expect("its status") {
                return status;
            }
            assert!(
                Instant::now() < end,
                "still running after {seconds} s; the terminal shows:\n{}",
                self.screen.text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
