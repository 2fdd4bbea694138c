//! Page faults: making the page that a program touched present.
//!
//! A fault shares the layout's lock with other faults, so two CPUs may handle the same page
//! at once: each prepares a frame without locks, then takes the table's lock and installs it
//! only if the entry still is what it decided on. The loser drops its frame and lets the
//! access try again.

use core::sync::atomic::{AtomicU64, Ordering};

use super::mapping::FileMapping;
use super::page_cache::{Lookup, Pattern, reclaim};
use super::space::pages::{WRITABLE, base_flags, is_sole_reference, take_reference};
use super::space::{Access, AddressSpace, Area, FaultError, PAGE, Prot};
use super::vma::{STACK_GAP, VmaFlags};
use crate::arch;
use crate::error::{Errno, Result};
use crate::mm::addr::{USER_END, USER_START};
use crate::mm::frame::{OutOfMemory, Purpose};
use crate::mm::page_table::{ENTRIES, MapError, PageTable, Pte, PteFlags, UserTables};
use crate::mm::{FrameRef, PAGE_SIZE, PhysAddr, UserAddr};

/// Pages around a file fault that are mapped with it when they are cached already.
const AROUND: u64 = 16;

/// Most zero pages of one fault, when a program fills memory in order.
const ZERO_AROUND: usize = 16;

/// The frame that untouched private memory reads from.
static ZERO_PAGE: AtomicU64 = AtomicU64::new(0);

/// Allocates the zero page; once, at boot.
pub(super) fn prepare_zero_page() -> Result<()> {
    let frame = FrameRef::alloc_zeroed(Purpose::Kernel)?;
    // Kept for ever: its reference is never taken back.
    ZERO_PAGE.store(frame.into_raw().0, Ordering::Release);
    Ok(())
}

fn zero_page() -> Option<PhysAddr> {
    match ZERO_PAGE.load(Ordering::Acquire) {
        0 => None,
        addr => Some(PhysAddr(addr)),
    }
}

impl From<OutOfMemory> for FaultError {
    fn from(_: OutOfMemory) -> Self {
        FaultError::OutOfMemory
    }
}

impl From<MapError> for FaultError {
    fn from(_: MapError) -> Self {
        FaultError::OutOfMemory
    }
}

/// What a failure to get a file's page means to the program that touched it.
fn source_error(errno: Errno) -> FaultError {
    if errno == Errno::ENOMEM {
        FaultError::OutOfMemory
    } else {
        FaultError::Bus
    }
}

/// What came of mapping a page of a cache.
enum Mapped {
    Yes,
    /// It is mapped, and the next window is to be read ahead.
    ReadOn,
    /// It must be read in.
    Absent,
}

/// How the program said that it goes through an area.
fn pattern_of(area: &Area) -> Pattern {
    if area.flags.contains(VmaFlags::RANDOM) {
        Pattern::Random
    } else if area.flags.contains(VmaFlags::SEQUENTIAL) {
        Pattern::Sequential
    } else {
        Pattern::Normal
    }
}

/// Whether an area allows an access. Every mapping that allows something is readable
/// (x86 knows no other kind).
fn allows(area: &Area, access: Access) -> bool {
    match access {
        Access::Read => !area.prot.is_empty(),
        Access::Write => area.prot.contains(Prot::WRITE),
        Access::Execute => area.prot.contains(Prot::EXEC),
    }
}

impl AddressSpace {
    /// Makes the page at `addr` present for `access`. May sleep.
    pub fn handle_fault(&self, addr: UserAddr, access: Access) -> Result<(), FaultError> {
        let page = addr.page_down().0;
        if !(USER_START..USER_END).contains(&page) {
            return Err(FaultError::NotMapped);
        }
        {
            let layout = self.layout.read();
            if let Some(area) = layout.areas.find(page) {
                return self.fault_in_area(area, page, access);
            }
        }
        self.grow_stack(page)?;
        let layout = self.layout.read();
        match layout.areas.find(page) {
            Some(area) => self.fault_in_area(area, page, access),
            None => Err(FaultError::NotMapped),
        }
    }

    /// As [`AddressSpace::handle_fault`], with the layout locked by the caller.
    pub(super) fn fault_in_area(
        &self,
        area: &Area,
        page: u64,
        access: Access,
    ) -> Result<(), FaultError> {
        for _ in 0..reclaim::ROUNDS {
            match self.try_fault(area, page, access) {
                // A page table: those are made under a spin lock, where nothing can be
                // reclaimed. Others may take what is made room for here.
                Err(FaultError::OutOfMemory) => reclaim::make_room()?,
                done => return done,
            }
        }
        self.try_fault(area, page, access)
    }

