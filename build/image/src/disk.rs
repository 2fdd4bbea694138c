//! The layout of the disk, and the order in which it is put together.

use crate::error::{Error, Result};
use crate::{esp, ext2, gpt, pack, work_file};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// The BIOS boot partition: from behind the partition table to 1 MiB. It starts at a
/// multiple of 32 KiB so that the boot sector's reads are aligned.
const BIOS_START: u64 = 64;
const ESP_START: u64 = MIB / SECTOR;
const ESP_SECTORS: u64 = 32 * MIB / SECTOR;
const ROOT_START: u64 = ESP_START + ESP_SECTORS;
/// Sectors at the end of the disk that belong to the partition table's copy.
const GPT_TAIL: u64 = 33;

/// What goes into an image.
pub struct Options {
    /// Kernel ELF file.
    pub kernel: PathBuf,
    /// BIOS loader, an ELF file.
    pub bios: PathBuf,
    /// UEFI loader, a PE file; without it the image starts on BIOS only.
    pub uefi: Option<PathBuf>,
    /// Where the image goes.
    pub output: PathBuf,
    /// Content of the root partition.
    pub root: Option<PathBuf>,
    /// Kernel command line.
    pub cmdline: String,
    /// Size of the disk in MiB.
    pub size_mib: u64,
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::file(path, e))
}

/// Makes the image that `options` describe.
pub fn build(options: &Options) -> Result<()> {
    let sectors = options.size_mib * MIB / SECTOR;
    // The root ends at a whole MiB too.
    let root_end = sectors.saturating_sub(GPT_TAIL) / (MIB / SECTOR) * (MIB / SECTOR);
    let root_sectors = root_end
        .checked_sub(ROOT_START)
        .filter(|n| *n >= 8 * MIB / SECTOR)
        .ok_or_else(|| Error::text("--size is too small: 64 MiB at least"))?;
    let kernel =
        pack::kernel(&read(&options.kernel)?).map_err(|e| Error::file(&options.kernel, e))?;
    let bios = pack::bios(&read(&options.bios)?).map_err(|e| Error::file(&options.bios, e))?;
    let uefi = options.uefi.as_deref().map(read).transpose()?;
    if options.cmdline.len() > oxbow_loader_core::load::MAX_CMDLINE {
        return Err(Error::text("the command line is too long"));
    }

    let work = work_file::WorkFile::beside(&options.output)?;
    let file = File::options()
        .read(true)
        .write(true)
        .open(work.path())
        .map_err(|e| Error::file(work.path(), e))?;
    let io = |e: std::io::Error| Error::file(work.path(), e);
    file.set_len(sectors * SECTOR).map_err(io)?;

    let (mut boot_sector, stage2) = bios;
    let stage2_sectors = (stage2.len() as u64).div_ceil(SECTOR);
    if stage2_sectors > ESP_START - BIOS_START {
        return Err(Error::text("the BIOS loader does not fit in its partition"));
    }
    pack::point_at_stage2(&mut boot_sector, BIOS_START, stage2_sectors);
    let partitions = [
        gpt::Partition {
            kind: gpt::BIOS_BOOT,
            id: 1,
            first: BIOS_START,
            last: ESP_START - 1,
            name: "BIOS boot",
        },
        gpt::Partition {
            kind: gpt::ESP,
            id: 2,
            first: ESP_START,
            last: ROOT_START - 1,
            name: "EFI system",
        },
        gpt::Partition {
            kind: gpt::LINUX_ROOT,
            id: 3,
            first: ROOT_START,
            last: ROOT_START + root_sectors - 1,
            name: "oxbow root",
        },
    ];
    let table = gpt::Table::new(&partitions, sectors);
    gpt::write_protective(&mut boot_sector, sectors);
    file.write_all_at(&boot_sector, 0).map_err(io)?;
    file.write_all_at(&table.primary, SECTOR).map_err(io)?;
    file.write_all_at(&table.backup, (sectors - GPT_TAIL) * SECTOR)
        .map_err(io)?;
    file.write_all_at(&stage2, BIOS_START * SECTOR)
        .map_err(io)?;

    let esp = esp::make(
        ESP_SECTORS * SECTOR,
        ESP_START as u32,
        &kernel,
        options.cmdline.as_bytes(),
        uefi.as_deref(),
    )?;
    write_sparse(&file, ESP_START * SECTOR, &esp).map_err(io)?;

    let root = ext2::Volume::new(work.path(), ROOT_START * SECTOR);
    root.make(root_sectors * SECTOR)?;
    if let Some(dir) = &options.root {
        root.fill(dir)?;
    }
    root.check()?;
    work.finish(&options.output)
}

/// Writes `bytes` at `offset` but for the pages that are zero: the file is sparse.
fn write_sparse(file: &File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    for (i, page) in bytes.chunks(4096).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, offset + i as u64 * 4096)?;
        }
    }
    Ok(())
}
