//! Terminal control (man 2 ioctl_tty).

use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;

use super::Tty;
use super::ldisc::Settings;
use crate::abi::{self, ioctl as cmd};
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::process::session;
use crate::security::capability::CAP_SYS_ADMIN;
use crate::vm::UserPtr;

/// Which end of a line a call came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The terminal, as programs that run on it have it.
    Terminal,
    /// The master of a pseudo-terminal: no job control holds it back.
    Master,
}

/// When new settings take effect (tcsetattr's actions).
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    AfterDrain,
    AfterDrainAndFlush,
}

fn baud_of(cflag: u32, custom: u32) -> u32 {
    match cflag & abi::CBAUD {
        abi::B0 => 0,
        abi::B50 => 50,
        abi::B75 => 75,
        abi::B110 => 110,
        abi::B134 => 134,
        abi::B150 => 150,
        abi::B200 => 200,
        abi::B300 => 300,
        abi::B600 => 600,
        abi::B1200 => 1200,
        abi::B1800 => 1800,
        abi::B2400 => 2400,
        abi::B4800 => 4800,
        abi::B9600 => 9600,
        abi::B19200 => 19_200,
        abi::B38400 => 38_400,
        abi::B57600 => 57_600,
        abi::B115200 => 115_200,
        abi::B230400 => 230_400,
        abi::B460800 => 460_800,
        abi::B921600 => 921_600,
        _ => custom,
    }
}

fn to_termios2(s: &Settings) -> abi::termios2 {
    abi::termios2 {
        c_iflag: s.iflag,
        c_oflag: s.oflag,
        c_cflag: s.cflag,
        c_lflag: s.lflag,
        c_line: s.line,
        c_cc: s.cc,
        c_ispeed: s.ispeed,
        c_ospeed: s.ospeed,
    }
}

fn to_termios(s: &Settings) -> abi::termios {
    abi::termios {
        c_iflag: s.iflag,
        c_oflag: s.oflag,
        c_cflag: s.cflag,
        c_lflag: s.lflag,
        c_line: s.line,
        c_cc: s.cc,
    }
}

fn from_termios(t: &abi::termios, old: &Settings) -> Settings {
    let speed = baud_of(t.c_cflag, old.ospeed);
    Settings {
        iflag: t.c_iflag,
        oflag: t.c_oflag,
        cflag: t.c_cflag,
        lflag: t.c_lflag,
        line: t.c_line,
        cc: t.c_cc,
        ispeed: speed,
        ospeed: speed,
    }
}

fn from_termios2(t: &abi::termios2) -> Settings {
    Settings {
        iflag: t.c_iflag,
        oflag: t.c_oflag,
        cflag: t.c_cflag,
        lflag: t.c_lflag,
        line: t.c_line,
        cc: t.c_cc,
        ispeed: t.c_ispeed,
        ospeed: baud_of(t.c_cflag, t.c_ospeed),
    }
}

fn set(tty: &Tty, end: End, when: When, new: impl FnOnce(&Settings) -> Settings) -> Result<isize> {
    check_may_change(tty, end)?;
    if when != When::Now {
        tty.drain()?;
    }
    let settings = {
        let mut state = tty.state.lock();
        if when == When::AfterDrainAndFlush {
            state.ldisc.flush_input();
        }
        let mut settings = new(state.ldisc.settings());
        if tty.driver.is_pty() {
            // As Linux: no wire, so that whole bytes pass always.
            settings.cflag &= !(abi::CSIZE | abi::PARENB);
            settings.cflag |= abi::CS8 | abi::CREAD;
        }
        state.ldisc.set_settings(settings);
        settings
    };
    if when == When::AfterDrainAndFlush {
        tty.driver.input_flushed();
    }
    tty.driver.configure(&settings);
    // Apart: a driver's lock is never taken under the terminal's.
    let stopped = tty.state.lock().ldisc.stopped();
    tty.driver.set_stopped(stopped);
    tty.show(&[], stopped);
    tty.readable.wake_all();
    tty.writable.wake_all();
    tty.driver.input_taken(tty);
    Ok(0)
}

