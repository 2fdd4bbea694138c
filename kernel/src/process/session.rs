//! Process groups, sessions and the controlling terminal's place (man 7 credentials,
//! POSIX job control).
//!
//! A session knows its terminal and foreground group; terminals are opaque here
//! ([`ControllingTty`], implemented by `tty`) and are named by device number. All but what
//! says so may be called from interrupt handlers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

use super::signal;
use super::tree::TREE;
use super::{Pid, Process, SigInfo, Task};
use crate::abi;
use crate::error::{Errno, Result};

/// A terminal as a session sees it.
pub trait ControllingTty: Send + Sync + Any {
    /// Device number (`st_rdev`); unique among terminals that can control a session.
    fn device(&self) -> u64;
    /// For `/dev/tty`, which must find the concrete type.
    fn as_any(&self) -> &dyn Any;
    /// Its session's leader ended: hang up (readers see the end, writers EIO). May sleep.
    fn hang_up(&self);
}

/// A session's terminal and foreground group.
pub struct Session {
    pub(super) tty: Option<Arc<dyn ControllingTty>>,
    /// 0 for none.
    pub(super) foreground: Pid,
    /// Group that was in front when the terminal hung up: it hears of the leader's end.
    pub(super) old_foreground: Pid,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            tty: None,
            foreground: 0,
            old_foreground: 0,
        }
    }
}

impl Process {
    /// Process group; 0 once it is gone.
    pub fn pgid(&self) -> Pid {
        TREE.lock().node(self.pid).map_or(0, |n| n.pgid)
    }
    /// Session; 0 once it is gone.
    pub fn sid(&self) -> Pid {
        TREE.lock().node(self.pid).map_or(0, |n| n.sid)
    }
    /// The terminal that controls its session, unless it gave that up for itself.
    pub fn controlling_tty(&self) -> Option<Arc<dyn ControllingTty>> {
        if self.has_left_tty() {
            return None;
        }
        let tree = TREE.lock();
        let sid = tree.node(self.pid)?.sid;
        tree.sessions.get(&sid)?.tty.clone()
    }
    /// Whether it gave up the session's terminal (TIOCNOTTY), or a parent did.
    pub(super) fn has_left_tty(&self) -> bool {
        self.left_tty.load(Ordering::Relaxed)
    }
    /// Whether it leads its session.
    pub fn is_session_leader(&self) -> bool {
        self.sid() == self.pid
    }
}

/// man 2 setsid. EPERM for a group leader.
pub fn setsid(process: &Process) -> Result<Pid> {
    let pid = process.pid;
    let mut tree = TREE.lock();
    if tree.group(pid).is_some() {
        return Err(Errno::EPERM);
    }
    tree.start_session(pid)?;
    process.left_tty.store(false, Ordering::Relaxed);
    Ok(pid)
}

/// man 2 setpgid, as `caller` asks it.
pub fn setpgid(caller: &Process, pid: Pid, pgid: Pid) -> Result<()> {
    let pid = if pid == 0 { caller.pid } else { pid };
    let pgid = if pgid == 0 { pid } else { pgid };
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let mut tree = TREE.lock();
    let caller_sid = tree.node(caller.pid).map_or(0, |n| n.sid);
    let node = tree.node(pid).ok_or(Errno::ESRCH)?;
    if node.parent == caller.pid && pid != caller.pid {
        if node.sid != caller_sid {
            return Err(Errno::EPERM);
        }
        if node
            .process
            .did_exec
            .load(core::sync::atomic::Ordering::Relaxed)
        {
            return Err(Errno::EACCES);
        }
    } else if pid != caller.pid {
        return Err(Errno::ESRCH);
    }
    if node.sid == pid {
        return Err(Errno::EPERM);
    }
    let sid = node.sid;
    if pgid != pid && tree.group(pgid).is_none_or(|g| g.sid != sid) {
        return Err(Errno::EPERM);
    }
    tree.move_to_group(pid, pgid)
}

