//! The virtual file system: inodes, dentries, mounts, path walks.
//!
//! Owns the traits that filesystems implement ([`FileSystem`], [`SuperBlock`], [`Inode`]) and
//! everything that is the same for all of them: names, permissions, mounts, open flags.
//! System calls come in through a [`Caller`]; nothing here knows a process.
//!
//! Lock order: a mount change (mutex) > a filesystem's rename lock > directory locks
//! (ancestors first) > a filesystem's own locks; an inode's I/O lock is never held together
//! with a directory's.

mod allocate;
mod anonymous;
mod attributes;
pub mod block_file;
mod caller;
mod context;
mod dcache;
pub mod dentry;
pub mod device;
mod fifo;
pub mod inode;
mod inode_file;
pub mod inotify;
mod memory_file;
pub mod mount;
mod names;
pub mod notify;
mod open;
pub mod super_block;
#[cfg(test)]
mod tests;
mod walk;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::security::Credentials;

pub use anonymous::place_of;
pub use attributes::SetTime;
pub use caller::{Caller, attr, path_text};
pub use context::FsContext;
pub use dentry::Dentry;
pub use inode::{Attr, Dev, Inode, NewNode, Perm, Rename, SetAttr, Timestamp};
pub use inode_file::{InodeFile, PathFile};
pub use memory_file::memory_file;
pub use mount::{Mount, MountFlags, Path};
pub use open::OpenHow;
pub use super_block::{FileSystem, FsStat, MountSource, Mounted, Super, SuperBlock};

/// Opens `path` to execute it: a regular file with execute permission on a mount that allows
/// it (EACCES, ENOENT, ELOOP, ENOTDIR...). Symbolic links are followed.
pub fn open_exec(ctx: &FsContext, cred: &Credentials, path: &[u8]) -> Result<Arc<OpenFile>> {
    let caller = Caller::new(ctx, cred);
    caller.open_to_execute(&caller.cwd, path, true)
}

/// Where an open file lies in the tree; `None` for pipes and the like.
pub fn location(file: &OpenFile) -> Option<&Path> {
    file.location()?.downcast_ref::<Path>()
}

/// The absolute path of an open file, for /proc and `getcwd`.
pub fn path_of(file: &OpenFile) -> Option<Vec<u8>> {
    location(file).map(|path| path_text(path, None))
}

/// Attributes of an open file: of the node it was opened by, else of the object (man 2 fstat).
pub fn fstat(file: &OpenFile) -> Result<crate::abi::stat> {
    match location(file) {
        Some(path) => Ok(attr(path)?.to_stat(path.dentry.sb.dev)),
        None => file.file.stat(),
    }
}

/// What execve asks of the file it opened: set-id bits count on this mount.
pub fn honours_set_id(file: &OpenFile) -> bool {
    location(file).is_some_and(|p| !p.mount.flags().contains(MountFlags::NOSUID))
}

/// Makes every filesystem's changes durable (man 2 sync). Goes through all of them; the
/// first error is the result.
pub fn sync_all() -> Result<()> {
    let mut result = Ok(());
    for sb in super_block::live() {
        result = result.and(sb.ops.sync());
    }
    result
}

/// What `source` of a mount call names: the block device behind a node, or just a label.
pub fn mount_source(caller: &Caller<'_>, text: &[u8]) -> MountSource {
    let device = caller.resolve(&caller.cwd, text, true).and_then(|path| {
        if path.dentry.kind() != crate::abi::S_IFBLK {
            return Err(Errno::ENOTBLK);
        }
        let dev = attr(&path)?.rdev;
        Ok((dev, device::block(dev).ok_or(Errno::ENXIO)?))
    });
    MountSource {
        text: text.to_vec(),
        device,
    }
}
