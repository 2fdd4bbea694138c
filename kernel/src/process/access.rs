//! Who may look into or change another process (man 2 ptrace, "Ptrace access mode checking").

use core::sync::atomic::Ordering;

use super::{Process, Task};
use crate::error::{Errno, Result};
use crate::security::capability::{CAP_SYS_PTRACE, CAP_SYS_RESOURCE};

/// Whether `task` may look into `target` (/proc/pid/environ, maps, fd...). EPERM.
pub fn check_inspect(task: &Task, target: &Process) -> Result<()> {
    if task.process.pid == target.pid {
        return Ok(());
    }
    let own = task.cred();
    if own.capable(CAP_SYS_PTRACE) {
        return Ok(());
    }
    let Some(main) = target.main_task() else {
        return Err(Errno::EPERM);
    };
    let other = main.cred();
    let same_user = [other.uid, other.euid, other.suid] == [own.fsuid; 3];
    let same_group = [other.gid, other.egid, other.sgid] == [own.fsgid; 3];
    let open = target.dumpable.load(Ordering::Relaxed) == 1;
    if same_user && same_group && open {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Whether `task` may read and set limits of `target` (man 2 prlimit). EPERM.
pub fn check_limits(task: &Task, target: &Process) -> Result<()> {
    let own = task.cred();
    if own.capable(CAP_SYS_RESOURCE) {
        return Ok(());
    }
    let Some(main) = target.main_task() else {
        return Err(Errno::EPERM);
    };
    let other = main.cred();
    let same_user = [other.uid, other.euid, other.suid] == [own.uid; 3];
    let same_group = [other.gid, other.egid, other.sgid] == [own.gid; 3];
    if same_user && same_group {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
