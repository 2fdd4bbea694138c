//! Futexes with priority inheritance (man 2 futex, FUTEX_LOCK_PI): the kernel knows who owns a
//! contended word, hands it to the most urgent waiter, and lets the owner run as urgently as
//! who waits for it.
//!
//! The word holds the owner's thread id, FUTEX_WAITERS once somebody sleeps, FUTEX_OWNER_DIED.
//! A word without FUTEX_WAITERS is the programs' own; all else happens under the lock of its
//! key's table, which sleeps, because the word is looked at and changed under it. A lock is in
//! the table while somebody waits for it, or was handed it by an owner that ended and has not
//! written that down yet.
//!
//! An owner keeps the urgency it was lent until it has given up its last contended word. What
//! it waits for itself is not followed further.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use super::futex::{Key, key_of};
use super::{Task, current};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::sched::{Class, Mutex, WaitError, WaitQueue, yield_now};
use crate::vm::user::{compare_exchange_u32, load_u32};

const TID: u32 = abi::FUTEX_TID_MASK;
const WAITERS: u32 = abi::FUTEX_WAITERS;
const DIED: u32 = abi::FUTEX_OWNER_DIED;

/// How a waiter fares.
mod fate {
    pub const WAITS: u8 = 0;
    /// It owns the word, which says so.
    pub const OWNS: u8 = 1;
    /// It owns the word of an owner that ended, and is to write that down.
    pub const INHERITS: u8 = 2;
}

struct Waiter {
    task: Arc<Task>,
    fate: AtomicU8,
    queue: WaitQueue,
}

/// A contended word.
struct Lock {
    key: Key,
    owner: Weak<Task>,
    /// The longest first.
    waiters: Vec<Arc<Waiter>>,
    /// The owner has yet to write down that it is.
    unwritten: bool,
}

const NR_TABLES: usize = 32;
static TABLES: [Mutex<Vec<Lock>>; NR_TABLES] = [const { Mutex::new(Vec::new()) }; NR_TABLES];

fn table_of(key: &Key) -> &'static Mutex<Vec<Lock>> {
    &TABLES[key.hash() % NR_TABLES]
}

/// Real-time priority of a thread as it is set, 0 for none.
fn priority(task: &Task) -> u8 {
    match task.thread().map(|t| t.class()) {
        Some(Class::Fifo(p) | Class::RoundRobin(p)) => p,
        _ => 0,
    }
}

impl Task {
    /// One more contended word is its own; `urgency`: of the most urgent waiter.
    fn owns_contended(&self, urgency: u8) {
        self.pi_owned.fetch_add(1, Ordering::SeqCst);
        self.lend(urgency);
    }
    fn lend(&self, urgency: u8) {
        if let Some(thread) = self.thread() {
            thread.lend(urgency);
        }
    }
    /// It has one contended word less.
    fn gave_up_contended(&self) {
        if self.pi_owned.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(thread) = self.thread()
        {
            thread.end_loan();
        }
    }
}

impl Lock {
    fn most_urgent(&self) -> u8 {
        self.waiters
            .iter()
            .map(|w| priority(&w.task))
            .max()
            .unwrap_or(0)
    }

    /// Hands the word to the most urgent waiter, of several the one that waited longest.
    fn hand_on(&mut self, fate: u8) -> Option<Arc<Waiter>> {
        let best = self.most_urgent();
        let at = self
            .waiters
            .iter()
            .position(|w| priority(&w.task) == best)?;
        let next = self.waiters.remove(at);
        self.owner = Arc::downgrade(&next.task);
        self.unwritten = fate == fate::INHERITS;
        if self.is_needed() {
            next.task.owns_contended(self.most_urgent());
        }
        next.fate.store(fate, Ordering::Release);
        Some(next)
    }

    fn is_needed(&self) -> bool {
        self.unwritten || !self.waiters.is_empty()
    }
}

