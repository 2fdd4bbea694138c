//! An address space: VMAs, page tables, and the operations programs ask for.
//!
//! Locks, outermost first:
//! - `layout` (sleeps): which areas there are. Faults share it, changes have it alone.
//! - `table` (spins, rank `Space`): the page tables. Held for a few entries at a time.
//!
//! A page-table entry owns one reference to its frame, except an entry for the zero page.
//! Whoever takes an entry out, or permission away, flushes it on every CPU of `active` before
//! the frame is given back or reused: [`AddressSpace::flush`].
//!
//! Parts: [`map`] (mmap, munmap, mprotect, brk), [`remap`] (mremap), [`advise`] (madvise,
//! msync, mincore, mlock), [`barrier`] (membarrier), [`fork`], [`pages`] (entries in bulk), [`remote`] (another
//! program's memory), `vm::fault`.

mod advise;
mod barrier;
mod fork;
mod map;
pub(super) mod pages;
mod remap;
mod remote;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use super::mapping::FileMapping;
use super::page_cache::{PageCache, reclaim};
use super::vma::{Vma, VmaFlags, VmaSet};
use crate::arch::{self, CpuMask};
use crate::error::Result;
use crate::mm::addr::USER_END;
use crate::mm::page_table::{PageTable, UserTables};
use crate::mm::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::sched::{RwLock, UserSpace};
use crate::sync::{Rank, SpinLock};

pub use advise::{Advice, LockMode};
pub use barrier::Barrier;
pub use map::MapRequest;
pub use remap::RemapTarget;

pub(super) const PAGE: u64 = PAGE_SIZE as u64;

bitflags::bitflags! {
    /// What a mapping allows (PROT_*, man 2 mmap).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// PROT_READ.
        const READ = 1;
        /// PROT_WRITE.
        const WRITE = 2;
        /// PROT_EXEC.
        const EXEC = 4;
    }
}

/// What stands behind a mapping.
#[derive(Clone)]
pub enum Backing {
    /// Zero pages; shared ones get a cache of their own.
    Anonymous,
    /// A file's pages.
    File {
        /// Its pages.
        cache: Arc<PageCache>,
        /// Byte offset of the mapping's first byte; page-aligned.
        offset: u64,
        /// Keeps the file alive and names it in /proc/pid/maps.
        name: Arc<dyn MappedFile>,
    },
}

/// A file as a mapping sees it.
pub trait MappedFile: Send + Sync {
    /// Path for /proc/pid/maps.
    fn path(&self) -> Vec<u8>;
    /// (device, inode) for /proc/pid/maps.
    fn id(&self) -> (u64, u64);
}

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The kernel picks, near the hint if it is free.
    Hint(UserAddr),
    /// Exactly there, replacing what was mapped (MAP_FIXED).
    Fixed(UserAddr),
    /// Exactly there or EEXIST (MAP_FIXED_NOREPLACE).
    FixedNoReplace(UserAddr),
}

/// How a fault touched memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why a fault cannot be satisfied: the signal to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, SEGV_MAPERR.
    NotMapped,
    /// The mapping forbids it: SIGSEGV, SEGV_ACCERR.
    Forbidden,
    /// Past the end of a mapped file, or its device failed: SIGBUS.
    Bus,
    /// No memory: the OOM killer takes over.
    OutOfMemory,
}

/// An area: what stands behind it is a file mapping, or nothing (zero pages).
pub(super) type Area = Vma<Option<Arc<FileMapping>>>;

/// Guarded by `AddressSpace::layout`.
pub(super) struct Layout {
    pub(super) areas: VmaSet<Option<Arc<FileMapping>>>,
    /// Where the heap starts; 0 before `set_brk_base`.
    brk_start: u64,
    /// Where the heap ends: what brk returns. Not page-aligned.
    brk_end: u64,
    /// Automatic choices go below this.
    mmap_top: u64,
    /// Highest address of the first stack.
    stack_top: u64,
    /// mlockall(MCL_FUTURE): flags for new areas.
    lock_future: VmaFlags,
}

