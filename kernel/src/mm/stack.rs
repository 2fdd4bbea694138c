//! Kernel stacks: each with an unmapped guard below, recycled when their thread is gone.
//!
//! A stack takes a slot of twice its size in a region of its own; the lower half of the slot
//! stays unmapped. Stacks of ended threads keep their memory, up to a number, for the next.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::addr::{PAGE_SIZE, VirtAddr};
use super::frame::{FrameRef, OutOfMemory, Purpose};
use super::page_table::{Caching, KernelAccess, map_kernel, unmap_kernel};
use crate::sync::{Rank, SpinLock};

/// Bytes of a kernel stack.
pub const STACK_BYTES: usize = 32 * 1024;
const SLOT_BYTES: u64 = 2 * STACK_BYTES as u64;
/// Top-level slot of the kernel half that holds the stacks.
pub const SLOT: usize = 402;
const BASE: u64 = 0xffff_0000_0000_0000 | (SLOT as u64) << 39;
const END: u64 = BASE + (1 << 39);
/// Stacks kept ready; more are unmapped.
const KEEP: usize = 32;

/// Bottoms of stacks that are mapped and unused, and of slots that are not mapped.
struct Spare {
    mapped: Vec<u64>,
    unmapped: Vec<u64>,
}

static SPARE: SpinLock<Spare> = SpinLock::new(
    Rank::KernelMap,
    Spare {
        mapped: Vec::new(),
        unmapped: Vec::new(),
    },
);
static NEXT: AtomicU64 = AtomicU64::new(BASE);

/// A kernel stack; dropping it gives it back. Nothing may run on it then. Not dropped with
/// a spin lock of rank `KernelMap` or above held, nor in an interrupt handler.
#[derive(Debug)]
pub struct KernelStack {
    bottom: VirtAddr,
}

impl KernelStack {
    /// A stack with undefined content.
    pub fn alloc() -> Result<KernelStack, OutOfMemory> {
        let (mapped, slot) = {
            let mut spare = SPARE.lock();
            (spare.mapped.pop(), spare.unmapped.pop())
        };
        if let Some(bottom) = mapped {
            if let Some(slot) = slot {
                SPARE.lock().unmapped.push(slot);
            }
            return Ok(KernelStack {
                bottom: VirtAddr(bottom),
            });
        }
        let bottom = slot
            .unwrap_or_else(|| NEXT.fetch_add(SLOT_BYTES, Ordering::Relaxed) + STACK_BYTES as u64);
        if bottom >= END {
            return Err(OutOfMemory);
        }
        for done in (0..STACK_BYTES).step_by(PAGE_SIZE) {
            let at = VirtAddr(bottom + done as u64);
            let mapped = FrameRef::alloc(Purpose::Kernel).and_then(|frame| {
                map_kernel(
                    at,
                    frame.addr(),
                    KernelAccess::ReadWrite,
                    Caching::WriteBack,
                )
                .map_err(|_| OutOfMemory)?;
                // The mapping owns it now.
                frame.into_raw();
                Ok(())
            });
            if mapped.is_err() {
                unmap(bottom, done);
                if let Some(spare) = reserve(&mut SPARE.lock().unmapped) {
                    spare.push(bottom);
                }
                return Err(OutOfMemory);
            }
        }
        Ok(KernelStack {
            bottom: VirtAddr(bottom),
        })
    }

    /// Gives up the handle and keeps the stack for ever; returns its top.
    pub fn leak(self) -> VirtAddr {
        let top = self.top();
        core::mem::forget(self);
        top
    }

    /// Just past the highest address; 16-byte aligned.
    pub fn top(&self) -> VirtAddr {
        self.bottom + STACK_BYTES as u64
    }
}

/// The list, with room for one more; a slot that cannot be noted is lost, not reused wrongly.
fn reserve(list: &mut Vec<u64>) -> Option<&mut Vec<u64>> {
    list.try_reserve(1).ok().map(|()| list)
}

/// Unmaps the first `bytes` bytes of a stack and frees their frames.
fn unmap(bottom: u64, bytes: usize) {
    let mut frames = [const { None }; STACK_BYTES / PAGE_SIZE];
    for (i, done) in (0..bytes).step_by(PAGE_SIZE).enumerate() {
        frames[i] = unmap_kernel(VirtAddr(bottom + done as u64));
    }
    crate::arch::tlb::shootdown(crate::arch::CpuMask::MAX, bottom, bottom + bytes as u64);
    for frame in frames.into_iter().flatten() {
        // SAFETY: the mapping owned this reference, and no CPU has it any more.
        drop(unsafe { FrameRef::from_raw(frame) });
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        {
            let mut spare = SPARE.lock();
            if spare.mapped.len() < KEEP
                && let Some(list) = reserve(&mut spare.mapped)
            {
                list.push(self.bottom.0);
                return;
            }
        }
        unmap(self.bottom.0, STACK_BYTES);
        if let Some(list) = reserve(&mut SPARE.lock().unmapped) {
            list.push(self.bottom.0);
        }
    }
}

/// What an address in the region of stacks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In some stack.
    Stack,
    /// In the guard below some stack: the stack overflowed.
    Guard,
}

/// Where `address` lies, if among the kernel stacks.
pub fn place(address: u64) -> Option<Place> {
    if !(BASE..END).contains(&address) {
        return None;
    }
    Some(if (address - BASE) % SLOT_BYTES < STACK_BYTES as u64 {
        Place::Guard
    } else {
        Place::Stack
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_half_of_a_slot_is_guard() {
        assert_eq!(place(BASE - 1), None);
        assert_eq!(place(BASE), Some(Place::Guard));
        assert_eq!(place(BASE + STACK_BYTES as u64 - 1), Some(Place::Guard));
        assert_eq!(place(BASE + STACK_BYTES as u64), Some(Place::Stack));
        assert_eq!(place(BASE + SLOT_BYTES - 1), Some(Place::Stack));
        assert_eq!(place(BASE + SLOT_BYTES), Some(Place::Guard));
        assert_eq!(place(END), None);
    }
}
