//! Reads files from a FAT16 or FAT32 file system (Microsoft FAT specification, 2005).
//!
//! Made for speed at boot rather than for breadth: only 8.3 names (the alias of a long name
//! works too), and clusters that follow each other are read in one go. Nothing on the disk is
//! trusted: every cluster number is checked, and no chain is followed for longer than the
//! file's length or [`MAX_DIRECTORY`] says.

use crate::disk::{Disk, DiskError, SECTOR};
use crate::gpt::Partition;
use core::fmt;

/// Longest directory, in bytes, that is searched.
const MAX_DIRECTORY: usize = 64 << 10;
const ENTRY: usize = 32;
const ATTR_VOLUME: u8 = 0x08;
const ATTR_DIRECTORY: u8 = 0x10;

/// What is wrong with a file system or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatError {
    /// The disk does not answer.
    Disk(DiskError),
    /// No FAT boot sector, or one with impossible numbers.
    NotFat,
    /// FAT12, which nobody makes this large.
    Fat12,
    /// The chain of clusters is broken or shorter than the file.
    BadChain,
    /// No such file or directory.
    NotFound,
    /// Larger than the buffer; holds its length.
    TooLarge(u32),
}

impl fmt::Display for FatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FatError::Disk(e) => e.fmt(f),
            FatError::NotFat => f.write_str("no FAT file system"),
            FatError::Fat12 => f.write_str("FAT12 is not supported"),
            FatError::BadChain => f.write_str("truncated, or its cluster chain is damaged"),
            FatError::NotFound => f.write_str("not found"),
            FatError::TooLarge(len) => write!(f, "too large ({len} bytes)"),
        }
    }
}

impl From<DiskError> for FatError {
    fn from(error: DiskError) -> Self {
        FatError::Disk(error)
    }
}

/// A directory or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    cluster: u32,
    len: u32,
    directory: bool,
}

impl Node {
    /// Length of a file in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Fat16,
    Fat32,
}

/// A mounted file system.
pub struct Fat<'d, D> {
    disk: &'d mut D,
    width: Width,
    fat_start: u64,
    /// First sector and sectors of FAT16's root directory.
    root_dir: (u64, usize),
    /// First cluster of FAT32's root directory.
    root_cluster: u32,
    data_start: u64,
    cluster_len: usize,
    /// One more than the highest valid cluster number.
    end_cluster: u32,
    /// One sector of the allocation table.
    cache: [u8; SECTOR],
    cached: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(bytes[at]) | u32::from(bytes[at + 1]) << 8
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

impl<'d, D: Disk> Fat<'d, D> {
    /// Reads and checks the boot sector of the file system in `partition`.
    pub fn mount(disk: &'d mut D, partition: Partition) -> Result<Self, FatError> {
        let mut boot = [0; SECTOR];
        disk.read(partition.start, &mut boot)?;
        if boot[510..] != [0x55, 0xaa] || u16_at(&boot, 11) as usize != SECTOR {
            return Err(FatError::NotFat);
        }
        let per_cluster = u32::from(boot[13]);
        let reserved = u16_at(&boot, 14);
        let nr_fats = u32::from(boot[16]);
        let root_len = u16_at(&boot, 17) * ENTRY as u32;
        let either = |short: u32, long: u32| if short != 0 { short } else { long };
        let sectors = either(u16_at(&boot, 19), u32_at(&boot, 32));
        let fat_len = either(u16_at(&boot, 22), u32_at(&boot, 36));
        if !per_cluster.is_power_of_two()
            || reserved == 0
            || !(1..=2).contains(&nr_fats)
            || fat_len == 0
        {
            return Err(FatError::NotFat);
        }
        let root_sectors = root_len.div_ceil(SECTOR as u32);
        let root_start = u64::from(reserved) + u64::from(nr_fats) * u64::from(fat_len);
        let data_start = root_start + u64::from(root_sectors);
        let data = u64::from(sectors)
            .checked_sub(data_start)
            .ok_or(FatError::NotFat)?;
        if u64::from(sectors) > partition.sectors {
            return Err(FatError::NotFat);
        }
        let nr_clusters = (data / u64::from(per_cluster)) as u32;
        // The number of clusters alone tells the kinds apart (specification, 3.5).
        let width = match nr_clusters {
            0 => return Err(FatError::NotFat),
            1..4085 => return Err(FatError::Fat12),
            4085..65525 => Width::Fat16,
            65525..0x0fff_fff5 => Width::Fat32,
            _ => return Err(FatError::NotFat),
        };
        let per_sector = if width == Width::Fat16 { 256 } else { 128 };
        if u64::from(fat_len) * per_sector < u64::from(nr_clusters) + 2 {
            return Err(FatError::NotFat);
        }
        Ok(Fat {
            disk,
            width,
            fat_start: partition.start + u64::from(reserved),
            root_dir: (partition.start + root_start, root_sectors as usize),
            root_cluster: u32_at(&boot, 44) & 0x0fff_ffff,
            data_start: partition.start + data_start,
            cluster_len: per_cluster as usize * SECTOR,
            end_cluster: nr_clusters + 2,
            cache: [0; SECTOR],
            cached: u64::MAX,
        })
    }

