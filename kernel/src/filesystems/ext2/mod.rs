//! The second extended filesystem, read and write.
//!
//! `layout`, `dir`, `map`, `volume`, `inode`, `tree` and `buffers` are the on-disk code; they
//! know neither the VFS's objects nor the page cache and are tested on the host against
//! images that mke2fs made and e2fsck checks. `super_block`, `node` and `reserve` are the glue.
//! `check` repairs what a power cut left.
//!
//! Metadata goes through block buffers with write-back, content through page caches. `fsync`
//! writes content first, then metadata, then flushes the device.

mod buffers;
mod check;
mod dir;
mod disk;
mod inode;
mod layout;
mod map;
mod node;
mod reserve;
mod super_block;
#[cfg(test)]
mod tests;
mod tree;
mod volume;

pub use super_block::Ext2;
