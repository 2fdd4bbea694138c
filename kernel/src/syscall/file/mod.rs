//! Calls on descriptors, each idea in a file; here is what they share: a descriptor's file, a
//! free descriptor, the signal of a broken pipe. The rows of the table name the calls.

pub(super) mod anon;
pub(super) mod async_io;
pub(super) mod content;
pub(super) mod copy;
pub(super) mod descriptors;
pub(super) mod io;
pub(super) mod limit;
pub(super) mod locks;
pub(super) mod splice;

use alloc::sync::Arc;

use super::SyscallResult;
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::process::{self, signal};

/// Most bytes one call moves (man 2 read).
const MAX_RW_COUNT: usize = 0x7fff_f000;

/// How many descriptors the caller may have (RLIMIT_NOFILE, soft).
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

/// What the caller's own call sends it comes as from itself.
fn send_own(sig: u32) {
    let task = process::current();
    signal::send_task(&task, signal::user_info(&task, sig));
}

/// A write to a pipe without readers also sends SIGPIPE (man 7 signal).
pub(super) fn with_sigpipe(of: &OpenFile, result: Result<usize>) -> SyscallResult {
    if result == Err(Errno::EPIPE) && of.file.raises_sigpipe() {
        send_own(abi::SIGPIPE);
    }
    result.map(|n| n as isize)
}

/// A position in a file. EINVAL when negative.
fn position(pos: i64) -> Result<u64> {
    u64::try_from(pos).map_err(|_| Errno::EINVAL)
}
