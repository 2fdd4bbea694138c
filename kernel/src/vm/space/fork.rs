//! fork: a copy of a space whose private pages are shared until one side writes.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::pages::{WRITABLE, share_reference};
use super::{AddressSpace, Layout};
use crate::error::Result;
use crate::mm::addr::USER_END;
use crate::mm::page_table::{HUGE_SIZE, MapError, Pte, PteFlags};
use crate::vm::mapping::FileMapping;
use crate::vm::page_cache::reclaim;
use crate::vm::vma::{VmaFlags, VmaSet};

impl AddressSpace {
    /// A copy-on-write copy (fork). ENOMEM.
    pub fn fork(&self) -> Result<Arc<AddressSpace>> {
        reclaim::check_kernel_memory()?;
        let child = AddressSpace::new()?;
        child.set_limits(self.limits());
        // Alone with the parent's layout: none of its threads faults meanwhile.
        let layout = self.layout.write();
        let mut areas = VmaSet::default();
        let mut result = Ok(());
        for area in layout.areas.iter() {
            if area.flags.contains(VmaFlags::NO_FORK) {
                continue;
            }
            let mut copy = area.clone();
            // Locks are not inherited (man 2 mlock).
            copy.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
            copy.backing = area.backing.as_ref().map(|m| {
                FileMapping::new(
                    child.me.clone(),
                    area.start,
                    area.end,
                    m.cache.clone(),
                    m.page_of(area.start),
                    m.name.clone(),
                )
            });
            areas.insert(copy);
            if area.is_private() && !area.flags.contains(VmaFlags::WIPE_ON_FORK) && result.is_ok() {
                result = self.share_entries(&child, area.start, area.end);
            }
        }
        // Stores of the parent's threads fault from here on.
        self.flush(0, USER_END);
        *child.layout.write() = Layout {
            areas,
            brk_start: layout.brk_start,
            brk_end: layout.brk_end,
            mmap_top: layout.mmap_top,
            stack_top: layout.stack_top,
            lock_future: VmaFlags::empty(),
        };
        drop(layout);
        result.map(|()| child)
    }

    /// Enters the private pages of `[from, to)` in `child` as well, read-only in both. Pages
    /// of caches and the zero page come back by faults.
    fn share_entries(&self, child: &AddressSpace, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        let mut rounds = 0;
        while at < to {
            // One leaf table at a time, so that the locks are never held for long.
            let end = ((at & !(HUGE_SIZE - 1)) + HUGE_SIZE).min(to);
            let mine = self.table.lock();
            let mut theirs = child.table.lock();
            let mut result = Ok(());
            mine.for_each(at, end, |va, entry| {
                let old = Pte(entry.load(Ordering::Relaxed));
                if old.has(PteFlags::CACHED) || old.has(PteFlags::ZERO) {
                    return true;
                }
                match theirs.entry_or_make(va) {
                    // Done before memory ran short and the block was begun again.
                    Ok(slot) if slot.load(Ordering::Relaxed) != 0 => true,
                    Ok(slot) => {
                        let shared = old.without(WRITABLE);
                        if shared != old {
                            entry.store(shared.0, Ordering::Release);
                        }
                        let child_pte = shared.without(PteFlags::LOCKED);
                        // The child's entry owns a reference of its own.
                        if let Some(frame) = share_reference(old) {
                            let _ = frame.into_raw();
                            slot.store(child_pte.0, Ordering::Release);
                            child.count_in(child_pte);
                        }
                        true
                    }
                    Err(e) => {
                        result = Err(e);
                        false
                    }
                }
            });
            drop(theirs);
            drop(mine);
            match result {
                Ok(()) => {
                    at = end;
                    rounds = 0;
                }
                // Tables for the child: cached pages give way.
                Err(MapError::OutOfMemory) if rounds < reclaim::ROUNDS => {
                    reclaim::make_some_room()?;
                    rounds += 1;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}
