//! poll, select and epoll (man 2 poll, man 2 select, man 7 epoll).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;

use super::SyscallResult;
use super::file::{install, io_file};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::epoll::Epoll;
use crate::file::poll::{PollEntry, PollEvents, poll_files};
use crate::file::{File, OpenFile};
use crate::mm::UserAddr;
use crate::process::{self, SigSet, signal};
use crate::time::{self, NS_PER_SEC};
use crate::vm::UserPtr;

/// `struct timespec` or `struct timeval`, as two words.
type Pair = [i64; 2];

/// A deadline (monotonic ns) from milliseconds; negative: none. 0 stays 0: do not wait.
fn deadline_of_ms(ms: i32) -> Option<u64> {
    match ms {
        ..0 => None,
        0 => Some(0),
        ms => Some(time::now_ns().saturating_add(ms as u64 * 1_000_000)),
    }
}

/// A deadline from a user's timeout in units of `unit_ns`; NULL: none. EINVAL.
fn deadline_of(timeout: UserPtr<Pair>, unit_ns: u64) -> Result<Option<u64>> {
    let Some(timeout) = timeout.non_null() else {
        return Ok(None);
    };
    let [seconds, fraction] = timeout.read()?;
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let fraction = u64::try_from(fraction).map_err(|_| Errno::EINVAL)?;
    if fraction >= NS_PER_SEC / unit_ns {
        return Err(Errno::EINVAL);
    }
    let ns = seconds
        .saturating_mul(NS_PER_SEC)
        .saturating_add(fraction * unit_ns);
    Ok(Some(if ns == 0 {
        0
    } else {
        time::now_ns().saturating_add(ns)
    }))
}

/// Tells the program how much of its timeout was left. A bad pointer here is not worth
/// losing the result for (as on Linux).
fn write_left(timeout: UserPtr<Pair>, deadline: Option<u64>, unit_ns: u64) {
    if let (Some(timeout), Some(deadline)) = (timeout.non_null(), deadline) {
        let left = deadline.saturating_sub(time::now_ns());
        let _ = timeout.write([
            (left / NS_PER_SEC) as i64,
            (left % NS_PER_SEC / unit_ns) as i64,
        ]);
    }
}

/// Runs `call` under the signal mask at `mask` (NULL: as it is). `size` is that of the
/// kernel's sigset. An interrupted call leaves the mask for the handler to see first.
fn with_mask(
    mask: UserPtr<u64>,
    size: usize,
    call: impl FnOnce() -> SyscallResult,
) -> SyscallResult {
    let Some(mask) = mask.non_null() else {
        return call();
    };
    if size != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    signal::set_temporary_mask(SigSet(mask.read()?));
    let result = call();
    if !matches!(result, Err(Errno::EINTR | Errno::ERESTARTNOHAND)) {
        signal::restore_mask();
    }
    result
}

fn do_poll(fds: UserPtr<abi::pollfd>, count: u64, deadline: Option<u64>) -> SyscallResult {
    let task = process::current();
    if count > task.process().limit(abi::RLIMIT_NOFILE) {
        return Err(Errno::EINVAL);
    }
    let mut asked = fds.read_vec(count as usize)?;
    let files = task.files();
    let mut entries: Vec<PollEntry> = asked
        .iter()
        .map(|p| PollEntry {
            of: files.get(p.fd).ok(),
            wanted: PollEvents::from_bits_truncate(p.events as u16 as u32),
            found: PollEvents::empty(),
            ignored: p.fd < 0,
        })
        .collect();
    let ready = poll_files(&mut entries, deadline).map_err(|_| Errno::ERESTARTNOHAND)?;
    for (i, (p, entry)) in asked.iter_mut().zip(&entries).enumerate() {
        p.revents = entry.found.bits() as i16;
        fds.at(i)?.write(*p)?;
    }
    Ok(ready as isize)
}

pub fn poll(fds: UserPtr<abi::pollfd>, count: u32, timeout_ms: i32) -> SyscallResult {
    poll_until(fds, u64::from(count), deadline_of_ms(timeout_ms))
}

