//! Who is whose parent, group and session; which ids are taken. Plain data under one lock,
//! generic over what hangs on it so that the rules are host-tested.
//!
//! An id is taken while it names a thread, a process (zombies too), a group or a session.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};

use super::session::Session;
use super::{ExitStatus, Pid, Process, Task, Usage};
use crate::error::{Errno, Result};
use crate::sync::{IrqLock, Rank};

/// Ids stay below this (/proc/sys/kernel/pid_max).
pub const PID_MAX: Pid = 4_194_304;
/// Where the search starts again after the largest id.
const PID_FIRST_AGAIN: Pid = 300;

/// Spreads ids over a hash table.
#[derive(Default)]
pub struct PidHasher(u64);

impl Hasher for PidHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    fn write_i32(&mut self, id: i32) {
        let mixed = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
    fn write_u32(&mut self, id: u32) {
        self.write_i32(id as i32);
    }
}

/// A map by id.
pub type PidMap<V> = hashbrown::HashMap<Pid, V, BuildHasherDefault<PidHasher>>;

const fn pid_map<V>() -> PidMap<V> {
    PidMap::with_hasher(BuildHasherDefault::new())
}

/// What waits for the parent of an ended process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zombie {
    /// How it ended.
    pub status: ExitStatus,
    /// What it and the children it waited for used.
    pub own: Usage,
    /// See `own`.
    pub children: Usage,
    /// Its real user id.
    pub uid: u32,
}

/// A process's place.
pub struct Node<P> {
    /// The process.
    pub process: P,
    /// 0 for the first process.
    pub parent: Pid,
    /// The thread that made it (PR_SET_PDEATHSIG, __WNOTHREAD).
    pub parent_tid: Pid,
    /// In the order they came.
    pub children: Vec<Pid>,
    /// Process group.
    pub pgid: Pid,
    /// Session.
    pub sid: Pid,
    /// What the parent gets when it ends; 0 for nothing.
    pub exit_signal: u32,
    /// Set when its last thread ended.
    pub zombie: Option<Zombie>,
    /// Stopped by this signal, and the parent has not been told.
    pub stop_report: Option<u32>,
    /// Continued, and the parent has not been told.
    pub continue_report: bool,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: bool,
}

/// A process group.
pub struct Group {
    /// Its session.
    pub sid: Pid,
    /// Its processes, zombies included.
    pub members: Vec<Pid>,
}

/// All places.
pub struct Tree<P, T> {
    pub(super) nodes: PidMap<Node<P>>,
    pub(super) tasks: PidMap<T>,
    pub(super) groups: PidMap<Group>,
    pub(super) sessions: PidMap<Session>,
    /// Ids handed out, not yet in `tasks`.
    reserved: PidMap<()>,
    /// Threads by real user id (RLIMIT_NPROC).
    users: hashbrown::HashMap<u32, usize, BuildHasherDefault<PidHasher>>,
    next: Pid,
}

/// The tree of this machine.
pub static TREE: IrqLock<Tree<Arc<Process>, Arc<Task>>> =
    IrqLock::new(Rank::ProcessTree, Tree::new());

