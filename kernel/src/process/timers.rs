//! A process's timers: the interval timers behind alarm and setitimer, and POSIX timers (man 2
//! setitimer, man 2 timer_create).
//!
//! They live in [`Process::timers`]. Interval timers are kept over execve, POSIX timers end
//! there; a fork's child has none. Exit drops them, which waits for one that just fires.
//!
//! An expiry of a timer on real time runs in interrupt context; one on CPU time is found by
//! [`cputime`](super::cputime). Lock order: an expiry's `state`, then timer queues; signals
//! are sent with neither held.
//!
//! A periodic timer on real time goes on when its signal is taken ([`note_delivery`]), and
//! else only after [`UNTAKEN_NS`]: a period that is shorter than its own interrupt must not
//! keep a CPU from everything else. What went by meanwhile is counted, not waited for.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::siginfo::SI_TIMER;
use super::{Process, SigFields, SigInfo, Task, cputime, signal};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sync::{IrqLock, Rank};
use crate::time::{Timer, TimerCallback, now_ns};

pub use super::cputime::Wakeup;

/// Most POSIX timers of a process.
const MAX_POSIX_TIMERS: usize = 1024;

/// How long a periodic timer waits for its signal to be taken before it goes on without:
/// signals are ignored, discarded, or blocked for long.
const UNTAKEN_NS: u64 = 10_000_000;

/// When a timer expires: nanoseconds from now, 0 when disarmed, and then every so often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until the next expiry, or a time of the timer's clock with `absolute`; 0 disarms.
    pub value_ns: u64,
    /// Period; 0 for one shot.
    pub interval_ns: u64,
}

/// Who hears of an expiry.
#[derive(Clone)]
pub enum Target {
    /// A signal without more to the process: of an interval timer.
    Plain(Weak<Process>, u32),
    /// A signal with the timer's identity to the process.
    Process(Weak<Process>, Notice),
    /// The same to one thread.
    Thread(Weak<Task>, Notice),
    /// A thread that sleeps.
    Sleeper(Arc<Wakeup>),
    /// Nobody: the timer is only looked at.
    Nobody,
}

/// What a timer counts.
#[derive(Clone)]
pub enum TimerClock {
    /// Monotonic time.
    Monotonic,
    /// Monotonic time, with absolute settings in wall-clock time.
    WallClock,
    /// A process's CPU time.
    Process(Weak<Process>),
    /// A process's CPU time in user mode.
    User(Weak<Process>),
    /// A thread's CPU time.
    Thread(Weak<Task>),
}

impl TimerClock {
    fn counts_cpu(&self) -> bool {
        !matches!(self, TimerClock::Monotonic | TimerClock::WallClock)
    }
    /// Now, in ns; `None` when what it measures has ended.
    pub(super) fn now(&self) -> Option<u64> {
        match self {
            TimerClock::Monotonic | TimerClock::WallClock => Some(now_ns()),
            TimerClock::Process(p) => p.upgrade().map(|p| p.usage().0.cpu_ns()),
            TimerClock::User(p) => p.upgrade().map(|p| p.usage().0.user_ns),
            TimerClock::Thread(t) => Some(t.upgrade()?.thread()?.runtime_ns()),
        }
    }
    /// The process whose CPU time it is part of.
    fn process(&self) -> Option<Arc<Process>> {
        match self {
            TimerClock::Monotonic | TimerClock::WallClock => None,
            TimerClock::Process(p) | TimerClock::User(p) => p.upgrade(),
            TimerClock::Thread(t) => t.upgrade().map(|t| t.process.clone()),
        }
    }
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
    /// In ns of the clock; 0 when disarmed.
    deadline: u64,
    interval: u64,
    /// Expiries beyond the one whose signal was sent last.
    overrun: u64,
    /// What `overrun` was when the signal was taken.
    delivered: u64,
}

/// A timer.
pub(super) struct Expiry {
    state: IrqLock<State>,
    /// Armed unless the clock counts CPU time.
    timer: Timer,
    target: Target,
    clock: TimerClock,
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
    pub(super) fn new(target: Target, clock: TimerClock) -> Arc<Expiry> {
        Arc::new_cyclic(|weak| Expiry {
            state: IrqLock::new(Rank::Futex, State::default()),
            timer: Timer::new(Arc::new(Fire(weak.clone()))),
            target,
            clock,
        })
    }

