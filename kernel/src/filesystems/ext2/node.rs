//! Inodes as the VFS and the page cache see them.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use super::disk::{Piece, start_transfer, transfer};
use super::inode::{Extent, Node, device_in};
use super::super_block::Volumes;
use super::tree::{self, Move};
use crate::abi;
use crate::block::{BlockDevice, Op, SECTOR_BYTES, Segment};
use crate::error::{Errno, Result};
use crate::file::DirSink;
use crate::mm::{FrameRef, PAGE_SIZE};
use crate::sched::{self, Mutex};
use crate::vfs::inode::{dt, relatime_due};
use crate::vfs::{Attr, Dev, Inode, NewNode, Perm, Rename, SetAttr, Timestamp};
use crate::vm::page_cache::ReadDone;
use crate::vm::{IoSource, PageCache, PageSource};

/// What [`Inode::preallocate`] writes.
static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// What stays of an inode while its pages do.
pub struct Core {
    /// The on-disk side.
    pub node: Node,
    device: Arc<dyn BlockDevice>,
    fs: Weak<Volumes>,
    /// Of a regular file.
    cache: Option<Arc<PageCache>>,
    /// Serialises writers; held over user copies.
    io: Mutex<()>,
}

impl Core {
    /// The core of `node`.
    pub fn new(node: Node, device: Arc<dyn BlockDevice>, fs: Weak<Volumes>) -> Result<Arc<Core>> {
        let regular = node.fields().kind() == abi::S_IFREG;
        let mut error = None;
        let core = Arc::new_cyclic(|me: &Weak<Core>| {
            let cache = if regular {
                let source: Weak<dyn PageSource> = me.clone();
                PageCache::new(Some(source))
                    .inspect_err(|e| error = Some(*e))
                    .ok()
            } else {
                None
            };
            Core {
                node,
                device,
                fs,
                cache,
                io: Mutex::new(()),
            }
        });
        error.map_or(Ok(core), Err)
    }

    /// Writes dirty pages and waits for them.
    pub fn write_content(&self) -> Result<()> {
        match &self.cache {
            Some(cache) => cache.write_back(0, u64::MAX),
            None => Ok(()),
        }
    }
    /// Whether it has neither pages nor fields that the disk lacks.
    pub(super) fn is_spent(&self) -> bool {
        self.cache.as_ref().is_none_or(|c| c.nr_pages() == 0) && !self.node.is_dirty()
    }
    /// Drops all pages, written or not.
    pub fn drop_content(&self) {
        if let Some(cache) = &self.cache {
            cache.truncate(0);
        }
    }

    fn changed(&self) {
        if let Some(fs) = self.fs.upgrade() {
            fs.changed();
        }
    }

    fn block_size(&self) -> u64 {
        u64::from(self.node.volume.geometry.block_size)
    }

    /// Splits `pages` from page `index` on by what is behind them: calls `part` with the
    /// extent, first file block and count.
    fn for_extents(
        &self,
        index: u64,
        pages: usize,
        writing: bool,
        mut part: impl FnMut(Extent, u64, u64),
    ) -> Result<()> {
        let per_page = PAGE_SIZE as u64 / self.block_size();
        let first = index.checked_mul(per_page).ok_or(Errno::EFBIG)?;
        let end = first + pages as u64 * per_page;
        let mut at = first;
        while at < end {
            let found = if writing {
                self.node.extent_to_write(at, end - at)
            } else {
                self.node.extent(at, end - at)
            };
            let (extent, n) = match found {
                // Past what pointers can reach there is nothing.
                Err(Errno::EFBIG) => (Extent::Zero, end - at),
                other => other?,
            };
            part(extent, at, n);
            at += n;
        }
        Ok(())
    }

    /// The memory of `n` file blocks from `block` on, where `pages` start at page `index`.
    fn segments(&self, index: u64, pages: &[FrameRef], block: u64, n: u64) -> Vec<Segment> {
        let bs = self.block_size();
        let mut at = block * bs - index * PAGE_SIZE as u64;
        let end = at + n * bs;
        let mut out = Vec::new();
        while at < end {
            let offset = at % PAGE_SIZE as u64;
            let len = (PAGE_SIZE as u64 - offset).min(end - at);
            if let Some(frame) = pages.get((at / PAGE_SIZE as u64) as usize) {
                out.push(Segment {
                    frame: frame.clone(),
                    offset: offset as u32,
                    len: len as u32,
                });
            }
            at += len;
        }
        out
    }
}

