//! How far to read ahead of a reader: pure policy, one state per open file.
//!
//! A window is what was read last for a reader that goes through the file in order. One of its
//! pages carries a mark; when the reader comes to it, the next window is started, so that it
//! arrives while the reader is busy with the rest of the present one.

/// Most pages of a window (256 KiB), unless the program announced a sequential read.
pub const MAX_WINDOW: u64 = 64;

/// Pages to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub start: u64,
    /// How many; at least one.
    pub count: u64,
    /// The page that gets the mark.
    pub mark: Option<u64>,
}

impl Span {
    /// These pages, with nothing to follow.
    pub const fn only(start: u64, count: u64) -> Span {
        Span {
            start,
            count,
            mark: None,
        }
    }
    /// The part below page `end`. The mark goes with its page.
    pub fn below(self, end: u64) -> Span {
        let count = self.count.min(end.saturating_sub(self.start));
        Span {
            count,
            mark: self.mark.filter(|&m| m < self.start + count),
            ..self
        }
    }
    /// The page after the last.
    pub const fn end(&self) -> u64 {
        self.start + self.count
    }
}

/// The window of a sequential reader.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    start: u64,
    size: u64,
    /// Pages at its end that nobody had asked for; the mark is on the first of them.
    ahead: u64,
}

impl Window {
    /// Of a reader that has read nothing.
    pub const fn new() -> Window {
        Window {
            start: 0,
            size: 0,
            ahead: 0,
        }
    }

    /// Page `index` is missing, and the reader wants `want` pages from there on. `previous` is
    /// the last page it read; `cached_before(n)` tells how many pages before `index` are
    /// cached without a gap, up to `n`. Reads just what is wanted for a random reader.
    pub fn on_miss(
        &mut self,
        index: u64,
        want: u64,
        previous: Option<u64>,
        max: u64,
        cached_before: impl FnOnce(u64) -> u64,
    ) -> Span {
        let want = want.max(1);
        let goes_on = match previous {
            Some(page) => index == page || index == page.saturating_add(1),
            None => index == 0,
        };
        let size = if goes_on || index == 0 || want > max {
            first_size(want, max)
        } else {
            // Pages that lie cached before it are what a sequential reader leaves behind, be it
            // another one, or this one after a detour.
            let behind = cached_before(max);
            if behind <= want {
                return Span::only(index, want);
            }
            let from_the_start = behind >= index;
            (behind * if from_the_start { 2 } else { 1 } + want).min(max)
        };
        *self = Window {
            start: index,
            size,
            ahead: if size > want { size - want } else { size / 2 },
        };
        self.span()
    }

    /// The reader came to the marked page `index`, and wants `want` pages from there on.
    /// `next_missing(n)` finds the first page after `index` that is not cached, if it is among
    /// the next `n`: where to go on when the mark was set for somebody else.
    pub fn on_mark(
        &mut self,
        index: u64,
        want: u64,
        max: u64,
        next_missing: impl FnOnce(u64) -> Option<u64>,
    ) -> Option<Span> {
        if self.size > 0 && index == self.start + self.size - self.ahead {
            self.start += self.size;
            self.size = next_size(self.size, max);
        } else {
            let start = next_missing(max)?;
            self.start = start;
            self.size = next_size(start - index + want, max);
        }
        self.ahead = self.size;
        Some(self.span())
    }

    /// What was read came with an error, or memory is short: starts small again.
    pub fn shrink(&mut self) {
        self.size = 0;
    }

    fn span(&self) -> Span {
        Span {
            start: self.start,
            count: self.size,
            mark: (self.ahead > 0).then(|| self.start + self.size - self.ahead),
        }
    }
}

/// The first window of what may become a sequence: a few times what is wanted.
fn first_size(want: u64, max: u64) -> u64 {
    let size = want.checked_next_power_of_two().unwrap_or(max);
    let factor = if size <= max / 32 {
        4
    } else if size <= max / 4 {
        2
    } else {
        return max;
    };
    size * factor
}

