//! The block of per-CPU data that GS points to in kernel mode.
//!
//! Assembly in `entry.rs` uses the first fields by offset; keep them in step.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32};

/// Per-CPU data of layer 0. Higher layers keep theirs in `sync::percpu::PerCpu`.
#[repr(C)]
pub struct CpuLocal {
    /// Address of this block: `mov rax, gs:0`.
    pub self_ptr: *const CpuLocal,
    /// Stack that a system call or interrupt from user mode starts on (gs:8).
    pub kernel_stack_top: core::cell::Cell<u64>,
    /// User stack pointer while `syscall` entry has no stack yet (gs:16).
    pub user_rsp_scratch: core::cell::Cell<u64>,
    /// Index of this CPU.
    pub cpu: u32,
    /// Local APIC id.
    pub apic_id: u32,
    /// Above 0: this CPU's thread must not be preempted (held spin locks, interrupts).
    pub preempt_count: AtomicU32,
    /// Ask for a reschedule at the next preemption point.
    pub need_resched: AtomicBool,
    /// The running thread, owned by `sched`.
    pub current: AtomicPtr<()>,
}

// SAFETY: only the owning CPU touches the `Cell`s; the rest is atomic or constant.
unsafe impl Sync for CpuLocal {}

/// This CPU's block.
#[cfg(target_os = "none")]
#[inline]
pub fn this() -> &'static CpuLocal {
    let ptr: *const CpuLocal;
    // SAFETY: kernel mode runs with GS at this CPU's block from the first Rust line on
    // (boot.rs); the block lives for ever.
    unsafe {
        core::arch::asm!("mov {}, gs:0", out(reg) ptr, options(nostack, preserves_flags, readonly));
        &*ptr
    }
}
