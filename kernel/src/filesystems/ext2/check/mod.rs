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

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::dir;
use super::inode::Node;
use super::layout::{Group, ROOT_INO};
use super::tree;
use super::volume::Volume;
use crate::abi;
use crate::error::{Errno, Result};
use crate::vfs::{NewNode, Timestamp};

/// One bit per block or inode.
struct Bits(Vec<u8>);

impl Bits {
    fn new(len: u32) -> Result<Bits> {
        let bytes = len as usize / 8 + 1;
        let mut bits = Vec::new();
        bits.try_reserve_exact(bytes).map_err(|_| Errno::ENOMEM)?;
        bits.resize(bytes, 0);
        Ok(Bits(bits))
    }
    fn has(&self, n: u32) -> bool {
        self.0
            .get(n as usize / 8)
            .is_some_and(|byte| byte & (1 << (n % 8)) != 0)
    }
    /// Whether it was clear.
    fn set(&mut self, n: u32) -> bool {
        let was = self.has(n);
        if let Some(byte) = self.0.get_mut(n as usize / 8) {
            *byte |= 1 << (n % 8);
        }
        !was
    }
}

/// What the inode tables say.
struct Inodes {
    /// Blocks in use, the tables included.
    blocks: Bits,
    /// Inodes in use.
    used: Bits,
    /// Those of them that are directories.
    dirs: BTreeSet<u32>,
}

/// What the directories say.
#[derive(Default)]
struct Names {
    /// Names of each inode, `.` and `..` not counted.
    links: BTreeMap<u32, u32>,
    /// The directory that holds the name of a directory.
    parents: BTreeMap<u32, u32>,
}

/// Repairs the volume; returns how many things were wrong. EUCLEAN when it cannot be.
pub fn repair(volume: &Arc<Volume>, now: Timestamp) -> Result<usize> {
    let (inodes, mut repairs) = blocks::check(volume, now)?;
    if !inodes.dirs.contains(&ROOT_INO) {
        // Without a root there is nothing to hang things on.
        return Err(Errno::EUCLEAN);
    }
    let mut names = Names::default();
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
        let last_ino = first_ino + per_group;
        let counted = Group {
            free_blocks,
            free_inodes,
            used_dirs: inodes.dirs.range(first_ino..last_ino).count() as u16,
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
    let mut wanted = Vec::new();
    wanted.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    wanted.resize(size, 0xff_u8);
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
    let mut connected = BTreeSet::from([ROOT_INO]);
    for &start in &inodes.dirs {
        let mut chain = BTreeSet::new();
        let mut at = start;
        while !connected.contains(&at) {
            if !chain.insert(at) {
                break;
            }
            match names.parents.get(&at) {
                Some(&parent) => at = parent,
                None => break,
            }
        }
        if !connected.contains(&at) {
            // `at` has no parent, or closes a circle: it goes to another place.
            let lost = lost_found(volume, names, now)?;
            if let Some(old) = names.parents.insert(at, lost) {
                // The name that closed the circle stays behind: no directory has two.
                names::remove_target(&Node::read(volume, old)?, at)?;
                names.links.remove(&at);
            }
            *names.links.entry(at).or_default() += 1;
            add_lost(volume, lost, at)?;
            repairs += 1;
        }
        connected.extend(chain);
    }
    let mut used: Vec<u32> = Vec::new();
    let first = volume.geometry.first_ino;
    for ino in first..=volume.geometry.inodes {
        if inodes.used.has(ino) && !names.links.contains_key(&ino) {
            used.push(ino);
        }
    }
    for ino in used {
        repairs += 1;
        let node = Node::read(volume, ino)?;
        if node.size() == 0 {
            node.delete(now)?;
            continue;
        }
        let added = lost_found(volume, names, now).and_then(|lost| add_lost(volume, lost, ino));
        match added {
            Ok(()) => drop(names.links.insert(ino, 1)),
            // No room for its name, and nobody knew it.
            Err(Errno::ENOSPC) => node.delete(now)?,
            Err(e) => return Err(e),
        }
    }
    Ok(repairs)
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
    names.links.insert(node.ino, 1);
    names.parents.insert(node.ino, ROOT_INO);
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
    let mut subdirs: BTreeMap<u32, u32> = BTreeMap::new();
    for &parent in names.parents.values() {
        *subdirs.entry(parent).or_default() += 1;
    }
    let mut repairs = 0;
    let dirs = inodes.dirs.iter().chain(names.parents.keys());
    for &ino in dirs.collect::<BTreeSet<_>>() {
        let node = Node::read(volume, ino)?;
        let parent = names.parents.get(&ino).copied().unwrap_or(ROOT_INO);
        if node.find_entry(b"..")? != Some(parent) {
            node.replace_entry(b"..", parent, dir::TYPE_DIR)?;
            repairs += 1;
        }
        repairs += set_count(&node, 2 + subdirs.get(&ino).copied().unwrap_or(0))?;
    }
    for (&ino, &links) in &names.links {
        if !names.parents.contains_key(&ino) {
            repairs += set_count(&Node::read(volume, ino)?, links)?;
        }
    }
    Ok(repairs)
}

fn set_count(node: &Node, links: u32) -> Result<usize> {
    let links = links.min(u32::from(u16::MAX)) as u16;
    if node.fields().links == links {
        return Ok(0);
    }
    node.change(|f| f.links = links);
    node.store()?;
    Ok(1)
}
