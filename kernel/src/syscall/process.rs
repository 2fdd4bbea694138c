//! Calls on processes and threads: making, replacing, ending and waiting for them, their
//! places in groups and sessions, their limits.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Args, SyscallResult};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::process::exec;
use crate::process::fork::{self, CloneArgs};
use crate::process::load::Request;
use crate::process::wait::{self, Which};
use crate::process::{self, ExitStatus, Pid, Process, Task, Usage, exit, pidfd, session};
use crate::vfs::{self, Caller};
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user, read_cstr};

/// man 2 fork.
pub fn fork(args: &Args) -> SyscallResult {
    Ok(fork::clone(args.frame(), &CloneArgs::FORK)? as isize)
}

/// man 2 vfork.
pub fn vfork(args: &Args) -> SyscallResult {
    Ok(fork::clone(args.frame(), &CloneArgs::VFORK)? as isize)
}

/// man 2 clone (the x86_64 raw call's argument order).
pub fn clone(
    args: &Args,
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
) -> SyscallResult {
    // The upper half of the register means nothing to the old call.
    let flags = flags & 0xffff_ffff;
    let wanted = CloneArgs {
        flags: flags & !u64::from(abi::CSIGNAL),
        exit_signal: (flags & u64::from(abi::CSIGNAL)) as u32,
        stack,
        tls,
        parent_tid,
        child_tid,
        pidfd: parent_tid,
    };
    let both = u64::from(abi::CLONE_PIDFD | abi::CLONE_PARENT_SETTID);
    if flags & both == both {
        // One argument cannot serve both.
        return Err(Errno::EINVAL);
    }
    Ok(fork::clone(args.frame(), &wanted)? as isize)
}

/// Bytes of the first version of `struct clone_args`.
const CLONE_ARGS_MIN: usize = abi::CLONE_ARGS_SIZE_VER0 as usize;
const CLONE_ARGS_WORDS: usize = 11;

/// man 2 clone3.
pub fn clone3(args: &Args, at: UserAddr, size: usize) -> SyscallResult {
    if size < CLONE_ARGS_MIN {
        return Err(Errno::EINVAL);
    }
    if size > crate::mm::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(size, 0);
    copy_from_user(&mut bytes, at)?;
    let mut words = [0u64; CLONE_ARGS_WORDS];
    for (i, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        match words.get_mut(i) {
            Some(slot) => *slot = u64::from_le_bytes(word),
            // What this kernel does not know must ask for nothing.
            None if chunk.iter().any(|&b| b != 0) => return Err(Errno::E2BIG),
            None => {}
        }
    }
    Ok(fork::clone(args.frame(), &clone3_args(&words)?)? as isize)
}

fn clone3_args(words: &[u64; CLONE_ARGS_WORDS]) -> Result<CloneArgs> {
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        _cgroup,
    ] = *words;
    let no_signal = u64::from(abi::CLONE_THREAD | abi::CLONE_PARENT);
    let bad = flags & u64::from(abi::CSIGNAL | abi::CLONE_DETACHED) != 0
        || exit_signal > u64::from(process::sigstate::NSIG)
        || flags & no_signal != 0 && exit_signal != 0
        || (stack == 0) != (stack_size == 0)
        // Choosing ids needs pid namespaces.
        || set_tid != 0
        || set_tid_size != 0
        || stack.checked_add(stack_size).is_none();
    if bad {
        return Err(Errno::EINVAL);
    }
    Ok(CloneArgs {
        flags,
        exit_signal: exit_signal as u32,
        stack: stack + stack_size,
        tls,
        parent_tid,
        child_tid,
        pidfd,
    })
}

/// Bytes of argument strings that a quarter of any stack limit leaves.
fn argument_room(task: &Task) -> u64 {
    (task.process().limit(abi::RLIMIT_STACK) / 4).clamp(128 << 10, 6 << 20)
}

