//! What unix sockets ask of the calling process, which layers above know.

use alloc::sync::Arc;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Relaxed, SeqCst},
};

use super::inbox::Sender;
use crate::security::Credentials;
use crate::vfs::FsContext;

/// The calling process, as addresses and credentials need it.
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Credentials.
    pub cred: Arc<Credentials>,
    /// Root and working directory.
    pub fs: Arc<FsContext>,
    /// RLIMIT_NOFILE.
    pub max_files: u64,
}

/// What this module asks of the calling process; each is `None` outside a process.
pub struct Callers {
    /// (pid, real uid, real gid): asked for every message.
    pub sender: fn() -> Option<Sender>,
    /// All there is to know.
    pub identity: fn() -> Option<Identity>,
}

static CALLERS: AtomicPtr<Callers> = AtomicPtr::new(core::ptr::null_mut());

/// Sets who tells of the calling process; `process` does, once.
pub fn set_callers(callers: &'static Callers) {
    CALLERS.store(core::ptr::from_ref(callers).cast_mut(), SeqCst);
}

fn callers() -> Option<&'static Callers> {
    // SAFETY: null, or stored by `set_callers` from a `'static` reference; never written through.
    unsafe { CALLERS.load(Relaxed).as_ref() }
}

pub(super) fn identity() -> Option<Identity> {
    (callers()?.identity)()
}

pub(super) fn sender() -> Sender {
    callers().and_then(|c| (c.sender)()).unwrap_or((0, 0, 0))
}

/// (pid, uid, gid) that a connection's peer is told (SO_PEERCRED).
pub(super) fn connector() -> Sender {
    identity().map_or((0, 0, 0), |me| (me.pid, me.cred.euid, me.cred.egid))
}
