//! timerfd (man 2 timerfd_create): timer expirations as something to read and poll.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::anon::AnonInode;
use super::{File, OpenFile, PollEvents, PollTable};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{IrqLock, Rank};
use crate::time::{self, Timer, TimerCallback};
use crate::vm::IoDest;

#[derive(Clone, Copy, Default)]
struct Setting {
    /// Monotonic ns of the next expiration that was not read; 0 when disarmed.
    deadline: u64,
    /// Period in ns; 0 for one shot.
    interval: u64,
    /// The deadline passed and nobody read it.
    fired: bool,
}

struct Shared {
    setting: IrqLock<Setting>,
    queue: Arc<WaitQueue>,
}

impl TimerCallback for Shared {
    fn expired(&self, now: u64) {
        {
            let mut s = self.setting.lock();
            // A re-arming may have overtaken this expiration.
            if s.deadline == 0 || now < s.deadline {
                return;
            }
            s.fired = true;
        }
        self.queue.wake_all();
    }
}

/// A timer file; see the module.
pub struct TimerFd {
    shared: Arc<Shared>,
    /// Held while the timer is armed anew, so that setting and reading do not cross. Taken
    /// before `Shared::setting`, which the timer's callback takes too.
    timer: Mutex<Timer>,
    /// CLOCK_REALTIME or CLOCK_MONOTONIC (BOOTTIME counts as the latter: there is no suspend).
    realtime: bool,
    inode: AnonInode,
}

impl TimerFd {
    /// A disarmed timer on the wall clock or the monotonic one.
    pub fn new(realtime: bool) -> Arc<TimerFd> {
        let shared = Arc::new(Shared {
            setting: IrqLock::new(Rank::Object, Setting::default()),
            queue: Arc::new(WaitQueue::new()),
        });
        Arc::new(TimerFd {
            timer: Mutex::new(Timer::new(shared.clone())),
            shared,
            realtime,
            inode: AnonInode::new(0o600),
        })
    }

    /// Arms for `value` ns from now, or at clock time `value` with `absolute`; 0 disarms.
    /// Then every `interval` ns. Returns the old (time left, interval).
    pub fn set(&self, value: u64, interval: u64, absolute: bool) -> (u64, u64) {
        let timer = self.timer.lock();
        timer.cancel();
        let now = time::now_ns();
        let deadline = match value {
            0 => 0,
            at if absolute && self.realtime => {
                // The wall clock's distance to the monotonic one, as of now.
                let ahead = time::realtime_ns().saturating_sub(now);
                at.saturating_sub(ahead).max(1)
            }
            at if absolute => at,
            after => now.saturating_add(after),
        };
        let old = {
            let mut s = self.shared.setting.lock();
            let old = *s;
            *s = Setting {
                deadline,
                interval,
                fired: false,
            };
            old
        };
        if deadline != 0 {
            timer.arm(deadline);
        }
        left(old, now)
    }

    /// (time left, interval) in ns.
    pub fn get(&self) -> (u64, u64) {
        let s = *self.shared.setting.lock();
        left(s, time::now_ns())
    }

    fn take(&self) -> Option<u64> {
        // The lock comes first: a `set` on another CPU must not be undone by this re-arming.
        let timer = self.timer.lock();
        let (ticks, next) = {
            let mut s = self.shared.setting.lock();
            if !s.fired {
                return None;
            }
            s.fired = false;
            let late = time::now_ns().saturating_sub(s.deadline);
            match late.checked_div(s.interval) {
                None => {
                    s.deadline = 0;
                    (1, None)
                }
                Some(periods) => {
                    let ticks = 1 + periods;
                    s.deadline = s.deadline.saturating_add(ticks.saturating_mul(s.interval));
                    (ticks, Some(s.deadline))
                }
            }
        };
        if let Some(next) = next {
            timer.arm(next);
        }
        Some(ticks)
    }

    fn fired(&self) -> bool {
        self.shared.setting.lock().fired
    }
}

fn left(s: Setting, now: u64) -> (u64, u64) {
    let left = match s.deadline {
        0 => 0,
        d if d > now => d - now,
        _ if s.interval == 0 => 0,
        d => s.interval - (now - d) % s.interval,
    };
    (left, s.interval)
}

impl File for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        loop {
            if let Some(ticks) = self.take() {
                return dst.put(&ticks.to_ne_bytes());
            }
            if of.nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.shared
                .queue
                .wait_interruptible(None, || self.fired().then_some(()))
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.shared.queue);
        }
        if self.fired() {
            PollEvents::IN
        } else {
            PollEvents::empty()
        }
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[timerfd]".to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_of_periodic_timers_wraps() {
        let s = |deadline, interval| Setting {
            deadline,
            interval,
            fired: false,
        };
        assert_eq!(left(s(0, 0), 50), (0, 0));
        assert_eq!(left(s(80, 0), 50), (30, 0));
        assert_eq!(left(s(40, 0), 50), (0, 0));
        assert_eq!(left(s(40, 25), 50), (15, 25));
    }
}
