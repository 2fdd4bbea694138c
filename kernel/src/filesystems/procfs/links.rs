//! Where the magic links of a process lead: exe, cwd, root, fd/N.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::process::{self, Process, Task, access};
use crate::vfs::{self, Path, path_text, place_of};

/// A link of a process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The program.
    Exe,
    /// The working directory.
    Cwd,
    /// The root directory.
    Root,
    /// An open file.
    Fd(i32),
}

/// Only who may look into the process learns where its links lead: EACCES.
pub fn check(process: &Process) -> Result<()> {
    let caller = process::try_current().ok_or(Errno::EACCES)?;
    access::check_inspect(&caller, process).map_err(|_| Errno::EACCES)
}

/// The open file behind descriptor `fd`; ENOENT.
pub fn open_file(task: &Task, fd: i32) -> Result<Arc<OpenFile>> {
    let files = task.try_files().ok_or(Errno::ENOENT)?;
    files.get(fd).map_err(|_| Errno::ENOENT)
}

impl Link {
    /// The place itself.
    pub fn target(self, task: &Task) -> Result<Path> {
        check(task.process())?;
        match self {
            Link::Exe => {
                let exe = task.process().exe().ok_or(Errno::ENOENT)?;
                vfs::location(&exe).cloned().ok_or(Errno::ENOENT)
            }
            Link::Cwd => Ok(task.try_fs().ok_or(Errno::ENOENT)?.cwd()),
            Link::Root => Ok(task.try_fs().ok_or(Errno::ENOENT)?.root()),
            Link::Fd(fd) => place_of(&open_file(task, fd)?),
        }
    }
    /// Its name.
    pub fn text(self, task: &Task) -> Result<Vec<u8>> {
        check(task.process())?;
        if let Link::Fd(fd) = self {
            let file = open_file(task, fd)?;
            return Ok(match vfs::location(&file) {
                Some(path) => path_text(path, None),
                None => file.file.describe(),
            });
        }
        Ok(path_text(&self.target(task)?, None))
    }
}
