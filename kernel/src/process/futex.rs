//! Futexes (man 2 futex, man 7 futex): sleeping on a word of user memory.
//!
//! Waiters stand in hash buckets under a key: private memory is named by address space and
//! address, shared memory by page cache and offset. A waiter enters its bucket first and then
//! looks at the word, without the bucket's lock (user memory must not be touched under one);
//! a waker changes the word first and then looks into the bucket. So one of them sees the
//! other. A waiter that finds another value than expected and was woken meanwhile hands the
//! wake-up on: it was meant for somebody who sleeps.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{Task, current};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::sched::{WaitError, WaitQueue};
use crate::sync::{IrqLock, Rank};
use crate::vm::user::{compare_exchange_u32, load_u32};
use crate::vm::{AddressSpace, UserPtr};

/// What a futex word is, whoever names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Address of the space (private) or the page cache (shared).
    object: usize,
    /// Address (private) or offset (shared).
    offset: u64,
}

/// One sleeping thread.
struct Waiter {
    /// Where it stands; requeueing changes it under both buckets' locks.
    place: IrqLock<Key>,
    bitset: u32,
    woken: AtomicBool,
    queue: WaitQueue,
}

const NR_BUCKETS: usize = 256;
static BUCKETS: [IrqLock<Vec<Arc<Waiter>>>; NR_BUCKETS] =
    [const { IrqLock::new(Rank::Futex, Vec::new()) }; NR_BUCKETS];

impl Key {
    /// 8 bits that spread keys.
    pub(super) fn hash(&self) -> usize {
        let mixed = (self.object as u64 ^ (self.offset >> 2)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize
    }
}

fn index_of(key: &Key) -> usize {
    key.hash() % NR_BUCKETS
}

/// The key of the word at `addr`. EINVAL when it is not aligned, EFAULT.
pub(super) fn key_of(task: &Task, addr: UserAddr, shared: bool) -> Result<Key> {
    if !addr.0.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if addr.0 >= crate::mm::addr::USER_END {
        return Err(Errno::EFAULT);
    }
    let space = task.space();
    if shared && let Some((object, offset)) = space.shared_identity(addr)? {
        return Ok(Key { object, offset });
    }
    Ok(private_key(&space, addr))
}

fn private_key(space: &Arc<AddressSpace>, addr: UserAddr) -> Key {
    Key {
        object: Arc::as_ptr(space).addr(),
        offset: addr.0,
    }
}

/// Wakes up to `max` waiters of `key` whose bitset meets `bitset`; returns how many.
fn wake_key(key: &Key, max: usize, bitset: u32) -> usize {
    let mut woken: Vec<Arc<Waiter>> = Vec::new();
    let mut count = 0;
    {
        let mut bucket = BUCKETS[index_of(key)].lock();
        let mut i = 0;
        while i < bucket.len() && count < max {
            if *bucket[i].place.lock() == *key && bucket[i].bitset & bitset != 0 {
                let waiter = bucket.remove(i);
                waiter.woken.store(true, Ordering::Release);
                waiter.queue.wake_all();
                count += 1;
                // Freed below, outside the lock.
                if woken.try_reserve(1).is_ok() {
                    woken.push(waiter);
                }
            } else {
                i += 1;
            }
        }
    }
    drop(woken);
    count
}

/// Takes the waiter out of its bucket; false when a waker did already.
fn leave(waiter: &Arc<Waiter>) -> bool {
    loop {
        let key = *waiter.place.lock();
        let mut bucket = BUCKETS[index_of(&key)].lock();
        if waiter.woken.load(Ordering::Acquire) {
            return false;
        }
        if let Some(i) = bucket.iter().position(|w| Arc::ptr_eq(w, waiter)) {
            let gone = bucket.remove(i);
            drop(bucket);
            drop(gone);
            return true;
        }
        // Requeued between the two looks: try where it is now.
    }
}

/// FUTEX_WAIT, FUTEX_WAIT_BITSET: sleeps while the word holds `expected`. `deadline`:
/// monotonic ns. EAGAIN: it held something else; ETIMEDOUT; ERESTARTSYS (no deadline) or a
/// restart block (deadline); EINVAL for an empty bitset; EFAULT.
pub fn wait(
    addr: UserAddr,
    expected: u32,
    bitset: u32,
    shared: bool,
    deadline: Option<u64>,
) -> Result<()> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let key = key_of(&task, addr, shared)?;
    let waiter = Arc::new(Waiter {
        place: IrqLock::new(Rank::Leaf, key),
        bitset,
        woken: AtomicBool::new(false),
        queue: WaitQueue::new(),
    });
    {
        let mut bucket = BUCKETS[index_of(&key)].lock();
        bucket.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        bucket.push(waiter.clone());
    }
    let mismatch = match load_u32(addr) {
        Ok(value) if value == expected => None,
        Ok(_) => Some(Errno::EAGAIN),
        Err(e) => Some(e),
    };
    if let Some(errno) = mismatch {
        if !leave(&waiter) {
            wake_key(&key, 1, bitset);
        }
        return Err(errno);
    }
    let result = waiter.queue.wait_interruptible(deadline, || {
        waiter.woken.load(Ordering::Acquire).then_some(())
    });
    match result {
        Ok(()) => Ok(()),
        // Woken at the last moment counts: the waker believes it.
        Err(_) if !leave(&waiter) => Ok(()),
        Err(WaitError::TimedOut) => Err(Errno::ETIMEDOUT),
        Err(WaitError::Interrupted) if deadline.is_none() => Err(Errno::ERESTARTSYS),
        Err(WaitError::Interrupted) => Err(task.restart_with(Box::new(move || {
            wait(addr, expected, bitset, shared, deadline).map(|()| 0)
        }))),
    }
}

