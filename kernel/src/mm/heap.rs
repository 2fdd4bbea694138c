//! The kernel heap: size classes over page frames, with a magazine per CPU and class; what is
//! larger than half a page comes from the buddy allocator, or is put together from single
//! frames where that has no block of the size.
//!
//! Works in any context, interrupt handlers included. A slab is one frame of equal objects.
//! Its descriptor says how many are in use and which is the first free one; a free object
//! holds the index of the next. Slabs with room are on their class's list.

#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "the host has a heap of its own")
)]

use core::alloc::Layout;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::addr::PAGE_SIZE;
use super::frame::buddy::{FrameDesc, FrameList};

/// Object sizes in bytes.
const CLASSES: [u16; 14] = [
    16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1360, 2048,
];
/// Objects in a magazine: what makes a CPU's magazines fit in one frame.
const MAGAZINE: usize = 35;

/// What every size up to the largest class's is a multiple of, in [`SMALLEST`].
const STEP: usize = 16;
/// The first class that is large enough for `STEP * (index + 1)` bytes.
const SMALLEST: [u8; 128] = {
    let mut table = [0; 128];
    let mut i = 0;
    while i < table.len() {
        let mut class = 0;
        while (CLASSES[class] as usize) < STEP * (i + 1) {
            class += 1;
        }
        table[i] = class as u8;
        i += 1;
    }
    table
};
const _: () = assert!(CLASSES[CLASSES.len() - 1] as usize == STEP * SMALLEST.len());

/// The class for a layout; `None` when it goes to the buddy allocator.
#[inline]
fn class_for(size: usize, align: usize) -> Option<usize> {
    let first = usize::from(*SMALLEST.get(size.saturating_sub(1) / STEP)?);
    if align <= STEP {
        return Some(first);
    }
    (first..CLASSES.len()).find(|&class| usize::from(CLASSES[class]).is_multiple_of(align))
}

/// Frames for a layout without a class. Blocks are aligned to the next power of two of their
/// size, so an alignment above a page takes at least as many frames.
fn frames_for(layout: Layout) -> usize {
    layout.size().max(layout.align()).div_ceil(PAGE_SIZE)
}

/// One class's slabs with free objects. Pure but for the objects' memory, which `page` gives.
struct Class {
    size: u16,
    partial: FrameList,
    /// Slabs on the list that are wholly free; more than one is not kept.
    nr_empty: usize,
    nr_slabs: usize,
    /// Objects in use, those in magazines included.
    nr_used: usize,
}

/// End of a slab's list of free objects.
const NO_OBJECT: u16 = u16::MAX;

/// In-use count and first free index of a slab, packed in `FrameDesc::refs`.
fn pack(in_use: u16, first: u16) -> u32 {
    u32::from(in_use) << 16 | u32::from(first)
}
fn unpack(word: u32) -> (u16, u16) {
    ((word >> 16) as u16, word as u16)
}

impl Class {
    const fn new(size: u16) -> Self {
        Class {
            size,
            partial: FrameList::new(),
            nr_empty: 0,
            nr_slabs: 0,
            nr_used: 0,
        }
    }

    fn objects(&self) -> u16 {
        (PAGE_SIZE / usize::from(self.size)) as u16
    }

    /// Makes a fresh frame a slab with all objects free.
    ///
    /// # Safety
    /// The page is the frame's and unused.
    unsafe fn add_slab(&mut self, descs: &[FrameDesc], frame: u32, page: *mut u8) {
        let n = self.objects();
        for i in 0..n {
            let next = if i + 1 == n { NO_OBJECT } else { i + 1 };
            // SAFETY: object i lies in the page.
            unsafe { self.object(page, i).cast::<u16>().write(next) };
        }
        descs[frame as usize].refs.store(pack(0, 0), Relaxed);
        self.partial.push(descs, frame);
        self.nr_empty += 1;
        self.nr_slabs += 1;
    }

