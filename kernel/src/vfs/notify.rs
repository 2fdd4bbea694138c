//! Who wants to hear of changes (man 7 inotify): watches on inodes, and the events they get.
//!
//! The VFS tells of what happens to an entry; a watch on the inode hears of it, and a watch on
//! the directory that holds the entry hears of it by name. While nobody watches anything, that
//! costs one look at a counter. A watch keeps its inode in memory.
//!
//! Locks: `WATCHES` is held to look for watches only, never while one is told or dropped.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::dentry::Dentry;
use super::inotify::Inotify;
use crate::error::{Errno, Result};
use crate::sync::{Rank, SpinLock};

/// IN_* of man 7 inotify, which the exported headers lack here.
pub mod mask {
    /// Content was read.
    pub const ACCESS: u32 = 0x1;
    /// Content changed.
    pub const MODIFY: u32 = 0x2;
    /// Attributes changed.
    pub const ATTRIB: u32 = 0x4;
    /// A file that was open for writing was closed.
    pub const CLOSE_WRITE: u32 = 0x8;
    /// One that was not was closed.
    pub const CLOSE_NOWRITE: u32 = 0x10;
    /// It was opened.
    pub const OPEN: u32 = 0x20;
    /// An entry left the directory by a rename.
    pub const MOVED_FROM: u32 = 0x40;
    /// An entry came by a rename.
    pub const MOVED_TO: u32 = 0x80;
    /// An entry was made.
    pub const CREATE: u32 = 0x100;
    /// An entry was removed.
    pub const DELETE: u32 = 0x200;
    /// The object itself is gone.
    pub const DELETE_SELF: u32 = 0x400;
    /// The object itself was renamed.
    pub const MOVE_SELF: u32 = 0x800;
    /// What a watch may ask for.
    pub const ALL: u32 = 0xfff;
    /// Its filesystem was unmounted.
    pub const UNMOUNT: u32 = 0x2000;
    /// Events were lost.
    pub const Q_OVERFLOW: u32 = 0x4000;
    /// The watch is gone.
    pub const IGNORED: u32 = 0x8000;
    /// Only of entries that still have their name.
    pub const EXCL_UNLINK: u32 = 0x0400_0000;
    /// The event is about a directory.
    pub const ISDIR: u32 = 0x4000_0000;
    /// One event, then the watch goes.
    pub const ONESHOT: u32 = 0x8000_0000;
}

/// A watch of one inotify object on one inode.
pub struct Watch {
    /// Its number, unique in its owner.
    pub wd: i32,
    /// What it wants to hear of.
    pub mask: AtomicU32,
    owner: Weak<Inotify>,
    dentry: Arc<Dentry>,
}

/// Filesystem and inode number.
pub type Key = (u64, u64);

static WATCHES: SpinLock<BTreeMap<Key, Vec<Arc<Watch>>>> =
    SpinLock::new(Rank::Vfs, BTreeMap::new());
static NR_WATCHES: AtomicUsize = AtomicUsize::new(0);
/// Watches of all programs together.
const MAX_WATCHES: usize = 65_536;
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(1);

/// Whether anybody watches anything.
fn is_watched() -> bool {
    NR_WATCHES.load(Ordering::Relaxed) > 0
}

/// What tells a dentry's inode apart. EIO.
pub(super) fn key_of(dentry: &Dentry) -> Result<Key> {
    Ok((dentry.sb.id, dentry.inode.attr()?.ino))
}

fn watches_of(key: Key) -> Vec<Arc<Watch>> {
    WATCHES.lock().get(&key).cloned().unwrap_or_default()
}

/// The watch of `owner` on the inode of `dentry`.
pub(super) fn find(owner: &Arc<Inotify>, dentry: &Dentry) -> Result<Option<Arc<Watch>>> {
    let mine = |watch: &Arc<Watch>| core::ptr::eq(watch.owner.as_ptr(), Arc::as_ptr(owner));
    Ok(watches_of(key_of(dentry)?).into_iter().find(mine))
}

/// Adds a watch. ENOSPC when there are too many, ENOMEM.
pub(super) fn add(owner: &Arc<Inotify>, dentry: Arc<Dentry>, wd: i32, mask: u32) -> Result<()> {
    let key = key_of(&dentry)?;
    let watch = Arc::new(Watch {
        wd,
        mask: AtomicU32::new(mask),
        owner: Arc::downgrade(owner),
        dentry,
    });
    if NR_WATCHES.fetch_add(1, Ordering::Relaxed) >= MAX_WATCHES {
        NR_WATCHES.fetch_sub(1, Ordering::Relaxed);
        return Err(Errno::ENOSPC);
    }
    WATCHES.lock().entry(key).or_default().push(watch);
    Ok(())
}

