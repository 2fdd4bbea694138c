//! What a process and its threads own.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::Pid;
use super::sigstate::{Actions, AltStack, Pending, SigSet};
use crate::arch::TrapFrame;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::file::table::FdTable;
use crate::mm::UserAddr;
use crate::sched::{Mutex, Thread, WaitQueue};
use crate::security::Credentials;
use crate::sync::{IrqLock, Rank, SpinLock};
use crate::vfs::FsContext;
use crate::vm::AddressSpace;

/// How a process ended, in wait(2)'s encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

impl ExitStatus {
    /// exit(code): only the low 8 bits count.
    pub const fn exited(code: i32) -> Self {
        Self((code & 0xff) << 8)
    }
    /// Ended by signal `sig`.
    pub const fn killed(sig: u32) -> Self {
        Self((sig & 0x7f) as i32)
    }
    /// The signal that ended it, if one did.
    pub const fn signal(self) -> Option<u32> {
        if self.0 & 0x7f == 0 {
            None
        } else {
            Some((self.0 & 0x7f) as u32)
        }
    }
    /// What it passed to exit.
    pub const fn code(self) -> i32 {
        (self.0 >> 8) & 0xff
    }
}

/// Resources used (man 2 getrusage).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, ns.
    pub user_ns: u64,
    /// CPU time in the kernel, ns.
    pub system_ns: u64,
    /// Faults answered from memory.
    pub minor_faults: u64,
    /// Faults that waited for a device.
    pub major_faults: u64,
    /// Largest resident size seen, bytes.
    pub max_resident_bytes: u64,
    /// Times a thread waited.
    pub voluntary_switches: u64,
    /// Times a thread had to give way.
    pub involuntary_switches: u64,
}

impl Usage {
    /// Sum of both; the larger resident size.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            user_ns: self.user_ns + other.user_ns,
            system_ns: self.system_ns + other.system_ns,
            minor_faults: self.minor_faults + other.minor_faults,
            major_faults: self.major_faults + other.major_faults,
            max_resident_bytes: self.max_resident_bytes.max(other.max_resident_bytes),
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
        }
    }
}

/// A pointer that is read whole and swapped whole.
pub(super) struct Slot<T>(SpinLock<Option<Arc<T>>>);

impl<T> Slot<T> {
    pub(super) const fn new(value: Option<Arc<T>>) -> Self {
        Self(SpinLock::new(Rank::Leaf, value))
    }
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }
    /// Returns the old one, so that it is dropped outside the lock.
    #[must_use = "drop the old value where sleeping is allowed"]
    pub(super) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        core::mem::replace(&mut *self.0.lock(), value)
    }
}

/// Whether a process's threads run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopState {
    /// They run.
    Running,
    /// They are to stop; `ProcSig::nr_parked` counts those that did.
    Stopping { sig: u32 },
    /// All stopped; the parent was told.
    Stopped { sig: u32 },
}

/// A process's signal state and threads; under `Process::sig`.
pub(super) struct ProcSig {
    /// Live threads, the oldest first.
    pub(super) threads: Vec<Arc<Task>>,
    /// Signals for any of the threads.
    pub(super) pending: Pending,
    /// What to do with signals (CLONE_SIGHAND shares it).
    pub(super) actions: Arc<IrqLock<Actions>>,
    /// Set once: every thread ends with this status.
    pub(super) group_exit: Option<ExitStatus>,
    /// While execve runs: the one thread that stays.
    pub(super) exec_survivor: Option<Pid>,
    /// Job control.
    pub(super) stop: StopState,
    /// Threads parked by a stop.
    pub(super) nr_parked: usize,
    /// A stop signal was taken and is about to act; SIGCONT takes it back.
    pub(super) stop_taken: bool,
    /// The first process: signals without a handler do nothing to it.
    pub(super) unkillable: bool,
}

/// What execve leaves for /proc.
#[derive(Clone, Default)]
pub(super) struct ExecInfo {
    pub(super) exe: Option<Arc<OpenFile>>,
    pub(super) args: (UserAddr, UserAddr),
    pub(super) env: (UserAddr, UserAddr),
    pub(super) auxv: (UserAddr, UserAddr),
    pub(super) stack: UserAddr,
}

