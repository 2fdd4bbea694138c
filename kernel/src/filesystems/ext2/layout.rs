//! The on-disk format: superblock, group descriptors, inodes (Documentation/filesystems/ext2
//! and ext4 of Linux describe the fields). Pure; every number from the disk is checked here
//! or where it is used.

use crate::error::{Errno, Result};
use crate::vfs::Timestamp;

/// Byte position of the superblock.
pub const SUPER_POS: u64 = 1024;
/// Bytes in it.
pub const SUPER_BYTES: usize = 1024;
/// `s_magic`.
pub const MAGIC: u16 = 0xEF53;
/// The root directory's inode.
pub const ROOT_INO: u32 = 2;
/// Largest link count of an inode.
pub const LINK_MAX: u16 = 32000;
/// Direct pointers in an inode.
pub const NDIR: usize = 12;
/// Pointers in an inode: direct, single, double and triple indirect.
pub const NPTR: usize = 15;

/// `s_state`: unmounted cleanly.
pub const STATE_VALID: u16 = 1;
/// `s_state`: errors were seen.
pub const STATE_ERRORS: u16 = 2;

const COMPAT_RESIZE_INODE: u32 = 0x10;
/// Directory entries carry the file type.
pub const INCOMPAT_FILETYPE: u32 = 0x2;
const RO_SPARSE_SUPER: u32 = 0x1;
/// Files of 2 GiB and more exist.
pub const RO_LARGE_FILE: u32 = 0x2;
const RO_BTREE_DIR: u32 = 0x4;
const INCOMPAT_KNOWN: u32 = INCOMPAT_FILETYPE;
const RO_KNOWN: u32 = RO_SPARSE_SUPER | RO_LARGE_FILE | RO_BTREE_DIR;

/// `i_flags`: the directory has a hash index, which linear changes invalidate.
pub const FLAG_INDEX: u32 = 0x1000;
/// `i_flags`: the block map is an extent tree.
pub const FLAG_EXTENTS: u32 = 0x8_0000;

/// Reads a little-endian u16 at `at`; 0 beyond the end (callers pass whole structures).
pub fn get16(buf: &[u8], at: usize) -> u16 {
    match buf.get(at..at + 2) {
        Some(b) => u16::from_le_bytes([b[0], b[1]]),
        None => 0,
    }
}
/// Reads a little-endian u32 at `at`; 0 beyond the end.
pub fn get32(buf: &[u8], at: usize) -> u32 {
    match buf.get(at..at + 4) {
        Some(b) => u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        None => 0,
    }
}
/// Writes a little-endian u16 at `at`; nothing beyond the end.
pub fn put16(buf: &mut [u8], at: usize, value: u16) {
    if let Some(b) = buf.get_mut(at..at + 2) {
        b.copy_from_slice(&value.to_le_bytes());
    }
}
/// Writes a little-endian u32 at `at`; nothing beyond the end.
pub fn put32(buf: &mut [u8], at: usize, value: u32) {
    if let Some(b) = buf.get_mut(at..at + 4) {
        b.copy_from_slice(&value.to_le_bytes());
    }
}

/// What the superblock says that does not change while mounted.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Bytes in a block: 1024, 2048 or 4096.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u32,
    /// Inodes in all.
    pub inodes: u32,
    /// Blocks kept for the superuser, and for:
    pub reserved: u32,
    /// The user with this id (`s_def_resuid`).
    pub reserved_uid: u16,
    /// Members of the group with this id, when it is not 0 (`s_def_resgid`).
    pub reserved_gid: u16,
    /// Block that the first group starts with.
    pub first_data: u32,
    /// Blocks per group.
    pub blocks_per_group: u32,
    /// Inodes per group.
    pub inodes_per_group: u32,
    /// Bytes per inode on disk.
    pub inode_size: u32,
    /// First inode that is not reserved.
    pub first_ino: u32,
    /// Groups.
    pub groups: u32,
    /// Directory entries carry file types.
    pub filetype: bool,
    /// Copies of the superblock in few groups only.
    pub sparse_super: bool,
    /// Blocks kept after the descriptors for growing.
    pub reserved_gdt: u32,
    /// Unknown read-only features: mount read-only.
    pub read_only: bool,
    /// Bytes of extra fields that new inodes have.
    pub want_extra: u16,
}

