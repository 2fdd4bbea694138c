//! Page-table entries of a space in bulk: taking them out, protecting them.
//!
//! Everything here works in batches: a batch of entries is changed under the table's lock,
//! flushed on every CPU, and only then are its frames given back.

use core::sync::atomic::Ordering;

use super::{AddressSpace, PAGE};
use crate::mm::page_table::{HUGE_SIZE, UserTables};
use crate::mm::page_table::{Pte, PteFlags, TableMemory, no_execute};
use crate::mm::{FrameRef, PhysAddr};
use crate::vm::page_cache::Unmap;
use crate::vm::space::Prot;

/// Entries changed between two flushes.
const BATCH: usize = 128;

/// Takes back the reference that an entry owned; `None` for the zero page.
pub(in crate::vm) fn take_reference(pte: Pte) -> Option<FrameRef> {
    if pte.is_empty() || pte.has(PteFlags::ZERO) {
        return None;
    }
    // SAFETY: the entry was made from `into_raw`; callers took it out of the table, or take
    // the whole table down, so each is taken back once.
    Some(unsafe { FrameRef::from_raw(pte.frame()) })
}

/// Another reference to the frame of an entry that stays in place.
pub(in crate::vm) fn share_reference(pte: Pte) -> Option<FrameRef> {
    let own = core::mem::ManuallyDrop::new(take_reference(pte)?);
    Some(FrameRef::clone(&own))
}

/// Whether the entry owns the only reference to its frame. Stable only while the table's
/// lock is held, and then only if true: nobody else can get at the frame.
pub(in crate::vm) fn is_sole_reference(pte: Pte) -> bool {
    match core::mem::ManuallyDrop::new(take_reference(pte)).as_ref() {
        Some(frame) => frame.ref_count() == 1,
        None => false,
    }
}

/// Hardware flags of an entry whose area allows `prot`; write permission is apart.
pub(in crate::vm) fn base_flags(prot: Prot) -> PteFlags {
    let mut flags = PteFlags::USER | PteFlags::ACCESSED;
    if !prot.is_empty() {
        flags |= PteFlags::PRESENT;
    }
    if !prot.contains(Prot::EXEC) {
        flags |= no_execute();
    }
    flags
}

/// What a store needs.
pub(in crate::vm) const WRITABLE: PteFlags = PteFlags::WRITE.union(PteFlags::DIRTY);

