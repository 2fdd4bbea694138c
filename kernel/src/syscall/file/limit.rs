//! How long a file may become: RLIMIT_FSIZE (man 2 getrlimit).

use crate::abi;
use crate::error::{Errno, Result};
use crate::process;

/// How long the caller may make a regular file.
pub(super) fn file_limit() -> u64 {
    process::current().process().limit(abi::RLIMIT_FSIZE)
}

/// CAP_FSETID: writes leave set-id bits alone (man 7 capabilities).
pub(super) fn keeps_set_id() -> bool {
    process::current().cred().is_privileged()
}

/// EFBIG, with SIGXFSZ for the caller.
pub(super) fn over_file_limit() -> Errno {
    super::send_own(abi::SIGXFSZ);
    Errno::EFBIG
}

/// EFBIG with SIGXFSZ when a file of `now` bytes may not become `len` long (man 2 getrlimit).
pub(in crate::syscall) fn check_file_limit(now: u64, len: u64) -> Result<()> {
    if len > now && len > file_limit() {
        return Err(over_file_limit());
    }
    Ok(())
}