    /// # Safety
    /// `index` is below the number of objects.
    unsafe fn object(&self, page: *mut u8, index: u16) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { page.add(usize::from(index) * usize::from(self.size)) }
    }

    /// A free object; `None` when there is no slab with one.
    fn take(&mut self, descs: &[FrameDesc], page: impl Fn(u32) -> *mut u8) -> Option<*mut u8> {
        let frame = self.partial.first()?;
        let desc = &descs[frame as usize];
        let (in_use, first) = unpack(desc.refs.load(Relaxed));
        // SAFETY: `first` is a free object of a slab, which holds the next one's index.
        let (object, next) = unsafe {
            let object = self.object(page(frame), first);
            (object, object.cast::<u16>().read())
        };
        desc.refs.store(pack(in_use + 1, next), Relaxed);
        if in_use == 0 {
            self.nr_empty -= 1;
        }
        if next == NO_OBJECT {
            self.partial.remove(descs, frame);
        }
        self.nr_used += 1;
        Some(object)
    }

    /// Takes an object back; returns the frame when its slab is not needed any more.
    ///
    /// # Safety
    /// The object is one of this class's slab at `frame`, in use until now.
    unsafe fn give(&mut self, descs: &[FrameDesc], frame: u32, object: *mut u8) -> Option<u32> {
        let index = ((object as usize % PAGE_SIZE) / usize::from(self.size)) as u16;
        let desc = &descs[frame as usize];
        let (in_use, first) = unpack(desc.refs.load(Relaxed));
        // SAFETY: the object is free now and at least 16 bytes long.
        unsafe { object.cast::<u16>().write(first) };
        desc.refs.store(pack(in_use - 1, index), Relaxed);
        if first == NO_OBJECT {
            self.partial.push(descs, frame);
        }
        self.nr_used -= 1;
        if in_use == 1 {
            if self.nr_empty > 0 {
                self.nr_slabs -= 1;
                self.partial.remove(descs, frame);
                desc.refs.store(0, Relaxed);
                return Some(frame);
            }
            self.nr_empty += 1;
        }
        None
    }
}

/// What one class has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of an object.
    pub size: usize,
    /// Objects that one slab, a page, holds.
    pub per_slab: usize,
    /// Objects in use, those included that a CPU has at hand.
    pub used: usize,
    /// Slabs.
    pub slabs: usize,
}

impl Class {
    fn usage(&self) -> Usage {
        Usage {
            size: usize::from(self.size),
            per_slab: usize::from(self.objects()),
            used: self.nr_used,
            slabs: self.nr_slabs,
        }
    }
}

/// What each class has now, the smallest objects first.
#[cfg(not(target_os = "none"))]
pub fn usage() -> [Usage; CLASSES.len()] {
    CLASSES.map(|size| Class::new(size).usage())
}

/// Frames in use by slabs and large blocks.
static FRAMES_USED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of page frames that the heap holds now.
pub fn bytes_used() -> usize {
    FRAMES_USED.load(Relaxed) * PAGE_SIZE
}

#[cfg(target_os = "none")]
pub use machine::{Heap, init_cpu, set_relief, usage};

#[cfg(target_os = "none")]
mod machine {
    use core::alloc::GlobalAlloc;
    use core::sync::atomic::{AtomicPtr, Ordering};

    use super::*;
    use crate::arch::{MAX_CPUS, cpu_id, irq_restore, irq_save, irqs_enabled};
    use crate::mm::addr::{PhysAddr, VirtAddr};
    use crate::mm::frame::{self, ContiguousFrames, FrameRef, Purpose};
    use crate::mm::scattered;
    use crate::sync::preempt::may_sleep;
    use crate::sync::spin::check_allocation;
    use crate::sync::{IrqLock, Rank};

    static SLABS: [IrqLock<Class>; CLASSES.len()] = {
        let mut classes = [const { IrqLock::new(Rank::Heap, Class::new(0)) }; CLASSES.len()];
        let mut i = 0;
        while i < CLASSES.len() {
            classes[i] = IrqLock::new(Rank::Heap, Class::new(CLASSES[i]));
            i += 1;
        }
        classes
    };

    /// Free objects at hand for one CPU, touched by it alone with interrupts off.
    #[repr(C)]
    struct Magazine {
        len: usize,
        objects: [*mut u8; MAGAZINE],
    }
    type Magazines = [Magazine; CLASSES.len()];
    const _: () = assert!(size_of::<Magazines>() <= PAGE_SIZE);

