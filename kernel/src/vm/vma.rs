//! The set of mapped areas (VMAs) of one address space: pure bookkeeping.
//!
//! Areas do not overlap; neighbours that are alike are one area. What stands behind an area
//! is a parameter, so that tests need no page cache. The owner guards the set with the
//! space's VMA lock.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::space::Prot;
use crate::mm::PAGE_SIZE;

/// Bytes kept free below an area that grows down (256 pages, as Linux's stack_guard_gap).
pub const STACK_GAP: u64 = 256 * PAGE_SIZE as u64;
/// Most areas of one space (man 5 proc, vm/max_map_count).
pub const MAX_AREAS: usize = 65530;

bitflags::bitflags! {
    /// Properties of an area beside its protection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmaFlags: u32 {
        /// Stores reach the backing (MAP_SHARED).
        const SHARED = 1;
        /// Extends downwards on faults below it (MAP_GROWSDOWN).
        const GROWS_DOWN = 1 << 1;
        /// Stays in memory (man 2 mlock).
        const LOCKED = 1 << 2;
        /// Pages are locked as they come, not at once (mlock2, MLOCK_ONFAULT).
        const LOCK_ON_FAULT = 1 << 3;
        /// Not counted against memory (MAP_NORESERVE).
        const NO_RESERVE = 1 << 4;
        /// mprotect must not make it writable: a shared mapping of a file open for reading.
        const NEVER_WRITE = 1 << 5;
        /// mprotect must not make it executable (a noexec mount).
        const NEVER_EXEC = 1 << 6;
        /// The heap (brk).
        const HEAP = 1 << 7;
        /// The first thread's stack.
        const STACK = 1 << 8;
        /// Not copied to children (MADV_DONTFORK).
        const NO_FORK = 1 << 9;
        /// Children see zeros (MADV_WIPEONFORK).
        const WIPE_ON_FORK = 1 << 10;
        /// Not part of a core dump (MADV_DONTDUMP).
        const NO_DUMP = 1 << 11;
        /// Its file is read in order (MADV_SEQUENTIAL).
        const SEQUENTIAL = 1 << 12;
        /// Its file is read in no order (MADV_RANDOM).
        const RANDOM = 1 << 13;
    }
}

/// What stands behind an area.
pub trait AreaBacking: Clone {
    /// Whether an area of `self` that ends where one of `next` begins is the same stretch.
    fn continues_into(&self, next: &Self) -> bool;
}

/// A mapped area.
#[derive(Clone, Debug)]
pub struct Vma<B> {
    /// First byte; page-aligned.
    pub start: u64,
    /// Byte after the last; page-aligned.
    pub end: u64,
    /// What programs may do.
    pub prot: Prot,
    /// Properties.
    pub flags: VmaFlags,
    /// What stands behind it.
    pub backing: B,
}

impl<B> Vma<B> {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }
    /// Whether it covers nothing: never, in a set.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
    /// Whether stores stay private (MAP_PRIVATE).
    pub fn is_private(&self) -> bool {
        !self.flags.contains(VmaFlags::SHARED)
    }
}

impl<B: AreaBacking> Vma<B> {
    fn continues_into(&self, next: &Self) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && self.backing.continues_into(&next.backing)
    }
}

/// The areas of a space, by start address.
#[derive(Debug)]
pub struct VmaSet<B> {
    areas: BTreeMap<u64, Vma<B>>,
    bytes: u64,
}

impl<B> Default for VmaSet<B> {
    fn default() -> Self {
        Self {
            areas: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl<B: AreaBacking> VmaSet<B> {
    /// Areas in the set.
    pub fn count(&self) -> usize {
        self.areas.len()
    }

    /// Mapped bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All areas, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Vma<B>> {
        self.areas.values()
    }

    /// The area that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma<B>> {
        let area = self.areas.range(..=addr).next_back()?.1;
        (addr < area.end).then_some(area)
    }

    /// The first area that starts above `addr`.
    pub fn next_above(&self, addr: u64) -> Option<&Vma<B>> {
        Some(self.areas.range(addr.checked_add(1)?..).next()?.1)
    }

    /// The last area that ends at or below `addr`.
    pub fn last_below(&self, addr: u64) -> Option<&Vma<B>> {
        let area = self.areas.range(..addr).next_back()?.1;
        (area.end <= addr).then_some(area)
    }

    /// The areas that overlap `[start, end)`, lowest first.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma<B>> {
        let first = self.find(start).map_or(start, |a| a.start);
        self.areas
            .range(first..end.max(first))
            .map(|(_, a)| a)
            .filter(move |a| a.end > start)
    }

    /// Whether nothing is mapped in `[start, end)`.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// Whether `[start, end)` is mapped without a hole.
    pub fn is_covered(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for area in self.overlapping(start, end) {
            if area.start > at {
                return false;
            }
            at = area.end;
        }
        at >= end
    }

