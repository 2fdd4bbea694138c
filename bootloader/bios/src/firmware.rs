//! What the BIOS knows: the memory map and the ACPI root pointer.

use crate::layout::ANSWER;
use crate::real_mode::{self, Registers};
use bootloader_api::info::MemoryRegionKind;
use oxbow_loader_core::LoadError;
use oxbow_loader_core::memory::RegionList;

const SMAP: u32 = u32::from_be_bytes(*b"SMAP");
/// Calls before the BIOS is taken to go in circles.
const MAX_CALLS: usize = 512;

/// Adds every region of the E820 map (ACPI 6.5, 15.1) to `list`.
pub fn memory_map(list: &mut RegionList) -> Result<(), LoadError> {
    let mut next = 0;
    for _ in 0..MAX_CALLS {
        // An entry of 20 bytes leaves the extended attributes as they are: 1, a valid entry.
        let mut entry = [0; 24];
        entry[20] = 1;
        real_mode::set_answer(&entry);
        let result = real_mode::call(
            0x15,
            Registers {
                eax: 0xe820,
                ebx: next,
                ecx: 24,
                edx: SMAP,
                edi: ANSWER as u32,
                ..Registers::default()
            },
        );
        if result.carry() || result.eax != SMAP {
            break;
        }
        let answer = real_mode::answer();
        let u64_at = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| answer[at + i]));
        let (start, len, kind) = (u64_at(0), u64_at(8), u64_at(16) as u32);
        if len > 0 && answer[20] & 1 != 0 {
            let kind = match kind {
                1 => MemoryRegionKind::Usable,
                other => MemoryRegionKind::UnknownBios(other),
            };
            list.push(start..start.saturating_add(len), kind)?;
        }
        next = result.ebx;
        if next == 0 {
            break;
        }
    }
    if list.as_slice().is_empty() {
        Err(LoadError::Firmware("int 15h E820 (memory map)"))
    } else {
        Ok(())
    }
}

/// Physical address of the RSDP (ACPI 6.5, 5.2.5.1): in the first KiB of the extended BIOS
/// data area, or in the BIOS's own read-only area.
pub fn rsdp() -> Option<u64> {
    let segment = real_mode::firmware(0x40e, 2);
    let ebda = usize::from(u16::from_le_bytes([segment[0], segment[1]])) << 4;
    find_rsdp(ebda, 1024).or_else(|| find_rsdp(0xe_0000, 0x2_0000))
}

fn find_rsdp(start: usize, len: usize) -> Option<u64> {
    let area = real_mode::firmware(start, len);
    let valid = |at: &usize| {
        area.get(*at..at + 20).is_some_and(|table| {
            table.starts_with(b"RSD PTR ")
                && table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
        })
    };
    (0..area.len())
        .step_by(16)
        .find(valid)
        .map(|at| (start + at) as u64)
}
