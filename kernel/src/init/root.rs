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
    /// No device is what `root=` (if any) says; with the devices there are.
    NotFound(Option<String>, String),
    /// The device's name, and what mounting it said.
    Mount(String, Errno),
}

impl fmt::Display for NoRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRoot::NotFound(_, devices) if devices.is_empty() => {
                f.write_str("there is no disk that Oxbow has a driver for (virtio-blk)")
            }
            NoRoot::NotFound(Some(root), devices) => {
                write!(f, "nothing here is root={root}; there are:{devices}")
            }
            NoRoot::NotFound(None, devices) => write!(
                f,
                "no root= on the command line, and no partition that looks like one; \
                 there are:{devices}"
            ),
            NoRoot::Mount(name, Errno::EINVAL) => {
                write!(f, "{name} holds no ext2 file system that Oxbow can use")
            }
            NoRoot::Mount(name, Errno::EUCLEAN) => {
                write!(f, "the file system of {name} is damaged: run e2fsck on it")
            }
            NoRoot::Mount(name, Errno::EIO) => write!(f, "{name} cannot be read"),
            NoRoot::Mount(name, e) => write!(f, "cannot mount {name}: {e:?}"),
        }
    }
}

/// Why the first program does not start.
pub struct NoInit(Errno);

impl From<Errno> for NoInit {
    fn from(e: Errno) -> NoInit {
        NoInit(e)
    }
}

impl fmt::Display for NoInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Errno::ENOENT => f.write_str("no such file on the root filesystem"),
            Errno::EACCES => f.write_str("it is no file that may be executed"),
            Errno::ENOEXEC => f.write_str("it is no program for this machine"),
            Errno::EIO => f.write_str("it cannot be read"),
            Errno::ENOMEM => f.write_str("too little memory"),
            e => write!(f, "{e:?}"),
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
        return Err(NoRoot::NotFound(options.root.map(String::from), names));
    };
    let name = alloc::format!("/dev/{}", disk.device.name());
    let (major, minor) = disk.number;
    let source = MountSource {
        text: name.clone().into_bytes(),
        device: Ok((Dev::new(major, minor), disk.device.clone())),
    };
    let flags = if options.read_only {
        MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    mount::mount_root(b"ext2", &source, flags, b"").map_err(|e| NoRoot::Mount(name, e))
}

/// Runs the first program, with the console as its descriptors 0, 1 and 2.
pub fn start_first(options: &Options<'_>) -> Result<(), NoInit> {
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
    )?;
    Ok(())
}
