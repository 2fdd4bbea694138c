//! What user mode sees of a CPU while the thread runs there: address space, FS and GS, FPU.
//! Loading it at a switch is [`crate::sched::space`]'s.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::Thread;
use crate::arch::fpu::FpuState;

/// An address space as the context switch sees it (implemented by `vm`).
pub trait UserSpace: Send + Sync {
    /// Loads the page tables on this CPU. Interrupts are off. Called when switching to a
    /// thread with another space than the CPU has loaded.
    fn activate(&self, cpu: usize);
    /// This CPU no longer uses the space (another one, or the kernel's, was loaded).
    fn deactivate(&self, cpu: usize);
    /// This CPU keeps the space loaded but runs a kernel thread, which follows no user address:
    /// it need not be interrupted to forget translations. Interrupts are off.
    fn enter_lazy(&self, cpu: usize);
    /// This CPU is about to run a thread of the space again: it must forget what it missed.
    /// Interrupts are off. `deactivate` ends laziness as well.
    fn leave_lazy(&self, cpu: usize);
}

impl Thread {
    fn is_current(&self) -> bool {
        core::ptr::eq(crate::sched::current_ptr(), self)
    }

    /// Thread-local storage base (FS) of a user thread; takes effect at once for the caller.
    /// The caller has checked that `base` is a user address.
    pub fn set_fs_base(&self, base: u64) {
        self.fs_base.store(base, Ordering::Relaxed);
        if self.is_current() {
            crate::arch::context::set_fs_base(base);
        }
    }

    /// See [`Thread::set_fs_base`].
    pub fn fs_base(&self) -> u64 {
        self.fs_base.load(Ordering::Relaxed)
    }

    /// GS base of a user thread, as [`Thread::set_fs_base`].
    pub fn set_gs_base(&self, base: u64) {
        self.gs_base.store(base, Ordering::Relaxed);
        if self.is_current() {
            crate::arch::context::set_user_gs_base(base);
        }
    }

    /// See [`Thread::set_gs_base`].
    pub fn gs_base(&self) -> u64 {
        self.gs_base.load(Ordering::Relaxed)
    }

    /// Replaces the running thread's address space (execve, exit: `None`). Caller is it.
    /// May sleep: the old space may end here.
    pub fn replace_space(&self, space: Option<Arc<dyn UserSpace>>) {
        debug_assert!(self.is_current());
        #[cfg(target_os = "none")]
        crate::sched::space::replace(self, space);
        #[cfg(not(target_os = "none"))]
        drop(space);
    }

    /// Copies the caller's FPU/SSE/AVX state into this not yet started thread (fork).
    pub fn inherit_fpu_from_current(&self) {
        // SAFETY: not started, so only its maker uses the area.
        let own = unsafe { &mut *self.fpu.get() };
        if let Some(own) = own {
            crate::sched::current().with_fpu(|state| own.copy_from(state));
        }
    }

    /// Gives the running thread the ABI's initial FPU/SSE/AVX registers (execve, a signal
    /// handler). Caller is it.
    pub fn reset_fpu(&self) {
        debug_assert!(self.is_current());
        // SAFETY: the running thread's own field; only looked at.
        if unsafe { (*self.fpu.get()).is_some() } {
            crate::arch::fpu::load_initial();
        }
    }

    /// Shows the running thread's FPU state, saved now. Caller is it.
    fn with_fpu<R>(&self, f: impl FnOnce(&FpuState) -> R) -> Option<R> {
        debug_assert!(self.is_current());
        // SAFETY: the running thread's own area: the context switch saves into it only while
        // this thread does not run, and stores the same registers.
        let state = unsafe { (*self.fpu.get()).as_mut() }?;
        let irq = crate::arch::irq_save();
        state.save();
        crate::arch::irq_restore(irq);
        Some(f(state))
    }
}
