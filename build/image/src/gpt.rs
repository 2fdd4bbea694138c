//! Writes a GUID partition table (UEFI 2.10, chapter 5) with fixed identifiers.

use crate::disk::SECTOR;

/// Type of a BIOS boot partition.
pub const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
/// Type of an EFI system partition.
pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// Type of an x86-64 root partition (UAPI group, discoverable partitions).
pub const LINUX_ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
/// The disk's own identifier; partitions count up from it.
const DISK: &str = "6f78626f-7700-4f78-8000-000000000000";

const NR_ENTRIES: usize = 128;
const ENTRY: usize = 128;
const ENTRIES_SECTORS: u64 = (NR_ENTRIES * ENTRY) as u64 / SECTOR;

/// One partition.
pub struct Partition<'a> {
    /// Type GUID.
    pub kind: &'a str,
    /// Last byte of its own GUID.
    pub id: u8,
    /// First sector.
    pub first: u64,
    /// Last sector.
    pub last: u64,
    /// Name, at most 36 UTF-16 units.
    pub name: &'a str,
}

/// The bytes of a GUID as they stand on disk: the first three groups are little-endian.
pub fn guid(text: &str) -> [u8; 16] {
    let value = u128::from_str_radix(&text.replace('-', ""), 16).unwrap_or(0);
    let mut bytes = value.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// Both copies of a table.
pub struct Table {
    /// Header and entries, for sector 1.
    pub primary: Vec<u8>,
    /// Entries and header, for the last 33 sectors.
    pub backup: Vec<u8>,
}

impl Table {
    /// The table of `partitions` on a disk of `sectors`.
    pub fn new(partitions: &[Partition], sectors: u64) -> Self {
        let mut entries = vec![0u8; NR_ENTRIES * ENTRY];
        for (entry, p) in entries.chunks_exact_mut(ENTRY).zip(partitions) {
            let mut own = guid(DISK);
            own[15] = p.id;
            entry[..16].copy_from_slice(&guid(p.kind));
            entry[16..32].copy_from_slice(&own);
            entry[32..40].copy_from_slice(&p.first.to_le_bytes());
            entry[40..48].copy_from_slice(&p.last.to_le_bytes());
            for (to, unit) in entry[56..].chunks_exact_mut(2).zip(p.name.encode_utf16()) {
                to.copy_from_slice(&unit.to_le_bytes());
            }
        }
        let last = sectors - 1;
        let header = |own: u64, other: u64, table: u64| {
            let mut h = vec![0u8; SECTOR as usize];
            h[..8].copy_from_slice(b"EFI PART");
            h[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
            h[12..16].copy_from_slice(&92u32.to_le_bytes());
            h[24..32].copy_from_slice(&own.to_le_bytes());
            h[32..40].copy_from_slice(&other.to_le_bytes());
            h[40..48].copy_from_slice(&(2 + ENTRIES_SECTORS).to_le_bytes());
            h[48..56].copy_from_slice(&(last - ENTRIES_SECTORS - 1).to_le_bytes());
            h[56..72].copy_from_slice(&guid(DISK));
            h[72..80].copy_from_slice(&table.to_le_bytes());
            h[80..84].copy_from_slice(&(NR_ENTRIES as u32).to_le_bytes());
            h[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
            h[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
            let sum = crc32fast::hash(&h[..92]);
            h[16..20].copy_from_slice(&sum.to_le_bytes());
            h
        };
        Table {
            primary: [header(1, last, 2), entries.clone()].concat(),
            backup: [entries.clone(), header(last, 1, last - ENTRIES_SECTORS)].concat(),
        }
    }
}

/// Writes the protective partition (UEFI 2.10, 5.2.3) into a boot sector.
pub fn write_protective(boot_sector: &mut [u8; 512], sectors: u64) {
    let entry = &mut boot_sector[446..462];
    // Bootable: some BIOSes start no disk without an active partition.
    entry[0] = 0x80;
    entry[1..4].copy_from_slice(&[0, 2, 0]);
    entry[4] = 0xee;
    entry[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1u32.to_le_bytes());
    let len = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    entry[12..16].copy_from_slice(&len.to_le_bytes());
    boot_sector[510..].copy_from_slice(&[0x55, 0xaa]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxbow_loader_core::disk::{Disk, DiskError};
    use oxbow_loader_core::gpt;

    struct MemDisk(Vec<u8>);

    impl Disk for MemDisk {
        fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError> {
            buf.copy_from_slice(&self.0[lba as usize * 512..][..buf.len()]);
            Ok(())
        }
    }

    #[test]
    fn the_loader_finds_the_partition() {
        assert_eq!(guid(ESP), gpt::TYPE_ESP);
        let partition = |kind, id, first, last| Partition {
            kind,
            id,
            first,
            last,
            name: "x",
        };
        let table = Table::new(
            &[partition(BIOS_BOOT, 1, 64, 99), partition(ESP, 2, 100, 199)],
            1000,
        );
        let mut bytes = vec![0; 512];
        bytes.extend(&table.primary);
        let found = gpt::find(&mut MemDisk(bytes), &gpt::TYPE_ESP);
        assert_eq!(
            found,
            Ok(gpt::Partition {
                start: 100,
                sectors: 100
            })
        );
        assert_eq!(table.backup.len(), 33 * 512);
    }
}
