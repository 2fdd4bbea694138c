//! The executing CPU: identity, time-stamp counter, pausing and halting.

use core::sync::atomic::{AtomicUsize, Ordering};

static NR_CPUS: AtomicUsize = AtomicUsize::new(1);

/// Index of this CPU, 0 for the one that booted. Stable only while preemption is off.
#[inline]
pub fn cpu_id() -> usize {
    #[cfg(target_os = "none")]
    {
        super::percpu::this().cpu as usize
    }
    #[cfg(not(target_os = "none"))]
    0
}

/// How many CPUs run.
pub fn nr_cpus() -> usize {
    NR_CPUS.load(Ordering::Acquire)
}

/// Called once by SMP start-up for each CPU that came up.
pub fn set_nr_cpus(n: usize) {
    NR_CPUS.store(n, Ordering::Release);
}

/// The time-stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: rdtsc has no side effect and exists on every x86_64.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Enables interrupts and halts until one comes; returns with interrupts enabled.
/// The enabling and the halt are one step, so that no wake-up is lost between them.
pub fn enable_and_halt() {
    #[cfg(target_os = "none")]
    // SAFETY: kernel mode; `sti` takes effect after the next instruction.
    unsafe {
        core::arch::asm!("sti", "hlt", options(nomem, nostack))
    };
}

/// One turn of a busy wait: eases the CPU, and answers TLB shootdowns and calls that other
/// CPUs wait for, so that a CPU which spins with interrupts off never holds them up.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
    #[cfg(target_os = "none")]
    {
        super::tlb::answer();
        if !super::irqs_enabled() {
            super::ipi::answer_call();
        }
    }
}

/// Stops this CPU for good.
pub fn halt_forever() -> ! {
    loop {
        #[cfg(target_os = "none")]
        // SAFETY: stopping touches no memory.
        unsafe {
            core::arch::asm!("cli", "hlt", options(nomem, nostack))
        };
        #[cfg(not(target_os = "none"))]
        core::hint::spin_loop();
    }
}

/// The APIC id that the CPU was born with (CPUID leaf 0Bh, else 1).
pub fn initial_apic_id() -> u32 {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    if __cpuid(0).eax >= 0xb {
        let leaf = __cpuid_count(0xb, 0);
        if leaf.ebx != 0 {
            return leaf.edx;
        }
    }
    __cpuid(1).ebx >> 24
}
