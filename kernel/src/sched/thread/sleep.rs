//! What ends a thread's sleep, as the thread and its wakers see it: the state that it declares,
//! signals that want attention, the kill. The waiting itself is [`crate::sched::wait`]'s, the
//! queueing the run queue's.

use core::sync::atomic::Ordering;

use super::Thread;
use crate::time::TimerCallback;

/// What ends a sleep before its condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::sched) enum SleepKind {
    Interruptible = state::INTERRUPTIBLE,
    Killable = state::KILLABLE,
    Uninterruptible = state::UNINTERRUPTIBLE,
}

/// Values of `Thread::state`; the sleeping ones are bits, for masks.
pub(in crate::sched) mod state {
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
pub(in crate::sched) struct WakeState {
    /// It gave up its CPU and is on no run queue.
    pub blocked: bool,
    /// `blocked`, but its registers are still being saved: it must not be queued yet.
    pub on_cpu: bool,
    /// Woken while `on_cpu`: the CPU that finishes the switch queues it.
    pub wake_pending: bool,
    /// Counted as load until it is woken.
    pub counts_as_load: bool,
}

impl Thread {
    /// Tells the thread that a signal (or a kill) wants attention: an interruptible wait
    /// ends, and a thread running on another CPU passes the kernel's exit path soon (IPI).
    pub fn interrupt(&self) {
        self.attention.store(true, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        if !crate::sched::runqueue::wakeup::wake(self, state::INTERRUPTIBLE) {
            crate::sched::runqueue::wakeup::prod(self);
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
        if !crate::sched::runqueue::wakeup::wake(self, state::INTERRUPTIBLE | state::KILLABLE) {
            crate::sched::runqueue::wakeup::prod(self);
        }
    }

    /// Whether the thread is to die.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Whether a sleep of this kind must end now.
    pub(in crate::sched) fn is_woken_early(&self, kind: SleepKind) -> bool {
        match kind {
            SleepKind::Interruptible => self.attention.load(Ordering::SeqCst),
            SleepKind::Killable => self.killed.load(Ordering::SeqCst),
            SleepKind::Uninterruptible => false,
        }
    }

    /// From here on wakers count the running thread as asleep, though it still runs.
    pub(in crate::sched) fn declare_sleep(&self, kind: SleepKind) {
        self.state.store(kind as u8, Ordering::SeqCst);
    }

    /// Takes back [`Thread::declare_sleep`].
    pub(in crate::sched) fn declare_awake(&self) {
        self.state.store(state::RUNNABLE, Ordering::Release);
    }

    /// Ends a sleep of any kind. From any context; spurious calls are harmless.
    pub(in crate::sched) fn wake_from_any(&self) {
        #[cfg(target_os = "none")]
        crate::sched::runqueue::wakeup::wake(self, state::SLEEPING);
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
}

/// A sleep's deadline.
impl TimerCallback for Thread {
    fn expired(&self, _now: u64) {
        self.wake_from_any();
    }
}
