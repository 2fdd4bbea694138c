//! Resource limits (man 2 getrlimit). Pure; host-tested. Who hands out the resource enforces
//! its limit.

use crate::abi;
use crate::error::{Errno, Result};

/// No limit.
pub const INFINITY: u64 = u64::MAX;
/// Most descriptors a process may ask for (fs.nr_open).
pub const NR_OPEN: u64 = 1 << 20;
const NR_LIMITS: usize = abi::RLIM_NLIMITS as usize;

/// Soft and hard limits of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    table: [(u64, u64); NR_LIMITS],
}

impl Limits {
    /// The first process's limits; `max_tasks` bounds RLIMIT_NPROC and RLIMIT_SIGPENDING.
    pub fn initial(max_tasks: u64) -> Self {
        let mut table = [(INFINITY, INFINITY); NR_LIMITS];
        let mut set = |which: u32, soft, hard| table[which as usize] = (soft, hard);
        set(abi::RLIMIT_STACK, 8 << 20, INFINITY);
        // No core files are written: the limit says so.
        set(abi::RLIMIT_CORE, 0, INFINITY);
        set(abi::RLIMIT_NPROC, max_tasks, max_tasks);
        set(abi::RLIMIT_SIGPENDING, max_tasks, max_tasks);
        set(abi::RLIMIT_NOFILE, 1024, 4096.max(NR_OPEN / 2));
        set(abi::RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        set(abi::RLIMIT_MSGQUEUE, 819_200, 819_200);
        set(abi::RLIMIT_NICE, 0, 0);
        set(abi::RLIMIT_RTPRIO, 0, 0);
        Self { table }
    }
    /// (soft, hard); unlimited for a number out of range.
    pub fn get(&self, which: u32) -> (u64, u64) {
        self.table
            .get(which as usize)
            .copied()
            .unwrap_or((INFINITY, INFINITY))
    }
    /// Sets both. EINVAL: no such limit, or soft above hard; EPERM: hard raised without
    /// privilege, or NOFILE above [`NR_OPEN`].
    pub fn set(&mut self, which: u32, soft: u64, hard: u64, privileged: bool) -> Result<()> {
        let slot = self.table.get_mut(which as usize).ok_or(Errno::EINVAL)?;
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        if which == abi::RLIMIT_NOFILE && hard > NR_OPEN {
            return Err(Errno::EPERM);
        }
        if hard > slot.1 && !privileged {
            return Err(Errno::EPERM);
        }
        *slot = (soft, hard);
        Ok(())
    }
    /// After SIGXCPU: the next one comes when `seconds` are used.
    pub(super) fn raise_cpu(&mut self, seconds: u64) {
        let slot = &mut self.table[abi::RLIMIT_CPU as usize];
        slot.0 = seconds.min(slot.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_limit_only_falls_without_privilege() {
        let mut l = Limits::initial(100);
        assert_eq!(l.set(abi::RLIMIT_NOFILE, 20, 10, true), Err(Errno::EINVAL));
        assert_eq!(l.set(abi::RLIMIT_NOFILE, 10, 20, false), Ok(()));
        assert_eq!(l.set(abi::RLIMIT_NOFILE, 10, 21, false), Err(Errno::EPERM));
        assert_eq!(l.set(abi::RLIMIT_NOFILE, 10, 21, true), Ok(()));
        assert_eq!(
            l.set(abi::RLIMIT_NOFILE, 1, NR_OPEN + 1, true),
            Err(Errno::EPERM)
        );
        assert_eq!(l.set(99, 0, 0, true), Err(Errno::EINVAL));
        assert_eq!(l.get(abi::RLIMIT_NOFILE), (10, 21));
    }
}
