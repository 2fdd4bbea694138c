//! Files without a name: pipes, event counters, timers (man 2 pipe, eventfd, timerfd_create).

use super::{SyscallResult, install, io_file, nofile};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::eventfd::EventFd;
use crate::file::pipe;
use crate::file::timerfd::TimerFd;
use crate::file::{File, OpenFile};
use crate::mm::UserAddr;
use crate::process;
use crate::time::NS_PER_SEC;
use crate::vfs::memory_file;
use crate::vm::UserPtr;
use crate::vm::user::read_cstr;

pub fn pipe(fds: UserPtr<[i32; 2]>) -> SyscallResult {
    pipe2(fds, 0)
}

pub fn pipe2(fds: UserPtr<[i32; 2]>, flags: u32) -> SyscallResult {
    // O_DIRECT (packets) and O_NOTIFICATION_PIPE are not there.
    if flags & !(abi::O_CLOEXEC | abi::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let files = process::current().files();
    let limit = nofile();
    let (first, second) = (files.reserve(limit)?, files.reserve(limit)?);
    // The numbers go out before the files exist: a bad pointer leaves nothing behind.
    fds.write([first.fd(), second.fd()])?;
    let (reader, writer) = pipe::pipe(flags & abi::O_NONBLOCK);
    let close_on_exec = flags & abi::O_CLOEXEC != 0;
    first.install(reader, close_on_exec);
    second.install(writer, close_on_exec);
    Ok(0)
}

/// MFD_* (man 2 memfd_create) that are there: MFD_CLOEXEC, MFD_EXEC. Seals and huge pages are
/// not.
pub fn memfd_create(name: UserAddr, flags: u32) -> SyscallResult {
    const MFD_CLOEXEC: u32 = 1;
    const MFD_ALLOW_SEALING: u32 = 2;
    const MFD_EXEC: u32 = 0x10;
    /// Longest name, without its NUL.
    const NAME_MAX: usize = 249;
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_cstr(name, NAME_MAX, Errno::EINVAL)?;
    let file = memory_file(&name, &process::current().cred())?;
    install(file, flags & MFD_CLOEXEC != 0)
}

pub fn eventfd(initial: u32) -> SyscallResult {
    eventfd2(initial, 0)
}

pub fn eventfd2(initial: u32, flags: u32) -> SyscallResult {
    if flags & !(abi::EFD_SEMAPHORE | abi::EFD_CLOEXEC | abi::EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = EventFd::new(initial, flags & abi::EFD_SEMAPHORE != 0);
    let of = OpenFile::new(file, abi::O_RDWR | (flags & abi::O_NONBLOCK));
    install(of, flags & abi::EFD_CLOEXEC != 0)
}

pub fn timerfd_create(clock: u32, flags: u32) -> SyscallResult {
    if flags & !(abi::TFD_CLOEXEC | abi::TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let realtime = match clock {
        abi::CLOCK_REALTIME => true,
        abi::CLOCK_MONOTONIC | abi::CLOCK_BOOTTIME => false,
        _ => return Err(Errno::EINVAL),
    };
    let of = OpenFile::new(
        TimerFd::new(realtime),
        abi::O_RDWR | (flags & abi::O_NONBLOCK),
    );
    install(of, flags & abi::TFD_CLOEXEC != 0)
}

/// `struct itimerspec`: interval (s, ns), value (s, ns).
type ItimerSpec = [i64; 4];

fn to_ns(seconds: i64, nanos: i64) -> Result<u64> {
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let nanos = u64::try_from(nanos)
        .ok()
        .filter(|&n| n < NS_PER_SEC)
        .ok_or(Errno::EINVAL)?;
    Ok(seconds.saturating_mul(NS_PER_SEC).saturating_add(nanos))
}

fn from_ns((left, interval): (u64, u64)) -> ItimerSpec {
    let split = |ns: u64| ((ns / NS_PER_SEC) as i64, (ns % NS_PER_SEC) as i64);
    let ((is, ins), (ls, lns)) = (split(interval), split(left));
    [is, ins, ls, lns]
}

fn with_timerfd<R>(fd: i32, f: impl FnOnce(&TimerFd) -> R) -> Result<R> {
    let of = io_file(fd)?;
    let file: &dyn File = &*of.file;
    file.as_any()
        .downcast_ref::<TimerFd>()
        .map(f)
        .ok_or(Errno::EINVAL)
}

pub fn timerfd_settime(
    fd: i32,
    flags: u32,
    new: UserPtr<ItimerSpec>,
    old: UserPtr<ItimerSpec>,
) -> SyscallResult {
    if flags & !abi::TFD_TIMER_ABSTIME != 0 {
        return Err(Errno::EINVAL);
    }
    let [interval_s, interval_ns, value_s, value_ns] = new.read()?;
    let (interval, value) = (to_ns(interval_s, interval_ns)?, to_ns(value_s, value_ns)?);
    let absolute = flags & abi::TFD_TIMER_ABSTIME != 0;
    let was = with_timerfd(fd, |timer| timer.set(value, interval, absolute))?;
    if let Some(old) = old.non_null() {
        old.write(from_ns(was))?;
    }
    Ok(0)
}

pub fn timerfd_gettime(fd: i32, out: UserPtr<ItimerSpec>) -> SyscallResult {
    let now = with_timerfd(fd, TimerFd::get)?;
    out.write(from_ns(now))?;
    Ok(0)
}
