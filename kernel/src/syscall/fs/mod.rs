//! Calls on paths, directories and mounts.
//!
//! Decoding only: where a path starts, which flags exist, how a result is laid out. The rest
//! is `vfs`'s.

mod attributes;
mod directories;
mod inotify;
mod mounts;
mod names;
mod open;
mod stat;

pub use attributes::*;
pub use directories::*;
pub use inotify::*;
pub use mounts::*;
pub use names::*;
pub use open::*;
pub use stat::*;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::process;
use crate::security::Credentials;
use crate::vfs::{self, Caller, FsContext, Path, inode::PATH_MAX};
use crate::vm::user::read_cstr;

/// The calling process: holds what a [`Caller`] borrows.
struct Context {
    task: process::Current,
    fs: Arc<FsContext>,
    cred: Arc<Credentials>,
}

/// What a path, or a descriptor with an empty path, names.
enum Target {
    Path(Path),
    /// A pipe, a socket...: an object outside the tree.
    File(Arc<OpenFile>),
}

impl Context {
    fn new() -> Context {
        let task = process::current();
        Context {
            fs: task.fs(),
            cred: task.cred(),
            task,
        }
    }
    fn caller(&self) -> Caller<'_> {
        Caller::new(&self.fs, &self.cred)
    }
    /// Where a relative `path` starts. EBADF, ENOTDIR.
    fn start(&self, dirfd: i32, path: &[u8]) -> Result<Path> {
        if dirfd == abi::AT_FDCWD || path.first() == Some(&b'/') {
            return Ok(self.fs.cwd());
        }
        let file = self.task.file(dirfd)?;
        let place = vfs::location(&file).ok_or(Errno::ENOTDIR)?;
        if !path.is_empty() && !place.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        Ok(place.clone())
    }
    /// Where `path` leads; `follow`: through a link at its end.
    fn resolve(&self, dirfd: i32, path: &[u8], follow: bool) -> Result<Path> {
        let start = self.start(dirfd, path)?;
        self.caller().resolve(&start, path, follow)
    }
    /// As [`Context::resolve`]; with `empty` (AT_EMPTY_PATH) an empty path names the
    /// descriptor itself.
    fn target(&self, dirfd: i32, path: &[u8], follow: bool, empty: bool) -> Result<Target> {
        if !path.is_empty() || !empty {
            return self.resolve(dirfd, path, follow).map(Target::Path);
        }
        if dirfd == abi::AT_FDCWD {
            return Ok(Target::Path(self.fs.cwd()));
        }
        let file = self.task.file(dirfd)?;
        Ok(match vfs::location(&file) {
            Some(path) => Target::Path(path.clone()),
            None => Target::File(file),
        })
    }
    /// The place of an open file that is not open for its path alone. EBADF; `otherwise` for
    /// objects outside the tree.
    fn place_of(&self, fd: i32, otherwise: Errno) -> Result<Path> {
        let file = super::file::io_file(fd)?;
        vfs::location(&file).cloned().ok_or(otherwise)
    }
}

/// A path argument. EFAULT, ENAMETOOLONG.
fn path_arg(path: UserAddr) -> Result<Vec<u8>> {
    read_cstr(path, PATH_MAX - 1, Errno::ENAMETOOLONG)
}

/// As [`path_arg`], where NULL stands for the empty path.
fn path_or_null(path: UserAddr) -> Result<Vec<u8>> {
    if path.0 == 0 {
        Ok(Vec::new())
    } else {
        path_arg(path)
    }
}

/// EINVAL when `flags` holds more than `known`.
fn only(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}
