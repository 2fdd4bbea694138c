//! x86_64: CPUs, interrupts, paging bits, entry from user mode.

pub mod acpi;
#[cfg(target_os = "none")]
pub mod apic;
#[cfg(target_os = "none")]
pub mod calibrate;
pub mod clock;
pub mod context;
pub mod cpu;
#[cfg(target_os = "none")]
pub mod descriptor;
#[cfg(target_os = "none")]
pub mod early_serial;
#[cfg(target_os = "none")]
pub mod entry;
pub mod features;
pub mod fpu;
pub mod interrupts;
#[cfg(target_os = "none")]
pub mod ioapic;
pub mod ipi;
pub mod irq;
#[cfg(target_os = "none")]
mod mem;
pub mod percpu;
#[cfg(target_os = "none")]
pub mod protect;
pub mod recovery;
#[cfg(target_os = "none")]
pub mod regs;
#[cfg(target_os = "none")]
pub mod reset;
#[cfg(target_os = "none")]
pub mod smp;
pub mod tlb;
pub mod trap_frame;
pub mod user_copy;
pub mod user_fpu;
pub mod vdso;

pub use cpu::{cpu_id, nr_cpus, tsc};
pub use irq::{IrqState, irq_restore, irq_save, irqs_enabled};
pub use trap_frame::TrapFrame;

/// Most CPUs the kernel drives: the width of [`CpuMask`].
pub const MAX_CPUS: usize = 64;
/// A set of CPUs, bit n for CPU n.
pub type CpuMask = u64;
