//! procfs: processes and figures of the kernel as files (man 5 proc).
//!
//! A file's text is made when its start is read and kept for the rest of that reading.
//! `tree` has the directories, `system` the kernel's files, `pid` and `status` those of a
//! process, `links` the magic links.

mod cpuinfo;
mod links;
mod mounts;
mod net;
mod pid;
mod profile;
mod status;
mod system;
mod text;
mod tree;

use alloc::sync::Arc;

use crate::abi;
use crate::error::Result;
use crate::vfs::{FileSystem, FsStat, Inode, MountSource, Mounted, SuperBlock, super_block};

/// The filesystem type `proc`. Every mount shows the same.
pub struct ProcFs;

impl FileSystem for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }
    fn needs_device(&self) -> bool {
        false
    }
    fn is_single(&self) -> bool {
        true
    }
    fn mount(&self, _source: &MountSource, read_only: bool, options: &[u8]) -> Result<Mounted> {
        super_block::only_options(options, &[])?;
        Ok(Mounted {
            ops: Arc::new(ProcSuper),
            dev: None,
            read_only,
        })
    }
}

struct ProcSuper;

impl SuperBlock for ProcSuper {
    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(tree::root())
    }
    fn statfs(&self) -> Result<FsStat> {
        Ok(FsStat {
            magic: abi::PROC_SUPER_MAGIC,
            block_size: crate::mm::PAGE_SIZE as u64,
            ..FsStat::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::mount;

    #[test]
    fn names_of_the_kernels_own_files_are_kept_once() {
        let proc = mount::nowhere("proc", Arc::new(ProcSuper)).unwrap();
        let pid_max = || {
            let mut at = proc.root_path().dentry;
            for name in ["sys", "kernel", "pid_max"] {
                at = at.lookup(name.as_bytes()).unwrap().unwrap();
            }
            at
        };
        assert!(Arc::ptr_eq(&pid_max(), &pid_max()));
    }
}
