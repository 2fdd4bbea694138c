//! The buddy allocator: blocks of 2^order frames, split and merged. Pure: it knows frame
//! numbers and descriptors only, so the host tests it.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Largest block: 2^12 frames, 16 MiB.
pub const MAX_ORDER: u32 = 12;
const NIL: u32 = u32::MAX;

/// What the kernel keeps about each page frame. Who owns the frame gives the fields meaning:
/// the buddy allocator (free blocks), [`super::FrameRef`] (`refs`), the heap (slabs).
#[derive(Debug)]
#[repr(C)]
pub struct FrameDesc {
    /// References to the frame; 0 while it is free.
    pub refs: AtomicU32,
    /// 0, or 1 + order at the first frame of a free block, or the heap's slab tag.
    pub state: AtomicU32,
    /// Links of the list that the frame is on.
    pub next: AtomicU32,
    /// See `next`.
    pub prev: AtomicU32,
}

impl FrameDesc {
    /// A frame that is in use: what zeroed memory means.
    pub const fn new() -> Self {
        FrameDesc {
            refs: AtomicU32::new(0),
            state: AtomicU32::new(0),
            next: AtomicU32::new(0),
            prev: AtomicU32::new(0),
        }
    }
}

impl Default for FrameDesc {
    fn default() -> Self {
        Self::new()
    }
}

/// A doubly linked list through descriptors.
#[derive(Clone, Copy, Debug)]
pub struct FrameList {
    head: u32,
}

impl FrameList {
    /// An empty list.
    pub const fn new() -> Self {
        FrameList { head: NIL }
    }
    /// The first frame.
    pub fn first(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }
    /// Puts a frame in front.
    pub fn push(&mut self, descs: &[FrameDesc], frame: u32) {
        let d = &descs[frame as usize];
        d.prev.store(NIL, Relaxed);
        d.next.store(self.head, Relaxed);
        if self.head != NIL {
            descs[self.head as usize].prev.store(frame, Relaxed);
        }
        self.head = frame;
    }
    /// Takes a frame, which is on this list, off it.
    pub fn remove(&mut self, descs: &[FrameDesc], frame: u32) {
        let d = &descs[frame as usize];
        let (next, prev) = (d.next.load(Relaxed), d.prev.load(Relaxed));
        if prev == NIL {
            self.head = next;
        } else {
            descs[prev as usize].next.store(next, Relaxed);
        }
        if next != NIL {
            descs[next as usize].prev.store(prev, Relaxed);
        }
    }
    /// The frame after `frame`.
    fn after(descs: &[FrameDesc], frame: u32) -> Option<u32> {
        let next = descs[frame as usize].next.load(Relaxed);
        (next != NIL).then_some(next)
    }
}

impl Default for FrameList {
    fn default() -> Self {
        Self::new()
    }
}

/// The allocator. Frame n's descriptor is `descs[n]`.
pub struct Buddy<'a> {
    descs: &'a [FrameDesc],
    free: [FrameList; MAX_ORDER as usize + 1],
    nr_free: usize,
}

impl<'a> Buddy<'a> {
    /// An allocator without free frames.
    pub const fn new(descs: &'a [FrameDesc]) -> Self {
        Buddy {
            descs,
            free: [FrameList::new(); MAX_ORDER as usize + 1],
            nr_free: 0,
        }
    }

    /// Adds descriptors behind those there are: `descs` begins with the old ones.
    pub fn extend(&mut self, descs: &'a [FrameDesc]) {
        debug_assert!(descs.len() >= self.descs.len());
        self.descs = descs;
    }

    /// Frames free now.
    pub fn nr_free(&self) -> usize {
        self.nr_free
    }

    /// Whether there is a free block of 2^`order` frames.
    pub fn has_block(&self, order: u32) -> bool {
        let fitting = self.free.get(order as usize..).unwrap_or_default();
        fitting.iter().any(|list| list.first().is_some())
    }

