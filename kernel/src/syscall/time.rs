//! Clocks and sleeping (man 2 clock_gettime, man 2 nanosleep).

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::SyscallResult;
use crate::abi;
use crate::error::{Errno, Result};
use crate::process::timers::TimerClock;
use crate::process::{self, cputime};
use crate::sched::{WaitError, WaitQueue};
use crate::security::capability::CAP_SYS_TIME;
use crate::time::{self, NS_PER_SEC};
use crate::vm::UserPtr;

/// `struct timespec` or `struct timeval`: seconds and the rest.
pub(super) type Pair = [i64; 2];

/// Clock ticks per second of times(2).
const TICKS_PER_SEC: u64 = 100;

/// Nanoseconds of a `struct timespec`. EINVAL when it is none, or negative.
pub(super) fn timespec_ns([seconds, ns]: Pair) -> Result<u64> {
    units_ns(seconds, ns, 1)
}

/// Nanoseconds of a `struct timeval`. EINVAL when it is none, or negative.
pub(super) fn timeval_ns([seconds, us]: Pair) -> Result<u64> {
    units_ns(seconds, us, 1000)
}

fn units_ns(seconds: i64, fraction: i64, unit_ns: u64) -> Result<u64> {
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let fraction = u64::try_from(fraction).map_err(|_| Errno::EINVAL)?;
    if fraction >= NS_PER_SEC / unit_ns {
        return Err(Errno::EINVAL);
    }
    // Times beyond the year 2554 are as good as never.
    Ok(seconds
        .saturating_mul(NS_PER_SEC)
        .saturating_add(fraction * unit_ns))
}

/// `struct timespec` of nanoseconds.
pub(super) fn timespec(ns: u64) -> Pair {
    [(ns / NS_PER_SEC) as i64, (ns % NS_PER_SEC) as i64]
}

/// `struct timeval` of nanoseconds.
pub(super) fn timeval(ns: u64) -> Pair {
    [(ns / NS_PER_SEC) as i64, (ns % NS_PER_SEC / 1000) as i64]
}

/// What a clock id names (man 2 clock_gettime).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// The wall clock.
    Real,
    /// Time since boot; there is no suspend, so "boottime" is the same.
    Monotonic,
    /// CPU time of a process, 0 for the caller's.
    ProcessCpu(i32),
    /// CPU time of a thread, 0 for the caller.
    ThreadCpu(i32),
}

/// Decodes a clock id. EINVAL.
pub(super) fn clock(id: i32) -> Result<Clock> {
    if id < 0 {
        // man 3 clock_getcpuclockid: the id's complement, and what to measure.
        let who = !(id >> 3);
        return match id & 7 {
            2 => Ok(Clock::ProcessCpu(who)),
            6 => Ok(Clock::ThreadCpu(who)),
            _ => Err(Errno::EINVAL),
        };
    }
    match id as u32 {
        // TAI without a leap-second table is UTC, as on Linux before adjtimex sets one.
        abi::CLOCK_REALTIME
        | abi::CLOCK_REALTIME_COARSE
        | abi::CLOCK_REALTIME_ALARM
        | abi::CLOCK_TAI => Ok(Clock::Real),
        abi::CLOCK_MONOTONIC
        | abi::CLOCK_MONOTONIC_RAW
        | abi::CLOCK_MONOTONIC_COARSE
        | abi::CLOCK_BOOTTIME
        | abi::CLOCK_BOOTTIME_ALARM => Ok(Clock::Monotonic),
        abi::CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::ProcessCpu(0)),
        abi::CLOCK_THREAD_CPUTIME_ID => Ok(Clock::ThreadCpu(0)),
        _ => Err(Errno::EINVAL),
    }
}

/// Clocks that can be read, but neither slept by nor have timers (EOPNOTSUPP).
pub(super) fn is_only_read(id: i32) -> bool {
    matches!(
        id as u32,
        abi::CLOCK_MONOTONIC_RAW | abi::CLOCK_REALTIME_COARSE | abi::CLOCK_MONOTONIC_COARSE
    )
}

/// What a timer on a CPU-time clock counts. EINVAL when its process or thread is not there.
pub(super) fn timer_clock(clock: Clock) -> Result<TimerClock> {
    let own = process::current();
    let of_process = |p: &Arc<process::Process>| TimerClock::Process(Arc::downgrade(p));
    let of_thread = |t: &Arc<process::Task>| TimerClock::Thread(Arc::downgrade(t));
    match clock {
        Clock::ProcessCpu(0) => Ok(of_process(own.process())),
        Clock::ProcessCpu(pid) => Ok(of_process(&process::find(pid).ok_or(Errno::EINVAL)?)),
        Clock::ThreadCpu(0) => Ok(of_thread(&own)),
        Clock::ThreadCpu(tid) => {
            let other = process::find_task(tid).filter(|t| t.pid() == own.pid());
            Ok(of_thread(&other.ok_or(Errno::EINVAL)?))
        }
        Clock::Real | Clock::Monotonic => Err(Errno::EINVAL),
    }
}