    static MAGAZINES: [AtomicPtr<Magazines>; MAX_CPUS] =
        [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

    /// Gives this CPU its magazines. Without them allocation works, slower.
    pub fn init_cpu() {
        if let Ok(frame) = FrameRef::alloc_zeroed(Purpose::Kernel) {
            let at = frame.into_raw().as_mut_ptr::<Magazines>();
            MAGAZINES[cpu_id()].store(at, Ordering::Release);
        }
    }

    /// What each class has now, the smallest objects first.
    pub fn usage() -> [Usage; CLASSES.len()] {
        core::array::from_fn(|class| SLABS[class].lock().usage())
    }

    fn page_of(frame: u32) -> *mut u8 {
        PhysAddr(u64::from(frame) << super::super::PAGE_SHIFT).as_mut_ptr()
    }
    fn frame_of(object: *mut u8) -> u32 {
        (VirtAddr(object as u64).direct_map_to_phys().0 >> super::super::PAGE_SHIFT) as u32
    }

    /// Fills `out` with objects of a class; returns how many.
    fn refill(class: usize, out: &mut [*mut u8]) -> usize {
        let mut n = 0;
        while n < out.len() {
            let mut slabs = SLABS[class].lock();
            while n < out.len() {
                match slabs.take(frame::descs(), page_of) {
                    Some(object) => out[n] = object,
                    None => break,
                }
                n += 1;
            }
            if n > 0 {
                break;
            }
            // Frames rank above the heap, so the lock may be kept.
            let Ok(fresh) = frame::kernel_frame() else {
                break;
            };
            FRAMES_USED.fetch_add(1, Relaxed);
            let number = (fresh.0 >> super::super::PAGE_SHIFT) as u32;
            // SAFETY: the frame was just allocated.
            unsafe { slabs.add_slab(frame::descs(), number, fresh.as_mut_ptr()) };
        }
        n
    }

    /// Gives objects of a class back to their slabs.
    fn flush(class: usize, objects: &[*mut u8]) {
        let mut slabs = SLABS[class].lock();
        for &object in objects {
            // SAFETY: the object was allocated from this class.
            let empty = unsafe { slabs.give(frame::descs(), frame_of(object), object) };
            if let Some(number) = empty {
                FRAMES_USED.fetch_sub(1, Relaxed);
                frame::free_kernel_frame(PhysAddr(u64::from(number) << super::super::PAGE_SHIFT));
            }
        }
    }

    /// How many objects move at once: fewer of large ones.
    fn batch(class: usize) -> usize {
        (PAGE_SIZE / usize::from(CLASSES[class])).clamp(2, MAGAZINE / 2)
    }

    fn alloc_object(class: usize) -> *mut u8 {
        let irq = irq_save();
        let magazines = MAGAZINES[cpu_id()].load(Relaxed);
        let object = if magazines.is_null() {
            let mut one = [core::ptr::null_mut()];
            refill(class, &mut one);
            one[0]
        } else {
            // SAFETY: this CPU's magazines, interrupts off.
            let m = unsafe { &mut (*magazines)[class] };
            if m.len == 0 {
                m.len = refill(class, &mut m.objects[..batch(class)]);
            }
            if m.len == 0 {
                core::ptr::null_mut()
            } else {
                m.len -= 1;
                m.objects[m.len]
            }
        };
        irq_restore(irq);
        object
    }

    fn free_object(class: usize, object: *mut u8) {
        let irq = irq_save();
        let magazines = MAGAZINES[cpu_id()].load(Relaxed);
        if magazines.is_null() {
            flush(class, &[object]);
        } else {
            // SAFETY: this CPU's magazines, interrupts off.
            let m = unsafe { &mut (*magazines)[class] };
            let limit = 2 * batch(class);
            if m.len >= limit {
                let keep = limit / 2;
                flush(class, &m.objects[keep..m.len]);
                m.len = keep;
            }
            m.objects[m.len] = object;
            m.len += 1;
        }
        irq_restore(irq);
    }

    /// A block without a class, from the frame allocator; null when that has none.
    fn alloc_frames(layout: Layout) -> *mut u8 {
        let frames = frames_for(layout);
        let block = if frames == 1 {
            frame::kernel_frame()
        } else {
            ContiguousFrames::alloc(frames, None).map(ContiguousFrames::leak)
        };
        match block {
            Ok(addr) => {
                FRAMES_USED.fetch_add(frames, Relaxed);
                addr.as_mut_ptr()
            }
            Err(_) => core::ptr::null_mut(),
        }
    }

    /// A block of several frames from anywhere; null when there are not as many.
    fn alloc_scattered(layout: Layout) -> *mut u8 {
        let frames = frames_for(layout);
        if frames == 1 || layout.align() > PAGE_SIZE {
            return core::ptr::null_mut();
        }
        match scattered::alloc(frames) {
            Some(at) => {
                FRAMES_USED.fetch_add(frames, Relaxed);
                at.0 as *mut u8
            }
            None => core::ptr::null_mut(),
        }
    }

    /// Frees some memory without sleeping and without a lock that anybody may hold who holds
    /// no spin lock; false when there is nothing to free.
    pub type Relief = fn() -> bool;
    static RELIEF: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
    /// Rounds of relief for one request.
    const ROUNDS: usize = 32;

    /// Names who frees memory for the heap; once, at boot.
    pub fn set_relief(relief: Relief) {
        RELIEF.store(relief as *mut (), Ordering::Release);
    }

    /// The frame allocator had nothing: single frames do for a block, and where no spin lock is
    /// held, memory of others is freed for either.
    #[cold]
    #[inline(never)]
    fn alloc_slow(layout: Layout) -> *mut u8 {
        let class = class_for(layout.size(), layout.align());
        for _ in 0..ROUNDS {
            let object = match class {
                Some(class) => alloc_object(class),
                None if frames_for(layout) == 1 => alloc_frames(layout),
                None => alloc_scattered(layout),
            };
            if !object.is_null() {
                return object;
            }
            let relief = RELIEF.load(Ordering::Acquire);
            if relief.is_null() || !may_sleep() || !irqs_enabled() {
                break;
            }
            // SAFETY: `set_relief` put a function of this type there.
            let relief = unsafe { core::mem::transmute::<*mut (), Relief>(relief) };
            if !relief() {
                break;
            }
        }
        core::ptr::null_mut()
    }

    /// The kernel's global allocator.
    pub struct Heap;

    // SAFETY: objects are disjoint, as large and aligned as asked, and live until freed.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            check_allocation();
            let object = match class_for(layout.size(), layout.align()) {
                Some(class) => alloc_object(class),
                None => alloc_frames(layout),
            };
            if object.is_null() {
                return alloc_slow(layout);
            }
            object
        }
        unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
            check_allocation();
            match class_for(layout.size(), layout.align()) {
                Some(class) => free_object(class, object),
                None => {
                    let frames = frames_for(layout);
                    FRAMES_USED.fetch_sub(frames, Relaxed);
                    let at = VirtAddr(object as u64);
                    if frames == 1 {
                        frame::free_kernel_frame(at.direct_map_to_phys());
                    } else if scattered::owns(at.0) {
                        // SAFETY: `alloc_slow` got this block of as many frames.
                        unsafe { scattered::free(at, frames) };
                    } else {
                        let addr = at.direct_map_to_phys();
                        // SAFETY: `alloc_frames` leaked this block of as many frames.
                        drop(unsafe { ContiguousFrames::from_raw(addr, frames) });
                    }
                }
            }
        }
        unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: the caller keeps align valid and new_size from overflowing.
            let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
            let (from, to) = (
                class_for(layout.size(), layout.align()),
                class_for(new_size, layout.align()),
            );
            if from == to && (from.is_some() || frames_for(layout) == frames_for(new)) {
                return object;
            }
            // SAFETY: as for `alloc` and `dealloc`; both blocks hold the smaller size.
            unsafe {
                let fresh = self.alloc(new);
                if !fresh.is_null() {
                    core::ptr::copy_nonoverlapping(object, fresh, layout.size().min(new_size));
                    self.dealloc(object, layout);
                }
                fresh
            }
        }
    }

    #[global_allocator]
    static HEAP: Heap = Heap;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn classes_hold_size_and_alignment() {
        for size in 1..5000usize {
            for align in [1usize, 8, 16, 64, 128, 1024, 4096] {
                match class_for(size, align) {
                    Some(c) => {
                        assert!(usize::from(CLASSES[c]) >= size);
                        assert!(usize::from(CLASSES[c]).is_multiple_of(align));
                    }
                    None => assert!(size > 2048 || align > 2048 || size > 1024 && align > 16),
                }
            }
        }
        let l = |s, a| Layout::from_size_align(s, a).unwrap();
        assert_eq!(frames_for(l(4097, 8)), 2);
        assert_eq!(frames_for(l(3000, 8)), 1);
        assert_eq!(frames_for(l(100, 8192)), 2);
    }

    #[test]
    fn slabs_give_each_object_once_and_empty_ones_back() {
        #[repr(align(4096))]
        struct Page([u8; PAGE_SIZE]);
        let mut pages: Vec<Page> = (0..4).map(|_| Page([0; PAGE_SIZE])).collect();
        let base = pages.as_mut_ptr().cast::<u8>();
        let descs: Vec<FrameDesc> = (0..4).map(|_| FrameDesc::new()).collect();
        // SAFETY: in the vector.
        let page = |f: u32| unsafe { base.add(f as usize * PAGE_SIZE) };
        let mut class = Class::new(1360);
        assert!(class.take(&descs, page).is_none());
        let mut live: Vec<*mut u8> = Vec::new();
        for frame in 0..4 {
            // SAFETY: the page is unused.
            unsafe { class.add_slab(&descs, frame, page(frame)) };
            for _ in 0..3 {
                live.push(class.take(&descs, page).unwrap());
            }
            assert!(class.take(&descs, page).is_none());
        }
        let mut sorted = live.clone();
        sorted.sort_unstable();
        assert!(
            sorted
                .windows(2)
                .all(|w| w[1] as usize - w[0] as usize >= 1360)
        );
        let mut freed = 0;
        for object in live {
            let frame = ((object as usize - base as usize) / PAGE_SIZE) as u32;
            // SAFETY: each object goes back once.
            freed += usize::from(unsafe { class.give(&descs, frame, object) }.is_some());
        }
        // One empty slab stays.
        assert_eq!(freed, 3);
        let (used, slabs) = (0, 1);
        let now = Usage {
            size: 1360,
            per_slab: 3,
            used,
            slabs,
        };
        assert_eq!(class.usage(), now);
        assert!(class.take(&descs, page).is_some());
    }
}