/// Twice as much as the last time, up to the bound; small ones grow faster.
fn next_size(size: u64, max: u64) -> u64 {
    let factor = if size < max / 16 { 4 } else { 2 };
    size.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: fn(u64) -> u64 = |_| panic!("asked in vain");
    const NOT_ASKED: fn(u64) -> Option<u64> = |_| panic!("asked in vain");

    fn span(start: u64, count: u64, mark: u64) -> Span {
        Span {
            start,
            count,
            mark: Some(mark),
        }
    }

    #[test]
    fn a_sequence_from_the_start_grows_to_the_bound() {
        let mut w = Window::new();
        assert_eq!(w.on_miss(0, 1, None, 64, NEVER), span(0, 4, 1));
        assert_eq!(w.on_mark(1, 1, 64, NOT_ASKED), Some(span(4, 8, 4)));
        assert_eq!(w.on_mark(4, 1, 64, NOT_ASKED), Some(span(12, 16, 12)));
        assert_eq!(w.on_mark(12, 1, 64, NOT_ASKED), Some(span(28, 32, 28)));
        assert_eq!(w.on_mark(28, 1, 64, NOT_ASKED), Some(span(60, 64, 60)));
        assert_eq!(w.on_mark(60, 1, 64, NOT_ASKED), Some(span(124, 64, 124)));
    }

    #[test]
    fn a_random_reader_gets_what_it_asked_for() {
        let mut w = Window::new();
        let few = |n| move |_| n;
        assert_eq!(w.on_miss(500, 1, None, 64, few(0)), Span::only(500, 1));
        assert_eq!(w.on_miss(7, 16, Some(500), 64, few(3)), Span::only(7, 16));
        assert_eq!(w.on_miss(90, 2, Some(22), 64, few(2)), Span::only(90, 2));
    }

    #[test]
    fn going_on_where_the_last_read_ended_is_a_sequence() {
        let mut w = Window::new();
        let want = 16;
        assert_eq!(
            w.on_miss(1000, want, None, 64, |_| 0),
            Span::only(1000, want)
        );
        assert_eq!(
            w.on_miss(1016, want, Some(1015), 64, NEVER),
            span(1016, 32, 1032)
        );
        assert_eq!(
            w.on_mark(1032, want, 64, NOT_ASKED),
            Some(span(1048, 64, 1048))
        );
        // Bytes of the same page in several reads, and the page went meanwhile.
        assert_eq!(w.on_miss(9, 1, Some(9), 64, NEVER), span(9, 4, 10));
    }

    #[test]
    fn a_large_read_is_a_sequence_of_its_own() {
        let mut w = Window::new();
        assert_eq!(w.on_miss(5000, 65, None, 64, NEVER), span(5000, 64, 5032));
        assert_eq!(w.on_miss(0, u64::MAX, None, 64, NEVER), span(0, 64, 32));
    }

    #[test]
    fn cached_pages_before_it_tell_of_a_sequence() {
        let mut w = Window::new();
        // Another reader went through here: 20 pages of its trace, and 1 wanted.
        assert_eq!(w.on_miss(100, 1, None, 64, |_| 20), span(100, 21, 101));
        // From the start of the file: twice as sure.
        assert_eq!(
            w.on_miss(20, 1, Some(3), 64, |n| n.min(20)),
            span(20, 41, 21)
        );
        assert_eq!(w.on_miss(200, 1, Some(3), 64, |n| n), span(200, 64, 201));
    }

    #[test]
    fn a_mark_of_somebody_else_goes_on_behind_what_is_cached() {
        let mut w = Window::new();
        w.on_miss(0, 1, None, 64, NEVER);
        assert_eq!(
            w.on_mark(300, 4, 64, |_| Some(310)),
            Some(span(310, 28, 310))
        );
        assert_eq!(w.on_mark(310, 4, 64, NOT_ASKED), Some(span(338, 56, 338)));
        assert_eq!(w.on_mark(700, 4, 64, |_| None), None, "enough is cached");
    }

    #[test]
    fn a_span_ends_with_the_file() {
        let whole = span(10, 8, 14);
        assert_eq!(whole.below(16), span(10, 6, 14));
        assert_eq!(whole.below(14), Span::only(10, 4));
        assert_eq!(whole.below(3).count, 0);
        assert_eq!(whole.end(), 18);
    }

    #[test]
    fn sizes_stay_within_the_bound() {
        for max in [1, 2, 3, 32, 64, 128] {
            for want in 1..200 {
                assert!((1..=max).contains(&first_size(want, max)), "{want} {max}");
                assert!(next_size(want, max) <= max);
            }
        }
    }
}
