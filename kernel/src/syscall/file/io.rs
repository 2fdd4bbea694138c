//! Reading and writing: one buffer, vectors, at a position (man 2 read, readv, pread).

use alloc::vec::Vec;

use super::limit::{file_limit, over_file_limit};
use super::{MAX_RW_COUNT, SyscallResult, position, with_sigpipe};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
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
        src = src.with_file_limit(limit);
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

pub fn read(fd: i32, buf: UserAddr, count: usize) -> SyscallResult {
    let of = process::current().file(fd)?;
    Ok(of.read(&mut IoDest::user(buf, count.min(MAX_RW_COUNT)))? as isize)
}

pub fn write(fd: i32, buf: UserAddr, count: usize) -> SyscallResult {
    let of = process::current().file(fd)?;
    write_from(&of, None, IoSource::user(buf, count.min(MAX_RW_COUNT)))
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
    Ok(of.pread(pos, &mut IoDest::user(buf, count.min(MAX_RW_COUNT)))? as isize)
}

pub fn pwrite64(fd: i32, buf: UserAddr, count: usize, pos: i64) -> SyscallResult {
    let pos = position(pos)?;
    let of = process::current().file(fd)?;
    write_from(&of, Some(pos), IoSource::user(buf, count.min(MAX_RW_COUNT)))
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

/// `flags` (RWF_*) change durability or blocking; none is there yet: EOPNOTSUPP.
pub fn preadv2(
    fd: i32,
    iov: UserPtr<abi::iovec>,
    count: usize,
    pos: i64,
    _pos_high: u64,
    flags: u32,
) -> SyscallResult {
    match (flags, pos) {
        (0, -1) => readv(fd, iov, count),
        (0, _) => preadv(fd, iov, count, pos),
        _ => Err(Errno::EOPNOTSUPP),
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
    match (flags, pos) {
        (0, -1) => writev(fd, iov, count),
        (0, _) => pwritev(fd, iov, count, pos),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

pub fn lseek(fd: i32, offset: i64, whence: u32) -> SyscallResult {
    let pos = process::current().file(fd)?.seek(offset, whence)?;
    isize::try_from(pos).map_err(|_| Errno::EOVERFLOW)
}
