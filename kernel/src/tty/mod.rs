//! Terminals: a line discipline between a line (serial port, pseudo-terminal) and programs,
//! with job control, window size and hang-up (man 4 tty_ioctl, man 3 termios).
//!
//! # Locks, outermost first
//!
//! | lock | guards |
//! | --- | --- |
//! | `Tty::output` (sleeps) | one program's write at a time, so that lines do not mix |
//! | `Tty::arriving` (spins) | the order of input and echo: nobody reads what came before its echo is out |
//! | `Tty::state` (spins) | the discipline and the window size; input is received under it |
//!
//! Input arrives through [`Tty::receive`] in thread context (a driver's worker), so that
//! signals and echo never run in an interrupt handler. Nothing sleeps under `state`.

pub mod ioctl;
pub mod ldisc;
pub mod pty;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::process::session::{self, ControllingTty};
use crate::sched::{Mutex, WaitError, WaitQueue};
use crate::security::capability::CAP_SYS_ADMIN;
use crate::sync::{Rank, SpinLock};
use crate::time;
use crate::vm::{IoDest, IoSource};
use ldisc::{LineDiscipline, Settings};

/// The line below a terminal.
pub trait TtyDriver: Send + Sync {
    /// Takes as many of `bytes` as fit now; returns how many. Must not sleep.
    fn write(&self, bytes: &[u8]) -> usize;
    /// How many bytes would be taken now.
    fn room(&self) -> usize;
    /// How many bytes were taken but are not on the line yet (TIOCOUTQ, tcdrain).
    fn nr_pending(&self) -> usize;
    /// Forgets bytes that are not on the line yet (TCOFLUSH).
    fn flush_output(&self);
    /// Holds or resumes the line's output (flow control).
    fn set_stopped(&self, _stopped: bool) {}
    /// The program set speed or framing.
    fn configure(&self, _settings: &Settings) {}
    /// A program opens the terminal; every success is followed by one [`TtyDriver::close`].
    fn open(&self) -> Result<()> {
        Ok(())
    }
    /// One of the files that programs opened is gone.
    fn close(&self) {}
    /// Input was read or dropped: [`Tty::receive`] may have room again. In thread context,
    /// without locks.
    fn input_taken(&self, _tty: &Tty) {}
    /// Unread input was dropped (TCIFLUSH).
    fn input_flushed(&self) {}
    /// An interrupt character came, and NOFLSH is off: output that waits is of no interest.
    fn interrupted(&self) {}
    /// Whether the other end is gone for good.
    fn is_lost(&self) -> bool {
        false
    }
    /// Whether the line lives as long as its other end, and not as long as the machine: a
    /// hang-up is for good, and the end of a session hangs nothing up.
    fn is_pty(&self) -> bool {
        false
    }
}

struct State {
    ldisc: LineDiscipline,
    winsize: abi::winsize,
    /// Echo of what came while output was held.
    held_echo: Vec<u8>,
}

/// A terminal.
pub struct Tty {
    name: String,
    device: u64,
    driver: Arc<dyn TtyDriver>,
    arriving: SpinLock<()>,
    state: SpinLock<State>,
    output: Mutex<()>,
    /// Writers that wait for `output`.
    turn: WaitQueue,
    /// How often the line was lost or hung up. For files that were opened before the last
    /// time it is for good: reads see the end, writes EIO.
    hangups: AtomicU32,
    /// Only the superuser may open it (TIOCEXCL).
    exclusive: AtomicBool,
    /// Files that programs have open.
    nr_files: AtomicUsize,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
}

/// Encodes a device number as `st_rdev` holds it (man 3 makedev).
pub const fn makedev(major: u64, minor: u64) -> u64 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}

impl Tty {
    /// A terminal on `driver`; `device` as [`makedev`] makes it.
    pub fn new(name: &str, device: u64, driver: Arc<dyn TtyDriver>) -> Arc<Tty> {
        Self::with_settings(name, device, driver, Settings::cooked())
    }

    /// As [`Tty::new`], with other settings to start with.
    pub fn with_settings(
        name: &str,
        device: u64,
        driver: Arc<dyn TtyDriver>,
        settings: Settings,
    ) -> Arc<Tty> {
        let winsize = abi::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Arc::new(Tty {
            name: name.into(),
            device,
            driver,
            arriving: SpinLock::new(Rank::Line, ()),
            state: SpinLock::new(
                Rank::Object,
                State {
                    ldisc: LineDiscipline::new(settings),
                    winsize,
                    held_echo: Vec::new(),
                },
            ),
            output: Mutex::new(()),
            turn: WaitQueue::new(),
            hangups: AtomicU32::new(0),
            exclusive: AtomicBool::new(false),
            nr_files: AtomicUsize::new(0),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
        })
    }

