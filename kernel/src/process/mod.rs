//! Processes: fork, exec, exit, wait, signals, futexes, sessions.
//! (Skeleton: the process owner fills it in.)
//!
//! A [`Process`] is a thread group; a [`Task`] is one of its threads and hangs on
//! `sched::Thread::ext`.

use alloc::sync::Arc;

use crate::file::OpenFile;
use crate::security::Credentials;
use crate::vfs::FsContext;
use crate::vm::AddressSpace;

/// A process or thread id (man 7 credentials).
pub type Pid = i32;

/// A thread group.
pub struct Process {
    _private: (),
}

/// A thread of a process.
pub struct Task {
    _private: (),
}

impl Task {
    /// The process.
    pub fn process(&self) -> &Arc<Process> {
        todo!()
    }
    /// Thread id.
    pub fn tid(&self) -> Pid {
        todo!()
    }
    /// What it acts as now.
    pub fn cred(&self) -> Arc<Credentials> {
        todo!()
    }
    /// Its memory.
    pub fn space(&self) -> Arc<AddressSpace> {
        todo!()
    }
    /// Root, working directory, umask.
    pub fn fs(&self) -> Arc<FsContext> {
        todo!()
    }
    /// Its descriptors.
    pub fn files(&self) -> Arc<crate::file::table::FdTable> {
        todo!()
    }
    /// The description behind `fd`; EBADF.
    pub fn file(&self, fd: i32) -> crate::error::Result<Arc<OpenFile>> {
        self.files().get(fd)
    }
}

/// The running thread's task.
///
/// # Panics
/// In a kernel thread, which has none: only system-call and fault paths ask.
pub fn current() -> Arc<Task> {
    todo!()
}

/// The running thread's task, if it has one.
pub fn try_current() -> Option<Arc<Task>> {
    todo!()
}
