//! A thread: a kernel stack, saved registers, scheduling state.
//!
//! Who may touch what:
//! - atomics: anybody;
//! - `wake`'s content: under that lock (rank `Thread`);
//! - `links`, `entity`, `queued`: under the lock of the run queue that `cpu` names;
//! - `context`, `fpu`, `space`, `entry`: the thread itself while it runs, and the CPU that
//!   switches it in or out (interrupts off).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use super::list::{Linked, Links};
use super::mlfq::{Class, Entity, Schedulable};
use crate::arch::context::Context;
use crate::arch::fpu::FpuState;
use crate::arch::{CpuMask, TrapFrame};
use crate::error::{Errno, Result};
use crate::sync::{IrqLock, Rank};
use crate::time::TimerCallback;

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

/// What ends a sleep before its condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SleepKind {
    Interruptible = state::INTERRUPTIBLE,
    Killable = state::KILLABLE,
    Uninterruptible = state::UNINTERRUPTIBLE,
}

/// Values of `Thread::state`; the sleeping ones are bits, for masks.
pub(super) mod state {
    /// Running, or waiting on a run queue.
    pub const RUNNABLE: u8 = 0;
    pub const INTERRUPTIBLE: u8 = 1;
    pub const KILLABLE: u8 = 2;
    pub const UNINTERRUPTIBLE: u8 = 4;
    /// Any sleep.
    pub const SLEEPING: u8 = 7;
    /// Not yet started.
    pub const NEW: u8 = 8;
    pub const DEAD: u8 = 16;
}

/// How far a thread is from its CPU, for wakers.
#[derive(Debug, Default)]
pub(super) struct WakeState {
    /// It gave up its CPU and is on no run queue.
    pub blocked: bool,
    /// `blocked`, but its registers are still being saved: it must not be queued yet.
    pub on_cpu: bool,
    /// Woken while `on_cpu`: the CPU that finishes the switch queues it.
    pub wake_pending: bool,
    /// Counted as load until it is woken.
    pub counts_as_load: bool,
}

/// `Thread::cpu` of a thread that never ran.
const NO_CPU: usize = usize::MAX;

/// A schedulable thread of execution.
pub struct Thread {
    id: u64,
    name: String,
    ext: Option<Arc<dyn Any + Send + Sync>>,
    pub(super) is_idle: bool,

