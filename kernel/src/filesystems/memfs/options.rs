//! Mount options (man 5 tmpfs): how much an instance may hold, and whose its root is.

use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::PAGE_SIZE;
use crate::vfs::Perm;

/// Kernel memory that one name and its inode take, for the inode limit.
const INODE_COST: u64 = 1024;

/// Mount options (man 5 tmpfs).
pub struct Options {
    /// Pages of content at most.
    pub max_pages: u64,
    /// Inodes at most.
    pub max_inodes: u64,
    /// The root's mode, owner and group.
    pub root: Perm,
    /// Names come and go behind the VFS's back: it must not remember that one is missing.
    pub volatile: bool,
}

impl Options {
    /// The defaults on a machine of `total` page frames.
    pub fn new(total: u64) -> Options {
        Options {
            max_pages: total / 2,
            max_inodes: (total / 4 * PAGE_SIZE as u64 / INODE_COST).max(64),
            root: Perm {
                mode: abi::S_IFDIR | 0o1777,
                uid: 0,
                gid: 0,
            },
            volatile: false,
        }
    }
    /// From the text of a mount call. EINVAL.
    pub fn parse(text: &[u8], total: u64) -> Result<Options> {
        let mut options = Self::new(total);
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').ok_or(Errno::EINVAL)?;
            match key {
                "size" => {
                    options.max_pages = match value.strip_suffix('%') {
                        Some(percent) => {
                            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
                            total.saturating_mul(percent) / 100
                        }
                        None => scaled(value)?.div_ceil(PAGE_SIZE as u64),
                    };
                }
                "nr_blocks" => options.max_pages = scaled(value)?,
                "nr_inodes" => options.max_inodes = scaled(value)?,
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    options.root.mode = abi::S_IFDIR | (mode & 0o7777);
                }
                "uid" => options.root.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => options.root.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// A number with the suffixes k, m, g.
fn scaled(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let n: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    n.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}
