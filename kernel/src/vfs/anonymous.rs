//! Places for open files that no directory holds (pipes, sockets), so that /proc/pid/fd/N can
//! lead to them: `stat` answers for the object, opening a pipe opens it once more.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::dentry::Dentry;
use super::inode::{Attr, Inode, Perm, SetAttr};
use super::mount::{self, Mount, Path};
use super::super_block::{FsStat, SuperBlock};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::pipe::{self, FifoNode, PipeEnd};
use crate::file::{File, OpenFile};
use crate::sched::Mutex;

/// An open file as an inode.
struct Object(Arc<OpenFile>);

struct Again(Arc<OpenFile>);

impl FifoNode for Again {
    fn stat(&self) -> Result<abi::stat> {
        self.0.file.stat()
    }
    fn path(&self) -> Vec<u8> {
        self.0.file.describe()
    }
}

impl Inode for Object {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn attr(&self) -> Result<Attr> {
        Ok(Attr::from_stat(&self.0.file.stat()?))
    }
    fn perm(&self) -> Perm {
        match self.0.file.stat() {
            Ok(st) => Perm {
                mode: st.st_mode,
                uid: st.st_uid,
                gid: st.st_gid,
            },
            Err(_) => Perm {
                mode: 0,
                uid: 0,
                gid: 0,
            },
        }
    }
    fn setattr(&self, _changes: &SetAttr) -> Result<()> {
        Err(Errno::EPERM)
    }
    fn open(&self, _path: &Path, flags: u32) -> Result<Option<Arc<dyn File>>> {
        let Some(end) = self.0.file.as_any().downcast_ref::<PipeEnd>() else {
            // Sockets and the like have no way in by name.
            return Err(Errno::ENXIO);
        };
        // Unlike a FIFO, a pipe is not waited for: its other end is open or was closed for good.
        let flags = flags | abi::O_NONBLOCK;
        pipe::open_fifo(end.pipe(), flags, Arc::new(Again(self.0.clone()))).map(Some)
    }
}

/// The filesystem that they are on.
struct Nowhere;

/// Its root, which nobody sees.
struct Root;

impl Inode for Root {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn attr(&self) -> Result<Attr> {
        Ok(Attr::default())
    }
    fn perm(&self) -> Perm {
        Perm {
            mode: abi::S_IFDIR,
            uid: 0,
            gid: 0,
        }
    }
    fn setattr(&self, _changes: &SetAttr) -> Result<()> {
        Err(Errno::EPERM)
    }
}

impl SuperBlock for Nowhere {
    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(Arc::new(Root))
    }
    fn statfs(&self) -> Result<FsStat> {
        /// PIPEFS_MAGIC of Linux, which its exported headers lack.
        const MAGIC: u32 = 0x5049_5045;
        Ok(FsStat {
            magic: MAGIC,
            block_size: 4096,
            ..FsStat::default()
        })
    }
}

static MOUNT: Mutex<Option<Arc<Mount>>> = Mutex::new(None);

/// The place of an open file: where it was opened, else one of its own.
pub fn place_of(file: &Arc<OpenFile>) -> Result<Path> {
    if let Some(path) = super::location(file) {
        return Ok(path.clone());
    }
    let mount = {
        let mut slot = MOUNT.lock();
        match &*slot {
            Some(mount) => mount.clone(),
            None => {
                let mount = mount::nowhere("pipefs", Arc::new(Nowhere))?;
                slot.insert(mount).clone()
            }
        }
    };
    let name = file.file.describe();
    let dentry = Dentry::detached(mount.sb.clone(), Arc::new(Object(file.clone())), &name);
    Ok(Path { mount, dentry })
}