/// What a clock shows. EINVAL when its process or thread is not there.
pub(super) fn read(clock: Clock) -> Result<u64> {
    match clock {
        Clock::Real => Ok(time::realtime_ns()),
        Clock::Monotonic => Ok(time::now_ns()),
        Clock::ProcessCpu(0) => Ok(process::current().process().usage().0.cpu_ns()),
        Clock::ProcessCpu(pid) => {
            let other = process::find(pid).ok_or(Errno::EINVAL)?;
            Ok(other.usage().0.cpu_ns())
        }
        Clock::ThreadCpu(0) => Ok(crate::sched::current().runtime_ns()),
        Clock::ThreadCpu(tid) => {
            let other = process::find_task(tid).ok_or(Errno::EINVAL)?;
            // Of the own process only.
            if other.pid() != process::current().pid() {
                return Err(Errno::EINVAL);
            }
            Ok(other.thread().map_or(0, |t| t.runtime_ns()))
        }
    }
}

/// man 2 clock_gettime.
pub fn clock_gettime(id: i32, out: UserPtr<Pair>) -> SyscallResult {
    out.write(timespec(read(clock(id)?)?))?;
    Ok(0)
}

/// Woken when the wall clock is set: sleeps until a wall-clock time look again.
static CLOCK_SET: WaitQueue = WaitQueue::new();

fn set_wall_clock(ns: u64) -> SyscallResult {
    if !process::current().cred().capable(CAP_SYS_TIME) {
        return Err(Errno::EPERM);
    }
    // Not before the machine started: monotonic time would be ahead of the wall.
    if ns < time::now_ns() {
        return Err(Errno::EINVAL);
    }
    time::set_realtime_ns(ns);
    CLOCK_SET.wake_all();
    Ok(0)
}

/// man 2 clock_settime.
pub fn clock_settime(id: i32, new: UserPtr<Pair>) -> SyscallResult {
    if id as u32 != abi::CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    set_wall_clock(timespec_ns(new.read()?)?)
}

/// man 2 clock_getres: all clocks count single nanoseconds.
pub fn clock_getres(id: i32, out: UserPtr<Pair>) -> SyscallResult {
    read(clock(id)?)?;
    if let Some(out) = out.non_null() {
        out.write([0, 1])?;
    }
    Ok(0)
}

/// man 2 gettimeofday.
pub fn gettimeofday(out: UserPtr<Pair>, zone: UserPtr<[i32; 2]>) -> SyscallResult {
    if let Some(out) = out.non_null() {
        out.write(timeval(time::realtime_ns()))?;
    }
    if let Some(zone) = zone.non_null() {
        zone.write([0, 0])?;
    }
    Ok(0)
}

/// man 2 settimeofday. The kernel keeps no time zone: setting one other than UTC is EINVAL.
pub fn settimeofday(new: UserPtr<Pair>, zone: UserPtr<[i32; 2]>) -> SyscallResult {
    if let Some(zone) = zone.non_null()
        && zone.read()? != [0, 0]
    {
        return Err(Errno::EINVAL);
    }
    match new.non_null() {
        Some(new) => set_wall_clock(timeval_ns(new.read()?)?),
        None => Ok(0),
    }
}

/// man 2 time.
pub fn time(out: UserPtr<i64>) -> SyscallResult {
    let now = (time::realtime_ns() / NS_PER_SEC) as i64;
    if let Some(out) = out.non_null() {
        out.write(now)?;
    }
    Ok(now as isize)
}

/// man 2 times.
pub fn times(out: UserPtr<[i64; 4]>) -> SyscallResult {
    let ticks = |ns: u64| (ns / (NS_PER_SEC / TICKS_PER_SEC)) as i64;
    if let Some(out) = out.non_null() {
        let (own, children) = process::current().process().usage();
        out.write([
            ticks(own.user_ns),
            ticks(own.system_ns),
            ticks(children.user_ns),
            ticks(children.system_ns),
        ])?;
    }
    Ok(ticks(time::now_ns()) as isize)
}

/// Sleeps until monotonic time `deadline`; when a signal comes, writes what is left to
/// `remaining` and asks to be restarted.
fn sleep_monotonic(deadline: u64, remaining: UserPtr<Pair>) -> SyscallResult {
    if crate::sched::sleep_until(deadline).is_ok() {
        return Ok(0);
    }
    let left = deadline.saturating_sub(time::now_ns());
    if left == 0 {
        return Ok(0);
    }
    if let Some(remaining) = remaining.non_null() {
        remaining.write(timespec(left))?;
    }
    let at = remaining.addr();
    let again = Box::new(move || sleep_monotonic(deadline, UserPtr::new(at)));
    Err(process::current().restart_with(again))
}

