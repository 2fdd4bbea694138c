//! Partition tables: GPT (UEFI 2.10, chapter 5) and MBR, as pure parsers, and the device that
//! shows one partition.
//!
//! A table comes from the disk, so every number in it is checked.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{BlockDevice, Op, Request};
use crate::error::Errno;

/// A GUID in the byte order of the disk (mixed-endian).
pub type Guid = [u8; 16];

/// Linux root (x86-64) of the Discoverable Partitions Specification:
/// 4f68bce3-e8cd-4db1-96e7-fbcaf984b709.
pub const LINUX_ROOT_X86_64: Guid = [
    0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09,
];

/// An entry of a partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number, from 1.
    pub number: u32,
    /// First sector.
    pub start: u64,
    /// Length in sectors, above 0.
    pub sectors: u64,
    /// GPT: what it is for.
    pub kind: Option<Guid>,
    /// GPT: its own identity.
    pub id: Option<Guid>,
    /// GPT: its name.
    pub label: String,
}

/// Where the entries of a GPT are, from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GptHeader {
    /// First sector of the array.
    pub entries_at: u64,
    /// Number of entries, 1 to [`MAX_ENTRIES`].
    pub nr_entries: u32,
    /// Bytes of an entry, 128 or more.
    pub entry_bytes: u32,
    entries_crc: u32,
    first_usable: u64,
    last_usable: u64,
}

/// More entries than any tool makes.
pub const MAX_ENTRIES: u32 = 1024;

/// CRC-32 (ISO 3309), as GPT uses it.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &b in bytes {
        crc ^= u32::from(b);
        for _ in 0..8 {
            crc = if crc & 1 != 0 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn le<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    le(bytes, at).map(u32::from_le_bytes)
}
fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    le(bytes, at).map(u64::from_le_bytes)
}

impl GptHeader {
    /// Checks a header sector that was read from sector `at`; `None` when it is no GPT header
    /// or damaged.
    pub fn parse(sector: &[u8], at: u64) -> Option<GptHeader> {
        if sector.get(..8)? != b"EFI PART" {
            return None;
        }
        let bytes = le32(sector, 12)? as usize;
        let mut copy = sector.get(..bytes.max(92))?.to_vec();
        copy.truncate(bytes);
        copy.get_mut(16..20)?.fill(0);
        if bytes < 92 || crc32(&copy) != le32(sector, 16)? || le64(sector, 24)? != at {
            return None;
        }
        let header = GptHeader {
            entries_at: le64(sector, 72)?,
            nr_entries: le32(sector, 80)?,
            entry_bytes: le32(sector, 84)?,
            entries_crc: le32(sector, 88)?,
            first_usable: le64(sector, 40)?,
            last_usable: le64(sector, 48)?,
        };
        let sane = (1..=MAX_ENTRIES).contains(&header.nr_entries)
            && (128..=4096).contains(&header.entry_bytes)
            && header.entry_bytes.is_multiple_of(8);
        sane.then_some(header)
    }

    /// Bytes of the array of entries.
    pub fn entries_len(&self) -> usize {
        self.nr_entries as usize * self.entry_bytes as usize
    }

    /// The partitions of an array that was read from the disk; `None` when it is damaged.
    /// Entries that lie outside the usable sectors are left out.
    pub fn entries(&self, array: &[u8]) -> Option<Vec<Partition>> {
        let array = array.get(..self.entries_len())?;
        if crc32(array) != self.entries_crc {
            return None;
        }
        let mut found = Vec::new();
        for (i, entry) in array.chunks_exact(self.entry_bytes as usize).enumerate() {
            let kind: Guid = le(entry, 0)?;
            let (first, last) = (le64(entry, 32)?, le64(entry, 40)?);
            if kind == [0; 16]
                || first < self.first_usable
                || last > self.last_usable
                || last < first
            {
                continue;
            }
            let name = entry.get(56..128)?;
            let units = name
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]))
                .take_while(|&u| u != 0);
            found.push(Partition {
                number: i as u32 + 1,
                start: first,
                sectors: last - first + 1,
                kind: Some(kind),
                id: le(entry, 16),
                label: char::decode_utf16(units)
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            });
        }
        Some(found)
    }
}