fn zero(segment: &Segment) {
    // SAFETY: the segment lies within its frame, which the reference keeps.
    unsafe {
        core::ptr::write_bytes(
            segment.frame.as_ptr().add(segment.offset as usize),
            0,
            segment.len as usize,
        );
    }
}

impl PageSource for Core {
    fn start_read(&self, index: u64, pages: &[FrameRef], done: ReadDone) {
        let sectors = self.block_size() / SECTOR_BYTES;
        let size = self.node.size();
        let mut pieces = Vec::new();
        let found = self.for_extents(index, pages.len(), false, |extent, block, n| {
            let segments = self.segments(index, pages, block, n);
            match extent {
                Extent::Zero => segments.iter().for_each(zero),
                Extent::Block(first) => pieces.push(Piece {
                    sector: u64::from(first) * sectors,
                    segments,
                }),
            }
        });
        if let Err(e) = found {
            return done(Err(e));
        }
        // What lies past the end in the last block is zeros.
        let tail = size.checked_sub(index * PAGE_SIZE as u64).and_then(|at| {
            let frame = pages.get(at as usize / PAGE_SIZE)?;
            let offset = at as usize % PAGE_SIZE;
            (offset > 0).then(|| Segment {
                frame: frame.clone(),
                offset: offset as u32,
                len: (PAGE_SIZE - offset) as u32,
            })
        });
        let done: ReadDone = match tail {
            Some(tail) => Box::new(move |result| {
                zero(&tail);
                done(result);
            }),
            None => done,
        };
        start_transfer(&self.device, Op::Read, pieces, done);
    }
    fn write_pages(&self, index: u64, pages: &[FrameRef]) -> Result<()> {
        let sectors = self.block_size() / SECTOR_BYTES;
        let mut pieces = Vec::new();
        let mut written = Vec::new();
        self.for_extents(index, pages.len(), true, |extent, block, n| {
            // No block: past the end of the file within its last page.
            if let Extent::Block(first) = extent {
                pieces.push(Piece {
                    sector: u64::from(first) * sectors,
                    segments: self.segments(index, pages, block, n),
                });
                written.push((block, n));
            }
        })?;
        transfer(&self.device, Op::Write, pieces)?;
        for (block, n) in written {
            self.node.wrote(block, n);
        }
        Ok(())
    }
    fn reserve(&self, pos: u64, len: u64) -> Result<()> {
        self.node.reserve(pos, len)?;
        self.changed();
        Ok(())
    }
    fn size(&self) -> u64 {
        self.node.size()
    }
    fn stored(&self) {
        let now = Timestamp::now();
        self.node.change(|f| {
            f.mtime = now;
            f.ctime = now;
        });
        self.changed();
    }
    fn grow(&self, size: u64) {
        if self.node.grow(size).is_err() {
            // The length is right in memory; the superblock's feature bit is tried again with
            // the next growth past 2 GiB.
            warn!("ext2: the superblock cannot be updated");
        }
        self.changed();
    }
}

/// An inode as the VFS holds it. The last one to go deletes an inode without a name.
pub struct Ext2Inode {
    core: Arc<Core>,
    fs: Arc<Volumes>,
}

impl Ext2Inode {
    /// A handle onto `core`.
    pub fn new(core: Arc<Core>, fs: Arc<Volumes>) -> Arc<Ext2Inode> {
        Arc::new(Ext2Inode { core, fs })
    }
    /// What it shares with the page cache.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }
    fn node(&self) -> &Node {
        &self.core.node
    }
    fn of(inode: &dyn Inode) -> Result<&Ext2Inode> {
        inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
    }
    fn done<T>(&self, result: Result<T>) -> Result<T> {
        self.fs.changed();
        result
    }
    /// The bytes of `[pos, end)` that have no blocks, as (first, end).
    fn holes(&self, pos: u64, end: u64) -> Result<Vec<(u64, u64)>> {
        let bs = self.core.block_size();
        let mut holes = Vec::new();
        let mut at = pos / bs;
        while at < end.div_ceil(bs) {
            let (extent, n) = self.node().extent_to_write(at, end.div_ceil(bs) - at)?;
            if extent == Extent::Zero {
                holes.push(((at * bs).max(pos), ((at + n) * bs).min(end)));
            }
            at += n;
        }
        Ok(holes)
    }
    fn make(&self, name: &[u8], node: &NewNode, link: Option<&[u8]>) -> Result<Arc<dyn Inode>> {
        let made = tree::create(self.node(), name, node, link, Timestamp::now());
        let inode = self.fs.adopt(self.done(made)?)?;
        Ok(inode)
    }
}

