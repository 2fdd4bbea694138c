//! A CPU's tick: charges the running thread, ends its quantum, counts samples, and now and
//! then evens out the queues.

use core::sync::atomic::Ordering;

use super::balance::balance;
use super::wakeup::prod_cpu;
use super::{ACTIVE, IDLE, RunQueue, queue_of, settle};
use crate::arch::{MAX_CPUS, cpu_id, percpu};
use crate::sched::mlfq::{Quantum, TICK_NS};
use crate::sched::{account, wake_background};
use crate::time::now_ns;

/// Ticks between two looks at the other CPUs' queues.
const BALANCE_TICKS: u64 = 8;

/// A CPU's tick: one per [`TICK_NS`] while a thread runs there, and at the end of its
/// quantum while others wait. An idle CPU arms none.
struct Tick;

impl crate::time::TimerCallback for Tick {
    fn expired(&self, _now: u64) {
        tick();
    }
}

static TICK: Tick = Tick;

static TICK_TIMERS: crate::sync::PerCpu<crate::time::StaticTimer> =
    crate::sync::PerCpu::new([const { crate::time::StaticTimer::new(&TICK) }; MAX_CPUS]);

/// Arms this CPU's tick for the earlier of a tick's length and the end of the quantum.
/// Interrupts are off.
#[inline]
pub(super) fn ensure_tick(of: &RunQueue, now: u64) {
    let end = of.quantum_end.load(Ordering::Relaxed);
    if end == 0 {
        // Idle: what is armed fires once more, and is not armed again.
        return;
    }
    let want = end.min(now.saturating_add(TICK_NS));
    let armed = of.tick_at.load(Ordering::Relaxed);
    if armed == 0 || want < armed {
        of.tick_at.store(want, Ordering::Relaxed);
        if let Some(timer) = TICK_TIMERS.of(cpu_id()) {
            timer.arm(want);
        }
    }
}

/// In interrupt context on the CPU whose tick it is.
fn tick() {
    let cpu = cpu_id();
    let of = queue_of(cpu);
    of.tick_at.store(0, Ordering::Relaxed);
    let now = now_ns();
    let mut rq = of.rq.lock();
    // SAFETY: the running thread is alive.
    let Some(current) = (unsafe { rq.current.as_ref() }) else {
        return;
    };
    if current.is_idle {
        return;
    }
    account::sample(cpu, current, percpu::interrupted_user());
    current.ticked();
    let used_up = rq.charge(now) == Quantum::UsedUp;
    let resched = match rq.queue.best_key() {
        Some(best) => best < rq.key || (used_up && best <= rq.key),
        None => false,
    };
    if resched {
        rq.rotate |= used_up;
        percpu::this().need_resched.store(true, Ordering::Relaxed);
    }
    settle(&mut rq, of, now);
    drop(rq);
    wake_background();
    if of.nr_waiting.load(Ordering::Relaxed) != 0 {
        // Somebody waits here while another CPU sleeps: that one looks for work when it wakes.
        let idle = IDLE.load(Ordering::Relaxed) & ACTIVE.load(Ordering::Relaxed);
        if idle != 0 {
            prod_cpu(idle.trailing_zeros() as usize);
        }
    }
    if of
        .ticks
        .fetch_add(1, Ordering::Relaxed)
        .is_multiple_of(BALANCE_TICKS)
    {
        balance(cpu);
    }
    ensure_tick(of, now);
}
