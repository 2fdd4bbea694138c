//! Calls on descriptors: I/O, duplication, control, and the files without names.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SyscallResult;
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::eventfd::EventFd;
use crate::file::lock::{self, Kind, RangeLock};
use crate::file::pipe::{self, PipeEnd};
use crate::file::timerfd::TimerFd;
use crate::file::{File, OpenFile};
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::process::{self, SigInfo, signal};
use crate::time::NS_PER_SEC;
use crate::vm::io::UserRange;
use crate::vm::page_cache::Pattern;
use crate::vm::{IoDest, IoSource, UserPtr};

/// Most bytes one call moves (man 2 read).
const MAX_RW_COUNT: usize = 0x7fff_f000;
/// Most entries of an I/O vector (man 2 readv, IOV_MAX).
const IOV_MAX: usize = 1024;

pub(super) fn nofile() -> u64 {
    process::current().process().limit(abi::RLIMIT_NOFILE)
}

/// Gives `file` the lowest free descriptor.
pub(super) fn install(file: Arc<OpenFile>, close_on_exec: bool) -> SyscallResult {
    let fd = process::current()
        .files()
        .insert(file, close_on_exec, nofile())?;
    Ok(fd as isize)
}

/// The description behind `fd`, which must be open for more than its path (EBADF).
pub(super) fn io_file(fd: i32) -> Result<Arc<OpenFile>> {
    let of = process::current().file(fd)?;
    if of.flags() & abi::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    Ok(of)
}

pub(super) fn vector(iov: UserPtr<abi::iovec>, count: usize) -> Result<Vec<UserRange>> {
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

/// A write to a pipe without readers also sends SIGPIPE (man 7 signal).
pub(super) fn with_sigpipe(of: &OpenFile, result: Result<usize>) -> SyscallResult {
    if result == Err(Errno::EPIPE) && of.file.raises_sigpipe() {
        signal::send_task(&process::current(), SigInfo::kernel(abi::SIGPIPE));
    }
    result.map(|n| n as isize)
}

/// How long the caller may make a regular file.
fn file_limit() -> u64 {
    process::current().process().limit(abi::RLIMIT_FSIZE)
}

fn over_file_limit() -> Errno {
    signal::send_task(&process::current(), SigInfo::kernel(abi::SIGXFSZ));
    Errno::EFBIG
}

/// EFBIG with SIGXFSZ when a file of `now` bytes may not become `len` long (man 2 getrlimit).
pub(super) fn check_file_limit(now: u64, len: u64) -> Result<()> {
    if len > now && len > file_limit() {
        return Err(over_file_limit());
    }
    Ok(())
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

fn position(pos: i64) -> Result<u64> {
    u64::try_from(pos).map_err(|_| Errno::EINVAL)
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
        _ => Err(Errno::EINVAL),
    }
}

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

fn get_lock(
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

fn set_lock(
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

fn pipe_end(of: &OpenFile) -> Result<&PipeEnd> {
    of.file
        .as_any()
        .downcast_ref::<PipeEnd>()
        .ok_or(Errno::EBADF)
}

pub fn ioctl(fd: i32, cmd: u32, arg: u64) -> SyscallResult {
    let of = io_file(fd)?;
    let files = process::current().files();
    let int = UserPtr::<i32>::new(UserAddr(arg));
    match cmd {
        abi::ioctl::FIOCLEX => files.set_close_on_exec(fd, true)?,
        abi::ioctl::FIONCLEX => files.set_close_on_exec(fd, false)?,
        abi::ioctl::FIONBIO => {
            let on = int.read()? != 0;
            of.set_flags(abi::O_NONBLOCK, if on { abi::O_NONBLOCK } else { 0 });
        }
        _ => return of.file.ioctl(&of, cmd, arg),
    }
    Ok(0)
}

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

/// Bytes that go through the kernel at once in copying calls.
const COPY_CHUNK: usize = 64 * 1024;

/// Moves up to `count` bytes from `input` to `output`; each at its own position where one is
/// given (and advanced), else at its description's. A short count when either ends or fails
/// after the first byte.
fn copy_between(
    input: &OpenFile,
    mut in_pos: Option<&mut u64>,
    output: &OpenFile,
    mut out_pos: Option<&mut u64>,
    count: usize,
) -> Result<usize> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(COPY_CHUNK.min(count))
        .map_err(|_| Errno::ENOMEM)?;
    buffer.resize(COPY_CHUNK.min(count), 0);
    let limit = file_limit();
    let mut total = 0;
    while total < count {
        let want = buffer.len().min(count - total);
        let before = input.position();
        let from = in_pos.as_deref().copied().unwrap_or(before);
        let step = match input.pread(from, &mut IoDest::kernel(&mut buffer[..want])) {
            Ok(0) => break,
            Ok(got) => {
                let mut src = IoSource::kernel(&buffer[..got]).with_file_limit(limit);
                match out_pos.as_deref_mut() {
                    Some(pos) => output.pwrite(*pos, &mut src).inspect(|&n| *pos += n as u64),
                    None => output.write(&mut src),
                }
                .map(|n| (n, n < got))
            }
            Err(e) => Err(e),
        };
        let (n, short) = match step {
            Ok(step) => step,
            Err(_) if total > 0 => break,
            Err(e) => return Err(e),
        };
        total += n;
        match in_pos.as_deref_mut() {
            Some(pos) => *pos += n as u64,
            None => {
                input.seek((before + n as u64) as i64, abi::SEEK_SET)?;
            }
        }
        if short {
            break;
        }
    }
    Ok(total)
}

pub fn sendfile(out: i32, input: i32, offset: UserPtr<i64>, count: usize) -> SyscallResult {
    let output = process::current().file(out)?;
    let input = process::current().file(input)?;
    if !input.readable() || !output.writable() {
        return Err(Errno::EBADF);
    }
    if !input.file.is_positional() || output.flags() & abi::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let mut pos = match offset.non_null() {
        Some(ptr) => Some(position(ptr.read()?)?),
        None => None,
    };
    let n = copy_between(&input, pos.as_mut(), &output, None, count.min(MAX_RW_COUNT));
    if let (Some(pos), Ok(_)) = (pos, &n) {
        offset.write(pos as i64)?;
    }
    with_sigpipe(&output, n)
}

pub fn copy_file_range(
    input: i32,
    in_offset: UserPtr<i64>,
    output: i32,
    out_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> SyscallResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (input, output) = (io_file(input)?, io_file(output)?);
    if !input.readable() || !output.writable() || output.flags() & abi::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    for of in [&input, &output] {
        match of.file.stat()?.st_mode & 0o170_000 {
            abi::S_IFREG => {}
            abi::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let read_offset = |ptr: UserPtr<i64>| match ptr.non_null() {
        Some(ptr) => position(ptr.read()?).map(Some),
        None => Ok(None),
    };
    let (mut from, mut to) = (read_offset(in_offset)?, read_offset(out_offset)?);
    let count = count.min(MAX_RW_COUNT);
    let n = copy_between(&input, from.as_mut(), &output, to.as_mut(), count)?;
    if let Some(pos) = from {
        in_offset.write(pos as i64)?;
    }
    if let Some(pos) = to {
        out_offset.write(pos as i64)?;
    }
    Ok(n as isize)
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
