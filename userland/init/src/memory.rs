//! Allocation that waits.
//!
//! When memory runs out a Rust program aborts, and the machine goes down with
//! process 1. Here an allocation that fails is tried again after a pause: by
//! then somebody else has ended or was made to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(50);

/// The system's allocator, patient.
pub struct Patient;

#[global_allocator]
static ALLOCATOR: Patient = Patient;

fn until_there(mut attempt: impl FnMut() -> *mut u8) -> *mut u8 {
    loop {
        let found = attempt();
        if !found.is_null() || std::process::id() != 1 {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
}

// SAFETY: every call goes to `System` with the arguments it came with, and what
// `System` returned is returned.
unsafe impl GlobalAlloc for Patient {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract.
        until_there(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `realloc`'s contract; a failed call leaves the block as it was.
        until_there(|| unsafe { System.realloc(pointer, layout, size) })
    }
}
