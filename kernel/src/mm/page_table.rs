//! Four-level page tables (Intel SDM vol. 3A, 4.5) as a walk over a memory trait.
//!
//! Responsible for the tree: entries, intermediate tables, freeing them. Not for TLBs, nor
//! for what the entries' frames belong to: the caller flushes, and counts references.
//!
//! User spaces belong to `vm`, which guards each with its own lock. The kernel half is one
//! for all spaces: every top-level slot that the kernel will ever use is filled at boot
//! ([`PageTable::share_kernel_slots`]), new spaces copy those 256 entries, and later kernel
//! mappings ([`kernel`]) only change tables below them. So they appear everywhere at once.

mod pte;

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use pte::{Caching, KernelAccess, Pte, PteFlags, no_execute, without_no_execute};

use super::frame::{FrameRef, OutOfMemory, Purpose};
use super::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::sync::{IrqLock, IrqLockGuard, Rank};

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// Bytes behind one entry of a page directory.
pub const HUGE_SIZE: u64 = 2 << 20;
/// First top-level slot of the kernel half.
pub const KERNEL_SLOT: usize = 256;

/// A table's entries. The CPU reads them, and other CPUs look while one changes them.
pub type Table = [AtomicU64; ENTRIES];

/// Where tables live: the direct map, or a test's own memory.
pub trait TableMemory {
    /// An empty table.
    fn alloc_table(&self) -> Result<PhysAddr, OutOfMemory>;
    /// Gives a table back.
    ///
    /// # Safety
    /// The table came from `alloc_table`, no entry leads to it, and no CPU walks it.
    unsafe fn free_table(&self, table: PhysAddr);
    /// The table at `table`.
    ///
    /// # Safety
    /// `table` is a live table of this memory, and the reference is dropped before the table
    /// is freed.
    unsafe fn table(&self, table: PhysAddr) -> &Table;
}

/// Tables in page frames, seen through the direct map.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectMap;

impl TableMemory for DirectMap {
    fn alloc_table(&self) -> Result<PhysAddr, OutOfMemory> {
        Ok(FrameRef::alloc_zeroed(Purpose::Kernel)?.into_raw())
    }
    unsafe fn free_table(&self, table: PhysAddr) {
        // SAFETY: `alloc_table` gave up the reference; the caller frees once.
        drop(unsafe { FrameRef::from_raw(table) });
    }
    unsafe fn table(&self, table: PhysAddr) -> &Table {
        // SAFETY: the direct map shows every frame; the caller vouches for it being a table.
        unsafe { &*table.as_mut_ptr::<Table>() }
    }
}

/// As [`DirectMap`], for the user half: what programs make the kernel build stops at the same
/// watermark as their own memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserTables;

impl TableMemory for UserTables {
    fn alloc_table(&self) -> Result<PhysAddr, OutOfMemory> {
        Ok(FrameRef::alloc_zeroed(Purpose::User)?.into_raw())
    }
    unsafe fn free_table(&self, table: PhysAddr) {
        // SAFETY: the caller's; frames are frames.
        unsafe { DirectMap.free_table(table) }
    }
    unsafe fn table(&self, table: PhysAddr) -> &Table {
        // SAFETY: the caller's; the direct map shows every frame.
        unsafe { &*table.as_mut_ptr::<Table>() }
    }
}

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame for a table.
    OutOfMemory,
    /// Something is mapped there, or a huge page is in the way.
    Occupied,
    /// A kernel address in a top-level slot that boot did not share.
    NotShared,
}

impl From<OutOfMemory> for MapError {
    fn from(_: OutOfMemory) -> Self {
        MapError::OutOfMemory
    }
}

impl From<MapError> for crate::error::Errno {
    fn from(e: MapError) -> Self {
        match e {
            MapError::OutOfMemory => crate::error::Errno::ENOMEM,
            MapError::Occupied => crate::error::Errno::EEXIST,
            MapError::NotShared => crate::error::Errno::EINVAL,
        }
    }
}

/// Index into the table of `level` (4 is the top) for `va`.
const fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * (level - 1))) as usize & (ENTRIES - 1)
}

/// A tree of tables. Changes need `&mut`: the owner's lock.
pub struct PageTable<M: TableMemory> {
    root: PhysAddr,
    memory: M,
    /// Tables below the root that were made since the tree was.
    nr_made: AtomicUsize,
}

