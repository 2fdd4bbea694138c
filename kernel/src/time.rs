//! Clocks and one-shot timers. (Skeleton: the sched/time owner fills it in.)
//!
//! Monotonic time comes from the TSC; wall time is an offset to it that boot reads from the
//! RTC and `clock_settime` changes. Timers live in per-CPU queues; the local APIC is
//! programmed for the earliest deadline only, so an idle CPU takes no ticks.

use alloc::sync::Arc;

/// Nanoseconds per second.
pub const NS_PER_SEC: u64 = 1_000_000_000;

/// Monotonic nanoseconds since boot.
pub fn now_ns() -> u64 {
    todo!()
}

/// Wall clock: nanoseconds since 1970-01-01 UTC.
pub fn realtime_ns() -> u64 {
    todo!()
}

/// Sets the wall clock.
pub fn set_realtime_ns(_ns: u64) {
    todo!()
}

/// What runs when a timer's deadline passes: in interrupt context, must not sleep.
pub trait TimerCallback: Send + Sync {
    /// `now` is monotonic nanoseconds.
    fn expired(&self, now: u64);
}

/// A one-shot timer; re-arming moves it, dropping cancels it.
pub struct Timer {
    _private: (),
}

impl Timer {
    /// A disarmed timer that will call `callback`.
    pub fn new(_callback: Arc<dyn TimerCallback>) -> Timer {
        todo!()
    }
    /// Arms for `deadline` (monotonic ns); replaces an earlier deadline.
    pub fn arm(&self, _deadline: u64) {
        todo!()
    }
    /// Disarms; true if it was armed and had not fired. On return the callback is not
    /// running on another CPU.
    pub fn cancel(&self) -> bool {
        todo!()
    }
}
