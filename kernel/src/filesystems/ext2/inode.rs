//! An inode in memory: fields, block map, length, directory entries. No VFS types but times.
//!
//! Locks, in order: `map` (changes of the pointers; the fault path takes it) > the volume's
//! own. The fields themselves are guarded by a spin lock that is held only to copy.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::dir;
use super::layout::{DiskInode, FLAG_EXTENTS, FLAG_INDEX, LINK_MAX, get32, put32};
use super::map::Map;
use super::volume::Volume;
use crate::error::{Errno, Result};
use crate::sched::{Mutex, RwLock};
use crate::sync::{Rank, SpinLock};
use crate::vfs::Timestamp;

/// Stretches of file blocks that have a disk block which nothing was written to yet: they
/// read as zeros. Start to end (exclusive).
#[derive(Default)]
pub struct Fresh(BTreeMap<u64, u64>);

impl Fresh {
    /// Adds a stretch that does not overlap the others.
    pub fn add(&mut self, start: u64, len: u64) {
        let mut start = start;
        let end = start + len;
        if let Some((&s, e)) = self.0.range_mut(..start).next_back()
            && *e == start
        {
            *e = end;
            start = s;
        } else {
            self.0.insert(start, end);
        }
        if let Some(after) = self.0.remove(&end) {
            self.0.insert(start, after);
        }
    }
    /// Takes `[start, end)` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        let hit: Vec<(u64, u64)> = self
            .0
            .range(..end)
            .rev()
            .map(|(&s, &e)| (s, e))
            .take_while(|&(_, e)| e > start)
            .collect();
        for (s, e) in hit {
            self.0.remove(&s);
            if s < start {
                self.0.insert(s, start);
            }
            if e > end {
                self.0.insert(end, e);
            }
        }
    }
    /// Whether `block` is in, and for how many blocks from it on that holds (at most `want`).
    pub fn find(&self, block: u64, want: u64) -> (bool, u64) {
        if let Some((_, &end)) = self.0.range(..=block).next_back()
            && end > block
        {
            return (true, (end - block).min(want));
        }
        let next = self.0.range(block..).next().map_or(u64::MAX, |(&s, _)| s);
        (false, (next - block).min(want))
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is behind a stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// No block, or one without content: zeros.
    Zero,
    /// This disk block and those after it.
    Block(u32),
}

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

    fn with_map<R>(&self, work: impl FnOnce(&mut Map<'_>) -> Result<R>) -> Result<R> {
        let (slots, units) = {
            let fields = self.fields.lock();
            (fields.block, fields.units)
        };
        let mut map = Map::new(&self.volume, slots, units);
        let result = work(&mut map);
        if map.slots != slots || map.units != units {
            self.change(|f| {
                f.block = map.slots;
                f.units = map.units;
            });
            // Pointers go to the table at once: what they point to must not look free.
            let stored = self.store();
            return result.and_then(|r| stored.map(|()| r));
        }
        result
    }

    /// What is behind file block `block`, and for how many blocks (at most `want`).
    pub fn extent(&self, block: u64, want: u64) -> Result<(Extent, u64)> {
        let _map = self.map.read();
        self.extent_locked(block, want)
    }

    fn extent_locked(&self, block: u64, want: u64) -> Result<(Extent, u64)> {
        let fields = self.fields();
        if !fields.has_map(self.volume.geometry.block_size) {
            return Ok((Extent::Zero, want));
        }
        let map = Map::new(&self.volume, fields.block, fields.units);
        let (first, len) = map.find(block, want)?;
        if first == 0 {
            return Ok((Extent::Zero, len));
        }
        let (fresh, len) = self.fresh.lock().find(block, len);
        Ok((
            if fresh {
                Extent::Zero
            } else {
                Extent::Block(first)
            },
            len,
        ))
    }

    /// As [`Node::extent`] for writing content: fresh blocks count as written from here on.
    pub fn extent_to_write(&self, block: u64, want: u64) -> Result<(Extent, u64)> {
        let _map = self.map.read();
        let fields = self.fields();
        let map = Map::new(&self.volume, fields.block, fields.units);
        let (first, len) = map.find(block, want)?;
        if first == 0 {
            return Ok((Extent::Zero, len));
        }
        Ok((Extent::Block(first), len))
    }
    /// The content of these blocks reached the disk.
    pub fn wrote(&self, block: u64, len: u64) {
        let mut fresh = self.fresh.lock();
        if !fresh.is_empty() {
            fresh.remove(block, block + len);
        }
    }

    /// Makes blocks for bytes `[pos, pos + len)`. ENOSPC, EFBIG.
    pub fn reserve(&self, pos: u64, len: u64) -> Result<()> {
        let end = pos.checked_add(len).ok_or(Errno::EFBIG)?;
        if end > self.volume.geometry.max_size() {
            return Err(Errno::EFBIG);
        }
        let bs = self.block_size();
        let (mut at, end) = (pos / bs, end.div_ceil(bs));
        // Most writes go to blocks that are there.
        {
            let _map = self.map.read();
            let fields = self.fields();
            let map = Map::new(&self.volume, fields.block, fields.units);
            while at < end {
                let (first, n) = map.find(at, end - at)?;
                if first == 0 {
                    break;
                }
                at += n;
            }
        }
        if at >= end {
            return Ok(());
        }
        let _map = self.map.write();
        self.with_map(|map| {
            let mut goal = self.goal(map, at)?;
            while at < end {
                let (first, n, new) = map.fill(at, end - at, goal)?;
                if new {
                    self.fresh.lock().add(at, n);
                }
                at += n;
                goal = first.saturating_add(n as u32);
            }
            Ok(())
        })
    }

    /// Where the block before `at` ends on disk, or the group's start.
    fn goal(&self, map: &Map<'_>, at: u64) -> Result<u32> {
        if at > 0 {
            let (before, _) = map.find(at - 1, 1)?;
            if before != 0 {
                return Ok(before.saturating_add(1));
            }
        }
        Ok(self.volume.home_block(self.ino))
    }

    /// The file grew to at least `size` bytes.
    pub fn grow(&self, size: u64) -> Result<()> {
        let before = self.size.fetch_max(size, Ordering::AcqRel);
        if before >= size {
            return Ok(());
        }
        self.change(|f| f.size = f.size.max(size));
        if size > i32::MAX as u64 && before <= i32::MAX as u64 {
            self.volume.note_large_file()?;
        }
        Ok(())
    }

    /// Sets the length and frees blocks past it. `trim` runs in between, when the new length
    /// shows but the blocks are still there: it drops the pages past it and zeroes the rest of
    /// the last one.
    pub fn set_size(&self, size: u64, trim: impl FnOnce()) -> Result<()> {
        if size > self.volume.geometry.max_size() {
            return Err(Errno::EFBIG);
        }
        let before = self.size.swap(size, Ordering::AcqRel);
        self.change(|f| f.size = size);
        if size > i32::MAX as u64 {
            self.volume.note_large_file()?;
        }
        if size >= before {
            return self.store();
        }
        trim();
        let keep = size.div_ceil(self.block_size());
        let _map = self.map.write();
        self.fresh.lock().remove(keep, u64::MAX);
        if self.fields().has_map(self.volume.geometry.block_size) {
            self.with_map(|map| map.cut(keep))?;
        }
        self.store()
    }

    /// Frees everything: the last name and the last user are gone.
    pub fn delete(&self, now: Timestamp) -> Result<()> {
        let is_dir = self.is_dir();
        let fields = self.fields();
        let mut result = Ok(());
        {
            let _map = self.map.write();
            if fields.has_map(self.volume.geometry.block_size) {
                result = self.with_map(|map| map.cut(0));
            }
        }
        if fields.file_acl != 0 {
            result = result.and(self.release_attributes(fields.file_acl));
        }
        self.change(|f| {
            f.dtime = now.sec as u32;
            f.links = 0;
            f.size = 0;
            f.file_acl = 0;
        });
        result = result.and(self.store());
        // A damaged map keeps its inode, so that nothing it still names is given away.
        result?;
        self.volume.release_inode(self.ino, is_dir)
    }

    /// One user less of an extended attribute block; the last one frees it.
    fn release_attributes(&self, block: u32) -> Result<()> {
        const ATTRIBUTES_MAGIC: u32 = 0xEA02_0000;
        if !self.volume.geometry.is_block(block) {
            return Err(self
                .volume
                .damage("an attribute block lies outside the disk"));
        }
        let last = self.volume.buffers.with_mut(block, |raw| {
            let count = get32(raw, 4);
            if get32(raw, 0) != ATTRIBUTES_MAGIC || count == 0 {
                return None;
            }
            put32(raw, 4, count - 1);
            Some(count == 1)
        })?;
        match last {
            None => Err(self.volume.damage("an attribute block is none")),
            Some(true) => self.volume.release(block, 1),
            Some(false) => Ok(()),
        }
    }

    /// A symbolic link's text.
    pub fn link_text(&self) -> Result<Vec<u8>> {
        let fields = self.fields();
        let len = fields.size as usize;
        if fields.is_fast_symlink(self.volume.geometry.block_size) {
            let mut text: Vec<u8> = fields.block.iter().flat_map(|b| b.to_le_bytes()).collect();
            text.truncate(len);
            return Ok(text);
        }
        match self.extent(0, 1)?.0 {
            Extent::Block(block) => self
                .volume
                .buffers
                .with(block, |raw| raw.get(..len).map(<[u8]>::to_vec))?
                .ok_or(Errno::EUCLEAN),
            Extent::Zero => Err(self.volume.damage("a symbolic link has no text")),
        }
    }

    /// Sets a new symbolic link's text. ENAMETOOLONG.
    pub fn set_link_text(&self, text: &[u8]) -> Result<()> {
        if text.len() as u64 >= self.block_size() {
            return Err(Errno::ENAMETOOLONG);
        }
        self.size.store(text.len() as u64, Ordering::Release);
        if text.len() < 60 {
            let mut raw = [0u8; 60];
            raw[..text.len()].copy_from_slice(text);
            self.change(|f| {
                f.size = text.len() as u64;
                for (i, b) in f.block.iter_mut().enumerate() {
                    *b = get32(&raw, i * 4);
                }
            });
            return Ok(());
        }
        self.change(|f| f.size = text.len() as u64);
        let block = self.append_block(0)?;
        self.volume.buffers.start(block, |raw| {
            if let Some(to) = raw.get_mut(..text.len()) {
                to.copy_from_slice(text);
            }
        })
    }

    /// A metadata block (of a directory or link) as file block `at`.
    fn append_block(&self, at: u64) -> Result<u32> {
        let _map = self.map.write();
        self.with_map(|map| {
            let goal = self.goal(map, at)?;
            map.fill(at, 1, goal).map(|(block, _, _)| block)
        })
    }

    // ---- directories; the caller holds the directory's lock ----

    fn nr_blocks(&self) -> u64 {
        self.size() / self.block_size()
    }

    fn dir_block(&self, n: u64) -> Result<Option<u32>> {
        match self.extent(n, 1)?.0 {
            Extent::Block(block) => Ok(Some(block)),
            // A hole in a directory holds no entries.
            Extent::Zero => Ok(None),
        }
    }

    fn sound<R>(&self, result: Result<R>) -> Result<R> {
        result.map_err(|e| match e {
            Errno::EUCLEAN => self.volume.damage("a directory's records cannot be"),
            e => e,
        })
    }

    /// The inode number under `name`.
    pub fn find_entry(&self, name: &[u8]) -> Result<Option<u32>> {
        let ft = self.filetype();
        for n in 0..self.nr_blocks() {
            let Some(block) = self.dir_block(n)? else {
                continue;
            };
            let found = self.volume.buffers.with(block, |raw| {
                dir::find(raw, name, ft).map(|e| e.map(|e| e.ino))
            })?;
            if let Some(ino) = self.sound(found)? {
                return Ok(Some(ino));
            }
        }
        Ok(None)
    }

    /// Adds an entry; the name is free.
    pub fn add_entry(&self, name: &[u8], ino: u32, kind: u8) -> Result<()> {
        let ft = self.filetype();
        self.drop_index();
        for n in 0..self.nr_blocks() {
            let Some(block) = self.dir_block(n)? else {
                continue;
            };
            let done = self
                .volume
                .buffers
                .with_mut(block, |raw| dir::insert(raw, name, ino, kind, ft))?;
            if self.sound(done)? {
                return Ok(());
            }
        }
        let n = self.nr_blocks();
        let size = (n + 1) * self.block_size();
        if size > u64::from(u32::MAX) {
            return Err(Errno::ENOSPC);
        }
        let block = self.append_block(n)?;
        let mut done = Ok(false);
        self.volume.buffers.start(block, |raw| {
            dir::clear(raw);
            done = dir::insert(raw, name, ino, kind, ft);
        })?;
        self.size.store(size, Ordering::Release);
        self.change(|f| f.size = size);
        self.store()?;
        match done {
            Ok(true) => Ok(()),
            _ => Err(Errno::EIO),
        }
    }

    /// Removes the entry. ENOENT.
    pub fn remove_entry(&self, name: &[u8]) -> Result<()> {
        self.edit(name, |raw, ft| dir::remove(raw, name, ft))
    }

    /// Lets the entry name another inode. ENOENT.
    pub fn replace_entry(&self, name: &[u8], ino: u32, kind: u8) -> Result<()> {
        self.edit(name, |raw, ft| dir::replace(raw, name, ino, kind, ft))
    }

    fn edit(&self, name: &[u8], edit: impl Fn(&mut [u8], bool) -> Result<bool>) -> Result<()> {
        let ft = self.filetype();
        self.drop_index();
        for n in 0..self.nr_blocks() {
            let Some(block) = self.dir_block(n)? else {
                continue;
            };
            let here = self
                .volume
                .buffers
                .with(block, |raw| dir::find(raw, name, ft).map(|e| e.is_some()))?;
            if !self.sound(here)? {
                continue;
            }
            let done = self.volume.buffers.with_mut(block, |raw| edit(raw, ft))?;
            if self.sound(done)? {
                return Ok(());
            }
        }
        Err(Errno::ENOENT)
    }

    /// A hash index does not survive linear changes.
    fn drop_index(&self) {
        if self.fields().flags & FLAG_INDEX != 0 {
            self.change(|f| f.flags &= !FLAG_INDEX);
        }
    }

    /// Gives a new directory its first block.
    pub fn start_dir(&self, parent: u32) -> Result<()> {
        let block = self.append_block(0)?;
        let (me, ft) = (self.ino, self.filetype());
        self.volume
            .buffers
            .start(block, |raw| dir::start(raw, me, parent, ft))?;
        let size = self.block_size();
        self.size.store(size, Ordering::Release);
        self.change(|f| f.size = size);
        Ok(())
    }

    /// Whether it holds nothing but `.` and `..`.
    pub fn is_empty_dir(&self) -> Result<bool> {
        let ft = self.filetype();
        for n in 0..self.nr_blocks() {
            let Some(block) = self.dir_block(n)? else {
                continue;
            };
            let empty = self.volume.buffers.with(block, |raw| {
                for entry in dir::entries(raw, ft) {
                    let entry = entry?;
                    if entry.ino != 0 && entry.name != b"." && entry.name != b".." {
                        return Ok(false);
                    }
                }
                Ok(true)
            })?;
            if !self.sound(empty)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Calls `take` for each entry from byte position `pos` on with (inode, type byte, name,
    /// position after it) until it returns false; returns the position to go on at.
    pub fn list(&self, pos: u64, mut take: impl FnMut(u32, u8, &[u8], u64) -> bool) -> Result<u64> {
        let bs = self.block_size();
        let ft = self.filetype();
        let mut next = pos;
        while next < self.size() {
            let n = next / bs;
            let Some(block) = self.dir_block(n)? else {
                next = (n + 1) * bs;
                continue;
            };
            // A copy, so that no buffer is locked while the entries go out.
            let raw = self.volume.buffers.with(block, <[u8]>::to_vec)?;
            for entry in dir::entries(&raw, ft) {
                let entry = self.sound(entry)?;
                let at = n * bs + entry.at as u64;
                // From the block's start on: the record at `pos` may have been joined to
                // the one before it.
                if at < next || entry.ino == 0 {
                    continue;
                }
                let after = at + entry.len as u64;
                if !take(entry.ino, entry.kind, entry.name, after) {
                    return Ok(at);
                }
                next = after;
            }
            next = (n + 1) * bs;
        }
        Ok(next)
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

/// A device number as an inode keeps it: old form in the first pointer, new form in the second.
pub fn device_in(block: &[u32]) -> (u32, u32) {
    let (old, new) = (
        block.first().copied().unwrap_or(0),
        block.get(1).copied().unwrap_or(0),
    );
    if old != 0 {
        return (old >> 8 & 0xff, old & 0xff);
    }
    ((new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xf_ff00))
}

/// See [`device_in`].
pub fn device_out(major: u32, minor: u32) -> (u32, u32) {
    if major < 256 && minor < 256 {
        (major << 8 | minor, 0)
    } else {
        (0, (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_stretches_join_and_split() {
        let mut fresh = Fresh::default();
        fresh.add(10, 5);
        fresh.add(20, 5);
        fresh.add(15, 5);
        assert_eq!(fresh.find(10, 100), (true, 15));
        assert_eq!(fresh.find(3, 100), (false, 7));
        fresh.remove(12, 14);
        assert_eq!(fresh.find(10, 100), (true, 2));
        assert_eq!(fresh.find(12, 100), (false, 2));
        assert_eq!(fresh.find(14, 3), (true, 3));
        fresh.remove(0, u64::MAX);
        assert!(fresh.is_empty());
    }

    #[test]
    fn device_numbers_survive() {
        for dev in [(1, 3), (254, 17), (8, 300), (300, 1)] {
            let (a, b) = device_out(dev.0, dev.1);
            assert_eq!(device_in(&[a, b]), dev);
        }
    }
}
