//! Page frames: the buddy allocator behind per-CPU caches, and counted references.
//! (Skeleton: the arch/mm owner replaces the bodies.)

use super::addr::{PAGE_SIZE, PhysAddr};

/// No memory: the caller turns it into `ENOMEM`, reclaims, or picks an OOM victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for crate::error::Errno {
    fn from(_: OutOfMemory) -> Self {
        crate::error::Errno::ENOMEM
    }
}

/// Who asks: user memory stops at a watermark so that the kernel can still work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Kernel structures and page tables: may use the reserve.
    Kernel,
    /// Program memory and page cache: fails early.
    User,
}

/// A counted reference to one page frame. The count lives in the frame's descriptor;
/// the last reference frees the frame. Page-table entries own one reference each
/// ([`FrameRef::into_raw`] / [`FrameRef::from_raw`]).
pub struct FrameRef {
    addr: PhysAddr,
}

impl FrameRef {
    /// A frame with undefined content.
    pub fn alloc(_purpose: Purpose) -> Result<FrameRef, OutOfMemory> {
        todo!()
    }
    /// A frame full of zeros.
    pub fn alloc_zeroed(_purpose: Purpose) -> Result<FrameRef, OutOfMemory> {
        todo!()
    }
    /// Physical address of the frame.
    pub fn addr(&self) -> PhysAddr {
        self.addr
    }
    /// The frame's bytes through the direct map. Content races (a program writing its own
    /// page) are the caller's to bear: copy with raw pointers, make no `&[u8]` of shared pages.
    pub fn as_ptr(&self) -> *mut u8 {
        self.addr.as_mut_ptr()
    }
    /// How many references exist now; 1 means only this one.
    pub fn ref_count(&self) -> u32 {
        todo!()
    }
    /// Gives up the handle, keeps the reference: for page-table entries.
    pub fn into_raw(self) -> PhysAddr {
        let addr = self.addr;
        core::mem::forget(self);
        addr
    }
    /// Takes back a reference that [`FrameRef::into_raw`] gave up.
    ///
    /// # Safety
    /// `addr` came from `into_raw`, and its reference is taken back once.
    pub unsafe fn from_raw(addr: PhysAddr) -> FrameRef {
        FrameRef { addr }
    }
    /// Fills the frame with zeros.
    pub fn zero(&self) {
        // SAFETY: the reference keeps the frame; zeroing bytes that a program may also write
        // is harmless.
        unsafe { core::ptr::write_bytes(self.as_ptr(), 0, PAGE_SIZE) };
    }
}

impl Clone for FrameRef {
    fn clone(&self) -> Self {
        todo!()
    }
}

impl Drop for FrameRef {
    fn drop(&mut self) {
        todo!()
    }
}

/// Frame counts for /proc/meminfo and pressure decisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameStats {
    /// Frames the allocator manages.
    pub total: usize,
    /// Frames free now, per-CPU caches included.
    pub free: usize,
}

/// Counts of now.
pub fn stats() -> FrameStats {
    todo!()
}
