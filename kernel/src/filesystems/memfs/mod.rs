//! tmpfs: files that live in the page cache alone (man 5 tmpfs).
//!
//! Names and attributes are kernel memory; a file's pages are born zero in a cache without a
//! source. Pages and inodes are counted against limits, half the memory by default. `devfs`
//! fills one of these in itself.

mod directory;
mod inode;
mod options;
#[cfg(test)]
mod tests;

pub use inode::MemInode;
pub use options::Options;
use options::UNLIMITED;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::{PAGE_SIZE, frame};
use crate::vfs::{Dev, FileSystem, FsStat, Inode, MountSource, Mounted, NewNode, SuperBlock};

/// The filesystem type `tmpfs`.
pub struct MemFs;

impl FileSystem for MemFs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }
    fn needs_device(&self) -> bool {
        false
    }
    fn mount(&self, _source: &MountSource, read_only: bool, options: &[u8]) -> Result<Mounted> {
        let total = frame::stats().total as u64;
        let options = Options::parse(options, total)?;
        Ok(Mounted {
            ops: MemSuper::new(&options)?,
            dev: None,
            read_only,
        })
    }
}

/// What an instance holds at most, or [`UNLIMITED`]. A remount changes it.
struct Limits {
    pages: AtomicU64,
    inodes: AtomicU64,
}

impl Limits {
    fn max_pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
    fn max_inodes(&self) -> u64 {
        self.inodes.load(Ordering::Relaxed)
    }
}

/// What all inodes of one instance share.
struct Shared {
    limits: Limits,
    pages: AtomicU64,
    /// Names: an inode counts once for each it has.
    inodes: AtomicU64,
    next_ino: AtomicU64,
    volatile: bool,
}

impl Shared {
    /// Counts a new name. ENOSPC.
    fn count_name(&self) -> Result<()> {
        self.inodes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < self.limits.max_inodes()).then_some(n + 1)
            })
            .map(drop)
            .map_err(|_| Errno::ENOSPC)
    }

    /// A name is gone.
    fn uncount_name(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes up to `want` pages; how many there were.
    fn charge(&self, want: u64) -> u64 {
        let mut granted = 0;
        let _ = self
            .pages
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                granted = want.min(self.limits.max_pages().saturating_sub(used));
                Some(used + granted)
            });
        granted
    }
}

/// A mounted tmpfs.
pub struct MemSuper {
    shared: Arc<Shared>,
    /// As mounted, for /proc/mounts; the limits may have changed since.
    options: Options,
    root: Arc<MemInode>,
}

impl MemSuper {
    /// An instance with nothing but a root.
    pub fn new(options: &Options) -> Result<Arc<MemSuper>> {
        let shared = Arc::new(Shared {
            limits: Limits {
                pages: AtomicU64::new(options.max_pages),
                inodes: AtomicU64::new(options.max_inodes),
            },
            pages: AtomicU64::new(0),
            inodes: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
            volatile: options.volatile,
        });
        let node = NewNode {
            mode: options.root.mode,
            uid: options.root.uid,
            gid: options.root.gid,
            rdev: Dev::default(),
        };
        let root = MemInode::make(&shared, &node, None, None)?;
        Ok(Arc::new(MemSuper {
            shared,
            options: *options,
            root,
        }))
    }
    /// The options of now.
    fn options(&self) -> Options {
        Options {
            max_pages: self.shared.limits.max_pages(),
            max_inodes: self.shared.limits.max_inodes(),
            ..self.options
        }
    }
    /// The root, for filesystems that fill one of these in themselves.
    pub fn root_inode(&self) -> &Arc<MemInode> {
        &self.root
    }
}

impl SuperBlock for MemSuper {
    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(self.root.clone())
    }
    fn statfs(&self) -> Result<FsStat> {
        let s = &self.shared;
        // Without a limit there are no figures (man 5 tmpfs).
        let figures = |max: u64, used: &AtomicU64| match max {
            UNLIMITED => (0, 0),
            max => (max, max.saturating_sub(used.load(Ordering::Relaxed))),
        };
        let (blocks, free) = figures(s.limits.max_pages(), &s.pages);
        let (files, files_free) = figures(s.limits.max_inodes(), &s.inodes);
        Ok(FsStat {
            magic: abi::TMPFS_MAGIC,
            block_size: PAGE_SIZE as u64,
            blocks,
            free,
            available: free,
            files,
            files_free,
        })
    }
    fn reconfigure(&self, options: &[u8]) -> Result<()> {
        let mut wanted = self.options();
        wanted.change(options, frame::stats().total as u64)?;
        let s = &self.shared;
        // Not less than there is. (What is written meanwhile may stay above.)
        if wanted.max_pages < s.pages.load(Ordering::Relaxed)
            || wanted.max_inodes < s.inodes.load(Ordering::Relaxed)
        {
            return Err(Errno::EINVAL);
        }
        s.limits.pages.store(wanted.max_pages, Ordering::Relaxed);
        s.limits.inodes.store(wanted.max_inodes, Ordering::Relaxed);
        Ok(())
    }
    fn show_options(&self) -> Vec<u8> {
        self.options().show(frame::stats().total as u64)
    }
}
