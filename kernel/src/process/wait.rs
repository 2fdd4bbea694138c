//! Waiting for children (man 2 wait4, man 2 waitid), and telling parents of stops.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::exit::ticks;
use super::sigstate::SIG_IGN;
use super::tree::{Node, TREE};
use super::{ExitStatus, Pid, Process, SigFields, Task, Usage, signal};
use crate::abi;
use crate::error::{Errno, Result};

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every child.
    Any,
    /// One child.
    Process(Pid),
    /// The children in a process group.
    Group(Pid),
}

/// What happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It ended.
    Ended(ExitStatus),
    /// A signal stopped it.
    Stopped(u32),
    /// It goes on.
    Continued,
}

/// A child's news.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The child.
    pub pid: Pid,
    /// Its real user.
    pub uid: u32,
    /// What happened.
    pub event: Event,
    /// What it and the children it waited for used.
    pub usage: Usage,
}

impl Report {
    /// wait4's status word.
    pub fn status(&self) -> i32 {
        match self.event {
            Event::Ended(status) => status.0,
            Event::Stopped(sig) => ((sig << 8) | 0x7f) as i32,
            Event::Continued => 0xffff,
        }
    }
    /// `si_code` and `si_status` of waitid.
    pub fn code(&self) -> (u32, i32) {
        match self.event {
            Event::Ended(status) => child_code(status),
            Event::Stopped(sig) => (abi::CLD_STOPPED, sig as i32),
            Event::Continued => (abi::CLD_CONTINUED, abi::SIGCONT as i32),
        }
    }
}

/// `si_code` and `si_status` for how a process ended.
pub(super) fn child_code(status: ExitStatus) -> (u32, i32) {
    match status.signal() {
        Some(sig) => (abi::CLD_KILLED, sig as i32),
        None => (abi::CLD_EXITED, status.code()),
    }
}

/// Whether the call looks at this child at all (man 2 waitid, Linux notes).
fn eligible<P>(node: &Node<P>, which: Which, options: u32, tid: Pid) -> bool {
    let id_ok = match which {
        Which::Any | Which::Process(_) => true,
        Which::Group(pgid) => node.pgid == pgid,
    };
    let is_clone = node.exit_signal != abi::SIGCHLD;
    let kind_ok = options & abi::__WALL != 0 || is_clone == (options & abi::__WCLONE != 0);
    let thread_ok = options & abi::__WNOTHREAD == 0 || node.parent_tid == tid;
    // An ended child has no more news but its end: who does not ask for that must not wait.
    let may_tell = node.zombie.is_none() || options & abi::WEXITED != 0;
    id_ok && kind_ok && thread_ok && may_tell
}

/// The child's news that the options ask for, without taking it.
fn news<P>(node: &Node<P>, options: u32) -> Option<Event> {
    if let Some(zombie) = &node.zombie {
        return (options & abi::WEXITED != 0).then_some(Event::Ended(zombie.status));
    }
    if options & abi::WSTOPPED != 0
        && let Some(sig) = node.stop_report
    {
        return Some(Event::Stopped(sig));
    }
    (options & abi::WCONTINUED != 0 && node.continue_report).then_some(Event::Continued)
}

/// One look at the children: `None` when there is nothing to tell yet.
fn look(task: &Task, which: Which, options: u32) -> Option<Result<Report>> {
    let me = task.pid();
    let tid = task.tid();
    let mut tree = TREE.lock();
    let mut any = false;
    let mut found = None;
    {
        let one = match which {
            Which::Process(pid) => Some(pid),
            _ => None,
        };
        let own = tree.node(me).map_or(&[][..], |n| &n.children);
        let list = match &one {
            Some(pid) => core::slice::from_ref(pid),
            None => own,
        };
        for &pid in list {
            let Some(node) = tree.node(pid) else { continue };
            if node.parent != me || !eligible(node, which, options, tid) {
                continue;
            }
            any = true;
            if let Some(event) = news(node, options) {
                found = Some((pid, event));
                break;
            }
        }
    }
    let Some((pid, event)) = found else {
        return (!any).then_some(Err(Errno::ECHILD));
    };
    let keep = options & abi::WNOWAIT != 0;
    let node = tree.nodes.get_mut(&pid)?;
    let (uid, usage) = match &node.zombie {
        Some(z) => (z.uid, z.own.plus(z.children)),
        None => (0, Usage::default()),
    };
    let child = node.process.clone();
    let mut reaped = None;
    if !keep {
        match event {
            Event::Stopped(_) => node.stop_report = None,
            Event::Continued => node.continue_report = false,
            Event::Ended(_) => reaped = tree.remove_process(pid),
        }
    }
    drop(tree);
    if reaped.is_some() {
        let mut used = task.process.dead_usage.lock();
        used.1 = used.1.plus(usage);
    }
    drop(reaped);
    let (uid, usage) = if matches!(event, Event::Ended(_)) {
        (uid, usage)
    } else {
        let (own, children) = child.usage();
        let uid = child.main_task().map_or(0, |t| t.cred().uid);
        (uid, own.plus(children))
    };
    Some(Ok(Report {
        pid,
        uid,
        event,
        usage,
    }))
}

