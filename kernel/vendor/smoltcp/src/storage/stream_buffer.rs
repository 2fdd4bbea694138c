// A queue of bytes that takes memory when bytes come and not before: what a TCP socket
// promises its peer (its limit) and what it occupies are two things.
//
// It is made of pages, for blocks of more than one are not to be had once memory has filled
// up. A buffer that failed to get a page promises no more than it has room for (`strict`),
// until as many bytes as its limit went into it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::{cmp, fmt};

/// Bytes that all stream buffers occupy.
static OCCUPIED: AtomicUsize = AtomicUsize::new(0);
/// Bytes above which a buffer grows no further than [`ALWAYS`].
static BUDGET: AtomicUsize = AtomicUsize::new(usize::MAX);
/// What is taken at a time.
const PAGE: usize = 4096;
/// What a buffer may have whatever the others take, so that every connection goes on.
const ALWAYS: usize = PAGE;
/// The least that is taken at first: most connections carry little.
const LEAST: usize = 1024;
/// Up to so much lies in a single piece that is smaller than a page.
const SMALL: usize = 2048;
/// Pages without bytes that are kept for those to come.
const SPARE: usize = 16;
/// Room that a buffer which is short of memory tries to have, in bytes.
const AHEAD: usize = 32 * 1024;

/// Bytes that all stream buffers occupy.
pub fn occupied() -> usize {
    OCCUPIED.load(Ordering::Relaxed)
}

/// Sets how much all stream buffers together may occupy, in bytes.
pub fn set_budget(bytes: usize) {
    BUDGET.store(bytes, Ordering::Relaxed);
}

type Page = [u8; PAGE];

/// A queue of bytes that grows up to a limit.
#[derive(Debug)]
pub struct StreamBuffer {
    /// All it has while that is less than a page.
    small: Box<[u8]>,
    pages: VecDeque<Box<Page>>,
    /// Where the first byte lies, in `small` or in the first page.
    start: usize,
    length: usize,
    /// Bytes from the first one on that matter: those it holds, and pieces of a stream that
    /// came early.
    extent: usize,
    limit: usize,
    /// There was no memory: so many bytes are to come before more is promised than there is
    /// room for.
    strict: usize,
}

/// A block of `size` bytes, unless there is no memory.
fn block(size: usize) -> Option<Box<[u8]>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).ok()?;
    bytes.resize(size, 0);
    Some(bytes.into_boxed_slice())
}

impl StreamBuffer {
    /// An empty buffer that takes up to `limit` bytes.
    pub fn new(limit: usize) -> StreamBuffer {
        StreamBuffer {
            small: Box::default(),
            pages: VecDeque::new(),
            start: 0,
            length: 0,
            extent: 0,
            limit,
            strict: 0,
        }
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.start = 0;
        self.length = 0;
        self.extent = 0;
        self.strict = 0;
    }

    /// The most bytes it takes.
    pub fn capacity(&self) -> usize {
        self.limit
    }

    /// Changes the most bytes that it takes; never below what it has room for.
    pub fn set_capacity(&mut self, limit: usize) {
        self.limit = limit.max(self.limit.min(self.held()));
    }

    /// Bytes it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Bytes it promises to take.
    #[inline]
    pub fn window(&self) -> usize {
        if self.strict > 0 {
            self.room()
        } else {
            self.limit - self.length
        }
    }

    /// Bytes it takes without more memory.
    pub fn room(&self) -> usize {
        // In a single piece they can be moved to its beginning.
        let start = if self.pages.len() > 1 { self.start } else { 0 };
        (self.held() - start - self.length).min(self.limit - self.length)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.window() == 0
    }

    /// Whether it lacked memory not long ago, and promises no more than it has room for.
    #[inline]
    pub fn is_strict(&self) -> bool {
        self.strict > 0
    }

    /// Whether it lacks memory and nothing that is taken out will make room.
    pub fn is_hungry(&self) -> bool {
        self.strict > 0 && self.held() < PAGE && self.held() < self.limit
    }

    /// Gives its memory back when it holds nothing; not while it promises what it has, unless
    /// `over` says that nobody cares any more.
    pub fn trim(&mut self, over: bool) {
        if self.length == 0 && (self.strict == 0 || over) {
            OCCUPIED.fetch_sub(self.held(), Ordering::Relaxed);
            self.small = Box::default();
            self.pages = VecDeque::new();
            self.clear();
        }
    }

