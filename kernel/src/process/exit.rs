//! How threads and processes end (man 2 exit, man 2 exit_group).
//!
//! A thread gives back what is its own; the last one of a process gives back memory and files
//! at once, hands the children on, and leaves a zombie for the parent.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::sigstate::SIG_IGN;
use super::task::StopState;
use super::tree::{Node, TREE, Tree, Zombie};
use super::{ExitStatus, Pid, Process, SigFields, SigInfo, SigSet, Task, Usage};
use super::{current, deliver, futex, futex_pi, session, signal, wait};
use crate::abi;
use crate::mm::UserAddr;
use crate::sched;
use crate::vm::user::copy_to_user;

/// Ends the calling process: every thread, with `status`.
pub fn exit_group(status: ExitStatus) -> ! {
    let status = {
        let task = current();
        let mut ps = task.process.sig.lock();
        match ps.group_exit {
            Some(earlier) => earlier,
            None => {
                signal::start_group_exit(&mut ps, status);
                status
            }
        }
    };
    exit_thread(status)
}

/// Ends the calling thread. The caller holds nothing that wants dropping.
pub fn exit_thread(status: ExitStatus) -> ! {
    leave(status);
    sched::exit_current()
}

fn leave(status: ExitStatus) {
    let task = current();
    let process = task.process.clone();
    task.pi_ending.store(true, Ordering::SeqCst);
    release_user_state(&task, &process);
    if let Some(thread) = task.thread() {
        thread.replace_space(None);
    }
    let cred = task.cred();
    let uid = cred.uid;
    *process.last_comm.lock() = *task.comm.lock();
    drop(process.last_cred.swap(Some(cred)));
    // While it still counts as a thread, so that the process's use never goes back.
    account(&task, &process);
    let (last, stopped, gone) = {
        // The id goes with the thread: an execve that waits for it may take it over, and a
        // user at the limit may make the next process once the parent heard of this one.
        let mut tree = TREE.lock();
        let mut ps = process.sig.lock();
        let gone = tree.remove_task(task.tid(), uid);
        ps.threads.retain(|t| !Arc::ptr_eq(t, &task));
        // Signals that this thread was told of go to another one.
        signal::retarget(&ps, ps.pending.set());
        let last = ps.threads.is_empty();
        let stopped = if last {
            None
        } else {
            deliver::complete_stop(&mut ps)
        };
        (last, stopped, gone)
    };
    drop(gone);
    process.thread_wait.wake_all();
    if let Some(sig) = stopped {
        wait::report_stopped(&process, sig);
    }
    let pending = core::mem::take(&mut task.sig.lock().pending);
    drop(pending);
    if last {
        drop(process.space.swap(None));
    }
    // vfork's parent goes on once the borrowed memory is given back.
    let done = task.vfork_done.lock().take();
    if let Some(done) = done {
        done.complete();
    }
    drop(task.files.swap(None));
    drop(task.fs.swap(None));
    let restart = task.restart.lock().take();
    drop(restart);
    send_parent_death_signals(&process, task.tid());
    if last {
        end_process(&process, status, uid);
    }
}

/// What execve leaves behind in the old program's memory.
pub(super) fn release_for_exec(task: &Arc<Task>) {
    release_user_state(task, &task.process);
}

/// What the end of a thread does in the program's memory.
fn release_user_state(task: &Arc<Task>, process: &Arc<Process>) {
    futex::release_robust_list(task);
    futex_pi::release_owned(task);
    let clear_tid = task.clear_tid.swap(0, Ordering::Relaxed);
    if clear_tid != 0 && memory_is_shared(process) {
        sched::about_to_end();
        // An address that is not writable is the program's own loss.
        if copy_to_user(UserAddr(clear_tid), &0u32.to_le_bytes()).is_ok() {
            futex::wake_address(task, UserAddr(clear_tid));
        }
    }
    if let Some(space) = process.space() {
        let resident = space.resident_bytes();
        let mut usage = process.dead_usage.lock();
        usage.0.max_resident_bytes = usage.0.max_resident_bytes.max(resident);
    }
}

