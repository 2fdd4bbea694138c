//! Changes to a thread that may be running or queued anywhere: its policy, its CPUs, its run
//! time so far.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::wakeup::{enqueue_somewhere, prod_cpu};
use super::{Rq, RunQueue, queue_of};
use crate::arch::MAX_CPUS;
use crate::sched::mlfq::{Place, Quantum};
use crate::sched::thread::Thread;
use crate::time::now_ns;

/// Locks the run queue whose lock guards `t` now.
fn with_queue_of<R>(t: &Thread, f: impl FnOnce(&mut Rq, &RunQueue) -> R) -> Option<R> {
    loop {
        let cpu = t.cpu.load(Ordering::Relaxed);
        if cpu >= MAX_CPUS {
            return None;
        }
        let of = queue_of(cpu);
        let mut rq = of.rq.lock();
        if t.cpu.load(Ordering::Relaxed) == cpu {
            return Some(f(&mut rq, of));
        }
    }
}

/// Brings a running thread's run time up to date, for reports.
pub(in crate::sched) fn charge_if_running(t: &Thread) {
    let cpu = t.cpu.load(Ordering::Relaxed);
    if cpu >= MAX_CPUS {
        return;
    }
    let of = queue_of(cpu);
    if !core::ptr::eq(of.running.load(Ordering::Relaxed), t) {
        return;
    }
    let mut rq = of.rq.lock();
    let used_up = core::ptr::eq(rq.current, t) && rq.charge(now_ns()) == Quantum::UsedUp;
    if used_up && !rq.queue.is_empty() {
        rq.rotate = true;
        drop(rq);
        prod_cpu(cpu);
    }
}

/// Carries a changed nice level or class into the thread's entity.
pub(in crate::sched) fn update_policy(t: &Thread) {
    // The wake lock keeps a sleeping thread from being queued meanwhile.
    let wake = t.wake.lock();
    let applied = with_queue_of(t, |rq, of| {
        if t.queued.get() {
            // SAFETY: queued on the queue whose lock is held.
            unsafe { rq.queue.remove(NonNull::from(t)) };
            t.apply_policy();
            // SAFETY: just taken off.
            unsafe { rq.push(of, NonNull::from(t), Place::Back) };
        } else {
            t.apply_policy();
            if core::ptr::eq(rq.current, t) {
                rq.key = t.entity.key();
            }
        }
        let worse = rq.queue.best_key().is_some_and(|best| best < rq.key);
        worse.then(|| t.cpu.load(Ordering::Relaxed))
    });
    match applied {
        Some(Some(cpu)) => prod_cpu(cpu),
        Some(None) => {}
        None => t.apply_policy(),
    }
    drop(wake);
}

/// Moves a thread off a CPU that its affinity no longer allows.
pub(in crate::sched) fn move_to_allowed(t: &Thread) {
    let wake = t.wake.lock();
    let moved = with_queue_of(t, |rq, of| {
        let cpu = t.cpu.load(Ordering::Relaxed);
        if t.may_run_on(cpu) {
            return (false, None);
        }
        if t.queued.get() {
            // SAFETY: queued on the queue whose lock is held.
            unsafe { rq.queue.remove(NonNull::from(t)) };
            rq.took(of, NonNull::from(t));
            return (true, None);
        }
        // Running there: its next schedule sends it away.
        (false, core::ptr::eq(rq.current, t).then_some(cpu))
    });
    match moved {
        Some((true, _)) => enqueue_somewhere(t),
        Some((false, Some(cpu))) => prod_cpu(cpu),
        _ => {}
    }
    drop(wake);
}
