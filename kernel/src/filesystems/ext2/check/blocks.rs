//! The first pass: which inodes are in use, and which blocks are theirs.
//!
//! Looking comes first and changes nothing, for a pointer block that two inodes claim is the
//! content of one of them. Claims are settled, one level a round; only when every block has
//! one owner are pointers that cannot be cleared.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::super::layout::{DiskInode, FLAG_EXTENTS, NDIR, ROOT_INO, get32, put32};
use super::super::volume::Volume;
use super::{Bits, Inodes};
use crate::error::{Errno, Result};
use crate::vfs::Timestamp;

/// Rounds before the volume is given up.
const ROUNDS: usize = 16;
/// Bytes of an inode table that are read at once.
const CHUNK: u32 = 64 * 1024;

/// What to do with a pointer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It stays; what it points to is looked at when that is a pointer block.
    Keep,
    /// It stays; what it points to is not looked at.
    Skip,
    /// It becomes a hole.
    Clear,
}

/// What one look at all inodes found.
struct Round {
    inodes: Inodes,
    /// Blocks that were claimed more than once.
    doubles: BTreeSet<u32>,
    /// Inodes that need a repair of their own.
    wrong: Vec<u32>,
}

/// Makes blocks and inodes sound; returns them and how much was repaired.
pub fn check(volume: &Volume, now: Timestamp) -> Result<(Inodes, usize)> {
    let fixed = tables(volume)?;
    let mut repairs = 0;
    for _ in 0..ROUNDS {
        let round = look(volume, &fixed)?;
        if !round.doubles.is_empty() {
            repairs += settle_claims(volume, &fixed, &round.doubles)?;
        } else if !round.wrong.is_empty() {
            for ino in &round.wrong {
                mend(volume, &fixed, *ino, now)?;
            }
            repairs += round.wrong.len();
        } else {
            return Ok((round.inodes, repairs));
        }
        volume.buffers.write_back()?;
    }
    Err(Errno::EUCLEAN)
}

/// Calls `see` for every inode in the tables that was ever used.
fn each_inode(volume: &Volume, mut see: impl FnMut(u32, DiskInode) -> Result<()>) -> Result<()> {
    let geometry = &volume.geometry;
    let (bs, size) = (geometry.block_size, geometry.inode_size as usize);
    let mut chunk = Vec::new();
    chunk
        .try_reserve_exact(CHUNK.max(bs) as usize)
        .map_err(|_| Errno::ENOMEM)?;
    for n in 0..geometry.groups {
        let table = volume.group(n)?.inode_table;
        let mut ino = n * geometry.inodes_per_group + 1;
        let mut left = geometry.inodes_per_group as usize;
        let mut at = u64::from(table) * u64::from(bs);
        while left > 0 {
            let blocks = (left * size).div_ceil(bs as usize);
            let bytes = (blocks * bs as usize).min(CHUNK.max(bs) as usize);
            chunk.resize(bytes, 0);
            volume.buffers.disk().read(at, &mut chunk)?;
            at += bytes as u64;
            for raw in chunk.chunks_exact(size).take(left) {
                if raw.iter().take(128).any(|&b| b != 0) {
                    see(ino, DiskInode::parse(raw))?;
                }
                ino += 1;
            }
            left = left.saturating_sub(bytes / size);
        }
    }
    Ok(())
}

/// Whether `ino` is the filesystem's own: its blocks count, its shape is not looked at.
fn is_reserved(volume: &Volume, ino: u32) -> bool {
    ino < volume.geometry.first_ino && ino != ROOT_INO
}

/// How many file blocks the inode's size reaches over.
fn reach(volume: &Volume, inode: &DiskInode) -> u64 {
    inode.size.div_ceil(u64::from(volume.geometry.block_size))
}

/// Whether type, flags and size of an inode with names go together.
fn is_sound(volume: &Volume, inode: &DiskInode) -> bool {
    let bs = u64::from(volume.geometry.block_size);
    let sized = match inode.kind() >> 12 {
        // `.` and `..` are in the first block.
        4 => {
            let blocks = inode.size / bs;
            blocks > 0
                && inode.size.is_multiple_of(bs)
                && inode.size < 1 << 32
                && inode.block[0] != 0
        }
        8 => inode.size <= volume.geometry.max_size(),
        10 if inode.is_fast_symlink(volume.geometry.block_size) => inode.size < 60,
        10 => inode.size < bs && inode.block[0] != 0,
        1 | 2 | 6 | 12 => true,
        _ => false,
    };
    sized && inode.flags & FLAG_EXTENTS == 0
}

/// The blocks of superblocks, descriptors, bitmaps and inode tables. EUCLEAN when two of them
/// share one.
fn tables(volume: &Volume) -> Result<Bits> {
    let mut bits = Bits::new(volume.geometry.blocks)?;
    let mut alone = true;
    volume.each_table_block(|block| alone &= bits.set(block))?;
    if alone { Ok(bits) } else { Err(Errno::EUCLEAN) }
}

