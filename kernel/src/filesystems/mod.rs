//! Filesystems, behind the traits of `vfs`. Only `init` names them.

pub mod memfs;