    /// Adds an area where nothing is mapped; joins it with alike neighbours.
    pub fn insert(&mut self, mut new: Vma<B>) {
        debug_assert!(!new.is_empty() && self.is_free(new.start, new.end));
        self.bytes += new.len();
        if let Some(before) = self.areas.range(..new.start).next_back()
            && before.1.continues_into(&new)
        {
            let before = *before.0;
            if let Some(area) = self.areas.remove(&before) {
                new.start = area.start;
            }
        }
        if let Some(after) = self.areas.get(&new.end)
            && new.continues_into(after)
        {
            let end = after.end;
            self.areas.remove(&new.end);
            new.end = end;
        }
        self.areas.insert(new.start, new);
    }

    /// Makes `at` a border if it lies inside an area.
    fn split(&mut self, at: u64) {
        let Some((_, area)) = self.areas.range_mut(..at).next_back() else {
            return;
        };
        if at < area.end {
            let mut upper = area.clone();
            area.end = at;
            upper.start = at;
            self.areas.insert(at, upper);
        }
    }

    /// How many more areas the set could have after a change of `[start, end)`.
    pub fn growth(&self, start: u64, end: u64) -> usize {
        let cuts = |at| self.find(at).is_some_and(|a| a.start < at);
        usize::from(cuts(start)) + usize::from(cuts(end))
    }

