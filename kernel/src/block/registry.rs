//! Which block devices there are: whole disks and their partitions, and which is the root.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::partition::{
    GptHeader, Guid, LINUX_ROOT_X86_64, Mbr, Partition, PartitionDevice, parse_logical, parse_mbr,
};
use super::{BlockDevice, Reading, SECTOR_BYTES, read_bytes};
use crate::sync::{Rank, SpinLock};

/// Major number of the disks (Linux's range for dynamic block majors).
pub const MAJOR: u32 = 254;
/// Minor numbers per disk: the disk itself and its partitions.
const MINORS: u32 = 16;

/// A registered device.
pub struct Disk {
    /// The device.
    pub device: Arc<dyn BlockDevice>,
    /// Device number: major, minor.
    pub number: (u32, u32),
    /// The table entry behind a partition; `None` for a whole disk.
    pub partition: Option<Partition>,
    /// Label and UUID of an ext2/3/4 file system found on it when it was registered.
    pub ext2: Option<Ext2Id>,
}

/// What names an ext2 file system (its superblock's s_volume_name and s_uuid).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext2Id {
    /// Volume name, without padding.
    pub label: String,
    /// UUID, in the order it is written.
    pub uuid: [u8; 16],
}

/// All devices, in the order they were found.
static DISKS: SpinLock<Vec<Arc<Disk>>> = SpinLock::new(Rank::Object, Vec::new());

/// Sectors read at once from the start of a disk: table, its entries where they usually are,
/// and a superblock.
const HEAD_SECTORS: u64 = 34;

/// Registers a disk and the partitions on it. May sleep: reads the partition table.
/// A disk whose table cannot be read is registered without partitions.
pub fn register(device: Arc<dyn BlockDevice>) {
    let index = DISKS
        .lock()
        .iter()
        .filter(|d| d.partition.is_none())
        .count() as u32;
    let minor = index * MINORS;
    let sectors = device.nr_sectors().min(HEAD_SECTORS);
    let head = read_bytes(&device, 0, (sectors * SECTOR_BYTES) as usize).unwrap_or_else(|e| {
        warn!(
            "{}: the partition table cannot be read: {e:?}",
            device.name()
        );
        Vec::new()
    });
    let at = |sector: u64, len: usize| {
        let start = (sector * SECTOR_BYTES) as usize;
        head.get(start..start + len)
    };
    let mut fresh = alloc::vec![Arc::new(Disk {
        ext2: at(SUPERBLOCK_SECTOR, SUPERBLOCK_BYTES).and_then(parse_superblock),
        device: device.clone(),
        number: (MAJOR, minor),
        partition: None,
    })];
    // All superblocks are asked for before the first is waited for.
    let partitions: Vec<_> = read_table(&device, &head)
        .into_iter()
        .filter(|p| {
            let numbered = p.number < MINORS;
            if !numbered {
                warn!(
                    "{}: partition {} has no number left",
                    device.name(),
                    p.number
                );
            }
            numbered
        })
        .filter_map(|p| {
            let Some(part) = PartitionDevice::new(&device, &p) else {
                warn!(
                    "{}: partition {} lies outside the disk",
                    device.name(),
                    p.number
                );
                return None;
            };
            let part: Arc<dyn BlockDevice> = part;
            let reading = (part.nr_sectors() > SUPERBLOCK_SECTOR + 1)
                .then(|| Reading::start(&part, SUPERBLOCK_SECTOR, SUPERBLOCK_BYTES).ok())
                .flatten();
            Some((p, part, reading))
        })
        .collect();
    for (p, part, reading) in partitions {
        let superblock = reading.and_then(|r| r.finish().ok());
        fresh.push(Arc::new(Disk {
            ext2: superblock.as_deref().and_then(parse_superblock),
            device: part,
            number: (MAJOR, minor + p.number),
            partition: Some(p),
        }));
    }
    DISKS.lock().extend(fresh);
}

/// All devices, in the order they were found, partitions behind their disk.
pub fn disks() -> Vec<Arc<Disk>> {
    DISKS.lock().clone()
}

/// The device with this name (without /dev/).
pub fn find(name: &str) -> Option<Arc<Disk>> {
    DISKS
        .lock()
        .iter()
        .find(|d| d.device.name() == name)
        .cloned()
}

