//! Advisory file locks: `flock` (man 2 flock) and byte ranges (man 2 fcntl).
//!
//! Locks belong to the file, so they hang on its identity (device and inode number), in a
//! table that only knows files with locks. `flock` and OFD locks belong to an open file
//! description and go when it does; POSIX locks belong to a descriptor table and go when it
//! closes any descriptor of the file.
//!
//! Lock order: `TABLE`, then one file's `FileLocks::state`. Neither is held while sleeping.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::OpenFile;
use super::range_lock::RangeLocks;
pub use super::range_lock::{Kind, Owner, RangeLock};
use crate::error::{Errno, Result};
use crate::sched::WaitQueue;
use crate::sync::{Rank, SpinLock};

#[derive(Default)]
struct State {
    /// Descriptions that hold a `flock`: one exclusive or many shared.
    flocks: Vec<(Owner, Kind)>,
    ranges: RangeLocks,
}

/// The locks of one file.
pub struct FileLocks {
    key: Key,
    state: SpinLock<State>,
    released: WaitQueue,
}

/// Device and inode number.
type Key = (u64, u64);

static TABLE: SpinLock<BTreeMap<Key, Arc<FileLocks>>> =
    SpinLock::new(Rank::Process, BTreeMap::new());
/// POSIX locks ever taken since the table was last empty: closing a descriptor looks no
/// further while this is 0.
static NR_POSIX: AtomicUsize = AtomicUsize::new(0);
/// Who waits for whom, for deadlock detection between POSIX locks.
static WAITING: SpinLock<Waiters> = SpinLock::new(Rank::Table, Waiters(Vec::new()));

/// One wait for a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Waiter {
    owner: Owner,
    /// Who has a lock that is in the way.
    holder: Owner,
    /// The file.
    key: Key,
}

struct Waiters(Vec<Waiter>);

impl Waiters {
    /// Notes a wait. EDEADLK if that would close a circle, ENOLCK.
    fn begin(&mut self, new: Waiter) -> Result<()> {
        self.end(new.owner);
        let mut at = new.holder;
        for _ in 0..=self.0.len() {
            match self.0.iter().find(|w| w.owner == at) {
                Some(w) if w.holder == new.owner => return Err(Errno::EDEADLK),
                Some(w) => at = w.holder,
                None => break,
            }
        }
        self.0.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        self.0.push(new);
        Ok(())
    }

    /// `owner` waits no more.
    fn end(&mut self, owner: Owner) {
        self.0.retain(|w| w.owner != owner);
    }

    /// `holder` gave up a lock of file `key`: who waits for that looks again, and until then
    /// waits for nobody.
    fn released(&mut self, holder: Owner, key: Key) {
        self.0.retain(|w| w.holder != holder || w.key != key);
    }
}

fn key_of(of: &OpenFile) -> Result<Key> {
    let st = of.file.stat()?;
    Ok((st.st_dev, st.st_ino))
}

fn locks_of(of: &OpenFile) -> Result<Arc<FileLocks>> {
    let key = key_of(of)?;
    let mut table = TABLE.lock();
    Ok(table
        .entry(key)
        .or_insert_with(|| {
            Arc::new(FileLocks {
                key,
                state: SpinLock::new(Rank::Object, State::default()),
                released: WaitQueue::new(),
            })
        })
        .clone())
}

/// Forgets a file's entry once it has no locks and nobody looks at it.
fn forget_if_unused(locks: Arc<FileLocks>) {
    let mut table = TABLE.lock();
    // The table's reference and the caller's: nobody else can take a lock now.
    if Arc::strong_count(&locks) == 2 {
        let state = locks.state.lock();
        if state.flocks.is_empty() && state.ranges.is_empty() {
            table.remove(&locks.key);
        }
    }
    if table.is_empty() {
        NR_POSIX.store(0, Ordering::SeqCst);
    }
}

fn owner_of(of: &OpenFile) -> Owner {
    core::ptr::from_ref(of).addr()
}

/// man 2 flock. `None` unlocks. EWOULDBLOCK, ERESTARTSYS. A conversion gives the old lock up
/// first, as on Linux.
pub fn flock(of: &Arc<OpenFile>, wanted: Option<Kind>, wait: bool) -> Result<()> {
    let locks = locks_of(of)?;
    let owner = owner_of(of);
    let result = match wanted {
        None => {
            release_flock(&locks, owner);
            Ok(())
        }
        Some(kind) => {
            let held = locks.state.lock().flocks.contains(&(owner, kind));
            if held {
                return Ok(());
            }
            release_flock(&locks, owner);
            let try_take = || {
                let mut state = locks.state.lock();
                let free = match kind {
                    Kind::Exclusive => state.flocks.is_empty(),
                    Kind::Shared => state.flocks.iter().all(|h| h.1 == Kind::Shared),
                };
                free.then(|| state.flocks.push((owner, kind)))
            };
            match try_take() {
                Some(()) => Ok(()),
                None if !wait => Err(Errno::EWOULDBLOCK),
                None => locks
                    .released
                    .wait_interruptible(None, try_take)
                    .map_err(|_| Errno::ERESTARTSYS),
            }
        }
    };
    if result.is_ok() && wanted.is_some() {
        of.note_locks();
    }
    forget_if_unused(locks);
    result
}

