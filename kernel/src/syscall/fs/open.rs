//! open, openat, openat2, creat.

use super::{Context, path_arg};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::syscall::SyscallResult;
use crate::syscall::file::install;
use crate::vfs::OpenHow;
use crate::vm::UserPtr;
use crate::vm::user::copy_from_user;

/// Every O_* flag that openat2 knows.
const KNOWN: u32 = abi::O_ACCMODE
    | abi::O_CREAT
    | abi::O_EXCL
    | abi::O_NOCTTY
    | abi::O_TRUNC
    | abi::O_APPEND
    | abi::O_NONBLOCK
    | abi::O_SYNC
    | abi::FASYNC
    | abi::O_DIRECT
    | abi::O_LARGEFILE
    | abi::O_DIRECTORY
    | abi::O_NOFOLLOW
    | abi::O_NOATIME
    | abi::O_CLOEXEC
    | abi::O_PATH
    | abi::O_TMPFILE;

fn do_open(dirfd: i32, path: UserAddr, how: OpenHow) -> SyscallResult {
    let path = path_arg(path)?;
    let context = Context::new();
    let start = context.start(dirfd, &path)?;
    let close_on_exec = how.flags & abi::O_CLOEXEC != 0;
    let file = context.caller().open(&start, &path, &how)?;
    install(file, close_on_exec)
}

fn plain(flags: u32, mode: u32) -> OpenHow {
    let flags = flags & KNOWN;
    OpenHow {
        // As every 64-bit program has it.
        flags: if flags & abi::O_PATH == 0 {
            flags | abi::O_LARGEFILE
        } else {
            flags
        },
        mode: mode & 0o7777,
        resolve: 0,
    }
}

pub fn open(path: UserAddr, flags: u32, mode: u32) -> SyscallResult {
    do_open(abi::AT_FDCWD, path, plain(flags, mode))
}

pub fn openat(dirfd: i32, path: UserAddr, flags: u32, mode: u32) -> SyscallResult {
    do_open(dirfd, path, plain(flags, mode))
}

pub fn creat(path: UserAddr, mode: u32) -> SyscallResult {
    let flags = abi::O_CREAT | abi::O_WRONLY | abi::O_TRUNC;
    do_open(abi::AT_FDCWD, path, plain(flags, mode))
}

pub fn openat2(dirfd: i32, path: UserAddr, how: UserAddr, size: usize) -> SyscallResult {
    let how = read_how(how, size)?;
    do_open(dirfd, path, how)
}

/// man 2 openat2: a structure that may be longer than the one known here, if the rest is
/// zero.
fn read_how(at: UserAddr, size: usize) -> Result<OpenHow> {
    const WORDS: usize = 3;
    const BYTES: usize = WORDS * 8;
    if size < BYTES {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let words = UserPtr::<[u64; WORDS]>::new(at).read()?;
    let mut rest = alloc::vec![0; size - BYTES];
    copy_from_user(&mut rest, at + BYTES as u64)?;
    if rest.iter().any(|&b| b != 0) {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve] = words;
    let known = abi::RESOLVE_NO_XDEV
        | abi::RESOLVE_NO_MAGICLINKS
        | abi::RESOLVE_NO_SYMLINKS
        | abi::RESOLVE_BENEATH
        | abi::RESOLVE_IN_ROOT
        | abi::RESOLVE_CACHED;
    let scopes = u64::from(abi::RESOLVE_BENEATH | abi::RESOLVE_IN_ROOT);
    let makes = flags & u64::from(abi::O_CREAT) != 0
        || flags & u64::from(abi::O_TMPFILE) == u64::from(abi::O_TMPFILE);
    let bad = flags & !u64::from(KNOWN) != 0
        || resolve & !u64::from(known) != 0
        || resolve & scopes == scopes
        || mode & !0o7777 != 0
        || (mode != 0 && !makes);
    if bad {
        return Err(Errno::EINVAL);
    }
    let path_only = abi::O_PATH | abi::O_DIRECTORY | abi::O_NOFOLLOW | abi::O_CLOEXEC;
    if flags & u64::from(abi::O_PATH) != 0 && flags & !u64::from(path_only) != 0 {
        return Err(Errno::EINVAL);
    }
    if resolve & u64::from(abi::RESOLVE_CACHED) != 0 {
        // Whether a walk would need the disk is not known beforehand (man 2 openat2: the
        // caller tries again without).
        return Err(Errno::EAGAIN);
    }
    Ok(OpenHow {
        flags: flags as u32,
        mode: mode as u32,
        resolve: resolve as u32,
    })
}
