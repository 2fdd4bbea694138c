//! Who a thread acts as (man 7 credentials), and the rules by which that changes. Pure;
//! host-tested against the manuals' truth tables.

use alloc::vec::Vec;

use super::capability::{self, Capabilities};
use crate::error::{Errno, Result};

/// A user id.
pub type Uid = u32;
/// A group id.
pub type Gid = u32;
/// "Leave this one as it is" in calls that set several ids.
pub const UNCHANGED: u32 = u32::MAX;
/// Most supplementary groups (NGROUPS_MAX).
pub const MAX_GROUPS: usize = 65_536;

/// An immutable set of ids; a change makes a new one (`Arc<Credentials>` is swapped).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "man 7 credentials names them")]
pub struct Credentials {
    pub uid: Uid,
    pub euid: Uid,
    pub suid: Uid,
    pub fsuid: Uid,
    pub gid: Gid,
    pub egid: Gid,
    pub sgid: Gid,
    pub fsgid: Gid,
    /// Sorted.
    pub groups: Vec<Gid>,
    pub caps: Capabilities,
}

/// What an access check asks for, in the bits of one mode digit.
pub const MAY_READ: u32 = 4;
/// See [`MAY_READ`].
pub const MAY_WRITE: u32 = 2;
/// Execute a file, search a directory.
pub const MAY_EXEC: u32 = 1;

/// Three ids of one kind: real, effective, saved.
type Ids = (u32, u32, u32);

/// setuid, setgid.
fn set_one(old: Ids, id: u32, privileged: bool) -> Result<Ids> {
    if id == UNCHANGED {
        Err(Errno::EINVAL)
    } else if privileged {
        Ok((id, id, id))
    } else if id == old.0 || id == old.2 {
        Ok((old.0, id, old.2))
    } else {
        Err(Errno::EPERM)
    }
}

/// setreuid, setregid.
fn set_two(old: Ids, real: u32, effective: u32, privileged: bool) -> Result<Ids> {
    let real_ok = real == UNCHANGED || real == old.0 || real == old.1;
    let effective_ok =
        effective == UNCHANGED || effective == old.0 || effective == old.1 || effective == old.2;
    let allowed = real_ok && effective_ok;
    if !privileged && !allowed {
        return Err(Errno::EPERM);
    }
    let mut new = old;
    if real != UNCHANGED {
        new.0 = real;
    }
    if effective != UNCHANGED {
        new.1 = effective;
    }
    if real != UNCHANGED || effective != UNCHANGED && effective != old.0 {
        new.2 = new.1;
    }
    Ok(new)
}

/// setresuid, setresgid.
fn set_three(old: Ids, want: Ids, privileged: bool) -> Result<Ids> {
    let ok = |id: u32| id == UNCHANGED || id == old.0 || id == old.1 || id == old.2;
    let allowed = ok(want.0) && ok(want.1) && ok(want.2);
    if !privileged && !allowed {
        return Err(Errno::EPERM);
    }
    let pick = |want: u32, old: u32| if want == UNCHANGED { old } else { want };
    Ok((
        pick(want.0, old.0),
        pick(want.1, old.1),
        pick(want.2, old.2),
    ))
}

impl Credentials {
    /// The superuser's.
    pub const fn root() -> Self {
        Self {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Vec::new(),
            caps: Capabilities::ROOT,
        }
    }

    /// Whether it has capability `cap` (man 7 capabilities) in effect.
    pub fn capable(&self, cap: u32) -> bool {
        self.caps.effective & (1 << cap) != 0
    }

    /// Whether it may administer the system: what no finer capability covers.
    pub fn is_privileged(&self) -> bool {
        self.capable(capability::CAP_SYS_ADMIN)
    }

    /// Whether `gid` is the filesystem group or a supplementary one.
    pub fn in_group(&self, gid: Gid) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// Whether `want` ([`MAY_READ`]...) is allowed on an object of `owner`, `group`, `mode`
    /// (man 7 path_resolution, "Permissions"). The superuser may all but execute a file that
    /// nobody may.
    pub fn permits(&self, want: u32, owner: Uid, group: Gid, mode: u32) -> bool {
        let bits = if self.fsuid == owner {
            mode >> 6
        } else if self.in_group(group) {
            mode >> 3
        } else {
            mode
        };
        if bits & want == want {
            return true;
        }
        let is_dir = mode & 0o170_000 == 0o040_000;
        if self.capable(capability::CAP_DAC_OVERRIDE) {
            return want & MAY_EXEC == 0 || is_dir || mode & 0o111 != 0;
        }
        let only_look = want == MAY_READ || is_dir && want & MAY_WRITE == 0;
        only_look && self.capable(capability::CAP_DAC_READ_SEARCH)
    }