    /// Device number, as [`makedev`] makes it.
    pub fn device_number(&self) -> u64 {
        self.device
    }

    /// How many bytes [`Tty::receive`] takes without losing any.
    pub fn input_room(&self) -> usize {
        self.state.lock().ldisc.input_room()
    }

    /// Bytes came in from the line. In thread context, without locks.
    pub fn receive(&self, bytes: &[u8]) {
        let mut echo = Vec::new();
        let mut signals = Vec::new();
        let (mut wake_readers, mut wake_writers) = (false, false);
        let in_order = self.arriving.lock();
        let (stopped, flushes) = {
            let mut state = self.state.lock();
            for &byte in bytes {
                let outcome = state.ldisc.receive(byte, &mut echo);
                signals.extend(outcome.signal);
                wake_readers |= outcome.wake_readers;
                wake_writers |= outcome.wake_writers;
            }
            let keeps = state.ldisc.settings().lflag & abi::NOFLSH != 0;
            (state.ldisc.stopped(), !signals.is_empty() && !keeps)
        };
        self.driver.set_stopped(stopped);
        if flushes {
            self.state.lock().held_echo.clear();
            self.driver.interrupted();
        }
        self.show(&echo, stopped);
        drop(in_order);
        for signal in signals {
            session::signal_foreground(self.device, signal);
        }
        if wake_readers {
            self.readable.wake_all();
        }
        if wake_writers {
            self.writable.wake_all();
        }
    }

    /// Puts an echo on the line. While output is held it waits; what the line, or the wait, has
    /// no room for is lost, as on any terminal.
    fn show(&self, echo: &[u8], stopped: bool) {
        const WAITING_MAX: usize = 4096;
        let waited = {
            let mut state = self.state.lock();
            if stopped {
                let room = WAITING_MAX.saturating_sub(state.held_echo.len());
                let n = echo.len().min(room);
                if state.held_echo.try_reserve(n).is_ok() {
                    state.held_echo.extend_from_slice(&echo[..n]);
                }
                return;
            }
            core::mem::take(&mut state.held_echo)
        };
        if !waited.is_empty() {
            self.driver.write(&waited);
        }
        self.driver.write(echo);
    }

    /// The driver has room again. From any context.
    pub fn output_ready(&self) {
        self.writable.wake_all();
    }

    /// A file for programs. Opening a terminal to read makes it the controlling one of a
    /// session leader that has none, unless `O_NOCTTY` (man 2 open). EIO: the line refuses;
    /// EBUSY: it is in exclusive mode.
    pub fn open(self: &Arc<Self>, flags: u32) -> Result<Arc<dyn File>> {
        if self.exclusive.load(SeqCst)
            && crate::process::try_current().is_some_and(|t| !t.cred().capable(CAP_SYS_ADMIN))
        {
            return Err(Errno::EBUSY);
        }
        let file = TtyFile::new(self.clone())?;
        if flags & (abi::O_NOCTTY | abi::O_PATH) == 0
            && flags & abi::O_ACCMODE != abi::O_WRONLY
            && let Some(task) = crate::process::try_current()
        {
            // Failing is no error of the open: the session has a terminal, or this terminal
            // has a session, or the caller leads none.
            let _ = session::set_controlling_tty(&task, self.clone(), false);
        }
        Ok(Arc::new(file))
    }

    /// Whether the terminal was hung up after a file of it was opened, `since` hang-ups.
    fn is_hung_up(&self, since: u32) -> bool {
        self.hangups.load(SeqCst) != since
    }

    /// The line is gone, or nobody who has it open is to use it any more (vhangup): what they
    /// do with it from now on fails or ends. The session it controls loses it.
    pub fn hang_up_all(&self) {
        self.lose_line();
        session::tty_hung_up(self.device);
    }

