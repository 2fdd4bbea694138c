//! The machine's frames: descriptors, the locked buddy allocator, per-CPU caches.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use super::buddy::{Buddy, FrameDesc};
use super::{FrameStats, OutOfMemory, Purpose};
use crate::arch::{MAX_CPUS, cpu_id, irq_restore, irq_save};
use crate::mm::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use crate::sync::{IrqLock, Rank};

/// Frames below this are left to firmware and CPU start-up.
const LOW_MEMORY: u64 = 1 << 20;
/// Most frames a CPU keeps, and how many it takes or gives at once.
const CACHE: usize = 62;
const BATCH: usize = 24;

static BUDDY: IrqLock<Option<Buddy<'static>>> = IrqLock::new(Rank::Frames, None);
static DESCS: AtomicPtr<FrameDesc> = AtomicPtr::new(core::ptr::null_mut());
static NR_DESCS: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// Free frames in the buddy allocator, written under its lock.
static FREE: AtomicUsize = AtomicUsize::new(0);
static RESERVE: AtomicUsize = AtomicUsize::new(0);

struct Cache {
    /// Read by `stats` from other CPUs, written by the own CPU.
    len: AtomicUsize,
    /// Own CPU only, interrupts off.
    frames: UnsafeCell<[u32; CACHE]>,
}
// SAFETY: `frames` is touched by the own CPU with interrupts off.
unsafe impl Sync for Cache {}
static CACHES: [Cache; MAX_CPUS] = [const {
    Cache {
        len: AtomicUsize::new(0),
        frames: UnsafeCell::new([0; CACHE]),
    }
}; MAX_CPUS];

/// All descriptors, by frame number.
pub fn descs() -> &'static [FrameDesc] {
    let ptr = DESCS.load(Ordering::Acquire);
    if ptr.is_null() {
        return &[];
    }
    // SAFETY: `init` stored the array's start after its length; it lives for ever.
    unsafe { core::slice::from_raw_parts(ptr, NR_DESCS.load(Ordering::Relaxed)) }
}

/// The descriptor of the frame at `addr`.
///
/// # Panics
/// For an address that is no RAM: only frames that were allocated are asked for.
#[inline]
pub fn desc(addr: PhysAddr) -> &'static FrameDesc {
    &descs()[(addr.0 >> PAGE_SHIFT) as usize]
}

/// Takes over the memory that the loader left free. Boot CPU, once.
///
/// # Safety
/// The regions are the loader's: usable ones are free RAM that the direct map shows.
pub unsafe fn init(regions: &[MemoryRegion]) -> Result<(), OutOfMemory> {
    let usable = || {
        regions
            .iter()
            .filter(|r| r.kind == MemoryRegionKind::Usable)
            .map(|r| {
                let start = r.start.max(LOW_MEMORY).next_multiple_of(PAGE_SIZE as u64);
                (start, r.end & !(PAGE_SIZE as u64 - 1))
            })
            .filter(|r| r.0 < r.1)
    };
    let end = usable().map(|r| r.1).max().ok_or(OutOfMemory)?;
    let nr = (end >> PAGE_SHIFT) as usize;
    let bytes = (nr * size_of::<FrameDesc>()).next_multiple_of(PAGE_SIZE) as u64;
    // The smallest region that holds the array, so that large ones stay whole.
    let home = usable()
        .filter(|r| r.1 - r.0 >= bytes)
        .min_by_key(|r| r.1 - r.0)
        .ok_or(OutOfMemory)?
        .0;
    let array = PhysAddr(home).as_mut_ptr::<FrameDesc>();
    for page in (0..bytes as usize).step_by(PAGE_SIZE) {
        // SAFETY: usable memory that nobody else has; page-aligned.
        unsafe { super::zero_page(array.cast::<u8>().add(page)) };
    }
    NR_DESCS.store(nr, Ordering::Relaxed);
    DESCS.store(array, Ordering::Release);
    let mut buddy = Buddy::new(descs());
    for (start, end) in usable() {
        let start = if start == home { start + bytes } else { start };
        buddy.free_frames(
            (start >> PAGE_SHIFT) as u32,
            ((end - start) >> PAGE_SHIFT) as usize,
        );
    }
    let free = buddy.nr_free();
    TOTAL.store(free + (bytes >> PAGE_SHIFT) as usize, Ordering::Relaxed);
    FREE.store(free, Ordering::Relaxed);
    RESERVE.store((free / 64).clamp(256, 4096), Ordering::Relaxed);
    *BUDDY.lock() = Some(buddy);
    Ok(())
}

