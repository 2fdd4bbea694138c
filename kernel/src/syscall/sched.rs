//! Scheduling of threads: affinity, nice values, policies (man 7 sched).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SyscallResult;
use super::time::{Pair, timespec};
use crate::abi;
use crate::arch::{self, CpuMask};
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::process::{self, Task};
use crate::sched::{self, Class, Thread, mlfq};
use crate::security::capability::CAP_SYS_NICE;
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user};

/// man 2 sched_yield.
pub fn sched_yield() -> SyscallResult {
    sched::yield_now();
    Ok(0)
}

/// The task of a thread id, 0 for the caller. EINVAL, ESRCH.
fn task_of(tid: i32) -> Result<Arc<Task>> {
    match tid {
        0 => Ok(process::current().clone()),
        1.. => process::find_task(tid).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// As [`task_of`], for calls to which a negative id is one that nobody has.
fn task_at(tid: i32) -> Result<Arc<Task>> {
    task_of(tid).map_err(|_| Errno::ESRCH)
}

fn thread_of(task: &Task) -> Result<Arc<Thread>> {
    task.thread().ok_or(Errno::ESRCH)
}

/// Whether the caller may change how `task` is scheduled (man 2 setpriority). EPERM.
fn check_owner(task: &Task) -> Result<()> {
    let (own, other) = (process::current().cred(), task.cred());
    if own.euid == other.euid || own.euid == other.uid || own.capable(CAP_SYS_NICE) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Bytes of a CPU mask as the kernel writes it.
const MASK_BYTES: usize = size_of::<CpuMask>();

/// man 2 sched_getaffinity (the raw call returns the bytes written).
pub fn sched_getaffinity(pid: i32, len: u32, mask: UserAddr) -> SyscallResult {
    if (len as usize) < MASK_BYTES || !(len as usize).is_multiple_of(MASK_BYTES) {
        return Err(Errno::EINVAL);
    }
    let affinity = thread_of(&*task_at(pid)?)?.affinity() & arch::ipi::online();
    copy_to_user(mask, &affinity.to_le_bytes())?;
    Ok(MASK_BYTES as isize)
}

/// man 2 sched_setaffinity.
pub fn sched_setaffinity(pid: i32, len: u32, mask: UserAddr) -> SyscallResult {
    let mut bytes = [0; MASK_BYTES];
    let n = (len as usize).min(MASK_BYTES);
    copy_from_user(&mut bytes[..n], mask)?;
    let task = task_at(pid)?;
    check_owner(&task)?;
    thread_of(&task)?.set_affinity(CpuMask::from_le_bytes(bytes))?;
    Ok(0)
}

/// Bit of sched_setscheduler's policy: children start afresh.
const RESET_ON_FORK: u32 = abi::SCHED_RESET_ON_FORK;

fn policy_of(class: Class) -> u32 {
    match class {
        Class::Normal => abi::SCHED_NORMAL,
        Class::Batch => abi::SCHED_BATCH,
        Class::Idle => abi::SCHED_IDLE,
        Class::Fifo(_) => abi::SCHED_FIFO,
        Class::RoundRobin(_) => abi::SCHED_RR,
    }
}

fn priority_of(class: Class) -> u8 {
    match class {
        Class::Fifo(p) | Class::RoundRobin(p) => p,
        _ => 0,
    }
}

/// A class from policy and priority. EINVAL.
fn class_of(policy: u32, priority: i32) -> Result<Class> {
    let realtime = || match u8::try_from(priority) {
        Ok(p @ 1..=99) => Ok(p),
        _ => Err(Errno::EINVAL),
    };
    let normal = |class| {
        if priority == 0 {
            Ok(class)
        } else {
            Err(Errno::EINVAL)
        }
    };
    match policy {
        abi::SCHED_NORMAL => normal(Class::Normal),
        abi::SCHED_BATCH => normal(Class::Batch),
        abi::SCHED_IDLE => normal(Class::Idle),
        abi::SCHED_FIFO => realtime().map(Class::Fifo),
        abi::SCHED_RR => realtime().map(Class::RoundRobin),
        _ => Err(Errno::EINVAL),
    }
}

/// man 2 sched_getparam.
pub fn sched_getparam(pid: i32, out: UserPtr<i32>) -> SyscallResult {
    let out = out.non_null().ok_or(Errno::EINVAL)?;
    let class = thread_of(&*task_of(pid)?)?.class();
    out.write(priority_of(class).into())?;
    Ok(0)
}

/// man 2 sched_getscheduler.
pub fn sched_getscheduler(pid: i32) -> SyscallResult {
    let thread = thread_of(&*task_of(pid)?)?;
    let flag = if thread.resets_on_fork() {
        RESET_ON_FORK
    } else {
        0
    };
    Ok((policy_of(thread.class()) | flag) as isize)
}

/// Sets a class if the caller may: real-time priorities want CAP_SYS_NICE or RLIMIT_RTPRIO
/// (man 7 sched, "Privileges and resource limits").
fn set_class(task: &Task, class: Class, reset_on_fork: bool) -> SyscallResult {
    let thread = thread_of(task)?;
    if !process::current().cred().capable(CAP_SYS_NICE) {
        check_owner(task)?;
        let limit = task.process().limit(abi::RLIMIT_RTPRIO);
        let (old, new) = (priority_of(thread.class()), priority_of(class));
        if new > old && u64::from(new) > limit {
            return Err(Errno::EPERM);
        }
        // Leaving SCHED_IDLE is as good as lowering the nice value.
        if thread.class() == Class::Idle && class != Class::Idle && !may_nice(task, thread.nice()) {
            return Err(Errno::EPERM);
        }
        if thread.resets_on_fork() && !reset_on_fork {
            return Err(Errno::EPERM);
        }
    }
    thread.set_resets_on_fork(reset_on_fork);
    thread.set_class(class);
    Ok(0)
}

/// man 2 sched_setparam.
pub fn sched_setparam(pid: i32, new: UserPtr<i32>) -> SyscallResult {
    let priority = new.non_null().ok_or(Errno::EINVAL)?.read()?;
    let task = task_of(pid)?;
    let thread = thread_of(&task)?;
    let class = class_of(policy_of(thread.class()), priority)?;
    set_class(&task, class, thread.resets_on_fork())
}

/// man 2 sched_setscheduler.
pub fn sched_setscheduler(pid: i32, policy: u32, new: UserPtr<i32>) -> SyscallResult {
    let priority = new.non_null().ok_or(Errno::EINVAL)?.read()?;
    let task = task_of(pid)?;
    let class = class_of(policy & !RESET_ON_FORK, priority)?;
    set_class(&task, class, policy & RESET_ON_FORK != 0)
}

/// man 2 sched_get_priority_max.
pub fn sched_get_priority_max(policy: u32) -> SyscallResult {
    match policy {
        abi::SCHED_FIFO | abi::SCHED_RR => Ok(99),
        abi::SCHED_NORMAL | abi::SCHED_BATCH | abi::SCHED_IDLE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// man 2 sched_get_priority_min.
pub fn sched_get_priority_min(policy: u32) -> SyscallResult {
    Ok(sched_get_priority_max(policy)?.min(1))
}

/// man 2 sched_rr_get_interval.
pub fn sched_rr_get_interval(pid: i32, out: UserPtr<Pair>) -> SyscallResult {
    let ns = match thread_of(&*task_of(pid)?)?.class() {
        Class::Fifo(_) => 0,
        Class::RoundRobin(_) => mlfq::RR_QUANTUM_NS,
        _ => mlfq::QUANTA_NS[0],
    };
    out.write(timespec(ns))?;
    Ok(0)
}

/// `which` of getpriority.
const PRIO_PROCESS: u32 = 0;
const PRIO_PGRP: u32 = 1;
const PRIO_USER: u32 = 2;

/// The threads that `which` and `who` name. EINVAL, ESRCH.
fn named(which: u32, who: i32) -> Result<Vec<Arc<Task>>> {
    let own = process::current();
    let wanted: Vec<Arc<Task>> = match which {
        PRIO_PROCESS => return Ok(alloc::vec![task_at(who)?]),
        PRIO_PGRP => {
            let pgid = if who == 0 { own.process().pgid() } else { who };
            process::all()
                .iter()
                .filter(|p| p.pgid() == pgid)
                .flat_map(|p| p.threads())
                .collect()
        }
        PRIO_USER => {
            let uid = if who == 0 { own.cred().uid } else { who as u32 };
            process::all()
                .iter()
                .flat_map(|p| p.threads())
                .filter(|t| t.cred().uid == uid)
                .collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if wanted.is_empty() {
        return Err(Errno::ESRCH);
    }
    Ok(wanted)
}

/// man 2 getpriority: the best of those named; the raw call returns 20 - nice.
pub fn getpriority(which: u32, who: i32) -> SyscallResult {
    named(which, who)?
        .iter()
        .filter_map(|t| t.thread())
        .map(|t| 20 - isize::from(t.nice()))
        .max()
        .ok_or(Errno::ESRCH)
}

/// Whether RLIMIT_NICE lets the task's nice value go down to `nice` (man 2 getrlimit).
fn may_nice(task: &Task, nice: i8) -> bool {
    let floor = 20 - i64::try_from(task.process().limit(abi::RLIMIT_NICE).min(40)).unwrap_or(40);
    i64::from(nice) >= floor
}

/// man 2 setpriority. Does what it may, and reports the last refusal.
pub fn setpriority(which: u32, who: i32, nice: i32) -> SyscallResult {
    let nice = nice.clamp(-20, 19) as i8;
    let privileged = process::current().cred().capable(CAP_SYS_NICE);
    let mut refused = None;
    for task in named(which, who)? {
        let Some(thread) = task.thread() else {
            continue;
        };
        if let Err(e) = check_owner(&task) {
            refused = Some(e);
        } else if nice < thread.nice() && !privileged && !may_nice(&task, nice) {
            refused = Some(Errno::EACCES);
        } else {
            thread.set_nice(nice);
        }
    }
    refused.map_or(Ok(0), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_priorities_go_together() {
        assert_eq!(class_of(abi::SCHED_NORMAL, 0), Ok(Class::Normal));
        assert_eq!(class_of(abi::SCHED_NORMAL, 1), Err(Errno::EINVAL));
        assert_eq!(class_of(abi::SCHED_FIFO, 99), Ok(Class::Fifo(99)));
        for bad in [0, 100, -1, i32::MAX] {
            assert_eq!(class_of(abi::SCHED_RR, bad), Err(Errno::EINVAL));
        }
        assert_eq!(class_of(abi::SCHED_DEADLINE, 0), Err(Errno::EINVAL));
        for class in [Class::Batch, Class::Idle, Class::RoundRobin(3)] {
            let again = class_of(policy_of(class), priority_of(class).into());
            assert_eq!(again, Ok(class));
        }
    }
}
