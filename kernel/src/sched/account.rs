//! CPU time per CPU, and load averages.
//!
//! Idle time is exact (from switch times). The busy rest is split by samples: each tick says
//! what it interrupted, for the thread and for its CPU (as man 5 proc, /proc/stat expects).

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::arch::MAX_CPUS;

/// How one CPU spent its time, in nanoseconds (man 5 proc, /proc/stat).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// User mode at nice 0 or better.
    pub user_ns: u64,
    /// User mode at a positive nice value.
    pub nice_ns: u64,
    /// Kernel mode.
    pub system_ns: u64,
    /// Nothing to run.
    pub idle_ns: u64,
}

struct Counters {
    user: AtomicU64,
    nice: AtomicU64,
    system: AtomicU64,
    /// Exact.
    idle_ns: AtomicU64,
    busy_ns: AtomicU64,
    /// When the CPU last went idle or back.
    since_ns: AtomicU64,
}

static COUNTERS: [Counters; MAX_CPUS] = [const {
    Counters {
        user: AtomicU64::new(0),
        nice: AtomicU64::new(0),
        system: AtomicU64::new(0),
        idle_ns: AtomicU64::new(0),
        busy_ns: AtomicU64::new(0),
        since_ns: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// Splits exact busy time by sampled ticks.
fn split(busy_ns: u64, user: u64, nice: u64, system: u64) -> (u64, u64, u64) {
    let all = user + nice + system;
    if all == 0 {
        return (0, 0, busy_ns);
    }
    let part = |n: u64| (u128::from(busy_ns) * u128::from(n) / u128::from(all)) as u64;
    let (user, nice) = (part(user), part(nice));
    (user, nice, busy_ns - user - nice)
}

/// Threads in uninterruptible sleep: they count as load.
static UNINTERRUPTIBLE: AtomicI64 = AtomicI64::new(0);

#[cfg(target_os = "none")]
pub(super) fn uninterruptible_sleep_begins() {
    UNINTERRUPTIBLE.fetch_add(1, Ordering::Relaxed);
}

#[cfg(target_os = "none")]
pub(super) fn uninterruptible_sleep_ends() {
    UNINTERRUPTIBLE.fetch_sub(1, Ordering::Relaxed);
}

/// CPU `cpu` leaves `prev` at `now`. Its run queue's lock is held.
#[cfg(target_os = "none")]
pub(super) fn switched(cpu: usize, prev: &super::Thread, now: u64) {
    let c = &COUNTERS[cpu];
    let spent = now.saturating_sub(c.since_ns.swap(now, Ordering::Relaxed));
    if prev.is_idle {
        c.idle_ns.fetch_add(spent, Ordering::Relaxed);
    } else {
        c.busy_ns.fetch_add(spent, Ordering::Relaxed);
    }
}

/// A tick met `current` on CPU `cpu`. Its run queue's lock is held.
#[cfg(target_os = "none")]
pub(super) fn sample(cpu: usize, current: &super::Thread, from_user: bool) {
    let c = &COUNTERS[cpu];
    if from_user {
        current.user_ticks.fetch_add(1, Ordering::Relaxed);
        if current.nice() > 0 { &c.nice } else { &c.user }.fetch_add(1, Ordering::Relaxed);
    } else {
        current.system_ticks.fetch_add(1, Ordering::Relaxed);
        c.system.fetch_add(1, Ordering::Relaxed);
    }
}

/// How CPU `cpu` spent its time; `None` beyond the last CPU.
pub fn cpu_times(cpu: usize) -> Option<CpuTimes> {
    if cpu >= crate::arch::nr_cpus() {
        return None;
    }
    let c = COUNTERS.get(cpu)?;
    #[cfg_attr(not(target_os = "none"), expect(unused_mut, reason = "nothing runs"))]
    let (mut idle_ns, mut busy_ns) = (
        c.idle_ns.load(Ordering::Relaxed),
        c.busy_ns.load(Ordering::Relaxed),
    );
    #[cfg(target_os = "none")]
    {
        let running = crate::time::now_ns().saturating_sub(c.since_ns.load(Ordering::Relaxed));
        if super::runqueue::runs_idle(cpu) {
            idle_ns += running;
        } else {
            busy_ns += running;
        }
    }
    let (user_ns, nice_ns, system_ns) = split(
        busy_ns,
        c.user.load(Ordering::Relaxed),
        c.nice.load(Ordering::Relaxed),
        c.system.load(Ordering::Relaxed),
    );
    Some(CpuTimes {
        user_ns,
        nice_ns,
        system_ns,
        idle_ns,
    })
}

/// Context switches on all CPUs since boot.
pub fn context_switches() -> u64 {
    #[cfg(target_os = "none")]
    {
        (0..crate::arch::nr_cpus())
            .map(super::runqueue::nr_switches)
            .sum()
    }
    #[cfg(not(target_os = "none"))]
    0
}

/// Threads that run or wait to run now.
pub fn nr_running() -> usize {
    #[cfg(target_os = "none")]
    {
        super::runqueue::nr_runnable()
    }
    #[cfg(not(target_os = "none"))]
    0
}

/// Threads in uninterruptible sleep now.
pub fn nr_uninterruptible() -> usize {
    UNINTERRUPTIBLE.load(Ordering::Relaxed).max(0) as usize
}

/// Fraction bits of load averages (as in man 2 sysinfo after its own shift).
pub const LOAD_SHIFT: u32 = 16;
/// How often load is sampled.
pub const LOAD_INTERVAL_NS: u64 = 5 * crate::time::NS_PER_SEC;
/// e^(-5/60), e^(-5/300), e^(-5/900) with [`LOAD_SHIFT`] fraction bits.
const DECAY: [u64; 3] = [60_296, 64_453, 65_173];

static LOAD: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Moves an average towards `active` threads by one interval.
fn decayed(load: u64, decay: u64, active: u64) -> u64 {
    let one = 1u64 << LOAD_SHIFT;
    let target = active << LOAD_SHIFT;
    let sum = load * decay + target * (one - decay);
    // Rounds towards the target, so that the average arrives there.
    if target >= load {
        (sum + one - 1) >> LOAD_SHIFT
    } else {
        sum >> LOAD_SHIFT
    }
}

/// Load averages over 1, 5 and 15 minutes, with [`LOAD_SHIFT`] fraction bits.
pub fn load_averages() -> [u64; 3] {
    [0, 1, 2].map(|i| LOAD[i].load(Ordering::Relaxed))
}

/// Takes one sample; the sampling timer is the only caller.
pub(super) fn sample_load() {
    let active = (nr_running() + nr_uninterruptible()) as u64;
    for (load, decay) in LOAD.iter().zip(DECAY) {
        let old = load.load(Ordering::Relaxed);
        load.store(decayed(old, decay, active), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_follows_the_number_of_threads() {
        let (mut fast, mut slow) = (0, 0);
        for _ in 0..12 {
            fast = decayed(fast, DECAY[0], 2);
            slow = decayed(slow, DECAY[2], 2);
        }
        // After one minute at load 2: 1 - 1/e of it, and 1 - e^(-1/15).
        let two = 2u64 << LOAD_SHIFT;
        assert!(fast.abs_diff(two * 632 / 1000) < 200, "{fast}");
        assert!(slow.abs_diff(two * 64 / 1000) < 200, "{slow}");
        for _ in 0..2000 {
            fast = decayed(fast, DECAY[0], 2);
        }
        assert_eq!(fast, two);
        for _ in 0..2000 {
            fast = decayed(fast, DECAY[0], 0);
        }
        assert_eq!(fast, 0);
    }

    #[test]
    fn busy_time_splits_without_loss() {
        assert_eq!(split(1000, 0, 0, 0), (0, 0, 1000));
        let (u, n, s) = split(1_000_003, 1, 1, 1);
        assert_eq!(u + n + s, 1_000_003);
        assert_eq!(u, n);
    }
}
