//! The way out to user mode: stops, ends, handlers, and whether an interrupted call starts
//! again (man 7 signal).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::sigframe;
use super::siginfo::{SI_KERNEL, SigFields};
use super::sigstate::{Action, DefaultAction, SIG_DFL, SIG_IGN, SigSet, default_action};
use super::task::{ExitStatus, ProcSig, StopState};
use super::{SigInfo, Task, cputime, current, exit, session, signal, timers, wait};
use crate::abi;
use crate::arch::TrapFrame;
use crate::error::Errno;
use crate::mm::UserAddr;

/// `orig_rax` of a frame that is no system call, or whose restart has been decided.
pub const NO_CALL: u64 = u64::MAX;

/// What is to be done before user mode.
enum Next {
    /// Nothing more.
    Return,
    /// The thread ends.
    Exit(ExitStatus),
    /// The thread ends, and a fault of its own is why.
    Fault(SigInfo),
    /// The process is stopped.
    Park,
    /// A stop signal without handler was taken: stop unless the group is orphaned.
    Stop(u32),
    /// A handler runs.
    Handle(SigInfo, Action),
}

/// The last thing before a return to user mode, when `Thread::is_interrupted`: stops, ends,
/// runs handlers, decides about restarts. Interrupts are on; may sleep.
pub fn deliver(frame: &mut TrapFrame) {
    // The inner call drops all it holds before the thread may end here.
    if let Some(status) = deliver_all(frame) {
        exit::exit_thread(status);
    }
}

fn deliver_all(frame: &mut TrapFrame) -> Option<ExitStatus> {
    let task = current();
    if crate::sched::current().take_cpu_check() {
        cputime::check(&task.process);
    }
    loop {
        // First the flag, then the look: a signal that comes after the look sets it again.
        crate::sched::current().clear_interrupt();
        match next(&task) {
            Next::Exit(status) => return Some(status),
            Next::Fault(info) => {
                log_fault(&task, frame, &info);
                return Some(ExitStatus::killed(info.signo));
            }
            Next::Park => park(&task),
            Next::Stop(sig) => stop(&task, sig),
            Next::Handle(mut info, action) => {
                timers::note_delivery(&task.process, &mut info);
                restart(frame, Some(action.flags));
                if sigframe::push(&task, frame, &info, &action).is_ok() {
                    // What else the new mask lets through has set the flag again.
                    return None;
                }
                // No room for the frame: the program cannot go on.
                force_segv(&task, info.signo);
            }
            Next::Return => {
                restart(frame, None);
                let saved = task.sig.lock().saved_mask.take();
                match saved {
                    // What the old mask lets through is looked at once more.
                    Some(mask) => {
                        signal::set_mask_of(&task, mask);
                    }
                    None => return None,
                }
            }
        }
    }
}

/// SIGSEGV that cannot be missed; a SIGSEGV whose own frame did not fit ends the process.
fn force_segv(task: &Arc<Task>, failed: u32) {
    if failed == abi::SIGSEGV {
        let ps = task.process.sig.lock();
        let mut actions = ps.actions.lock();
        actions.set(abi::SIGSEGV, Action::default());
    }
    signal::force(
        task,
        SigInfo::with(
            abi::SIGSEGV,
            SI_KERNEL,
            SigFields::Fault { addr: UserAddr(0) },
        ),
    );
}

/// Tells the log where a program went wrong; at most ten times a second, so that programs
/// cannot fill it.
fn log_fault(task: &Task, frame: &TrapFrame, info: &SigInfo) {
    const GAP_NS: u64 = 100_000_000;
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = crate::time::now_ns();
    let last = LAST.load(Ordering::Relaxed);
    if now < last.saturating_add(GAP_NS) && last != 0 {
        return;
    }
    LAST.store(now, Ordering::Relaxed);
    let address = match info.fields {
        SigFields::Fault { addr } => addr.0,
        _ => 0,
    };
    info!(
        "{}[{}]: signal {} code {} at {:#x} ip {:#x} sp {:#x}",
        alloc::string::String::from_utf8_lossy(&task.comm()),
        task.tid(),
        info.signo,
        info.code,
        address,
        frame.rip,
        frame.rsp
    );
}

fn next(task: &Task) -> Next {
    let mut ps = task.process.sig.lock();
    if let Some(status) = ps.group_exit {
        return Next::Exit(status);
    }
    if ps.exec_survivor.is_some_and(|tid| tid != task.tid()) {
        return Next::Exit(ExitStatus(0));
    }
    if ps.stop != StopState::Running {
        return Next::Park;
    }
    loop {
        let Some((info, action)) = take(&mut ps, task) else {
            return Next::Return;
        };
        match action.handler {
            SIG_IGN => {}
            SIG_DFL if ps.unkillable => {}
            SIG_DFL => match default_action(info.signo) {
                DefaultAction::Ignore | DefaultAction::Continue => {}
                DefaultAction::Stop => {
                    ps.stop_taken = true;
                    return Next::Stop(info.signo);
                }
                DefaultAction::Terminate | DefaultAction::Core => {
                    let status = ExitStatus::killed(info.signo);
                    signal::start_group_exit(&mut ps, status);
                    return if info.is_synchronous() || info.code == SI_KERNEL {
                        Next::Fault(info)
                    } else {
                        Next::Exit(status)
                    };
                }
            },
            _ => return Next::Handle(info, action),
        }
    }
}

