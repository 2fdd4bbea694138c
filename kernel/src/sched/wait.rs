//! Wait queues: how a thread sleeps until something holds.
//!
//! A waiter's node lies on its own stack, so sleeping allocates nothing. Lock order: the
//! queue's lock (`Rank::WaitQueue`), then a thread's wake lock, then run queues.
//!
//! Why no wake-up is lost: the waiter has declared that it sleeps, and then is on the list,
//! before it looks at the condition; the waker changes the condition before it looks at the list. One
//! of them sees the other, because both put a full barrier between the two steps.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use super::thread::SleepKind;
use crate::sync::{IrqLock, Rank};

/// Why a wait ended without its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The thread was asked for attention (a signal).
    Interrupted,
    /// The deadline passed.
    TimedOut,
}

/// Something a queue can wake: a thread, an epoll item. Called with the queue's lock held
/// (rank `WaitQueue`) and maybe from interrupt context: must not sleep nor take lower ranks.
pub trait Wake: Send + Sync {
    /// The queue was woken. `Woken::Consumed` counts against `wake_one`.
    fn wake(&self) -> Woken;
}

/// Whether a waiter counts against an exclusive wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A sleeping thread was made runnable.
    Consumed,
    /// Only an observer (poll, epoll) was told.
    Observed,
}

struct Waiters {
    #[cfg(target_os = "none")]
    sleepers: super::list::List<sleeper::Node>,
    /// Added by [`WaitQueue::observe`].
    observers: Vec<(usize, Arc<dyn Wake>)>,
}