/// Sleeps until the wall clock shows `until`, however it is set meanwhile.
fn sleep_wall(until: u64) -> SyscallResult {
    loop {
        let changes = time::realtime_changes();
        let now = time::realtime_ns();
        if now >= until {
            return Ok(0);
        }
        let deadline = time::now_ns().saturating_add(until - now);
        let set = CLOCK_SET.wait_interruptible(Some(deadline), || {
            (time::realtime_changes() != changes).then_some(())
        });
        if set == Err(WaitError::Interrupted) {
            // The time is absolute: a restart takes the same arguments.
            return Err(Errno::ERESTARTNOHAND);
        }
    }
}

/// man 2 nanosleep.
pub fn nanosleep(request: UserPtr<Pair>, remaining: UserPtr<Pair>) -> SyscallResult {
    let ns = timespec_ns(request.read()?)?;
    sleep_monotonic(time::now_ns().saturating_add(ns), remaining)
}

/// Sleeps until `clock`, which counts CPU time, shows `until`; as [`sleep_monotonic`] when a
/// signal comes, unless the time was given as an absolute one.
fn sleep_cpu(
    clock: TimerClock,
    until: u64,
    absolute: bool,
    remaining: UserPtr<Pair>,
) -> SyscallResult {
    let Err(left) = cputime::sleep_until(clock.clone(), until) else {
        return Ok(0);
    };
    if absolute {
        return Err(Errno::ERESTARTNOHAND);
    }
    if let Some(remaining) = remaining.non_null() {
        remaining.write(timespec(left))?;
    }
    let at = remaining.addr();
    let again = Box::new(move || sleep_cpu(clock, until, false, UserPtr::new(at)));
    Err(process::current().restart_with(again))
}

/// man 2 clock_nanosleep.
pub fn clock_nanosleep(
    id: i32,
    flags: u32,
    request: UserPtr<Pair>,
    remaining: UserPtr<Pair>,
) -> SyscallResult {
    let clock = clock(id)?;
    if is_only_read(id) {
        return Err(Errno::EOPNOTSUPP);
    }
    let ns = timespec_ns(request.read()?)?;
    let absolute = flags & abi::TIMER_ABSTIME != 0;
    match clock {
        // A relative sleep does not care how the wall clock is set.
        Clock::Real | Clock::Monotonic if !absolute => {
            sleep_monotonic(time::now_ns().saturating_add(ns), remaining)
        }
        Clock::Real => sleep_wall(ns),
        Clock::Monotonic => crate::sched::sleep_until(ns)
            .map(|()| 0)
            .map_err(|_| Errno::ERESTARTNOHAND),
        // Nobody can sleep while its own time passes.
        Clock::ThreadCpu(0) => Err(Errno::EINVAL),
        Clock::ThreadCpu(_) | Clock::ProcessCpu(_) => {
            let clock = timer_clock(clock)?;
            let until = match absolute {
                true => ns,
                false => cputime::now(&clock).unwrap_or(0).saturating_add(ns),
            };
            sleep_cpu(clock, until, absolute, remaining)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_and_converted() {
        assert_eq!(timespec_ns([1, 5]), Ok(1_000_000_005));
        assert_eq!(timespec_ns([1, 1_000_000_000]), Err(Errno::EINVAL));
        assert_eq!(timespec_ns([-1, 0]), Err(Errno::EINVAL));
        assert_eq!(timespec_ns([0, -1]), Err(Errno::EINVAL));
        assert_eq!(timespec_ns([i64::MAX, 0]), Ok(u64::MAX));
        assert_eq!(timeval_ns([2, 999_999]), Ok(2_999_999_000));
        assert_eq!(timeval_ns([0, 1_000_000]), Err(Errno::EINVAL));
        assert_eq!(timespec(3_000_000_007), [3, 7]);
        assert_eq!(timeval(3_000_007_999), [3, 7]);
    }

    #[test]
    fn clock_ids() {
        assert_eq!(clock(0), Ok(Clock::Real));
        assert_eq!(clock(7), Ok(Clock::Monotonic));
        assert_eq!(clock(2), Ok(Clock::ProcessCpu(0)));
        assert_eq!(clock(10), Err(Errno::EINVAL));
        assert_eq!(clock(99), Err(Errno::EINVAL));
        // man 3 clock_getcpuclockid of process 5; pthread_getcpuclockid of thread 7.
        assert_eq!(clock(!5 << 3 | 2), Ok(Clock::ProcessCpu(5)));
        assert_eq!(clock(!7 << 3 | 6), Ok(Clock::ThreadCpu(7)));
        assert_eq!(clock(!7 << 3 | 3), Err(Errno::EINVAL));
    }
}
