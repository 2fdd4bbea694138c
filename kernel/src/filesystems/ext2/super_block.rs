//! Mounting: the filesystem type, the volume in use and its table of inodes.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::HashMap;

use super::check;
use super::disk::DeviceDisk;
use super::inode::Node;
use super::layout::ROOT_INO;
use super::node::{Core, Ext2Inode};
use super::volume::Volume;
use crate::abi;
use crate::block::{BlockDevice, SECTOR_BYTES};
use crate::error::{Errno, Result};
use crate::sched::{self, Mutex, WaitQueue};
use crate::time;
use crate::vfs::super_block::only_options;
use crate::vfs::{FileSystem, FsStat, Inode, MountSource, Mounted, SuperBlock, Timestamp};

/// The filesystem type `ext2`.
pub struct Ext2;

impl FileSystem for Ext2 {
    fn name(&self) -> &'static str {
        "ext2"
    }
    fn needs_device(&self) -> bool {
        true
    }
    fn mount(&self, source: &MountSource, read_only: bool, options: &[u8]) -> Result<Mounted> {
        only_options(options, KNOWN_OPTIONS)?;
        let (dev, device) = source.device.clone()?;
        let fs = Volumes::open(device, read_only)?;
        let read_only = !fs.volume.is_writable();
        Ok(Mounted {
            ops: fs,
            dev: Some(dev),
            read_only,
        })
    }
}

/// Options that say what is so anyway, as mke2fs and fstab commonly do.
const KNOWN_OPTIONS: &[&[u8]] = &[b"errors=continue", b"nouid32", b"noacl", b"nouser_xattr"];

/// An inode in use: its core, and the handle that names and open files share. The core stays
/// for a while after the handle, with its pages.
struct Slot {
    core: Arc<Core>,
    handle: Weak<Ext2Inode>,
}

impl Slot {
    /// Nobody uses it.
    fn is_idle(&self) -> bool {
        self.handle.strong_count() == 0
    }
}

/// A mounted volume.
pub struct Volumes {
    /// The volume.
    pub volume: Arc<Volume>,
    /// Its device, for content.
    pub device: Arc<dyn BlockDevice>,
    me: Weak<Volumes>,
    table: Mutex<HashMap<u32, Slot>>,
    /// Size of the table at which it is searched for idle inodes. Under the table's lock.
    prune_at: AtomicUsize,
    flusher: Arc<Flusher>,
}

/// Inodes kept without a handle, at most.
const IDLE_LIMIT: usize = 2048;
/// How long changed metadata stays in memory only, in ns.
const WRITE_BACK_NS: u64 = 5 * time::NS_PER_SEC;

/// Repairs a volume that was not unmounted cleanly, if it `may_write`; false when it is not
/// sound, and must not be written.
fn make_sound(volume: &Arc<Volume>, device: &str, may_write: bool) -> bool {
    if volume.was_clean() {
        return true;
    }
    if !may_write {
        warn!("ext2: {device} was not unmounted cleanly");
        return false;
    }
    warn!("ext2: {device} was not unmounted cleanly: checking it");
    match check::repair(volume, Timestamp::now()) {
        Ok(0) => info!("ext2: {device} is sound"),
        Ok(n) => warn!("ext2: {device} is repaired: {n} corrections"),
        Err(e) => {
            warn!("ext2: {device} cannot be repaired here ({e:?}) and is read-only: run e2fsck");
            return false;
        }
    }
    true
}

/// Wakes the write-back thread of a volume.
struct Flusher {
    due: AtomicBool,
    ended: AtomicBool,
    wake: WaitQueue,
}