/// Takes watches out that `gone` picks, of one inode or of all; returns them, for the caller
/// to drop without locks.
fn take(key: Option<Key>, gone: impl Fn(&Watch) -> bool) -> Vec<Arc<Watch>> {
    let mut out = Vec::new();
    let mut table = WATCHES.lock();
    let mut sift = |list: &mut Vec<Arc<Watch>>| {
        list.retain(|watch| {
            let goes = gone(watch);
            if goes {
                out.push(watch.clone());
            }
            !goes
        });
        !list.is_empty()
    };
    match key {
        Some(key) => {
            if table.get_mut(&key).is_some_and(|list| !sift(list)) {
                table.remove(&key);
            }
        }
        None => table.retain(|_, list| sift(list)),
    }
    drop(table);
    NR_WATCHES.fetch_sub(out.len(), Ordering::Relaxed);
    out
}

/// Removes watch `wd` of `owner`; false when there is none.
pub(super) fn remove(owner: *const Inotify, wd: i32) -> bool {
    !take(None, |w| w.owner.as_ptr() == owner && w.wd == wd).is_empty()
}

/// `owner` is closed: its watches go.
pub(super) fn remove_all(owner: *const Inotify) {
    drop(take(None, |w| w.owner.as_ptr() == owner));
}

/// Tells the watches on one inode. `name` is the entry's, for watches on its directory.
fn deliver(key: Key, what: u32, cookie: u32, name: &[u8], is_unlinked: bool) {
    for watch in watches_of(key) {
        let wants = watch.mask.load(Ordering::Relaxed);
        let skips = is_unlinked && wants & mask::EXCL_UNLINK != 0;
        if wants & what & mask::ALL == 0 || skips {
            continue;
        }
        let Some(owner) = watch.owner.upgrade() else {
            continue;
        };
        owner.queue(watch.wd, what, cookie, name);
        if wants & mask::ONESHOT != 0 {
            end(key, &watch, &owner);
        }
    }
}

/// The watch ends by itself.
fn end(key: Key, watch: &Arc<Watch>, owner: &Inotify) {
    let gone = take(Some(key), |w| core::ptr::eq(w, Arc::as_ptr(watch)));
    if !gone.is_empty() {
        owner.queue(watch.wd, mask::IGNORED, 0, b"");
    }
}

fn with_kind(dentry: &Dentry, what: u32) -> u32 {
    if dentry.is_dir() {
        what | mask::ISDIR
    } else {
        what
    }
}

/// Something happened to what `dentry` names: tells watches on it and on its directory.
pub fn tell(dentry: &Dentry, what: u32) {
    if !is_watched() {
        return;
    }
    let what = with_kind(dentry, what);
    if let (Some(parent), name) = dentry.place()
        && let Ok(key) = key_of(&parent)
    {
        deliver(key, what, 0, &name, dentry.is_deleted());
    }
    tell_self(dentry, what);
}

/// As [`tell`], without its directory.
pub fn tell_self(dentry: &Dentry, what: u32) {
    if is_watched()
        && let Ok(key) = key_of(dentry)
    {
        deliver(key, with_kind(dentry, what), 0, b"", false);
    }
}

/// Entry `name` of `dir`, which leads to `child`, came or went.
pub fn tell_entry(dir: &Dentry, name: &[u8], child: &Dentry, what: u32) {
    if is_watched()
        && let Ok(key) = key_of(dir)
    {
        deliver(key, with_kind(child, what), 0, name, false);
    }
}

/// `child` moved from one name to another.
pub fn tell_move(from: (&Dentry, &[u8]), to: (&Dentry, &[u8]), child: &Dentry) {
    if !is_watched() {
        return;
    }
    let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
    let both = [(from, mask::MOVED_FROM), (to, mask::MOVED_TO)];
    for ((dir, name), what) in both {
        if let Ok(key) = key_of(dir) {
            deliver(key, with_kind(child, what), cookie, name, false);
        }
    }
    if let Ok(key) = key_of(child) {
        // Without the directory's mark, as Linux has it.
        deliver(key, mask::MOVE_SELF, 0, b"", false);
    }
}

/// A name of `dentry` is gone, or an open file of it: when that was the last of both, the
/// object is gone. `mine` is how many references to `dentry` the caller holds itself.
pub fn check_gone(dentry: &Arc<Dentry>, mine: usize) {
    if !is_watched()
        || dentry
            .inode
            .attr()
            .is_ok_and(|a| a.nlink > 0 && !dentry.is_dir())
    {
        return;
    }
    let Ok(key) = key_of(dentry) else { return };
    let watches = watches_of(key);
    let pins = watches.iter().filter(|w| Arc::ptr_eq(&w.dentry, dentry));
    if watches.is_empty() || Arc::strong_count(dentry) > pins.count() + mine {
        return;
    }
    deliver(key, mask::DELETE_SELF, 0, b"", false);
    for watch in watches {
        if let Some(owner) = watch.owner.upgrade() {
            end(key, &watch, &owner);
        }
    }
}

/// Filesystem `sb` is going away.
pub(super) fn unmounted(sb: u64) {
    if !is_watched() {
        return;
    }
    for watch in take(None, |w| w.dentry.sb.id == sb) {
        if let Some(owner) = watch.owner.upgrade() {
            let is_dir = if watch.dentry.is_dir() {
                mask::ISDIR
            } else {
                0
            };
            owner.queue(watch.wd, mask::UNMOUNT | is_dir, 0, b"");
            owner.queue(watch.wd, mask::IGNORED, 0, b"");
        }
    }
}
