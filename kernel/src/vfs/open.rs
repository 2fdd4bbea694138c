//! man 2 open: from flags and a path to an open file description.

use alloc::sync::Arc;

use super::caller::Caller;
use super::dentry::Dentry;
use super::device;
use super::inode::Dev;
use super::inode_file::{InodeFile, PathFile};
use super::mount::{MountFlags, Path};
use super::notify::{self, mask};
use super::walk::{End, LastKind};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile};
use crate::security::cred::{MAY_EXEC, MAY_READ, MAY_WRITE};

/// What an open asks for (man 2 openat2).
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    /// O_*.
    pub flags: u32,
    /// Permission bits of a new file, before the umask.
    pub mode: u32,
    /// RESOLVE_*.
    pub resolve: u32,
}

/// Flags that the description keeps.
const KEPT: u32 = abi::O_ACCMODE
    | abi::O_APPEND
    | abi::O_NONBLOCK
    | abi::O_SYNC
    | abi::FASYNC
    | abi::O_DIRECT
    | abi::O_LARGEFILE
    | abi::O_DIRECTORY
    | abi::O_NOFOLLOW
    | abi::O_NOATIME
    | abi::O_TMPFILE
    | abi::O_PATH;

impl Caller<'_> {
    /// Opens `path` from `start`.
    pub fn open(&self, start: &Path, path: &[u8], how: &OpenHow) -> Result<Arc<OpenFile>> {
        let mut flags = how.flags;
        if flags & abi::O_PATH != 0 {
            flags &= abi::O_PATH | abi::O_DIRECTORY | abi::O_NOFOLLOW | abi::O_CLOEXEC;
        } else if flags & abi::O_TMPFILE == abi::O_TMPFILE {
            return self.open_unnamed(start, path, how);
        }
        let creates = flags & abi::O_CREAT != 0;
        if creates && flags & abi::O_DIRECTORY != 0 {
            return Err(Errno::EINVAL);
        }
        let follow = flags & abi::O_NOFOLLOW == 0
            && flags & (abi::O_CREAT | abi::O_EXCL) != abi::O_CREAT | abi::O_EXCL;
        if !creates {
            let found = self.walk(start, path, how.resolve)?.finish(follow)?;
            return self.open_found(found, flags);
        }
        let mut walk = self.walk(start, path, how.resolve)?;
        loop {
            let (dir, name) = match walk.parent()? {
                End::Place {
                    path,
                    last: LastKind::Magic,
                } => {
                    return self.open_found(path, flags);
                }
                End::Place { .. } if flags & abi::O_EXCL != 0 => return Err(Errno::EEXIST),
                End::Place { .. } => return Err(Errno::EISDIR),
                End::Entry {
                    trailing_slash: true,
                    ..
                } => return Err(Errno::EISDIR),
                End::Entry { dir, name, .. } => (dir, name),
            };
            if !dir.dentry.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            if let Some(child) = dir.dentry.lookup(&name)? {
                if flags & abi::O_EXCL != 0 {
                    return Err(Errno::EEXIST);
                }
                if child.is_symlink() && follow {
                    walk.follow_last(&child, false)?;
                    continue;
                }
                walk.enter(child)?;
                let found = walk.place();
                if found.dentry.is_dir() {
                    return Err(Errno::EISDIR);
                }
                return self.open_found(found, flags);
            }
            match self.create_file(&dir, &name, how.mode) {
                Ok(made) => return self.open_created(made, flags),
                // Somebody else made it meanwhile: open that, unless it was to be new.
                Err(Errno::EEXIST) if flags & abi::O_EXCL == 0 => {
                    walk = self.walk(&dir, &name, how.resolve)?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn create_file(&self, dir: &Path, name: &[u8], mode: u32) -> Result<Path> {
        let _writing = dir.begin_write()?;
        let parent = &dir.dentry;
        let _alone = parent.entries.write();
        if parent.lookup_locked(name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        self.may_add(parent)?;
        let node = self.new_node(parent, abi::S_IFREG, mode);
        let inode = parent.inode.create(name, &node)?;
        let made = parent.add(name, inode);
        notify::tell_entry(parent, name, &made, mask::CREATE);
        Ok(dir.with(made))
    }

    /// O_TMPFILE: a file in the filesystem of the directory `path` that has no name yet.
    /// Without O_EXCL `linkat` may give it one.
    fn open_unnamed(&self, start: &Path, path: &[u8], how: &OpenHow) -> Result<Arc<OpenFile>> {
        let flags = how.flags;
        if flags & abi::O_CREAT != 0 || flags & abi::O_ACCMODE == abi::O_RDONLY {
            return Err(Errno::EINVAL);
        }
        let follow = flags & abi::O_NOFOLLOW == 0;
        let dir = self.walk(start, path, how.resolve)?.finish(follow)?;
        if !dir.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let _writing = dir.begin_write()?;
        self.may_add(&dir.dentry)?;
        let node = self.new_node(&dir.dentry, abi::S_IFREG, how.mode);
        let inode = dir.dentry.inode.create_unnamed(&node)?;
        let linkable = flags & abi::O_EXCL == 0;
        let made = Dentry::unnamed(&dir.dentry, inode, linkable)?;
        self.open_created(dir.with(made), flags)
    }

    /// The creator may use the file as asked, whatever its mode says.
    fn open_created(&self, path: Path, flags: u32) -> Result<Arc<OpenFile>> {
        let writing = if flags & abi::O_ACCMODE == abi::O_RDONLY {
            None
        } else {
            Some(path.begin_write()?)
        };
        let file = InodeFile::new(path.clone(), writing)?;
        notify::tell(&path.dentry, mask::OPEN);
        Ok(OpenFile::new_at(
            Arc::new(file),
            flags & KEPT,
            Arc::new(path),
        ))
    }

    /// Opens what is at `path`, which exists. `flags` without O_CREAT's part.
    pub fn open_found(&self, path: Path, flags: u32) -> Result<Arc<OpenFile>> {
        let kind = path.dentry.kind();
        if flags & abi::O_DIRECTORY != 0 && kind != abi::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        if flags & abi::O_PATH != 0 {
            let file = Arc::new(PathFile { path: path.clone() });
            return Ok(OpenFile::new_at(file, flags & KEPT, Arc::new(path)));
        }
        let want = match flags & abi::O_ACCMODE {
            abi::O_RDONLY => MAY_READ,
            abi::O_WRONLY => MAY_WRITE,
            abi::O_RDWR => MAY_READ | MAY_WRITE,
            // 3: neither read nor write, for ioctl alone; needs both permissions.
            _ => MAY_READ | MAY_WRITE,
        };
        let truncates = flags & abi::O_TRUNC != 0;
        let want = if truncates { want | MAY_WRITE } else { want };
        match kind {
            abi::S_IFLNK => return Err(Errno::ELOOP),
            abi::S_IFDIR if want & MAY_WRITE != 0 => return Err(Errno::EISDIR),
            abi::S_IFCHR | abi::S_IFBLK if path.mount.flags().contains(MountFlags::NODEV) => {
                return Err(Errno::EACCES);
            }
            _ => {}
        }
        self.check(&path.dentry, want)?;
        let perm = path.dentry.inode.perm();
        if flags & abi::O_NOATIME != 0 && !self.owns(&perm) {
            return Err(Errno::EPERM);
        }
        let plain = matches!(kind, abi::S_IFREG | abi::S_IFDIR);
        let writing = if plain && want & MAY_WRITE != 0 {
            Some(path.begin_write()?)
        } else {
            None
        };
        let special = path.dentry.inode.open(&path, flags)?;
        let file: Arc<dyn File> = match (special, kind) {
            (Some(file), _) => file,
            (None, abi::S_IFREG) => {
                let file = InodeFile::new(path.clone(), writing)?;
                notify::tell(&path.dentry, mask::OPEN);
                if truncates {
                    super::attributes::set_length(&path, 0, !self.cred.is_privileged())?;
                }
                Arc::new(file)
            }
            (None, abi::S_IFDIR) => {
                let dir = InodeFile::new(path.clone(), None)?;
                notify::tell(&path.dentry, mask::OPEN);
                Arc::new(dir)
            }
            (None, abi::S_IFCHR) => device::open_char(rdev(&path)?, flags)?,
            (None, abi::S_IFBLK) => device::open_block(rdev(&path)?, flags)?,
            (None, abi::S_IFIFO) => super::fifo::open(&path, flags)?,
            // A socket's node is for connect (man 2 open: ENXIO).
            _ => return Err(Errno::ENXIO),
        };
        Ok(OpenFile::new_at(file, flags & KEPT, Arc::new(path)))
    }

    /// Opens `path` to execute it, see [`super::open_exec`].
    pub fn open_to_execute(
        &self,
        start: &Path,
        path: &[u8],
        follow: bool,
    ) -> Result<Arc<OpenFile>> {
        let found = self.resolve(start, path, follow)?;
        self.executable(found)
    }

    /// Opens what is at `path` to execute it.
    pub fn executable(&self, path: Path) -> Result<Arc<OpenFile>> {
        if path.dentry.is_symlink() {
            return Err(Errno::ELOOP);
        }
        if path.dentry.kind() != abi::S_IFREG || path.mount.flags().contains(MountFlags::NOEXEC) {
            return Err(Errno::EACCES);
        }
        self.check(&path.dentry, MAY_EXEC)?;
        let file = InodeFile::program(path.clone())?;
        notify::tell(&path.dentry, mask::OPEN);
        Ok(OpenFile::new_at(
            Arc::new(file),
            abi::O_RDONLY | abi::O_LARGEFILE,
            Arc::new(path),
        ))
    }
}

fn rdev(path: &Path) -> Result<Dev> {
    Ok(path.dentry.inode.attr()?.rdev)
}
