//! The loader has no heap. `object` links against `alloc` whether it uses it or not, and that
//! wants an allocator to exist: this one refuses everything, and no code reaches it.

use core::alloc::{GlobalAlloc, Layout};

struct NoHeap;

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;

// SAFETY: never returns memory, which the trait allows.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