/// The device with this number.
pub fn by_number(major: u32, minor: u32) -> Option<Arc<Disk>> {
    DISKS
        .lock()
        .iter()
        .find(|d| d.number == (major, minor))
        .cloned()
}

/// The device to mount as root: what `root=` names (`/dev/vda3`, `vda3`, `LABEL=`, `UUID=`,
/// `PARTUUID=`, `PARTLABEL=`); without it the ext2 file system labelled `oxbow-root`, else the
/// first partition of type "Linux root (x86-64)".
pub fn find_root(root: Option<&str>) -> Option<Arc<Disk>> {
    choose_root(&disks(), root)
}

fn choose_root(disks: &[Arc<Disk>], root: Option<&str>) -> Option<Arc<Disk>> {
    let pick = |f: &dyn Fn(&Disk) -> bool| disks.iter().find(|d| f(d)).cloned();
    let Some(root) = root else {
        return pick(&|d| d.ext2.as_ref().is_some_and(|e| e.label == "oxbow-root")).or_else(|| {
            pick(&|d| {
                d.partition
                    .as_ref()
                    .is_some_and(|p| p.kind == Some(LINUX_ROOT_X86_64))
            })
        });
    };
    match root.split_once('=') {
        Some(("LABEL", label)) => pick(&|d| d.ext2.as_ref().is_some_and(|e| e.label == label)),
        Some(("UUID", text)) => {
            let uuid = parse_uuid(text)?;
            pick(&|d| d.ext2.as_ref().is_some_and(|e| e.uuid == uuid))
        }
        Some(("PARTUUID", text)) => {
            let guid = to_guid(parse_uuid(text)?);
            pick(&|d| d.partition.as_ref().is_some_and(|p| p.id == Some(guid)))
        }
        Some(("PARTLABEL", label)) => {
            pick(&|d| d.partition.as_ref().is_some_and(|p| p.label == label))
        }
        _ => {
            let name = root.strip_prefix("/dev/").unwrap_or(root);
            pick(&|d| d.device.name() == name)
        }
    }
}

/// Bytes of a UUID in text order.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.bytes().filter(|&b| b != b'-');
    let mut out = [0; 16];
    for byte in &mut out {
        let mut digit = || char::from(digits.next()?).to_digit(16);
        *byte = (digit()? << 4 | digit()?) as u8;
    }
    digits.next().is_none().then_some(out)
}