impl<M: TableMemory> PageTable<M> {
    /// A tree with an empty root.
    pub fn new(memory: M) -> Result<Self, OutOfMemory> {
        let root = memory.alloc_table()?;
        Ok(Self {
            root,
            memory,
            nr_made: AtomicUsize::new(0),
        })
    }

    /// The tree below `root`.
    ///
    /// # Safety
    /// `root` is a live top-level table in `memory`, and nobody else changes the tree.
    pub unsafe fn from_root(root: PhysAddr, memory: M) -> Self {
        Self {
            root,
            memory,
            nr_made: AtomicUsize::new(0),
        }
    }

    /// What CR3 gets.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// Tables of a space: the root and what was made below it.
    pub fn nr_tables(&self) -> usize {
        self.nr_made.load(Ordering::Relaxed) + 1
    }

    /// The tree's memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    fn table(&self, table: PhysAddr) -> &Table {
        // SAFETY: callers pass the root or a table that an entry of the tree leads to;
        // tables are freed through `&mut self` only.
        unsafe { self.memory.table(table) }
    }

    fn top(&self, slot: usize) -> Pte {
        Pte(self.table(self.root)[slot].load(Ordering::Relaxed))
    }

    /// Fills the top-level slots of the kernel half that `slots` names with empty tables
    /// where they lack one. Boot only, before the first space is made.
    pub fn share_kernel_slots(
        &mut self,
        slots: core::ops::Range<usize>,
    ) -> Result<(), OutOfMemory> {
        for slot in slots.start.max(KERNEL_SLOT)..slots.end.min(ENTRIES) {
            if !self.top(slot).is_present() {
                let table = self.memory.alloc_table()?;
                let entry = Pte::new(table, Pte::TO_TABLE.difference(PteFlags::USER));
                self.table(self.root)[slot].store(entry.0, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Copies the kernel half's top-level entries from the tree at `kernel_root`.
    ///
    /// # Safety
    /// `kernel_root` is the kernel's top-level table in the same memory.
    pub unsafe fn adopt_kernel_half(&mut self, kernel_root: PhysAddr) {
        // SAFETY: the caller's.
        let from = unsafe { self.memory.table(kernel_root) };
        let to = self.table(self.root);
        for slot in KERNEL_SLOT..ENTRIES {
            to[slot].store(from[slot].load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The table of `level` on the way to `va`, if it exists.
    fn find(&self, va: u64, level: u32) -> Option<&Table> {
        let mut table = self.table(self.root);
        let mut at = 4;
        while at > level {
            let entry = Pte(table[index(va, at)].load(Ordering::Acquire));
            if !entry.is_present() || entry.has(PteFlags::HUGE) {
                return None;
            }
            table = self.table(entry.frame());
            at -= 1;
        }
        Some(table)
    }

    /// The table of `level` on the way to `va`, made if it does not exist.
    fn find_or_make(&mut self, va: u64, level: u32) -> Result<&Table, MapError> {
        let mut table = self.table(self.root);
        let mut at = 4;
        while at > level {
            let slot = &table[index(va, at)];
            let mut entry = Pte(slot.load(Ordering::Acquire));
            if entry.has(PteFlags::HUGE) && entry.is_present() {
                return Err(MapError::Occupied);
            }
            if !entry.is_present() {
                if at == 4 && index(va, 4) >= KERNEL_SLOT {
                    return Err(MapError::NotShared);
                }
                entry = Pte::new(self.memory.alloc_table()?, Pte::TO_TABLE);
                slot.store(entry.0, Ordering::Release);
                self.nr_made.fetch_add(1, Ordering::Relaxed);
            }
            table = self.table(entry.frame());
            at -= 1;
        }
        Ok(table)
    }

    /// The leaf entry's place for the 4 KiB page at `va`, with tables made as needed.
    pub fn entry_or_make(&mut self, va: u64) -> Result<&AtomicU64, MapError> {
        Ok(&self.find_or_make(va, 1)?[index(va, 1)])
    }

    /// The leaf table on the way to `va`, if it exists; entry `va >> 12 & 511` is that of `va`.
    pub fn leaf(&self, va: u64) -> Option<&Table> {
        self.find(va, 1)
    }

    /// The leaf entry's place for the 4 KiB page at `va`, if its table exists.
    pub fn entry(&self, va: u64) -> Option<&AtomicU64> {
        Some(&self.find(va, 1)?[index(va, 1)])
    }

    /// The 4 KiB entry for `va`; empty when no table leads there.
    pub fn get(&self, va: u64) -> Pte {
        self.entry(va)
            .map_or(Pte::EMPTY, |e| Pte(e.load(Ordering::Acquire)))
    }

    /// Physical address behind `va`, through 4 KiB, 2 MiB and 1 GiB pages.
    pub fn translate(&self, va: u64) -> Option<PhysAddr> {
        let mut table = self.table(self.root);
        for level in [4, 3, 2, 1] {
            let entry = Pte(table[index(va, level)].load(Ordering::Acquire));
            if !entry.is_present() {
                return None;
            }
            if level == 1 || (level < 4 && entry.has(PteFlags::HUGE)) {
                let size = 1u64 << (12 + 9 * (level - 1));
                return Some(PhysAddr(
                    (entry.frame().0 & !(size - 1)) | (va & (size - 1)),
                ));
            }
            table = self.table(entry.frame());
        }
        None
    }

    /// Sets the empty entry of the 4 KiB page at `va`.
    pub fn map(&mut self, va: u64, pte: Pte) -> Result<(), MapError> {
        let entry = self.entry_or_make(va)?;
        entry
            .compare_exchange(0, pte.0, Ordering::AcqRel, Ordering::Relaxed)
            .map(drop)
            .map_err(|_| MapError::Occupied)
    }

    /// Sets the empty entry of the 2 MiB page at `va`; `pte` names a 2 MiB aligned frame.
    pub fn map_huge(&mut self, va: u64, pte: Pte) -> Result<(), MapError> {
        let table = self.find_or_make(va, 2)?;
        table[index(va, 2)]
            .compare_exchange(
                0,
                pte.with(PteFlags::HUGE).0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .map(drop)
            .map_err(|_| MapError::Occupied)
    }

    /// Empties the entry of the 4 KiB page at `va` and returns what stood there.
    pub fn unmap(&mut self, va: u64) -> Pte {
        self.entry(va)
            .map_or(Pte::EMPTY, |e| Pte(e.swap(0, Ordering::AcqRel)))
    }

    /// Calls `visit` with address and place of every non-empty 4 KiB entry of `[from, to)`,
    /// in rising order, skipping what has no tables. Ends early when `visit` returns false;
    /// returns the address to continue at, `to` when done.
    pub fn for_each(
        &self,
        from: u64,
        to: u64,
        mut visit: impl FnMut(u64, &AtomicU64) -> bool,
    ) -> u64 {
        let mut va = from;
        while va < to {
            let Some(leaf) = self.find(va, 1) else {
                va = self.skip(va).min(to);
                continue;
            };
            let end = ((va & !(HUGE_SIZE - 1)) + HUGE_SIZE).min(to);
            while va < end {
                let entry = &leaf[index(va, 1)];
                if entry.load(Ordering::Relaxed) != 0 && !visit(va, entry) {
                    return va + PAGE_SIZE as u64;
                }
                va += PAGE_SIZE as u64;
            }
        }
        to
    }

    /// The first address after `va` that an absent table on its way does not cover.
    fn skip(&self, va: u64) -> u64 {
        let mut table = self.table(self.root);
        for level in [4, 3, 2] {
            let entry = Pte(table[index(va, level)].load(Ordering::Acquire));
            let size = 1u64 << (12 + 9 * (level - 1));
            if !entry.is_present() || entry.has(PteFlags::HUGE) || level == 2 {
                return (va & !(size - 1)).saturating_add(size);
            }
            table = self.table(entry.frame());
        }
        va + PAGE_SIZE as u64
    }

    /// The first 2 MiB block at or after `from` (2 MiB aligned) and below `to` that has a leaf
    /// table.
    pub fn next_leaf(&self, from: u64, to: u64) -> Option<u64> {
        let mut va = from;
        while va < to {
            if self.find(va, 1).is_some() {
                return Some(va);
            }
            va = self.skip(va);
        }
        None
    }

    /// Frees the leaf table of the 2 MiB block at `va` if all its entries are empty.
    /// Returns the table: the caller flushes the block on every CPU, then frees it with
    /// [`TableMemory::free_table`].
    pub fn detach_empty_leaf(&mut self, va: u64) -> Option<PhysAddr> {
        let directory = self.find(va, 2)?;
        let slot = &directory[index(va, 2)];
        let entry = Pte(slot.load(Ordering::Acquire));
        if !entry.is_present() || entry.has(PteFlags::HUGE) {
            return None;
        }
        let leaf = self.table(entry.frame());
        if leaf.iter().any(|e| e.load(Ordering::Relaxed) != 0) {
            return None;
        }
        slot.store(0, Ordering::Release);
        self.nr_made.fetch_sub(1, Ordering::Relaxed);
        Some(entry.frame())
    }

    /// Empties the user half: hands every leaf entry to `release` and frees the tables below
    /// the root.
    ///
    /// # Safety
    /// No CPU uses the user half of this tree, nor has translations of it cached.
    pub unsafe fn clear_user_half(&mut self, mut release: impl FnMut(Pte)) {
        for slot in 0..KERNEL_SLOT {
            let entry = Pte(self.table(self.root)[slot].swap(0, Ordering::AcqRel));
            if entry.is_present() {
                // SAFETY: the entry was the only way to the table; the caller vouches for CPUs.
                unsafe { self.free_below(entry.frame(), 3, &mut release) };
            }
        }
        self.nr_made.store(0, Ordering::Relaxed);
    }

    /// # Safety
    /// Nothing leads to `table` any more, and no CPU walks it.
    unsafe fn free_below(&self, table: PhysAddr, level: u32, release: &mut impl FnMut(Pte)) {
        for slot in self.table(table) {
            let entry = Pte(slot.load(Ordering::Relaxed));
            if entry.is_empty() {
                continue;
            }
            if level == 1 {
                release(entry);
            } else if entry.is_present() && !entry.has(PteFlags::HUGE) {
                // SAFETY: reachable only from `table`, which nothing reaches.
                unsafe { self.free_below(entry.frame(), level - 1, release) };
            }
        }
        // SAFETY: the caller's.
        unsafe { self.memory.free_table(table) };
    }

    /// Frees the root. The user half must be empty ([`PageTable::clear_user_half`]).
    ///
    /// # Safety
    /// No CPU has the tree loaded, and it is not used again.
    pub unsafe fn free_root(&mut self) {
        // SAFETY: the caller's; the kernel half's tables are the kernel's own.
        unsafe { self.memory.free_table(self.root) };
    }
}

/// The kernel's own tree: guards every change of the kernel half after boot.
static KERNEL: IrqLock<Option<PageTable<DirectMap>>> = IrqLock::new(Rank::KernelMap, None);
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// Names the kernel's top-level table, once at boot, after its slots were shared.
pub fn set_kernel(tree: PageTable<DirectMap>) {
    KERNEL_ROOT.store(tree.root().0, Ordering::Release);
    *KERNEL.lock() = Some(tree);
}

/// The kernel's top-level table; 0 before [`set_kernel`].
pub fn kernel_root() -> PhysAddr {
    PhysAddr(KERNEL_ROOT.load(Ordering::Acquire))
}

/// The kernel's tree, locked. `None` before [`set_kernel`].
pub fn kernel() -> IrqLockGuard<'static, Option<PageTable<DirectMap>>> {
    KERNEL.lock()
}

/// Maps one 4 KiB page of the kernel half, in every space.
pub fn map_kernel(
    va: VirtAddr,
    frame: PhysAddr,
    access: KernelAccess,
    caching: Caching,
) -> Result<(), MapError> {
    match &mut *kernel() {
        Some(tree) => tree.map(va.0, Pte::kernel(frame, access, caching)),
        None => Err(MapError::NotShared),
    }
}

/// Unmaps one 4 KiB page of the kernel half and returns its frame, if one was mapped. The
/// caller flushes the page on every CPU before it gives the frame back.
pub fn unmap_kernel(va: VirtAddr) -> Option<PhysAddr> {
    let old = kernel().as_mut()?.unmap(va.0);
    old.is_present().then(|| old.frame())
}

#[cfg(test)]
mod tests;
