//! Timers that send signals (man 2 setitimer, man 2 alarm, man 2 timer_create).
//!
//! A timer on the wall clock keeps the moment it was set for when the clock is set.

use super::SyscallResult;
use super::time::{
    Clock, Pair, clock, is_only_read, timer_clock, timespec, timespec_ns, timeval, timeval_ns,
};
use crate::abi;
use crate::error::{Errno, Result};
use crate::process::sigstate::NSIG;
use crate::process::timers::{self, Notice, Setting, Target, TimerClock};
use crate::process::{self, Process};
use crate::time::{self, NS_PER_SEC};
use crate::vm::UserPtr;

/// Two `struct timeval` or `struct timespec`: interval, value.
type Quad = [i64; 4];

fn split(quad: Quad, ns: fn(Pair) -> Result<u64>) -> Result<Setting> {
    Ok(Setting {
        interval_ns: ns([quad[0], quad[1]])?,
        value_ns: ns([quad[2], quad[3]])?,
    })
}

fn join(setting: Setting, pair: fn(u64) -> Pair) -> Quad {
    let (interval, value) = (pair(setting.interval_ns), pair(setting.value_ns));
    [interval[0], interval[1], value[0], value[1]]
}

/// What a program sees of an interval timer: never 0 while it is armed.
fn itimerval(mut setting: Setting) -> Quad {
    if setting.value_ns != 0 {
        setting.value_ns = setting.value_ns.max(1000);
    }
    join(setting, timeval)
}

/// man 2 getitimer.
pub fn getitimer(which: u32, out: UserPtr<Quad>) -> SyscallResult {
    let setting = timers::interval(process::current().process(), which)?;
    out.write(itimerval(setting))?;
    Ok(0)
}

/// man 2 setitimer. A null `new` disarms, as on Linux.
pub fn setitimer(which: u32, new: UserPtr<Quad>, old: UserPtr<Quad>) -> SyscallResult {
    let setting = match new.non_null() {
        Some(new) => split(new.read()?, timeval_ns)?,
        None => Setting::default(),
    };
    let before = timers::set_interval(process::current().process(), which, setting)?;
    if let Some(old) = old.non_null() {
        old.write(itimerval(before))?;
    }
    Ok(0)
}

/// man 2 alarm.
pub fn alarm(seconds: u32) -> SyscallResult {
    let new = Setting {
        value_ns: u64::from(seconds) * NS_PER_SEC,
        interval_ns: 0,
    };
    let old = timers::set_interval(process::current().process(), abi::ITIMER_REAL, new)?;
    // Rounded to the nearest second, but not to "none".
    let left = (old.value_ns + NS_PER_SEC / 2) / NS_PER_SEC;
    Ok(left.max(u64::from(old.value_ns != 0)) as isize)
}

/// `sigev_notify` values (man 3 sigevent).
const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD_ID: u32 = 4;

/// man 2 timer_create.
pub fn timer_create(id: i32, event: UserPtr<[u32; 16]>, out: UserPtr<i32>) -> SyscallResult {
    let on = match clock(id)? {
        _ if is_only_read(id) => return Err(Errno::EOPNOTSUPP),
        Clock::Real => TimerClock::WallClock,
        Clock::Monotonic => TimerClock::Monotonic,
        cpu => timer_clock(cpu)?,
    };
    let task = process::current();
    let process = task.process();
    let new = match event.non_null() {
        None => timers::create(process, on, |id| {
            let notice = Notice {
                signo: abi::SIGALRM,
                id,
                value: id as u64,
            };
            Target::Process(alloc::sync::Arc::downgrade(process), notice)
        })?,
        Some(event) => {
            // struct sigevent: value (8 bytes), signo, notify, thread id.
            let event = event.read()?;
            let value = u64::from(event[1]) << 32 | u64::from(event[0]);
            let (signo, notify, tid) = (event[2], event[3], event[4] as i32);
            if notify != SIGEV_NONE && !(1..=NSIG).contains(&signo) {
                return Err(Errno::EINVAL);
            }
            let thread = match notify {
                SIGEV_SIGNAL | SIGEV_NONE => None,
                SIGEV_THREAD_ID => Some(own_thread(process, tid)?),
                _ => return Err(Errno::EINVAL),
            };
            timers::create(process, on, |id| {
                let notice = Notice { signo, id, value };
                match &thread {
                    _ if notify == SIGEV_NONE => Target::Nobody,
                    Some(thread) => Target::Thread(alloc::sync::Arc::downgrade(thread), notice),
                    None => Target::Process(alloc::sync::Arc::downgrade(process), notice),
                }
            })?
        }
    };
    if let Err(e) = out.write(new) {
        let _ = timers::delete(process, new);
        return Err(e);
    }
    Ok(0)
}

/// A thread of the process. EINVAL.
fn own_thread(process: &Process, tid: i32) -> Result<alloc::sync::Arc<process::Task>> {
    process::find_task(tid)
        .filter(|t| t.pid() == process.pid())
        .ok_or(Errno::EINVAL)
}

/// man 2 timer_settime. An absolute wall-clock time is turned into a monotonic one now.
pub fn timer_settime(id: i32, flags: u32, new: UserPtr<Quad>, old: UserPtr<Quad>) -> SyscallResult {
    let mut setting = split(new.read()?, timespec_ns)?;
    let absolute = flags & abi::TIMER_ABSTIME != 0;
    let task = process::current();
    if absolute && setting.value_ns != 0 && timers::is_wall_clock(task.process(), id)? {
        let left = setting.value_ns.saturating_sub(time::realtime_ns());
        // A time that has passed fires at once.
        setting.value_ns = time::now_ns().saturating_add(left).max(1);
    }
    let before = timers::set(task.process(), id, setting, absolute)?;
    if let Some(old) = old.non_null() {
        old.write(join(before, timespec))?;
    }
    Ok(0)
}

/// man 2 timer_gettime.
pub fn timer_gettime(id: i32, out: UserPtr<Quad>) -> SyscallResult {
    let setting = timers::get(process::current().process(), id)?;
    out.write(join(setting, timespec))?;
    Ok(0)
}

/// man 2 timer_getoverrun.
pub fn timer_getoverrun(id: i32) -> SyscallResult {
    Ok(timers::overrun(process::current().process(), id)? as isize)
}

/// man 2 timer_delete.
pub fn timer_delete(id: i32) -> SyscallResult {
    timers::delete(process::current().process(), id)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_in_both_units() {
        let s = split([1, 2, 3, 4], timeval_ns).unwrap();
        assert_eq!((s.interval_ns, s.value_ns), (1_000_002_000, 3_000_004_000));
        assert_eq!(join(s, timeval), [1, 2, 3, 4]);
        assert_eq!(join(s, timespec), [1, 2000, 3, 4000]);
        assert_eq!(split([0, 0, 0, 1_000_000], timeval_ns), Err(Errno::EINVAL));
        let soon = Setting {
            value_ns: 1,
            interval_ns: 0,
        };
        assert_eq!(itimerval(soon), [0, 0, 0, 1]);
    }
}
