//! Calls on signals.

use super::{Args, SyscallResult};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::process::siginfo::{SI_TKILL, SIGINFO_SIZE};
use crate::process::signalfd::SignalFd;
use crate::process::sigstate::{Action, AltStack, NSIG};
use crate::process::{self, Pid, SigInfo, SigSet, pidfd, sigframe, signal};
use crate::time;
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user};

/// Bytes of the kernel's signal set; every call that passes one says its size.
const SET_BYTES: usize = 8;

/// man 2 rt_sigaction. The structure is (handler, flags, restorer, mask).
pub fn rt_sigaction(
    sig: u32,
    new: UserPtr<[u64; 4]>,
    old: UserPtr<[u64; 4]>,
    size: usize,
) -> SyscallResult {
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let new = match new.non_null() {
        None => None,
        Some(new) => {
            let [handler, flags, restorer, mask] = new.read()?;
            Some(Action {
                handler,
                flags: flags & KNOWN_FLAGS,
                restorer,
                mask: SigSet(mask),
            })
        }
    };
    let was = signal::action(sig, new)?;
    if let Some(old) = old.non_null() {
        old.write([was.handler, was.flags, was.restorer, was.mask.0])?;
    }
    Ok(0)
}

/// SA_* that mean something; the rest is cleared, so that programs can probe for it
/// (man 2 sigaction, "Dynamically probing for flag bit support").
const KNOWN_FLAGS: u64 = abi::SA_NOCLDSTOP as u64
    | abi::SA_NOCLDWAIT as u64
    | abi::SA_SIGINFO as u64
    | abi::SA_RESTORER as u64
    | abi::SA_ONSTACK as u64
    | abi::SA_RESTART as u64
    | abi::SA_NODEFER as u64
    | abi::SA_RESETHAND as u64;

/// man 2 rt_sigprocmask.
pub fn rt_sigprocmask(
    how: u32,
    new: UserPtr<u64>,
    old: UserPtr<u64>,
    size: usize,
) -> SyscallResult {
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let was = signal::mask();
    if let Some(new) = new.non_null() {
        let set = SigSet(new.read()?);
        signal::set_mask(match how {
            abi::SIG_BLOCK => was.with(set.blockable()),
            abi::SIG_UNBLOCK => was.without(set),
            abi::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        });
    }
    if let Some(old) = old.non_null() {
        old.write(was.0)?;
    }
    Ok(0)
}

/// man 2 rt_sigpending. Only blocked signals count.
pub fn rt_sigpending(out: UserAddr, size: usize) -> SyscallResult {
    if size > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let set = signal::pending().and(signal::mask());
    copy_to_user(out, &set.0.to_le_bytes()[..size])?;
    Ok(0)
}

/// man 2 rt_sigsuspend.
pub fn rt_sigsuspend(mask: UserPtr<u64>, size: usize) -> SyscallResult {
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    signal::set_temporary_mask(SigSet(mask.read()?));
    wait_for_signal()
}

/// man 2 pause.
pub fn pause() -> SyscallResult {
    wait_for_signal()
}