/// Whether anybody would see a store to this process's memory.
fn memory_is_shared(process: &Process) -> bool {
    // Held here, by the process and by the running thread.
    const OWN: usize = 3;
    process.sig.lock().threads.len() > 1
        || process
            .space()
            .is_some_and(|space| Arc::strong_count(&space) > OWN)
}

/// Adds an ending thread's use to the process's.
fn account(task: &Task, process: &Process) {
    let used = task.usage();
    let mut usage = process.dead_usage.lock();
    usage.0 = usage.0.plus(used);
    task.is_accounted.store(true, Ordering::Relaxed);
}

/// Children that asked for it hear that the thread that made them is gone.
fn send_parent_death_signals(process: &Process, tid: Pid) {
    let children: Vec<Arc<Process>> = {
        let tree = TREE.lock();
        let Some(node) = tree.node(process.pid) else {
            return;
        };
        node.children
            .iter()
            .filter_map(|&c| tree.node(c))
            .filter(|n| n.parent_tid == tid && n.zombie.is_none())
            .map(|n| n.process.clone())
            .collect()
    };
    for child in children {
        let sig = child
            .main_task()
            .map_or(0, |t| t.pdeath_signal.load(Ordering::Relaxed));
        if sig != 0 {
            signal::send_process(&child, SigInfo::user(sig, process.pid, 0));
        }
    }
}

type ProcessTree = Tree<Arc<Process>, Arc<Task>>;

/// What is left to do once the tree is unlocked.
#[derive(Default)]
struct Aftermath {
    /// Parents to signal: (parent, signal, code, fields).
    signals: Vec<(Arc<Process>, u32, u32, SigFields)>,
    /// Parents whose wait may go on.
    wake: Vec<Arc<Process>>,
    /// Groups that nobody can continue any more.
    orphaned: Vec<Pid>,
    /// Places that no parent wants.
    reaped: Vec<Node<Arc<Process>>>,
}

/// The last thread is gone: what the process still has goes, the tree is told.
fn end_process(process: &Arc<Process>, status: ExitStatus, uid: u32) {
    // Without an exit_group, what the last thread passed to exit(2) counts.
    let status = process.sig.lock().group_exit.unwrap_or(status);
    assert!(
        process.pid != 1,
        "the first process ended with status {:#x}",
        status.0
    );
    let timers = process.timers.lock().take();
    drop(timers);
    let exec = core::mem::take(&mut *process.exec.lock());
    drop(exec);
    if process.is_session_leader() {
        session::leader_exits(process.pid);
    }
    let (own, children) = *process.dead_usage.lock();
    let zombie = Zombie {
        status,
        own,
        children,
        uid,
    };
    sched::about_to_end();
    let mut after = Aftermath::default();
    process.exited.store(true, Ordering::Release);
    {
        let mut tree = TREE.lock();
        note_own_orphans(&tree, process.pid, &mut after);
        hand_on_children(&mut tree, process.pid, &mut after);
        if let Some(node) = tree.nodes.get_mut(&process.pid) {
            node.zombie = Some(zombie);
            node.stop_report = None;
            node.continue_report = false;
        }
        notify_parent(&mut tree, process.pid, &mut after);
    }
    process.exit_wait.wake_all();
    after.carry_out();
}

impl Aftermath {
    fn carry_out(self) {
        for (parent, sig, code, fields) in self.signals {
            signal::send_sigchld(&parent, sig, code, fields);
        }
        for parent in self.wake {
            parent.child_wait.wake_all();
        }
        for pgid in self.orphaned {
            signal::send_group(pgid, SigInfo::kernel(abi::SIGHUP));
            signal::send_group(pgid, SigInfo::kernel(abi::SIGCONT));
        }
        drop(self.reaped);
    }
}

/// Whether a process of the group is stopped.
fn has_stopped(tree: &ProcessTree, pgid: Pid) -> bool {
    tree.group(pgid).is_some_and(|g| {
        g.members.iter().any(|&m| {
            tree.process(m)
                .is_some_and(|p| matches!(p.sig.lock().stop, StopState::Stopped { .. }))
        })
    })
}

/// The ending process may have been the last link between its group and its session.
fn note_own_orphans(tree: &ProcessTree, pid: Pid, after: &mut Aftermath) {
    let Some(node) = tree.node(pid) else { return };
    let linked = tree
        .node(node.parent)
        .is_some_and(|p| p.pgid != node.pgid && p.sid == node.sid);
    if linked && tree.is_orphaned(node.pgid, pid) && has_stopped(tree, node.pgid) {
        after.orphaned.push(node.pgid);
    }
}

