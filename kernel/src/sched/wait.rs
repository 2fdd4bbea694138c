//! Wait queues: how a thread sleeps until something holds.

use alloc::sync::Arc;

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

/// A list of waiters. The waker changes the condition first, then wakes; a waiter registers
/// first, then checks the condition: so no wake-up is lost.
pub struct WaitQueue {
    _private: (),
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { _private: () }
    }
    /// Sleeps until `ready` returns `Some`. `ready` runs without the queue's lock and may take
    /// spin locks, but must not sleep. Not interruptible: for short waits on devices only.
    pub fn wait_until<R>(&self, _ready: impl FnMut() -> Option<R>) -> R {
        todo!()
    }
    /// As [`WaitQueue::wait_until`]; ends early when the thread is interrupted or `deadline`
    /// (monotonic ns) passes. The condition is checked once more before either is reported.
    pub fn wait_interruptible<R>(
        &self,
        _deadline: Option<u64>,
        _ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        todo!()
    }
    /// As [`WaitQueue::wait_until`]; ends early only when the thread is to die.
    pub fn wait_killable<R>(&self, _ready: impl FnMut() -> Option<R>) -> Result<R, WaitError> {
        todo!()
    }
    /// Wakes observers and the first sleeping thread. From any context.
    pub fn wake_one(&self) {
        todo!()
    }
    /// Wakes all. From any context.
    pub fn wake_all(&self) {
        todo!()
    }
    /// Adds an observer (poll, epoll). `key` identifies it for [`WaitQueue::unobserve`].
    pub fn observe(&self, _key: usize, _waker: Arc<dyn Wake>) {
        todo!()
    }
    /// Removes the observers that were added with `key`.
    pub fn unobserve(&self, _key: usize) {
        todo!()
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}
