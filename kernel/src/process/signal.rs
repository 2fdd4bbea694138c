//! Sending and taking signals (man 7 signal). What a signal does on the way out to user mode
//! is [`deliver`](super::deliver)'s business.
//!
//! Senders may be interrupt handlers (a terminal, a timer): nothing here sleeps.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::session;
use super::sigstate::{Action, DefaultAction, SIG_DFL, default_action};
use super::task::{ExitStatus, ProcSig, StopState};
use super::tree::TREE;
use super::{Pid, Process, SigFields, SigInfo, SigSet, Task, current};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::security::Credentials;
use crate::security::capability::CAP_KILL;

pub use super::deliver::deliver;

/// Sends to a process: any of its threads takes it. From any context; no permission check.
pub fn send_process(process: &Arc<Process>, info: SigInfo) {
    // EAGAIN concerns senders that must queue; the others' signal is pending already.
    let _ = try_send_process(process, info);
}

/// As [`send_process`]; EAGAIN when a queued signal finds no room (RLIMIT_SIGPENDING).
pub fn try_send_process(process: &Arc<Process>, info: SigInfo) -> Result<()> {
    send(process, None, info)
}

/// Sends to one thread. From any context; no permission check.
pub fn send_task(task: &Arc<Task>, info: SigInfo) {
    // As in `send_process`.
    let _ = try_send_task(task, info);
}

/// As [`send_task`]; EAGAIN when a queued signal finds no room (RLIMIT_SIGPENDING).
pub fn try_send_task(task: &Arc<Task>, info: SigInfo) -> Result<()> {
    send(&task.process, Some(task), info)
}

/// Sends to every process of a group. From any context; no permission check.
/// False when the group does not exist.
pub fn send_group(pgid: Pid, info: SigInfo) -> bool {
    let members = session::members(pgid);
    for process in &members {
        send_process(process, info);
    }
    !members.is_empty()
}

fn send(process: &Arc<Process>, task: Option<&Arc<Task>>, info: SigInfo) -> Result<()> {
    let sig = info.signo;
    if sig == 0 || sig > super::sigstate::NSIG {
        return Err(Errno::EINVAL);
    }
    // Read before the lock: `limits` is no lock for interrupt handlers, and they queue nothing.
    let counts = info.is_from_program() || matches!(info.fields, SigFields::Poll { .. });
    let queue_limit = if sig >= abi::SIGRTMIN && counts {
        process.limit(abi::RLIMIT_SIGPENDING)
    } else {
        u64::MAX
    };
    let mut ps = process.sig.lock();
    if ps.threads.is_empty() {
        return Ok(());
    }
    let continued = stop_and_continue(&mut ps, process, sig);
    let result = enqueue(&mut ps, task, info, queue_limit);
    drop(ps);
    process.signal_wait.wake_all();
    if continued {
        super::wait::report_continued(process);
    }
    result
}

/// Stop signals and SIGCONT cancel each other, even when ignored. True when a stopped
/// process goes on.
fn stop_and_continue(ps: &mut ProcSig, process: &Process, sig: u32) -> bool {
    if SigSet::STOP.has(sig) {
        discard_everywhere(ps, SigSet::of(abi::SIGCONT));
    } else if sig == abi::SIGCONT {
        discard_everywhere(ps, SigSet::STOP);
        ps.stop_taken = false;
        return resume(ps, process);
    }
    false
}

/// Whether a signal of POSIX timer `id` waits to be taken.
pub(super) fn timer_is_pending(process: &Process, id: i32) -> bool {
    let ps = process.sig.lock();
    ps.pending.has_timer(id)
        || ps
            .threads
            .iter()
            .any(|t| t.sig.lock().pending.has_timer(id))
}

/// Forgets signals of POSIX timer `id`, or of all, that nobody took.
pub(super) fn discard_timers(process: &Process, id: Option<i32>) {
    let mut ps = process.sig.lock();
    ps.pending.discard_timers(id);
    for task in &ps.threads {
        task.sig.lock().pending.discard_timers(id);
    }
}

fn discard_everywhere(ps: &mut ProcSig, sigs: SigSet) {
    ps.pending.discard(sigs);
    for task in &ps.threads {
        task.sig.lock().pending.discard(sigs);
    }
}

