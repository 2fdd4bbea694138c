//! The tree of mounts (man 2 mount, man 2 umount).
//!
//! A [`Path`] is a dentry seen through a mount; holding one keeps the mount busy. The table
//! of mountpoints is guarded by a spin lock, changes to it are serialised by a mutex.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hashbrown::HashMap;

use super::dentry::Dentry;
use super::super_block::{self, MountSource, Super};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::Mutex;
use crate::sync::{Rank, SpinLock};

bitflags::bitflags! {
    /// What a mount forbids or changes (MS_*, man 2 mount).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        /// No changes (EROFS).
        const RDONLY = abi::MS_RDONLY;
        /// Set-user-id bits are ignored by execve.
        const NOSUID = abi::MS_NOSUID;
        /// Device nodes cannot be opened (EACCES).
        const NODEV = abi::MS_NODEV;
        /// Nothing can be executed (EACCES).
        const NOEXEC = abi::MS_NOEXEC;
        /// Symbolic links are not followed (ELOOP).
        const NOSYMFOLLOW = abi::MS_NOSYMFOLLOW;
        /// Reads never move atime.
        const NOATIME = abi::MS_NOATIME;
        /// Reads of directories never move atime.
        const NODIRATIME = abi::MS_NODIRATIME;
        /// Reads move atime always, not by the `relatime` rule; never along with `NOATIME`.
        const STRICTATIME = abi::MS_STRICTATIME;
    }
}

impl MountFlags {
    /// Those that say how access times are kept.
    const ATIME: MountFlags = Self::NOATIME
        .union(Self::NODIRATIME)
        .union(Self::STRICTATIME);

    /// From the bits of a mount call. A remount, of a mount that has `before`, which says nothing
    /// of access times leaves them as they are.
    pub fn requested(bits: u32, before: Option<MountFlags>) -> MountFlags {
        let mut flags = Self::from_bits_truncate(bits);
        if flags.contains(Self::STRICTATIME) {
            flags.remove(Self::NOATIME);
        }
        match before {
            Some(before) if bits & (Self::ATIME.bits() | abi::MS_RELATIME) == 0 => {
                flags | before & Self::ATIME
            }
            _ => flags,
        }
    }
}

/// A filesystem, or a part of one, at a place in the tree.
pub struct Mount {
    /// Unique, never reused (`mnt_id` of statx and mountinfo).
    pub id: u64,
    /// The filesystem.
    pub sb: Arc<Super>,
    /// What shows at the mountpoint.
    pub root: Arc<Dentry>,
    /// Device or label, as named in the mount call.
    pub source: Vec<u8>,
    flags: AtomicU32,
    /// Files open for writing and changes under way.
    writers: AtomicU32,
    /// Not in the tree: taken out, or never meant to be there. Set under [`CHANGES`].
    is_loose: AtomicBool,
    /// Where it is mounted; `None` for the root mount and for detached ones.
    place: SpinLock<Option<Path>>,
}

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// The mount it is seen through.
    pub mount: Arc<Mount>,
    /// The entry.
    pub dentry: Arc<Dentry>,
}

struct Table {
    /// Mount on top of (mount id, dentry id).
    by_point: Option<HashMap<(u64, u64), Arc<Mount>>>,
    /// All of them, in order of mounting.
    order: Vec<Arc<Mount>>,
}

/// References that the table itself holds to a mount that has a mountpoint.
const TABLE_REFS: usize = 2;

static TABLE: SpinLock<Table> = SpinLock::new(
    Rank::Vfs,
    Table {
        by_point: None,
        order: Vec::new(),
    },
);
/// Serialises mount, umount, move and remount.
static CHANGES: Mutex<()> = Mutex::new(());
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Path {
    /// Whether both name the same place.
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, &self.mount.root)
    }
    /// Another entry through the same mount.
    pub fn with(&self, dentry: Arc<Dentry>) -> Path {
        Path {
            mount: self.mount.clone(),
            dentry,
        }
    }
    /// The root of what is mounted here, on top of all; else the path itself.
    pub fn descend(mut self) -> Path {
        while self.dentry.is_mountpoint() {
            let key = (self.mount.id, self.dentry.id);
            let on_top = {
                let table = TABLE.lock();
                table.by_point.as_ref().and_then(|m| m.get(&key).cloned())
            };
            let Some(mount) = on_top else { break };
            self = mount.root_path();
        }
        self
    }
    /// Begins a change here: EROFS, or a guard that keeps the mount writable.
    pub fn begin_write(&self) -> Result<WriteGuard> {
        self.mount.begin_write()
    }
}

