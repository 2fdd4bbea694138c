//! The context switch: which thread a CPU runs next, and leaving the one before.
//!
//! `schedule` is the only place that leaves a thread. It holds the run queue's lock across
//! the switch; the thread that comes next releases it in `finish_switch`. So a thread that
//! was put back on its queue cannot be stolen before its registers are saved. A thread that
//! blocks is on no queue: wakers that come before its registers are saved leave a note in
//! its wake state, and `finish_switch` queues it.
//!
//! Called by a thread that sleeps, yields or ends, by a CPU that idles, and wherever
//! preemption becomes possible again.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::balance::{pull_for_idle, steal_for};
use super::tick::ensure_tick;
use super::wakeup::enqueue_somewhere;
use super::{ACTIVE, IDLE, queue_of, settle};
use crate::arch::{self, cpu_id, irq_restore, irq_save, percpu};
use crate::sched::mlfq::{IDLE_KEY, Place, Quantum, usual_burst};
use crate::sched::thread::{Thread, state};
use crate::sched::{account, reaper, space, wake_background};
use crate::sync::preempt::raw;
use crate::time::now_ns;

/// What becomes of the thread that is switched out.
pub(super) const FATE_QUEUED: u8 = 0;
const FATE_BLOCKED: u8 = 1;
const FATE_DEAD: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Somebody better waits, or the quantum is over.
    Preempt,
    /// The thread lets others go first.
    Yield,
    /// The thread declared that it sleeps.
    Block,
    /// The thread ends.
    Exit,
}

/// Makes the calling context, a CPU's start-up code on its boot stack, that CPU's idle
/// thread. Once per CPU, interrupts off, before anything there sleeps or is woken.
pub fn init_cpu() {
    let cpu = cpu_id();
    let of = queue_of(cpu);
    let idle = Arc::into_raw(Thread::new_idle(cpu));
    space::init_cpu();
    {
        let mut rq = of.rq.lock();
        rq.current = idle;
        rq.idle = idle;
        rq.key = IDLE_KEY;
        rq.since_ns = now_ns();
    }
    of.running.store(idle.cast_mut(), Ordering::Relaxed);
    percpu::this()
        .current
        .store(idle.cast_mut().cast(), Ordering::Release);
    ACTIVE.fetch_or(1 << cpu, Ordering::AcqRel);
    IDLE.fetch_or(1 << cpu, Ordering::AcqRel);
}

/// What a CPU does when nothing else is to be done. Interrupts may be off.
pub fn idle_loop() -> ! {
    loop {
        wake_background();
        let irq = irq_save();
        let cpu = cpu_id();
        let due = percpu::this().need_resched.load(Ordering::Relaxed)
            || queue_of(cpu).nr_waiting.load(Ordering::Relaxed) != 0
            || pull_for_idle(cpu);
        if due {
            arch::irq::irq_enable();
            schedule(Why::Preempt);
        } else {
            arch::cpu::enable_and_halt();
        }
        let _ = irq;
    }
}

/// Ends the turn of the running thread.
pub(in crate::sched) fn yield_turn() {
    schedule(Why::Yield);
}

/// Sleeps if the running thread still is declared asleep.
pub(in crate::sched) fn block() {
    schedule(Why::Block);
}

/// Ends the running thread.
pub(in crate::sched) fn exit() -> ! {
    schedule(Why::Exit);
    unreachable!("a dead thread ran");
}

