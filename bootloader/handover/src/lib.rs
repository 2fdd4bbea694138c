//! The boot package: what the loader hands the kernel beside [`BootInfo`].
//!
//! `BootInfo` has no room for a command line; it rides at the head of the memory that
//! `BootInfo::ramdisk_addr` (virtual, in the direct map) and `ramdisk_len` name.
//! All offsets count from the first byte of the header. Integers are little-endian.
//!
//! [`BootInfo`]: https://docs.rs/bootloader_api
#![no_std]

/// First eight bytes of a boot package.
pub const MAGIC: [u8; 8] = *b"OXBOWPKG";
/// Version of the layout below.
pub const VERSION: u32 = 1;

/// Virtual base of the direct map of physical memory: all RAM and the first 4 GiB,
/// in pages of 2 MiB or 1 GiB, writable and never executable.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;
/// Lowest virtual address the kernel image may be placed at (top 2 GiB).
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Which front loaded the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Firmware {
    /// Legacy BIOS boot sector.
    Bios = 1,
    /// UEFI application.
    Uefi = 2,
    /// Direct entry (PVH).
    Direct = 3,
}

/// Header at the start of a boot package.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PackageHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// A [`Firmware`] value.
    pub firmware: u32,
    /// Where the command line starts; UTF-8, no terminator, trailing white space trimmed.
    pub cmdline_offset: u32,
    /// Length of the command line in bytes.
    pub cmdline_len: u32,
    /// TSC when the loader's first long-mode code ran, 0 if unknown.
    pub tsc_loader: u64,
    /// TSC just before the jump into the kernel.
    pub tsc_handover: u64,
    /// Where an initramfs starts; 0 with `initramfs_len` 0 when there is none.
    pub initramfs_offset: u64,
    /// Length of the initramfs in bytes.
    pub initramfs_len: u64,
}

impl PackageHeader {
    /// Reads a header and its command line from the bytes of a boot package;
    /// `None` when the magic, the version or a bound is wrong.
    pub fn parse(package: &[u8]) -> Option<(PackageHeader, &str)> {
        if package.len() < size_of::<PackageHeader>() {
            return None;
        }
        // SAFETY: the length was checked, every bit pattern is a valid header, and the read
        // is unaligned.
        let header = unsafe { package.as_ptr().cast::<PackageHeader>().read_unaligned() };
        if header.magic != MAGIC || header.version != VERSION {
            return None;
        }
        let start = header.cmdline_offset as usize;
        let end = start.checked_add(header.cmdline_len as usize)?;
        let cmdline = core::str::from_utf8(package.get(start..end)?).ok()?;
        Some((header, cmdline))
    }
}
