//! New threads and processes (man 2 fork, vfork, clone, clone3).

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::deliver::NO_CALL;
use super::sigstate::{AltStack, Pending, SigSet};
use super::task::{Completion, ProcSig, Slot, StopState, TaskSig};
use super::tree::TREE;
use super::{Pid, Process, Task, Usage, current, pidfd};
use crate::abi;
use crate::arch::{TrapFrame, context};
use crate::error::{Errno, Result};
use crate::file::table::FdTable;
use crate::mm::UserAddr;
use crate::sched::{Mutex, Thread, UserSpace, WaitQueue};
use crate::security::Credentials;
use crate::security::capability::CAP_SYS_RESOURCE;
use crate::sync::{IrqLock, Rank, SpinLock};
use crate::time;
use crate::vfs::FsContext;
use crate::vm::AddressSpace;
use crate::vm::user::copy_to_user;

/// What clone and clone3 ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneArgs {
    /// CLONE_*, without the exit signal.
    pub flags: u64,
    /// Signal for the parent when the child ends; 0 for none.
    pub exit_signal: u32,
    /// Stack pointer of the child; 0: the caller's.
    pub stack: u64,
    /// Thread-local storage base (CLONE_SETTLS).
    pub tls: u64,
    /// Where the parent's memory gets the child's id (CLONE_PARENT_SETTID).
    pub parent_tid: u64,
    /// Where the child's memory gets its id, and 0 when it ends.
    pub child_tid: u64,
    /// Where the parent's memory gets a descriptor (CLONE_PIDFD).
    pub pidfd: u64,
}

const VM: u64 = abi::CLONE_VM as u64;
const FS: u64 = abi::CLONE_FS as u64;
const FILES: u64 = abi::CLONE_FILES as u64;
const SIGHAND: u64 = abi::CLONE_SIGHAND as u64;
const THREAD: u64 = abi::CLONE_THREAD as u64;
const VFORK: u64 = abi::CLONE_VFORK as u64;
const PARENT: u64 = abi::CLONE_PARENT as u64;
const PIDFD: u64 = abi::CLONE_PIDFD as u64;
const SETTLS: u64 = abi::CLONE_SETTLS as u64;
const PARENT_SETTID: u64 = abi::CLONE_PARENT_SETTID as u64;
const CHILD_SETTID: u64 = abi::CLONE_CHILD_SETTID as u64;
const CHILD_CLEARTID: u64 = abi::CLONE_CHILD_CLEARTID as u64;
const DETACHED: u64 = abi::CLONE_DETACHED as u64;
const CLEAR_SIGHAND: u64 = abi::CLONE_CLEAR_SIGHAND;
/// Flags that mean something here, or nothing at all without System V semaphores, I/O
/// contexts and tracers.
const KNOWN: u64 = VM
    | FS
    | FILES
    | SIGHAND
    | THREAD
    | VFORK
    | PARENT
    | PIDFD
    | SETTLS
    | PARENT_SETTID
    | CHILD_SETTID
    | CHILD_CLEARTID
    | DETACHED
    | CLEAR_SIGHAND
    | abi::CLONE_PTRACE as u64
    | abi::CLONE_UNTRACED as u64
    | abi::CLONE_SYSVSEM as u64
    | abi::CLONE_IO as u64;

impl CloneArgs {
    /// fork(2).
    pub const FORK: CloneArgs = CloneArgs {
        flags: 0,
        exit_signal: abi::SIGCHLD,
        stack: 0,
        tls: 0,
        parent_tid: 0,
        child_tid: 0,
        pidfd: 0,
    };
    /// vfork(2).
    pub const VFORK: CloneArgs = CloneArgs {
        flags: VM | VFORK,
        ..CloneArgs::FORK
    };

    /// Refuses combinations that make no sense (man 2 clone, EINVAL), namespaces among them.
    /// EPERM: a TLS base outside user memory. As on Linux, an exit signal that is none is
    /// nobody's business but clone3's.
    pub fn validate(&self) -> Result<()> {
        let has = |f: u64| self.flags & f != 0;
        let bad = self.flags & !KNOWN != 0
            || has(THREAD) && !has(SIGHAND)
            || has(SIGHAND) && !has(VM)
            || has(SIGHAND) && has(CLEAR_SIGHAND)
            || has(PIDFD) && (has(THREAD) || has(DETACHED));
        if bad {
            Err(Errno::EINVAL)
        } else if has(SETTLS) && self.tls >= crate::mm::addr::USER_END {
            Err(Errno::EPERM)
        } else {
            Ok(())
        }
    }
}

/// Everything a new thread starts with, gathered before it gets an id.
struct Parts {
    cred: Arc<Credentials>,
    space: Arc<AddressSpace>,
    fs: Arc<FsContext>,
    files: Arc<FdTable>,
}

