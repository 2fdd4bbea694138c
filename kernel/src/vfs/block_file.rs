//! Block device nodes as files: reads and writes go through one page cache per device, which
//! filesystems use for their metadata as well.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use super::inode::{Attr, Dev};
use crate::abi;
use crate::block::{self, BlockDevice, Op, Request, SECTOR_BYTES, Segment};
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile};
use crate::mm::{FrameRef, PAGE_SIZE};
use crate::sched::Mutex;
use crate::vm::page_cache::ReadDone;
use crate::vm::{IoDest, IoSource, PageCache, PageSource, Readahead};

/// A block device with its pages.
pub struct CachedDevice {
    /// The device.
    pub device: Arc<dyn BlockDevice>,
    /// Its first bytes to its last, by page.
    pub cache: Arc<PageCache>,
}

/// Pages of a device, straight.
struct DeviceSource(Arc<dyn BlockDevice>);

const SECTORS_PER_PAGE: u64 = PAGE_SIZE as u64 / SECTOR_BYTES;

impl DeviceSource {
    /// Where `pages` from page `index` on lie: first sector, and memory up to the device's end.
    fn place(&self, index: u64, pages: &[FrameRef]) -> Result<(u64, Vec<Segment>)> {
        let sector = index.checked_mul(SECTORS_PER_PAGE).ok_or(Errno::EIO)?;
        let mut left = self.0.nr_sectors().saturating_sub(sector) * SECTOR_BYTES;
        let mut segments = Vec::new();
        segments
            .try_reserve_exact(pages.len())
            .map_err(|_| Errno::ENOMEM)?;
        for frame in pages {
            let len = left.min(PAGE_SIZE as u64) as u32;
            left -= u64::from(len);
            if len > 0 {
                segments.push(Segment {
                    frame: frame.clone(),
                    offset: 0,
                    len,
                });
            }
        }
        Ok((sector, segments))
    }
}

impl PageSource for DeviceSource {
    fn start_read(&self, index: u64, pages: &[FrameRef], done: ReadDone) {
        let (sector, segments) = match self.place(index, pages) {
            Ok(place) => place,
            Err(e) => return done(Err(e)),
        };
        // The device's last page may be cut short.
        let whole = segments.iter().filter(|s| s.len as usize == PAGE_SIZE);
        pages.iter().skip(whole.count()).for_each(FrameRef::zero);
        if segments.is_empty() {
            return done(Ok(()));
        }
        self.0.submit(Request {
            op: Op::Read,
            sector,
            segments,
            done,
        });
    }
    fn write_pages(&self, index: u64, pages: &[FrameRef]) -> Result<()> {
        let (sector, segments) = self.place(index, pages)?;
        if segments.is_empty() {
            return Ok(());
        }
        block::submit_and_wait(&self.0, Op::Write, sector, segments)
    }
    fn reserve(&self, pos: u64, len: u64) -> Result<()> {
        if pos.checked_add(len).is_none_or(|end| end > self.size()) {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }
    fn size(&self) -> u64 {
        self.0.nr_sectors().saturating_mul(SECTOR_BYTES)
    }
    fn grow(&self, _size: u64) {}
}

/// A [`CachedDevice`] and the source its cache weakly points to.
struct Held {
    cached: Arc<CachedDevice>,
    _source: Arc<dyn PageSource>,
}

static DEVICES: Mutex<Vec<Held>> = Mutex::new(Vec::new());

/// The one cached view of `device`.
pub fn cached(device: &Arc<dyn BlockDevice>) -> Result<Arc<CachedDevice>> {
    let mut devices = DEVICES.lock();
    let same = |h: &&Held| core::ptr::addr_eq(Arc::as_ptr(&h.cached.device), Arc::as_ptr(device));
    if let Some(held) = devices.iter().find(same) {
        return Ok(held.cached.clone());
    }
    let source: Arc<dyn PageSource> = Arc::new(DeviceSource(device.clone()));
    let weak: Weak<dyn PageSource> = Arc::downgrade(&source);
    let cached = Arc::new(CachedDevice {
        device: device.clone(),
        cache: PageCache::new(Some(weak))?,
    });
    devices.push(Held {
        cached: cached.clone(),
        _source: source,
    });
    Ok(cached)
}

/// Forgets what is cached of `device`, after writing it: a filesystem takes it over, or gave
/// it up, and goes by caches of its own.
pub fn invalidate(device: &Arc<dyn BlockDevice>) -> Result<()> {
    let devices = DEVICES.lock();
    let same = |h: &&Held| core::ptr::addr_eq(Arc::as_ptr(&h.cached.device), Arc::as_ptr(device));
    if let Some(held) = devices.iter().find(same) {
        held.cached.cache.write_back(0, u64::MAX)?;
        held.cached.cache.truncate(0);
    }
    Ok(())
}

impl CachedDevice {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.device.nr_sectors().saturating_mul(SECTOR_BYTES)
    }
    /// Writes every dirty page and flushes the device's own cache.
    pub fn sync(&self) -> Result<()> {
        self.cache.write_back(0, u64::MAX)?;
        self.flush()
    }
    /// Makes what the device acknowledged durable.
    pub fn flush(&self) -> Result<()> {
        block::submit_and_wait(&self.device, Op::Flush, 0, Vec::new())
    }
}

