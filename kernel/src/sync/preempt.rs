//! Preemption control: while the count is above 0 the running thread keeps its CPU.

use core::marker::PhantomData;

/// Preemption is off while one of these lives.
pub struct PreemptGuard {
    /// Belongs to one CPU: not `Send`.
    _not_send: PhantomData<*mut ()>,
}

/// Turns preemption off until the guard drops.
#[inline]
pub fn preempt_disable() -> PreemptGuard {
    #[cfg(target_os = "none")]
    raw::raise();
    PreemptGuard {
        _not_send: PhantomData,
    }
}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        #[cfg(target_os = "none")]
        raw::lower();
    }
}

/// Whether the running thread may sleep: no spin lock held, not in an interrupt handler.
pub fn may_sleep() -> bool {
    #[cfg(target_os = "none")]
    {
        raw::count() == 0
    }
    #[cfg(not(target_os = "none"))]
    true
}

/// The bare count, for the context switch and interrupt entry only.
#[cfg(target_os = "none")]
pub mod raw {
    use crate::arch::{irqs_enabled, percpu};
    use core::sync::atomic::Ordering::Relaxed;

    const OFFSET: usize = core::mem::offset_of!(percpu::CpuLocal, preempt_count);
    const RESCHED: usize = core::mem::offset_of!(percpu::CpuLocal, need_resched);

    unsafe extern "Rust" {
        /// `sched`'s preemption point: switches threads if one is due. Provided by
        /// `sched::preempt`, reached by symbol because this layer lies below.
        safe fn oxbow_preempt_point();
    }

    /// Adds one. A single instruction on this CPU's own counter, so an interrupt or a
    /// migration cannot fall between reading and writing.
    #[inline]
    pub fn raise() {
        // SAFETY: GS points to this CPU's block; the field is only ever changed by its CPU.
        unsafe {
            core::arch::asm!("inc dword ptr gs:[{}]", const OFFSET, options(nostack));
        }
    }

    /// Takes one away; at 0, with interrupts on, runs a reschedule that became due.
    #[inline]
    pub fn lower() {
        // SAFETY: as in `raise`; the flags are those of the decrement.
        unsafe {
            core::arch::asm!(
                "dec dword ptr gs:[{count}]",
                "jnz 2f",
                "cmp byte ptr gs:[{resched}], 0",
                "jne {due}",
                "2:",
                count = const OFFSET,
                resched = const RESCHED,
                due = label { reschedule_if_allowed() },
                options(nostack)
            );
        }
    }

    /// The count fell to 0 on a CPU that should reschedule. The thread may have moved since:
    /// looks again.
    #[cold]
    #[inline(never)]
    fn reschedule_if_allowed() {
        let this = percpu::this();
        if this.need_resched.load(Relaxed)
            && this.preempt_count.load(Relaxed) == 0
            && irqs_enabled()
        {
            oxbow_preempt_point();
        }
    }

    /// Takes one away and nothing else.
    #[inline]
    pub fn lower_no_resched() {
        // SAFETY: as in `raise`.
        unsafe {
            core::arch::asm!("dec dword ptr gs:[{}]", const OFFSET, options(nostack));
        }
    }

    /// The count.
    #[inline]
    pub fn count() -> u32 {
        let count: u32;
        // One instruction: between finding the block and reading it the thread could migrate,
        // and would see another CPU's count.
        // SAFETY: as in `raise`.
        unsafe {
            core::arch::asm!("mov {:e}, gs:[{}]", out(reg) count, const OFFSET,
                options(nostack, preserves_flags, readonly));
        }
        count
    }
}