fn gather(parent: &Task, flags: u64) -> Result<Parts> {
    let space = parent.space();
    Ok(Parts {
        cred: parent.cred(),
        files: if flags & FILES != 0 {
            parent.files()
        } else {
            Arc::new(parent.files().duplicate()?)
        },
        fs: if flags & FS != 0 {
            parent.fs()
        } else {
            parent.fs().duplicate()
        },
        space: if flags & VM != 0 {
            space
        } else {
            space.fork()?
        },
    })
}

/// Makes a thread or process as `args` says; the child goes on after the call with `rax` 0.
/// Returns the child's id. EINVAL, EAGAIN (limits, ids), ENOMEM, EMFILE, EFAULT,
/// ERESTARTNOINTR (a signal came first).
pub fn clone(frame: &TrapFrame, args: &CloneArgs) -> Result<Pid> {
    args.validate()?;
    let parent = current();
    if args.flags & PARENT != 0 && parent.process.pid == 1 {
        return Err(Errno::EINVAL);
    }
    let tid = reserve(&parent)?;
    let result = clone_as(&parent, frame, args, tid);
    if result.is_err() {
        let uid = parent.cred().uid;
        TREE.lock().release_id(tid, uid);
    }
    let (thread, vfork_done) = result?;
    thread.start();
    drop(thread);
    if let Some(done) = vfork_done {
        // Killed meanwhile: the way out to user mode ends this thread.
        let _ = done.wait_killable();
    }
    Ok(tid)
}

/// Most threads the machine carries; set from its memory at boot.
static MAX_TASKS: AtomicU64 = AtomicU64::new(32_768);

/// Sets how many threads may exist (boot: from the memory's size).
pub fn set_max_tasks(n: u64) {
    MAX_TASKS.store(n, Ordering::Relaxed);
}

/// How many threads may exist (/proc/sys/kernel/threads-max).
pub fn max_tasks() -> u64 {
    MAX_TASKS.load(Ordering::Relaxed)
}

/// An id, if the limits leave one. EAGAIN, ENOMEM.
fn reserve(parent: &Task) -> Result<Pid> {
    let cred = parent.cred();
    let limit = parent.process.limit(abi::RLIMIT_NPROC);
    let mut tree = TREE.lock();
    let own = tree.nr_tasks_of(cred.uid) as u64;
    if own >= limit && cred.uid != 0 && !cred.capable(CAP_SYS_RESOURCE) && !cred.is_privileged()
        || tree.nr_tasks() as u64 >= max_tasks()
    {
        return Err(Errno::EAGAIN);
    }
    tree.reserve_id(cred.uid)
}

/// A thread that is ready to start, and what its vfork parent waits for.
type Made = (Arc<Thread>, Option<Arc<Completion>>);

fn clone_as(parent: &Arc<Task>, frame: &TrapFrame, args: &CloneArgs, tid: Pid) -> Result<Made> {
    let flags = args.flags;
    let parts = gather(parent, flags)?;
    let process = if flags & THREAD != 0 {
        parent.process.clone()
    } else {
        new_process(parent, tid, flags, parts.space.clone())
    };
    let mut child_frame = *frame;
    child_frame.rax = 0;
    child_frame.orig_rax = NO_CALL;
    if args.stack != 0 {
        child_frame.rsp = args.stack;
    }
    let space: Arc<dyn UserSpace> = parts.space.clone();
    let child = new_task(parent, tid, process, parts, child_frame, args);
    let done = (flags & VFORK != 0).then(|| Arc::new(Completion::new()));
    (*child.vfork_done.lock()).clone_from(&done);
    let thread = new_thread(&child, space)?;
    inherit_thread(parent, &thread, args);
    *child.thread.lock() = Arc::downgrade(&thread);
    // A descriptor is promised before, and shown only after, nothing can fail any more.
    let files = parent.files();
    let slot = if flags & PIDFD != 0 {
        let slot = files.reserve(parent.process.limit(abi::RLIMIT_NOFILE))?;
        copy_to_user(UserAddr(args.pidfd), &slot.fd().to_le_bytes())?;
        Some(slot)
    } else {
        None
    };
    if flags & PARENT_SETTID != 0 {
        // As Linux: an address that is not writable does not undo the child.
        let _ = copy_to_user(UserAddr(args.parent_tid), &tid.to_le_bytes());
    }
    publish(parent, &child, args)?;
    if let Some(slot) = slot {
        slot.install(pidfd::describe(&child.process, 0), true);
    }
    Ok((thread, done))
}

