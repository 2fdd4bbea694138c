//! The page cache of one file: frames by page index, dirty state, write-back.
//! (Skeleton: the vm owner fills it in.)

use alloc::sync::{Arc, Weak};

use super::io::{IoDest, IoSource};
use crate::error::Result;
use crate::mm::FrameRef;

/// Where a page cache's pages come from and go to: a filesystem's inode.
/// Called without spin locks; may sleep. Must not take the lock that a `write` to the same
/// inode holds across its user copies (a fault may come in from there).
pub trait PageSource: Send + Sync {
    /// Fills `pages`, which are consecutive from page `index`; holes and what lies past the
    /// end are zeroed. Contiguous blocks go to the device as one request.
    fn read_pages(&self, index: u64, pages: &[FrameRef]) -> Result<()>;
    /// Writes `pages`, consecutive from page `index`, to their blocks.
    fn write_pages(&self, index: u64, pages: &[FrameRef]) -> Result<()>;
    /// Makes sure blocks exist for bytes `[pos, pos+len)` before they are dirtied
    /// (ENOSPC, EFBIG come from here, not from write-back).
    fn reserve(&self, pos: u64, len: u64) -> Result<()>;
    /// File size in bytes.
    fn size(&self) -> u64;
    /// The file grew to at least `size` bytes through a write.
    fn grow(&self, size: u64);
}

/// A file's cached pages; shared by `read`, `write` and every mapping of the file.
pub struct PageCache {
    _private: (),
}

impl PageCache {
    /// An empty cache in front of `source`. With `None` pages are born zero and stay
    /// (tmpfs, shared anonymous memory).
    pub fn new(_source: Option<Weak<dyn PageSource>>) -> Result<Arc<PageCache>> {
        todo!()
    }
    /// The page at `index`, read in (with readahead) if need be.
    pub fn get(&self, _index: u64) -> Result<FrameRef> {
        todo!()
    }
    /// Marks the page dirty (after a store through a mapping or a write).
    pub fn mark_dirty(&self, _index: u64) {
        todo!()
    }
    /// Reads at `pos` up to the source's size (or `size` for a cache without a source).
    pub fn read_at(&self, _pos: u64, _size: u64, _dst: &mut IoDest<'_>) -> Result<usize> {
        todo!()
    }
    /// Writes at `pos`, reserving blocks and growing the file as it goes. A short count when
    /// something fails after the first byte.
    pub fn write_at(&self, _pos: u64, _src: &mut IoSource<'_>) -> Result<usize> {
        todo!()
    }
    /// Writes back the dirty pages of `[from, to)` pages and waits for them.
    pub fn write_back(&self, _from: u64, _to: u64) -> Result<()> {
        todo!()
    }
    /// Drops everything past `size` bytes, zeroes the rest of the last page, and unmaps the
    /// dropped pages from every address space.
    pub fn truncate(&self, _size: u64) {
        todo!()
    }
    /// Pages in the cache.
    pub fn nr_pages(&self) -> usize {
        todo!()
    }
}
