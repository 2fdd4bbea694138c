//! epoll (man 7 epoll): an interest list, and a ready list that wake-ups fill.
//!
//! The interest list is guarded by a sleeping mutex. The ready list is guarded by an
//! interrupt-safe lock, because files put items on it from their wait queues' wake-ups; its
//! capacity always covers the interest list, so that a wake-up never allocates. An item holds
//! its description weakly: closing the last descriptor ends the interest by itself.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

use super::anon::AnonInode;
use super::{File, OpenFile, PollEvents, PollTable};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::{Mutex, WaitError, WaitQueue, Wake, Woken};
use crate::sync::{IrqLock, Rank};

/// How deep epolls may watch epolls (man 2 epoll_ctl, ELOOP).
const MAX_NESTING: usize = 5;
/// Event bits a program may ask for.
const EVENT_BITS: u32 = abi::EPOLLIN
    | abi::EPOLLPRI
    | abi::EPOLLOUT
    | abi::EPOLLERR
    | abi::EPOLLHUP
    | abi::EPOLLRDNORM
    | abi::EPOLLRDBAND
    | abi::EPOLLWRNORM
    | abi::EPOLLWRBAND
    | abi::EPOLLMSG
    | abi::EPOLLRDHUP;
/// Events that are reported whether asked for or not; a one-shot that was spent asks for none.
const ALWAYS: u32 = abi::EPOLLERR | abi::EPOLLHUP;
/// What stays of an item's events when a one-shot was spent.
const PRIVATE_BITS: u32 = abi::EPOLLET | abi::EPOLLONESHOT | abi::EPOLLWAKEUP | abi::EPOLLEXCLUSIVE;

/// Items looked at between two looks at the ready list.
const BATCH: usize = 8;

/// What wake-ups fill. Items hold it strongly, so that a wake-up never drops an [`Epoll`],
/// whose end takes wait-queue locks.
struct Ready {
    /// Items that a wake-up named, oldest first.
    items: IrqLock<VecDeque<Weak<Item>>>,
    /// Waiters in `epoll_wait`, and observers of the epoll itself.
    queue: Arc<WaitQueue>,
}

/// One watched description.
struct Item {
    me: Weak<Item>,
    ready: Arc<Ready>,
    file: Weak<OpenFile>,
    /// Events asked for, with the EPOLLET and EPOLLONESHOT bits.
    events: AtomicU32,
    /// The program's own word.
    data: AtomicU64,
    /// On the ready list.
    queued: AtomicBool,
}

impl Item {
    /// Puts the item on the ready list unless it is there, and wakes who waits for that.
    ///
    /// Wakes even when it is there: it may be a leftover that is no longer due, which who polls
    /// the epoll itself has seen and leaves on the list.
    fn enqueue(&self) {
        {
            let mut items = self.ready.items.lock();
            if !self.queued.swap(true, SeqCst) {
                items.push_back(self.me.clone());
            }
        }
        self.ready.queue.wake_all();
    }

    /// Events that are due now.
    fn due(&self) -> u32 {
        let events = self.events.load(SeqCst);
        if events & !PRIVATE_BITS == 0 {
            return 0;
        }
        let wanted = events & EVENT_BITS;
        self.file
            .upgrade()
            .map_or(0, |of| of.file.poll(&of, None).bits() & wanted)
    }
}

impl Wake for Item {
    fn wake(&self) -> Woken {
        if self.events.load(SeqCst) & !PRIVATE_BITS != 0 {
            self.enqueue();
        }
        Woken::Observed
    }
}

/// An interest: the item, and its registrations with the file's wait queues.
struct Interest {
    item: Arc<Item>,
    table: PollTable,
}

/// Descriptor number and description: what identifies an interest (man 7 epoll, Q1).
type Key = (i32, usize);

/// An epoll instance.
pub struct Epoll {
    interests: Mutex<BTreeMap<Key, Interest>>,
    ready: Arc<Ready>,
    inode: AnonInode,
}

/// Serialises additions of epolls to epolls, so that the loop check sees a still picture.
static NESTING: Mutex<()> = Mutex::new(());

impl Epoll {
    /// An empty instance.
    pub fn new() -> Arc<Epoll> {
        Arc::new(Epoll {
            interests: Mutex::new(BTreeMap::new()),
            ready: Arc::new(Ready {
                items: IrqLock::new(Rank::Poll, VecDeque::new()),
                queue: Arc::new(WaitQueue::new()),
            }),
            inode: AnonInode::new(0o600),
        })
    }

    fn key(fd: i32, of: &Arc<OpenFile>) -> Key {
        (fd, Arc::as_ptr(of).addr())
    }