/// Limits that a process sets on its memory, in bytes (man 2 getrlimit). `u64::MAX`: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    /// RLIMIT_AS.
    pub address_space: u64,
    /// RLIMIT_DATA.
    pub data: u64,
    /// RLIMIT_STACK.
    pub stack: u64,
    /// RLIMIT_MEMLOCK.
    pub locked: u64,
}

impl Default for SpaceLimits {
    fn default() -> Self {
        Self {
            address_space: u64::MAX,
            data: u64::MAX,
            stack: 8 << 20,
            locked: 8 << 20,
        }
    }
}

/// A program's memory.
pub struct AddressSpace {
    me: Weak<AddressSpace>,
    pub(super) layout: RwLock<Layout>,
    pub(super) table: SpinLock<PageTable<UserTables>>,
    /// What CR3 gets; constant.
    root: PhysAddr,
    /// CPUs that have the space loaded. A CPU enters before it loads and leaves after it
    /// loaded another: so who changes an entry and then reads the mask misses none.
    active: AtomicU64,
    /// Those of them that run no program now: nothing there follows a user address. They are
    /// not interrupted for a flush, but flush before they run a program again.
    lazy: AtomicU64,
    /// Lazy CPUs that missed a flush.
    stale: AtomicU64,
    /// Entries for private pages.
    nr_private: AtomicUsize,
    /// Entries for pages of caches.
    nr_cached: AtomicUsize,
    limits: SpinLock<SpaceLimits>,
    /// Registered for private membarrier(2).
    wants_barriers: AtomicBool,
}

impl AddressSpace {
    /// An empty space that shares the kernel half.
    pub fn new() -> Result<Arc<AddressSpace>> {
        #[cfg_attr(not(target_os = "none"), expect(unused_mut, reason = "no kernel half"))]
        let mut table = PageTable::new(UserTables).or_else(|_| {
            reclaim::make_room()?;
            PageTable::new(UserTables)
        })?;
        #[cfg(target_os = "none")]
        // SAFETY: the kernel's root was named at boot and lives for ever.
        unsafe {
            table.adopt_kernel_half(crate::mm::page_table::kernel_root())
        };
        let root = table.root();
        let limits = SpaceLimits::default();
        Ok(Arc::new_cyclic(|me| AddressSpace {
            me: me.clone(),
            layout: RwLock::new(Layout::random(limits.stack)),
            table: SpinLock::new(Rank::Space, table),
            root,
            active: AtomicU64::new(0),
            lazy: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            nr_private: AtomicUsize::new(0),
            nr_cached: AtomicUsize::new(0),
            limits: SpinLock::new(Rank::Leaf, limits),
            wants_barriers: AtomicBool::new(false),
        }))
    }

    /// Sets the limits that later calls keep to; a child inherits them.
    pub fn set_limits(&self, limits: SpaceLimits) {
        *self.limits.lock() = limits;
    }

    /// The limits of now.
    pub fn limits(&self) -> SpaceLimits {
        *self.limits.lock()
    }

    /// Makes every CPU that runs on the space forget its translations of `[from, to)`.
    /// Called after the entries were changed; the table's lock may be held. CPUs that have
    /// the space loaded lazily forget before they run on it again, so the frames behind the
    /// entries may be given back, but no page table: [`AddressSpace::flush_tables`].
    pub(super) fn flush(&self, from: u64, to: u64) {
        // Pairs with `activate`: the changed entries are visible before the mask is read.
        fence(Ordering::SeqCst);
        let active: CpuMask = self.active.load(Ordering::SeqCst);
        let mut lazy = self.lazy.load(Ordering::SeqCst) & active;
        if lazy != 0 {
            self.stale.fetch_or(lazy, Ordering::SeqCst);
            // Pairs with `leave_lazy`: a CPU that left before may not have seen its mark.
            lazy &= self.lazy.load(Ordering::SeqCst);
        }
        let mask = active & !lazy;
        if mask != 0 {
            arch::tlb::shootdown(mask, from, to);
        }
    }

