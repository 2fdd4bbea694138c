//! Page frames: the buddy allocator behind per-CPU caches, and counted references.
//!
//! Allocation and freeing work in any context, interrupt handlers included. Each CPU caches
//! single frames, touched with interrupts off; the buddy allocator has a lock.

pub mod buddy;
#[cfg(all(debug_assertions, target_os = "none"))]
pub mod inject;
#[cfg(target_os = "none")]
mod pool;

use core::sync::atomic::{AtomicU32, Ordering};

use super::addr::{PAGE_SIZE, PhysAddr};
#[cfg(target_os = "none")]
pub use pool::{
    desc, descs, free_kernel_frame, init, init_rest, kernel_frame, spares, wake_reclaimer,
};

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
#[derive(Debug)]
pub struct FrameRef {
    addr: PhysAddr,
}

impl FrameRef {
    /// A frame with undefined content.
    pub fn alloc(purpose: Purpose) -> Result<FrameRef, OutOfMemory> {
        let addr = backend::alloc(purpose)?;
        let frame = FrameRef { addr };
        frame.count().store(1, Ordering::Relaxed);
        Ok(frame)
    }
    /// A frame full of zeros.
    pub fn alloc_zeroed(purpose: Purpose) -> Result<FrameRef, OutOfMemory> {
        let frame = Self::alloc(purpose)?;
        frame.zero();
        Ok(frame)
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
        self.count().load(Ordering::Acquire)
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
        unsafe { zero_page(self.as_ptr()) };
    }
    fn count(&self) -> &AtomicU32 {
        backend::count(self.addr)
    }
}

impl Clone for FrameRef {
    fn clone(&self) -> Self {
        self.count().fetch_add(1, Ordering::Relaxed);
        FrameRef { addr: self.addr }
    }
}

impl Drop for FrameRef {
    fn drop(&mut self) {
        if self.count().fetch_sub(1, Ordering::Release) == 1 {
            core::sync::atomic::fence(Ordering::Acquire);
            backend::free(self.addr);
        }
    }
}

/// Physically contiguous frames, for devices; freed when dropped.
#[derive(Debug)]
pub struct ContiguousFrames {
    addr: PhysAddr,
    frames: usize,
}

impl ContiguousFrames {
    /// `frames` frames (at most 4096) with undefined content, aligned to the next power of two
    /// of their size; wholly below physical address `limit` if one is given.
    pub fn alloc(frames: usize, limit: Option<u64>) -> Result<Self, OutOfMemory> {
        let addr = backend::alloc_many(frames, limit)?;
        Ok(ContiguousFrames { addr, frames })
    }
    /// As [`ContiguousFrames::alloc`], full of zeros.
    pub fn alloc_zeroed(frames: usize, limit: Option<u64>) -> Result<Self, OutOfMemory> {
        let block = Self::alloc(frames, limit)?;
        for i in 0..frames {
            // SAFETY: the frames were just allocated.
            unsafe { zero_page(block.as_ptr().add(i * PAGE_SIZE)) };
        }
        Ok(block)
    }
    /// Physical address of the first byte.
    pub fn addr(&self) -> PhysAddr {
        self.addr
    }
    /// The bytes, through the direct map; a device may write them.
    pub fn as_ptr(&self) -> *mut u8 {
        self.addr.as_mut_ptr()
    }
    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.frames * PAGE_SIZE
    }
    /// Takes back what [`ContiguousFrames::leak`] gave up.
    ///
    /// # Safety
    /// The block was leaked with this address and number of frames, and is taken back once.
    pub unsafe fn from_raw(addr: PhysAddr, frames: usize) -> Self {
        ContiguousFrames { addr, frames }
    }
    /// Gives up the handle and keeps the frames.
    pub fn leak(self) -> PhysAddr {
        let addr = self.addr;
        core::mem::forget(self);
        addr
    }
}

impl Drop for ContiguousFrames {
    fn drop(&mut self) {
        backend::free_many(self.addr, self.frames);
    }
}

/// Fills a page with zeros.
///
/// # Safety
/// `page` is a page-aligned page that the caller may write.
#[inline]
pub unsafe fn zero_page(page: *mut u8) {
    #[cfg(target_os = "none")]
    // Plain stores rather than `rep stos`, which software emulation runs word by word with a
    // trip through the emulator each.
    // SAFETY: writes the caller's page only.
    unsafe {
        core::arch::asm!(
            "2:",
            "mov [{p}], {zero}",
            "mov [{p} + 8], {zero}",
            "mov [{p} + 16], {zero}",
            "mov [{p} + 24], {zero}",
            "mov [{p} + 32], {zero}",
            "mov [{p} + 40], {zero}",
            "mov [{p} + 48], {zero}",
            "mov [{p} + 56], {zero}",
            "add {p}, 64",
            "test {p:e}, 0xfff",
            "jnz 2b",
            p = inout(reg) page => _,
            zero = in(reg) 0u64,
            options(nostack),
        )
    };
    #[cfg(not(target_os = "none"))]
    // SAFETY: as above.
    unsafe {
        page.write_bytes(0, PAGE_SIZE)
    };
}

