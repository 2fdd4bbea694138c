//! One page-table entry (Intel SDM vol. 3A, 4.5).

use core::sync::atomic::{AtomicU64, Ordering};

use crate::mm::PhysAddr;

bitflags::bitflags! {
    /// Bits of a page-table entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PteFlags: u64 {
        /// Translates.
        const PRESENT = 1;
        /// Stores allowed.
        const WRITE = 1 << 1;
        /// User mode allowed.
        const USER = 1 << 2;
        /// Write-through caching.
        const WRITE_THROUGH = 1 << 3;
        /// Uncached, for device registers.
        const NO_CACHE = 1 << 4;
        /// Was used. Set from the start, to save the CPU the update.
        const ACCESSED = 1 << 5;
        /// Was written. Set from the start with [`PteFlags::WRITE`]: dirty tracking is by
        /// write protection.
        const DIRTY = 1 << 6;
        /// A 2 MiB page (in a page directory).
        const HUGE = 1 << 7;
        /// Survives a reload of CR3: kernel half only.
        const GLOBAL = 1 << 8;
        /// Software: the frame belongs to a page cache.
        const CACHED = 1 << 9;
        /// Software: the zero page; the entry owns no reference.
        const ZERO = 1 << 10;
        /// Software: locked into memory; reclaim leaves the entry alone.
        const LOCKED = 1 << 11;
        /// No instruction fetches.
        const NO_EXECUTE = 1 << 63;
    }
}

/// Bits that hold the frame address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// [`PteFlags::NO_EXECUTE`], or nothing on a CPU that takes the bit for a reserved one.
static NO_EXECUTE: AtomicU64 = AtomicU64::new(PteFlags::NO_EXECUTE.bits());

/// The flag that forbids instruction fetches, empty where the CPU has no such thing. New
/// entries take it from here.
#[inline]
pub fn no_execute() -> PteFlags {
    PteFlags::from_bits_truncate(NO_EXECUTE.load(Ordering::Relaxed))
}

/// The CPU has no NX: entries made from now on do without. Boot CPU, before the first entry.
pub fn without_no_execute() {
    NO_EXECUTE.store(0, Ordering::Relaxed);
}

/// What a kernel mapping allows: writable and executable together cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelAccess {
    /// Loads.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
    /// Loads and instruction fetches.
    Execute,
}

/// How the CPU caches a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Normal memory.
    WriteBack,
    /// Device registers.
    Uncached,
}

/// A page-table entry's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    /// Translates nothing.
    pub const EMPTY: Pte = Pte(0);
    /// Bits of an entry that leads to a lower table: the leaf decides what is allowed.
    pub(super) const TO_TABLE: PteFlags = PteFlags::PRESENT
        .union(PteFlags::WRITE)
        .union(PteFlags::USER)
        .union(PteFlags::ACCESSED);

    /// An entry for `frame`.
    pub const fn new(frame: PhysAddr, flags: PteFlags) -> Pte {
        Pte((frame.0 & ADDRESS) | flags.bits())
    }
    /// A leaf entry of the kernel half.
    pub fn kernel(frame: PhysAddr, access: KernelAccess, caching: Caching) -> Pte {
        let common = PteFlags::PRESENT
            .union(PteFlags::ACCESSED)
            .union(PteFlags::GLOBAL);
        let access = match access {
            KernelAccess::ReadOnly => no_execute(),
            KernelAccess::ReadWrite => PteFlags::WRITE.union(PteFlags::DIRTY).union(no_execute()),
            KernelAccess::Execute => PteFlags::empty(),
        };
        let caching = match caching {
            Caching::WriteBack => PteFlags::empty(),
            Caching::Uncached => PteFlags::NO_CACHE.union(PteFlags::WRITE_THROUGH),
        };
        Pte::new(frame, common.union(access).union(caching))
    }
    /// Whether nothing stands here.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Whether it translates.
    pub const fn is_present(self) -> bool {
        self.0 & PteFlags::PRESENT.bits() != 0
    }
    /// The frame.
    pub const fn frame(self) -> PhysAddr {
        PhysAddr(self.0 & ADDRESS)
    }
    /// The flags.
    pub const fn flags(self) -> PteFlags {
        PteFlags::from_bits_truncate(self.0)
    }
    /// Whether all of `flags` are set.
    pub const fn has(self, flags: PteFlags) -> bool {
        self.0 & flags.bits() == flags.bits()
    }
    /// With `flags` added.
    pub const fn with(self, flags: PteFlags) -> Pte {
        Pte(self.0 | flags.bits())
    }
    /// With `flags` taken away.
    pub const fn without(self, flags: PteFlags) -> Pte {
        Pte(self.0 & !flags.bits())
    }
}
