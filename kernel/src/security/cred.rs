//! Who a thread acts as (man 7 credentials).

use alloc::vec::Vec;

/// A user id.
pub type Uid = u32;
/// A group id.
pub type Gid = u32;

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
    pub groups: Vec<Gid>,
}

/// What an access check asks for, in the bits of one mode digit.
pub const MAY_READ: u32 = 4;
/// See [`MAY_READ`].
pub const MAY_WRITE: u32 = 2;
/// Execute a file, search a directory.
pub const MAY_EXEC: u32 = 1;

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
        }
    }

    /// Whether the effective user may override file permissions and the like.
    pub fn is_privileged(&self) -> bool {
        self.euid == 0
    }

    /// Whether `gid` is the filesystem group or a supplementary one.
    pub fn in_group(&self, gid: Gid) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }

    /// Whether `want` ([`MAY_READ`]...) is allowed on an object of `owner`, `group`, `mode`
    /// (man 7 path_resolution, "Permissions"). The superuser may all but execute a file that
    /// nobody may.
    pub fn permits(&self, want: u32, owner: Uid, group: Gid, mode: u32) -> bool {
        if self.fsuid == 0 {
            let is_dir = mode & 0o170_000 == 0o040_000;
            return want & MAY_EXEC == 0 || is_dir || mode & 0o111 != 0;
        }
        let bits = if self.fsuid == owner {
            mode >> 6
        } else if self.in_group(group) {
            mode >> 3
        } else {
            mode
        };
        bits & want == want
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: Uid, gid: Gid) -> Credentials {
        Credentials {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: vec![50],
        }
    }

    #[test]
    fn owner_class_decides_alone() {
        // The owner lacks what the group has: still denied.
        assert!(!user(7, 50).permits(MAY_READ, 7, 50, 0o100_040));
        assert!(user(8, 1).permits(MAY_READ, 7, 50, 0o100_040));
        assert!(!user(8, 1).permits(MAY_READ, 7, 51, 0o100_040));
    }

    #[test]
    fn root_executes_only_executables() {
        let root = Credentials::root();
        assert!(root.permits(MAY_READ | MAY_WRITE, 7, 7, 0o100_000));
        assert!(!root.permits(MAY_EXEC, 7, 7, 0o100_644));
        assert!(root.permits(MAY_EXEC, 7, 7, 0o100_744));
        assert!(root.permits(MAY_EXEC, 7, 7, 0o040_000));
    }
}
