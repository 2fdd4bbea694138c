//! Makes the EFI system partition: a FAT16 with the UEFI loader, the kernel and the command
//! line. Time stamps and volume number are fixed.

use crate::error::{Error, Result};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use std::io::{Cursor, Write};

/// The bytes of a partition of `len` bytes that starts at sector `start` of the disk.
pub fn make(
    len: u64,
    start: u32,
    kernel: &[u8],
    cmdline: &[u8],
    uefi: Option<&[u8]>,
) -> Result<Vec<u8>> {
    let content = (kernel.len() + cmdline.len() + uefi.map_or(0, <[u8]>::len)) as u64;
    if content + (1 << 20) > len {
        return Err(Error::text(
            "kernel and loader do not fit in the EFI system partition",
        ));
    }
    fill(len, start, kernel, cmdline, uefi)
        .map_err(|e| Error::text(format!("EFI system partition: {e}")))
}

fn fill(
    len: u64,
    start: u32,
    kernel: &[u8],
    cmdline: &[u8],
    uefi: Option<&[u8]>,
) -> std::io::Result<Vec<u8>> {
    let mut volume = Cursor::new(vec![0; len as usize]);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat16)
        .bytes_per_cluster(4096)
        .volume_id(0x6f78_626f)
        .volume_label(*b"OXBOW ESP  ");
    fatfs::format_volume(&mut volume, options)?;
    {
        let fs = FileSystem::new(&mut volume, FsOptions::new().update_accessed_date(false))?;
        let root = fs.root_dir();
        // The kernel first: its clusters follow each other from the start of the data.
        let oxbow = root.create_dir("oxbow")?;
        oxbow.create_file("kernel")?.write_all(kernel)?;
        oxbow.create_file("cmdline")?.write_all(cmdline)?;
        if let Some(uefi) = uefi {
            let boot = root.create_dir("EFI")?.create_dir("BOOT")?;
            boot.create_file("BOOTX64.EFI")?.write_all(uefi)?;
        }
    }
    let mut bytes = volume.into_inner();
    // BPB_HiddSec: where the partition starts.
    bytes[28..32].copy_from_slice(&start.to_le_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxbow_loader_core::disk::{Disk, DiskError};
    use oxbow_loader_core::fat::Fat;
    use oxbow_loader_core::gpt::Partition;

    struct MemDisk(Vec<u8>);

    impl Disk for MemDisk {
        fn read(&mut self, lba: u64, buf: &mut [u8]) -> std::result::Result<(), DiskError> {
            buf.copy_from_slice(&self.0[lba as usize * 512..][..buf.len()]);
            Ok(())
        }
    }

    #[test]
    fn the_loader_reads_what_was_written() {
        let kernel: Vec<u8> = (0..100_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let make = || make(32 << 20, 0, &kernel, b"quiet\n", Some(b"MZ")).unwrap();
        let mut disk = MemDisk(make());
        assert!(disk.0 == make(), "the same input gives the same bytes");
        let sectors = disk.0.len() as u64 / 512;
        let mut fat = Fat::mount(&mut disk, Partition { start: 0, sectors }).unwrap();
        let dir = fat.directory("OXBOW").unwrap();
        let node = fat.file(dir, "KERNEL").unwrap();
        let mut buf = vec![0; 1 << 17];
        assert!(fat.read(node, &mut buf).unwrap() == kernel);
        let node = fat.file(dir, "CMDLINE").unwrap();
        assert_eq!(fat.read(node, &mut buf).unwrap(), b"quiet\n");
    }

    /// Somebody may make the partition anew, larger, with other tools.
    #[test]
    fn the_loader_reads_a_fragmented_fat32() {
        let mut bytes = vec![0; 40 << 20];
        let options = FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_cluster(512);
        fatfs::format_volume(Cursor::new(&mut bytes[..]), options).unwrap();
        let content: Vec<u8> = (0..20_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        {
            let fs = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new()).unwrap();
            let dir = fs.root_dir().create_dir("oxbow").unwrap();
            let (mut kernel, mut other) = (
                dir.create_file("kernel").unwrap(),
                dir.create_file("other").unwrap(),
            );
            for piece in content.chunks(1500) {
                kernel.write_all(piece).unwrap();
                other.write_all(piece).unwrap();
            }
        }
        let sectors = bytes.len() as u64 / 512;
        let mut disk = MemDisk(bytes);
        let mut fat = Fat::mount(&mut disk, Partition { start: 0, sectors }).unwrap();
        let dir = fat.directory("OXBOW").unwrap();
        for name in ["KERNEL", "OTHER"] {
            let node = fat.file(dir, name).unwrap();
            let mut buf = vec![0; 20_480];
            assert!(fat.read(node, &mut buf).unwrap() == content);
        }
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(make(1 << 24, 0, &vec![1; 1 << 24], b"", None).is_err());
    }
}
