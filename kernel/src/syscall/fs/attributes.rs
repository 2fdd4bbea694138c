//! chmod, chown, times, truncate, umask, extended attributes.

use alloc::vec::Vec;

use super::{Context, Target, only, path_arg, path_or_null};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::syscall::SyscallResult;
use crate::syscall::file::limit::check_file_limit;
use crate::vfs::{Path, SetTime, Timestamp};
use crate::vm::UserPtr;
use crate::vm::user::read_cstr;

/// The place that a path or an empty one with AT_EMPTY_PATH names. EOPNOTSUPP for objects
/// outside the tree, whose attributes nobody keeps.
fn place(context: &Context, dirfd: i32, path: &[u8], flags: u32) -> Result<Path> {
    let follow = flags & abi::AT_SYMLINK_NOFOLLOW == 0;
    let empty = flags & abi::AT_EMPTY_PATH != 0;
    match context.target(dirfd, path, follow, empty)? {
        Target::Path(path) => Ok(path),
        Target::File(_) => Err(Errno::EOPNOTSUPP),
    }
}

pub fn chmod(path: UserAddr, mode: u32) -> SyscallResult {
    fchmodat2(abi::AT_FDCWD, path, mode, 0)
}

pub fn fchmodat(dirfd: i32, path: UserAddr, mode: u32) -> SyscallResult {
    fchmodat2(dirfd, path, mode, 0)
}

pub fn fchmodat2(dirfd: i32, path: UserAddr, mode: u32, flags: u32) -> SyscallResult {
    only(flags, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH)?;
    let path = path_arg(path)?;
    let context = Context::new();
    let place = place(&context, dirfd, &path, flags)?;
    context.caller().chmod(&place, mode)?;
    Ok(0)
}

pub fn fchmod(fd: i32, mode: u32) -> SyscallResult {
    let context = Context::new();
    let place = context.place_of(fd, Errno::EOPNOTSUPP)?;
    context.caller().chmod(&place, mode)?;
    Ok(0)
}

fn id(raw: u32) -> Option<u32> {
    (raw != u32::MAX).then_some(raw)
}

pub fn chown(path: UserAddr, uid: u32, gid: u32) -> SyscallResult {
    fchownat(abi::AT_FDCWD, path, uid, gid, 0)
}

pub fn lchown(path: UserAddr, uid: u32, gid: u32) -> SyscallResult {
    fchownat(abi::AT_FDCWD, path, uid, gid, abi::AT_SYMLINK_NOFOLLOW)
}

pub fn fchownat(dirfd: i32, path: UserAddr, uid: u32, gid: u32, flags: u32) -> SyscallResult {
    only(flags, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH)?;
    let path = path_arg(path)?;
    let context = Context::new();
    let place = place(&context, dirfd, &path, flags)?;
    context.caller().chown(&place, id(uid), id(gid))?;
    Ok(0)
}

pub fn fchown(fd: i32, uid: u32, gid: u32) -> SyscallResult {
    let context = Context::new();
    let place = context.place_of(fd, Errno::EOPNOTSUPP)?;
    context.caller().chown(&place, id(uid), id(gid))?;
    Ok(0)
}

/// `UTIME_NOW` and `UTIME_OMIT` (man 2 utimensat), which the exported headers lack.
const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

fn from_timespec(sec: i64, nsec: i64) -> Result<SetTime> {
    match nsec {
        UTIME_NOW => Ok(SetTime::Now),
        UTIME_OMIT => Ok(SetTime::Keep),
        0..=999_999_999 => Ok(SetTime::To(Timestamp {
            sec,
            nsec: nsec as u32,
        })),
        _ => Err(Errno::EINVAL),
    }
}

fn from_timeval(sec: i64, usec: i64) -> Result<SetTime> {
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EINVAL);
    }
    from_timespec(sec, usec * 1000)
}

/// Two pairs of seconds and a fraction; NULL means now.
fn two_times(
    times: UserPtr<[i64; 4]>,
    convert: fn(i64, i64) -> Result<SetTime>,
) -> Result<(SetTime, SetTime)> {
    match times.non_null() {
        None => Ok((SetTime::Now, SetTime::Now)),
        Some(times) => {
            let [a, b, c, d] = times.read()?;
            Ok((convert(a, b)?, convert(c, d)?))
        }
    }
}

pub fn utimensat(
    dirfd: i32,
    path: UserAddr,
    times: UserPtr<[i64; 4]>,
    flags: u32,
) -> SyscallResult {
    let (atime, mtime) = two_times(times, from_timespec)?;
    if (atime, mtime) == (SetTime::Keep, SetTime::Keep) {
        // Not even the path is looked at.
        return Ok(0);
    }
    only(flags, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH)?;
    let context = Context::new();
    // futimens: no path at all names the descriptor.
    let place = if path.0 == 0 {
        if flags != 0 || dirfd == abi::AT_FDCWD {
            return Err(if flags != 0 {
                Errno::EINVAL
            } else {
                Errno::EFAULT
            });
        }
        context.place_of(dirfd, Errno::EOPNOTSUPP)?
    } else {
        place(&context, dirfd, &path_or_null(path)?, flags)?
    };
    context.caller().set_times(&place, atime, mtime)?;
    Ok(0)
}

