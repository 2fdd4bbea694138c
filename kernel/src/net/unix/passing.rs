//! Open files on their way between processes (man 7 unix, SCM_RIGHTS).
//!
//! A user has at most as many in flight as the sender may have descriptors (RLIMIT_NOFILE).
//! Sockets that were sent through themselves and that nobody can receive are for [`garbage`].

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::garbage;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::security::cred::Uid;
use crate::sync::{Rank, SpinLock};

/// Files in flight by user.
static IN_FLIGHT: SpinLock<BTreeMap<Uid, u64>> = SpinLock::new(Rank::Object, BTreeMap::new());

/// Files that nobody received. Closing one may drop a socket with further ones, and so on:
/// they queue up here, so that the stack does not grow with the chain.
static LEFT: SpinLock<VecDeque<Arc<OpenFile>>> = SpinLock::new(Rank::Object, VecDeque::new());
static CLOSING: AtomicBool = AtomicBool::new(false);

/// Files that `user` has in flight.
pub(super) fn nr_in_flight(user: Uid) -> u64 {
    IN_FLIGHT.lock().get(&user).copied().unwrap_or(0)
}

/// Files of one message, counted as in flight until taken out or dropped.
pub struct Passed {
    files: Vec<Arc<OpenFile>>,
    /// How many of them are unix sockets.
    sockets: usize,
    user: Uid,
}

impl Passed {
    /// `files` of `user`, who may have `limit` in flight; `None`: any number.
    /// ETOOMANYREFS beyond it.
    pub fn new(files: Vec<Arc<OpenFile>>, user: Uid, limit: Option<u64>) -> Result<Option<Passed>> {
        if files.is_empty() {
            return Ok(None);
        }
        let mut users = IN_FLIGHT.lock();
        let count = users.entry(user).or_insert(0);
        // As Linux: who is below the limit may send a whole message's worth.
        if limit.is_some_and(|most| *count > most) {
            return Err(Errno::ETOOMANYREFS);
        }
        *count += files.len() as u64;
        drop(users);
        let sockets = garbage::count(&files);
        garbage::launched(sockets);
        Ok(Some(Passed {
            files,
            sockets,
            user,
        }))
    }
    /// The files, for a receiver that leaves the message (MSG_PEEK).
    /// Under the inbox's lock.
    pub fn peek(&self) -> Vec<Arc<OpenFile>> {
        garbage::moved(self.sockets);
        self.files.clone()
    }
    /// The files, which arrived. Under the inbox's lock.
    pub fn take(mut self) -> Vec<Arc<OpenFile>> {
        garbage::moved(self.sockets);
        let files = core::mem::take(&mut self.files);
        self.landed(files.len());
        files
    }
    /// The files, which stay on their way.
    pub fn files(&self) -> &[Arc<OpenFile>] {
        &self.files
    }
    fn landed(&self, n: usize) {
        garbage::landed(self.sockets);
        let mut users = IN_FLIGHT.lock();
        if let Some(count) = users.get_mut(&self.user) {
            *count = count.saturating_sub(n as u64);
            if *count == 0 {
                users.remove(&self.user);
            }
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let files = core::mem::take(&mut self.files);
        if !files.is_empty() {
            garbage::moved(self.sockets);
            self.landed(files.len());
            LEFT.lock().extend(files);
            close_left();
        }
    }
}

/// Drops what is left, unless a caller further up this stack or another thread is at it.
fn close_left() {
    loop {
        if LEFT.lock().is_empty() || CLOSING.swap(true, SeqCst) {
            return;
        }
        loop {
            let next = LEFT.lock().pop_front();
            if next.is_none() {
                break;
            }
        }
        CLOSING.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::eventfd::EventFd;

    fn files(n: usize) -> Vec<Arc<OpenFile>> {
        (0..n)
            .map(|_| OpenFile::new(EventFd::new(0, false), 0))
            .collect()
    }

    #[test]
    fn a_user_has_a_bounded_number_in_flight() {
        const USER: Uid = 12_345;
        let first = Passed::new(files(3), USER, Some(2)).unwrap();
        assert!(matches!(
            Passed::new(files(1), USER, Some(2)),
            Err(Errno::ETOOMANYREFS)
        ));
        assert!(Passed::new(files(1), USER, None).unwrap().is_some());
        assert_eq!(first.unwrap().take().len(), 3);
        assert!(IN_FLIGHT.lock().get(&USER).is_none());
        assert!(Passed::new(Vec::new(), USER, Some(0)).unwrap().is_none());
    }
}
