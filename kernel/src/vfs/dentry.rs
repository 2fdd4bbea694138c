//! Dentries: names bound to inodes, and the cache of them, misses included.
//!
//! A dentry's parent and name change under rename; its inode never does. The cache owns one
//! reference to each cached dentry and lets go of the least recently used ones that nobody
//! else holds. A directory's `entries` lock is held (shared) over a lookup that asks the
//! filesystem and (exclusive) over every change, so that the cache never says what the
//! filesystem does not.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::FixedState;

use super::dcache::LruMap;
use super::inode::Inode;
use super::super_block::Super;
use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::RwLock;
use crate::sync::{Rank, SpinLock};

/// A name in the tree and the inode it leads to.
pub struct Dentry {
    /// Unique, never reused.
    pub id: u64,
    /// The filesystem.
    pub sb: Arc<Super>,
    /// What the name leads to.
    pub inode: Arc<dyn Inode>,
    place: SpinLock<Place>,
    /// The name is gone (unlink, rmdir, replaced by rename).
    deleted: AtomicBool,
    /// It never had a name, and may be given one (man 2 open, O_TMPFILE).
    linkable: bool,
    /// Mounts on top of it.
    mounts: AtomicU32,
    /// Above 0: files open for writing; below 0: programs that run from it. Never both.
    users: AtomicI32,
    /// The directory lock, see the module's head.
    pub(super) entries: RwLock<()>,
}

