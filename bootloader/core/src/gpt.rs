//! Finds a partition in a GUID partition table (UEFI 2.10, chapter 5.3).

use crate::disk::{Disk, DiskError, SECTOR};
use core::fmt;

/// Type GUID of an EFI system partition, as it stands on disk.
pub const TYPE_ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// Entries are read in pieces of this many sectors.
const CHUNK: usize = 8;

/// What is wrong with a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GptError {
    /// The disk does not answer.
    Disk(DiskError),
    /// Sector 1 holds no GPT header.
    NoHeader,
    /// The header's numbers make no sense.
    BadHeader,
    /// No partition of the wanted type.
    NotFound,
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GptError::Disk(e) => e.fmt(f),
            GptError::NoHeader => f.write_str("no GPT header"),
            GptError::BadHeader => f.write_str("damaged GPT header"),
            GptError::NotFound => f.write_str("no EFI system partition"),
        }
    }
}

impl From<DiskError> for GptError {
    fn from(error: DiskError) -> Self {
        GptError::Disk(error)
    }
}

/// Where a partition lies, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// First sector.
    pub start: u64,
    /// Number of sectors.
    pub sectors: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The first partition of type `kind`.
pub fn find(disk: &mut impl Disk, kind: &[u8; 16]) -> Result<Partition, GptError> {
    let mut buf = [0; CHUNK * SECTOR];
    disk.read(1, &mut buf[..SECTOR])?;
    if &buf[..8] != b"EFI PART" {
        return Err(GptError::NoHeader);
    }
    let table = u64_at(&buf, 72);
    let nr_entries = u32_at(&buf, 80) as usize;
    let entry_len = u32_at(&buf, 84) as usize;
    if table < 2
        || nr_entries > 1024
        || entry_len < 128
        || !entry_len.is_power_of_two()
        || entry_len > SECTOR
    {
        return Err(GptError::BadHeader);
    }
    let per_chunk = buf.len() / entry_len;
    let mut seen = 0;
    let mut lba = table;
    while seen < nr_entries {
        disk.read(lba, &mut buf)?;
        lba = lba.checked_add(CHUNK as u64).ok_or(GptError::BadHeader)?;
        for entry in buf.chunks_exact(entry_len).take(nr_entries - seen) {
            if entry[..16] == kind[..] {
                let (start, last) = (u64_at(entry, 32), u64_at(entry, 40));
                let sectors = last
                    .checked_sub(start)
                    .and_then(|n| n.checked_add(1))
                    .ok_or(GptError::BadHeader)?;
                return Ok(Partition { start, sectors });
            }
        }
        seen += per_chunk;
    }
    Err(GptError::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fat::tests::MemDisk;

    fn disk(entry_at: usize) -> MemDisk {
        let mut bytes = vec![0u8; 64 * SECTOR];
        bytes[512..520].copy_from_slice(b"EFI PART");
        bytes[512 + 72] = 2;
        bytes[512 + 80] = 128;
        bytes[512 + 84] = 128;
        let at = 1024 + entry_at * 128;
        bytes[at..at + 16].copy_from_slice(&TYPE_ESP);
        bytes[at + 32] = 40;
        bytes[at + 40] = 49;
        MemDisk(bytes)
    }

    #[test]
    fn finds_first_middle_and_last_entry() {
        for at in [0, 3, 33, 127] {
            let found = find(&mut disk(at), &TYPE_ESP);
            assert_eq!(
                found,
                Ok(Partition {
                    start: 40,
                    sectors: 10
                })
            );
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let mut d = disk(1);
        d.0[512] = 0;
        assert_eq!(find(&mut d, &TYPE_ESP), Err(GptError::NoHeader));
        let mut d = disk(1);
        d.0[512 + 84] = 100;
        assert_eq!(find(&mut d, &TYPE_ESP), Err(GptError::BadHeader));
        let mut d = disk(1);
        d.0[1024 + 128 + 40] = 0;
        assert_eq!(find(&mut d, &TYPE_ESP), Err(GptError::BadHeader));
        assert_eq!(find(&mut disk(1), &[7; 16]), Err(GptError::NotFound));
        let mut d = MemDisk(disk(1).0[..1024 + 512].to_vec());
        assert!(matches!(find(&mut d, &[7; 16]), Err(GptError::Disk(_))));
    }
}
