//! A mounted volume: superblock, descriptors, and the allocation of blocks and inodes.
//!
//! One sleeping lock guards counts and descriptors; bitmaps are changed under it, so that a
//! bitmap and its descriptor move together. Free blocks are taken in runs near a goal, so
//! that a file written in one go lies in one piece.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::buffers::{Buffers, Disk};
use super::layout::{
    DiskInode, Geometry, Group, RO_LARGE_FILE, STATE_ERRORS, STATE_VALID, SUPER_BYTES, SUPER_POS,
    get16, get32, put16, put32,
};
use crate::error::{Errno, Result};
use crate::sched::Mutex;
use crate::vfs::Timestamp;

/// A volume.
pub struct Volume {
    /// Its shape.
    pub geometry: Geometry,
    /// Its metadata blocks.
    pub buffers: Buffers,
    /// First block of each group's inode table.
    inode_tables: Vec<u32>,
    alloc: Mutex<Alloc>,
    /// Damage was seen: the superblock will say so.
    damaged: AtomicBool,
    writable: AtomicBool,
}

struct Alloc {
    groups: Vec<Group>,
    free_blocks: u64,
    free_inodes: u64,
    /// The superblock's counts are behind.
    dirty: bool,
    /// `s_state` as found at mount.
    state: u16,
    generation: u32,
}

/// Free space, for statfs.
#[derive(Clone, Copy, Debug)]
pub struct Free {
    /// Free blocks.
    pub blocks: u64,
    /// Free inodes.
    pub inodes: u64,
}

impl Volume {
    /// Reads the superblock and the descriptors of `disk`, which has `bytes` bytes.
    pub fn open(disk: Arc<dyn Disk>, bytes: u64) -> Result<Volume> {
        let mut sb = alloc::vec![0; SUPER_BYTES];
        if bytes < SUPER_POS + SUPER_BYTES as u64 {
            return Err(Errno::EINVAL);
        }
        disk.read(SUPER_POS, &mut sb)?;
        let geometry = Geometry::parse(&sb, bytes)?;
        let buffers = Buffers::new(disk, geometry.block_size);
        let mut groups = Vec::new();
        groups
            .try_reserve_exact(geometry.groups as usize)
            .map_err(|_| Errno::ENOMEM)?;
        for n in 0..geometry.groups {
            let (block, at) = geometry.descriptor_place(n);
            let group = buffers.with(block, |raw| {
                let raw = raw.get(at..at + 32).ok_or(Errno::EUCLEAN)?;
                Group::parse(raw, &geometry)
            })??;
            groups.push(group);
        }
        // The descriptors are the truth; the superblock's sums may be behind them.
        let free_blocks = groups.iter().map(|g| u64::from(g.free_blocks)).sum();
        let free_inodes = groups.iter().map(|g| u64::from(g.free_inodes)).sum();
        Ok(Volume {
            buffers,
            inode_tables: groups.iter().map(|g: &Group| g.inode_table).collect(),
            alloc: Mutex::new(Alloc {
                groups,
                free_blocks,
                free_inodes,
                dirty: false,
                state: get16(&sb, 58),
                generation: get32(&sb, 48) ^ get32(&sb, 44).rotate_left(16),
            }),
            geometry,
            damaged: AtomicBool::new(false),
            writable: AtomicBool::new(false),
        })
    }

    /// Damage was found: remembers it in the superblock and gives the error to return.
    pub fn damage(&self, what: &str) -> Errno {
        if !self.damaged.swap(true, Ordering::Relaxed) {
            warn!("ext2: damaged filesystem ({what}): run e2fsck");
        }
        self.alloc.lock().dirty = true;
        Errno::EUCLEAN
    }

    fn with_super<R>(&self, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        let size = u64::from(self.geometry.block_size);
        let at = (SUPER_POS % size) as usize;
        self.buffers
            .with_mut((SUPER_POS / size) as u32, |raw| {
                raw.get_mut(at..at + SUPER_BYTES).map(change)
            })?
            .ok_or(Errno::EIO)
    }

    /// Whether it was unmounted cleanly before.
    pub fn was_clean(&self) -> bool {
        self.alloc.lock().state & (STATE_VALID | STATE_ERRORS) == STATE_VALID
    }

