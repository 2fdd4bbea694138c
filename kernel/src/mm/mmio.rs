//! Device registers in kernel memory, mapped uncached.

use core::sync::atomic::{AtomicU64, Ordering};

use super::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use super::frame::OutOfMemory;
use super::page_table::{Caching, KernelAccess, MapError, map_kernel};

/// Top-level slot of the kernel half that holds device mappings.
pub const SLOT: usize = 404;
const BASE: u64 = 0xffff_0000_0000_0000 | (SLOT as u64) << 39;
const END: u64 = BASE + (1 << 39);

/// Mappings are never undone, so addresses are only ever counted up.
static NEXT: AtomicU64 = AtomicU64::new(BASE);

/// Maps `len` bytes of device memory at `phys`, uncached, for ever. The result has the same
/// offset in its page as `phys`.
pub fn map(phys: PhysAddr, len: usize) -> Result<VirtAddr, OutOfMemory> {
    let offset = phys.page_offset() as u64;
    let bytes = (len as u64)
        .checked_add(offset)
        .filter(|&b| b < END - BASE)
        .ok_or(OutOfMemory)?
        .next_multiple_of(PAGE_SIZE as u64);
    let first = phys.page_down();
    let va = NEXT.fetch_add(bytes, Ordering::Relaxed);
    if va + bytes > END {
        return Err(OutOfMemory);
    }
    let mut done = 0;
    while done < bytes {
        match map_kernel(
            VirtAddr(va + done),
            first + done,
            KernelAccess::ReadWrite,
            Caching::Uncached,
        ) {
            Ok(()) => {}
            Err(MapError::OutOfMemory | MapError::Occupied | MapError::NotShared) => {
                return Err(OutOfMemory);
            }
        }
        done += PAGE_SIZE as u64;
    }
    Ok(VirtAddr(va + offset))
}