/// A list of waiters. The waker changes the condition first, then wakes; a waiter registers
/// first, then checks the condition: so no wake-up is lost.
pub struct WaitQueue {
    waiters: IrqLock<Waiters>,
    /// Sleepers and observers; changes under the lock, read without it by wakers.
    len: AtomicU32,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            waiters: IrqLock::new(
                Rank::WaitQueue,
                Waiters {
                    #[cfg(target_os = "none")]
                    sleepers: super::list::List::new(),
                    observers: Vec::new(),
                },
            ),
            len: AtomicU32::new(0),
        }
    }

    /// Sleeps until `ready` returns `Some`. `ready` runs without the queue's lock and may take
    /// spin locks, but must not sleep. Not interruptible: for short waits on devices only.
    pub fn wait_until<R>(&self, ready: impl FnMut() -> Option<R>) -> R {
        match self.wait(SleepKind::Uninterruptible, None, ready) {
            Ok(r) => r,
            // Neither a deadline nor a signal ends such a wait.
            Err(_) => unreachable!(),
        }
    }

    /// As [`WaitQueue::wait_until`]; ends early when the thread is interrupted or `deadline`
    /// (monotonic ns) passes. The condition is checked once more before either is reported.
    pub fn wait_interruptible<R>(
        &self,
        deadline: Option<u64>,
        ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait(SleepKind::Interruptible, deadline, ready)
    }

    /// As [`WaitQueue::wait_until`]; ends early only when the thread is to die.
    pub fn wait_killable<R>(&self, ready: impl FnMut() -> Option<R>) -> Result<R, WaitError> {
        self.wait(SleepKind::Killable, None, ready)
    }

    /// As [`WaitQueue::wait_until`], with a deadline (monotonic ns): for devices that may
    /// never answer.
    pub fn wait_until_deadline<R>(
        &self,
        deadline: u64,
        ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait(SleepKind::Uninterruptible, Some(deadline), ready)
    }

    /// Wakes observers and the first sleeping thread. From any context.
    pub fn wake_one(&self) {
        self.wake(1);
    }

    /// Wakes all. From any context.
    pub fn wake_all(&self) {
        self.wake(usize::MAX);
    }

    /// Wakes the first sleeping thread, for what a thread that was woken leaves over. Observers
    /// have heard of that already. From any context.
    pub fn pass_on(&self) {
        if !self.has_waiters() {
            return;
        }
        self.wake_sleepers(&mut self.waiters.lock(), 1);
    }

    /// Whether somebody waits or observes. A hint: it may change at once.
    pub fn has_waiters(&self) -> bool {
        fence(Ordering::SeqCst);
        self.len.load(Ordering::Relaxed) != 0
    }

    /// Adds an observer (poll, epoll). `key` identifies it for [`WaitQueue::unobserve`].
    pub fn observe(&self, key: usize, waker: Arc<dyn Wake>) {
        let mut waiters = self.waiters.lock();
        waiters.observers.push((key, waker));
        self.len.fetch_add(1, Ordering::SeqCst);
    }

    /// Removes the observers that were added with `key`.
    pub fn unobserve(&self, key: usize) {
        loop {
            // One at a time, and dropped after the lock: the last reference may go here.
            let gone = {
                let mut waiters = self.waiters.lock();
                let Some(at) = waiters.observers.iter().position(|o| o.0 == key) else {
                    return;
                };
                self.len.fetch_sub(1, Ordering::SeqCst);
                waiters.observers.swap_remove(at)
            };
            drop(gone);
        }
    }

    fn wake(&self, nr: usize) {
        if !self.has_waiters() {
            return;
        }
        let mut left = nr;
        let mut waiters = self.waiters.lock();
        for (_, observer) in &waiters.observers {
            if observer.wake() == Woken::Consumed {
                left = left.saturating_sub(1);
            }
        }
        self.wake_sleepers(&mut waiters, left);
    }

    #[cfg(target_os = "none")]
    fn wake_sleepers(&self, waiters: &mut Waiters, mut left: usize) {
        while left > 0 {
            let Some(node) = waiters.sleepers.pop_front() else {
                break;
            };
            self.len.fetch_sub(1, Ordering::SeqCst);
            // SAFETY: the node was on the list, and its owner takes this lock before it
            // leaves the frame the node lies in.
            unsafe { node.as_ref() }.wake();
            left -= 1;
        }
    }

    #[cfg(not(target_os = "none"))]
    fn wake_sleepers(&self, _waiters: &mut Waiters, _left: usize) {
        // The host keeps no sleepers.
    }

    #[cfg(not(target_os = "none"))]
    fn wait<R>(
        &self,
        _kind: SleepKind,
        deadline: Option<u64>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        // Host tests have no scheduler of ours: look again until it holds.
        loop {
            if let Some(r) = ready() {
                return Ok(r);
            }
            if deadline.is_some_and(|d| crate::time::now_ns() >= d) {
                return Err(WaitError::TimedOut);
            }
            #[cfg(test)]
            std::thread::yield_now();
            core::hint::spin_loop();
        }
    }

    #[cfg(target_os = "none")]
    fn wait<R>(
        &self,
        kind: SleepKind,
        deadline: Option<u64>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        if let Some(r) = ready() {
            return Ok(r);
        }
        if deadline == Some(0) {
            return Err(WaitError::TimedOut);
        }
        let thread = super::current();
        let node = sleeper::Node::new(&thread);
        let timer = core::pin::pin!(crate::time::BorrowedTimer::new(&**thread));
        let mut turn = sleeper::Turn::First;
        loop {
            // In this order: a waker that takes the node off before the condition holds for
            // this thread must find it asleep, so that it comes round and enlists again.
            thread.declare_sleep(kind);
            self.enlist(&node, turn);
            let ended = match ready() {
                Some(r) => Some(Ok(r)),
                None if thread.is_woken_early(kind) => Some(Err(WaitError::Interrupted)),
                None if deadline.is_some_and(|d| crate::time::now_ns() >= d) => {
                    Some(Err(WaitError::TimedOut))
                }
                None => None,
            };
            if let Some(result) = ended {
                thread.declare_awake();
                let was_woken = self.delist(&node);
                if was_woken && result.is_err() {
                    // The wake-up was meant for somebody who uses it.
                    self.wake_one();
                }
                return result;
            }
            if let (Some(deadline), sleeper::Turn::First) = (deadline, turn) {
                timer.as_ref().arm(deadline);
            }
            super::runqueue::switch::block();
            turn = sleeper::Turn::Again;
        }
    }

    /// Puts the node on the list if it is not; a thread that was woken in vain keeps its
    /// place at the head.
    #[cfg(target_os = "none")]
    fn enlist(&self, node: &sleeper::Node, turn: sleeper::Turn) {
        use super::list::Linked;
        let mut waiters = self.waiters.lock();
        if node.links().is_linked() {
            return;
        }
        let ptr = core::ptr::NonNull::from(node);
        // SAFETY: on no list; `wait` takes it off before the node goes.
        unsafe {
            match turn {
                sleeper::Turn::First => waiters.sleepers.push_back(ptr),
                sleeper::Turn::Again => waiters.sleepers.push_front(ptr),
            }
        }
        self.len.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes the node off the list; whether a waker had done so.
    #[cfg(target_os = "none")]
    fn delist(&self, node: &sleeper::Node) -> bool {
        use super::list::Linked;
        let mut waiters = self.waiters.lock();
        if !node.links().is_linked() {
            return true;
        }
        // SAFETY: linked nodes of this wait are on this list.
        unsafe { waiters.sleepers.remove(core::ptr::NonNull::from(node)) };
        self.len.fetch_sub(1, Ordering::SeqCst);
        false
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// A sleeping thread's entry on a queue.
#[cfg(target_os = "none")]
mod sleeper {
    use super::super::list::{Linked, Links};
    use super::super::thread::Thread;
    use core::ptr::NonNull;

    /// Whether a wait registers for the first time.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Turn {
        First,
        Again,
    }

    /// Lies on the sleeper's stack; its links are guarded by the queue's lock.
    pub struct Node {
        links: Links<Node>,
        thread: NonNull<Thread>,
    }

    // SAFETY: one field, always the same.
    unsafe impl Linked for Node {
        fn links(&self) -> &Links<Node> {
            &self.links
        }
    }

    impl Node {
        pub fn new(thread: &Thread) -> Self {
            Self {
                links: Links::new(),
                thread: NonNull::from(thread),
            }
        }
        /// Makes the sleeper runnable. The queue's lock is held.
        pub fn wake(&self) {
            // SAFETY: the thread is inside the wait that owns this node.
            unsafe { self.thread.as_ref() }.wake_from_any();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(&self) -> Woken {
            self.0.fetch_add(1, Ordering::Relaxed);
            Woken::Observed
        }
    }

    #[test]
    fn observers_hear_until_removed() {
        let queue = WaitQueue::new();
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        queue.observe(1, counter.clone());
        queue.observe(1, counter.clone());
        queue.observe(2, counter.clone());
        queue.wake_one();
        assert_eq!(counter.0.load(Ordering::Relaxed), 3);
        queue.pass_on();
        assert_eq!(counter.0.load(Ordering::Relaxed), 3);
        queue.unobserve(1);
        queue.wake_all();
        assert_eq!(counter.0.load(Ordering::Relaxed), 4);
        queue.unobserve(2);
        assert!(!queue.has_waiters());
        assert_eq!(Arc::strong_count(&counter), 1);
    }

    #[test]
    fn condition_wins_over_a_passed_deadline() {
        let queue = WaitQueue::new();
        assert_eq!(queue.wait_interruptible(Some(0), || Some(7)), Ok(7));
        assert_eq!(
            queue.wait_interruptible(Some(0), || None::<()>),
            Err(WaitError::TimedOut)
        );
    }
}