    /// From now on the volume is being written: it is not clean until [`Volume::settle`].
    pub fn begin_writing(&self, now: Timestamp) -> Result<()> {
        if self.geometry.read_only {
            return Err(Errno::EROFS);
        }
        let state = self.alloc.lock().state & !STATE_VALID;
        self.with_super(|sb| {
            put16(sb, 58, state);
            put32(sb, 44, now.sec as u32);
            let count = get16(sb, 52).wrapping_add(1);
            put16(sb, 52, count);
        })?;
        self.buffers.write_back()?;
        self.buffers.disk().flush()?;
        self.writable.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether [`Volume::begin_writing`] is in force.
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire)
    }

    /// Writes everything and marks the volume clean, if it was clean before and is sound.
    pub fn settle(&self, now: Timestamp) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        self.sync(now)?;
        let state = self.alloc.lock().state;
        if state & STATE_VALID != 0 && !self.damaged.load(Ordering::Relaxed) {
            self.with_super(|sb| put16(sb, 58, state))?;
            self.buffers.write_back()?;
            self.buffers.disk().flush()?;
        }
        self.writable.store(false, Ordering::Release);
        Ok(())
    }

    /// Writes all metadata and flushes the device.
    pub fn sync(&self, now: Timestamp) -> Result<()> {
        self.write_back(now)?;
        self.buffers.disk().flush()
    }

    /// Writes all metadata.
    pub fn write_back(&self, now: Timestamp) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let sums = {
            let mut alloc = self.alloc.lock();
            let due = core::mem::take(&mut alloc.dirty);
            due.then_some((alloc.free_blocks, alloc.free_inodes))
        };
        if let Some((blocks, inodes)) = sums {
            let damaged = self.damaged.load(Ordering::Relaxed);
            self.with_super(|sb| {
                put32(sb, 12, blocks as u32);
                put32(sb, 16, inodes as u32);
                put32(sb, 48, now.sec as u32);
                if damaged {
                    let state = get16(sb, 58) | STATE_ERRORS;
                    put16(sb, 58, state);
                }
            })?;
        }
        // Pointer blocks before the inodes that lead to them: what a new one held before must
        // not pass for a file's blocks after a power cut.
        self.buffers.write_back_last(|block| self.has_inodes(block))
    }

    /// Whether `block` is part of an inode table.
    fn has_inodes(&self, block: u32) -> bool {
        let geometry = &self.geometry;
        let group = block.saturating_sub(geometry.first_data) / geometry.blocks_per_group;
        let table = self.inode_tables.get(group as usize).copied().unwrap_or(0);
        (table..table + geometry.inode_table_blocks()).contains(&block)
    }

    /// A file of 2 GiB or more is about to exist: the superblock has to say so.
    pub fn note_large_file(&self) -> Result<()> {
        self.with_super(|sb| {
            let features = get32(sb, 100);
            if get32(sb, 76) >= 1 && features & RO_LARGE_FILE == 0 {
                put32(sb, 100, features | RO_LARGE_FILE);
            }
        })
    }

    /// Free space now.
    pub fn free(&self) -> Free {
        let alloc = self.alloc.lock();
        Free {
            blocks: alloc.free_blocks,
            inodes: alloc.free_inodes,
        }
    }

    fn store_group(&self, n: u32, group: &Group) -> Result<()> {
        let (block, at) = self.geometry.descriptor_place(n);
        self.buffers.with_mut(block, |raw| {
            if let Some(raw) = raw.get_mut(at..at + 32) {
                group.store(raw);
            }
        })
    }

    /// Takes up to `want` blocks that lie in one piece, near `goal` if it can be. Returns
    /// (first, count). ENOSPC when none is left but those kept for others.
    pub fn allocate(&self, goal: u32, want: u32) -> Result<(u32, u32)> {
        let geometry = &self.geometry;
        let want = want.max(1);
        let mut alloc = self.alloc.lock();
        let spare = self.spare(alloc.free_blocks, u64::from(want));
        if spare == 0 {
            return Err(Errno::ENOSPC);
        }
        let want = u64::from(want).min(spare) as u32;
        let goal = if geometry.is_block(goal) {
            goal
        } else {
            geometry.first_data + 1
        };
        let first_group = (goal - geometry.first_data) / geometry.blocks_per_group;
        // The goal's group is looked at twice: from the goal on, at last from its start.
        for step in 0..=geometry.groups {
            let n = (first_group + step) % geometry.groups;
            let Some(group) = alloc.groups.get(n as usize).copied() else {
                break;
            };
            if group.free_blocks == 0 {
                continue;
            }
            let start = geometry.group_start(n);
            let from = if step == 0 { goal - start } else { 0 };
            let limit = geometry.group_blocks(n);
            let most = want.min(u32::from(group.free_blocks));
            let found = self.buffers.with_mut(group.block_bitmap, |bits| {
                let (bit, len) = find_run(bits, from, limit, most)?;
                for b in bit..bit + len {
                    set(bits, b);
                }
                Some((bit, len))
            })?;
            let Some((bit, len)) = found else { continue };
            let block = start + bit;
            let group = &mut alloc.groups[n as usize];
            group.free_blocks -= len as u16;
            let group = *group;
            alloc.free_blocks = alloc.free_blocks.saturating_sub(u64::from(len));
            alloc.dirty = true;
            self.store_group(n, &group)?;
            let clash =
                (block..block + len).any(|b| !geometry.is_block(b) || self.in_tables(&alloc, b));
            if clash {
                drop(alloc);
                return Err(self.damage("a table's block is marked free"));
            }
            return Ok((block, len));
        }
        drop(alloc);
        if first_group < geometry.groups {
            // The counts promised blocks that no bitmap has.
            return Err(self.damage("free block counts are wrong"));
        }
        Err(Errno::ENOSPC)
    }

    /// Whether `block` belongs to the fixed tables of its group.
    fn in_tables(&self, alloc: &Alloc, block: u32) -> bool {
        let n = (block - self.geometry.first_data) / self.geometry.blocks_per_group;
        // Tables lie in their own group in every image that mke2fs makes here (no flex_bg).
        alloc
            .groups
            .get(n as usize)
            .is_some_and(|g| g.owns(block, &self.geometry))
    }

    /// Gives `count` blocks from `first` on back. EUCLEAN when one was not in use.
    pub fn release(&self, first: u32, count: u32) -> Result<()> {
        let geometry = &self.geometry;
        let mut at = first;
        let end = first.checked_add(count).ok_or(Errno::EUCLEAN)?;
        let mut alloc = self.alloc.lock();
        while at < end {
            if !geometry.is_block(at) || !geometry.is_block(end - 1) || self.in_tables(&alloc, at) {
                drop(alloc);
                return Err(self.damage("a file's block lies outside the data area"));
            }
            let n = (at - geometry.first_data) / geometry.blocks_per_group;
            let start = geometry.group_start(n);
            let stop = end.min(start + geometry.group_blocks(n));
            let bitmap = alloc
                .groups
                .get(n as usize)
                .ok_or(Errno::EUCLEAN)?
                .block_bitmap;
            for block in at..stop {
                self.buffers.forget(block);
            }
            let freed = self.buffers.with_mut(bitmap, |bits| {
                (at..stop).filter(|b| clear(bits, b - start)).count() as u32
            })?;
            let group = &mut alloc.groups[n as usize];
            group.free_blocks = group.free_blocks.saturating_add(freed as u16);
            let group = *group;
            alloc.free_blocks += u64::from(freed);
            alloc.dirty = true;
            self.store_group(n, &group)?;
            if freed != stop - at {
                drop(alloc);
                return Err(self.damage("a block is used twice"));
            }
            at = stop;
        }
        Ok(())
    }

    /// Takes a free inode, near `parent`; directories at the top are spread over the groups.
    /// Returns its number and a generation. ENOSPC.
    pub fn allocate_inode(&self, parent: u32, dir: bool) -> Result<(u32, u32)> {
        let geometry = &self.geometry;
        let mut alloc = self.alloc.lock();
        if alloc.free_inodes == 0 {
            return Err(Errno::ENOSPC);
        }
        let home = parent.saturating_sub(1) / geometry.inodes_per_group % geometry.groups;
        let first = if dir && parent == super::layout::ROOT_INO {
            emptiest(&alloc.groups, home)
        } else {
            home
        };
        for step in 0..geometry.groups {
            let n = (first + step) % geometry.groups;
            let Some(group) = alloc.groups.get(n as usize).copied() else {
                break;
            };
            if group.free_inodes == 0 {
                continue;
            }
            let from = if n == 0 { geometry.first_ino - 1 } else { 0 };
            let found = self.buffers.with_mut(group.inode_bitmap, |bits| {
                let (bit, _) = find_run(bits, from, geometry.inodes_per_group, 1)?;
                set(bits, bit);
                Some(bit)
            })?;
            let Some(bit) = found else { continue };
            let group = &mut alloc.groups[n as usize];
            group.free_inodes -= 1;
            if dir {
                group.used_dirs = group.used_dirs.saturating_add(1);
            }
            let group = *group;
            alloc.free_inodes -= 1;
            alloc.dirty = true;
            alloc.generation = alloc
                .generation
                .wrapping_mul(0x915f_77f5)
                .wrapping_add(0x1235);
            let generation = alloc.generation;
            self.store_group(n, &group)?;
            return Ok((n * geometry.inodes_per_group + bit + 1, generation));
        }
        drop(alloc);
        Err(self.damage("free inode counts are wrong"))
    }

    /// Gives an inode back.
    pub fn release_inode(&self, ino: u32, dir: bool) -> Result<()> {
        let geometry = &self.geometry;
        if !geometry.is_inode(ino) || ino < geometry.first_ino {
            return Err(self.damage("a reserved inode was to be freed"));
        }
        let n = (ino - 1) / geometry.inodes_per_group;
        let bit = (ino - 1) % geometry.inodes_per_group;
        let mut alloc = self.alloc.lock();
        let group = alloc.groups.get_mut(n as usize).ok_or(Errno::EUCLEAN)?;
        let was_used = self
            .buffers
            .with_mut(group.inode_bitmap, |bits| clear(bits, bit))?;
        if !was_used {
            drop(alloc);
            return Err(self.damage("an inode was freed twice"));
        }
        group.free_inodes = group.free_inodes.saturating_add(1);
        if dir {
            group.used_dirs = group.used_dirs.saturating_sub(1);
        }
        let group = *group;
        alloc.free_inodes += 1;
        alloc.dirty = true;
        self.store_group(n, &group)
    }

    /// Group `n`'s descriptor.
    pub fn group(&self, n: u32) -> Result<Group> {
        let alloc = self.alloc.lock();
        alloc.groups.get(n as usize).copied().ok_or(Errno::EUCLEAN)
    }

    /// Sets group `n`'s counts ([`Volume::recount`] makes the sums).
    pub fn set_group(&self, n: u32, group: &Group) -> Result<()> {
        if let Some(known) = self.alloc.lock().groups.get_mut(n as usize) {
            *known = *group;
        }
        self.store_group(n, group)
    }

    /// Sums the groups' counts up.
    pub fn recount(&self) {
        let mut alloc = self.alloc.lock();
        alloc.free_blocks = alloc.groups.iter().map(|g| u64::from(g.free_blocks)).sum();
        alloc.free_inodes = alloc.groups.iter().map(|g| u64::from(g.free_inodes)).sum();
        alloc.dirty = true;
    }

    /// Calls `see` for the blocks of superblocks, descriptors, bitmaps and inode tables.
    pub fn each_table_block(&self, mut see: impl FnMut(u32)) -> Result<()> {
        let geometry = &self.geometry;
        let descriptors = (geometry.groups * 32).div_ceil(geometry.block_size);
        for n in 0..geometry.groups {
            let group = self.group(n)?;
            if geometry.has_super(n) {
                let start = geometry.group_start(n);
                (start..=start + descriptors + geometry.reserved_gdt).for_each(&mut see);
            }
            see(group.block_bitmap);
            see(group.inode_bitmap);
            let table = group.inode_table;
            (table..table + geometry.inode_table_blocks()).for_each(&mut see);
        }
        Ok(())
    }

    /// The volume was checked and repaired, and that is on disk: it is as good as after a clean
    /// unmount.
    pub fn declare_sound(&self) -> Result<()> {
        let (blocks, inodes) = {
            let mut alloc = self.alloc.lock();
            alloc.state = STATE_VALID;
            (alloc.free_blocks, alloc.free_inodes)
        };
        self.damaged.store(false, Ordering::Relaxed);
        self.with_super(|sb| {
            put32(sb, 12, blocks as u32);
            put32(sb, 16, inodes as u32);
            put16(sb, 58, STATE_VALID);
        })?;
        self.buffers.write_back()?;
        self.buffers.disk().flush()
    }

    fn inode_place(&self, ino: u32) -> Result<(u32, usize)> {
        let geometry = &self.geometry;
        if !geometry.is_inode(ino) {
            return Err(self.damage("an entry names an inode that cannot be"));
        }
        let n = (ino - 1) / geometry.inodes_per_group;
        let at = (ino - 1) % geometry.inodes_per_group * geometry.inode_size;
        let table = {
            let alloc = self.alloc.lock();
            let group = alloc.groups.get(n as usize).ok_or(Errno::EUCLEAN)?;
            group.inode_table
        };
        Ok((
            table + at / geometry.block_size,
            (at % geometry.block_size) as usize,
        ))
    }

    /// Reads inode `ino` from its table.
    pub fn read_inode(&self, ino: u32) -> Result<DiskInode> {
        let (block, at) = self.inode_place(ino)?;
        let size = self.geometry.inode_size as usize;
        self.buffers
            .with(block, |raw| raw.get(at..at + size).map(DiskInode::parse))?
            .ok_or(Errno::EUCLEAN)
    }

    /// Writes inode `ino` into its table; `fresh` wipes what a former inode left there.
    /// `fields` is called with the table's block locked, so that the last writer wrote the
    /// latest state.
    pub fn write_inode(
        &self,
        ino: u32,
        fresh: bool,
        fields: impl FnOnce() -> DiskInode,
    ) -> Result<()> {
        let (block, at) = self.inode_place(ino)?;
        let size = self.geometry.inode_size as usize;
        self.buffers.with_mut(block, |raw| {
            if let Some(raw) = raw.get_mut(at..at + size) {
                if fresh {
                    raw.fill(0);
                }
                fields().store(raw);
            }
        })
    }

    /// A block near which a new file of inode `ino` may start.
    pub fn home_block(&self, ino: u32) -> u32 {
        let group = ino.saturating_sub(1) / self.geometry.inodes_per_group;
        self.geometry
            .group_start(group.min(self.geometry.groups.saturating_sub(1)))
    }
}

