//! mmap, munmap, mprotect, brk, and the first stack.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{AddressSpace, Area, Backing, Layout, PAGE, Placement, Prot, is_data};
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::mm::addr::{USER_END, USER_START};
use crate::vm::mapping::FileMapping;
use crate::vm::page_cache::{PageCache, reclaim};
use crate::vm::vma::{MAX_AREAS, STACK_GAP, Vma, VmaFlags};

/// What mmap was asked for.
pub struct MapRequest {
    /// Where.
    pub at: Placement,
    /// Bytes; rounded up to pages.
    pub len: usize,
    /// What programs may do.
    pub prot: Prot,
    /// Properties: `SHARED`, `GROWS_DOWN`, `NO_RESERVE`, `NEVER_WRITE`, `NEVER_EXEC`, `STACK`,
    /// `LOCKED`.
    pub flags: VmaFlags,
    /// What stands behind it.
    pub backing: Backing,
    /// Makes the pages present now (MAP_POPULATE).
    pub populate: bool,
    /// Below 2 GiB (MAP_32BIT).
    pub low: bool,
    /// Not held to the limit on locked memory.
    pub privileged: bool,
}

/// Where the stack's first pages are mapped: 32 pages, as on Linux; it grows from there.
const STACK_START: u64 = 32 * PAGE;
/// End of the addresses that MAP_32BIT chooses from (man 2 mmap: the first 2 GiB).
const LOW_END: u64 = 1 << 31;
/// The heap starts up to 32 MiB above the program.
const BRK_RANDOM_PAGES: u64 = 0x2000;

/// `len` rounded up to pages; ENOMEM when that is more than there are addresses.
pub(super) fn round_len(len: usize) -> Result<u64> {
    let len = (len as u64)
        .checked_next_multiple_of(PAGE)
        .ok_or(Errno::ENOMEM)?;
    (len <= USER_END).then_some(len).ok_or(Errno::ENOMEM)
}

/// The page-aligned range `[at, at + len)` in the user half, or `outside`.
pub(super) fn user_range(at: UserAddr, len: u64, outside: Errno) -> Result<(u64, u64)> {
    if !at.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    match at.0.checked_add(len) {
        Some(end) if end <= USER_END => Ok((at.0, end)),
        _ => Err(outside),
    }
}

/// Refuses what could never be filled (man 5 proc, vm/overcommit_memory, mode 0).
pub(super) fn check_overcommit(len: u64) -> Result<()> {
    let total = crate::mm::frame::total() as u64 * PAGE;
    (len <= total).then_some(()).ok_or(Errno::ENOMEM)
}

impl Layout {
    /// Where `len` bytes go.
    fn place(&self, at: Placement, len: u64, low: bool) -> Result<u64> {
        match at {
            Placement::Fixed(addr) | Placement::FixedNoReplace(addr) => {
                let (start, end) = user_range(addr, len, Errno::ENOMEM)?;
                if start < USER_START {
                    return Err(Errno::EPERM);
                }
                if matches!(at, Placement::FixedNoReplace(_)) && !self.areas.is_free(start, end) {
                    return Err(Errno::EEXIST);
                }
                Ok(start)
            }
            Placement::Hint(hint) => {
                let hint = hint.page_up().map_or(0, |a| a.0);
                if hint >= USER_START && self.fits_at(hint, len) {
                    return Ok(hint);
                }
                if low {
                    return self
                        .areas
                        .find_gap_below(len, USER_START, LOW_END)
                        .ok_or(Errno::ENOMEM);
                }
                self.areas
                    .find_gap_below(len, USER_START, self.mmap_top)
                    .or_else(|| self.areas.find_gap_above(len, self.mmap_top, USER_END))
                    .ok_or(Errno::ENOMEM)
            }
        }
    }

    /// Whether `[at, at + len)` is free, with the gap below a stack.
    fn fits_at(&self, at: u64, len: u64) -> bool {
        let Some(end) = at.checked_add(len).filter(|end| *end <= USER_END) else {
            return false;
        };
        let stack_above = self
            .areas
            .next_above(end.saturating_sub(1))
            .is_some_and(|a| {
                a.flags.contains(VmaFlags::GROWS_DOWN) && a.start.saturating_sub(STACK_GAP) < end
            });
        self.areas.is_free(at, end) && !stack_above
    }

    pub(super) fn locked_bytes(&self) -> u64 {
        self.areas
            .iter()
            .filter(|a| a.flags.contains(VmaFlags::LOCKED))
            .map(Vma::len)
            .sum()
    }
}

impl AddressSpace {
    /// Maps `len` bytes (rounded up to pages). man 2 mmap's errors.
    pub fn map(
        &self,
        at: Placement,
        len: usize,
        prot: Prot,
        shared: bool,
        backing: Backing,
    ) -> Result<UserAddr> {
        let mut flags = VmaFlags::empty();
        flags.set(VmaFlags::SHARED, shared);
        self.map_request(MapRequest {
            at,
            len,
            prot,
            flags,
            backing,
            populate: false,
            low: false,
            privileged: false,
        })
    }

