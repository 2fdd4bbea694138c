//! How urgent a thread is and where it may run: nice level, policy, affinity (man 7 sched).
//! What follows from them is decided by [`crate::sched::mlfq`].

use core::sync::atomic::Ordering;

use super::Thread;
use crate::arch::CpuMask;
use crate::error::{Errno, Result};
use crate::sched::mlfq::Class;

pub(in crate::sched) fn pack_class(class: Class) -> u32 {
    match class {
        Class::Normal => 0,
        Class::Batch => 1,
        Class::Idle => 2,
        Class::Fifo(p) => 0x100 | u32::from(p),
        Class::RoundRobin(p) => 0x200 | u32::from(p),
    }
}

fn unpack_class(packed: u32) -> Class {
    match (packed >> 8, packed as u8) {
        (1, p) => Class::Fifo(p),
        (2, p) => Class::RoundRobin(p),
        (_, 1) => Class::Batch,
        (_, 2) => Class::Idle,
        _ => Class::Normal,
    }
}

/// The class of a thread that is lent real-time priority `lent`, 0 for none.
fn at_least(own: Class, lent: u8) -> Class {
    match own {
        Class::Fifo(p) | Class::RoundRobin(p) if p >= lent => own,
        _ if lent == 0 => own,
        Class::RoundRobin(_) => Class::RoundRobin(lent),
        _ => Class::Fifo(lent),
    }
}

impl Thread {
    /// Takes over affinity, nice level and policy of the thread that makes this one (man 7
    /// sched, "Resetting the scheduling policy for child processes").
    pub(in crate::sched) fn inherit_scheduling(&self, parent: &Thread) {
        let (mut nice, mut class) = (parent.nice(), parent.class());
        if parent.resets_on_fork() {
            nice = nice.max(0);
            if matches!(class, Class::Fifo(_) | Class::RoundRobin(_)) {
                class = Class::Normal;
            }
        }
        self.affinity.store(parent.affinity(), Ordering::Relaxed);
        self.nice.store(nice, Ordering::Relaxed);
        self.class.store(pack_class(class), Ordering::Relaxed);
        self.apply_policy();
    }

    /// Nice level, -20 to 19.
    pub fn nice(&self) -> i8 {
        self.nice.load(Ordering::Relaxed)
    }

    /// Sets the nice level; clamped.
    pub fn set_nice(&self, nice: i8) {
        self.nice.store(nice.clamp(-20, 19), Ordering::Relaxed);
        self.update_policy();
    }

    /// Scheduling policy and real-time priority.
    pub fn class(&self) -> Class {
        unpack_class(self.class.load(Ordering::Relaxed))
    }

    /// Sets the scheduling policy. Real-time priorities are 1 to 99.
    pub fn set_class(&self, class: Class) {
        self.class.store(pack_class(class), Ordering::Relaxed);
        self.update_policy();
    }

    /// A thread of real-time priority `urgency` waits for this one: until
    /// [`Thread::end_loan`] it runs as urgently, if it is not more so by itself.
    pub fn lend(&self, urgency: u8) {
        if self.lent.fetch_max(urgency, Ordering::Relaxed) < urgency {
            self.update_policy();
        }
    }

    /// Ends what [`Thread::lend`] began.
    pub fn end_loan(&self) {
        if self.lent.swap(0, Ordering::Relaxed) != 0 {
            self.update_policy();
        }
    }

    /// Whether children start with the default policy.
    pub fn resets_on_fork(&self) -> bool {
        self.resets_on_fork.load(Ordering::Relaxed)
    }

    /// See [`Thread::resets_on_fork`].
    pub fn set_resets_on_fork(&self, on: bool) {
        self.resets_on_fork.store(on, Ordering::Relaxed);
    }

    fn update_policy(&self) {
        #[cfg(target_os = "none")]
        crate::sched::runqueue::requeue::update_policy(self);
        #[cfg(not(target_os = "none"))]
        self.apply_policy();
    }

    /// Copies nice level and class into the entity, under the lock that guards it.
    pub(in crate::sched) fn apply_policy(&self) {
        self.entity.set_nice(self.nice());
        let class = at_least(self.class(), self.lent.load(Ordering::Relaxed));
        if self.entity.class() != class {
            self.entity.set_class(class);
        }
    }

    /// CPUs the thread may run on.
    pub fn affinity(&self) -> CpuMask {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Restricts the thread to these CPUs; moves it when it runs elsewhere. EINVAL if none runs.
    pub fn set_affinity(&self, mask: CpuMask) -> Result<()> {
        if mask & crate::arch::ipi::online() == 0 {
            return Err(Errno::EINVAL);
        }
        self.affinity.store(mask, Ordering::SeqCst);
        #[cfg(target_os = "none")]
        crate::sched::runqueue::requeue::move_to_allowed(self);
        Ok(())
    }

    /// Whether `cpu` is one it may run on.
    pub(in crate::sched) fn may_run_on(&self, cpu: usize) -> bool {
        self.affinity() & 1 << cpu != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_priority_only_raises() {
        assert_eq!(at_least(Class::Normal, 0), Class::Normal);
        assert_eq!(at_least(Class::Idle, 5), Class::Fifo(5));
        assert_eq!(at_least(Class::Fifo(9), 5), Class::Fifo(9));
        assert_eq!(at_least(Class::RoundRobin(3), 5), Class::RoundRobin(5));
    }

    #[test]
    fn classes_survive_packing() {
        for class in [
            Class::Normal,
            Class::Batch,
            Class::Idle,
            Class::Fifo(1),
            Class::Fifo(99),
            Class::RoundRobin(50),
        ] {
            assert_eq!(unpack_class(pack_class(class)), class);
        }
    }
}