/// FUTEX_WAKE, FUTEX_WAKE_BITSET: wakes up to `max` waiters. EINVAL for an empty bitset.
pub fn wake(addr: UserAddr, max: usize, bitset: u32, shared: bool) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = key_of(&current(), addr, shared)?;
    Ok(wake_key(&key, max, bitset))
}

/// Wakes one waiter, as the kernel does when a thread ends: whether the waiter took the word
/// for private or shared.
pub(super) fn wake_address(task: &Task, addr: UserAddr) {
    let Some(space) = task.process.space() else {
        return;
    };
    if wake_key(&private_key(&space, addr), 1, abi::FUTEX_BITSET_MATCH_ANY) == 0
        && let Ok(Some((object, offset))) = space.shared_identity(addr)
    {
        wake_key(&Key { object, offset }, 1, abi::FUTEX_BITSET_MATCH_ANY);
    }
}

/// FUTEX_REQUEUE, FUTEX_CMP_REQUEUE: wakes up to `nr_wake` waiters of `from` and moves up to
/// `nr_move` others to `to`. Returns (woken, moved). EAGAIN when the word at `from` is not
/// `expected`.
pub fn requeue(
    from: UserAddr,
    to: UserAddr,
    nr_wake: usize,
    nr_move: usize,
    expected: Option<u32>,
    shared: bool,
) -> Result<(usize, usize)> {
    let task = current();
    let from_key = key_of(&task, from, shared)?;
    let to_key = key_of(&task, to, shared)?;
    if let Some(expected) = expected
        && load_u32(from)? != expected
    {
        return Err(Errno::EAGAIN);
    }
    let woken = wake_key(&from_key, nr_wake, abi::FUTEX_BITSET_MATCH_ANY);
    if from_key == to_key {
        let bucket = BUCKETS[index_of(&from_key)].lock();
        let there = bucket
            .iter()
            .filter(|w| *w.place.lock() == from_key)
            .count();
        return Ok((woken, there.min(nr_move)));
    }
    Ok((woken, move_waiters(&from_key, &to_key, nr_move)?))
}

