//! Who hears of ready descriptions, and what they are sent (man 2 fcntl, F_SETOWN, F_SETSIG).
//! The way there is [`async_io`]'s business.

use alloc::sync::{Arc, Weak};
use core::any::Any;

use super::tree::TREE;
use super::{Pid, Process, SigFields, SigInfo, Task, session, signal};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::file::async_io::{self, Owner, Reason};
use crate::security::Credentials;

/// `si_code` of a signal with a meaning of its own that stands for input or output.
const SI_SIGIO: i32 = -5;

/// A process, a thread or a group; who is gone is not confused with a later one.
enum Target {
    Thread(Weak<Task>),
    Process(Weak<Process>),
    Group(Pid),
}

/// An owner: the target, and who set it, whose right to send counts.
struct Owning {
    target: Target,
    uid: u32,
    euid: u32,
}

/// `si_code` and `si_band` (asm-generic/siginfo.h, POLL_IN and its kin).
fn code_and_band(reason: Reason) -> (i32, i64) {
    let (code, band) = match reason {
        Reason::In => (1, abi::POLLIN | abi::POLLRDNORM),
        Reason::Out => (2, abi::POLLOUT | abi::POLLWRNORM | abi::POLLWRBAND),
        Reason::Err => (4, abi::POLLERR),
        Reason::Hup => (6, abi::POLLHUP | abi::POLLERR),
    };
    (code, i64::from(band))
}

/// What `signal` tells about descriptor `fd`; 0 is a SIGIO that tells nothing.
fn info(signal: u32, fd: i32, reason: Reason) -> SigInfo {
    let (code, band) = code_and_band(reason);
    // Codes above 0 would mean something else.
    let has_own_codes = matches!(
        signal,
        abi::SIGILL
            | abi::SIGFPE
            | abi::SIGSEGV
            | abi::SIGBUS
            | abi::SIGTRAP
            | abi::SIGCHLD
            | abi::SIGSYS
    );
    match signal {
        0 => SigInfo::kernel(abi::SIGIO),
        _ => {
            let code = if has_own_codes { SI_SIGIO } else { code };
            SigInfo::with(signal, code, SigFields::Poll { band, fd })
        }
    }
}

impl Owning {
    fn may_signal(&self, cred: &Credentials) -> bool {
        self.euid == 0
            || [self.uid, self.euid]
                .iter()
                .any(|id| [cred.suid, cred.uid].contains(id))
    }

    /// Sends what `send` sends; where the queue is full, a bare SIGIO comes instead.
    fn send(&self, main: Option<Arc<Task>>, what: SigInfo, send: impl Fn(SigInfo) -> Result<()>) {
        let Some(main) = main else {
            return;
        };
        if self.may_signal(&main.cred()) && send(what).is_err() {
            // A bare one always finds a place.
            let _ = send(SigInfo::kernel(abi::SIGIO));
        }
    }

    fn send_process(&self, process: &Arc<Process>, what: SigInfo) {
        self.send(process.main_task(), what, |info| {
            signal::try_send_process(process, info)
        });
    }

    /// Type (F_OWNER_*) and id; id 0 once it is gone.
    fn type_and_id(&self) -> (u32, Pid) {
        match &self.target {
            Target::Thread(task) => {
                let task = task.upgrade();
                let live =
                    task.filter(|t| super::find_task(t.tid()).is_some_and(|n| Arc::ptr_eq(&n, t)));
                (abi::F_OWNER_TID, live.map_or(0, |t| t.tid()))
            }
            Target::Process(process) => {
                let process = process.upgrade();
                let live =
                    process.filter(|p| super::find(p.pid).is_some_and(|n| Arc::ptr_eq(&n, p)));
                (abi::F_OWNER_PID, live.map_or(0, |p| p.pid))
            }
            Target::Group(pgid) => {
                let lives = TREE.lock().group(*pgid).is_some();
                (abi::F_OWNER_PGRP, if lives { *pgid } else { 0 })
            }
        }
    }
}