fn wait_for_signal() -> SyscallResult {
    let queue = crate::sched::WaitQueue::new();
    // Nothing wakes the queue: only a signal ends the wait.
    match queue.wait_interruptible(None, || None::<core::convert::Infallible>) {
        Ok(never) => match never {},
        Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}

/// man 2 rt_sigtimedwait.
pub fn rt_sigtimedwait(
    set: UserPtr<u64>,
    info: UserAddr,
    timeout: UserPtr<[i64; 2]>,
    size: usize,
) -> SyscallResult {
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let wanted = SigSet(set.read()?).blockable();
    let deadline = match timeout.non_null() {
        None => None,
        Some(timeout) => Some(time::now_ns().saturating_add(timespec_ns(timeout.read()?)?)),
    };
    let task = process::current();
    let found = task
        .process()
        .signal_queue()
        .wait_interruptible(deadline, || signal::dequeue(wanted));
    match found {
        Ok(signal) => {
            if info.0 != 0 {
                copy_to_user(info, &signal.to_bytes())?;
            }
            Ok(signal.signo as isize)
        }
        Err(crate::sched::WaitError::TimedOut) => Err(Errno::EAGAIN),
        Err(crate::sched::WaitError::Interrupted) => Err(Errno::EINTR),
    }
}

/// A relative time in ns. EINVAL when it is negative or not normalised.
pub(super) fn timespec_ns([sec, nsec]: [i64; 2]) -> Result<u64> {
    if sec < 0 || !(0..1_000_000_000).contains(&nsec) {
        return Err(Errno::EINVAL);
    }
    Ok((sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(nsec as u64))
}

/// man 2 rt_sigreturn.
pub fn rt_sigreturn(args: &Args) -> SyscallResult {
    let task = process::current();
    let frame = args.frame();
    frame.orig_rax = u64::MAX;
    if sigframe::pop(&task, frame).is_err() {
        signal::force(&task, SigInfo::kernel(abi::SIGSEGV));
    }
    // The dispatcher stores the result in `rax`: it must be what the frame held.
    Ok(frame.rax as isize)
}

/// man 2 sigaltstack.
pub fn sigaltstack(args: &Args, new: UserPtr<[u64; 3]>, old: UserPtr<[u64; 3]>) -> SyscallResult {
    let task = process::current();
    let sp = args.frame().rsp;
    let was = sigframe::altstack(&task, sp);
    if let Some(new) = new.non_null() {
        let [base, flags, size] = new.read()?;
        let stack = AltStack {
            base: UserAddr(base),
            size,
            flags: flags as u32,
        };
        sigframe::set_altstack(&task, stack, sp)?;
    }
    if let Some(old) = old.non_null() {
        old.write([was.base.0, u64::from(was.flags), was.size])?;
    }
    Ok(0)
}

/// man 2 kill.
pub fn kill(pid: Pid, sig: u32) -> SyscallResult {
    signal::kill(&process::current(), pid, sig)?;
    Ok(0)
}

fn send_to_thread(tgid: Option<Pid>, tid: Pid, info: SigInfo) -> SyscallResult {
    let sender = process::current();
    let target = process::find_task(tid)
        .filter(|t| tgid.is_none_or(|tgid| t.pid() == tgid))
        .ok_or(Errno::ESRCH)?;
    signal::check_permission(&sender, target.process(), info.signo)?;
    if info.signo != 0 {
        signal::try_send_task(&target, info)?;
    }
    Ok(0)
}

/// man 2 tkill.
pub fn tkill(tid: Pid, sig: u32) -> SyscallResult {
    if tid <= 0 || sig > NSIG {
        return Err(Errno::EINVAL);
    }
    send_to_thread(None, tid, signal::tkill_info(&process::current(), sig))
}

/// man 2 tgkill.
pub fn tgkill(tgid: Pid, tid: Pid, sig: u32) -> SyscallResult {
    if tgid <= 0 || tid <= 0 || sig > NSIG {
        return Err(Errno::EINVAL);
    }
    send_to_thread(
        Some(tgid),
        tid,
        signal::tkill_info(&process::current(), sig),
    )
}

/// Reads what a program wants to send. EPERM when it poses as the kernel or kill(2) towards
/// another process (man 2 rt_sigqueueinfo).
fn read_info(sig: u32, at: UserAddr, target: Pid) -> Result<SigInfo> {
    if sig > NSIG {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; SIGINFO_SIZE];
    copy_from_user(&mut bytes, at)?;
    let info = SigInfo::from_bytes(sig, &bytes);
    if (info.code >= 0 || info.code == SI_TKILL) && target != process::current().pid() {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

/// man 2 rt_sigqueueinfo.
pub fn rt_sigqueueinfo(pid: Pid, sig: u32, info: UserAddr) -> SyscallResult {
    let info = read_info(sig, info, pid)?;
    let target = process::find(pid).ok_or(Errno::ESRCH)?;
    signal::check_permission(&process::current(), &target, sig)?;
    if sig != 0 {
        signal::try_send_process(&target, info)?;
    }
    Ok(0)
}

/// man 2 rt_tgsigqueueinfo.
pub fn rt_tgsigqueueinfo(tgid: Pid, tid: Pid, sig: u32, info: UserAddr) -> SyscallResult {
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = read_info(sig, info, tgid)?;
    send_to_thread(Some(tgid), tid, info)
}

/// man 2 pidfd_send_signal.
pub fn pidfd_send_signal(fd: i32, sig: u32, info: UserAddr, flags: u32) -> SyscallResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if sig > NSIG {
        return Err(Errno::EINVAL);
    }
    let sender = process::current();
    let target = pidfd::process_of(&sender, fd)?;
    if process::find(target.pid()).is_none() {
        return Err(Errno::ESRCH);
    }
    let info = if info.0 == 0 {
        signal::user_info(&sender, sig)
    } else {
        let mut signo = [0; 4];
        copy_from_user(&mut signo, info)?;
        if u32::from_le_bytes(signo) != sig {
            return Err(Errno::EINVAL);
        }
        read_info(sig, info, target.pid())?
    };
    signal::check_permission(&sender, &target, sig)?;
    if sig != 0 {
        signal::try_send_process(&target, info)?;
    }
    Ok(0)
}

/// man 2 restart_syscall: only the way out of an interrupted call makes programs call it.
pub fn restart_syscall() -> SyscallResult {
    let restart = process::current().take_restart();
    match restart {
        Some(restart) => restart(),
        None => Err(Errno::EINTR),
    }
}

/// man 2 signalfd4: a new file, or a new set for the one behind `fd`.
pub fn signalfd4(fd: i32, mask: UserPtr<u64>, size: usize, flags: u32) -> SyscallResult {
    if size != size_of::<u64>() || flags & !(abi::O_CLOEXEC | abi::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = SigSet(mask.read()?);
    if fd != -1 {
        let of = super::file::io_file(fd)?;
        let file = of.file.as_any().downcast_ref::<SignalFd>();
        file.ok_or(Errno::EINVAL)?.set_wanted(wanted);
        return Ok(fd as isize);
    }
    let of = OpenFile::new(
        SignalFd::new(wanted),
        abi::O_RDWR | (flags & abi::O_NONBLOCK),
    );
    super::file::install(of, flags & abi::O_CLOEXEC != 0)
}

pub fn signalfd(fd: i32, mask: UserPtr<u64>, size: usize) -> SyscallResult {
    signalfd4(fd, mask, size, 0)
}
