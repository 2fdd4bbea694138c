//! Descriptors that name a process (man 2 pidfd_open): readable once it ended.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

use super::{Pid, Process, Task};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};

/// A process, ended or not, that its id cannot be confused with a later one's.
pub struct PidFd {
    process: Arc<Process>,
    inode: AnonInode,
}

impl PidFd {
    /// The process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }
}

impl File for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.process.exit_wait);
        }
        if self.process.exited.load(Ordering::Acquire) {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }
}

/// A description of `process`; `flags`: O_NONBLOCK or 0.
pub(super) fn describe(process: &Arc<Process>, flags: u32) -> Arc<OpenFile> {
    OpenFile::new(
        Arc::new(PidFd {
            process: process.clone(),
            inode: AnonInode::new(0o600),
        }),
        abi::O_RDWR | flags,
    )
}

/// man 2 pidfd_open. EINVAL: bad flags or id, or a thread that leads no process; ESRCH;
/// EMFILE, ENOMEM.
pub fn open(task: &Task, pid: Pid, flags: u32) -> Result<i32> {
    if flags & !abi::O_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let Some(process) = super::find(pid) else {
        let is_thread = super::find_task(pid).is_some();
        return Err(if is_thread {
            Errno::EINVAL
        } else {
            Errno::ESRCH
        });
    };
    let limit = task.process.limit(abi::RLIMIT_NOFILE);
    task.files().insert(describe(&process, flags), true, limit)
}

/// The process behind descriptor `fd`. EBADF when it is no pidfd.
pub fn process_of(task: &Task, fd: i32) -> Result<Arc<Process>> {
    let file = task.file(fd)?;
    let pidfd: &PidFd = file.file.as_any().downcast_ref().ok_or(Errno::EBADF)?;
    Ok(pidfd.process.clone())
}
