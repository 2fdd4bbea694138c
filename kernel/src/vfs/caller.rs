//! Who asks, and the checks every call shares: walks, permissions, sticky directories.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::context::FsContext;
use super::dentry::Dentry;
use super::inode::{Attr, NewNode, Perm};
use super::mount::Path;
use super::walk::{End, LastKind, Walk};
use crate::abi;
use crate::error::{Errno, Result};
use crate::security::Credentials;
use crate::security::cred::{MAY_EXEC, MAY_READ, MAY_WRITE};

/// The calling process as the VFS sees it: taken once per system call.
pub struct Caller<'a> {
    /// Its root directory.
    pub root: Path,
    /// Its working directory.
    pub cwd: Path,
    /// Its umask.
    pub umask: u32,
    /// What it acts as.
    pub cred: &'a Credentials,
}

/// A directory, and a name in it that is neither `.` nor `..`.
pub(super) struct Spot {
    pub dir: Path,
    pub name: Vec<u8>,
    pub trailing_slash: bool,
}

impl<'a> Caller<'a> {
    /// The process with this context and these credentials.
    pub fn new(ctx: &FsContext, cred: &'a Credentials) -> Caller<'a> {
        Caller {
            root: ctx.root(),
            cwd: ctx.cwd(),
            umask: ctx.umask(),
            cred,
        }
    }

    /// Where `path` leads from `start`; `follow`: through a link at its end.
    pub fn resolve(&self, start: &Path, path: &[u8], follow: bool) -> Result<Path> {
        self.walk(start, path, 0)?.finish(follow)
    }

    pub(super) fn walk(&self, start: &Path, path: &[u8], resolve: u32) -> Result<Walk<'_>> {
        Walk::new(&self.root, start, self.cred, path, resolve)
    }

    /// The directory and name that `path` ends in; `otherwise` for what ends in no name.
    pub(super) fn spot(
        &self,
        start: &Path,
        path: &[u8],
        otherwise: impl Fn(LastKind) -> Errno,
    ) -> Result<Spot> {
        match self.walk(start, path, 0)?.parent()? {
            End::Entry {
                dir,
                name,
                trailing_slash,
            } => {
                if !dir.dentry.is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                Ok(Spot {
                    dir,
                    name,
                    trailing_slash,
                })
            }
            End::Place { last, .. } => Err(otherwise(last)),
        }
    }

    /// Whether `want` (MAY_*) is allowed on `dentry`: EACCES.
    pub fn check(&self, dentry: &Dentry, want: u32) -> Result<()> {
        let perm = dentry.inode.perm();
        if self.permits(want, &perm) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn permits(&self, want: u32, perm: &Perm) -> bool {
        self.cred.permits(want, perm.uid, perm.gid, perm.mode)
    }

    /// Whether entries may be added to the directory.
    pub(super) fn may_add(&self, dir: &Dentry) -> Result<()> {
        if dir.is_deleted() {
            return Err(Errno::ENOENT);
        }
        self.check(dir, MAY_WRITE | MAY_EXEC)
    }

    /// Whether `victim` may be taken out of `dir`, as a directory or not (man 2 unlink,
    /// man 2 rmdir).
    pub(super) fn may_remove(&self, dir: &Dentry, victim: &Dentry, as_dir: bool) -> Result<()> {
        let perm = dir.inode.perm();
        if !self.permits(MAY_WRITE | MAY_EXEC, &perm) {
            return Err(Errno::EACCES);
        }
        if perm.mode & abi::S_ISVTX != 0 && !self.cred.is_privileged() {
            let owner = victim.inode.perm().uid;
            if self.cred.fsuid != owner && self.cred.fsuid != perm.uid {
                return Err(Errno::EPERM);
            }
        }
        match (as_dir, victim.is_dir()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
        if victim.is_mountpoint() {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// Whether the caller owns it, or may act as if.
    pub fn owns(&self, perm: &Perm) -> bool {
        self.cred.fsuid == perm.uid || self.cred.is_privileged()
    }

    /// First attributes of a new object in `dir`: a set-group-id directory hands its group
    /// down, and its bit to directories (man 2 mkdir).
    pub(super) fn new_node(&self, dir: &Dentry, kind: u32, mode: u32) -> NewNode {
        let parent = dir.inode.perm();
        let mut mode = mode & 0o7777 & !self.umask;
        let mut gid = self.cred.fsgid;
        if parent.mode & abi::S_ISGID != 0 {
            gid = parent.gid;
            if kind == abi::S_IFDIR {
                mode |= abi::S_ISGID;
            } else if mode & 0o2010 == 0o2010
                && !self.cred.in_group(gid)
                && !self.cred.is_privileged()
            {
                mode &= !abi::S_ISGID;
            }
        }
        NewNode {
            mode: kind | mode,
            uid: self.cred.fsuid,
            gid,
            rdev: super::inode::Dev::default(),
        }
    }

    /// man 2 access: `want` of the real or effective ids that `cred` carries. EROFS, EACCES.
    pub fn access(&self, path: &Path, want: u32) -> Result<()> {
        let perm = path.dentry.inode.perm();
        let kind = perm.mode & abi::S_IFMT;
        let plain = matches!(kind, abi::S_IFREG | abi::S_IFDIR | abi::S_IFLNK);
        if want & MAY_WRITE != 0 && plain && path.mount.is_read_only() {
            return Err(Errno::EROFS);
        }
        let noexec = path.mount.flags().contains(super::MountFlags::NOEXEC);
        if want & MAY_EXEC != 0 && kind == abi::S_IFREG && noexec {
            return Err(Errno::EACCES);
        }
        self.check(&path.dentry, want & (MAY_READ | MAY_WRITE | MAY_EXEC))
    }
}

/// Attributes of what is at `path`.
pub fn attr(path: &Path) -> Result<Attr> {
    path.dentry.inode.attr()
}

/// The text of `path` as seen from `root`: with " (deleted)" when its name is gone, and
/// "(unreachable)" in front when it lies outside `root`.
pub fn path_text(path: &Path, root: Option<&Path>) -> Vec<u8> {
    let mut parts: Vec<Arc<[u8]>> = Vec::new();
    let mut at = path.clone();
    let deleted = at.dentry.is_deleted();
    let mut reached = root.is_none();
    loop {
        if root.is_some_and(|r| r.same(&at)) {
            reached = true;
            break;
        }
        if at.is_mount_root() {
            match at.mount.place() {
                Some(place) => {
                    at = place;
                    continue;
                }
                None => break,
            }
        }
        let (parent, name) = at.dentry.place();
        match parent {
            Some(parent) => {
                parts.push(name);
                at = at.with(parent);
            }
            None => {
                // Objects outside the tree name themselves.
                if !name.is_empty() {
                    return name.to_vec();
                }
                break;
            }
        }
    }
    let mut text = Vec::new();
    if !reached && super::mount::root().is_ok_and(|r| !r.dentry.id.eq(&at.dentry.id)) {
        text.extend_from_slice(b"(unreachable)");
    }
    for part in parts.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(part);
    }
    if parts.is_empty() {
        text.push(b'/');
    }
    if deleted {
        text.extend_from_slice(b" (deleted)");
    }
    text
}
