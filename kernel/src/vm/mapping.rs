//! One mapping of a file's pages into one address space: the link both ways.
//!
//! An area of the space owns its mapping; the page cache lists it, and so finds the page
//! tables that may hold its pages. Splitting an area shares the mapping: it says where pages
//! may be, the page table says where they are. An entry that the cache takes out in vain
//! comes back by a minor fault.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::page_cache::{PageCache, Readahead, Unmap, writeback};
use super::space::{AddressSpace, MappedFile};
use super::vma::AreaBacking;
use crate::mm::PAGE_SIZE;
use crate::sync::{Rank, SpinLock};

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages of a file at consecutive pages of a space.
pub struct FileMapping {
    /// The file's pages.
    pub cache: Arc<PageCache>,
    /// The file; `None` for shared anonymous memory.
    pub name: Option<Arc<dyn MappedFile>>,
    /// How programs go through it.
    pub(super) ahead: Readahead,
    space: Weak<AddressSpace>,
    id: u64,
    /// Address of the first page the mapping was made for.
    start: u64,
    /// Address after the last.
    end: u64,
    /// Page index in the file of the page at `start`.
    first: u64,
}

impl FileMapping {
    /// A mapping of `[start, end)` of `space` to the pages from `first` on, on the cache's list.
    pub(super) fn new(
        space: Weak<AddressSpace>,
        start: u64,
        end: u64,
        cache: Arc<PageCache>,
        first: u64,
        name: Option<Arc<dyn MappedFile>>,
    ) -> Arc<FileMapping> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mapping = Arc::new(FileMapping {
            cache,
            name,
            ahead: Readahead::new(),
            space,
            id,
            start,
            end,
            first,
        });
        mapping.cache.add_mapping(id, Arc::downgrade(&mapping));
        mapping
    }

    /// The file page behind `addr`.
    pub fn page_of(&self, addr: u64) -> u64 {
        // Areas of this mapping lie within it, so `addr` is not below `start`.
        (addr.wrapping_sub(self.start) / PAGE).wrapping_add(self.first)
    }

    /// The address behind file page `index`, which lies within the mapping.
    pub fn addr_of(&self, index: u64) -> u64 {
        self.start + (index - self.first) * PAGE
    }

    /// Takes the entries of file pages `[from, to)` out of the space's page tables, or their
    /// write permission. Returns how many it changed.
    pub(super) fn unmap(&self, from: u64, to: u64, how: Unmap) -> usize {
        let last = self.first + (self.end - self.start) / PAGE;
        let from = from.max(self.first);
        let to = to.min(last);
        if from >= to {
            return 0;
        }
        let Some(space) = self.space.upgrade() else {
            return 0;
        };
        let changed = space.unmap_cached(self.addr_of(from), self.addr_of(to), how);
        bury(Dead::Space(space));
        changed
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        self.cache.remove_mapping(self.id);
    }
}

impl AreaBacking for Option<Arc<FileMapping>> {
    fn continues_into(&self, next: &Self) -> bool {
        match (self, next) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// What may turn out to be the last reference, held by one who must not tear down: the page
/// cache may be called with a filesystem's locks held, and the teardown of a space or
/// a mapping may end in that filesystem.
enum Dead {
    Space(Arc<AddressSpace>),
    Mapping(Arc<FileMapping>),
}

static DEAD: SpinLock<Vec<Dead>> = SpinLock::new(Rank::PageCacheList, Vec::new());

fn bury(what: Dead) {
    let is_last = match &what {
        Dead::Space(space) => Arc::strong_count(space) == 1,
        Dead::Mapping(mapping) => Arc::strong_count(mapping) == 1,
    };
    if is_last {
        DEAD.lock().push(what);
        writeback::poke();
    }
}

/// Gives up a mapping that the cache looked at.
pub(super) fn release(mapping: Arc<FileMapping>) {
    bury(Dead::Mapping(mapping));
}

/// Whether [`bury_dead`] has something to do.
pub(super) fn has_dead() -> bool {
    !DEAD.lock().is_empty()
}

/// Drops what was buried; the flusher calls it, without locks.
pub(super) fn bury_dead() {
    let dead = core::mem::take(&mut *DEAD.lock());
    drop(dead);
}
