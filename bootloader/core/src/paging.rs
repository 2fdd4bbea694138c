//! Builds four-level page tables in an [`Arena`] (Intel SDM 3A, 4.5).

use crate::arena::Arena;
use crate::elf::Access;
use crate::{PAGE_SIZE, align_down, align_up};
use core::ops::Range;

/// Bytes in a large page.
pub const LARGE: u64 = 2 << 20;
/// Bytes in a huge page.
pub const HUGE: u64 = 1 << 30;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
/// Set from the start, so that the processor never has to write them.
const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
const PAGE_IS_LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The arena has no page left for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaFull;

/// Size of one page, as the level of the table that maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Page = 0,
    Large = 1,
    Huge = 2,
}

impl Level {
    fn bytes(self) -> u64 {
        PAGE_SIZE << (9 * self as u32)
    }
}

/// Page tables under construction.
pub struct PageTables {
    root: u64,
    nx: bool,
    gib_pages: bool,
}

impl PageTables {
    /// Empty tables.
    pub fn new(arena: &mut Arena, nx: bool, gib_pages: bool) -> Result<Self, ArenaFull> {
        let root = arena
            .alloc_zeroed(PAGE_SIZE as usize)
            .ok_or(ArenaFull)?
            .phys;
        Ok(PageTables {
            root,
            nx,
            gib_pages,
        })
    }

    /// Physical address of the root table.
    pub fn root(&self) -> u64 {
        self.root
    }

    fn flags(&self, access: Access) -> u64 {
        let no_execute = if self.nx { NO_EXECUTE } else { 0 };
        PRESENT
            | ACCESSED_DIRTY
            | match access {
                Access::Read => no_execute,
                Access::Execute => 0,
                Access::Write => WRITABLE | no_execute,
            }
    }

    /// Maps `len` bytes at `virt` to `phys` in pages of 4 KiB, all page-aligned. `global`
    /// pages stay in the TLB across address spaces.
    pub fn map(
        &self,
        arena: &mut Arena,
        virt: u64,
        phys: u64,
        len: u64,
        access: Access,
        global: bool,
    ) -> Result<(), ArenaFull> {
        let flags = self.flags(access) | if global { GLOBAL } else { 0 };
        let mut done = 0;
        while done < len {
            self.set(arena, virt + done, phys + done, Level::Page, flags)?;
            done += PAGE_SIZE;
        }
        Ok(())
    }

    /// Maps the physical range at `base` + its address, writable and not executable, in the
    /// largest pages there are; the range grows to whole large pages.
    pub fn map_direct(
        &self,
        arena: &mut Arena,
        base: u64,
        phys: Range<u64>,
    ) -> Result<(), ArenaFull> {
        let flags = self.flags(Access::Write) | PAGE_IS_LARGE | GLOBAL;
        let end = align_up(phys.end, LARGE);
        let mut at = align_down(phys.start, LARGE);
        while at < end {
            let level = if self.gib_pages && at.is_multiple_of(HUGE) && end - at >= HUGE {
                Level::Huge
            } else {
                Level::Large
            };
            self.set(arena, base + at, at, level, flags)?;
            at += level.bytes();
        }
        Ok(())
    }

    /// Writes the entry that maps the page of `virt`, with the tables on the way to it. A
    /// page that a larger one already covers is left alone.
    fn set(
        &self,
        arena: &mut Arena,
        virt: u64,
        phys: u64,
        leaf: Level,
        flags: u64,
    ) -> Result<(), ArenaFull> {
        let mut table = self.root;
        for level in (leaf as u32 + 1..4).rev() {
            let at = table + (virt >> (12 + 9 * level) & 511) * 8;
            let entry = read(arena, at)?;
            if entry & PRESENT == 0 {
                let new = arena
                    .alloc_zeroed(PAGE_SIZE as usize)
                    .ok_or(ArenaFull)?
                    .phys;
                // Permissions are the leaf's alone.
                write(
                    arena,
                    at,
                    new | PRESENT | WRITABLE | ACCESSED_DIRTY & !(1 << 6),
                )?;
                table = new;
            } else if entry & PAGE_IS_LARGE != 0 {
                return Ok(());
            } else {
                table = entry & ADDRESS;
            }
        }
        write(
            arena,
            table + (virt >> (12 + 9 * leaf as u32) & 511) * 8,
            phys | flags,
        )
    }
}

fn read(arena: &mut Arena, phys: u64) -> Result<u64, ArenaFull> {
    arena
        .word(phys)
        .map(|word| u64::from_le_bytes(*word))
        .ok_or(ArenaFull)
}

fn write(arena: &mut Arena, phys: u64, value: u64) -> Result<(), ArenaFull> {
    *arena.word(phys).ok_or(ArenaFull)? = value.to_le_bytes();
    Ok(())
}