/// A background process that changes the terminal is stopped first (SIGTTOU).
fn check_may_change(tty: &Tty, end: End) -> Result<()> {
    match crate::process::try_current() {
        Some(task) if end == End::Terminal => {
            session::check_background(&task, tty.device, abi::SIGTTOU)
        }
        _ => Ok(()),
    }
}

/// Whether `tty` controls the caller's session (ENOTTY otherwise).
fn require_controlling(tty: &Tty) -> Result<crate::process::Current> {
    let task = crate::process::try_current().ok_or(Errno::ENOTTY)?;
    let mine = task
        .process()
        .controlling_tty()
        .is_some_and(|t| t.device() == tty.device);
    if mine { Ok(task) } else { Err(Errno::ENOTTY) }
}

/// What /dev/ttyS0, /dev/console and both ends of pseudo-terminals answer.
pub fn tty_ioctl(tty: &Arc<Tty>, end: End, command: u32, arg: u64) -> Result<isize> {
    let at = UserAddr(arg);
    let int = UserPtr::<i32>::new(at);
    let termios = UserPtr::<abi::termios>::new(at);
    let termios2 = UserPtr::<abi::termios2>::new(at);
    let settings = || *tty.state.lock().ldisc.settings();
    match command {
        cmd::TCGETS => termios.write(to_termios(&settings()))?,
        cmd::TCGETS2 => termios2.write(to_termios2(&settings()))?,
        cmd::TCSETS | cmd::TCSETSW | cmd::TCSETSF => {
            let new = termios.read()?;
            let when = [When::Now, When::AfterDrain, When::AfterDrainAndFlush]
                [(command - cmd::TCSETS) as usize];
            return set(tty, end, when, |old| from_termios(&new, old));
        }
        cmd::TCSETS2 | cmd::TCSETSW2 | cmd::TCSETSF2 => {
            let new = termios2.read()?;
            let when = match command {
                cmd::TCSETS2 => When::Now,
                cmd::TCSETSW2 => When::AfterDrain,
                _ => When::AfterDrainAndFlush,
            };
            return set(tty, end, when, |_| from_termios2(&new));
        }
        cmd::TIOCGWINSZ => {
            let size = tty.state.lock().winsize;
            UserPtr::new(at).write(size)?;
        }
        cmd::TIOCSWINSZ => {
            let new: abi::winsize = UserPtr::new(at).read()?;
            let changed = {
                let mut state = tty.state.lock();
                let old = core::mem::replace(&mut state.winsize, new);
                (old.ws_row, old.ws_col, old.ws_xpixel, old.ws_ypixel)
                    != (new.ws_row, new.ws_col, new.ws_xpixel, new.ws_ypixel)
            };
            if changed {
                session::signal_foreground(tty.device, abi::SIGWINCH);
            }
        }
        cmd::TIOCGPGRP => {
            if end == End::Terminal {
                require_controlling(tty)?;
            }
            int.write(session::foreground(tty.device).unwrap_or(0))?;
        }
        cmd::TIOCSPGRP => {
            check_may_change(tty, end).map_err(|e| match e {
                // An orphaned group's terminal is none.
                Errno::EIO => Errno::ENOTTY,
                e => e,
            })?;
            let task = require_controlling(tty)?;
            session::set_foreground(&task, tty.device, int.read()?)?;
        }
        cmd::TIOCGSID => {
            if end == End::Terminal {
                require_controlling(tty)?;
            }
            int.write(session::session_of(tty.device).ok_or(Errno::ENOTTY)?)?;
        }
        cmd::TIOCSCTTY => {
            let task = crate::process::try_current().ok_or(Errno::EPERM)?;
            let steal = arg == 1 && task.cred().is_privileged();
            session::set_controlling_tty(&task, tty.clone(), steal)?;
        }
        cmd::TIOCNOTTY => {
            let task = require_controlling(tty)?;
            session::disassociate(&task)?;
        }
        cmd::TCFLSH => {
            check_may_change(tty, end)?;
            if arg > 2 {
                return Err(Errno::EINVAL);
            }
            if arg == u64::from(abi::TCIFLUSH) || arg == u64::from(abi::TCIOFLUSH) {
                tty.state.lock().ldisc.flush_input();
                tty.driver.input_flushed();
            }
            if arg == u64::from(abi::TCOFLUSH) || arg == u64::from(abi::TCIOFLUSH) {
                tty.driver.flush_output();
                tty.writable.wake_all();
            }
            tty.driver.input_taken(tty);
        }
        // tcdrain is TCSBRK with an argument; 0 asks for a break, which no virtual line has.
        cmd::TCSBRK | cmd::TCSBRKP => {
            check_may_change(tty, end)?;
            tty.drain()?;
        }
        cmd::TCXONC => {
            check_may_change(tty, end)?;
            let stopped = match arg as u32 {
                abi::TCOOFF => true,
                abi::TCOON => false,
                abi::TCIOFF | abi::TCION => return flow_byte(tty, arg as u32),
                _ => return Err(Errno::EINVAL),
            };
            let stopped = {
                let mut state = tty.state.lock();
                state.ldisc.set_stopped(stopped);
                state.ldisc.stopped()
            };
            tty.driver.set_stopped(stopped);
            tty.show(&[], stopped);
            tty.writable.wake_all();
        }
        cmd::FIONREAD => {
            let n = tty.state.lock().ldisc.nr_readable();
            int.write(n as i32)?;
        }
        cmd::TIOCOUTQ => int.write(tty.driver.nr_pending() as i32)?,
        cmd::TIOCSTI if end == End::Terminal => inject(tty, UserPtr::new(at))?,
        cmd::TIOCEXCL => tty.exclusive.store(true, SeqCst),
        cmd::TIOCNXCL => tty.exclusive.store(false, SeqCst),
        cmd::TIOCGEXCL => int.write(i32::from(tty.exclusive.load(SeqCst)))?,
        cmd::TIOCVHANGUP => {
            require_admin()?;
            tty.hang_up_all();
        }
        cmd::TIOCGDEV => UserPtr::<u32>::new(at).write(tty.device as u32)?,
        cmd::TIOCGSOFTCAR => int.write(i32::from(settings().cflag & abi::CLOCAL != 0))?,
        cmd::TIOCSSOFTCAR => {
            let local = if int.read()? != 0 { abi::CLOCAL } else { 0 };
            let mut state = tty.state.lock();
            let mut new = *state.ldisc.settings();
            new.cflag = (new.cflag & !abi::CLOCAL) | local;
            state.ldisc.set_settings(new);
        }
        // The one discipline there is: N_TTY.
        cmd::TIOCGETD => int.write(0)?,
        cmd::TIOCSETD => {
            if int.read()? != 0 {
                return Err(Errno::EINVAL);
            }
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn require_admin() -> Result<()> {
    match crate::process::try_current() {
        Some(task) if task.cred().capable(CAP_SYS_ADMIN) => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

/// TIOCSTI: a byte as if it had been typed. Of privileged callers only, on their own terminal
/// too: who is let run a program on a terminal is not let type into it (as Linux with
/// dev.tty.legacy_tiocsti 0). EPERM, EIO, EFAULT.
fn inject(tty: &Tty, byte: UserPtr<u8>) -> Result<()> {
    require_admin().map_err(|e| match require_controlling(tty) {
        Ok(_) => Errno::EIO,
        Err(_) => e,
    })?;
    let byte = byte.read()?;
    tty.receive(&[byte]);
    Ok(())
}

/// tcflow(TCIOFF/TCION): sends the stop or start character to the other end.
fn flow_byte(tty: &Tty, action: u32) -> Result<isize> {
    let index = if action == abi::TCIOFF {
        abi::VSTOP
    } else {
        abi::VSTART
    };
    let byte = tty.state.lock().ldisc.settings().cc[index as usize];
    if byte != 0 {
        tty.driver.write(&[byte]);
    }
    Ok(0)
}
