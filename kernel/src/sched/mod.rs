//! Threads, run queues, wait queues and the locks that sleep. Knows no process: a layer above
//! hangs what it needs on [`Thread::ext`]. (Skeleton: the sched owner fills it in.)

mod lock;
mod thread;
mod wait;

pub use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use thread::{Current, Thread, UserSpace, current, exit_current, spawn_kernel};
pub use wait::{WaitError, WaitQueue, Wake, Woken};

/// Gives up the CPU to another ready thread.
pub fn yield_now() {
    todo!()
}

/// Sleeps until `deadline` (monotonic ns). `Err(Interrupted)` when a signal came first.
pub fn sleep_until(_deadline: u64) -> Result<(), WaitError> {
    todo!()
}

/// Switches threads if a reschedule is due; called where preemption becomes possible again.
#[unsafe(no_mangle)]
fn oxbow_preempt_point() {
    todo!()
}
