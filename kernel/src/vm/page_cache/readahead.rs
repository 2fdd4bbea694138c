//! How far to read ahead of a reader: pure policy, one state per file.

/// Most pages of one read (128 KiB).
pub const MAX_WINDOW: u64 = 32;
/// Pages of the first read of what may become a sequence.
const FIRST_WINDOW: u64 = 4;

/// Where the last read ended, and how much it brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readahead {
    next: u64,
    window: u64,
}

impl Readahead {
    /// How many pages to read, now that page `index` is missing: 1 for a random reader, and
    /// twice as many as the last time for one that goes on where the last read ended.
    pub fn on_miss(&mut self, index: u64) -> u64 {
        self.window = if index == self.next {
            (self.window * 2).clamp(FIRST_WINDOW, MAX_WINDOW)
        } else {
            1
        };
        self.next = index + self.window;
        self.window
    }

    /// The read brought only up to page `end`.
    pub fn ended_at(&mut self, end: u64) {
        self.next = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_grows_and_a_jump_resets() {
        let mut r = Readahead::default();
        assert_eq!([r.on_miss(0), r.on_miss(4), r.on_miss(12)], [4, 8, 16]);
        assert_eq!([r.on_miss(28), r.on_miss(60)], [32, 32]);
        assert_eq!([r.on_miss(500), r.on_miss(7)], [1, 1]);
        assert_eq!([r.on_miss(8), r.on_miss(12)], [4, 8]);
        r.ended_at(15);
        assert_eq!(r.on_miss(15), 16);
    }
}
