//! Waking: from asleep to a run queue, and which CPU's. From any context.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{ACTIVE, IDLE, queue_of, settle};
use crate::arch::{self, CpuMask, MAX_CPUS, cpu_id, irq_restore, irq_save, percpu};
use crate::sched::account;
use crate::sched::mlfq::{Place, SHORT_BURST_NS};
use crate::sched::thread::{Thread, state};
use crate::time::now_ns;

/// Makes a thread of a sleep in `mask` runnable; whether it slept so. From any context.
pub(in crate::sched) fn wake(t: &Thread, mask: u8) -> bool {
    let mut wake = t.wake.lock();
    let sleep = t.state.load(Ordering::SeqCst);
    if sleep & mask & state::SLEEPING == 0 {
        return false;
    }
    t.state.store(state::RUNNABLE, Ordering::Release);
    if !wake.blocked {
        // It declared sleep but still runs: `schedule` will find it runnable.
        return true;
    }
    if core::mem::take(&mut wake.counts_as_load) {
        account::uninterruptible_sleep_ends();
    }
    if wake.on_cpu {
        wake.wake_pending = true;
        return true;
    }
    wake.blocked = false;
    enqueue_somewhere(t);
    true
}

/// Queues a thread for the first time.
pub(in crate::sched) fn start(t: &Thread) {
    let _wake = t.wake.lock();
    t.state.store(state::RUNNABLE, Ordering::Release);
    t.slept_at.store(u64::MAX, Ordering::Relaxed);
    t.cpu.store(cpu_id(), Ordering::Relaxed);
    enqueue_somewhere(t);
}

/// Puts a thread that is on no queue on the best one. Its wake lock is held.
pub(super) fn enqueue_somewhere(t: &Thread) {
    let cpu = choose_cpu(t);
    let of = queue_of(cpu);
    let mut rq = of.rq.lock();
    t.cpu.store(cpu, Ordering::Relaxed);
    t.apply_policy();
    let slept_at = t.slept_at.swap(u64::MAX, Ordering::Relaxed);
    if slept_at != u64::MAX {
        t.entity.woken(now_ns().saturating_sub(slept_at));
    }
    // SAFETY: on no queue, saved (the wake state says so), and referenced by the scheduler.
    unsafe { rq.push(of, NonNull::from(t), Place::Back) };
    let better = t.entity.key() < rq.key;
    // Somebody waits now for the end of the running thread's quantum.
    if !better && of.quantum_end.load(Ordering::Relaxed) == u64::MAX {
        let now = now_ns();
        let _ = rq.charge(now);
        settle(&mut rq, of, now);
    }
    drop(rq);
    if better {
        prod_cpu(cpu);
    }
}

/// Whether `t` had better wait for this CPU, if nobody else does: it idles but for the interrupt
/// that it handles, or the running thread ends, or that is about to sleep, to judge by its
/// habit, and `t` will do so soon after it ran. Waking another CPU would take longer: a halted
/// one costs an interrupt and, in a virtual machine, the time until the host runs it again.
fn takes_turns(t: &Thread, cpu: usize) -> bool {
    if queue_of(cpu).nr_waiting.load(Ordering::Relaxed) != 0 {
        return false;
    }
    // SAFETY: the running thread is alive; a CPU that wakes somebody has one.
    let Some(waker) = (unsafe { crate::sched::current_ptr().as_ref() }) else {
        return false;
    };
    let short = |t: &Thread| {
        let burst = t.usual_burst_ns.load(Ordering::Relaxed);
        burst != 0 && burst < SHORT_BURST_NS
    };
    let is_new = t.slept_at.load(Ordering::Relaxed) == u64::MAX;
    waker.is_idle || !is_new && (waker.ends.load(Ordering::Relaxed) || short(waker) && short(t))
}

/// The CPU a woken thread goes to: this one if the two take turns; where it last ran if that is
/// idle (its data is in that cache); else another idle one; else where it last ran, unless
/// that is much busier.
fn choose_cpu(t: &Thread) -> usize {
    let active = ACTIVE.load(Ordering::Relaxed);
    let mut allowed: CpuMask = t.affinity() & active;
    if allowed == 0 {
        allowed = active;
    }
    let here = cpu_id();
    if allowed & 1 << here != 0 && takes_turns(t, here) {
        IDLE.fetch_and(!(1 << here), Ordering::AcqRel);
        return here;
    }
    let last = t.cpu.load(Ordering::Relaxed) % MAX_CPUS;
    let mut idle = IDLE.load(Ordering::Relaxed) & allowed;
    if idle & 1 << last != 0 {
        IDLE.fetch_and(!(1 << last), Ordering::AcqRel);
        return last;
    }
    while idle != 0 {
        let cpu = idle.trailing_zeros() as usize;
        // Two wakers must not choose the same idle CPU while another is idle too.
        if IDLE.fetch_and(!(1 << cpu), Ordering::AcqRel) & 1 << cpu != 0 {
            return cpu;
        }
        idle &= idle - 1;
    }
    let load = |cpu: usize| queue_of(cpu).nr_waiting.load(Ordering::Relaxed);
    let mut best = if allowed & 1 << last != 0 {
        last
    } else {
        allowed.trailing_zeros() as usize
    };
    let mut rest = allowed;
    while rest != 0 {
        let cpu = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        if load(cpu) + 1 < load(best) {
            best = cpu;
        }
    }
    best
}

/// Makes a CPU look for a better thread.
pub(super) fn prod_cpu(cpu: usize) {
    let irq = irq_save();
    if cpu == cpu_id() {
        percpu::this().need_resched.store(true, Ordering::Relaxed);
    } else if !queue_of(cpu).prodded.swap(true, Ordering::AcqRel) {
        arch::ipi::send(cpu, arch::ipi::Ipi::Reschedule);
    }
    irq_restore(irq);
}

/// Makes a thread that runs on another CPU pass the kernel's exit path.
pub(in crate::sched) fn prod(t: &Thread) {
    core::sync::atomic::fence(Ordering::SeqCst);
    let cpu = t.cpu.load(Ordering::Relaxed);
    if cpu >= MAX_CPUS {
        return;
    }
    let irq = irq_save();
    if cpu != cpu_id() && core::ptr::eq(queue_of(cpu).running.load(Ordering::Relaxed), t) {
        arch::ipi::send(cpu, arch::ipi::Ipi::Reschedule);
    }
    irq_restore(irq);
}
