//! stat and its kin, statx, access, statfs.

use super::{Context, Target, only, path_arg, path_or_null};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::syscall::SyscallResult;
use crate::vfs::{self, Attr, Dev, MountFlags, Path, Timestamp, inode::NAME_MAX};
use crate::vm::UserPtr;

impl Target {
    fn stat(&self) -> Result<abi::stat> {
        match self {
            Target::Path(path) => Ok(vfs::attr(path)?.to_stat(path.dentry.sb.dev)),
            Target::File(file) => file.file.stat(),
        }
    }
}

pub fn stat(path: UserAddr, out: UserPtr<abi::stat>) -> SyscallResult {
    newfstatat(abi::AT_FDCWD, path, out, 0)
}

pub fn lstat(path: UserAddr, out: UserPtr<abi::stat>) -> SyscallResult {
    newfstatat(abi::AT_FDCWD, path, out, abi::AT_SYMLINK_NOFOLLOW)
}

pub fn fstat(fd: i32, out: UserPtr<abi::stat>) -> SyscallResult {
    let file = crate::process::current().file(fd)?;
    out.write(vfs::fstat(&file)?)?;
    Ok(0)
}

pub fn newfstatat(
    dirfd: i32,
    path: UserAddr,
    out: UserPtr<abi::stat>,
    flags: u32,
) -> SyscallResult {
    only(
        flags,
        abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH | abi::AT_NO_AUTOMOUNT,
    )?;
    let empty = flags & abi::AT_EMPTY_PATH != 0;
    let path = if empty {
        path_or_null(path)?
    } else {
        path_arg(path)?
    };
    let follow = flags & abi::AT_SYMLINK_NOFOLLOW == 0;
    let st = Context::new().target(dirfd, &path, follow, empty)?.stat()?;
    out.write(st)?;
    Ok(0)
}

fn statx_time(time: Timestamp) -> abi::statx_timestamp {
    abi::statx_timestamp {
        tv_sec: time.sec,
        tv_nsec: time.nsec,
        __reserved: 0,
    }
}

pub fn statx(
    dirfd: i32,
    path: UserAddr,
    flags: u32,
    mask: u32,
    out: UserPtr<abi::statx>,
) -> SyscallResult {
    only(
        flags,
        abi::AT_SYMLINK_NOFOLLOW
            | abi::AT_EMPTY_PATH
            | abi::AT_NO_AUTOMOUNT
            | abi::AT_STATX_SYNC_TYPE,
    )?;
    let sync = flags & abi::AT_STATX_SYNC_TYPE;
    if mask & abi::STATX__RESERVED != 0 || sync == abi::AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let empty = flags & abi::AT_EMPTY_PATH != 0;
    let path = if empty {
        path_or_null(path)?
    } else {
        path_arg(path)?
    };
    let follow = flags & abi::AT_SYMLINK_NOFOLLOW == 0;
    let target = Context::new().target(dirfd, &path, follow, empty)?;
    // SAFETY: a C structure of integers: all zero is a valid value.
    let mut stx: abi::statx = unsafe { core::mem::zeroed() };
    stx.stx_mask = abi::STATX_BASIC_STATS;
    let (attr, dev) = match &target {
        Target::Path(path) => {
            stx.stx_mask |= abi::STATX_MNT_ID;
            stx.stx_mnt_id = path.mount.id;
            stx.stx_attributes_mask = u64::from(abi::STATX_ATTR_MOUNT_ROOT);
            if path.is_mount_root() {
                stx.stx_attributes = u64::from(abi::STATX_ATTR_MOUNT_ROOT);
            }
            (vfs::attr(path)?, path.dentry.sb.dev)
        }
        Target::File(file) => {
            let st = file.file.stat()?;
            (Attr::from_stat(&st), Dev::decode(st.st_dev))
        }
    };
    if let Some(btime) = attr.btime {
        stx.stx_mask |= abi::STATX_BTIME;
        stx.stx_btime = statx_time(btime);
    }
    stx.stx_blksize = attr.block_size;
    stx.stx_nlink = attr.nlink;
    stx.stx_uid = attr.uid;
    stx.stx_gid = attr.gid;
    stx.stx_mode = attr.mode as u16;
    stx.stx_ino = attr.ino;
    stx.stx_size = attr.size;
    stx.stx_blocks = attr.blocks;
    stx.stx_atime = statx_time(attr.atime);
    stx.stx_mtime = statx_time(attr.mtime);
    stx.stx_ctime = statx_time(attr.ctime);
    stx.stx_rdev_major = attr.rdev.major;
    stx.stx_rdev_minor = attr.rdev.minor;
    stx.stx_dev_major = dev.major;
    stx.stx_dev_minor = dev.minor;
    out.write(stx)?;
    Ok(0)
}

