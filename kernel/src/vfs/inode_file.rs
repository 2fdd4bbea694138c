//! The [`File`] of regular files and directories, and of O_PATH descriptors.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::AtomicU32;

use super::attributes::{dropped_privilege, set_length};
use super::caller::path_text;
use super::dentry::UseGuard;
use super::inode::{Inode, SetAttr};
use super::mount::{MountFlags, Path, WriteGuard};
use super::notify::{self, mask};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{Allocate, DirSink, File, MapTarget, OpenFile};
use crate::mm::UserAddr;
use crate::vm::space::MappedFile;
use crate::vm::{IoDest, IoSource, PageCache, Readahead, UserPtr};

/// An open regular file or directory.
pub struct InodeFile {
    path: Path,
    /// Of a regular file.
    cache: Option<Arc<PageCache>>,
    ahead: Readahead,
    /// Failed write-backs that this description was told of.
    failures_seen: AtomicU32,
    /// Opened for writing: the mount stays writable.
    _writing: Option<WriteGuard>,
    /// Of a regular file opened for writing, or to be run.
    _use: Option<UseGuard>,
}

impl InodeFile {
    /// Opens what is at `path`; checks are the caller's. ETXTBSY for writing a program that
    /// runs.
    pub fn new(path: Path, writing: Option<WriteGuard>) -> Result<InodeFile> {
        let (mut cache, mut in_use) = (None, None);
        if path.dentry.kind() == abi::S_IFREG {
            cache = Some(path.dentry.inode.page_cache()?);
            if writing.is_some() {
                in_use = Some(path.dentry.begin_use(false)?);
            }
        }
        let told = cache.as_ref().map_or(0, |cache| cache.failures_told());
        Ok(InodeFile {
            path,
            cache,
            failures_seen: AtomicU32::new(told),
            ahead: Readahead::new(),
            _writing: writing,
            _use: in_use,
        })
    }
    /// Opens a program. ETXTBSY while it is open for writing.
    pub fn program(path: Path) -> Result<InodeFile> {
        let cache = Some(path.dentry.inode.page_cache()?);
        let in_use = Some(path.dentry.begin_use(true)?);
        let told = cache.as_ref().map_or(0, |cache| cache.failures_told());
        Ok(InodeFile {
            path,
            cache,
            failures_seen: AtomicU32::new(told),
            ahead: Readahead::new(),
            _writing: None,
            _use: in_use,
        })
    }
    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.path.dentry.inode
    }
    fn cache(&self) -> Result<&Arc<PageCache>> {
        self.cache.as_ref().ok_or(Errno::EISDIR)
    }
    fn accessed(&self, of: &OpenFile) {
        let flags = self.path.mount.flags();
        let skip = of.flags() & abi::O_NOATIME != 0
            || flags.contains(MountFlags::NOATIME)
            || (self.cache.is_none() && flags.contains(MountFlags::NODIRATIME))
            || self.path.mount.is_read_only();
        if !skip {
            self.inode()
                .accessed(flags.contains(MountFlags::STRICTATIME));
        }
    }
}

impl Drop for InodeFile {
    fn drop(&mut self) {
        let dentry = &self.path.dentry;
        let what = match self._writing {
            Some(_) => mask::CLOSE_WRITE,
            None => mask::CLOSE_NOWRITE,
        };
        notify::tell(dentry, what);
        if dentry.is_deleted() {
            // Its own place, that of its description, and the count of its use.
            notify::check_gone(dentry, 2 + usize::from(self._use.is_some()));
        }
    }
}