/// A poll that a stop interrupted goes on until the same moment.
fn poll_until(fds: UserPtr<abi::pollfd>, count: u64, deadline: Option<u64>) -> SyscallResult {
    match do_poll(fds, count, deadline) {
        Err(Errno::ERESTARTNOHAND) if deadline.is_some() => {
            let at = fds.addr();
            let again = Box::new(move || poll_until(UserPtr::new(at), count, deadline));
            Err(process::current().restart_with(again))
        }
        result => result,
    }
}

pub fn ppoll(
    fds: UserPtr<abi::pollfd>,
    count: u32,
    timeout: UserPtr<Pair>,
    mask: UserPtr<u64>,
    size: usize,
) -> SyscallResult {
    let deadline = deadline_of(timeout, 1)?;
    let result = with_mask(mask, size, || do_poll(fds, u64::from(count), deadline));
    write_left(timeout, deadline, 1);
    result
}

/// Events behind the three sets of select (man 2 select, "Correspondence").
const SELECT_EVENTS: [PollEvents; 3] = [
    PollEvents::RDNORM
        .union(PollEvents::IN)
        .union(PollEvents::HUP)
        .union(PollEvents::ERR),
    PollEvents::WRNORM
        .union(PollEvents::OUT)
        .union(PollEvents::ERR),
    PollEvents::PRI,
];

fn do_select(n: i32, sets: [UserPtr<u64>; 3], deadline: Option<u64>) -> SyscallResult {
    let n = usize::try_from(n).map_err(|_| Errno::EINVAL)?;
    let task = process::current();
    // As on Linux, bits past the table's end are not looked at, and not EBADF.
    let n = n.min(task.files().select_limit());
    let words = n.div_ceil(64);
    let mut asked: [Vec<u64>; 3] = Default::default();
    for (set, bits) in sets.iter().zip(&mut asked) {
        if let Some(set) = set.non_null() {
            *bits = set.read_vec(words)?;
        }
    }
    let has = |bits: &[u64], fd: usize| bits.get(fd / 64).is_some_and(|w| w >> (fd % 64) & 1 == 1);
    let files = task.files();
    let mut fds = Vec::new();
    let mut entries = Vec::new();
    for fd in 0..n {
        let mut wanted = PollEvents::empty();
        for (bits, events) in asked.iter().zip(SELECT_EVENTS) {
            if has(bits, fd) {
                wanted |= events;
            }
        }
        if !wanted.is_empty() {
            let of = Some(files.get(fd as i32)?);
            fds.push(fd);
            entries.push(PollEntry {
                of,
                wanted,
                found: PollEvents::empty(),
                ignored: false,
            });
        }
    }
    poll_files(&mut entries, deadline).map_err(|_| Errno::ERESTARTNOHAND)?;
    let mut found: [Vec<u64>; 3] = core::array::from_fn(|i| alloc::vec![0; asked[i].len()]);
    let mut nr_bits = 0;
    for (&fd, entry) in fds.iter().zip(&entries) {
        for i in 0..3 {
            if has(&asked[i], fd) && entry.found.intersects(SELECT_EVENTS[i]) {
                found[i][fd / 64] |= 1 << (fd % 64);
                nr_bits += 1;
            }
        }
    }
    for (set, bits) in sets.iter().zip(&found) {
        if let Some(set) = set.non_null() {
            for (i, &word) in bits.iter().enumerate() {
                set.at(i)?.write(word)?;
            }
        }
    }
    Ok(nr_bits)
}

pub fn select(
    n: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<Pair>,
) -> SyscallResult {
    let deadline = deadline_of(timeout, 1000)?;
    let result = do_select(n, [read, write, except], deadline);
    write_left(timeout, deadline, 1000);
    result
}

pub fn pselect6(
    n: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<Pair>,
    mask: UserPtr<[u64; 2]>,
) -> SyscallResult {
    let deadline = deadline_of(timeout, 1)?;
    // The sixth argument points to the mask's address and size.
    let [mask, size] = match mask.non_null() {
        Some(ptr) => ptr.read()?,
        None => [0, 0],
    };
    let result = with_mask(UserPtr::new(UserAddr(mask)), size as usize, || {
        do_select(n, [read, write, except], deadline)
    });
    write_left(timeout, deadline, 1);
    result
}

