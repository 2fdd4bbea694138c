//! Ended threads: a kernel thread frees their stacks and drops the scheduler's reference,
//! because the CPU that leaves a dead thread may neither sleep nor free what it stands on.

use alloc::sync::Arc;
use core::ptr::NonNull;

use super::list::List;
use super::thread::Thread;
use super::wait::WaitQueue;
use crate::error::Result;
use crate::sync::{IrqLock, Rank};

/// Dead and off their stacks.
static DEAD: IrqLock<List<Thread>> = IrqLock::new(Rank::Leaf, List::new());
static WORK: WaitQueue = WaitQueue::new();

/// Takes over a thread that ended. Its stack is no longer in use. From any context.
pub(super) fn bury(t: NonNull<Thread>) {
    // SAFETY: on no run queue any more, and alive until the reaper drops its reference.
    unsafe { DEAD.lock().push_back(t) };
    WORK.wake_one();
}

fn next() -> Option<NonNull<Thread>> {
    DEAD.lock().pop_front()
}

/// Starts the reaper. Once, at boot.
pub(super) fn start() -> Result<()> {
    super::spawn_kernel("reaper", || {
        loop {
            // Interruptible only in name: it does not count as load.
            let Ok(t) = WORK.wait_interruptible(None, next) else {
                super::current().clear_interrupt();
                continue;
            };
            // SAFETY: the reference that `Thread::start` made for the scheduler.
            let thread = unsafe { Arc::from_raw(t.as_ptr().cast_const()) };
            drop(thread.take_stack());
            drop(thread);
        }
    })?;
    Ok(())
}
