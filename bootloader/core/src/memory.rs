//! The memory map: from what the firmware says, overlapping and unsorted, to the sorted,
//! page-aligned, non-overlapping list of `BootInfo`.

use crate::{LoadError, PAGE_SIZE, align_down, align_up};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use core::ops::Range;

/// Most regions a map may have, before and after: firmware has a dozen (BIOS) to some
/// hundreds (UEFI).
pub const MAX_REGIONS: usize = 1024;

/// Where regions overlap, the larger wins: what the firmware keeps, then what the loader
/// keeps, then what is free.
fn rank(kind: MemoryRegionKind) -> u8 {
    match kind {
        MemoryRegionKind::Usable => 1,
        MemoryRegionKind::Bootloader => 2,
        _ => 3,
    }
}

/// A list of regions of fixed capacity.
pub struct RegionList<'a> {
    regions: &'a mut [MemoryRegion],
    len: usize,
}

impl<'a> RegionList<'a> {
    /// An empty list that keeps its regions in `storage`.
    pub fn new(storage: &'a mut [MemoryRegion]) -> Self {
        RegionList {
            regions: storage,
            len: 0,
        }
    }

    /// Adds a region as the firmware reports it, in bytes. Pages that a usable region covers
    /// in part are left out; any other kind claims every page it touches.
    pub fn push(&mut self, bytes: Range<u64>, kind: MemoryRegionKind) -> Result<(), LoadError> {
        let (start, end) = if kind == MemoryRegionKind::Usable {
            (
                align_up(bytes.start, PAGE_SIZE),
                align_down(bytes.end, PAGE_SIZE),
            )
        } else {
            (
                align_down(bytes.start, PAGE_SIZE),
                align_up(bytes.end, PAGE_SIZE),
            )
        };
        if start >= end {
            return Ok(());
        }
        *self.regions.get_mut(self.len).ok_or(LoadError::MemoryMap)? =
            MemoryRegion { start, end, kind };
        self.len += 1;
        Ok(())
    }

    /// The regions in the order they were added.
    pub fn as_slice(&self) -> &[MemoryRegion] {
        &self.regions[..self.len]
    }
}

/// Writes the map of `firmware` with the ranges of `kept` marked as the loader's into
/// `out`, sorted and without overlap, and returns how many regions it has. Neighbours of one
/// kind become one region.
pub fn build(
    firmware: &[MemoryRegion],
    kept: &[Range<u64>],
    out: &mut [MemoryRegion],
) -> Result<usize, LoadError> {
    let kept = kept.iter().map(|range| MemoryRegion {
        start: range.start,
        end: range.end,
        kind: MemoryRegionKind::Bootloader,
    });
    let all = || {
        firmware
            .iter()
            .copied()
            .chain(kept.clone())
            .filter(|r| r.start < r.end)
    };
    let mut len = 0;
    let mut at = 0;
    // Walks from boundary to boundary; between two of them, one kind holds.
    loop {
        let here = all()
            .filter(|r| r.start <= at && at < r.end)
            .max_by_key(|r| rank(r.kind));
        let boundaries = all().flat_map(|r| [r.start, r.end]);
        let Some(next) = boundaries.filter(|b| *b > at).min() else {
            break;
        };
        if let Some(region) = here {
            match out[..len].last_mut() {
                Some(last) if last.end == at && last.kind == region.kind => last.end = next,
                _ => {
                    *out.get_mut(len).ok_or(LoadError::MemoryMap)? = MemoryRegion {
                        start: at,
                        end: next,
                        kind: region.kind,
                    };
                    len += 1;
                }
            }
        }
        at = next;
    }
    if len == 0 {
        return Err(LoadError::MemoryMap);
    }
    Ok(len)
}

