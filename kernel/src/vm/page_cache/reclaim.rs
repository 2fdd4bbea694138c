//! Frames for program memory and caches, and where they come from when memory is short:
//! clean cached pages that were not used lately first, then mapped ones, then dirty ones and
//! the kernel's caches of objects by way of the flusher, at last the OOM killer's victim.
//!
//! A thread of its own, the reclaimer, frees the same in the background before memory is
//! short, up to the killer: the kernel allocates in places where nothing can be reclaimed
//! (under spin locks, in interrupts), and lives on what the reclaimer keeps free.
//!
//! Frees memory, never data: dirty pages are written before they go, and pages without
//! a source stay.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::index::Mark;
use super::{NR_CACHED, NR_DIRTY, NR_WRITEBACK, PageCache, Unmap, writeback};
use crate::mm::FrameRef;
use crate::mm::frame::{self, OutOfMemory, Purpose};
use crate::sched::RECLAIMER;
use crate::sync::{Rank, SpinLock};
use crate::vm::{oom, shrink};

/// Caches with a source, by id.
static CACHES: SpinLock<BTreeMap<u64, Weak<PageCache>>> =
    SpinLock::new(Rank::PageCacheList, BTreeMap::new());
/// Id of the cache that the clock hand passed last.
static HAND: AtomicU64 = AtomicU64::new(0);

/// Frames that one round tries to free.
const BATCH: usize = 64;
/// Pages taken out of mappings since there was enough memory last, or a victim died.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// So many pages may be taken out of mappings before it counts as thrashing.
const SOME: usize = 16 * BATCH;
/// How often an allocation makes room before it fails. Each round frees something or kills
/// something; a machine on which so many do not suffice has nothing to give.
pub(in crate::vm) const ROUNDS: usize = 20;
/// How long an allocation waits for the flusher in one round.
const FLUSH_WAIT_NS: u64 = 100_000_000;

pub(super) fn register(id: u64, cache: Weak<PageCache>) {
    CACHES.lock().insert(id, cache);
}

pub(super) fn unregister(id: u64) {
    let removed = CACHES.lock().remove(&id);
    drop(removed);
}

/// A frame with undefined content for a program or a cache. Reclaims when memory is short;
/// fails when nothing more can be freed, or the caller is to die. May sleep.
pub fn alloc_frame() -> Result<FrameRef, OutOfMemory> {
    alloc_with(|| FrameRef::alloc(Purpose::User))
}

/// As [`alloc_frame`], full of zeros.
pub fn alloc_zeroed_frame() -> Result<FrameRef, OutOfMemory> {
    alloc_with(|| FrameRef::alloc_zeroed(Purpose::User))
}

#[inline]
fn alloc_with(alloc: impl Fn() -> Result<FrameRef, OutOfMemory>) -> Result<FrameRef, OutOfMemory> {
    alloc().or_else(|_| alloc_slow(&alloc))
}

#[cold]
fn alloc_slow(alloc: &dyn Fn() -> Result<FrameRef, OutOfMemory>) -> Result<FrameRef, OutOfMemory> {
    for _ in 0..ROUNDS {
        make_room()?;
        if let Ok(frame) = alloc() {
            return Ok(frame);
        }
    }
    alloc()
}

/// Frees some memory: clean pages, dirty ones by way of the flusher, or a victim's. Fails when
/// there is nothing to free, or the caller is to die. May sleep.
pub fn make_room() -> Result<(), OutOfMemory> {
    if oom::is_dying() {
        return Err(OutOfMemory);
    }
    // Others gave memory back meanwhile: nobody needs to die for it.
    if cfg!(target_os = "none") && !frame::is_short() {
        return Ok(());
    }
    if is_thrashing(
        TAKEN.load(Ordering::Relaxed),
        NR_CACHED.load(Ordering::Relaxed),
    ) && oom::relieve().is_ok()
    {
        TAKEN.store(0, Ordering::Relaxed);
        return Ok(());
    }
    if free_clean() > 0 {
        frame::resume_reclaim();
        return Ok(());
    }
    if free_by_flusher() {
        return Ok(());
    }
    oom::relieve()
}

