//! Tests of the FAT reader on small file systems, good and malformed.

use super::*;

/// A disk in memory.
pub struct MemDisk(pub Vec<u8>);

impl Disk for MemDisk {
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let error = DiskError {
            lba,
            status: DiskError::RANGE,
        };
        let start = usize::try_from(lba)
            .ok()
            .and_then(|n| n.checked_mul(SECTOR))
            .ok_or(error)?;
        let from = self
            .0
            .get(start..)
            .and_then(|b| b.get(..buf.len()))
            .ok_or(error)?;
        buf.copy_from_slice(from);
        Ok(())
    }
    fn sectors(&mut self) -> Option<u64> {
        Some((self.0.len() / SECTOR) as u64)
    }
}

const START: usize = 3;
const CLUSTERS: usize = 4100;
const FAT: usize = (START + 1) * SECTOR;
const FAT_SECTORS: usize = 17;
const ROOT: usize = FAT + FAT_SECTORS * SECTOR;
const DATA: usize = ROOT + SECTOR;

fn put(disk: &mut [u8], at: usize, value: usize, len: usize) {
    disk[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
}

fn entry(disk: &mut [u8], at: usize, name: &[u8; 11], attr: u8, cluster: usize, len: usize) {
    disk[at..at + 11].copy_from_slice(name);
    disk[at + 11] = attr;
    put(disk, at + 26, cluster, 2);
    put(disk, at + 28, len, 4);
}

/// A FAT16 with /OXBOW/KERNEL: 1600 bytes in clusters 5, 6, 9, 10.
fn sample() -> Vec<u8> {
    let mut d = vec![0; DATA + CLUSTERS * SECTOR];
    let b = START * SECTOR;
    put(&mut d, b + 11, 512, 2);
    d[b + 13] = 1;
    put(&mut d, b + 14, 1, 2);
    d[b + 16] = 1;
    put(&mut d, b + 17, 16, 2);
    put(&mut d, b + 19, 1 + FAT_SECTORS + 1 + CLUSTERS, 2);
    put(&mut d, b + 22, FAT_SECTORS, 2);
    d[b + 510] = 0x55;
    d[b + 511] = 0xaa;
    for (cluster, next) in [(3, 0xffff), (5, 6), (6, 9), (9, 10), (10, 0xffff)] {
        put(&mut d, FAT + cluster * 2, next, 2);
    }
    entry(&mut d, ROOT, b"OXBOW      ", 0x08, 0, 0);
    entry(&mut d, ROOT + 32, b"OXBOW      ", 0x10, 3, 0);
    entry(&mut d, DATA + SECTOR, b"KERNEL     ", 0x20, 5, 1600);
    for (i, cluster) in [5, 6, 9, 10].into_iter().enumerate() {
        d[DATA + (cluster - 2) * SECTOR..][..SECTOR].fill(i as u8 + 1);
    }
    d
}

fn read(bytes: Vec<u8>) -> Result<Vec<u8>, FatError> {
    let mut disk = MemDisk(bytes);
    let partition = Partition {
        start: START as u64,
        sectors: 1 + FAT_SECTORS as u64 + 1 + CLUSTERS as u64,
    };
    let mut fat = Fat::mount(&mut disk, partition)?;
    let directory = fat.directory("OXBOW")?;
    let file = fat.file(directory, "kernel")?;
    let mut buf = [0; 4096];
    fat.read(file, &mut buf).map(<[u8]>::to_vec)
}

#[test]
fn reads_a_fragmented_file() {
    let content = read(sample()).unwrap();
    assert_eq!(content.len(), 1600);
    for (i, byte) in content.iter().enumerate() {
        assert_eq!(usize::from(*byte), i / SECTOR + 1);
    }
}

#[test]
fn malformed_file_systems_are_errors() {
    let b = START * SECTOR;
    let cases: &[(usize, usize, usize, FatError)] = &[
        (b + 510, 0, 2, FatError::NotFat),
        (b + 11, 4096, 2, FatError::NotFat),
        (b + 13, 0, 1, FatError::NotFat),
        (b + 13, 3, 1, FatError::NotFat),
        (b + 13, 128, 1, FatError::Fat12),
        (b + 14, 0, 2, FatError::NotFat),
        (b + 16, 9, 1, FatError::NotFat),
        (b + 19, 5, 2, FatError::NotFat),
        (b + 19, 0, 2, FatError::NotFat),
        (b + 19, 0xffff, 2, FatError::NotFat),
        (b + 22, 0, 2, FatError::NotFat),
        (b + 22, 2, 2, FatError::NotFat),
        (ROOT + 32, b'X' as usize, 1, FatError::NotFound),
        (ROOT + 32, 0, 1, FatError::NotFound),
        (ROOT + 32 + 11, 0x20, 1, FatError::NotFound),
        (ROOT + 32 + 26, 0, 2, FatError::BadChain),
        (ROOT + 32 + 26, 0xffff, 2, FatError::BadChain),
        (DATA + SECTOR, 0xe5, 1, FatError::NotFound),
        (DATA + SECTOR + 26, 1, 2, FatError::BadChain),
        (
            DATA + SECTOR + 28,
            0x7fff_ffff,
            4,
            FatError::TooLarge(0x7fff_ffff),
        ),
        (DATA + SECTOR + 28, 2100, 4, FatError::BadChain),
        (FAT + 12, 0, 2, FatError::BadChain),
        (FAT + 12, 0xffff, 2, FatError::BadChain),
        (FAT + 12, CLUSTERS + 2, 2, FatError::BadChain),
    ];
    for (at, value, len, expected) in cases {
        let mut disk = sample();
        put(&mut disk, *at, *value, *len);
        assert_eq!(read(disk), Err(*expected), "{value:#x} at {at:#x}");
    }
}

#[test]
fn loops_end() {
    let mut disk = sample();
    put(&mut disk, FAT + 12, 5, 2);
    assert!(read(disk).is_ok_and(|content| content[1024] == 1));
    // A directory that follows itself and never ends.
    let mut disk = sample();
    put(&mut disk, FAT + 6, 3, 2);
    for i in 0..16 {
        entry(
            &mut disk,
            DATA + SECTOR + i * 32,
            b"OTHER      ",
            0x20,
            5,
            1,
        );
    }
    assert_eq!(read(disk), Err(FatError::BadChain));
}

#[test]
fn no_flipped_byte_panics() {
    let good = sample();
    let tables = (START * SECTOR..START * SECTOR + SECTOR)
        .chain(FAT..FAT + 32)
        .chain(ROOT..ROOT + 64)
        .chain(DATA + SECTOR..DATA + SECTOR + 32);
    for at in tables {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut disk = good.clone();
            disk[at] = value;
            let _ = read(disk);
        }
    }
    for sectors in 0..DATA / SECTOR + 9 {
        assert!(read(good[..sectors * SECTOR].to_vec()).is_err());
    }
}
