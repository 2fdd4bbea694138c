//! The loader's shared core: everything between "the firmware gave us the files" and
//! "the kernel runs", the same for every front.
//!
//! A front (`bootloader/bios`, `bootloader/uefi`) fetches the kernel and the command line,
//! asks the firmware for memory map, RSDP and framebuffer, and then:
//!
//! 1. [`seal::Sealed`] checks the file against its checksum and unpacks it;
//! 2. [`elf::Kernel::parse`] validates the ELF file;
//! 3. [`load::arena_len`] says how much memory the kernel's world takes, the front finds it;
//! 4. [`load::load`] places the segments, relocates them, builds the page tables, stack and
//!    boot package inside that arena;
//! 5. [`load::Loaded::finish`] writes the final memory map and `BootInfo`;
//! 6. [`jump::enter`] switches to the new page tables and jumps.
//!
//! Nothing here talks to firmware, and everything but [`cpu`], [`serial`] and [`jump`] works
//! on slices, so the host tests it. Input files are not trusted: whatever they hold ends in
//! a [`LoadError`] with a message for a human, never in a panic.
#![cfg_attr(not(test), no_std)]

pub mod arena;
pub mod cpu;
pub mod disk;
pub mod elf;
mod error;
pub mod fat;
pub mod gpt;
pub mod jump;
pub mod load;
pub mod memory;
#[cfg(any(target_os = "none", target_os = "uefi"))]
mod no_heap;
pub mod paging;
pub mod seal;
pub mod serial;

pub use error::LoadError;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// Rounds `value` up to the next multiple of `align`, a power of two; saturates to the
/// largest multiple.
pub const fn align_up(value: u64, align: u64) -> u64 {
    match value.checked_add(align - 1) {
        Some(sum) => sum & !(align - 1),
        None => !(align - 1),
    }
}

/// Rounds `value` down to a multiple of `align`, a power of two.
pub const fn align_down(value: u64, align: u64) -> u64 {
    value & !(align - 1)
}