/// man 2 execve.
pub fn execve(args: &Args, path: UserAddr, argv: UserAddr, envp: UserAddr) -> SyscallResult {
    let task = process::current();
    let path = read_cstr(path, abi::PATH_MAX as usize - 1, Errno::ENAMETOOLONG)?;
    let file = exec::open(&task, &path)?;
    run(args, &task, file, path, argv, envp, false)
}

/// man 2 execveat.
pub fn execveat(
    args: &Args,
    dirfd: i32,
    path: UserAddr,
    argv: UserAddr,
    envp: UserAddr,
    flags: u32,
) -> SyscallResult {
    if flags & !(abi::AT_EMPTY_PATH | abi::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = process::current();
    let path = read_cstr(path, abi::PATH_MAX as usize - 1, Errno::ENAMETOOLONG)?;
    let (fs, cred) = (task.fs(), task.cred());
    let caller = Caller::new(&fs, &cred);
    let (start, lost) = if path.first() == Some(&b'/') || dirfd == abi::AT_FDCWD {
        (caller.cwd.clone(), false)
    } else {
        let (file, close_on_exec) = task.files().get_with_flag(dirfd)?;
        let at = vfs::location(&file).ok_or(Errno::EACCES)?.clone();
        (at, close_on_exec)
    };
    let (file, name) = if path.is_empty() {
        if flags & abi::AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT);
        }
        (
            caller.executable(start)?,
            alloc::format!("/dev/fd/{dirfd}").into_bytes(),
        )
    } else {
        let follow = flags & abi::AT_SYMLINK_NOFOLLOW == 0;
        let file = caller.open_to_execute(&start, &path, follow)?;
        let name = if path[0] == b'/' || dirfd == abi::AT_FDCWD {
            path
        } else {
            let mut name = alloc::format!("/dev/fd/{dirfd}/").into_bytes();
            name.extend_from_slice(&path);
            name
        };
        (file, name)
    };
    run(args, &task, file, name, argv, envp, lost)
}

fn run(
    args: &Args,
    task: &Arc<Task>,
    file: Arc<crate::file::OpenFile>,
    name: Vec<u8>,
    argv: UserAddr,
    envp: UserAddr,
    name_is_lost: bool,
) -> SyscallResult {
    let room = argument_room(task);
    let request = Request {
        file,
        name,
        args: exec::read_strings(argv, room)?,
        env: exec::read_strings(envp, room)?,
    };
    exec::execve(task, args.frame(), request, name_is_lost)?;
    Ok(0)
}

/// man 2 exit: ends the thread.
pub fn exit(status: i32) -> SyscallResult {
    exit::exit_thread(ExitStatus::exited(status))
}

/// man 2 exit_group: ends the process.
pub fn exit_group(status: i32) -> SyscallResult {
    exit::exit_group(ExitStatus::exited(status))
}

const WAIT4_OPTIONS: u32 = abi::WNOHANG
    | abi::WUNTRACED
    | abi::WCONTINUED
    | abi::__WNOTHREAD
    | abi::__WCLONE
    | abi::__WALL;
const WAITID_OPTIONS: u32 = WAIT4_OPTIONS | abi::WEXITED | abi::WNOWAIT;

/// man 2 wait4.
pub fn wait4(
    pid: Pid,
    status: UserPtr<i32>,
    options: u32,
    usage: UserPtr<abi::rusage>,
) -> SyscallResult {
    if options & !WAIT4_OPTIONS != 0 {
        return Err(Errno::EINVAL);
    }
    let task = process::current();
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(task.process().pgid()),
        1.. => Which::Process(pid),
        Pid::MIN => return Err(Errno::ESRCH),
        _ => Which::Group(-pid),
    };
    let Some(report) = wait::wait(&task, which, options | abi::WEXITED)? else {
        return Ok(0);
    };
    if let Some(status) = status.non_null() {
        status.write(report.status())?;
    }
    if let Some(usage) = usage.non_null() {
        usage.write(rusage(&report.usage))?;
    }
    Ok(report.pid as isize)
}