/// A thread group.
pub struct Process {
    pub(super) pid: Pid,
    pub(super) this: Weak<Process>,
    /// Monotonic ns.
    pub(super) start_ns: u64,
    pub(super) space: Slot<AddressSpace>,
    pub(super) sig: IrqLock<ProcSig>,
    pub(super) limits: SpinLock<super::limits::Limits>,
    pub(super) exec: SpinLock<ExecInfo>,
    /// Real user, for signals that interrupt handlers send on: `cred` is not for them.
    pub(super) uid: AtomicU32,
    /// Name and credentials of the last thread, for the zombie.
    pub(super) last_comm: SpinLock<[u8; 16]>,
    pub(super) last_cred: Slot<Credentials>,
    /// Ended threads' use, and that of children waited for.
    pub(super) dead_usage: SpinLock<(Usage, Usage)>,
    /// This process's children changed state.
    pub(super) child_wait: WaitQueue,
    /// A stop ended.
    pub(super) stop_wait: WaitQueue,
    /// A thread left (execve waits for it).
    pub(super) thread_wait: WaitQueue,
    /// A signal became pending (signalfd, sigtimedwait).
    pub(super) signal_wait: Arc<WaitQueue>,
    /// The process ended (pidfd).
    pub(super) exit_wait: Arc<WaitQueue>,
    /// PR_SET_DUMPABLE.
    pub(super) dumpable: AtomicU32,
    /// personality(2).
    pub(super) personality: AtomicU32,
    /// The last thread ended.
    pub(super) exited: AtomicBool,
    /// execve happened since fork (setpgid: EACCES).
    pub(super) did_exec: AtomicBool,
    /// -1000 to 1000 (/proc/pid/oom_score_adj).
    pub(super) oom_score_adj: AtomicI32,
    pub(super) timers: Mutex<Option<Box<dyn Any + Send>>>,
    /// It gave up its session's terminal (TIOCNOTTY).
    pub(super) left_tty: AtomicBool,
    /// Its threads look at their CPU time ([`cputime`](super::cputime)). Changes under `timers`.
    pub(super) cpu_watched: AtomicBool,
}

/// A thread's own signal state; under `Task::sig`.
pub(super) struct TaskSig {
    pub(super) mask: SigSet,
    /// Put back when a handler returns (sigsuspend, ppoll).
    pub(super) saved_mask: Option<SigSet>,
    pub(super) pending: Pending,
    pub(super) altstack: AltStack,
}

/// How an interrupted call goes on (man 2 restart_syscall).
pub type Restart = Box<dyn FnOnce() -> Result<isize> + Send>;

/// A thread of a process.
pub struct Task {
    pub(super) tid: AtomicI32,
    pub(super) this: Weak<Task>,
    pub(super) process: Arc<Process>,
    /// Set before the thread starts; weak because the thread owns the task.
    pub(super) thread: IrqLock<Weak<Thread>>,
    pub(super) cred: SpinLock<Arc<Credentials>>,
    pub(super) fs: Slot<FsContext>,
    pub(super) files: Slot<FdTable>,
    pub(super) sig: IrqLock<TaskSig>,
    pub(super) comm: SpinLock<[u8; 16]>,
    /// Registers to start with; taken by the thread's first steps.
    pub(super) first_frame: SpinLock<Option<TrapFrame>>,
    pub(super) restart: SpinLock<Option<Restart>>,
    /// Zeroed and futex-woken when the thread ends (set_tid_address).
    pub(super) clear_tid: AtomicU64,
    /// Where the new thread writes its id first (CLONE_CHILD_SETTID).
    pub(super) set_tid: AtomicU64,
    /// set_robust_list.
    pub(super) robust_list: AtomicU64,
    /// Contended priority-inheritance words it owns; changes under the table's lock of each.
    pub(super) pi_owned: AtomicU32,
    /// It is ending: nobody may begin to wait for a word of it.
    pub(super) pi_ending: AtomicBool,
    pub(super) minor_faults: AtomicU64,
    pub(super) major_faults: AtomicU64,
    pub(super) no_new_privs: AtomicBool,
    pub(super) keep_caps: AtomicBool,
    /// Signal to get when the parent thread ends; 0 for none.
    pub(super) pdeath_signal: AtomicU32,
    /// A vfork parent sleeps on this until exec or exit.
    pub(super) vfork_done: SpinLock<Option<Arc<Completion>>>,
    /// The thread is parked by a job-control stop.
    pub(super) parked: AtomicBool,
    /// The thread ended, and `Process::dead_usage` has its use. Changes under that lock.
    pub(super) is_accounted: AtomicBool,
}

/// Something that happens once, and whom to wake then.
pub struct Completion {
    done: AtomicBool,
    queue: WaitQueue,
}

impl Default for Completion {
    fn default() -> Self {
        Self::new()
    }
}

impl Completion {
    /// Not yet happened.
    pub const fn new() -> Self {
        Self {
            done: AtomicBool::new(false),
            queue: WaitQueue::new(),
        }
    }
    /// It happened.
    pub fn complete(&self) {
        self.done.store(true, Ordering::Release);
        self.queue.wake_all();
    }
    /// Sleeps until it happened, or the thread is to die.
    pub fn wait_killable(&self) -> Result<(), crate::sched::WaitError> {
        self.queue
            .wait_killable(|| self.done.load(Ordering::Acquire).then_some(()))
    }
}