impl Volumes {
    /// Reads the volume on `device`; starts writing it unless `read_only`.
    pub fn open(device: Arc<dyn BlockDevice>, read_only: bool) -> Result<Arc<Volumes>> {
        crate::vfs::block_file::invalidate(&device)?;
        let bytes = device.nr_sectors().saturating_mul(SECTOR_BYTES);
        let disk = Arc::new(DeviceDisk(device.clone()));
        let volume = Arc::new(Volume::open(disk, bytes)?);
        if device.read_only() && !read_only {
            return Err(Errno::EROFS);
        }
        let may_write = !device.read_only() && !volume.geometry.read_only;
        // A read-only mount may become writable later, when it is too late to repair.
        let is_sound = make_sound(&volume, device.name(), may_write);
        if !read_only && volume.geometry.read_only {
            warn!(
                "ext2: {} has features that allow reading only",
                device.name()
            );
        } else if !read_only && is_sound {
            volume.begin_writing(Timestamp::now())?;
        }
        let fs = Arc::new_cyclic(|me| Volumes {
            volume,
            device,
            me: me.clone(),
            table: Mutex::new(HashMap::new()),
            prune_at: AtomicUsize::new(IDLE_LIMIT),
            flusher: Arc::new(Flusher {
                due: AtomicBool::new(false),
                ended: AtomicBool::new(false),
                wake: WaitQueue::new(),
            }),
        });
        // On the host there are no kernel threads.
        if cfg!(target_os = "none") {
            fs.start_flusher()?;
        }
        Ok(fs)
    }

    /// A thread that writes changed metadata back a while after the change. It sleeps while
    /// nothing changes.
    fn start_flusher(&self) -> Result<()> {
        let flusher = self.flusher.clone();
        let me = self.me.clone();
        sched::spawn_kernel("ext2-flush", move || {
            loop {
                // Interruptible, so that the wait does not count as load; nobody interrupts.
                let _ = flusher.wake.wait_interruptible(None, || {
                    let wanted = flusher.due.load(Ordering::Acquire)
                        || flusher.ended.load(Ordering::Acquire);
                    wanted.then_some(())
                });
                if flusher.ended.load(Ordering::Acquire) {
                    return;
                }
                let _ = sched::sleep_until(time::now_ns() + WRITE_BACK_NS);
                flusher.due.store(false, Ordering::Release);
                let Some(fs) = me.upgrade() else { return };
                if let Err(e) = fs.write_metadata() {
                    warn!("ext2: {}: write-back failed: {e:?}", fs.device.name());
                }
            }
        })?;
        Ok(())
    }

    /// Metadata changed: it will be written in a while.
    pub fn changed(&self) {
        if !self.flusher.due.swap(true, Ordering::AcqRel) {
            self.flusher.wake.wake_all();
        }
    }

    /// Cores in use, or idle.
    fn cores(&self) -> Vec<Arc<Core>> {
        self.table.lock().values().map(|s| s.core.clone()).collect()
    }

    /// Brings the inode table up to date and writes all metadata.
    pub fn write_metadata(&self) -> Result<()> {
        for core in self.cores() {
            if core.node.is_dirty() {
                core.node.store()?;
            }
        }
        self.volume.write_back(Timestamp::now())
    }

    /// The inode `ino`.
    pub fn get(&self, ino: u32) -> Result<Arc<Ext2Inode>> {
        let mut table = self.table.lock();
        if let Some(slot) = table.get_mut(&ino) {
            return self.handle(slot);
        }
        let node = Node::read(&self.volume, ino)?;
        self.insert(&mut table, node)
    }

    /// Takes a new inode in.
    pub fn adopt(&self, node: Node) -> Result<Arc<Ext2Inode>> {
        let mut table = self.table.lock();
        self.insert(&mut table, node)
    }

    fn handle(&self, slot: &mut Slot) -> Result<Arc<Ext2Inode>> {
        if let Some(handle) = slot.handle.upgrade() {
            return Ok(handle);
        }
        if slot.core.node.fields().links == 0 {
            return Err(Errno::EUCLEAN);
        }
        self.new_handle(slot)
    }

    fn new_handle(&self, slot: &mut Slot) -> Result<Arc<Ext2Inode>> {
        let fs = self.me.upgrade().ok_or(Errno::EIO)?;
        let handle = Ext2Inode::new(slot.core.clone(), fs);
        slot.handle = Arc::downgrade(&handle);
        Ok(handle)
    }