/// man 2 waitid (the raw call has a usage argument).
pub fn waitid(
    id_type: u32,
    id: Pid,
    info: UserAddr,
    options: u32,
    usage: UserPtr<abi::rusage>,
) -> SyscallResult {
    let events = abi::WEXITED | abi::WSTOPPED | abi::WCONTINUED;
    if options & !WAITID_OPTIONS != 0 || options & events == 0 {
        return Err(Errno::EINVAL);
    }
    let task = process::current();
    let mut options = options;
    let mut nonblocking = false;
    let which = match id_type {
        abi::P_ALL => Which::Any,
        abi::P_PID if id > 0 => Which::Process(id),
        abi::P_PGID if id > 0 => Which::Group(id),
        abi::P_PGID if id == 0 => Which::Group(task.process().pgid()),
        abi::P_PIDFD if id >= 0 => {
            nonblocking = task.file(id)?.nonblocking() && options & abi::WNOHANG == 0;
            Which::Process(pidfd::process_of(&task, id)?.pid())
        }
        _ => return Err(Errno::EINVAL),
    };
    if nonblocking {
        options |= abi::WNOHANG;
    }
    let report = wait::wait(&task, which, options)?;
    if report.is_none() && nonblocking {
        return Err(Errno::EAGAIN);
    }
    if info.0 != 0 {
        let mut bytes = [0u8; 128];
        if let Some(report) = &report {
            let (code, status) = report.code();
            let mut put = |at: usize, v: u32| bytes[at..at + 4].copy_from_slice(&v.to_le_bytes());
            put(0, abi::SIGCHLD);
            put(8, code);
            put(16, report.pid as u32);
            put(20, report.uid);
            put(24, status as u32);
        }
        copy_to_user(info, &bytes)?;
    }
    if let (Some(usage), Some(report)) = (usage.non_null(), &report) {
        usage.write(rusage(&report.usage))?;
    }
    Ok(0)
}

fn rusage(usage: &Usage) -> abi::rusage {
    // SAFETY: a C structure of integers: all zeros is a valid value.
    let mut out: abi::rusage = unsafe { core::mem::zeroed() };
    let time = |ns: u64| abi::__kernel_old_timeval {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_usec: (ns % 1_000_000_000 / 1000) as i64,
    };
    out.ru_utime = time(usage.user_ns);
    out.ru_stime = time(usage.system_ns);
    out.ru_maxrss = (usage.max_resident_bytes / 1024) as i64;
    out.ru_minflt = usage.minor_faults as i64;
    out.ru_majflt = usage.major_faults as i64;
    out.ru_nvcsw = usage.voluntary_switches as i64;
    out.ru_nivcsw = usage.involuntary_switches as i64;
    out
}

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;

/// man 2 getrusage.
pub fn getrusage(who: i32, out: UserPtr<abi::rusage>) -> SyscallResult {
    let task = process::current();
    let usage = match who {
        RUSAGE_SELF => task.process().usage().0,
        RUSAGE_CHILDREN => task.process().usage().1,
        RUSAGE_THREAD => Usage {
            max_resident_bytes: task.process().usage().0.max_resident_bytes,
            ..task.usage()
        },
        _ => return Err(Errno::EINVAL),
    };
    out.write(rusage(&usage))?;
    Ok(0)
}

/// man 2 getpid.
pub fn getpid() -> SyscallResult {
    Ok(process::current().pid() as isize)
}

/// man 2 gettid.
pub fn gettid() -> SyscallResult {
    Ok(process::current().tid() as isize)
}

/// man 2 getppid.
pub fn getppid() -> SyscallResult {
    Ok(process::current().process().ppid() as isize)
}

/// man 2 set_tid_address.
pub fn set_tid_address(at: u64) -> SyscallResult {
    let task = process::current();
    task.set_clear_tid(at);
    Ok(task.tid() as isize)
}

