//! Interrupts from CPU to CPU: reschedule, TLB shootdown, calls, stop.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::{CpuMask, MAX_CPUS, cpu_id};

/// Why one CPU interrupts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ipi {
    /// Look for a better thread, or pass the kernel's exit path.
    Reschedule = 0xf0,
    /// Flush TLB entries: [`super::tlb::shootdown`].
    Shootdown = 0xf1,
    /// Run a function: [`call`].
    Call = 0xf2,
    /// Stop for ever.
    Stop = 0xf3,
}

/// CPUs that take IPIs.
static ONLINE: AtomicU64 = AtomicU64::new(1);

/// The CPUs that run.
pub fn online() -> CpuMask {
    ONLINE.load(Ordering::Acquire)
}

/// Marks a CPU as running: it answers IPIs from now on.
pub fn set_online(cpu: usize) {
    ONLINE.fetch_or(1 << cpu, Ordering::AcqRel);
}

/// Interrupts CPU `cpu`. Nothing happens when it does not run.
pub fn send(cpu: usize, ipi: Ipi) {
    if cpu < MAX_CPUS && online() & 1 << cpu != 0 {
        #[cfg(target_os = "none")]
        super::apic::send_ipi(cpu, ipi as u8);
        #[cfg(not(target_os = "none"))]
        let _ = ipi;
    }
}

/// Interrupts every CPU of `mask` but this one.
pub fn send_mask(mask: CpuMask, ipi: Ipi) {
    let irq = super::irq_save();
    let mut rest = mask & online() & !(1 << cpu_id());
    while rest != 0 {
        let cpu = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        send(cpu, ipi);
    }
    super::irq_restore(irq);
}

/// Interrupts every running CPU but this one.
pub fn broadcast(ipi: Ipi) {
    send_mask(CpuMask::MAX, ipi);
}

/// A call in flight: one at a time, `BUSY` says so.
static BUSY: AtomicBool = AtomicBool::new(false);
static FUNCTION: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static ARGUMENT: AtomicUsize = AtomicUsize::new(0);
/// CPUs that have not begun their part, and CPUs that have not ended it.
static UNCLAIMED: AtomicU64 = AtomicU64::new(0);
static PENDING: AtomicU64 = AtomicU64::new(0);

/// Runs `function(arg)` on every running CPU of `mask`, this one included if it is in it, in
/// interrupt context, and returns when all did. Not from interrupt context, and not with
/// a lock held that a handler takes.
pub fn call(mask: CpuMask, function: fn(usize), arg: usize) {
    while BUSY
        .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        super::cpu::relax();
    }
    let irq = super::irq_save();
    let me: CpuMask = 1 << cpu_id();
    let others = mask & online() & !me;
    FUNCTION.store(function as *mut (), Ordering::Relaxed);
    ARGUMENT.store(arg, Ordering::Relaxed);
    PENDING.store(others, Ordering::Relaxed);
    UNCLAIMED.store(others, Ordering::Release);
    send_mask(others, Ipi::Call);
    if mask & me != 0 {
        function(arg);
    }
    while PENDING.load(Ordering::Acquire) != 0 {
        super::cpu::relax();
    }
    BUSY.store(false, Ordering::Release);
    super::irq_restore(irq);
}

/// Does this CPU's part of a [`call`] in flight, if it has one. Interrupts are off.
pub fn answer_call() {
    let me: CpuMask = 1 << cpu_id();
    // Claimed at once, so that a wait inside the function does not begin it again.
    if UNCLAIMED.load(Ordering::Relaxed) & me == 0
        || UNCLAIMED.fetch_and(!me, Ordering::AcqRel) & me == 0
    {
        return;
    }
    let function = FUNCTION.load(Ordering::Relaxed);
    let arg = ARGUMENT.load(Ordering::Relaxed);
    // SAFETY: UNCLAIMED named this CPU, so `call` stored a `fn(usize)` before and waits.
    (unsafe { core::mem::transmute::<*mut (), fn(usize)>(function) })(arg);
    PENDING.fetch_and(!me, Ordering::Release);
}
