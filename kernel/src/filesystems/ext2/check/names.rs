//! The second pass: directories. Records that cannot be, and names of what is not there, go;
//! the rest is counted.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::dir;
use super::super::inode::{Extent, Node};
use super::super::volume::Volume;
use super::{Inodes, Names};
use crate::error::Result;

/// Goes through every directory; returns how many blocks were repaired.
pub fn check(volume: &Arc<Volume>, inodes: &Inodes, names: &mut Names) -> Result<usize> {
    let mut repairs = 0;
    for &ino in &inodes.dirs {
        let node = Node::read(volume, ino)?;
        let nr_blocks = node.size() / u64::from(volume.geometry.block_size);
        let mut at = 0;
        while at < nr_blocks {
            let (extent, n) = node.extent(at, 1)?;
            if let Extent::Block(block) = extent {
                repairs += usize::from(check_block(volume, &node, block, at == 0, inodes, names)?);
            }
            at += n;
        }
    }
    Ok(repairs)
}

/// One block of directory `dir_node`; whether it was changed.
fn check_block(
    volume: &Arc<Volume>,
    dir_node: &Node,
    block: u32,
    is_first: bool,
    inodes: &Inodes,
    names: &mut Names,
) -> Result<bool> {
    let ft = volume.geometry.filetype;
    let mut raw: Vec<u8> = volume.buffers.with(block, <[u8]>::to_vec)?;
    let mut changed = dir::salvage(&mut raw, ft);
    if is_first && !dir::has_dots(&raw, dir_node.ino, ft) {
        dir::start(&mut raw, dir_node.ino, dir_node.ino, ft);
        changed = true;
    }
    let found: Vec<(usize, u32, u8, bool)> = dir::entries(&raw, ft)
        .flatten()
        .filter(|e| e.ino != 0)
        .map(|e| (e.at, e.ino, e.kind, e.is_dots() || !e.is_name()))
        .collect();
    for (i, (at, ino, kind, special)) in found.into_iter().enumerate() {
        if special {
            // `.` and `..` belong at the start of the first block only.
            if !is_first || i >= 2 {
                dir::void(&mut raw, at);
                changed = true;
            }
            continue;
        }
        let is_dir = inodes.dirs.contains(&ino);
        let stays = inodes.used.has(ino)
            && ino >= volume.geometry.first_ino
            // A directory has one name.
            && !(is_dir && names.parents.contains_key(&ino));
        if !stays {
            dir::void(&mut raw, at);
            changed = true;
            continue;
        }
        *names.links.entry(ino).or_default() += 1;
        if is_dir {
            names.parents.insert(ino, dir_node.ino);
        }
        if ft {
            let right = Node::read(volume, ino)?.type_byte();
            if kind != right {
                dir::set_kind(&mut raw, at, right);
                changed = true;
            }
        }
    }
    if changed {
        volume
            .buffers
            .with_mut(block, |to| to.copy_from_slice(&raw))?;
    }
    Ok(changed)
}

/// Voids the names of `target` in `dir_node`.
pub fn remove_target(dir_node: &Node, target: u32) -> Result<()> {
    let volume = &dir_node.volume;
    let ft = volume.geometry.filetype;
    let nr_blocks = dir_node.size() / u64::from(volume.geometry.block_size);
    for at in 0..nr_blocks {
        let Extent::Block(block) = dir_node.extent(at, 1)?.0 else {
            continue;
        };
        volume.buffers.with_mut(block, |raw| {
            let found: Vec<usize> = dir::entries(raw, ft)
                .flatten()
                .filter(|e| e.ino == target && !e.is_dots())
                .map(|e| e.at)
                .collect();
            for at in found {
                dir::void(raw, at);
            }
        })?;
    }
    Ok(())
}