/// Forgets locks that nobody waits for; their owners are as urgent as they are.
fn tidy(table: &mut Vec<Lock>, key: &Key) {
    if let Some(at) = table.iter().position(|l| l.key == *key && !l.is_needed()) {
        let gone = table.swap_remove(at);
        if let Some(owner) = gone.owner.upgrade() {
            owner.gave_up_contended();
        }
    }
}

/// What a look at the word finds.
enum Found {
    /// It was free, and is the caller's now.
    Taken,
    /// Somebody has it; the word says that somebody waits.
    Owned(Arc<Task>),
    /// Its owner is just ending.
    Ending,
}

/// Takes the word if it is free. EDEADLK: it is the caller's; ESRCH: its owner does not exist.
fn look(table: &[Lock], key: &Key, addr: UserAddr, task: &Arc<Task>) -> Result<Found> {
    let lock = table.iter().find(|l| l.key == *key);
    let tid = task.tid() as u32;
    loop {
        let word = load_u32(addr)?;
        if word & TID == tid {
            return Err(Errno::EDEADLK);
        }
        if let Some(owner) = lock.and_then(|l| l.owner.upgrade()) {
            return Ok(Found::Owned(owner));
        }
        let (new, found) = match word & TID {
            0 => (word & DIED | tid, Found::Taken),
            owner => match super::find_task(owner as i32) {
                Some(owner) if owner.pi_ending.load(Ordering::SeqCst) => return Ok(Found::Ending),
                Some(owner) => (word | WAITERS, Found::Owned(owner)),
                None if load_u32(addr)? == word => return Err(Errno::ESRCH),
                None => continue,
            },
        };
        if compare_exchange_u32(addr, word, new)? == word {
            return Ok(found);
        }
    }
}

/// FUTEX_TRYLOCK_PI. EAGAIN: it is somebody else's; EDEADLK, ESRCH, EINVAL, EFAULT.
pub fn try_lock(addr: UserAddr, shared: bool) -> Result<()> {
    let task = current();
    let key = key_of(&task, addr, shared)?;
    let table = table_of(&key).lock();
    match look(&table, &key, addr, &task)? {
        Found::Taken => Ok(()),
        Found::Owned(_) | Found::Ending => Err(Errno::EAGAIN),
    }
}

/// FUTEX_LOCK_PI, FUTEX_LOCK_PI2: sleeps until the word is the caller's. `deadline`: monotonic
/// ns. As [`try_lock`], ETIMEDOUT, ERESTARTNOINTR, ENOMEM.
pub fn lock(addr: UserAddr, shared: bool, deadline: Option<u64>) -> Result<()> {
    let task = current();
    let key = key_of(&task, addr, shared)?;
    let Some(waiter) = queue_up(&key, addr, &task)? else {
        return Ok(());
    };
    let fate = || match waiter.fate.load(Ordering::Acquire) {
        fate::WAITS => None,
        fate => Some(fate),
    };
    let waited = waiter.queue.wait_interruptible(deadline, fate);
    let mut table = table_of(&key).lock();
    match (fate(), waited) {
        (Some(fate::INHERITS), _) => write_down(&mut table, &key, addr, &task),
        (Some(_), _) => Ok(()),
        (None, waited) => {
            if let Some(lock) = table.iter_mut().find(|l| l.key == key) {
                lock.waiters.retain(|w| !Arc::ptr_eq(w, &waiter));
            }
            tidy(&mut table, &key);
            Err(match waited {
                Err(WaitError::TimedOut) => Errno::ETIMEDOUT,
                _ => Errno::ERESTARTNOINTR,
            })
        }
    }
}

/// Takes the word, or a place among those that wait for it.
fn queue_up(key: &Key, addr: UserAddr, task: &Arc<Task>) -> Result<Option<Arc<Waiter>>> {
    loop {
        {
            let mut table = table_of(key).lock();
            match look(&table, key, addr, task)? {
                Found::Taken => return Ok(None),
                Found::Owned(owner) => {
                    if let Some(waiter) = enlist(&mut table, key, &owner, task)? {
                        return Ok(Some(waiter));
                    }
                }
                Found::Ending => {}
            }
        }
        // What it leaves behind decides.
        yield_now();
    }
}

