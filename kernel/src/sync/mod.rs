//! Locks that spin, and per-CPU data.
//!
//! Lock order: a thread takes spin locks in rising [`Rank`]; debug builds panic on an
//! inversion. Nothing sleeps or touches user memory while it holds one. Locks that sleep are
//! in [`crate::sched`].

pub mod percpu;
pub mod preempt;
pub mod spin;

pub use percpu::PerCpu;
pub use preempt::{PreemptGuard, preempt_disable};
pub use spin::{IrqLock, IrqLockGuard, Rank, SpinLock, SpinLockGuard};
