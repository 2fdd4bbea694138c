//! What the firmware knows and gives: memory, its map, the screen, the ACPI root pointer.

use bootloader_api::info::{FrameBufferInfo, MemoryRegionKind, PixelFormat};
use oxbow_loader_core::load::Screen;
use oxbow_loader_core::memory::RegionList;
use oxbow_loader_core::{LoadError, PAGE_SIZE};
use uefi::boot::{self, AllocateType, MemoryType, OpenProtocolAttributes, OpenProtocolParams};
use uefi::mem::memory_map::{MemoryMap, MemoryMapOwned};
use uefi::proto::console::gop::{self, GraphicsOutput};
use uefi::table::cfg::ConfigTableEntry;

/// Memory is asked for below this, so that processors on their way up can use it too.
const LIMIT: u64 = u32::MAX as u64;

/// `len` bytes of page-aligned memory, with their physical address. Never freed.
pub fn allocate(len: u64) -> Result<(u64, &'static mut [u8]), LoadError> {
    let pages = len.div_ceil(PAGE_SIZE) as usize;
    let at = boot::allocate_pages(
        AllocateType::MaxAddress(LIMIT),
        MemoryType::LOADER_DATA,
        pages,
    )
    .map_err(|_| LoadError::OutOfMemory(len))?;
    // SAFETY: just allocated for us alone, mapped one-to-one, never freed; zeroed first, as
    // references need initialised memory.
    let memory = unsafe {
        at.write_bytes(0, len as usize);
        core::slice::from_raw_parts_mut(at.as_ptr(), len as usize)
    };
    Ok((at.as_ptr() as u64, memory))
}

/// The memory map as it is now.
pub fn memory_map() -> Result<MemoryMapOwned, LoadError> {
    boot::memory_map(MemoryType::LOADER_DATA).map_err(|_| LoadError::Firmware("memory map"))
}

/// Adds the regions of `map` to `list`. What the firmware and its loaders used before the
/// end of boot services is free after it (UEFI 2.10, 7.2).
pub fn regions(map: &impl MemoryMap, list: &mut RegionList) -> Result<(), LoadError> {
    for entry in map.entries() {
        let kind = match entry.ty {
            MemoryType::CONVENTIONAL
            | MemoryType::LOADER_CODE
            | MemoryType::LOADER_DATA
            | MemoryType::BOOT_SERVICES_CODE
            | MemoryType::BOOT_SERVICES_DATA => MemoryRegionKind::Usable,
            other => MemoryRegionKind::UnknownUefi(other.0),
        };
        let len = entry.page_count.saturating_mul(PAGE_SIZE);
        list.push(entry.phys_start..entry.phys_start.saturating_add(len), kind)?;
    }
    Ok(())
}

/// Physical address of the RSDP, the newer one where there are two.
pub fn rsdp() -> Option<u64> {
    uefi::system::with_config_table(|tables| {
        let find = |guid| {
            tables
                .iter()
                .find(|t| t.guid == guid)
                .map(|t| t.address as u64)
        };
        find(ConfigTableEntry::ACPI2_GUID).or_else(|| find(ConfigTableEntry::ACPI_GUID))
    })
}

/// The screen in the mode the firmware left it in, if it has a linear framebuffer.
pub fn screen() -> Option<Screen> {
    let handle = boot::get_handle_for_protocol::<GraphicsOutput>().ok()?;
    let params = OpenProtocolParams {
        handle,
        agent: boot::image_handle(),
        controller: None,
    };
    // SAFETY: not exclusive, because that would take the text console off the screen; the
    // protocol is only asked for its mode, at once, and nothing can remove it in between.
    let mut gop = unsafe {
        boot::open_protocol::<GraphicsOutput>(params, OpenProtocolAttributes::GetProtocol)
    }
    .ok()?;
    let mode = gop.current_mode_info();
    let pixel_format = match mode.pixel_format() {
        gop::PixelFormat::Rgb => PixelFormat::Rgb,
        gop::PixelFormat::Bgr => PixelFormat::Bgr,
        gop::PixelFormat::Bitmask => {
            let mask = mode.pixel_bitmask()?;
            PixelFormat::Unknown {
                red_position: mask.red.trailing_zeros() as u8,
                green_position: mask.green.trailing_zeros() as u8,
                blue_position: mask.blue.trailing_zeros() as u8,
            }
        }
        gop::PixelFormat::BltOnly => return None,
    };
    let (width, height) = mode.resolution();
    let phys = gop.frame_buffer().as_mut_ptr() as u64;
    Some(Screen {
        phys,
        info: FrameBufferInfo {
            byte_len: mode.stride() * height * 4,
            width,
            height,
            pixel_format,
            bytes_per_pixel: 4,
            stride: mode.stride(),
        },
    })
}
