//! The index of one file's cached pages, with a mark per page and state: pure bookkeeping.
//!
//! Pages stand in chunks of 16, so that a fault finds its neighbours together and a search
//! for dirty pages looks at bit masks. The owner guards the index with the cache's lock.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// Pages per chunk.
pub const CHUNK: u64 = 16;

/// States of a page; a page without `Uptodate` is being read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Holds the file's content.
    Uptodate = 0,
    /// Differs from what the source has.
    Dirty = 1,
    /// Is on its way to the source.
    Writeback = 2,
    /// Was used since the clock hand last passed.
    Referenced = 3,
    /// Who comes here goes through the file in order: read the next window.
    Ahead = 4,
}

/// How many there are.
const MARKS: usize = 5;

struct Chunk<P> {
    slots: [Option<P>; CHUNK as usize],
    marks: [u16; MARKS],
}

impl<P> Chunk<P> {
    const fn new() -> Self {
        Self {
            slots: [const { None }; CHUNK as usize],
            marks: [0; MARKS],
        }
    }
    fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }
}

/// Cached pages by page index.
pub struct PageIndex<P> {
    chunks: BTreeMap<u64, Box<Chunk<P>>>,
    nr_pages: usize,
    nr_marked: [usize; MARKS],
}

impl<P> Default for PageIndex<P> {
    fn default() -> Self {
        Self {
            chunks: BTreeMap::new(),
            nr_pages: 0,
            nr_marked: [0; MARKS],
        }
    }
}

const fn place(index: u64) -> (u64, usize) {
    (index / CHUNK, (index % CHUNK) as usize)
}

