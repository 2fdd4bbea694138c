//! Turns ELF files into what stands on the disk.

use crate::error::{Error, Result};
use object::LittleEndian as LE;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use oxbow_loader_core::{elf, seal};

/// Where the BIOS loader runs; `link.ld` has it too.
const BIOS_BASE: u64 = 0x7c00;
/// Where the boot sector has the numbers of `point_at_stage2`; `boot.s` has it too.
const STAGE2_LBA: usize = 0x1ac;

/// What stays of a kernel: everything up to the last byte that a program header names,
/// without the section headers, compressed and sealed.
pub fn kernel(file: &[u8]) -> Result<Vec<u8>> {
    let not_elf = |_| Error::text("not a 64-bit ELF file");
    let header = FileHeader64::<LE>::parse(file).map_err(not_elf)?;
    let segments = header.program_headers(LE, file).map_err(not_elf)?;
    let end = segments
        .iter()
        .filter(|s| s.p_type(LE) == PT_LOAD)
        .map(|s| s.p_offset(LE).saturating_add(s.p_filesz(LE)))
        .max()
        .unwrap_or(0);
    let mut out = file
        .get(..end as usize)
        .ok_or_else(|| Error::text("truncated"))?
        .to_vec();
    // e_shoff; e_shnum and e_shstrndx.
    out[40..48].fill(0);
    out[60..64].fill(0);
    elf::Kernel::parse(&out).map_err(|e| Error::text(e.to_string()))?;
    let mut packed = lz4_flex::block::compress(&out);
    let seal = seal::seal(&packed, out.len() as u64);
    packed.extend(seal);
    Ok(packed)
}

/// Boot sector and second stage of the BIOS loader.
pub fn bios(file: &[u8]) -> Result<([u8; 512], Vec<u8>)> {
    let not_elf = |_| Error::text("not a 64-bit ELF file");
    let header = FileHeader64::<LE>::parse(file).map_err(not_elf)?;
    let mut image = Vec::new();
    for segment in header.program_headers(LE, file).map_err(not_elf)? {
        if segment.p_type(LE) != PT_LOAD || segment.p_filesz(LE) == 0 {
            continue;
        }
        let at = segment
            .p_vaddr(LE)
            .checked_sub(BIOS_BASE)
            .filter(|at| *at < 1 << 20)
            .ok_or_else(|| Error::text("not linked for the BIOS"))?;
        let bytes = segment
            .data(LE, file)
            .map_err(|()| Error::text("truncated"))?;
        let end = at as usize + bytes.len();
        image.resize(image.len().max(end), 0);
        image[at as usize..end].copy_from_slice(bytes);
    }
    match image.split_first_chunk::<512>() {
        Some((sector, rest)) if sector[510..] == [0x55, 0xaa] => Ok((*sector, rest.to_vec())),
        _ => Err(Error::text("has no boot sector")),
    }
}

/// Tells the boot sector where the second stage is.
pub fn point_at_stage2(boot_sector: &mut [u8; 512], lba: u64, sectors: u64) {
    boot_sector[STAGE2_LBA..STAGE2_LBA + 4].copy_from_slice(&(lba as u32).to_le_bytes());
    boot_sector[STAGE2_LBA + 4..STAGE2_LBA + 6].copy_from_slice(&(sectors as u16).to_le_bytes());
}
