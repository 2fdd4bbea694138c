//! Path walks (man 7 path_resolution): from text to a [`Path`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::dentry::Dentry;
use super::inode::{NAME_MAX, PATH_MAX};
use super::mount::{MountFlags, Path};
use crate::abi;
use crate::error::{Errno, Result};
use crate::security::Credentials;
use crate::security::cred::MAY_EXEC;

/// Symbolic links that one walk follows at most.
const MAX_LINKS: u32 = 40;

/// Where a walk ended that was asked for the parent of the last component.
pub enum End {
    /// The last component is a name in this directory.
    Entry {
        /// The directory.
        dir: Path,
        /// The name; not `.` nor `..`.
        name: Vec<u8>,
        /// Slashes followed it: only a directory will do.
        trailing_slash: bool,
    },
    /// It is `.`, `..` or `/`: there is no name, only the place.
    Place {
        /// The directory.
        path: Path,
        /// What it was.
        last: LastKind,
    },
}

/// A last component that is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastKind {
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// The path was only slashes.
    Root,
    /// The end of a magic link.
    Magic,
}

/// A walk under way.
pub struct Walk<'a> {
    cred: &'a Credentials,
    root: Path,
    at: Path,
    /// What is still to do, from `next` on.
    text: Vec<u8>,
    next: usize,
    links: u32,
    /// RESOLVE_* (man 2 openat2).
    resolve: u32,
}

