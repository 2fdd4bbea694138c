//! Blocks of the heap made of single frames: where memory is in pieces, so that there is no
//! block of the size that is wanted, a region of the kernel's half shows frames from anywhere
//! one after the other.
//!
//! Only the heap calls this, and only when the frame allocator has no such block: a mapping
//! costs more than a block of the direct map, and its end an interrupt on every CPU. Blocks
//! that are freed where that may not be waited for are unmapped later, by [`bury`].

#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "the host has a heap of its own")
)]

use super::addr::PAGE_SIZE;

/// Top-level slot of the kernel half that shows the blocks.
pub const SLOT: usize = 403;
const BASE: u64 = 0xffff_0000_0000_0000 | (SLOT as u64) << 39;
/// Pages of the region: 1 GiB.
const PAGES: usize = (1 << 30) / PAGE_SIZE;
const END: u64 = BASE + (PAGES * PAGE_SIZE) as u64;
/// Blocks up to so many pages may use the kernel's whole reserve, as single pages do.
const SMALL: usize = 4;

/// Whether an address is in the region.
pub fn owns(address: u64) -> bool {
    (BASE..END).contains(&address)
}

/// Which pages of a region are in use; the lowest free ones go first, so that few page tables
/// serve many blocks.
struct Pages<const WORDS: usize> {
    used: [u64; WORDS],
}

impl<const WORDS: usize> Pages<WORDS> {
    const fn new() -> Self {
        Pages { used: [0; WORDS] }
    }

    fn is_used(&self, page: usize) -> bool {
        self.used[page / 64] >> (page % 64) & 1 == 1
    }

    /// Takes `n` pages that follow one another; the first.
    fn take(&mut self, n: usize) -> Option<usize> {
        let (mut page, mut run) = (0, 0);
        while page < WORDS * 64 {
            if run == 0 && page.is_multiple_of(64) && self.used[page / 64] == u64::MAX {
                page += 64;
                continue;
            }
            run = if self.is_used(page) { 0 } else { run + 1 };
            page += 1;
            if run == n {
                let first = page - n;
                for p in first..page {
                    self.used[p / 64] |= 1 << (p % 64);
                }
                return Some(first);
            }
        }
        None
    }

    /// Gives `n` pages from `first` on back.
    fn give(&mut self, first: usize, n: usize) {
        for p in first..first + n {
            self.used[p / 64] &= !(1 << (p % 64));
        }
    }
}

#[cfg(target_os = "none")]
pub use machine::{alloc, bury, free};

#[cfg(target_os = "none")]
mod machine {
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::arch::{CpuMask, irqs_enabled, tlb};
    use crate::mm::addr::{PhysAddr, VirtAddr};
    use crate::mm::frame;
    use crate::mm::page_table::{Caching, KernelAccess, map_kernel, unmap_kernel};
    use crate::sync::preempt::may_sleep;
    use crate::sync::{IrqLock, Rank};

    static REGION: IrqLock<Pages<{ PAGES / 64 }>> = IrqLock::new(Rank::KernelMap, Pages::new());
    /// The first of the blocks that wait to be unmapped, 0 for none: each begins with a [`Dead`].
    static DEAD: AtomicU64 = AtomicU64::new(0);

    /// What a freed block holds.
    struct Dead {
        next: u64,
        /// Pages that are mapped.
        mapped: usize,
        /// Pages that the block took, with the guard behind it.
        taken: usize,
    }

    /// A block of `frames` frames with undefined content; `None` when memory or the region is
    /// full. Any context.
    pub fn alloc(frames: usize) -> Option<VirtAddr> {
        let has_room = frames <= SMALL || frame::spares(frames);
        if !has_room || frames >= PAGES {
            return None;
        }
        // The page behind it stays unmapped.
        let taken = frames + 1;
        let first = REGION.lock().take(taken)?;
        let start = BASE + (first * PAGE_SIZE) as u64;
        for i in 0..frames {
            if map_one(start + (i * PAGE_SIZE) as u64).is_none() {
                match i {
                    0 => REGION.lock().give(first, taken),
                    // SAFETY: the first `i` pages are mapped, and nobody has them.
                    _ => unsafe { lay_out(start, i, taken) },
                }
                return None;
            }
        }
        Some(VirtAddr(start))
    }

