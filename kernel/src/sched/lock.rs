//! Locks that sleep. Never taken while a spin lock is held; may be held across user copies.
//!
//! [`Mutex`]: a free lock is taken by whoever comes first; sleepers are woken in arrival
//! order. [`RwLock`]: strictly first come, first served once somebody waits, so that neither
//! readers nor writers starve; ownership is handed to the sleepers directly.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::wait::WaitQueue;
use crate::sync::{IrqLock, Rank};

/// Turns of spinning before a thread sleeps: the holder may run on another CPU and be done
/// soon, and sleeping costs two context switches.
const SPINS: u32 = 100;

/// Debug builds catch sleeping where it is forbidden even when the lock happens to be free.
#[inline]
fn assert_may_sleep() {
    debug_assert!(
        crate::sync::preempt::may_sleep(),
        "a sleeping lock under a spin lock or in an interrupt"
    );
}

/// Mutual exclusion; waiters sleep in arrival order.
pub struct Mutex<T: ?Sized> {
    locked: AtomicBool,
    queue: WaitQueue,
    value: UnsafeCell<T>,
}
// SAFETY: the lock hands out one reference at a time.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// Access to a [`Mutex`]'s value.
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            queue: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }
}
impl<T: ?Sized> Mutex<T> {
    /// Sleeps until the lock is the caller's.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        assert_may_sleep();
        if !self.acquire() {
            self.lock_slow();
        }
        MutexGuard { lock: self }
    }
    /// The lock if it is free now.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // Made only with the lock: to drop a guard is to let go.
        self.acquire().then(|| MutexGuard { lock: self })
    }
    #[inline]
    fn acquire(&self) -> bool {
        self.locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
    #[cold]
    fn lock_slow(&self) {
        if crate::arch::nr_cpus() > 1 {
            for _ in 0..SPINS {
                if !self.locked.load(Ordering::Relaxed) && self.acquire() {
                    return;
                }
                core::hint::spin_loop();
            }
        }
        self.queue.wait_until(|| self.acquire().then_some(()));
    }
}
impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
        // Looks for waiters behind a full barrier: see `WaitQueue`.
        self.lock.queue.wake_one();
    }
}
impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}
impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A writer holds the lock.
const WRITER: u32 = 1 << 31;
/// Somebody sleeps for the lock: newcomers queue behind.
const WAITERS: u32 = 1 << 30;
/// Readers that hold the lock.
const READERS: u32 = WAITERS - 1;

/// Who waits, in order of arrival: a run of readers, or a writer.
struct Tickets {
    /// The next number to give.
    next: u64,
    /// Numbers below this one hold or held the lock.
    served: u64,
    /// Kinds of the waiting numbers, oldest first: bit set for a writer. A ring of 64;
    /// who does not fit waits for a place first.
    writers: u64,
}

const MAX_TICKETS: u64 = 64;

/// Many readers or one writer; who waits is served in order of arrival, so a waiting writer
/// holds off new readers.
pub struct RwLock<T: ?Sized> {
    state: AtomicU32,
    tickets: IrqLock<Tickets>,
    queue: WaitQueue,
    value: UnsafeCell<T>,
}
// SAFETY: readers share, a writer is alone.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

