//! The page cache of one file: frames by page index, dirty state, write-back.
//!
//! Responsible for what a file's pages hold and when they reach their [`PageSource`]; shared
//! by `read`, `write` and every mapping. Not responsible for blocks, sizes or names.
//!
//! Locks: [`PageCache`]'s state spins (rank `PageCache`) and is never held over a read, a
//! write or a user copy; a page that is being read in belongs to a [`flight`], one that is
//! being written back carries a mark, and others wait for its end. The list of mappings spins on its own. A page table's lock (rank `Space`)
//! may be held when either is taken.
//!
//! A page leaves the cache (truncation, reclaim) in this order: out of the index, then out of
//! every page table. A fault enters it in a page table with that table's lock held, and only
//! if the index still has it then: so none slips through.
//!
//! A page enters the cache before its blocks are looked up, and the file's size is looked at in
//! between. Truncation sets the size, takes pages out, then frees blocks: it either takes the
//! page out, or the reader finds that it lies past the end.

mod advice;
mod fill;
mod flight;
mod index;
mod io;
mod readahead;
pub mod reclaim;
mod window;
pub mod writeback;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::io::{IoDest, IoSource};
use super::mapping::FileMapping;
use crate::error::{Errno, Result};
use crate::mm::{FrameRef, PAGE_SIZE, PhysAddr};
use crate::sched::WaitQueue;
use crate::sync::{Rank, SpinLock};
use flight::Flight;
use index::{Mark, PageIndex};
pub use readahead::{Pattern, Readahead};

/// What the end of a read calls. Does not sleep.
pub type ReadDone = alloc::boxed::Box<dyn FnOnce(Result<()>) + Send>;

/// Where a page cache's pages come from and go to: a filesystem's inode.
/// Called without spin locks; may sleep. Must not take the lock that a `write` to the same
/// inode holds across its user copies (a fault may come in from there).
pub trait PageSource: Send + Sync {
    /// Starts to fill `pages`, which are consecutive from page `index`; holes and what lies
    /// past the end are zeroed. Contiguous blocks go to the device as one request. May sleep
    /// for the way there (block maps, a full queue), not for the content. `done` is told the
    /// outcome once, maybe before this returns, maybe in interrupt context.
    fn start_read(&self, index: u64, pages: &[FrameRef], done: ReadDone);
    /// Writes `pages`, consecutive from page `index`, to their blocks.
    fn write_pages(&self, index: u64, pages: &[FrameRef]) -> Result<()>;
    /// Makes sure blocks exist for bytes `[pos, pos+len)` before they are dirtied
    /// (ENOSPC, EFBIG come from here, not from write-back).
    fn reserve(&self, pos: u64, len: u64) -> Result<()>;
    /// File size in bytes.
    fn size(&self) -> u64;
    /// The file grew to at least `size` bytes through a write.
    fn grow(&self, size: u64);
    /// A program is about to store through a mapping: the content changes now.
    fn stored(&self) {}
}

/// Pages of files in caches, those of tmpfs and shared memory excepted.
static NR_CACHED: AtomicUsize = AtomicUsize::new(0);
/// Pages of caches without a source (tmpfs, shared anonymous memory).
static NR_SHMEM: AtomicUsize = AtomicUsize::new(0);
static NR_DIRTY: AtomicUsize = AtomicUsize::new(0);
static NR_WRITEBACK: AtomicUsize = AtomicUsize::new(0);

/// Pages in page caches, for /proc/meminfo.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheStats {
    /// Pages of files.
    pub cached: usize,
    /// Pages of tmpfs and shared anonymous memory.
    pub shmem: usize,
    /// Pages that await write-back.
    pub dirty: usize,
    /// Pages on their way to a device.
    pub writeback: usize,
}

/// Counts of now.
pub fn stats() -> CacheStats {
    CacheStats {
        cached: NR_CACHED.load(Ordering::Relaxed),
        shmem: NR_SHMEM.load(Ordering::Relaxed),
        dirty: NR_DIRTY.load(Ordering::Relaxed),
        writeback: NR_WRITEBACK.load(Ordering::Relaxed),
    }
}

