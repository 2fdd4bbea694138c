//! Blocks that a file has but nothing was written to yet: what is there on disk is not its.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Stretches of file blocks that have a disk block which nothing was written to yet: they
/// read as zeros. Start to end (exclusive).
#[derive(Default)]
pub struct Fresh(BTreeMap<u64, u64>);

impl Fresh {
    /// Adds a stretch that does not overlap the others.
    pub fn add(&mut self, start: u64, len: u64) {
        let mut start = start;
        let end = start + len;
        if let Some((&s, e)) = self.0.range_mut(..start).next_back()
            && *e == start
        {
            *e = end;
            start = s;
        } else {
            self.0.insert(start, end);
        }
        if let Some(after) = self.0.remove(&end) {
            self.0.insert(start, after);
        }
    }
    /// Takes `[start, end)` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        let hit: Vec<(u64, u64)> = self
            .0
            .range(..end)
            .rev()
            .map(|(&s, &e)| (s, e))
            .take_while(|&(_, e)| e > start)
            .collect();
        for (s, e) in hit {
            self.0.remove(&s);
            if s < start {
                self.0.insert(s, start);
            }
            if e > end {
                self.0.insert(end, e);
            }
        }
    }
    /// Whether `block` is in, and for how many blocks from it on that holds (at most `want`).
    pub fn find(&self, block: u64, want: u64) -> (bool, u64) {
        if let Some((_, &end)) = self.0.range(..=block).next_back()
            && end > block
        {
            return (true, (end - block).min(want));
        }
        let next = self.0.range(block..).next().map_or(u64::MAX, |(&s, _)| s);
        (false, (next - block).min(want))
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_stretches_join_and_split() {
        let mut fresh = Fresh::default();
        fresh.add(10, 5);
        fresh.add(20, 5);
        fresh.add(15, 5);
        assert_eq!(fresh.find(10, 100), (true, 15));
        assert_eq!(fresh.find(3, 100), (false, 7));
        fresh.remove(12, 14);
        assert_eq!(fresh.find(10, 100), (true, 2));
        assert_eq!(fresh.find(12, 100), (false, 2));
        assert_eq!(fresh.find(14, 3), (true, 3));
        fresh.remove(0, u64::MAX);
        assert!(fresh.is_empty());
    }
}
