//! From a file's blocks to the disk's: direct, single, double and triple indirect pointers.
//!
//! The functions work on an inode's 15 pointers as a value; the caller holds the inode's map
//! lock and puts the changed pointers back.

use alloc::vec::Vec;

use super::layout::{NDIR, NPTR, get32, put32};
use super::volume::Volume;
use crate::error::{Errno, Result};

/// Where a file block's pointer is found: which of the 15, then an index per level.
struct Route {
    slot: usize,
    indexes: [u32; 3],
    depth: usize,
}

impl Route {
    fn to(block: u64, per: u64) -> Result<Route> {
        let mut rest = block;
        if rest < NDIR as u64 {
            return Ok(Route {
                slot: rest as usize,
                indexes: [0; 3],
                depth: 0,
            });
        }
        rest -= NDIR as u64;
        let mut reach = per;
        for depth in 1..=3 {
            if rest < reach {
                let mut indexes = [0; 3];
                for level in (0..depth).rev() {
                    indexes[level] = (rest % per) as u32;
                    rest /= per;
                }
                return Ok(Route {
                    slot: NDIR + depth - 1,
                    indexes,
                    depth,
                });
            }
            rest -= reach;
            reach *= per;
        }
        Err(Errno::EFBIG)
    }
    /// Index in the last table: how many more blocks it covers follows from it.
    fn last(&self) -> u32 {
        match self.depth {
            0 => self.slot as u32,
            d => self.indexes[d - 1],
        }
    }
}

/// Pointers of a file, see the module's head.
pub struct Map<'a> {
    volume: &'a Volume,
    /// The inode's pointers.
    pub slots: [u32; NPTR],
    /// Storage counted in 512-byte units.
    pub units: u32,
    /// Runs of blocks (first, count) that nothing names any more: to be released when the
    /// inode's pointers are in its table, not before.
    pub freed: Vec<(u32, u32)>,
}

