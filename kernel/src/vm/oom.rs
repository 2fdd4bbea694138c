//! When nothing is left to reclaim: a victim dies, and the allocation that failed tries again.
//!
//! Who dies is a question for the layer that knows processes: it registers a [`Killer`].

use core::sync::atomic::{AtomicU64, Ordering};

use crate::mm::frame::OutOfMemory;
use crate::sched::WaitQueue;
use crate::sync::{Rank, SpinLock};

/// Kills the process that frees most. False when there is none to kill, or the one to die
/// is the caller itself. Called without spin locks.
pub type Killer = fn() -> bool;

static KILLER: SpinLock<Option<Killer>> = SpinLock::new(Rank::Leaf, None);
/// Counts address spaces that were torn down.
static TORN_DOWN: AtomicU64 = AtomicU64::new(0);
static RELIEF: WaitQueue = WaitQueue::new();
/// How long an allocation waits for a victim's memory in one round.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Names who chooses and kills; once, at boot.
pub fn set_killer(killer: Killer) {
    *KILLER.lock() = Some(killer);
}

/// An address space gave back its memory.
pub(super) fn note_teardown() {
    TORN_DOWN.fetch_add(1, Ordering::AcqRel);
    RELIEF.wake_all();
}

/// Kills a victim and waits for its memory. Fails when there is no victim, or the caller is
/// to die and should get out of the way.
pub(super) fn relieve() -> Result<(), OutOfMemory> {
    let before = TORN_DOWN.load(Ordering::Acquire);
    let killer = *KILLER.lock();
    let Some(killer) = killer else {
        return Err(OutOfMemory);
    };
    if !killer() {
        return Err(OutOfMemory);
    }
    let deadline = crate::time::now_ns() + PATIENCE_NS;
    // A time-out means that the victim is slow: the caller looks at memory again.
    let relieved = || (TORN_DOWN.load(Ordering::Acquire) != before).then_some(());
    match RELIEF.wait_interruptible(Some(deadline), relieved) {
        Err(crate::sched::WaitError::Interrupted) if is_dying() => Err(OutOfMemory),
        Err(crate::sched::WaitError::Interrupted) => {
            // Some other signal, which has time, and is no reason to do without memory.
            // Its end is a time-out, as above.
            let _ = RELIEF.wait_until_deadline(deadline, relieved);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether the running thread is to die: it should give memory back rather than take more.
pub(in crate::vm) fn is_dying() -> bool {
    #[cfg(target_os = "none")]
    {
        crate::sched::current().is_killed()
    }
    #[cfg(not(target_os = "none"))]
    false
}
