//! Builds the world the kernel starts in, inside one [`Arena`].
//!
//! The arena holds, in this order: the relocated image, the boot stack, the page tables, the
//! boot package, `BootInfo` and the memory map. All of it is reported as
//! [`MemoryRegionKind::Bootloader`].

use crate::arena::{Arena, Piece};
use crate::cpu::Features;
use crate::elf::{Access, Kernel};
use crate::memory::{self, MAX_REGIONS};
use crate::paging::{ArenaFull, HUGE, PageTables, tables_for_direct, tables_for_pages};
use crate::{LoadError, PAGE_SIZE, align_down, align_up};
use bootloader_api::BootInfo;
use bootloader_api::info::{
    FrameBuffer, FrameBufferInfo, MemoryRegion, MemoryRegionKind, MemoryRegions,
};
use core::ops::Range;
use oxbow_handover::{DIRECT_MAP_BASE, Firmware, KERNEL_BASE, MAGIC, PackageHeader, VERSION};

/// Bytes of the kernel's first stack.
pub const STACK_LEN: u64 = 64 << 10;
/// Longest command line in bytes.
pub const MAX_CMDLINE: usize = 4096;
/// The direct map covers at least this much, for devices.
const DIRECT_MAP_MIN: u64 = 4 * HUGE;

/// A framebuffer as the firmware set it up.
#[derive(Clone, Copy)]
pub struct Screen {
    /// Physical address.
    pub phys: u64,
    /// Layout.
    pub info: FrameBufferInfo,
}

/// What the front found out.
pub struct Request<'a> {
    /// The kernel.
    pub kernel: &'a Kernel<'a>,
    /// The content of `/oxbow/cmdline`, from [`cmdline`].
    pub cmdline: &'a str,
    /// Which front this is.
    pub firmware: Firmware,
    /// The processor's features.
    pub features: Features,
    /// The memory map as it is now. Later changes of kind do not matter, only where RAM is.
    pub memory: &'a [MemoryRegion],
    /// The framebuffer, if there is one.
    pub screen: Option<Screen>,
    /// Physical address of the RSDP, if there is one.
    pub rsdp: Option<u64>,
    /// What [`crate::jump::trampoline`] says.
    pub trampoline: Range<u64>,
    /// TSC when the loader started, 0 if unknown.
    pub tsc_loader: u64,
}

/// Checks the content of `/oxbow/cmdline` and trims white space at its end.
pub fn cmdline(content: &[u8]) -> Result<&str, LoadError> {
    if content.len() > MAX_CMDLINE {
        return Err(LoadError::CmdlineTooLong);
    }
    let text = core::str::from_utf8(content).map_err(|_| LoadError::CmdlineNotText)?;
    Ok(text.trim_end())
}

impl Request<'_> {
    /// The physical ranges the direct map must cover beside the first 4 GiB: RAM and tables
    /// of the firmware, and the framebuffer.
    fn high_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let ram = self
            .memory
            .iter()
            .filter(|r| is_ram(r.kind))
            .map(|r| r.start..r.end);
        let screen = self
            .screen
            .map(|s| s.phys..s.phys.saturating_add(s.info.byte_len as u64));
        ram.chain(screen)
            .map(|r| r.start.max(DIRECT_MAP_MIN)..r.end.min(MAX_PHYS))
            .filter(|r| r.start < r.end)
    }

    fn trampoline_pages(&self) -> Range<u64> {
        align_down(self.trampoline.start, PAGE_SIZE)..align_up(self.trampoline.end, PAGE_SIZE)
    }

    fn image_len(&self) -> u64 {
        let span = self.kernel.span();
        span.end - span.start
    }
}

/// The direct map ends before the next thing in the upper half: 64 TiB.
const MAX_PHYS: u64 = 1 << 46;

