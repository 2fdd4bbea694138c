//! Threads, run queues, wait queues and the locks that sleep. Knows no process: a layer above
//! hangs what it needs on [`Thread::ext`].
//!
//! - [`mlfq`]: the policy, pure.
//! - `runqueue`: run queues, the context switch, preemption, balance.
//! - `thread`: what a thread is; `space`: what user mode sees of a CPU.
//! - `wait`, `lock`: sleeping.
//! - `account`: who used how much; `reaper`: the end of threads.
//!
//! Boot order: each CPU calls [`init_cpu`] on its boot stack; the first one then calls
//! [`start`]; each ends in [`idle_loop`].

#![cfg_attr(
    not(target_os = "none"),
    allow(
        dead_code,
        reason = "what switches threads is for the bare target only"
    )
)]

mod account;
pub mod list;
mod lock;
pub mod mlfq;
pub mod profile;
#[cfg(target_os = "none")]
mod reaper;
#[cfg(target_os = "none")]
mod runqueue;
#[cfg(target_os = "none")]
mod space;
mod thread;
mod wait;

pub use account::{
    CpuTimes, LOAD_SHIFT, context_switches, cpu_times, load_averages, nr_running,
    nr_uninterruptible,
};
pub use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use mlfq::Class;
#[cfg(target_os = "none")]
pub use runqueue::switch::{idle_loop, init_cpu};
pub use thread::{Current, Thread, UserSpace, current, exit_current, nr_threads, spawn_kernel};
pub use wait::{WaitError, WaitQueue, Wake, Woken};

/// Who waits for records of the kernel log. Records come from any context, so the scheduler
/// wakes the queue: at a tick, or before a CPU halts.
pub static LOG_READERS: WaitQueue = WaitQueue::new();

/// Where the reclaimer sleeps. Memory gets short in any context, so the scheduler wakes it:
/// when a CPU reschedules, at a tick, or before a CPU halts.
pub static RECLAIMER: WaitQueue = WaitQueue::new();

/// Wakes those whose work comes up in contexts that cannot wake anybody.
fn wake_background() {
    if crate::log::take_news() {
        LOG_READERS.wake_all();
    }
    if crate::mm::frame::wants_reclaim() {
        RECLAIMER.wake_all();
    }
}

/// The running thread's address.
#[inline]
fn current_ptr() -> *const Thread {
    #[cfg(target_os = "none")]
    {
        crate::arch::percpu::current_ptr().cast()
    }
    #[cfg(not(target_os = "none"))]
    thread::host_thread()
}

/// Whether the caller is a thread (false in early boot, before [`init_cpu`]).
pub fn has_current() -> bool {
    !current_ptr().is_null()
}

/// Says that the caller has little left to do before it ends: whom it wakes now can wait for
/// its CPU.
pub fn about_to_end() {
    if has_current() {
        current()
            .ends
            .store(true, core::sync::atomic::Ordering::Relaxed);
    }
}

/// Gives up the CPU to another ready thread.
pub fn yield_now() {
    #[cfg(target_os = "none")]
    runqueue::switch::yield_turn();
}

/// Sleeps until `deadline` (monotonic ns). `Err(Interrupted)` when a signal came first.
pub fn sleep_until(deadline: u64) -> Result<(), WaitError> {
    // Nobody wakes this queue: a thread's own, as far as others can tell.
    let queue = WaitQueue::new();
    match queue.wait_interruptible(Some(deadline), || None::<()>) {
        Err(WaitError::Interrupted) => Err(WaitError::Interrupted),
        _ => Ok(()),
    }
}

/// Starts what the scheduler itself needs: the reaper and the sampling of load. Once, on the
/// booting CPU, after [`init_cpu`].
#[cfg(target_os = "none")]
pub fn start() -> crate::error::Result<()> {
    use crate::time::{StaticTimer, TimerCallback};

    struct Sampler;
    static SAMPLER: StaticTimer = StaticTimer::new(&Sampler);
    impl TimerCallback for Sampler {
        fn expired(&self, now: u64) {
            account::sample_load();
            SAMPLER.arm(now + account::LOAD_INTERVAL_NS);
        }
    }
    reaper::start()?;
    SAMPLER.arm(crate::time::now_ns() + account::LOAD_INTERVAL_NS);
    Ok(())
}