/// Whether programs only take pages from each other that they read in again at once: `taken`
/// pages out of mappings, when `cached` are left, are the whole cache twice over. Without an
/// end to one of them nothing else would come to its end.
fn is_thrashing(taken: usize, cached: usize) -> bool {
    taken > 2 * cached + SOME
}

/// Frees a batch of clean pages, how many; names and inodes are to give back the same share as
/// caches did of their pages.
fn free_clean() -> usize {
    let cached = NR_CACHED.load(Ordering::Relaxed);
    let freed = reclaim(BATCH);
    if freed > 0 {
        shrink::want(freed, cached);
        writeback::poke();
    }
    freed
}

/// Lets the flusher clean pages and drop objects, and frees what it cleaned; whether that
/// helped.
fn free_by_flusher() -> bool {
    let unclean = NR_DIRTY.load(Ordering::Relaxed) + NR_WRITEBACK.load(Ordering::Relaxed);
    if unclean > 0 || shrink::has_some() {
        let free = frame::stats().free;
        shrink::want(1, 4);
        wait_for_flusher();
        if reclaim(BATCH) > 0 || frame::stats().free >= free + BATCH {
            return true;
        }
    }
    false
}

/// The reclaimer's body: it sleeps until free frames fall below the low mark or a block of
/// several frames is not to be had, and frees until there are enough again.
fn run_reclaimer() {
    // Frames freed for the sake of one block that may be nowhere.
    let most = (frame::total() / 16).max(BATCH);
    loop {
        RECLAIMER.wait_until(|| frame::wants_reclaim().then_some(()));
        #[cfg(target_os = "none")]
        crate::mm::scattered::bury();
        let mut freed = 0;
        let replenished = loop {
            if frame::is_replenished() {
                TAKEN.store(0, Ordering::Relaxed);
                break true;
            }
            let n = free_clean();
            if n == 0 && !free_by_flusher() {
                break false;
            }
            freed += n;
            if freed >= most && !frame::is_short() {
                break true;
            }
        };
        frame::end_reclaim(replenished);
    }
}

/// Starts the reclaimer. Boot calls it once threads run.
pub fn start() -> crate::error::Result<()> {
    #[cfg(target_os = "none")]
    crate::mm::heap::set_relief(|| reclaim(BATCH) > 0);
    crate::sched::spawn_kernel("reclaimer", run_reclaimer).map(drop)
}

/// As [`make_room`], for who holds locks that a victim may need: kills nobody, and never sleeps.
pub fn make_some_room() -> Result<(), OutOfMemory> {
    if frame::is_short() && reclaim(BATCH) == 0 {
        return Err(OutOfMemory);
    }
    Ok(())
}

/// Fails when only the kernel's reserve is left and no cached page can be freed: asked before
/// a program makes the kernel allocate structures of its own (areas, spaces).
pub fn check_kernel_memory() -> Result<(), OutOfMemory> {
    while frame::is_short() {
        if reclaim(BATCH) == 0 {
            return Err(OutOfMemory);
        }
    }
    Ok(())
}

/// Lets the flusher clean pages and drop what caches of objects can spare. It holds no lock that the caller may hold.
fn wait_for_flusher() {
    let before = super::stats();
    writeback::kick();
    let deadline = crate::time::now_ns() + FLUSH_WAIT_NS;
    // Progress, time out and a signal all mean: look again.
    let _ = writeback::ROUND.wait_interruptible(Some(deadline), || {
        let now = super::stats();
        let cleaned = now.dirty + now.writeback < before.dirty + before.writeback;
        (cleaned || !shrink::is_wanted()).then_some(())
    });
}

