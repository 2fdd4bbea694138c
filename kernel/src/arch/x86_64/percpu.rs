//! The block of per-CPU data that GS points to in kernel mode.
//!
//! Assembly in `entry.rs` uses the first fields by offset; keep them in step.

#[cfg(target_os = "none")]
use super::trap_frame::TrapFrame;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

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

const _: () = assert!(core::mem::offset_of!(CpuLocal, kernel_stack_top) == 8);
const _: () = assert!(core::mem::offset_of!(CpuLocal, user_rsp_scratch) == 16);

static BLOCKS: [AtomicPtr<CpuLocal>; super::MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; super::MAX_CPUS];

/// CPU `cpu`'s block; `None` before it is set up.
pub fn of(cpu: usize) -> Option<&'static CpuLocal> {
    let block = BLOCKS.get(cpu)?.load(Ordering::Acquire);
    // SAFETY: blocks are complete before they are registered, and live for ever.
    unsafe { block.as_ref() }
}

/// The memory of the blocks: one per CPU, written once by [`install`].
#[cfg(target_os = "none")]
struct Storage(core::cell::UnsafeCell<[core::mem::MaybeUninit<Padded>; super::MAX_CPUS]>);
#[cfg(target_os = "none")]
// SAFETY: each element is written once, by the CPU it belongs to, before it is shared.
unsafe impl Sync for Storage {}
#[cfg(target_os = "none")]
/// A block on cache lines of its own.
#[repr(C, align(128))]
struct Padded(CpuLocal);
#[cfg(target_os = "none")]
static STORAGE: Storage = Storage(core::cell::UnsafeCell::new(
    [const { core::mem::MaybeUninit::uninit() }; super::MAX_CPUS],
));

/// Makes the running CPU number `cpu` and points its GS at its block.
///
/// # Safety
/// First thing on each CPU, once, with interrupts off; `cpu` is below `MAX_CPUS` and no
/// other CPU's. `stack_top` is the top of the stack this CPU starts on.
#[cfg(target_os = "none")]
pub unsafe fn install(cpu: usize, apic_id: u32, stack_top: u64) {
    use core::cell::Cell;
    use core::sync::atomic::{AtomicBool, AtomicU32};
    // SAFETY: the element is this CPU's alone and not yet shared.
    let block = unsafe {
        let padded = (*STORAGE.0.get())[cpu].as_mut_ptr();
        padded.write(Padded(CpuLocal {
            self_ptr: padded.cast(),
            kernel_stack_top: Cell::new(stack_top),
            user_rsp_scratch: Cell::new(0),
            cpu: cpu as u32,
            apic_id,
            preempt_count: AtomicU32::new(0),
            need_resched: AtomicBool::new(false),
            current: AtomicPtr::new(core::ptr::null_mut()),
        }));
        padded.cast::<CpuLocal>()
    };
    // SAFETY: GS is for per-CPU data in kernel mode; user mode's is kept in the other MSR.
    unsafe {
        super::regs::wrmsr(super::regs::GS_BASE, block as u64);
        super::regs::wrmsr(super::regs::KERNEL_GS_BASE, 0);
    }
    BLOCKS[cpu].store(block, Ordering::Release);
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

/// The running thread, as `sched` stored it in [`CpuLocal::current`]. One instruction: a
/// migration cannot come between finding the block and reading it.
#[cfg(target_os = "none")]
#[inline]
pub fn current_ptr() -> *const () {
    let ptr: *const ();
    // SAFETY: GS points to this CPU's block; the field is a pointer.
    unsafe {
        core::arch::asm!("mov {}, gs:[{}]", out(reg) ptr,
            const core::mem::offset_of!(CpuLocal, current),
            options(nostack, preserves_flags, readonly));
    }
    ptr
}

/// The frame of the interrupt that each CPU handles; dangling when it handles none.
#[cfg(target_os = "none")]
static INTERRUPTED: [AtomicPtr<TrapFrame>; super::MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; super::MAX_CPUS];

/// Runs `handle`, which handles the interrupt that saved `frame`. Interrupts are off.
#[cfg(target_os = "none")]
#[inline]
pub fn interrupted_at(frame: &TrapFrame, handle: impl FnOnce()) {
    let current = &INTERRUPTED[super::cpu_id()];
    current.store(core::ptr::from_ref(frame).cast_mut(), Ordering::Relaxed);
    handle();
    current.store(core::ptr::null_mut(), Ordering::Relaxed);
}

/// Gives `look` what the interrupt that this CPU handles interrupted; `None` when it handles none.
/// Interrupts are off.
#[cfg(target_os = "none")]
#[inline]
pub fn interrupted<R>(look: impl FnOnce(&TrapFrame) -> R) -> Option<R> {
    let frame = INTERRUPTED[super::cpu_id()].load(Ordering::Relaxed);
    // SAFETY: null, or the frame that `interrupted_at` on this CPU borrows until it returns;
    // handlers do not move to another CPU.
    unsafe { frame.as_ref() }.map(look)
}

/// Whether the interrupt that this CPU handles came in user mode: for sampled CPU times.
/// Interrupts are off.
#[cfg(target_os = "none")]
#[inline]
pub fn interrupted_user() -> bool {
    interrupted(TrapFrame::from_user).unwrap_or(false)
}