/// Ends a stop; true if there was one.
pub(super) fn resume(ps: &mut ProcSig, process: &Process) -> bool {
    if ps.stop == StopState::Running {
        return false;
    }
    ps.stop = StopState::Running;
    ps.nr_parked = 0;
    for task in &ps.threads {
        task.parked.store(false, Ordering::Relaxed);
    }
    process.stop_wait.wake_all();
    true
}

fn enqueue(
    ps: &mut ProcSig,
    task: Option<&Arc<Task>>,
    info: SigInfo,
    queue_limit: u64,
) -> Result<()> {
    let sig = info.signo;
    let action = ps.actions.lock().get(sig);
    let does_nothing = action.handler == super::sigstate::SIG_IGN
        || action.handler == SIG_DFL
            && matches!(
                default_action(sig),
                DefaultAction::Ignore | DefaultAction::Continue
            );
    let protected = ps.unkillable && action.handler == SIG_DFL;
    let blocked_by = |t: &Arc<Task>| t.sig.lock().mask.has(sig);
    let target = task.or(ps.threads.first());
    let target_blocks = target.is_some_and(blocked_by);
    // A blocked signal stays pending even if it is ignored now: the action may change, and the
    // first process takes its orders so (sigtimedwait).
    if (protected || does_nothing) && !target_blocks {
        return Ok(());
    }
    let fatal = !protected
        && action.handler == SIG_DFL
        && matches!(
            default_action(sig),
            DefaultAction::Terminate | DefaultAction::Core
        );
    let taker = match task {
        _ if !target_blocks => target,
        Some(_) => None,
        None => ps.threads.iter().skip(1).find(|t| !blocked_by(t)),
    };
    if fatal && taker.is_some() {
        if ps.group_exit.is_none() {
            start_group_exit(ps, ExitStatus::killed(sig));
        }
        return Ok(());
    }
    let pending_now = match task {
        Some(t) => t.sig.lock().pending.len(),
        None => ps.pending.len(),
    };
    let full = pending_now as u64 >= queue_limit;
    // kill(2) never fails so: its signal stays pending without more.
    if full && info.code != super::siginfo::SI_USER {
        return Err(Errno::EAGAIN);
    }
    let add = |pending: &mut super::sigstate::Pending| match full {
        true => pending.add_bare(sig),
        false => _ = pending.add(info),
    };
    match task {
        Some(t) => add(&mut t.sig.lock().pending),
        None => add(&mut ps.pending),
    }
    if let Some(thread) = taker.and_then(|t| t.thread()) {
        thread.interrupt();
    }
    Ok(())
}

/// Every thread of the process is to end with `status`. The first caller decides.
pub(super) fn start_group_exit(ps: &mut ProcSig, status: ExitStatus) {
    ps.group_exit = Some(status);
    for task in &ps.threads {
        if let Some(thread) = task.thread() {
            thread.kill();
        }
    }
}

/// Kills a process for good, the first process included (out of memory, a broken frame).
/// False when it is ending already.
pub fn kill_process(process: &Process, sig: u32) -> bool {
    let mut ps = process.sig.lock();
    let lives = ps.group_exit.is_none() && !ps.threads.is_empty();
    if lives {
        start_group_exit(&mut ps, ExitStatus::killed(sig));
    }
    lives
}

/// Whether the thread would not notice `sig` now.
pub fn is_blocked_or_ignored(task: &Task, sig: u32) -> bool {
    let ps = task.process.sig.lock();
    let ignored = ps.actions.lock().get(sig).handler == super::sigstate::SIG_IGN;
    ignored || task.sig.lock().mask.has(sig)
}

/// The running thread did something that cannot go on: it gets `sig` even if it blocks or
/// ignores it (then the process ends). `code` is SEGV_MAPERR and the like.
pub fn force_fault(sig: u32, code: i32, addr: UserAddr) {
    force(&current(), SigInfo::fault(sig, code, addr));
}

/// As [`force_fault`], with any information.
pub fn force(task: &Arc<Task>, info: SigInfo) {
    let sig = SigSet::of(info.signo);
    {
        let mut ps = task.process.sig.lock();
        let mut actions = ps.actions.lock();
        let mut ts = task.sig.lock();
        let mut action = actions.get(info.signo);
        if ts.mask.has(info.signo) || action.handler == super::sigstate::SIG_IGN {
            action.handler = SIG_DFL;
            actions.set(info.signo, action);
            ts.mask = ts.mask.without(sig);
        }
        ts.pending.add(info);
        drop(ts);
        drop(actions);
        if action.handler == SIG_DFL {
            ps.unkillable = false;
        }
    }
    if let Some(thread) = task.thread() {
        thread.interrupt();
    }
}