/// What an MBR says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mbr {
    /// A GPT follows.
    Protective,
    /// Primary partitions, and where the extended one (start, sectors) begins.
    Primary(Vec<Partition>, Option<(u64, u64)>),
}

fn mbr_entries(sector: &[u8]) -> Option<[(u8, u64, u64); 4]> {
    if le::<2>(sector, 510)? != [0x55, 0xaa] {
        return None;
    }
    let mut out = [(0, 0, 0); 4];
    for (i, slot) in out.iter_mut().enumerate() {
        let at = 446 + 16 * i;
        let status = *sector.get(at)?;
        // A boot sector of a file system without a table looks like this.
        if status & 0x7f != 0 {
            return None;
        }
        *slot = (
            *sector.get(at + 4)?,
            le32(sector, at + 8)?.into(),
            le32(sector, at + 12)?.into(),
        );
    }
    Some(out)
}

fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

/// Reads sector 0; `None` when it holds no partition table.
pub fn parse_mbr(sector: &[u8]) -> Option<Mbr> {
    let entries = mbr_entries(sector)?;
    if entries.iter().any(|e| e.0 == 0xee) {
        return Some(Mbr::Protective);
    }
    let mut found = Vec::new();
    let mut extended = None;
    for (i, (kind, start, sectors)) in entries.into_iter().enumerate() {
        if kind == 0 || sectors == 0 || start == 0 {
            continue;
        }
        if is_extended(kind) {
            extended.get_or_insert((start, sectors));
            continue;
        }
        found.push(Partition {
            number: i as u32 + 1,
            start,
            sectors,
            kind: None,
            id: None,
            label: String::new(),
        });
    }
    (!found.is_empty() || extended.is_some()).then_some(Mbr::Primary(found, extended))
}

/// Reads one link of the chain of logical partitions, at sector `at` of the extended partition
/// `(start, sectors)`: the partition there, and the sector of the next link.
pub fn parse_logical(
    sector: &[u8],
    at: u64,
    extended: (u64, u64),
    number: u32,
) -> Option<(Option<Partition>, Option<u64>)> {
    let entries = mbr_entries(sector)?;
    let (kind, offset, sectors) = entries[0];
    let partition = (kind != 0 && !is_extended(kind) && sectors != 0).then(|| Partition {
        number,
        start: at + offset,
        sectors,
        kind: None,
        id: None,
        label: String::new(),
    });
    let (kind, offset, _) = entries[1];
    let next = (is_extended(kind) && offset < extended.1).then_some(extended.0 + offset);
    Some((partition, next))
}

/// A partition as a device of its own.
pub struct PartitionDevice {
    parent: Arc<dyn BlockDevice>,
    name: String,
    start: u64,
    sectors: u64,
}

impl PartitionDevice {
    /// `None` when the partition does not lie inside `parent`.
    pub fn new(parent: &Arc<dyn BlockDevice>, p: &Partition) -> Option<Arc<PartitionDevice>> {
        let end = p.start.checked_add(p.sectors)?;
        if end > parent.nr_sectors() {
            return None;
        }
        let name = parent.name();
        // man 4 sd: a digit at the end wants a p in between (nvme0n1p1).
        let between = if name.ends_with(|c: char| c.is_ascii_digit()) {
            "p"
        } else {
            ""
        };
        Some(Arc::new(PartitionDevice {
            name: alloc::format!("{name}{between}{}", p.number),
            parent: parent.clone(),
            start: p.start,
            sectors: p.sectors,
        }))
    }
}

