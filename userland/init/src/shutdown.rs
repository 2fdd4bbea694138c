//! The way down: end every process, put the filesystems in order, stop.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::console;

/// The signals that end a process in good order: a shell ignores SIGTERM, and
/// a stopped process must wake up to end.
const FAREWELL: [Signal; 3] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCONT];

/// How long services get to end; and after them, whatever else runs.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long to wait for what was killed to be gone.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// What the machine does at the end.
#[derive(Clone, Copy)]
pub enum Goal {
    PowerOff,
    Reboot,
    Halt,
}

impl Goal {
    fn what(self) -> &'static str {
        match self {
            Self::PowerOff => "powering off",
            Self::Reboot => "rebooting",
            Self::Halt => "halting",
        }
    }
}

/// Tells whoever looks at the console.
pub fn announce(goal: Goal) {
    eprintln!("\ninit: {}", goal.what());
}

/// Ends what the services' end has left and takes the system down; does not
/// return.
pub fn run(goal: Goal) -> ! {
    for signal in FAREWELL {
        signal_all(signal);
    }
    if !wait_for_end(GRACE) {
        signal_all(Signal::SIGKILL);
        wait_for_end(KILL_WAIT);
    }
    nix::unistd::sync();
    unmount_all();
    nix::unistd::sync();

    let mode = match goal {
        Goal::PowerOff => RebootMode::RB_POWER_OFF,
        Goal::Reboot => RebootMode::RB_AUTOBOOT,
        Goal::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    let Err(error) = reboot(mode);
    eprintln!(
        "init: {} failed: {}; it is safe to turn the machine off",
        goal.what(),
        error.desc()
    );
    loop {
        // Process 1 must not end.
        nix::unistd::pause();
    }
}

/// Sends `signal` to every process but this one.
fn signal_all(signal: Signal) {
    match kill(Pid::from_raw(-1), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => console::check(&format!("send {signal}"), Err::<(), _>(error)),
    }
}

/// Reaps until no process is left, or until `limit` has passed. Every process
/// ends up as a child of this one when its parent ends.
fn wait_for_end(limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let signals = SigSet::all();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return true,
            Ok(WaitStatus::StillAlive) => {}
            Err(Errno::EINTR) | Ok(_) => continue,
            Err(_) => return false,
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // Woken by the next SIGCHLD.
        let _ = wait_for_signal(&signals, left);
    }
}

/// sigtimedwait(2): the next of `signals`, or `EAGAIN` after `limit`.
fn wait_for_signal(signals: &SigSet, limit: Duration) -> nix::Result<Signal> {
    let timeout = nix::libc::timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: both pointers are to values that outlive the call; a null third
    // argument is allowed.
    let result = unsafe {
        nix::libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), &raw const timeout)
    };
    Signal::try_from(Errno::result(result)?)
}

/// Unmounts everything but the root, innermost first; makes the root
/// read-only, which writes its last state.
fn unmount_all() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut targets: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter(|target| *target != "/")
        .collect();
    targets.reverse();
    for target in targets {
        // What is busy (the console's /dev, /proc) holds nothing on a disk.
        let _ = umount2(target, MntFlags::empty());
    }
    let none = None::<&str>;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    console::check("make / read-only", mount(none, "/", none, flags, none));
}
