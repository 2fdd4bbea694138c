//! Changes of the tree, on inodes: make, link, unlink, rename. The caller (the VFS) holds the
//! directories' locks and did the checks that need no disk.
//!
//! Order of changes: an inode is complete before a name leads to it, a new name is there
//! before the old one goes, a link count is never below the names it counts. So a crash in
//! between leaves counts that are too high, or inodes without names, which e2fsck -p repairs.

use alloc::sync::Arc;

use super::inode::{Node, device_out};
use super::layout::DiskInode;
use super::volume::Volume;
use crate::abi;
use crate::error::{Errno, Result};
use crate::vfs::{NewNode, Timestamp};

fn touch(dir: &Node, now: Timestamp) -> Result<()> {
    dir.change(|f| {
        f.mtime = now;
        f.ctime = now;
    });
    dir.store()
}

/// Makes an object under the free name `name`; `link` is a symbolic link's text.
pub fn create(
    dir: &Node,
    name: &[u8],
    new: &NewNode,
    link: Option<&[u8]>,
    now: Timestamp,
) -> Result<Node> {
    let is_dir = new.mode & abi::S_IFMT == abi::S_IFDIR;
    if is_dir {
        dir.may_link()?;
    }
    let node = new_node(dir, new, if is_dir { 2 } else { 1 }, now)?;
    let content = || {
        node.store_new()?;
        if is_dir {
            node.start_dir(dir.ino)?;
        }
        if let Some(text) = link {
            node.set_link_text(text)?;
        }
        node.store()?;
        dir.add_entry(name, node.ino, node.type_byte())
    };
    if let Err(e) = content() {
        // Nothing leads there yet: give everything back.
        node.delete(now)?;
        return Err(e);
    }
    if is_dir {
        dir.add_links(1, now)?;
    }
    touch(dir, now)?;
    Ok(node)
}

/// Makes a regular file that no name leads to, in the filesystem of `dir`.
pub fn create_unnamed(dir: &Node, new: &NewNode, now: Timestamp) -> Result<Node> {
    let node = new_node(dir, new, 0, now)?;
    if let Err(e) = node.store_new() {
        node.delete(now)?;
        return Err(e);
    }
    Ok(node)
}

/// Takes an inode near `dir`; it is not in the table yet.
fn new_node(dir: &Node, new: &NewNode, links: u16, now: Timestamp) -> Result<Node> {
    let volume: &Arc<Volume> = &dir.volume;
    let kind = new.mode & abi::S_IFMT;
    let is_dir = kind == abi::S_IFDIR;
    let (ino, generation) = volume.allocate_inode(dir.ino, is_dir)?;
    let mut fields = DiskInode {
        mode: new.mode as u16,
        uid: new.uid,
        gid: new.gid,
        atime: now,
        ctime: now,
        mtime: now,
        btime: (volume.geometry.want_extra >= 24).then_some(now),
        links,
        generation,
        extra: volume.geometry.want_extra,
        ..DiskInode::default()
    };
    if kind == abi::S_IFCHR || kind == abi::S_IFBLK {
        (fields.block[0], fields.block[1]) = device_out(new.rdev.major, new.rdev.minor);
    }
    Ok(Node::with(volume, ino, fields))
}

/// Gives `target` the free name `name` as well.
pub fn link(dir: &Node, name: &[u8], target: &Node, now: Timestamp) -> Result<()> {
    target.add_links(1, now)?;
    if let Err(e) = dir.add_entry(name, target.ino, target.type_byte()) {
        target.add_links(-1, now)?;
        return Err(e);
    }
    touch(dir, now)
}

/// Takes the name `name` away from `target`.
pub fn unlink(dir: &Node, name: &[u8], target: &Node, now: Timestamp) -> Result<()> {
    dir.remove_entry(name)?;
    touch(dir, now)?;
    target.add_links(-1, now)
}

/// Takes the directory `target` away. ENOTEMPTY.
pub fn rmdir(dir: &Node, name: &[u8], target: &Node, now: Timestamp) -> Result<()> {
    if !target.is_empty_dir()? {
        return Err(Errno::ENOTEMPTY);
    }
    dir.remove_entry(name)?;
    touch(dir, now)?;
    orphan(target, now)?;
    dir.add_links(-1, now)
}

/// A directory lost its name: no link is left.
fn orphan(target: &Node, now: Timestamp) -> Result<()> {
    let links = i32::from(target.fields().links);
    target.add_links(-links, now)
}

/// What [`rename`] moves.
pub struct Move<'a> {
    /// Directory and name to move from.
    pub from: (&'a Node, &'a [u8]),
    /// What is there.
    pub source: &'a Node,
    /// Directory and name to move to.
    pub to: (&'a Node, &'a [u8]),
    /// What is there now.
    pub target: Option<&'a Node>,
    /// The directories differ.
    pub cross: bool,
}

/// Moves an entry, replacing the target. ENOTEMPTY, ENOSPC, EMLINK.
pub fn rename(what: &Move<'_>, now: Timestamp) -> Result<()> {
    let (from, name) = what.from;
    let (to, new_name) = what.to;
    let source = what.source;
    let moves_dir = what.cross && source.is_dir();
    match what.target {
        Some(target) => {
            let is_dir = target.is_dir();
            if is_dir && !target.is_empty_dir()? {
                return Err(Errno::ENOTEMPTY);
            }
            to.replace_entry(new_name, source.ino, source.type_byte())?;
            if is_dir {
                orphan(target, now)?;
                to.add_links(-1, now)?;
            } else {
                target.add_links(-1, now)?;
            }
        }
        None => {
            if moves_dir {
                to.may_link()?;
            }
            to.add_entry(new_name, source.ino, source.type_byte())?;
        }
    }
    if moves_dir {
        to.add_links(1, now)?;
        source.replace_entry(b"..", to.ino, 2)?;
    }
    from.remove_entry(name)?;
    if moves_dir {
        from.add_links(-1, now)?;
    }
    source.change(|f| f.ctime = now);
    source.store()?;
    touch(from, now)?;
    touch(to, now)
}

/// Swaps two entries (RENAME_EXCHANGE). EMLINK.
pub fn exchange(what: &Move<'_>, now: Timestamp) -> Result<()> {
    let (from, name) = what.from;
    let (to, new_name) = what.to;
    let source = what.source;
    let target = what.target.ok_or(Errno::ENOENT)?;
    let (s_dir, t_dir) = (source.is_dir(), target.is_dir());
    if what.cross && s_dir && !t_dir {
        to.may_link()?;
    }
    if what.cross && t_dir && !s_dir {
        from.may_link()?;
    }
    to.replace_entry(new_name, source.ino, source.type_byte())?;
    from.replace_entry(name, target.ino, target.type_byte())?;
    if what.cross {
        if s_dir {
            source.replace_entry(b"..", to.ino, 2)?;
        }
        if t_dir {
            target.replace_entry(b"..", from.ino, 2)?;
        }
        if s_dir != t_dir {
            let (more, less) = if s_dir { (to, from) } else { (from, to) };
            more.add_links(1, now)?;
            less.add_links(-1, now)?;
        }
    }
    for node in [source, target] {
        node.change(|f| f.ctime = now);
        node.store()?;
    }
    touch(from, now)?;
    touch(to, now)
}
