//! An address space: VMAs, page tables, and the operations programs ask for.
//! (Skeleton: the vm owner fills it in.)

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::page_cache::PageCache;
use crate::error::Result;
use crate::mm::UserAddr;

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

/// A program's memory.
pub struct AddressSpace {
    _private: (),
}

impl AddressSpace {
    /// An empty space that shares the kernel half.
    pub fn new() -> Result<Arc<AddressSpace>> {
        todo!()
    }
    /// A copy-on-write copy (fork).
    pub fn fork(&self) -> Result<Arc<AddressSpace>> {
        todo!()
    }
    /// Maps `len` bytes (rounded up to pages). man 2 mmap's errors.
    pub fn map(
        &self,
        _at: Placement,
        _len: usize,
        _prot: Prot,
        _shared: bool,
        _backing: Backing,
    ) -> Result<UserAddr> {
        todo!()
    }
    /// Unmaps (man 2 munmap).
    pub fn unmap(&self, _at: UserAddr, _len: usize) -> Result<()> {
        todo!()
    }
    /// Changes protection (man 2 mprotect).
    pub fn protect(&self, _at: UserAddr, _len: usize, _prot: Prot) -> Result<()> {
        todo!()
    }
    /// Sets where the heap starts (execve).
    pub fn set_brk_base(&self, _base: UserAddr) {
        todo!()
    }
    /// Moves the end of the heap; returns where it is (man 2 brk, kernel convention).
    pub fn brk(&self, _want: UserAddr) -> UserAddr {
        todo!()
    }
    /// Makes the page at `addr` present for `access`.
    pub fn handle_fault(&self, _addr: UserAddr, _access: Access) -> Result<(), FaultError> {
        todo!()
    }
    /// Reads another process's memory (/proc, ptrace); EFAULT. Returns bytes read.
    pub fn read_remote(&self, _addr: UserAddr, _out: &mut [u8]) -> Result<usize> {
        todo!()
    }
    /// Writes into a space that is not the running one (execve builds the new stack so).
    pub fn write_remote(&self, _addr: UserAddr, _bytes: &[u8]) -> Result<()> {
        todo!()
    }
    /// What the memory at `addr` is, for futexes that processes share: the same for every
    /// mapping of the same shared page, as (address of its page cache, byte offset in it).
    /// `None` for private memory. EFAULT when nothing is mapped there.
    pub fn shared_identity(&self, _addr: UserAddr) -> Result<Option<(usize, u64)>> {
        todo!()
    }
    /// Unmaps everything in the user half (exec failure, exit).
    pub fn clear(&self) {
        todo!()
    }
    /// Resident and mapped bytes.
    pub fn usage(&self) -> SpaceUsage {
        todo!()
    }
}

/// Figures for /proc/pid/stat and statm.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceUsage {
    /// Mapped, in bytes.
    pub virtual_bytes: u64,
    /// Resident, in bytes.
    pub resident_bytes: u64,
    /// Resident file and shared pages, in bytes.
    pub shared_bytes: u64,
}
