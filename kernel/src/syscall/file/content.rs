//! A file's content as a whole: its length, whether it is on disk, and what of it is cached.

use super::limit::check_file_limit;
use super::{SyscallResult, io_file, position};
use crate::abi;
use crate::error::Errno;
use crate::mm::PAGE_SIZE;
use crate::vm::page_cache::Pattern;

pub fn fsync(fd: i32) -> SyscallResult {
    io_file(fd)?.file.sync(false)?;
    Ok(0)
}

pub fn fdatasync(fd: i32) -> SyscallResult {
    io_file(fd)?.file.sync(true)?;
    Ok(0)
}

pub fn ftruncate(fd: i32, len: i64) -> SyscallResult {
    let len = position(len)?;
    let of = io_file(fd)?;
    if !of.writable() {
        return Err(Errno::EINVAL);
    }
    check_file_limit(u64::try_from(of.file.stat()?.st_size).unwrap_or(0), len)?;
    of.file.truncate(len)?;
    Ok(0)
}

/// man 2 posix_fadvise. What has no page cache takes any advice.
pub fn fadvise64(fd: i32, pos: i64, len: i64, advice: u32) -> SyscallResult {
    let of = io_file(fd)?;
    if of.file.stat()?.st_mode & abi::S_IFMT == abi::S_IFIFO {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || advice > abi::POSIX_FADV_NOREUSE {
        return Err(Errno::EINVAL);
    }
    let Some((cache, ahead)) = of.file.pages() else {
        return Ok(0);
    };
    let pos = pos as u64;
    let end = match len {
        0 => u64::MAX,
        _ => pos.saturating_add(len as u64),
    };
    match advice {
        abi::POSIX_FADV_NORMAL => ahead.set_pattern(Pattern::Normal),
        abi::POSIX_FADV_RANDOM => ahead.set_pattern(Pattern::Random),
        abi::POSIX_FADV_SEQUENTIAL => ahead.set_pattern(Pattern::Sequential),
        abi::POSIX_FADV_NOREUSE => ahead.set_once(),
        abi::POSIX_FADV_WILLNEED => cache.will_need(touched(pos, end)),
        // A page that is only partly meant stays, the file's last one excepted.
        _ => {
            let last = if end >= cache.size() {
                u64::MAX
            } else {
                end / PAGE_SIZE as u64
            };
            cache.wont_need(pos.div_ceil(PAGE_SIZE as u64)..last);
        }
    }
    Ok(0)
}

/// man 2 readahead. EBADF when not open for reading, EINVAL for what has no page cache.
pub fn readahead(fd: i32, pos: i64, count: usize) -> SyscallResult {
    let pos = position(pos)?;
    let of = io_file(fd)?;
    if !of.readable() {
        return Err(Errno::EBADF);
    }
    let (cache, _) = of.file.pages().ok_or(Errno::EINVAL)?;
    cache.will_need(touched(pos, pos.saturating_add(count as u64)));
    Ok(0)
}

/// The pages that bytes `[pos, end)` lie in.
fn touched(pos: u64, end: u64) -> core::ops::Range<u64> {
    pos / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64)
}
