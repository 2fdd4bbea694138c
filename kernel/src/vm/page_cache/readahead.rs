//! What is known of how one reader goes through a file: an open file, or a mapping.
//!
//! Lock order: a [`Readahead`]'s window (rank `Object`), then a cache's state.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::PageCache;
use super::window::{MAX_WINDOW, Span, Window};
use crate::sync::{Rank, SpinLock};

/// Pages that a fault reads around the one it is for, aligned (128 KiB).
const AROUND: u64 = 32;

/// What a program said of how it will read (man 2 posix_fadvise, man 2 madvise).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pattern {
    /// Nothing: look how it reads.
    Normal = 0,
    /// In order, soon: windows of twice the size.
    Sequential = 1,
    /// In no order: read only what is asked for.
    Random = 2,
}

impl Pattern {
    fn max_window(self) -> u64 {
        match self {
            Pattern::Sequential => 2 * MAX_WINDOW,
            Pattern::Normal | Pattern::Random => MAX_WINDOW,
        }
    }
}

/// How an open file, or a mapping, is read.
pub struct Readahead {
    window: SpinLock<Window>,
    /// The page read last, plus 1.
    last: AtomicU64,
    /// A [`Pattern`].
    pattern: AtomicU8,
    /// POSIX_FADV_NOREUSE: reads do not count as use.
    once: AtomicBool,
}

impl Default for Readahead {
    fn default() -> Self {
        Self::new()
    }
}

impl Readahead {
    /// Of a reader that has read nothing and said nothing.
    pub const fn new() -> Readahead {
        Readahead {
            window: SpinLock::new(Rank::Object, Window::new()),
            last: AtomicU64::new(0),
            pattern: AtomicU8::new(Pattern::Normal as u8),
            once: AtomicBool::new(false),
        }
    }

    /// How the program said that it reads.
    pub fn pattern(&self) -> Pattern {
        match self.pattern.load(Ordering::Relaxed) {
            1 => Pattern::Sequential,
            2 => Pattern::Random,
            _ => Pattern::Normal,
        }
    }

    /// The program says how it reads. `Normal` takes back [`Readahead::set_once`] as well.
    pub fn set_pattern(&self, pattern: Pattern) {
        self.pattern.store(pattern as u8, Ordering::Relaxed);
        if pattern == Pattern::Normal {
            self.once.store(false, Ordering::Relaxed);
        }
    }

    /// The program will read each page once: reading one does not keep it in the cache.
    pub fn set_once(&self) {
        self.once.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_once(&self) -> bool {
        self.once.load(Ordering::Relaxed)
    }

    /// The reader got as far as page `index`.
    pub(super) fn has_read(&self, index: u64) {
        self.last.store(index.saturating_add(1), Ordering::Relaxed);
    }

    /// What to read now that page `index` is missing and `want` pages are wanted.
    pub(super) fn on_miss(
        &self,
        cache: &PageCache,
        pattern: Pattern,
        index: u64,
        want: u64,
    ) -> Span {
        let max = pattern.max_window();
        if pattern == Pattern::Random {
            return Span::only(index, want.clamp(1, max));
        }
        let previous = self.last.load(Ordering::Relaxed).checked_sub(1);
        self.window
            .lock()
            .on_miss(index, want, previous, max, |most| {
                cache.cached_before(index, most)
            })
    }

    /// What to read now that the reader came to the mark on page `index`.
    pub(super) fn on_mark(
        &self,
        cache: &PageCache,
        pattern: Pattern,
        index: u64,
        want: u64,
    ) -> Option<Span> {
        if pattern == Pattern::Random {
            return None;
        }
        let mut window = self.window.lock();
        window.on_mark(index, want.max(1), pattern.max_window(), |most| {
            cache.next_missing(index + 1, index + 1 + most)
        })
    }

    /// A read of this reader's failed.
    pub(super) fn on_error(&self) {
        self.window.lock().shrink();
    }

    /// What to read for a fault on page `index`, which is missing: what surrounds it, as
    /// programs touch neighbours next, in no order.
    pub(super) fn on_fault(&self, cache: &PageCache, pattern: Pattern, index: u64) -> Span {
        if pattern != Pattern::Normal {
            return self.on_miss(cache, pattern, index, 1);
        }
        let start = index - index % AROUND;
        // Who was in the block before goes through the mapping in order, it seems.
        let goes_on = cache.cached_before(start, 1) == 1;
        Span {
            start,
            count: AROUND,
            mark: goes_on.then_some((start + AROUND / 2).max(index)),
        }
    }

    /// What to read now that a fault hit the mark on page `index`.
    pub(super) fn on_marked_fault(
        &self,
        cache: &PageCache,
        pattern: Pattern,
        index: u64,
    ) -> Option<Span> {
        if pattern != Pattern::Normal {
            return self.on_mark(cache, pattern, index, 1);
        }
        let start = cache.next_missing(index + 1, index + 1 + AROUND)?;
        Some(Span {
            start,
            count: AROUND,
            mark: Some(start),
        })
    }
}
