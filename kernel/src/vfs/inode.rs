//! What a filesystem offers for one object: the [`Inode`] trait and its attributes.
//!
//! The VFS above holds the directory's lock over the calls that look at or change entries
//! (shared for `lookup`, exclusive for the rest), checks permissions, names and read-only
//! mounts, and keeps the dentry cache; a filesystem only does the work.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::Path;
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{DirSink, File};
use crate::sched::Mutex;
use crate::security::cred::{Gid, Uid};
use crate::vm::PageCache;

/// Longest name of one component, in bytes (man 7 path_resolution).
pub const NAME_MAX: usize = 255;
/// Longest path a call may name, in bytes, its NUL included.
pub const PATH_MAX: usize = 4096;

/// Directory entry types (man 3 readdir), which the exported headers lack.
pub mod dt {
    /// Not known: ask `stat`.
    pub const UNKNOWN: u8 = 0;
    /// FIFO.
    pub const FIFO: u8 = 1;
    /// Character device.
    pub const CHR: u8 = 2;
    /// Directory.
    pub const DIR: u8 = 4;
    /// Block device.
    pub const BLK: u8 = 6;
    /// Regular file.
    pub const REG: u8 = 8;
    /// Symbolic link.
    pub const LNK: u8 = 10;
    /// Socket.
    pub const SOCK: u8 = 12;

    /// The DT_* value of a mode's type bits.
    pub const fn from_mode(mode: u32) -> u8 {
        ((mode & 0o170_000) >> 12) as u8
    }
}

/// A device number in the kernel's split form; [`Dev::encode`] is what `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Dev {
    /// Driver.
    pub major: u32,
    /// Instance.
    pub minor: u32,
}

impl Dev {
    /// A device number.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
    /// `st_dev`/`st_rdev` form (man 3 makedev).
    pub const fn encode(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff)
            | ((major & 0xfff) << 8)
            | ((minor & !0xff) << 12)
            | ((major & 0xffff_f000) << 32)
    }
    /// From `mknod`'s argument (32 bits of it carry 12 bits of major, 20 of minor).
    pub const fn decode(dev: u64) -> Self {
        Self {
            major: (((dev >> 8) & 0xfff) | ((dev >> 32) & 0xffff_f000)) as u32,
            minor: ((dev & 0xff) | ((dev >> 12) & 0xffff_ff00)) as u32,
        }
    }
}

/// A point in time: seconds since 1970 and nanoseconds below a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds; may lie before 1970.
    pub sec: i64,
    /// 0 to 999 999 999.
    pub nsec: u32,
}

impl Timestamp {
    /// The wall clock's time.
    pub fn now() -> Self {
        #[cfg(not(test))]
        let ns = crate::time::realtime_ns();
        #[cfg(test)]
        let ns: u64 = 1_700_000_000_123_456_789;
        Self {
            sec: (ns / 1_000_000_000) as i64,
            nsec: (ns % 1_000_000_000) as u32,
        }
    }
}

/// What `stat` tells of an inode, its filesystem's device apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attr {
    /// Number, unique in the filesystem.
    pub ino: u64,
    /// Type and permission bits (S_IF*).
    pub mode: u32,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
    /// Names.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Storage in units of 512 bytes.
    pub blocks: u64,
    /// Good I/O size in bytes.
    pub block_size: u32,
    /// Last read.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of either content or attributes.
    pub ctime: Timestamp,
    /// Creation, where the filesystem keeps it.
    pub btime: Option<Timestamp>,
    /// Device that a device node names.
    pub rdev: Dev,
}

impl Attr {
    /// Of an object that only answers `struct stat`: the inverse of [`Attr::to_stat`].
    pub fn from_stat(st: &abi::stat) -> Attr {
        let time = |sec: u64, nsec: u64| Timestamp {
            sec: sec as i64,
            nsec: nsec as u32,
        };
        Attr {
            ino: st.st_ino,
            mode: st.st_mode,
            uid: st.st_uid,
            gid: st.st_gid,
            nlink: st.st_nlink as u32,
            size: st.st_size as u64,
            blocks: st.st_blocks as u64,
            block_size: st.st_blksize as u32,
            atime: time(st.st_atime, st.st_atime_nsec),
            mtime: time(st.st_mtime, st.st_mtime_nsec),
            ctime: time(st.st_ctime, st.st_ctime_nsec),
            btime: None,
            rdev: Dev::decode(st.st_rdev),
        }
    }