    /// The clock shows `now`.
    pub(super) fn expired(&self, now: u64) {
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
                if !self.clock.counts_cpu() {
                    self.timer.arm(next.max(now.saturating_add(UNTAKEN_NS)));
                }
                passed
            }
        };
        self.notify(passed);
    }

    /// Looks at a clock that counts CPU time.
    pub(super) fn look(&self) {
        if let Some(now) = self.clock.now() {
            self.expired(now);
        }
    }

    /// Whether an expiry is to come.
    pub(super) fn is_armed(&self) -> bool {
        self.state.lock().deadline != 0
    }

    fn notify(&self, passed: u64) {
        let (task, notice) = match &self.target {
            Target::Nobody => return,
            Target::Sleeper(wakeup) => return wakeup.wake(),
            Target::Plain(process, signo) => {
                if let Some(process) = process.upgrade() {
                    signal::send_process(&process, SigInfo::kernel(*signo));
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
        let pending = signal::timer_is_pending(&task.process, notice.id);
        {
            let mut state = self.state.lock();
            if pending {
                state.overrun = state.overrun.saturating_add(passed);
                return;
            }
            state.overrun = passed - 1;
        }
        let info = SigInfo::with(
            notice.signo,
            SI_TIMER,
            SigFields::Timer {
                id: notice.id,
                overrun: 0,
                value: notice.value,
            },
        );
        match &self.target {
            Target::Thread(..) => signal::send_task(&task, info),
            _ => signal::send_process(&task.process, info),
        }
    }

    pub(super) fn get(&self) -> Setting {
        let state = *self.state.lock();
        let now = self.clock.now().unwrap_or(0);
        Setting {
            value_ns: match state.deadline {
                0 => 0,
                at if at > now => at - now,
                // Due but not yet fired: still armed.
                _ if state.interval == 0 => 1,
                // Waits for its signal to be taken.
                at => advance(at, state.interval, now).0 - now,
            },
            interval_ns: state.interval,
        }
    }

    pub(super) fn set(self: &Arc<Self>, new: Setting, absolute: bool) -> Setting {
        let old = self.get();
        let base = match absolute {
            true => 0,
            false => self.clock.now().unwrap_or(0),
        };
        {
            let mut state = self.state.lock();
            *state = State::default();
            if new.value_ns != 0 {
                state.deadline = base.saturating_add(new.value_ns);
                state.interval = new.interval_ns;
                if !self.clock.counts_cpu() {
                    // Under the lock, so that an expiry of the old setting cannot arm after us.
                    self.timer.arm(state.deadline);
                    return old;
                }
            }
        }
        if !self.clock.counts_cpu() {
            self.timer.cancel();
        } else if new.value_ns != 0 {
            if let Some(process) = self.clock.process() {
                cputime::watch(&process, self);
            }
            // An absolute time may have passed.
            self.look();
        }
        old
    }

    /// The signal that the process sent itself is taken: a periodic timer goes on. Returns how
    /// many expiries the signal stands for.
    fn delivered(&self) -> u64 {
        let mut state = self.state.lock();
        if state.deadline != 0 && state.interval != 0 && !self.clock.counts_cpu() {
            let now = self.clock.now().unwrap_or(0);
            if state.deadline <= now {
                let (next, passed) = advance(state.deadline, state.interval, now);
                state.deadline = next;
                state.overrun = state.overrun.saturating_add(passed);
            }
            self.timer.arm(state.deadline);
        }
        state.delivered = core::mem::take(&mut state.overrun);
        state.delivered
    }
}

#[derive(Default)]
pub(super) struct Timers {
    /// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
    interval: [Option<Arc<Expiry>>; 3],
    posix: Vec<Option<Arc<Expiry>>>,
    /// Timers, whoever's, that count this process's CPU time or that of a thread of it.
    pub(super) on_cpu_time: Vec<Weak<Expiry>>,
}

pub(super) fn with<R>(process: &Process, f: impl FnOnce(&mut Timers) -> R) -> R {
    let mut slot = process.timers().lock();
    if slot.as_ref().is_none_or(|b| !b.is::<Timers>()) {
        *slot = Some(Box::new(Timers::default()));
    }
    match slot.as_mut().and_then(|b| b.downcast_mut::<Timers>()) {
        Some(timers) => f(timers),
        None => unreachable!("just put there"),
    }
}

/// man 2 getitimer; `which`: ITIMER_*. EINVAL.
pub fn interval(process: &Process, which: u32) -> Result<Setting> {
    let timer = with(process, |t| t.interval.get(which as usize).cloned()).ok_or(Errno::EINVAL)?;
    Ok(timer.map_or_else(Setting::default, |t| t.get()))
}

/// man 2 setitimer: returns the old setting. `which`: ITIMER_*. EINVAL.
pub fn set_interval(process: &Arc<Process>, which: u32, new: Setting) -> Result<Setting> {
    let this = || Arc::downgrade(process);
    let timer = with(process, |t| {
        let slot = t.interval.get_mut(which as usize)?;
        if slot.is_none() && new.value_ns == 0 {
            return Some(None);
        }
        let timer = slot.get_or_insert_with(|| {
            let (signo, clock) = match which {
                abi::ITIMER_REAL => (abi::SIGALRM, TimerClock::Monotonic),
                abi::ITIMER_VIRTUAL => (abi::SIGVTALRM, TimerClock::User(this())),
                _ => (abi::SIGPROF, TimerClock::Process(this())),
            };
            Expiry::new(Target::Plain(this(), signo), clock)
        });
        Some(Some(timer.clone()))
    })
    .ok_or(Errno::EINVAL)?;
    // Never set and not to be.
    Ok(timer.map_or_else(Setting::default, |t| t.set(new, false)))
}

/// man 2 timer_create: `target` makes what hears of it from the new id. EAGAIN.
pub fn create(
    process: &Process,
    clock: TimerClock,
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
        t.posix[at] = Some(Expiry::new(target(at as i32), clock));
        Ok(at as i32)
    })
}