    /// The part of a hang-up that programs see in their files.
    fn lose_line(&self) {
        self.hangups.fetch_add(1, SeqCst);
        self.exclusive.store(false, SeqCst);
        {
            let mut state = self.state.lock();
            state.ldisc.flush_input();
            state.held_echo.clear();
            let fresh = match self.driver.is_pty() {
                true => Settings::pseudo(),
                false => Settings::cooked(),
            };
            state.ldisc.set_settings(fresh);
            state.ldisc.resume();
        }
        self.driver.set_stopped(false);
        self.readable.wake_all();
        self.writable.wake_all();
    }

    fn read(&self, since: u32, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        if dst.remaining() == 0 || self.is_hung_up(since) {
            return Ok(0);
        }
        // VTIME with VMIN 0 runs from the start of the read; with VMIN > 0 between bytes.
        let mut deadline = None;
        let mut total = 0;
        loop {
            if self.is_hung_up(since) {
                // As Linux: whoever slept when the other end went away is told so.
                return match total {
                    0 if self.driver.is_lost() => Err(Errno::EIO),
                    _ => Ok(total),
                };
            }
            if let Some(task) = crate::process::try_current() {
                session::check_background(&task, self.device, abi::SIGTTIN)?;
            }
            let (canonical, min, tenths, taken) = {
                let _in_order = self.arriving.lock();
                let mut state = self.state.lock();
                let s = *state.ldisc.settings();
                let taken = state.ldisc.read(dst.remaining());
                (s.canonical(), s.min_bytes(), s.time_tenths(), taken)
            };
            if let Some(bytes) = taken {
                self.driver.input_taken(self);
                let nothing = bytes.is_empty();
                total += dst.put(&bytes)?;
                if canonical || nothing || total >= min || dst.remaining() == 0 {
                    return Ok(total);
                }
                deadline = (tenths > 0).then(|| time::now_ns() + tenths * 100_000_000);
                if tenths == 0 && min == 0 {
                    return Ok(total);
                }
            } else if !canonical && min == 0 {
                if tenths == 0 || total > 0 {
                    return Ok(total);
                }
                deadline = deadline.or_else(|| Some(time::now_ns() + tenths * 100_000_000));
            }
            if of.nonblocking() {
                return if total > 0 {
                    Ok(total)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            let waited = self.readable.wait_interruptible(deadline, || {
                let state = self.state.lock();
                let any = if canonical {
                    state.ldisc.readable()
                } else {
                    state.ldisc.nr_readable() > 0
                };
                let changed = state.ldisc.settings().canonical() != canonical;
                (any || changed || self.is_hung_up(since)).then_some(())
            });
            match waited {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(total),
                Err(WaitError::Interrupted) if total > 0 => return Ok(total),
                Err(WaitError::Interrupted) => return Err(Errno::ERESTARTSYS),
            }
        }
    }

    fn can_write(&self) -> bool {
        self.driver.room() > 0 && !self.state.lock().ldisc.stopped()
    }

    fn write(&self, since: u32, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        if self.is_hung_up(since) {
            return Err(Errno::EIO);
        }
        if self.state.lock().ldisc.settings().lflag & abi::TOSTOP != 0
            && let Some(task) = crate::process::try_current()
        {
            session::check_background(&task, self.device, abi::SIGTTOU)?;
        }
        let in_turn = match self.output.try_lock() {
            Some(guard) => guard,
            None if of.nonblocking() => return Err(Errno::EAGAIN),
            None => self
                .turn
                .wait_interruptible(None, || self.output.try_lock())
                .map_err(|_| Errno::ERESTARTSYS)?,
        };
        let result = self.write_in_turn(since, of, src);
        drop(in_turn);
        self.turn.wake_one();
        result
    }

    /// The write itself, with `output` held.
    fn write_in_turn(&self, since: u32, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        let mut done = 0;
        let mut chunk = [0; 256];
        let mut out = Vec::with_capacity(2 * chunk.len());
        while src.remaining() > 0 {
            if self.is_hung_up(since) {
                return Err(Errno::EIO);
            }
            if !self.can_write() {
                if of.nonblocking() {
                    return if done > 0 {
                        Ok(done)
                    } else {
                        Err(Errno::EAGAIN)
                    };
                }
                self.wait_writable(since)
                    .or_else(|e| if done > 0 { Ok(()) } else { Err(e) })?;
                if !self.can_write() && done > 0 {
                    return Ok(done);
                }
                continue;
            }
            let n = match src.get(&mut chunk) {
                Ok(n) => n,
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            };
            out.clear();
            {
                let mut state = self.state.lock();
                for &b in &chunk[..n] {
                    state.ldisc.process_output(b, &mut out);
                }
            }
            // What was taken from the program goes out whole, whatever signals come: the
            // count it gets must be true.
            let mut rest = &out[..];
            loop {
                rest = &rest[self.driver.write(rest)..];
                if rest.is_empty() || self.is_hung_up(since) {
                    break;
                }
                let ready = || (self.driver.room() > 0 || self.is_hung_up(since)).then_some(());
                if self.writable.wait_killable(ready).is_err() {
                    return Err(Errno::EINTR);
                }
            }
            done += n;
        }
        Ok(done)
    }

    fn wait_writable(&self, since: u32) -> Result<()> {
        self.writable
            .wait_interruptible(None, || {
                (self.can_write() || self.is_hung_up(since)).then_some(())
            })
            .map_err(|_| Errno::ERESTARTSYS)
    }

    /// Waits until all output is on the line (tcdrain).
    fn drain(&self) -> Result<()> {
        let since = self.hangups.load(SeqCst);
        self.writable
            .wait_interruptible(None, || {
                (self.driver.nr_pending() == 0 || self.is_hung_up(since)).then_some(())
            })
            .map_err(|_| Errno::ERESTARTSYS)
    }

    fn poll(&self, since: u32, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.readable);
            table.register_writers(&self.writable);
        }
        let mut events = PollEvents::empty();
        if self.is_hung_up(since) {
            let ready = PollEvents::IN | PollEvents::RDNORM | PollEvents::OUT | PollEvents::WRNORM;
            return ready | PollEvents::HUP | PollEvents::ERR;
        }
        if self.state.lock().ldisc.readable() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if self.can_write() {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }
}

impl ControllingTty for Tty {
    fn device(&self) -> u64 {
        self.device
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn hang_up(&self) {
        // A pseudo-terminal has a program at its other end, which may start another session.
        if !self.driver.is_pty() {
            self.lose_line();
        }
    }
}

/// An opened terminal.
pub struct TtyFile {
    tty: Arc<Tty>,
    /// `Tty::hangups` when it was opened.
    since: u32,
}

impl TtyFile {
    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    fn new(tty: Arc<Tty>) -> Result<TtyFile> {
        let since = tty.hangups.load(SeqCst);
        tty.driver.open()?;
        tty.nr_files.fetch_add(1, SeqCst);
        Ok(TtyFile { tty, since })
    }
}

impl File for TtyFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        self.tty.read(self.since, of, dst)
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.tty.write(self.since, of, src)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        self.tty.poll(self.since, table)
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        if self.tty.is_hung_up(self.since) {
            // As Linux: the group cannot be that of a terminal that is none any more.
            return Err(match cmd {
                abi::ioctl::TIOCSPGRP => Errno::ENOTTY,
                _ => Errno::EIO,
            });
        }
        ioctl::tty_ioctl(&self.tty, ioctl::End::Terminal, cmd, arg)
    }
    fn stat(&self) -> Result<abi::stat> {
        // SAFETY: a C structure of integers: all zeros is a valid value.
        let mut st: abi::stat = unsafe { core::mem::zeroed() };
        st.st_mode = abi::S_IFCHR | 0o600;
        st.st_nlink = 1;
        st.st_rdev = self.tty.device;
        st.st_blksize = 4096;
        Ok(st)
    }
    fn describe(&self) -> Vec<u8> {
        alloc::format!("/dev/{}", self.tty.name).into_bytes()
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        if self.tty.nr_files.fetch_sub(1, SeqCst) == 1 {
            self.tty.exclusive.store(false, SeqCst);
        }
        self.tty.driver.close();
    }
}

/// The caller's controlling terminal.
fn controlling() -> Option<Arc<Tty>> {
    let task = crate::process::try_current()?;
    let tty: Arc<dyn Any + Send + Sync> = task.process().controlling_tty()?;
    tty.downcast::<Tty>().ok()
}

/// Opens /dev/tty: the caller's controlling terminal. ENXIO without one.
pub fn open_controlling() -> Result<Arc<dyn File>> {
    Ok(Arc::new(TtyFile::new(controlling().ok_or(Errno::ENXIO)?)?))
}

/// Hangs up the caller's controlling terminal, if it has one (man 2 vhangup).
pub fn hang_up_controlling() {
    if let Some(tty) = controlling() {
        tty.hang_up_all();
    }
}
