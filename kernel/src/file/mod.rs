//! Open files: the [`File`] trait, open file descriptions, descriptor tables, polling, and
//! the files that live in memory only (pipes, eventfd, timerfd...).
//!
//! A [`File`] is what `open` made; an [`OpenFile`] is the open file description around it
//! (status flags, position); an fd table maps numbers to descriptions.

pub mod anon;
pub mod async_io;
pub mod epoll;
pub mod eventfd;
pub mod lock;
pub mod pipe;
pub mod poll;
pub mod range_lock;
pub mod table;
pub mod timerfd;

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::Mutex;
use crate::sync::{Rank, SpinLock};
use crate::vm::{IoDest, IoSource, PageCache, Readahead, space::MappedFile};
pub use poll::{PollEvents, PollTable};

/// What `mmap` of a file maps.
pub enum MapTarget {
    /// Pages of this cache.
    Cache(Arc<PageCache>, Arc<dyn MappedFile>),
    /// Private zero pages (/dev/zero).
    Zero,
}

/// What man 2 fallocate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Storage; the file grows over it.
    Grow,
    /// Storage, without a change of the size (FALLOC_FL_KEEP_SIZE).
    Keep,
    /// Zeros; the file grows over them (FALLOC_FL_ZERO_RANGE).
    Zero,
    /// Zeros, as far as the file reaches.
    ZeroKeep,
    /// No storage, and zeros (FALLOC_FL_PUNCH_HOLE).
    Punch,
}

/// Receives directory entries; see [`File::read_dir`].
pub trait DirSink {
    /// Takes an entry. `next` is the position that continues after it; `kind` is a DT_* value.
    /// False when the buffer is full: the entry was not taken.
    fn entry(&mut self, name: &[u8], ino: u64, kind: u8, next: u64) -> bool;
}

/// An opened object. Methods take the description that the call came through, for its flags.
/// The defaults answer what Linux answers for objects that lack the operation.
pub trait File: Send + Sync + Any {
    /// For the few places that must know the concrete type (`fstat` of a path, ttys...).
    fn as_any(&self) -> &dyn Any;