    /// Bytes of memory that it has.
    fn held(&self) -> usize {
        self.small.len() + self.pages.len() * PAGE
    }

    /// What lies at and behind `at`, counted from the beginning of its memory, in one piece.
    fn piece(&self, at: usize) -> &[u8] {
        match self.pages.get(at / PAGE) {
            Some(page) => &page[at % PAGE..],
            None => self.small.get(at..).unwrap_or_default(),
        }
    }

    /// As above, to write.
    fn piece_mut(&mut self, at: usize) -> &mut [u8] {
        match self.pages.get_mut(at / PAGE) {
            Some(page) => &mut page[at % PAGE..],
            None => self.small.get_mut(at..).unwrap_or_default(),
        }
    }

    /// Makes room for `total` bytes counted from the first that it holds; false when that is
    /// beyond its limit or there is no memory.
    #[inline]
    pub fn reserve(&mut self, total: usize) -> bool {
        if total > self.limit {
            return false;
        }
        if self.start + total <= self.held() {
            return true;
        }
        let done = self.grow(total);
        if !done {
            self.strict = self.limit;
        }
        done
    }

    /// Of a buffer that is short of memory: tries to have some room in advance.
    pub fn replenish(&mut self) {
        if self.strict > 0 {
            let total = cmp::min(self.length + AHEAD, self.limit);
            let _ = self.start + total <= self.held() || self.grow(total);
        }
    }

    /// Whether it may occupy `more` bytes.
    fn may_have(&self, more: usize) -> bool {
        self.held() + more <= ALWAYS || occupied() + more <= BUDGET.load(Ordering::Relaxed)
    }

    /// Grows until there is room for `total` bytes, or as far as there is memory.
    #[cold]
    fn grow(&mut self, total: usize) -> bool {
        let fits = total <= self.held() && self.pages.len() <= 1;
        if fits && (self.pages.is_empty() || self.extent <= PAGE / 2) {
            self.shift();
            return true;
        }
        if self.pages.is_empty() {
            let size = match total {
                0..=LEAST => LEAST,
                ..=SMALL => SMALL,
                _ => PAGE,
            };
            if size > self.small.len() && !self.replace(size) {
                return false;
            }
        }
        while self.start + total > self.held() {
            if !self.may_have(PAGE) || !self.add_page() {
                if fits {
                    self.shift();
                }
                return fits;
            }
        }
        true
    }

    /// Moves what it has in one piece to the piece's beginning.
    fn shift(&mut self) {
        let range = self.start..self.start + self.extent;
        match self.pages.front_mut() {
            Some(page) => page.copy_within(range, 0),
            None => self.small.copy_within(range, 0),
        }
        self.start = 0;
    }

    /// Moves what it has to another single piece.
    fn replace(&mut self, size: usize) -> bool {
        let range = self.start..self.start + self.extent;
        let (from, more) = (self.small.len(), size - self.small.len());
        if !self.may_have(more) {
            return false;
        }
        let old = core::mem::take(&mut self.small);
        if size == PAGE {
            if !self.add_page() {
                self.small = old;
                return false;
            }
            OCCUPIED.fetch_sub(from, Ordering::Relaxed);
        } else {
            let Some(new) = block(size) else {
                self.small = old;
                return false;
            };
            OCCUPIED.fetch_add(more, Ordering::Relaxed);
            self.small = new;
        }
        self.piece_mut(0)[..range.len()].copy_from_slice(&old[range]);
        self.start = 0;
        true
    }

