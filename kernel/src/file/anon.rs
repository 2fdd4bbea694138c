//! Identity of files without a name: what `fstat` says of pipes, eventfds and their kin.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi;
use crate::time::{NS_PER_SEC, realtime_ns};

/// A nameless inode: number and birth time.
pub struct AnonInode {
    /// Number, unique among nameless inodes.
    pub ino: u64,
    mode: u32,
    born_ns: u64,
}

/// st_dev of nameless inodes: no mount shows this number.
const DEV: u64 = 0x0c;

impl AnonInode {
    /// A new inode of `mode` (S_IFIFO, S_IFSOCK or 0, and permission bits).
    pub fn new(mode: u32) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            ino: NEXT.fetch_add(1, Ordering::Relaxed),
            mode,
            born_ns: realtime_ns(),
        }
    }

    /// man 2 fstat.
    pub fn stat(&self) -> abi::stat {
        // SAFETY: a C structure of integers: all zeros is a valid value.
        let mut st: abi::stat = unsafe { core::mem::zeroed() };
        st.st_dev = DEV;
        st.st_ino = self.ino;
        st.st_mode = self.mode;
        st.st_nlink = 1;
        st.st_blksize = 4096;
        let (s, ns) = (self.born_ns / NS_PER_SEC, self.born_ns % NS_PER_SEC);
        (st.st_atime, st.st_mtime, st.st_ctime) = (s, s, s);
        (st.st_atime_nsec, st.st_mtime_nsec, st.st_ctime_nsec) = (ns, ns, ns);
        st
    }

    /// `kind:[ino]`, as /proc/pid/fd shows it.
    pub fn describe(&self, kind: &str) -> Vec<u8> {
        alloc::format!("{kind}:[{}]", self.ino).into_bytes()
    }
}