fn move_waiters(from: &Key, to: &Key, max: usize) -> Result<usize> {
    let (a, b) = (index_of(from), index_of(to));
    let mut moved = 0;
    if a == b {
        let bucket = BUCKETS[a].lock();
        for waiter in bucket.iter() {
            let mut place = waiter.place.lock();
            if moved < max && *place == *from {
                *place = *to;
                moved += 1;
            }
        }
        return Ok(moved);
    }
    // Both buckets have one rank: they are taken one at a time, and in between the waiters
    // stand in neither. `leave` of one of them tries again meanwhile.
    let mut travelling: Vec<Arc<Waiter>> = Vec::new();
    {
        let mut bucket = BUCKETS[a].lock();
        let count = bucket
            .iter()
            .filter(|w| *w.place.lock() == *from)
            .count()
            .min(max);
        travelling
            .try_reserve_exact(count)
            .map_err(|_| Errno::ENOMEM)?;
        // Room there first, so that nobody is stranded.
        drop(bucket);
        BUCKETS[b]
            .lock()
            .try_reserve(count)
            .map_err(|_| Errno::ENOMEM)?;
        bucket = BUCKETS[a].lock();
        let mut i = 0;
        while i < bucket.len() && travelling.len() < count {
            if *bucket[i].place.lock() == *from {
                travelling.push(bucket.remove(i));
            } else {
                i += 1;
            }
        }
    }
    let mut bucket = BUCKETS[b].lock();
    for waiter in travelling {
        *waiter.place.lock() = *to;
        bucket.push(waiter);
        moved += 1;
    }
    Ok(moved)
}

/// FUTEX_WAKE_OP's encoded operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WakeOp {
    op: u32,
    arg: u32,
    cmp: u32,
    cmp_arg: u32,
}

impl WakeOp {
    /// Decodes `val3`. ENOSYS for an unknown operation.
    fn decode(encoded: u32) -> Result<WakeOp> {
        let sign_extend = |v: u32| (((v & 0xfff) << 20) as i32 >> 20) as u32;
        let op = (encoded >> 28) & 7;
        let mut arg = sign_extend(encoded >> 12);
        if encoded >> 31 != 0 {
            // FUTEX_OP_OPARG_SHIFT; Linux masks a shift that is too large.
            arg = 1 << (arg & 31);
        }
        let cmp = (encoded >> 24) & 15;
        if op > abi::FUTEX_OP_XOR || cmp > abi::FUTEX_OP_CMP_GE {
            return Err(Errno::ENOSYS);
        }
        Ok(WakeOp {
            op,
            arg,
            cmp,
            cmp_arg: sign_extend(encoded),
        })
    }
    fn apply(&self, old: u32) -> u32 {
        match self.op {
            abi::FUTEX_OP_SET => self.arg,
            abi::FUTEX_OP_ADD => old.wrapping_add(self.arg),
            abi::FUTEX_OP_OR => old | self.arg,
            abi::FUTEX_OP_ANDN => old & !self.arg,
            _ => old ^ self.arg,
        }
    }
    fn holds(&self, old: u32) -> bool {
        let (old, arg) = (old as i32, self.cmp_arg as i32);
        match self.cmp {
            abi::FUTEX_OP_CMP_EQ => old == arg,
            abi::FUTEX_OP_CMP_NE => old != arg,
            abi::FUTEX_OP_CMP_LT => old < arg,
            abi::FUTEX_OP_CMP_LE => old <= arg,
            abi::FUTEX_OP_CMP_GT => old > arg,
            _ => old >= arg,
        }
    }
}

