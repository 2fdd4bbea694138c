//! Byte-range locks of one file (man 2 fcntl, "Advisory record locking"): which ranges each
//! owner holds, splitting and merging as they change. Pure: waiting is the caller's.

use alloc::vec::Vec;

use crate::error::{Errno, Result};

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// F_RDLCK.
    Shared,
    /// F_WRLCK.
    Exclusive,
}

/// Who holds a lock: a process's descriptor table (POSIX locks) or an open file description
/// (OFD locks), by identity.
pub type Owner = usize;

/// A held range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLock {
    /// Who holds it.
    pub owner: Owner,
    /// What F_GETLK reports: the process, or -1 for OFD locks.
    pub pid: i32,
    /// Shared or exclusive.
    pub kind: Kind,
    /// First byte.
    pub start: u64,
    /// One past the last byte; `u64::MAX` for "to the end, however the file grows".
    pub end: u64,
}

impl RangeLock {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }
}

/// The ranges of a file, ordered by start within each owner's.
#[derive(Default)]
pub struct RangeLocks {
    held: Vec<RangeLock>,
}

impl RangeLocks {
    /// No locks.
    pub const fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A lock of another owner that stands in the way of `wanted`.
    pub fn conflict(&self, wanted: &RangeLock) -> Option<RangeLock> {
        self.held
            .iter()
            .filter(|h| h.owner != wanted.owner && h.overlaps(wanted.start, wanted.end))
            .find(|h| h.kind == Kind::Exclusive || wanted.kind == Kind::Exclusive)
            .copied()
    }

    /// Takes `wanted`, replacing what its owner held there. ENOLCK without memory. The caller
    /// checked [`RangeLocks::conflict`] under the same lock.
    pub fn set(&mut self, wanted: RangeLock) -> Result<()> {
        // A range inside another splits it in two.
        self.held.try_reserve(2).map_err(|_| Errno::ENOLCK)?;
        self.clear(wanted.owner, wanted.start, wanted.end)?;
        let mut merged = wanted;
        self.held.retain(|h| {
            let joins = h.owner == wanted.owner
                && h.kind == wanted.kind
                && (h.end == merged.start || h.start == merged.end);
            if joins {
                merged.start = merged.start.min(h.start);
                merged.end = merged.end.max(h.end);
            }
            !joins
        });
        self.held.push(merged);
        Ok(())
    }

    /// Gives up what `owner` holds of `[start, end)`. ENOLCK when splitting needs memory that
    /// is not there.
    pub fn clear(&mut self, owner: Owner, start: u64, end: u64) -> Result<()> {
        self.held.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        let mut tail = None;
        self.held.retain_mut(|h| {
            if h.owner != owner || !h.overlaps(start, end) {
                return true;
            }
            match (h.start < start, h.end > end) {
                (true, true) => {
                    tail = Some(RangeLock { start: end, ..*h });
                    h.end = start;
                }
                (true, false) => h.end = start,
                (false, true) => h.start = end,
                (false, false) => return false,
            }
            true
        });
        self.held.extend(tail);
        Ok(())
    }

    /// Gives up everything of `owner`; true if it held anything.
    pub fn clear_owner(&mut self, owner: Owner) -> bool {
        let before = self.held.len();
        self.held.retain(|h| h.owner != owner);
        before != self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: Owner, kind: Kind, start: u64, end: u64) -> RangeLock {
        RangeLock {
            owner,
            pid: owner as i32,
            kind,
            start,
            end,
        }
    }
    fn ranges(l: &RangeLocks, owner: Owner) -> Vec<(u64, u64, Kind)> {
        let mut r: Vec<_> = l
            .held
            .iter()
            .filter(|h| h.owner == owner)
            .map(|h| (h.start, h.end, h.kind))
            .collect();
        r.sort_by_key(|r| r.0);
        r
    }

    #[test]
    fn owners_conflict_only_with_others() {
        let mut l = RangeLocks::new();
        l.set(lock(1, Kind::Shared, 0, 10)).unwrap();
        assert!(l.conflict(&lock(2, Kind::Shared, 5, 6)).is_none());
        assert_eq!(
            l.conflict(&lock(2, Kind::Exclusive, 9, 20)).unwrap().owner,
            1
        );
        assert!(l.conflict(&lock(2, Kind::Exclusive, 10, 20)).is_none());
        assert!(l.conflict(&lock(1, Kind::Exclusive, 0, 10)).is_none());
    }

    #[test]
    fn unlocking_the_middle_splits_and_relocking_merges() {
        let mut l = RangeLocks::new();
        l.set(lock(1, Kind::Exclusive, 0, 100)).unwrap();
        l.clear(1, 40, 60).unwrap();
        let x = Kind::Exclusive;
        assert_eq!(ranges(&l, 1), [(0, 40, x), (60, 100, x)]);
        l.set(lock(1, Kind::Exclusive, 40, 60)).unwrap();
        assert_eq!(ranges(&l, 1), [(0, 100, x)]);
    }

    #[test]
    fn changing_the_kind_of_a_part_keeps_the_rest() {
        let mut l = RangeLocks::new();
        l.set(lock(1, Kind::Exclusive, 0, u64::MAX)).unwrap();
        l.set(lock(1, Kind::Shared, 10, 20)).unwrap();
        let (x, s) = (Kind::Exclusive, Kind::Shared);
        assert_eq!(ranges(&l, 1), [(0, 10, x), (10, 20, s), (20, u64::MAX, x)]);
        assert!(l.clear_owner(1));
        assert!(l.is_empty() && !l.clear_owner(1));
    }
}