/// The largest free range of `map` (sorted, from [`build`]) between 1 MiB and `limit`.
pub fn largest_usable(map: &[MemoryRegion], limit: u64) -> Range<u64> {
    map.iter()
        .filter(|r| r.kind == MemoryRegionKind::Usable)
        .map(|r| r.start.max(1 << 20)..r.end.min(limit))
        .filter(|r| r.start < r.end)
        .max_by_key(|r| r.end - r.start)
        .unwrap_or(0..0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryRegionKind::{Bootloader, UnknownBios, Usable};

    fn region(start: u64, end: u64, kind: MemoryRegionKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }

    fn built(firmware: &[MemoryRegion], kept: &[Range<u64>]) -> Vec<MemoryRegion> {
        let mut out = [MemoryRegion::empty(); 64];
        let len = build(firmware, kept, &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn usable_shrinks_and_reserved_grows_to_pages() {
        let mut storage = [MemoryRegion::empty(); 4];
        let mut list = RegionList::new(&mut storage);
        list.push(0..0x9fc00, Usable).unwrap();
        list.push(0x9fc00..0xa0000, UnknownBios(2)).unwrap();
        list.push(0x100..0x900, Usable).unwrap();
        assert_eq!(
            list.as_slice(),
            [
                region(0, 0x9f000, Usable),
                region(0x9f000, 0xa0000, UnknownBios(2))
            ]
        );
        list.push(0..0x1000, Usable).unwrap();
        list.push(0..0x1000, Usable).unwrap();
        assert_eq!(list.push(0..0x1000, Usable), Err(LoadError::MemoryMap));
    }

    #[test]
    fn sorted_merged_and_carved() {
        let map = built(
            &[
                region(0x100000, 0x8000000, Usable),
                region(0, 0x9f000, Usable),
                region(0x8000000, 0x9000000, Usable),
                region(0xf0000, 0x100000, UnknownBios(2)),
            ],
            &[0x200000..0x300000, 0x300000..0x301000],
        );
        assert_eq!(
            map,
            [
                region(0, 0x9f000, Usable),
                region(0xf0000, 0x100000, UnknownBios(2)),
                region(0x100000, 0x200000, Usable),
                region(0x200000, 0x301000, Bootloader),
                region(0x301000, 0x9000000, Usable),
            ]
        );
    }

    #[test]
    fn reserved_wins_over_usable_and_kept() {
        let map = built(
            &[
                region(0, 0x10000, Usable),
                region(0x4000, 0x6000, UnknownBios(2)),
                region(0x5000, 0x7000, UnknownBios(3)),
            ],
            &[0x3000..0x5000, 0x8000..0x8000],
        );
        assert_eq!(map[0], region(0, 0x3000, Usable));
        assert_eq!(map[1], region(0x3000, 0x4000, Bootloader));
        assert!(
            map.windows(2)
                .all(|w| w[0].end <= w[1].start && w[0].start < w[0].end)
        );
        assert!(
            map.iter()
                .filter(|r| r.start < 0x7000 && r.end > 0x4000)
                .all(|r| rank(r.kind) == 3)
        );
        assert_eq!(map.last(), Some(&region(0x7000, 0x10000, Usable)));
    }

    #[test]
    fn empty_or_overfull_maps_are_errors() {
        let mut out = [MemoryRegion::empty(); 2];
        assert_eq!(build(&[], &[], &mut out), Err(LoadError::MemoryMap));
        let many = [
            region(0, 1, Usable),
            region(2, 3, Usable),
            region(4, 5, Usable),
        ];
        assert_eq!(build(&many, &[], &mut out), Err(LoadError::MemoryMap));
    }

    #[test]
    fn largest_range_is_above_1_mib_and_below_the_limit() {
        let map = [
            region(0, 0x9f000, Usable),
            region(0x100000, 0x8000000, Usable),
            region(0x1_0000_0000, 0x9_0000_0000, Usable),
        ];
        assert_eq!(largest_usable(&map, 1 << 32), 0x100000..0x8000000);
        assert_eq!(largest_usable(&map[..1], 1 << 32), 0..0);
    }
}