impl<P> PageIndex<P> {
    /// Pages in the index.
    pub fn nr_pages(&self) -> usize {
        self.nr_pages
    }
    /// Pages that carry `mark`.
    pub fn nr_marked(&self, mark: Mark) -> usize {
        self.nr_marked[mark as usize]
    }
    /// The page at `index`.
    pub fn get(&self, index: u64) -> Option<&P> {
        let (chunk, slot) = place(index);
        self.chunks.get(&chunk)?.slots[slot].as_ref()
    }
    /// The page at `index` if it holds the file's content.
    pub fn get_uptodate(&self, index: u64) -> Option<&P> {
        let (chunk, slot) = place(index);
        let chunk = self.chunks.get(&chunk)?;
        if chunk.marks[Mark::Uptodate as usize] & (1 << slot) == 0 {
            return None;
        }
        chunk.slots[slot].as_ref()
    }
    /// As [`PageIndex::get_uptodate`], and marks the page as used.
    pub fn touch(&mut self, index: u64) -> Option<&P> {
        let (chunk, slot) = place(index);
        let chunk = self.chunks.get_mut(&chunk)?;
        if chunk.marks[Mark::Uptodate as usize] & (1 << slot) == 0 {
            return None;
        }
        let referenced = &mut chunk.marks[Mark::Referenced as usize];
        if *referenced & (1 << slot) == 0 {
            *referenced |= 1 << slot;
            self.nr_marked[Mark::Referenced as usize] += 1;
        }
        chunk.slots[slot].as_ref()
    }
    /// Adds a page without marks; gives it back when one is there.
    pub fn insert(&mut self, index: u64, page: P) -> Result<(), P> {
        let (chunk, slot) = place(index);
        let chunk = self
            .chunks
            .entry(chunk)
            .or_insert_with(|| Box::new(Chunk::new()));
        if chunk.slots[slot].is_some() {
            return Err(page);
        }
        chunk.slots[slot] = Some(page);
        self.nr_pages += 1;
        Ok(())
    }
    /// Takes a page out, with its marks.
    pub fn remove(&mut self, index: u64) -> Option<P> {
        let (key, slot) = place(index);
        let chunk = self.chunks.get_mut(&key)?;
        let page = chunk.slots[slot].take()?;
        for (marks, total) in chunk.marks.iter_mut().zip(&mut self.nr_marked) {
            if *marks & (1 << slot) != 0 {
                *marks &= !(1 << slot);
                *total -= 1;
            }
        }
        self.nr_pages -= 1;
        if chunk.is_empty() {
            self.chunks.remove(&key);
        }
        Some(page)
    }
    /// Whether the page at `index` carries `mark`.
    pub fn has(&self, index: u64, mark: Mark) -> bool {
        let (chunk, slot) = place(index);
        self.chunks
            .get(&chunk)
            .is_some_and(|c| c.marks[mark as usize] & (1 << slot) != 0)
    }
    /// Sets a mark on the page at `index`; true when there is a page and it lacked the mark.
    pub fn set(&mut self, index: u64, mark: Mark) -> bool {
        let (chunk, slot) = place(index);
        let Some(chunk) = self.chunks.get_mut(&chunk) else {
            return false;
        };
        let marks = &mut chunk.marks[mark as usize];
        if chunk.slots[slot].is_none() || *marks & (1 << slot) != 0 {
            return false;
        }
        *marks |= 1 << slot;
        self.nr_marked[mark as usize] += 1;
        true
    }
    /// Takes a mark off; true when it was there.
    pub fn clear(&mut self, index: u64, mark: Mark) -> bool {
        let (chunk, slot) = place(index);
        let Some(chunk) = self.chunks.get_mut(&chunk) else {
            return false;
        };
        let marks = &mut chunk.marks[mark as usize];
        if *marks & (1 << slot) == 0 {
            return false;
        }
        *marks &= !(1 << slot);
        self.nr_marked[mark as usize] -= 1;
        true
    }
    /// The first page of `[from, to)` that carries `mark`.
    pub fn next_marked(&self, from: u64, to: u64, mark: Mark) -> Option<u64> {
        if self.nr_marked(mark) == 0 || from >= to {
            return None;
        }
        for (key, chunk) in self.chunks.range(from / CHUNK..) {
            let base = key * CHUNK;
            if base >= to {
                return None;
            }
            let mut bits = chunk.marks[mark as usize];
            if base < from {
                bits &= u16::MAX << (from - base);
            }
            if bits != 0 {
                let index = base + u64::from(bits.trailing_zeros());
                return (index < to).then_some(index);
            }
        }
        None
    }
    /// Calls `visit` for the pages of `[from, to)` that carry `with` and not `without`.
    pub fn for_each(
        &self,
        from: u64,
        to: u64,
        with: Mark,
        without: Mark,
        mut visit: impl FnMut(u64, &P),
    ) {
        if from >= to {
            return;
        }
        for (key, chunk) in self.chunks.range(from / CHUNK..=(to - 1) / CHUNK) {
            let base = key * CHUNK;
            let mut bits = chunk.marks[with as usize] & !chunk.marks[without as usize];
            if base < from {
                bits &= u16::MAX << (from - base);
            }
            if to - base < CHUNK {
                bits &= !(u16::MAX << (to - base));
            }
            while bits != 0 {
                let slot = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if let Some(page) = &chunk.slots[slot] {
                    visit(base + slot as u64, page);
                }
            }
        }
    }
    /// The first page at or after `from`.
    pub fn next_page(&self, from: u64) -> Option<(u64, &P)> {
        for (key, chunk) in self.chunks.range(from / CHUNK..) {
            let base = key * CHUNK;
            let first = from.saturating_sub(base) as usize;
            for (slot, page) in chunk.slots.iter().enumerate().skip(first) {
                if let Some(page) = page {
                    return Some((base + slot as u64, page));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_and_go() {
        let mut i = PageIndex::default();
        assert_eq!(i.insert(5, "five"), Ok(()));
        assert_eq!(i.insert(5, "again"), Err("again"));
        assert_eq!(i.insert(u64::MAX / 4096, "far"), Ok(()));
        assert_eq!((i.nr_pages(), i.get(5), i.get(6)), (2, Some(&"five"), None));
        assert_eq!(i.get_uptodate(5), None);
        assert!(i.set(5, Mark::Uptodate));
        assert!(!i.set(5, Mark::Uptodate) && !i.set(6, Mark::Uptodate));
        assert_eq!(i.get_uptodate(5), Some(&"five"));
        assert_eq!(i.remove(5), Some("five"));
        assert_eq!(i.remove(5), None);
        assert_eq!((i.nr_pages(), i.nr_marked(Mark::Uptodate)), (1, 0));
        assert_eq!(i.next_page(0), Some((u64::MAX / 4096, &"far")));
    }

    #[test]
    fn marks_are_found_in_order() {
        let mut i = PageIndex::default();
        for n in [3, 15, 16, 40, 1000] {
            i.insert(n, n).unwrap();
            i.set(n, Mark::Dirty);
        }
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(n) = i.next_marked(at, u64::MAX, Mark::Dirty) {
            found.push(n);
            at = n + 1;
        }
        assert_eq!(found, [3, 15, 16, 40, 1000]);
        assert_eq!(i.next_marked(4, 15, Mark::Dirty), None);
        assert_eq!(i.next_marked(4, 16, Mark::Dirty), Some(15));
        assert_eq!(i.next_marked(17, 1000, Mark::Dirty), Some(40));
        assert!(i.clear(16, Mark::Dirty) && !i.clear(16, Mark::Dirty));
        assert_eq!(i.next_marked(16, 41, Mark::Dirty), Some(40));
        assert_eq!(i.nr_marked(Mark::Dirty), 4);
        i.remove(40);
        assert_eq!(i.nr_marked(Mark::Dirty), 3);
    }

    #[test]
    fn a_range_is_visited_by_its_marks() {
        let mut i = PageIndex::default();
        for n in [0, 14, 15, 16, 17, 31, 32, 100] {
            i.insert(n, n).unwrap();
            i.set(n, Mark::Uptodate);
        }
        i.insert(18, 18).unwrap();
        i.set(17, Mark::Ahead);
        let visited = |from, to| {
            let mut out = Vec::new();
            i.for_each(from, to, Mark::Uptodate, Mark::Ahead, |n, &page| {
                assert_eq!(n, page);
                out.push(n);
            });
            out
        };
        assert_eq!(visited(15, 32), [15, 16, 31]);
        assert_eq!(visited(0, 1), [0]);
        assert_eq!(visited(16, u64::MAX), [16, 31, 32, 100]);
        assert_eq!(visited(5, 5), []);
        assert_eq!(visited(33, 100), []);
    }

    #[test]
    fn touching_marks_as_used() {
        let mut i = PageIndex::default();
        i.insert(1, ()).unwrap();
        assert_eq!(i.touch(1), None);
        i.set(1, Mark::Uptodate);
        assert_eq!(i.touch(1), Some(&()));
        i.touch(1);
        assert_eq!(i.nr_marked(Mark::Referenced), 1);
        assert!(i.clear(1, Mark::Referenced));
    }
}
