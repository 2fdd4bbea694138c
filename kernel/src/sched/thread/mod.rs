//! A thread: a kernel stack, saved registers, scheduling state.
//!
//! Here is what it holds and how it starts; `sleep`, `policy`, `usage` and `user` are what
//! others ask of it, `current` finds the running one.
//!
//! Who may touch what:
//! - atomics: anybody;
//! - `wake`'s content: under that lock (rank `Thread`);
//! - `links`, `entity`, `queued`: under the lock of the run queue that `cpu` names;
//! - `context`, `fpu`, `space`, `entry`: the thread itself while it runs, and the CPU that
//!   switches it in or out (interrupts off).

mod current;
mod policy;
mod sleep;
mod usage;
mod user;

#[cfg(not(target_os = "none"))]
pub(super) use current::host_thread;
pub use current::{Current, current, exit_current, spawn_kernel};
pub(super) use sleep::{SleepKind, WakeState, state};
pub use user::UserSpace;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use crate::arch::CpuMask;
use crate::arch::context::Context;
use crate::arch::fpu::FpuState;
use crate::error::{Errno, Result};
use crate::sched::list::{Linked, Links};
use crate::sched::mlfq::{Class, Entity, Schedulable};
use crate::sync::{IrqLock, Rank};
use policy::pack_class;

/// `Thread::cpu` of a thread that never ran.
const NO_CPU: usize = usize::MAX;

/// A schedulable thread of execution.
pub struct Thread {
    name: Cow<'static, str>,
    ext: Option<Arc<dyn Any + Send + Sync>>,
    pub(super) is_idle: bool,

    /// See [`state`]. The thread itself declares sleep; wakers end it, holding `wake`.
    pub(super) state: AtomicU8,
    /// See `sleep::attention`.
    attention: AtomicU8,
    /// Ticks ask for a look at its CPU time.
    watched: AtomicBool,
    killed: AtomicBool,
    pub(super) wake: IrqLock<WakeState>,

    links: Links<Thread>,
    pub(super) entity: Entity,
    pub(super) queued: Cell<bool>,

    /// Where it runs, waits to run, or last ran. Changes under the run-queue lock of the new
    /// CPU (and of the old one, while queued there).
    pub(super) cpu: AtomicUsize,
    affinity: AtomicU64,
    nice: AtomicI8,
    /// Packed [`Class`].
    class: AtomicU32,
    /// Real-time priority lent by who waits for it; 0 for none.
    lent: AtomicU8,
    /// SCHED_RESET_ON_FORK.
    resets_on_fork: AtomicBool,

    pub(super) context: UnsafeCell<Context>,
    pub(super) fpu: UnsafeCell<Option<FpuState>>,
    /// CPU whose registers hold `fpu` if nobody else's were loaded there since.
    pub(super) fpu_cpu: AtomicUsize,
    pub(super) fs_base: AtomicU64,
    pub(super) gs_base: AtomicU64,
    pub(super) space: UnsafeCell<Option<Arc<dyn UserSpace>>>,
    entry: UnsafeCell<Option<Entry>>,
    #[cfg(target_os = "none")]
    stack: IrqLock<Option<crate::mm::stack::KernelStack>>,
    pub(super) stack_top: u64,

    /// Run time in all, up to the last charge.
    pub(super) runtime_ns: AtomicU64,
    /// Ticks that met it in user mode and in the kernel.
    pub(super) user_ticks: AtomicU32,
    pub(super) system_ticks: AtomicU32,
    /// (user, system) time reported last: neither ever goes back.
    reported: IrqLock<(u64, u64)>,
    /// When it went to sleep.
    pub(super) slept_at: AtomicU64,
    /// Run time when it last woke, and how long it usually runs before it sleeps again.
    pub(super) woke_at_runtime: AtomicU64,
    pub(super) usual_burst_ns: AtomicU64,
    /// It has little left to do before it ends.
    pub(super) ends: AtomicBool,
    /// Switches it asked for, and those it did not.
    pub(super) voluntary_switches: AtomicU64,
    pub(super) involuntary_switches: AtomicU64,
}

/// What a thread runs.
type Entry = Box<dyn FnOnce() + Send>;

// SAFETY: every field that is not Sync by itself is guarded as the head of this file says.
unsafe impl Send for Thread {}

// SAFETY: as above.
unsafe impl Sync for Thread {}

// SAFETY: one field, always the same.
unsafe impl Linked for Thread {
    fn links(&self) -> &Links<Thread> {
        &self.links
    }
}

impl Schedulable for Thread {
    fn entity(&self) -> &Entity {
        &self.entity
    }
}

/// Threads that exist: started or not, up to their last reference.
static NR_THREADS: AtomicUsize = AtomicUsize::new(0);

/// How many threads exist, idle ones included.
pub fn nr_threads() -> usize {
    NR_THREADS.load(Ordering::Relaxed)
}

