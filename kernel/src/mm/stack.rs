//! Kernel stacks: each with an unmapped guard below, recycled when their thread is gone.

use super::addr::VirtAddr;
use super::frame::OutOfMemory;

/// Bytes of a kernel stack.
pub const STACK_BYTES: usize = 32 * 1024;

/// A kernel stack; dropping it gives it back. Nothing may run on it then.
#[derive(Debug)]
pub struct KernelStack {
    bottom: VirtAddr,
}

impl KernelStack {
    /// A stack with undefined content.
    pub fn alloc() -> Result<KernelStack, OutOfMemory> {
        todo!()
    }
    /// Lowest address.
    pub fn bottom(&self) -> VirtAddr {
        self.bottom
    }
    /// Just past the highest address; 16-byte aligned.
    pub fn top(&self) -> VirtAddr {
        self.bottom + STACK_BYTES as u64
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        todo!()
    }
}
