//! A directory's entries, with positions that stay true while others come and go.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::inode::MemInode;
use crate::error::{Errno, Result};

/// What a directory holds.
pub(super) struct Entries {
    pub(super) by_name: BTreeMap<Vec<u8>, (u64, Arc<MemInode>)>,
    /// Directory positions: given once, never to another entry while the directory lives.
    pub(super) by_cookie: BTreeMap<u64, Vec<u8>>,
    next_cookie: u64,
    /// Inode number of the directory above.
    pub(super) parent: u64,
}

/// First position that names an entry; 0 and 1 are `.` and `..`.
pub(super) const FIRST_COOKIE: u64 = 2;

impl Entries {
    /// None yet, in a directory below `parent`.
    pub(super) fn new(parent: u64) -> Entries {
        Entries {
            by_name: BTreeMap::new(),
            by_cookie: BTreeMap::new(),
            next_cookie: FIRST_COOKIE,
            parent,
        }
    }
    /// Adds an entry; the name is free.
    pub(super) fn insert(&mut self, name: &[u8], inode: Arc<MemInode>) {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.by_cookie.insert(cookie, name.to_vec());
        self.by_name.insert(name.to_vec(), (cookie, inode));
    }
    /// Takes an entry out. ENOENT.
    pub(super) fn remove(&mut self, name: &[u8]) -> Result<Arc<MemInode>> {
        let (cookie, inode) = self.by_name.remove(name).ok_or(Errno::ENOENT)?;
        self.by_cookie.remove(&cookie);
        Ok(inode)
    }
}
