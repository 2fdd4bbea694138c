//! Files whose content is made when they are read.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile};
use crate::sched::Mutex;
use crate::vfs::{Path, path_text};
use crate::vm::{IoDest, IoSource};

/// Makes a file's content.
pub type Make = Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;
/// Takes what a program wrote.
pub type Take = Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;

/// An open file of text.
pub struct TextFile {
    path: Path,
    make: Make,
    take: Option<Take>,
    /// Bytes that one write may have; the rest is left to the next, unless it is one whole.
    most: usize,
    is_whole: bool,
    /// Of the present reading.
    text: Mutex<Option<Vec<u8>>>,
}

impl TextFile {
    /// An open file with this content.
    pub fn new(path: Path, make: Make, take: Option<Take>) -> TextFile {
        TextFile {
            path,
            make,
            take,
            most: crate::mm::PAGE_SIZE,
            is_whole: false,
            text: Mutex::new(None),
        }
    }

    /// The same file, of which one write is the whole content, of at most `most` bytes.
    pub fn taking_whole(self, most: usize) -> TextFile {
        TextFile {
            most,
            is_whole: true,
            ..self
        }
    }
}

impl File for TextFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn is_positional(&self) -> bool {
        true
    }
    fn read_at(&self, _of: &OpenFile, pos: u64, dst: &mut IoDest<'_>) -> Result<usize> {
        let mut text = self.text.lock();
        if pos == 0 || text.is_none() {
            *text = Some((self.make)()?);
        }
        let all = text.as_deref().unwrap_or(&[]);
        let rest = usize::try_from(pos).ok().and_then(|p| all.get(p..));
        dst.put(rest.unwrap_or(&[]))
    }
    fn write_at(&self, _of: &OpenFile, pos: u64, src: &mut IoSource<'_>) -> Result<(usize, u64)> {
        let take = self.take.as_ref().ok_or(Errno::EIO)?;
        if self.is_whole && (pos != 0 || src.remaining() > self.most) {
            return Err(Errno::EINVAL);
        }
        let mut text = vec![0; src.remaining().min(self.most)];
        let n = src.get(&mut text)?;
        take(&text[..n])?;
        Ok((n, pos + n as u64))
    }
    fn seek(&self, _of: &OpenFile, pos: u64, offset: i64, whence: u32) -> Result<u64> {
        let base = match whence {
            abi::SEEK_SET => 0,
            abi::SEEK_CUR => pos,
            _ => return Err(Errno::EINVAL),
        };
        base.checked_add_signed(offset).ok_or(Errno::EINVAL)
    }
    fn can_epoll(&self) -> bool {
        false
    }
    fn stat(&self) -> Result<abi::stat> {
        let dentry = &self.path.dentry;
        Ok(dentry.inode.attr()?.to_stat(dentry.sb.dev))
    }
    fn truncate(&self, _len: u64, _keeps_set_id: bool) -> Result<()> {
        // Shells truncate what they redirect to; there is nothing to cut.
        Ok(())
    }
    fn describe(&self) -> Vec<u8> {
        path_text(&self.path, None)
    }
}

/// A number that a program wrote, white space around it.
pub fn number(text: &[u8]) -> Result<i64> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    text.trim().parse().map_err(|_| Errno::EINVAL)
}

/// Puts white space, backslashes and # as octal, as /proc/mounts does.
pub fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for &b in text {
        if matches!(b, b' ' | b'\t' | b'\n' | b'\\' | b'#') {
            out.extend_from_slice(alloc::format!("\\{b:03o}").as_bytes());
        } else {
            out.push(b);
        }
    }
}