impl<P, T> Default for Tree<P, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P, T> Tree<P, T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            nodes: pid_map(),
            tasks: pid_map(),
            groups: pid_map(),
            sessions: pid_map(),
            reserved: pid_map(),
            users: hashbrown::HashMap::with_hasher(BuildHasherDefault::new()),
            next: 1,
        }
    }
    /// The process of this id, zombies included.
    pub fn process(&self, pid: Pid) -> Option<&P> {
        self.nodes.get(&pid).map(|n| &n.process)
    }
    /// The place of this process.
    pub fn node(&self, pid: Pid) -> Option<&Node<P>> {
        self.nodes.get(&pid)
    }
    /// The thread of this id.
    pub fn task(&self, tid: Pid) -> Option<&T> {
        self.tasks.get(&tid)
    }
    /// The group of this id.
    pub fn group(&self, pgid: Pid) -> Option<&Group> {
        self.groups.get(&pgid)
    }
    /// How many threads exist.
    pub fn nr_tasks(&self) -> usize {
        self.tasks.len()
    }
    /// How many threads of this real user exist.
    pub fn nr_tasks_of(&self, uid: u32) -> usize {
        self.users.get(&uid).copied().unwrap_or(0)
    }
    /// The id handed out last.
    pub fn last_pid(&self) -> Pid {
        self.next - 1
    }
    fn taken(&self, id: Pid) -> bool {
        self.tasks.contains_key(&id)
            || self.nodes.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.sessions.contains_key(&id)
            || self.reserved.contains_key(&id)
    }
    /// Takes a free id for a thread of user `uid`; it stays taken until
    /// [`Tree::release_id`] or [`Tree::add_task`]. Makes room for the entries to come.
    /// EAGAIN: every id is taken; ENOMEM.
    pub fn reserve_id(&mut self, uid: u32) -> Result<Pid> {
        // Every reserved id, this one included, may still become a task and a process.
        let to_come = self.reserved.len() + 1;
        self.reserved.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.tasks.try_reserve(to_come).map_err(|_| Errno::ENOMEM)?;
        self.nodes.try_reserve(to_come).map_err(|_| Errno::ENOMEM)?;
        self.users.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let start = self.next;
        let mut id = start;
        while self.taken(id) {
            id = Self::after(id);
            if id == start {
                return Err(Errno::EAGAIN);
            }
        }
        self.next = Self::after(id);
        self.reserved.insert(id, ());
        *self.users.entry(uid).or_insert(0) += 1;
        Ok(id)
    }
    fn after(id: Pid) -> Pid {
        if id + 1 >= PID_MAX {
            PID_FIRST_AGAIN
        } else {
            id + 1
        }
    }
    /// Gives back an id that came to nothing.
    pub fn release_id(&mut self, id: Pid, uid: u32) {
        self.reserved.remove(&id);
        self.user_left(uid);
    }
    /// A reserved id becomes a thread.
    pub fn add_task(&mut self, tid: Pid, task: T) {
        self.reserved.remove(&tid);
        self.tasks.insert(tid, task);
    }
    /// A thread of user `uid` is gone.
    #[must_use = "drop the thread outside the lock"]
    pub fn remove_task(&mut self, tid: Pid, uid: u32) -> Option<T> {
        let task = self.tasks.remove(&tid);
        if task.is_some() {
            self.user_left(uid);
        }
        task
    }
    /// A thread takes over another id, which is free or its process's (execve).
    pub fn rename_task(&mut self, old: Pid, new: Pid) {
        if let Some(task) = self.tasks.remove(&old) {
            self.tasks.insert(new, task);
        }
    }
    fn user_left(&mut self, uid: u32) {
        if let Some(n) = self.users.get_mut(&uid) {
            *n -= 1;
            if *n == 0 {
                self.users.remove(&uid);
            }
        }
    }
    /// A thread changed its real user.
    pub fn move_user(&mut self, from: u32, to: u32) {
        if from != to {
            self.user_left(from);
            *self.users.entry(to).or_insert(0) += 1;
        }
    }
    /// Adds a process under `parent` (process and thread; `None` for the first process) in
    /// group and session `job`. ENOMEM leaves the tree as it was.
    pub fn add_process(
        &mut self,
        pid: Pid,
        process: P,
        parent: Option<(Pid, Pid)>,
        job: (Pid, Pid),
        exit_signal: u32,
    ) -> Result<()> {
        let (parent, parent_tid) = parent.unwrap_or((0, 0));
        let (pgid, sid) = job;
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        }
        self.join_group(pid, pgid, sid)?;
        self.nodes.insert(
            pid,
            Node {
                process,
                parent,
                parent_tid,
                children: Vec::new(),
                pgid,
                sid,
                exit_signal,
                zombie: None,
                stop_report: None,
                continue_report: false,
                subreaper: false,
            },
        );
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children.push(pid);
        }
        Ok(())
    }
    fn join_group(&mut self, pid: Pid, pgid: Pid, sid: Pid) -> Result<()> {
        self.groups.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let group = self.groups.entry(pgid).or_insert(Group {
            sid,
            members: Vec::new(),
        });
        if group.members.try_reserve(1).is_err() {
            // Not one that was only just made, and that nobody would ever leave.
            if group.members.is_empty() {
                self.groups.remove(&pgid);
            }
            return Err(Errno::ENOMEM);
        }
        group.members.push(pid);
        Ok(())
    }
    fn leave_group(&mut self, pid: Pid, pgid: Pid) {
        if let Some(group) = self.groups.get_mut(&pgid) {
            group.members.retain(|&m| m != pid);
            if group.members.is_empty() {
                self.groups.remove(&pgid);
            }
        }
    }
    /// Moves a process to group `pgid` of its session. ENOMEM.
    pub(super) fn move_to_group(&mut self, pid: Pid, pgid: Pid) -> Result<()> {
        let Some(node) = self.nodes.get(&pid) else {
            return Err(Errno::ESRCH);
        };
        let (old, sid) = (node.pgid, node.sid);
        if old != pgid {
            self.join_group(pid, pgid, sid)?;
            self.leave_group(pid, old);
            if let Some(node) = self.nodes.get_mut(&pid) {
                node.pgid = pgid;
            }
        }
        Ok(())
    }
    /// Makes a process the leader of a new session and group of its own id. ENOMEM.
    pub(super) fn start_session(&mut self, pid: Pid) -> Result<()> {
        self.sessions.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let Some(node) = self.nodes.get(&pid) else {
            return Err(Errno::ESRCH);
        };
        let (old_group, old_sid) = (node.pgid, node.sid);
        self.join_group(pid, pid, pid)?;
        self.leave_group(pid, old_group);
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.pgid = pid;
            node.sid = pid;
        }
        self.sessions.insert(pid, Session::new());
        self.session_left(old_sid);
        Ok(())
    }
    /// Forgets a session that has no process any more.
    fn session_left(&mut self, sid: Pid) {
        if sid != 0 && !self.groups.values().any(|g| g.sid == sid) {
            self.sessions.remove(&sid);
        }
    }
    /// Who takes over the children of `pid`: the nearest living ancestor that asked for it
    /// (PR_SET_CHILD_SUBREAPER), else the first process.
    pub fn reaper_for(&self, pid: Pid) -> Pid {
        let mut at = self.nodes.get(&pid).map_or(0, |n| n.parent);
        while let Some(node) = self.nodes.get(&at) {
            if node.subreaper && node.zombie.is_none() {
                return at;
            }
            at = node.parent;
        }
        1
    }
    /// Gives the children of `pid` to its reaper; returns (reaper, children).
    pub fn reparent_children(&mut self, pid: Pid) -> (Pid, Vec<Pid>) {
        let reaper = self.reaper_for(pid);
        let children = match self.nodes.get_mut(&pid) {
            Some(node) if reaper != pid => core::mem::take(&mut node.children),
            _ => Vec::new(),
        };
        for child in &children {
            if let Some(node) = self.nodes.get_mut(child) {
                node.parent = reaper;
                node.parent_tid = reaper;
            }
        }
        if let Some(node) = self.nodes.get_mut(&reaper) {
            node.children.extend_from_slice(&children);
        }
        (reaper, children)
    }
    /// Removes an ended process for good.
    #[must_use = "drop the process outside the lock"]
    pub fn remove_process(&mut self, pid: Pid) -> Option<Node<P>> {
        let node = self.nodes.remove(&pid)?;
        if let Some(parent) = self.nodes.get_mut(&node.parent)
            && let Some(i) = parent.children.iter().position(|&c| c == pid)
        {
            parent.children.remove(i);
        }
        self.leave_group(pid, node.pgid);
        self.session_left(node.sid);
        Some(node)
    }
    /// Whether no process of group `pgid` (but `except`) has a living parent in another group
    /// of the same session: nobody could continue it (POSIX, orphaned process group).
    pub fn is_orphaned(&self, pgid: Pid, except: Pid) -> bool {
        let Some(group) = self.groups.get(&pgid) else {
            return true;
        };
        !group.members.iter().any(|&m| {
            if m == except {
                return false;
            }
            let Some(node) = self.nodes.get(&m) else {
                return false;
            };
            if node.zombie.is_some() || node.parent <= 1 {
                return false;
            }
            self.nodes
                .get(&node.parent)
                .is_some_and(|p| p.pgid != pgid && p.sid == node.sid)
        })
    }
}