    /// As `struct stat` of an object on device `dev`.
    pub fn to_stat(&self, dev: Dev) -> abi::stat {
        // SAFETY: a C structure of integers: all zero is a valid value.
        let mut st: abi::stat = unsafe { core::mem::zeroed() };
        st.st_dev = dev.encode();
        st.st_ino = self.ino;
        st.st_nlink = u64::from(self.nlink);
        st.st_mode = self.mode;
        st.st_uid = self.uid;
        st.st_gid = self.gid;
        st.st_rdev = self.rdev.encode();
        st.st_size = self.size as i64;
        st.st_blksize = i64::from(self.block_size);
        st.st_blocks = self.blocks as i64;
        st.st_atime = self.atime.sec as u64;
        st.st_atime_nsec = u64::from(self.atime.nsec);
        st.st_mtime = self.mtime.sec as u64;
        st.st_mtime_nsec = u64::from(self.mtime.nsec);
        st.st_ctime = self.ctime.sec as u64;
        st.st_ctime_nsec = u64::from(self.ctime.nsec);
        st
    }
}

/// Owner, group and mode: what access checks look at.
#[derive(Clone, Copy, Debug)]
pub struct Perm {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
}

/// Attributes to change; `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits (07777); the type never changes.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<Uid>,
    /// Group.
    pub gid: Option<Gid>,
    /// Length in bytes (truncate, extend with zeros).
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<Timestamp>,
    /// Last change of the content.
    pub mtime: Option<Timestamp>,
    /// Always moves along with any change.
    pub ctime: Option<Timestamp>,
}

/// A new object's first attributes.
#[derive(Clone, Copy, Debug)]
pub struct NewNode {
    /// Type and permission bits, umask applied.
    pub mode: u32,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
    /// Of a device node.
    pub rdev: Dev,
}

/// An object of a filesystem. The defaults answer for objects that lack the operation.
pub trait Inode: Send + Sync + Any {
    /// The concrete type, for the filesystem's own use (`link`, `rename`).
    fn as_any(&self) -> &dyn Any;
    /// Attributes of now. EIO.
    fn attr(&self) -> Result<Attr>;
    /// What access checks need; cheap, never fails.
    fn perm(&self) -> Perm;
    /// Changes attributes. A size change frees or extends storage and trims the page cache.
    fn setattr(&self, changes: &SetAttr) -> Result<()>;