impl Drop for Ext2Inode {
    fn drop(&mut self) {
        self.fs.released(&self.core);
    }
}

impl Inode for Ext2Inode {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn attr(&self) -> Result<Attr> {
        let f = self.node().fields();
        let (major, minor) = match f.kind() {
            abi::S_IFCHR | abi::S_IFBLK => device_in(&f.block),
            _ => (0, 0),
        };
        Ok(Attr {
            ino: u64::from(self.node().ino),
            mode: u32::from(f.mode),
            uid: f.uid,
            gid: f.gid,
            nlink: u32::from(f.links),
            size: self.node().size(),
            blocks: u64::from(f.units),
            block_size: self.node().volume.geometry.block_size,
            atime: f.atime,
            mtime: f.mtime,
            ctime: f.ctime,
            btime: f.btime,
            rdev: Dev::new(major, minor),
        })
    }
    fn perm(&self) -> Perm {
        let f = self.node().fields();
        Perm {
            mode: u32::from(f.mode),
            uid: f.uid,
            gid: f.gid,
        }
    }
    fn setattr(&self, changes: &SetAttr) -> Result<()> {
        if let (Some(size), Some(cache)) = (changes.size, &self.core.cache) {
            let last = size / PAGE_SIZE as u64;
            let partial = size < self.node().size() && !size.is_multiple_of(PAGE_SIZE as u64);
            if partial {
                // In memory, so that what lies past the new end gets zeroed on disk too.
                cache.get(last)?;
            }
            self.node().set_size(size, || cache.truncate(size))?;
            if partial {
                cache.mark_dirty(last);
            }
        }
        self.node().change(|f| {
            if let Some(mode) = changes.mode {
                f.mode = (f.mode & 0o170_000) | (mode & 0o7777) as u16;
            }
            f.uid = changes.uid.unwrap_or(f.uid);
            f.gid = changes.gid.unwrap_or(f.gid);
            f.atime = changes.atime.unwrap_or(f.atime);
            f.mtime = changes.mtime.unwrap_or(f.mtime);
            f.ctime = changes.ctime.unwrap_or(f.ctime);
        });
        self.done(self.node().store())
    }
    fn footprint(&self) -> usize {
        let pages = self
            .core
            .cache
            .as_ref()
            .map_or(0, |_| size_of::<PageCache>());
        size_of::<Self>() + size_of::<Core>() + pages
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let ino = self.node().find_entry(name)?.ok_or(Errno::ENOENT)?;
        let inode = self.fs.get(ino)?;
        Ok(inode)
    }
    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.make(name, node, None)
    }
    fn create_unnamed(&self, node: &NewNode) -> Result<Arc<dyn Inode>> {
        let made = tree::create_unnamed(self.node(), node, Timestamp::now());
        let inode = self.fs.adopt(self.done(made)?)?;
        Ok(inode)
    }
    fn symlink(&self, name: &[u8], target: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.make(name, node, Some(target))
    }
    fn link(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let target = Self::of(target)?;
        self.done(tree::link(
            self.node(),
            name,
            target.node(),
            Timestamp::now(),
        ))
    }
    fn unlink(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let target = Self::of(target)?;
        self.done(tree::unlink(
            self.node(),
            name,
            target.node(),
            Timestamp::now(),
        ))
    }
    fn rmdir(&self, name: &[u8], target: &dyn Inode) -> Result<()> {
        let target = Self::of(target)?;
        self.done(tree::rmdir(
            self.node(),
            name,
            target.node(),
            Timestamp::now(),
        ))
    }
    fn rename(&self, what: &Rename<'_>) -> Result<()> {
        let to = Self::of(what.new_dir)?;
        let source = Self::of(what.source)?;
        let target = what.target.map(Self::of).transpose()?;
        let moved = Move {
            from: (self.node(), what.name),
            source: source.node(),
            to: (to.node(), what.new_name),
            target: target.map(|t| t.node()),
            cross: what.cross,
        };
        let now = Timestamp::now();
        self.done(if what.exchange {
            tree::exchange(&moved, now)
        } else {
            tree::rename(&moved, now)
        })
    }
    fn read_dir(&self, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        /// From the file type byte of an entry.
        const KINDS: [u8; 8] = [
            dt::UNKNOWN,
            dt::REG,
            dt::DIR,
            dt::CHR,
            dt::BLK,
            dt::FIFO,
            dt::SOCK,
            dt::LNK,
        ];
        self.node().list(pos, |ino, kind, name, next| {
            let kind = KINDS.get(usize::from(kind)).copied().unwrap_or(dt::UNKNOWN);
            sink.entry(name, u64::from(ino), kind, next)
        })
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        if self.node().fields().kind() != abi::S_IFLNK {
            return Err(Errno::EINVAL);
        }
        self.node().link_text()
    }
    fn page_cache(&self) -> Result<Arc<PageCache>> {
        self.core.cache.clone().ok_or(Errno::EINVAL)
    }
    fn size(&self) -> u64 {
        self.node().size()
    }
    fn io_lock(&self) -> &Mutex<()> {
        &self.core.io
    }
    fn prepare_write(&self, pos: u64, len: u64) -> Result<u64> {
        let max = self.node().volume.geometry.max_size();
        match max.saturating_sub(pos) {
            0 => Err(Errno::EFBIG),
            room => Ok(len.min(room)),
        }
    }
    fn written(&self, _end: u64) {
        let now = Timestamp::now();
        self.node().change(|f| {
            f.mtime = now;
            f.ctime = now;
        });
        self.fs.changed();
    }
    fn accessed(&self, strict: bool) {
        let f = self.node().fields();
        let now = Timestamp::now();
        if strict || relatime_due(f.atime, f.mtime, f.ctime, now) {
            self.node().change(|f| f.atime = now);
            self.fs.changed();
        }
    }
    fn preallocate(&self, pos: u64, end: u64, grows: bool) -> Result<()> {
        if end > self.node().volume.geometry.max_size() {
            return Err(Errno::EFBIG);
        }
        if end > self.node().size() && !grows {
            // The format has no blocks past the end.
            return Err(Errno::EOPNOTSUPP);
        }
        // Nor blocks without content: zeros are written.
        let holes = self.holes(pos, end)?;
        let bs = self.core.block_size();
        let volume = &self.node().volume;
        let needed: u64 = holes
            .iter()
            .map(|(from, to)| (to - from).div_ceil(bs))
            .sum();
        if !volume.has_room(needed) {
            return Err(Errno::ENOSPC);
        }
        let cache = self.page_cache()?;
        for (from, to) in holes {
            let mut at = from;
            while at < to {
                if sched::current().is_killed() {
                    return Err(Errno::EINTR);
                }
                // To the end of a page: one that is written as a whole need not be read.
                let n = (to - at).min(PAGE_SIZE as u64 - at % PAGE_SIZE as u64) as usize;
                at += cache.write_at(at, &mut IoSource::kernel(&ZEROS[..n]))? as u64;
            }
        }
        Ok(())
    }
    fn punch(&self, from: u64, to: u64) -> Result<()> {
        let per_page = PAGE_SIZE as u64 / self.core.block_size();
        let cache = self.page_cache()?;
        let done = self.node().punch(from * per_page, to * per_page, || {
            cache.drop_pages(from, to);
        });
        self.done(done)
    }
    fn seek_hole(&self, pos: u64, hole: bool) -> Result<u64> {
        // Pages that were not written yet have their blocks reserved: blocks tell all.
        let size = self.node().size();
        if pos >= size {
            return Err(Errno::ENXIO);
        }
        let bs = u64::from(self.node().volume.geometry.block_size);
        let end = size.div_ceil(bs);
        let mut at = pos / bs;
        while at < end {
            let (extent, n) = self.node().extent_to_write(at, end - at)?;
            if (extent == Extent::Zero) == hole {
                return Ok((at * bs).max(pos));
            }
            at += n;
        }
        if hole { Ok(size) } else { Err(Errno::ENXIO) }
    }
    fn sync(&self, _data_only: bool) -> Result<()> {
        self.core.write_content()?;
        if self.node().is_dirty() {
            self.node().store()?;
        }
        // Pointers, bitmaps and the name's directory: whatever of them is not on disk yet.
        self.fs.volume.sync(Timestamp::now())
    }
}