impl Geometry {
    /// Reads a superblock. EINVAL: not this format, or a feature that is not known.
    /// EUCLEAN: numbers that cannot be.
    pub fn parse(sb: &[u8], device_bytes: u64) -> Result<Geometry> {
        if sb.len() < SUPER_BYTES || get16(sb, 56) != MAGIC {
            return Err(Errno::EINVAL);
        }
        let log = get32(sb, 24);
        if log > 2 {
            return Err(Errno::EINVAL);
        }
        let block_size = 1024u32 << log;
        let dynamic = get32(sb, 76) >= 1;
        let (compat, incompat, ro_compat) = if dynamic {
            (get32(sb, 92), get32(sb, 96), get32(sb, 100))
        } else {
            (0, 0, 0)
        };
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(Errno::EINVAL);
        }
        let inode_size = if dynamic {
            u32::from(get16(sb, 88))
        } else {
            128
        };
        let geometry = Geometry {
            block_size,
            blocks: get32(sb, 4),
            inodes: get32(sb, 0),
            reserved: get32(sb, 8),
            reserved_uid: get16(sb, 80),
            reserved_gid: get16(sb, 82),
            first_data: get32(sb, 20),
            blocks_per_group: get32(sb, 32),
            inodes_per_group: get32(sb, 40),
            inode_size,
            first_ino: if dynamic { get32(sb, 84) } else { 11 },
            groups: 0,
            filetype: incompat & INCOMPAT_FILETYPE != 0,
            sparse_super: ro_compat & RO_SPARSE_SUPER != 0,
            reserved_gdt: if compat & COMPAT_RESIZE_INODE != 0 {
                u32::from(get16(sb, 206))
            } else {
                0
            },
            read_only: ro_compat & !RO_KNOWN != 0,
            want_extra: if inode_size > 128 {
                get16(sb, 350).clamp(28, 32)
            } else {
                0
            },
        };
        geometry.check(device_bytes)
    }

    fn check(mut self, device_bytes: u64) -> Result<Geometry> {
        let bits = self.block_size * 8;
        let sound = (128..=self.block_size).contains(&self.inode_size)
            && self.inode_size.is_power_of_two()
            && self.first_data == u32::from(self.block_size == 1024)
            && self.blocks > self.first_data
            && (1..=bits).contains(&self.blocks_per_group)
            && (1..=bits).contains(&self.inodes_per_group)
            && self.first_ino > ROOT_INO
            && u64::from(self.blocks) * u64::from(self.block_size) <= device_bytes;
        if !sound {
            return Err(Errno::EUCLEAN);
        }
        self.groups = (self.blocks - self.first_data).div_ceil(self.blocks_per_group);
        if u64::from(self.groups) * u64::from(self.inodes_per_group) != u64::from(self.inodes) {
            return Err(Errno::EUCLEAN);
        }
        Ok(self)
    }

    /// Blocks of one group's inode table.
    pub fn inode_table_blocks(&self) -> u32 {
        (self.inodes_per_group * self.inode_size).div_ceil(self.block_size)
    }
    /// Block that holds descriptor `group`, and the byte in it.
    pub fn descriptor_place(&self, group: u32) -> (u32, usize) {
        let per_block = self.block_size / 32;
        (
            self.first_data + 1 + group / per_block,
            (group % per_block) as usize * 32,
        )
    }
    /// First block of `group`.
    pub fn group_start(&self, group: u32) -> u32 {
        self.first_data + group * self.blocks_per_group
    }
    /// Blocks in `group`; the last one may be short.
    pub fn group_blocks(&self, group: u32) -> u32 {
        (self.blocks - self.group_start(group)).min(self.blocks_per_group)
    }
    /// Whether `group` starts with a copy of the superblock and the descriptors.
    pub fn has_super(&self, group: u32) -> bool {
        let power_of = |base: u32| {
            let mut n = base;
            while n < group {
                n = n.saturating_mul(base);
            }
            n == group
        };
        !self.sparse_super || group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }
    /// Blocks that hold no content: superblocks, descriptors, bitmaps, inode tables.
    pub fn overhead(&self) -> u64 {
        let descriptors = (self.groups * 32).div_ceil(self.block_size) + self.reserved_gdt;
        let mut sum = u64::from(self.first_data);
        for group in 0..self.groups {
            if self.has_super(group) {
                sum += 1 + u64::from(descriptors);
            }
            sum += 2 + u64::from(self.inode_table_blocks());
        }
        sum
    }
    /// Whether `block` can hold anything at all.
    pub fn is_block(&self, block: u32) -> bool {
        block > self.first_data && block < self.blocks
    }
    /// Whether `ino` names an inode.
    pub fn is_inode(&self, ino: u32) -> bool {
        ino >= 1 && ino <= self.inodes
    }
    /// Largest file in bytes: what the pointers reach and 32 bits of 512-byte units count.
    pub fn max_size(&self) -> u64 {
        let per = u64::from(self.block_size / 4);
        let reach = NDIR as u64 + per + per * per + per * per * per;
        let units = u64::from(u32::MAX) / u64::from(self.block_size / 512);
        // The pointers' own blocks count as well: a generous bound for them.
        reach.min(units - units / per - 3) * u64::from(self.block_size)
    }
}

