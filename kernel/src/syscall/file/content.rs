//! A file's content as a whole: its length, whether it is on disk, and what of it is cached.

use super::limit::{check_file_limit, keeps_set_id};
use super::{SyscallResult, io_file, position};
use crate::abi;
use crate::error::Errno;
use crate::file::Allocate;
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
    of.file.truncate(len, keeps_set_id())?;
    Ok(0)
}

/// FALLOC_FL_* (man 2 fallocate).
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const ZERO_RANGE: u32 = 0x10;

pub fn fallocate(fd: i32, mode: u32, pos: i64, len: i64) -> SyscallResult {
    let of = io_file(fd)?;
    let (Ok(start), Ok(len)) = (u64::try_from(pos), u64::try_from(len)) else {
        return Err(Errno::EINVAL);
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let how = match mode {
        0 => Allocate::Grow,
        KEEP_SIZE => Allocate::Keep,
        ZERO_RANGE => Allocate::Zero,
        m if m == ZERO_RANGE | KEEP_SIZE => Allocate::ZeroKeep,
        m if m == PUNCH_HOLE | KEEP_SIZE => Allocate::Punch,
        // Collapsing, inserting and sharing ranges no filesystem here does.
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if !of.writable() {
        return Err(Errno::EBADF);
    }
    let st = of.file.stat()?;
    match st.st_mode & abi::S_IFMT {
        abi::S_IFIFO => return Err(Errno::ESPIPE),
        abi::S_IFDIR => return Err(Errno::EISDIR),
        _ => {}
    }
    let end = start.checked_add(len).filter(|&e| e <= i64::MAX as u64);
    let end = end.ok_or(Errno::EFBIG)?;
    if matches!(how, Allocate::Grow | Allocate::Zero) {
        check_file_limit(u64::try_from(st.st_size).unwrap_or(0), end)?;
    }
    of.file.allocate(how, start, len)?;
    Ok(0)
}

/// man 2 sync_file_range: starts and awaits write-back of content; nothing is made durable.
pub fn sync_file_range(fd: i32, pos: i64, len: i64, flags: u32) -> SyscallResult {
    let of = io_file(fd)?;
    let known = abi::SYNC_FILE_RANGE_WAIT_BEFORE
        | abi::SYNC_FILE_RANGE_WRITE
        | abi::SYNC_FILE_RANGE_WAIT_AFTER;
    let end = pos.checked_add(len).ok_or(Errno::EINVAL)?;
    if flags & !known != 0 || pos < 0 || len < 0 {
        return Err(Errno::EINVAL);
    }
    let kind = of.file.stat()?.st_mode & abi::S_IFMT;
    if !matches!(kind, abi::S_IFREG | abi::S_IFBLK | abi::S_IFDIR) {
        return Err(Errno::ESPIPE);
    }
    if let (Some((cache, _)), true) = (of.file.pages(), flags != 0) {
        let end = if len == 0 { u64::MAX } else { end as u64 };
        let pages = touched(pos as u64, end);
        cache.write_back(pages.start, pages.end)?;
    }
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
