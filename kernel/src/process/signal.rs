//! Signals: sending, and what happens on the way out to user mode (man 7 signal).

use alloc::sync::Arc;

use super::{Pid, Process, SigInfo, SigSet, Task};
use crate::arch::TrapFrame;
use crate::mm::UserAddr;

/// Sends to a process: any of its threads takes it. From any context; no permission check.
pub fn send_process(_process: &Arc<Process>, _info: SigInfo) {
    todo!()
}

/// Sends to one thread. From any context; no permission check.
pub fn send_task(_task: &Arc<Task>, _info: SigInfo) {
    todo!()
}

/// Sends to every process of a group. From any context; no permission check.
/// False when the group does not exist.
pub fn send_group(_pgid: Pid, _info: SigInfo) -> bool {
    todo!()
}

/// Whether the thread would not notice `sig` now.
pub fn is_blocked_or_ignored(_task: &Task, _sig: u32) -> bool {
    todo!()
}

/// The running thread did something that cannot go on: it gets `sig` even if it blocks or
/// ignores it (then the process ends). `code` is SEGV_MAPERR and the like.
pub fn force_fault(_sig: u32, _code: i32, _addr: UserAddr) {
    todo!()
}

/// Takes a pending signal of `wanted` from the running thread or its process (signalfd,
/// sigtimedwait), whether blocked or not.
pub fn dequeue(_wanted: SigSet) -> Option<SigInfo> {
    todo!()
}

/// The last thing before a return to user mode, when `Thread::is_interrupted` or a restart
/// code is in `rax`: stops, ends, runs handlers, decides about restarts.
pub fn deliver(_frame: &mut TrapFrame) {
    todo!()
}

/// Replaces the running thread's mask until the call ends and a handler, if one is due, has
/// seen the new one (sigsuspend, ppoll, pselect, epoll_pwait). The call returns
/// `EINTR`/`ERESTARTNOHAND` when interrupted, or calls [`restore_mask`].
pub fn set_temporary_mask(_mask: SigSet) {
    todo!()
}

/// Ends what [`set_temporary_mask`] began, when the call was not interrupted.
pub fn restore_mask() {
    todo!()
}
