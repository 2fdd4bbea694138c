// A ring of bytes that takes memory when bytes come and not before: what a TCP socket
// promises its peer (its limit) and what it occupies are two things.

use alloc::vec::Vec;
use core::cmp;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all stream buffers occupy.
static OCCUPIED: AtomicUsize = AtomicUsize::new(0);
/// Bytes above which a buffer grows no further than [`ALWAYS`].
static BUDGET: AtomicUsize = AtomicUsize::new(usize::MAX);
/// What a buffer may have whatever the others take, so that every connection goes on.
const ALWAYS: usize = 4096;
/// The least that is taken at a time.
const LEAST: usize = 1024;

/// Bytes that all stream buffers occupy.
pub fn occupied() -> usize {
    OCCUPIED.load(Ordering::Relaxed)
}

/// Sets how much all stream buffers together may occupy, in bytes.
pub fn set_budget(bytes: usize) {
    BUDGET.store(bytes, Ordering::Relaxed);
}

/// A ring buffer of bytes that grows up to a limit.
#[derive(Debug)]
pub struct StreamBuffer {
    storage: Vec<u8>,
    read_at: usize,
    length: usize,
    limit: usize,
}

impl StreamBuffer {
    /// An empty buffer that takes up to `limit` bytes.
    pub fn new(limit: usize) -> StreamBuffer {
        StreamBuffer {
            storage: Vec::new(),
            read_at: 0,
            length: 0,
            limit,
        }
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.read_at = 0;
        self.length = 0;
    }

    /// The most bytes it takes.
    pub fn capacity(&self) -> usize {
        self.limit
    }

    /// Changes the most bytes that it takes; never below what it holds.
    pub fn set_capacity(&mut self, limit: usize) {
        self.limit = limit.max(self.storage.len());
    }

    /// Bytes it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Bytes it would take.
    pub fn window(&self) -> usize {
        self.limit - self.length
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.window() == 0
    }

    /// Gives its memory back when it holds nothing.
    pub fn trim(&mut self) {
        if self.length == 0 {
            OCCUPIED.fetch_sub(self.storage.len(), Ordering::Relaxed);
            self.storage = Vec::new();
            self.read_at = 0;
        }
    }

    fn index(&self, at: usize) -> usize {
        let at = self.read_at + at;
        if at >= self.storage.len() {
            at - self.storage.len()
        } else {
            at
        }
    }

    /// Makes room for `total` bytes counted from the first that it holds; false when that is
    /// beyond its limit or there is no memory.
    pub fn reserve(&mut self, total: usize) -> bool {
        let old = self.storage.len();
        if total <= old {
            return true;
        }
        if total > self.limit {
            return false;
        }
        let new = cmp::max(total, cmp::max(old * 2, LEAST)).min(self.limit);
        let pressed = occupied() + (new - old) > BUDGET.load(Ordering::Relaxed);
        let new = if pressed { total } else { new };
        if pressed && new > ALWAYS {
            return false;
        }
        let mut storage = Vec::new();
        if storage.try_reserve_exact(new).is_err() {
            return false;
        }
        // In order, and with what lies beyond the bytes it holds: pieces of a stream that
        // came early.
        storage.extend_from_slice(&self.storage[self.read_at..]);
        storage.extend_from_slice(&self.storage[..self.read_at]);
        storage.resize(new, 0);
        OCCUPIED.fetch_add(new - old, Ordering::Relaxed);
        self.storage = storage;
        self.read_at = 0;
        true
    }

    /// Appends what fits of `data`; how much that is.
    pub fn enqueue_slice(&mut self, data: &[u8]) -> usize {
        let mut n = cmp::min(data.len(), self.window());
        if !self.reserve(self.length + n) {
            n = cmp::min(n, self.storage.len() - self.length);
        }
        let n = self.write_unallocated(0, &data[..n]);
        self.length += n;
        n
    }

    /// Calls `f` with the largest slice of what it holds that lies in one piece, and removes
    /// as many bytes as `f` says.
    pub fn dequeue_many_with<'b, R, F>(&'b mut self, f: F) -> (usize, R)
    where
        F: FnOnce(&'b mut [u8]) -> (usize, R),
    {
        let max = cmp::min(self.length, self.storage.len() - self.read_at);
        let next = self.read_at;
        let len = self.storage.len();
        let (size, result) = f(&mut self.storage[next..next + max]);
        assert!(size <= max);
        self.length -= size;
        self.read_at = if next + size == len {
            0
        } else {
            next + size
        };
        (size, result)
    }

    /// Takes bytes out, as many as fit `data`.
    pub fn dequeue_slice(&mut self, data: &mut [u8]) -> usize {
        let n = self.read_allocated(0, data);
        self.dequeue_allocated(n);
        n
    }

    /// The largest piece behind the `offset`th byte it holds, of up to `size` bytes.
    pub fn get_allocated(&self, offset: usize, size: usize) -> &[u8] {
        if offset >= self.length {
            return &[];
        }
        let start = self.index(offset);
        let size = size
            .min(self.length - offset)
            .min(self.storage.len() - start);
        &self.storage[start..start + size]
    }

    /// Copies bytes out from the `offset`th on; how many.
    pub fn read_allocated(&self, offset: usize, data: &mut [u8]) -> usize {
        let first = self.get_allocated(offset, data.len());
        let n = first.len();
        data[..n].copy_from_slice(first);
        let rest = self.get_allocated(offset + n, data.len() - n);
        data[n..n + rest.len()].copy_from_slice(rest);
        n + rest.len()
    }

    /// Writes bytes beyond those it holds, `offset` behind their end; how many. Room was made
    /// by [`StreamBuffer::reserve`].
    pub fn write_unallocated(&mut self, offset: usize, data: &[u8]) -> usize {
        let at = self.length + offset;
        if at >= self.storage.len() {
            return 0;
        }
        let n = cmp::min(data.len(), self.storage.len() - at);
        let start = self.index(at);
        let first = cmp::min(n, self.storage.len() - start);
        self.storage[start..start + first].copy_from_slice(&data[..first]);
        self.storage[..n - first].copy_from_slice(&data[first..n]);
        n
    }

    /// Counts bytes that were written beyond its end as held.
    pub fn enqueue_unallocated(&mut self, count: usize) {
        assert!(self.length + count <= self.storage.len());
        self.length += count;
    }

    /// Removes bytes from the front.
    pub fn dequeue_allocated(&mut self, count: usize) {
        assert!(count <= self.length);
        self.read_at = self.index(count);
        if self.read_at == self.storage.len() {
            self.read_at = 0;
        }
        self.length -= count;
    }
}

impl Drop for StreamBuffer {
    fn drop(&mut self) {
        OCCUPIED.fetch_sub(self.storage.len(), Ordering::Relaxed);
    }
}