/// Makes the child visible: from here on it can be signalled and waited for.
fn publish(parent: &Task, child: &Arc<Task>, args: &CloneArgs) -> Result<()> {
    let tid = child.tid();
    let mut tree = TREE.lock();
    {
        let ps = parent.process.sig.lock();
        let ts = parent.sig.lock();
        let pending = ts.pending.set().with(ps.pending.set()).without(ts.mask);
        // A signal to the group that came before must not miss the child: deal with it first.
        if !pending.is_empty() || ps.group_exit.is_some() || ps.exec_survivor.is_some() {
            return Err(Errno::ERESTARTNOINTR);
        }
    }
    if args.flags & THREAD != 0 {
        let mut ps = parent.process.sig.lock();
        ps.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        ps.threads.push(child.clone());
        watch_if_due(child);
        let stopping = ps.stop != StopState::Running;
        drop(ps);
        tree.add_task(tid, child.clone());
        drop(tree);
        if stopping && let Some(thread) = child.thread() {
            thread.interrupt();
        }
        return Ok(());
    }
    let me = parent.process.pid;
    let (real_parent, parent_tid) = if args.flags & PARENT != 0 {
        tree.node(me).map_or((1, 1), |n| (n.parent, n.parent_tid))
    } else {
        (me, parent.tid())
    };
    // CLONE_PARENT: a sibling ends with the signal that the caller ends with.
    let exit_signal = if args.flags & PARENT != 0 {
        tree.node(me).map_or(abi::SIGCHLD, |n| n.exit_signal)
    } else {
        args.exit_signal
    };
    let job = tree.node(me).map_or((0, 0), |n| (n.pgid, n.sid));
    let mut threads = Vec::new();
    threads.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
    tree.add_process(
        tid,
        child.process.clone(),
        Some((real_parent, parent_tid)),
        job,
        exit_signal,
    )?;
    threads.push(child.clone());
    watch_if_due(child);
    child.process.sig.lock().threads = threads;
    tree.add_task(tid, child.clone());
    Ok(())
}

/// A process whose CPU time is watched has all its threads watched.
fn watch_if_due(child: &Task) {
    if child.process.cpu_watched.load(Ordering::SeqCst)
        && let Some(thread) = child.thread()
    {
        thread.set_watched(true);
    }
}

fn new_thread(child: &Arc<Task>, space: Arc<dyn UserSpace>) -> Result<Arc<Thread>> {
    Thread::new(
        "user",
        Some(space),
        Some(child.clone()),
        Box::new(first_steps),
    )
}

fn inherit_thread(parent: &Task, thread: &Thread, args: &CloneArgs) {
    let Some(own) = parent.thread() else { return };
    thread.inherit_fpu_from_current();
    thread.set_fs_base(if args.flags & SETTLS != 0 {
        args.tls
    } else {
        own.fs_base()
    });
    thread.set_gs_base(own.gs_base());
}

/// The first thing a new thread does, on its own kernel stack. A plain function: a closure
/// that never returns would never be freed.
pub(super) fn first_steps() {
    let frame = {
        let task = current();
        let set_tid = task.set_tid.swap(0, Ordering::Relaxed);
        if set_tid != 0 {
            // As Linux: an address that is not writable does not stop the child.
            let _ = copy_to_user(UserAddr(set_tid), &task.tid().to_le_bytes());
        }
        task.first_frame.lock().take()
    };
    match frame {
        Some(frame) => context::enter_user(&frame),
        None => super::exit::exit_thread(super::ExitStatus::killed(abi::SIGKILL)),
    }
}

fn new_task(
    parent: &Task,
    tid: Pid,
    process: Arc<Process>,
    parts: Parts,
    frame: TrapFrame,
    args: &CloneArgs,
) -> Arc<Task> {
    let flags = args.flags;
    let (mask, altstack) = {
        let ts = parent.sig.lock();
        // A thread with the parent's memory but no stack of its own to fall back on.
        let keep = flags & (VM | VFORK) != VM;
        (
            ts.mask,
            if keep {
                ts.altstack
            } else {
                AltStack::DISABLED
            },
        )
    };
    let addr_if = |flag: u64| AtomicU64::new(if flags & flag != 0 { args.child_tid } else { 0 });
    let flag = |f: &AtomicBool| AtomicBool::new(f.load(Ordering::Relaxed));
    let comm = *parent.comm.lock();
    Arc::new_cyclic(|this| Task {
        tid: AtomicI32::new(tid),
        this: this.clone(),
        process,
        thread: IrqLock::new(Rank::Leaf, Weak::new()),
        cred: SpinLock::new(Rank::Leaf, parts.cred),
        fs: Slot::new(Some(parts.fs)),
        files: Slot::new(Some(parts.files)),
        sig: IrqLock::new(Rank::Signal, TaskSig::new(mask, altstack)),
        comm: SpinLock::new(Rank::Leaf, comm),
        first_frame: SpinLock::new(Rank::Leaf, Some(frame)),
        restart: SpinLock::new(Rank::Leaf, None),
        clear_tid: addr_if(CHILD_CLEARTID),
        set_tid: addr_if(CHILD_SETTID),
        robust_list: AtomicU64::new(0),
        pi_owned: AtomicU32::new(0),
        pi_ending: AtomicBool::new(false),
        minor_faults: AtomicU64::new(0),
        major_faults: AtomicU64::new(0),
        no_new_privs: flag(&parent.no_new_privs),
        keep_caps: flag(&parent.keep_caps),
        pdeath_signal: AtomicU32::new(0),
        vfork_done: SpinLock::new(Rank::Leaf, None),
        parked: AtomicBool::new(false),
        is_accounted: AtomicBool::new(false),
    })
}