    fn uids(&self) -> Ids {
        (self.uid, self.euid, self.suid)
    }

    fn gids(&self) -> Ids {
        (self.gid, self.egid, self.sgid)
    }

    fn with_uids(&self, new: Ids, keep_caps: bool) -> Self {
        let caps = self
            .caps
            .after_setuid(self.uids(), new, keep_caps)
            .after_setfsuid(self.fsuid, new.1);
        Self {
            uid: new.0,
            euid: new.1,
            suid: new.2,
            fsuid: new.1,
            caps,
            ..self.clone()
        }
    }

    fn with_gids(&self, new: Ids) -> Self {
        Self {
            gid: new.0,
            egid: new.1,
            sgid: new.2,
            fsgid: new.1,
            ..self.clone()
        }
    }

    fn may_setuid(&self) -> bool {
        self.capable(capability::CAP_SETUID)
    }

    fn may_setgid(&self) -> bool {
        self.capable(capability::CAP_SETGID)
    }

    /// man 2 setuid. `keep_caps`: PR_SET_KEEPCAPS. EINVAL, EPERM.
    pub fn setuid(&self, uid: Uid, keep_caps: bool) -> Result<Self> {
        let new = set_one(self.uids(), uid, self.may_setuid())?;
        Ok(self.with_uids(new, keep_caps))
    }

    /// man 2 setreuid. EPERM.
    pub fn setreuid(&self, real: Uid, effective: Uid, keep_caps: bool) -> Result<Self> {
        let new = set_two(self.uids(), real, effective, self.may_setuid())?;
        Ok(self.with_uids(new, keep_caps))
    }

    /// man 2 setresuid. EPERM.
    pub fn setresuid(&self, ids: Ids, keep_caps: bool) -> Result<Self> {
        let new = set_three(self.uids(), ids, self.may_setuid())?;
        Ok(self.with_uids(new, keep_caps))
    }

    /// man 2 setgid. EINVAL, EPERM.
    pub fn setgid(&self, gid: Gid) -> Result<Self> {
        Ok(self.with_gids(set_one(self.gids(), gid, self.may_setgid())?))
    }

    /// man 2 setregid. EPERM.
    pub fn setregid(&self, real: Gid, effective: Gid) -> Result<Self> {
        let new = set_two(self.gids(), real, effective, self.may_setgid())?;
        Ok(self.with_gids(new))
    }

    /// man 2 setresgid. EPERM.
    pub fn setresgid(&self, ids: Ids) -> Result<Self> {
        Ok(self.with_gids(set_three(self.gids(), ids, self.may_setgid())?))
    }

    /// man 2 setfsuid: `None` when it stays as it is (the call cannot fail).
    pub fn setfsuid(&self, uid: Uid) -> Option<Self> {
        let known = [self.uid, self.euid, self.suid, self.fsuid].contains(&uid);
        (uid != UNCHANGED && (known || self.may_setuid())).then(|| Self {
            fsuid: uid,
            caps: self.caps.after_setfsuid(self.fsuid, uid),
            ..self.clone()
        })
    }

    /// man 2 setfsgid: `None` when it stays as it is (the call cannot fail).
    pub fn setfsgid(&self, gid: Gid) -> Option<Self> {
        let known = [self.gid, self.egid, self.sgid, self.fsgid].contains(&gid);
        (gid != UNCHANGED && (known || self.may_setgid())).then(|| Self {
            fsgid: gid,
            ..self.clone()
        })
    }

    /// man 2 setgroups; the list is sorted here. EPERM, EINVAL.
    pub fn setgroups(&self, mut groups: Vec<Gid>) -> Result<Self> {
        if !self.may_setgid() {
            return Err(Errno::EPERM);
        }
        if groups.len() > MAX_GROUPS {
            return Err(Errno::EINVAL);
        }
        groups.sort_unstable();
        Ok(Self {
            groups,
            ..self.clone()
        })
    }

    /// What execve leaves, with `owner` and `group` given by set-user-id and set-group-id
    /// bits; and whether rights were gained (AT_SECURE).
    pub fn exec(&self, owner: Option<Uid>, group: Option<Gid>) -> (Self, bool) {
        let euid = owner.unwrap_or(self.euid);
        let egid = group.unwrap_or(self.egid);
        let gained = euid != self.uid || egid != self.gid;
        let new = Self {
            euid,
            suid: euid,
            fsuid: euid,
            egid,
            sgid: egid,
            fsgid: egid,
            caps: self.caps.after_exec(self.uid, euid, gained),
            ..self.clone()
        };
        (new, gained)
    }
}

#[cfg(test)]
#[path = "cred_tests.rs"]
mod tests;