/// FUTEX_WAKE_OP: changes the word at `second` as `encoded` says, wakes waiters of `first`,
/// and waiters of `second` if its old value meets the comparison.
pub fn wake_op(
    first: UserAddr,
    second: UserAddr,
    nr_first: usize,
    nr_second: usize,
    encoded: u32,
    shared: bool,
) -> Result<usize> {
    let op = WakeOp::decode(encoded)?;
    let task = current();
    let first = key_of(&task, first, shared)?;
    let second_key = key_of(&task, second, shared)?;
    let mut old = load_u32(second)?;
    loop {
        let found = compare_exchange_u32(second, old, op.apply(old))?;
        if found == old {
            break;
        }
        old = found;
    }
    let mut woken = wake_key(&first, nr_first, abi::FUTEX_BITSET_MATCH_ANY);
    if op.holds(old) {
        woken += wake_key(&second_key, nr_second, abi::FUTEX_BITSET_MATCH_ANY);
    }
    Ok(woken)
}

/// Size of `struct robust_list_head` (set_robust_list refuses another).
pub const ROBUST_HEAD_BYTES: usize = 24;
/// Entries walked at most: a program may make its list a circle (ROBUST_LIST_LIMIT).
const ROBUST_MAX: usize = 2048;

/// Marks the robust mutexes that an ending thread holds as ownerless, and wakes a waiter of
/// each (man 2 get_robust_list). Bad pointers end the walk.
pub(super) fn release_robust_list(task: &Task) {
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        let _ = walk_robust_list(task, head);
    }
}

fn walk_robust_list(task: &Task, head: u64) -> Result<()> {
    let word = |at: u64| UserPtr::<u64>::new(UserAddr(at)).read();
    let offset = word(head + 8)? as i64;
    let pending = word(head + 16)?;
    let mut entry = word(head)?;
    for _ in 0..ROBUST_MAX {
        // Bit 0 marks a priority-inheritance mutex, which `futex_pi` hands on afterwards.
        let at = entry & !1;
        if at == head {
            break;
        }
        // Read on before the word is given up: its owner may free the entry then.
        let next = word(at);
        if entry != pending {
            release_word(task, at.wrapping_add_signed(offset), false)?;
        }
        entry = next?;
    }
    if pending & !1 != 0 {
        release_word(task, (pending & !1).wrapping_add_signed(offset), true)?;
    }
    Ok(())
}

fn release_word(task: &Task, at: u64, pending: bool) -> Result<()> {
    let addr = UserAddr(at);
    let mut value = load_u32(addr)?;
    loop {
        let owner = value & abi::FUTEX_TID_MASK;
        if pending && value == 0 {
            // Unlocked, but the wake-up may not have happened.
            wake_address(task, addr);
            return Ok(());
        }
        if owner != task.tid() as u32 {
            return Ok(());
        }
        let new = (value & abi::FUTEX_WAITERS) | abi::FUTEX_OWNER_DIED;
        let found = compare_exchange_u32(addr, value, new)?;
        if found == value {
            break;
        }
        value = found;
    }
    if value & abi::FUTEX_WAITERS != 0 {
        wake_address(task, addr);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_op_encoding() {
        let encode = |op: u32, arg: u32, cmp: u32, cmp_arg: u32| {
            op << 28 | cmp << 24 | (arg & 0xfff) << 12 | cmp_arg & 0xfff
        };
        let op = WakeOp::decode(encode(abi::FUTEX_OP_ADD, 0xfff, abi::FUTEX_OP_CMP_GT, 1)).unwrap();
        assert_eq!(op.apply(5), 4);
        assert!(op.holds(2) && !op.holds(1) && !op.holds(u32::MAX));
        let shifted = WakeOp::decode(1 << 31 | encode(abi::FUTEX_OP_OR, 4, 0, 0)).unwrap();
        assert_eq!(shifted.apply(1), 0x11);
        assert!(WakeOp::decode(encode(5, 0, 0, 0)).is_err());
        assert!(WakeOp::decode(encode(0, 0, 6, 0)).is_err());
    }

    #[test]
    fn keys_spread() {
        let used: std::collections::HashSet<_> = (0..256)
            .map(|i| {
                index_of(&Key {
                    object: 0xffff_8000_0012_3000,
                    offset: 0x7000_0000 + i * 64,
                })
            })
            .collect();
        assert!(used.len() > 64);
    }
}