/// `None`: the owner is just ending.
fn enlist(
    table: &mut Vec<Lock>,
    key: &Key,
    owner: &Arc<Task>,
    task: &Arc<Task>,
) -> Result<Option<Arc<Waiter>>> {
    let at = match table.iter().position(|l| l.key == *key) {
        Some(at) => at,
        None => {
            table.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            table.push(Lock {
                key: *key,
                owner: Arc::downgrade(owner),
                waiters: Vec::new(),
                unwritten: false,
            });
            owner.owns_contended(0);
            // The flag is set before the count is looked at: one of the two sees the other.
            if owner.pi_ending.load(Ordering::SeqCst) {
                tidy(table, key);
                return Ok(None);
            }
            table.len() - 1
        }
    };
    let lock = &mut table[at];
    if lock.waiters.try_reserve(1).is_err() {
        tidy(table, key);
        return Err(Errno::ENOMEM);
    }
    let waiter = Arc::new(Waiter {
        task: task.clone(),
        fate: AtomicU8::new(fate::WAITS),
        queue: WaitQueue::new(),
    });
    lock.waiters.push(waiter.clone());
    owner.lend(lock.most_urgent());
    Ok(Some(waiter))
}

/// The caller was left a word by an owner that ended.
fn write_down(table: &mut Vec<Lock>, key: &Key, addr: UserAddr, task: &Task) -> Result<()> {
    let mine = task.tid() as u32 | WAITERS | DIED;
    let written = loop {
        let word = match load_u32(addr) {
            Ok(word) => word,
            Err(e) => break Err(e),
        };
        match compare_exchange_u32(addr, word, mine) {
            Ok(found) if found == word => break Ok(()),
            Ok(_) => {}
            Err(e) => break Err(e),
        }
    };
    if let Some(lock) = table.iter_mut().find(|l| l.key == *key) {
        lock.unwritten = false;
    }
    tidy(table, key);
    written
}

/// FUTEX_UNLOCK_PI. EPERM: the word is not the caller's; EINVAL, EFAULT.
pub fn unlock(addr: UserAddr, shared: bool) -> Result<()> {
    let task = current();
    let key = key_of(&task, addr, shared)?;
    let tid = task.tid() as u32;
    let mut table = table_of(&key).lock();
    loop {
        let word = load_u32(addr)?;
        if word & TID != tid {
            return Err(Errno::EPERM);
        }
        let lock = table.iter_mut().find(|l| l.key == key);
        let heir = lock.as_ref().and_then(|l| {
            let best = l.most_urgent();
            l.waiters.iter().find(|w| priority(&w.task) == best)
        });
        let new = heir.map_or(0, |w| w.task.tid() as u32 | WAITERS);
        if compare_exchange_u32(addr, word, new)? != word {
            continue;
        }
        let next = lock.and_then(|l| l.hand_on(fate::OWNS));
        if let Some(next) = next {
            task.gave_up_contended();
            // The heir was counted as an owner if others wait still; else the lock goes.
            table.retain(|l| l.key != key || l.is_needed());
            next.queue.wake_all();
        }
        return Ok(());
    }
}

/// The thread is ending, or its program is: who waits for words that it owns is left them.
/// `pi_ending` is set before, if the thread itself ends.
pub(super) fn release_owned(task: &Arc<Task>) {
    if task.pi_owned.load(Ordering::SeqCst) == 0 {
        return;
    }
    for table in &TABLES {
        let mut table = table.lock();
        let is_own = |l: &Lock| core::ptr::eq(l.owner.as_ptr(), Arc::as_ptr(task));
        for lock in table.iter_mut().filter(|l| is_own(l)) {
            task.gave_up_contended();
            match lock.hand_on(fate::INHERITS) {
                Some(next) => next.queue.wake_all(),
                None => lock.unwritten = false,
            }
        }
        table.retain(|l| l.is_needed());
    }
}
