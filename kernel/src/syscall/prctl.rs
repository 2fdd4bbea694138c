//! prctl, arch_prctl, personality, unshare: odds and ends of a process.

use super::SyscallResult;
use crate::abi::{self, prctl as pr};
use crate::error::Errno;
use crate::mm::UserAddr;
use crate::mm::addr::USER_END;
use crate::process::{self, sigstate::NSIG};
use crate::security::capability::{CAP_LAST, CAP_SETPCAP};
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user};

/// man 2 prctl; operations that are not there fail with EINVAL.
pub fn prctl(op: u32, a: u64, b: u64, c: u64, d: u64) -> SyscallResult {
    let task = process::current();
    let process = task.process();
    let no_more = b | c | d == 0;
    let word: UserPtr<i32> = UserPtr::new(UserAddr(a));
    match op {
        pr::PR_SET_NAME => {
            let mut name = [0; 16];
            copy_name(&mut name[..15], a)?;
            task.set_comm(name.split(|&b| b == 0).next().unwrap_or(&[]));
            Ok(0)
        }
        pr::PR_GET_NAME => {
            let mut name = [0; 16];
            let comm = task.comm();
            name[..comm.len()].copy_from_slice(&comm);
            copy_to_user(UserAddr(a), &name)?;
            Ok(0)
        }
        pr::PR_SET_PDEATHSIG => {
            if a > u64::from(NSIG) {
                return Err(Errno::EINVAL);
            }
            task.set_parent_death_signal(a as u32);
            Ok(0)
        }
        pr::PR_GET_PDEATHSIG => {
            word.write(task.parent_death_signal() as i32)?;
            Ok(0)
        }
        pr::PR_GET_DUMPABLE => Ok(process.dumpable() as isize),
        pr::PR_SET_DUMPABLE => {
            if a > 1 {
                return Err(Errno::EINVAL);
            }
            process.set_dumpable(a as u32);
            Ok(0)
        }
        pr::PR_SET_NO_NEW_PRIVS if a == 1 && no_more => {
            task.set_no_new_privs();
            Ok(0)
        }
        pr::PR_GET_NO_NEW_PRIVS if a == 0 && no_more => Ok(isize::from(task.no_new_privs())),
        pr::PR_SET_CHILD_SUBREAPER => {
            process.set_subreaper(a != 0);
            Ok(0)
        }
        pr::PR_GET_CHILD_SUBREAPER => {
            word.write(i32::from(process.is_subreaper()))?;
            Ok(0)
        }
        pr::PR_GET_KEEPCAPS => Ok(isize::from(task.keep_caps())),
        pr::PR_SET_KEEPCAPS if a <= 1 => {
            task.set_keep_caps(a == 1);
            Ok(0)
        }
        pr::PR_CAPBSET_READ if a <= u64::from(CAP_LAST) => {
            Ok((task.cred().caps.bounding >> a & 1) as isize)
        }
        pr::PR_CAPBSET_DROP => {
            let mut cred = (*task.cred()).clone();
            if !cred.capable(CAP_SETPCAP) {
                return Err(Errno::EPERM);
            }
            if a > u64::from(CAP_LAST) {
                return Err(Errno::EINVAL);
            }
            cred.caps.bounding &= !(1 << a);
            task.set_cred(cred);
            Ok(0)
        }
        pr::PR_CAP_AMBIENT => ambient(a as u32, b),
        pr::PR_GET_SECUREBITS => Ok(0),
        // What there is one of: statistical timing, no filter of calls.
        pr::PR_GET_TIMING | pr::PR_GET_SECCOMP => Ok(0),
        pr::PR_GET_TSC => {
            word.write(pr::PR_TSC_ENABLE as i32)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Copies a name of at most `out.len()` bytes, up to its NUL.
fn copy_name(out: &mut [u8], from: u64) -> crate::error::Result<()> {
    for (i, byte) in out.iter_mut().enumerate() {
        copy_from_user(core::slice::from_mut(byte), UserAddr(from + i as u64))?;
        if *byte == 0 {
            break;
        }
    }
    Ok(())
}

/// PR_CAP_AMBIENT (man 7 capabilities, "ambient").
fn ambient(op: u32, cap: u64) -> SyscallResult {
    let task = process::current();
    let mut cred = (*task.cred()).clone();
    if op == pr::PR_CAP_AMBIENT_CLEAR_ALL {
        cred.caps.ambient = 0;
        task.set_cred(cred);
        return Ok(0);
    }
    if cap > u64::from(CAP_LAST) {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << cap;
    match op {
        pr::PR_CAP_AMBIENT_IS_SET => return Ok(isize::from(cred.caps.ambient & bit != 0)),
        pr::PR_CAP_AMBIENT_RAISE if cred.caps.permitted & cred.caps.inheritable & bit == 0 => {
            return Err(Errno::EPERM);
        }
        pr::PR_CAP_AMBIENT_RAISE => cred.caps.ambient |= bit,
        pr::PR_CAP_AMBIENT_LOWER => cred.caps.ambient &= !bit,
        _ => return Err(Errno::EINVAL),
    }
    task.set_cred(cred);
    Ok(0)
}

const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;

/// man 2 arch_prctl. EPERM for an address outside the user half.
pub fn arch_prctl(op: u32, addr: u64) -> SyscallResult {
    let thread = crate::sched::current();
    let out: UserPtr<u64> = UserPtr::new(UserAddr(addr));
    match op {
        ARCH_SET_FS | ARCH_SET_GS if addr >= USER_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            thread.set_fs_base(addr);
            Ok(0)
        }
        ARCH_SET_GS => {
            thread.set_gs_base(addr);
            Ok(0)
        }
        ARCH_GET_FS => {
            out.write(thread.fs_base())?;
            Ok(0)
        }
        ARCH_GET_GS => {
            out.write(thread.gs_base())?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// man 2 personality: only Linux's own, without flags, can be asked for.
pub fn personality(persona: u32) -> SyscallResult {
    const QUERY: u32 = 0xffff_ffff;
    let process = process::current();
    let process = process.process();
    match persona {
        QUERY => Ok(process.personality() as isize),
        0 => Ok(process.set_personality(0) as isize),
        _ => Err(Errno::EINVAL),
    }
}

/// man 2 unshare: descriptors and directory context; namespaces are not there (EINVAL).
pub fn unshare(flags: u64) -> SyscallResult {
    let files = u64::from(abi::CLONE_FILES);
    let fs = u64::from(abi::CLONE_FS);
    let nothing = u64::from(abi::CLONE_SYSVSEM);
    if flags & !(files | fs | nothing) != 0 {
        return Err(Errno::EINVAL);
    }
    process::current().unshare(flags & files != 0, flags & fs != 0)?;
    Ok(0)
}
