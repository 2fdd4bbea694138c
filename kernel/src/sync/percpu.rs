//! One value per CPU.

use super::preempt::PreemptGuard;
use crate::arch::{MAX_CPUS, cpu_id};

/// A value for each CPU the kernel may drive, initialised in place.
/// `T` carries its own protection (atomics, locks): another CPU may look at any entry.
pub struct PerCpu<T> {
    values: [T; MAX_CPUS],
}

impl<T> PerCpu<T> {
    /// One value per CPU from an array, for statics:
    /// `PerCpu::new([const { AtomicU64::new(0) }; MAX_CPUS])`.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        Self { values }
    }

    /// This CPU's value; the guard keeps the thread on the CPU.
    pub fn this<'a>(&'a self, _on_cpu: &'a PreemptGuard) -> &'a T {
        &self.values[cpu_id()]
    }

    /// CPU `cpu`'s value; `None` beyond [`MAX_CPUS`].
    pub fn of(&self, cpu: usize) -> Option<&T> {
        self.values.get(cpu)
    }

    /// All values, CPU 0 first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }
}