/// Takes a pending signal of `wanted` from the running thread or its process (signalfd,
/// sigtimedwait), whether blocked or not.
pub fn dequeue(wanted: SigSet) -> Option<SigInfo> {
    let task = current();
    let mut taken = {
        let mut ps = task.process.sig.lock();
        let own = task.sig.lock().pending.take(wanted);
        own.or_else(|| ps.pending.take(wanted))
    };
    if let Some(info) = &mut taken {
        super::timers::note_delivery(&task.process, info);
    }
    taken
}

/// Signals pending for the running thread or its process (sigpending, signalfd's poll).
pub fn pending() -> SigSet {
    pending_of(&current())
}

/// Signals pending for a thread or its process.
pub fn pending_of(task: &Task) -> SigSet {
    let ps = task.process.sig.lock();
    let own = task.sig.lock().pending.set();
    own.with(ps.pending.set())
}

/// The running thread's mask.
pub fn mask() -> SigSet {
    mask_of(&current())
}

/// A thread's mask.
pub fn mask_of(task: &Task) -> SigSet {
    task.sig.lock().mask
}

/// Replaces the running thread's mask; SIGKILL and SIGSTOP stay unblocked. Returns the old one.
pub fn set_mask(mask: SigSet) -> SigSet {
    set_mask_of(&current(), mask)
}

pub(super) fn set_mask_of(task: &Task, mask: SigSet) -> SigSet {
    let mask = mask.blockable();
    let ps = task.process.sig.lock();
    let (old, own_pending) = {
        let mut ts = task.sig.lock();
        (core::mem::replace(&mut ts.mask, mask), ts.pending.set())
    };
    let pending = own_pending.with(ps.pending.set());
    if !pending.without(mask).is_empty()
        && let Some(thread) = task.thread()
    {
        thread.interrupt();
    }
    // Signals that this thread was told of and now blocks are for somebody else.
    let others = ps.pending.set().and(mask.without(old));
    if !others.is_empty() {
        retarget(&ps, others);
    }
    old
}

/// Tells a thread that does not block them about shared pending signals.
pub(super) fn retarget(ps: &ProcSig, mut sigs: SigSet) {
    for task in &ps.threads {
        if sigs.is_empty() {
            return;
        }
        let takes = sigs.without(task.sig.lock().mask);
        if !takes.is_empty() {
            sigs = sigs.without(takes);
            if let Some(thread) = task.thread() {
                thread.interrupt();
            }
        }
    }
}

/// Replaces the running thread's mask until the call ends and a handler, if one is due, has
/// seen the new one (sigsuspend, ppoll, pselect, epoll_pwait). The call then either returns
/// `ERESTARTNOHAND` (interrupted; the old mask comes back after the handler was set up), or
/// calls [`restore_mask`].
pub fn set_temporary_mask(mask: SigSet) {
    let task = current();
    let old = set_mask_of(&task, mask);
    task.sig.lock().saved_mask = Some(old);
}

/// Ends what [`set_temporary_mask`] began, when the call was not interrupted.
pub fn restore_mask() {
    let task = current();
    let saved = task.sig.lock().saved_mask.take();
    if let Some(mask) = saved {
        set_mask_of(&task, mask);
    }
}