    /// Takes `[start, end)` out of the set and returns the pieces, lowest first.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma<B>> {
        self.split(start);
        self.split(end);
        let mut out = Vec::new();
        while let Some((&key, _)) = self.areas.range(start..end).next() {
            if let Some(area) = self.areas.remove(&key) {
                self.bytes -= area.len();
                out.push(area);
            }
        }
        out
    }

    /// Applies `change` to what is mapped in `[start, end)`, splitting at the borders and
    /// joining alike neighbours afterwards.
    pub fn modify(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma<B>)) {
        for mut piece in self.remove(start, end) {
            change(&mut piece);
            self.insert(piece);
        }
    }

    /// Moves the start of the area that starts at `start` down to `new_start`.
    pub fn grow_down(&mut self, start: u64, new_start: u64) {
        if let Some(mut area) = self.areas.remove(&start) {
            self.bytes -= area.len();
            area.start = new_start;
            self.insert(area);
        }
    }

    /// The highest address in `[low, high)` with room for `len` bytes.
    pub fn find_gap_below(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut top = high;
        // Areas above `high` do not matter; one that reaches across it does.
        for area in self.areas.range(..high).rev().map(|(_, a)| a) {
            if area.end < top && top - area.end >= len {
                break;
            }
            top = top.min(Self::reserved_start(area));
            if top < low {
                return None;
            }
        }
        let at = top.checked_sub(len)?;
        (at >= low).then_some(at)
    }

    /// The lowest address in `[low, high)` with room for `len` bytes.
    pub fn find_gap_above(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut at = low;
        for area in self.overlapping(low, high) {
            if Self::reserved_start(area).saturating_sub(at) >= len
                && Self::reserved_start(area) >= at
            {
                break;
            }
            at = at.max(area.end);
        }
        (at.checked_add(len)? <= high).then_some(at)
    }

    /// Start of an area with the room that an automatic choice leaves below it.
    fn reserved_start(area: &Vma<B>) -> u64 {
        if area.flags.contains(VmaFlags::GROWS_DOWN) {
            area.start.saturating_sub(STACK_GAP)
        } else {
            area.start
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joins when the numbers follow on: a file's pages.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Delta(u64);
    impl AreaBacking for Delta {
        fn continues_into(&self, next: &Self) -> bool {
            self == next
        }
    }

    const RW: Prot = Prot::READ.union(Prot::WRITE);

    fn vma(start: u64, end: u64, prot: Prot) -> Vma<Delta> {
        Vma {
            start,
            end,
            prot,
            flags: VmaFlags::empty(),
            backing: Delta(0),
        }
    }

    fn shape(set: &VmaSet<Delta>) -> Vec<(u64, u64, u32)> {
        set.iter()
            .map(|a| (a.start, a.end, a.prot.bits()))
            .collect()
    }

    #[test]
    fn alike_neighbours_join() {
        let mut s = VmaSet::default();
        s.insert(vma(0x1000, 0x2000, RW));
        s.insert(vma(0x3000, 0x4000, RW));
        assert_eq!(s.count(), 2);
        s.insert(vma(0x2000, 0x3000, RW));
        assert_eq!(shape(&s), [(0x1000, 0x4000, 3)]);
        s.insert(vma(0x4000, 0x5000, Prot::READ));
        s.insert(Vma {
            backing: Delta(1),
            ..vma(0x5000, 0x6000, Prot::READ)
        });
        assert_eq!(s.count(), 3);
        assert_eq!(s.bytes(), 0x5000);
    }

    #[test]
    fn removing_the_middle_splits() {
        let mut s = VmaSet::default();
        s.insert(vma(0x1000, 0x9000, RW));
        assert_eq!(s.growth(0x3000, 0x5000), 2);
        assert_eq!(s.growth(0x1000, 0x9000), 0);
        let cut = s.remove(0x3000, 0x5000);
        assert_eq!((cut[0].start, cut[0].end, cut.len()), (0x3000, 0x5000, 1));
        assert_eq!(shape(&s), [(0x1000, 0x3000, 3), (0x5000, 0x9000, 3)]);
        assert_eq!(s.bytes(), 0x6000);
        assert!(s.find(0x3000).is_none() && s.find(0x2fff).is_some());
        assert!(s.is_free(0x3000, 0x5000) && !s.is_free(0x2fff, 0x5000));
        assert!(!s.is_covered(0x1000, 0x9000) && s.is_covered(0x5000, 0x9000));
        assert_eq!(s.remove(0, u64::MAX).len(), 2);
        assert_eq!(s.bytes(), 0);
    }

    #[test]
    fn protecting_and_back_rejoins() {
        let mut s = VmaSet::default();
        s.insert(vma(0x1000, 0x9000, RW));
        s.modify(0x2000, 0x4000, |a| a.prot = Prot::READ);
        assert_eq!(
            shape(&s),
            [
                (0x1000, 0x2000, 3),
                (0x2000, 0x4000, 1),
                (0x4000, 0x9000, 3)
            ]
        );
        s.modify(0x2000, 0x4000, |a| a.prot = RW);
        assert_eq!(shape(&s), [(0x1000, 0x9000, 3)]);
    }

    #[test]
    fn gaps_from_the_top() {
        let mut s = VmaSet::default();
        assert_eq!(s.find_gap_below(0x1000, 0, 0x10000), Some(0xf000));
        s.insert(vma(0xc000, 0xf000, RW));
        assert_eq!(s.find_gap_below(0x1000, 0, 0x10000), Some(0xf000));
        assert_eq!(s.find_gap_below(0x2000, 0, 0x10000), Some(0xa000));
        s.insert(vma(0x8000, 0xb000, RW));
        assert_eq!(s.find_gap_below(0x2000, 0, 0x10000), Some(0x6000));
        assert_eq!(s.find_gap_below(0x1000, 0, 0xe000), Some(0xb000));
        assert_eq!(s.find_gap_below(0x9000, 0x1000, 0x10000), None);
        assert_eq!(s.find_gap_below(u64::MAX, 0, 0x10000), None);
    }

    #[test]
    fn gaps_from_below() {
        let mut s = VmaSet::default();
        s.insert(vma(0x1000, 0x3000, RW));
        s.insert(vma(0x4000, 0x6000, RW));
        assert_eq!(s.find_gap_above(0x1000, 0, 0x10000), Some(0));
        assert_eq!(s.find_gap_above(0x1000, 0x1000, 0x10000), Some(0x3000));
        assert_eq!(s.find_gap_above(0x2000, 0x2000, 0x10000), Some(0x6000));
        assert_eq!(s.find_gap_above(0xb000, 0x2000, 0x10000), None);
    }

    #[test]
    fn a_growing_stack_keeps_its_gap() {
        let mut s = VmaSet::default();
        let stack = 0x4000_0000;
        s.insert(Vma {
            flags: VmaFlags::GROWS_DOWN,
            ..vma(stack, stack + 0x2000, RW)
        });
        let at = s.find_gap_below(0x1000, 0, stack + 0x2000).unwrap();
        assert_eq!(at, stack - STACK_GAP - 0x1000);
        s.grow_down(stack, stack - 0x5000);
        assert_eq!(s.find(stack - 0x5000).unwrap().end, stack + 0x2000);
        assert_eq!(s.bytes(), 0x7000);
    }

    /// A byte-per-page model says what the set must hold after random operations.
    #[test]
    fn random_operations_match_a_model() {
        const PAGES: usize = 64;
        let mut model = [None::<u32>; PAGES];
        let mut s = VmaSet::default();
        let mut seed = 0x1234_5678_9abc_def1u64;
        let mut random = |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % n as u64) as usize
        };
        for _ in 0..5000 {
            let from = random(PAGES);
            let to = (from + 1 + random(12)).min(PAGES);
            let (start, end) = ((from << 12) as u64, (to << 12) as u64);
            let prot = Prot::from_bits_truncate(random(4) as u32);
            match random(3) {
                0 => {
                    s.remove(start, end);
                    s.insert(vma(start, end, prot));
                    model[from..to].fill(Some(prot.bits()));
                }
                1 => {
                    s.remove(start, end);
                    model[from..to].fill(None);
                }
                _ => {
                    s.modify(start, end, |a| a.prot = prot);
                    for page in model[from..to].iter_mut().flatten() {
                        *page = prot.bits();
                    }
                }
            }
            for (i, want) in model.iter().enumerate() {
                let have = s.find((i << 12) as u64).map(|a| a.prot.bits());
                assert_eq!(have, *want);
            }
            let mapped = model.iter().flatten().count() as u64;
            assert_eq!(s.bytes(), mapped << 12);
            for (a, b) in s.iter().zip(s.iter().skip(1)) {
                assert!(a.end < b.start || a.prot != b.prot, "alike neighbours");
            }
        }
    }
}