/// Takes the next unblocked signal, the thread's own first, with its action.
fn take(ps: &mut ProcSig, task: &Task) -> Option<(SigInfo, Action)> {
    let ProcSig {
        actions, pending, ..
    } = ps;
    let mut actions = actions.lock();
    let mut ts = task.sig.lock();
    let wanted = SigSet::ALL.without(ts.mask);
    let info = ts.pending.take(wanted).or_else(|| pending.take(wanted))?;
    let action = actions.get(info.signo);
    if action.handler > SIG_IGN && action.flags & u64::from(abi::SA_RESETHAND) != 0 {
        actions.set(
            info.signo,
            Action {
                handler: SIG_DFL,
                ..action
            },
        );
    }
    Some((info, action))
}

/// Begins a group stop. Orphaned groups ignore terminal stops (POSIX); SIGSTOP always acts.
fn stop(task: &Task, sig: u32) {
    if sig != abi::SIGSTOP && session::is_orphaned(task.process.pgid()) {
        return;
    }
    let mut ps = task.process.sig.lock();
    if !core::mem::take(&mut ps.stop_taken) || ps.group_exit.is_some() {
        return;
    }
    if ps.stop == StopState::Running {
        ps.stop = StopState::Stopping { sig };
        ps.nr_parked = 0;
        for other in &ps.threads {
            if other.tid() != task.tid()
                && let Some(thread) = other.thread()
            {
                thread.interrupt();
            }
        }
    }
}

/// Sleeps while the process is stopped.
fn park(task: &Task) {
    let process = &task.process;
    let finished = {
        let mut ps = process.sig.lock();
        if ps.stop != StopState::Running && !task.parked.swap(true, Ordering::Relaxed) {
            ps.nr_parked += 1;
        }
        complete_stop(&mut ps)
    };
    if let Some(sig) = finished {
        wait::report_stopped(process, sig);
    }
    // A kill ends the wait; `next` sees why.
    let _ = process.stop_wait.wait_killable(|| {
        let ps = process.sig.lock();
        let goes_on =
            ps.stop == StopState::Running || ps.group_exit.is_some() || ps.exec_survivor.is_some();
        goes_on.then_some(())
    });
}

/// When the last thread parked or left, the stop is complete: returns the signal to report.
pub(super) fn complete_stop(ps: &mut ProcSig) -> Option<u32> {
    match ps.stop {
        StopState::Stopping { sig } if ps.nr_parked >= ps.threads.len() => {
            ps.stop = StopState::Stopped { sig };
            Some(sig)
        }
        _ => None,
    }
}

/// What becomes of a call that a signal interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The result stands.
    Keep,
    /// It fails with EINTR.
    Interrupted,
    /// The call is made again under this number.
    Again(u64),
}

/// Decides from the result in `rax`, the call's number and the handler's SA_* flags (`None`:
/// no handler runs).
fn outcome(rax: u64, call: u64, handler: Option<u64>) -> Outcome {
    let is = |e: Errno| rax == e.as_return() as u64;
    if call == NO_CALL {
        return Outcome::Keep;
    }
    let restarts = handler.is_none_or(|flags| flags & u64::from(abi::SA_RESTART) != 0);
    if is(Errno::ERESTARTNOINTR)
        || is(Errno::ERESTARTSYS) && restarts
        || is(Errno::ERESTARTNOHAND) && handler.is_none()
    {
        Outcome::Again(call)
    } else if is(Errno::ERESTART_RESTARTBLOCK) && handler.is_none() {
        Outcome::Again(u64::from(abi::__NR_restart_syscall))
    } else if is(Errno::ERESTARTSYS)
        || is(Errno::ERESTARTNOHAND)
        || is(Errno::ERESTART_RESTARTBLOCK)
    {
        Outcome::Interrupted
    } else {
        Outcome::Keep
    }
}

/// Length of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

fn restart(frame: &mut TrapFrame, handler: Option<u64>) {
    match outcome(frame.rax, frame.orig_rax, handler) {
        Outcome::Keep => {}
        Outcome::Interrupted => frame.rax = Errno::EINTR.as_return() as u64,
        Outcome::Again(call) => {
            frame.rax = call;
            frame.rip = frame.rip.wrapping_sub(SYSCALL_BYTES);
        }
    }
    frame.orig_rax = NO_CALL;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_table() {
        let restart = Some(u64::from(abi::SA_RESTART));
        let plain = Some(0);
        let rax = |e: Errno| e.as_return() as u64;
        use Outcome::{Again, Interrupted, Keep};
        let table = [
            (Errno::ERESTARTSYS, [Again(7), Again(7), Interrupted]),
            (Errno::ERESTARTNOINTR, [Again(7), Again(7), Again(7)]),
            (Errno::ERESTARTNOHAND, [Again(7), Interrupted, Interrupted]),
            (
                Errno::ERESTART_RESTARTBLOCK,
                [Again(219), Interrupted, Interrupted],
            ),
            (Errno::EAGAIN, [Keep, Keep, Keep]),
        ];
        for (errno, want) in table {
            let got = [None, restart, plain].map(|h| outcome(rax(errno), 7, h));
            assert_eq!(got, want, "{errno:?}");
        }
        assert_eq!(outcome(rax(Errno::ERESTARTSYS), NO_CALL, None), Keep);
        assert_eq!(outcome(3, 7, None), Keep);
    }
}