/// One look at every inode. Changes nothing.
fn look(volume: &Volume, fixed: &Bits) -> Result<Round> {
    let geometry = &volume.geometry;
    let mut round = Round {
        inodes: Inodes {
            blocks: tables(volume)?,
            used: Bits::new(geometry.inodes)?,
            dirs: BTreeSet::new(),
        },
        doubles: BTreeSet::new(),
        wrong: Vec::new(),
    };
    each_inode(volume, |ino, mut inode| {
        if is_reserved(volume, ino) {
            round.inodes.used.set(ino);
            if inode.has_map(geometry.block_size) {
                visit(volume, &mut inode.block, &mut |pointer, _, _| {
                    let valid = geometry.is_block(pointer);
                    if valid && round.inodes.blocks.set(pointer) {
                        Verdict::Keep
                    } else {
                        Verdict::Skip
                    }
                })?;
            }
            return Ok(());
        }
        if inode.links == 0 {
            // Deleted while it was open: it goes, with everything it had.
            if inode.mode != 0 && inode.dtime == 0 {
                round.wrong.push(ino);
            }
            return Ok(());
        }
        if !is_sound(volume, &inode) {
            round.wrong.push(ino);
            return Ok(());
        }
        round.inodes.used.set(ino);
        if inode.kind() >> 12 == 4 {
            round.inodes.dirs.insert(ino);
        }
        look_at(volume, ino, inode, fixed, &mut round)
    })?;
    Ok(round)
}

/// The blocks of one inode.
fn look_at(
    volume: &Volume,
    ino: u32,
    mut inode: DiskInode,
    fixed: &Bits,
    round: &mut Round,
) -> Result<()> {
    let geometry = &volume.geometry;
    let limit = reach(volume, &inode);
    let mut counted = 0;
    let mut wrong = false;
    if inode.file_acl != 0 {
        if is_usable(volume, fixed, inode.file_acl) {
            // Several inodes may share it.
            round.inodes.blocks.set(inode.file_acl);
            counted += 1;
        } else {
            wrong = true;
        }
    }
    if inode.has_map(geometry.block_size) {
        visit(volume, &mut inode.block, &mut |pointer, _, first| {
            if !is_usable(volume, fixed, pointer) || first >= limit {
                wrong = true;
                return Verdict::Skip;
            }
            counted += 1;
            if round.inodes.blocks.set(pointer) {
                return Verdict::Keep;
            }
            round.doubles.insert(pointer);
            Verdict::Skip
        })?;
    }
    if wrong || u64::from(inode.units) != counted * u64::from(geometry.block_size / 512) {
        round.wrong.push(ino);
    }
    Ok(())
}

/// Every block of `doubles` goes to one inode; the others get a hole there. A claim may come
/// from a pointer block that was not written yet and still holds what it held before: its
/// inode counts other blocks than are found. So who counts right comes first, then who changed
/// last.
fn settle_claims(volume: &Volume, fixed: &Bits, doubles: &BTreeSet<u32>) -> Result<usize> {
    let geometry = &volume.geometry;
    let mut owners: BTreeMap<u32, (bool, Timestamp, u32)> = BTreeMap::new();
    let mut claims = BTreeSet::new();
    let mut claimed = Vec::new();
    each_inode(volume, |ino, mut inode| {
        let concerns = inode.links > 0
            && !is_reserved(volume, ino)
            && is_sound(volume, &inode)
            && inode.has_map(geometry.block_size);
        if !concerns {
            return Ok(());
        }
        let limit = reach(volume, &inode);
        claimed.clear();
        // As `look_at` does it: what was not claimed twice is seen once.
        visit(volume, &mut inode.block, &mut |pointer, _, first| {
            if !is_usable(volume, fixed, pointer) || first >= limit {
                return Verdict::Skip;
            }
            if !doubles.contains(&pointer) {
                return Verdict::Keep;
            }
            claimed.push(pointer);
            Verdict::Skip
        })?;
        if claimed.is_empty() {
            return Ok(());
        }
        let rank = (counts_right(volume, fixed, &inode)?, inode.ctime, ino);
        for pointer in &claimed {
            let owner = owners.entry(*pointer).or_insert(rank);
            *owner = (*owner).max(rank);
        }
        claims.insert(ino);
        Ok(())
    })?;
    for &ino in &claims {
        let mut inode = volume.read_inode(ino)?;
        let limit = reach(volume, &inode);
        let mut kept = BTreeSet::new();
        visit(volume, &mut inode.block, &mut |pointer, _, first| {
            if !is_usable(volume, fixed, pointer) || first >= limit {
                return Verdict::Skip;
            }
            if !doubles.contains(&pointer) {
                return Verdict::Keep;
            }
            let mine = owners.get(&pointer).is_some_and(|owner| owner.2 == ino);
            if mine && kept.insert(pointer) {
                Verdict::Skip
            } else {
                Verdict::Clear
            }
        })?;
        volume.write_inode(ino, false, || inode)?;
    }
    Ok(doubles.len())
}

