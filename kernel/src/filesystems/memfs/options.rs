//! Mount options (man 5 tmpfs): how much an instance may hold, and whose its root is.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::PAGE_SIZE;
use crate::vfs::Perm;

/// Kernel memory that one name and its inode take, for the inode limit.
const INODE_COST: u64 = 1024;

/// A limit that is none: 0 in the options.
pub const UNLIMITED: u64 = u64::MAX;

/// Mount options (man 5 tmpfs).
#[derive(Clone, Copy)]
pub struct Options {
    /// Pages of content at most, or [`UNLIMITED`].
    pub max_pages: u64,
    /// Inodes at most, or [`UNLIMITED`].
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
        options.change(text, total)?;
        Ok(options)
    }
    /// Takes over what the text of a mount call says. EINVAL, and then maybe for part.
    pub fn change(&mut self, text: &[u8], total: u64) -> Result<()> {
        let limit = |n| if n == 0 { UNLIMITED } else { n };
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').ok_or(Errno::EINVAL)?;
            match key {
                "size" => {
                    self.max_pages = limit(match value.strip_suffix('%') {
                        Some(percent) => {
                            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
                            total.saturating_mul(percent) / 100
                        }
                        None => scaled(value)?.div_ceil(PAGE_SIZE as u64),
                    });
                }
                "nr_blocks" => self.max_pages = limit(scaled(value)?),
                "nr_inodes" => self.max_inodes = limit(scaled(value)?),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    self.root.mode = abi::S_IFDIR | (mode & 0o7777);
                }
                "uid" => self.root.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => self.root.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(())
    }
    /// What is not as by default, for /proc/mounts, with a leading comma.
    pub fn show(&self, total: u64) -> Vec<u8> {
        let plain = Self::new(total);
        let number = |n| if n == UNLIMITED { 0 } else { n };
        let mut out = String::new();
        let mut say = |differs: bool, text: fmt::Arguments<'_>| {
            if differs {
                let _ = out.write_fmt(text);
            }
        };
        let kib = number(self.max_pages) * (PAGE_SIZE as u64 / 1024);
        let inodes = number(self.max_inodes);
        let (mode, uid, gid) = (self.root.mode & 0o7777, self.root.uid, self.root.gid);
        say(
            self.max_pages != plain.max_pages,
            format_args!(",size={kib}k"),
        );
        say(
            self.max_inodes != plain.max_inodes,
            format_args!(",nr_inodes={inodes}"),
        );
        say(
            self.root.mode != plain.root.mode,
            format_args!(",mode={mode:03o}"),
        );
        say(uid != 0, format_args!(",uid={uid}"));
        say(gid != 0, format_args!(",gid={gid}"));
        out.into_bytes()
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