impl BlockDevice for PartitionDevice {
    fn name(&self) -> &str {
        &self.name
    }
    fn nr_sectors(&self) -> u64 {
        self.sectors
    }
    fn read_only(&self) -> bool {
        self.parent.read_only()
    }
    fn submit(&self, mut request: Request) {
        if request.op != Op::Flush {
            let end = request.sector.checked_add(request.sectors());
            if end.is_none_or(|end| end > self.sectors) {
                (request.done)(Err(Errno::EIO));
                return;
            }
            request.sector += self.start;
        }
        self.parent.submit(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpt() -> (Vec<u8>, Vec<u8>) {
        let mut array = vec![0u8; 128 * 128];
        let mut entry = |i: usize, kind: u8, first: u64, last: u64, name: &str| {
            let e = &mut array[128 * i..128 * (i + 1)];
            e[..16].fill(kind);
            e[16..32].fill(kind + 1);
            e[32..40].copy_from_slice(&first.to_le_bytes());
            e[40..48].copy_from_slice(&last.to_le_bytes());
            for (j, u) in name.encode_utf16().enumerate() {
                e[56 + 2 * j..58 + 2 * j].copy_from_slice(&u.to_le_bytes());
            }
        };
        entry(0, 1, 64, 2047, "boot");
        entry(2, 7, 2048, 9000, "Wurzel");
        entry(3, 9, 9000, 8000, "backwards");
        entry(4, 9, 9001, 1 << 40, "too long");
        let mut h = vec![0u8; 512];
        h[..8].copy_from_slice(b"EFI PART");
        h[8..12].copy_from_slice(&0x10000u32.to_le_bytes());
        h[12..16].copy_from_slice(&92u32.to_le_bytes());
        h[24..32].copy_from_slice(&1u64.to_le_bytes());
        h[40..48].copy_from_slice(&34u64.to_le_bytes());
        h[48..56].copy_from_slice(&10_000u64.to_le_bytes());
        h[72..80].copy_from_slice(&2u64.to_le_bytes());
        h[80..84].copy_from_slice(&128u32.to_le_bytes());
        h[84..88].copy_from_slice(&128u32.to_le_bytes());
        h[88..92].copy_from_slice(&crc32(&array).to_le_bytes());
        let crc = crc32(&h[..92]);
        h[16..20].copy_from_slice(&crc.to_le_bytes());
        (h, array)
    }

    #[test]
    fn crc_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn gpt_lists_sane_partitions() {
        let (h, array) = gpt();
        let header = GptHeader::parse(&h, 1).unwrap();
        let parts = header.entries(&array).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[0].number, parts[0].start, parts[0].sectors),
            (1, 64, 1984)
        );
        assert_eq!((parts[1].number, parts[1].label.as_str()), (3, "Wurzel"));
        assert_eq!(parts[1].kind, Some([7; 16]));
    }

    #[test]
    fn damaged_gpt_is_refused() {
        let (h, array) = gpt();
        assert_eq!(GptHeader::parse(&h, 2), None);
        assert_eq!(GptHeader::parse(&h[..80], 1), None);
        for at in [0, 13, 25, 41, 73, 81] {
            let mut bad = h.clone();
            bad[at] ^= 1;
            assert_eq!(GptHeader::parse(&bad, 1), None);
        }
        let header = GptHeader::parse(&h, 1).unwrap();
        let mut bad = array.clone();
        bad[300] ^= 1;
        assert_eq!(header.entries(&bad), None);
        assert_eq!(header.entries(&array[..100]), None);
    }

    fn mbr(entries: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut s = vec![0u8; 512];
        s[510] = 0x55;
        s[511] = 0xaa;
        for (i, (kind, start, len)) in entries.iter().enumerate() {
            let at = 446 + 16 * i;
            s[at + 4] = *kind;
            s[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            s[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
        }
        s
    }

    #[test]
    fn mbr_primary_extended_and_protective() {
        assert_eq!(
            parse_mbr(&mbr(&[(0xee, 1, u32::MAX)])),
            Some(Mbr::Protective)
        );
        assert_eq!(parse_mbr(&[0; 512]), None);
        assert_eq!(parse_mbr(&mbr(&[])), None);
        let Some(Mbr::Primary(parts, Some(extended))) =
            parse_mbr(&mbr(&[(0x83, 2048, 100), (0, 0, 0), (5, 4096, 1000)]))
        else {
            panic!("not seen");
        };
        assert_eq!(parts.len(), 1);
        assert_eq!(extended, (4096, 1000));
        let link = mbr(&[(0x83, 16, 50), (5, 100, 60)]);
        let (p, next) = parse_logical(&link, 4096, extended, 5).unwrap();
        assert_eq!((p.unwrap().start, next), (4112, Some(4196)));
        let mut bad = mbr(&[(0x83, 1, 1)]);
        bad[446] = 0x33;
        assert_eq!(parse_mbr(&bad), None);
    }
}
