//! Repair of a volume that was not unmounted cleanly, before it is written again.
//!
//! A power cut leaves bitmaps behind pointers, names without inodes, inodes without names.
//! Writing on top of that would give one block to two files. So the whole of the metadata is
//! gone through, in e2fsck's order: inodes and their blocks (`blocks`), directories
//! (`names`), then lost objects, link counts and bitmaps here. What inodes and names say is
//! the truth; bitmaps and counts are made anew. A repair that is cut short itself leaves the
//! volume unclean, and is done again. Called once, while nothing else uses the volume.

mod blocks;
mod names;
mod tables;

use alloc::sync::Arc;

use super::dir;
use super::inode::Node;
use super::layout::{Group, ROOT_INO};
use super::tree;
use super::volume::Volume;
use crate::abi;
use crate::error::{Errno, Result};
use crate::vfs::{NewNode, Timestamp};
use tables::{Bits, PerInode, filled};

/// What the inode tables say.
struct Inodes {
    /// Blocks in use, the tables included.
    blocks: Bits,
    /// Inodes in use.
    used: Bits,
    /// Those of them that are directories.
    dirs: Bits,
}

/// What the directories say.
struct Names {
    /// Names of each inode, `.` and `..` not counted.
    links: PerInode<u16>,
    /// The directory that holds the name of a directory; 0 for none.
    parents: PerInode<u32>,
}

impl Names {
    fn new(inodes: u32) -> Result<Names> {
        Ok(Names {
            links: PerInode::new(inodes)?,
            parents: PerInode::new(inodes)?,
        })
    }

    /// A directory got a name in `parent`.
    fn add_dir(&mut self, ino: u32, parent: u32) {
        self.links.add_one(ino);
        self.parents.set(ino, parent);
    }
}

/// Repairs the volume; returns how many things were wrong. EUCLEAN when it cannot be.
pub fn repair(volume: &Arc<Volume>, now: Timestamp) -> Result<usize> {
    let (inodes, mut repairs) = blocks::check(volume, now)?;
    if !inodes.dirs.has(ROOT_INO) {
        // Without a root there is nothing to hang things on.
        return Err(Errno::EUCLEAN);
    }
    let mut names = Names::new(volume.geometry.inodes)?;
    repairs += names::check(volume, &inodes, &mut names)?;
    repairs += write_bitmaps(volume, &inodes)?;
    // From here on the volume can be allocated from.
    repairs += reconnect(volume, &inodes, &mut names, now)?;
    repairs += set_links(volume, &inodes, &names)?;
    volume.buffers.write_back()?;
    volume.buffers.disk().flush()?;
    volume.declare_sound()?;
    Ok(repairs)
}

/// Brings bitmaps and the groups' counts in line with what is in use.
fn write_bitmaps(volume: &Volume, inodes: &Inodes) -> Result<usize> {
    let geometry = &volume.geometry;
    let mut changed = 0;
    for n in 0..geometry.groups {
        let (first, count) = (geometry.group_start(n), geometry.group_blocks(n));
        let first_ino = n * geometry.inodes_per_group + 1;
        let mut free_blocks = 0;
        let mut free_inodes = 0;
        let group = volume.group(n)?;
        changed += usize::from(fill_bitmap(volume, group.block_bitmap, count, |i| {
            let used = inodes.blocks.has(first + i);
            free_blocks += u16::from(!used);
            used
        })?);
        let per_group = geometry.inodes_per_group;
        changed += usize::from(fill_bitmap(volume, group.inode_bitmap, per_group, |i| {
            let ino = first_ino + i;
            let used = ino < geometry.first_ino || inodes.used.has(ino);
            free_inodes += u16::from(!used);
            used
        })?);
        let dirs = (first_ino..first_ino + per_group).filter(|&ino| inodes.dirs.has(ino));
        let counted = Group {
            free_blocks,
            free_inodes,
            used_dirs: dirs.count() as u16,
            ..group
        };
        if counted.counts() != group.counts() {
            changed += 1;
            volume.set_group(n, &counted)?;
        }
    }
    volume.recount();
    Ok(changed)
}

/// Makes the first `count` bits of a bitmap what `used` says, and those after them ones;
/// whether that changed any.
fn fill_bitmap(
    volume: &Volume,
    block: u32,
    count: u32,
    mut used: impl FnMut(u32) -> bool,
) -> Result<bool> {
    let size = volume.geometry.block_size as usize;
    let mut wanted = filled(0xff_u8, size)?;
    for i in 0..count {
        if !used(i)
            && let Some(byte) = wanted.get_mut(i as usize / 8)
        {
            *byte &= !(1 << (i % 8));
        }
    }
    if volume.buffers.with(block, |raw| *raw == *wanted)? {
        return Ok(false);
    }
    volume
        .buffers
        .with_mut(block, |raw| raw.copy_from_slice(&wanted))?;
    Ok(true)
}

