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

use core::cell::Cell;
use core::ptr::NonNull;

use super::list::{Linked, List};

/// Levels of the feedback queue.
pub const LEVELS: usize = 3;
/// Length of a tick.
pub const TICK_NS: u64 = 10_000_000;
/// Quantum of each level at nice 0: 1, 2 and 4 ticks.
pub const QUANTA_NS: [u64; LEVELS] = [TICK_NS, 2 * TICK_NS, 4 * TICK_NS];
/// The shortest quantum a nice value leads to.
pub const MIN_QUANTUM_NS: u64 = 1_000_000;
/// Quantum of SCHED_RR (man 2 sched_rr_get_interval).
pub const RR_QUANTUM_NS: u64 = 100_000_000;
/// How often waiting threads are lifted to the best level.
pub const BOOST_INTERVAL_NS: u64 = 1_000_000_000;
/// How much run time a nanosecond of sleep pays back.
const SLEEP_CREDIT: u64 = 4;

/// Scheduling policies (man 7 sched).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// SCHED_OTHER: the feedback queue.
    Normal,
    /// SCHED_BATCH: as normal, without credit for sleeping.
    Batch,
    /// SCHED_IDLE: the worst level, with the smallest share.
    Idle,
    /// SCHED_FIFO with a priority of 1 to 99.
    Fifo(u8),
    /// SCHED_RR with a priority of 1 to 99.
    RoundRobin(u8),
}

/// What the policy remembers of a thread. Guarded by the lock of the run queue the thread is
/// on or runs on.
pub struct Entity {
    class: Cell<Class>,
    nice: Cell<i8>,
    level: Cell<u8>,
    /// Run time used of the level's quantum; below 0 while sleep has paid back more.
    used_ns: Cell<i64>,
    /// The queue's boost count when the entity was put on it.
    epoch: Cell<u64>,
}

/// Urgency: smaller runs first. Real-time 0..=98, levels from 100 on.
pub type Key = u8;
/// The key of the idle thread.
pub const IDLE_KEY: Key = u8::MAX;

/// What became of a quantum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a used-up quantum sends the thread to the back of its queue"]
pub enum Quantum {
    /// Time is left.
    Left,
    /// It is used up; the thread may have sunk a level.
    UsedUp,
}

/// Where a thread joins the queue of its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its turn was interrupted.
    Front,
    /// Its turn is over, or it is new.
    Back,
}

/// 1.25^-nice in 1/1024 units.
const WEIGHTS: [u64; 40] = {
    let mut table = [1024u64; 40];
    // In units of 2^-20 of the result to keep rounding away.
    let mut up = 1024u64 << 20;
    let mut down = 1024u64 << 20;
    let mut i = 1;
    while i <= 20 {
        up = up / 4 * 5;
        down = down / 5 * 4;
        table[20 - i] = up >> 20;
        if i < 20 {
            table[20 + i] = down >> 20;
        }
        i += 1;
    }
    table
};

