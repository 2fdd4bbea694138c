//! What /proc and the get calls tell about processes and threads. Every answer is of one
//! moment; a process that ended meanwhile answers with zeros or nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::sigstate::SigSet;
use super::task::{Restart, StopState};
use super::tree::TREE;
use super::{Pid, Process, Task, exec};
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::security::Credentials;
use crate::security::capability::CAP_SYS_RESOURCE;

/// Signal sets of a process as /proc/pid/status shows them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalSets {
    /// Pending for the thread.
    pub pending: SigSet,
    /// Pending for the process.
    pub shared_pending: SigSet,
    /// Blocked by the thread.
    pub blocked: SigSet,
    /// Ignored.
    pub ignored: SigSet,
    /// Caught.
    pub caught: SigSet,
    /// Queued signals.
    pub nr_queued: usize,
}

/// Process flag in /proc/pid/stat: forked but has not run another program.
const PF_FORKNOEXEC: u32 = 0x40;

impl Process {
    /// Parent; 0 for the first process and for one that is gone.
    pub fn ppid(&self) -> Pid {
        TREE.lock().node(self.pid).map_or(0, |n| n.parent)
    }
    /// Its children, the oldest first, zombies included.
    pub fn children(&self) -> Vec<Pid> {
        TREE.lock()
            .node(self.pid)
            .map_or(Vec::new(), |n| n.children.clone())
    }
    /// Whether its last thread ended.
    pub fn is_zombie(&self) -> bool {
        self.exited.load(Ordering::Acquire)
    }
    /// The letter ps shows: R, S, D, T, Z.
    pub fn state_letter(&self) -> u8 {
        match self.main_task() {
            Some(task) if task.tid() == self.pid => task.state_letter(),
            // The first thread ended, whether others live or not.
            _ => b'Z',
        }
    }
    /// Live threads.
    pub fn nr_threads(&self) -> usize {
        self.sig.lock().threads.len()
    }
    /// Start, monotonic ns.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }
    /// Device number of the controlling terminal and its foreground group; (0, -1) without.
    pub fn tty(&self) -> (u64, Pid) {
        if self.has_left_tty() {
            return (0, -1);
        }
        let tree = TREE.lock();
        tree.node(self.pid)
            .and_then(|n| tree.sessions.get(&n.sid))
            .and_then(|s| s.tty.as_ref().map(|t| (t.device(), s.foreground)))
            .unwrap_or((0, -1))
    }
    /// What the parent gets when it ends.
    pub fn exit_signal(&self) -> u32 {
        TREE.lock().node(self.pid).map_or(0, |n| n.exit_signal)
    }
    /// PF_* of /proc/pid/stat, as far as they exist here.
    pub fn flags(&self) -> u32 {
        if self.did_exec.load(Ordering::Relaxed) {
            0
        } else {
            PF_FORKNOEXEC
        }
    }
    /// The name of its oldest thread; of its last one for a zombie.
    pub fn comm(&self) -> Vec<u8> {
        self.main_task().map_or_else(
            || {
                let comm = *self.last_comm.lock();
                comm.iter().copied().take_while(|&b| b != 0).collect()
            },
            |t| t.comm(),
        )
    }
    /// Credentials of its oldest thread; of its last one for a zombie.
    pub fn cred(&self) -> Arc<Credentials> {
        match self.main_task() {
            Some(task) => task.cred(),
            None => self
                .last_cred
                .get()
                .unwrap_or_else(|| Arc::new(Credentials::root())),
        }
    }
    /// The program it runs, opened.
    pub fn exe(&self) -> Option<Arc<OpenFile>> {
        self.exec.lock().exe.clone()
    }
    /// First stack pointer of the program (/proc/pid/stat, startstack).
    pub fn start_stack(&self) -> UserAddr {
        self.exec.lock().stack
    }
    /// Arguments as they lie in its memory, each NUL-terminated; empty for a zombie.
    pub fn cmdline(&self) -> Vec<u8> {
        let range = self.exec.lock().args;
        self.read_range(range)
    }
    /// Environment as it lay in its memory at the start, each NUL-terminated.
    pub fn environ(&self) -> Vec<u8> {
        let range = self.exec.lock().env;
        self.read_range(range)
    }
    /// The auxiliary vector as it lay in its memory at the start (/proc/pid/auxv).
    pub fn auxv(&self) -> Vec<u8> {
        let range = self.exec.lock().auxv;
        self.read_range(range)
    }
    fn read_range(&self, (from, to): (UserAddr, UserAddr)) -> Vec<u8> {
        let mut out = Vec::new();
        let len = to.0.saturating_sub(from.0) as usize;
        let Some(space) = self.space() else {
            return out;
        };
        if out.try_reserve_exact(len).is_err() {
            return out;
        }
        out.resize(len, 0);
        let n = space.read_remote(from, &mut out).unwrap_or(0);
        out.truncate(n);
        out
    }
    /// Sets a limit for itself and its memory. EINVAL, EPERM.
    pub fn set_rlimit(&self, cred: &Credentials, which: u32, soft: u64, hard: u64) -> Result<()> {
        let privileged = cred.capable(CAP_SYS_RESOURCE);
        self.limits.lock().set(which, soft, hard, privileged)?;
        if let Some(space) = self.space() {
            space.set_limits(exec::space_limits(self));
        }
        if which == crate::abi::RLIMIT_CPU {
            super::cputime::limit_changed(self);
        }
        Ok(())
    }
    /// -1000 (never) to 1000 (first): how the OOM killer weighs it.
    pub fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj.load(Ordering::Relaxed)
    }
    /// See [`Process::oom_score_adj`]. EINVAL when out of range; EACCES when lowered without
    /// CAP_SYS_RESOURCE.
    pub fn set_oom_score_adj(&self, cred: &Credentials, value: i32) -> Result<()> {
        if !(-1000..=1000).contains(&value) {
            return Err(Errno::EINVAL);
        }
        if value < self.oom_score_adj() && !cred.capable(CAP_SYS_RESOURCE) {
            return Err(Errno::EACCES);
        }
        self.oom_score_adj.store(value, Ordering::Relaxed);
        Ok(())
    }
    /// PR_GET_DUMPABLE.
    pub fn dumpable(&self) -> u32 {
        self.dumpable.load(Ordering::Relaxed)
    }
    /// PR_SET_DUMPABLE, 0 or 1.
    pub fn set_dumpable(&self, value: u32) {
        self.dumpable.store(value, Ordering::Relaxed);
    }
    /// personality(2): returns the old one.
    pub fn set_personality(&self, value: u32) -> u32 {
        self.personality.swap(value, Ordering::Relaxed)
    }
    /// personality(2).
    pub fn personality(&self) -> u32 {
        self.personality.load(Ordering::Relaxed)
    }
    /// PR_GET_CHILD_SUBREAPER.
    pub fn is_subreaper(&self) -> bool {
        TREE.lock().node(self.pid).is_some_and(|n| n.subreaper)
    }
    /// PR_SET_CHILD_SUBREAPER.
    pub fn set_subreaper(&self, on: bool) {
        if let Some(node) = TREE.lock().nodes.get_mut(&self.pid) {
            node.subreaper = on;
        }
    }
}

