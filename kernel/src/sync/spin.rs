//! Spin locks that state their interrupt behaviour in their type.
//!
//! - [`SpinLock`]: preemption off while held. Never taken in an interrupt handler.
//! - [`IrqLock`]: interrupts off while held; for data that handlers share. While one is held,
//!   only others of its kind are taken: the holder of a [`SpinLock`] may be in a handler that
//!   waits for the first.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use super::preempt::{PreemptGuard, preempt_disable};
use crate::arch::{IrqState, irq_restore, irq_save};

/// Lock order, outermost first: a lock may be taken while holding locks of lower rank only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Process tree, sessions, pid table.
    ProcessTree = 10,
    /// One process's own fields.
    Process = 14,
    /// Signal actions (shared by CLONE_SIGHAND).
    SignalActions = 16,
    /// Signal state of one thread.
    Signal = 18,
    /// Mount table and dentry cache.
    Vfs = 20,
    /// What comes in from a terminal's line, and its echo.
    Line = 28,
    /// One inode, pipe, socket or tty's spin-locked part.
    Object = 30,
    /// Address-space bookkeeping that spins.
    Space = 34,
    /// Page-cache index of one inode.
    PageCache = 38,
    /// Lists of page caches: dirty ones, all of them.
    PageCacheList = 40,
    /// A block device's request queue.
    BlockQueue = 46,
    /// A driver's device state (also taken by its interrupt handler).
    Device = 50,
    /// Futex buckets.
    Futex = 54,
    /// A wait queue's list of waiters.
    WaitQueue = 60,
    /// epoll ready lists: filled from a wait queue's wake-up.
    Poll = 62,
    /// Timer queues.
    Timer = 64,
    /// A thread's scheduling state.
    Thread = 68,
    /// Run queues (two of them: lower CPU first).
    RunQueue = 72,
    /// TLB shootdown and cross-CPU calls.
    Ipi = 76,
    /// Locks that call nothing but the heap.
    Table = 77,
    /// The kernel half's page tables.
    KernelMap = 78,
    /// The heap.
    Heap = 80,
    /// Physical frames.
    Frames = 84,
    /// Leaf locks that call nothing.
    Leaf = 90,
}

/// What holding a lock keeps off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Preemption.
    Spin,
    /// Interrupts too.
    Irq,
}

/// A ticketless test-and-test-and-set lock with preemption off while held.
pub struct SpinLock<T: ?Sized> {
    locked: AtomicBool,
    rank: Rank,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one reference at a time.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

/// Access to a [`SpinLock`]'s value; unlocks when dropped.
pub struct SpinLockGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
    // Dropped after `Drop::drop` unlocked: preemption is off until the lock is free.
    _preempt: PreemptGuard,
}

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            rank,
            value: UnsafeCell::new(value),
        }
    }

    /// The value, when nobody shares the lock any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

/// Nearly always the lock is free: only that much is at every place that locks.
#[inline(always)]
fn acquire(locked: &AtomicBool) {
    if locked
        .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        spin(locked);
    }
}

#[cold]
#[inline(never)]
fn spin(locked: &AtomicBool) {
    loop {
        while locked.load(Ordering::Relaxed) {
            // Answers TLB shootdowns: the holder may be waiting for this CPU's.
            crate::arch::cpu::relax();
        }
        if locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            return;
        }
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Spins until the lock is this CPU's.
    #[inline]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let preempt = preempt_disable();
        held::push(self.rank, Kind::Spin, (&raw const self.locked).addr());
        acquire(&self.locked);
        SpinLockGuard {
            lock: self,
            _preempt: preempt,
        }
    }

    /// The lock if it is free now.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        let preempt = preempt_disable();
        self.locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        held::push_unordered(self.rank, Kind::Spin, (&raw const self.locked).addr());
        Some(SpinLockGuard {
            lock: self,
            _preempt: preempt,
        })
    }

    /// The value through an exclusive reference: no locking needed.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::pop((&raw const self.lock.locked).addr());
        self.lock.locked.store(false, Ordering::Release);
    }
}

/// Like [`SpinLock`], with interrupts off while held: for data shared with handlers.
pub struct IrqLock<T: ?Sized> {
    locked: AtomicBool,
    rank: Rank,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one reference at a time.
unsafe impl<T: ?Sized + Send> Send for IrqLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for IrqLock<T> {}

/// Access to an [`IrqLock`]'s value; unlocks, then restores the interrupt flag, when dropped.
pub struct IrqLockGuard<'a, T: ?Sized> {
    lock: &'a IrqLock<T>,
    irq: IrqState,
    _preempt: PreemptGuard,
}

impl<T> IrqLock<T> {
    /// A free lock around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            rank,
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> IrqLock<T> {
    /// Spins, with interrupts off, until the lock is this CPU's.
    #[inline]
    pub fn lock(&self) -> IrqLockGuard<'_, T> {
        let irq = irq_save();
        let preempt = preempt_disable();
        held::push(self.rank, Kind::Irq, (&raw const self.locked).addr());
        acquire(&self.locked);
        IrqLockGuard {
            lock: self,
            irq,
            _preempt: preempt,
        }
    }

