//! Capabilities: the superuser's rights, one bit each (man 7 capabilities). Pure; host-tested.

/// Override file permissions.
pub const CAP_DAC_OVERRIDE: u32 = 1;
/// Read any file, search any directory.
pub const CAP_DAC_READ_SEARCH: u32 = 2;
/// Act on files as their owner.
pub const CAP_FOWNER: u32 = 3;
/// Signal any process.
pub const CAP_KILL: u32 = 5;
/// Change group ids.
pub const CAP_SETGID: u32 = 6;
/// Change user ids.
pub const CAP_SETUID: u32 = 7;
/// Change capability sets.
pub const CAP_SETPCAP: u32 = 8;
/// Look into other processes.
pub const CAP_SYS_PTRACE: u32 = 19;
/// Everything without a bit of its own.
pub const CAP_SYS_ADMIN: u32 = 21;
/// vhangup.
pub const CAP_SYS_TTY_CONFIG: u32 = 26;
/// Restart the machine or switch it off.
pub const CAP_SYS_BOOT: u32 = 22;
/// Raise priorities.
pub const CAP_SYS_NICE: u32 = 23;
/// Exceed resource limits.
pub const CAP_SYS_RESOURCE: u32 = 24;
/// Set the clock.
pub const CAP_SYS_TIME: u32 = 25;
/// Read and clear the kernel's log.
pub const CAP_SYSLOG: u32 = 34;
/// The highest one that exists (/proc/sys/kernel/cap_last_cap).
pub const CAP_LAST: u32 = 40;

/// All that exist.
pub const FULL: u64 = (1 << (CAP_LAST + 1)) - 1;
/// Those that concern files: they follow the filesystem user id (man 2 setfsuid).
const FILE_SET: u64 = 1 << 0 // CAP_CHOWN
    | 1 << CAP_DAC_OVERRIDE
    | 1 << CAP_DAC_READ_SEARCH
    | 1 << CAP_FOWNER
    | 1 << 4 // CAP_FSETID
    | 1 << 9 // CAP_LINUX_IMMUTABLE
    | 1 << 27 // CAP_MKNOD
    | 1 << 32; // CAP_MAC_OVERRIDE

/// A thread's sets, bit n for capability n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What checks look at.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What files with inheritable sets may get over execve.
    pub inheritable: u64,
    /// What execve may give at most.
    pub bounding: u64,
    /// What stays over execve without privilege.
    pub ambient: u64,
}

/// The ids that decide about capabilities: (real, effective, saved).
pub type Uids = (u32, u32, u32);

impl Capabilities {
    /// The superuser's.
    pub const ROOT: Capabilities = Capabilities {
        effective: FULL,
        permitted: FULL,
        inheritable: 0,
        bounding: FULL,
        ambient: 0,
    };
    /// An ordinary user's.
    pub const NONE: Capabilities = Capabilities {
        effective: 0,
        permitted: 0,
        inheritable: 0,
        bounding: FULL,
        ambient: 0,
    };

    /// After a change of user ids ("Effect of user ID changes on capabilities").
    pub fn after_setuid(mut self, old: Uids, new: Uids, keep: bool) -> Self {
        let any_root = |u: Uids| u.0 == 0 || u.1 == 0 || u.2 == 0;
        if any_root(old) && !any_root(new) {
            if !keep {
                self.permitted = 0;
                self.effective = 0;
            }
            self.ambient = 0;
        }
        match (old.1, new.1) {
            (0, 1..) => self.effective = 0,
            (1.., 0) => self.effective = self.permitted,
            _ => {}
        }
        self
    }

    /// After a change of the filesystem user id.
    pub fn after_setfsuid(mut self, old: u32, new: u32) -> Self {
        match (old, new) {
            (0, 1..) => self.effective &= !FILE_SET,
            (1.., 0) => self.effective |= self.permitted & FILE_SET,
            _ => {}
        }
        self
    }

    /// After execve of a file without capabilities of its own, by real user `uid` as
    /// effective user `euid`; `gained`: through a set-user-id or set-group-id bit.
    pub fn after_exec(mut self, uid: u32, euid: u32, gained: bool) -> Self {
        if gained {
            self.ambient = 0;
        }
        if uid == 0 || euid == 0 {
            self.permitted = self.inheritable | self.bounding;
            self.effective = if euid == 0 {
                self.permitted
            } else {
                self.ambient
            };
        } else {
            self.permitted = self.ambient;
            self.effective = self.ambient;
        }
        self
    }

    /// capset: false when the change is not allowed (EPERM).
    pub fn set(&mut self, effective: u64, permitted: u64, inheritable: u64) -> bool {
        let mask = |set: u64| set & FULL;
        let (effective, permitted, inheritable) =
            (mask(effective), mask(permitted), mask(inheritable));
        let may_add = self.effective & (1 << CAP_SETPCAP) != 0;
        let within = |set: u64, of: u64| set & !of == 0;
        let ok = (may_add || within(inheritable, self.inheritable | self.permitted))
            && within(inheritable, self.inheritable | self.bounding)
            && within(permitted, self.permitted)
            && within(effective, permitted);
        if ok {
            self.effective = effective;
            self.permitted = permitted;
            self.inheritable = inheritable;
            self.ambient &= permitted & inheritable;
        }
        ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_root_drops_all() {
        let c = Capabilities::ROOT.after_setuid((0, 0, 0), (5, 5, 5), false);
        assert_eq!((c.effective, c.permitted, c.bounding), (0, 0, FULL));
        let c = Capabilities::ROOT.after_setuid((0, 0, 0), (5, 5, 5), true);
        assert_eq!((c.effective, c.permitted), (0, FULL));
    }

    #[test]
    fn effective_follows_the_effective_user() {
        let c = Capabilities::ROOT.after_setuid((0, 0, 0), (0, 5, 0), false);
        assert_eq!((c.effective, c.permitted), (0, FULL));
        let c = c.after_setuid((0, 5, 0), (0, 0, 0), false);
        assert_eq!(c.effective, FULL);
        let c = Capabilities::ROOT.after_setfsuid(0, 7);
        assert_eq!(c.effective & (1 << CAP_DAC_OVERRIDE), 0);
        assert_ne!(c.effective & (1 << CAP_SETUID), 0);
    }

    #[test]
    fn exec_gives_root_all_and_users_nothing() {
        let c = Capabilities::NONE.after_exec(1000, 0, true);
        assert_eq!(c.effective, FULL);
        let c = Capabilities::ROOT.after_exec(5, 5, false);
        assert_eq!((c.effective, c.permitted), (0, 0));
    }

    #[test]
    fn capset_never_adds() {
        let mut c = Capabilities::ROOT;
        assert!(c.set(1, 3, 0));
        assert!(!c.set(1, 7, 0));
        assert!(!c.set(4, 3, 0));
        assert!(c.set(3, 3, 3));
        assert!(!c.set(3, 3, 4));
    }
}
