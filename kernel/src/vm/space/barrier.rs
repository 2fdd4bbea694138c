//! membarrier: a memory barrier on every CPU that runs the program.

use core::sync::atomic::{Ordering, fence};

use super::AddressSpace;
use crate::arch::{CpuMask, ipi};
use crate::error::{Errno, Result};

/// What man 2 membarrier offers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// On all CPUs.
    Global,
    /// On the CPUs that run this program; needs `RegisterPrivate` before.
    Private,
    /// Announces the use of `Private`.
    RegisterPrivate,
}

impl AddressSpace {
    /// Every thread in question passed a full barrier between call and return. EPERM for
    /// `Private` without registration.
    pub fn barrier(&self, which: Barrier) -> Result<()> {
        let mask: CpuMask = match which {
            Barrier::RegisterPrivate => {
                self.wants_barriers.store(true, Ordering::Release);
                return Ok(());
            }
            Barrier::Global => CpuMask::MAX,
            Barrier::Private => {
                if !self.wants_barriers.load(Ordering::Acquire) {
                    return Err(Errno::EPERM);
                }
                // A CPU that is not in the mask yet passes a barrier when it enters it.
                fence(Ordering::SeqCst);
                self.active.load(Ordering::SeqCst)
            }
        };
        ipi::call(mask, |_| fence(Ordering::SeqCst), 0);
        Ok(())
    }
}