    fn insert(&mut self, frame: u32, order: u32) {
        self.descs[frame as usize].state.store(1 + order, Relaxed);
        self.free[order as usize].push(self.descs, frame);
    }

    fn take(&mut self, frame: u32, order: u32) {
        self.descs[frame as usize].state.store(0, Relaxed);
        self.free[order as usize].remove(self.descs, frame);
    }

    /// Splits the free block at `frame`, already taken off its list, down to `want`; its
    /// upper halves stay free.
    fn split(&mut self, frame: u32, mut order: u32, want: u32) -> u32 {
        while order > want {
            order -= 1;
            self.insert(frame + (1 << order), order);
        }
        self.nr_free -= 1 << want;
        frame
    }

    /// A block of 2^`order` frames, aligned to its size.
    pub fn alloc(&mut self, order: u32) -> Option<u32> {
        for o in order..=MAX_ORDER {
            if let Some(frame) = self.free[o as usize].first() {
                self.take(frame, o);
                return Some(self.split(frame, o, order));
            }
        }
        None
    }

    /// As [`Buddy::alloc`], wholly below frame number `limit`. Slower: it searches.
    pub fn alloc_below(&mut self, order: u32, limit: u32) -> Option<u32> {
        for o in order..=MAX_ORDER {
            let mut at = self.free[o as usize].first();
            while let Some(frame) = at {
                if frame
                    .checked_add(1 << order)
                    .is_some_and(|end| end <= limit)
                {
                    self.take(frame, o);
                    return Some(self.split(frame, o, order));
                }
                at = FrameList::after(self.descs, frame);
            }
        }
        None
    }

    /// Frees a block that was allocated, or adds one.
    pub fn free(&mut self, mut frame: u32, mut order: u32) {
        debug_assert!(self.descs[frame as usize].state.load(Relaxed) == 0);
        self.nr_free += 1 << order;
        while order < MAX_ORDER {
            let buddy = frame ^ (1 << order);
            match self.descs.get(buddy as usize) {
                Some(d) if d.state.load(Relaxed) == 1 + order => self.take(buddy, order),
                _ => break,
            }
            frame &= !(1 << order);
            order += 1;
        }
        self.insert(frame, order);
    }

    /// The order of the smallest block with `frames` frames; `None` above the largest.
    pub fn order_for(frames: usize) -> Option<u32> {
        let order = frames.max(1).checked_next_power_of_two()?.trailing_zeros();
        (order <= MAX_ORDER).then_some(order)
    }

    /// `frames` contiguous frames, aligned to the next power of two, without wasting the rest.
    pub fn alloc_frames(&mut self, frames: usize, limit: Option<u32>) -> Option<u32> {
        let order = Self::order_for(frames)?;
        let first = match limit {
            None => self.alloc(order)?,
            Some(limit) => self.alloc_below(order, limit)?,
        };
        self.free_frames(first + frames as u32, (1usize << order) - frames);
        Some(first)
    }

    /// Frees, or adds, `frames` frames from `first` on, in the largest blocks that fit.
    pub fn free_frames(&mut self, mut first: u32, mut frames: usize) {
        while frames > 0 {
            let order = first.trailing_zeros().min(frames.ilog2()).min(MAX_ORDER);
            self.free(first, order);
            first += 1 << order;
            frames -= 1 << order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn descs(n: usize) -> Vec<FrameDesc> {
        (0..n).map(|_| FrameDesc::new()).collect()
    }

    #[test]
    fn splits_and_merges_back() {
        let d = descs(64);
        let mut b = Buddy::new(&d);
        b.free_frames(0, 64);
        assert_eq!(b.nr_free(), 64);
        let all: Vec<u32> = (0..64).map(|_| b.alloc(0).unwrap()).collect();
        assert_eq!(b.alloc(0), None);
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|w| w[0] != w[1]));
        for f in all {
            b.free(f, 0);
        }
        assert_eq!(b.nr_free(), 64);
        assert_eq!(b.alloc(6), Some(0));
    }