fn with_buddy<R>(f: impl FnOnce(&mut Buddy<'static>) -> Option<R>) -> Result<R, OutOfMemory> {
    let mut guard = BUDDY.lock();
    let buddy = guard.as_mut().ok_or(OutOfMemory)?;
    let result = f(buddy);
    FREE.store(buddy.nr_free(), Ordering::Relaxed);
    result.ok_or(OutOfMemory)
}

pub fn alloc(purpose: Purpose) -> Result<PhysAddr, OutOfMemory> {
    if purpose == Purpose::User && FREE.load(Ordering::Relaxed) < RESERVE.load(Ordering::Relaxed) {
        return Err(OutOfMemory);
    }
    let irq = irq_save();
    let cache = &CACHES[cpu_id()];
    // SAFETY: own CPU, interrupts off.
    let frames = unsafe { &mut *cache.frames.get() };
    let mut len = cache.len.load(Ordering::Relaxed);
    let result = if len == 0 {
        with_buddy(|buddy| {
            while len < BATCH {
                match buddy.alloc(0) {
                    Some(frame) => frames[len] = frame,
                    None => break,
                }
                len += 1;
            }
            (len > 0).then_some(())
        })
    } else {
        Ok(())
    };
    let result = result.map(|()| {
        len -= 1;
        PhysAddr(u64::from(frames[len]) << PAGE_SHIFT)
    });
    cache.len.store(len, Ordering::Relaxed);
    irq_restore(irq);
    result
}

pub fn free(addr: PhysAddr) {
    let irq = irq_save();
    let cache = &CACHES[cpu_id()];
    // SAFETY: own CPU, interrupts off.
    let frames = unsafe { &mut *cache.frames.get() };
    let mut len = cache.len.load(Ordering::Relaxed);
    if len == CACHE {
        // Cannot fail: the allocator is there since the frame came from it.
        let _ = with_buddy(|buddy| {
            for _ in 0..BATCH {
                len -= 1;
                buddy.free(frames[len], 0);
            }
            Some(())
        });
    }
    frames[len] = (addr.0 >> PAGE_SHIFT) as u32;
    cache.len.store(len + 1, Ordering::Relaxed);
    irq_restore(irq);
}

pub fn alloc_many(frames: usize, limit: Option<u64>) -> Result<PhysAddr, OutOfMemory> {
    let limit = limit.map(|l| u32::try_from(l >> PAGE_SHIFT).unwrap_or(u32::MAX));
    let first = with_buddy(|buddy| buddy.alloc_frames(frames, limit))?;
    Ok(PhysAddr(u64::from(first) << PAGE_SHIFT))
}

pub fn free_many(addr: PhysAddr, frames: usize) {
    // Cannot fail, as in `free`.
    let _ = with_buddy(|buddy| {
        buddy.free_frames((addr.0 >> PAGE_SHIFT) as u32, frames);
        Some(())
    });
}

/// One frame for the kernel without a reference count: the heap's.
pub fn kernel_frame() -> Result<PhysAddr, OutOfMemory> {
    alloc(Purpose::Kernel)
}

/// Gives back what [`kernel_frame`] gave.
pub fn free_kernel_frame(addr: PhysAddr) {
    free(addr);
}

pub fn count(addr: PhysAddr) -> &'static AtomicU32 {
    &desc(addr).refs
}

pub fn total() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

pub fn is_short() -> bool {
    FREE.load(Ordering::Relaxed) < RESERVE.load(Ordering::Relaxed)
}

pub fn stats() -> FrameStats {
    let cached: usize = CACHES.iter().map(|c| c.len.load(Ordering::Relaxed)).sum();
    FrameStats {
        total: TOTAL.load(Ordering::Relaxed),
        free: FREE.load(Ordering::Relaxed) + cached,
        reserve: RESERVE.load(Ordering::Relaxed),
    }
}
