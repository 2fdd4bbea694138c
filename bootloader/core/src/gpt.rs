//! Finds a partition in a GUID partition table (UEFI 2.10, chapter 5.3), or in its copy at the
//! end of the disk when the first is damaged.

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
    /// The header does not match its checksum, or its numbers make no sense.
    BadHeader,
    /// The entries do not match their checksum.
    BadEntries,
    /// No partition of the wanted type.
    NotFound,
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GptError::Disk(e) => e.fmt(f),
            GptError::NoHeader => f.write_str("no GPT header"),
            GptError::BadHeader => f.write_str("damaged GPT header"),
            GptError::BadEntries => f.write_str("damaged GPT entries"),
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

/// CRC-32 (ISO 3309), over the pieces it is fed. Four bits at a time: a small table, and fast
/// enough for the 16 KiB of a table.
struct Crc32(u32);

impl Crc32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut i = 0;
        while i < 16 {
            let mut value = i as u32;
            let mut bit = 0;
            while bit < 4 {
                let carry = value & 1 != 0;
                value >>= 1;
                if carry {
                    value ^= 0xedb8_8320;
                }
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };

    fn new() -> Self {
        Crc32(u32::MAX)
    }

    fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 ^= u32::from(byte);
            self.0 = self.0 >> 4 ^ Self::TABLE[(self.0 & 15) as usize];
            self.0 = self.0 >> 4 ^ Self::TABLE[(self.0 & 15) as usize];
        }
    }

    fn value(&self) -> u32 {
        !self.0
    }
}

/// The first partition of type `kind`. The error is the first table's, whatever the copy said.
pub fn find(disk: &mut impl Disk, kind: &[u8; 16]) -> Result<Partition, GptError> {
    let error = match find_in(disk, 1, kind) {
        Ok(partition) => return Ok(partition),
        Err(error) => error,
    };
    // Where a header, even a damaged one, says that the copy is; the end of the disk.
    let mut header = [0; SECTOR];
    let said = match disk.read(1, &mut header) {
        Ok(()) if &header[..8] == b"EFI PART" => Some(u64_at(&header, 32)),
        _ => None,
    };
    let last = disk.sectors().and_then(|n| n.checked_sub(1));
    for at in [said, last].into_iter().flatten().filter(|at| *at > 1) {
        if let Ok(partition) = find_in(disk, at, kind) {
            return Ok(partition);
        }
    }
    Err(error)
}

