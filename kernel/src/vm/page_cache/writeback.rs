//! Dirty pages on their way to their source: on `fsync`, by age, on pressure, at shutdown.
//!
//! The flusher is a kernel thread that sleeps until a page is dirty, then until the oldest
//! is due: an idle system wakes it never.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use super::index::Mark;
use super::{NR_DIRTY, NR_WRITEBACK, PageCache, Unmap};
use crate::error::Result;
use crate::mm::FrameRef;
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::time::NS_PER_SEC;
use crate::vm::shrink;

/// How long a page may stay dirty.
const DIRTY_AGE_NS: u64 = 5 * NS_PER_SEC;
/// Most pages of one write (256 KiB).
const MAX_RUN: usize = 64;

/// Caches with dirty pages by the ticket they drew when the first became so.
static DIRTY: SpinLock<List> = SpinLock::new(
    Rank::PageCacheList,
    List {
        caches: BTreeMap::new(),
        last: 0,
    },
);

struct List {
    caches: BTreeMap<u64, Arc<PageCache>>,
    /// The last ticket.
    last: u64,
}

/// Something for the flusher to look at.
static WORK: WaitQueue = WaitQueue::new();
/// Write back everything now.
static URGENT: AtomicBool = AtomicBool::new(false);
/// Held while a cache from the list is written back: `sync_all` waits for the flusher's.
static FLUSHING: Mutex<()> = Mutex::new(());
/// The flusher finished a round.
pub(super) static ROUND: WaitQueue = WaitQueue::new();

/// Puts a cache on the flusher's list; returns its ticket. Called with the cache's lock held.
pub(super) fn enlist(cache: Arc<PageCache>) -> u64 {
    let mut list = DIRTY.lock();
    let was_empty = list.caches.is_empty();
    list.last += 1;
    let ticket = list.last;
    list.caches.insert(ticket, cache);
    drop(list);
    if was_empty {
        WORK.wake_all();
    }
    ticket
}

/// Takes a cache off the list again, unless the flusher is at it: nothing of it is dirty any
/// more. May be called with the cache's lock held; what is returned is dropped without.
pub(super) fn delist(ticket: u64) -> Option<Arc<PageCache>> {
    DIRTY.lock().caches.remove(&ticket)
}

/// Asks the flusher to write back everything now. Does not wait.
pub fn kick() {
    URGENT.store(true, Ordering::Release);
    WORK.wake_all();
}

/// Writes the dirty pages of `[from, to)`; those that became dirty before the call have
/// reached the source on return, or are on their way there by another thread.
pub(super) fn write_range(cache: &PageCache, from: u64, to: u64) -> Result<()> {
    let Some(source) = cache.source() else {
        return Ok(());
    };
    let mut result = Ok(());
    let mut at = from;
    loop {
        let mut run: [Option<FrameRef>; MAX_RUN] = [const { None }; MAX_RUN];
        let Some((start, n)) = take_run(cache, at, to, &mut run) else {
            break;
        };
        at = start + n as u64;
        cache.unmap_pages(start, at, Unmap::WriteAccess);
        // `take_run` filled the first `n`.
        let frames: alloc::vec::Vec<FrameRef> = run.into_iter().flatten().collect();
        let written = source.write_pages(start, &frames);
        drop(frames);
        let pin = {
            let mut state = cache.state.lock();
            for i in start..at {
                if state.index.clear(i, Mark::Writeback) {
                    NR_WRITEBACK.fetch_sub(1, Ordering::Relaxed);
                }
            }
            PageCache::unpin_locked(&mut state)
        };
        cache.changed.wake_all();
        drop(pin);
        if let Err(e) = written {
            cache.note_failure();
            result = result.and(Err(e));
        }
    }
    result
}

