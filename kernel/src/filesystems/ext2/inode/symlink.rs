//! A symbolic link's text: in the inode when it is short, in a block of its own otherwise.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::{Extent, Node};
use crate::error::{Errno, Result};
use crate::filesystems::ext2::layout::get32;

impl Node {
    /// A symbolic link's text.
    pub fn link_text(&self) -> Result<Vec<u8>> {
        let fields = self.fields();
        let len = fields.size as usize;
        if fields.is_fast_symlink(self.volume.geometry.block_size) {
            let mut text: Vec<u8> = fields.block.iter().flat_map(|b| b.to_le_bytes()).collect();
            text.truncate(len);
            return Ok(text);
        }
        match self.extent(0, 1)?.0 {
            Extent::Block(block) => self
                .volume
                .buffers
                .with(block, |raw| raw.get(..len).map(<[u8]>::to_vec))?
                .ok_or(Errno::EUCLEAN),
            Extent::Zero => Err(self.volume.damage("a symbolic link has no text")),
        }
    }

    /// Sets a new symbolic link's text. ENAMETOOLONG.
    pub fn set_link_text(&self, text: &[u8]) -> Result<()> {
        if text.len() as u64 >= self.block_size() {
            return Err(Errno::ENAMETOOLONG);
        }
        self.size.store(text.len() as u64, Ordering::Release);
        if text.len() < 60 {
            let mut raw = [0u8; 60];
            raw[..text.len()].copy_from_slice(text);
            self.change(|f| {
                f.size = text.len() as u64;
                for (i, b) in f.block.iter_mut().enumerate() {
                    *b = get32(&raw, i * 4);
                }
            });
            return Ok(());
        }
        self.change(|f| f.size = text.len() as u64);
        let block = self.append_block(0)?;
        self.volume.buffers.start(block, |raw| {
            if let Some(to) = raw.get_mut(..text.len()) {
                to.copy_from_slice(text);
            }
        })
    }
}
