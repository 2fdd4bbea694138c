//! The numbers themselves: closing, duplicating, and what fcntl and ioctl say of a descriptor
//! or its description.

use super::async_io;
use super::locks::{get_lock, set_lock};
use super::{SyscallResult, install, io_file, nofile};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::file::pipe::PipeEnd;
use crate::mm::UserAddr;
use crate::process;
use crate::vm::UserPtr;

pub fn close(fd: i32) -> SyscallResult {
    process::current().files().close(fd)?;
    Ok(0)
}

/// man 2 close_range (linux/close_range.h).
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;

/// See [`CLOSE_RANGE_UNSHARE`].
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

pub fn close_range(first: u32, last: u32, flags: u32) -> SyscallResult {
    if flags & !(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    let task = process::current();
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        task.unshare_files()?;
    }
    task.files()
        .close_range(first, last, flags & CLOSE_RANGE_CLOEXEC != 0);
    Ok(0)
}

pub fn dup(fd: i32) -> SyscallResult {
    install(process::current().file(fd)?, false)
}

pub fn dup2(old: i32, new: i32) -> SyscallResult {
    let task = process::current();
    let of = task.file(old)?;
    if old == new {
        return Ok(new as isize);
    }
    Ok(task.files().replace(new, of, false, nofile())? as isize)
}

pub fn dup3(old: i32, new: i32, flags: u32) -> SyscallResult {
    if old == new || flags & !abi::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let task = process::current();
    let of = task.file(old)?;
    let close_on_exec = flags & abi::O_CLOEXEC != 0;
    Ok(task.files().replace(new, of, close_on_exec, nofile())? as isize)
}

/// Status flags that F_SETFL changes (man 2 fcntl).
const SETFL_MASK: u32 = abi::O_APPEND | abi::O_NONBLOCK | abi::O_DIRECT | abi::O_NOATIME;

pub fn fcntl(fd: i32, cmd: u32, arg: u64) -> SyscallResult {
    let task = process::current();
    let files = task.files();
    let (of, close_on_exec) = files.get_with_flag(fd)?;
    let path_only = of.flags() & abi::O_PATH != 0;
    match cmd {
        abi::F_DUPFD | abi::F_DUPFD_CLOEXEC => {
            let limit = nofile();
            let min = i32::try_from(arg as i64).map_err(|_| Errno::EINVAL)?;
            let min = usize::try_from(min).map_err(|_| Errno::EINVAL)?;
            if min as u64 >= limit {
                return Err(Errno::EINVAL);
            }
            let slot = files.reserve_from(min, limit)?;
            Ok(slot.install(of, cmd == abi::F_DUPFD_CLOEXEC) as isize)
        }
        abi::F_GETFD => Ok(if close_on_exec {
            abi::FD_CLOEXEC as isize
        } else {
            0
        }),
        abi::F_SETFD => {
            files.set_close_on_exec(fd, arg & u64::from(abi::FD_CLOEXEC) != 0)?;
            Ok(0)
        }
        // The creation flags are not part of the description; O_LARGEFILE always is (x86_64).
        abi::F_GETFL => {
            let gone = abi::O_CREAT | abi::O_EXCL | abi::O_NOCTTY | abi::O_TRUNC | abi::O_CLOEXEC;
            Ok((of.flags() & !gone) as isize)
        }
        _ if path_only => Err(Errno::EBADF),
        abi::F_SETFL => {
            let asks = arg as u32;
            if asks & abi::O_DIRECT != 0 && of.flags() & abi::O_DIRECT == 0 {
                return Err(Errno::EINVAL);
            }
            async_io::set_flag(&task, &of, fd, asks & abi::FASYNC != 0)?;
            of.set_flags(SETFL_MASK, asks);
            Ok(0)
        }
        abi::F_GETPIPE_SZ => Ok(pipe_end(&of)?.pipe().capacity() as isize),
        abi::F_SETPIPE_SZ => {
            let privileged = task.cred().is_privileged();
            Ok(pipe_end(&of)?
                .pipe()
                .set_capacity(arg as usize, privileged)? as isize)
        }
        abi::F_GETLK | abi::F_OFD_GETLK => get_lock(&task, &of, cmd, UserPtr::new(UserAddr(arg))),
        abi::F_SETLK | abi::F_SETLKW | abi::F_OFD_SETLK | abi::F_OFD_SETLKW => {
            set_lock(&task, &of, cmd, UserPtr::new(UserAddr(arg)))
        }
        _ => async_io::command(&task, &of, cmd, arg).unwrap_or(Err(Errno::EINVAL)),
    }
}

fn pipe_end(of: &OpenFile) -> Result<&PipeEnd> {
    of.file
        .as_any()
        .downcast_ref::<PipeEnd>()
        .ok_or(Errno::EBADF)
}

pub fn ioctl(fd: i32, cmd: u32, arg: u64) -> SyscallResult {
    let of = io_file(fd)?;
    let task = process::current();
    let files = task.files();
    let int = UserPtr::<i32>::new(UserAddr(arg));
    match cmd {
        abi::ioctl::FIOCLEX => files.set_close_on_exec(fd, true)?,
        abi::ioctl::FIONCLEX => files.set_close_on_exec(fd, false)?,
        abi::ioctl::FIONBIO => {
            let on = int.read()? != 0;
            of.set_flags(abi::O_NONBLOCK, if on { abi::O_NONBLOCK } else { 0 });
        }
        _ => {
            if let Some(result) = async_io::control(&task, &of, fd, cmd, arg) {
                result?;
                return Ok(0);
            }
            return of.file.ioctl(&of, cmd, arg);
        }
    }
    Ok(0)
}
