//! What programs ask of cached pages: to come before they are read, to go after they were
//! (man 2 readahead, posix_fadvise, madvise).

use core::ops::Range;

use super::reclaim::{Effort, take_clean};
use super::window::Span;
use super::{PageCache, writeback};
use crate::mm::frame;

/// Pages of one step.
const STEP: u64 = 128;

impl PageCache {
    /// Starts to read the pages of `range` that are missing. Does not wait for them; stops when
    /// half of the memory that is free now would be used up.
    pub fn will_need(&self, range: Range<u64>) {
        if !self.has_source() {
            return;
        }
        let most = frame::stats().free as u64 / 2;
        let end = range
            .end
            .min(self.size_pages())
            .min(range.start.saturating_add(most));
        let mut at = range.start;
        while at < end {
            let count = STEP.min(end - at);
            if !self.prefetch(Span::only(at, count)) {
                return;
            }
            at += count;
        }
    }

    /// The pages of `range` will not be needed soon: writes back those that are dirty, and
    /// drops those that nobody maps or reads. A failed write is told by the next `fsync`.
    pub fn wont_need(&self, range: Range<u64>) {
        if !self.has_source() {
            return;
        }
        // An error stays with the file: fsync reports it.
        let _ = writeback::write_range(self, range.start, range.end);
        take_clean(self, range, usize::MAX, Effort::Any);
    }
}