    #[test]
    fn holes_never_merge() {
        let d = descs(64);
        let mut b = Buddy::new(&d);
        b.free_frames(3, 10);
        b.free_frames(20, 44);
        assert_eq!(b.nr_free(), 54);
        assert_eq!(b.alloc(5), Some(32));
        assert_eq!(b.alloc(5), None);
        let mut got = Vec::new();
        while let Some(f) = b.alloc(0) {
            assert!((3..13).contains(&f) || (20..64).contains(&f));
            got.push(f);
        }
        assert_eq!(got.len(), 22);
    }

    #[test]
    fn frames_beyond_the_descriptors_do_not_exist_until_added() {
        let d = descs(64);
        // What is not yet initialised may look like a free block.
        d[32].state.store(1 + 5, Relaxed);
        let mut b = Buddy::new(&d[..32]);
        b.free_frames(0, 32);
        assert_eq!(b.alloc(6), None);
        d[32].state.store(0, Relaxed);
        b.extend(&d);
        b.free_frames(32, 32);
        assert_eq!(b.alloc(6), Some(0));
    }

    #[test]
    fn odd_sizes_waste_nothing() {
        let d = descs(32);
        let mut b = Buddy::new(&d);
        b.free_frames(0, 32);
        let a = b.alloc_frames(5, None).unwrap();
        assert_eq!(b.nr_free(), 27);
        b.free_frames(a, 5);
        assert_eq!(b.nr_free(), 32);
        assert_eq!(b.alloc(5), Some(0));
        assert_eq!(Buddy::order_for(0), Some(0));
        assert_eq!(Buddy::order_for(usize::MAX), None);
    }

    #[test]
    fn larger_blocks_count_as_smaller_ones() {
        let d = descs(16);
        let mut b = Buddy::new(&d);
        b.free_frames(0, 4);
        assert!(b.has_block(0) && b.has_block(2));
        assert!(!b.has_block(3) && !b.has_block(MAX_ORDER + 1));
        b.alloc(0).unwrap();
        assert!(b.has_block(1) && !b.has_block(2));
    }

    #[test]
    fn limits_hold() {
        let d = descs(64);
        let mut b = Buddy::new(&d);
        b.free_frames(8, 56);
        let low = b.alloc_below(2, 16).unwrap();
        assert!(low + 4 <= 16);
        assert_eq!(b.alloc_below(3, 16), None);
        assert_eq!(b.alloc_frames(3, Some(8)), None);
        b.free(low, 2);
        assert_eq!(b.nr_free(), 56);
    }

    #[test]
    fn random_use_keeps_blocks_apart() {
        let d = descs(1024);
        let mut b = Buddy::new(&d);
        b.free_frames(1, 1023);
        let mut used = std::vec![false; 1024];
        let mut live: Vec<(u32, usize)> = Vec::new();
        let mut x = 12345u64;
        let mut random = move || {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (x >> 33) as usize
        };
        for _ in 0..20_000 {
            if random() % 2 == 0 || live.is_empty() {
                let n = 1 + random() % 20;
                if let Some(f) = b.alloc_frames(n, None) {
                    for frame in &mut used[f as usize..f as usize + n] {
                        assert!(!*frame);
                        *frame = true;
                    }
                    live.push((f, n));
                }
            } else {
                let i = random() % live.len();
                let (f, n) = live.swap_remove(i);
                used[f as usize..f as usize + n].fill(false);
                b.free_frames(f, n);
            }
            assert_eq!(b.nr_free(), 1023 - live.iter().map(|l| l.1).sum::<usize>());
        }
        for (f, n) in live {
            b.free_frames(f, n);
        }
        // Frame 0 was never given: the largest block is the upper half.
        assert_eq!(b.alloc(9), Some(512));
    }
}
