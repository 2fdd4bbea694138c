//! tmpfs: files that live in the page cache alone (man 5 tmpfs).
//!
//! Names and attributes are kernel memory; a file's pages are born zero in a cache without a
//! source. Pages and inodes are counted against limits, half the memory by default.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::DirSink;
use crate::mm::{PAGE_SIZE, frame};
use crate::sched::Mutex;
use crate::sync::{Rank, SpinLock};
use crate::vfs::inode::{dt, relatime_due};
use crate::vfs::{
    Attr, Dev, FileSystem, FsStat, Inode, MountSource, Mounted, NewNode, Perm, Rename, SetAttr,
    SuperBlock, Timestamp,
};
use crate::vm::PageCache;

/// Kernel memory that one name and its inode take, for the inode limit.
const INODE_COST: u64 = 1024;

/// The filesystem type `tmpfs`.
pub struct MemFs;

impl FileSystem for MemFs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }
    fn needs_device(&self) -> bool {
        false
    }
    fn mount(&self, _source: &MountSource, read_only: bool, options: &[u8]) -> Result<Mounted> {
        let total = frame::stats().total as u64;
        let options = Options::parse(options, total)?;
        Ok(Mounted {
            ops: MemSuper::new(&options)?,
            dev: None,
            read_only,
        })
    }
}

/// Mount options (man 5 tmpfs).
pub struct Options {
    /// Pages of content at most.
    pub max_pages: u64,
    /// Inodes at most.
    pub max_inodes: u64,
    /// The root's mode, owner and group.
    pub root: Perm,
    /// Names come and go behind the VFS's back: it must not remember that one is missing.
    pub volatile: bool,
}

