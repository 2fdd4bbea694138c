//! The scheduling policy: a multi-level feedback queue, with real-time priorities above it.
//!
//! A pure type: it knows no CPU, no clock and no lock; the run queue around it supplies the
//! time and holds the lock. Rules:
//!
//! 1. A thread of a better level runs before one of a worse level; equals take turns.
//! 2. A new thread starts at the best level (a positive nice value starts lower).
//! 3. Whoever has used up its level's quantum, in one go or in pieces, sinks a level.
//! 4. Sleeping earns credit: a thread that waits more than it computes climbs again.
//! 5. Every [`BOOST_INTERVAL_NS`] all waiting threads return to the best level, so that
//!    nobody starves.
//!
//! The nice value scales the quantum by 1.25 per step (man 7 sched), which is the share of
//! the CPU among threads of one level. SCHED_FIFO and SCHED_RR threads run before all others,
//! in the order of their priority.

mod entity;
#[cfg(test)]
mod tests;

pub use entity::{Class, Entity, Quantum, RR_QUANTUM_NS, SHORT_BURST_NS, usual_burst};

use core::ptr::NonNull;

use crate::sched::list::{Linked, List};

/// Levels of the feedback queue.
pub const LEVELS: usize = 3;
/// Length of a tick.
pub const TICK_NS: u64 = 10_000_000;
/// Quantum of each level at nice 0: 1, 2 and 4 ticks.
pub const QUANTA_NS: [u64; LEVELS] = [TICK_NS, 2 * TICK_NS, 4 * TICK_NS];
/// How often waiting threads are lifted to the best level.
pub const BOOST_INTERVAL_NS: u64 = 1_000_000_000;

/// Urgency: smaller runs first. Real-time 0..=98, levels from 100 on.
pub type Key = u8;

/// The key of the idle thread.
pub const IDLE_KEY: Key = u8::MAX;

/// Where a thread joins the queue of its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its turn was interrupted.
    Front,
    /// Its turn is over, or it is new.
    Back,
}

/// What a member of an [`Mlfq`] must show.
pub trait Schedulable: Linked {
    /// Its policy state.
    fn entity(&self) -> &Entity;
}

/// The waiting threads of one CPU; the running one is not on it.
pub struct Mlfq<T: Schedulable> {
    levels: [List<T>; LEVELS],
    /// Real-time threads, most urgent first.
    realtime: List<T>,
    epoch: u64,
    last_boost_ns: u64,
}

impl<T: Schedulable> Mlfq<T> {
    /// No thread waits.
    pub const fn new() -> Self {
        Self {
            levels: [const { List::new() }; LEVELS],
            realtime: List::new(),
            epoch: 0,
            last_boost_ns: 0,
        }
    }
    /// How many wait.
    pub fn len(&self) -> usize {
        self.realtime.len() + self.levels.iter().map(List::len).sum::<usize>()
    }
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Urgency of the thread that would be picked next.
    pub fn best_key(&self) -> Option<Key> {
        if let Some(first) = self.realtime.front() {
            // SAFETY: members are alive.
            return Some(unsafe { first.as_ref() }.entity().key());
        }
        let level = self.levels.iter().position(|l| !l.is_empty())?;
        Some(100 + level as Key)
    }

    /// Adds a thread.
    ///
    /// # Safety
    /// As [`List::push_back`].
    pub unsafe fn enqueue(&mut self, t: NonNull<T>, place: Place) {
        // SAFETY: alive (contract).
        let e = unsafe { t.as_ref() }.entity();
        e.queued_at(self.epoch);
        let key = e.key();
        if key < 100 {
            let at = self.realtime.iter().find(|m| {
                // SAFETY: members are alive.
                let other = unsafe { m.as_ref() }.entity().key();
                other > key || (other == key && place == Place::Front)
            });
            match at {
                // SAFETY: contract; `at` is a member.
                Some(at) => unsafe { self.realtime.insert_before(at, t) },
                // SAFETY: contract.
                None => unsafe { self.realtime.push_back(t) },
            }
            return;
        }
        let list = &mut self.levels[usize::from(key - 100).min(LEVELS - 1)];
        match place {
            // SAFETY: contract.
            Place::Front => unsafe { list.push_front(t) },
            // SAFETY: contract.
            Place::Back => unsafe { list.push_back(t) },
        }
    }

    /// Takes a waiting thread off.
    ///
    /// # Safety
    /// `t` is on this queue.
    pub unsafe fn remove(&mut self, t: NonNull<T>) {
        // SAFETY: alive while on the queue.
        let e = unsafe { t.as_ref() }.entity();
        e.settle(self.epoch);
        let key = e.key();
        let list = if key < 100 {
            &mut self.realtime
        } else {
            &mut self.levels[usize::from(key - 100).min(LEVELS - 1)]
        };
        // SAFETY: `settle` made the key name the list the thread is on.
        unsafe { list.remove(t) };
    }

    /// Takes off the thread that runs next.
    pub fn pick(&mut self, now_ns: u64) -> Option<NonNull<T>> {
        self.boost_if_due(now_ns);
        let list = if self.realtime.is_empty() {
            self.levels.iter_mut().find(|l| !l.is_empty())?
        } else {
            &mut self.realtime
        };
        let t = list.pop_front()?;
        // SAFETY: was a member, so alive.
        unsafe { t.as_ref() }.entity().settle(self.epoch);
        Some(t)
    }

    /// Takes off the first thread, best levels first, that `allowed` accepts.
    pub fn steal(&mut self, allowed: impl Fn(&T) -> bool) -> Option<NonNull<T>> {
        let t = core::iter::once(&self.realtime)
            .chain(&self.levels)
            .flat_map(List::iter)
            // SAFETY: members are alive.
            .find(|t| allowed(unsafe { t.as_ref() }))?;
        // SAFETY: found on this queue.
        unsafe { self.remove(t) };
        Some(t)
    }

    fn boost_if_due(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.last_boost_ns) < BOOST_INTERVAL_NS {
            return;
        }
        self.last_boost_ns = now_ns;
        let (best, rest) = self.levels.split_at_mut(1);
        if rest.iter().all(List::is_empty) {
            return;
        }
        self.epoch += 1;
        // Those who waited at the best level keep their place and their used time: only
        // their epoch is behind, which `settle` repairs.
        for list in rest {
            best[0].append(list);
        }
    }
}

impl<T: Schedulable> Default for Mlfq<T> {
    fn default() -> Self {
        Self::new()
    }
}