    fn try_fault(&self, area: &Area, page: u64, access: Access) -> Result<(), FaultError> {
        if !allows(area, access) {
            return Err(FaultError::Forbidden);
        }
        let write = access == Access::Write;
        match &area.backing {
            None => self.fault_anonymous(area, page, write),
            Some(mapping) if write && area.is_private() => {
                self.fault_private_write(area, mapping, page)
            }
            Some(mapping) => self.fault_cached(area, mapping, page, write),
        }
    }

    /// Extends the area above `page` down to it, if it is a stack and may.
    fn grow_stack(&self, page: u64) -> Result<(), FaultError> {
        let limits = self.limits();
        let mut layout = self.layout.write();
        if layout.areas.find(page).is_some() {
            return Ok(());
        }
        let Some(stack) = layout.areas.next_above(page) else {
            return Err(FaultError::NotMapped);
        };
        let (start, end) = (stack.start, stack.end);
        let below = layout.areas.last_below(start);
        let is_clear = below.is_none_or(|b| {
            b.flags.contains(VmaFlags::GROWS_DOWN) || b.end.saturating_add(STACK_GAP) <= page
        });
        let grown = layout.areas.bytes() + (start - page);
        if !stack.flags.contains(VmaFlags::GROWS_DOWN)
            || end - page > limits.stack
            || grown > limits.address_space
            || !is_clear
        {
            return Err(FaultError::NotMapped);
        }
        layout.areas.grow_down(start, page);
        Ok(())
    }

    /// Flags of a new entry in `area`.
    fn entry_flags(&self, area: &Area) -> PteFlags {
        let mut flags = base_flags(area.prot);
        if area.flags.contains(VmaFlags::LOCKED) {
            flags |= PteFlags::LOCKED;
        }
        flags
    }

    /// How many pages to fill at a fault on the empty entry of `page`: as many as were filled
    /// just below it, up to a bound. So who goes through memory in order takes few faults,
    /// and who does not takes up no memory in vain.
    fn zero_window(table: &PageTable<UserTables>, page: u64, end: u64) -> usize {
        let Some(leaf) = table.leaf(page) else {
            return 1;
        };
        let at = (page / PAGE) as usize % ENTRIES;
        let entry = |i: usize| Pte(leaf[i].load(Ordering::Relaxed));
        let below = (at.saturating_sub(ZERO_AROUND)..at)
            .rev()
            .take_while(|&i| !entry(i).is_empty() && !entry(i).has(PteFlags::ZERO))
            .count();
        let room = (ENTRIES - at).min(((end - page) / PAGE) as usize);
        let free = (at..at + below.min(room))
            .take_while(|&i| entry(i).is_empty())
            .count();
        free.max(1)
    }

    /// Installs `pte` at `page` if nothing stands there. The entry takes over `frame`, which
    /// comes back to be dropped if it was not needed.
    fn install(&self, page: u64, pte: Pte, frame: FrameRef) -> Result<(), FaultError> {
        let mut table = self.table.lock();
        let entry = table.entry_or_make(page)?;
        if entry.load(Ordering::Relaxed) == 0 {
            let _ = frame.into_raw();
            entry.store(pte.0, Ordering::Release);
            self.count_in(pte);
        }
        Ok(())
    }

    /// Zero pages: private anonymous memory.
    fn fault_anonymous(&self, area: &Area, page: u64, write: bool) -> Result<(), FaultError> {
        let flags = self.entry_flags(area);
        let (old, window) = {
            let table = self.table.lock();
            let old = table.get(page);
            let window = if write && old.is_empty() {
                Self::zero_window(&table, page, area.end)
            } else {
                1
            };
            (old, window)
        };
        if !old.is_empty() {
            return self.fault_present(area, page, old, write);
        }
        if !write && let Some(zero) = zero_page() {
            let mut table = self.table.lock();
            let entry = table.entry_or_make(page)?;
            if entry.load(Ordering::Relaxed) == 0 {
                entry.store(Pte::new(zero, flags | PteFlags::ZERO).0, Ordering::Release);
            }
            return Ok(());
        }
        let writable = if area.prot.contains(Prot::WRITE) {
            WRITABLE
        } else {
            PteFlags::empty()
        };
        let mut frames: [Option<FrameRef>; ZERO_AROUND] = [const { None }; ZERO_AROUND];
        frames[0] = Some(reclaim::alloc_zeroed_frame()?);
        for slot in &mut frames[1..window] {
            // Pages that nobody asked for are not worth reclaiming others.
            match FrameRef::alloc_zeroed(Purpose::User) {
                Ok(frame) => *slot = Some(frame),
                Err(_) => break,
            }
        }
        let mut table = self.table.lock();
        table.entry_or_make(page)?;
        for (n, slot) in frames.iter_mut().enumerate() {
            // The window lies in one leaf table, which exists now.
            let at = page + n as u64 * PAGE;
            let (Some(frame), Some(entry)) = (slot.take(), table.entry(at)) else {
                break;
            };
            if entry.load(Ordering::Relaxed) == 0 {
                let pte = Pte::new(frame.into_raw(), flags | writable);
                entry.store(pte.0, Ordering::Release);
                self.count_in(pte);
            }
        }
        Ok(())
    }