impl Thread {
    /// A new thread that is not yet runnable. It will run `entry` on its own kernel stack,
    /// and end when that returns. `ext` is what the layer above attaches for ever (a
    /// `process::Task`). A thread that is to enter user mode has a space or an `ext` now.
    ///
    /// Locals of an `entry` that never returns are never dropped: one that ends in user mode is
    /// a plain function.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        space: Option<Arc<dyn UserSpace>>,
        ext: Option<Arc<dyn Any + Send + Sync>>,
        entry: Entry,
    ) -> Result<Arc<Thread>> {
        let fpu = if space.is_some() || ext.is_some() {
            Some(FpuState::initial().map_err(|_| Errno::ENOMEM)?)
        } else {
            None
        };
        let is_user = ext.is_some();
        let mut thread = Self::blank(name.into(), ext, fpu);
        if is_user && crate::sched::has_current() {
            thread.inherit_scheduling(&crate::sched::current());
        }
        *thread.space.get_mut() = space;
        *thread.entry.get_mut() = Some(entry);
        #[cfg(target_os = "none")]
        {
            let stack = crate::mm::stack::KernelStack::alloc()?;
            thread.stack_top = stack.top().as_u64();
            thread.stack = IrqLock::new(Rank::Leaf, Some(stack));
        }
        let thread = Arc::new(thread);
        #[cfg(target_os = "none")]
        // SAFETY: the stack is new and the thread's own until the reaper takes it; the
        // argument stays valid because a started thread holds a reference to itself.
        unsafe {
            *thread.context.get() = Context::prepare(
                thread.stack_top,
                crate::sched::runqueue::switch::thread_main,
                Arc::as_ptr(&thread) as usize,
            );
        }
        Ok(thread)
    }

    fn blank(
        name: Cow<'static, str>,
        ext: Option<Arc<dyn Any + Send + Sync>>,
        fpu: Option<FpuState>,
    ) -> Thread {
        NR_THREADS.fetch_add(1, Ordering::Relaxed);
        Thread {
            name,
            ext,
            is_idle: false,
            state: AtomicU8::new(state::NEW),
            attention: AtomicU8::new(0),
            watched: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            wake: IrqLock::new(Rank::Thread, WakeState::default()),
            links: Links::new(),
            entity: Entity::new(0),
            queued: Cell::new(false),
            cpu: AtomicUsize::new(NO_CPU),
            affinity: AtomicU64::new(CpuMask::MAX),
            nice: AtomicI8::new(0),
            class: AtomicU32::new(pack_class(Class::Normal)),
            lent: AtomicU8::new(0),
            resets_on_fork: AtomicBool::new(false),
            context: UnsafeCell::new(Context::empty()),
            fpu: UnsafeCell::new(fpu),
            fpu_cpu: AtomicUsize::new(NO_CPU),
            fs_base: AtomicU64::new(0),
            gs_base: AtomicU64::new(0),
            space: UnsafeCell::new(None),
            entry: UnsafeCell::new(None),
            #[cfg(target_os = "none")]
            stack: IrqLock::new(Rank::Leaf, None),
            stack_top: 0,
            runtime_ns: AtomicU64::new(0),
            user_ticks: AtomicU32::new(0),
            system_ticks: AtomicU32::new(0),
            reported: IrqLock::new(Rank::Leaf, (0, 0)),
            slept_at: AtomicU64::new(0),
            woke_at_runtime: AtomicU64::new(0),
            usual_burst_ns: AtomicU64::new(0),
            ends: AtomicBool::new(false),
            voluntary_switches: AtomicU64::new(0),
            involuntary_switches: AtomicU64::new(0),
        }
    }

    /// The thread that a CPU already runs on its boot stack.
    #[cfg(target_os = "none")]
    pub(super) fn new_idle(cpu: usize) -> Arc<Thread> {
        let mut thread = Self::blank("idle".into(), None, None);
        thread.is_idle = true;
        thread.affinity = AtomicU64::new(1 << cpu);
        thread.cpu = AtomicUsize::new(cpu);
        thread.state = AtomicU8::new(state::RUNNABLE);
        Arc::new(thread)
    }

    /// Makes a new thread runnable. Once only.
    pub fn start(self: &Arc<Self>) {
        if self
            .state
            .compare_exchange(
                state::NEW,
                state::UNINTERRUPTIBLE,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_err()
        {
            return;
        }
        // The scheduler's own reference, which the reaper gives back.
        let _ = Arc::into_raw(self.clone());
        #[cfg(target_os = "none")]
        crate::sched::runqueue::wakeup::start(self);
    }

    /// What the layer above attached.
    pub fn ext<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.ext.as_deref()?.downcast_ref()
    }

    /// The name it was made with, for reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the first switch to the thread runs.
    #[cfg(target_os = "none")]
    pub(super) fn run_entry(&self) {
        // SAFETY: the running thread's own field.
        if let Some(entry) = unsafe { (*self.entry.get()).take() } {
            entry();
        }
    }

    /// Takes the stack of a thread that ended and is off it.
    #[cfg(target_os = "none")]
    pub(super) fn take_stack(&self) -> Option<crate::mm::stack::KernelStack> {
        self.stack.lock().take()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        NR_THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}