impl Task {
    /// The letter ps shows: R, S, D, T, Z.
    pub fn state_letter(&self) -> u8 {
        let stopped = matches!(
            self.process.sig.lock().stop,
            StopState::Stopped { .. } | StopState::Stopping { .. }
        );
        if stopped && self.parked.load(Ordering::Relaxed) {
            return b'T';
        }
        self.thread().map_or(b'Z', |t| t.state_letter())
    }
    /// Signal sets for /proc/pid/status.
    pub fn signal_sets(&self) -> SignalSets {
        let ps = self.process.sig.lock();
        let (ignored, caught) = ps.actions.lock().sets();
        let ts = self.sig.lock();
        SignalSets {
            pending: ts.pending.set(),
            shared_pending: ps.pending.set(),
            blocked: ts.mask,
            ignored,
            caught,
            nr_queued: ts.pending.len() + ps.pending.len(),
        }
    }
    /// Replaces what it acts as. The caller decided that it may.
    pub fn set_cred(&self, new: Credentials) {
        let to = new.uid;
        let new = Arc::new(new);
        let old = core::mem::replace(&mut *self.cred.lock(), new);
        self.process.uid.store(to, Ordering::Relaxed);
        if old.uid != to {
            TREE.lock().move_user(old.uid, to);
        }
        if old.euid != self.cred().euid || old.egid != self.cred().egid {
            self.process.set_dumpable(0);
            self.pdeath_signal.store(0, Ordering::Relaxed);
        }
    }
    /// PR_GET_NO_NEW_PRIVS.
    pub fn no_new_privs(&self) -> bool {
        self.no_new_privs.load(Ordering::Relaxed)
    }
    /// PR_SET_NO_NEW_PRIVS: there is no way back.
    pub fn set_no_new_privs(&self) {
        self.no_new_privs.store(true, Ordering::Relaxed);
    }
    /// PR_GET_KEEPCAPS.
    pub fn keep_caps(&self) -> bool {
        self.keep_caps.load(Ordering::Relaxed)
    }
    /// PR_SET_KEEPCAPS.
    pub fn set_keep_caps(&self, on: bool) {
        self.keep_caps.store(on, Ordering::Relaxed);
    }
    /// PR_GET_PDEATHSIG.
    pub fn parent_death_signal(&self) -> u32 {
        self.pdeath_signal.load(Ordering::Relaxed)
    }
    /// PR_SET_PDEATHSIG; 0 for none.
    pub fn set_parent_death_signal(&self, sig: u32) {
        self.pdeath_signal.store(sig, Ordering::Relaxed);
    }
    /// set_tid_address.
    pub fn set_clear_tid(&self, at: u64) {
        self.clear_tid.store(at, Ordering::Relaxed);
    }
    /// set_robust_list.
    pub fn set_robust_list(&self, head: u64) {
        self.robust_list.store(head, Ordering::Relaxed);
    }
    /// get_robust_list.
    pub fn robust_list(&self) -> u64 {
        self.robust_list.load(Ordering::Relaxed)
    }
    /// What restart_syscall goes on with.
    pub fn take_restart(&self) -> Option<Restart> {
        self.restart.lock().take()
    }
    /// Own descriptor table and directory context for the caller (unshare). ENOMEM.
    pub fn unshare(&self, files: bool, fs: bool) -> Result<()> {
        if files {
            let own = Arc::new(self.files().duplicate()?);
            drop(self.files.swap(Some(own)));
        }
        if fs {
            let own = self.fs().duplicate();
            drop(self.fs.swap(Some(own)));
        }
        Ok(())
    }
}

/// How many threads exist, and the id handed out last (/proc/loadavg).
pub fn counts() -> (usize, Pid) {
    let tree = TREE.lock();
    (tree.nr_tasks(), tree.last_pid())
}

/// The process that the OOM killer takes first: the largest resident size, weighed by
/// `oom_score_adj`; never the first process.
pub fn oom_victim(total_bytes: u64) -> Option<Arc<Process>> {
    let score = |p: &Arc<Process>| {
        let adj = i64::from(p.oom_score_adj());
        if p.pid == 1 || adj == -1000 {
            return None;
        }
        let resident = p.space()?.resident_bytes() as i64;
        Some((resident + adj * (total_bytes as i64 / 1000)).max(1))
    };
    super::all()
        .into_iter()
        .filter_map(|p| score(&p).map(|s| (s, p)))
        .max_by_key(|(s, _)| *s)
        .map(|(_, p)| p)
}