    /// As [`AddressSpace::map`], with all that mmap can ask for. EINVAL, ENOMEM, EEXIST,
    /// EPERM (below the lowest address), EOVERFLOW, EAGAIN (locked memory).
    pub fn map_request(&self, request: MapRequest) -> Result<UserAddr> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = round_len(request.len)?;
        let (cache, first, name) = resolve(request.backing, request.flags, len)?;
        let is_private = !request.flags.contains(VmaFlags::SHARED);
        let is_anonymous = name.is_none();
        let counts =
            request.prot.contains(Prot::WRITE) && is_private || !is_private && is_anonymous;
        if counts && !request.flags.contains(VmaFlags::NO_RESERVE) {
            check_overcommit(len)?;
        }

        reclaim::check_kernel_memory()?;
        let limits = self.limits();
        let mut layout = self.layout.write();
        let start = layout.place(request.at, len, request.low)?;
        let end = start + len;
        let replaced: u64 = layout
            .areas
            .overlapping(start, end)
            .map(|a| a.end.min(end) - a.start.max(start))
            .sum();
        self.check_limits(
            &layout,
            len - replaced.min(len),
            &request.flags,
            request.prot,
        )?;
        if layout.areas.count() + layout.areas.growth(start, end) >= MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        let flags = request.flags | layout.lock_future;
        if flags.contains(VmaFlags::LOCKED)
            && !request.privileged
            && layout.locked_bytes() + len > limits.locked
        {
            return Err(Errno::EAGAIN);
        }
        let removed = self.take_out(&mut layout, start, end);
        let backing =
            cache.map(|cache| FileMapping::new(self.me.clone(), start, end, cache, first, name));
        layout.areas.insert(Vma {
            start,
            end,
            prot: request.prot,
            flags,
            backing,
        });
        drop(layout);
        // Outside the lock: the last reference to a file may close it.
        drop(removed);
        let populate = request.populate
            || flags.contains(VmaFlags::LOCKED) && !flags.contains(VmaFlags::LOCK_ON_FAULT);
        if populate && !request.prot.is_empty() {
            // What cannot be had now comes by a fault, or not at all (man 2 mmap).
            let _ = self.populate(start, end);
        }
        Ok(UserAddr(start))
    }

    /// ENOMEM when `len` more bytes break a limit.
    fn check_limits(&self, layout: &Layout, len: u64, flags: &VmaFlags, prot: Prot) -> Result<()> {
        let limits = self.limits();
        if layout.areas.bytes().saturating_add(len) > limits.address_space {
            return Err(Errno::ENOMEM);
        }
        let counts_as_data =
            prot.contains(Prot::WRITE) && !flags.intersects(VmaFlags::SHARED | VmaFlags::STACK);
        if counts_as_data && limits.data != u64::MAX {
            let data: u64 = layout
                .areas
                .iter()
                .filter(|a| is_data(a))
                .map(Vma::len)
                .sum();
            if data.saturating_add(len) > limits.data {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(())
    }

    /// Takes `[start, end)` out of the areas and the page tables. The caller drops the pieces
    /// after it gave the layout's lock back.
    pub(super) fn take_out(&self, layout: &mut Layout, start: u64, end: u64) -> Vec<Area> {
        let removed = layout.areas.remove(start, end);
        if !removed.is_empty() {
            self.zap(start, end);
        }
        removed
    }

    /// Unmaps (man 2 munmap). EINVAL; ENOMEM when a split would make too many areas.
    pub fn unmap(&self, at: UserAddr, len: usize) -> Result<()> {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = round_len(len).map_err(|_| Errno::EINVAL)?;
        let (start, end) = user_range(at, len, Errno::EINVAL)?;
        let mut layout = self.layout.write();
        if layout.areas.growth(start, end) > 0
            && layout.areas.count() + layout.areas.growth(start, end) > MAX_AREAS
        {
            return Err(Errno::ENOMEM);
        }
        let removed = self.take_out(&mut layout, start, end);
        if !removed.is_empty() {
            self.free_tables(start, end);
        }
        drop(layout);
        drop(removed);
        Ok(())
    }

    /// Changes protection (man 2 mprotect). EINVAL; ENOMEM when part is not mapped; EACCES
    /// when a mapping may never get the permission.
    pub fn protect(&self, at: UserAddr, len: usize, prot: Prot) -> Result<()> {
        let len = round_len(len)?;
        let (start, end) = user_range(at, len, Errno::ENOMEM)?;
        if start == end {
            return Ok(());
        }
        reclaim::check_kernel_memory()?;
        let mut layout = self.layout.write();
        if !layout.areas.is_covered(start, end) {
            return Err(Errno::ENOMEM);
        }
        for area in layout.areas.overlapping(start, end) {
            let forbidden = (prot.contains(Prot::WRITE)
                && area.flags.contains(VmaFlags::NEVER_WRITE)
                && !area.is_private())
                || (prot.contains(Prot::EXEC) && area.flags.contains(VmaFlags::NEVER_EXEC));
            if forbidden {
                return Err(Errno::EACCES);
            }
            let gains_write = prot.contains(Prot::WRITE) && !area.prot.contains(Prot::WRITE);
            if gains_write && area.is_private() && !area.flags.contains(VmaFlags::NO_RESERVE) {
                let len = area.end.min(end) - area.start.max(start);
                check_overcommit(len)?;
                self.check_limits(&layout, 0, &area.flags, prot)?;
            }
        }
        if layout.areas.count() + layout.areas.growth(start, end) > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        layout.areas.modify(start, end, |area| area.prot = prot);
        for area in layout.areas.overlapping(start, end) {
            let (from, to) = (area.start.max(start), area.end.min(end));
            self.protect_entries(from, to, prot, area.is_private());
        }
        Ok(())
    }

    /// Maps the first stack, at a random place: it grows down to the limit of now
    /// (RLIMIT_STACK). Returns the address after its last byte.
    pub fn map_stack(&self) -> Result<UserAddr> {
        let top = self.layout.read().stack_top;
        let len = (self.limits().stack.min(STACK_START))
            .next_multiple_of(PAGE)
            .max(PAGE);
        self.map_request(MapRequest {
            at: Placement::FixedNoReplace(UserAddr(top - len)),
            len: len as usize,
            prot: Prot::READ | Prot::WRITE,
            flags: VmaFlags::STACK | VmaFlags::GROWS_DOWN,
            backing: Backing::Anonymous,
            populate: false,
            low: false,
            privileged: false,
        })?;
        Ok(UserAddr(top))
    }

    /// Sets where the heap starts (execve): at a random distance above `base`, the end of the
    /// program's last segment.
    pub fn set_brk_base(&self, base: UserAddr) {
        let mut layout = self.layout.write();
        let base = base.page_up().map_or(USER_END, |a| a.0);
        let start = base + PAGE * (crate::vm::random() % BRK_RANDOM_PAGES);
        let start = start.min(USER_END);
        layout.brk_start = start;
        layout.brk_end = start;
    }

    /// Moves the end of the heap; returns where it is (man 2 brk, kernel convention).
    pub fn brk(&self, want: UserAddr) -> UserAddr {
        let mut layout = self.layout.write();
        let unchanged = UserAddr(layout.brk_end);
        if layout.brk_start == 0 || want.0 < layout.brk_start || want.0 > USER_END {
            return unchanged;
        }
        let old_end = layout.brk_end.next_multiple_of(PAGE);
        let new_end = want.0.next_multiple_of(PAGE);
        let mut removed = Vec::new();
        let mut populate = false;
        if new_end < old_end {
            removed = self.take_out(&mut layout, new_end, old_end);
        } else if new_end > old_end {
            let len = new_end - old_end;
            let flags = VmaFlags::HEAP | layout.lock_future;
            let prot = Prot::READ | Prot::WRITE;
            let is_locked = flags.contains(VmaFlags::LOCKED);
            let limits = self.limits();
            if !layout.fits_at(old_end, len)
                || want.0 - layout.brk_start > limits.data
                || check_overcommit(len).is_err()
                || self.check_limits(&layout, len, &flags, prot).is_err()
                || layout.areas.count() >= MAX_AREAS
                || is_locked && layout.locked_bytes() + len > limits.locked
            {
                return unchanged;
            }
            layout.areas.insert(Vma {
                start: old_end,
                end: new_end,
                prot,
                flags,
                backing: None,
            });
            populate = is_locked && !flags.contains(VmaFlags::LOCK_ON_FAULT);
        }
        layout.brk_end = want.0;
        drop(layout);
        drop(removed);
        if populate {
            // As for mmap: what cannot be had now comes by a fault.
            let _ = self.populate(old_end, new_end);
        }
        want
    }

    /// (start, end) of the heap, for /proc/pid/stat and prctl.
    pub fn brk_range(&self) -> (UserAddr, UserAddr) {
        let layout = self.layout.read();
        (UserAddr(layout.brk_start), UserAddr(layout.brk_end))
    }
}

/// What a mapping's areas need of its backing: cache, first page, name.
type Resolved = (
    Option<Arc<PageCache>>,
    u64,
    Option<Arc<dyn super::MappedFile>>,
);

fn resolve(backing: Backing, flags: VmaFlags, len: u64) -> Result<Resolved> {
    match backing {
        Backing::Anonymous if flags.contains(VmaFlags::SHARED) => {
            let cache = PageCache::new(None)?;
            cache.truncate(len);
            Ok((Some(cache), 0, None))
        }
        Backing::Anonymous => Ok((None, 0, None)),
        Backing::File {
            cache,
            offset,
            name,
        } => {
            if !offset.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL);
            }
            offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
            Ok((Some(cache), offset / PAGE, Some(name)))
        }
    }
}