/// An open block device node.
pub(super) struct BlockFile {
    dev: Dev,
    cached: Arc<CachedDevice>,
    ahead: Readahead,
}

impl BlockFile {
    pub fn open(dev: Dev, device: &Arc<dyn BlockDevice>, flags: u32) -> Result<BlockFile> {
        if flags & abi::O_ACCMODE != abi::O_RDONLY && device.read_only() {
            return Err(Errno::EROFS);
        }
        Ok(BlockFile {
            dev,
            cached: cached(device)?,
            ahead: Readahead::new(),
        })
    }
}

const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKSSZGET: u32 = 0x1268;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKROGET: u32 = 0x125e;
const BLKBSZGET: u32 = 0x8008_1270;

impl File for BlockFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn is_positional(&self) -> bool {
        true
    }
    fn read_at(&self, _of: &OpenFile, pos: u64, dst: &mut IoDest<'_>) -> Result<usize> {
        self.cached
            .cache
            .read_at(&self.ahead, pos, self.cached.size(), dst)
    }
    fn write_at(&self, of: &OpenFile, pos: u64, src: &mut IoSource<'_>) -> Result<(usize, u64)> {
        let size = self.cached.size();
        let room = size.saturating_sub(pos);
        if room == 0 && src.remaining() > 0 {
            return Err(Errno::ENOSPC);
        }
        src.limit(usize::try_from(room).unwrap_or(usize::MAX));
        let n = self.cached.cache.write_at(pos, src)?;
        if of.flags() & (abi::O_SYNC | abi::O_DSYNC) != 0 {
            self.cached.sync()?;
        }
        Ok((n, pos + n as u64))
    }
    fn seek(&self, _of: &OpenFile, pos: u64, offset: i64, whence: u32) -> Result<u64> {
        let base = match whence {
            abi::SEEK_SET => 0,
            abi::SEEK_CUR => pos,
            abi::SEEK_END => self.cached.size(),
            _ => return Err(Errno::EINVAL),
        };
        let to = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
        if to > self.cached.size() {
            return Err(Errno::EINVAL);
        }
        Ok(to)
    }
    fn can_epoll(&self) -> bool {
        false
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        use crate::mm::UserAddr;
        use crate::vm::UserPtr;
        let arg = UserAddr(arg);
        match cmd {
            BLKGETSIZE => UserPtr::<u64>::new(arg).write(self.cached.device.nr_sectors())?,
            BLKGETSIZE64 => UserPtr::<u64>::new(arg).write(self.cached.size())?,
            BLKSSZGET => UserPtr::<i32>::new(arg).write(SECTOR_BYTES as i32)?,
            BLKBSZGET => UserPtr::<i32>::new(arg).write(PAGE_SIZE as i32)?,
            BLKROGET => {
                UserPtr::<i32>::new(arg).write(i32::from(self.cached.device.read_only()))?;
            }
            BLKFLSBUF => self.cached.sync()?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
    fn stat(&self) -> Result<abi::stat> {
        let attr = Attr {
            mode: abi::S_IFBLK | 0o660,
            nlink: 1,
            rdev: self.dev,
            block_size: PAGE_SIZE as u32,
            ..Attr::default()
        };
        Ok(attr.to_stat(Dev::default()))
    }
    fn sync(&self, _data_only: bool) -> Result<()> {
        self.cached.sync()
    }
    fn pages(&self) -> Option<(&Arc<PageCache>, &Readahead)> {
        Some((&self.cached.cache, &self.ahead))
    }
    fn describe(&self) -> Vec<u8> {
        alloc::format!("/dev/{}", self.cached.device.name()).into_bytes()
    }
}
