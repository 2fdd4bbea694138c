//! The machine's frames: descriptors, the locked buddy allocator, per-CPU caches.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use super::buddy::{Buddy, FrameDesc};
#[cfg(debug_assertions)]
use super::inject;
use super::{FrameStats, OutOfMemory, Purpose};
use crate::arch::{MAX_CPUS, cpu_id, irq_restore, irq_save, percpu};
use crate::mm::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use crate::sync::{IrqLock, Rank};

/// Frames below this are left to firmware and CPU start-up.
const LOW_MEMORY: u64 = 1 << 20;
/// Order of the largest block that memory is freed for: 64 KiB. More would cost most of the
/// page cache.
const MAX_MISSING: u32 = 4;
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
/// A [`Pressure`]. It decides when to look, never what is true: a change that another CPU
/// overtakes costs a round in vain, or one that starts at the next allocation.
static PRESSURE: AtomicU8 = AtomicU8::new(Pressure::None as u8);
/// 1 + order of the largest block that was asked for in vain since the reclaimer last looked.
static MISSING: AtomicU32 = AtomicU32::new(0);

/// What the reclaimer is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Pressure {
    /// There is enough.
    None = 0,
    /// Free frames fell below the low mark, and have not reached the high one since.
    Wanted = 1,
    /// As before, and the reclaimer found nothing to free.
    Hopeless = 2,
}

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

/// All descriptors, by frame number. Those of frames that were never free hold anything.
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

/// Usable memory as ranges of frame numbers, first and end.
fn usable(regions: &[MemoryRegion]) -> impl Iterator<Item = (usize, usize)> {
    regions
        .iter()
        .filter(|r| r.kind == MemoryRegionKind::Usable)
        .map(|r| {
            let start = r.start.max(LOW_MEMORY).div_ceil(PAGE_SIZE as u64);
            (start as usize, (r.end >> PAGE_SHIFT) as usize)
        })
        .filter(|r| r.0 < r.1)
}

/// Frames that the descriptors lie in.
static HOME: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
/// Frames from this number on wait for [`init_rest`].
static DONE: AtomicUsize = AtomicUsize::new(0);
/// Frames, holes included, that [`init`] takes over at once: more would delay the boot of a
/// large machine for the sake of memory that it does not need yet.
const AT_ONCE: usize = (512 << 20) / PAGE_SIZE;

/// Takes over the first part of the memory that the loader left free. Boot CPU, once.
///
/// # Safety
/// The regions are the loader's: usable ones are free RAM that the direct map shows.
pub unsafe fn init(regions: &[MemoryRegion]) -> Result<(), OutOfMemory> {
    let end = usable(regions).map(|r| r.1).max().ok_or(OutOfMemory)?;
    let pages = (end * size_of::<FrameDesc>()).div_ceil(PAGE_SIZE);
    // The smallest region that holds the array, so that large ones stay whole.
    let home = usable(regions)
        .filter(|r| r.1 - r.0 >= pages)
        .min_by_key(|r| r.1 - r.0)
        .ok_or(OutOfMemory)?
        .0;
    HOME[0].store(home, Ordering::Relaxed);
    HOME[1].store(home + pages, Ordering::Relaxed);
    let total: usize = usable(regions).map(|r| r.1 - r.0).sum();
    TOTAL.store(total, Ordering::Relaxed);
    RESERVE.store((total / 64).clamp(256, 4096), Ordering::Relaxed);
    let array = PhysAddr((home as u64) << PAGE_SHIFT).as_mut_ptr::<FrameDesc>();
    NR_DESCS.store(end, Ordering::Relaxed);
    DESCS.store(array, Ordering::Release);
    *BUDDY.lock() = Some(Buddy::new(&[]));
    add(regions, AT_ONCE.min(end));
    Ok(())
}

/// Takes over the rest of the memory, piece by piece. Once, in a thread, with the regions
/// that [`init`] had.
pub fn init_rest(regions: &[MemoryRegion]) {
    const PIECE: usize = (128 << 20) / PAGE_SIZE;
    let end = NR_DESCS.load(Ordering::Relaxed);
    while DONE.load(Ordering::Relaxed) < end {
        add(regions, (DONE.load(Ordering::Relaxed) + PIECE).min(end));
    }
}

/// Takes over usable frames from `DONE` up to `end`. One caller at a time.
fn add(regions: &[MemoryRegion], end: usize) {
    let begin = DONE.load(Ordering::Relaxed);
    let array = DESCS.load(Ordering::Relaxed);
    // SAFETY: `init` made the array as long as all frames; descriptors from `DONE` on are
    // this caller's until the allocator gets them.
    unsafe { array.add(begin).write_bytes(0, end - begin) };
    // SAFETY: the descriptors up to `end` are initialised, and live for ever.
    let known = unsafe { core::slice::from_raw_parts(array, end) };
    let home = (
        HOME[0].load(Ordering::Relaxed),
        HOME[1].load(Ordering::Relaxed),
    );
    // Cannot fail: `init` put the allocator there.
    let _ = with_buddy(|buddy| {
        buddy.extend(known);
        for (first, last) in usable(regions) {
            // Around the descriptors themselves.
            for (first, last) in [(first, last.min(home.0)), (first.max(home.1), last)] {
                let (first, last) = (first.max(begin), last.min(end));
                if first < last {
                    buddy.free_frames(first as u32, last - first);
                }
            }
        }
        Some(())
    });
    DONE.store(end, Ordering::Relaxed);
}