/// Makes `tty` the controlling terminal of the caller's session (TIOCSCTTY; opening a
/// terminal without O_NOCTTY). Already so: success. EPERM: the caller leads no session, has
/// another terminal, or the terminal controls another session and is not stolen
/// (`steal`: the caller checked that it may).
pub fn set_controlling_tty(task: &Task, tty: Arc<dyn ControllingTty>, steal: bool) -> Result<()> {
    let pid = task.pid();
    let device = tty.device();
    let mut old = None;
    let mut tree = TREE.lock();
    let node = tree.node(pid).ok_or(Errno::ESRCH)?;
    let (sid, pgid) = (node.sid, node.pgid);
    if sid != pid {
        return Err(Errno::EPERM);
    }
    let session = tree.sessions.get(&sid);
    if let Some(mine) = session.and_then(|s| s.tty.as_ref())
        && mine.device() == device
    {
        return Ok(());
    }
    if session.is_none_or(|s| s.tty.is_some()) {
        return Err(Errno::EPERM);
    }
    let owner = tree
        .sessions
        .iter()
        .find(|(_, s)| s.tty.as_ref().is_some_and(|t| t.device() == device))
        .map(|(&sid, _)| sid);
    if let Some(owner) = owner {
        if !steal {
            return Err(Errno::EPERM);
        }
        if let Some(s) = tree.sessions.get_mut(&owner) {
            old = s.tty.take();
            s.foreground = 0;
        }
    }
    if let Some(s) = tree.sessions.get_mut(&sid) {
        s.tty = Some(tty);
        s.foreground = pgid;
        s.old_foreground = 0;
    }
    drop(tree);
    drop(old);
    Ok(())
}

/// Gives up the controlling terminal (TIOCNOTTY). From the session's leader: the foreground
/// group gets SIGHUP and SIGCONT and the session has no terminal any more. ENOTTY without
/// one. From others: they and their children to come are as without a terminal.
pub fn disassociate(task: &Task) -> Result<()> {
    let process = task.process();
    if process.controlling_tty().is_none() {
        return Err(Errno::ENOTTY);
    }
    if !process.is_session_leader() {
        process.left_tty.store(true, Ordering::Relaxed);
    } else {
        let (tty, foreground) = detach(process.pid);
        drop(tty);
        hang_up_group(foreground);
    }
    Ok(())
}

/// Takes the terminal off session `sid`; returns it and the foreground group.
fn detach(sid: Pid) -> (Option<Arc<dyn ControllingTty>>, Pid) {
    let mut tree = TREE.lock();
    match tree.sessions.get_mut(&sid) {
        Some(s) => (s.tty.take(), core::mem::take(&mut s.foreground)),
        None => (None, 0),
    }
}

fn hang_up_group(pgid: Pid) {
    if pgid > 0 {
        signal::send_group(pgid, SigInfo::kernel(abi::SIGHUP));
        signal::send_group(pgid, SigInfo::kernel(abi::SIGCONT));
    }
}

/// A session leader is ending: its terminal hangs up, the group in front is told; that which was
/// in front when the terminal had hung up before, too. May sleep.
pub(super) fn leader_exits(sid: Pid) {
    let (tty, foreground) = detach(sid);
    let Some(tty) = tty else {
        let old = TREE
            .lock()
            .sessions
            .get(&sid)
            .map_or(0, |s| s.old_foreground);
        return hang_up_group(old);
    };
    if foreground > 0 {
        signal::send_group(foreground, SigInfo::kernel(abi::SIGHUP));
    }
    tty.hang_up();
}

/// A terminal hung up (its master closed, vhangup): the session it controls loses it, and the
/// leader gets SIGHUP and SIGCONT. The group in front hears of it when the leader ends.
pub fn tty_hung_up(device: u64) {
    let Some(sid) = session_of(device) else {
        return;
    };
    let (tty, foreground) = detach(sid);
    if let Some(session) = TREE.lock().sessions.get_mut(&sid) {
        session.old_foreground = foreground;
    }
    if let Some(leader) = super::find(sid) {
        signal::send_process(&leader, SigInfo::kernel(abi::SIGHUP));
        signal::send_process(&leader, SigInfo::kernel(abi::SIGCONT));
    }
    drop(tty);
}