pub fn futimesat(dirfd: i32, path: UserAddr, times: UserPtr<[i64; 4]>) -> SyscallResult {
    let (atime, mtime) = two_times(times, from_timeval)?;
    let context = Context::new();
    let place = if path.0 == 0 {
        context.place_of(dirfd, Errno::EOPNOTSUPP)?
    } else {
        place(&context, dirfd, &path_arg(path)?, 0)?
    };
    context.caller().set_times(&place, atime, mtime)?;
    Ok(0)
}

pub fn utimes(path: UserAddr, times: UserPtr<[i64; 4]>) -> SyscallResult {
    let (atime, mtime) = two_times(times, from_timeval)?;
    let path = path_arg(path)?;
    let context = Context::new();
    let place = place(&context, abi::AT_FDCWD, &path, 0)?;
    context.caller().set_times(&place, atime, mtime)?;
    Ok(0)
}

pub fn utime(path: UserAddr, times: UserPtr<[i64; 2]>) -> SyscallResult {
    let (atime, mtime) = match times.non_null() {
        None => (SetTime::Now, SetTime::Now),
        Some(times) => {
            let [atime, mtime] = times.read()?;
            (from_timespec(atime, 0)?, from_timespec(mtime, 0)?)
        }
    };
    let path = path_arg(path)?;
    let context = Context::new();
    let place = place(&context, abi::AT_FDCWD, &path, 0)?;
    context.caller().set_times(&place, atime, mtime)?;
    Ok(0)
}

pub fn truncate(path: UserAddr, len: i64) -> SyscallResult {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    let path = path_arg(path)?;
    let context = Context::new();
    let place = context.resolve(abi::AT_FDCWD, &path, true)?;
    check_file_limit(place.dentry.inode.size(), len)?;
    context.caller().truncate(&place, len)?;
    Ok(0)
}

pub fn umask(mask: u32) -> SyscallResult {
    Ok(Context::new().fs.set_umask(mask) as isize)
}

// No filesystem here keeps extended attributes: each call answers as Linux does on such a
// one, after the checks that come first there.

fn attribute_name(name: UserAddr) -> Result<Vec<u8>> {
    let name = read_cstr(name, 255, Errno::ERANGE)?;
    if name.is_empty() {
        return Err(Errno::ERANGE);
    }
    Ok(name)
}

fn no_attributes(path: UserAddr, follow: bool, name: Option<UserAddr>) -> SyscallResult {
    if let Some(name) = name {
        attribute_name(name)?;
    }
    let path = path_arg(path)?;
    Context::new().resolve(abi::AT_FDCWD, &path, follow)?;
    Err(Errno::EOPNOTSUPP)
}

fn no_attributes_of(fd: i32, name: Option<UserAddr>) -> SyscallResult {
    crate::syscall::file::io_file(fd)?;
    if let Some(name) = name {
        attribute_name(name)?;
    }
    Err(Errno::EOPNOTSUPP)
}

pub fn getxattr(path: UserAddr, name: UserAddr) -> SyscallResult {
    no_attributes(path, true, Some(name))
}
pub fn lgetxattr(path: UserAddr, name: UserAddr) -> SyscallResult {
    no_attributes(path, false, Some(name))
}
pub fn fgetxattr(fd: i32, name: UserAddr) -> SyscallResult {
    no_attributes_of(fd, Some(name))
}
pub fn setxattr(path: UserAddr, name: UserAddr) -> SyscallResult {
    no_attributes(path, true, Some(name))
}
pub fn lsetxattr(path: UserAddr, name: UserAddr) -> SyscallResult {
    no_attributes(path, false, Some(name))
}
pub fn fsetxattr(fd: i32, name: UserAddr) -> SyscallResult {
    no_attributes_of(fd, Some(name))
}
pub fn removexattr(path: UserAddr, name: UserAddr) -> SyscallResult {
    no_attributes(path, true, Some(name))
}
pub fn lremovexattr(path: UserAddr, name: UserAddr) -> SyscallResult {
    no_attributes(path, false, Some(name))
}
pub fn fremovexattr(fd: i32, name: UserAddr) -> SyscallResult {
    no_attributes_of(fd, Some(name))
}
pub fn listxattr(path: UserAddr) -> SyscallResult {
    no_attributes(path, true, None)
}
pub fn llistxattr(path: UserAddr) -> SyscallResult {
    no_attributes(path, false, None)
}
pub fn flistxattr(fd: i32) -> SyscallResult {
    no_attributes_of(fd, None)
}