/// Keeps a mount from becoming read-only.
pub struct WriteGuard {
    mount: Arc<Mount>,
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        self.mount.writers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Mount {
    fn make(sb: Arc<Super>, root: Arc<Dentry>, source: &[u8], flags: MountFlags) -> Arc<Mount> {
        Arc::new(Mount {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            sb,
            root,
            source: source.to_vec(),
            flags: AtomicU32::new(flags.bits()),
            writers: AtomicU32::new(0),
            is_loose: AtomicBool::new(false),
            place: SpinLock::new(Rank::Object, None),
        })
    }
    /// Its flags of now.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::SeqCst))
    }
    /// Whether changes through it are refused.
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY) || self.sb.is_read_only()
    }
    /// Its root.
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path {
            mount: self.clone(),
            dentry: self.root.clone(),
        }
    }
    /// Where it is mounted.
    pub fn place(&self) -> Option<Path> {
        self.place.lock().clone()
    }
    fn set_place(&self, to: Option<Path>) {
        let old = core::mem::replace(&mut *self.place.lock(), to);
        drop(old);
    }
    fn begin_write(self: &Arc<Self>) -> Result<WriteGuard> {
        // Count first, look second; remount sets first, counts second: one of them sees the other.
        self.writers.fetch_add(1, Ordering::SeqCst);
        let guard = WriteGuard {
            mount: self.clone(),
        };
        if self.is_read_only() {
            return Err(Errno::EROFS);
        }
        Ok(guard)
    }
    /// Whether it hangs in the tree; under [`CHANGES`], else it may be gone at once.
    fn is_in_tree(&self) -> bool {
        !self.is_loose.load(Ordering::Acquire)
    }
    /// Whether `self` is `other` or lies above it.
    fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Mount>) -> bool {
        let mut at = Some(other.clone());
        while let Some(m) = at {
            if Arc::ptr_eq(self, &m) {
                return true;
            }
            at = m.place().map(|p| p.mount);
        }
        false
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A chain of detached mounts must not unwind recursively.
        let mut next = self.place.lock().take();
        while let Some(path) = next {
            next = Arc::into_inner(path.mount).and_then(|m| m.place.lock().take());
        }
        self.sb.deactivate(self.root.clone());
    }
}

/// The mount that everything hangs from. ENOENT before there is one.
pub fn root() -> Result<Path> {
    let table = TABLE.lock();
    let first = table.order.first().ok_or(Errno::ENOENT)?;
    Ok(first.root_path())
}

/// Mounts in order of mounting (/proc/mounts).
pub fn list() -> Vec<Arc<Mount>> {
    TABLE.lock().order.clone()
}

/// Mounts the root filesystem; once, by `init`. EBUSY.
pub fn mount_root(
    fstype: &[u8],
    source: &MountSource,
    flags: MountFlags,
    options: &[u8],
) -> Result<()> {
    let _change = CHANGES.lock();
    if root().is_ok() {
        return Err(Errno::EBUSY);
    }
    let read_only = flags.contains(MountFlags::RDONLY);
    let (sb, root) = super_block::bring_up(fstype, source, read_only, options)?;
    let mount = Mount::make(sb, root, &source.text, flags);
    TABLE.lock().order.push(mount);
    Ok(())
}

/// A mount that is nowhere in the tree, for the kernel's own objects (pipes seen through
/// /proc/pid/fd).
pub fn nowhere(fstype: &'static str, ops: Arc<dyn super::SuperBlock>) -> Result<Arc<Mount>> {
    let inode = ops.root()?;
    let sb = Super::new(
        fstype,
        super_block::Mounted {
            ops,
            dev: None,
            read_only: false,
        },
    );
    sb.activate();
    let root = Dentry::root(sb.clone(), inode);
    let mount = Mount::make(sb, root, b"none", MountFlags::empty());
    mount.is_loose.store(true, Ordering::Release);
    Ok(mount)
}

/// A tree beside the one that everything hangs from.
#[cfg(test)]
pub fn other_root(ops: Arc<dyn super::SuperBlock>) -> Arc<Mount> {
    let mount = nowhere("tmpfs", ops).unwrap();
    mount.is_loose.store(false, Ordering::Release);
    mount
}

