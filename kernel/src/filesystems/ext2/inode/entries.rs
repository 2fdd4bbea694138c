//! A directory's entries, block by block ([`dir`] knows a block's records). The caller holds
//! the directory's lock.

use core::sync::atomic::Ordering;

use super::{Extent, Node};
use crate::error::{Errno, Result};
use crate::filesystems::ext2::dir;
use crate::filesystems::ext2::layout::FLAG_INDEX;

impl Node {
    fn nr_blocks(&self) -> u64 {
        self.size() / self.block_size()
    }

    /// The disk block behind the directory's `n`th; `None` where it has none.
    fn dir_block(&self, n: u64) -> Result<Option<u32>> {
        match self.extent(n, 1)?.0 {
            Extent::Block(block) => Ok(Some(block)),
            // A hole in a directory holds no entries.
            Extent::Zero => Ok(None),
        }
    }

    /// Reports records that cannot be.
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

    /// Runs `edit` on the block that holds `name`, with whether entries have type bytes. ENOENT.
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
}