/// Frame counts for /proc/meminfo and pressure decisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameStats {
    /// Frames the allocator manages.
    pub total: usize,
    /// Frames free now, per-CPU caches included.
    pub free: usize,
    /// Frames that only [`Purpose::Kernel`] gets.
    pub reserve: usize,
}

/// Counts of now.
pub fn stats() -> FrameStats {
    backend::stats()
}

/// Frames the allocator manages.
pub fn total() -> usize {
    backend::total()
}

/// Whether only the reserve is left, so that [`Purpose::User`] fails. One load: for checks
/// before a program is given kernel memory.
pub fn is_short() -> bool {
    backend::is_short()
}

#[cfg(target_os = "none")]
use pool as backend;

/// Between the allocator and the thread that reclaims in the background.
pub use backend::{end_reclaim, is_replenished, resume_reclaim, wants_reclaim};

/// On the host, frames are pages of the test's heap, with the count in a page before; their
/// "physical" address is chosen so that the direct map leads back to the page.
#[cfg(not(target_os = "none"))]
mod backend {
    use super::*;
    #[cfg(not(test))]
    use alloc::alloc::{Layout, alloc_zeroed, dealloc};
    #[cfg(test)]
    use std::alloc::{GlobalAlloc, Layout, System};

    // Past the tests' heap, which may be without large blocks: a frame with its count is one.
    #[cfg(test)]
    unsafe fn alloc_zeroed(layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }
    #[cfg(test)]
    unsafe fn dealloc(block: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }

    const DIRECT_MAP: u64 = oxbow_handover::DIRECT_MAP_BASE;

    fn layout(frames: usize) -> Layout {
        Layout::from_size_align((frames + 1) * PAGE_SIZE, PAGE_SIZE).expect("small")
    }
    pub fn alloc(_purpose: Purpose) -> Result<PhysAddr, OutOfMemory> {
        alloc_many(1, None)
    }
    pub fn alloc_many(frames: usize, _limit: Option<u64>) -> Result<PhysAddr, OutOfMemory> {
        #[cfg(test)]
        if !crate::mm::pieces::has_block(frames * super::PAGE_SIZE) {
            return Err(OutOfMemory);
        }
        // SAFETY: the size is not 0.
        let block = unsafe { alloc_zeroed(layout(frames)) };
        if block.is_null() {
            return Err(OutOfMemory);
        }
        let page = block as u64 + PAGE_SIZE as u64;
        Ok(PhysAddr(page.wrapping_sub(DIRECT_MAP)))
    }
    pub fn free(addr: PhysAddr) {
        free_many(addr, 1);
    }
    pub fn free_many(addr: PhysAddr, frames: usize) {
        // SAFETY: the block was allocated so, and is freed once.
        unsafe { dealloc(addr.as_mut_ptr::<u8>().sub(PAGE_SIZE), layout(frames)) };
    }
    pub fn count(addr: PhysAddr) -> &'static AtomicU32 {
        // SAFETY: the page before the frame holds the count.
        unsafe { &*addr.as_mut_ptr::<u8>().sub(PAGE_SIZE).cast::<AtomicU32>() }
    }
    pub fn total() -> usize {
        65536
    }
    pub fn is_short() -> bool {
        false
    }
    pub fn wants_reclaim() -> bool {
        false
    }
    pub fn is_replenished() -> bool {
        true
    }
    pub fn end_reclaim(_replenished: bool) {}
    pub fn resume_reclaim() {}
    pub fn stats() -> FrameStats {
        FrameStats {
            total: 65536,
            free: 32768,
            reserve: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_reference_frees() {
        let a = FrameRef::alloc_zeroed(Purpose::User).unwrap();
        let b = a.clone();
        assert_eq!(a.ref_count(), 2);
        let raw = b.into_raw();
        // SAFETY: taken back once.
        let b = unsafe { FrameRef::from_raw(raw) };
        drop(a);
        assert_eq!(b.ref_count(), 1);
        // SAFETY: the frame is this test's.
        unsafe { assert_eq!(b.as_ptr().read(), 0) };
    }
}