    fn insert(&self, table: &mut HashMap<u32, Slot>, node: Node) -> Result<Arc<Ext2Inode>> {
        let ino = node.ino;
        if table.len() > self.prune_at.load(Ordering::Relaxed) {
            self.prune(table);
            // Where most are in use, one search must do for many inodes.
            let next = (2 * table.len()).max(IDLE_LIMIT);
            self.prune_at.store(next, Ordering::Relaxed);
        }
        let core = Core::new(node, self.device.clone(), self.me.clone())?;
        let mut slot = Slot {
            core,
            handle: Weak::new(),
        };
        // A file without a name (O_TMPFILE) has no links.
        let handle = self.new_handle(&mut slot)?;
        table.insert(ino, slot);
        Ok(handle)
    }

    /// Lets idle inodes go whose content and fields are on disk.
    fn prune(&self, table: &mut HashMap<u32, Slot>) {
        table.retain(|_, slot| {
            let idle = slot.handle.strong_count() == 0 && Arc::strong_count(&slot.core) == 1;
            !(idle && slot.core.write_content().is_ok() && slot.core.node.store().is_ok())
        });
    }

    /// The last user of an inode is gone. Without a name it is deleted; what has nothing in
    /// memory that the disk does not need not stay.
    pub fn released(&self, core: &Arc<Core>) {
        if core.node.fields().links > 0 {
            if core.is_spent() {
                let mut table = self.table.lock();
                let slot = table.get(&core.node.ino);
                if slot
                    .is_some_and(|s| Arc::ptr_eq(&s.core, core) && s.is_idle() && core.is_spent())
                {
                    table.remove(&core.node.ino);
                }
            }
            return;
        }
        {
            let mut table = self.table.lock();
            match table.get(&core.node.ino) {
                // A new handle came up, or another object has the number by now.
                Some(slot) if !Arc::ptr_eq(&slot.core, core) || slot.handle.strong_count() > 0 => {
                    return;
                }
                Some(_) => drop(table.remove(&core.node.ino)),
                None => return,
            }
        }
        core.drop_content();
        if !self.volume.is_writable() {
            return;
        }
        if let Err(e) = core.node.delete(Timestamp::now()) {
            warn!("ext2: inode {} cannot be freed: {e:?}", core.node.ino);
        }
        self.changed();
    }
}

impl SuperBlock for Volumes {
    fn root(&self) -> Result<Arc<dyn Inode>> {
        let root = self.get(ROOT_INO)?;
        if !root.core().node.is_dir() {
            return Err(Errno::EUCLEAN);
        }
        Ok(root)
    }
    fn statfs(&self) -> Result<FsStat> {
        let geometry = &self.volume.geometry;
        let free = self.volume.free();
        Ok(FsStat {
            magic: abi::EXT2_SUPER_MAGIC,
            block_size: u64::from(geometry.block_size),
            blocks: u64::from(geometry.blocks).saturating_sub(geometry.overhead()),
            free: free.blocks,
            available: free.blocks.saturating_sub(u64::from(geometry.reserved)),
            files: u64::from(geometry.inodes),
            files_free: free.inodes,
        })
    }
    fn sync(&self) -> Result<()> {
        let mut result = Ok(());
        for core in self.cores() {
            result = result.and(core.write_content());
        }
        result?;
        self.write_metadata()?;
        self.volume.buffers.disk().flush()
    }
    fn reconfigure(&self, options: &[u8]) -> Result<()> {
        only_options(options, KNOWN_OPTIONS)
    }
    fn remount(&self, read_only: bool) -> Result<()> {
        if read_only {
            self.sync()?;
            return self.volume.settle(Timestamp::now());
        }
        let is_sound = self.volume.was_clean() || self.volume.is_writable();
        if self.device.read_only() || self.volume.geometry.read_only || !is_sound {
            return Err(Errno::EROFS);
        }
        if self.volume.is_writable() {
            return Ok(());
        }
        self.volume.begin_writing(Timestamp::now())
    }
    fn shut_down(&self) {
        self.flusher.ended.store(true, Ordering::Release);
        self.flusher.wake.wake_all();
        let result = self
            .sync()
            .and_then(|()| self.volume.settle(Timestamp::now()));
        if let Err(e) = result {
            warn!(
                "ext2: {} could not be unmounted cleanly: {e:?}",
                self.device.name()
            );
        }
        self.table.lock().clear();
        let _ = crate::vfs::block_file::invalidate(&self.device);
    }
}