/// One group's descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Block of the block bitmap.
    pub block_bitmap: u32,
    /// Block of the inode bitmap.
    pub inode_bitmap: u32,
    /// First block of the inode table.
    pub inode_table: u32,
    /// Free blocks.
    pub free_blocks: u16,
    /// Free inodes.
    pub free_inodes: u16,
    /// Directories.
    pub used_dirs: u16,
}

impl Group {
    /// Reads a descriptor. EUCLEAN when it points outside the filesystem.
    pub fn parse(raw: &[u8], geometry: &Geometry) -> Result<Group> {
        let group = Group {
            block_bitmap: get32(raw, 0),
            inode_bitmap: get32(raw, 4),
            inode_table: get32(raw, 8),
            free_blocks: get16(raw, 12),
            free_inodes: get16(raw, 14),
            used_dirs: get16(raw, 16),
        };
        let table_end = group
            .inode_table
            .checked_add(geometry.inode_table_blocks())
            .ok_or(Errno::EUCLEAN)?;
        let sound = geometry.is_block(group.block_bitmap)
            && geometry.is_block(group.inode_bitmap)
            && geometry.is_block(group.inode_table)
            && table_end <= geometry.blocks;
        if sound {
            Ok(group)
        } else {
            Err(Errno::EUCLEAN)
        }
    }
    /// Writes the counts back.
    pub fn store(&self, raw: &mut [u8]) {
        put16(raw, 12, self.free_blocks);
        put16(raw, 14, self.free_inodes);
        put16(raw, 16, self.used_dirs);
    }
    /// Free blocks, free inodes, directories.
    pub fn counts(&self) -> (u16, u16, u16) {
        (self.free_blocks, self.free_inodes, self.used_dirs)
    }
    /// Whether `block` is one of the group's own tables.
    pub fn owns(&self, block: u32, geometry: &Geometry) -> bool {
        let table = self.inode_table..self.inode_table + geometry.inode_table_blocks();
        block == self.block_bitmap || block == self.inode_bitmap || table.contains(&block)
    }
}

/// An inode's fields, decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskInode {
    /// Type and permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last read.
    pub atime: Timestamp,
    /// Last change of attributes.
    pub ctime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Creation; only in large inodes.
    pub btime: Option<Timestamp>,
    /// Time of deletion, seconds.
    pub dtime: u32,
    /// Names.
    pub links: u16,
    /// Storage in 512-byte units, pointers' blocks and attributes included.
    pub units: u32,
    /// `i_flags`.
    pub flags: u32,
    /// Block pointers, or the text of a fast symbolic link, or a device number.
    pub block: [u32; NPTR],
    /// NFS generation.
    pub generation: u32,
    /// Block of extended attributes.
    pub file_acl: u32,
    /// Bytes of extra fields used (0 in small inodes).
    pub extra: u16,
}

fn time_in(raw: &[u8], at: usize, extra: Option<usize>) -> Timestamp {
    let seconds = get32(raw, at) as i32;
    let bits = extra.map_or(0, |at| get32(raw, at));
    Timestamp {
        sec: i64::from(seconds) + (i64::from(bits & 3) << 32),
        nsec: (bits >> 2).min(999_999_999),
    }
}

fn time_out(raw: &mut [u8], at: usize, extra: Option<usize>, time: Timestamp) {
    let Some(extra) = extra else {
        let sec = time.sec.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        put32(raw, at, sec as i32 as u32);
        return;
    };
    let sec = time
        .sec
        .clamp(i64::from(i32::MIN), i64::from(i32::MAX) + (3 << 32));
    let low = sec as i32;
    let epoch = ((sec - i64::from(low)) >> 32) as u32 & 3;
    put32(raw, at, low as u32);
    put32(raw, extra, epoch | (time.nsec << 2));
}

