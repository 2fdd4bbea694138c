//! The machine: the only place with assembly, port I/O and control registers.
//!
//! On the host (unit tests) the same names exist; what would touch hardware does nothing or
//! is absent behind `cfg(target_os = "none")`.

pub mod x86_64;
pub use x86_64::*;
