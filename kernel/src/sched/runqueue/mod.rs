//! Run queues. Each CPU has one: the feedback queue of waiting threads, and the running one.
//!
//! - `switch`: leaving one thread for another.
//! - `wakeup`: from asleep to a queue.
//! - `balance`: from one queue to another.
//! - `tick`: the end of a quantum.
//! - `requeue`: changes to a thread that may be on any of them.
//!
//! Lock order: `Thread::wake`, then run queues (the lower CPU first). Timers are armed
//! with neither held.

mod balance;
pub(super) mod requeue;
pub(super) mod switch;
mod tick;
pub(super) mod wakeup;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::arch::MAX_CPUS;
use crate::sched::mlfq::{IDLE_KEY, Key, Mlfq, Place, Quantum};
use crate::sched::thread::Thread;
use crate::sync::{IrqLock, Rank};
use switch::FATE_QUEUED;

/// What a run queue's lock guards.
struct Rq {
    queue: Mlfq<Thread>,
    current: *const Thread,
    idle: *const Thread,
    /// Urgency of `current`.
    key: Key,
    /// When `current` was last charged for its run time.
    since_ns: u64,
    /// A tick found `current`'s quantum used up.
    rotate: bool,
}

// SAFETY: the thread pointers are kept alive by the scheduler's references.
unsafe impl Send for Rq {}

/// One CPU's run queue.
#[repr(align(128))]
struct RunQueue {
    rq: IrqLock<Rq>,
    /// Threads on `queue`, readable without the lock.
    nr_waiting: AtomicUsize,
    /// The running thread, readable without the lock; not to be followed.
    running: AtomicPtr<Thread>,
    /// A reschedule interrupt is on its way.
    prodded: AtomicBool,
    /// Set between `schedule` and `finish_switch`, by this CPU only.
    prev: AtomicPtr<Thread>,
    fate: AtomicU8,
    /// When the next tick is due; 0 when none is armed. This CPU only.
    tick_at: AtomicU64,
    /// When the present quantum ends; `u64::MAX` when nobody waits for its end.
    quantum_end: AtomicU64,
    ticks: AtomicU64,
    switches: AtomicU64,
}

static RUN_QUEUES: [RunQueue; MAX_CPUS] = [const {
    RunQueue {
        rq: IrqLock::new(
            Rank::RunQueue,
            Rq {
                queue: Mlfq::new(),
                current: core::ptr::null(),
                idle: core::ptr::null(),
                key: IDLE_KEY,
                since_ns: 0,
                rotate: false,
            },
        ),
        nr_waiting: AtomicUsize::new(0),
        running: AtomicPtr::new(core::ptr::null_mut()),
        prodded: AtomicBool::new(false),
        prev: AtomicPtr::new(core::ptr::null_mut()),
        fate: AtomicU8::new(FATE_QUEUED),
        tick_at: AtomicU64::new(0),
        quantum_end: AtomicU64::new(u64::MAX),
        ticks: AtomicU64::new(0),
        switches: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// CPUs that run their idle thread. A waker that picks one clears its bit.
static IDLE: AtomicU64 = AtomicU64::new(0);

/// CPUs whose scheduler runs.
static ACTIVE: AtomicU64 = AtomicU64::new(0);

#[inline]
fn queue_of(cpu: usize) -> &'static RunQueue {
    &RUN_QUEUES[cpu % MAX_CPUS]
}

impl Rq {
    /// Charges the running thread up to `now`.
    fn charge(&mut self, now: u64) -> Quantum {
        let ran = now.saturating_sub(self.since_ns);
        self.since_ns = now;
        // SAFETY: a running thread is alive; this queue's lock guards its entity.
        let Some(current) = (unsafe { self.current.as_ref() }) else {
            return Quantum::Left;
        };
        current.runtime_ns.fetch_add(ran, Ordering::Relaxed);
        if current.is_idle {
            return Quantum::Left;
        }
        let quantum = current.entity.charge(ran);
        self.key = current.entity.key();
        quantum
    }

    /// # Safety
    /// `t` is on no queue and runs nowhere, or is this queue's running thread about to stop;
    /// the scheduler holds a reference to it.
    unsafe fn push(&mut self, of: &RunQueue, t: NonNull<Thread>, place: Place) {
        // SAFETY: alive (contract).
        unsafe { t.as_ref() }.queued.set(true);
        // SAFETY: contract.
        unsafe { self.queue.enqueue(t, place) };
        of.nr_waiting.store(self.queue.len(), Ordering::Relaxed);
    }

    fn took(&self, of: &RunQueue, t: NonNull<Thread>) {
        // SAFETY: was on the queue, so alive; the lock is held.
        unsafe { t.as_ref() }.queued.set(false);
        of.nr_waiting.store(self.queue.len(), Ordering::Relaxed);
    }
}

/// Notes when the running thread's quantum ends, if somebody waits for that.
#[inline]
fn settle(rq: &mut Rq, of: &RunQueue, now: u64) {
    // SAFETY: the running thread is alive.
    let current = unsafe { &*rq.current };
    let end = if current.is_idle {
        0
    } else if rq.queue.is_empty() {
        u64::MAX
    } else {
        current
            .entity
            .remaining_ns()
            .map_or(u64::MAX, |left| now.saturating_add(left))
    };
    of.quantum_end.store(end, Ordering::Relaxed);
}

/// How many threads run or wait to run on all CPUs (for load averages).
pub(super) fn nr_runnable() -> usize {
    let idle = IDLE.load(Ordering::Relaxed);
    let mut rest = ACTIVE.load(Ordering::Relaxed);
    let mut nr = 0;
    while rest != 0 {
        let cpu = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        nr += queue_of(cpu).nr_waiting.load(Ordering::Relaxed);
        nr += usize::from(idle & 1 << cpu == 0);
    }
    nr
}

/// Context switches of CPU `cpu`.
pub(super) fn nr_switches(cpu: usize) -> u64 {
    queue_of(cpu).switches.load(Ordering::Relaxed)
}

/// Whether CPU `cpu` runs its idle thread.
pub(super) fn runs_idle(cpu: usize) -> bool {
    let rq = queue_of(cpu).rq.lock();
    core::ptr::eq(rq.current, rq.idle)
}
