//! A process's timers: the interval timer behind alarm and setitimer, and POSIX timers (man 2
//! setitimer, man 2 timer_create).
//!
//! They live in [`Process::timers`]. The interval timer is kept over execve, POSIX timers end
//! there; a fork's child has none. Exit drops them, which waits for one that just fires.
//!
//! An expiry runs in interrupt context. Lock order: an expiry's `state`, then timer queues;
//! signals are sent with neither held.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::siginfo::SI_TIMER;
use super::{Process, SigFields, SigInfo, Task, signal};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sync::{IrqLock, Rank};
use crate::time::{Timer, TimerCallback, now_ns};

/// Most POSIX timers of a process.
const MAX_POSIX_TIMERS: usize = 1024;

/// When a timer expires: nanoseconds from now, 0 when disarmed, and then every so often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until the next expiry, or a monotonic time with `absolute`; 0 disarms.
    pub value_ns: u64,
    /// Period; 0 for one shot.
    pub interval_ns: u64,
}

/// Who hears of an expiry.
#[derive(Clone)]
pub enum Target {
    /// SIGALRM to the process.
    Alarm(Weak<Process>),
    /// A signal with the timer's identity to the process.
    Process(Weak<Process>, Notice),
    /// The same to one thread.
    Thread(Weak<Task>, Notice),
    /// Nobody: the timer is only looked at.
    Nobody,
}

/// What a POSIX timer's signal says.
#[derive(Clone, Copy, Debug)]
pub struct Notice {
    /// Signal number.
    pub signo: u32,
    /// Timer id.
    pub id: i32,
    /// `sigev_value`.
    pub value: u64,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Monotonic ns; 0 when disarmed.
    deadline: u64,
    interval: u64,
    /// Expiries since the last signal was sent, while that was pending.
    overrun: u64,
}

struct Expiry {
    state: IrqLock<State>,
    timer: Timer,
    target: Target,
    /// Absolute settings are wall-clock times.
    wall_clock: bool,
}

/// What the timer calls: the expiry owns the timer, so this only points back.
struct Fire(Weak<Expiry>);

impl TimerCallback for Fire {
    fn expired(&self, now: u64) {
        if let Some(expiry) = self.0.upgrade() {
            expiry.expired(now);
        }
    }
}

/// The first time after `now` that is a whole number of intervals behind `deadline`, and how
/// many expiries went by before it, the one at `deadline` included.
fn advance(deadline: u64, interval: u64, now: u64) -> (u64, u64) {
    let passed = now.saturating_sub(deadline) / interval + 1;
    (
        deadline.saturating_add(passed.saturating_mul(interval)),
        passed,
    )
}

impl Expiry {
    fn new(target: Target, wall_clock: bool) -> Arc<Expiry> {
        Arc::new_cyclic(|weak| Expiry {
            state: IrqLock::new(Rank::Futex, State::default()),
            timer: Timer::new(Arc::new(Fire(weak.clone()))),
            target,
            wall_clock,
        })
    }

    fn expired(&self, now: u64) {
        let passed = {
            let mut state = self.state.lock();
            // A new setting may have overtaken this expiry: its own is still to come.
            if state.deadline == 0 || now < state.deadline {
                return;
            }
            if state.interval == 0 {
                state.deadline = 0;
                1
            } else {
                let (next, passed) = advance(state.deadline, state.interval, now);
                state.deadline = next;
                self.timer.arm(next);
                passed
            }
        };
        self.notify(passed);
    }

    fn notify(&self, passed: u64) {
        let (task, notice) = match &self.target {
            Target::Nobody => return,
            Target::Alarm(process) => {
                if let Some(process) = process.upgrade() {
                    signal::send_process(&process, SigInfo::kernel(abi::SIGALRM));
                }
                return;
            }
            Target::Process(process, notice) => {
                let task = process.upgrade().and_then(|p| p.main_task());
                (task, notice)
            }
            Target::Thread(task, notice) => (task.upgrade(), notice),
        };
        let Some(task) = task else {
            return;
        };
        let pending = signal::pending_of(&task).has(notice.signo);
        let overrun = {
            let mut state = self.state.lock();
            if pending {
                state.overrun = state.overrun.saturating_add(passed);
                return;
            }
            state.overrun = passed - 1;
            state.overrun
        };
        let info = SigInfo::with(
            notice.signo,
            SI_TIMER,
            SigFields::Timer {
                id: notice.id,
                overrun: i32::try_from(overrun).unwrap_or(i32::MAX),
                value: notice.value,
            },
        );
        match &self.target {
            Target::Thread(..) => signal::send_task(&task, info),
            _ => signal::send_process(task.process(), info),
        }
    }

    fn get(&self) -> Setting {
        let state = *self.state.lock();
        Setting {
            value_ns: match state.deadline {
                0 => 0,
                // Due but not yet fired: still armed.
                at => at.saturating_sub(now_ns()).max(1),
            },
            interval_ns: state.interval,
        }
    }

