//! The first pass: which inodes are in use, and which blocks are theirs.
//!
//! Looking comes first and changes nothing, for a pointer block that two inodes claim is the
//! content of one of them. Claims are settled, one level a round; only when every block has
//! one owner are pointers that cannot be cleared.

use super::super::layout::{DiskInode, FLAG_EXTENTS, NDIR, ROOT_INO, get32, put32};
use super::super::volume::Volume;
use super::Inodes;
use super::tables::{Bits, filled};
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
    doubles: Bits,
    /// Inodes that need a repair of their own.
    wrong: Bits,
}

/// Makes blocks and inodes sound; returns them and how much was repaired.
pub fn check(volume: &Volume, now: Timestamp) -> Result<(Inodes, usize)> {
    let fixed = tables(volume)?;
    let mut repairs = 0;
    for _ in 0..ROUNDS {
        let round = look(volume, &fixed)?;
        if round.doubles.count() != 0 {
            repairs += settle_claims(volume, &fixed, &round.doubles)?;
        } else if round.wrong.count() != 0 {
            for ino in round.wrong.iter() {
                mend(volume, &fixed, ino, now)?;
            }
            repairs += round.wrong.count();
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
    let mut chunk = filled(0_u8, CHUNK.max(bs) as usize)?;
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
            dirs: Bits::new(geometry.inodes)?,
        },
        doubles: Bits::new(geometry.blocks)?,
        wrong: Bits::new(geometry.inodes)?,
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
                round.wrong.set(ino);
            }
            return Ok(());
        }
        if !is_sound(volume, &inode) {
            round.wrong.set(ino);
            return Ok(());
        }
        round.inodes.used.set(ino);
        if inode.kind() >> 12 == 4 {
            round.inodes.dirs.set(ino);
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
            round.doubles.set(pointer);
            Verdict::Skip
        })?;
    }
    if wrong || u64::from(inode.units) != counted * u64::from(geometry.block_size / 512) {
        round.wrong.set(ino);
    }
    Ok(())
}

/// Who gets a block that was claimed more than once.
#[derive(Clone, Copy, Default)]
struct Owner {
    block: u32,
    /// Whether it counts right, when it changed last, its number; the greatest has the block.
    rank: Option<(bool, Timestamp, u32)>,
    /// Whether it has the block already: one pointer of it stays.
    has_it: bool,
}

impl Owner {
    fn is(&self, ino: u32) -> bool {
        self.rank.is_some_and(|(_, _, owner)| owner == ino)
    }
}

/// The owner of `block`, if that is one of those.
fn owner(owners: &mut [Owner], block: u32) -> Option<&mut Owner> {
    let at = owners.binary_search_by_key(&block, |o| o.block).ok()?;
    owners.get_mut(at)
}

/// Every block of `doubles` goes to one inode; the others get a hole there. A claim may come
/// from a pointer block that was not written yet and still holds what it held before: its
/// inode counts other blocks than are found. So who counts right comes first, then who changed
/// last.
fn settle_claims(volume: &Volume, fixed: &Bits, doubles: &Bits) -> Result<usize> {
    let geometry = &volume.geometry;
    let mut owners = filled(Owner::default(), doubles.count())?;
    for (owner, block) in owners.iter_mut().zip(doubles.iter()) {
        owner.block = block;
    }
    let mut claims = Bits::new(geometry.inodes)?;
    each_inode(volume, |ino, inode| {
        let concerns = inode.links > 0
            && !is_reserved(volume, ino)
            && is_sound(volume, &inode)
            && inode.has_map(geometry.block_size);
        if !concerns {
            return Ok(());
        }
        let limit = reach(volume, &inode);
        // As `look_at` does it: what was not claimed twice is seen once.
        let mut slots = inode.block;
        each_claim(volume, fixed, doubles, &mut slots, limit, |_| {
            claims.set(ino);
            Verdict::Skip
        })?;
        if claims.has(ino) {
            let rank = (counts_right(volume, fixed, &inode)?, inode.ctime, ino);
            each_claim(volume, fixed, doubles, &mut slots, limit, |pointer| {
                if let Some(owner) = owner(&mut owners, pointer) {
                    owner.rank = owner.rank.max(Some(rank));
                }
                Verdict::Skip
            })?;
        }
        Ok(())
    })?;
    for ino in claims.iter() {
        let mut inode = volume.read_inode(ino)?;
        let limit = reach(volume, &inode);
        each_claim(
            volume,
            fixed,
            doubles,
            &mut inode.block,
            limit,
            |pointer| match owner(&mut owners, pointer) {
                Some(owner) if owner.is(ino) && !owner.has_it => {
                    owner.has_it = true;
                    Verdict::Skip
                }
                _ => Verdict::Clear,
            },
        )?;
        volume.write_inode(ino, false, || inode)?;
    }
    Ok(doubles.count())
}

/// Asks `judge` about each pointer in `slots` and below to a block of `doubles`.
fn each_claim(
    volume: &Volume,
    fixed: &Bits,
    doubles: &Bits,
    slots: &mut [u32],
    limit: u64,
    mut judge: impl FnMut(u32) -> Verdict,
) -> Result<()> {
    visit(volume, slots, &mut |pointer, _, first| {
        if !is_usable(volume, fixed, pointer) || first >= limit {
            Verdict::Skip
        } else if doubles.has(pointer) {
            judge(pointer)
        } else {
            Verdict::Keep
        }
    })?;
    Ok(())
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
    let mut table = filled(0_u32, per as usize)?;
    volume.buffers.with(*pointer, |raw| {
        for (entry, bytes) in table.iter_mut().zip(raw.chunks_exact(4)) {
            *entry = get32(bytes, 0);
        }
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