pub fn access(path: UserAddr, mode: u32) -> SyscallResult {
    faccessat2(abi::AT_FDCWD, path, mode, 0)
}

pub fn faccessat(dirfd: i32, path: UserAddr, mode: u32) -> SyscallResult {
    faccessat2(dirfd, path, mode, 0)
}

pub fn faccessat2(dirfd: i32, path: UserAddr, mode: u32, flags: u32) -> SyscallResult {
    only(
        flags,
        abi::AT_EACCESS | abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH,
    )?;
    only(mode, 7)?;
    let path = path_arg(path)?;
    let mut context = Context::new();
    if flags & abi::AT_EACCESS == 0 {
        // The real ids decide, for the walk as well (man 2 access).
        let mut cred = (*context.cred).clone();
        cred.fsuid = cred.uid;
        cred.fsgid = cred.gid;
        context.cred = alloc::sync::Arc::new(cred);
    }
    let follow = flags & abi::AT_SYMLINK_NOFOLLOW == 0;
    let empty = flags & abi::AT_EMPTY_PATH != 0;
    match context.target(dirfd, &path, follow, empty)? {
        Target::Path(path) => context.caller().access(&path, mode)?,
        Target::File(file) => {
            let st = file.file.stat()?;
            if !context.cred.permits(mode, st.st_uid, st.st_gid, st.st_mode) {
                return Err(Errno::EACCES);
            }
        }
    }
    Ok(0)
}

fn statfs_of(path: &Path) -> Result<abi::statfs64> {
    // ST_VALID, and the bits of man 2 statfs.
    let mut flags = 0x20;
    let mount = path.mount.flags();
    for (bit, st) in [
        (MountFlags::NOSUID, 2),
        (MountFlags::NODEV, 4),
        (MountFlags::NOEXEC, 8),
        (MountFlags::NOATIME, 1024),
        (MountFlags::NODIRATIME, 2048),
        (MountFlags::NOSYMFOLLOW, 8192),
    ] {
        if mount.contains(bit) {
            flags |= st;
        }
    }
    if path.mount.is_read_only() {
        flags |= 1;
    }
    if !mount.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        flags |= 4096;
    }
    let fs = path.mount.sb.ops.statfs()?;
    // SAFETY: a C structure of integers: all zero is a valid value.
    let mut out: abi::statfs64 = unsafe { core::mem::zeroed() };
    out.f_type = i64::from(fs.magic);
    out.f_bsize = fs.block_size as i64;
    out.f_frsize = fs.block_size as i64;
    out.f_blocks = fs.blocks;
    out.f_bfree = fs.free;
    out.f_bavail = fs.available;
    out.f_files = fs.files;
    out.f_ffree = fs.files_free;
    let dev = path.mount.sb.dev.encode();
    out.f_fsid.val = [dev as i32, (dev >> 32) as i32];
    out.f_namelen = NAME_MAX as i64;
    out.f_flags = flags;
    Ok(out)
}

/// Of an object outside the tree: the filesystem that Linux keeps such ones on.
fn statfs_of_object(file: &crate::file::OpenFile) -> Result<abi::statfs64> {
    /// PIPEFS_MAGIC, which Linux's exported headers lack.
    const PIPES: i64 = 0x5049_5045;
    // SAFETY: a C structure of integers: all zero is a valid value.
    let mut out: abi::statfs64 = unsafe { core::mem::zeroed() };
    out.f_type = match file.file.stat()?.st_mode & abi::S_IFMT {
        abi::S_IFIFO => PIPES,
        abi::S_IFSOCK => i64::from(abi::SOCKFS_MAGIC),
        _ => i64::from(abi::ANON_INODE_FS_MAGIC),
    };
    out.f_bsize = crate::mm::PAGE_SIZE as i64;
    out.f_frsize = out.f_bsize;
    out.f_namelen = NAME_MAX as i64;
    // ST_VALID.
    out.f_flags = 0x20;
    Ok(out)
}

pub fn statfs(path: UserAddr, out: UserPtr<abi::statfs64>) -> SyscallResult {
    let path = path_arg(path)?;
    let place = Context::new().resolve(abi::AT_FDCWD, &path, true)?;
    out.write(statfs_of(&place)?)?;
    Ok(0)
}

pub fn fstatfs(fd: i32, out: UserPtr<abi::statfs64>) -> SyscallResult {
    let file = crate::process::current().file(fd)?;
    let stat = match vfs::location(&file) {
        Some(place) => statfs_of(place)?,
        None => statfs_of_object(&file)?,
    };
    out.write(stat)?;
    Ok(0)
}