pub fn epoll_create(size: i32) -> SyscallResult {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(0)
}

pub fn epoll_create1(flags: u32) -> SyscallResult {
    if flags & !abi::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    install(
        OpenFile::new(Epoll::new(), abi::O_RDWR),
        flags & abi::EPOLL_CLOEXEC != 0,
    )
}

fn with_epoll<R>(of: &Arc<OpenFile>, f: impl FnOnce(&Epoll) -> Result<R>) -> Result<R> {
    let file: &dyn File = &*of.file;
    f(file.as_any().downcast_ref::<Epoll>().ok_or(Errno::EINVAL)?)
}

pub fn epoll_ctl(epfd: i32, op: u32, fd: i32, event: UserPtr<abi::epoll_event>) -> SyscallResult {
    let event = match op {
        abi::EPOLL_CTL_DEL => None,
        _ => Some(event.read()?),
    };
    let epoll = io_file(epfd)?;
    let target = io_file(fd)?;
    if Arc::ptr_eq(&epoll, &target) {
        return Err(Errno::EINVAL);
    }
    with_epoll(&epoll, |epoll| match (op, event) {
        (abi::EPOLL_CTL_ADD, Some(e)) => epoll.add(fd, &target, e.events, e.data),
        (abi::EPOLL_CTL_MOD, Some(e)) => epoll.modify(fd, &target, e.events, e.data),
        (abi::EPOLL_CTL_DEL, _) => epoll.remove(fd, &target),
        _ => Err(Errno::EINVAL),
    })?;
    Ok(0)
}

/// Most events one call returns: what fits an `int`'s worth of bytes, as on Linux.
const MAX_EVENTS: i32 = i32::MAX / size_of::<abi::epoll_event>() as i32;
/// Events gathered at once, so that a large `max` costs no memory.
const EVENT_BATCH: usize = 1024;

fn do_epoll_wait(
    epfd: i32,
    events: UserPtr<abi::epoll_event>,
    max: i32,
    deadline: Option<u64>,
) -> SyscallResult {
    if max <= 0 || max > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    let of = io_file(epfd)?;
    let max = (max as usize).min(EVENT_BATCH);
    // A server's usual few fit on the stack.
    let mut few = ArrayVec::<_, 16>::new();
    let mut many = Vec::new();
    if max > few.capacity() {
        many.try_reserve_exact(max).map_err(|_| Errno::ENOMEM)?;
    }
    let found = with_epoll(&of, |epoll| {
        if max <= few.capacity() {
            epoll.wait(max, deadline, &mut |event| few.push(event))
        } else {
            epoll.wait(max, deadline, &mut |event| many.push(event))
        }
    })?;
    for (i, &event) in few.iter().chain(&many).enumerate() {
        events.at(i)?.write(event)?;
    }
    Ok(found as isize)
}

pub fn epoll_wait(
    epfd: i32,
    events: UserPtr<abi::epoll_event>,
    max: i32,
    timeout_ms: i32,
) -> SyscallResult {
    do_epoll_wait(epfd, events, max, deadline_of_ms(timeout_ms))
}

pub fn epoll_pwait(
    epfd: i32,
    events: UserPtr<abi::epoll_event>,
    max: i32,
    timeout_ms: i32,
    mask: UserPtr<u64>,
    size: usize,
) -> SyscallResult {
    let deadline = deadline_of_ms(timeout_ms);
    with_mask(mask, size, || do_epoll_wait(epfd, events, max, deadline))
}

pub fn epoll_pwait2(
    epfd: i32,
    events: UserPtr<abi::epoll_event>,
    max: i32,
    timeout: UserPtr<Pair>,
    mask: UserPtr<u64>,
    size: usize,
) -> SyscallResult {
    let deadline = deadline_of(timeout, 1)?;
    with_mask(mask, size, || do_epoll_wait(epfd, events, max, deadline))
}