    /// The entry `name`. ENOENT. The VFS never asks for `.` or `..`.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }
    /// Makes a file, directory or special node. EEXIST, ENOSPC, EMLINK...
    fn create(&self, _name: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }
    /// Makes a regular file that no entry names (O_TMPFILE); it goes with its last user unless
    /// [`Inode::link`] names it.
    fn create_unnamed(&self, _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Makes a symbolic link.
    fn symlink(&self, _name: &[u8], _target: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }
    /// Gives `target` another name. EMLINK.
    fn link(&self, _name: &[u8], _target: &dyn Inode) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Takes the name away from `target`, which it names.
    fn unlink(&self, _name: &[u8], _target: &dyn Inode) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Takes the empty directory `target` away. ENOTEMPTY.
    fn rmdir(&self, _name: &[u8], _target: &dyn Inode) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Moves an entry, see [`Rename`]. ENOTEMPTY, ENOSPC, EINVAL for an exchange that the
    /// filesystem cannot do.
    fn rename(&self, _what: &Rename<'_>) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Lists entries, `.` and `..` included, from position `pos` on (0 is the start); returns
    /// where to continue. Positions stay valid while entries come and go.
    fn read_dir(&self, _pos: u64, _sink: &mut dyn DirSink) -> Result<u64> {
        Err(Errno::ENOTDIR)
    }

    /// A symbolic link's text.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }
    /// Where a magic link (/proc/pid/fd/1, exe, cwd) leads, instead of by its text.
    fn magic_link(&self) -> Option<Result<Path>> {
        None
    }
    /// Whether the VFS may remember that a name in this directory leads to `child`. False for
    /// objects that come and go by themselves and must not be held (procfs).
    fn keeps(&self, _child: &dyn Inode) -> bool {
        true
    }
    /// Bytes of memory that go with the object when only a remembered name held it.
    fn footprint(&self) -> usize {
        0
    }
    /// Whether the VFS may remember that a name is not there.
    fn caches_misses(&self) -> bool {
        true
    }

    /// What `open` of this object gives when it is no plain file or directory with the VFS's
    /// own [`File`]; `None` for those. `flags` are O_*.
    fn open(&self, _path: &Path, _flags: u32) -> Result<Option<Arc<dyn File>>> {
        Ok(None)
    }
    /// The pages of a regular file.
    fn page_cache(&self) -> Result<Arc<PageCache>> {
        Err(Errno::EINVAL)
    }
    /// Size in bytes of a regular file, cheaply.
    fn size(&self) -> u64 {
        0
    }
    /// Serialises writers and truncation; held over user copies, so never taken by faults.
    fn io_lock(&self) -> &Mutex<()> {
        static NO_DATA: Mutex<()> = Mutex::new(());
        &NO_DATA
    }
    /// Whether `len` bytes may be written at `pos`: how many of them (at least one), or
    /// EFBIG, ENOSPC. Called under the I/O lock.
    fn prepare_write(&self, _pos: u64, len: u64) -> Result<u64> {
        Ok(len)
    }
    /// Bytes were written to the page cache up to `end`: move mtime and ctime, grow the size.
    fn written(&self, _end: u64) {}
    /// The content was read: move atime, by the `relatime` rule (man 8 mount) unless `strict`.
    fn accessed(&self, _strict: bool) {}
    /// Makes storage for bytes `[pos, end)`, which read as before; those past the file's end
    /// read as zeros. With `grows` the size is set to `end` at once afterwards. Called under
    /// the I/O lock. EOPNOTSUPP, ENOSPC, EFBIG.
    fn preallocate(&self, _pos: u64, _end: u64, _grows: bool) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Gives the storage of pages `[from, to)` back, which read as zeros from here on. Called
    /// under the I/O lock.
    fn punch(&self, _from: u64, _to: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// The first byte at or after `pos` that is data (`hole` false) or a hole (true).
    /// ENXIO past the end. The default knows no holes.
    fn seek_hole(&self, pos: u64, hole: bool) -> Result<u64> {
        let size = self.size();
        if pos >= size {
            return Err(Errno::ENXIO);
        }
        Ok(if hole { size } else { pos })
    }
    /// Makes content and attributes durable (man 2 fsync).
    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }
}

/// A rename as a filesystem is asked to do it; every check of man 2 rename but `ENOTEMPTY`
/// is done, and both directories are locked.
pub struct Rename<'a> {
    /// Name in the directory the call is on.
    pub name: &'a [u8],
    /// What it names.
    pub source: &'a dyn Inode,
    /// Directory to move to; may be the same.
    pub new_dir: &'a dyn Inode,
    /// Whether that is another directory.
    pub cross: bool,
    /// Name there.
    pub new_name: &'a [u8],
    /// What that names now.
    pub target: Option<&'a dyn Inode>,
    /// Swap the two (RENAME_EXCHANGE) instead of replacing the target.
    pub exchange: bool,
}

/// The relatime rule (man 8 mount): whether a read moves `atime`.
pub fn relatime_due(atime: Timestamp, mtime: Timestamp, ctime: Timestamp, now: Timestamp) -> bool {
    atime <= mtime || atime <= ctime || now.sec.saturating_sub(atime.sec) >= 24 * 60 * 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_their_encoding() {
        for (major, minor) in [(1, 3), (254, 255), (0xfff, 0xfffff), (5, 0)] {
            let dev = Dev::new(major, minor);
            assert_eq!(Dev::decode(dev.encode()), dev);
        }
        assert_eq!(Dev::new(1, 3).encode(), 0x103);
        assert_eq!(Dev::new(8, 256).encode(), 0x100800);
    }
}