/// A frame that an index owns one reference of, in eight bytes.
struct CachedFrame(NonZeroU64);

impl CachedFrame {
    fn new(frame: FrameRef) -> Self {
        // Frame addresses are page-aligned; bit 0 keeps frame 0 apart from "none".
        Self(NonZeroU64::MIN | frame.into_raw().0)
    }
    fn addr(&self) -> PhysAddr {
        PhysAddr(self.0.get() & !1)
    }
    /// Another reference.
    fn share(&self) -> FrameRef {
        // SAFETY: `new` gave up one reference; `ManuallyDrop` leaves it with `self`.
        let own = core::mem::ManuallyDrop::new(unsafe { FrameRef::from_raw(self.addr()) });
        FrameRef::clone(&own)
    }
    /// Whether the index holds the only reference.
    fn is_sole(&self) -> bool {
        // SAFETY: as in `share`.
        let own = core::mem::ManuallyDrop::new(unsafe { FrameRef::from_raw(self.addr()) });
        own.ref_count() == 1
    }
}

impl Drop for CachedFrame {
    fn drop(&mut self) {
        // SAFETY: the reference that `new` gave up.
        drop(unsafe { FrameRef::from_raw(self.addr()) });
    }
}

/// Guarded by `PageCache::state`.
#[derive(Default)]
struct State {
    index: PageIndex<CachedFrame>,
    /// Reads that were not settled yet.
    flights: Vec<Arc<Flight>>,
    /// Keeps the source alive while pages are dirty.
    pin: Option<Arc<dyn PageSource>>,
    /// Monotonic ns when the first of the dirty pages became so.
    dirty_since: u64,
    /// Its ticket on the flusher's list.
    listed: Option<u64>,
}

/// A file's cached pages; shared by `read`, `write` and every mapping of the file.
pub struct PageCache {
    me: Weak<PageCache>,
    id: u64,
    source: Option<Weak<dyn PageSource>>,
    /// Size in bytes when there is no source to ask.
    own_size: AtomicU64,
    /// Write-backs that failed, see [`PageCache::note_failure`].
    failures: AtomicU32,
    /// How many of them somebody was told of.
    told: AtomicU32,
    state: SpinLock<State>,
    /// The write-back of a page ended.
    changed: WaitQueue,
    mappings: SpinLock<BTreeMap<u64, Weak<FileMapping>>>,
}

/// How a page is found in a cache whose page-table lock the caller holds.
pub(super) enum Lookup {
    /// It is there.
    Frame(FrameRef),
    /// As `Frame`, and it carried the mark where the next window is to be read.
    Marked(FrameRef),
    /// It must be read in first ([`PageCache::get_for_fault`]).
    Absent,
}