    /// See [`state`]. The thread itself declares sleep; wakers end it, holding `wake`.
    pub(super) state: AtomicU8,
    attention: AtomicBool,
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

enum Entry {
    Call(Box<dyn FnOnce() + Send>),
    User(Box<TrapFrame>),
}

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

/// A sleep's deadline.
impl TimerCallback for Thread {
    fn expired(&self, _now: u64) {
        self.wake_from_any();
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Threads that exist: started or not, up to their last reference.
static NR_THREADS: AtomicUsize = AtomicUsize::new(0);

/// How many threads exist, idle ones included.
pub fn nr_threads() -> usize {
    NR_THREADS.load(Ordering::Relaxed)
}

fn pack_class(class: Class) -> u32 {
    match class {
        Class::Normal => 0,
        Class::Batch => 1,
        Class::Idle => 2,
        Class::Fifo(p) => 0x100 | u32::from(p),
        Class::RoundRobin(p) => 0x200 | u32::from(p),
    }
}

fn unpack_class(packed: u32) -> Class {
    match (packed >> 8, packed as u8) {
        (1, p) => Class::Fifo(p),
        (2, p) => Class::RoundRobin(p),
        (_, 1) => Class::Batch,
        (_, 2) => Class::Idle,
        _ => Class::Normal,
    }
}

impl Thread {
    /// A new thread that is not yet runnable. It will run `entry` on its own kernel stack,
    /// and end when that returns. `ext` is what the layer above attaches for ever (a
    /// `process::Task`). A thread that is to enter user mode has a space or an `ext` now.
    ///
    /// Locals of an `entry` that never returns are never dropped: a thread that goes straight
    /// to user mode uses [`Thread::new_user`].
    pub fn new(
        name: &str,
        space: Option<Arc<dyn UserSpace>>,
        ext: Option<Arc<dyn Any + Send + Sync>>,
        entry: Box<dyn FnOnce() + Send>,
    ) -> Result<Arc<Thread>> {
        Self::create(name, space, ext, Entry::Call(entry))
    }

    /// As [`Thread::new`], for a thread that starts in user mode with `frame`'s registers
    /// (fork, clone).
    pub fn new_user(
        name: &str,
        space: Option<Arc<dyn UserSpace>>,
        ext: Option<Arc<dyn Any + Send + Sync>>,
        frame: &TrapFrame,
    ) -> Result<Arc<Thread>> {
        Self::create(name, space, ext, Entry::User(Box::new(*frame)))
    }

    fn create(
        name: &str,
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
        let mut thread = Self::blank(name, ext, fpu);
        if is_user && super::has_current() {
            thread.inherit_scheduling(&super::current());
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
                super::runqueue::switch::thread_main,
                Arc::as_ptr(&thread) as usize,
            );
        }
        Ok(thread)
    }

    fn blank(name: &str, ext: Option<Arc<dyn Any + Send + Sync>>, fpu: Option<FpuState>) -> Thread {
        NR_THREADS.fetch_add(1, Ordering::Relaxed);
        Thread {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: String::from(name),
            ext,
            is_idle: false,
            state: AtomicU8::new(state::NEW),
            attention: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            wake: IrqLock::new(Rank::Thread, WakeState::default()),
            links: Links::new(),
            entity: Entity::new(0),
            queued: Cell::new(false),
            cpu: AtomicUsize::new(NO_CPU),
            affinity: AtomicU64::new(CpuMask::MAX),
            nice: AtomicI8::new(0),
            class: AtomicU32::new(pack_class(Class::Normal)),
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

    /// Takes over affinity, nice level and policy of the thread that makes this one (man 7
    /// sched, "Resetting the scheduling policy for child processes").
    fn inherit_scheduling(&self, parent: &Thread) {
        let (mut nice, mut class) = (parent.nice(), parent.class());
        if parent.resets_on_fork() {
            nice = nice.max(0);
            if matches!(class, Class::Fifo(_) | Class::RoundRobin(_)) {
                class = Class::Normal;
            }
        }
        self.affinity.store(parent.affinity(), Ordering::Relaxed);
        self.nice.store(nice, Ordering::Relaxed);
        self.class.store(pack_class(class), Ordering::Relaxed);
        self.apply_policy();
    }

    /// The thread that a CPU already runs on its boot stack.
    #[cfg(target_os = "none")]
    pub(super) fn new_idle(cpu: usize) -> Arc<Thread> {
        let mut thread = Self::blank("idle", None, None);
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
        super::runqueue::wakeup::start(self);
    }

    /// What the layer above attached.
    pub fn ext<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.ext.as_deref()?.downcast_ref()
    }
    /// What the layer above attached, as a counted reference.
    pub fn ext_arc(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.ext.clone()
    }
    /// Kernel-wide unique number, never reused.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells the thread that a signal (or a kill) wants attention: an interruptible wait
    /// ends, and a thread running on another CPU passes the kernel's exit path soon (IPI).
    pub fn interrupt(&self) {
        self.attention.store(true, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        if !super::runqueue::wakeup::wake(self, state::INTERRUPTIBLE) {
            super::runqueue::wakeup::prod(self);
        }
    }
    /// Whether attention is wanted. The signal code clears it when nothing is left to do.
    pub fn is_interrupted(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }
    /// Nothing is left to attend to. Look at what may be pending once more afterwards.
    pub fn clear_interrupt(&self) {
        self.attention
            .store(self.killed.load(Ordering::SeqCst), Ordering::SeqCst);
    }
    /// As [`Thread::interrupt`], and ends killable waits too: the thread is to die.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.attention.store(true, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        if !super::runqueue::wakeup::wake(self, state::INTERRUPTIBLE | state::KILLABLE) {
            super::runqueue::wakeup::prod(self);
        }
    }
    /// Whether the thread is to die.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Whether a sleep of this kind must end now.
    pub(super) fn is_woken_early(&self, kind: SleepKind) -> bool {
        match kind {
            SleepKind::Interruptible => self.attention.load(Ordering::SeqCst),
            SleepKind::Killable => self.killed.load(Ordering::SeqCst),
            SleepKind::Uninterruptible => false,
        }
    }
    /// From here on wakers count the running thread as asleep, though it still runs.
    pub(super) fn declare_sleep(&self, kind: SleepKind) {
        self.state.store(kind as u8, Ordering::SeqCst);
    }
    /// Takes back [`Thread::declare_sleep`].
    pub(super) fn declare_awake(&self) {
        self.state.store(state::RUNNABLE, Ordering::Release);
    }
    /// Ends a sleep of any kind. From any context; spurious calls are harmless.
    pub(super) fn wake_from_any(&self) {
        #[cfg(target_os = "none")]
        super::runqueue::wakeup::wake(self, state::SLEEPING);
    }

    /// CPU time used so far: (user ns, system ns).
    pub fn cpu_time(&self) -> (u64, u64) {
        let total = self.runtime_ns();
        let user = u64::from(self.user_ticks.load(Ordering::Relaxed));
        let system = u64::from(self.system_ticks.load(Ordering::Relaxed));
        // The total is exact, its parts are sampled: split it as the samples are split.
        let system_ns = match user + system {
            0 => total,
            all => (u128::from(total) * u128::from(system) / u128::from(all)) as u64,
        };
        let mut reported = self.reported.lock();
        // Another report may have seen a later total.
        let total = total.max(reported.0 + reported.1);
        let system_ns = system_ns.clamp(reported.1, total - reported.0);
        *reported = (total - system_ns, system_ns);
        *reported
    }
    /// Run time in all, in nanoseconds.
    pub fn runtime_ns(&self) -> u64 {
        #[cfg(target_os = "none")]
        super::runqueue::requeue::charge_if_running(self);
        self.runtime_ns.load(Ordering::Relaxed)
    }
    /// Context switches: (voluntary, involuntary).
    pub fn switches(&self) -> (u64, u64) {
        (
            self.voluntary_switches.load(Ordering::Relaxed),
            self.involuntary_switches.load(Ordering::Relaxed),
        )
    }
    /// The CPU it runs on or last ran on.
    pub fn last_cpu(&self) -> usize {
        match self.cpu.load(Ordering::Relaxed) {
            NO_CPU => 0,
            cpu => cpu,
        }
    }

    /// Nice level, -20 to 19.
    pub fn nice(&self) -> i8 {
        self.nice.load(Ordering::Relaxed)
    }
    /// Sets the nice level; clamped.
    pub fn set_nice(&self, nice: i8) {
        self.nice.store(nice.clamp(-20, 19), Ordering::Relaxed);
        self.update_policy();
    }
    /// Scheduling policy and real-time priority.
    pub fn class(&self) -> Class {
        unpack_class(self.class.load(Ordering::Relaxed))
    }
    /// Sets the scheduling policy. Real-time priorities are 1 to 99.
    pub fn set_class(&self, class: Class) {
        self.class.store(pack_class(class), Ordering::Relaxed);
        self.update_policy();
    }
    /// Whether children start with the default policy.
    pub fn resets_on_fork(&self) -> bool {
        self.resets_on_fork.load(Ordering::Relaxed)
    }
    /// See [`Thread::resets_on_fork`].
    pub fn set_resets_on_fork(&self, on: bool) {
        self.resets_on_fork.store(on, Ordering::Relaxed);
    }
    fn update_policy(&self) {
        #[cfg(target_os = "none")]
        super::runqueue::requeue::update_policy(self);
        #[cfg(not(target_os = "none"))]
        self.apply_policy();
    }
    /// Copies nice level and class into the entity, under the lock that guards it.
    pub(super) fn apply_policy(&self) {
        self.entity.set_nice(self.nice());
        if self.entity.class() != self.class() {
            self.entity.set_class(self.class());
        }
    }

    /// CPUs the thread may run on.
    pub fn affinity(&self) -> CpuMask {
        self.affinity.load(Ordering::Relaxed)
    }
    /// Restricts the thread to these CPUs; moves it when it runs elsewhere. EINVAL if none runs.
    pub fn set_affinity(&self, mask: CpuMask) -> Result<()> {
        if mask & crate::arch::ipi::online() == 0 {
            return Err(Errno::EINVAL);
        }
        self.affinity.store(mask, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        super::runqueue::requeue::move_to_allowed(self);
        Ok(())
    }
    /// Whether `cpu` is one it may run on.
    pub(super) fn may_run_on(&self, cpu: usize) -> bool {
        self.affinity() & 1 << cpu != 0
    }

    /// The letter ps shows: R, S (interruptible), D (not), T, Z.
    pub fn state_letter(&self) -> u8 {
        match self.state.load(Ordering::Relaxed) {
            state::INTERRUPTIBLE => b'S',
            state::KILLABLE | state::UNINTERRUPTIBLE => b'D',
            state::DEAD => b'Z',
            _ => b'R',
        }
    }

    fn is_current(&self) -> bool {
        core::ptr::eq(super::current_ptr(), self)
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
        super::space::replace(self, space);
        #[cfg(not(target_os = "none"))]
        drop(space);
    }

    /// Copies the caller's FPU/SSE/AVX state into this not yet started thread (fork).
    pub fn inherit_fpu_from_current(&self) {
        // SAFETY: not started, so only its maker uses the area.
        let own = unsafe { &mut *self.fpu.get() };
        if let Some(own) = own {
            super::current().with_fpu(|state| own.copy_from(state));
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
    /// What the first switch to the thread runs.
    #[cfg(target_os = "none")]
    pub(super) fn run_entry(&self) {
        // SAFETY: the running thread's own field.
        match unsafe { (*self.entry.get()).take() } {
            Some(Entry::Call(entry)) => entry(),
            Some(Entry::User(frame)) => {
                let copy = *frame;
                drop(frame);
                crate::arch::context::enter_user(&copy)
            }
            None => {}
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

/// The running thread. Not `Send`: it is only true on this CPU's stack.
pub struct Current {
    /// Borrowed from the scheduler, which keeps a running thread alive.
    thread: ManuallyDrop<Arc<Thread>>,
    _not_send: PhantomData<*mut ()>,
}

impl core::ops::Deref for Current {
    type Target = Arc<Thread>;
    #[inline]
    fn deref(&self) -> &Arc<Thread> {
        &self.thread
    }
}

/// The running thread.
#[inline]
pub fn current() -> Current {
    // SAFETY: the pointer came from an Arc that the scheduler holds while the thread runs;
    // it is not dropped here.
    let thread = unsafe { ManuallyDrop::new(Arc::from_raw(super::current_ptr())) };
    Current {
        thread,
        _not_send: PhantomData,
    }
}

/// A stand-in for host tests, which run on threads of the host.
#[cfg(not(target_os = "none"))]
pub(super) fn host_thread() -> *const Thread {
    use core::sync::atomic::AtomicPtr;
    static HOST: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());
    let known = HOST.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    let fresh = Arc::into_raw(Arc::new(Thread::blank("host", None, None))).cast_mut();
    match HOST.compare_exchange(
        core::ptr::null_mut(),
        fresh,
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => fresh,
        // The other one stays; this one is lost, once.
        Err(other) => other,
    }
}

/// Starts a kernel thread.
pub fn spawn_kernel(name: &str, entry: impl FnOnce() + Send + 'static) -> Result<Arc<Thread>> {
    let thread = Thread::new(name, None, None, Box::new(entry))?;
    thread.start();
    Ok(thread)
}

/// Ends the running thread. Its stack is freed once it is off it.
pub fn exit_current() -> ! {
    #[cfg(target_os = "none")]
    {
        current().replace_space(None);
        super::runqueue::switch::exit()
    }
    #[cfg(not(target_os = "none"))]
    unreachable!("no thread of ours on the host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_survive_packing() {
        for class in [
            Class::Normal,
            Class::Batch,
            Class::Idle,
            Class::Fifo(1),
            Class::Fifo(99),
            Class::RoundRobin(50),
        ] {
            assert_eq!(unpack_class(pack_class(class)), class);
        }
    }

    #[test]
    fn split_of_cpu_time_never_goes_back() {
        let t = Thread::blank("t", None, None);
        t.runtime_ns.store(1000, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (0, 1000));
        t.user_ticks.store(9, Ordering::Relaxed);
        t.system_ticks.store(1, Ordering::Relaxed);
        t.runtime_ns.store(20_000, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (18_000, 2000));
        t.user_ticks.store(99, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (18_000, 2000));
        // The share of system time grows: user time stays, it does not shrink.
        t.system_ticks.store(10_000, Ordering::Relaxed);
        t.runtime_ns.store(21_000, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (18_000, 3000));
    }
}
