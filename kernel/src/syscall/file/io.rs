//! Reading and writing: one buffer, vectors, at a position (man 2 read, readv, pread).

use alloc::vec::Vec;

use super::limit::{file_limit, keeps_set_id, over_file_limit};
use super::{MAX_RW_COUNT, SyscallResult, position, with_sigpipe};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::mm::addr::USER_END;
use crate::process;
use crate::vm::io::UserRange;
use crate::vm::{IoDest, IoSource, UserPtr};

/// Most entries of an I/O vector (man 2 readv, IOV_MAX).
pub(in crate::syscall) const IOV_MAX: usize = 1024;

/// The memory that an I/O vector names, at most [`MAX_RW_COUNT`] bytes in all. EINVAL for more
/// than [`IOV_MAX`] entries or lengths that overflow, EFAULT.
pub(in crate::syscall) fn vector(iov: UserPtr<abi::iovec>, count: usize) -> Result<Vec<UserRange>> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let mut left = MAX_RW_COUNT;
    let mut total: usize = 0;
    let mut ranges = Vec::with_capacity(count);
    for entry in iov.read_vec(count)? {
        let len = entry.iov_len as usize;
        total = total
            .checked_add(len)
            .filter(|&t| t <= isize::MAX as usize)
            .ok_or(Errno::EINVAL)?;
        let len = len.min(left);
        left -= len;
        ranges.push(UserRange {
            addr: UserAddr(entry.iov_base.addr() as u64),
            len,
        });
    }
    Ok(ranges)
}

/// Writes within RLIMIT_FSIZE, at `pos` or at the descriptor's position.
fn write_from(of: &OpenFile, pos: Option<u64>, mut src: IoSource<'_>) -> SyscallResult {
    let mut limit = u64::MAX;
    if of.file.is_positional() {
        limit = file_limit();
        src = src.with_file_limit(limit).with_keeps_set_id(keeps_set_id);
    }
    let done = match pos {
        Some(pos) => of.pwrite(pos, &mut src),
        None => of.write(&mut src),
    };
    if done == Err(Errno::EFBIG) && limit != u64::MAX {
        return Err(over_file_limit());
    }
    with_sigpipe(of, done)
}

/// How many of `count` bytes at `buf` one call moves. EFAULT when they do not lie in a
/// program's part of memory.
fn in_memory(buf: UserAddr, count: usize) -> Result<usize> {
    match buf.0.checked_add(count as u64) {
        Some(end) if end <= USER_END => Ok(count.min(MAX_RW_COUNT)),
        _ => Err(Errno::EFAULT),
    }
}

pub fn read(fd: i32, buf: UserAddr, count: usize) -> SyscallResult {
    let of = process::current().file(fd)?;
    Ok(of.read(&mut IoDest::user(buf, in_memory(buf, count)?))? as isize)
}

pub fn write(fd: i32, buf: UserAddr, count: usize) -> SyscallResult {
    let of = process::current().file(fd)?;
    write_from(&of, None, IoSource::user(buf, in_memory(buf, count)?))
}

pub fn readv(fd: i32, iov: UserPtr<abi::iovec>, count: usize) -> SyscallResult {
    let of = process::current().file(fd)?;
    Ok(of.read(&mut IoDest::vector(vector(iov, count)?))? as isize)
}

pub fn writev(fd: i32, iov: UserPtr<abi::iovec>, count: usize) -> SyscallResult {
    let of = process::current().file(fd)?;
    write_from(&of, None, IoSource::vector(vector(iov, count)?))
}

pub fn pread64(fd: i32, buf: UserAddr, count: usize, pos: i64) -> SyscallResult {
    let pos = position(pos)?;
    let of = process::current().file(fd)?;
    Ok(of.pread(pos, &mut IoDest::user(buf, in_memory(buf, count)?))? as isize)
}

pub fn pwrite64(fd: i32, buf: UserAddr, count: usize, pos: i64) -> SyscallResult {
    let pos = position(pos)?;
    let of = process::current().file(fd)?;
    write_from(&of, Some(pos), IoSource::user(buf, in_memory(buf, count)?))
}

pub fn preadv(fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64) -> SyscallResult {
    let pos = position(pos)?;
    let of = process::current().file(fd)?;
    Ok(of.pread(pos, &mut IoDest::vector(vector(iov, count)?))? as isize)
}

pub fn pwritev(fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64) -> SyscallResult {
    let pos = position(pos)?;
    let of = process::current().file(fd)?;
    write_from(&of, Some(pos), IoSource::vector(vector(iov, count)?))
}

/// RWF_* (man 2 preadv2), which the exported headers lack as plain numbers.
const RWF_HIPRI: u32 = 1;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_APPEND: u32 = 16;

/// Polling for the end of I/O (RWF_HIPRI) is a hint; what would never block (RWF_NOWAIT) is
/// not told apart: EOPNOTSUPP. RWF_DSYNC and RWF_SYNC mean nothing to a read.
pub fn preadv2(
    fd: i32,
    iov: UserPtr<abi::iovec>,
    count: usize,
    pos: i64,
    _pos_high: u64,
    flags: u32,
) -> SyscallResult {
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    match pos {
        -1 => readv(fd, iov, count),
        _ => preadv(fd, iov, count, pos),
    }
}

/// See [`preadv2`].
pub fn pwritev2(
    fd: i32,
    iov: UserPtr<abi::iovec>,
    count: usize,
    pos: i64,
    _pos_high: u64,
    flags: u32,
) -> SyscallResult {
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let pos = match pos {
        -1 => None,
        _ => Some(position(pos)?),
    };
    let of = process::current().file(fd)?;
    let mut src = IoSource::vector(vector(iov, count)?);
    if flags & RWF_APPEND != 0 {
        src = src.with_append();
    }
    let n = write_from(&of, pos, src)?;
    if n > 0 && flags & (RWF_DSYNC | RWF_SYNC) != 0 && of.file.is_positional() {
        of.file.sync(flags & RWF_SYNC == 0)?;
    }
    Ok(n)
}

pub fn lseek(fd: i32, offset: i64, whence: u32) -> SyscallResult {
    let pos = process::current().file(fd)?.seek(offset, whence)?;
    isize::try_from(pos).map_err(|_| Errno::EOVERFLOW)
}
