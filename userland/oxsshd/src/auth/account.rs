//! An account of /etc/passwd, and becoming it.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, setegid, seteuid, setgid, setgroups, setuid};

#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: PathBuf,
}

impl Account {
    /// The account called `name`.
    pub fn find(name: &str) -> Option<Account> {
        let user = User::from_name(name).ok()??;
        let shell = if user.shell.as_os_str().is_empty() {
            "/bin/sh".into()
        } else {
            user.shell
        };
        Some(Account {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            shell,
        })
    }

    #[cfg(test)]
    pub fn for_test(name: &str, uid: u32, home: &str) -> Account {
        Account {
            name: name.into(),
            uid,
            gid: uid,
            home: home.into(),
            shell: "/bin/sh".into(),
        }
    }

    /// Whether the login shell is a file that can be executed.
    pub fn shell_runs(&self) -> bool {
        std::fs::metadata(&self.shell)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    }

    fn groups(&self) -> Vec<Gid> {
        let own = Gid::from_raw(self.gid);
        let Ok(name) = CString::new(self.name.as_str()) else {
            return vec![own];
        };
        nix::unistd::getgrouplist(&name, own).unwrap_or_else(|_| vec![own])
    }

    /// Names of all groups that the account is in.
    pub fn group_names(&self) -> Vec<String> {
        self.groups()
            .into_iter()
            .filter_map(|gid| Some(Group::from_gid(gid).ok()??.name))
            .collect()
    }

    /// Runs `work` with the account's effective ids where this process is root: files are then read as the user reads
    /// them, and a link to somebody else's file leads nowhere.
    pub fn with_ids<R>(&self, work: impl FnOnce() -> R) -> R {
        let root = Uid::effective().is_root();
        if !root || self.uid == 0 {
            return work();
        }
        let (own_group, own_groups) = (
            Gid::effective(),
            nix::unistd::getgroups().unwrap_or_default(),
        );
        let became = setgroups(&self.groups())
            .and_then(|()| setegid(Gid::from_raw(self.gid)))
            .and_then(|()| seteuid(Uid::from_raw(self.uid)));
        if became.is_err() {
            // With the wrong ids nothing is to be read.
            std::process::abort();
        }
        let result = work();
        let back = seteuid(Uid::from_raw(0))
            .and_then(|()| setegid(own_group))
            .and_then(|()| setgroups(&own_groups));
        if back.is_err() {
            std::process::abort();
        }
        result
    }

    /// Makes this process the account's for good.
    ///
    /// # Errors
    /// What the system calls say, and when root's ids could be had back.
    pub fn become_it(&self) -> io::Result<()> {
        if !Uid::effective().is_root() {
            // Started by an ordinary user, who can only be himself (man 8 sshd does the same).
            return if Uid::effective().as_raw() == self.uid {
                Ok(())
            } else {
                Err(io::ErrorKind::PermissionDenied.into())
            };
        }
        setgroups(&self.groups())?;
        setgid(Gid::from_raw(self.gid))?;
        setuid(Uid::from_raw(self.uid))?;
        if self.uid != 0 && (setuid(Uid::from_raw(0)).is_ok() || seteuid(Uid::from_raw(0)).is_ok())
        {
            return Err(io::Error::other("root's ids can be had back"));
        }
        Ok(())
    }
}
