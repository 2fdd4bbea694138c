//! An inode in memory: its fields and links here; `blocks`, `symlink` and `entries` are what
//! regular files, links and directories keep behind them. No VFS types but times.
//!
//! Who calls it: the glue (`node`, `super_block`) and the tree's operations (`tree`).
//!
//! Locks, in order: `map` (changes of the pointers; the fault path takes it) > the volume's
//! own. The fields themselves are guarded by a spin lock that is held only to copy.

mod blocks;
mod device;
mod entries;
mod fresh;
mod symlink;

pub use blocks::Extent;
pub use device::{device_in, device_out};

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Errno, Result};
use crate::filesystems::ext2::layout::{DiskInode, FLAG_EXTENTS, LINK_MAX};
use crate::filesystems::ext2::volume::Volume;
use crate::sched::{Mutex, RwLock};
use crate::sync::{Rank, SpinLock};
use crate::vfs::Timestamp;
use fresh::Fresh;

/// An inode in use.
pub struct Node {
    /// The volume.
    pub volume: Arc<Volume>,
    /// Its number.
    pub ino: u32,
    fields: SpinLock<DiskInode>,
    /// Bytes; also in `fields`, kept in step under `map` or the writers' lock.
    size: AtomicU64,
    map: RwLock<()>,
    fresh: Mutex<Fresh>,
    /// Fields are newer than the inode table.
    dirty: AtomicBool,
}

impl Node {
    /// Reads inode `ino`. EUCLEAN when it is not in use.
    pub fn read(volume: &Arc<Volume>, ino: u32) -> Result<Node> {
        let fields = volume.read_inode(ino)?;
        let known = matches!(fields.kind() >> 12, 1 | 2 | 4 | 6 | 8 | 10 | 12);
        if fields.links == 0 || !known || fields.flags & FLAG_EXTENTS != 0 {
            return Err(volume.damage("an entry names an unused inode"));
        }
        let block_size = u64::from(volume.geometry.block_size);
        let dir = fields.kind() == 0o040_000;
        let sound = match fields.kind() {
            0o040_000 => fields.size.is_multiple_of(block_size) && fields.size > 0,
            0o120_000 if fields.is_fast_symlink(volume.geometry.block_size) => fields.size < 60,
            0o120_000 => fields.size < block_size,
            _ => true,
        };
        if !sound || (dir && fields.size > volume.geometry.max_size()) {
            return Err(volume.damage("an inode's size cannot be"));
        }
        Ok(Self::with(volume, ino, fields))
    }

    /// A new inode with these fields; not yet in the table.
    pub fn with(volume: &Arc<Volume>, ino: u32, fields: DiskInode) -> Node {
        Node {
            volume: volume.clone(),
            ino,
            size: AtomicU64::new(fields.size),
            fields: SpinLock::new(Rank::Object, fields),
            map: RwLock::new(()),
            fresh: Mutex::new(Fresh::default()),
            dirty: AtomicBool::new(false),
        }
    }

    /// The fields of now.
    pub fn fields(&self) -> DiskInode {
        *self.fields.lock()
    }

    /// Changes fields; they reach the table with the next [`Node::store`].
    pub fn change<R>(&self, change: impl FnOnce(&mut DiskInode) -> R) -> R {
        let result = change(&mut self.fields.lock());
        self.dirty.store(true, Ordering::Release);
        result
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.fields().kind() == 0o040_000
    }

    fn block_size(&self) -> u64 {
        u64::from(self.volume.geometry.block_size)
    }

    /// Whether directory entries have type bytes.
    fn filetype(&self) -> bool {
        self.volume.geometry.filetype
    }

    /// Whether the table is behind.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Writes the fields into the inode table (in memory).
    pub fn store(&self) -> Result<()> {
        self.dirty.store(false, Ordering::Release);
        self.volume
            .write_inode(self.ino, false, || self.fields())
            .inspect_err(|_| self.dirty.store(true, Ordering::Release))
    }

    /// As [`Node::store`], over whatever a former inode left.
    pub fn store_new(&self) -> Result<()> {
        self.volume.write_inode(self.ino, true, || self.fields())
    }

    /// Changes the link count. EMLINK.
    pub fn add_links(&self, by: i32, now: Timestamp) -> Result<()> {
        let done = self.change(|f| {
            let new = i32::from(f.links) + by;
            if by > 0 && new > i32::from(LINK_MAX) {
                return false;
            }
            f.links = new.clamp(0, i32::from(u16::MAX)) as u16;
            f.ctime = now;
            true
        });
        if !done {
            return Err(Errno::EMLINK);
        }
        self.store()
    }

    /// Whether another link (or subdirectory) may be added.
    pub fn may_link(&self) -> Result<()> {
        if self.fields().links >= LINK_MAX {
            return Err(Errno::EMLINK);
        }
        Ok(())
    }

    /// The entry names' type byte for this inode.
    pub fn type_byte(&self) -> u8 {
        match self.fields().kind() {
            0o100_000 => 1,
            0o040_000 => 2,
            0o020_000 => 3,
            0o060_000 => 4,
            0o010_000 => 5,
            0o140_000 => 6,
            0o120_000 => 7,
            _ => 0,
        }
    }
}
