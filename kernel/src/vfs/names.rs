//! Changes to names: make, link, remove, rename (man 2 mkdir, link, unlink, rename...).
//!
//! Order of directory locks: an ancestor before its descendants; two unrelated directories
//! in the order of their ids; a directory before the directory it holds. Two directories at
//! once are only taken under the filesystem's rename lock.

use alloc::sync::Arc;

use super::caller::{Caller, Spot};
use super::dentry::Dentry;
use super::inode::{Dev, Rename};
use super::mount::Path;
use super::notify::{self, mask};
use super::walk::LastKind;
use crate::abi;
use crate::error::{Errno, Result};
use crate::security::cred::{MAY_EXEC, MAY_WRITE};

fn exists(_: LastKind) -> Errno {
    Errno::EEXIST
}

impl Caller<'_> {
    /// Makes something new at `path` through `make`, which gets the directory. EEXIST, EROFS,
    /// EACCES, ENOENT.
    fn make(
        &self,
        spot: &Spot,
        make: impl FnOnce(&Arc<Dentry>) -> Result<Arc<dyn super::Inode>>,
    ) -> Result<Path> {
        let dir = &spot.dir.dentry;
        let _writing = match spot.dir.begin_write() {
            Ok(guard) => guard,
            // An existing name is reported before a read-only mount.
            Err(e) => {
                return match dir.lookup(&spot.name)? {
                    Some(_) => Err(Errno::EEXIST),
                    None => Err(e),
                };
            }
        };
        let _alone = dir.entries.write();
        if dir.lookup_locked(&spot.name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        self.may_add(dir)?;
        let inode = make(dir)?;
        let made = dir.add(&spot.name, inode);
        notify::tell_entry(dir, &spot.name, &made, mask::CREATE);
        Ok(spot.dir.with(made))
    }

    /// man 2 mkdir.
    pub fn mkdir(&self, start: &Path, path: &[u8], mode: u32) -> Result<()> {
        let spot = self.spot(start, path, exists)?;
        self.make(&spot, |dir| {
            let node = self.new_node(dir, abi::S_IFDIR, mode & 0o1777);
            dir.inode.create(&spot.name, &node)
        })
        .map(drop)
    }

    /// man 2 mknod. EPERM for device nodes without privilege and for directories.
    pub fn mknod(&self, start: &Path, path: &[u8], mode: u32, dev: Dev) -> Result<()> {
        let kind = match mode & abi::S_IFMT {
            0 => abi::S_IFREG,
            abi::S_IFDIR => return Err(Errno::EPERM),
            k @ (abi::S_IFREG | abi::S_IFIFO | abi::S_IFSOCK) => k,
            k @ (abi::S_IFCHR | abi::S_IFBLK) => k,
            _ => return Err(Errno::EINVAL),
        };
        self.make_node(start, path, kind, mode, dev).map(drop)
    }

    /// Makes a node of `kind` (S_IF*) and returns its place (bind of unix sockets).
    pub fn make_node(
        &self,
        start: &Path,
        path: &[u8],
        kind: u32,
        mode: u32,
        dev: Dev,
    ) -> Result<Path> {
        let spot = self.spot(start, path, exists)?;
        if spot.trailing_slash {
            return Err(match spot.dir.dentry.lookup(&spot.name)? {
                Some(_) => Errno::EEXIST,
                None => Errno::ENOENT,
            });
        }
        self.make(&spot, |dir| {
            if matches!(kind, abi::S_IFCHR | abi::S_IFBLK) && !self.cred.is_privileged() {
                return Err(Errno::EPERM);
            }
            let mut node = self.new_node(dir, kind, mode);
            node.rdev = dev;
            dir.inode.create(&spot.name, &node)
        })
    }

    /// man 2 symlink.
    pub fn symlink(&self, target: &[u8], start: &Path, path: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        let spot = self.spot(start, path, exists)?;
        if spot.trailing_slash {
            return Err(match spot.dir.dentry.lookup(&spot.name)? {
                Some(_) => Errno::EEXIST,
                None => Errno::ENOENT,
            });
        }
        self.make(&spot, |dir| {
            let mut node = self.new_node(dir, abi::S_IFLNK, 0);
            node.mode = abi::S_IFLNK | 0o777;
            dir.inode.symlink(&spot.name, target, &node)
        })
        .map(drop)
    }

    /// man 2 link: another name for `old`. EXDEV across mounts, EPERM for directories.
    pub fn link(&self, old: &Path, start: &Path, path: &[u8]) -> Result<()> {
        let spot = self.spot(start, path, exists)?;
        if spot.trailing_slash {
            return Err(match spot.dir.dentry.lookup(&spot.name)? {
                Some(_) => Errno::EEXIST,
                None => Errno::ENOENT,
            });
        }
        if !Arc::ptr_eq(&old.mount, &spot.dir.mount) {
            let writing = spot.dir.begin_write();
            return match spot.dir.dentry.lookup(&spot.name)? {
                Some(_) => Err(Errno::EEXIST),
                None => writing.and(Err(Errno::EXDEV)),
            };
        }
        self.make(&spot, |dir| {
            if old.dentry.is_dir() {
                return Err(Errno::EPERM);
            }
            if old.dentry.inode.attr()?.nlink == 0 && !old.dentry.is_linkable() {
                return Err(Errno::ENOENT);
            }
            dir.inode.link(&spot.name, &*old.dentry.inode)?;
            notify::tell_self(&old.dentry, mask::ATTRIB);
            Ok(old.dentry.inode.clone())
        })
        .map(drop)
    }

    /// man 2 unlink.
    pub fn unlink(&self, start: &Path, path: &[u8]) -> Result<()> {
        let spot = self.spot(start, path, |_| Errno::EISDIR)?;
        let dir = &spot.dir.dentry;
        let _writing = spot.dir.begin_write()?;
        let victim;
        {
            let _alone = dir.entries.write();
            victim = dir.lookup_locked(&spot.name)?.ok_or(Errno::ENOENT)?;
            if spot.trailing_slash {
                return Err(if victim.is_dir() {
                    Errno::EISDIR
                } else {
                    Errno::ENOTDIR
                });
            }
            self.may_remove(dir, &victim, false)?;
            dir.inode.unlink(&spot.name, &*victim.inode)?;
            dir.remove(&spot.name, &victim);
        }
        notify::tell_self(&victim, mask::ATTRIB);
        notify::tell_entry(dir, &spot.name, &victim, mask::DELETE);
        notify::check_gone(&victim, 1);
        // The last reference may free a large file: without the directory's lock.
        drop(victim);
        Ok(())
    }

    /// man 2 rmdir.
    pub fn rmdir(&self, start: &Path, path: &[u8]) -> Result<()> {
        let spot = self.spot(start, path, |last| match last {
            LastKind::Dot => Errno::EINVAL,
            LastKind::DotDot => Errno::ENOTEMPTY,
            LastKind::Root | LastKind::Magic => Errno::EBUSY,
        })?;
        let dir = &spot.dir.dentry;
        let _writing = spot.dir.begin_write()?;
        let victim;
        {
            let _alone = dir.entries.write();
            victim = dir.lookup_locked(&spot.name)?.ok_or(Errno::ENOENT)?;
            self.may_remove(dir, &victim, true)?;
            // Nobody adds to it from here on: they see the mark once they have its lock.
            let _inside = victim.entries.write();
            dir.inode.rmdir(&spot.name, &*victim.inode)?;
            dir.remove(&spot.name, &victim);
        }
        notify::check_gone(&victim, 1);
        notify::tell_entry(dir, &spot.name, &victim, mask::DELETE);
        drop(victim);
        Ok(())
    }

    /// man 2 renameat2.
    pub fn rename(
        &self,
        old_start: &Path,
        old_path: &[u8],
        new_start: &Path,
        new_path: &[u8],
        flags: u32,
    ) -> Result<()> {
        let known = abi::RENAME_NOREPLACE | abi::RENAME_EXCHANGE;
        let both = flags & known == known;
        if flags & !known != 0 || both {
            return Err(Errno::EINVAL);
        }
        let exchange = flags & abi::RENAME_EXCHANGE != 0;
        let no_replace = flags & abi::RENAME_NOREPLACE != 0;
        let old = self.spot(old_start, old_path, |_| Errno::EBUSY)?;
        let new = self.spot(new_start, new_path, |_| {
            if no_replace {
                Errno::EEXIST
            } else {
                Errno::EBUSY
            }
        })?;
        if !Arc::ptr_eq(&old.dir.mount, &new.dir.mount) {
            return Err(Errno::EXDEV);
        }
        let _writing = old.dir.begin_write()?;
        let sb = old.dir.mount.sb.clone();
        let (from, to) = (&old.dir.dentry, &new.dir.dentry);
        let cross = !Arc::ptr_eq(from, to);
        let (moved, replaced);
        {
            // Ancestry does not change while this is held.
            let _renaming = cross.then(|| sb.rename.lock());
            let _locks = lock_two(from, to);
            let source = from.lookup_locked(&old.name)?.ok_or(Errno::ENOENT)?;
            let target = to.lookup_locked(&new.name)?;
            if no_replace && target.is_some() {
                return Err(Errno::EEXIST);
            }
            if exchange && target.is_none() {
                return Err(Errno::ENOENT);
            }
            // Slashes after a name: what the rename puts there must be a directory. What an
            // exchange takes away from the new name is, as the old name says.
            let slashed = old.trailing_slash || new.trailing_slash && !exchange;
            let target_is_file = target.as_ref().is_some_and(|t| !t.is_dir());
            if slashed && !source.is_dir() || exchange && new.trailing_slash && target_is_file {
                return Err(Errno::ENOTDIR);
            }
            if cross {
                if source.is_ancestor_of(to) {
                    return Err(Errno::EINVAL);
                }
                if let Some(t) = &target
                    && t.is_ancestor_of(from)
                {
                    return Err(if exchange {
                        Errno::EINVAL
                    } else {
                        Errno::ENOTEMPTY
                    });
                }
            }
            if target.as_ref().is_some_and(|t| same_inode(t, &source)) {
                // Two names of one file: nothing to do (man 2 rename).
                return Ok(());
            }
            self.may_remove(from, &source, source.is_dir())?;
            match &target {
                None => self.may_add(to)?,
                Some(t) => {
                    let as_dir = if exchange {
                        t.is_dir()
                    } else {
                        source.is_dir()
                    };
                    self.may_remove(to, t, as_dir)?;
                }
            }
            // A directory that gets another parent has its `..` rewritten.
            if cross && source.is_dir() {
                self.check(&source, MAY_WRITE)?;
            }
            if cross && exchange && target.as_ref().is_some_and(|t| t.is_dir()) {
                self.check(to, MAY_WRITE | MAY_EXEC)?;
            }
            let inside = target.clone().filter(|t| t.is_dir() && !exchange);
            let _inside = inside.as_ref().map(|t| t.entries.write());
            from.inode.rename(&Rename {
                name: &old.name,
                source: &*source.inode,
                new_dir: &*to.inode,
                cross,
                new_name: &new.name,
                target: target.as_ref().map(|t| &*t.inode),
                exchange,
            })?;
            match &target {
                Some(t) if exchange => {
                    from.swapped(&old.name, &source, to, &new.name, t);
                }
                _ => {
                    if let Some(t) = &target {
                        to.remove(&new.name, t);
                    }
                    from.moved(&old.name, &source, to, &new.name);
                }
            }
            (moved, replaced) = (source, target);
        }
        let (old_place, new_place) = ((&**from, &*old.name), (&**to, &*new.name));
        notify::tell_move(old_place, new_place, &moved);
        if let Some(target) = &replaced {
            if exchange {
                notify::tell_move(new_place, old_place, target);
            } else {
                if !target.is_dir() {
                    notify::tell_self(target, mask::ATTRIB);
                }
                notify::check_gone(target, 1);
            }
        }
        drop(replaced);
        Ok(())
    }
}

fn same_inode(a: &Arc<Dentry>, b: &Arc<Dentry>) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(&a.inode), Arc::as_ptr(&b.inode))
}

/// Locks one or two directories exclusively, in order.
fn lock_two<'a>(
    a: &'a Arc<Dentry>,
    b: &'a Arc<Dentry>,
) -> (
    crate::sched::RwLockWriteGuard<'a, ()>,
    Option<crate::sched::RwLockWriteGuard<'a, ()>>,
) {
    if Arc::ptr_eq(a, b) {
        return (a.entries.write(), None);
    }
    let a_first = a.is_ancestor_of(b) || (!b.is_ancestor_of(a) && a.id < b.id);
    let (first, second) = if a_first { (a, b) } else { (b, a) };
    (first.entries.write(), Some(second.entries.write()))
}
