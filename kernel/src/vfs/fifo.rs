//! FIFOs in the tree: every open of one inode meets in one pipe (man 7 fifo).

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::caller::path_text;
use super::mount::Path;
use crate::abi;
use crate::error::Result;
use crate::file::File;
use crate::file::pipe::{self, FifoNode, Pipe};
use crate::sync::{Rank, SpinLock};

/// Pipes of FIFOs that are open, by (filesystem, inode number). Ends keep the pipe and, by
/// their path, the inode: a number is not given away while its entry lives.
type Open = Vec<((u64, u64), Weak<Pipe>)>;
static OPEN: SpinLock<Open> = SpinLock::new(Rank::Vfs, Vec::new());

struct Node(Path);

impl FifoNode for Node {
    fn stat(&self) -> Result<abi::stat> {
        let dentry = &self.0.dentry;
        Ok(dentry.inode.attr()?.to_stat(dentry.sb.dev))
    }
    fn path(&self) -> Vec<u8> {
        path_text(&self.0, None)
    }
}

/// Opens the FIFO at `path`; waits for its other side as man 7 fifo says.
pub(super) fn open(path: &Path, flags: u32) -> Result<Arc<dyn File>> {
    let key = (path.dentry.sb.id, path.dentry.inode.attr()?.ino);
    let fresh = Pipe::new();
    let pipe = {
        let mut open = OPEN.lock();
        open.retain(|(_, pipe)| pipe.strong_count() > 0);
        let known = open.iter().find(|(k, _)| *k == key);
        match known.and_then(|(_, pipe)| pipe.upgrade()) {
            Some(pipe) => pipe,
            None => {
                open.push((key, Arc::downgrade(&fresh)));
                fresh
            }
        }
    };
    pipe::open_fifo(&pipe, flags, Arc::new(Node(path.clone())))
}
