//! What the policy knows of one thread: its class and nice level, its level in the queue, and
//! what is left of its quantum.

use core::cell::Cell;

use super::{Key, LEVELS, QUANTA_NS};

/// The shortest quantum a nice value leads to.
pub const MIN_QUANTUM_NS: u64 = 1_000_000;
/// Quantum of SCHED_RR (man 2 sched_rr_get_interval).
pub const RR_QUANTUM_NS: u64 = 100_000_000;
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

/// What became of a quantum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a used-up quantum sends the thread to the back of its queue"]
pub enum Quantum {
    /// Time is left.
    Left,
    /// It is used up; the thread may have sunk a level.
    UsedUp,
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
    /// It is put on the queue when that has been boosted `epoch` times.
    pub(super) fn queued_at(&self, epoch: u64) {
        self.epoch.set(epoch);
    }
    /// Makes the level say where boosts have moved it, `epoch` of them by now.
    pub(super) fn settle(&self, epoch: u64) {
        if self.epoch.get() != epoch {
            self.epoch.set(epoch);
            if self.key() >= 100 {
                self.level.set(0);
                self.used_ns.set(0);
            }
        }
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
