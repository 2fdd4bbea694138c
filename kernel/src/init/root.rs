//! The root filesystem and the first program.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use super::console;
use crate::abi;
use crate::block;
use crate::cmdline::Options;
use crate::error::Errno;
use crate::file::OpenFile;
use crate::file::table::FdTable;
use crate::process::auxv::Strings;
use crate::process::exec;
use crate::vfs::{Dev, FsContext, MountFlags, MountSource, mount};

/// Why there is no root.
pub enum NoRoot {
    /// No device is what `root=` says; with the devices there are.
    NotFound(String),
    /// The device's name, and what mounting it said.
    Mount(String, Errno),
}

impl fmt::Display for NoRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRoot::NotFound(devices) => write!(f, "no such device; there are:{devices}"),
            NoRoot::Mount(name, e) => write!(f, "cannot mount {name}: {e:?}"),
        }
    }
}

/// Mounts what `root=` names.
pub fn mount(options: &Options<'_>) -> Result<(), NoRoot> {
    let Some(disk) = block::find_root(options.root) else {
        let mut names = String::new();
        for disk in block::disks() {
            names.push(' ');
            names.push_str(disk.device.name());
        }
        return Err(NoRoot::NotFound(names));
    };
    let name = alloc::format!("/dev/{}", disk.device.name());
    let (major, minor) = disk.number;
    let source = MountSource {
        text: name.clone().into_bytes(),
        device: Some((Dev::new(major, minor), disk.device.clone())),
    };
    let flags = if options.read_only {
        MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    mount::mount_root(b"ext2", &source, flags, b"").map_err(|e| NoRoot::Mount(name, e))
}

/// Runs the first program, with the console as its descriptors 0, 1 and 2.
pub fn start_first(options: &Options<'_>) -> Result<(), Errno> {
    let files = FdTable::new();
    if let Some(terminal) = console::terminal() {
        let flags = abi::O_RDWR | abi::O_NOCTTY;
        let file = OpenFile::new(terminal.open(flags)?, flags);
        for _ in 0..3 {
            files.insert(file.clone(), false, 3)?;
        }
    }
    let mut args = Strings::new();
    args.push(options.init.as_bytes())?;
    let mut env = Strings::new();
    for variable in ["HOME=/", "TERM=linux"] {
        env.push(variable.as_bytes())?;
    }
    exec::start_first(
        options.init.as_bytes(),
        args,
        env,
        FsContext::at_root()?,
        Arc::new(files),
    )
}