/// As [`nowhere`], of a filesystem type that needs no device.
pub(super) fn unplaced(fstype: &[u8]) -> Result<Arc<Mount>> {
    let source = MountSource {
        text: b"none".to_vec(),
        device: Err(Errno::ENOTBLK),
    };
    let (sb, root) = super_block::bring_up(fstype, &source, false, b"")?;
    let mount = Mount::make(sb, root, &source.text, MountFlags::empty());
    mount.is_loose.store(true, Ordering::Release);
    Ok(mount)
}

/// Mounts a filesystem at `at`. ENOTDIR, EBUSY, what [`super_block::bring_up`] says.
pub fn mount(
    at: Path,
    fstype: &[u8],
    source: &MountSource,
    flags: MountFlags,
    options: &[u8],
) -> Result<()> {
    let read_only = flags.contains(MountFlags::RDONLY);
    let _change = CHANGES.lock();
    let (sb, root) = super_block::bring_up(fstype, source, read_only, options)?;
    let mount = Mount::make(sb, root, &source.text, flags);
    attach(at, mount)
}

/// Shows the tree at `from` at `at` as well; with `recursive` what is mounted below it too.
/// EINVAL for what is not in the tree any more.
pub fn bind(at: Path, from: Path, recursive: bool) -> Result<()> {
    let _change = CHANGES.lock();
    if !from.mount.is_in_tree() {
        return Err(Errno::EINVAL);
    }
    let copy = clone_mount(&from.mount, from.dentry.clone());
    let mut copies = alloc::vec![(from.mount.clone(), copy.clone())];
    let below: Vec<_> = if recursive {
        list()
            .into_iter()
            .filter(|m| {
                m.place()
                    .is_some_and(|p| from.mount.is_ancestor_of(&p.mount))
            })
            .filter(|m| {
                // Only what hangs below the bound directory.
                let mut at = m.place();
                while let Some(p) = at {
                    if Arc::ptr_eq(&p.mount, &from.mount) {
                        return from.dentry.is_ancestor_of(&p.dentry);
                    }
                    at = p.mount.place();
                }
                false
            })
            .collect()
    } else {
        Vec::new()
    };
    attach(at, copy)?;
    // Parents come before children in mounting order.
    for mount in below {
        let Some(place) = mount.place() else { continue };
        let parent = copies
            .iter()
            .find(|(old, _)| Arc::ptr_eq(old, &place.mount))
            .map(|(_, new)| new.clone());
        if let Some(parent) = parent {
            let new = clone_mount(&mount, mount.root.clone());
            let at = Path {
                mount: parent,
                dentry: place.dentry,
            };
            attach(at, new.clone())?;
            copies.push((mount, new));
        }
    }
    Ok(())
}

fn clone_mount(of: &Arc<Mount>, root: Arc<Dentry>) -> Arc<Mount> {
    of.sb.activate();
    Mount::make(of.sb.clone(), root, &of.source, of.flags())
}

fn attach(at: Path, mount: Arc<Mount>) -> Result<()> {
    if !at.mount.is_in_tree() {
        return Err(Errno::EINVAL);
    }
    if at.dentry.is_dir() != mount.root.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    // Against a parallel rmdir, rename or unlink of the mountpoint.
    let holder = at.dentry.parent();
    let _held = holder.as_ref().map(|d| d.entries.write());
    if at.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let key = (at.mount.id, at.dentry.id);
    mount.set_place(Some(at.clone()));
    let mut table = TABLE.lock();
    let points = table.by_point.get_or_insert_default();
    if points.contains_key(&key) {
        drop(table);
        mount.set_place(None);
        return Err(Errno::EBUSY);
    }
    points.insert(key, mount.clone());
    table.order.push(mount);
    at.dentry.add_mount();
    Ok(())
}

