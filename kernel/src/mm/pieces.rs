//! Memory in pieces, for tests: the state of a machine whose page cache left single free pages
//! and no larger blocks. What takes memory of a size that a program or a peer chooses has to do
//! with a page at a time there, and to come through when there is not even that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::PAGE_SIZE;

std::thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Whether this thread finds a block of `size` bytes now.
pub fn has_block(size: usize) -> bool {
    size <= LARGEST.get()
}

/// Calls `f` while this thread finds no block above a page.
pub fn in_pieces<R>(f: impl FnOnce() -> R) -> R {
    without_blocks_above(PAGE_SIZE, f)
}

/// Calls `f` while this thread finds no block above `size` bytes. Who asks for one and cannot
/// do without (`Vec::push`) ends the test.
pub fn without_blocks_above<R>(size: usize, f: impl FnOnce() -> R) -> R {
    /// Ends it, also when `f` panics.
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            LARGEST.set(self.0);
        }
    }
    let _restore = Restore(LARGEST.replace(size));
    f()
}

struct Heap;

// SAFETY: the system's allocator, which sometimes has nothing.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !has_block(layout.size()) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's; it came from there.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static HEAP: Heap = Heap;
