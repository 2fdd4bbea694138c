//! Changes to attributes: mode, owner, times, length (man 2 chmod, chown, utimensat,
//! truncate).

use super::caller::Caller;
use super::inode::{SetAttr, Timestamp};
use super::mount::Path;
use super::notify::{self, mask};
use crate::abi;
use crate::error::{Errno, Result};
use crate::security::cred::{Gid, MAY_WRITE, Uid};

/// What utimensat asks for one of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// UTIME_OMIT.
    Keep,
    /// UTIME_NOW or a null pointer.
    Now,
    /// That time.
    To(Timestamp),
}

impl Caller<'_> {
    /// man 2 chmod. EPERM unless owner; EOPNOTSUPP for a symbolic link.
    pub fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        let _writing = path.begin_write()?;
        let inode = &path.dentry.inode;
        let perm = inode.perm();
        if perm.mode & abi::S_IFMT == abi::S_IFLNK {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.owns(&perm) {
            return Err(Errno::EPERM);
        }
        let mut mode = mode & 0o7777;
        // A group the caller is not in does not get its set-group-id bit.
        if !self.cred.in_group(perm.gid) && !self.cred.is_privileged() {
            mode &= !abi::S_ISGID;
        }
        inode.setattr(&SetAttr {
            mode: Some(mode),
            ctime: Some(Timestamp::now()),
            ..SetAttr::default()
        })?;
        notify::tell(&path.dentry, mask::ATTRIB);
        Ok(())
    }

    /// man 2 chown; `None` keeps. Clears set-id bits of non-directories.
    pub fn chown(&self, path: &Path, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
        let _writing = path.begin_write()?;
        let inode = &path.dentry.inode;
        let perm = inode.perm();
        if !self.cred.is_privileged() {
            let same_user = uid.is_none_or(|u| u == perm.uid);
            let allowed_group = gid.is_none_or(|g| g == perm.gid || self.cred.in_group(g));
            if self.cred.fsuid != perm.uid || !same_user || !allowed_group {
                return Err(Errno::EPERM);
            }
        }
        let kind = perm.mode & abi::S_IFMT;
        let mode = if kind == abi::S_IFDIR || kind == abi::S_IFLNK {
            None
        } else {
            dropped_privilege(perm.mode)
        };
        inode.setattr(&SetAttr {
            mode,
            uid,
            gid,
            ctime: Some(Timestamp::now()),
            ..SetAttr::default()
        })?;
        notify::tell(&path.dentry, mask::ATTRIB);
        Ok(())
    }

    /// man 2 utimensat.
    pub fn set_times(&self, path: &Path, atime: SetTime, mtime: SetTime) -> Result<()> {
        if atime == SetTime::Keep && mtime == SetTime::Keep {
            return Ok(());
        }
        let _writing = path.begin_write()?;
        let inode = &path.dentry.inode;
        let perm = inode.perm();
        if !self.owns(&perm) {
            if atime != SetTime::Now || mtime != SetTime::Now {
                return Err(Errno::EPERM);
            }
            self.check(&path.dentry, MAY_WRITE)?;
        }
        let now = Timestamp::now();
        let pick = |t| match t {
            SetTime::Keep => None,
            SetTime::Now => Some(now),
            SetTime::To(t) => Some(t),
        };
        inode.setattr(&SetAttr {
            atime: pick(atime),
            mtime: pick(mtime),
            ctime: Some(now),
            ..SetAttr::default()
        })?;
        let what = match (atime, mtime) {
            (SetTime::Keep, _) => mask::MODIFY,
            (_, SetTime::Keep) => mask::ACCESS,
            _ => mask::ATTRIB,
        };
        notify::tell(&path.dentry, what);
        Ok(())
    }

    /// man 2 truncate by name.
    pub fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        match path.dentry.kind() {
            abi::S_IFREG => {}
            abi::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        self.check(&path.dentry, MAY_WRITE)?;
        let _writing = path.begin_write()?;
        let _use = path.dentry.begin_use(false)?;
        set_length(path, len, !self.cred.is_privileged())
    }
}

/// Sets a regular file's length; `drop_privilege`: clear its set-id bits as well.
pub(super) fn set_length(path: &Path, len: u64, drop_privilege: bool) -> Result<()> {
    if len > i64::MAX as u64 {
        return Err(Errno::EFBIG);
    }
    let inode = &path.dentry.inode;
    let alone = inode.io_lock().lock();
    let size = inode.size();
    if len > size {
        inode.page_cache()?.zero_past(size);
    }
    let now = Timestamp::now();
    let mode = if drop_privilege {
        dropped_privilege(inode.perm().mode)
    } else {
        None
    };
    inode.setattr(&SetAttr {
        mode,
        size: Some(len),
        mtime: Some(now),
        ctime: Some(now),
        ..SetAttr::default()
    })?;
    drop(alone);
    notify::tell(&path.dentry, mask::MODIFY);
    Ok(())
}

/// The mode without set-id bits, when it has any (set-group-id only with group execute).
pub(super) fn dropped_privilege(mode: u32) -> Option<u32> {
    let mut new = mode & !abi::S_ISUID;
    if mode & abi::S_IXGRP != 0 {
        new &= !abi::S_ISGID;
    }
    (new != mode).then_some(new & 0o7777)
}
