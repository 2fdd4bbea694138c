//! Objects of a tmpfs, as the VFS asks for them.
//!
//! Names, attributes and link texts are kernel memory; a file's pages are in its cache, and
//! are counted against the instance's limit.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use super::Shared;
use super::directory::{Entries, FIRST_COOKIE};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::DirSink;
use crate::mm::PAGE_SIZE;
use crate::sched::Mutex;
use crate::sync::{Rank, SpinLock};
use crate::vfs::inode::{dt, relatime_due};
use crate::vfs::{Attr, Dev, Inode, NewNode, Perm, Rename, SetAttr, Timestamp};
use crate::vm::PageCache;

/// Bytes from which on a link's text counts as a page (as on Linux).
const LONG_LINK: usize = 128;

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

/// Whether a link's text counts as a page.
fn is_long(text: &[u8]) -> bool {
    text.len() >= LONG_LINK
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
    /// A new object, counted against the limit. ENOSPC.
    pub(super) fn make(
        shared: &Arc<Shared>,
        node: &NewNode,
        parent: Option<u64>,
        link: Option<&[u8]>,
    ) -> Result<Arc<MemInode>> {
        let kind = node.mode & abi::S_IFMT;
        let ino = shared.next_ino.fetch_add(1, Ordering::Relaxed);
        let body = match (kind, link) {
            (abi::S_IFDIR, _) => Body::Dir(Mutex::new(Entries::new(parent.unwrap_or(ino)))),
            (abi::S_IFREG, _) => Body::File {
                cache: PageCache::new(None)?,
                size: AtomicU64::new(0),
                charged: AtomicU64::new(0),
                io: Mutex::new(()),
            },
            (abi::S_IFLNK, Some(text)) => Body::Link(text.to_vec()),
            _ => Body::Special,
        };
        shared.count_name()?;
        if link.is_some_and(is_long) && shared.charge(1) == 0 {
            shared.uncount_name();
            return Err(Errno::ENOSPC);
        }
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

    /// The object behind an inode. EXDEV for one of another filesystem.
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

    /// A name of it is gone.
    fn unname(&self) {
        if self.relink(-1) > 0 {
            self.shared.uncount_name();
        }
    }
    /// The link count changed; what it is now.
    fn relink(&self, links: i32) -> u32 {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        meta.ctime = now;
        meta.nlink = meta.nlink.saturating_add_signed(links);
        meta.nlink
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
        self.shared.uncount_name();
        match &mut self.body {
            Body::Link(text) if is_long(text) => {
                self.shared.pages.fetch_sub(1, Ordering::Relaxed);
            }
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
            Body::Link(text) => (text.len() as u64, u64::from(is_long(text))),
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
    fn create_unnamed(&self, node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.entries()?;
        let inode = Self::make(&self.shared, node, Some(self.ino), None)?;
        inode.meta.lock().nlink = 0;
        Ok(inode)
    }
    fn symlink(&self, name: &[u8], target: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.add(name, node, Some(target))
            .map(|inode| inode as Arc<dyn Inode>)
    }
    fn link(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let target = Self::of(target)?;
        let arc = target.me.upgrade().ok_or(Errno::ENOENT)?;
        // Each name is kernel memory, so each counts (as on Linux); an object without one has
        // counted when it was made.
        if target.meta.lock().nlink > 0 {
            self.shared.count_name()?;
        }
        self.entries()?.lock().insert(name, arc);
        target.relink(1);
        self.touch(0);
        Ok(())
    }
    fn unlink(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let gone = self.entries()?.lock().remove(name)?;
        Self::of(target)?.unname();
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
                    t.unname();
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
        let granted = self.shared.charge(needed);
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
    fn preallocate(&self, pos: u64, end: u64, _grows: bool) -> Result<()> {
        const PAGE: u64 = PAGE_SIZE as u64;
        let cache = self.page_cache()?;
        let free = |shared: &Shared| {
            let used = shared.pages.load(Ordering::Relaxed);
            shared.limits.max_pages().saturating_sub(used)
        };
        self.recharge();
        for index in pos / PAGE..end.div_ceil(PAGE) {
            if cache.is_cached(index) {
                continue;
            }
            // All of it, or what came before is given back: the file is as it was.
            let result = match free(&self.shared) {
                0 => Err(Errno::ENOSPC),
                _ => cache.get(index).map(drop),
            };
            self.recharge();
            if let Err(e) = result {
                cache.drop_pages(self.size().div_ceil(PAGE).max(pos / PAGE), u64::MAX);
                self.recharge();
                return Err(e);
            }
        }
        Ok(())
    }
    fn punch(&self, from: u64, to: u64) -> Result<()> {
        self.page_cache()?.drop_pages(from, to);
        self.recharge();
        Ok(())
    }
    fn seek_hole(&self, pos: u64, hole: bool) -> Result<u64> {
        const PAGE: u64 = PAGE_SIZE as u64;
        let size = self.size();
        if pos >= size {
            return Err(Errno::ENXIO);
        }
        let cache = self.page_cache()?;
        let mut index = pos / PAGE;
        if !hole {
            let next = cache.next_cached(index).filter(|i| i * PAGE < size);
            return next.map(|i| (i * PAGE).max(pos)).ok_or(Errno::ENXIO);
        }
        while cache.is_cached(index) {
            index += 1;
        }
        Ok((index * PAGE).clamp(pos, size))
    }
    fn written(&self, end: u64) {
        if let Body::File { size, .. } = &self.body {
            size.fetch_max(end, Ordering::AcqRel);
        }
        self.recharge();
        self.touch(0);
    }
    fn accessed(&self, strict: bool) {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        if strict || relatime_due(meta.atime, meta.mtime, meta.ctime, now) {
            meta.atime = now;
        }
    }
}