struct Place {
    /// `None` for a filesystem's root and for objects outside the tree.
    parent: Option<Arc<Dentry>>,
    name: Arc<[u8]>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Dentry {
    fn make(
        sb: Arc<Super>,
        inode: Arc<dyn Inode>,
        parent: Option<Arc<Dentry>>,
        name: &[u8],
    ) -> Arc<Dentry> {
        Arc::new(Self::build(sb, inode, parent, name))
    }
    fn build(
        sb: Arc<Super>,
        inode: Arc<dyn Inode>,
        parent: Option<Arc<Dentry>>,
        name: &[u8],
    ) -> Dentry {
        Dentry {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            sb,
            inode,
            place: SpinLock::new(
                Rank::Object,
                Place {
                    parent,
                    name: name.into(),
                },
            ),
            deleted: AtomicBool::new(false),
            linkable: false,
            mounts: AtomicU32::new(0),
            users: AtomicI32::new(0),
            entries: RwLock::new(()),
        }
    }
    /// A filesystem's root, or an object that no directory holds.
    pub fn root(sb: Arc<Super>, inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Self::make(sb, inode, None, b"")
    }
    /// An object outside every directory that calls itself `name` in /proc.
    pub fn detached(sb: Arc<Super>, inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Dentry> {
        Self::make(sb, inode, None, name)
    }
    /// A file of directory `dir`'s filesystem that has no name there; /proc shows it as
    /// deleted. `linkable`: it may be given one.
    pub(super) fn unnamed(
        dir: &Arc<Dentry>,
        inode: Arc<dyn Inode>,
        linkable: bool,
    ) -> Result<Arc<Dentry>> {
        let name = alloc::format!("#{}", inode.attr()?.ino);
        let parent = Some(dir.clone());
        let mut dentry = Self::build(dir.sb.clone(), inode, parent, name.as_bytes());
        dentry.deleted = AtomicBool::new(true);
        dentry.linkable = linkable;
        Ok(Arc::new(dentry))
    }
    /// Whether it may be named although nothing names it.
    pub(super) fn is_linkable(&self) -> bool {
        self.linkable
    }
    /// The directory that holds it.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }
    /// Its name there.
    pub fn name(&self) -> Arc<[u8]> {
        self.place.lock().name.clone()
    }
    /// Parent and name as they were at one moment.
    pub fn place(&self) -> (Option<Arc<Dentry>>, Arc<[u8]>) {
        let place = self.place.lock();
        (place.parent.clone(), place.name.clone())
    }
    /// Type bits of the inode's mode.
    pub fn kind(&self) -> u32 {
        self.inode.perm().mode & abi::S_IFMT
    }
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == abi::S_IFDIR
    }
    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == abi::S_IFLNK
    }
    /// Whether its name is gone.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }
    /// Whether something is mounted on it (somewhere).
    pub fn is_mountpoint(&self) -> bool {
        self.mounts.load(Ordering::Acquire) > 0
    }
    /// Counts a file open for writing (or for running, `runs`) until the guard goes. ETXTBSY
    /// when it is in use the other way (man 2 open, man 2 execve).
    pub(super) fn begin_use(self: &Arc<Self>, runs: bool) -> Result<UseGuard> {
        let step = if runs { -1 } else { 1 };
        let counted = self
            .users
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n == 0 || n.signum() == step).then(|| n.checked_add(step))?
            });
        counted.map_err(|_| Errno::ETXTBSY)?;
        Ok(UseGuard {
            dentry: self.clone(),
            step,
        })
    }
    pub(super) fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }
    pub(super) fn remove_mount(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }
    /// Whether `self` is `other` or lies above it. Stable only under the rename lock.
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        while let Some(d) = at {
            if Arc::ptr_eq(self, &d) {
                return true;
            }
            at = d.parent();
        }
        false
    }

    /// The entry `name` of this directory; `None` when there is none.
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        if let Some(known) = cached(self, name) {
            return Ok(known);
        }
        let _shared = self.entries.read();
        self.lookup_locked(name)
    }

    /// As [`Dentry::lookup`], with `entries` held by the caller.
    pub(super) fn lookup_locked(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        if let Some(known) = cached(self, name) {
            return Ok(known);
        }
        if self.is_deleted() {
            return Err(Errno::ENOENT);
        }
        match self.inode.lookup(name) {
            Ok(inode) => Ok(Some(self.add(name, inode))),
            Err(Errno::ENOENT) => {
                if self.inode.caches_misses() {
                    store(self, name, Slot::Nothing { sb: self.sb.id });
                }
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Binds `name` to `inode`, unless a parallel lookup already did. `entries` is held.
    pub(super) fn add(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let new = Self::make(self.sb.clone(), inode, Some(self.clone()), name);
        if !self.inode.keeps(&*new.inode) {
            return new;
        }
        store_new(self, name, new)
    }

    /// The name of `child` in this directory is gone. `entries` is held exclusively.
    pub(super) fn remove(self: &Arc<Self>, name: &[u8], child: &Arc<Dentry>) {
        child.deleted.store(true, Ordering::Release);
        if self.inode.caches_misses() {
            store(self, name, Slot::Nothing { sb: self.sb.id });
        } else {
            forget(self, name);
        }
    }

    /// `child` moves to `new_dir`/`new_name`. Both directories are held exclusively.
    pub(super) fn moved(
        self: &Arc<Self>,
        name: &[u8],
        child: &Arc<Dentry>,
        new_dir: &Arc<Dentry>,
        new_name: &[u8],
    ) {
        let name_now: Arc<[u8]> = new_name.into();
        if self.inode.caches_misses() {
            store(self, name, Slot::Nothing { sb: self.sb.id });
        } else {
            forget(self, name);
        }
        let old = {
            let mut place = child.place.lock();
            place.name = name_now;
            place.parent.replace(new_dir.clone())
        };
        drop(old);
        store(new_dir, new_name, Slot::Entry(child.clone()));
    }

    /// `a` (here as `name`) and `b` (in `new_dir` as `new_name`) swap places.
    pub(super) fn swapped(
        self: &Arc<Self>,
        name: &[u8],
        a: &Arc<Dentry>,
        new_dir: &Arc<Dentry>,
        new_name: &[u8],
        b: &Arc<Dentry>,
    ) {
        self.moved(name, a, new_dir, new_name);
        let here: Arc<[u8]> = name.into();
        let old = {
            let mut place = b.place.lock();
            place.name = here;
            place.parent.replace(self.clone())
        };
        drop(old);
        store(self, name, Slot::Entry(b.clone()));
    }
}

/// See [`Dentry::begin_use`].
pub(super) struct UseGuard {
    dentry: Arc<Dentry>,
    step: i32,
}

impl Drop for UseGuard {
    fn drop(&mut self) {
        self.dentry.users.fetch_sub(self.step, Ordering::AcqRel);
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        // A long chain of directories must not unwind recursively on a kernel stack.
        let mut next = self.place.lock().parent.take();
        while let Some(dentry) = next {
            next = Arc::into_inner(dentry).and_then(|d| d.place.lock().parent.take());
        }
    }
}

/// What the cache knows of a name.
enum Slot {
    Entry(Arc<Dentry>),
    /// There is nothing of that name, on filesystem `sb`.
    Nothing {
        sb: u64,
    },
}

impl Slot {
    /// Bytes of memory that go with it.
    fn weight(&self) -> u32 {
        match self {
            // The name ends as an allocation of its own.
            Slot::Entry(d) => (size_of::<Dentry>() + 64 + d.inode.footprint()) as u32,
            Slot::Nothing { .. } => 0,
        }
    }
}

const SHARDS: usize = 64;
/// Bytes per shard; see [`set_capacity`].
static SHARD_LIMIT: AtomicUsize = AtomicUsize::new(128 << 10);
static CACHE: [SpinLock<LruMap<Slot>>; SHARDS] =
    [const { SpinLock::new(Rank::Vfs, LruMap::new()) }; SHARDS];

/// Bounds the cache to about `bytes` of memory.
pub fn set_capacity(bytes: usize) {
    SHARD_LIMIT.store((bytes / SHARDS).max(8 << 10), Ordering::Relaxed);
}

/// Secret of this boot, so that names cannot be chosen to collide.
fn seed() -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(0);
    match SEED.load(Ordering::Relaxed) {
        0 => {
            let new = crate::arch::tsc() | 1;
            match SEED.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => new,
                Err(first) => first,
            }
        }
        seed => seed,
    }
}

