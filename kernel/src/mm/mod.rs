//! Physical memory: addresses, frames, page tables, the heap. Never sleeps.

pub mod addr;
pub mod frame;
pub mod heap;
pub mod mmio;
pub mod page_table;
#[cfg(test)]
pub mod pieces;
pub mod scattered;
pub mod stack;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, UserAddr, VirtAddr};
pub use frame::FrameRef;