impl AddressSpace {
    /// Counts a new entry.
    pub(in crate::vm) fn count_in(&self, pte: Pte) {
        if pte.has(PteFlags::CACHED) {
            self.nr_cached.fetch_add(1, Ordering::Relaxed);
        } else if !pte.has(PteFlags::ZERO) {
            self.nr_private.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an entry that was taken out.
    pub(in crate::vm) fn count_out(&self, pte: Pte) {
        if pte.has(PteFlags::CACHED) {
            self.nr_cached.fetch_sub(1, Ordering::Relaxed);
        } else if !pte.has(PteFlags::ZERO) {
            self.nr_private.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes all entries of `[from, to)` out and gives their frames back.
    pub(super) fn zap(&self, from: u64, to: u64) {
        self.zap_where(from, to, |_| true);
    }

    /// Takes the entries of `[from, to)` that `pick` picks out; returns how many.
    fn zap_where(&self, from: u64, to: u64, pick: impl Fn(Pte) -> bool) -> usize {
        let mut total = 0;
        let mut at = from;
        while at < to {
            let mut batch = [Pte::EMPTY; BATCH];
            let mut n = 0;
            let start = at;
            {
                let table = self.table.lock();
                at = table.for_each(at, to, |_, entry| {
                    let old = Pte(entry.load(Ordering::Relaxed));
                    if pick(old) {
                        entry.store(0, Ordering::Release);
                        self.count_out(old);
                        batch[n] = old;
                        n += 1;
                    }
                    n < BATCH
                });
            }
            if n > 0 {
                self.flush(start, at);
                for pte in &batch[..n] {
                    drop(take_reference(*pte));
                }
            }
            total += n;
        }
        total
    }

    /// For the page cache: takes entries for cached pages out of `[from, to)`, or their write
    /// permission. Areas are not looked at, so no lock but the table's is taken: an entry
    /// that is taken out in vain comes back by a fault.
    pub(in crate::vm) fn unmap_cached(&self, from: u64, to: u64, how: Unmap) -> usize {
        match how {
            Unmap::All => self.zap_where(from, to, |pte| pte.has(PteFlags::CACHED)),
            Unmap::Unlocked => self.zap_where(from, to, |pte| {
                pte.has(PteFlags::CACHED) && !pte.has(PteFlags::LOCKED)
            }),
            Unmap::WriteAccess => {
                let mut n = 0;
                let table = self.table.lock();
                let (mut first, mut last) = (u64::MAX, 0);
                table.for_each(from, to, |va, entry| {
                    let old = Pte(entry.load(Ordering::Relaxed));
                    if old.has(PteFlags::CACHED) && old.has(PteFlags::WRITE) {
                        entry.store(old.without(WRITABLE).0, Ordering::Release);
                        first = first.min(va);
                        last = va + PAGE;
                        n += 1;
                    }
                    true
                });
                drop(table);
                if n > 0 {
                    self.flush(first, last);
                }
                n
            }
        }
    }

    /// Gives the entries of `[from, to)` the permissions of `prot`. Write permission is only
    /// given where no fault is needed to make it safe.
    pub(super) fn protect_entries(&self, from: u64, to: u64, prot: Prot, private: bool) {
        let mut at = from;
        while at < to {
            // One leaf table at a time, so that the lock is never held for long.
            let end = ((at & !(HUGE_SIZE - 1)) + HUGE_SIZE).min(to);
            let mut lost_rights = false;
            {
                let table = self.table.lock();
                table.for_each(at, end, |_, entry| {
                    let old = Pte(entry.load(Ordering::Relaxed));
                    let kept = old.flags() & (PteFlags::CACHED | PteFlags::ZERO | PteFlags::LOCKED);
                    let mut new = Pte::new(old.frame(), base_flags(prot) | kept);
                    if prot.contains(Prot::WRITE)
                        && (old.has(PteFlags::WRITE)
                            || (private && !old.has(PteFlags::CACHED) && is_sole_reference(old)))
                    {
                        new = new.with(WRITABLE);
                    }
                    if new != old {
                        entry.store(new.0, Ordering::Release);
                        lost_rights |= old.is_present()
                            && (!new.is_present()
                                || (old.has(PteFlags::WRITE) && !new.has(PteFlags::WRITE))
                                || (!old.has(PteFlags::NO_EXECUTE)
                                    && new.has(PteFlags::NO_EXECUTE)));
                    }
                    true
                });
            }
            if lost_rights {
                self.flush(at, end);
            }
            at = end;
        }
    }

    /// Sets or clears the mark that keeps reclaim off the entries of `[from, to)`.
    pub(super) fn mark_locked(&self, from: u64, to: u64, locked: bool) {
        let table = self.table.lock();
        table.for_each(from, to, |_, entry| {
            let old = Pte(entry.load(Ordering::Relaxed));
            let new = if locked {
                old.with(PteFlags::LOCKED)
            } else {
                old.without(PteFlags::LOCKED)
            };
            // A software bit: no CPU caches it.
            entry.store(new.0, Ordering::Release);
            true
        });
    }

    /// Frees the page tables of the 2 MiB blocks that lie wholly in `[from, to)`, which was
    /// emptied. Those at its ends stay for the next mapping there: freeing a table costs
    /// every CPU its whole TLB. The caller holds the layout for writing.
    pub(super) fn free_tables(&self, from: u64, to: u64) {
        let first = from.next_multiple_of(HUGE_SIZE);
        let high = to & !(HUGE_SIZE - 1);
        let mut at = first;
        while at < high {
            let mut leaves = [PhysAddr(0); 16];
            let mut n = 0;
            let start = at;
            {
                let mut table = self.table.lock();
                while at < high && n < leaves.len() {
                    let Some(next) = table.next_leaf(at, high) else {
                        at = high;
                        break;
                    };
                    at = next;
                    if let Some(leaf) = table.detach_empty_leaf(at) {
                        leaves[n] = leaf;
                        n += 1;
                    }
                    at += HUGE_SIZE;
                }
            }
            if n > 0 {
                // CPUs cache the way to a table as well, and may walk it although they run no
                // program: all of them forget it.
                self.flush_tables(start, at);
                for leaf in &leaves[..n] {
                    // SAFETY: detached, and flushed on every CPU that has the space loaded.
                    unsafe { UserTables.free_table(*leaf) };
                }
            }
        }
    }
}