    /// An entry stands at `page`: another CPU was faster, or a store needs a page of its own.
    fn fault_present(
        &self,
        area: &Area,
        page: u64,
        old: Pte,
        write: bool,
    ) -> Result<(), FaultError> {
        if !old.is_present() || !write || old.has(PteFlags::WRITE) {
            if !old.is_present() {
                // Parked by PROT_NONE, and the area allows access again.
                let table = self.table.lock();
                if let Some(entry) = table.entry(page) {
                    let _ = entry.compare_exchange(
                        old.0,
                        old.with(PteFlags::PRESENT).0,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                }
            }
            // This CPU may remember what the entry was before.
            arch::tlb::flush_page(page);
            return Ok(());
        }
        self.break_sharing(area, page, old)
    }

    /// Copy-on-write: gives the program a page of its own at `page`, where `old` stands.
    fn break_sharing(&self, area: &Area, page: u64, old: Pte) -> Result<(), FaultError> {
        {
            let table = self.table.lock();
            let Some(entry) = table.entry(page) else {
                return Ok(());
            };
            if entry.load(Ordering::Relaxed) != old.0 {
                return Ok(());
            }
            if is_sole_reference(old) {
                // Nobody else has the frame, nor can get it while the table is locked.
                self.count_out(old);
                let new = old.without(PteFlags::CACHED).with(WRITABLE);
                self.count_in(new);
                entry.store(new.0, Ordering::Release);
                // Other CPUs that remember the entry read-only fault and find it writable.
                arch::tlb::flush_page(page);
                return Ok(());
            }
        }
        let frame = if old.has(PteFlags::ZERO) {
            reclaim::alloc_zeroed_frame()?
        } else {
            reclaim::alloc_frame()?
        };
        let flags = self.entry_flags(area) | WRITABLE;
        let table = self.table.lock();
        let Some(entry) = table.entry(page) else {
            return Ok(());
        };
        if entry.load(Ordering::Relaxed) != old.0 {
            return Ok(());
        }
        if !old.has(PteFlags::ZERO) {
            // SAFETY: the entry holds a reference to the old frame; the new one is ours. What
            // other threads of the program store meanwhile is theirs to order.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    old.frame().as_mut_ptr::<u8>().cast_const(),
                    frame.as_ptr(),
                    PAGE_SIZE,
                );
            }
        }
        // Out, flushed everywhere, and only then in: no CPU reads the old page while another
        // already stores into the new one.
        entry.store(0, Ordering::Release);
        self.flush(page, page + PAGE);
        let new = Pte::new(frame.into_raw(), flags);
        entry.store(new.0, Ordering::Release);
        self.count_out(old);
        self.count_in(new);
        drop(table);
        drop(take_reference(old));
        Ok(())
    }

    /// A store into a private mapping of a file.
    fn fault_private_write(
        &self,
        area: &Area,
        mapping: &FileMapping,
        page: u64,
    ) -> Result<(), FaultError> {
        let old = self.table.lock().get(page);
        if !old.is_empty() {
            return self.fault_present(area, page, old, true);
        }
        let index = mapping.page_of(page);
        if index >= mapping.cache.size_pages() {
            return Err(FaultError::Bus);
        }
        let source = mapping
            .cache
            .get_for_fault(&mapping.ahead, pattern_of(area), index)
            .map_err(source_error)?;
        let frame = reclaim::alloc_frame()?;
        // SAFETY: both references are ours; the new frame is not yet shared.
        unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), frame.as_ptr(), PAGE_SIZE) };
        drop(source);
        let pte = Pte::new(frame.addr(), self.entry_flags(area) | WRITABLE);
        self.install(page, pte, frame)
    }

    /// A page of a cache: any access to a shared mapping, loads from a private one.
    fn fault_cached(
        &self,
        area: &Area,
        mapping: &FileMapping,
        page: u64,
        write: bool,
    ) -> Result<(), FaultError> {
        let cache = &mapping.cache;
        let index = mapping.page_of(page);
        let pattern = pattern_of(area);
        let get = || {
            cache
                .get_for_fault(&mapping.ahead, pattern, index)
                .map_err(source_error)
        };
        // Holds the page in the cache from the moment it was there once.
        let mut _held;
        let mut is_reserved = !write || !cache.has_source();
        loop {
            let size = cache.size_pages();
            if index >= size {
                return Err(FaultError::Bus);
            }
            if !is_reserved {
                _held = Some(get()?);
                cache.reserve_page(index).map_err(source_error)?;
                cache.note_store();
                is_reserved = true;
            }
            match self.map_cached(area, mapping, page, write, size)? {
                Mapped::Yes => return Ok(()),
                Mapped::ReadOn => {
                    cache.read_on(&mapping.ahead, pattern, index);
                    return Ok(());
                }
                Mapped::Absent => _held = Some(get()?),
            }
        }
    }

    /// Maps the page if the cache has it, and its neighbours.
    fn map_cached(
        &self,
        area: &Area,
        mapping: &FileMapping,
        page: u64,
        write: bool,
        size: u64,
    ) -> Result<Mapped, FaultError> {
        let cache = &mapping.cache;
        let index = mapping.page_of(page);
        let mut flags = self.entry_flags(area) | PteFlags::CACHED;
        if !area.is_private() && area.prot.contains(Prot::WRITE) && !cache.has_source() {
            // Nothing to write back, so nothing to track.
            flags |= WRITABLE;
        }
        let mut table = self.table.lock();
        let entry = table.entry_or_make(page)?;
        let old = Pte(entry.load(Ordering::Relaxed));
        if !old.is_empty() && (!write || old.has(PteFlags::WRITE)) {
            if !old.is_present() {
                entry.store(old.with(PteFlags::PRESENT).0, Ordering::Release);
            }
            arch::tlb::flush_page(page);
            return Ok(Mapped::Yes);
        }
        // With the table locked, a page that the cache has cannot leave it without the entry
        // made here being found.
        let (frame, mapped) = match cache.lookup(index) {
            Lookup::Frame(frame) => (frame, Mapped::Yes),
            Lookup::Marked(frame) => (frame, Mapped::ReadOn),
            Lookup::Absent => return Ok(Mapped::Absent),
        };
        if write {
            cache.mark_dirty(index);
            flags |= WRITABLE;
        }
        let new = Pte::new(frame.addr(), flags);
        if old.is_empty() {
            let _ = frame.into_raw();
            entry.store(new.0, Ordering::Release);
            self.count_in(new);
        } else if old.frame() == frame.addr() {
            // Read-only until now: the same page, now writable.
            entry.store(new.0, Ordering::Release);
            arch::tlb::flush_page(page);
            return Ok(mapped);
        } else {
            // A page that left the cache, about to be taken out by who removed it.
            entry.store(0, Ordering::Release);
            self.flush(page, page + PAGE);
            let _ = frame.into_raw();
            entry.store(new.0, Ordering::Release);
            self.count_out(old);
            self.count_in(new);
            drop(table);
            drop(take_reference(old));
            return Ok(mapped);
        }
        if write && cache.has_source() {
            return Ok(mapped);
        }
        // Neighbours: the aligned block of pages around this one, as far as area and file go.
        let first = (index & !(AROUND - 1)).max(mapping.page_of(area.start));
        let last = ((index & !(AROUND - 1)) + AROUND)
            .min(size)
            .min(mapping.page_of(area.end - PAGE) + 1);
        // The block may straddle two leaf tables; only the one at hand is filled.
        let block = page >> 21;
        cache.for_each_uptodate(first, last, |i, share| {
            let va = mapping.addr_of(i);
            if va >> 21 != block {
                return;
            }
            let Some(entry) = table.entry(va) else {
                return;
            };
            if entry.load(Ordering::Relaxed) == 0 {
                let pte = Pte::new(share().into_raw(), flags);
                entry.store(pte.0, Ordering::Release);
                self.count_in(pte);
            }
        });
        Ok(mapped)
    }
}