    /// EPOLL_CTL_ADD. EEXIST, EPERM (file cannot be watched), ELOOP, EINVAL, ENOMEM.
    pub fn add(&self, fd: i32, of: &Arc<OpenFile>, events: u32, data: u64) -> Result<()> {
        let events = events | ALWAYS;
        if !of.file.can_epoll() {
            return Err(Errno::EPERM);
        }
        let target = of.file.as_any().downcast_ref::<Epoll>();
        if events & abi::EPOLLEXCLUSIVE != 0
            && (target.is_some()
                || events
                    & !(abi::EPOLLIN
                        | abi::EPOLLOUT
                        | abi::EPOLLERR
                        | abi::EPOLLHUP
                        | abi::EPOLLWAKEUP
                        | abi::EPOLLET
                        | abi::EPOLLEXCLUSIVE)
                    != 0)
        {
            return Err(Errno::EINVAL);
        }
        let _nesting = match target {
            Some(target) => {
                let guard = NESTING.lock();
                self.check_nesting(target, 1)?;
                Some(guard)
            }
            None => None,
        };
        let mut interests = self.interests.lock();
        let key = Self::key(fd, of);
        if let Some(old) = interests.get(&key)
            && old.item.file.strong_count() > 0
        {
            return Err(Errno::EEXIST);
        }
        if interests.len() >= 64 && interests.len().is_power_of_two() {
            interests.retain(|_, i| i.item.file.strong_count() > 0);
        }
        self.make_room(interests.len() + 1)?;
        let item = Arc::new_cyclic(|me| Item {
            me: me.clone(),
            ready: self.ready.clone(),
            file: Arc::downgrade(of),
            events: AtomicU32::new(events),
            data: AtomicU64::new(data),
            queued: AtomicBool::new(false),
        });
        let mut table = PollTable::new(item.clone(), PollEvents::from_bits_truncate(events));
        let now = of.file.poll(of, Some(&mut table)).bits();
        let wanted = events & EVENT_BITS;
        if now & wanted != 0 {
            item.enqueue();
        }
        interests.insert(key, Interest { item, table });
        Ok(())
    }

    /// Sees to it that no wake-up makes the ready list grow while there are `live` interests.
    /// Ones that were removed while they were ready stay on it until `epoll_wait` comes or there
    /// are twice as many as there can be others. ENOMEM.
    fn make_room(&self, live: usize) -> Result<()> {
        const FEW: usize = 16;
        let stale = 2 * live + FEW;
        let wanted = stale + live;
        {
            let mut items = self.ready.items.lock();
            if items.len() >= stale {
                items.retain(|item| item.strong_count() > 0);
            }
            if items.capacity() >= wanted {
                return Ok(());
            }
        }
        let mut roomier = VecDeque::new();
        roomier.try_reserve(2 * wanted).map_err(|_| Errno::ENOMEM)?;
        let mut items = self.ready.items.lock();
        roomier.extend(items.drain(..));
        core::mem::swap(&mut *items, &mut roomier);
        // The small one is freed after the lock.
        drop(items);
        Ok(())
    }

    /// EPOLL_CTL_MOD. ENOENT; EINVAL for exclusive interests.
    pub fn modify(&self, fd: i32, of: &Arc<OpenFile>, events: u32, data: u64) -> Result<()> {
        let mut interests = self.interests.lock();
        let interest = interests.get_mut(&Self::key(fd, of)).ok_or(Errno::ENOENT)?;
        let item = interest.item.clone();
        if (events | item.events.load(SeqCst)) & abi::EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.data.store(data, SeqCst);
        item.events.store(events | ALWAYS, SeqCst);
        let wanted = PollEvents::from_bits_truncate(events);
        if interest.table.watches(wanted) {
            // A change before this look is seen by it, one after it wakes the item.
            if item.due() != 0 {
                item.enqueue();
            }
            return Ok(());
        }
        // The old registrations go first: they are told apart by the item alone.
        interest.table = PollTable::new(item.clone(), wanted);
        let mut table = PollTable::new(item.clone(), wanted);
        let now = of.file.poll(of, Some(&mut table)).bits();
        interest.table = table;
        if now & (events | ALWAYS) & EVENT_BITS != 0 {
            item.enqueue();
        }
        Ok(())
    }

    /// EPOLL_CTL_DEL. ENOENT.
    pub fn remove(&self, fd: i32, of: &Arc<OpenFile>) -> Result<()> {
        let gone = self.interests.lock().remove(&Self::key(fd, of));
        gone.map(drop).ok_or(Errno::ENOENT)
    }