impl TaskSig {
    pub(super) fn new(mask: SigSet, altstack: AltStack) -> Self {
        Self {
            mask,
            saved_mask: None,
            pending: Pending::new(),
            altstack,
        }
    }
}

fn new_process(parent: &Task, pid: Pid, flags: u64, space: Arc<AddressSpace>) -> Arc<Process> {
    let from = &parent.process;
    let shared = from.sig.lock().actions.clone();
    let actions = if flags & SIGHAND != 0 {
        shared
    } else {
        let mut copy = shared.lock().clone();
        if flags & CLEAR_SIGHAND != 0 {
            copy.reset_for_clear_sighand();
        }
        Arc::new(IrqLock::new(Rank::SignalActions, copy))
    };
    let limits = from.limits.lock().clone();
    let exec = from.exec.lock().clone();
    let word = |v: &AtomicU32| AtomicU32::new(v.load(Ordering::Relaxed));
    Arc::new_cyclic(|this| Process {
        pid,
        this: this.clone(),
        start_ns: time::now_ns(),
        space: Slot::new(Some(space)),
        sig: IrqLock::new(Rank::Process, ProcSig::new(actions)),
        limits: SpinLock::new(Rank::Leaf, limits),
        exec: SpinLock::new(Rank::Leaf, exec),
        uid: AtomicU32::new(parent.cred().uid),
        last_comm: SpinLock::new(Rank::Leaf, [0; 16]),
        last_cred: Slot::new(None),
        dead_usage: SpinLock::new(Rank::Leaf, (Usage::default(), Usage::default())),
        child_wait: WaitQueue::new(),
        stop_wait: WaitQueue::new(),
        thread_wait: WaitQueue::new(),
        signal_wait: Arc::new(WaitQueue::new()),
        exit_wait: Arc::new(WaitQueue::new()),
        dumpable: word(&from.dumpable),
        personality: word(&from.personality),
        exited: AtomicBool::new(false),
        did_exec: AtomicBool::new(false),
        oom_score_adj: AtomicI32::new(from.oom_score_adj.load(Ordering::Relaxed)),
        timers: Mutex::new(None),
        left_tty: AtomicBool::new(from.has_left_tty()),
        cpu_watched: AtomicBool::new(from.limit(abi::RLIMIT_CPU) != super::limits::INFINITY),
    })
}

impl ProcSig {
    pub(super) fn new(actions: Arc<IrqLock<super::sigstate::Actions>>) -> Self {
        Self {
            threads: Vec::new(),
            pending: Pending::new(),
            actions,
            group_exit: None,
            exec_survivor: None,
            stop: StopState::Running,
            nr_parked: 0,
            stop_taken: false,
            unkillable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_combinations() {
        let check = |flags: u64| {
            CloneArgs {
                flags,
                ..CloneArgs::FORK
            }
            .validate()
        };
        let bad = Err(Errno::EINVAL);
        assert_eq!(CloneArgs::FORK.validate(), Ok(()));
        assert_eq!(CloneArgs::VFORK.validate(), Ok(()));
        assert_eq!(check(VM | FS | FILES | SIGHAND | THREAD | SETTLS), Ok(()));
        assert_eq!(check(THREAD), bad);
        assert_eq!(check(THREAD | VM), bad);
        assert_eq!(check(SIGHAND), bad);
        assert_eq!(check(VM | SIGHAND | CLEAR_SIGHAND), bad);
        assert_eq!(check(VM | SIGHAND | THREAD | PIDFD), bad);
        assert_eq!(check(PIDFD), Ok(()));
        let tls = CloneArgs {
            flags: SETTLS,
            tls: crate::mm::addr::USER_END,
            ..CloneArgs::FORK
        };
        assert_eq!(tls.validate(), Err(Errno::EPERM));
        assert_eq!(check(PIDFD | DETACHED), bad);
        assert_eq!(check(u64::from(abi::CLONE_NEWPID)), bad);
        assert_eq!(check(abi::CLONE_INTO_CGROUP), bad);
    }
}