impl Entity {
    /// A new thread's.
    pub fn new(nice: i8) -> Self {
        let e = Self {
            class: Cell::new(Class::Normal),
            nice: Cell::new(0),
            level: Cell::new(0),
            used_ns: Cell::new(0),
            epoch: Cell::new(0),
        };
        e.set_nice(nice);
        e.level.set(e.best_level());
        e
    }
    /// Sets the nice value, clamped to -20..=19.
    pub fn set_nice(&self, nice: i8) {
        self.nice.set(nice.clamp(-20, 19));
    }
    /// The nice value.
    pub fn nice(&self) -> i8 {
        self.nice.get()
    }
    /// Sets the policy; the thread starts its level afresh.
    pub fn set_class(&self, class: Class) {
        self.class.set(class);
        self.used_ns.set(0);
        self.level.set(self.best_level());
    }
    /// The policy.
    pub fn class(&self) -> Class {
        self.class.get()
    }
    fn best_level(&self) -> u8 {
        match self.class.get() {
            Class::Idle => LEVELS as u8 - 1,
            _ if self.nice.get() >= 10 => LEVELS as u8 - 1,
            _ if self.nice.get() > 0 => 1,
            _ => 0,
        }
    }
    /// Urgency as it stands (for an entity that is on no queue).
    pub fn key(&self) -> Key {
        match self.class.get() {
            Class::Fifo(p) | Class::RoundRobin(p) => 99 - p.clamp(1, 99),
            _ => 100 + self.level.get(),
        }
    }
    /// Length of the present quantum; `None` when it never ends (SCHED_FIFO).
    pub fn quantum_ns(&self) -> Option<u64> {
        let nice = match self.class.get() {
            Class::Fifo(_) => return None,
            Class::RoundRobin(_) => return Some(RR_QUANTUM_NS),
            Class::Idle => 19,
            Class::Normal | Class::Batch => self.nice.get(),
        };
        let weight = WEIGHTS[(i32::from(nice) + 20) as usize];
        let base = QUANTA_NS[usize::from(self.level.get()).min(LEVELS - 1)];
        Some((base * weight / 1024).max(MIN_QUANTUM_NS))
    }
    /// What is left of the quantum; `None` when it never ends.
    pub fn remaining_ns(&self) -> Option<u64> {
        Some(
            self.quantum_ns()?
                .saturating_add_signed(-self.used_ns.get()),
        )
    }
    /// The thread ran for `ran_ns`.
    pub fn charge(&self, ran_ns: u64) -> Quantum {
        let Some(quantum) = self.quantum_ns() else {
            return Quantum::Left;
        };
        let used = self.used_ns.get().saturating_add_unsigned(ran_ns);
        if used < quantum as i64 {
            self.used_ns.set(used);
            return Quantum::Left;
        }
        self.used_ns.set(0);
        if !matches!(self.class.get(), Class::RoundRobin(_)) {
            self.level.set((self.level.get() + 1).min(LEVELS as u8 - 1));
        }
        Quantum::UsedUp
    }
    /// The thread wakes after `slept_ns`: sleeping pays back what it used. Whoever has saved
    /// up the quantum of the level above climbs there.
    pub fn woken(&self, slept_ns: u64) {
        if self.class.get() != Class::Normal {
            return;
        }
        let credit = slept_ns.saturating_mul(SLEEP_CREDIT);
        let mut used = self.used_ns.get().saturating_sub_unsigned(credit);
        while self.level.get() > self.best_level() {
            let here = self.level.get();
            self.level.set(here - 1);
            let above = self.quantum_ns().unwrap_or(0) as i64;
            if used > -above {
                self.level.set(here);
                self.used_ns.set(used);
                return;
            }
            used += above;
        }
        self.level.set(self.best_level());
        // Credit is for climbing; at the top a quantum is a quantum.
        self.used_ns.set(used.max(0));
    }
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
        e.epoch.set(self.epoch);
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
        self.settle(e);
        let key = e.key();
        let list = if key < 100 {
            &mut self.realtime
        } else {
            &mut self.levels[usize::from(key - 100).min(LEVELS - 1)]
        };
        // SAFETY: `settle` made the key name the list the thread is on.
        unsafe { list.remove(t) };
    }

    /// Makes an entity's level say where a boost has moved it.
    fn settle(&self, e: &Entity) {
        if e.epoch.get() != self.epoch {
            e.epoch.set(self.epoch);
            if e.key() >= 100 {
                e.level.set(0);
                e.used_ns.set(0);
            }
        }
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
        self.settle(unsafe { t.as_ref() }.entity());
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

/// Threads that run for less than this between sleeps take turns better on one CPU: waking
/// another CPU takes as long.
pub const SHORT_BURST_NS: u64 = 200_000;

/// What a thread usually runs between two sleeps, after it ran for `burst`. Follows habits, not
/// single long bursts: to the guest a virtual CPU that the host gave to others looks as if
/// its thread had run all that time.
pub fn usual_burst(usual: u64, burst: u64) -> u64 {
    if usual == 0 {
        // Starting up is no habit either.
        burst.min(SHORT_BURST_NS)
    } else if burst < usual {
        usual.midpoint(burst)
    } else {
        let most = usual.saturating_mul(2).saturating_add(SHORT_BURST_NS / 4);
        usual - usual / 4 + burst.min(most) / 4
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::Links;
    use super::*;

    struct Sim {
        id: usize,
        e: Entity,
        links: Links<Sim>,
    }
    // SAFETY: one field, always the same.
    unsafe impl Linked for Sim {
        fn links(&self) -> &Links<Sim> {
            &self.links
        }
    }
    impl Schedulable for Sim {
        fn entity(&self) -> &Entity {
            &self.e
        }
    }
    #[allow(clippy::vec_box)] // Queues link the entities: they must not move.
    fn sims(nices: &[i8]) -> Vec<Box<Sim>> {
        nices
            .iter()
            .enumerate()
            .map(|(id, &n)| {
                Box::new(Sim {
                    id,
                    e: Entity::new(n),
                    links: Links::new(),
                })
            })
            .collect()
    }
    fn put(q: &mut Mlfq<Sim>, s: &Sim, place: Place) {
        // SAFETY: the tests keep their threads alive and on one queue at a time.
        unsafe { q.enqueue(NonNull::from(s), place) };
    }
    fn get(q: &mut Mlfq<Sim>, now: u64) -> usize {
        // SAFETY: as above.
        unsafe { q.pick(now).unwrap().as_ref() }.id
    }

    /// Runs CPU hogs for `total` ns; returns each one's run time.
    fn run_hogs(nices: &[i8], total: u64) -> Vec<u64> {
        let sims = sims(nices);
        let mut q = Mlfq::new();
        let mut ran = vec![0; nices.len()];
        for s in &sims {
            put(&mut q, s, Place::Back);
        }
        let mut now = 0;
        while now < total {
            let id = get(&mut q, now);
            let slice = sims[id].e.remaining_ns().unwrap();
            now += slice;
            ran[id] += slice;
            assert_eq!(sims[id].e.charge(slice), Quantum::UsedUp);
            put(&mut q, &sims[id], Place::Back);
        }
        ran
    }

    #[test]
    fn equal_hogs_share_equally() {
        let ran = run_hogs(&[0, 0, 0], 30_000_000_000);
        for r in &ran {
            assert!(r.abs_diff(10_000_000_000) < 200_000_000, "{ran:?}");
        }
    }

    #[test]
    fn nicer_hogs_get_less_but_never_nothing() {
        let ran = run_hogs(&[0, 5, 19], 60_000_000_000);
        assert!(ran[0] > 2 * ran[1], "{ran:?}");
        assert!(ran[1] > 3 * ran[2], "{ran:?}");
        assert!(ran[2] > 100_000_000, "{ran:?}");
    }

    #[test]
    fn hog_sinks_and_newcomer_preempts() {
        let sims = sims(&[0, 0]);
        let e = &sims[0].e;
        assert_eq!(e.quantum_ns(), Some(10_000_000));
        assert_eq!(e.charge(9_999_999), Quantum::Left);
        // Pieces add up: giving up the CPU early does not reset the quantum.
        assert_eq!(e.charge(1), Quantum::UsedUp);
        assert_eq!(e.quantum_ns(), Some(20_000_000));
        assert_eq!(e.charge(20_000_000), Quantum::UsedUp);
        assert_eq!(e.charge(40_000_000), Quantum::UsedUp);
        assert_eq!(e.quantum_ns(), Some(40_000_000));
        assert!(sims[1].e.key() < e.key());
        let mut q = Mlfq::new();
        put(&mut q, &sims[0], Place::Back);
        put(&mut q, &sims[1], Place::Back);
        assert_eq!(q.best_key(), Some(100));
        assert_eq!(get(&mut q, 0), 1);
    }

    #[test]
    fn sleepers_climb_hogs_with_short_naps_do_not() {
        let sims = sims(&[0, 0, 0]);
        for s in &sims[..2] {
            let _ = s.e.charge(10_000_000);
            let _ = s.e.charge(20_000_000);
            assert_eq!(s.e.key(), 102);
        }
        // An interactive thread: 1 ms of work per 20 ms of waiting.
        for _ in 0..3 {
            let _ = sims[0].e.charge(1_000_000);
            sims[0].e.woken(20_000_000);
        }
        assert_eq!(sims[0].e.key(), 100);
        // Many short sleeps count as much as one long one.
        let e = &sims[2].e;
        let _ = e.charge(10_000_000);
        let _ = e.charge(20_000_000);
        for _ in 0..20 {
            let _ = e.charge(100_000);
            e.woken(1_000_000);
        }
        assert_eq!(e.key(), 100);
        // A hog that naps 10 us per 5 ms stays down.
        for _ in 0..100 {
            let _ = sims[1].e.charge(5_000_000);
            sims[1].e.woken(10_000);
        }
        assert_eq!(sims[1].e.key(), 102);
    }

    #[test]
    fn boost_ends_starvation() {
        let sims = sims(&[0, 0]);
        let mut q = Mlfq::new();
        let _ = sims[0].e.charge(10_000_000);
        let _ = sims[0].e.charge(20_000_000);
        put(&mut q, &sims[0], Place::Back);
        let mut now = 0;
        let mut starved_for = 0;
        // Thread 1 always comes back at the best level (it sleeps a lot on paper).
        loop {
            put(&mut q, &sims[1], Place::Back);
            if get(&mut q, now) == 0 {
                break;
            }
            now += 5_000_000;
            starved_for += 5_000_000;
            let _ = sims[1].e.charge(5_000_000);
            sims[1].e.woken(1_000_000_000);
        }
        assert!(starved_for <= BOOST_INTERVAL_NS + 10_000_000);
        assert_eq!(sims[0].e.key(), 100);
    }

    #[test]
    fn boosted_threads_can_be_removed_and_stolen() {
        let sims = sims(&[0, 0, 0]);
        let mut q = Mlfq::new();
        for s in &sims {
            let _ = s.e.charge(10_000_000);
            put(&mut q, s, Place::Back);
        }
        assert_eq!(get(&mut q, BOOST_INTERVAL_NS), 0);
        // SAFETY: thread 2 is on the queue.
        unsafe { q.remove(NonNull::from(&*sims[2])) };
        assert!(q.steal(|s| s.id == 2).is_none());
        assert!(q.steal(|s| s.id == 1).is_some());
        assert!(q.is_empty());
        assert_eq!(sims[1].e.key(), 100);
    }

    #[test]
    fn realtime_runs_first_by_priority() {
        let sims = sims(&[-20, 0, 0, 0]);
        sims[1].e.set_class(Class::Fifo(10));
        sims[2].e.set_class(Class::RoundRobin(50));
        sims[3].e.set_class(Class::RoundRobin(50));
        let mut q = Mlfq::new();
        for s in &sims {
            put(&mut q, s, Place::Back);
        }
        assert_eq!(get(&mut q, 0), 2);
        put(&mut q, &sims[2], Place::Back);
        assert_eq!(get(&mut q, 0), 3);
        put(&mut q, &sims[3], Place::Front);
        assert_eq!(get(&mut q, 0), 3);
        assert_eq!(get(&mut q, 0), 2);
        assert_eq!(get(&mut q, 0), 1);
        assert_eq!(sims[1].e.charge(u64::MAX), Quantum::Left);
        assert_eq!(get(&mut q, 0), 0);
    }

    #[test]
    fn positive_nice_never_reaches_the_best_level_by_sleeping() {
        let e = Entity::new(5);
        e.woken(u64::MAX);
        assert_eq!(e.key(), 101);
        let e = Entity::new(15);
        e.woken(u64::MAX);
        assert_eq!(e.key(), 102);
    }

    #[test]
    fn one_long_burst_is_no_habit_but_several_are() {
        let short = |usual: u64| usual < SHORT_BURST_NS;
        let mut usual = usual_burst(0, 20_000);
        assert_eq!(usual, 20_000);
        assert!(short(usual_burst(usual_burst(0, 8_000_000), 20_000)));
        usual = usual_burst(usual, 8_000_000);
        assert!(short(usual));
        for _ in 0..8 {
            usual = usual_burst(usual, 8_000_000);
        }
        assert!(!short(usual));
        for _ in 0..8 {
            usual = usual_burst(usual, 20_000);
        }
        assert!(short(usual));
    }
}
