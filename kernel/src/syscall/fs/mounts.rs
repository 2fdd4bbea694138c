//! mount, umount2, sync, syncfs.

use alloc::vec::Vec;

use super::{Context, only, path_arg};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::syscall::SyscallResult;
use crate::vfs::mount::{self as tree, Remount};
use crate::vfs::{self, MountFlags, MountSource};
use crate::vm::user::{copy_from_user, read_cstr};

const MNT_FORCE: u32 = 1;
const MNT_DETACH: u32 = 2;
const UMOUNT_NOFOLLOW: u32 = 8;

/// Flags that change nothing here: how loud, how access times are kept by default, and
/// caching hints that the filesystems' own behaviour satisfies.
const QUIET: u32 = abi::MS_SILENT | abi::MS_RELATIME | abi::MS_LAZYTIME;

/// The data argument: a text of at most a page, maybe at the end of what is mapped.
fn options(at: UserAddr) -> Result<Vec<u8>> {
    if at.0 == 0 {
        return Ok(Vec::new());
    }
    let mut page = alloc::vec![0; PAGE_SIZE];
    let first = PAGE_SIZE - at.page_offset();
    copy_from_user(&mut page[..first], at)?;
    if !page[..first].contains(&0) && first < PAGE_SIZE {
        copy_from_user(&mut page[first..], at + first as u64)?;
    }
    let end = page.iter().position(|&b| b == 0).unwrap_or(PAGE_SIZE - 1);
    page.truncate(end);
    Ok(page)
}

pub fn mount(
    source: UserAddr,
    target: UserAddr,
    fstype: UserAddr,
    flags: u64,
    data: UserAddr,
) -> SyscallResult {
    let context = Context::new();
    let target = path_arg(target)?;
    let mut flags = flags as u32;
    if flags & abi::MS_MGC_MSK == abi::MS_MGC_VAL {
        flags &= !abi::MS_MGC_MSK;
    }
    let at = context.resolve(abi::AT_FDCWD, &target, true)?;
    if !context.cred.is_privileged() {
        return Err(Errno::EPERM);
    }
    let rest = flags & !MountFlags::all().bits() & !QUIET;
    // The device or directory that the call names, where one is needed.
    let from = || {
        if source.0 == 0 {
            return Err(Errno::EINVAL);
        }
        context.resolve(abi::AT_FDCWD, &path_arg(source)?, true)
    };
    if flags & abi::MS_REMOUNT != 0 {
        only(rest, abi::MS_REMOUNT | abi::MS_BIND)?;
        let options = options(data)?;
        let how = if flags & abi::MS_BIND != 0 {
            Remount::Mount
        } else {
            Remount::FileSystem(&options)
        };
        tree::remount(&at, flags, how)?;
        return Ok(0);
    }
    if flags & abi::MS_BIND != 0 {
        only(rest, abi::MS_BIND | abi::MS_REC)?;
        tree::bind(at, from()?, flags & abi::MS_REC != 0)?;
        return Ok(0);
    }
    if flags & abi::MS_PRIVATE != 0 {
        // Every mount is private: there is one namespace and no propagation.
        only(rest, abi::MS_PRIVATE | abi::MS_REC)?;
        return if at.is_mount_root() {
            Ok(0)
        } else {
            Err(Errno::EINVAL)
        };
    }
    if flags & abi::MS_MOVE != 0 {
        only(rest, abi::MS_MOVE)?;
        tree::move_mount(&from()?, at)?;
        return Ok(0);
    }
    only(rest, 0)?;
    if fstype.0 == 0 {
        return Err(Errno::EINVAL);
    }
    let fstype = read_cstr(fstype, 64, Errno::ENODEV)?;
    let source = if source.0 == 0 {
        MountSource {
            text: Vec::new(),
            device: Err(Errno::EINVAL),
        }
    } else {
        let text = read_cstr(source, vfs::inode::PATH_MAX - 1, Errno::EINVAL)?;
        vfs::mount_source(&context.caller(), &text)
    };
    let options = options(data)?;
    let own = MountFlags::requested(flags, None);
    tree::mount(at, &fstype, &source, own, &options)?;
    Ok(0)
}

pub fn umount2(target: UserAddr, flags: u32) -> SyscallResult {
    only(flags, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW)?;
    let target = path_arg(target)?;
    let at = {
        let context = Context::new();
        let at = context.resolve(abi::AT_FDCWD, &target, flags & UMOUNT_NOFOLLOW == 0)?;
        if !context.cred.is_privileged() {
            return Err(Errno::EPERM);
        }
        at
    };
    tree::umount(at, flags & MNT_DETACH != 0)?;
    Ok(0)
}

pub fn sync() -> SyscallResult {
    // man 2 sync: always successful; what fails is reported by fsync and syncfs.
    let _ = vfs::sync_all();
    Ok(0)
}

pub fn syncfs(fd: i32) -> SyscallResult {
    let file = crate::syscall::file::io_file(fd)?;
    if let Some(place) = vfs::location(&file) {
        place.mount.sb.ops.sync()?;
    }
    Ok(0)
}
