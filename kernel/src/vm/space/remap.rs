//! mremap: growing, shrinking and moving a mapping with its pages.

use core::sync::atomic::Ordering;

use super::map::{check_overcommit, round_len, user_range};
use super::{AddressSpace, Area, Layout, Prot};
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::mm::addr::{USER_END, USER_START};
use crate::mm::page_table::Pte;
use crate::vm::mapping::FileMapping;
use crate::vm::vma::{MAX_AREAS, Vma, VmaFlags};

/// Where mremap may put the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapTarget {
    /// Only where it is.
    InPlace,
    /// Elsewhere if need be (MREMAP_MAYMOVE).
    MayMove,
    /// Exactly there (MREMAP_FIXED).
    Fixed(UserAddr),
}

impl AddressSpace {
    /// Resizes or moves the mapping at `old` (man 2 mremap). EINVAL, EFAULT (not one mapping),
    /// ENOMEM, EAGAIN (locked memory).
    pub fn remap(
        &self,
        old: UserAddr,
        old_len: usize,
        new_len: usize,
        target: RemapTarget,
    ) -> Result<UserAddr> {
        if new_len == 0 || old_len == 0 || !old.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let old_len = round_len(old_len).map_err(|_| Errno::EINVAL)?;
        let new_len = round_len(new_len).map_err(|_| Errno::EINVAL)?;
        let (old, old_end) = user_range(old, old_len, Errno::EFAULT)?;
        let fixed = match target {
            RemapTarget::Fixed(at) => {
                let (start, end) = user_range(at, new_len, Errno::EINVAL)?;
                if start < USER_START || (start < old_end && old < end) {
                    return Err(Errno::EINVAL);
                }
                Some(start)
            }
            _ => None,
        };

        let mut layout = self.layout.write();
        let area = layout.areas.find(old).ok_or(Errno::EFAULT)?.clone();
        if old_end > area.end {
            return Err(Errno::EFAULT);
        }
        // A move cuts at both ends, twice.
        if layout.areas.count() + 4 > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        let mut removed = alloc::vec::Vec::new();
        if new_len < old_len {
            removed.extend(self.take_out(&mut layout, old + new_len, old_end));
        }
        if new_len > old_len {
            self.check_growth(&layout, &area, new_len - old_len)?;
        }
        let result = if let Some(new) = fixed {
            removed.extend(self.take_out(&mut layout, new, new + new_len));
            self.relocate(
                &mut layout,
                &area,
                old,
                old_len.min(new_len),
                new,
                new_len,
                &mut removed,
            )
        } else if new_len <= old_len {
            Ok(old)
        } else if old_end == area.end
            && old + new_len <= USER_END
            && layout.areas.is_free(old_end, old + new_len)
        {
            self.extend(&mut layout, &area, old + new_len, &mut removed);
            Ok(old)
        } else if target == RemapTarget::MayMove {
            match layout
                .areas
                .find_gap_below(new_len, USER_START, layout.mmap_top)
            {
                Some(new) => {
                    self.relocate(&mut layout, &area, old, old_len, new, new_len, &mut removed)
                }
                None => Err(Errno::ENOMEM),
            }
        } else {
            Err(Errno::ENOMEM)
        };
        let populate =
            area.flags.contains(VmaFlags::LOCKED) && !area.flags.contains(VmaFlags::LOCK_ON_FAULT);
        drop(layout);
        drop(removed);
        let at = result?;
        if populate && new_len > old_len {
            // As for mmap: what cannot be had now comes by a fault.
            let _ = self.populate(at + old_len, at + new_len);
        }
        Ok(UserAddr(at))
    }

    /// Whether the area may become `more` bytes larger.
    fn check_growth(&self, layout: &Layout, area: &Area, more: u64) -> Result<()> {
        let limits = self.limits();
        if area.flags.contains(VmaFlags::LOCKED) && layout.locked_bytes() + more > limits.locked {
            return Err(Errno::EAGAIN);
        }
        if layout.areas.bytes() + more > limits.address_space {
            return Err(Errno::ENOMEM);
        }
        let counts = area.is_private()
            && area.prot.contains(Prot::WRITE)
            && !area.flags.contains(VmaFlags::NO_RESERVE);
        if counts {
            check_overcommit(more)
        } else {
            Ok(())
        }
    }

    /// Moves the area's end up to `end`.
    fn extend(
        &self,
        layout: &mut Layout,
        area: &Area,
        end: u64,
        removed: &mut alloc::vec::Vec<Area>,
    ) {
        let backing = self.backing_at(area, area.start, area.start, end);
        // The entries stay: the new mapping has every page where the old one had it. The old
        // mapping leaves the cache's list when its area is dropped, after the new one is on it.
        removed.extend(layout.areas.remove(area.start, area.end));
        layout.areas.insert(Vma {
            end,
            backing,
            ..area.clone()
        });
    }

    /// The area's backing for a mapping of its pages from `from` on at `[start, end)`.
    fn backing_at(
        &self,
        area: &Area,
        from: u64,
        start: u64,
        end: u64,
    ) -> Option<alloc::sync::Arc<FileMapping>> {
        area.backing.as_ref().map(|m| {
            FileMapping::new(
                self.me.clone(),
                start,
                end,
                m.cache.clone(),
                m.page_of(from),
                m.name.clone(),
            )
        })
    }

    /// Moves `len` bytes at `old` to `new`, where `new_len` bytes are free.
    #[expect(clippy::too_many_arguments, reason = "one step of `remap`, cut out")]
    fn relocate(
        &self,
        layout: &mut Layout,
        area: &Area,
        old: u64,
        len: u64,
        new: u64,
        new_len: u64,
        removed: &mut alloc::vec::Vec<Area>,
    ) -> Result<u64> {
        // The new mapping is on the cache's list before an entry moves, and later on it than
        // the old one: who walks the list for a page finds it in one of the two.
        let backing = self.backing_at(area, old, new, new + new_len);
        self.move_entries(old, new, len)?;
        removed.extend(self.take_out(layout, old, old + len));
        layout.areas.insert(Vma {
            start: new,
            end: new + new_len,
            prot: area.prot,
            flags: area.flags - (VmaFlags::HEAP | VmaFlags::STACK),
            backing,
        });
        Ok(new)
    }

    /// Moves the entries of `[old, old + len)` to `new`. All or none.
    fn move_entries(&self, old: u64, new: u64, len: u64) -> Result<()> {
        // Tables first, so that nothing can fail half way.
        {
            let mut table = self.table.lock();
            let mut failed = None;
            let mut pages = alloc::vec::Vec::new();
            table.for_each(old, old + len, |va, _| {
                // One page per leaf table of the target is enough.
                let at = new + (va - old);
                if pages
                    .last()
                    .is_none_or(|&last: &u64| last >> 21 != at >> 21)
                {
                    if pages.try_reserve(1).is_err() {
                        failed = Some(Errno::ENOMEM);
                        return false;
                    }
                    pages.push(at);
                }
                true
            });
            if let Some(e) = failed {
                return Err(e);
            }
            for at in pages {
                table.entry_or_make(at)?;
            }
        }
        let mut at = old;
        while at < old + len {
            let start = at;
            {
                let table = self.table.lock();
                let mut n = 0;
                at = table.for_each(at, old + len, |va, entry| {
                    if let Some(to) = table.entry(new + (va - old)) {
                        let pte = Pte(entry.swap(0, Ordering::AcqRel));
                        to.store(pte.0, Ordering::Release);
                        n += 1;
                    }
                    n < 512
                });
            }
            self.flush(start, at);
        }
        Ok(())
    }
}
