//! Processes: fork, exec, exit, wait, signals, futexes, sessions.
//!
//! A [`Process`] is a thread group; a [`Task`] is one of its threads and hangs on
//! `sched::Thread::ext`. Who is whose parent, group and session stands in [`tree`], under one
//! lock; what a process owns (memory, files, signals) stands in the process.
//!
//! # Locks, outermost first
//!
//! | lock | rank | guards |
//! | --- | --- | --- |
//! | `tree::TREE` | `ProcessTree` | pids, parents, groups, sessions, zombies |
//! | `Process::sig` | `Process` | threads, group exit and stop, shared pending signals |
//! | `ProcSig::actions` | `SignalActions` | signal actions |
//! | `Task::sig` | `Signal` | mask, own pending signals, alternate stack |
//! | pointers (`cred`, `space`, `fs`, `files`...) | `Leaf` | one `Arc` each, swapped whole |
//!
//! All of them may be taken in interrupt handlers (a terminal's or timer's signal), so they
//! are `IrqLock`s, except the pointers, which handlers leave alone.

pub mod access;
pub mod auxv;
pub mod cputime;
mod deliver;
pub mod elf;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod futex;
pub mod futex_pi;
pub mod info;
pub mod limits;
pub mod load;
pub mod pidfd;
pub mod script;
pub mod session;
pub mod sigframe;
pub mod siginfo;
pub mod sigio;
pub mod signal;
pub mod signalfd;
pub mod sigstate;
mod task;
pub mod timers;
pub mod tree;
mod vdso;
pub mod wait;

pub use siginfo::{SigFields, SigInfo};
pub use sigstate::SigSet;
pub use task::{ExitStatus, Process, Task, Usage};

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use crate::net::unix;

/// A process or thread id (man 7 credentials).
pub type Pid = i32;

/// What unix sockets tell of the calling process, and where its paths start.
static SOCKET_CALLERS: unix::Callers = unix::Callers {
    sender: || {
        let task = try_current()?;
        let cred = task.cred();
        Some((task.pid(), cred.uid, cred.gid))
    },
    identity: || {
        let task = try_current()?;
        Some(unix::Identity {
            pid: task.pid(),
            cred: task.cred(),
            fs: task.fs(),
            max_files: task.process().limit(crate::abi::RLIMIT_NOFILE),
        })
    },
};

/// Tells the layers below what they need of processes; boot calls it once, before the first
/// program: random numbers for address choices, who dies when memory runs out, and how many
/// threads the machine's memory carries; who calls, for unix sockets; and the page that tells
/// programs the time.
pub fn init() {
    crate::vm::set_random_source(crate::security::random::word);
    crate::vm::oom::set_killer(kill_for_memory);
    unix::set_callers(&SOCKET_CALLERS);
    if let Err(e) = vdso::init() {
        warn!("programs ask the kernel for the time: {e:?}");
    }
    // An eighth of memory for kernel stacks and what else a thread needs, as Linux.
    const BYTES_PER_TASK: u64 = 32 << 10;
    let bytes = (crate::mm::frame::stats().total * crate::mm::PAGE_SIZE) as u64;
    fork::set_max_tasks((bytes / 8 / BYTES_PER_TASK).clamp(64, tree::PID_MAX as u64 / 4));
}

/// Ends the process whose end frees most. False when there is none, or it is the caller's.
fn kill_for_memory() -> bool {
    let total = (crate::mm::frame::stats().total * crate::mm::PAGE_SIZE) as u64;
    let Some(victim) = info::oom_victim(total) else {
        return false;
    };
    // One that is ending already has its memory still, and is waited for.
    if signal::kill_process(&victim, crate::abi::SIGKILL) {
        warn!(
            "out of memory: process {} ({}) is killed",
            victim.pid,
            alloc::string::String::from_utf8_lossy(&victim.comm())
        );
    }
    try_current().is_none_or(|task| task.pid() != victim.pid)
}

/// The running thread's task, borrowed: its thread holds it while it runs. Not `Send`: it is only
/// true on this thread's stack. Who keeps it longer clones the `Arc`.
pub struct Current {
    task: ManuallyDrop<Arc<Task>>,
    _not_send: PhantomData<*mut ()>,
}

impl core::ops::Deref for Current {
    type Target = Arc<Task>;
    #[inline]
    fn deref(&self) -> &Arc<Task> {
        &self.task
    }
}

/// The running thread's task.
///
/// # Panics
/// In a kernel thread, which has none: only system-call and fault paths ask.
#[inline]
pub fn current() -> Current {
    match try_current() {
        Some(task) => task,
        None => panic!("a kernel thread asked for its process"),
    }
}

/// The running thread's task, if it has one.
#[inline]
pub fn try_current() -> Option<Current> {
    let thread = crate::sched::current();
    let task = thread.ext::<Task>()?;
    // SAFETY: `this` names the `Arc` that the task lies in, and the thread keeps that for as long as
    // it lives, which is longer than its stack. It is not dropped here.
    let task = unsafe { ManuallyDrop::new(Arc::from_raw(task.this.as_ptr())) };
    Some(Current {
        task,
        _not_send: PhantomData,
    })
}

/// The process with this id; zombies included.
pub fn find(pid: Pid) -> Option<Arc<Process>> {
    tree::TREE.lock().process(pid).cloned()
}

/// The thread with this id; gone ones not.
pub fn find_task(tid: Pid) -> Option<Arc<Task>> {
    tree::TREE.lock().task(tid).cloned()
}

/// Every process, zombies included, by rising id.
pub fn all() -> alloc::vec::Vec<Arc<Process>> {
    let mut pids = tree::pids();
    pids.sort_unstable();
    pids.into_iter().filter_map(find).collect()
}
