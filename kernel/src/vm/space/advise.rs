//! madvise, msync, mincore, mlock: what programs say and ask about their pages.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::map::{round_len, user_range};
use super::{AddressSpace, PAGE};
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::mm::addr::USER_END;
use crate::vm::page_cache::{PageCache, Pattern};
use crate::vm::vma::{MAX_AREAS, VmaFlags};

/// What man 2 madvise can say, as far as it does something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A hint that changes nothing here: COLD.
    Hint,
    /// In what order file pages will be touched.
    Order(Pattern),
    /// Start to read file pages into the cache.
    WillNeed,
    /// Drop the pages; private ones read as zero or as the file afterwards.
    DontNeed,
    /// As `DontNeed`, private anonymous memory only.
    Free,
    /// Make the pages present, for loads or for stores.
    Populate {
        /// For stores.
        write: bool,
    },
    /// Set or clear a property.
    Flag(VmaFlags, bool),
}

/// How man 2 mlock2 locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// All pages, now.
    Now,
    /// Pages as they come (MLOCK_ONFAULT).
    OnFault,
}

impl LockMode {
    fn flags(self) -> VmaFlags {
        match self {
            LockMode::Now => VmaFlags::LOCKED,
            LockMode::OnFault => VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT,
        }
    }
}

/// A part of a cache that a range of addresses shows.
type CachePart = (Arc<PageCache>, u64, u64);