    fn check(&self, cluster: u32) -> Result<u32, FatError> {
        if (2..self.end_cluster).contains(&cluster) {
            Ok(cluster)
        } else {
            Err(FatError::BadChain)
        }
    }

    fn lba(&self, cluster: u32) -> u64 {
        self.data_start + u64::from(cluster - 2) * (self.cluster_len / SECTOR) as u64
    }

    /// What the table says of `cluster`, a valid number: the next one, or anything that is
    /// none at the end.
    fn next(&mut self, cluster: u32) -> Result<u32, FatError> {
        let width = if self.width == Width::Fat16 { 2 } else { 4 };
        let at = u64::from(cluster) * width;
        let lba = self.fat_start + at / SECTOR as u64;
        if self.cached != lba {
            self.cached = u64::MAX;
            self.disk.read(lba, &mut self.cache)?;
            self.cached = lba;
        }
        let at = at as usize % SECTOR;
        Ok(match self.width {
            Width::Fat16 => u16_at(&self.cache, at),
            Width::Fat32 => u32_at(&self.cache, at) & 0x0fff_ffff,
        })
    }

    /// Fills `buf`, a multiple of a sector, from the chain that starts at `cluster`.
    fn read_chain(&mut self, cluster: u32, buf: &mut [u8]) -> Result<(), FatError> {
        let mut rest = buf;
        let mut first = cluster;
        while !rest.is_empty() {
            let mut last = self.check(first)?;
            let mut run = self.cluster_len;
            let mut next = 0;
            while run < rest.len() {
                next = self.next(last)?;
                if next != last + 1 || next >= self.end_cluster {
                    break;
                }
                last = next;
                run += self.cluster_len;
            }
            let (now, later) = rest.split_at_mut(run.min(rest.len()));
            self.disk.read(self.lba(first), now)?;
            rest = later;
            first = next;
        }
        Ok(())
    }

    /// Looks `name`, 11 bytes as a directory has them, up in one piece of a directory.
    /// `Err(true)` says that the directory ends here.
    fn search(piece: &[u8], name: &[u8; 11]) -> Result<Node, bool> {
        for entry in piece.chunks_exact(ENTRY) {
            if entry[0] == 0 {
                return Err(true);
            }
            if entry[11] & ATTR_VOLUME == 0 && entry[..11] == name[..] {
                return Ok(Node {
                    cluster: u16_at(entry, 20) << 16 | u16_at(entry, 26),
                    len: u32_at(entry, 28),
                    directory: entry[11] & ATTR_DIRECTORY != 0,
                });
            }
        }
        Err(false)
    }

    fn lookup(&mut self, parent: Option<Node>, name: &[u8; 11]) -> Result<Node, FatError> {
        let mut sector = [0; SECTOR];
        if parent.is_none() && self.width == Width::Fat16 {
            let (start, sectors) = self.root_dir;
            for i in 0..sectors as u64 {
                self.disk.read(start + i, &mut sector)?;
                match Self::search(&sector, name) {
                    Ok(node) => return Ok(node),
                    Err(true) => break,
                    Err(false) => {}
                }
            }
            return Err(FatError::NotFound);
        }
        let mut cluster = parent.map_or(self.root_cluster, |p| p.cluster);
        for _ in 0..MAX_DIRECTORY / self.cluster_len.min(MAX_DIRECTORY) {
            let start = self.lba(self.check(cluster)?);
            for i in 0..(self.cluster_len / SECTOR) as u64 {
                self.disk.read(start + i, &mut sector)?;
                match Self::search(&sector, name) {
                    Ok(node) => return Ok(node),
                    Err(true) => return Err(FatError::NotFound),
                    Err(false) => {}
                }
            }
            cluster = self.next(cluster)?;
            if cluster >= self.end_cluster {
                return Err(FatError::NotFound);
            }
        }
        Err(FatError::BadChain)
    }

    /// Finds a directory of the root directory. `name` is upper-case, without an extension.
    pub fn directory(&mut self, name: &str) -> Result<Node, FatError> {
        let node = self.lookup(None, &short(name))?;
        if node.directory {
            Ok(node)
        } else {
            Err(FatError::NotFound)
        }
    }

    /// Finds a file of `parent`. `name` is upper-case, without an extension.
    pub fn file(&mut self, parent: Node, name: &str) -> Result<Node, FatError> {
        let node = self.lookup(Some(parent), &short(name))?;
        if node.directory {
            Err(FatError::NotFound)
        } else {
            Ok(node)
        }
    }

    /// Reads a file into the beginning of `buf`, which has room for it rounded up to whole
    /// sectors, and returns its bytes.
    pub fn read<'b>(&mut self, file: Node, buf: &'b mut [u8]) -> Result<&'b [u8], FatError> {
        let len = file.len();
        let buf = buf
            .get_mut(..len.next_multiple_of(SECTOR))
            .ok_or(FatError::TooLarge(file.len))?;
        self.read_chain(file.cluster, buf)?;
        Ok(&buf[..len])
    }
}

fn short(name: &str) -> [u8; 11] {
    let mut out = [b' '; 11];
    for (to, from) in out[..8].iter_mut().zip(name.bytes()) {
        *to = from.to_ascii_uppercase();
    }
    out
}

#[cfg(test)]
#[path = "fat_tests.rs"]
pub mod tests;
