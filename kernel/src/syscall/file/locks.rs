//! Locks on files and on their bytes (man 2 flock, man 2 fcntl). What they are is
//! [`crate::file::lock`]'s.

use alloc::sync::Arc;

use super::{SyscallResult, io_file};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::file::lock::{self, Kind, RangeLock};
use crate::process;
use crate::vm::UserPtr;

/// The bytes that a `struct flock` names (man 2 fcntl): first, and one past the last.
fn lock_range(of: &OpenFile, asked: &abi::flock) -> Result<(u64, u64)> {
    let base = match asked.l_whence as u32 {
        abi::SEEK_SET => 0,
        abi::SEEK_CUR => of.position() as i64,
        abi::SEEK_END => of.file.stat()?.st_size,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(asked.l_start).ok_or(Errno::EOVERFLOW)?;
    let (first, end) = match asked.l_len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start),
    };
    let first = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
    let end = if end == i64::MAX {
        u64::MAX
    } else {
        end as u64
    };
    Ok((first, end))
}

/// The lock a command asks for; its kind is exclusive when it only unlocks.
fn wanted_lock(
    task: &process::Task,
    of: &Arc<OpenFile>,
    ofd: bool,
    asked: &abi::flock,
) -> Result<RangeLock> {
    if ofd && asked.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = lock_range(of, asked)?;
    let kind = match asked.l_type as u32 {
        abi::F_RDLCK => Kind::Shared,
        abi::F_WRLCK | abi::F_UNLCK => Kind::Exclusive,
        _ => return Err(Errno::EINVAL),
    };
    let (owner, pid) = match ofd {
        true => (Arc::as_ptr(of).addr(), -1),
        false => (task.files().lock_owner(), task.pid()),
    };
    Ok(RangeLock {
        owner,
        pid,
        kind,
        start,
        end,
    })
}

pub(super) fn get_lock(
    task: &process::Task,
    of: &Arc<OpenFile>,
    cmd: u32,
    ptr: UserPtr<abi::flock>,
) -> SyscallResult {
    let mut asked = ptr.read()?;
    if asked.l_type as u32 == abi::F_UNLCK {
        return Err(Errno::EINVAL);
    }
    let wanted = wanted_lock(task, of, cmd == abi::F_OFD_GETLK, &asked)?;
    match lock::test(of, &wanted)? {
        None => asked.l_type = abi::F_UNLCK as i16,
        Some(held) => {
            let kind = if held.kind == Kind::Shared {
                abi::F_RDLCK
            } else {
                abi::F_WRLCK
            };
            asked.l_type = kind as i16;
            asked.l_whence = abi::SEEK_SET as i16;
            asked.l_start = held.start as i64;
            asked.l_len = if held.end == u64::MAX {
                0
            } else {
                (held.end - held.start) as i64
            };
            asked.l_pid = held.pid;
        }
    }
    ptr.write(asked)?;
    Ok(0)
}

pub(super) fn set_lock(
    task: &process::Task,
    of: &Arc<OpenFile>,
    cmd: u32,
    ptr: UserPtr<abi::flock>,
) -> SyscallResult {
    let asked = ptr.read()?;
    let ofd = cmd == abi::F_OFD_SETLK || cmd == abi::F_OFD_SETLKW;
    let wait = cmd == abi::F_SETLKW || cmd == abi::F_OFD_SETLKW;
    let wanted = wanted_lock(task, of, ofd, &asked)?;
    match asked.l_type as u32 {
        abi::F_UNLCK => lock::unlock(of, wanted.owner, wanted.start, wanted.end)?,
        abi::F_RDLCK if !of.readable() => return Err(Errno::EBADF),
        abi::F_WRLCK if !of.writable() => return Err(Errno::EBADF),
        _ => lock::lock(of, wanted, wait, !ofd)?,
    }
    Ok(0)
}

pub fn flock(fd: i32, operation: u32) -> SyscallResult {
    let of = io_file(fd)?;
    let wanted = match operation & !abi::LOCK_NB {
        abi::LOCK_SH => Some(Kind::Shared),
        abi::LOCK_EX => Some(Kind::Exclusive),
        abi::LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    lock::flock(&of, wanted, operation & abi::LOCK_NB == 0)?;
    Ok(0)
}
