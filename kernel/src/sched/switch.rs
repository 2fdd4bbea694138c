//! Run queues and the context switch.
//!
//! Each CPU has a run queue: the feedback queue of waiting threads, and the running one.
//! `schedule` is the only place that leaves a thread. It holds the run queue's lock across
//! the switch; the thread that comes next releases it in `finish_switch`. So a thread that
//! was put back on its queue cannot be stolen before its registers are saved. A thread that
//! blocks is on no queue: wakers that come before its registers are saved leave a note in
//! its wake state, and `finish_switch` queues it.
//!
//! Lock order: `Thread::wake`, then run queues (the lower CPU first). Timers are armed
//! with neither held.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::account;
use super::mlfq::{IDLE_KEY, Key, Mlfq, Place, Quantum, SHORT_BURST_NS, TICK_NS, usual_burst};
use super::thread::{Thread, state};
use super::{reaper, space};
use crate::arch::{self, CpuMask, MAX_CPUS, cpu_id, irq_restore, irq_save, percpu};
use crate::sync::preempt::raw;
use crate::sync::{IrqLock, Rank};
use crate::time::now_ns;

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

/// What becomes of the thread that is switched out.
const FATE_QUEUED: u8 = 0;
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
pub(super) fn yield_turn() {
    schedule(Why::Yield);
}

/// Sleeps if the running thread still is declared asleep.
pub(super) fn block() {
    schedule(Why::Block);
}

/// Ends the running thread.
pub(super) fn exit() -> ! {
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
    let prev = unsafe { &*super::current_ptr() };
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

/// Notes when the running thread's quantum ends, if somebody waits for that.
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
pub(super) extern "C" fn thread_main(_arg: usize) -> ! {
    finish_switch();
    arch::irq::irq_enable();
    super::current().run_entry();
    super::exit_current()
}

/// Makes a thread of a sleep in `mask` runnable; whether it slept so. From any context.
pub(super) fn wake(t: &Thread, mask: u8) -> bool {
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
pub(super) fn start(t: &Thread) {
    let _wake = t.wake.lock();
    t.state.store(state::RUNNABLE, Ordering::Release);
    t.slept_at.store(u64::MAX, Ordering::Relaxed);
    t.cpu.store(cpu_id(), Ordering::Relaxed);
    enqueue_somewhere(t);
}

/// Puts a thread that is on no queue on the best one. Its wake lock is held.
fn enqueue_somewhere(t: &Thread) {
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
    let Some(waker) = (unsafe { super::current_ptr().as_ref() }) else {
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
fn prod_cpu(cpu: usize) {
    let irq = irq_save();
    if cpu == cpu_id() {
        percpu::this().need_resched.store(true, Ordering::Relaxed);
    } else if !queue_of(cpu).prodded.swap(true, Ordering::AcqRel) {
        arch::ipi::send(cpu, arch::ipi::Ipi::Reschedule);
    }
    irq_restore(irq);
}

/// Makes a thread that runs on another CPU pass the kernel's exit path.
pub(super) fn prod(t: &Thread) {
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

/// Takes a waiting thread from another CPU, without waiting for its lock: this CPU's is held.
fn steal_for(cpu: usize) -> Option<NonNull<Thread>> {
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
fn pull_for_idle(cpu: usize) -> bool {
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
fn balance(cpu: usize) {
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
fn ensure_tick(of: &RunQueue, now: u64) {
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

/// Wakes those whose work comes up in contexts that cannot wake anybody.
fn wake_background() {
    if crate::log::take_news() {
        super::LOG_READERS.wake_all();
    }
    if crate::mm::frame::wants_reclaim() {
        super::RECLAIMER.wake_all();
    }
}

/// Brings a running thread's run time up to date, for reports.
pub(super) fn charge_if_running(t: &Thread) {
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

/// Carries a changed nice level or class into the thread's entity.
pub(super) fn update_policy(t: &Thread) {
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
pub(super) fn move_to_allowed(t: &Thread) {
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