impl File for InodeFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn is_positional(&self) -> bool {
        true
    }
    fn read_at(&self, of: &OpenFile, pos: u64, dst: &mut IoDest<'_>) -> Result<usize> {
        let n = self
            .cache()?
            .read_at(&self.ahead, pos, self.inode().size(), dst)?;
        self.accessed(of);
        if n > 0 {
            notify::tell(&self.path.dentry, mask::ACCESS);
        }
        Ok(n)
    }
    fn write_at(&self, of: &OpenFile, pos: u64, src: &mut IoSource<'_>) -> Result<(usize, u64)> {
        let cache = self.cache()?;
        let inode = self.inode();
        let alone = inode.io_lock().lock();
        let pos = if of.flags() & abi::O_APPEND != 0 || src.appends() {
            inode.size()
        } else {
            pos
        };
        let want = (src.remaining() as u64).min(i64::MAX as u64);
        if want == 0 {
            return Ok((0, pos));
        }
        let last = src.file_limit().min(i64::MAX as u64).saturating_sub(pos);
        if last == 0 {
            return Err(Errno::EFBIG);
        }
        let size = inode.size();
        if pos > size {
            cache.zero_past(size);
        }
        let allowed = inode.prepare_write(pos, want.min(last))?;
        src.limit(allowed as usize);
        if let Some(mode) = dropped_privilege(inode.perm().mode)
            && !src.keeps_set_id()
        {
            inode.setattr(&SetAttr {
                mode: Some(mode),
                ..SetAttr::default()
            })?;
        }
        let n = cache.write_at(pos, src)?;
        let end = pos + n as u64;
        inode.written(end);
        drop(alone);
        if n > 0 {
            notify::tell(&self.path.dentry, mask::MODIFY);
        }
        if of.flags() & (abi::O_SYNC | abi::O_DSYNC) != 0 {
            self.sync(of.flags() & abi::O_SYNC != abi::O_SYNC)?;
        }
        Ok((n, end))
    }
    fn seek(&self, _of: &OpenFile, pos: u64, offset: i64, whence: u32) -> Result<u64> {
        let base = match whence {
            abi::SEEK_SET => 0,
            abi::SEEK_CUR => pos,
            abi::SEEK_END => self.inode().attr()?.size,
            abi::SEEK_DATA | abi::SEEK_HOLE if self.cache.is_some() => {
                let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                if from >= self.inode().size() {
                    return Err(Errno::ENXIO);
                }
                return self.inode().seek_hole(from, whence == abi::SEEK_HOLE);
            }
            _ => return Err(Errno::EINVAL),
        };
        let to = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
        if to > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(to)
    }
    fn read_dir(&self, of: &OpenFile, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        if self.cache.is_some() {
            return Err(Errno::ENOTDIR);
        }
        let dentry = &self.path.dentry;
        let next = {
            let _shared = dentry.entries.read();
            if dentry.is_deleted() {
                return Err(Errno::ENOENT);
            }
            dentry.inode.read_dir(pos, sink)?
        };
        self.accessed(of);
        notify::tell(dentry, mask::ACCESS);
        Ok(next)
    }
    fn ioctl(&self, of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        if cmd != abi::ioctl::FIONREAD || self.cache.is_none() {
            return Err(Errno::ENOTTY);
        }
        // Beyond the end it is negative, and of more than an int holds only the low bits, as there.
        let left = self.inode().size().wrapping_sub(of.position());
        UserPtr::<i32>::new(UserAddr(arg)).write(left as i32)?;
        Ok(0)
    }
    fn can_epoll(&self) -> bool {
        false
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode().attr()?.to_stat(self.path.dentry.sb.dev))
    }
    fn sync(&self, data_only: bool) -> Result<()> {
        let result = self.inode().sync(data_only);
        let Some(cache) = &self.cache else {
            return result;
        };
        // Also what write-back in the background met, and what somebody else's call did.
        let lost = cache.failure_since(&self.failures_seen);
        result.and(lost)
    }
    fn truncate(&self, len: u64, keeps_set_id: bool) -> Result<()> {
        if self.cache.is_none() {
            return Err(Errno::EINVAL);
        }
        set_length(&self.path, len, !keeps_set_id)
    }
    fn allocate(&self, how: Allocate, pos: u64, len: u64) -> Result<()> {
        if self.cache.is_none() {
            return Err(Errno::EISDIR);
        }
        super::allocate::allocate(self.inode(), how, pos, len)?;
        notify::tell(&self.path.dentry, mask::MODIFY);
        Ok(())
    }
    fn map(&self, of: &OpenFile) -> Result<MapTarget> {
        let cache = self.cache.as_ref().ok_or(Errno::ENODEV)?;
        self.accessed(of);
        let name = Arc::new(MappedPath(self.path.clone()));
        Ok(MapTarget::Cache(cache.clone(), name))
    }
    fn pages(&self) -> Option<(&Arc<PageCache>, &Readahead)> {
        Some((self.cache.as_ref()?, &self.ahead))
    }
    fn describe(&self) -> Vec<u8> {
        path_text(&self.path, None)
    }
}

/// Keeps a mapped file's place and names it.
struct MappedPath(Path);

impl MappedFile for MappedPath {
    fn path(&self) -> Vec<u8> {
        path_text(&self.0, None)
    }
    fn id(&self) -> (u64, u64) {
        let ino = self.0.dentry.inode.attr().map_or(0, |a| a.ino);
        (self.0.dentry.sb.dev.encode(), ino)
    }
}

/// What an O_PATH descriptor holds: a place, and no access to what is there.
pub struct PathFile {
    /// The place.
    pub path: Path,
}

impl File for PathFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn stat(&self) -> Result<abi::stat> {
        let dentry = &self.path.dentry;
        Ok(dentry.inode.attr()?.to_stat(dentry.sb.dev))
    }
    fn sync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EBADF)
    }
    fn truncate(&self, _len: u64, _keeps_set_id: bool) -> Result<()> {
        Err(Errno::EBADF)
    }
    fn ioctl(&self, _of: &OpenFile, _cmd: u32, _arg: u64) -> Result<isize> {
        Err(Errno::EBADF)
    }
    fn map(&self, _of: &OpenFile) -> Result<MapTarget> {
        Err(Errno::EBADF)
    }
    fn can_epoll(&self) -> bool {
        false
    }
    fn describe(&self) -> Vec<u8> {
        path_text(&self.path, None)
    }
}