/// Shared access to a [`RwLock`]'s value.
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}
/// Exclusive access to a [`RwLock`]'s value.
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Read,
    Write,
}

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            state: AtomicU32::new(0),
            tickets: IrqLock::new(
                Rank::WaitQueue,
                Tickets {
                    next: 0,
                    served: 0,
                    writers: 0,
                },
            ),
            queue: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }
}
impl<T: ?Sized> RwLock<T> {
    /// Sleeps until no writer holds or awaits the lock.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        assert_may_sleep();
        if !self.try_acquire(Want::Read) {
            self.acquire_slow(Want::Read);
        }
        RwLockReadGuard { lock: self }
    }
    /// Sleeps until the lock is the caller's alone.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        assert_may_sleep();
        if !self.try_acquire(Want::Write) {
            self.acquire_slow(Want::Write);
        }
        RwLockWriteGuard { lock: self }
    }
    /// Shared access if nobody has to be waited for.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.try_acquire(Want::Read)
            .then(|| RwLockReadGuard { lock: self })
    }
    /// Exclusive access if the lock is free.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.try_acquire(Want::Write)
            .then(|| RwLockWriteGuard { lock: self })
    }

    /// Takes a lock that nobody waits for.
    #[inline]
    fn try_acquire(&self, want: Want) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let new = match want {
                Want::Read if state & (WRITER | WAITERS) == 0 => state + 1,
                Want::Write if state == 0 => WRITER,
                _ => return false,
            };
            match self
                .state
                .compare_exchange_weak(state, new, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
    }

    #[cold]
    fn acquire_slow(&self, want: Want) {
        if crate::arch::nr_cpus() > 1 {
            for _ in 0..SPINS {
                if self.state.load(Ordering::Relaxed) & WAITERS != 0 {
                    break;
                }
                if self.try_acquire(want) {
                    return;
                }
                core::hint::spin_loop();
            }
        }
        let ticket = self.queue.wait_until(|| self.take_ticket(want));
        self.queue.wait_until(|| {
            let tickets = self.tickets.lock();
            (tickets.served > ticket).then_some(())
        });
    }

    /// Queues up; `None` while too many wait. Serves at once what can be served, because the
    /// holders may have left before `WAITERS` was set.
    fn take_ticket(&self, want: Want) -> Option<u64> {
        let mut tickets = self.tickets.lock();
        if tickets.next - tickets.served == MAX_TICKETS {
            return None;
        }
        let ticket = tickets.next;
        tickets.next += 1;
        let bit = 1 << (ticket % MAX_TICKETS);
        match want {
            Want::Write => tickets.writers |= bit,
            Want::Read => tickets.writers &= !bit,
        }
        self.state.fetch_or(WAITERS, Ordering::AcqRel);
        self.serve(&mut tickets);
        Some(ticket)
    }

    /// Gives the lock to those at the head of the line who can have it. `WAITERS` is set, so
    /// only holders that leave change the state beside us.
    fn serve(&self, tickets: &mut Tickets) {
        while tickets.served < tickets.next {
            let is_writer = tickets.writers & 1 << (tickets.served % MAX_TICKETS) != 0;
            let state = self.state.load(Ordering::Acquire);
            if state & WRITER != 0 || (is_writer && state & READERS != 0) {
                return;
            }
            let grant = if is_writer { WRITER } else { 1 };
            self.state.fetch_add(grant, Ordering::AcqRel);
            tickets.served += 1;
        }
        self.state.fetch_and(!WAITERS, Ordering::AcqRel);
    }

    #[cold]
    fn serve_and_wake(&self) {
        {
            let mut tickets = self.tickets.lock();
            self.serve(&mut tickets);
        }
        self.queue.wake_all();
    }
}
impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let old = self.lock.state.fetch_sub(1, Ordering::AcqRel);
        if old & WAITERS != 0 && old & READERS == 1 {
            self.lock.serve_and_wake();
        }
    }
}
impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let old = self.lock.state.fetch_and(!WRITER, Ordering::AcqRel);
        if old & WAITERS != 0 {
            self.lock.serve_and_wake();
        }
    }
}
impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for reading.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for writing.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock for writing, and is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}
impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;

    #[test]
    fn mutex_excludes() {
        let lock = Arc::new(Mutex::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        let mut n = lock.lock();
                        let old = *n;
                        core::hint::black_box(&mut *n);
                        *n = old + 1;
                    }
                })
            })
            .collect();
        for t in threads {
            t.join().unwrap();
        }
        assert_eq!(*lock.lock(), 40_000);
        assert!(lock.try_lock().is_some());
        let held = lock.lock();
        assert!(lock.try_lock().is_none());
        // Trying did not let it go.
        assert!(lock.try_lock().is_none());
        drop(held);
    }

    #[test]
    fn rwlock_lets_readers_share_and_writers_exclude() {
        let lock = Arc::new(RwLock::new((0u64, 0u64)));
        {
            let _a = lock.read();
            let _b = lock.read();
            assert!(lock.try_write().is_none());
            assert!(lock.try_write().is_none());
        }
        {
            let _a = lock.write();
            assert!(lock.try_read().is_none());
            assert!(lock.try_read().is_none());
        }
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for _ in 0..5_000 {
                        if i % 2 == 0 {
                            let mut v = lock.write();
                            v.0 += 1;
                            core::hint::black_box(&mut *v);
                            v.1 += 1;
                        } else {
                            let v = lock.read();
                            assert_eq!(v.0, v.1);
                        }
                    }
                })
            })
            .collect();
        for t in threads {
            t.join().unwrap();
        }
        assert_eq!(*lock.read(), (10_000, 10_000));
        assert_eq!(lock.state.load(Ordering::Relaxed), 0);
    }
}