    /// Makes every CPU that has the space loaded, lazily or not, forget what it knows of the
    /// page tables of `[from, to)`, which were taken out of the tree.
    pub(super) fn flush_tables(&self, from: u64, to: u64) {
        fence(Ordering::SeqCst);
        let active: CpuMask = self.active.load(Ordering::SeqCst);
        if active != 0 {
            arch::tlb::shootdown(active, from, to);
        }
    }

    /// Resident and mapped bytes.
    pub fn usage(&self) -> SpaceUsage {
        let layout = self.layout.read();
        let private = self.nr_private.load(Ordering::Relaxed) as u64 * PAGE;
        let shared = self.nr_cached.load(Ordering::Relaxed) as u64 * PAGE;
        let of_kind = |pick: &dyn Fn(&Area) -> bool| {
            layout
                .areas
                .iter()
                .filter(|a| pick(a))
                .map(Vma::len)
                .sum::<u64>()
        };
        SpaceUsage {
            virtual_bytes: layout.areas.bytes(),
            resident_bytes: private + shared,
            shared_bytes: shared,
            locked_bytes: of_kind(&|a| a.flags.contains(VmaFlags::LOCKED)),
            data_bytes: of_kind(&|a| is_data(a)),
            stack_bytes: of_kind(&|a| a.flags.contains(VmaFlags::STACK)),
            text_bytes: of_kind(&|a| a.prot.contains(Prot::EXEC) && a.is_private()),
            table_bytes: self.table.lock().nr_tables() as u64 * PAGE,
        }
    }

    /// Resident bytes without waiting for anyone: for the choice of an OOM victim.
    pub fn resident_bytes(&self) -> u64 {
        let pages =
            self.nr_private.load(Ordering::Relaxed) + self.nr_cached.load(Ordering::Relaxed);
        pages as u64 * PAGE
    }