/// Moves a mount to another place (MS_MOVE). EINVAL when `from` is no mount's root; ELOOP
/// into itself.
pub fn move_mount(from: &Path, at: Path) -> Result<()> {
    let _change = CHANGES.lock();
    let old = from.mount.place().ok_or(Errno::EINVAL)?;
    if !from.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if at.dentry.is_dir() != from.dentry.is_dir() || !at.mount.is_in_tree() {
        return Err(Errno::EINVAL);
    }
    if from.mount.is_ancestor_of(&at.mount) {
        return Err(Errno::ELOOP);
    }
    let holder = at.dentry.parent();
    let _held = holder.as_ref().map(|d| d.entries.write());
    if at.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    {
        let mut table = TABLE.lock();
        let points = table.by_point.get_or_insert_default();
        let new_key = (at.mount.id, at.dentry.id);
        if points.contains_key(&new_key) {
            return Err(Errno::EBUSY);
        }
        if let Some(mount) = points.remove(&(old.mount.id, old.dentry.id)) {
            points.insert(new_key, mount);
        }
        at.dentry.add_mount();
        old.dentry.remove_mount();
    }
    from.mount.set_place(Some(at));
    Ok(())
}

/// What man 2 mount changes with MS_REMOUNT.
#[derive(Clone, Copy)]
pub enum Remount<'a> {
    /// The mount alone (MS_BIND).
    Mount,
    /// The filesystem too, which takes these options over.
    FileSystem(&'a [u8]),
}

/// Changes the flags, which are MS_*, and what else `how` says. EBUSY while files are open for
/// writing; EINVAL when `at` is no mount's root, and for options.
pub fn remount(at: &Path, bits: u32, how: Remount<'_>) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let _change = CHANGES.lock();
    let mount = &at.mount;
    let before = mount.flags();
    let flags = MountFlags::requested(bits, Some(before));
    let read_only = flags.contains(MountFlags::RDONLY);
    mount.flags.store(flags.bits(), Ordering::SeqCst);
    let undo = || mount.flags.store(before.bits(), Ordering::SeqCst);
    let sharing: Vec<_> = list()
        .into_iter()
        .filter(|m| Arc::ptr_eq(&m.sb, &mount.sb))
        .collect();
    let busy = |m: &Arc<Mount>| m.writers.load(Ordering::SeqCst) > 0;
    if read_only && !before.contains(MountFlags::RDONLY) && busy(mount) {
        undo();
        return Err(Errno::EBUSY);
    }
    let Remount::FileSystem(options) = how else {
        return Ok(());
    };
    let changes = read_only != mount.sb.is_read_only();
    if changes && read_only && sharing.iter().any(busy) {
        undo();
        return Err(Errno::EBUSY);
    }
    let mut done = mount.sb.ops.reconfigure(options);
    if changes && done.is_ok() {
        done = mount.sb.remount(read_only);
    }
    done.inspect_err(|_| undo())
}

/// Unmounts what is mounted at `at` (man 2 umount2). The caller's `at` is given up. The root
/// mount becomes read-only instead.
pub fn umount(at: Path, detach: bool) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let mount = at.mount.clone();
    drop(at);
    let Some(place) = mount.place() else {
        let flags = mount.flags() | MountFlags::RDONLY;
        let path = mount.root_path();
        drop(mount);
        if !root().is_ok_and(|r| r.same(&path)) || detach {
            return Err(Errno::EINVAL);
        }
        return remount(&path, flags.bits(), Remount::FileSystem(b""));
    };
    if !detach {
        // What is still to write gets written before the tree changes.
        mount.sb.ops.sync()?;
    }
    let _change = CHANGES.lock();
    let gone = if detach {
        let below: Vec<_> = list()
            .into_iter()
            .filter(|m| mount.is_ancestor_of(m))
            .collect();
        for m in below.iter().rev() {
            unhook(&mut TABLE.lock(), m);
        }
        below
    } else {
        let mut table = TABLE.lock();
        // Ours here besides the table's.
        if Arc::strong_count(&mount) > TABLE_REFS + 1 {
            return Err(Errno::EBUSY);
        }
        unhook(&mut table, &mount);
        Vec::new()
    };
    for m in gone.iter().chain([&mount]) {
        m.is_loose.store(true, Ordering::Release);
    }
    for m in &gone {
        m.set_place(None);
    }
    mount.set_place(None);
    drop((place, gone));
    drop(_change);
    drop(mount);
    Ok(())
}

/// Takes a mount out of the table; its place stays for the caller to clear.
fn unhook(table: &mut Table, mount: &Arc<Mount>) {
    let key = {
        let place = mount.place.lock();
        let Some(p) = &*place else { return };
        p.dentry.remove_mount();
        (p.mount.id, p.dentry.id)
    };
    // Neither is the last reference: the caller holds one.
    if let Some(points) = &mut table.by_point {
        points.remove(&key);
    }
    table.order.retain(|m| !Arc::ptr_eq(m, mount));
}