fn hand_on_children(tree: &mut ProcessTree, pid: Pid, after: &mut Aftermath) {
    let Some((pgid, sid)) = tree.node(pid).map(|n| (n.pgid, n.sid)) else {
        return;
    };
    let (_, children) = tree.reparent_children(pid);
    for child in children {
        let Some(node) = tree.node(child) else {
            continue;
        };
        let (child_pgid, child_sid) = (node.pgid, node.sid);
        if node.zombie.is_some() {
            notify_parent(tree, child, after);
        } else if child_pgid != pgid
            && child_sid == sid
            && !after.orphaned.contains(&child_pgid)
            && tree.is_orphaned(child_pgid, 0)
            && has_stopped(tree, child_pgid)
        {
            after.orphaned.push(child_pgid);
        }
    }
}

/// Tells the parent of a zombie; one that does not want to know has it reaped at once
/// (man 2 sigaction, SA_NOCLDWAIT).
fn notify_parent(tree: &mut ProcessTree, pid: Pid, after: &mut Aftermath) {
    let Some(node) = tree.node(pid) else { return };
    let Some(zombie) = node.zombie else { return };
    let sig = node.exit_signal;
    let Some(parent) = tree.process(node.parent).cloned() else {
        return;
    };
    let action = {
        let ps = parent.sig.lock();
        let actions = ps.actions.lock();
        actions.get(abi::SIGCHLD)
    };
    let ignored = action.handler == SIG_IGN;
    let reap = sig == abi::SIGCHLD && (ignored || action.flags & u64::from(abi::SA_NOCLDWAIT) != 0);
    if sig != 0 && !(reap && ignored) {
        let (code, status) = wait::child_code(zombie.status);
        let fields = SigFields::Child {
            pid,
            uid: zombie.uid,
            status,
            utime: ticks(zombie.own.user_ns),
            stime: ticks(zombie.own.system_ns),
        };
        after.signals.push((parent.clone(), sig, code, fields));
    }
    after.wake.push(parent);
    if reap && let Some(node) = tree.remove_process(pid) {
        after.reaped.push(node);
    }
}

/// Nanoseconds in clock ticks of 1/100 s.
pub(super) fn ticks(ns: u64) -> i64 {
    (ns / 10_000_000) as i64
}

impl Task {
    /// What the thread used so far.
    pub fn usage(&self) -> Usage {
        let thread = self.thread();
        let (user_ns, system_ns) = thread.as_ref().map_or((0, 0), |t| t.cpu_time());
        let (voluntary_switches, involuntary_switches) =
            thread.as_ref().map_or((0, 0), |t| t.switches());
        Usage {
            user_ns,
            system_ns,
            minor_faults: self.minor_faults.load(Ordering::Relaxed),
            major_faults: self.major_faults.load(Ordering::Relaxed),
            max_resident_bytes: 0,
            voluntary_switches,
            involuntary_switches,
        }
    }
    /// Signals that the thread blocks, for /proc.
    pub fn blocked(&self) -> SigSet {
        signal::mask_of(self)
    }
}

impl Process {
    /// What the process used so far, and what the children it waited for used.
    pub fn usage(&self) -> (Usage, Usage) {
        // Looked at before the lock, because it takes others. A thread that ends meanwhile is
        // in `dead_usage` by then: it counts once, and use never goes back.
        let live: Vec<(Arc<Task>, Usage)> = self
            .threads()
            .into_iter()
            .map(|task| {
                let usage = task.usage();
                (task, usage)
            })
            .collect();
        let (own, children) = {
            let dead = self.dead_usage.lock();
            let own = live
                .iter()
                .filter(|(task, _)| !task.is_accounted.load(Ordering::Relaxed))
                .fold(dead.0, |sum, (_, usage)| sum.plus(*usage));
            (own, dead.1)
        };
        let mut own = own;
        if let Some(space) = self.space() {
            own.max_resident_bytes = own.max_resident_bytes.max(space.resident_bytes());
        }
        (own, children)
    }
}
