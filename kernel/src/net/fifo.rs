//! A queue in pieces of a page, for what programs and peers send: it grows while memory has
//! pages, and does without larger blocks.
//!
//! Who calls: sockets, listeners and shards, under their own locks.

use alloc::collections::VecDeque;

use crate::mm::PAGE_SIZE;

/// A queue.
pub struct Fifo<T> {
    /// In order; none is empty but the only one.
    pieces: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Fifo<T> {
        Fifo::new()
    }
}

impl<T> Fifo<T> {
    /// Elements of a whole piece.
    const PIECE: usize = if PAGE_SIZE > size_of::<T>() {
        PAGE_SIZE / size_of::<T>()
    } else {
        1
    };
    /// Elements that the first piece begins with.
    const FIRST: usize = if Self::PIECE < 4 { Self::PIECE } else { 4 };

    /// An empty queue, without memory.
    pub const fn new() -> Fifo<T> {
        Fifo {
            pieces: VecDeque::new(),
            len: 0,
        }
    }

    /// Elements in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for one more element at the end; false without memory.
    pub fn reserve(&mut self) -> bool {
        let mut size = Self::FIRST;
        if let Some(last) = self.pieces.back_mut() {
            let len = last.len();
            if len < last.capacity() {
                return true;
            }
            let more = len.min(Self::PIECE.saturating_sub(len));
            if more > 0 && last.try_reserve_exact(more).is_ok() {
                return true;
            }
            size = Self::PIECE;
        }
        let mut piece = VecDeque::new();
        if piece.try_reserve_exact(size).is_err() || self.pieces.try_reserve(1).is_err() {
            return false;
        }
        self.pieces.push_back(piece);
        true
    }

    /// Puts an element behind the others; gives it back when there is no memory.
    pub fn push_back(&mut self, element: T) -> Result<(), T> {
        if !self.reserve() {
            return Err(element);
        }
        if let Some(last) = self.pieces.back_mut() {
            last.push_back(element);
            self.len += 1;
        }
        Ok(())
    }

    /// Puts an element before the others; gives it back when there is no memory.
    pub fn push_front(&mut self, element: T) -> Result<(), T> {
        let has_room = |p: &VecDeque<T>| p.len() < p.capacity();
        if !self.pieces.front().is_some_and(has_room) {
            let mut piece = VecDeque::new();
            let fits = piece.try_reserve_exact(Self::FIRST).is_ok();
            if !fits || self.pieces.try_reserve(1).is_err() {
                return Err(element);
            }
            self.pieces.push_front(piece);
        }
        if let Some(first) = self.pieces.front_mut() {
            first.push_front(element);
            self.len += 1;
        }
        Ok(())
    }

    /// The first element.
    pub fn front(&self) -> Option<&T> {
        self.pieces.front()?.front()
    }

    /// The first element, to change.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.pieces.front_mut()?.front_mut()
    }

    /// Element number `at`, to change.
    pub fn get_mut(&mut self, mut at: usize) -> Option<&mut T> {
        for piece in &mut self.pieces {
            match piece.get_mut(at) {
                Some(_) => return piece.get_mut(at),
                None => at -= piece.len(),
            }
        }
        None
    }

    /// Takes the first element.
    pub fn pop_front(&mut self) -> Option<T> {
        let piece = self.pieces.front_mut()?;
        let element = piece.pop_front()?;
        self.len -= 1;
        if piece.is_empty() && self.pieces.len() > 1 {
            self.pieces.pop_front();
        }
        Some(element)
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }
}

impl<T> IntoIterator for Fifo<T> {
    type Item = T;
    type IntoIter = core::iter::Flatten<alloc::collections::vec_deque::IntoIter<VecDeque<T>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::pieces::{in_pieces, without_blocks_above};

    #[test]
    fn goes_round_in_order_in_pieces() {
        let mut fifo = Fifo::new();
        let (mut first, mut next) = (0u64, 0u64);
        for turn in 0..50 {
            in_pieces(|| {
                for _ in 0..turn * 61 % 3000 {
                    assert_eq!(fifo.push_back([next, 0, 0, 0]), Ok(()));
                    next += 1;
                }
                for _ in 0..turn * 59 % 3000 {
                    match fifo.pop_front() {
                        Some([n, ..]) => {
                            assert_eq!(n, first);
                            first += 1;
                        }
                        None => assert_eq!(first, next),
                    }
                }
                if first > 0 && turn % 3 == 0 {
                    first -= 1;
                    assert_eq!(fifo.push_front([first, 0, 0, 0]), Ok(()));
                }
            });
            assert_eq!(fifo.len() as u64, next - first);
            assert_eq!(fifo.is_empty(), next == first);
            assert_eq!(fifo.front().is_none(), next == first);
            let at = turn as usize * 31;
            let seen = fifo.get_mut(at).map(|e| e[0]);
            assert_eq!(seen, (at < fifo.len()).then_some(first + at as u64));
            assert!(fifo.iter().map(|e| e[0]).eq(first..next));
        }
        assert!(fifo.into_iter().map(|e| e[0]).eq(first..next));
    }

    #[test]
    fn gives_back_what_there_is_no_memory_for() {
        let mut fifo = Fifo::new();
        let refused =
            without_blocks_above(10, || (fifo.push_back([1u64; 8]), fifo.push_front([1; 8])));
        assert_eq!(refused, (Err([1; 8]), Err([1; 8])));
        assert!(fifo.is_empty() && fifo.pop_front().is_none());
        assert_eq!(fifo.push_back([2; 8]), Ok(()));
        assert_eq!(fifo.front(), Some(&[2; 8]));
    }
}
