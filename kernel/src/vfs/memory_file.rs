//! Files in memory that no directory holds (man 2 memfd_create).

use alloc::sync::Arc;

use super::dentry::Dentry;
use super::inode::{Dev, NewNode};
use super::inode_file::InodeFile;
use super::mount::{self, Mount, Path};
use crate::abi;
use crate::error::Result;
use crate::file::OpenFile;
use crate::sched::Mutex;
use crate::security::Credentials;

/// The tmpfs where they live; bounded like any.
static HOME: Mutex<Option<Arc<Mount>>> = Mutex::new(None);

/// A new empty file, open for reading and writing, which /proc calls `/memfd:name (deleted)`.
/// ENOSPC, ENOMEM; ENODEV when there is no tmpfs.
pub fn memory_file(name: &[u8], owner: &Credentials) -> Result<Arc<OpenFile>> {
    let home = {
        let mut slot = HOME.lock();
        match &*slot {
            Some(mount) => mount.clone(),
            None => slot.insert(mount::unplaced(b"tmpfs")?).clone(),
        }
    };
    let inode = home.root.inode.create_unnamed(&NewNode {
        mode: abi::S_IFREG | 0o777,
        uid: owner.fsuid,
        gid: owner.fsgid,
        rdev: Dev::default(),
    })?;
    let text = [b"/memfd:", name, b" (deleted)"].concat();
    let path = Path {
        dentry: Dentry::detached(home.sb.clone(), inode, &text),
        mount: home,
    };
    let writing = Some(path.begin_write()?);
    let file = InodeFile::new(path.clone(), writing)?;
    Ok(OpenFile::new_at(
        Arc::new(file),
        abi::O_RDWR | abi::O_LARGEFILE,
        Arc::new(path),
    ))
}
