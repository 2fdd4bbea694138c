//! signalfd (man 2 signalfd): pending signals as something to read and poll.
//!
//! What is pending is asked of the thread that reads or polls, as on Linux: the file only
//! carries the set of signals.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{SigFields, SigInfo, SigSet, signal, try_current};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::vm::IoDest;

/// Size of `struct signalfd_siginfo`.
const RECORD_BYTES: usize = 128;

/// A set of signals to read; see the module.
pub struct SignalFd {
    wanted: AtomicU64,
    inode: AnonInode,
}

impl SignalFd {
    /// A file for `wanted`; SIGKILL and SIGSTOP are left out silently.
    pub fn new(wanted: SigSet) -> Arc<SignalFd> {
        Arc::new(SignalFd {
            wanted: AtomicU64::new(wanted.blockable().0),
            inode: AnonInode::new(0o600),
        })
    }

    /// Replaces the set.
    pub fn set_wanted(&self, wanted: SigSet) {
        self.wanted.store(wanted.blockable().0, Ordering::SeqCst);
    }

    fn wanted(&self) -> SigSet {
        SigSet(self.wanted.load(Ordering::SeqCst))
    }
}

/// `struct signalfd_siginfo` (man 2 signalfd).
fn record(info: &SigInfo) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &info.signo.to_ne_bytes());
    put(4, &info.errno.to_ne_bytes());
    put(8, &info.code.to_ne_bytes());
    put(12, &info.pid().to_ne_bytes());
    put(16, &info.uid().to_ne_bytes());
    match info.fields {
        SigFields::Timer { id, overrun, value } => {
            put(24, &id.to_ne_bytes());
            put(32, &overrun.to_ne_bytes());
            put(44, &(value as i32).to_ne_bytes());
            put(48, &value.to_ne_bytes());
        }
        SigFields::Queue { value, .. } => {
            put(44, &(value as i32).to_ne_bytes());
            put(48, &value.to_ne_bytes());
        }
        SigFields::Child {
            status,
            utime,
            stime,
            ..
        } => {
            put(40, &status.to_ne_bytes());
            put(56, &utime.to_ne_bytes());
            put(64, &stime.to_ne_bytes());
        }
        SigFields::Fault { addr } => put(72, &addr.0.to_ne_bytes()),
        SigFields::Poll { band, fd } => {
            put(20, &fd.to_ne_bytes());
            put(28, &(band as u32).to_ne_bytes());
        }
        SigFields::Syscall { addr, nr, arch } => {
            put(84, &nr.to_ne_bytes());
            put(88, &addr.to_ne_bytes());
            put(96, &arch.to_ne_bytes());
        }
        // rt_sigqueueinfo: a program's own, with the value where `siginfo_t` has it.
        SigFields::Raw(raw) => {
            put(44, &raw[8..12]);
            put(48, &raw[8..16]);
        }
        SigFields::None | SigFields::Kill { .. } => {}
    }
    out
}

impl File for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        if dst.remaining() < RECORD_BYTES {
            return Err(Errno::EINVAL);
        }
        let task = try_current().ok_or(Errno::EINVAL)?;
        let mut total = 0;
        while dst.remaining() >= RECORD_BYTES {
            let info = match signal::dequeue(self.wanted()) {
                Some(info) => info,
                None if total > 0 => break,
                None if of.nonblocking() => return Err(Errno::EAGAIN),
                None => task
                    .process()
                    .signal_queue()
                    .wait_interruptible(None, || signal::dequeue(self.wanted()))
                    .map_err(|_| Errno::ERESTARTSYS)?,
            };
            total += dst.put(&record(&info))?;
        }
        Ok(total)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        let Some(task) = try_current() else {
            return PollEvents::empty();
        };
        if let Some(table) = table {
            table.register(task.process().signal_queue());
        }
        if signal::pending().and(self.wanted()).is_empty() {
            PollEvents::empty()
        } else {
            PollEvents::IN
        }
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[signalfd]".to_vec()
    }
}