    fn check_nesting(&self, target: &Epoll, depth: usize) -> Result<()> {
        if core::ptr::eq(self, target) {
            return Err(if depth == 1 {
                Errno::EINVAL
            } else {
                Errno::ELOOP
            });
        }
        if depth >= MAX_NESTING {
            return Err(Errno::ELOOP);
        }
        let inner: Vec<Arc<OpenFile>> = target
            .interests
            .lock()
            .values()
            .filter_map(|i| i.item.file.upgrade())
            .filter(|of| of.file.as_any().is::<Epoll>())
            .collect();
        for of in inner {
            if let Some(epoll) = of.file.as_any().downcast_ref::<Epoll>() {
                self.check_nesting(epoll, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Gives `out` up to `max` due events; how many.
    fn collect(&self, max: usize, out: &mut dyn FnMut(abi::epoll_event)) -> usize {
        // Each item is looked at once: those put back go behind the ones that are there now.
        let mut left = None;
        let mut found = 0;
        while found < max {
            let mut named = ArrayVec::<Arc<Item>, BATCH>::new();
            {
                let mut items = self.ready.items.lock();
                let left = left.get_or_insert(items.len());
                let nr = (*left).min(max - found).min(BATCH);
                if nr == 0 {
                    break;
                }
                *left -= nr;
                for _ in 0..nr {
                    if let Some(item) = items.pop_front().and_then(|item| item.upgrade()) {
                        named.push(item);
                    }
                }
            }
            // Level-triggered ones stay, to be put back and looked at the next time.
            named.retain(|item| {
                // From here on a wake-up queues the item anew: nothing is lost.
                item.queued.store(false, SeqCst);
                let due = item.due();
                if due == 0 {
                    return false;
                }
                out(abi::epoll_event {
                    events: due,
                    data: item.data.load(SeqCst),
                });
                found += 1;
                let events = item.events.load(SeqCst);
                if events & abi::EPOLLONESHOT != 0 {
                    let spent = events & PRIVATE_BITS;
                    // Somebody changed it meanwhile: then it is not spent.
                    let _ = item.events.compare_exchange(events, spent, SeqCst, SeqCst);
                    return false;
                }
                events & abi::EPOLLET == 0
            });
            if !named.is_empty() {
                let mut items = self.ready.items.lock();
                for item in &named {
                    if !item.queued.swap(true, SeqCst) {
                        items.push_back(item.me.clone());
                    }
                }
            }
        }
        found
    }

    /// man 2 epoll_wait: gives `out` at most `max` events; waits until `deadline` (monotonic ns;
    /// `None` for ever). Returns how many events there were. EINTR.
    pub fn wait(
        &self,
        max: usize,
        deadline: Option<u64>,
        out: &mut dyn FnMut(abi::epoll_event),
    ) -> Result<usize> {
        loop {
            let found = self.collect(max, out);
            if found > 0 || deadline == Some(0) {
                return Ok(found);
            }
            let waited = self.ready.queue.wait_interruptible(deadline, || {
                (!self.ready.items.lock().is_empty()).then_some(())
            });
            match waited {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(0),
                Err(WaitError::Interrupted) => return Err(Errno::EINTR),
            }
        }
    }
}

impl File for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.ready.queue);
        }
        let named: Vec<Weak<Item>> = self.ready.items.lock().iter().cloned().collect();
        let due = named
            .iter()
            .filter_map(Weak::upgrade)
            .any(|item| item.due() != 0);
        if due {
            PollEvents::IN
        } else {
            PollEvents::empty()
        }
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventpoll]".to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::eventfd::EventFd;
    use super::*;

    fn events_of(epoll: &Epoll, max: usize) -> Vec<u64> {
        let mut seen = Vec::new();
        epoll
            .wait(max, Some(0), &mut |event| seen.push(event.data))
            .unwrap();
        seen
    }

    #[test]
    fn level_triggered_items_take_turns() {
        let epoll = Epoll::new();
        let files: Vec<Arc<OpenFile>> = (0..20)
            .map(|_| OpenFile::new(EventFd::new(1, false), abi::O_RDWR))
            .collect();
        for (i, of) in files.iter().enumerate() {
            epoll.add(i as i32, of, abi::EPOLLIN, i as u64).unwrap();
        }
        assert_eq!(events_of(&epoll, 1), [0]);
        assert_eq!(events_of(&epoll, 100).len(), 20);
        let first: Vec<u64> = (0..12).map(|i| (i + 1) % 20).collect();
        assert_eq!(events_of(&epoll, 12), first);
        // One that became edge-triggered is told once, one that is closed no more.
        let both = abi::EPOLLIN | abi::EPOLLET;
        epoll.modify(5, &files[5], both, 5).unwrap();
        assert!(events_of(&epoll, 100).contains(&5));
        assert!(!events_of(&epoll, 100).contains(&5));
        drop(files);
        assert!(events_of(&epoll, 100).is_empty());
    }

    #[test]
    fn removed_items_do_not_pile_up_on_the_ready_list() {
        let epoll = Epoll::new();
        let of = OpenFile::new(EventFd::new(1, false), abi::O_RDWR);
        for _ in 0..10_000 {
            epoll.add(3, &of, abi::EPOLLIN, 0).unwrap();
            epoll.remove(3, &of).unwrap();
        }
        let items = epoll.ready.items.lock();
        assert!(items.len() < 40 && items.capacity() < 200);
    }
}
