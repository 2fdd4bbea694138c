//! Reads under way: pages that are in the index and do not hold the file's content yet.
//!
//! The end of a read may come in interrupt context, where no cache's lock can be taken. So it
//! only leaves its outcome with the [`Flight`] and wakes who waits; the next who looks for one
//! of the pages, or for pages to free, settles it: marks its pages as up to date, or takes
//! them out.
//!
//! A page without [`Mark::Uptodate`] belongs to exactly one flight: the one that brings its
//! frame.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::index::Mark;
use super::{PageCache, State};
use crate::error::{Errno, Result};
use crate::mm::FrameRef;
use crate::sched::WaitQueue;
use crate::sync::{IrqLock, Rank};

/// A read of consecutive pages.
pub(super) struct Flight {
    /// Index of the first page.
    pub start: u64,
    /// What the device fills. Keeps the frames while it does, even when the pages left the
    /// cache meanwhile.
    pub frames: Vec<FrameRef>,
    outcome: IrqLock<Option<Result<()>>>,
    landed: WaitQueue,
}

impl Flight {
    pub fn new(start: u64, frames: Vec<FrameRef>) -> Flight {
        Flight {
            start,
            frames,
            outcome: IrqLock::new(Rank::Leaf, None),
            landed: WaitQueue::new(),
        }
    }

    /// The page after the last.
    pub fn end(&self) -> u64 {
        self.start + self.frames.len() as u64
    }

    /// Pages with their index.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &FrameRef)> {
        (self.start..).zip(&self.frames)
    }

    /// The read is done. From any context.
    pub fn land(&self, result: Result<()>) {
        *self.outcome.lock() = Some(result);
        self.landed.wake_all();
    }

    /// Sleeps until the read is done. The outcome of the whole of it. EINTR when the caller is
    /// to die: a device that does not answer keeps nobody alive.
    pub fn wait(&self) -> Result<()> {
        self.landed
            .wait_killable(|| *self.outcome.lock())
            .unwrap_or(Err(Errno::EINTR))
    }

    /// Whether the read is done.
    pub fn has_landed(&self) -> bool {
        self.outcome().is_some()
    }

    fn outcome(&self) -> Option<Result<()>> {
        *self.outcome.lock()
    }
}

impl PageCache {
    /// Brings what is known of the pages of ended reads up to date.
    pub(super) fn settle(&self, state: &mut State) {
        let mut at = 0;
        while let Some(flight) = state.flights.get(at) {
            let Some(result) = flight.outcome() else {
                at += 1;
                continue;
            };
            let flight = state.flights.swap_remove(at);
            for (index, frame) in flight.pages() {
                if !state.holds(index, frame) {
                    // Truncation took it out meanwhile.
                } else if result.is_ok() {
                    state.index.set(index, Mark::Uptodate);
                } else {
                    state.index.remove(index);
                    self.total().fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }
}

impl State {
    /// Whether `frame` is the page at `index`.
    pub(super) fn holds(&self, index: u64, frame: &FrameRef) -> bool {
        self.index
            .get(index)
            .is_some_and(|page| page.addr() == frame.addr())
    }

    /// The read that brings the page at `index`, if that is not up to date.
    pub(super) fn flight_of(&self, index: u64) -> Option<&Arc<Flight>> {
        let page = self.index.get(index)?;
        self.flights.iter().find(|flight| {
            let at = index.checked_sub(flight.start);
            at.and_then(|at| flight.frames.get(at as usize))
                .is_some_and(|frame| frame.addr() == page.addr())
        })
    }
}