/// Frees up to `pages` clean cached pages, least recently used first as far as the clock
/// tells. Returns how many. Takes spin locks only, waits for no device.
pub fn reclaim(pages: usize) -> usize {
    let mut freed = 0;
    for effort in [Effort::Unused, Effort::Any, Effort::Mapped] {
        // One full turn of the hand per effort.
        let mut left = CACHES.lock().len();
        while freed < pages && left > 0 {
            let Some(cache) = next_cache() else {
                return freed;
            };
            let n = shrink(&cache, pages - freed, effort);
            if effort == Effort::Mapped {
                TAKEN.fetch_add(n, Ordering::Relaxed);
            }
            freed += n;
            left -= 1;
        }
        if freed >= pages {
            break;
        }
    }
    freed
}

/// Frees up to `pages` clean cached pages that were not used lately, for pages that are read
/// ahead. Returns how many; pages that were used count as unused from here on. As [`reclaim`].
pub(super) fn reclaim_unused(pages: usize) -> usize {
    let mut freed = 0;
    let mut left = CACHES.lock().len();
    while freed < pages && left > 0 {
        let Some(cache) = next_cache() else {
            break;
        };
        freed += shrink(&cache, pages - freed, Effort::Unused);
        left -= 1;
    }
    freed
}

/// How hard a round tries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Pages not used since the hand last passed; others lose their mark.
    Unused,
    /// Unmapped pages.
    Any,
    /// Mapped pages as well, unless locked.
    Mapped,
}

/// The next live cache under the hand.
fn next_cache() -> Option<Arc<PageCache>> {
    let caches = CACHES.lock();
    let hand = HAND.load(Ordering::Relaxed);
    let live = |(id, weak): (&u64, &Weak<PageCache>)| Some((*id, weak.upgrade()?));
    let (id, cache) = caches
        .range(hand + 1..)
        .find_map(live)
        .or_else(|| caches.iter().find_map(live))?;
    HAND.store(id, Ordering::Relaxed);
    Some(cache)
}

/// Frees up to `want` pages of one cache.
fn shrink(cache: &PageCache, want: usize, effort: Effort) -> usize {
    if effort == Effort::Mapped {
        if !cache.is_mapped() {
            return 0;
        }
        // Takes the entries out; what a program still uses comes back by a minor fault.
        cache.unmap_pages(0, u64::MAX, Unmap::Unlocked);
    }
    take_clean(cache, 0..u64::MAX, want, effort)
}

/// Frees up to `want` clean pages of a range that nobody else holds.
pub(super) fn take_clean(
    cache: &PageCache,
    range: Range<u64>,
    want: usize,
    effort: Effort,
) -> usize {
    let mut freed = 0;
    let mut at = range.start;
    while freed < want {
        // The lock is dropped between chunks, so that readers get in.
        let mut batch: [Option<super::CachedFrame>; 16] = [const { None }; 16];
        let mut n = 0;
        {
            let mut state = cache.state.lock();
            cache.settle(&mut state);
            let mut looked = 0;
            while n < batch.len().min(want - freed) && looked < 64 {
                let Some((index, page)) =
                    state.index.next_page(at).filter(|p| range.contains(&p.0))
                else {
                    at = u64::MAX;
                    break;
                };
                let sole = page.is_sole();
                at = index + 1;
                looked += 1;
                // With the lock held and the only reference in the index, nobody has the
                // page nor can get it.
                let is_clean = sole
                    && state.index.has(index, Mark::Uptodate)
                    && !state.index.has(index, Mark::Dirty)
                    && !state.index.has(index, Mark::Writeback);
                if !is_clean
                    || (effort == Effort::Unused && state.index.clear(index, Mark::Referenced))
                {
                    continue;
                }
                batch[n] = cache.remove_locked(&mut state, index);
                n += 1;
            }
        }
        drop(batch);
        freed += n;
        if at == u64::MAX {
            break;
        }
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thrashing_is_taking_the_whole_cache_twice() {
        // One pass over what idle programs had mapped is none.
        assert!(!is_thrashing(5000, 5000));
        assert!(!is_thrashing(500, 0));
        assert!(is_thrashing(2 * 5000 + SOME + 1, 5000));
        assert!(is_thrashing(SOME + 1, 0));
    }
}