/// Memory that is or may become usable, or holds tables that the kernel reads.
fn is_ram(kind: MemoryRegionKind) -> bool {
    match kind {
        MemoryRegionKind::Usable | MemoryRegionKind::Bootloader => true,
        // ACPI tables and ACPI NVS: UEFI 2.10 table 7.10, ACPI 6.5 table 15.1.
        MemoryRegionKind::UnknownUefi(kind) => matches!(kind, 9 | 10),
        MemoryRegionKind::UnknownBios(kind) => matches!(kind, 3 | 4),
        _ => false,
    }
}

/// Bytes of arena, at most, that [`load`] uses.
pub fn arena_len(request: &Request) -> u64 {
    let mapped = request.image_len() + STACK_LEN;
    let tables: u64 = 1
        + tables_for_pages(mapped + 2 * PAGE_SIZE)
        + tables_for_pages(PAGE_SIZE)
        + tables_for_direct(&(0..DIRECT_MAP_MIN))
        + request
            .high_ranges()
            .map(|r| tables_for_direct(&r))
            .sum::<u64>();
    let package = align_up(
        (size_of::<PackageHeader>() + request.cmdline.len()) as u64,
        PAGE_SIZE,
    );
    let info = align_up(size_of::<BootInfo>() as u64, PAGE_SIZE);
    let regions = align_up((MAX_REGIONS * size_of::<MemoryRegion>()) as u64, PAGE_SIZE);
    mapped + tables * PAGE_SIZE + package + info + regions
}

/// A kernel in place, still without its final memory map.
pub struct Loaded<'a> {
    arena: Arena<'a>,
    image: Piece,
    package: Piece,
    info: Piece,
    regions: Piece,
    stack_bottom: u64,
    package_len: u64,
    page_table: u64,
    entry: u64,
    screen: Option<Screen>,
    rsdp: Option<u64>,
}

/// What [`crate::jump::enter`] needs. Addresses are virtual but for the page table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Physical address of the root page table.
    pub page_table: u64,
    /// The kernel's entry point.
    pub entry: u64,
    /// Just past the boot stack.
    pub stack_top: u64,
    /// Address of `BootInfo`, in the direct map.
    pub boot_info: u64,
}

/// Places the kernel and builds its page tables, stack and boot package in `arena`, which
/// has at least [`arena_len`] bytes.
pub fn load<'a>(request: &Request, mut arena: Arena<'a>) -> Result<Loaded<'a>, LoadError> {
    let full = || LoadError::OutOfMemory(arena_len(request));
    let kernel = request.kernel;
    let span = kernel.span();

    let image = arena.alloc(request.image_len() as usize).ok_or_else(full)?;
    kernel.place(arena.bytes(image), KERNEL_BASE);
    let stack = arena.alloc(STACK_LEN as usize).ok_or_else(full)?;
    let package_len = size_of::<PackageHeader>() + request.cmdline.len();
    let package = arena.alloc_zeroed(package_len).ok_or_else(full)?;
    write_package(arena.bytes(package), request);
    let info = arena.alloc_zeroed(size_of::<BootInfo>()).ok_or_else(full)?;
    let regions = arena
        .alloc_zeroed(MAX_REGIONS * size_of::<MemoryRegion>())
        .ok_or_else(full)?;

    // One unmapped page between the image and the bottom of the stack catches an overflow.
    let stack_bottom = KERNEL_BASE + span.end + PAGE_SIZE;
    let mut build_tables = || -> Result<u64, ArenaFull> {
        let a = &mut arena;
        let tables = PageTables::new(a, request.features.nx, request.features.gib_pages)?;
        for (range, access) in kernel.ranges() {
            let phys = image.phys + (range.start - span.start);
            tables.map(
                a,
                KERNEL_BASE + range.start,
                phys,
                range.end - range.start,
                access,
                true,
            )?;
        }
        tables.map(a, stack_bottom, stack.phys, STACK_LEN, Access::Write, true)?;
        let low = request.trampoline_pages();
        tables.map(
            a,
            low.start,
            low.start,
            low.end - low.start,
            Access::Execute,
            false,
        )?;
        tables.map_direct(a, DIRECT_MAP_BASE, 0..DIRECT_MAP_MIN)?;
        for range in request.high_ranges() {
            tables.map_direct(a, DIRECT_MAP_BASE, range)?;
        }
        Ok(tables.root())
    };
    let page_table = build_tables().map_err(|ArenaFull| full())?;

    Ok(Loaded {
        arena,
        image,
        package,
        info,
        regions,
        stack_bottom,
        package_len: package_len as u64,
        page_table,
        entry: KERNEL_BASE + kernel.entry(),
        screen: request.screen,
        rsdp: request.rsdp,
    })
}