/// Moves the next consecutive dirty pages of `[from, to)` to write-back and collects them.
fn take_run(
    cache: &PageCache,
    from: u64,
    to: u64,
    run: &mut [Option<FrameRef>; MAX_RUN],
) -> Option<(u64, usize)> {
    let mut state = cache.state.lock();
    let mut from = from;
    // A page that is dirty again while it is being written waits for its turn: whoever
    // writes it back now does not write the new content.
    let start = loop {
        let index = state.index.next_marked(from, to, Mark::Dirty)?;
        if !state.index.has(index, Mark::Writeback) {
            break index;
        }
        drop(state);
        cache
            .changed
            .wait_until(|| (!cache.state.lock().index.has(index, Mark::Writeback)).then_some(()));
        state = cache.state.lock();
        from = index;
    };
    let mut n = 0;
    while n < MAX_RUN {
        let index = start + n as u64;
        if index >= to
            || !state.index.has(index, Mark::Dirty)
            || state.index.has(index, Mark::Writeback)
        {
            break;
        }
        let Some(frame) = state.index.get(index).map(super::CachedFrame::share) else {
            break;
        };
        state.index.clear(index, Mark::Dirty);
        state.index.set(index, Mark::Writeback);
        run[n] = Some(frame);
        n += 1;
    }
    NR_DIRTY.fetch_sub(n, Ordering::Relaxed);
    NR_WRITEBACK.fetch_add(n, Ordering::Relaxed);
    Some((start, n))
}

/// A writer that fills memory with dirty pages faster than devices take them writes back its
/// own file before it goes on.
pub(super) fn throttle(cache: &PageCache) {
    let limit = crate::mm::frame::total() / 5;
    if cache.has_source() && NR_DIRTY.load(Ordering::Relaxed) > limit {
        kick();
        // An error stays with the file: fsync reports it.
        let _ = write_range(cache, 0, u64::MAX);
    }
}

/// Writes back one cache from the flusher's list.
fn flush(ticket: u64, cache: &Arc<PageCache>) {
    {
        let mut state = cache.state.lock();
        if state.listed == Some(ticket) {
            state.listed = None;
        }
    }
    // As above.
    let _ = write_range(cache, 0, u64::MAX);
    // Pages that became dirty since `listed` was cleared put the cache on the list again.
    let mut state = cache.state.lock();
    if state.listed.is_none() && state.index.nr_marked(Mark::Dirty) > 0 {
        state.dirty_since = crate::time::now_ns();
        state.listed = Some(enlist(cache.clone()));
    }
}

/// The next cache that is due with its ticket, or when that will be.
fn next_due(now: u64, urgent: bool) -> Result<(u64, Arc<PageCache>), Option<u64>> {
    loop {
        let first = DIRTY
            .lock()
            .caches
            .first_key_value()
            .map(|(t, c)| (*t, c.clone()));
        let (ticket, cache) = first.ok_or(None)?;
        let due = cache.state.lock().dirty_since + DIRTY_AGE_NS;
        if !urgent && due > now {
            return Err(Some(due));
        }
        // It may have left the list meanwhile.
        if delist(ticket).is_some() {
            return Ok((ticket, cache));
        }
    }
}

/// The flusher thread's body.
fn run_flusher() {
    loop {
        let urgent = URGENT.swap(false, Ordering::AcqRel);
        let mut budget = if urgent {
            DIRTY.lock().caches.len()
        } else {
            usize::MAX
        };
        let deadline = loop {
            if budget == 0 {
                break None;
            }
            budget -= 1;
            let _flushing = FLUSHING.lock();
            match next_due(crate::time::now_ns(), urgent) {
                Ok((ticket, cache)) => flush(ticket, &cache),
                Err(deadline) => break deadline,
            }
        };
        shrink::serve();
        super::super::mapping::bury_dead();
        ROUND.wake_all();
        let is_idle = deadline.is_none();
        // A kernel thread gets no signals; time out or work, both mean: look again.
        let _ = WORK.wait_interruptible(deadline, || {
            let work = URGENT.load(Ordering::Acquire)
                || shrink::is_wanted()
                || super::super::mapping::has_dead()
                || (is_idle && !DIRTY.lock().caches.is_empty());
            work.then_some(())
        });
    }
}

/// Starts the flusher. Boot calls it once threads run.
pub fn start() -> Result<()> {
    crate::sched::spawn_kernel("flusher", run_flusher).map(drop)
}

/// Wakes the flusher for work that is not write-back.
pub(in crate::vm) fn poke() {
    WORK.wake_all();
}