impl Process {
    /// Thread-group id: what getpid returns.
    pub fn pid(&self) -> Pid {
        self.pid
    }
    /// A counted reference to itself.
    pub fn shared(&self) -> Option<Arc<Process>> {
        self.this.upgrade()
    }
    /// Its memory; `None` once its last thread ended.
    pub fn space(&self) -> Option<Arc<AddressSpace>> {
        self.space.get()
    }
    /// Its live threads, the oldest first.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.sig.lock().threads.clone()
    }
    /// Its oldest live thread.
    pub fn main_task(&self) -> Option<Arc<Task>> {
        self.sig.lock().threads.first().cloned()
    }
    /// Woken when a signal becomes pending (signalfd); poll observers welcome.
    pub fn signal_queue(&self) -> &Arc<WaitQueue> {
        &self.signal_wait
    }
    /// Where `time` keeps the process's timers (alarm, setitimer, timer_create). Inherited by
    /// nobody, kept over execve, dropped at exit.
    pub fn timers(&self) -> &Mutex<Option<Box<dyn Any + Send>>> {
        &self.timers
    }
    /// Soft and hard limit (RLIMIT_*); unlimited for a number out of range.
    pub fn rlimit(&self, which: u32) -> (u64, u64) {
        self.limits.lock().get(which)
    }
    /// The soft limit that applies (RLIMIT_*).
    pub fn limit(&self, which: u32) -> u64 {
        self.rlimit(which).0
    }
}

impl Task {
    /// A counted reference to itself.
    pub fn shared(&self) -> Option<Arc<Task>> {
        self.this.upgrade()
    }
    /// The process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }
    /// Thread id: what gettid returns.
    pub fn tid(&self) -> Pid {
        self.tid.load(Ordering::Relaxed)
    }
    /// Process id.
    pub fn pid(&self) -> Pid {
        self.process.pid
    }
    /// The thread it runs on; `None` once that is gone.
    pub fn thread(&self) -> Option<Arc<Thread>> {
        self.thread.lock().upgrade()
    }
    /// What it acts as now.
    pub fn cred(&self) -> Arc<Credentials> {
        self.cred.lock().clone()
    }
    /// Its memory.
    ///
    /// # Panics
    /// Once the process ended: ask only for the running task, else [`Process::space`].
    pub fn space(&self) -> Arc<AddressSpace> {
        match self.process.space.get() {
            Some(space) => space,
            None => panic!("an ended process was asked for its memory"),
        }
    }
    /// Root, working directory, umask.
    ///
    /// # Panics
    /// Once the thread ended: ask only for the running task, else [`Task::try_fs`].
    pub fn fs(&self) -> Arc<FsContext> {
        match self.fs.get() {
            Some(fs) => fs,
            None => panic!("an ended thread was asked for its directory"),
        }
    }
    /// As [`Task::fs`]; `None` once the thread ended.
    pub fn try_fs(&self) -> Option<Arc<FsContext>> {
        self.fs.get()
    }
    /// Its descriptors.
    ///
    /// # Panics
    /// Once the thread ended: ask only for the running task, else [`Task::try_files`].
    pub fn files(&self) -> Arc<FdTable> {
        match self.files.get() {
            Some(files) => files,
            None => panic!("an ended thread was asked for its files"),
        }
    }
    /// Gives the task descriptors of its own if it shares them (CLOSE_RANGE_UNSHARE). ENOMEM.
    pub fn unshare_files(&self) -> Result<()> {
        let copy = Arc::new(self.files().duplicate()?);
        drop(self.files.swap(Some(copy)));
        Ok(())
    }
    /// As [`Task::files`]; `None` once the thread ended.
    pub fn try_files(&self) -> Option<Arc<FdTable>> {
        self.files.get()
    }
    /// The description behind `fd`; EBADF.
    pub fn file(&self, fd: i32) -> Result<Arc<OpenFile>> {
        self.files().get(fd)
    }
    /// The name ps shows, without trailing NULs (man 2 prctl, PR_SET_NAME).
    pub fn comm(&self) -> Vec<u8> {
        let comm = *self.comm.lock();
        comm.iter().copied().take_while(|&b| b != 0).collect()
    }
    /// Sets the name; cut to 15 bytes.
    pub fn set_comm(&self, name: &[u8]) {
        let mut comm = [0; 16];
        let n = name.len().min(15);
        comm[..n].copy_from_slice(&name[..n]);
        *self.comm.lock() = comm;
    }
    /// Counts a page fault of this thread; `major` when it waited for a device.
    pub fn note_fault(&self, major: bool) {
        let counter = if major {
            &self.major_faults
        } else {
            &self.minor_faults
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    /// Keeps `restart` for restart_syscall and returns the error that asks for it: for calls
    /// whose arguments change while they wait (nanosleep, poll, futex with a timeout).
    pub fn restart_with(&self, restart: Restart) -> Errno {
        let old = self.restart.lock().replace(restart);
        drop(old);
        Errno::ERESTART_RESTARTBLOCK
    }
}
