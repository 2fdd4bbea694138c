//! Replacing the program (man 2 execve), and starting the first one.
//!
//! The new program is built beside the old one ([`load`]): until the point of no return an
//! error leaves the caller as it was; after it nothing can fail.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::auxv::{MAX_STRING, Strings};
use super::load::{Context, Loaded, Request, load};
use super::sigstate::{Actions, AltStack, SigSet};
use super::task::{ExecInfo, ProcSig, Slot, TaskSig};
use super::tree::TREE;
use super::{Pid, Process, Task, Usage, exit};
use crate::abi;
use crate::arch::TrapFrame;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::file::table::FdTable;
use crate::mm::UserAddr;
use crate::sched::{Mutex, Thread, UserSpace, WaitQueue};
use crate::security::Credentials;
use crate::sync::{IrqLock, Rank, SpinLock};
use crate::vfs::{self, FsContext};
use crate::vm::UserPtr;
use crate::vm::space::SpaceLimits;
use crate::vm::user::read_cstr;

/// Pointers read at once from a program's argument vector.
const MAX_POINTERS: usize = 6 << 20 >> 3;

/// Copies a NULL-terminated vector of strings in (argv, envp; NULL is an empty vector).
/// EFAULT, E2BIG, ENOMEM.
pub fn read_strings(vector: UserAddr, room: u64) -> Result<Strings> {
    let mut out = Strings::new();
    if vector.0 == 0 {
        return Ok(out);
    }
    let pointers: UserPtr<u64> = UserPtr::new(vector);
    for i in 0..MAX_POINTERS {
        let at = pointers.at(i)?.read()?;
        if at == 0 {
            return Ok(out);
        }
        out.push(&read_cstr(UserAddr(at), MAX_STRING - 1, Errno::E2BIG)?)?;
        if (out.nr_bytes() + 8 * out.len()) as u64 > room {
            break;
        }
    }
    Err(Errno::E2BIG)
}

/// Limits that a process's memory keeps to.
pub fn space_limits(process: &Process) -> SpaceLimits {
    SpaceLimits {
        address_space: process.limit(abi::RLIMIT_AS),
        data: process.limit(abi::RLIMIT_DATA),
        stack: process.limit(abi::RLIMIT_STACK),
        locked: process.limit(abi::RLIMIT_MEMLOCK),
    }
}

