//! The second pass: directories. Records that cannot be, and names of what is not there, go;
//! the rest is counted.

use alloc::sync::Arc;

use super::super::dir;
use super::super::inode::{Extent, Node};
use super::super::volume::Volume;
use super::tables::filled;
use super::{Inodes, Names};
use crate::error::Result;

/// Goes through every directory; returns how many blocks were repaired.
pub fn check(volume: &Arc<Volume>, inodes: &Inodes, names: &mut Names) -> Result<usize> {
    let mut repairs = 0;
    for ino in inodes.dirs.iter() {
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
    let mut raw = filled(0_u8, volume.geometry.block_size as usize)?;
    volume
        .buffers
        .with(block, |from| raw.copy_from_slice(from))?;
    let mut changed = dir::salvage(&mut raw, ft);
    if is_first && !dir::has_dots(&raw, dir_node.ino, ft) {
        dir::start(&mut raw, dir_node.ino, dir_node.ino, ft);
        changed = true;
    }
    let mut found = 0;
    let mut next = 0;
    while let Some(entry) = dir::record(&raw, next, ft) {
        next = entry.at + entry.len;
        if entry.ino == 0 {
            continue;
        }
        found += 1;
        let (at, ino, kind) = (entry.at, entry.ino, entry.kind);
        if entry.is_dots() || !entry.is_name() {
            // `.` and `..` belong at the start of the first block only.
            if !is_first || found > 2 {
                dir::void(&mut raw, at);
                changed = true;
            }
            continue;
        }
        let is_dir = inodes.dirs.has(ino);
        let stays = inodes.used.has(ino)
            && ino >= volume.geometry.first_ino
            // A directory has one name.
            && !(is_dir && names.parents.get(ino) != 0);
        if !stays {
            dir::void(&mut raw, at);
            changed = true;
            continue;
        }
        if is_dir {
            names.add_dir(ino, dir_node.ino);
        } else {
            names.links.add_one(ino);
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
            let mut next = 0;
            while let Some(entry) = dir::record(raw, next, ft) {
                let at = entry.at;
                next = at + entry.len;
                if entry.ino == target && !entry.is_dots() {
                    dir::void(raw, at);
                }
            }
        })?;
    }
    Ok(())
}
