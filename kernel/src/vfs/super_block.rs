//! Mounted filesystems and the registry of filesystem types (man 2 mount, /proc/filesystems).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::dentry::{self, Dentry};
use super::inode::{Dev, Inode};
use crate::error::{Errno, Result};
use crate::sync::{Rank, SpinLock};

/// Figures for `statfs`, in blocks of `block_size` bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsStat {
    /// Magic number (man 2 statfs).
    pub magic: u32,
    /// Bytes in a block.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks that anyone may use.
    pub available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

/// A mounted filesystem, as its type implements it.
pub trait SuperBlock: Send + Sync {
    /// The root directory.
    fn root(&self) -> Result<Arc<dyn Inode>>;
    /// man 2 statfs.
    fn statfs(&self) -> Result<FsStat>;
    /// Makes everything written so far durable (man 2 sync).
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// Becomes read-only (true) or writable. EROFS when the device or a feature forbids it;
    /// EBUSY is the VFS's to find.
    fn remount(&self, _read_only: bool) -> Result<()> {
        Ok(())
    }
    /// Takes the options of a remount over, all or none. EINVAL for one that is not known or
    /// cannot be now.
    fn reconfigure(&self, options: &[u8]) -> Result<()> {
        only_options(options, &[])
    }
    /// The last mount is gone: write everything back and leave the device clean.
    fn shut_down(&self) {}
    /// Options beyond the common ones, for /proc/mounts, with a leading comma.
    fn show_options(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A filesystem type.
pub trait FileSystem: Send + Sync {
    /// Its name for mount(2).
    fn name(&self) -> &'static str;
    /// Whether it lives on a block device (no `nodev` in /proc/filesystems).
    fn needs_device(&self) -> bool;
    /// Whether every mount of the type shows the same tree (proc, devtmpfs).
    fn is_single(&self) -> bool {
        false
    }
    /// Mounts `source` (a path, or a mere label for types without a device).
    fn mount(&self, source: &MountSource, read_only: bool, options: &[u8]) -> Result<Mounted>;
}

/// EINVAL when `options` has one that is not `known`.
pub fn only_options(options: &[u8], known: &[&[u8]]) -> Result<()> {
    let mut given = options.split(|&b| b == b',').filter(|o| !o.is_empty());
    if given.all(|option| known.contains(&option)) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// What a mount call names.
pub struct MountSource {
    /// As given.
    pub text: Vec<u8>,
    /// The block device behind it, or why there is none: ENOTBLK, or what the walk to it said.
    pub device: Result<(Dev, Arc<dyn crate::block::BlockDevice>)>,
}

/// What [`FileSystem::mount`] gives.
pub struct Mounted {
    /// The filesystem.
    pub ops: Arc<dyn SuperBlock>,
    /// Its device number; `None` gets an anonymous one.
    pub dev: Option<Dev>,
    /// Whether it could only be mounted read-only.
    pub read_only: bool,
}

/// A filesystem in use, with what the VFS keeps about it.
pub struct Super {
    /// Unique, never reused.
    pub id: u64,
    /// Type's name.
    pub fstype: &'static str,
    /// `st_dev` of its objects.
    pub dev: Dev,
    /// Its operations.
    pub ops: Arc<dyn SuperBlock>,
    read_only: AtomicBool,
    /// Mounts of it; at 0 it is shut down.
    active: AtomicU32,
    /// Serialises renames that move directories.
    pub(super) rename: crate::sched::Mutex<()>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Minor numbers of filesystems without a device (major 0).
static NEXT_ANON: AtomicU32 = AtomicU32::new(1);

impl Super {
    /// Takes a mounted filesystem in.
    pub fn new(fstype: &'static str, mounted: Mounted) -> Arc<Super> {
        let dev = mounted
            .dev
            .unwrap_or_else(|| Dev::new(0, NEXT_ANON.fetch_add(1, Ordering::Relaxed)));
        Arc::new(Super {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            fstype,
            dev,
            ops: mounted.ops,
            read_only: AtomicBool::new(mounted.read_only),
            active: AtomicU32::new(0),
            rename: crate::sched::Mutex::new(()),
        })
    }
    /// Whether nothing may change (EROFS).
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }
    /// Makes the whole filesystem read-only or writable.
    pub(super) fn remount(&self, read_only: bool) -> Result<()> {
        if read_only {
            // First refuse new changes, then let the filesystem settle the old ones.
            let before = self.read_only.swap(true, Ordering::AcqRel);
            return self.ops.remount(true).inspect_err(|_| {
                self.read_only.store(before, Ordering::Release);
            });
        }
        self.ops.remount(false)?;
        self.read_only.store(false, Ordering::Release);
        Ok(())
    }
    pub(super) fn activate(&self) {
        self.active.fetch_add(1, Ordering::AcqRel);
    }
    /// Takes a share in a filesystem that is already active; false when it is shutting down.
    fn try_activate(&self) -> bool {
        self.active
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n > 0).then_some(n + 1)
            })
            .is_ok()
    }
    /// A mount is gone.
    pub(super) fn deactivate(self: &Arc<Self>, root: Arc<Dentry>) {
        if self.active.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        super::notify::unmounted(self.id);
        dentry::forget_super(self.id);
        drop(root);
        self.ops.shut_down();
        let gone = {
            let mut live = LIVE.lock();
            live.iter()
                .position(|(s, _)| Arc::ptr_eq(s, self))
                .map(|i| live.swap_remove(i))
        };
        drop(gone);
    }
}

