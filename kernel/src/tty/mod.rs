//! Terminals: a line discipline between a line (serial port, pseudo-terminal) and programs,
//! with job control, window size and hang-up (man 4 tty_ioctl, man 3 termios).
//!
//! # Locks, outermost first
//!
//! | lock | guards |
//! | --- | --- |
//! | `Tty::output` (sleeps) | one program's write at a time, so that lines do not mix |
//! | `Tty::state` (spins) | the discipline and the window size; input is received under it |
//!
//! Input arrives through [`Tty::receive`] in thread context (a driver's worker), so that
//! signals and echo never run in an interrupt handler. Nothing sleeps under `state`.

pub mod ioctl;
pub mod ldisc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::process::session::{self, ControllingTty};
use crate::sched::{Mutex, WaitError, WaitQueue};
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
}

struct State {
    ldisc: LineDiscipline,
    winsize: abi::winsize,
}

/// A terminal.
pub struct Tty {
    name: &'static str,
    device: u64,
    driver: Arc<dyn TtyDriver>,
    state: SpinLock<State>,
    output: Mutex<()>,
    /// The line is gone: reads see the end, writes EIO.
    hung_up: AtomicBool,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
}

/// Encodes a device number as `st_rdev` holds it (man 3 makedev).
pub const fn makedev(major: u64, minor: u64) -> u64 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}

impl Tty {
    /// A terminal on `driver`; `device` as [`makedev`] makes it.
    pub fn new(name: &'static str, device: u64, driver: Arc<dyn TtyDriver>) -> Arc<Tty> {
        let winsize = abi::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Arc::new(Tty {
            name,
            device,
            driver,
            state: SpinLock::new(
                Rank::Object,
                State {
                    ldisc: LineDiscipline::default(),
                    winsize,
                },
            ),
            output: Mutex::new(()),
            hung_up: AtomicBool::new(false),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
        })
    }

    /// Name without /dev/.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes came in from the line. In thread context, without locks.
    pub fn receive(&self, bytes: &[u8]) {
        let mut echo = Vec::new();
        let mut signals = Vec::new();
        let (mut wake_readers, mut wake_writers) = (false, false);
        let stopped = {
            let mut state = self.state.lock();
            for &byte in bytes {
                let outcome = state.ldisc.receive(byte, &mut echo);
                signals.extend(outcome.signal);
                wake_readers |= outcome.wake_readers;
                wake_writers |= outcome.wake_writers;
            }
            state.ldisc.stopped()
        };
        self.driver.set_stopped(stopped);
        // An echo that the line has no room for is lost, as on any terminal.
        self.driver.write(&echo);
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

    /// The driver has room again. From any context.
    pub fn output_ready(&self) {
        self.writable.wake_all();
    }

    /// A file for programs. Opening a terminal makes it the controlling one of a session
    /// leader that has none, unless `O_NOCTTY` (man 2 open).
    pub fn open(self: &Arc<Self>, flags: u32) -> Arc<dyn File> {
        if flags & (abi::O_NOCTTY | abi::O_PATH) == 0
            && let Some(task) = crate::process::try_current()
        {
            // Failing is no error of the open: the session has a terminal, or this terminal
            // has a session, or the caller leads none.
            let _ = session::set_controlling_tty(&task, self.clone(), false);
        }
        // A new open after a hang-up starts afresh.
        self.hung_up.store(false, SeqCst);
        Arc::new(TtyFile { tty: self.clone() })
    }

    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        // VTIME with VMIN 0 runs from the start of the read; with VMIN > 0 between bytes.
        let mut deadline = None;
        let mut total = 0;
        loop {
            if let Some(task) = crate::process::try_current() {
                session::check_background(&task, self.device, abi::SIGTTIN)?;
            }
            if self.hung_up.load(SeqCst) {
                return Ok(total);
            }
            let (canonical, min, tenths, taken) = {
                let mut state = self.state.lock();
                let s = *state.ldisc.settings();
                let taken = state.ldisc.read(dst.remaining());
                (s.canonical(), s.min_bytes(), s.time_tenths(), taken)
            };
            if let Some(bytes) = taken {
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
                (any || changed || self.hung_up.load(SeqCst)).then_some(())
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

    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        if self.state.lock().ldisc.settings().lflag & abi::TOSTOP != 0
            && let Some(task) = crate::process::try_current()
        {
            session::check_background(&task, self.device, abi::SIGTTOU)?;
        }
        let _in_turn = self.output.lock();
        let mut done = 0;
        let mut chunk = [0; 256];
        let mut out = Vec::with_capacity(2 * chunk.len());
        while src.remaining() > 0 {
            if self.hung_up.load(SeqCst) {
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
                self.wait_writable()
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
                if rest.is_empty() || self.hung_up.load(SeqCst) {
                    break;
                }
                let ready = || (self.driver.room() > 0 || self.hung_up.load(SeqCst)).then_some(());
                if self.writable.wait_killable(ready).is_err() {
                    return Err(Errno::EINTR);
                }
            }
            done += n;
        }
        Ok(done)
    }

    fn wait_writable(&self) -> Result<()> {
        self.writable
            .wait_interruptible(None, || {
                (self.can_write() || self.hung_up.load(SeqCst)).then_some(())
            })
            .map_err(|_| Errno::ERESTARTSYS)
    }

    /// Waits until all output is on the line (tcdrain).
    fn drain(&self) -> Result<()> {
        self.writable
            .wait_interruptible(None, || {
                (self.driver.nr_pending() == 0 || self.hung_up.load(SeqCst)).then_some(())
            })
            .map_err(|_| Errno::ERESTARTSYS)
    }

    fn poll(&self, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.readable);
            table.register(&self.writable);
        }
        let mut events = PollEvents::empty();
        if self.hung_up.load(SeqCst) {
            return PollEvents::IN | PollEvents::OUT | PollEvents::HUP | PollEvents::ERR;
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
        self.hung_up.store(true, SeqCst);
        {
            let mut state = self.state.lock();
            state.ldisc.flush_input();
            state.ldisc.set_settings(Settings::cooked());
        }
        self.driver.set_stopped(false);
        self.readable.wake_all();
        self.writable.wake_all();
    }
}

/// An opened terminal.
pub struct TtyFile {
    tty: Arc<Tty>,
}

impl TtyFile {
    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }
}

impl File for TtyFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        self.tty.read(of, dst)
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.tty.write(of, src)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        self.tty.poll(table)
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        ioctl::tty_ioctl(&self.tty, cmd, arg)
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

/// Opens /dev/tty: the caller's controlling terminal. ENXIO without one.
pub fn open_controlling() -> Result<Arc<dyn File>> {
    let task = crate::process::try_current().ok_or(Errno::ENXIO)?;
    let tty = task.process().controlling_tty().ok_or(Errno::ENXIO)?;
    let tty: Arc<dyn Any + Send + Sync> = tty;
    let tty = tty.downcast::<Tty>().map_err(|_| Errno::ENXIO)?;
    Ok(Arc::new(TtyFile { tty }))
}