/// The session that terminal `device` controls.
pub fn session_of(device: u64) -> Option<Pid> {
    let tree = TREE.lock();
    tree.sessions
        .iter()
        .find(|(_, s)| s.tty.as_ref().is_some_and(|t| t.device() == device))
        .map(|(&sid, _)| sid)
}

/// The foreground group of terminal `device` (TIOCGPGRP on a master, /proc/pid/stat).
pub fn foreground(device: u64) -> Option<Pid> {
    let tree = TREE.lock();
    tree.sessions
        .values()
        .find(|s| s.tty.as_ref().is_some_and(|t| t.device() == device))
        .map(|s| s.foreground)
}

/// Sets the foreground group (TIOCSPGRP). ENOTTY: not the caller's terminal; EINVAL: bad
/// number; ESRCH: no such group; EPERM: a group of another session. The caller has passed
/// [`check_background`] with SIGTTOU.
pub fn set_foreground(task: &Task, device: u64, pgid: Pid) -> Result<()> {
    if task.process.has_left_tty() {
        return Err(Errno::ENOTTY);
    }
    let mut tree = TREE.lock();
    let sid = tree.node(task.pid()).ok_or(Errno::ESRCH)?.sid;
    let group_sid = tree.group(pgid).map(|g| g.sid);
    let session = tree.sessions.get_mut(&sid).ok_or(Errno::ENOTTY)?;
    if session.tty.as_ref().is_none_or(|t| t.device() != device) {
        return Err(Errno::ENOTTY);
    }
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    match group_sid {
        None => Err(Errno::ESRCH),
        Some(s) if s != sid => Err(Errno::EPERM),
        Some(_) => {
            session.foreground = pgid;
            Ok(())
        }
    }
}

/// Signals the foreground group of terminal `device` (Ctrl-C, window size...).
pub fn signal_foreground(device: u64, sig: u32) {
    if let Some(pgid) = foreground(device)
        && pgid > 0
    {
        signal::send_group(pgid, SigInfo::kernel(sig));
    }
}

/// Whether nobody could continue group `pgid` were it stopped.
pub fn is_orphaned(pgid: Pid) -> bool {
    TREE.lock().is_orphaned(pgid, 0)
}

/// Whether `device` is the task's controlling terminal and its group is not in front.
pub fn is_background(task: &Task, device: u64) -> bool {
    if task.process.has_left_tty() {
        return false;
    }
    let tree = TREE.lock();
    let Some(node) = tree.node(task.pid()) else {
        return false;
    };
    tree.sessions.get(&node.sid).is_some_and(|s| {
        s.tty.as_ref().is_some_and(|t| t.device() == device)
            && s.foreground != 0
            && s.foreground != node.pgid
    })
}

/// Job control of a background process that reads from (`SIGTTIN`) or changes or writes to
/// (`SIGTTOU`) terminal `device`. `Ok`: go ahead. EIO: it may not and nobody could continue
/// it, or it ignores or blocks SIGTTIN. ERESTARTSYS: its group was signalled.
pub fn check_background(task: &Task, device: u64, sig: u32) -> Result<()> {
    if !is_background(task, device) {
        return Ok(());
    }
    let unheard = signal::is_blocked_or_ignored(task, sig);
    if unheard {
        return if sig == abi::SIGTTIN {
            Err(Errno::EIO)
        } else {
            Ok(())
        };
    }
    let pgid = task.process().pgid();
    if is_orphaned(pgid) {
        return Err(Errno::EIO);
    }
    signal::send_group(pgid, SigInfo::kernel(sig));
    if let Some(thread) = task.thread() {
        thread.interrupt();
    }
    Err(Errno::ERESTARTSYS)
}

/// The processes of group `pgid`, zombies included.
pub(super) fn members(pgid: Pid) -> Vec<Arc<Process>> {
    let tree = TREE.lock();
    let Some(group) = tree.group(pgid) else {
        return Vec::new();
    };
    group
        .members
        .iter()
        .filter_map(|&m| tree.process(m).cloned())
        .collect()
}