/// Switches threads if a reschedule is due; called where preemption becomes possible again.
#[unsafe(no_mangle)]
fn oxbow_preempt_point() {
    let this = percpu::this();
    if this.current.load(Ordering::Relaxed).is_null() {
        // Before `init_cpu` there is nobody to switch to.
        this.need_resched.store(false, Ordering::Relaxed);
        return;
    }
    wake_background();
    loop {
        schedule(Why::Preempt);
        if !percpu::this().need_resched.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Leaves the running thread, if a better one waits or it must, and returns when it is
/// switched to again. Preemption is on; interrupts may be off, and are as before on return.
fn schedule(why: Why) {
    debug_assert!(raw::count() == 0, "scheduling with a spin lock held");
    let irq = irq_save();
    // SAFETY: the running thread is alive.
    let prev = unsafe { &*crate::sched::current_ptr() };
    let cpu = cpu_id();
    let of = queue_of(cpu);
    let mut fate = FATE_QUEUED;
    match why {
        Why::Block => {
            let mut wake = prev.wake.lock();
            let sleep = prev.state.load(Ordering::Relaxed);
            if sleep == state::RUNNABLE {
                drop(wake);
                irq_restore(irq);
                return;
            }
            wake.blocked = true;
            wake.on_cpu = true;
            fate = FATE_BLOCKED;
            if sleep == state::UNINTERRUPTIBLE {
                wake.counts_as_load = true;
                account::uninterruptible_sleep_begins();
            }
        }
        Why::Exit => {
            prev.state.store(state::DEAD, Ordering::Release);
            fate = FATE_DEAD;
        }
        Why::Preempt | Why::Yield if !prev.may_run_on(cpu) => {
            // Leaves as if it slept and had been woken at once: `finish_switch` finds it a
            // CPU that it may use.
            let mut wake = prev.wake.lock();
            wake.blocked = true;
            wake.on_cpu = true;
            wake.wake_pending = true;
            fate = FATE_BLOCKED;
        }
        Why::Preempt | Why::Yield => {}
    }
    let mut rq = of.rq.lock();
    percpu::this().need_resched.store(false, Ordering::Relaxed);
    of.prodded.store(false, Ordering::Relaxed);
    let now = now_ns();
    let used_up = rq.charge(now) == Quantum::UsedUp || rq.rotate;
    rq.rotate = false;
    let prev_ptr = NonNull::from(prev);
    if fate == FATE_QUEUED && !prev.is_idle {
        if rq.queue.is_empty() {
            // Nobody waits: it goes on.
            settle(&mut rq, of, now);
            drop(rq);
            ensure_tick(of, now);
            irq_restore(irq);
            return;
        }
        let place = if why == Why::Yield || used_up {
            Place::Back
        } else {
            Place::Front
        };
        // SAFETY: it runs here and is about to stop, under this lock until it is saved.
        unsafe { rq.push(of, prev_ptr, place) };
    } else if fate == FATE_BLOCKED {
        prev.slept_at.store(now, Ordering::Relaxed);
        note_burst(prev);
    }
    let next = match rq.queue.pick(now) {
        Some(t) => {
            rq.took(of, t);
            t
        }
        None => match steal_for(cpu) {
            Some(t) => t,
            // SAFETY: `init_cpu` stored it before the first schedule.
            None => unsafe { NonNull::new_unchecked(rq.idle.cast_mut()) },
        },
    };
    // SAFETY: alive: the scheduler's reference is held while it is runnable.
    let next = unsafe { next.as_ref() };
    next.cpu.store(cpu, Ordering::Relaxed);
    rq.current = next;
    rq.key = if next.is_idle {
        IDLE_KEY
    } else {
        next.entity.key()
    };
    let bit = 1u64 << cpu;
    if next.is_idle {
        IDLE.fetch_or(bit, Ordering::AcqRel);
    } else if IDLE.load(Ordering::Relaxed) & bit != 0 {
        IDLE.fetch_and(!bit, Ordering::AcqRel);
    }
    settle(&mut rq, of, now);
    if core::ptr::eq(prev, next) {
        drop(rq);
        ensure_tick(of, now);
        irq_restore(irq);
        return;
    }
    account::switched(cpu, prev, now);
    match why {
        Why::Preempt => &prev.involuntary_switches,
        _ => &prev.voluntary_switches,
    }
    .fetch_add(1, Ordering::Relaxed);
    of.switches.fetch_add(1, Ordering::Relaxed);
    of.prev
        .store(core::ptr::from_ref(prev).cast_mut(), Ordering::Relaxed);
    of.fate.store(fate, Ordering::Relaxed);
    of.running
        .store(core::ptr::from_ref(next).cast_mut(), Ordering::Relaxed);
    // The lock and its preemption count go over to `next`, whose `finish_switch` ends both.
    core::mem::forget(rq);
    // SAFETY: interrupts are off; `next` was taken off its queue by us alone and its
    // registers are saved, because whoever queued it did so after or under the lock that
    // covered its own switch.
    unsafe {
        switch_user_state(cpu, prev, next);
        percpu::this().current.store(
            core::ptr::from_ref(next).cast_mut().cast(),
            Ordering::Release,
        );
        arch::context::switch(prev.context.get(), next.context.get());
    }
    // Here again, maybe on another CPU.
    finish_switch();
    irq_restore(irq);
}

/// Remembers how long a thread runs between two sleeps.
fn note_burst(t: &Thread) {
    let total = t.runtime_ns.load(Ordering::Relaxed);
    let burst = total.saturating_sub(t.woke_at_runtime.swap(total, Ordering::Relaxed));
    let usual = t.usual_burst_ns.load(Ordering::Relaxed);
    t.usual_burst_ns
        .store(usual_burst(usual, burst), Ordering::Relaxed);
}

/// Registers that only user mode uses: FPU, FS, GS, page tables, the entry stack.
///
/// # Safety
/// Interrupts are off; `prev` runs here, and `next` is about to.
unsafe fn switch_user_state(cpu: usize, prev: &Thread, next: &Thread) {
    // SAFETY: interrupts are off and both threads are this CPU's.
    unsafe {
        if let Some(fpu) = (*prev.fpu.get()).as_mut() {
            fpu.save();
        }
        if let Some(fpu) = (*next.fpu.get()).as_ref() {
            space::load_registers(cpu, next, fpu);
        }
        space::switch_to(cpu, next);
    }
}

/// First thing after a switch, on the stack of the thread that runs now: releases the run
/// queue and settles the fate of the one before. Interrupts are off.
fn finish_switch() {
    let of = queue_of(cpu_id());
    let prev = of.prev.load(Ordering::Relaxed);
    let fate = of.fate.load(Ordering::Relaxed);
    // SAFETY: `schedule` on this CPU left the lock held and its guard forgotten; its
    // preemption count is lowered next.
    unsafe { of.rq.force_unlock() };
    raw::lower_no_resched();
    if let Some(prev) = NonNull::new(prev) {
        match fate {
            FATE_BLOCKED => {
                // SAFETY: alive: the scheduler's reference lasts until the reaper.
                let prev = unsafe { prev.as_ref() };
                let mut wake = prev.wake.lock();
                wake.on_cpu = false;
                if wake.wake_pending {
                    wake.wake_pending = false;
                    wake.blocked = false;
                    enqueue_somewhere(prev);
                }
            }
            FATE_DEAD => reaper::bury(prev),
            _ => {}
        }
    }
    ensure_tick(of, now_ns());
}

/// First code of a new thread; `arg` is its address.
pub(in crate::sched) extern "C" fn thread_main(_arg: usize) -> ! {
    finish_switch();
    arch::irq::irq_enable();
    crate::sched::current().run_entry();
    crate::sched::exit_current()
}