    /// Whether reads and writes happen at the description's position.
    fn is_positional(&self) -> bool {
        false
    }
    /// Reads from a stream. EAGAIN when `O_NONBLOCK` and nothing is there; 0 at the end.
    fn read(&self, _of: &OpenFile, _dst: &mut IoDest<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// Writes to a stream.
    fn write(&self, _of: &OpenFile, _src: &mut IoSource<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// Reads at a position; positional files only.
    fn read_at(&self, _of: &OpenFile, _pos: u64, _dst: &mut IoDest<'_>) -> Result<usize> {
        Err(Errno::ESPIPE)
    }
    /// Writes at a position, or at the end with `O_APPEND`; returns the count and the
    /// position after it.
    fn write_at(&self, _of: &OpenFile, _pos: u64, _src: &mut IoSource<'_>) -> Result<(usize, u64)> {
        Err(Errno::ESPIPE)
    }
    /// The position that `lseek(offset, whence)` asks for, given the present one.
    fn seek(&self, _of: &OpenFile, _pos: u64, _offset: i64, _whence: u32) -> Result<u64> {
        Err(Errno::ESPIPE)
    }
    /// Lists entries from directory position `pos` on; returns the position to continue at.
    fn read_dir(&self, _of: &OpenFile, _pos: u64, _sink: &mut dyn DirSink) -> Result<u64> {
        Err(Errno::ENOTDIR)
    }
    /// Ready events now; registers with the table's observer first when one is given.
    fn poll(&self, _of: &OpenFile, _table: Option<&mut PollTable>) -> PollEvents {
        PollEvents::IN | PollEvents::OUT
    }
    /// Whether epoll accepts the file (EPERM otherwise: regular files and directories).
    fn can_epoll(&self) -> bool {
        true
    }
    /// Device control (man 2 ioctl).
    fn ioctl(&self, _of: &OpenFile, _cmd: u32, _arg: u64) -> Result<isize> {
        Err(Errno::ENOTTY)
    }
    /// Whether writing to it when nobody will read any more sends SIGPIPE (man 7 signal):
    /// streams do, datagram sockets do not.
    fn raises_sigpipe(&self) -> bool {
        true
    }
    /// man 2 fstat.
    fn stat(&self) -> Result<abi::stat>;
    /// man 2 fsync; `data_only` for fdatasync.
    fn sync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }
    /// man 2 ftruncate. `keeps_set_id`: the caller's privilege leaves set-id bits alone.
    fn truncate(&self, _len: u64, _keeps_set_id: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }
    /// man 2 fallocate, of `len` bytes (at least one) at `pos`.
    fn allocate(&self, _how: Allocate, _pos: u64, _len: u64) -> Result<()> {
        Err(Errno::ENODEV)
    }
    /// man 2 mmap.
    fn map(&self, _of: &OpenFile) -> Result<MapTarget> {
        Err(Errno::ENODEV)
    }
    /// The page cache it is read through, and how it is read (man 2 posix_fadvise).
    fn pages(&self) -> Option<(&Arc<PageCache>, &Readahead)> {
        None
    }
    /// What /proc/pid/fd/N links to, e.g. `pipe:[123]` or a path.
    fn describe(&self) -> alloc::vec::Vec<u8>;
    /// One descriptor onto this description was closed (man 2 close; flock/POSIX locks).
    fn flush(&self, _of: &OpenFile) {}
}

/// An open file description (man 2 open): shared by dup'ed and inherited descriptors.
pub struct OpenFile {
    /// The object.
    pub file: Arc<dyn File>,
    /// O_* flags: access mode (fixed) and status flags (F_SETFL changes them).
    flags: AtomicU32,
    /// File position; the lock makes `read`, `write` and `lseek` atomic to each other.
    pos: Mutex<u64>,
    /// Where in the tree it was opened (`vfs` knows the type); `None` for pipes and the like.
    location: Option<Arc<dyn Any + Send + Sync>>,
    /// It may hold `flock` or OFD locks, which end with it.
    has_locks: AtomicBool,
    /// Whom it tells of input and room ([`async_io`]).
    async_io: SpinLock<Option<Arc<async_io::AsyncIo>>>,
}

impl OpenFile {
    /// A description of `file` with `flags` (O_ACCMODE and status flags).
    pub fn new(file: Arc<dyn File>, flags: u32) -> Arc<OpenFile> {
        Arc::new(OpenFile {
            file,
            flags: AtomicU32::new(flags),
            pos: Mutex::new(0),
            location: None,
            has_locks: AtomicBool::new(false),
            async_io: SpinLock::new(Rank::Leaf, None),
        })
    }
    /// As [`OpenFile::new`], for a file that was opened by name: `location` is its place in
    /// the tree, which `fstat`, `fchdir`, the *at calls and /proc ask for.
    pub fn new_at(
        file: Arc<dyn File>,
        flags: u32,
        location: Arc<dyn Any + Send + Sync>,
    ) -> Arc<OpenFile> {
        Arc::new(OpenFile {
            file,
            flags: AtomicU32::new(flags),
            pos: Mutex::new(0),
            location: Some(location),
            has_locks: AtomicBool::new(false),
            async_io: SpinLock::new(Rank::Leaf, None),
        })
    }
    /// What [`OpenFile::new_at`] was told.
    pub fn location(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.location.as_ref()
    }
    /// O_* flags of now.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }
    /// Replaces the status flags in `mask` (F_SETFL, FIONBIO).
    pub fn set_flags(&self, mask: u32, value: u32) {
        let _ = self
            .flags
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                Some((old & !mask) | (value & mask))
            });
    }
    /// Whether calls must not block.
    pub fn nonblocking(&self) -> bool {
        self.flags() & abi::O_NONBLOCK != 0
    }
    /// Whether the access mode allows reading.
    pub fn readable(&self) -> bool {
        self.flags() & (abi::O_ACCMODE | abi::O_PATH) != abi::O_WRONLY
            && self.flags() & abi::O_PATH == 0
    }
    /// Whether the access mode allows writing.
    pub fn writable(&self) -> bool {
        self.flags() & abi::O_ACCMODE != abi::O_RDONLY && self.flags() & abi::O_PATH == 0
    }
    /// man 2 read. EBADF when not open for reading.
    pub fn read(&self, dst: &mut IoDest<'_>) -> Result<usize> {
        if !self.readable() {
            return Err(Errno::EBADF);
        }
        if !self.file.is_positional() {
            return self.file.read(self, dst);
        }
        let mut pos = self.pos.lock();
        let n = self.file.read_at(self, *pos, dst)?;
        *pos += n as u64;
        Ok(n)
    }
    /// man 2 write. EBADF when not open for writing.
    pub fn write(&self, src: &mut IoSource<'_>) -> Result<usize> {
        if !self.writable() {
            return Err(Errno::EBADF);
        }
        if !self.file.is_positional() {
            let result = self.file.write(self, src);
            let is_short = src.remaining() > 0 || result == Err(Errno::EAGAIN);
            if is_short {
                async_io::lacks_room(self);
            }
            return result;
        }
        let mut pos = self.pos.lock();
        let (n, end) = self.file.write_at(self, *pos, src)?;
        *pos = end;
        Ok(n)
    }
    /// man 2 pread. ESPIPE for streams.
    pub fn pread(&self, pos: u64, dst: &mut IoDest<'_>) -> Result<usize> {
        if !self.readable() {
            return Err(Errno::EBADF);
        }
        self.file.read_at(self, pos, dst)
    }
    /// man 2 pwrite. ESPIPE for streams.
    pub fn pwrite(&self, pos: u64, src: &mut IoSource<'_>) -> Result<usize> {
        if !self.writable() {
            return Err(Errno::EBADF);
        }
        self.file.write_at(self, pos, src).map(|(n, _)| n)
    }
    /// man 2 lseek.
    pub fn seek(&self, offset: i64, whence: u32) -> Result<u64> {
        if self.flags() & abi::O_PATH != 0 {
            return Err(Errno::EBADF);
        }
        let mut pos = self.pos.lock();
        *pos = self.file.seek(self, *pos, offset, whence)?;
        Ok(*pos)
    }
    /// man 2 getdents64: entries from the position on.
    pub fn read_dir(&self, sink: &mut dyn DirSink) -> Result<()> {
        if !self.readable() {
            return Err(Errno::EBADF);
        }
        let mut pos = self.pos.lock();
        *pos = self.file.read_dir(self, *pos, sink)?;
        Ok(())
    }
    /// A lock was taken through this description ([`lock`]).
    fn note_locks(&self) {
        self.has_locks.store(true, Ordering::Relaxed);
    }
    /// The position (fdinfo).
    pub fn position(&self) -> u64 {
        *self.pos.lock()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if *self.has_locks.get_mut() {
            lock::release_description(self);
        }
    }
}