/// Runs `request` in place of the running program: on success `frame` is the new program's.
/// `name_is_lost`: the file came from a close-on-exec descriptor without a path.
pub fn execve(
    task: &Arc<Task>,
    frame: &mut TrapFrame,
    mut request: Request,
    name_is_lost: bool,
) -> Result<()> {
    if request.args.is_empty() {
        // Linux since 5.18: a program always has a name.
        request.args.push(b"")?;
    }
    let comm = base_name(&request.name).to_vec();
    let fs = task.fs();
    let cred = task.cred();
    let ctx = Context {
        fs: &fs,
        cred: &cred,
        stack_limit: task.process.limit(abi::RLIMIT_STACK),
        name_is_lost,
        no_new_privs: task.no_new_privs.load(Ordering::Relaxed),
        limits: space_limits(&task.process),
    };
    let loaded = load(request, &ctx)?;
    let files = own_files(task)?;
    end_other_threads(task)?;
    // The point of no return.
    super::timers::end_posix_timers(&task.process);
    *frame = loaded.frame;
    commit(task, loaded, files, &comm);
    Ok(())
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

/// A descriptor table that nobody shares. ENOMEM.
fn own_files(task: &Task) -> Result<Arc<FdTable>> {
    let files = task.files();
    // Held here and by the task.
    if Arc::strong_count(&files) <= 2 {
        return Ok(files);
    }
    Ok(Arc::new(files.duplicate()?))
}

/// Ends every other thread of the process and takes over its id. EAGAIN when the process is
/// ending already, or another thread was first.
fn end_other_threads(task: &Arc<Task>) -> Result<()> {
    let process = &task.process;
    {
        let mut ps = process.sig.lock();
        if ps.group_exit.is_some() || ps.exec_survivor.is_some() {
            return Err(Errno::EAGAIN);
        }
        if ps.threads.len() > 1 {
            ps.exec_survivor = Some(task.tid());
            for other in ps.threads.iter().filter(|t| !Arc::ptr_eq(t, task)) {
                if let Some(thread) = other.thread() {
                    thread.kill();
                }
            }
        }
    }
    process.stop_wait.wake_all();
    let alone = process
        .thread_wait
        .wait_killable(|| (process.sig.lock().threads.len() == 1).then_some(()));
    let mut tree = TREE.lock();
    {
        let mut ps = process.sig.lock();
        ps.exec_survivor = None;
        if alone.is_err() || ps.group_exit.is_some() {
            return Err(Errno::EAGAIN);
        }
    }
    let old = task.tid();
    if old != process.pid {
        task.tid.store(process.pid, Ordering::Relaxed);
        tree.rename_task(old, process.pid);
    }
    if let Some(node) = tree.nodes.get_mut(&process.pid) {
        node.exit_signal = abi::SIGCHLD;
    }
    Ok(())
}

/// Puts the loaded program in place of the old one.
fn commit(task: &Arc<Task>, loaded: Loaded, files: Arc<FdTable>, comm: &[u8]) {
    let process = &task.process;
    exit::release_for_exec(task);
    if let Some(thread) = task.thread() {
        thread.replace_space(Some(loaded.space.clone()));
        thread.set_fs_base(0);
        thread.set_gs_base(0);
        thread.reset_fpu();
    }
    let old = process.space.swap(Some(loaded.space));
    drop(old);
    let done = task.vfork_done.lock().take();
    if let Some(done) = done {
        done.complete();
    }
    drop(task.files.swap(Some(files.clone())));
    files.close_marked();
    reset_signals(task);
    let gained = loaded.secure;
    let uid = loaded.cred.uid;
    debug_assert_eq!(uid, task.cred().uid);
    let cred = Arc::new(loaded.cred);
    let old = core::mem::replace(&mut *task.cred.lock(), cred);
    drop(old);
    if gained {
        task.pdeath_signal.store(0, Ordering::Relaxed);
    }
    process
        .dumpable
        .store(u32::from(!gained), Ordering::Relaxed);
    task.keep_caps.store(false, Ordering::Relaxed);
    task.set_comm(comm);
    let info = ExecInfo {
        exe: Some(loaded.exe),
        args: (UserAddr(loaded.args.0), UserAddr(loaded.args.1)),
        env: (UserAddr(loaded.env.0), UserAddr(loaded.env.1)),
        auxv: (UserAddr(loaded.auxv.0), UserAddr(loaded.auxv.1)),
        stack: UserAddr(loaded.stack),
    };
    let old = core::mem::replace(&mut *process.exec.lock(), info);
    drop(old);
    let restart = task.restart.lock().take();
    drop(restart);
    process.did_exec.store(true, Ordering::Relaxed);
}

/// Handlers become default in a table of the process's own; no alternate stack. Mask and
/// pending signals stay (POSIX).
fn reset_signals(task: &Task) {
    let shared = task.process.sig.lock().actions.clone();
    let mut copy = shared.lock().clone();
    copy.reset_for_exec();
    let fresh = Arc::new(IrqLock::new(Rank::SignalActions, copy));
    let old = core::mem::replace(&mut task.process.sig.lock().actions, fresh);
    drop(old);
    let mut ts = task.sig.lock();
    ts.altstack = AltStack::DISABLED;
    ts.saved_mask = None;
}

/// Opens `path` for execution as `task` would.
pub fn open(task: &Task, path: &[u8]) -> Result<Arc<OpenFile>> {
    vfs::open_exec(&task.fs(), &task.cred(), path)
}

/// Makes the first process: runs `path` with `args` and `env` as the superuser, with `files`
/// as its descriptors 0, 1, 2... Returns once it is ready to run. What [`load`] says, EAGAIN
/// when a first process exists.
pub fn start_first(
    path: &[u8],
    args: Strings,
    env: Strings,
    fs: Arc<FsContext>,
    files: Arc<FdTable>,
) -> Result<()> {
    let cred = Credentials::root();
    let limits = super::limits::Limits::initial(super::fork::max_tasks() / 2);
    let loaded = load(
        Request {
            file: vfs::open_exec(&fs, &cred, path)?,
            name: path.to_vec(),
            args,
            env,
        },
        &Context {
            fs: &fs,
            cred: &cred,
            stack_limit: limits.get(abi::RLIMIT_STACK).0,
            name_is_lost: false,
            no_new_privs: false,
            limits: SpaceLimits::default(),
        },
    )?;
    let pid = TREE.lock().reserve_id(cred.uid)?;
    if pid != 1 {
        TREE.lock().release_id(pid, cred.uid);
        return Err(Errno::EAGAIN);
    }
    let space = loaded.space.clone();
    let task = first_task(pid, loaded, limits, fs, files);
    task.set_comm(base_name(path));
    let user: Arc<dyn UserSpace> = space;
    let thread = Thread::new(
        "init",
        Some(user),
        Some(task.clone()),
        Box::new(super::fork::first_steps),
    )?;
    *task.thread.lock() = Arc::downgrade(&thread);
    {
        let mut tree = TREE.lock();
        tree.add_process(pid, task.process.clone(), None, (0, 0), abi::SIGCHLD)?;
        tree.add_task(pid, task.clone());
        let mut ps = task.process.sig.lock();
        ps.threads.push(task.clone());
        ps.unkillable = true;
    }
    thread.start();
    Ok(())
}

fn first_task(
    pid: Pid,
    loaded: Loaded,
    limits: super::limits::Limits,
    fs: Arc<FsContext>,
    files: Arc<FdTable>,
) -> Arc<Task> {
    let actions = Arc::new(IrqLock::new(Rank::SignalActions, Actions::new()));
    let exec = ExecInfo {
        exe: Some(loaded.exe),
        args: (UserAddr(loaded.args.0), UserAddr(loaded.args.1)),
        env: (UserAddr(loaded.env.0), UserAddr(loaded.env.1)),
        auxv: (UserAddr(loaded.auxv.0), UserAddr(loaded.auxv.1)),
        stack: UserAddr(loaded.stack),
    };
    let process = Arc::new_cyclic(|this| Process {
        pid,
        this: this.clone(),
        start_ns: crate::time::now_ns(),
        space: Slot::new(Some(loaded.space)),
        sig: IrqLock::new(Rank::Process, ProcSig::new(actions)),
        limits: SpinLock::new(Rank::Leaf, limits),
        exec: SpinLock::new(Rank::Leaf, exec),
        uid: AtomicU32::new(loaded.cred.uid),
        last_comm: SpinLock::new(Rank::Leaf, [0; 16]),
        last_cred: Slot::new(None),
        dead_usage: SpinLock::new(Rank::Leaf, (Usage::default(), Usage::default())),
        child_wait: WaitQueue::new(),
        stop_wait: WaitQueue::new(),
        thread_wait: WaitQueue::new(),
        signal_wait: Arc::new(WaitQueue::new()),
        exit_wait: Arc::new(WaitQueue::new()),
        dumpable: AtomicU32::new(1),
        personality: AtomicU32::new(0),
        exited: AtomicBool::new(false),
        did_exec: AtomicBool::new(true),
        oom_score_adj: AtomicI32::new(0),
        timers: Mutex::new(None),
        left_tty: AtomicBool::new(false),
        cpu_watched: AtomicBool::new(false),
    });
    Arc::new_cyclic(|this| Task {
        tid: AtomicI32::new(pid),
        this: this.clone(),
        process,
        thread: IrqLock::new(Rank::Leaf, Weak::new()),
        cred: SpinLock::new(Rank::Leaf, Arc::new(loaded.cred)),
        fs: Slot::new(Some(fs)),
        files: Slot::new(Some(files)),
        sig: IrqLock::new(
            Rank::Signal,
            TaskSig::new(SigSet::EMPTY, AltStack::DISABLED),
        ),
        comm: SpinLock::new(Rank::Leaf, [0; 16]),
        first_frame: SpinLock::new(Rank::Leaf, Some(loaded.frame)),
        restart: SpinLock::new(Rank::Leaf, None),
        clear_tid: AtomicU64::new(0),
        set_tid: AtomicU64::new(0),
        robust_list: AtomicU64::new(0),
        pi_owned: AtomicU32::new(0),
        pi_ending: AtomicBool::new(false),
        minor_faults: AtomicU64::new(0),
        major_faults: AtomicU64::new(0),
        no_new_privs: AtomicBool::new(false),
        keep_caps: AtomicBool::new(false),
        pdeath_signal: AtomicU32::new(0),
        vfork_done: SpinLock::new(Rank::Leaf, None),
        parked: AtomicBool::new(false),
        is_accounted: AtomicBool::new(false),
    })
}
