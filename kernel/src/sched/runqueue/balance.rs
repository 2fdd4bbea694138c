//! Moving waiting threads from one CPU's queue to another's: to a CPU with nothing to do, and
//! from the busiest now and then.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{ACTIVE, queue_of};
use crate::sched::mlfq::Place;
use crate::sched::thread::Thread;

/// Takes a waiting thread from another CPU, without waiting for its lock: this CPU's is held.
pub(super) fn steal_for(cpu: usize) -> Option<NonNull<Thread>> {
    let mut rest = ACTIVE.load(Ordering::Relaxed) & !(1 << cpu);
    while rest != 0 {
        let victim = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        let of = queue_of(victim);
        if of.nr_waiting.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let Some(mut rq) = of.rq.try_lock() else {
            continue;
        };
        if let Some(t) = rq.queue.steal(|t| t.may_run_on(cpu)) {
            rq.took(of, t);
            return Some(t);
        }
    }
    None
}

/// Moves one waiting thread from `from` to `to`, if one may go and still at least `margin`
/// more wait there than here.
fn pull(from: usize, to: usize, margin: usize) -> bool {
    let (a, b) = (queue_of(from.min(to)), queue_of(from.max(to)));
    let mut low = a.rq.lock();
    let mut high = b.rq.lock();
    let (src, dst) = if from < to {
        (&mut *low, &mut *high)
    } else {
        (&mut *high, &mut *low)
    };
    if src.queue.len() < dst.queue.len() + margin {
        return false;
    }
    let Some(t) = src.queue.steal(|t| t.may_run_on(to)) else {
        return false;
    };
    src.took(queue_of(from), t);
    // SAFETY: taken off the other queue under its lock; alive while runnable.
    unsafe {
        t.as_ref().cpu.store(to, Ordering::Relaxed);
        dst.push(queue_of(to), t, Place::Back);
    }
    true
}

/// Looks for work before a CPU halts; as `steal_for`, but waits for the locks.
pub(super) fn pull_for_idle(cpu: usize) -> bool {
    let mut rest = ACTIVE.load(Ordering::Relaxed) & !(1 << cpu);
    while rest != 0 {
        let victim = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        if queue_of(victim).nr_waiting.load(Ordering::Relaxed) != 0 && pull(victim, cpu, 1) {
            return true;
        }
    }
    false
}

/// Evens out queues that idle stealing does not: every CPU is busy, one has more waiting.
pub(super) fn balance(cpu: usize) {
    let own = queue_of(cpu).nr_waiting.load(Ordering::Relaxed);
    let mut rest = ACTIVE.load(Ordering::Relaxed) & !(1 << cpu);
    let mut busiest = None;
    let mut most = own + 1;
    while rest != 0 {
        let other = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        let nr = queue_of(other).nr_waiting.load(Ordering::Relaxed);
        if nr > most {
            most = nr;
            busiest = Some(other);
        }
    }
    if let Some(busiest) = busiest {
        pull(busiest, cpu, 2);
    }
}