fn with_buddy<R>(f: impl FnOnce(&mut Buddy<'static>) -> Option<R>) -> Result<R, OutOfMemory> {
    let mut guard = BUDDY.lock();
    let buddy = guard.as_mut().ok_or(OutOfMemory)?;
    let result = f(buddy);
    let free = buddy.nr_free();
    FREE.store(free, Ordering::Relaxed);
    let reserve = RESERVE.load(Ordering::Relaxed);
    let pressure = PRESSURE.load(Ordering::Relaxed);
    if free < low_mark(reserve) && pressure == Pressure::None as u8 {
        want_reclaim();
    } else if free >= high_mark(reserve) && pressure == Pressure::Hopeless as u8 {
        PRESSURE.store(Pressure::None as u8, Ordering::Relaxed);
    }
    result.ok_or(OutOfMemory)
}

/// Below this many free frames the reclaimer starts: what the kernel takes until it runs, and
/// while it waits for the disk, must not use up the reserve.
fn low_mark(reserve: usize) -> usize {
    reserve + reserve / 2
}

/// At this many free frames the reclaimer stops.
fn high_mark(reserve: usize) -> usize {
    2 * reserve
}

/// Interrupts are off. Whoever allocates may hold any lock, so the scheduler does the waking
/// when this CPU comes by.
fn want_reclaim() {
    PRESSURE.store(Pressure::Wanted as u8, Ordering::Relaxed);
    percpu::this().need_resched.store(true, Ordering::Relaxed);
}

/// Wakes the reclaimer soon, whatever is free: it also ends mappings of freed blocks. Any
/// context.
pub fn wake_reclaimer() {
    let irq = irq_save();
    want_reclaim();
    irq_restore(irq);
}

/// Whether `frames` frames can go to one block without using up the kernel's reserve.
pub fn spares(frames: usize) -> bool {
    FREE.load(Ordering::Relaxed) >= RESERVE.load(Ordering::Relaxed) / 2 + frames
}

/// Whether the reclaimer has something to do.
#[inline]
pub fn wants_reclaim() -> bool {
    PRESSURE.load(Ordering::Relaxed) == Pressure::Wanted as u8
}

/// Whether the reclaimer has reached its goal: enough free frames, and a block of the largest
/// size that was asked for in vain.
pub fn is_replenished() -> bool {
    let guard = BUDDY.lock();
    let Some(buddy) = guard.as_ref() else {
        return true;
    };
    let missing = MISSING.load(Ordering::Relaxed);
    buddy.nr_free() >= high_mark(RESERVE.load(Ordering::Relaxed))
        && (missing == 0 || buddy.has_block(missing - 1))
}

/// The reclaimer ends its work. When it found too little to free, it is not asked again before
/// memory came back by itself, or [`resume_reclaim`].
pub fn end_reclaim(replenished: bool) {
    MISSING.store(0, Ordering::Relaxed);
    let state = if replenished {
        Pressure::None
    } else {
        Pressure::Hopeless
    };
    PRESSURE.store(state as u8, Ordering::Relaxed);
}

/// Something could be freed after all.
pub fn resume_reclaim() {
    let (from, to) = (Pressure::Hopeless as u8, Pressure::Wanted as u8);
    // In any other state there is nothing to resume.
    let _ = PRESSURE.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
}

pub fn alloc(purpose: Purpose) -> Result<PhysAddr, OutOfMemory> {
    if purpose == Purpose::User && FREE.load(Ordering::Relaxed) < RESERVE.load(Ordering::Relaxed) {
        return Err(OutOfMemory);
    }
    #[cfg(debug_assertions)]
    if purpose == Purpose::User && inject::FRAMES.fails() {
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
    #[cfg(debug_assertions)]
    if frames > 1 && limit.is_none() && inject::BLOCKS.fails() {
        return Err(OutOfMemory);
    }
    let limit = limit.map(|l| u32::try_from(l >> PAGE_SHIFT).unwrap_or(u32::MAX));
    let first = with_buddy(|buddy| {
        let first = buddy.alloc_frames(frames, limit);
        if first.is_none() && limit.is_none() && frames > 1 {
            let order = frames.next_power_of_two().trailing_zeros();
            MISSING.fetch_max(1 + order.min(MAX_MISSING), Ordering::Relaxed);
            want_reclaim();
        }
        first
    })?;
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