/// The ids of all processes, zombies included, in no order.
pub fn pids() -> Vec<Pid> {
    loop {
        let want = TREE.lock().nodes.len();
        let mut out = Vec::with_capacity(want + 8);
        let tree = TREE.lock();
        if tree.nodes.len() <= out.capacity() {
            out.extend(tree.nodes.keys().copied());
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Small = Tree<(), ()>;

    fn spawn(tree: &mut Small, parent: Option<Pid>) -> Pid {
        let pid = tree.reserve_id(0).unwrap();
        tree.add_task(pid, ());
        let job = parent
            .and_then(|p| tree.node(p))
            .map_or((0, 0), |n| (n.pgid, n.sid));
        tree.add_process(pid, (), parent.map(|p| (p, p)), job, 17)
            .unwrap();
        pid
    }

    #[test]
    fn reserved_ids_become_processes_without_memory() {
        let mut t = Small::new();
        let init = spawn(&mut t, None);
        // As many forks at once, each with its id before the first is published.
        let ids: Vec<Pid> = (0..100).map(|_| t.reserve_id(0).unwrap()).collect();
        for members in [
            &mut t.groups.get_mut(&0).unwrap().members,
            &mut t.nodes.get_mut(&init).unwrap().children,
        ] {
            members.reserve(ids.len());
        }
        crate::mm::pieces::without_blocks_above(0, || {
            for &id in &ids {
                t.add_process(id, (), Some((init, init)), (0, 0), 17)
                    .unwrap();
                t.add_task(id, ());
            }
            // A group that cannot be begun leaves nothing behind.
            assert_eq!(t.move_to_group(ids[0], ids[0]), Err(Errno::ENOMEM));
        });
        assert!(!t.groups.contains_key(&ids[0]));
        assert_eq!(t.nodes.len(), 101);
    }

    #[test]
    fn ids_are_not_reused_while_a_group_lives() {
        let mut t = Small::new();
        let init = spawn(&mut t, None);
        let leader = spawn(&mut t, Some(init));
        t.move_to_group(leader, leader).unwrap();
        let member = spawn(&mut t, Some(leader));
        assert_eq!(t.node(member).unwrap().pgid, leader);
        let _ = t.remove_task(leader, 0);
        t.reparent_children(leader);
        let _ = t.remove_process(leader);
        t.next = leader;
        assert_ne!(t.reserve_id(0).unwrap(), leader);
        let _ = t.remove_task(member, 0);
        let _ = t.remove_process(member);
        t.next = leader;
        assert_eq!(t.reserve_id(0).unwrap(), leader);
    }

    #[test]
    fn ids_wrap_and_skip_low_ones() {
        let mut t = Small::new();
        let init = spawn(&mut t, None);
        assert_eq!(init, 1);
        t.next = PID_MAX - 1;
        assert_eq!(t.reserve_id(0).unwrap(), PID_MAX - 1);
        assert_eq!(t.reserve_id(0).unwrap(), PID_FIRST_AGAIN);
        assert_eq!(t.nr_tasks_of(0), 3);
        t.release_id(PID_FIRST_AGAIN, 0);
        assert_eq!(t.nr_tasks_of(0), 2);
    }

    #[test]
    fn subreaper_takes_orphans() {
        let mut t = Small::new();
        let init = spawn(&mut t, None);
        let sub = spawn(&mut t, Some(init));
        let mid = spawn(&mut t, Some(sub));
        let leaf = spawn(&mut t, Some(mid));
        assert_eq!(t.reaper_for(mid), init);
        t.nodes.get_mut(&sub).unwrap().subreaper = true;
        assert_eq!(t.reparent_children(mid), (sub, vec![leaf]));
        assert_eq!(t.node(leaf).unwrap().parent, sub);
        assert_eq!(t.node(sub).unwrap().children, [mid, leaf]);
    }

    #[test]
    fn orphaned_groups() {
        let mut t = Small::new();
        let init = spawn(&mut t, None);
        let shell = spawn(&mut t, Some(init));
        t.start_session(shell).unwrap();
        let job = spawn(&mut t, Some(shell));
        assert_eq!(t.node(job).unwrap().sid, shell);
        t.move_to_group(job, job).unwrap();
        assert!(!t.is_orphaned(job, 0));
        assert!(t.is_orphaned(shell, 0));
        t.reparent_children(shell);
        assert!(t.is_orphaned(job, 0));
    }

    #[test]
    fn sessions_end_with_their_last_process() {
        let mut t = Small::new();
        let init = spawn(&mut t, None);
        let shell = spawn(&mut t, Some(init));
        t.start_session(shell).unwrap();
        let job = spawn(&mut t, Some(shell));
        t.reparent_children(shell);
        let _ = t.remove_process(shell);
        assert!(t.sessions.contains_key(&shell));
        let _ = t.remove_process(job);
        assert!(!t.sessions.contains_key(&shell));
        assert!(t.group(shell).is_none());
    }
}