impl PageCache {
    /// An empty cache in front of `source`. With `None` pages are born zero and stay
    /// (tmpfs, shared anonymous memory), and the cache keeps the size: 0 at first,
    /// [`PageCache::truncate`] and writes set it.
    pub fn new(source: Option<Weak<dyn PageSource>>) -> Result<Arc<PageCache>> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let has_source = source.is_some();
        let cache = Arc::new_cyclic(|me| PageCache {
            me: me.clone(),
            id,
            source,
            own_size: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            told: AtomicU32::new(0),
            state: SpinLock::new(Rank::PageCache, State::default()),
            changed: WaitQueue::new(),
            mappings: SpinLock::new(Rank::PageCache, BTreeMap::new()),
        });
        if has_source {
            reclaim::register(id, Arc::downgrade(&cache));
        }
        Ok(cache)
    }

    fn source(&self) -> Option<Arc<dyn PageSource>> {
        self.source.as_ref()?.upgrade()
    }

    /// Whether pages have a place to go to: else they stay in memory.
    pub fn has_source(&self) -> bool {
        self.source.is_some()
    }

    fn total(&self) -> &'static AtomicUsize {
        if self.has_source() {
            &NR_CACHED
        } else {
            &NR_SHMEM
        }
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        match &self.source {
            Some(weak) => weak.upgrade().map_or(0, |s| s.size()),
            None => self.own_size.load(Ordering::Acquire),
        }
    }

    /// Pages that the file's bytes reach into.
    pub(super) fn size_pages(&self) -> u64 {
        self.size().div_ceil(PAGE_SIZE as u64)
    }

    /// Puts a filled frame in; false (and nothing done) when a page is there.
    fn insert_uptodate(&self, index: u64, frame: FrameRef) -> bool {
        let mut state = self.state.lock();
        let page = CachedFrame::new(frame);
        if let Err(unused) = state.index.insert(index, page) {
            drop(state);
            drop(unused);
            return false;
        }
        state.index.set(index, Mark::Uptodate);
        state.index.set(index, Mark::Referenced);
        self.total().fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Calls `visit` for the pages of `[from, to)` that are up to date, with the state's lock
    /// held: for faults, which hold a page-table lock as well.
    pub(super) fn for_each_uptodate(
        &self,
        from: u64,
        to: u64,
        mut visit: impl FnMut(u64, &dyn Fn() -> FrameRef),
    ) {
        let mut state = self.state.lock();
        self.settle(&mut state);
        // Who comes to a mark is to fault, so that the next window is read.
        let (with, without) = (Mark::Uptodate, Mark::Ahead);
        state.index.for_each(from, to, with, without, |i, page| {
            visit(i, &|| page.share());
        });
    }

    /// Whether the page at `index` is up to date (man 2 mincore).
    pub fn is_cached(&self, index: u64) -> bool {
        let mut state = self.state.lock();
        self.settle(&mut state);
        state.index.get_uptodate(index).is_some()
    }

    /// The first page from `index` on that the cache has.
    pub fn next_cached(&self, index: u64) -> Option<u64> {
        let state = self.state.lock();
        state.index.next_page(index).map(|(index, _)| index)
    }

    /// Makes sure that the page at `index` has blocks, before a mapping may write it.
    pub(super) fn reserve_page(&self, index: u64) -> Result<()> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        let pos = index * PAGE_SIZE as u64;
        let len = source.size().saturating_sub(pos).min(PAGE_SIZE as u64);
        if len == 0 {
            return Ok(());
        }
        source.reserve(pos, len)
    }

    /// Tells the file that a program stores into it through a mapping.
    pub(super) fn note_store(&self) {
        if let Some(source) = self.source() {
            source.stored();
        }
    }

    /// Marks the page dirty (after a store through a mapping or a write).
    /// May be called with a page-table lock held.
    pub fn mark_dirty(&self, index: u64) {
        if !self.has_source() {
            return;
        }
        let mut state = self.state.lock();
        self.mark_dirty_locked(&mut state, index);
    }

    fn mark_dirty_locked(&self, state: &mut State, index: u64) {
        if !self.has_source()
            || !state.index.has(index, Mark::Uptodate)
            || !state.index.set(index, Mark::Dirty)
        {
            return;
        }
        NR_DIRTY.fetch_add(1, Ordering::Relaxed);
        if state.pin.is_none() {
            state.pin = self.source();
        }
        if state.listed.is_none() {
            state.dirty_since = crate::time::now_ns();
            state.listed = self.me.upgrade().map(writeback::enlist);
        }
    }

    /// Takes a page out of the index with its counts.
    fn remove_locked(&self, state: &mut State, index: u64) -> Option<CachedFrame> {
        if state.index.has(index, Mark::Dirty) {
            NR_DIRTY.fetch_sub(1, Ordering::Relaxed);
        }
        let page = state.index.remove(index)?;
        self.total().fetch_sub(1, Ordering::Relaxed);
        Some(page)
    }

    /// The pin, when nothing needs it any more. The caller drops it without locks.
    fn unpin_locked(state: &mut State) -> Option<Arc<dyn PageSource>> {
        if state.index.nr_marked(Mark::Dirty) == 0 && state.index.nr_marked(Mark::Writeback) == 0 {
            state.pin.take()
        } else {
            None
        }
    }

    /// Leaves the flusher's list when nothing is dirty any more, so that a file that is gone
    /// does not stay in memory until it would have been written.
    fn leave_list(&self) {
        let mut state = self.state.lock();
        if state.index.nr_marked(Mark::Dirty) > 0 {
            return;
        }
        let listed = state.listed.take().and_then(writeback::delist);
        drop(state);
        drop(listed);
    }

    /// Reads at `pos` up to the source's size (or `size` for a cache without a source).
    /// A short count when something fails after the first byte. `ahead` is the reader's.
    pub fn read_at(
        &self,
        ahead: &Readahead,
        pos: u64,
        size: u64,
        dst: &mut IoDest<'_>,
    ) -> Result<usize> {
        let size = match &self.source {
            Some(_) => self.size(),
            None => size,
        };
        io::read(self, ahead, pos, size, dst)
    }

    /// Writes at `pos`, reserving blocks and growing the file as it goes. A short count when
    /// something fails after the first byte.
    pub fn write_at(&self, pos: u64, src: &mut IoSource<'_>) -> Result<usize> {
        io::write(self, pos, src)
    }

    /// Writes back the dirty pages of `[from, to)` pages and waits for them. EIO, or what the
    /// source answered. What an earlier write-back met is for [`PageCache::failure_since`].
    pub fn write_back(&self, from: u64, to: u64) -> Result<()> {
        let result = writeback::write_range(self, from, to);
        self.changed.wait_until(|| {
            let state = self.state.lock();
            state
                .index
                .next_marked(from, to, Mark::Writeback)
                .is_none()
                .then_some(())
        });
        result
    }

    /// Content was lost: every open description hears of it once (man 2 fsync, NOTES).
    fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::AcqRel);
    }

    /// Where a new description starts to count failures: it hears of those that nobody was told
    /// of yet.
    pub fn failures_told(&self) -> u32 {
        self.told.load(Ordering::Acquire)
    }

    /// EIO when write-back failed since `seen`, which is brought up to date.
    pub fn failure_since(&self, seen: &AtomicU32) -> Result<()> {
        let now = self.failures.load(Ordering::Acquire);
        if seen.swap(now, Ordering::AcqRel) == now {
            return Ok(());
        }
        self.told.fetch_max(now, Ordering::AcqRel);
        Err(Errno::EIO)
    }

    /// Drops everything past `size` bytes, zeroes the rest of the last page, and unmaps the
    /// dropped pages from every address space. The source's size was set to `size` before;
    /// its blocks past `size` are freed after. A cache without a source takes `size` as its
    /// own, be it smaller or larger.
    pub fn truncate(&self, size: u64) {
        if !self.has_source() {
            self.own_size.store(size, Ordering::Release);
        }
        let first = size.div_ceil(PAGE_SIZE as u64);
        self.drop_pages(first, u64::MAX);
        let tail = (size % PAGE_SIZE as u64) as usize;
        if tail != 0 {
            self.zero_tail(first - 1, tail);
        }
    }

    /// Drops the pages `[from, to)`, dirty or not, and unmaps them everywhere (hole punching,
    /// truncation, invalidation).
    pub fn drop_pages(&self, from: u64, to: u64) {
        const BATCH: usize = 64;
        loop {
            let mut dropped: [Option<CachedFrame>; BATCH] = [const { None }; BATCH];
            // A page on its way to its block must arrive before the block is freed.
            let (n, pin) = self.changed.wait_until(|| {
                let mut state = self.state.lock();
                if state.index.next_marked(from, to, Mark::Writeback).is_some() {
                    return None;
                }
                let mut n = 0;
                while n < BATCH
                    && let Some((index, _)) = state.index.next_page(from)
                    && index < to
                {
                    dropped[n] = self.remove_locked(&mut state, index);
                    n += 1;
                }
                Some((n, Self::unpin_locked(&mut state)))
            });
            drop(pin);
            if n < BATCH {
                break;
            }
        }
        self.leave_list();
        self.changed.wake_all();
        self.unmap_pages(from, to, Unmap::All);
    }

    /// Zeroes what programs left in the last page past `size`, the size up to now, through a
    /// mapping: the file is about to grow over it (man 2 mmap). The caller holds the lock
    /// that keeps the size.
    pub fn zero_past(&self, size: u64) {
        let tail = (size % PAGE_SIZE as u64) as usize;
        let index = size / PAGE_SIZE as u64;
        if tail == 0 {
            return;
        }
        let Some(page) = self.get_cached(index) else {
            return;
        };
        // SAFETY: every offset is below PAGE_SIZE; the reference keeps the frame. Programs may
        // change the bytes meanwhile, hence volatile.
        let clean =
            (tail..PAGE_SIZE).all(|at| unsafe { page.as_ptr().add(at).read_volatile() } == 0);
        if !clean {
            self.zero_tail(index, tail);
        }
    }

    /// Zeroes page `index` from byte `tail` on.
    fn zero_tail(&self, index: u64, tail: usize) {
        let page = if self.has_source() {
            // Reading zeroes what lies past the end, which was set before.
            self.get(index).ok()
        } else {
            self.get_cached(index)
        };
        if let Some(page) = page {
            // SAFETY: `tail` is below PAGE_SIZE; the reference keeps the frame, whose bytes
            // programs may change meanwhile.
            unsafe { core::ptr::write_bytes(page.as_ptr().add(tail), 0, PAGE_SIZE - tail) };
            if self.reserve_page(index).is_ok() {
                self.mark_dirty(index);
            }
        }
    }

    /// Pages in the cache.
    pub fn nr_pages(&self) -> usize {
        self.state.lock().index.nr_pages()
    }

    /// Pages that await write-back.
    pub fn nr_dirty(&self) -> usize {
        self.state.lock().index.nr_marked(Mark::Dirty)
    }

    /// Enters a mapping, so that its pages can be found.
    pub(super) fn add_mapping(&self, id: u64, mapping: Weak<FileMapping>) {
        self.mappings.lock().insert(id, mapping);
    }

    pub(super) fn remove_mapping(&self, id: u64) {
        let removed = self.mappings.lock().remove(&id);
        drop(removed);
    }

    /// Whether any space maps the file.
    pub fn is_mapped(&self) -> bool {
        !self.mappings.lock().is_empty()
    }

    /// Takes the pages `[from, to)` out of page tables, or their write permission. Returns
    /// how many entries it changed.
    fn unmap_pages(&self, from: u64, to: u64, how: Unmap) -> usize {
        let mut last = 0;
        let mut changed = 0;
        loop {
            let next = {
                let mappings = self.mappings.lock();
                mappings
                    .range(last + 1..)
                    .next()
                    .map(|(id, weak)| (*id, weak.upgrade()))
            };
            let Some((id, mapping)) = next else {
                return changed;
            };
            last = id;
            if let Some(mapping) = mapping {
                changed += mapping.unmap(from, to, how);
                super::mapping::release(mapping);
            }
        }
    }
}

/// What [`PageCache::unmap_pages`] does to the entries it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmap {
    /// Takes them out.
    All,
    /// Takes them out unless they are locked into memory.
    Unlocked,
    /// Takes write permission away: the next store faults, and marks the page dirty again.
    WriteAccess,
}

impl Drop for PageCache {
    fn drop(&mut self) {
        let id = self.id;
        let has_source = self.has_source();
        let state = self.state.get_mut();
        let total = if has_source { &NR_CACHED } else { &NR_SHMEM };
        total.fetch_sub(state.index.nr_pages(), Ordering::Relaxed);
        NR_DIRTY.fetch_sub(state.index.nr_marked(Mark::Dirty), Ordering::Relaxed);
        if has_source {
            reclaim::unregister(id);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