    /// Calls `visit` for each area, lowest first (/proc/pid/maps). `visit` must not touch
    /// user memory: the areas are locked meanwhile.
    pub fn for_each_vma(&self, mut visit: impl FnMut(&VmaInfo<'_>)) {
        let layout = self.layout.read();
        for area in layout.areas.iter() {
            let mapping = area.backing.as_ref();
            visit(&VmaInfo {
                start: area.start,
                end: area.end,
                prot: area.prot,
                shared: !area.is_private(),
                offset: mapping.map_or(0, |m| m.page_of(area.start) * PAGE),
                file: mapping.and_then(|m| m.name.as_ref()),
                is_shared_anonymous: mapping.is_some_and(|m| m.name.is_none()),
                is_heap: area.flags.contains(VmaFlags::HEAP),
                is_stack: area.flags.contains(VmaFlags::STACK),
                flags: area.flags,
            });
        }
    }

    /// What the memory at `addr` is, for futexes that processes share: the same for every
    /// mapping of the same shared page, as (address of its page cache, byte offset in it).
    /// `None` for private memory. EFAULT when nothing is mapped there.
    pub fn shared_identity(&self, addr: UserAddr) -> Result<Option<(usize, u64)>> {
        let layout = self.layout.read();
        let area = layout
            .areas
            .find(addr.0)
            .ok_or(crate::error::Errno::EFAULT)?;
        Ok(area
            .backing
            .as_ref()
            .filter(|_| !area.is_private())
            .map(|m| {
                let offset = m.page_of(addr.page_down().0) * PAGE + addr.page_offset() as u64;
                (Arc::as_ptr(&m.cache).addr(), offset)
            }))
    }

    /// Unmaps everything in the user half (exec failure, exit).
    pub fn clear(&self) {
        let mut layout = self.layout.write();
        let areas = layout.areas.remove(0, u64::MAX);
        self.zap(0, USER_END);
        drop(layout);
        // Outside the lock: the last reference to a file may close it.
        drop(areas);
        super::oom::note_teardown();
    }
}

/// Whether an area counts against RLIMIT_DATA: private, writable, not the stack.
fn is_data(area: &Area) -> bool {
    area.is_private() && area.prot.contains(Prot::WRITE) && !area.flags.contains(VmaFlags::STACK)
}

impl Layout {
    /// An empty layout with places chosen at random (man 5 proc, randomize_va_space 2).
    fn random(stack_limit: u64) -> Layout {
        let stack_top = USER_END - PAGE * (super::random() & 0x3f_ffff);
        // Room for the stack to grow, and a gap (as man 2 setrlimit's RLIMIT_STACK asks).
        let reserve = stack_limit.clamp(128 << 20, USER_END / 6 * 5);
        let mmap_top = (stack_top - reserve - PAGE * (super::random() & 0xfff_ffff)) & !(PAGE - 1);
        Layout {
            areas: VmaSet::default(),
            brk_start: 0,
            brk_end: 0,
            mmap_top,
            stack_top,
            lock_future: VmaFlags::empty(),
        }
    }
}

/// Where a position-independent program goes that asks for no address: two thirds up the
/// user half, at random.
pub fn pie_base() -> UserAddr {
    let base = (USER_END / 3 * 2).next_multiple_of(PAGE);
    UserAddr(base + PAGE * (super::random() & 0xfff_ffff))
}

impl UserSpace for AddressSpace {
    fn activate(&self, cpu: usize) {
        self.active.fetch_or(1 << cpu, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        // SAFETY: the root shares the kernel half; the scheduler keeps the space alive until
        // it has loaded another.
        unsafe {
            arch::regs::set_cr3(self.root.0)
        };
        #[cfg(not(target_os = "none"))]
        let _ = self.root;
    }
    fn deactivate(&self, cpu: usize) {
        let others = !(1 << cpu);
        self.active.fetch_and(others, Ordering::SeqCst);
        self.lazy.fetch_and(others, Ordering::SeqCst);
        self.stale.fetch_and(others, Ordering::SeqCst);
    }
    fn enter_lazy(&self, cpu: usize) {
        self.lazy.fetch_or(1 << cpu, Ordering::SeqCst);
    }
    fn leave_lazy(&self, cpu: usize) {
        let own = 1 << cpu;
        self.lazy.fetch_and(!own, Ordering::SeqCst);
        if self.stale.load(Ordering::SeqCst) & own != 0 {
            self.stale.fetch_and(!own, Ordering::SeqCst);
            arch::tlb::flush_all();
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        debug_assert_eq!(
            self.active.load(Ordering::SeqCst),
            0,
            "a CPU still has the space loaded"
        );
        let table = self.table.get_mut();
        // SAFETY: no CPU has the space loaded (the scheduler holds a reference while one
        // has), so none walks the tables; each entry's reference is taken back once.
        unsafe {
            table.clear_user_half(|pte| drop(pages::take_reference(pte)));
            table.free_root();
        }
        super::oom::note_teardown();
    }
}

/// One area, as /proc/pid/maps shows it.
pub struct VmaInfo<'a> {
    /// First byte.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
    /// What programs may do.
    pub prot: Prot,
    /// MAP_SHARED.
    pub shared: bool,
    /// Byte offset in the file.
    pub offset: u64,
    /// The file.
    pub file: Option<&'a Arc<dyn MappedFile>>,
    /// Shared memory without a file: `/dev/zero (deleted)`.
    pub is_shared_anonymous: bool,
    /// `[heap]`.
    pub is_heap: bool,
    /// `[stack]`.
    pub is_stack: bool,
    /// Further properties.
    pub flags: VmaFlags,
}

/// Figures for /proc/pid/stat, statm and status.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceUsage {
    /// Mapped, in bytes.
    pub virtual_bytes: u64,
    /// Resident, in bytes.
    pub resident_bytes: u64,
    /// Resident file and shared pages, in bytes.
    pub shared_bytes: u64,
    /// Locked, in bytes.
    pub locked_bytes: u64,
    /// Private writable mappings, in bytes.
    pub data_bytes: u64,
    /// The first stack, in bytes.
    pub stack_bytes: u64,
    /// Executable mappings, in bytes.
    pub text_bytes: u64,
    /// Page tables, in bytes.
    pub table_bytes: u64,
}

#[cfg(test)]
mod tests;