    fn map_one(at: u64) -> Option<()> {
        let frame = frame::kernel_frame().ok()?;
        let access = KernelAccess::ReadWrite;
        if map_kernel(VirtAddr(at), frame, access, Caching::WriteBack).is_err() {
            frame::free_kernel_frame(frame);
            return None;
        }
        Some(())
    }

    /// Takes a block back. Any context.
    ///
    /// # Safety
    /// `alloc` gave this block of as many frames, and nobody uses it any more.
    pub unsafe fn free(at: VirtAddr, frames: usize) {
        // SAFETY: the caller's.
        unsafe { lay_out(at.0, frames, frames + 1) };
        if may_sleep() && irqs_enabled() {
            bury();
        } else {
            frame::wake_reclaimer();
        }
    }

    /// Puts a block among the dead.
    ///
    /// # Safety
    /// Its `mapped` first pages are mapped, and nobody uses them.
    unsafe fn lay_out(at: u64, mapped: usize, taken: usize) {
        let mut next = DEAD.load(Ordering::Relaxed);
        loop {
            let dead = Dead {
                next,
                mapped,
                taken,
            };
            // SAFETY: the block begins with a mapped page that is this caller's.
            unsafe { (at as *mut Dead).write(dead) };
            match DEAD.compare_exchange_weak(next, at, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }

    /// Unmaps the blocks that were freed and gives their frames back. With interrupts on and
    /// no spin lock held.
    pub fn bury() {
        if DEAD.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut at = DEAD.swap(0, Ordering::Acquire);
        while at != 0 {
            // SAFETY: `lay_out` wrote it; whoever takes the list owns its blocks.
            let dead = unsafe { (at as *const Dead).read() };
            unmap(at, dead.mapped);
            let first = ((at - BASE) / PAGE_SIZE as u64) as usize;
            REGION.lock().give(first, dead.taken);
            at = dead.next;
        }
    }

    fn unmap(start: u64, pages: usize) {
        let end = start + (pages * PAGE_SIZE) as u64;
        // The frames, chained through their first words, until every CPU forgot the pages.
        let mut chain = PhysAddr(0);
        for at in (start..end).step_by(PAGE_SIZE) {
            if let Some(frame) = unmap_kernel(VirtAddr(at)) {
                // SAFETY: the block's frame, which nobody else has.
                unsafe { frame.as_mut_ptr::<u64>().write(chain.0) };
                chain = frame;
            }
        }
        tlb::shootdown(CpuMask::MAX, start, end);
        while chain.0 != 0 {
            // SAFETY: as above; frame 0 is never allocated.
            let next = PhysAddr(unsafe { chain.as_mut_ptr::<u64>().read() });
            frame::free_kernel_frame(chain);
            chain = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_lowest_first_and_used_again() {
        let mut pages = Pages::<3>::new();
        assert_eq!(pages.take(3), Some(0));
        assert_eq!(pages.take(70), Some(3));
        assert_eq!(pages.take(2), Some(73));
        pages.give(0, 3);
        assert_eq!(pages.take(4), Some(75));
        assert_eq!(pages.take(2), Some(0));
        assert_eq!(pages.take(1), Some(2));
        // Across words, and past full ones.
        pages.give(60, 8);
        assert_eq!(pages.take(9), Some(79));
        assert_eq!(pages.take(8), Some(60));
        assert_eq!(pages.take(192), None);
        assert_eq!(pages.take(104), Some(88));
        assert_eq!(pages.take(1), None);
    }
}
