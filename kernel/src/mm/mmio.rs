//! Device registers in kernel memory.

use super::addr::{PhysAddr, VirtAddr};
use super::frame::OutOfMemory;

/// Maps `len` bytes of device memory at `phys`, uncached, for ever. The result has the same
/// offset in its page as `phys`.
pub fn map(_phys: PhysAddr, _len: usize) -> Result<VirtAddr, OutOfMemory> {
    todo!()
}