/// The group with the most free inodes among those with free blocks, `home` if equal.
fn emptiest(groups: &[Group], home: u32) -> u32 {
    let mut best = home;
    let mut most = 0;
    for (n, group) in groups.iter().enumerate() {
        let bonus = u32::from(n as u32 == home);
        let score = u32::from(group.free_inodes) * 2 + bonus;
        if group.free_blocks > 0 && score > most {
            most = score;
            best = n as u32;
        }
    }
    best
}

fn is_set(bits: &[u8], n: u32) -> bool {
    bits.get(n as usize / 8)
        .is_none_or(|byte| byte & (1 << (n % 8)) != 0)
}

fn set(bits: &mut [u8], n: u32) {
    if let Some(byte) = bits.get_mut(n as usize / 8) {
        *byte |= 1 << (n % 8);
    }
}

/// Whether the bit was set.
fn clear(bits: &mut [u8], n: u32) -> bool {
    let was = n as usize / 8 < bits.len() && is_set(bits, n);
    if let Some(byte) = bits.get_mut(n as usize / 8) {
        *byte &= !(1 << (n % 8));
    }
    was
}

/// A run of up to `want` clear bits in `[from, limit)`: at `from` if that is clear; else the
/// first run that starts with eight clear bits, if several are wanted; else the first clear
/// bit.
fn find_run(bits: &[u8], from: u32, limit: u32, want: u32) -> Option<(u32, u32)> {
    let start = if from < limit && !is_set(bits, from) {
        from
    } else {
        let roomy = || {
            let first = from.div_ceil(8);
            (first..limit / 8)
                .find(|&byte| bits.get(byte as usize) == Some(&0))
                .map(|byte| byte * 8)
        };
        let any = || next_clear(bits, from, limit);
        if want > 1 {
            roomy().or_else(any)
        } else {
            any()
        }?
    };
    let mut len = 1;
    while len < want && start + len < limit && !is_set(bits, start + len) {
        len += 1;
    }
    Some((start, len))
}

fn next_clear(bits: &[u8], from: u32, limit: u32) -> Option<u32> {
    let mut n = from;
    while n < limit {
        if n.is_multiple_of(8) && bits.get(n as usize / 8) == Some(&0xff) {
            n += 8;
            continue;
        }
        if !is_set(bits, n) {
            return Some(n);
        }
        n += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_near_the_goal() {
        let mut bits = [0u8; 8];
        for n in 0..20 {
            set(&mut bits, n);
        }
        set(&mut bits, 30);
        assert_eq!(find_run(&bits, 22, 64, 4), Some((22, 4)));
        assert_eq!(find_run(&bits, 22, 64, 40), Some((22, 8)));
        assert_eq!(find_run(&bits, 3, 64, 2), Some((32, 2)));
        assert_eq!(find_run(&bits, 3, 64, 1), Some((20, 1)));
        assert_eq!(find_run(&bits, 60, 62, 9), Some((60, 2)));
        assert_eq!(find_run(&[0xff; 8], 0, 64, 1), None);
        assert_eq!(find_run(&[0; 2], 16, 16, 1), None);
    }
}
