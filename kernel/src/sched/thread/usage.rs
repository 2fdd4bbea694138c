//! What a thread used: its run time, the part of it in user mode, its context switches.

use core::sync::atomic::Ordering;

use super::{NO_CPU, Thread};

impl Thread {
    /// CPU time used so far: (user ns, system ns).
    pub fn cpu_time(&self) -> (u64, u64) {
        let total = self.runtime_ns();
        let user = u64::from(self.user_ticks.load(Ordering::Relaxed));
        let system = u64::from(self.system_ticks.load(Ordering::Relaxed));
        // The total is exact, its parts are sampled: split it as the samples are split.
        let system_ns = match user + system {
            0 => total,
            all => (u128::from(total) * u128::from(system) / u128::from(all)) as u64,
        };
        let mut reported = self.reported.lock();
        // Another report may have seen a later total.
        let total = total.max(reported.0 + reported.1);
        let system_ns = system_ns.clamp(reported.1, total - reported.0);
        *reported = (total - system_ns, system_ns);
        *reported
    }

    /// Run time in all, in nanoseconds.
    pub fn runtime_ns(&self) -> u64 {
        #[cfg(target_os = "none")]
        crate::sched::runqueue::requeue::charge_if_running(self);
        self.runtime_ns.load(Ordering::Relaxed)
    }

    /// Context switches: (voluntary, involuntary).
    pub fn switches(&self) -> (u64, u64) {
        (
            self.voluntary_switches.load(Ordering::Relaxed),
            self.involuntary_switches.load(Ordering::Relaxed),
        )
    }

    /// The CPU it runs on or last ran on.
    pub fn last_cpu(&self) -> usize {
        match self.cpu.load(Ordering::Relaxed) {
            NO_CPU => 0,
            cpu => cpu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_of_cpu_time_never_goes_back() {
        let t = Thread::blank("t".into(), None, None);
        t.runtime_ns.store(1000, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (0, 1000));
        t.user_ticks.store(9, Ordering::Relaxed);
        t.system_ticks.store(1, Ordering::Relaxed);
        t.runtime_ns.store(20_000, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (18_000, 2000));
        t.user_ticks.store(99, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (18_000, 2000));
        // The share of system time grows: user time stays, it does not shrink.
        t.system_ticks.store(10_000, Ordering::Relaxed);
        t.runtime_ns.store(21_000, Ordering::Relaxed);
        assert_eq!(t.cpu_time(), (18_000, 3000));
    }
}
