//! Where the kernel continues after an exception of its own at a program's memory.
//!
//! The routines that touch such memory each name the instructions at which they may be
//! interrupted for good. The exception handlers ask here, through `vm::user`.

#[cfg(target_os = "none")]
use super::{user_copy, user_fpu};

type Recovery = fn(rip: u64) -> Option<u64>;

#[cfg(target_os = "none")]
const FAULTS: &[Recovery] = &[user_copy::routines::fixup, user_fpu::routines::fixup];
#[cfg(target_os = "none")]
const REFUSALS: &[Recovery] = &[user_fpu::routines::refused];
// The routines are for the bare target only.
#[cfg(not(target_os = "none"))]
const FAULTS: &[Recovery] = &[];
#[cfg(not(target_os = "none"))]
const REFUSALS: &[Recovery] = &[];

/// Where the kernel continues after a page fault at `rip` that cannot be satisfied; `None` when
/// the fault is the kernel's own mistake.
pub fn fixup(rip: u64) -> Option<u64> {
    FAULTS.iter().find_map(|recovery| recovery(rip))
}

/// Where the kernel continues after a general-protection exception at `rip`: the CPU refused
/// a program's FPU image. `None` when the exception is the kernel's own mistake.
pub fn refused(rip: u64) -> Option<u64> {
    REFUSALS.iter().find_map(|recovery| recovery(rip))
}
