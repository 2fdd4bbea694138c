//! process_vm_readv and process_vm_writev: another process's memory (man 2 process_vm_readv).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SyscallResult;
use super::file::io::vector;
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::PAGE_SIZE;
use crate::process::{self, Pid, access};
use crate::vm::io::UserRange;
use crate::vm::{AddressSpace, IoDest, IoSource, UserPtr};

/// The memory of `pid`, if the caller may look into it. ESRCH, EPERM.
fn space_of(pid: Pid) -> Result<Arc<AddressSpace>> {
    let task = process::find_task(pid).ok_or(Errno::ESRCH)?;
    access::check_inspect(&process::current(), task.process())?;
    task.process().space().ok_or(Errno::ESRCH)
}

/// Both vectors and the space; EINVAL for flags, of which there are none.
fn prepare(
    pid: Pid,
    local: (UserPtr<abi::iovec>, usize),
    remote: (UserPtr<abi::iovec>, usize),
    flags: u64,
) -> Result<(Vec<UserRange>, Vec<UserRange>, Arc<AddressSpace>)> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let local = vector(local.0, local.1)?;
    let remote = vector(remote.0, remote.1)?;
    Ok((local, remote, space_of(pid)?))
}

/// Moves pieces of at most a page through `step`, which is given the remote place and a
/// buffer; ends early, with what was moved, where a side fails after the first piece.
fn transfer(
    remote: &[UserRange],
    mut room: impl FnMut() -> usize,
    mut step: impl FnMut(crate::mm::UserAddr, &mut [u8]) -> Result<usize>,
) -> SyscallResult {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(PAGE_SIZE)
        .map_err(|_| Errno::ENOMEM)?;
    buffer.resize(PAGE_SIZE, 0);
    let mut total = 0;
    for range in remote {
        let mut done = 0;
        while done < range.len {
            let at = range.addr.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let n = (PAGE_SIZE - at.page_offset())
                .min(range.len - done)
                .min(room());
            if n == 0 {
                return Ok(total as isize);
            }
            match step(at, &mut buffer[..n]) {
                Ok(moved) => {
                    done += moved;
                    total += moved;
                    if moved < n {
                        return Ok(total as isize);
                    }
                }
                Err(_) if total > 0 => return Ok(total as isize),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(total as isize)
}

/// man 2 process_vm_readv.
pub fn process_vm_readv(
    pid: Pid,
    local: UserPtr<abi::iovec>,
    local_count: usize,
    remote: UserPtr<abi::iovec>,
    remote_count: usize,
    flags: u64,
) -> SyscallResult {
    let (local, remote, space) = prepare(pid, (local, local_count), (remote, remote_count), flags)?;
    let dest = core::cell::RefCell::new(IoDest::vector(local));
    transfer(
        &remote,
        || dest.borrow().remaining(),
        |at, buffer| {
            let n = space.read_remote(at, buffer)?;
            dest.borrow_mut().put(&buffer[..n])
        },
    )
}

/// man 2 process_vm_writev.
pub fn process_vm_writev(
    pid: Pid,
    local: UserPtr<abi::iovec>,
    local_count: usize,
    remote: UserPtr<abi::iovec>,
    remote_count: usize,
    flags: u64,
) -> SyscallResult {
    let (local, remote, space) = prepare(pid, (local, local_count), (remote, remote_count), flags)?;
    let source = core::cell::RefCell::new(IoSource::vector(local));
    transfer(
        &remote,
        || source.borrow().remaining(),
        |at, buffer| {
            let n = source.borrow_mut().get(buffer)?;
            space.write_remote(at, &buffer[..n])?;
            Ok(n)
        },
    )
}