fn process_or_self(pid: Pid) -> Result<Arc<Process>> {
    match pid {
        0 => Ok(process::current().process().clone()),
        _ => process::find_task(pid)
            .map(|t| t.process().clone())
            .or_else(|| process::find(pid))
            .ok_or(Errno::ESRCH),
    }
}

/// man 2 setpgid.
pub fn setpgid(pid: Pid, pgid: Pid) -> SyscallResult {
    session::setpgid(process::current().process(), pid, pgid)?;
    Ok(0)
}

/// man 2 getpgid.
pub fn getpgid(pid: Pid) -> SyscallResult {
    Ok(process_or_self(pid)?.pgid() as isize)
}

/// man 2 getpgrp.
pub fn getpgrp() -> SyscallResult {
    getpgid(0)
}

/// man 2 setsid.
pub fn setsid() -> SyscallResult {
    Ok(session::setsid(process::current().process())? as isize)
}

/// man 2 getsid.
pub fn getsid(pid: Pid) -> SyscallResult {
    Ok(process_or_self(pid)?.sid() as isize)
}

/// man 2 pidfd_open.
pub fn pidfd_open(pid: Pid, flags: u32) -> SyscallResult {
    Ok(pidfd::open(&process::current(), pid, flags)? as isize)
}

/// man 2 pidfd_getfd.
pub fn pidfd_getfd(pidfd: i32, fd: i32, flags: u32) -> SyscallResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let task = process::current();
    let target = pidfd::process_of(&task, pidfd)?;
    let main = target.main_task().ok_or(Errno::ESRCH)?;
    process::access::check_inspect(&task, &target)?;
    let file = main.try_files().ok_or(Errno::ESRCH)?.get(fd)?;
    let limit = task.process().limit(abi::RLIMIT_NOFILE);
    Ok(task.files().insert(file, true, limit)? as isize)
}

/// man 2 getrlimit.
pub fn getrlimit(which: u32, out: UserPtr<[u64; 2]>) -> SyscallResult {
    if which >= abi::RLIM_NLIMITS {
        return Err(Errno::EINVAL);
    }
    let (soft, hard) = process::current().process().rlimit(which);
    out.write([soft, hard])?;
    Ok(0)
}

/// man 2 setrlimit.
pub fn setrlimit(which: u32, new: UserPtr<[u64; 2]>) -> SyscallResult {
    let [soft, hard] = new.read()?;
    let task = process::current();
    task.process().set_rlimit(&task.cred(), which, soft, hard)?;
    Ok(0)
}

/// man 2 prlimit.
pub fn prlimit64(
    pid: Pid,
    which: u32,
    new: UserPtr<[u64; 2]>,
    old: UserPtr<[u64; 2]>,
) -> SyscallResult {
    if which >= abi::RLIM_NLIMITS {
        return Err(Errno::EINVAL);
    }
    let new = new.non_null().map(UserPtr::read).transpose()?;
    let task = process::current();
    let target = process_or_self(pid)?;
    if target.pid() != task.pid() {
        process::access::check_limits(&task, &target)?;
    }
    let (soft, hard) = target.rlimit(which);
    if let Some([soft, hard]) = new {
        target.set_rlimit(&task.cred(), which, soft, hard)?;
    }
    if let Some(old) = old.non_null() {
        old.write([soft, hard])?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone3_refuses_what_linux_refuses() {
        let with = |i: usize, v: u64| {
            let mut words = [0; CLONE_ARGS_WORDS];
            words[i] = v;
            clone3_args(&words)
        };
        assert_eq!(with(4, 17).unwrap().exit_signal, 17);
        assert!(with(4, 65).is_err());
        assert!(with(0, 17).is_err());
        assert!(with(5, 0x1000).is_err());
        assert!(with(6, 0x1000).is_err());
        assert!(with(9, 1).is_err());
        let mut words = [0; CLONE_ARGS_WORDS];
        (words[5], words[6]) = (0x1000, 0x2000);
        assert_eq!(clone3_args(&words).unwrap().stack, 0x3000);
    }
}
