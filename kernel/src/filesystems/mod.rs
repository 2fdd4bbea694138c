//! Filesystems, behind the traits of `vfs`. Only `init` names them.

pub mod ext2;
pub mod memfs;