/// Filesystems in use and their roots, so that a device mounted twice is one filesystem.
static LIVE: SpinLock<Vec<(Arc<Super>, Arc<Dentry>)>> = SpinLock::new(Rank::Vfs, Vec::new());
static TYPES: SpinLock<Vec<Arc<dyn FileSystem>>> = SpinLock::new(Rank::Vfs, Vec::new());
/// One mount of a device at a time, so that two callers cannot both bring it up.
static MOUNTING: crate::sched::Mutex<()> = crate::sched::Mutex::new(());

/// Adds a filesystem type; `init` does.
pub fn register(fs: Arc<dyn FileSystem>) {
    TYPES.lock().push(fs);
}

/// Types in order of registration: (name, needs a device).
pub fn types() -> Vec<(&'static str, bool)> {
    let types: Vec<_> = TYPES.lock().clone();
    types.iter().map(|t| (t.name(), t.needs_device())).collect()
}

/// Filesystems in use (sync(2)).
pub fn live() -> Vec<Arc<Super>> {
    LIVE.lock().iter().map(|(s, _)| s.clone()).collect()
}

/// Brings up `fstype` on `source`, or shares the filesystem that the device already carries.
/// The caller owns one activation. ENODEV for an unknown type, what `source` says for a type that
/// needs a device and gets none, EBUSY when the device is in use with the other read-only state.
pub fn bring_up(
    fstype: &[u8],
    source: &MountSource,
    read_only: bool,
    options: &[u8],
) -> Result<(Arc<Super>, Arc<Dentry>)> {
    let types: Vec<_> = TYPES.lock().clone();
    let fs = types
        .iter()
        .find(|t| t.name().as_bytes() == fstype)
        .ok_or(Errno::ENODEV)?;
    let device = match &source.device {
        _ if !fs.needs_device() => None,
        Ok((dev, _)) => Some(dev),
        Err(e) => return Err(*e),
    };
    let _one = MOUNTING.lock();
    if let Some(dev) = device {
        let found = LIVE.lock().iter().find(|(s, _)| s.dev == *dev).cloned();
        if let Some((sb, root)) = found {
            if sb.fstype != fs.name() || sb.is_read_only() != read_only || !sb.try_activate() {
                return Err(Errno::EBUSY);
            }
            return Ok((sb, root));
        }
    }
    if fs.is_single() {
        let found = LIVE
            .lock()
            .iter()
            .find(|(s, _)| s.fstype == fs.name())
            .cloned();
        if let Some((sb, root)) = found
            && sb.try_activate()
        {
            return match sb.ops.reconfigure(options) {
                Ok(()) => Ok((sb, root)),
                Err(e) => {
                    sb.deactivate(root);
                    Err(e)
                }
            };
        }
    }
    let mounted = fs.mount(source, read_only, options)?;
    let root = mounted.ops.root();
    let root = match root {
        Ok(root) => root,
        Err(e) => {
            mounted.ops.shut_down();
            return Err(e);
        }
    };
    let sb = Super::new(fs.name(), mounted);
    let root = Dentry::root(sb.clone(), root);
    sb.activate();
    LIVE.lock().push((sb.clone(), root.clone()));
    Ok((sb, root))
}