impl Owner for Owning {
    fn tell(&self, sig: u32, fd: i32, reason: Reason) {
        let what = info(sig, fd, reason);
        match &self.target {
            Target::Thread(task) => {
                if let Some(task) = task.upgrade() {
                    self.send(Some(task.clone()), what, |info| {
                        signal::try_send_task(&task, info)
                    });
                }
            }
            Target::Process(process) => {
                if let Some(process) = process.upgrade() {
                    self.send_process(&process, what);
                }
            }
            Target::Group(pgid) => {
                for process in session::members(*pgid) {
                    self.send_process(&process, what);
                }
            }
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The thread, process or group `id`. ESRCH.
fn find_target(kind: u32, id: Pid) -> Result<Target> {
    let task = super::find_task(id);
    let process = super::find(id);
    match kind {
        abi::F_OWNER_TID => match task {
            Some(task) => Ok(Target::Thread(Arc::downgrade(&task))),
            None => Err(Errno::ESRCH),
        },
        abi::F_OWNER_PID => process
            .or_else(|| task.map(|t| t.process().clone()))
            .map(|p| Target::Process(Arc::downgrade(&p)))
            .ok_or(Errno::ESRCH),
        _ => {
            let exists = process.is_some() || task.is_some() || TREE.lock().group(id).is_some();
            exists.then_some(Target::Group(id)).ok_or(Errno::ESRCH)
        }
    }
}

/// Sets the owner: a type (F_OWNER_*) and an id, 0 for nobody (F_SETOWN_EX). EINVAL, ESRCH.
pub fn set_owner_of_type(caller: &Task, of: &Arc<OpenFile>, kind: u32, id: Pid) -> Result<()> {
    if kind > abi::F_OWNER_PGRP {
        return Err(Errno::EINVAL);
    }
    if id == 0 {
        async_io::set_owner(of, None);
        return Ok(());
    }
    let cred = caller.cred();
    let owner = Owning {
        target: find_target(kind, id)?,
        uid: cred.uid,
        euid: cred.euid,
    };
    async_io::set_owner(of, Some(Arc::new(owner)));
    Ok(())
}

/// Sets the owner: a process, a group when negative, nobody when 0 (F_SETOWN). EINVAL, ESRCH.
pub fn set_owner(caller: &Task, of: &Arc<OpenFile>, who: i32) -> Result<()> {
    if who >= 0 {
        return set_owner_of_type(caller, of, abi::F_OWNER_PID, who);
    }
    let group = who.checked_neg().ok_or(Errno::EINVAL)?;
    set_owner_of_type(caller, of, abi::F_OWNER_PGRP, group)
}

/// Type and id of the owner; (F_OWNER_TID, 0) without one (F_GETOWN_EX).
pub fn owner_and_type(of: &OpenFile) -> (u32, Pid) {
    let owner = async_io::owner(of);
    let owning = owner
        .as_ref()
        .and_then(|o| o.as_any().downcast_ref::<Owning>());
    owning.map_or((abi::F_OWNER_TID, 0), Owning::type_and_id)
}

/// The owner as [`set_owner`] takes it (F_GETOWN).
pub fn owner(of: &OpenFile) -> i32 {
    match owner_and_type(of) {
        (abi::F_OWNER_PGRP, id) => -id,
        (_, id) => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent() {
        assert_eq!(info(0, 3, Reason::In), SigInfo::kernel(abi::SIGIO));
        let rt = info(abi::SIGRTMIN, 3, Reason::Out);
        assert_eq!((rt.signo, rt.code), (abi::SIGRTMIN, 2));
        assert_eq!(rt.fields, SigFields::Poll { band: 0x304, fd: 3 });
        assert_eq!(info(abi::SIGCHLD, 3, Reason::In).code, SI_SIGIO);
        assert_eq!(info(abi::SIGIO, 3, Reason::Hup).code, 6);
    }

    #[test]
    fn who_set_the_owner_needs_the_right() {
        let cred = |uid, suid| Credentials {
            uid,
            euid: uid,
            suid,
            fsuid: uid,
            ..Credentials::root()
        };
        let by = |uid, euid| Owning {
            target: Target::Group(1),
            uid,
            euid,
        };
        assert!(by(5, 0).may_signal(&cred(6, 6)));
        assert!(by(5, 5).may_signal(&cred(5, 0)));
        assert!(by(5, 5).may_signal(&cred(0, 5)));
        assert!(!by(5, 6).may_signal(&cred(7, 0)));
    }
}