impl AddressSpace {
    /// man 2 madvise: EINVAL, ENOMEM (part is not mapped; the rest was advised), EFAULT and
    /// ENOMEM from populating.
    pub fn advise(&self, at: UserAddr, len: usize, advice: Advice) -> Result<()> {
        let len = round_len(len).map_err(|_| Errno::EINVAL)?;
        let (start, end) = user_range(at, len, Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        match advice {
            Advice::Hint => self.check_covered(start, end),
            Advice::WillNeed => {
                let (parts, covered) = self.cache_parts(start, end, |_| true);
                for (cache, from, to) in parts {
                    // A hint: what cannot be read now fails when it is touched.
                    cache.will_need(from..to);
                }
                covered.then_some(()).ok_or(Errno::ENOMEM)
            }
            Advice::DontNeed | Advice::Free => self.discard(start, end, advice == Advice::Free),
            Advice::Populate { write } => self.populate_for(start, end, write),
            Advice::Order(pattern) => {
                let flags = match pattern {
                    Pattern::Normal => VmaFlags::empty(),
                    Pattern::Sequential => VmaFlags::SEQUENTIAL,
                    Pattern::Random => VmaFlags::RANDOM,
                };
                let mut layout = self.layout.write();
                if layout.areas.count() + layout.areas.growth(start, end) > MAX_AREAS {
                    return Err(Errno::ENOMEM);
                }
                let covered = layout.areas.is_covered(start, end);
                layout.areas.modify(start, end, |area| {
                    area.flags -= VmaFlags::SEQUENTIAL | VmaFlags::RANDOM;
                    area.flags |= flags;
                });
                covered.then_some(()).ok_or(Errno::ENOMEM)
            }
            Advice::Flag(flag, on) => {
                let mut layout = self.layout.write();
                let wipes = flag == VmaFlags::WIPE_ON_FORK && on;
                if wipes
                    && layout
                        .areas
                        .overlapping(start, end)
                        .any(|a| a.backing.is_some() || !a.is_private())
                {
                    return Err(Errno::EINVAL);
                }
                if layout.areas.count() + layout.areas.growth(start, end) > MAX_AREAS {
                    return Err(Errno::ENOMEM);
                }
                let covered = layout.areas.is_covered(start, end);
                layout
                    .areas
                    .modify(start, end, |area| area.flags.set(flag, on));
                covered.then_some(()).ok_or(Errno::ENOMEM)
            }
        }
    }

    fn check_covered(&self, start: u64, end: u64) -> Result<()> {
        let covered = self.layout.read().areas.is_covered(start, end);
        covered.then_some(()).ok_or(Errno::ENOMEM)
    }

    /// Takes the pages of `[start, end)` out. Faults share the layout's lock with this: one
    /// that comes meanwhile finds the page as before or as new.
    fn discard(&self, start: u64, end: u64, anonymous_only: bool) -> Result<()> {
        let layout = self.layout.read();
        for area in layout.areas.overlapping(start, end) {
            let is_anonymous = area.backing.is_none();
            if area.flags.contains(VmaFlags::LOCKED) || (anonymous_only && !is_anonymous) {
                return Err(Errno::EINVAL);
            }
            self.zap(area.start.max(start), area.end.min(end));
        }
        layout
            .areas
            .is_covered(start, end)
            .then_some(())
            .ok_or(Errno::ENOMEM)
    }

    fn populate_for(&self, start: u64, end: u64, write: bool) -> Result<()> {
        use super::{Access, FaultError};
        let access = if write { Access::Write } else { Access::Read };
        let mut at = start;
        while at < end {
            let layout = self.layout.read();
            let area = layout.areas.find(at).ok_or(Errno::ENOMEM)?;
            self.fault_in_area(area, at, access).map_err(|e| match e {
                FaultError::Forbidden => Errno::EINVAL,
                FaultError::Bus => Errno::EFAULT,
                _ => Errno::ENOMEM,
            })?;
            at += PAGE;
        }
        Ok(())
    }

    /// The parts of caches that the areas of `[start, end)` show, where `pick` says so, and
    /// whether the range is mapped without a hole.
    fn cache_parts(
        &self,
        start: u64,
        end: u64,
        pick: impl Fn(VmaFlags) -> bool,
    ) -> (Vec<CachePart>, bool) {
        let layout = self.layout.read();
        let parts = layout
            .areas
            .overlapping(start, end)
            .filter(|area| pick(area.flags))
            .filter_map(|area| {
                let mapping = area.backing.as_ref()?;
                let (from, to) = (area.start.max(start), area.end.min(end));
                let first = mapping.page_of(from);
                Some((mapping.cache.clone(), first, first + (to - from) / PAGE))
            })
            .collect();
        (parts, layout.areas.is_covered(start, end))
    }

    /// man 2 msync: writes back what shared mappings changed. With `wait`, waits for it, else
    /// starts it. ENOMEM when part is not mapped, EBUSY when `invalidate` meets locked pages,
    /// EIO.
    pub fn sync(&self, at: UserAddr, len: usize, wait: bool, invalidate: bool) -> Result<()> {
        let len = round_len(len)?;
        let (start, end) = user_range(at, len, Errno::ENOMEM)?;
        if start == end {
            return Ok(());
        }
        if invalidate {
            let layout = self.layout.read();
            let locked = layout
                .areas
                .overlapping(start, end)
                .any(|a| a.flags.contains(VmaFlags::LOCKED));
            if locked {
                return Err(Errno::EBUSY);
            }
        }
        let (parts, covered) =
            self.cache_parts(start, end, |flags| flags.contains(VmaFlags::SHARED));
        if wait {
            // Without the layout's lock: write-back takes time.
            for (cache, from, to) in parts {
                cache.write_back(from, to)?;
            }
        }
        // Without waiting there is nothing to start: stores through a mapping are marked when
        // they fault, and the flusher writes them back by age (man 2 msync, NOTES).
        covered.then_some(()).ok_or(Errno::ENOMEM)
    }

    /// man 2 mincore: one entry per page of `[at, at + len)`, true when it is in memory.
    /// EINVAL, ENOMEM. The caller bounds `len`.
    pub fn in_core(&self, at: UserAddr, len: usize) -> Result<Vec<bool>> {
        let len = round_len(len)?;
        let (start, end) = user_range(at, len, Errno::ENOMEM)?;
        let layout = self.layout.read();
        if !layout.areas.is_covered(start, end) {
            return Err(Errno::ENOMEM);
        }
        let mut out = Vec::new();
        out.try_reserve_exact((len / PAGE) as usize)
            .map_err(|_| Errno::EAGAIN)?;
        for area in layout.areas.overlapping(start, end) {
            let mut va = area.start.max(start);
            while va < area.end.min(end) {
                let is_mapped = self.table.lock().get(va).is_present();
                let is_cached = || {
                    let mapping = area.backing.as_ref()?;
                    Some(mapping.cache.is_cached(mapping.page_of(va)))
                };
                out.push(is_mapped || is_cached().unwrap_or(false));
                va += PAGE;
            }
        }
        Ok(out)
    }

    /// Locks `[at, at + len)` into memory (man 2 mlock). ENOMEM when part is not mapped or the
    /// limit is reached, EAGAIN when a page cannot be had. `privileged`: no limit.
    pub fn lock(&self, at: UserAddr, len: usize, mode: LockMode, privileged: bool) -> Result<()> {
        let (start, end) = lock_range(at, len)?;
        if start == end {
            return Ok(());
        }
        {
            let mut layout = self.layout.write();
            let already: u64 = layout
                .areas
                .overlapping(start, end)
                .filter(|a| a.flags.contains(VmaFlags::LOCKED))
                .map(|a| a.end.min(end) - a.start.max(start))
                .sum();
            let total = layout.locked_bytes() + (end - start) - already;
            if !privileged && total > self.limits().locked {
                // man 2 mlock: EPERM when nothing may be locked at all.
                return Err(if self.limits().locked == 0 {
                    Errno::EPERM
                } else {
                    Errno::ENOMEM
                });
            }
            if !layout.areas.is_covered(start, end)
                || layout.areas.count() + layout.areas.growth(start, end) > MAX_AREAS
            {
                return Err(Errno::ENOMEM);
            }
            layout.areas.modify(start, end, |area| {
                area.flags -= VmaFlags::LOCK_ON_FAULT;
                area.flags |= mode.flags();
            });
            self.mark_locked(start, end, true);
        }
        match mode {
            LockMode::Now => self.populate(start, end),
            LockMode::OnFault => Ok(()),
        }
    }

    /// Unlocks `[at, at + len)` (man 2 munlock). ENOMEM when part is not mapped.
    pub fn unlock(&self, at: UserAddr, len: usize) -> Result<()> {
        let (start, end) = lock_range(at, len)?;
        let mut layout = self.layout.write();
        if !layout.areas.is_covered(start, end)
            || layout.areas.count() + layout.areas.growth(start, end) > MAX_AREAS
        {
            return Err(Errno::ENOMEM);
        }
        layout.areas.modify(start, end, |area| {
            area.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
        });
        self.mark_locked(start, end, false);
        Ok(())
    }

    /// man 2 mlockall: `current` locks what is mapped, `future` what will be.
    pub fn lock_all(
        &self,
        current: bool,
        future: bool,
        mode: LockMode,
        privileged: bool,
    ) -> Result<()> {
        let mut layout = self.layout.write();
        if current && !privileged && layout.areas.bytes() > self.limits().locked {
            return Err(Errno::ENOMEM);
        }
        layout.lock_future = if future {
            mode.flags()
        } else {
            VmaFlags::empty()
        };
        if !current {
            return Ok(());
        }
        layout.areas.modify(0, USER_END, |area| {
            area.flags -= VmaFlags::LOCK_ON_FAULT;
            area.flags |= mode.flags();
        });
        self.mark_locked(0, USER_END, true);
        let ranges: Vec<(u64, u64)> = layout.areas.iter().map(|a| (a.start, a.end)).collect();
        drop(layout);
        if mode == LockMode::Now {
            for (start, end) in ranges {
                // man 2 mlockall: pages that cannot be had do not fail the call.
                let _ = self.populate(start, end);
            }
        }
        Ok(())
    }

    /// man 2 munlockall.
    pub fn unlock_all(&self) {
        let mut layout = self.layout.write();
        layout.lock_future = VmaFlags::empty();
        layout.areas.modify(0, USER_END, |area| {
            area.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
        });
        self.mark_locked(0, USER_END, false);
    }
}

/// The pages that `[at, at + len)` touches: mlock rounds the start down.
fn lock_range(at: UserAddr, len: usize) -> Result<(u64, u64)> {
    let end = at.0.checked_add(len as u64).ok_or(Errno::EINVAL)?;
    let start = at.page_down().0;
    let end = UserAddr(end).page_up().ok_or(Errno::EINVAL)?.0;
    if end > USER_END {
        return Err(Errno::ENOMEM);
    }
    Ok((start, end))
}
