//! man 2 futex, and robust lists.

use super::SyscallResult;
use super::signal::timespec_ns;
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::process::{self, Pid, futex, futex_pi};
use crate::time;
use crate::vm::UserPtr;

/// man 2 futex. The fourth argument is a timeout or a count, as the operation says.
pub fn futex(
    addr: UserAddr,
    op: u32,
    value: u32,
    arg: u64,
    addr2: UserAddr,
    value3: u32,
) -> SyscallResult {
    let command = op & !(abi::FUTEX_PRIVATE_FLAG | abi::FUTEX_CLOCK_REALTIME);
    let shared = op & abi::FUTEX_PRIVATE_FLAG == 0;
    let realtime = op & abi::FUTEX_CLOCK_REALTIME != 0;
    if realtime && !matches!(command, abi::FUTEX_WAIT_BITSET | abi::FUTEX_LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    // As in C: a negative count is a large one.
    let (count, count2) = (value as usize, arg as u32 as usize);
    let signed = |n: u32| i32::try_from(n).map_err(|_| Errno::EINVAL);
    match command {
        abi::FUTEX_WAIT => {
            let deadline = relative(arg)?;
            futex::wait(addr, value, abi::FUTEX_BITSET_MATCH_ANY, shared, deadline)?;
            Ok(0)
        }
        abi::FUTEX_WAIT_BITSET => {
            let deadline = absolute(arg, realtime)?;
            futex::wait(addr, value, value3, shared, deadline)?;
            Ok(0)
        }
        abi::FUTEX_WAKE => {
            // As Linux: one waiter is woken even by a count of 0.
            let woken = futex::wake(addr, count.max(1), abi::FUTEX_BITSET_MATCH_ANY, shared)?;
            Ok(woken as isize)
        }
        abi::FUTEX_WAKE_BITSET => Ok(futex::wake(addr, count.max(1), value3, shared)? as isize),
        abi::FUTEX_REQUEUE | abi::FUTEX_CMP_REQUEUE => {
            signed(value)?;
            signed(arg as u32)?;
            let compares = command == abi::FUTEX_CMP_REQUEUE;
            let (woken, moved) = futex::requeue(
                addr,
                addr2,
                count,
                count2,
                compares.then_some(value3),
                shared,
            )?;
            Ok((woken + moved) as isize)
        }
        abi::FUTEX_WAKE_OP => {
            Ok(futex::wake_op(addr, addr2, count.max(1), count2, value3, shared)? as isize)
        }
        // The one operation whose time was always of the wall clock.
        abi::FUTEX_LOCK_PI => futex_pi::lock(addr, shared, absolute(arg, true)?).map(|()| 0),
        abi::FUTEX_LOCK_PI2 => futex_pi::lock(addr, shared, absolute(arg, realtime)?).map(|()| 0),
        abi::FUTEX_TRYLOCK_PI => futex_pi::try_lock(addr, shared).map(|()| 0),
        abi::FUTEX_UNLOCK_PI => futex_pi::unlock(addr, shared).map(|()| 0),
        _ => Err(Errno::ENOSYS),
    }
}

fn read_timeout(at: u64) -> Result<Option<u64>> {
    let timeout: UserPtr<[i64; 2]> = UserPtr::new(UserAddr(at));
    timeout
        .non_null()
        .map(|t| timespec_ns(t.read()?))
        .transpose()
}

/// Deadline from a duration.
fn relative(at: u64) -> Result<Option<u64>> {
    Ok(read_timeout(at)?.map(|ns| time::now_ns().saturating_add(ns)))
}

/// Monotonic deadline from a point in time of either clock.
fn absolute(at: u64, realtime: bool) -> Result<Option<u64>> {
    Ok(read_timeout(at)?.map(|ns| {
        if realtime {
            let ahead = ns.saturating_sub(time::realtime_ns());
            time::now_ns().saturating_add(ahead)
        } else {
            ns
        }
    }))
}

/// man 2 set_robust_list.
pub fn set_robust_list(head: u64, size: usize) -> SyscallResult {
    if size != futex::ROBUST_HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    process::current().set_robust_list(head);
    Ok(0)
}

/// man 2 get_robust_list.
pub fn get_robust_list(tid: Pid, head: UserPtr<u64>, size: UserPtr<u64>) -> SyscallResult {
    let own = process::current();
    let task = if tid == 0 {
        own.clone()
    } else {
        process::find_task(tid).ok_or(Errno::ESRCH)?
    };
    process::access::check_inspect(&own, task.process())?;
    size.write(futex::ROBUST_HEAD_BYTES as u64)?;
    head.write(task.robust_list())?;
    Ok(0)
}