fn release_flock(locks: &FileLocks, owner: Owner) {
    let released = {
        let mut state = locks.state.lock();
        let before = state.flocks.len();
        state.flocks.retain(|h| h.0 != owner);
        before != state.flocks.len()
    };
    if released {
        locks.released.wake_all();
    }
}

/// F_GETLK: the first lock in the way.
pub fn test(of: &OpenFile, wanted: &RangeLock) -> Result<Option<RangeLock>> {
    let locks = locks_of(of)?;
    let found = locks.state.lock().ranges.conflict(wanted);
    forget_if_unused(locks);
    Ok(found)
}

/// F_UNLCK for `[start, end)`.
pub fn unlock(of: &OpenFile, owner: Owner, start: u64, end: u64) -> Result<()> {
    let locks = locks_of(of)?;
    let result = {
        let mut state = locks.state.lock();
        let result = state.ranges.clear(owner, start, end);
        WAITING.lock().released(owner, locks.key);
        result
    };
    locks.released.wake_all();
    forget_if_unused(locks);
    result
}

/// F_SETLK, or F_SETLKW with `wait`. EAGAIN, EDEADLK, ENOLCK, ERESTARTSYS.
/// `posix`: the owner is a descriptor table, and waiting detects deadlocks.
pub fn lock(of: &Arc<OpenFile>, wanted: RangeLock, wait: bool, posix: bool) -> Result<()> {
    let locks = locks_of(of)?;
    if posix {
        NR_POSIX.fetch_add(1, Ordering::SeqCst);
    } else {
        of.note_locks();
    }
    let attempt = || {
        let mut state = locks.state.lock();
        match state.ranges.conflict(&wanted) {
            None => {
                let result = state.ranges.set(wanted);
                let mut waiting = WAITING.lock();
                waiting.end(wanted.owner);
                // A merge or a change to shared may let others in.
                waiting.released(wanted.owner, locks.key);
                Some(result)
            }
            Some(_) if !wait => Some(Err(Errno::EAGAIN)),
            Some(_) if !posix => None,
            Some(other) => {
                let waiter = Waiter {
                    owner: wanted.owner,
                    holder: other.owner,
                    key: locks.key,
                };
                WAITING.lock().begin(waiter).err().map(Err)
            }
        }
    };
    let result = match attempt() {
        Some(result) => result,
        None => {
            let waited = locks.released.wait_interruptible(None, attempt);
            WAITING.lock().end(wanted.owner);
            waited.unwrap_or(Err(Errno::ERESTARTSYS))
        }
    };
    locks.released.wake_all();
    forget_if_unused(locks);
    result
}

/// An open file description with locks is going: its `flock` and OFD locks go too.
pub(super) fn release_description(of: &OpenFile) {
    let Ok(key) = key_of(of) else { return };
    let Some(locks) = TABLE.lock().get(&key).cloned() else {
        return;
    };
    let owner = owner_of(of);
    release_flock(&locks, owner);
    let released = locks.state.lock().ranges.clear_owner(owner);
    if released {
        locks.released.wake_all();
    }
    forget_if_unused(locks);
}

/// Descriptor table `owner` closed a descriptor of `of`: its POSIX locks on the file go.
pub(super) fn release_posix(owner: Owner, of: &OpenFile) {
    if NR_POSIX.load(Ordering::SeqCst) == 0 {
        return;
    }
    let Ok(key) = key_of(of) else { return };
    let Some(locks) = TABLE.lock().get(&key).cloned() else {
        return;
    };
    let released = {
        let mut state = locks.state.lock();
        let released = state.ranges.clear_owner(owner);
        WAITING.lock().released(owner, key);
        released
    };
    if released {
        locks.released.wake_all();
    }
    forget_if_unused(locks);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(owner: Owner, holder: Owner, file: u64) -> Waiter {
        Waiter {
            owner,
            holder,
            key: (1, file),
        }
    }

    #[test]
    fn circles_are_found_through_other_files() {
        let mut w = Waiters(Vec::new());
        assert_eq!(w.begin(waiter(1, 2, 7)), Ok(()));
        assert_eq!(w.begin(waiter(2, 3, 8)), Ok(()));
        assert_eq!(w.begin(waiter(3, 1, 9)), Err(Errno::EDEADLK));
        assert_eq!(w.begin(waiter(3, 4, 9)), Ok(()));
        w.end(2);
        assert_eq!(w.begin(waiter(3, 1, 9)), Ok(()));
    }

    #[test]
    fn who_was_woken_waits_for_nobody() {
        let mut w = Waiters(Vec::new());
        // 1 waits for 2, which gives that lock up and wants one of 1's before 1 runs.
        assert_eq!(w.begin(waiter(1, 2, 7)), Ok(()));
        w.released(2, (1, 8));
        assert_eq!(w.begin(waiter(2, 1, 7)), Err(Errno::EDEADLK));
        w.released(2, (1, 7));
        assert_eq!(w.begin(waiter(2, 1, 7)), Ok(()));
    }
}
