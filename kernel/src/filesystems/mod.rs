//! Filesystems, behind the traits of `vfs`. Only `init` names them.

pub mod devfs;
pub mod devpts;
pub mod ext2;
mod kmsg;
pub mod memfs;
pub mod procfs;

use alloc::sync::Arc;

use crate::vfs::{dentry, super_block};
use crate::vm::shrink::{self, Shrinker};

/// Registers every type and the memory devices. Once, by `init`, before the first mount.
pub fn init() {
    // An eighth of the memory for names at most; less when programs want it.
    dentry::set_capacity(crate::mm::frame::stats().total * crate::mm::PAGE_SIZE / 8);
    shrink::register(Shrinker {
        count: dentry::count,
        shrink: dentry::shrink_by,
    });
    super_block::register(Arc::new(ext2::Ext2));
    super_block::register(Arc::new(memfs::MemFs));
    super_block::register(Arc::new(procfs::ProcFs));
    super_block::register(Arc::new(devfs::DevFs));
    super_block::register(Arc::new(devpts::DevPts));
    devfs::init();
    devpts::init();
}
