//! Physical memory: addresses, frames, page tables, the heap. Never sleeps.

pub mod addr;
pub mod frame;
pub mod page_table;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, UserAddr, VirtAddr};
pub use frame::FrameRef;
