//! A thread: a kernel stack, saved registers, scheduling state.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::marker::PhantomData;

use crate::error::Result;

/// An address space as the context switch sees it (implemented by `vm`).
pub trait UserSpace: Send + Sync {
    /// Loads the page tables on this CPU. Interrupts are off. Called when switching to a
    /// thread with another space than the CPU has loaded.
    fn activate(&self, cpu: usize);
    /// This CPU no longer uses the space (another one, or the kernel's, was loaded).
    fn deactivate(&self, cpu: usize);
}

/// A schedulable thread of execution.
pub struct Thread {
    _private: (),
}

impl Thread {
    /// A new thread that is not yet runnable. It will run `entry` on its own kernel stack.
    /// `ext` is what the layer above attaches for ever (a `process::Task`).
    pub fn new(
        _name: &str,
        _space: Option<Arc<dyn UserSpace>>,
        _ext: Option<Arc<dyn Any + Send + Sync>>,
        _entry: Box<dyn FnOnce() + Send>,
    ) -> Result<Arc<Thread>> {
        todo!()
    }
    /// Makes a new thread runnable. Once only.
    pub fn start(self: &Arc<Self>) {
        todo!()
    }
    /// What the layer above attached.
    pub fn ext<T: Any + Send + Sync>(&self) -> Option<&T> {
        todo!()
    }
    /// Kernel-wide unique number, never reused.
    pub fn id(&self) -> u64 {
        todo!()
    }
    /// Tells the thread that a signal (or a kill) wants attention: an interruptible wait
    /// ends, and a thread running on another CPU passes the kernel's exit path soon (IPI).
    pub fn interrupt(&self) {
        todo!()
    }
    /// Whether attention is wanted. The signal code clears it when nothing is left to do.
    pub fn is_interrupted(&self) -> bool {
        todo!()
    }
    /// Nothing is left to attend to.
    pub fn clear_interrupt(&self) {
        todo!()
    }
    /// As [`Thread::interrupt`], and ends killable waits too: the thread is to die.
    pub fn kill(&self) {
        todo!()
    }
    /// CPU time used so far: (user ns, system ns).
    pub fn cpu_time(&self) -> (u64, u64) {
        todo!()
    }
    /// Nice level, -20 to 19.
    pub fn nice(&self) -> i8 {
        todo!()
    }
    /// Sets the nice level; clamped.
    pub fn set_nice(&self, _nice: i8) {
        todo!()
    }
    /// CPUs the thread may run on.
    pub fn affinity(&self) -> crate::arch::CpuMask {
        todo!()
    }
    /// Restricts the thread to these CPUs; moves it when it runs elsewhere. EINVAL if none runs.
    pub fn set_affinity(&self, _mask: crate::arch::CpuMask) -> Result<()> {
        todo!()
    }
    /// The letter ps shows: R, S (interruptible), D (not), T, Z.
    pub fn state_letter(&self) -> u8 {
        todo!()
    }
    /// Thread-local storage base (FS) of a user thread; takes effect at once for the caller.
    pub fn set_fs_base(&self, _base: u64) {
        todo!()
    }
    /// See [`Thread::set_fs_base`].
    pub fn fs_base(&self) -> u64 {
        todo!()
    }
    /// Replaces the running thread's address space (execve, exit: `None`). Caller is it.
    pub fn replace_space(&self, _space: Option<Arc<dyn UserSpace>>) {
        todo!()
    }
    /// Copies the caller's FPU/SSE/AVX state into this not yet started thread (fork).
    pub fn inherit_fpu_from_current(&self) {
        todo!()
    }
    /// Copies the running thread's FPU/SSE/AVX registers to `out`, in the layout of
    /// `arch::fpu::FpuState::bytes` (signal frames). Caller is the thread. ENOMEM.
    pub fn fpu_image(&self, _out: &mut alloc::vec::Vec<u8>) -> Result<()> {
        todo!()
    }
    /// Loads FPU/SSE/AVX registers that a program wrote (rt_sigreturn; see
    /// `arch::fpu::FpuState::set_from_untrusted`). Caller is the thread.
    pub fn set_fpu_untrusted(&self, _bytes: &[u8]) {
        todo!()
    }
    /// GS base of a user thread; takes effect at once for the caller.
    pub fn set_gs_base(&self, _base: u64) {
        todo!()
    }
    /// See [`Thread::set_gs_base`].
    pub fn gs_base(&self) -> u64 {
        todo!()
    }
    /// Resets the running thread's FPU/SSE/AVX state to the ABI's initial one (execve).
    pub fn reset_fpu(&self) {
        todo!()
    }
}

/// The running thread. Not `Send`: it is only true on this CPU's stack.
pub struct Current {
    thread: Arc<Thread>,
    _not_send: PhantomData<*mut ()>,
}

impl core::ops::Deref for Current {
    type Target = Arc<Thread>;
    fn deref(&self) -> &Arc<Thread> {
        &self.thread
    }
}

/// The running thread.
pub fn current() -> Current {
    todo!()
}

/// Starts a kernel thread.
pub fn spawn_kernel(_name: &str, _entry: impl FnOnce() + Send + 'static) -> Result<Arc<Thread>> {
    todo!()
}

/// Ends the running thread. Its stack is freed once it is off it.
pub fn exit_current() -> ! {
    todo!()
}