/// The first partition of type `kind` in the table whose header is sector `at`.
fn find_in(disk: &mut impl Disk, at: u64, kind: &[u8; 16]) -> Result<Partition, GptError> {
    let mut buf = [0; CHUNK * SECTOR];
    disk.read(at, &mut buf[..SECTOR])?;
    if &buf[..8] != b"EFI PART" {
        return Err(GptError::NoHeader);
    }
    let len = u32_at(&buf, 12) as usize;
    let sum = u32_at(&buf, 16);
    buf[16..20].fill(0);
    let mut crc = Crc32::new();
    crc.feed(buf.get(..len.min(SECTOR)).unwrap_or_default());
    let table = u64_at(&buf, 72);
    let nr_entries = u32_at(&buf, 80) as usize;
    let entry_len = u32_at(&buf, 84) as usize;
    let entries_sum = u32_at(&buf, 88);
    if !(92..=SECTOR).contains(&len)
        || crc.value() != sum
        || u64_at(&buf, 24) != at
        || table < 2
        || nr_entries > 1024
        || entry_len < 128
        || !entry_len.is_power_of_two()
        || entry_len > SECTOR
    {
        return Err(GptError::BadHeader);
    }
    let mut crc = Crc32::new();
    let mut found = None;
    let mut left = nr_entries * entry_len;
    let mut lba = table;
    while left > 0 {
        let now = left.min(buf.len());
        disk.read(lba, &mut buf[..now.next_multiple_of(SECTOR)])?;
        lba = lba.checked_add(CHUNK as u64).ok_or(GptError::BadHeader)?;
        crc.feed(&buf[..now]);
        if found.is_none() {
            found = buf[..now]
                .chunks_exact(entry_len)
                .find(|entry| entry[..16] == kind[..])
                .map(|entry| (u64_at(entry, 32), u64_at(entry, 40)));
        }
        left -= now;
    }
    if crc.value() != entries_sum {
        return Err(GptError::BadEntries);
    }
    let (start, last) = found.ok_or(GptError::NotFound)?;
    let sectors = last
        .checked_sub(start)
        .and_then(|n| n.checked_add(1))
        .ok_or(GptError::BadEntries)?;
    Ok(Partition { start, sectors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fat::tests::MemDisk;

    const SECTORS: usize = 100;

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = Crc32::new();
        crc.feed(bytes);
        crc.value()
    }

    /// Sums of the header in sector `at`, whose entries are at sector `table`.
    fn sign(bytes: &mut [u8], at: usize, table: usize) {
        let entries = crc32(&bytes[table * SECTOR..][..128 * 128]);
        let header = &mut bytes[at * SECTOR..][..SECTOR];
        header[88..92].copy_from_slice(&entries.to_le_bytes());
        header[16..20].fill(0);
        let sum = crc32(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
    }

    /// A disk with both tables; the copy's partition starts one sector later, to tell them apart.
    fn disk(entry_at: usize) -> MemDisk {
        let mut bytes = vec![0u8; SECTORS * SECTOR];
        let last = SECTORS - 1;
        for (own, other, table, start) in [(1, last, 2, 40), (last, 1, last - 32, 41)] {
            let header = &mut bytes[own * SECTOR..][..SECTOR];
            header[..8].copy_from_slice(b"EFI PART");
            header[12] = 92;
            header[24] = own as u8;
            header[32] = other as u8;
            header[72] = table as u8;
            header[80] = 128;
            header[84] = 128;
            let entry = &mut bytes[table * SECTOR + entry_at * 128..][..128];
            entry[..16].copy_from_slice(&TYPE_ESP);
            entry[32] = start;
            entry[40] = 49;
            sign(&mut bytes, own, table);
        }
        MemDisk(bytes)
    }

    #[test]
    fn crc_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
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
    fn a_damaged_table_is_replaced_by_its_copy() {
        let copy = Ok(Partition {
            start: 41,
            sectors: 9,
        });
        // The header, a number in it, an entry.
        for damage in [SECTOR, SECTOR + 85, 2 * SECTOR + 128 + 33] {
            let mut d = disk(1);
            d.0[damage] ^= 0x55;
            assert_eq!(find(&mut d, &TYPE_ESP), copy, "damage at {damage}");
        }
        // The damaged header names a wrong place; the disk's end is known.
        let mut d = disk(1);
        d.0[SECTOR + 32] = 7;
        assert_eq!(find(&mut d, &TYPE_ESP), copy);
    }

    #[test]
    fn names_what_is_wrong() {
        let without_copy = |damage: usize| {
            let mut d = disk(1);
            d.0[(SECTORS - 1) * SECTOR] = 0;
            d.0[damage] ^= 1;
            find(&mut d, &TYPE_ESP)
        };
        assert_eq!(without_copy(SECTOR), Err(GptError::NoHeader));
        assert_eq!(without_copy(SECTOR + 84), Err(GptError::BadHeader));
        assert_eq!(without_copy(2 * SECTOR + 128), Err(GptError::BadEntries));
        assert_eq!(find(&mut disk(1), &[7; 16]), Err(GptError::NotFound));
        // The partition ends before it starts; the sums are right.
        let mut d = disk(1);
        d.0[2 * SECTOR + 128 + 40] = 0;
        sign(&mut d.0, 1, 2);
        d.0[(SECTORS - 1) * SECTOR] = 0;
        assert_eq!(find(&mut d, &TYPE_ESP), Err(GptError::BadEntries));
        let mut d = MemDisk(disk(1).0[..2 * SECTOR + 512].to_vec());
        assert!(matches!(find(&mut d, &[7; 16]), Err(GptError::Disk(_))));
    }
}