    /// The lock if it is free now.
    #[inline]
    pub fn try_lock(&self) -> Option<IrqLockGuard<'_, T>> {
        let irq = irq_save();
        let preempt = preempt_disable();
        if self
            .locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            drop(preempt);
            irq_restore(irq);
            return None;
        }
        held::push_unordered(self.rank, Kind::Irq, (&raw const self.locked).addr());
        Some(IrqLockGuard {
            lock: self,
            irq,
            _preempt: preempt,
        })
    }

    /// Unlocks without restoring anything: for the context switch, which hands a run-queue
    /// lock from one thread to the next.
    ///
    /// # Safety
    /// The caller holds the lock through a forgotten guard, with interrupts off, and takes
    /// over the preemption count that the guard raised.
    pub unsafe fn force_unlock(&self) {
        held::pop((&raw const self.locked).addr());
        self.locked.store(false, Ordering::Release);
    }
}

impl<T: ?Sized> Deref for IrqLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for IrqLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for IrqLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::pop((&raw const self.lock.locked).addr());
        self.lock.locked.store(false, Ordering::Release);
        // Restored before the preemption guard drops, so that a reschedule that became due
        // while the lock was held happens with interrupts as the caller had them.
        irq_restore(self.irq);
    }
}

/// Debug builds of the kernel remember each CPU's held locks and panic on an inversion.
#[cfg(all(debug_assertions, target_os = "none"))]
mod held {
    use super::{Kind, Rank};
    use crate::arch::{MAX_CPUS, cpu_id, irq_restore, irq_save};
    use core::cell::UnsafeCell;

    const DEPTH: usize = 16;

    #[derive(Clone, Copy)]
    struct Entry {
        rank: u8,
        kind: Kind,
        lock: usize,
    }

    #[derive(Clone, Copy)]
    struct Row {
        entries: [Entry; DEPTH],
        len: usize,
        /// Entries below belong to what an interrupt handler interrupted.
        base: usize,
    }

    struct Held(UnsafeCell<[Row; MAX_CPUS]>);
    // SAFETY: each CPU touches its own row, with interrupts off.
    unsafe impl Sync for Held {}
    static HELD: Held = Held(UnsafeCell::new(
        [const {
            Row {
                entries: [Entry {
                    rank: 0,
                    kind: Kind::Spin,
                    lock: 0,
                }; DEPTH],
                len: 0,
                base: 0,
            }
        }; MAX_CPUS],
    ));

    fn with<R>(f: impl FnOnce(&mut Row) -> R) -> R {
        let irq = irq_save();
        let cpu = cpu_id();
        // SAFETY: this CPU's row, interrupts off.
        let r = unsafe { f(&mut (*HELD.0.get())[cpu]) };
        irq_restore(irq);
        r
    }

    impl Row {
        fn add(&mut self, rank: Rank, kind: Kind, lock: usize) {
            if self.len < DEPTH {
                self.entries[self.len] = Entry {
                    rank: rank as u8,
                    kind,
                    lock,
                };
                self.len += 1;
            }
        }
    }

    pub fn push(rank: Rank, kind: Kind, lock: usize) {
        let bad = with(|row| {
            let bad = row.entries[..row.len]
                .iter()
                .enumerate()
                .find(|(i, h)| {
                    h.lock == lock
                        || *i >= row.base && h.rank > rank as u8
                        // A handler on this CPU could want the outer one while another CPU
                        // holds the inner one and waits for the outer.
                        || *i >= row.base && kind == Kind::Spin && h.kind == Kind::Irq
                })
                .map(|(_, h)| *h);
            row.add(rank, kind, lock);
            bad
        });
        if let Some(h) = bad {
            panic!(
                "lock order: {rank:?} ({kind:?} {lock:#x}) wanted while holding rank {} ({:?} {:#x})",
                h.rank, h.kind, h.lock
            );
        }
    }

    pub fn push_unordered(rank: Rank, kind: Kind, lock: usize) {
        with(|row| row.add(rank, kind, lock));
    }

    /// Panics when the running code holds a lock under which nothing may be allocated or freed:
    /// always, not only when the heap has to take a lock of its own.
    pub fn check_allocation() {
        let bad = with(|row| {
            let entries = &row.entries[row.base..row.len];
            entries.iter().find(|h| h.rank >= Rank::Heap as u8).copied()
        });
        if let Some(h) = bad {
            panic!(
                "the heap is used while holding rank {} ({:?} {:#x})",
                h.rank, h.kind, h.lock
            );
        }
    }

    pub fn pop(lock: usize) {
        with(|row| {
            if let Some(i) = row.entries[..row.len].iter().rposition(|h| h.lock == lock) {
                row.entries.copy_within(i + 1..row.len, i);
                row.len -= 1;
            }
        });
    }

    /// Runs an interrupt handler: the locks of what it interrupted are `SpinLock`s, which no
    /// handler takes, so they set no order for its own.
    pub fn in_interrupt(f: impl FnOnce()) {
        let base = with(|row| core::mem::replace(&mut row.base, row.len));
        f();
        with(|row| row.base = base);
    }
}

#[cfg(not(all(debug_assertions, target_os = "none")))]
mod held {
    use super::{Kind, Rank};
    #[inline(always)]
    pub fn push(_: Rank, _: Kind, _: usize) {}
    #[inline(always)]
    pub fn push_unordered(_: Rank, _: Kind, _: usize) {}
    #[inline(always)]
    pub fn pop(_: usize) {}
    #[inline(always)]
    #[cfg(target_os = "none")]
    pub fn check_allocation() {}
    #[inline(always)]
    #[cfg(target_os = "none")]
    pub fn in_interrupt(f: impl FnOnce()) {
        f();
    }
}

#[cfg(target_os = "none")]
pub(crate) use held::{check_allocation, in_interrupt};