impl Options {
    /// The defaults on a machine of `total` page frames.
    pub fn new(total: u64) -> Options {
        Options {
            max_pages: total / 2,
            max_inodes: (total / 4 * PAGE_SIZE as u64 / INODE_COST).max(64),
            root: Perm {
                mode: abi::S_IFDIR | 0o1777,
                uid: 0,
                gid: 0,
            },
            volatile: false,
        }
    }
    /// From the text of a mount call. EINVAL.
    pub fn parse(text: &[u8], total: u64) -> Result<Options> {
        let mut options = Self::new(total);
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').ok_or(Errno::EINVAL)?;
            match key {
                "size" => {
                    options.max_pages = match value.strip_suffix('%') {
                        Some(percent) => {
                            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
                            total.saturating_mul(percent) / 100
                        }
                        None => scaled(value)?.div_ceil(PAGE_SIZE as u64),
                    };
                }
                "nr_blocks" => options.max_pages = scaled(value)?,
                "nr_inodes" => options.max_inodes = scaled(value)?,
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    options.root.mode = abi::S_IFDIR | (mode & 0o7777);
                }
                "uid" => options.root.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => options.root.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// A number with the suffixes k, m, g.
fn scaled(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let n: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    n.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

/// What all inodes of one instance share.
struct Shared {
    max_pages: u64,
    max_inodes: u64,
    pages: AtomicU64,
    inodes: AtomicU64,
    next_ino: AtomicU64,
    volatile: bool,
}

/// A mounted tmpfs.
pub struct MemSuper {
    shared: Arc<Shared>,
    root: Arc<MemInode>,
}

impl MemSuper {
    /// An instance with nothing but a root.
    pub fn new(options: &Options) -> Result<Arc<MemSuper>> {
        let shared = Arc::new(Shared {
            max_pages: options.max_pages,
            max_inodes: options.max_inodes,
            pages: AtomicU64::new(0),
            inodes: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
            volatile: options.volatile,
        });
        let node = NewNode {
            mode: options.root.mode,
            uid: options.root.uid,
            gid: options.root.gid,
            rdev: Dev::default(),
        };
        let root = MemInode::make(&shared, &node, None, None)?;
        Ok(Arc::new(MemSuper { shared, root }))
    }
    /// The root, for filesystems that fill one of these in themselves.
    pub fn root_inode(&self) -> &Arc<MemInode> {
        &self.root
    }
}

impl SuperBlock for MemSuper {
    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(self.root.clone())
    }
    fn statfs(&self) -> Result<FsStat> {
        let s = &self.shared;
        let free = s.max_pages.saturating_sub(s.pages.load(Ordering::Relaxed));
        Ok(FsStat {
            magic: abi::TMPFS_MAGIC,
            block_size: PAGE_SIZE as u64,
            blocks: s.max_pages,
            free,
            available: free,
            files: s.max_inodes,
            files_free: s
                .max_inodes
                .saturating_sub(s.inodes.load(Ordering::Relaxed)),
        })
    }
    fn show_options(&self) -> Vec<u8> {
        let kib = self.shared.max_pages * (PAGE_SIZE as u64 / 1024);
        alloc::format!(",size={kib}k").into_bytes()
    }
}

struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    atime: Timestamp,
    mtime: Timestamp,
    ctime: Timestamp,
}

enum Body {
    Dir(Mutex<Entries>),
    File {
        cache: Arc<PageCache>,
        size: AtomicU64,
        /// Pages counted against the limit.
        charged: AtomicU64,
        io: Mutex<()>,
    },
    Link(Vec<u8>),
    Special,
}

struct Entries {
    by_name: BTreeMap<Vec<u8>, (u64, Arc<MemInode>)>,
    /// Directory positions: given once, never to another entry while the directory lives.
    by_cookie: BTreeMap<u64, Vec<u8>>,
    next_cookie: u64,
    parent: u64,
}

/// First position that names an entry; 0 and 1 are `.` and `..`.
const FIRST_COOKIE: u64 = 2;

impl Entries {
    fn insert(&mut self, name: &[u8], inode: Arc<MemInode>) {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.by_cookie.insert(cookie, name.to_vec());
        self.by_name.insert(name.to_vec(), (cookie, inode));
    }
    fn remove(&mut self, name: &[u8]) -> Result<Arc<MemInode>> {
        let (cookie, inode) = self.by_name.remove(name).ok_or(Errno::ENOENT)?;
        self.by_cookie.remove(&cookie);
        Ok(inode)
    }
}

/// An object of a tmpfs.
pub struct MemInode {
    /// Itself, for another name of it.
    me: Weak<MemInode>,
    shared: Arc<Shared>,
    ino: u64,
    rdev: Dev,
    meta: SpinLock<Meta>,
    body: Body,
}

impl MemInode {
    fn make(
        shared: &Arc<Shared>,
        node: &NewNode,
        parent: Option<u64>,
        link: Option<&[u8]>,
    ) -> Result<Arc<MemInode>> {
        let kind = node.mode & abi::S_IFMT;
        let ino = shared.next_ino.fetch_add(1, Ordering::Relaxed);
        let body = match (kind, link) {
            (abi::S_IFDIR, _) => Body::Dir(Mutex::new(Entries {
                by_name: BTreeMap::new(),
                by_cookie: BTreeMap::new(),
                next_cookie: FIRST_COOKIE,
                parent: parent.unwrap_or(ino),
            })),
            (abi::S_IFREG, _) => Body::File {
                cache: PageCache::new(None)?,
                size: AtomicU64::new(0),
                charged: AtomicU64::new(0),
                io: Mutex::new(()),
            },
            (abi::S_IFLNK, Some(text)) => Body::Link(text.to_vec()),
            _ => Body::Special,
        };
        let counted = shared
            .inodes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < shared.max_inodes).then_some(n + 1)
            });
        counted.map_err(|_| Errno::ENOSPC)?;
        let now = Timestamp::now();
        Ok(Arc::new_cyclic(|me| MemInode {
            me: me.clone(),
            shared: shared.clone(),
            ino,
            rdev: node.rdev,
            meta: SpinLock::new(
                Rank::Object,
                Meta {
                    mode: node.mode,
                    uid: node.uid,
                    gid: node.gid,
                    nlink: if kind == abi::S_IFDIR { 2 } else { 1 },
                    atime: now,
                    mtime: now,
                    ctime: now,
                },
            ),
            body,
        }))
    }

    fn of(inode: &dyn Inode) -> Result<&MemInode> {
        inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
    }
    fn entries(&self) -> Result<&Mutex<Entries>> {
        match &self.body {
            Body::Dir(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }
    fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }
    fn is_empty_dir(&self) -> Result<bool> {
        Ok(self.entries()?.lock().by_name.is_empty())
    }
    /// Content changed: mtime and ctime move, `links` is added to the link count.
    fn touch(&self, links: i32) {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        meta.mtime = now;
        meta.ctime = now;
        meta.nlink = meta.nlink.saturating_add_signed(links);
    }
    /// The link count changed.
    fn relink(&self, links: i32) {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        meta.ctime = now;
        meta.nlink = meta.nlink.saturating_add_signed(links);
    }

    /// Adds a new object under `name`.
    pub fn add(&self, name: &[u8], node: &NewNode, link: Option<&[u8]>) -> Result<Arc<MemInode>> {
        let mut entries = self.entries()?.lock();
        if entries.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let inode = Self::make(&self.shared, node, Some(self.ino), link)?;
        entries.insert(name, inode.clone());
        drop(entries);
        self.touch(i32::from(inode.is_dir()));
        Ok(inode)
    }

    /// The object under `name`.
    pub fn find(&self, name: &[u8]) -> Result<Arc<MemInode>> {
        let entries = self.entries()?.lock();
        let found = entries.by_name.get(name).map(|(_, inode)| inode.clone());
        found.ok_or(Errno::ENOENT)
    }

    /// Counts the pages that the cache holds now.
    fn recharge(&self) {
        if let Body::File { cache, charged, .. } = &self.body {
            let now = cache.nr_pages() as u64;
            let before = charged.swap(now, Ordering::Relaxed);
            self.shared
                .pages
                .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }
}

impl Drop for MemInode {
    fn drop(&mut self) {
        self.shared.inodes.fetch_sub(1, Ordering::Relaxed);
        match &mut self.body {
            Body::File { charged, .. } => {
                self.shared
                    .pages
                    .fetch_sub(*charged.get_mut(), Ordering::Relaxed);
            }
            Body::Dir(entries) => {
                // A deep tree must not unwind recursively on a kernel stack.
                let mut rest: Vec<Arc<MemInode>> = Vec::new();
                let mut children = core::mem::take(&mut entries.lock().by_name);
                loop {
                    rest.extend(children.into_values().map(|(_, inode)| inode));
                    let Some(next) = rest.pop() else { break };
                    children = match Arc::into_inner(next) {
                        Some(inode) => match &inode.body {
                            Body::Dir(entries) => core::mem::take(&mut entries.lock().by_name),
                            _ => BTreeMap::new(),
                        },
                        None => BTreeMap::new(),
                    };
                }
            }
            _ => {}
        }
    }
}

impl Inode for MemInode {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn attr(&self) -> Result<Attr> {
        let (size, pages) = match &self.body {
            Body::File { cache, size, .. } => {
                (size.load(Ordering::Acquire), cache.nr_pages() as u64)
            }
            Body::Link(text) => (text.len() as u64, 0),
            Body::Dir(entries) => (entries.lock().by_name.len() as u64 * 20 + 40, 0),
            Body::Special => (0, 0),
        };
        let meta = self.meta.lock();
        Ok(Attr {
            ino: self.ino,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            nlink: meta.nlink,
            size,
            blocks: pages * (PAGE_SIZE as u64 / 512),
            block_size: PAGE_SIZE as u32,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: None,
            rdev: self.rdev,
        })
    }
    fn perm(&self) -> Perm {
        let meta = self.meta.lock();
        Perm {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
        }
    }
    fn setattr(&self, changes: &SetAttr) -> Result<()> {
        if let (Some(new), Body::File { cache, size, .. }) = (changes.size, &self.body) {
            size.store(new, Ordering::Release);
            // The cache keeps the size for mappings, so it hears of growth too.
            cache.truncate(new);
            self.recharge();
        }
        let mut meta = self.meta.lock();
        if let Some(mode) = changes.mode {
            meta.mode = (meta.mode & abi::S_IFMT) | (mode & 0o7777);
        }
        meta.uid = changes.uid.unwrap_or(meta.uid);
        meta.gid = changes.gid.unwrap_or(meta.gid);
        meta.atime = changes.atime.unwrap_or(meta.atime);
        meta.mtime = changes.mtime.unwrap_or(meta.mtime);
        meta.ctime = changes.ctime.unwrap_or(meta.ctime);
        Ok(())
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.find(name).map(|inode| inode as Arc<dyn Inode>)
    }
    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.add(name, node, None)
            .map(|inode| inode as Arc<dyn Inode>)
    }
    fn symlink(&self, name: &[u8], target: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.add(name, node, Some(target))
            .map(|inode| inode as Arc<dyn Inode>)
    }
    fn link(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let target = Self::of(target)?;
        let arc = target.me.upgrade().ok_or(Errno::ENOENT)?;
        self.entries()?.lock().insert(name, arc);
        target.relink(1);
        self.touch(0);
        Ok(())
    }
    fn unlink(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let gone = self.entries()?.lock().remove(name)?;
        Self::of(target)?.relink(-1);
        self.touch(0);
        drop(gone);
        Ok(())
    }
    fn rmdir(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let dir = Self::of(target)?;
        if !dir.is_empty_dir()? {
            return Err(Errno::ENOTEMPTY);
        }
        let gone = self.entries()?.lock().remove(name)?;
        dir.relink(-2);
        self.touch(-1);
        drop(gone);
        Ok(())
    }
    fn rename(&self, what: &Rename<'_>) -> Result<()> {
        let new_dir = Self::of(what.new_dir)?;
        let source = Self::of(what.source)?;
        let target = what.target.map(Self::of).transpose()?;
        if let Some(t) = target
            && !what.exchange
            && t.is_dir()
            && !t.is_empty_dir()?
        {
            return Err(Errno::ENOTEMPTY);
        }
        let moved = self.entries()?.lock().remove(what.name)?;
        let replaced = match target {
            Some(_) => Some(new_dir.entries()?.lock().remove(what.new_name)?),
            None => None,
        };
        new_dir.entries()?.lock().insert(what.new_name, moved);
        if what.cross && source.is_dir() {
            source.entries()?.lock().parent = new_dir.ino;
            self.touch(-1);
            new_dir.touch(1);
        }
        match (target, what.exchange) {
            (Some(t), true) => {
                if let Some(other) = &replaced {
                    self.entries()?.lock().insert(what.name, other.clone());
                }
                if what.cross && t.is_dir() {
                    t.entries()?.lock().parent = self.ino;
                    new_dir.touch(-1);
                    self.touch(1);
                }
                t.relink(0);
            }
            (Some(t), false) => {
                if t.is_dir() {
                    t.relink(-2);
                    new_dir.touch(-1);
                } else {
                    t.relink(-1);
                }
            }
            (None, _) => {}
        }
        source.relink(0);
        self.touch(0);
        new_dir.touch(0);
        drop(replaced);
        Ok(())
    }
    fn read_dir(&self, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut next = pos;
        let parent = self.entries()?.lock().parent;
        if next == 0 {
            if !sink.entry(b".", self.ino, dt::DIR, 1) {
                return Ok(next);
            }
            next = 1;
        }
        if next == 1 {
            if !sink.entry(b"..", parent, dt::DIR, FIRST_COOKIE) {
                return Ok(next);
            }
            next = FIRST_COOKIE;
        }
        let entries = self.entries()?.lock();
        for (&cookie, name) in entries.by_cookie.range(next..) {
            let Some((_, inode)) = entries.by_name.get(name) else {
                continue;
            };
            let kind = dt::from_mode(inode.perm().mode);
            if !sink.entry(name, inode.ino, kind, cookie + 1) {
                return Ok(cookie);
            }
            next = cookie + 1;
        }
        Ok(next)
    }
    fn caches_misses(&self) -> bool {
        !self.shared.volatile
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Link(text) => Ok(text.clone()),
            _ => Err(Errno::EINVAL),
        }
    }
    fn page_cache(&self) -> Result<Arc<PageCache>> {
        match &self.body {
            Body::File { cache, .. } => Ok(cache.clone()),
            _ => Err(Errno::EINVAL),
        }
    }
    fn size(&self) -> u64 {
        match &self.body {
            Body::File { size, .. } => size.load(Ordering::Acquire),
            _ => 0,
        }
    }
    fn io_lock(&self) -> &Mutex<()> {
        static OTHERS: Mutex<()> = Mutex::new(());
        match &self.body {
            Body::File { io, .. } => io,
            _ => &OTHERS,
        }
    }
    fn prepare_write(&self, pos: u64, len: u64) -> Result<u64> {
        const PAGE: u64 = PAGE_SIZE as u64;
        let Body::File {
            cache,
            size,
            charged,
            ..
        } = &self.body
        else {
            return Err(Errno::EINVAL);
        };
        self.recharge();
        let have = cache.nr_pages() as u64;
        let whole = size.load(Ordering::Acquire).div_ceil(PAGE);
        // A file without holes needs pages past its end only.
        let first_new = if have >= whole { whole } else { 0 }.max(pos / PAGE);
        let needed = (pos + len).div_ceil(PAGE).saturating_sub(first_new);
        let mut granted = 0;
        let shared = &self.shared;
        let _ = shared
            .pages
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                granted = needed.min(shared.max_pages.saturating_sub(used));
                Some(used + granted)
            });
        charged.fetch_add(granted, Ordering::Relaxed);
        if granted == needed {
            return Ok(len);
        }
        let end = (first_new + granted) * PAGE;
        if end <= pos {
            return Err(Errno::ENOSPC);
        }
        Ok(end - pos)
    }
    fn written(&self, end: u64) {
        if let Body::File { size, .. } = &self.body {
            size.fetch_max(end, Ordering::AcqRel);
        }
        self.recharge();
        self.touch(0);
    }
    fn accessed(&self) {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        if relatime_due(meta.atime, meta.mtime, meta.ctime, now) {
            meta.atime = now;
        }
    }
}