fn find(process: &Process, id: i32) -> Result<Arc<Expiry>> {
    let at = usize::try_from(id).map_err(|_| Errno::EINVAL)?;
    with(process, |t| t.posix.get(at).cloned().flatten()).ok_or(Errno::EINVAL)
}

/// man 2 timer_settime; `absolute`: the value is a time of the clock (monotonic time, for a
/// timer on the wall clock). What the old setting sent and nobody took is forgotten. EINVAL.
pub fn set(process: &Process, id: i32, new: Setting, absolute: bool) -> Result<Setting> {
    let timer = find(process, id)?;
    let old = timer.get();
    timer.set(Setting::default(), false);
    signal::discard_timers(process, Some(id));
    timer.set(new, absolute);
    Ok(old)
}

/// Whether a timer's absolute settings are wall-clock times. EINVAL.
pub fn is_wall_clock(process: &Process, id: i32) -> Result<bool> {
    Ok(matches!(find(process, id)?.clock, TimerClock::WallClock))
}

/// man 2 timer_gettime. EINVAL.
pub fn get(process: &Process, id: i32) -> Result<Setting> {
    Ok(find(process, id)?.get())
}

/// man 2 timer_getoverrun: of the signal taken last. EINVAL.
pub fn overrun(process: &Process, id: i32) -> Result<i32> {
    let overrun = find(process, id)?.state.lock().delivered;
    Ok(i32::try_from(overrun).unwrap_or(i32::MAX))
}

/// A signal was taken: one of a timer learns how many expiries it stands for, and the timer
/// goes on. In thread context, without locks.
#[inline]
pub(super) fn note_delivery(process: &Process, info: &mut SigInfo) {
    if info.signo == abi::SIGALRM || matches!(info.fields, SigFields::Timer { .. }) {
        note_timer(process, info);
    }
}

#[cold]
fn note_timer(process: &Process, info: &mut SigInfo) {
    let timer = {
        let slot = process.timers().lock();
        let timers = slot.as_ref().and_then(|b| b.downcast_ref::<Timers>());
        timers.and_then(|t| match info.fields {
            SigFields::Timer { id, .. } => t.posix.get(usize::try_from(id).ok()?)?.clone(),
            _ => t.interval[abi::ITIMER_REAL as usize].clone(),
        })
    };
    let Some(timer) = timer else {
        return;
    };
    let passed = timer.delivered();
    if let SigFields::Timer { overrun, .. } = &mut info.fields {
        *overrun = i32::try_from(passed).unwrap_or(i32::MAX);
    }
}

/// man 2 timer_delete. EINVAL.
pub fn delete(process: &Process, id: i32) -> Result<()> {
    let at = usize::try_from(id).map_err(|_| Errno::EINVAL)?;
    let gone =
        with(process, |t| t.posix.get_mut(at).and_then(Option::take)).ok_or(Errno::EINVAL)?;
    // Dropped outside the lock: it waits for an expiry that runs now.
    drop(gone);
    signal::discard_timers(process, Some(id));
    Ok(())
}

/// execve: POSIX timers end, and what they sent is forgotten.
pub fn end_posix_timers(process: &Process) {
    let gone = with(process, |t| core::mem::take(&mut t.posix));
    if !gone.is_empty() {
        drop(gone);
        signal::discard_timers(process, None);
    }
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
    fn a_period_goes_on_when_the_signal_is_taken() {
        let e = Expiry::new(Target::Nobody, TimerClock::Monotonic);
        let every = |interval_ns| Setting {
            value_ns: 1,
            interval_ns,
        };
        e.set(every(1), false);
        let before = now_ns();
        // The timer itself does not run here.
        e.expired(before);
        let early = e.state.lock().deadline;
        assert!(early > before);
        let passed = e.delivered();
        assert!(e.state.lock().deadline > early || passed == 0);
        assert_eq!(e.state.lock().delivered, passed);
        assert!(e.get().value_ns <= 1, "in phase");
        assert!(e.timer.armed());
        e.set(Setting::default(), false);
        assert_eq!(e.delivered(), 0);
        assert!(!e.timer.armed());
    }

    #[test]
    fn settings_are_replaced_and_read_back() {
        let e = Expiry::new(Target::Nobody, TimerClock::Monotonic);
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