impl DiskInode {
    /// Reads an inode of a filesystem.
    pub fn parse(raw: &[u8]) -> DiskInode {
        let extra = if raw.len() > 128 { get16(raw, 128) } else { 0 };
        // A field at `at` exists when the used extra part covers it.
        let has = |at: usize| (128 + usize::from(extra) >= at + 4).then_some(at);
        let mode = get16(raw, 0);
        let mut size = u64::from(get32(raw, 4));
        if mode & 0o170_000 == 0o100_000 {
            size |= u64::from(get32(raw, 108)) << 32;
        }
        let mut block = [0; NPTR];
        for (i, b) in block.iter_mut().enumerate() {
            *b = get32(raw, 40 + i * 4);
        }
        DiskInode {
            mode,
            uid: u32::from(get16(raw, 2)) | u32::from(get16(raw, 120)) << 16,
            gid: u32::from(get16(raw, 24)) | u32::from(get16(raw, 122)) << 16,
            size,
            atime: time_in(raw, 8, has(140)),
            ctime: time_in(raw, 12, has(132)),
            mtime: time_in(raw, 16, has(136)),
            btime: has(144).map(|at| time_in(raw, at, has(148))),
            dtime: get32(raw, 20),
            links: get16(raw, 26),
            units: get32(raw, 28),
            flags: get32(raw, 32),
            block,
            generation: get32(raw, 100),
            file_acl: get32(raw, 104),
            extra,
        }
    }

    /// Writes the fields back; the rest of `raw` (in-inode attributes) stays.
    pub fn store(&self, raw: &mut [u8]) {
        let extra = if raw.len() > 128 { self.extra } else { 0 };
        let has = |at: usize| (128 + usize::from(extra) >= at + 4).then_some(at);
        put16(raw, 0, self.mode);
        put16(raw, 2, self.uid as u16);
        put16(raw, 120, (self.uid >> 16) as u16);
        put16(raw, 24, self.gid as u16);
        put16(raw, 122, (self.gid >> 16) as u16);
        put32(raw, 4, self.size as u32);
        if self.mode & 0o170_000 == 0o100_000 {
            put32(raw, 108, (self.size >> 32) as u32);
        }
        if raw.len() > 128 {
            put16(raw, 128, extra);
        }
        time_out(raw, 8, has(140), self.atime);
        time_out(raw, 12, has(132), self.ctime);
        time_out(raw, 16, has(136), self.mtime);
        if let (Some(at), Some(btime)) = (has(144), self.btime) {
            time_out(raw, at, has(148), btime);
        }
        put32(raw, 20, self.dtime);
        put16(raw, 26, self.links);
        put32(raw, 28, self.units);
        put32(raw, 32, self.flags);
        for (i, b) in self.block.iter().enumerate() {
            put32(raw, 40 + i * 4, *b);
        }
        put32(raw, 100, self.generation);
        put32(raw, 104, self.file_acl);
    }

    /// Type bits.
    pub fn kind(&self) -> u32 {
        u32::from(self.mode) & 0o170_000
    }
    /// Whether the pointers hold the link's text: no content block is counted.
    pub fn is_fast_symlink(&self, block_size: u32) -> bool {
        let acl = if self.file_acl != 0 {
            block_size / 512
        } else {
            0
        };
        self.kind() == 0o120_000 && self.units == acl
    }
    /// Whether the pointers are a block map.
    pub fn has_map(&self, block_size: u32) -> bool {
        match self.kind() {
            0o100_000 | 0o040_000 => true,
            0o120_000 => !self.is_fast_symlink(block_size),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_fields_survive() {
        for len in [128, 256] {
            let nsec = if len == 256 { 987_654_321 } else { 0 };
            let time = |sec| Timestamp { sec, nsec };
            let inode = DiskInode {
                mode: 0o100_644,
                uid: 0x1_2345,
                gid: 0x6_789a,
                size: if len == 256 { 5 << 32 | 7 } else { 9 },
                atime: time(-5),
                ctime: time(1_700_000_000),
                mtime: time(if len == 256 { 1 << 33 } else { 3 }),
                btime: (len == 256).then_some(time(77)),
                links: 3,
                units: 16,
                block: [7; NPTR],
                extra: if len == 256 { 32 } else { 0 },
                ..DiskInode::default()
            };
            let mut raw = vec![0; len];
            inode.store(&mut raw);
            assert_eq!(DiskInode::parse(&raw), inode);
        }
    }

    #[test]
    fn garbage_is_refused() {
        let mut sb = vec![0xff; SUPER_BYTES];
        assert_eq!(Geometry::parse(&sb, 1 << 30).unwrap_err(), Errno::EINVAL);
        put16(&mut sb, 56, MAGIC);
        assert!(Geometry::parse(&sb, 1 << 30).is_err());
        let mut zero = vec![0; SUPER_BYTES];
        put16(&mut zero, 56, MAGIC);
        assert_eq!(Geometry::parse(&zero, 1 << 30).unwrap_err(), Errno::EUCLEAN);
    }
}