/// Most tables that [`PageTables::map`] takes for `len` bytes.
pub fn tables_for_pages(len: u64) -> u64 {
    // A table per started 2 MiB, and one of each higher level, twice for a crossed boundary.
    len.div_ceil(LARGE) + 1 + 4
}

/// Most tables that [`PageTables::map_direct`] takes for a range.
pub fn tables_for_direct(phys: &Range<u64>) -> u64 {
    (phys.end.saturating_sub(phys.start)).div_ceil(HUGE) + 1 + 4
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Physical address, page size and the effective W and X of `virt`.
    pub fn walk(arena: &mut Arena, root: u64, virt: u64) -> Option<(u64, u64, bool, bool)> {
        let (mut table, mut w, mut x) = (root, true, true);
        for level in (0..4).rev() {
            let entry = read(arena, table + (virt >> (12 + 9 * level) & 511) * 8).ok()?;
            if entry & PRESENT == 0 {
                return None;
            }
            w &= entry & WRITABLE != 0;
            x &= entry & NO_EXECUTE == 0;
            if level == 0 || entry & PAGE_IS_LARGE != 0 {
                let size = PAGE_SIZE << (9 * level);
                return Some(((entry & ADDRESS & !(size - 1)) + virt % size, size, w, x));
            }
            table = entry & ADDRESS;
        }
        None
    }

    #[test]
    fn pages_have_exactly_their_permissions() {
        let mut memory = vec![0xaa; 64 << 12];
        let mut arena = Arena::new(0x10_0000, &mut memory);
        let tables = PageTables::new(&mut arena, true, false).unwrap();
        let base = 0xffff_ffff_8000_0000;
        for (i, access) in [Access::Read, Access::Execute, Access::Write]
            .into_iter()
            .enumerate()
        {
            let at = i as u64 * 0x2000;
            tables
                .map(&mut arena, base + at, 0x20_0000 + at, 0x1000, access, true)
                .unwrap();
        }
        let root = tables.root();
        assert_eq!(
            walk(&mut arena, root, base + 5),
            Some((0x20_0005, 4096, false, false))
        );
        assert_eq!(
            walk(&mut arena, root, base + 0x2000),
            Some((0x20_2000, 4096, false, true))
        );
        assert_eq!(
            walk(&mut arena, root, base + 0x4fff),
            Some((0x20_4fff, 4096, true, false))
        );
        assert_eq!(walk(&mut arena, root, base + 0x1000), None);
        assert_eq!(walk(&mut arena, root, 0), None);
    }

    #[test]
    fn direct_map_uses_the_largest_pages() {
        for gib in [false, true] {
            let mut memory = vec![0; 64 << 12];
            let mut arena = Arena::new(0, &mut memory);
            let tables = PageTables::new(&mut arena, true, gib).unwrap();
            let base = 0xffff_8000_0000_0000;
            tables.map_direct(&mut arena, base, 0..4 * HUGE).unwrap();
            tables
                .map_direct(&mut arena, base, 4 * HUGE + 0x1000..5 * HUGE + 0x3000)
                .unwrap();
            // Already there: changes nothing.
            tables.map_direct(&mut arena, base, HUGE..HUGE + 1).unwrap();
            let root = tables.root();
            let size = if gib { HUGE } else { LARGE };
            for at in [0, 0xfee0_0000, 3 * HUGE + 12345] {
                assert_eq!(
                    walk(&mut arena, root, base + at),
                    Some((at, size, true, false))
                );
            }
            assert_eq!(walk(&mut arena, root, base + 5 * HUGE).unwrap().1, LARGE);
            assert_eq!(walk(&mut arena, root, base + 5 * HUGE + LARGE), None);
        }
    }

    #[test]
    fn without_nx_no_entry_has_the_reserved_bit() {
        let mut memory = vec![0; 16 << 12];
        let mut arena = Arena::new(0, &mut memory);
        let tables = PageTables::new(&mut arena, false, false).unwrap();
        tables
            .map(&mut arena, 0x1000, 0x1000, 0x1000, Access::Write, false)
            .unwrap();
        assert_eq!(
            walk(&mut arena, tables.root(), 0x1000),
            Some((0x1000, 4096, true, true))
        );
    }

    #[test]
    fn a_full_arena_is_an_error() {
        let mut memory = vec![0; 2 << 12];
        let mut arena = Arena::new(0, &mut memory);
        let tables = PageTables::new(&mut arena, true, false).unwrap();
        assert_eq!(
            tables.map(&mut arena, 0, 0, 0x1000, Access::Read, false),
            Err(ArenaFull)
        );
    }
}