impl<'a> Map<'a> {
    /// The map with these pointers.
    pub fn new(volume: &'a Volume, slots: [u32; NPTR], units: u32) -> Map<'a> {
        Map {
            volume,
            slots,
            units,
            freed: Vec::new(),
        }
    }

    fn per(&self) -> u64 {
        u64::from(self.volume.geometry.block_size / 4)
    }

    fn checked(&self, pointer: u32) -> Result<u32> {
        if pointer != 0 && !self.volume.geometry.is_block(pointer) {
            return Err(self.volume.damage("a pointer leads outside the disk"));
        }
        Ok(pointer)
    }

    /// The disk block of `block` (0 for a hole), and for how many blocks from there on the
    /// same holds: consecutive disk blocks, or holes. At most `want`.
    pub fn find(&self, block: u64, want: u64) -> Result<(u32, u64)> {
        let route = Route::to(block, self.per())?;
        let mut table = self.slots[route.slot];
        if route.depth == 0 {
            let here = &self.slots[route.slot..NDIR];
            let first = self.checked(table)?;
            return Ok((first, run_length(here.iter().copied(), want)));
        }
        for level in 0..route.depth {
            let table_block = self.checked(table)?;
            if table_block == 0 {
                // Nothing under this pointer: a hole as far as it reaches.
                let below = self.per().pow((route.depth - level - 1) as u32);
                let mut into = 0;
                for l in level..route.depth {
                    into = into * self.per() + u64::from(route.indexes[l]);
                }
                let left = below * self.per() - into;
                return Ok((0, left.min(want).max(1)));
            }
            let index = route.indexes[level] as usize;
            if level + 1 < route.depth {
                table = self
                    .volume
                    .buffers
                    .with(table_block, |raw| get32(raw, index * 4))?;
                continue;
            }
            let (first, len) = self.volume.buffers.with(table_block, |raw| {
                let here = raw.get(index * 4..).unwrap_or(&[]);
                let pointers = here.chunks_exact(4).map(|c| get32(c, 0));
                (get32(here, 0), run_length(pointers, want))
            })?;
            let first = self.checked(first)?;
            if first != 0 && !self.volume.geometry.is_block(first + (len as u32 - 1)) {
                return Err(self.volume.damage("a pointer leads outside the disk"));
            }
            return Ok((first, len));
        }
        Err(Errno::EIO)
    }

    /// As [`Map::find`], filling a hole at `block` with up to `want` new blocks, near `goal`.
    /// Returns (disk block, how many, whether they are new). On ENOSPC nothing is lost:
    /// tables that were made stay, empty, and are counted.
    pub fn fill(&mut self, block: u64, want: u64, goal: u32) -> Result<(u32, u64, bool)> {
        let (found, len) = self.find(block, want)?;
        if found != 0 {
            return Ok((found, len, false));
        }
        let route = Route::to(block, self.per())?;
        let volume = self.volume;
        // The table that will hold the pointers; made if it is not there.
        let mut table = 0;
        for level in 0..route.depth {
            let pointer = if level == 0 {
                self.slots[route.slot]
            } else {
                let index = route.indexes[level - 1] as usize;
                volume.buffers.with(table, |raw| get32(raw, index * 4))?
            };
            let mut next = self.checked(pointer)?;
            if next == 0 {
                next = self.new_table(goal)?;
                if level == 0 {
                    self.slots[route.slot] = next;
                } else {
                    let index = route.indexes[level - 1] as usize;
                    volume
                        .buffers
                        .with_mut(table, |raw| put32(raw, index * 4, next))?;
                }
            }
            table = next;
        }
        let room = if route.depth == 0 {
            NDIR as u64
        } else {
            self.per()
        } - u64::from(route.last());
        let most = len.min(want).min(room).max(1);
        let (first, count) = volume.allocate(goal, most as u32)?;
        let at = route.last() as usize;
        if route.depth == 0 {
            for i in 0..count {
                self.slots[at + i as usize] = first + i;
            }
        } else {
            volume.buffers.with_mut(table, |raw| {
                for i in 0..count {
                    put32(raw, (at + i as usize) * 4, first + i);
                }
            })?;
        }
        self.count(count);
        Ok((first, u64::from(count), true))
    }

    fn count(&mut self, blocks: u32) {
        let units = self.volume.geometry.block_size / 512;
        self.units = self.units.saturating_add(blocks * units);
    }
    fn discount(&mut self, blocks: u32) {
        let units = self.volume.geometry.block_size / 512;
        self.units = self.units.saturating_sub(blocks * units);
    }

    fn new_table(&mut self, goal: u32) -> Result<u32> {
        let (block, _) = self.volume.allocate(goal, 1)?;
        if let Err(e) = self.volume.buffers.start(block, |_| {}) {
            let _ = self.volume.release(block, 1);
            return Err(e);
        }
        self.count(1);
        Ok(block)
    }

    /// Gives up the blocks `[from, to)`. Tables stay, maybe empty.
    pub fn punch(&mut self, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        while at < to {
            let (first, len) = match self.find(at, to - at) {
                // Past what pointers can reach there is nothing.
                Err(Errno::EFBIG) => break,
                found => found?,
            };
            if first != 0 {
                self.freed.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.clear(at, len)?;
                self.freed.push((first, len as u32));
                self.discount(len as u32);
            }
            at += len;
        }
        Ok(())
    }

    /// Clears `len` pointers from `block` on, all in one table.
    fn clear(&mut self, block: u64, len: u64) -> Result<()> {
        let route = Route::to(block, self.per())?;
        let at = route.last() as usize;
        let mut table = self.slots[route.slot];
        if route.depth == 0 {
            let end = (at + len as usize).min(NDIR);
            self.slots[at..end].fill(0);
            return Ok(());
        }
        let buffers = &self.volume.buffers;
        for index in &route.indexes[..route.depth - 1] {
            table = self.checked(table)?;
            table = buffers.with(table, |raw| get32(raw, *index as usize * 4))?;
        }
        buffers.with_mut(self.checked(table)?, |raw| {
            for i in 0..len as usize {
                put32(raw, (at + i) * 4, 0);
            }
        })
    }

    /// Gives up every block from `keep` on, and the tables that only they needed.
    pub fn cut(&mut self, keep: u64) -> Result<()> {
        let mut batch = Batch::default();
        let result = self.cut_slots(keep, &mut batch);
        self.discount(batch.count);
        self.freed.append(&mut batch.runs);
        result
    }

    fn cut_slots(&mut self, keep: u64, batch: &mut Batch) -> Result<()> {
        for slot in (keep as usize).min(NDIR)..NDIR {
            let pointer = core::mem::take(&mut self.slots[slot]);
            batch.add(pointer)?;
        }
        let mut before = NDIR as u64;
        let mut reach = 1;
        for depth in 1..=3u32 {
            reach *= self.per();
            let keep_here = keep.saturating_sub(before).min(reach);
            let slot = NDIR + depth as usize - 1;
            let pointer = self.slots[slot];
            if pointer != 0 && keep_here < reach {
                if keep_here == 0 {
                    self.slots[slot] = 0;
                }
                self.cut_table(pointer, depth, keep_here, batch)?;
            }
            before += reach;
        }
        Ok(())
    }

    /// Frees what table `table` (of `depth` levels) covers beyond its first `keep` blocks;
    /// with `keep` 0 the table itself as well.
    fn cut_table(&self, table: u32, depth: u32, keep: u64, batch: &mut Batch) -> Result<()> {
        let table = self.checked(table)?;
        let below = self.per().pow(depth - 1);
        let first = (keep / below) as usize;
        let part = keep % below;
        // The pointers leave the table before their blocks can get another use.
        let pointers: Vec<u32> = self.volume.buffers.with_mut(table, |raw| {
            let mut out = Vec::new();
            for (i, c) in raw.chunks_exact_mut(4).enumerate().skip(first) {
                out.push(get32(c, 0));
                if keep == 0 || i > first || part == 0 {
                    put32(c, 0, 0);
                }
            }
            out
        })?;
        for (i, pointer) in pointers.into_iter().enumerate() {
            if pointer == 0 {
                continue;
            }
            if depth == 1 {
                batch.add(pointer)?;
            } else {
                let keep_below = if i == 0 { part } else { 0 };
                self.cut_table(pointer, depth - 1, keep_below, batch)?;
            }
        }
        if keep == 0 {
            batch.add(table)?;
        }
        Ok(())
    }
}

/// How many pointers from the first on are consecutive (or all zero), at most `want`.
fn run_length(pointers: impl Iterator<Item = u32>, want: u64) -> u64 {
    let mut len = 0;
    let mut first = 0;
    for pointer in pointers {
        if len == 0 {
            first = pointer;
        } else if first == 0 {
            if pointer != 0 {
                break;
            }
        } else if u64::from(first) + len != u64::from(pointer) {
            break;
        }
        len += 1;
        if len >= want {
            break;
        }
    }
    len.max(1)
}

/// Blocks to free, gathered into runs.
#[derive(Default)]
struct Batch {
    runs: Vec<(u32, u32)>,
    count: u32,
}

impl Batch {
    fn add(&mut self, block: u32) -> Result<()> {
        if block == 0 {
            return Ok(());
        }
        match self.runs.last_mut() {
            Some((first, len)) if first.checked_add(*len) == Some(block) => *len += 1,
            _ => {
                self.runs.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.runs.push((block, 1));
            }
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_reach_every_level() {
        let per = 256;
        for (block, slot, depth, indexes) in [
            (0, 0, 0, [0, 0, 0]),
            (11, 11, 0, [0, 0, 0]),
            (12, 12, 1, [0, 0, 0]),
            (12 + 255, 12, 1, [255, 0, 0]),
            (12 + 256, 13, 2, [0, 0, 0]),
            (12 + 256 + 257, 13, 2, [1, 1, 0]),
            (12 + 256 + 65536, 14, 3, [0, 0, 0]),
            (12 + 256 + 65536 + 65536 + 256 + 1, 14, 3, [1, 1, 1]),
        ] {
            let route = Route::to(block, per).unwrap();
            assert_eq!(
                (route.slot, route.depth, route.indexes),
                (slot, depth, indexes)
            );
        }
        assert!(Route::to(12 + 256 + 65536 + 256 * 65536, per).is_err());
    }

    #[test]
    fn runs_are_measured() {
        let len = |v: &[u32], want| run_length(v.iter().copied(), want);
        assert_eq!(len(&[5, 6, 7, 9], 10), 3);
        assert_eq!(len(&[5, 6, 7, 9], 2), 2);
        assert_eq!(len(&[0, 0, 4], 10), 2);
        assert_eq!(len(&[u32::MAX, 0], 10), 1);
    }
}