    fn add_page(&mut self) -> bool {
        let page: Option<Box<Page>> = block(PAGE).and_then(|b| b.try_into().ok());
        match page {
            Some(page) if self.pages.try_reserve(1).is_ok() => {
                self.pages.push_back(page);
                OCCUPIED.fetch_add(PAGE, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Appends what fits of `data`; how much that is.
    pub fn enqueue_slice(&mut self, data: &[u8]) -> usize {
        let mut n = cmp::min(data.len(), self.limit - self.length);
        if !self.reserve(self.length + n) {
            n = cmp::min(n, self.room());
            let _ = self.reserve(self.length + n);
        }
        let n = self.write_unallocated(0, &data[..n]);
        self.enqueue_unallocated(n);
        n
    }

    /// Calls `f` with the largest slice of what it holds that lies in one piece, and removes
    /// as many bytes as `f` says.
    pub fn dequeue_many_with<R, F>(&mut self, f: F) -> (usize, R)
    where
        F: FnOnce(&mut [u8]) -> (usize, R),
    {
        let length = self.length;
        let piece = self.piece_mut(self.start);
        let max = cmp::min(length, piece.len());
        let (size, result) = f(&mut piece[..max]);
        assert!(size <= max);
        self.dequeue_allocated(size);
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
        let piece = self.piece(self.start + offset);
        &piece[..size.min(self.length - offset).min(piece.len())]
    }

    /// Up to `size` bytes behind the `offset`th one: a first piece, and what follows.
    pub fn view(&self, offset: usize, size: usize) -> (&[u8], Option<Span<'_>>) {
        let first = self.get_allocated(offset, size);
        let offset = offset + first.len();
        let len = cmp::min(size - first.len(), self.length.saturating_sub(offset));
        let rest = Span {
            buffer: self,
            offset,
            len,
        };
        (first, (len > 0).then_some(rest))
    }

    /// Copies bytes out from the `offset`th on; how many.
    pub fn read_allocated(&self, offset: usize, data: &mut [u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let piece = self.get_allocated(offset + done, data.len() - done);
            if piece.is_empty() {
                break;
            }
            data[done..done + piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
        done
    }

    /// Writes bytes beyond those it holds, `offset` behind their end; how many. Room was made
    /// by [`StreamBuffer::reserve`].
    pub fn write_unallocated(&mut self, offset: usize, data: &[u8]) -> usize {
        let at = self.start + self.length + offset;
        let total = cmp::min(data.len(), self.held().saturating_sub(at));
        let mut done = 0;
        while done < total {
            let piece = self.piece_mut(at + done);
            let n = cmp::min(piece.len(), total - done);
            piece[..n].copy_from_slice(&data[done..done + n]);
            done += n;
        }
        self.extent = cmp::max(self.extent, self.length + offset + done);
        done
    }

    /// Counts bytes that were written beyond its end as held.
    pub fn enqueue_unallocated(&mut self, count: usize) {
        assert!(self.start + self.length + count <= self.held());
        self.length += count;
        self.extent = cmp::max(self.extent, self.length);
        self.strict = self.strict.saturating_sub(count);
    }

    /// Removes bytes from the front.
    pub fn dequeue_allocated(&mut self, count: usize) {
        assert!(count <= self.length);
        self.length -= count;
        self.extent -= count;
        self.start += count;
        let turns = self.start / PAGE;
        if turns > 0 {
            // Pages whose bytes were taken out become the last ones.
            self.pages.rotate_left(turns.min(self.pages.len()));
            self.start %= PAGE;
        }
        if self.extent == 0 {
            self.start = 0;
        }
        let used = (self.start + self.extent).div_ceil(PAGE);
        if self.pages.len() > used && self.strict == 0 {
            let presses = occupied() > BUDGET.load(Ordering::Relaxed);
            self.drop_pages(used + if presses { 0 } else { SPARE });
        }
    }

    /// Gives back the pages beyond `keep` of them.
    fn drop_pages(&mut self, keep: usize) {
        if self.pages.len() > keep {
            let gone = self.pages.len() - keep;
            self.pages.truncate(keep);
            OCCUPIED.fetch_sub(gone * PAGE, Ordering::Relaxed);
        }
    }
}

impl Drop for StreamBuffer {
    fn drop(&mut self) {
        OCCUPIED.fetch_sub(self.held(), Ordering::Relaxed);
    }
}

/// Bytes of a buffer, maybe in several pieces.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    buffer: &'a StreamBuffer,
    offset: usize,
    len: usize,
}

impl Span<'_> {
    /// How many there are; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies them to `out`, which is as long.
    pub fn copy_to(&self, out: &mut [u8]) {
        self.buffer.read_allocated(self.offset, &mut out[..self.len]);
    }
}

impl PartialEq for Span<'_> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.buffer, other.buffer)
            && (self.offset, self.len) == (other.offset, other.len)
    }
}

impl Eq for Span<'_> {}

impl fmt::Debug for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({} bytes)", self.len)
    }
}