fn write_package(bytes: &mut [u8], request: &Request) {
    let header = PackageHeader {
        magic: MAGIC,
        version: VERSION,
        firmware: request.firmware as u32,
        cmdline_offset: size_of::<PackageHeader>() as u32,
        cmdline_len: request.cmdline.len() as u32,
        tsc_loader: request.tsc_loader,
        tsc_handover: 0,
        initramfs_offset: 0,
        initramfs_len: 0,
    };
    let (head, tail) = bytes.split_at_mut(size_of::<PackageHeader>());
    // SAFETY: `head` is exactly as long as the header; the write is unaligned.
    unsafe {
        head.as_mut_ptr()
            .cast::<PackageHeader>()
            .write_unaligned(header)
    };
    tail[..request.cmdline.len()].copy_from_slice(request.cmdline.as_bytes());
}

impl Loaded<'_> {
    /// Hands over no framebuffer after all: the firmware refused to set it up.
    pub fn forget_screen(&mut self) {
        self.screen = None;
    }

    /// Writes `BootInfo` with the memory map made of `firmware`'s final one.
    /// `tsc` is the time-stamp counter now.
    pub fn finish(mut self, firmware: &[MemoryRegion], tsc: u64) -> Result<Handover, LoadError> {
        let used = self.arena.used();
        let bytes = self.arena.bytes(self.regions);
        // SAFETY: the piece is page-aligned, zeroed (all-zero is a valid `MemoryRegion`:
        // `Usable` is the first kind) and holds MAX_REGIONS of them; nothing else refers to it.
        let regions = unsafe {
            core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<MemoryRegion>(), MAX_REGIONS)
        };
        let nr_regions = memory::build(firmware, &[used], regions)?;

        // SAFETY: the slice is never read here. It becomes valid in the kernel's page tables,
        // where the direct map has these very bytes, initialised above, and where the kernel
        // is the only one to refer to them.
        let regions = unsafe {
            core::slice::from_raw_parts_mut(
                (DIRECT_MAP_BASE + self.regions.phys) as *mut MemoryRegion,
                nr_regions,
            )
        };
        let mut info = BootInfo::new(MemoryRegions::from(regions));
        info.physical_memory_offset = Some(DIRECT_MAP_BASE).into();
        info.rsdp_addr = self.rsdp.into();
        info.framebuffer = self
            .screen
            // SAFETY: the firmware set this framebuffer up, and the direct map covers it.
            .map(|s| unsafe { FrameBuffer::new(DIRECT_MAP_BASE + s.phys, s.info) })
            .into();
        info.ramdisk_addr = Some(DIRECT_MAP_BASE + self.package.phys).into();
        info.ramdisk_len = self.package_len;
        info.kernel_addr = self.image.phys;
        info.kernel_len = self.image.len as u64;
        info.kernel_image_offset = KERNEL_BASE;
        info.kernel_stack_bottom = self.stack_bottom;
        info.kernel_stack_len = STACK_LEN;
        let bytes = self.arena.bytes(self.info);
        // SAFETY: the piece is page-aligned and at least as long as a `BootInfo`.
        unsafe { bytes.as_mut_ptr().cast::<BootInfo>().write(info) };

        let at = core::mem::offset_of!(PackageHeader, tsc_handover);
        self.arena.bytes(self.package)[at..at + 8].copy_from_slice(&tsc.to_le_bytes());

        Ok(Handover {
            page_table: self.page_table,
            entry: self.entry,
            stack_top: self.stack_bottom + STACK_LEN,
            boot_info: DIRECT_MAP_BASE + self.info.phys,
        })
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