fn hash(dir: u64, name: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(seed()).build_hasher();
    hasher.write_u64(dir);
    hasher.write(name);
    hasher.finish()
}

fn shard(hash: u64) -> &'static SpinLock<LruMap<Slot>> {
    // The table inside uses the top and low bits; take some from between.
    &CACHE[(hash >> 40) as usize % SHARDS]
}

/// `Some(None)`: known to be absent.
fn cached(dir: &Arc<Dentry>, name: &[u8]) -> Option<Option<Arc<Dentry>>> {
    let hash = hash(dir.id, name);
    match shard(hash).lock().get(hash, dir.id, name)? {
        Slot::Entry(d) => Some(Some(d.clone())),
        Slot::Nothing { .. } => Some(None),
    }
}

fn store(dir: &Arc<Dentry>, name: &[u8], slot: Slot) {
    let hash = hash(dir.id, name);
    let mut out = Vec::new();
    let old = {
        let mut map = shard(hash).lock();
        let weight = slot.weight();
        let old = map.insert(hash, dir.id, name, slot, weight);
        shrink(&mut map, &mut out);
        old
    };
    // Dropped without the lock: it may be an inode's last reference.
    drop((old, out));
}

fn store_new(dir: &Arc<Dentry>, name: &[u8], new: Arc<Dentry>) -> Arc<Dentry> {
    let hash = hash(dir.id, name);
    let mut out = Vec::new();
    let mut map = shard(hash).lock();
    if let Some(Slot::Entry(first)) = map.get(hash, dir.id, name) {
        let first = first.clone();
        drop(map);
        return first;
    }
    let slot = Slot::Entry(new.clone());
    let weight = slot.weight();
    let old = map.insert(hash, dir.id, name, slot, weight);
    shrink(&mut map, &mut out);
    drop(map);
    drop((old, out));
    new
}

fn forget(dir: &Arc<Dentry>, name: &[u8]) {
    let hash = hash(dir.id, name);
    let old = shard(hash).lock().remove(hash, dir.id, name);
    drop(old);
}

fn shrink(map: &mut LruMap<Slot>, out: &mut Vec<Slot>) {
    /// One goes in at a time: so many may go out, and are looked at.
    const MOST: usize = 8;
    let limit = SHARD_LIMIT.load(Ordering::Relaxed);
    let mut looked_at = 0;
    while map.bytes() > limit && looked_at < MOST {
        map.evict(out.len() + 1, 1, unused, out);
        looked_at += 1;
    }
}

/// Only the cache holds it. Nobody can come to hold it meanwhile: references are made under
/// the shard's lock, or from references.
fn unused(slot: &Slot) -> bool {
    match slot {
        Slot::Entry(d) => Arc::strong_count(d) == 1,
        Slot::Nothing { .. } => true,
    }
}

/// Forgets every name of filesystem `sb` (it is going away).
pub(super) fn forget_super(sb: u64) {
    for shard in &CACHE {
        let mut out = Vec::new();
        shard.lock().drain_if(
            |slot| match slot {
                Slot::Entry(d) => d.sb.id == sb,
                Slot::Nothing { sb: of } => *of == sb,
            },
            &mut out,
        );
    }
}

/// Names that the cache holds.
pub fn count() -> usize {
    CACHE.iter().map(|shard| shard.lock().len()).sum()
}

/// Bytes of memory that the cache holds, with what goes when its entries do.
pub fn bytes() -> usize {
    CACHE.iter().map(|shard| shard.lock().bytes()).sum()
}

/// Gives memory back: drops up to about `count` entries that nobody uses, the oldest of each
/// shard first; returns how many went.
pub fn shrink_by(count: usize) -> usize {
    let mut gone = 0;
    for (i, shard) in CACHE.iter().enumerate() {
        let share = count.saturating_sub(gone).div_ceil(SHARDS - i);
        let mut out = Vec::new();
        {
            let mut map = shard.lock();
            let len = map.len();
            map.evict(share, len, unused, &mut out);
            map.shrink_to_fit();
        }
        // Dropped without the lock: they may be inodes' last references.
        gone += out.len();
    }
    gone
}
