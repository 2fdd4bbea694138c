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

/// Bits of `Thread::attention`: what waits for the way out to user mode.
mod attention {
    /// A signal or a kill: ends interruptible sleeps as well.
    pub const SIGNAL: u8 = 1;
    /// A tick met the thread, and its CPU time is watched.
    pub const CPU_TIME: u8 = 2;
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
        self.attention.fetch_or(attention::SIGNAL, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        if !crate::sched::runqueue::wakeup::wake(self, state::INTERRUPTIBLE) {
            crate::sched::runqueue::wakeup::prod(self);
        }
    }

    /// Whether attention is wanted. The signal code clears it when nothing is left to do.
    pub fn is_interrupted(&self) -> bool {
        self.attention.load(Ordering::Acquire) & attention::SIGNAL != 0
    }
    /// Whether anything is to be done before user mode.
    pub fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire) != 0
    }
    /// From now on ticks that meet the thread ask for a look at its CPU time, or not.
    pub fn set_watched(&self, on: bool) {
        self.watched.store(on, Ordering::Relaxed);
    }
    /// A tick met it.
    pub(in crate::sched) fn ticked(&self) {
        if self.watched.load(Ordering::Relaxed) {
            self.attention
                .fetch_or(attention::CPU_TIME, Ordering::Relaxed);
        }
    }
    /// Whether a look at its CPU time was asked for; it is not any more.
    pub fn take_cpu_check(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & attention::CPU_TIME != 0
            && self
                .attention
                .fetch_and(!attention::CPU_TIME, Ordering::Relaxed)
                & attention::CPU_TIME
                != 0
    }

    /// Nothing is left to attend to. Look at what may be pending once more afterwards.
    pub fn clear_interrupt(&self) {
        self.attention
            .fetch_and(!attention::SIGNAL, Ordering::SeqCst);
        if self.killed.load(Ordering::SeqCst) {
            self.attention.fetch_or(attention::SIGNAL, Ordering::SeqCst);
        }
    }

    /// As [`Thread::interrupt`], and ends killable waits too: the thread is to die.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.attention.fetch_or(attention::SIGNAL, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        if !crate::sched::runqueue::wakeup::wake(self, state::INTERRUPTIBLE | state::KILLABLE) {
            crate::sched::runqueue::wakeup::prod(self);
        }
    }

    /// Whether the thread is to die: what may go on for long in the kernel ends early.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Whether a sleep of this kind must end now.
    pub(in crate::sched) fn is_woken_early(&self, kind: SleepKind) -> bool {
        match kind {
            SleepKind::Interruptible => {
                self.attention.load(Ordering::SeqCst) & attention::SIGNAL != 0
            }
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