/// Waits for news of a child. `options`: WEXITED, WSTOPPED, WCONTINUED (what to tell), WNOHANG
/// (`None` instead of sleeping), WNOWAIT (leave it to be told again), __WALL, __WCLONE,
/// __WNOTHREAD. ECHILD, ERESTARTSYS.
pub fn wait(task: &Task, which: Which, options: u32) -> Result<Option<Report>> {
    if options & abi::WNOHANG != 0 {
        return look(task, which, options).transpose();
    }
    match task
        .process
        .child_wait
        .wait_interruptible(None, || look(task, which, options))
    {
        Ok(result) => result.map(Some),
        Err(_) => Err(Errno::ERESTARTSYS),
    }
}

/// All threads of `process` stopped.
pub(super) fn report_stopped(process: &Arc<Process>, sig: u32) {
    {
        let mut tree = TREE.lock();
        if let Some(node) = tree.nodes.get_mut(&process.pid) {
            node.stop_report = Some(sig);
            node.continue_report = false;
        }
    }
    tell_parent(process, abi::CLD_STOPPED, sig as i32);
}

/// `process` goes on after a stop.
pub(super) fn report_continued(process: &Arc<Process>) {
    {
        let mut tree = TREE.lock();
        if let Some(node) = tree.nodes.get_mut(&process.pid) {
            node.stop_report = None;
            node.continue_report = true;
        }
    }
    tell_parent(process, abi::CLD_CONTINUED, abi::SIGCONT as i32);
}

fn tell_parent(process: &Arc<Process>, code: u32, status: i32) {
    let Some(parent) = signal::parent_of(process.pid) else {
        return;
    };
    let action = {
        let ps = parent.sig.lock();
        let actions = ps.actions.lock();
        actions.get(abi::SIGCHLD)
    };
    if action.handler != SIG_IGN && action.flags & u64::from(abi::SA_NOCLDSTOP) == 0 {
        let fields = SigFields::Child {
            pid: process.pid,
            uid: process.uid.load(Ordering::Relaxed),
            status,
            utime: ticks(0),
            stime: ticks(0),
        };
        signal::send_sigchld(&parent, abi::SIGCHLD, code, fields);
    }
    parent.child_wait.wake_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tree::{Tree, Zombie};

    fn node(exit_signal: u32) -> Node<()> {
        let mut t: Tree<(), ()> = Tree::new();
        t.add_process(5, (), None, (0, 0), exit_signal).unwrap();
        t.remove_process(5).unwrap()
    }

    #[test]
    fn clone_children_need_wclone_or_wall() {
        let thread_like = node(0);
        let ordinary = node(abi::SIGCHLD);
        let ok = |n: &Node<()>, o| eligible(n, Which::Any, o, 1);
        let mut ended = node(abi::SIGCHLD);
        ended.zombie = Some(Zombie {
            status: ExitStatus::exited(0),
            own: Usage::default(),
            children: Usage::default(),
            uid: 0,
        });
        assert!(!ok(&ended, abi::WSTOPPED) && ok(&ended, abi::WSTOPPED | abi::WEXITED));
        assert!(ok(&ordinary, 0) && !ok(&thread_like, 0));
        assert!(!ok(&ordinary, abi::__WCLONE) && ok(&thread_like, abi::__WCLONE));
        assert!(ok(&ordinary, abi::__WALL) && ok(&thread_like, abi::__WALL));
        assert!(!ok(&ordinary, abi::__WNOTHREAD));
        assert!(!eligible(&ordinary, Which::Group(9), 0, 1));
    }

    #[test]
    fn only_what_was_asked_for() {
        let mut n = node(17);
        assert_eq!(news(&n, abi::WEXITED | abi::WSTOPPED), None);
        n.stop_report = Some(20);
        assert_eq!(news(&n, abi::WEXITED), None);
        assert_eq!(news(&n, abi::WSTOPPED), Some(Event::Stopped(20)));
        n.zombie = Some(Zombie {
            status: ExitStatus::exited(3),
            own: Usage::default(),
            children: Usage::default(),
            uid: 0,
        });
        assert_eq!(news(&n, abi::WSTOPPED), None);
        assert_eq!(
            news(&n, abi::WEXITED),
            Some(Event::Ended(ExitStatus(0x300)))
        );
    }

    #[test]
    fn status_words() {
        let report = |event| Report {
            pid: 1,
            uid: 0,
            event,
            usage: Usage::default(),
        };
        assert_eq!(report(Event::Stopped(20)).status(), 0x147f);
        assert_eq!(report(Event::Continued).status(), 0xffff);
        let killed = report(Event::Ended(ExitStatus::killed(9)));
        assert_eq!((killed.status(), killed.code()), (9, (abi::CLD_KILLED, 9)));
    }
}
