//! mkdir, mknod, link, symlink, unlink, rmdir, rename, readlink.

use super::{Context, Target, only, path_arg};
use crate::abi;
use crate::error::Errno;
use crate::mm::UserAddr;
use crate::syscall::SyscallResult;
use crate::vfs::Dev;
use crate::vm::user::copy_to_user;

pub fn mkdir(path: UserAddr, mode: u32) -> SyscallResult {
    mkdirat(abi::AT_FDCWD, path, mode)
}

pub fn mkdirat(dirfd: i32, path: UserAddr, mode: u32) -> SyscallResult {
    let path = path_arg(path)?;
    let context = Context::new();
    let start = context.start(dirfd, &path)?;
    context.caller().mkdir(&start, &path, mode)?;
    Ok(0)
}

pub fn mknod(path: UserAddr, mode: u32, dev: u32) -> SyscallResult {
    mknodat(abi::AT_FDCWD, path, mode, dev)
}

pub fn mknodat(dirfd: i32, path: UserAddr, mode: u32, dev: u32) -> SyscallResult {
    let path = path_arg(path)?;
    let context = Context::new();
    let start = context.start(dirfd, &path)?;
    let dev = Dev::decode(u64::from(dev));
    context.caller().mknod(&start, &path, mode, dev)?;
    Ok(0)
}

pub fn symlink(target: UserAddr, path: UserAddr) -> SyscallResult {
    symlinkat(target, abi::AT_FDCWD, path)
}

pub fn symlinkat(target: UserAddr, dirfd: i32, path: UserAddr) -> SyscallResult {
    let target = path_arg(target)?;
    let path = path_arg(path)?;
    let context = Context::new();
    let start = context.start(dirfd, &path)?;
    context.caller().symlink(&target, &start, &path)?;
    Ok(0)
}

pub fn link(old: UserAddr, new: UserAddr) -> SyscallResult {
    linkat(abi::AT_FDCWD, old, abi::AT_FDCWD, new, 0)
}

pub fn linkat(
    old_dirfd: i32,
    old: UserAddr,
    new_dirfd: i32,
    new: UserAddr,
    flags: u32,
) -> SyscallResult {
    only(flags, abi::AT_SYMLINK_FOLLOW | abi::AT_EMPTY_PATH)?;
    let old = path_arg(old)?;
    let new = path_arg(new)?;
    let context = Context::new();
    let empty = flags & abi::AT_EMPTY_PATH != 0;
    if empty && old.is_empty() && !context.cred.is_privileged() {
        return Err(Errno::ENOENT);
    }
    let follow = flags & abi::AT_SYMLINK_FOLLOW != 0;
    let target = match context.target(old_dirfd, &old, follow, empty)? {
        Target::Path(path) => path,
        Target::File(_) => return Err(Errno::EXDEV),
    };
    let start = context.start(new_dirfd, &new)?;
    context.caller().link(&target, &start, &new)?;
    Ok(0)
}

pub fn unlink(path: UserAddr) -> SyscallResult {
    unlinkat(abi::AT_FDCWD, path, 0)
}

pub fn rmdir(path: UserAddr) -> SyscallResult {
    unlinkat(abi::AT_FDCWD, path, abi::AT_REMOVEDIR)
}

pub fn unlinkat(dirfd: i32, path: UserAddr, flags: u32) -> SyscallResult {
    only(flags, abi::AT_REMOVEDIR)?;
    let path = path_arg(path)?;
    let context = Context::new();
    let start = context.start(dirfd, &path)?;
    if flags & abi::AT_REMOVEDIR != 0 {
        context.caller().rmdir(&start, &path)?;
    } else {
        context.caller().unlink(&start, &path)?;
    }
    Ok(0)
}

pub fn rename(old: UserAddr, new: UserAddr) -> SyscallResult {
    renameat2(abi::AT_FDCWD, old, abi::AT_FDCWD, new, 0)
}

pub fn renameat(old_dirfd: i32, old: UserAddr, new_dirfd: i32, new: UserAddr) -> SyscallResult {
    renameat2(old_dirfd, old, new_dirfd, new, 0)
}

pub fn renameat2(
    old_dirfd: i32,
    old: UserAddr,
    new_dirfd: i32,
    new: UserAddr,
    flags: u32,
) -> SyscallResult {
    let old = path_arg(old)?;
    let new = path_arg(new)?;
    let context = Context::new();
    let old_start = context.start(old_dirfd, &old)?;
    let new_start = context.start(new_dirfd, &new)?;
    context
        .caller()
        .rename(&old_start, &old, &new_start, &new, flags)?;
    Ok(0)
}

pub fn readlink(path: UserAddr, buf: UserAddr, size: i32) -> SyscallResult {
    readlinkat(abi::AT_FDCWD, path, buf, size)
}

pub fn readlinkat(dirfd: i32, path: UserAddr, buf: UserAddr, size: i32) -> SyscallResult {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    let path = path_arg(path)?;
    let context = Context::new();
    // An empty path names a descriptor that O_PATH | O_NOFOLLOW opened on a link.
    let place = match context.target(dirfd, &path, false, true)? {
        Target::Path(place) => place,
        Target::File(_) => return Err(Errno::ENOENT),
    };
    if !place.dentry.is_symlink() {
        return Err(if path.is_empty() {
            Errno::ENOENT
        } else {
            Errno::EINVAL
        });
    }
    let text = place.dentry.inode.readlink()?;
    let n = text.len().min(size);
    copy_to_user(buf, &text[..n])?;
    Ok(n as isize)
}