    fn set(&self, new: Setting, absolute: bool) -> Setting {
        let old = self.get();
        {
            let mut state = self.state.lock();
            *state = State::default();
            if new.value_ns != 0 {
                state.deadline = if absolute {
                    new.value_ns
                } else {
                    now_ns().saturating_add(new.value_ns)
                };
                state.interval = new.interval_ns;
                // Under the lock, so that an expiry of the old setting cannot arm after us.
                self.timer.arm(state.deadline);
                return old;
            }
        }
        self.timer.cancel();
        old
    }
}

#[derive(Default)]
struct Timers {
    real: Option<Arc<Expiry>>,
    posix: Vec<Option<Arc<Expiry>>>,
}

fn with<R>(process: &Process, f: impl FnOnce(&mut Timers) -> R) -> R {
    let mut slot = process.timers().lock();
    if slot.as_ref().is_none_or(|b| !b.is::<Timers>()) {
        *slot = Some(Box::new(Timers::default()));
    }
    match slot.as_mut().and_then(|b| b.downcast_mut::<Timers>()) {
        Some(timers) => f(timers),
        None => unreachable!("just put there"),
    }
}

/// man 2 getitimer, ITIMER_REAL.
pub fn real(process: &Process) -> Setting {
    let real = with(process, |t| t.real.clone());
    real.map_or_else(Setting::default, |r| r.get())
}

/// man 2 setitimer, ITIMER_REAL: returns the old setting.
pub fn set_real(process: &Arc<Process>, new: Setting) -> Setting {
    let real = with(process, |t| {
        t.real
            .get_or_insert_with(|| Expiry::new(Target::Alarm(Arc::downgrade(process)), false))
            .clone()
    });
    real.set(new, false)
}

/// man 2 timer_create on the wall clock or the monotonic one: `target` makes what hears of it from the new id. EAGAIN.
pub fn create(
    process: &Process,
    wall_clock: bool,
    target: impl FnOnce(i32) -> Target,
) -> Result<i32> {
    with(process, |t| {
        let at = match t.posix.iter().position(Option::is_none) {
            Some(at) => at,
            None if t.posix.len() < MAX_POSIX_TIMERS => {
                t.posix.try_reserve(1).map_err(|_| Errno::EAGAIN)?;
                t.posix.push(None);
                t.posix.len() - 1
            }
            None => return Err(Errno::EAGAIN),
        };
        t.posix[at] = Some(Expiry::new(target(at as i32), wall_clock));
        Ok(at as i32)
    })
}

fn find(process: &Process, id: i32) -> Result<Arc<Expiry>> {
    let at = usize::try_from(id).map_err(|_| Errno::EINVAL)?;
    with(process, |t| t.posix.get(at).cloned().flatten()).ok_or(Errno::EINVAL)
}

/// man 2 timer_settime; `absolute`: the value is a monotonic time. EINVAL.
pub fn set(process: &Process, id: i32, new: Setting, absolute: bool) -> Result<Setting> {
    Ok(find(process, id)?.set(new, absolute))
}

/// Whether a timer's absolute settings are wall-clock times. EINVAL.
pub fn is_wall_clock(process: &Process, id: i32) -> Result<bool> {
    Ok(find(process, id)?.wall_clock)
}

/// man 2 timer_gettime. EINVAL.
pub fn get(process: &Process, id: i32) -> Result<Setting> {
    Ok(find(process, id)?.get())
}

/// man 2 timer_getoverrun. EINVAL.
pub fn overrun(process: &Process, id: i32) -> Result<i32> {
    let overrun = find(process, id)?.state.lock().overrun;
    Ok(i32::try_from(overrun).unwrap_or(i32::MAX))
}

/// man 2 timer_delete. EINVAL.
pub fn delete(process: &Process, id: i32) -> Result<()> {
    let at = usize::try_from(id).map_err(|_| Errno::EINVAL)?;
    let gone = with(process, |t| t.posix.get_mut(at).and_then(Option::take));
    // Dropped outside the lock: it waits for an expiry that runs now.
    gone.map(drop).ok_or(Errno::EINVAL)
}

/// execve: POSIX timers end.
pub fn end_posix_timers(process: &Process) {
    let gone = with(process, |t| core::mem::take(&mut t.posix));
    drop(gone);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_keep_their_phase() {
        assert_eq!(advance(100, 10, 100), (110, 1));
        assert_eq!(advance(100, 10, 109), (110, 1));
        assert_eq!(advance(100, 10, 110), (120, 2));
        assert_eq!(advance(100, 10, 1234), (1240, 114));
        assert_eq!(advance(100, u64::MAX, 200), (u64::MAX, 1));
    }

    #[test]
    fn settings_are_replaced_and_read_back() {
        let e = Expiry::new(Target::Nobody, false);
        assert_eq!(e.get(), Setting::default());
        let hour = Setting {
            value_ns: 3_600_000_000_000,
            interval_ns: 7,
        };
        assert_eq!(e.set(hour, false), Setting::default());
        let got = e.get();
        assert_eq!(got.interval_ns, 7);
        assert!(got.value_ns > 3_590_000_000_000 && got.value_ns <= hour.value_ns);
        assert!(e.set(Setting::default(), false).value_ns > 0);
        assert_eq!(e.get(), Setting::default());
        assert!(!e.timer.armed());
    }
}
