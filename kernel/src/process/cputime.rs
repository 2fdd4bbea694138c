//! What happens when a process has used a certain CPU time: timers on such clocks and
//! RLIMIT_CPU (man 2 setitimer, man 2 timer_create, man 2 getrlimit).
//!
//! Nothing can tell beforehand when that will be, so threads of a process that has something
//! to wait for are watched: each tick that meets one asks it to look here on its way out to
//! user mode. Others pay nothing. The granularity is the tick's, as on Linux.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::limits::INFINITY;
use super::timers::{self, Expiry, Setting, Target, TimerClock};
use super::{Process, SigInfo, Usage, signal};
use crate::abi;
use crate::sched::{WaitError, WaitQueue};
use crate::time::NS_PER_SEC;

impl Usage {
    /// CPU time, ns.
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// A thread that sleeps until a timer expires.
#[derive(Default)]
pub struct Wakeup {
    done: AtomicBool,
    queue: WaitQueue,
}

impl Wakeup {
    pub(super) fn wake(&self) {
        self.done.store(true, Ordering::Release);
        self.queue.wake_all();
    }
}

/// Sleeps until `clock`, which counts CPU time, shows `until` ns. When a signal comes first:
/// how much is left.
pub fn sleep_until(clock: TimerClock, until: u64) -> Result<(), u64> {
    let wakeup = Arc::new(Wakeup::default());
    let timer = Expiry::new(Target::Sleeper(wakeup.clone()), clock);
    let setting = Setting {
        value_ns: until.max(1),
        interval_ns: 0,
    };
    timer.set(setting, true);
    let waited = wakeup
        .queue
        .wait_interruptible(None, || wakeup.done.load(Ordering::Acquire).then_some(()));
    match waited {
        Err(WaitError::Interrupted) => Err(timer.get().value_ns),
        _ => Ok(()),
    }
}

/// What `clock` shows, ns; `None` when what it measures has ended.
pub fn now(clock: &TimerClock) -> Option<u64> {
    clock.now()
}

/// `timer` counts CPU time of `process`: looks at it from now on.
pub(super) fn watch(process: &Process, timer: &Arc<Expiry>) {
    timers::with(process, |t| {
        t.on_cpu_time.retain(|w| w.strong_count() > 0);
        let this = Arc::downgrade(timer);
        if !t.on_cpu_time.iter().any(|w| w.ptr_eq(&this)) {
            t.on_cpu_time.push(this);
        }
        // Under the lock, as it is taken back under it.
        set_watched(process, true);
    });
}

/// RLIMIT_CPU of `process` may have become finite.
pub(super) fn limit_changed(process: &Process) {
    if process.limit(abi::RLIMIT_CPU) != INFINITY {
        timers::with(process, |_| set_watched(process, true));
    }
}

/// The flag for new threads first, then the others: a thread that is being made sees either.
fn set_watched(process: &Process, on: bool) {
    process.cpu_watched.store(on, Ordering::SeqCst);
    for task in process.threads() {
        if let Some(thread) = task.thread() {
            thread.set_watched(on);
        }
    }
}

/// A tick met a watched thread of `process`, the running one. In thread context, without locks.
pub(super) fn check(process: &Arc<Process>) {
    let due: Vec<Arc<Expiry>> = timers::with(process, |t| {
        t.on_cpu_time.iter().filter_map(|w| w.upgrade()).collect()
    });
    due.iter().for_each(|timer| timer.look());
    check_limit(process);
    timers::with(process, |t| {
        let limited = process.limit(abi::RLIMIT_CPU) != INFINITY;
        t.on_cpu_time
            .retain(|w| w.upgrade().is_some_and(|timer| timer.is_armed()));
        if t.on_cpu_time.is_empty() && !limited {
            set_watched(process, false);
        }
    });
    // Outside the lock: a deleted timer's last reference may go here.
    drop(due);
}

/// RLIMIT_CPU: SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one.
fn check_limit(process: &Arc<Process>) {
    let (soft, hard) = process.rlimit(abi::RLIMIT_CPU);
    if soft == INFINITY {
        return;
    }
    let used = process.usage().0.cpu_ns() / NS_PER_SEC;
    if used >= hard {
        signal::send_process(process, SigInfo::kernel(abi::SIGKILL));
    } else if used >= soft {
        signal::send_process(process, SigInfo::kernel(abi::SIGXCPU));
        process.limits.lock().raise_cpu(used + 1);
    }
}
