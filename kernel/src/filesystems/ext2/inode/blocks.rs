//! A file's blocks and its length: finding, reserving, growing, cutting, giving back.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::Node;
use crate::error::{Errno, Result};
use crate::filesystems::ext2::layout::{get32, put32};
use crate::filesystems::ext2::map::Map;
use crate::vfs::Timestamp;

/// What is behind a stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// No block, or one without content: zeros.
    Zero,
    /// This disk block and those after it.
    Block(u32),
}

impl Node {
    /// Runs `work` on the block map, keeps what it changed, and frees what it gave up. `map` is
    /// held for writing.
    fn with_map<R>(&self, work: impl FnOnce(&mut Map<'_>) -> Result<R>) -> Result<R> {
        let (result, freed) = self.with_map_keeping(work);
        // Without its inode on the way to the disk a block must not become another's.
        let result = result?;
        self.release_all(freed)?;
        Ok(result)
    }

    fn release_all(&self, freed: Vec<(u32, u32)>) -> Result<()> {
        for (first, count) in freed {
            self.volume.release(first, count)?;
        }
        Ok(())
    }

    /// As [`Node::with_map`]; the blocks that were given up are the caller's to release.
    fn with_map_keeping<R>(
        &self,
        work: impl FnOnce(&mut Map<'_>) -> Result<R>,
    ) -> (Result<R>, Vec<(u32, u32)>) {
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
            return (result.and_then(|r| stored.map(|()| r)), map.freed);
        }
        (result, map.freed)
    }

    /// What is behind file block `block`, and for how many blocks (at most `want`).
    pub fn extent(&self, block: u64, want: u64) -> Result<(Extent, u64)> {
        let _map = self.map.read();
        self.extent_locked(block, want)
    }

    /// [`Node::extent`], by who holds `map`.
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

    /// A metadata block (of a directory or link) as file block `at`.
    pub(super) fn append_block(&self, at: u64) -> Result<u32> {
        let _map = self.map.write();
        self.with_map(|map| {
            let goal = self.goal(map, at)?;
            map.fill(at, 1, goal).map(|(block, _, _)| block)
        })
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

    /// Frees the blocks `[from, to)` of the file. `trim` runs in between, when they are holes
    /// already and nothing else has them yet: it drops their pages.
    pub fn punch(&self, from: u64, to: u64, trim: impl FnOnce()) -> Result<()> {
        let freed = {
            let _map = self.map.write();
            self.fresh.lock().remove(from, to);
            let (done, freed) = self.with_map_keeping(|map| map.punch(from, to));
            done.map(|()| freed)
        };
        trim();
        self.release_all(freed?)
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
}