/// Directories from which the root is not reached, and files without names, go to
/// `lost+found`; files without content are freed.
fn reconnect(
    volume: &Arc<Volume>,
    inodes: &Inodes,
    names: &mut Names,
    now: Timestamp,
) -> Result<usize> {
    let mut repairs = 0;
    let mut connected = Bits::new(volume.geometry.inodes)?;
    connected.set(ROOT_INO);
    for start in inodes.dirs.iter() {
        let at = last_ancestor(start, &connected, names);
        if !connected.has(at) {
            // `at` has no parent, or closes a circle: it goes to another place.
            let lost = lost_found(volume, names, now)?;
            let old = names.parents.get(at);
            if old != 0 {
                // The name that closed the circle stays behind: no directory has two.
                names::remove_target(&Node::read(volume, old)?, at)?;
                names.links.set(at, 0);
            }
            names.add_dir(at, lost);
            add_lost(volume, lost, at)?;
            repairs += 1;
        }
        let mut passed = start;
        while connected.set(passed) && passed != at {
            passed = names.parents.get(passed);
        }
    }
    for ino in volume.geometry.first_ino..=volume.geometry.inodes {
        if !inodes.used.has(ino) || names.links.get(ino) != 0 {
            continue;
        }
        repairs += 1;
        let node = Node::read(volume, ino)?;
        if node.size() == 0 {
            node.delete(now)?;
            continue;
        }
        let added = lost_found(volume, names, now).and_then(|lost| add_lost(volume, lost, ino));
        match added {
            Ok(()) => names.links.set(ino, 1),
            // No room for its name, and nobody knew it.
            Err(Errno::ENOSPC) => node.delete(now)?,
            Err(e) => return Err(e),
        }
    }
    Ok(repairs)
}

/// The first directory upwards from `start` that is in `connected`; if there is none, the one
/// without a parent, or one of those that go in a circle (Brent's algorithm).
fn last_ancestor(start: u32, connected: &Bits, names: &Names) -> u32 {
    let mut at = start;
    let (mut anchor, mut turns, mut limit) = (start, 0_u64, 1_u64);
    while !connected.has(at) {
        match names.parents.get(at) {
            0 => break,
            parent => at = parent,
        }
        if at == anchor {
            break;
        }
        turns += 1;
        if turns == limit {
            (anchor, turns, limit) = (at, 0, limit * 2);
        }
    }
    at
}

/// `lost+found` of the root, made if it is not there.
fn lost_found(volume: &Arc<Volume>, names: &mut Names, now: Timestamp) -> Result<u32> {
    const NAME: &[u8] = b"lost+found";
    let root = Node::read(volume, ROOT_INO)?;
    if let Some(ino) = root.find_entry(NAME)? {
        // A file of that name: lost things go to the root itself.
        let is_dir = Node::read(volume, ino)?.is_dir();
        return Ok(if is_dir { ino } else { ROOT_INO });
    }
    let new = NewNode {
        mode: abi::S_IFDIR | 0o700,
        uid: 0,
        gid: 0,
        rdev: crate::vfs::Dev::default(),
    };
    let node = tree::create(&root, NAME, &new, None, now)?;
    names.add_dir(node.ino, ROOT_INO);
    Ok(node.ino)
}

/// Names `ino` in directory `lost` by its number, as e2fsck does.
fn add_lost(volume: &Arc<Volume>, lost: u32, ino: u32) -> Result<()> {
    let node = Node::read(volume, ino)?;
    let name = alloc::format!("#{ino}");
    let lost = Node::read(volume, lost)?;
    if lost.find_entry(name.as_bytes())?.is_some() {
        return Err(Errno::EUCLEAN);
    }
    lost.add_entry(name.as_bytes(), ino, node.type_byte())
}

/// Makes link counts what the names say, and `..` what holds the name.
fn set_links(volume: &Arc<Volume>, inodes: &Inodes, names: &Names) -> Result<usize> {
    let last = volume.geometry.inodes;
    let mut subdirs = PerInode::<u16>::new(last)?;
    for ino in 1..=last {
        subdirs.add_one(names.parents.get(ino));
    }
    let mut repairs = 0;
    for ino in 1..=last {
        let parent = names.parents.get(ino);
        if parent == 0 && !inodes.dirs.has(ino) {
            let links = names.links.get(ino);
            if links != 0 {
                repairs += set_count(&Node::read(volume, ino)?, links)?;
            }
            continue;
        }
        let node = Node::read(volume, ino)?;
        let parent = if parent == 0 { ROOT_INO } else { parent };
        if node.find_entry(b"..")? != Some(parent) {
            node.replace_entry(b"..", parent, dir::TYPE_DIR)?;
            repairs += 1;
        }
        repairs += set_count(&node, subdirs.get(ino).saturating_add(2))?;
    }
    Ok(repairs)
}

fn set_count(node: &Node, links: u16) -> Result<usize> {
    if node.fields().links == links {
        return Ok(0);
    }
    node.change(|f| f.links = links);
    node.store()?;
    Ok(1)
}
