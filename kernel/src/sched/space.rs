//! What user mode sees of a CPU: page tables, FPU registers, FS and GS bases, entry stack.
//!
//! A kernel thread runs on whatever address space the CPU has loaded ("lazy"): going idle and
//! back costs no TLB flush. The CPU holds no reference to a loaded space. Instead, a thread
//! that lets go of its space first makes every CPU that has it loaded lazily go to the
//! kernel's page tables ([`replace`]); so a loaded space always has a thread that keeps it.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::thread::{Thread, UserSpace};
use crate::arch::fpu::FpuState;
use crate::arch::{self, CpuMask, MAX_CPUS, cpu_id, irq_restore, irq_save};

/// What one CPU has loaded. Written by that CPU, interrupts off.
struct Loaded {
    /// Address of the space, 0 for the kernel's own page tables. Others may read it.
    key: AtomicUsize,
    /// The space of `key`.
    space: UnsafeCell<Option<NonNull<dyn UserSpace>>>,
    /// The CPU runs a kernel thread and keeps the space loaded.
    lazy: AtomicBool,
    /// The thread whose FPU registers and bases the CPU has; compared, never followed.
    user: AtomicPtr<Thread>,
    /// CR3 of the kernel's own page tables.
    kernel_cr3: AtomicU64,
}

// SAFETY: `space` is touched by its own CPU only, with interrupts off.
unsafe impl Sync for Loaded {}

static LOADED: [Loaded; MAX_CPUS] = [const {
    Loaded {
        key: AtomicUsize::new(0),
        space: UnsafeCell::new(None),
        lazy: AtomicBool::new(false),
        user: AtomicPtr::new(core::ptr::null_mut()),
        kernel_cr3: AtomicU64::new(0),
    }
}; MAX_CPUS];

fn loaded(cpu: usize) -> &'static Loaded {
    &LOADED[cpu % MAX_CPUS]
}

fn key_of(space: &Arc<dyn UserSpace>) -> usize {
    Arc::as_ptr(space).cast::<()>().addr()
}

/// Remembers the page tables that the CPU starts with: the kernel's.
pub(super) fn init_cpu() {
    loaded(cpu_id())
        .kernel_cr3
        .store(arch::regs::cr3(), Ordering::Relaxed);
}

/// Loads `next`'s address space, if it has one and it is not loaded. Interrupts are off.
///
/// # Safety
/// `next` is about to run on this CPU, `cpu`.
pub(super) unsafe fn switch_to(cpu: usize, next: &Thread) {
    // SAFETY: only the thread itself changes the field, and it does not run yet.
    let space = unsafe { (*next.space.get()).as_ref() };
    let slot = loaded(cpu);
    let Some(space) = space else {
        // SAFETY: this CPU's slot, interrupts off; a loaded space lives.
        if let Some(kept) = unsafe { *slot.space.get() }
            && !slot.lazy.swap(true, Ordering::Relaxed)
        {
            // SAFETY: as above.
            unsafe { kept.as_ref() }.enter_lazy(cpu);
        }
        return;
    };
    let was_lazy = slot.lazy.swap(false, Ordering::Relaxed);
    if slot.key.load(Ordering::Relaxed) == key_of(space) {
        if was_lazy {
            space.leave_lazy(cpu);
        }
        return;
    }
    space.activate(cpu);
    // The pointer is followed only while a thread keeps the space: see the head of the file.
    let fresh = NonNull::from(&**space);
    // SAFETY: this CPU's slot, interrupts off. The old space still lives: whoever lets go of
    // it waits for this CPU first.
    unsafe {
        let old = (*slot.space.get()).replace(fresh);
        slot.key.store(key_of(space), Ordering::Release);
        if let Some(old) = old {
            old.as_ref().deactivate(cpu);
        }
    }
}

/// Loads `next`'s FPU registers, bases and entry stack unless the CPU still has them.
/// Interrupts are off.
///
/// # Safety
/// `next` is about to run on this CPU, `cpu`, and `fpu` is its saved state.
pub(super) unsafe fn load_registers(cpu: usize, next: &Thread, fpu: &FpuState) {
    let slot = loaded(cpu);
    let ptr = core::ptr::from_ref(next).cast_mut();
    let unchanged = core::ptr::eq(slot.user.load(Ordering::Relaxed), ptr)
        && next.fpu_cpu.load(Ordering::Relaxed) == cpu;
    if unchanged {
        return;
    }
    fpu.restore();
    arch::context::set_fs_base(next.fs_base.load(Ordering::Relaxed));
    arch::context::set_user_gs_base(next.gs_base.load(Ordering::Relaxed));
    arch::context::set_kernel_stack(next.stack_top);
    slot.user.store(ptr, Ordering::Relaxed);
    next.fpu_cpu.store(cpu, Ordering::Relaxed);
}

/// Gives this CPU the kernel's page tables. Interrupts are off.
fn unload(cpu: usize) {
    let slot = loaded(cpu);
    let cr3 = slot.kernel_cr3.load(Ordering::Relaxed);
    // SAFETY: the kernel's page tables map everything the kernel uses, for ever. The slot is
    // this CPU's, interrupts are off, and the old space lives until we return.
    unsafe {
        if let Some(old) = (*slot.space.get()).take() {
            arch::regs::set_cr3(cr3);
            slot.lazy.store(false, Ordering::Relaxed);
            slot.key.store(0, Ordering::Release);
            old.as_ref().deactivate(cpu);
        }
    }
}

/// On a CPU that has the space `key` loaded lazily: lets go of it.
fn unload_if_lazy(key: usize) {
    let irq = irq_save();
    let cpu = cpu_id();
    if loaded(cpu).key.load(Ordering::Relaxed) == key {
        // SAFETY: the running thread's own field, read on its CPU with interrupts off.
        let own = unsafe { (*(*super::current_ptr()).space.get()).as_ref() };
        // A thread that runs on the space keeps it by itself.
        if own.map(key_of) != Some(key) {
            unload(cpu);
        }
    }
    irq_restore(irq);
}

/// Replaces the address space of the running thread `t`; the old one is let go, on every CPU,
/// before its reference is dropped. May sleep.
pub(super) fn replace(t: &Thread, new: Option<Arc<dyn UserSpace>>) {
    let irq = irq_save();
    // SAFETY: the running thread's own field; with interrupts off no switch reads it.
    let old = unsafe { core::mem::replace(&mut *t.space.get(), new) };
    let cpu = cpu_id();
    // SAFETY: `t` runs on this CPU.
    unsafe {
        match &*t.space.get() {
            Some(_) => switch_to(cpu, t),
            None => unload(cpu),
        }
    }
    irq_restore(irq);
    let Some(old) = old else {
        return;
    };
    let key = key_of(&old);
    let mut mask: CpuMask = 0;
    for (cpu, slot) in LOADED.iter().enumerate() {
        if slot.key.load(Ordering::Acquire) == key {
            mask |= 1 << cpu;
        }
    }
    if mask != 0 {
        arch::ipi::call(mask, unload_if_lazy, key);
    }
    drop(old);
}
