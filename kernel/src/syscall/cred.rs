//! Calls on user and group ids and capabilities (man 7 credentials, man 7 capabilities). The
//! rules are in [`crate::security::cred`].

use alloc::sync::Arc;

use super::SyscallResult;
use crate::error::{Errno, Result};
use crate::process::{self, Pid, Task};
use crate::security::Credentials;
use crate::security::cred::MAX_GROUPS;
use crate::vm::UserPtr;

fn own() -> (process::Current, Arc<Credentials>) {
    let task = process::current();
    let cred = task.cred();
    (task, cred)
}

fn change(make: impl FnOnce(&Task, &Credentials) -> Result<Credentials>) -> SyscallResult {
    let (task, cred) = own();
    task.set_cred(make(&task, &cred)?);
    Ok(0)
}

/// man 2 getuid.
pub fn getuid() -> SyscallResult {
    Ok(own().1.uid as isize)
}
/// man 2 geteuid.
pub fn geteuid() -> SyscallResult {
    Ok(own().1.euid as isize)
}
/// man 2 getgid.
pub fn getgid() -> SyscallResult {
    Ok(own().1.gid as isize)
}
/// man 2 getegid.
pub fn getegid() -> SyscallResult {
    Ok(own().1.egid as isize)
}

/// man 2 setuid.
pub fn setuid(uid: u32) -> SyscallResult {
    change(|task, cred| cred.setuid(uid, task.keep_caps()))
}
/// man 2 setgid.
pub fn setgid(gid: u32) -> SyscallResult {
    change(|_, cred| cred.setgid(gid))
}
/// man 2 setreuid.
pub fn setreuid(real: u32, effective: u32) -> SyscallResult {
    change(|task, cred| cred.setreuid(real, effective, task.keep_caps()))
}
/// man 2 setregid.
pub fn setregid(real: u32, effective: u32) -> SyscallResult {
    change(|_, cred| cred.setregid(real, effective))
}
/// man 2 setresuid.
pub fn setresuid(real: u32, effective: u32, saved: u32) -> SyscallResult {
    change(|task, cred| cred.setresuid((real, effective, saved), task.keep_caps()))
}
/// man 2 setresgid.
pub fn setresgid(real: u32, effective: u32, saved: u32) -> SyscallResult {
    change(|_, cred| cred.setresgid((real, effective, saved)))
}

/// man 2 getresuid.
pub fn getresuid(
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> SyscallResult {
    let cred = own().1;
    real.write(cred.uid)?;
    effective.write(cred.euid)?;
    saved.write(cred.suid)?;
    Ok(0)
}

/// man 2 getresgid.
pub fn getresgid(
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> SyscallResult {
    let cred = own().1;
    real.write(cred.gid)?;
    effective.write(cred.egid)?;
    saved.write(cred.sgid)?;
    Ok(0)
}

/// man 2 setfsuid: returns the old id whatever happens.
pub fn setfsuid(uid: u32) -> SyscallResult {
    let (task, cred) = own();
    if let Some(new) = cred.setfsuid(uid) {
        task.set_cred(new);
    }
    Ok(cred.fsuid as isize)
}

/// man 2 setfsgid: returns the old id whatever happens.
pub fn setfsgid(gid: u32) -> SyscallResult {
    let (task, cred) = own();
    if let Some(new) = cred.setfsgid(gid) {
        task.set_cred(new);
    }
    Ok(cred.fsgid as isize)
}

/// man 2 getgroups.
pub fn getgroups(size: i32, list: UserPtr<u32>) -> SyscallResult {
    let cred = own().1;
    let count = cred.groups.len();
    if size < 0 || size != 0 && (size as usize) < count {
        return Err(Errno::EINVAL);
    }
    if size != 0 {
        for (i, &gid) in cred.groups.iter().enumerate() {
            list.at(i)?.write(gid)?;
        }
    }
    Ok(count as isize)
}

/// man 2 setgroups.
pub fn setgroups(size: usize, list: UserPtr<u32>) -> SyscallResult {
    if size as u32 as usize > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    change(|_, cred| {
        // Checked before the list is looked at.
        cred.setgroups(alloc::vec::Vec::new())?;
        cred.setgroups(list.read_vec(size as u32 as usize)?)
    })
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words per set.
const VERSION_3: u32 = 0x2008_0522;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_1: u32 = 0x1998_0330;

/// How many words per set the caller's version has; the version is corrected in memory when
/// it is unknown (EINVAL).
fn words(header: UserPtr<[u32; 2]>) -> Result<(usize, Pid)> {
    let [version, pid] = header.read()?;
    match version {
        VERSION_1 => Ok((1, pid as Pid)),
        VERSION_2 | VERSION_3 => Ok((2, pid as Pid)),
        _ => {
            header.write([VERSION_3, pid])?;
            Err(Errno::EINVAL)
        }
    }
}

/// man 2 capget.
pub fn capget(header: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) -> SyscallResult {
    let (count, pid) = match words(header) {
        // Asking for the version only.
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        other => other?,
    };
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let task = match pid {
        0 => process::current().clone(),
        _ => process::find_task(pid).ok_or(Errno::ESRCH)?,
    };
    let caps = task.cred().caps;
    if data.is_null() {
        return Ok(0);
    }
    for i in 0..count {
        let part = |set: u64| (set >> (32 * i)) as u32;
        data.at(i)?.write([
            part(caps.effective),
            part(caps.permitted),
            part(caps.inheritable),
        ])?;
    }
    Ok(0)
}

/// man 2 capset: only for the caller.
pub fn capset(header: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) -> SyscallResult {
    let (count, pid) = words(header)?;
    let task = process::current();
    if pid != 0 && pid != task.tid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0u64; 3];
    for i in 0..count {
        for (set, word) in sets.iter_mut().zip(data.at(i)?.read()?) {
            *set |= u64::from(word) << (32 * i);
        }
    }
    let mut new = (*task.cred()).clone();
    if !new.caps.set(sets[0], sets[1], sets[2]) {
        return Err(Errno::EPERM);
    }
    task.set_cred(new);
    Ok(0)
}