impl<'a> Walk<'a> {
    /// A walk of `path` from `start` (or `root` for an absolute path). ENOENT for an empty
    /// path, ENAMETOOLONG.
    pub fn new(
        root: &Path,
        start: &Path,
        cred: &'a Credentials,
        path: &[u8],
        resolve: u32,
    ) -> Result<Walk<'a>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let absolute = path[0] == b'/';
        if absolute && resolve & abi::RESOLVE_BENEATH != 0 {
            return Err(Errno::EXDEV);
        }
        let scoped = resolve & (abi::RESOLVE_BENEATH | abi::RESOLVE_IN_ROOT) != 0;
        let root = if scoped { start } else { root };
        Ok(Walk {
            cred,
            root: root.clone(),
            at: if absolute { root } else { start }.clone(),
            text: path.to_vec(),
            next: 0,
            links: 0,
            resolve,
        })
    }

    /// Walks to the end. Follows a link in the last component when `follow`, or when slashes
    /// come after it.
    pub fn finish(mut self, follow: bool) -> Result<Path> {
        loop {
            match self.step()? {
                Step::More => {}
                Step::Done(_) => return Ok(self.at),
                Step::Last {
                    name,
                    trailing_slash,
                } => {
                    let child = self.child(&name)?.ok_or(Errno::ENOENT)?;
                    if child.is_symlink() && (follow || trailing_slash) {
                        self.follow(&child, trailing_slash)?;
                        continue;
                    }
                    self.enter(child)?;
                    if trailing_slash && !self.at.dentry.is_dir() {
                        return Err(Errno::ENOTDIR);
                    }
                    return Ok(self.at);
                }
            }
        }
    }

    /// Walks to the directory that holds the last component. After [`Walk::follow_last`] it
    /// may be asked again.
    pub fn parent(&mut self) -> Result<End> {
        loop {
            match self.step()? {
                Step::More => {}
                Step::Done(last) => {
                    return Ok(End::Place {
                        path: self.at.clone(),
                        last,
                    });
                }
                Step::Last {
                    name,
                    trailing_slash,
                } => {
                    return Ok(End::Entry {
                        dir: self.at.clone(),
                        name,
                        trailing_slash,
                    });
                }
            }
        }
    }

    /// The last component turned out to be the link `link`, which is to be followed.
    pub fn follow_last(&mut self, link: &Arc<Dentry>, trailing_slash: bool) -> Result<()> {
        self.follow(link, trailing_slash)
    }

    /// The place that entry `child` of the present directory leads to, mounts included;
    /// EXDEV under RESOLVE_NO_XDEV.
    pub fn enter(&mut self, child: Arc<Dentry>) -> Result<()> {
        let path = self.at.with(child).descend();
        if self.resolve & abi::RESOLVE_NO_XDEV != 0 && !Arc::ptr_eq(&path.mount, &self.at.mount) {
            return Err(Errno::EXDEV);
        }
        self.at = path;
        Ok(())
    }

    /// Where the walk is.
    pub fn place(self) -> Path {
        self.at
    }

    fn child(&self, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        self.at.dentry.lookup(name)
    }

    fn step(&mut self) -> Result<Step> {
        let text = &self.text;
        let start = text[self.next..]
            .iter()
            .position(|&b| b != b'/')
            .map(|n| self.next + n);
        let Some(start) = start else {
            // Nothing but slashes is left (or the walk jumped here by a magic link).
            let slashes = self.next < text.len();
            if slashes && !self.at.dentry.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            return Ok(Step::Done(if slashes {
                LastKind::Root
            } else {
                LastKind::Magic
            }));
        };
        let end = text[start..]
            .iter()
            .position(|&b| b == b'/')
            .map_or(text.len(), |n| start + n);
        let more = text[end..].iter().any(|&b| b != b'/');
        let trailing_slash = end < text.len();
        if !self.at.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let perm = self.at.dentry.inode.perm();
        if !self.cred.permits(MAY_EXEC, perm.uid, perm.gid, perm.mode) {
            return Err(Errno::EACCES);
        }
        let name = &text[start..end];
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let dots = match name {
            b"." => Some(LastKind::Dot),
            b".." => Some(LastKind::DotDot),
            _ => None,
        };
        if let Some(kind) = dots {
            self.next = end;
            if kind == LastKind::DotDot {
                self.up()?;
            }
            return Ok(if more { Step::More } else { Step::Done(kind) });
        }
        if !more {
            let name = name.to_vec();
            self.next = text.len();
            return Ok(Step::Last {
                name,
                trailing_slash,
            });
        }
        let child = self.child(name)?.ok_or(Errno::ENOENT)?;
        self.next = end;
        if child.is_symlink() {
            self.follow(&child, true)?;
        } else {
            self.enter(child)?;
        }
        Ok(Step::More)
    }

    fn up(&mut self) -> Result<()> {
        let beneath = self.resolve & abi::RESOLVE_BENEATH != 0;
        loop {
            if self.at.same(&self.root) {
                return if beneath { Err(Errno::EXDEV) } else { Ok(()) };
            }
            if !self.at.is_mount_root() {
                let Some(parent) = self.at.dentry.parent() else {
                    return Ok(());
                };
                return self.enter(parent);
            }
            let Some(place) = self.at.mount.place() else {
                return Ok(());
            };
            if self.resolve & abi::RESOLVE_NO_XDEV != 0 {
                return Err(Errno::EXDEV);
            }
            self.at = place;
        }
    }

    /// Puts the link's text in front of what is left. `slash`: slashes followed the link.
    fn follow(&mut self, link: &Arc<Dentry>, slash: bool) -> Result<()> {
        self.links += 1;
        let barred = self.resolve & abi::RESOLVE_NO_SYMLINKS != 0
            || self.at.mount.flags().contains(MountFlags::NOSYMFOLLOW);
        if self.links > MAX_LINKS || barred {
            return Err(Errno::ELOOP);
        }
        if let Some(target) = link.inode.magic_link() {
            if self.resolve & abi::RESOLVE_NO_MAGICLINKS != 0 {
                return Err(Errno::ELOOP);
            }
            let target = target?;
            let scoped = abi::RESOLVE_BENEATH | abi::RESOLVE_IN_ROOT;
            let crosses = self.resolve & abi::RESOLVE_NO_XDEV != 0
                && !Arc::ptr_eq(&target.mount, &self.at.mount);
            if self.resolve & scoped != 0 || crosses {
                return Err(Errno::EXDEV);
            }
            self.at = target;
            if slash && self.next == self.text.len() {
                // The slashes were taken with the name; keep their meaning.
                self.text.push(b'/');
            }
            return Ok(());
        }
        let mut text = link.inode.readlink()?;
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        if text[0] == b'/' {
            if self.resolve & abi::RESOLVE_BENEATH != 0 {
                return Err(Errno::EXDEV);
            }
            if self.resolve & abi::RESOLVE_NO_XDEV != 0
                && !Arc::ptr_eq(&self.root.mount, &self.at.mount)
            {
                return Err(Errno::EXDEV);
            }
            self.at = self.root.clone();
        }
        if self.next < self.text.len() {
            text.extend_from_slice(&self.text[self.next..]);
        } else if slash {
            text.push(b'/');
        }
        self.text = text;
        self.next = 0;
        Ok(())
    }
}

enum Step {
    More,
    Done(LastKind),
    Last { name: Vec<u8>, trailing_slash: bool },
}
