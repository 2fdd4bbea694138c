//! inotify_init, inotify_add_watch, inotify_rm_watch.

use alloc::sync::Arc;

use super::{Context, only, path_arg};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::syscall::SyscallResult;
use crate::syscall::file::{install, io_file};
use crate::vfs::inotify::Inotify;

pub fn inotify_init() -> SyscallResult {
    inotify_init1(0)
}

pub fn inotify_init1(flags: u32) -> SyscallResult {
    only(flags, abi::O_CLOEXEC | abi::O_NONBLOCK)?;
    let file = OpenFile::new(Inotify::new(), abi::O_RDONLY | (flags & abi::O_NONBLOCK));
    install(file, flags & abi::O_CLOEXEC != 0)
}

/// The inotify object behind `fd`. EINVAL for other files.
fn object(fd: i32) -> Result<Arc<Inotify>> {
    let of = io_file(fd)?;
    let file: Arc<dyn core::any::Any + Send + Sync> = of.file.clone();
    file.downcast::<Inotify>().map_err(|_| Errno::EINVAL)
}

pub fn inotify_add_watch(fd: i32, path: UserAddr, flags: u32) -> SyscallResult {
    const ONLYDIR: u32 = 0x0100_0000;
    const DONT_FOLLOW: u32 = 0x0200_0000;
    let inotify = object(fd)?;
    let path = path_arg(path)?;
    let context = Context::new();
    let place = context.resolve(abi::AT_FDCWD, &path, flags & DONT_FOLLOW == 0)?;
    if flags & ONLYDIR != 0 && !place.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    Ok(inotify.watch(&context.caller(), &place, flags)? as isize)
}

pub fn inotify_rm_watch(fd: i32, wd: i32) -> SyscallResult {
    object(fd)?.unwatch(wd)?;
    Ok(0)
}