/// From text order to the mixed-endian order of a GPT (UEFI 2.10, appendix A).
fn to_guid(mut uuid: [u8; 16]) -> Guid {
    uuid[0..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}

/// Where ext2's superblock is, in sectors and bytes.
const SUPERBLOCK_SECTOR: u64 = 2;
const SUPERBLOCK_BYTES: usize = 1024;

/// What a superblock says (ext2, Revision 1: s_magic, s_uuid, s_volume_name).
fn parse_superblock(block: &[u8]) -> Option<Ext2Id> {
    if block.get(56..58)? != [0x53, 0xef] {
        return None;
    }
    let label = block.get(120..136)?;
    let label = label.split(|&b| b == 0).next().unwrap_or(label);
    Some(Ext2Id {
        label: String::from_utf8_lossy(label).into_owned(),
        uuid: block.get(104..120)?.try_into().ok()?,
    })
}

/// The partitions of a disk that starts with `head`.
fn read_table(device: &Arc<dyn BlockDevice>, head: &[u8]) -> Vec<Partition> {
    match head.get(..SECTOR_BYTES as usize).and_then(parse_mbr) {
        Some(Mbr::Protective) => {
            let last = device.nr_sectors() - 1;
            parse_head(head)
                .or_else(|| read_gpt(device, 1))
                .or_else(|| {
                    warn!("{}: primary partition table is damaged", device.name());
                    read_gpt(device, last)
                })
                .unwrap_or_default()
        }
        Some(Mbr::Primary(mut parts, extended)) => {
            if let Some(extended) = extended {
                read_logical(device, extended, &mut parts);
            }
            parts
        }
        None => Vec::new(),
    }
}

/// A GPT that lies whole in what was read already.
fn parse_head(head: &[u8]) -> Option<Vec<Partition>> {
    let sector = SECTOR_BYTES as usize;
    let header = GptHeader::parse(head.get(sector..2 * sector)?, 1)?;
    let start = usize::try_from(header.entries_at.checked_mul(SECTOR_BYTES)?).ok()?;
    header.entries(head.get(start..)?)
}

fn read_gpt(device: &Arc<dyn BlockDevice>, at: u64) -> Option<Vec<Partition>> {
    let sector = read_bytes(device, at, SECTOR_BYTES as usize).ok()?;
    let header = GptHeader::parse(&sector, at)?;
    let len = header.entries_len().next_multiple_of(SECTOR_BYTES as usize);
    let array = read_bytes(device, header.entries_at, len).ok()?;
    header.entries(&array)
}

fn read_logical(device: &Arc<dyn BlockDevice>, extended: (u64, u64), parts: &mut Vec<Partition>) {
    let mut at = extended.0;
    // Bounded: a chain on a damaged disk may be a loop.
    for number in 5..MINORS {
        let Ok(sector) = read_bytes(device, at, SECTOR_BYTES as usize) else {
            return;
        };
        let Some((partition, next)) = parse_logical(&sector, at, extended, number) else {
            return;
        };
        parts.extend(partition);
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::RamDisk;
    use super::*;

    fn disk(name: &'static str, label: &str, kind: Option<Guid>) -> Arc<Disk> {
        Arc::new(Disk {
            device: RamDisk::new(name, 8),
            number: (MAJOR, 0),
            partition: kind.map(|kind| Partition {
                number: 1,
                start: 0,
                sectors: 8,
                kind: Some(kind),
                id: Some(to_guid(
                    parse_uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap(),
                )),
                label: "part".into(),
            }),
            ext2: (!label.is_empty()).then(|| Ext2Id {
                label: label.into(),
                uuid: [1; 16],
            }),
        })
    }

    #[test]
    fn root_is_found_by_what_names_it() {
        let disks = [
            disk("vda", "", None),
            disk("vda1", "", Some(LINUX_ROOT_X86_64)),
            disk("vda2", "other", None),
            disk("vda3", "oxbow-root", None),
        ];
        let name =
            |root: Option<&str>| choose_root(&disks, root).map(|d| String::from(d.device.name()));
        assert_eq!(name(None).as_deref(), Some("vda3"));
        assert_eq!(name(Some("/dev/vda2")).as_deref(), Some("vda2"));
        assert_eq!(name(Some("LABEL=other")).as_deref(), Some("vda2"));
        assert_eq!(
            name(Some("PARTUUID=00112233-4455-6677-8899-AABBCCDDEEFF")).as_deref(),
            Some("vda1")
        );
        assert_eq!(name(Some("PARTUUID=nonsense")), None);
        assert_eq!(name(Some("/dev/sda")), None);
        assert_eq!(
            choose_root(&disks[..3], None).unwrap().device.name(),
            "vda1"
        );
    }

    #[test]
    fn partitions_are_registered_with_their_labels() {
        let ram = RamDisk::new("zz", 4096);
        {
            let mut bytes = ram.bytes.lock().unwrap();
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            for (i, (start, len)) in [(100u32, 50u32), (200, 100), (4000, 1000)]
                .iter()
                .enumerate()
            {
                let at = 446 + 16 * i;
                bytes[at + 4] = 0x83;
                bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
                bytes[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
            }
            let superblock = 200 * 512 + 1024;
            bytes[superblock + 56..superblock + 58].copy_from_slice(&[0x53, 0xef]);
            bytes[superblock + 120..superblock + 125].copy_from_slice(b"label");
        }
        register(ram.clone());
        let names: Vec<_> = disks()
            .iter()
            .map(|d| String::from(d.device.name()))
            .filter(|n| n.starts_with("zz"))
            .collect();
        assert_eq!(names, ["zz", "zz1", "zz2"]);
        let second = find("zz2").unwrap();
        assert_eq!(second.ext2.as_ref().unwrap().label, "label");
        assert!(find("zz1").unwrap().ext2.is_none());
        let (major, minor) = second.number;
        assert_eq!(by_number(major, minor).unwrap().device.name(), "zz2");
        // One read for the table, one for each partition.
        assert_eq!(ram.log.lock().unwrap().len(), 3);
    }

    #[test]
    fn guid_order() {
        let root = parse_uuid("4f68bce3-e8cd-4db1-96e7-fbcaf984b709").unwrap();
        assert_eq!(to_guid(root), LINUX_ROOT_X86_64);
        assert_eq!(parse_uuid("4f68"), None);
    }
}