/// Whether the inode has as many blocks as it says, and none that cannot be.
fn counts_right(volume: &Volume, fixed: &Bits, inode: &DiskInode) -> Result<bool> {
    let geometry = &volume.geometry;
    let most = (inode.units / (geometry.block_size / 512)).min(geometry.blocks);
    let limit = reach(volume, inode);
    let mut counted = u32::from(inode.file_acl != 0);
    let mut slots = inode.block;
    // Pointers may lead in circles: one block too many is enough.
    visit(volume, &mut slots, &mut |pointer, _, first| {
        if counted > most || !is_usable(volume, fixed, pointer) || first >= limit {
            counted = u32::MAX;
            return Verdict::Skip;
        }
        counted += 1;
        Verdict::Keep
    })?;
    Ok(counted == most)
}

/// Whether a file may have the block.
fn is_usable(volume: &Volume, fixed: &Bits, block: u32) -> bool {
    volume.geometry.is_block(block) && !fixed.has(block)
}

/// Repairs one inode, none of whose blocks belongs to another.
fn mend(volume: &Volume, fixed: &Bits, ino: u32, now: Timestamp) -> Result<()> {
    let geometry = &volume.geometry;
    let mut inode = volume.read_inode(ino)?;
    if inode.links == 0 || !is_sound(volume, &inode) && !mend_dir_size(volume, &mut inode)? {
        inode.links = 0;
        inode.size = 0;
        inode.dtime = now.sec as u32;
        return volume.write_inode(ino, false, || inode);
    }
    let mut counted = 0;
    if inode.file_acl != 0 {
        if !is_usable(volume, fixed, inode.file_acl) {
            inode.file_acl = 0;
        } else {
            counted += 1;
        }
    }
    let limit = reach(volume, &inode);
    if inode.has_map(geometry.block_size) {
        visit(volume, &mut inode.block, &mut |pointer, _, first| {
            if !is_usable(volume, fixed, pointer) || first >= limit {
                return Verdict::Clear;
            }
            counted += 1;
            Verdict::Keep
        })?;
    }
    inode.units = counted * (geometry.block_size / 512);
    volume.write_inode(ino, false, || inode)
}

/// A directory whose size cannot be gets that of its direct blocks; false when it has none.
fn mend_dir_size(volume: &Volume, inode: &mut DiskInode) -> Result<bool> {
    if inode.kind() >> 12 != 4 || inode.flags & FLAG_EXTENTS != 0 {
        return Ok(false);
    }
    let blocks = inode.block[..NDIR].iter().take_while(|&&b| b != 0).count();
    inode.size = blocks as u64 * u64::from(volume.geometry.block_size);
    Ok(blocks > 0)
}

/// Calls `judge` for each pointer of a map with (pointer, levels below it, first file block
/// that it leads to); pointers that it clears are cleared in `slots` and on the disk.
fn visit(
    volume: &Volume,
    slots: &mut [u32],
    judge: &mut impl FnMut(u32, u32, u64) -> Verdict,
) -> Result<bool> {
    let per = u64::from(volume.geometry.block_size / 4);
    let mut first = 0;
    let mut changed = false;
    for (i, slot) in slots.iter_mut().enumerate() {
        let level = (i + 1).saturating_sub(NDIR) as u32;
        if *slot != 0 {
            changed |= visit_one(volume, slot, level, first, per, judge)?;
        }
        first += per.pow(level);
    }
    Ok(changed)
}

/// One pointer and what is below it; whether it was cleared.
fn visit_one(
    volume: &Volume,
    pointer: &mut u32,
    level: u32,
    first: u64,
    per: u64,
    judge: &mut impl FnMut(u32, u32, u64) -> Verdict,
) -> Result<bool> {
    match judge(*pointer, level, first) {
        Verdict::Clear => {
            *pointer = 0;
            return Ok(true);
        }
        Verdict::Keep if level > 0 => {}
        _ => return Ok(false),
    }
    let mut table: Vec<u32> = volume.buffers.with(*pointer, |raw| {
        raw.chunks_exact(4).map(|c| get32(c, 0)).collect()
    })?;
    let below = per.pow(level - 1);
    let mut changed = false;
    for (i, entry) in table.iter_mut().enumerate() {
        if *entry != 0 {
            let at = first + i as u64 * below;
            changed |= visit_one(volume, entry, level - 1, at, per, judge)?;
        }
    }
    if changed {
        volume.buffers.with_mut(*pointer, |raw| {
            for (i, entry) in table.iter().enumerate() {
                put32(raw, i * 4, *entry);
            }
        })?;
    }
    Ok(false)
}
