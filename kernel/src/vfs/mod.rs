//! The virtual file system: inodes, dentries, mounts, path walks.
//! Owns the traits that filesystems implement. (Skeleton: the vfs owner fills it in.)

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::Result;
use crate::file::OpenFile;
use crate::security::Credentials;

/// Root, working directory and umask of a process (CLONE_FS shares it).
pub struct FsContext {
    _private: (),
}

impl FsContext {
    /// Root and working directory at the root mount, umask 022.
    pub fn at_root() -> Result<Arc<FsContext>> {
        todo!()
    }
    /// A copy for a child without CLONE_FS.
    pub fn duplicate(&self) -> Arc<FsContext> {
        todo!()
    }
}

/// Opens `path` to execute it: a regular file with execute permission on a mount that allows
/// it (EACCES, ENOENT, ELOOP, ENOTDIR...). Symbolic links are followed.
pub fn open_exec(_ctx: &FsContext, _cred: &Credentials, _path: &[u8]) -> Result<Arc<OpenFile>> {
    todo!()
}

/// The absolute path of an open file, for /proc and `getcwd`.
pub fn path_of(_file: &OpenFile) -> Option<Vec<u8>> {
    todo!()
}