/// Reads or replaces an action (man 2 rt_sigaction). EINVAL for a number out of range, and
/// for SIGKILL and SIGSTOP with a new action.
pub fn action(sig: u32, new: Option<Action>) -> Result<Action> {
    if sig == 0 || sig > super::sigstate::NSIG {
        return Err(Errno::EINVAL);
    }
    if new.is_some() && SigSet::UNBLOCKABLE.has(sig) {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let mut ps = task.process.sig.lock();
    let mut actions = ps.actions.lock();
    let old = actions.get(sig);
    let mut drop_pending = false;
    if let Some(mut new) = new {
        new.mask = new.mask.blockable();
        actions.set(sig, new);
        // POSIX: a pending signal that becomes ignored is discarded.
        drop_pending = actions.ignores(sig);
    }
    drop(actions);
    if drop_pending {
        discard_everywhere(&mut ps, SigSet::of(sig));
    }
    Ok(old)
}

/// Whether `sender` may signal a process of `target` (man 2 kill). `same_session` lets
/// SIGCONT through.
pub fn may_signal(
    sender: &Credentials,
    target: &Credentials,
    sig: u32,
    same_session: bool,
) -> bool {
    sender.capable(CAP_KILL)
        || sender.euid == target.suid
        || sender.euid == target.uid
        || sender.uid == target.suid
        || sender.uid == target.uid
        || sig == abi::SIGCONT && same_session
}

/// What a process sends itself or another with kill(2).
pub fn user_info(task: &Task, sig: u32) -> SigInfo {
    SigInfo::user(sig, task.pid(), task.cred().uid)
}

/// What tkill(2) and tgkill(2) send.
pub fn tkill_info(task: &Task, sig: u32) -> SigInfo {
    SigInfo::with(
        sig,
        super::siginfo::SI_TKILL,
        SigFields::Kill {
            pid: task.pid(),
            uid: task.cred().uid,
        },
    )
}

/// Checks that `sender` may send `sig` to `target`. EPERM.
pub fn check_permission(sender: &Task, target: &Process, sig: u32) -> Result<()> {
    if sender.process.pid == target.pid {
        return Ok(());
    }
    let Some(main) = target.main_task() else {
        // A zombie: nothing happens to it, whoever asks.
        return Ok(());
    };
    let same_session = sig == abi::SIGCONT && sender.process.sid() == target.sid();
    if may_signal(&sender.cred(), &main.cred(), sig, same_session) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// man 2 kill: `pid` above 0 one process, 0 the sender's group, -1 all but the first process
/// and the sender, below -1 a group. Signal 0 only checks. EINVAL, ESRCH, EPERM.
pub fn kill(sender: &Task, pid: Pid, sig: u32) -> Result<()> {
    if sig > super::sigstate::NSIG {
        return Err(Errno::EINVAL);
    }
    let info = user_info(sender, sig);
    let targets = match pid {
        1.. => {
            let process = super::find(pid).ok_or(Errno::ESRCH)?;
            return check_and_send(sender, &process, info);
        }
        0 => session::members(sender.process.pgid()),
        -1 => super::all()
            .into_iter()
            .filter(|p| p.pid != 1 && p.pid != sender.process.pid)
            .collect(),
        Pid::MIN => return Err(Errno::ESRCH),
        _ => session::members(-pid),
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let mut result = Err(Errno::EPERM);
    for process in &targets {
        if check_and_send(sender, process, info).is_ok() {
            result = Ok(());
        }
    }
    result
}

fn check_and_send(sender: &Task, process: &Arc<Process>, info: SigInfo) -> Result<()> {
    check_permission(sender, process, info.signo)?;
    if info.signo != 0 {
        send_process(process, info);
    }
    Ok(())
}

/// Tells the parent about a child's end, stop or continuation.
pub(super) fn send_sigchld(parent: &Arc<Process>, sig: u32, code: u32, fields: SigFields) {
    if sig != 0 {
        send_process(parent, SigInfo::with(sig, code as i32, fields));
    }
}

/// The parent of `pid`, if it is a process.
pub(super) fn parent_of(pid: Pid) -> Option<Arc<Process>> {
    let tree = TREE.lock();
    let parent = tree.node(pid)?.parent;
    tree.process(parent).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::capability::Capabilities;

    #[test]
    fn permission_to_signal() {
        let user = |uid, suid| Credentials {
            uid,
            euid: uid,
            suid,
            fsuid: uid,
            caps: Capabilities::NONE,
            ..Credentials::root()
        };
        let root = Credentials::root();
        assert!(may_signal(&root, &user(5, 5), abi::SIGKILL, false));
        assert!(may_signal(&user(5, 5), &user(5, 0), abi::SIGTERM, false));
        // A setuid program's saved id counts, its effective one does not.
        let mut setuid = user(5, 0);
        setuid.euid = 0;
        assert!(may_signal(&user(5, 5), &setuid, abi::SIGTERM, false));
        assert!(!may_signal(&user(5, 5), &user(6, 6), abi::SIGTERM, true));
        assert!(may_signal(&user(5, 5), &user(6, 6), abi::SIGCONT, true));
        assert!(!may_signal(&user(5, 5), &user(6, 6), abi::SIGCONT, false));
    }
}
