//! eventfd (man 2 eventfd): a 64-bit counter to wait on.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;

use super::anon::AnonInode;
use super::{File, OpenFile, PollEvents, PollTable};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::WaitQueue;
use crate::vm::{IoDest, IoSource};

/// A counter; see the module.
pub struct EventFd {
    /// Sequentially consistent: who changes it looks for waiters after it, who waits looks at it
    /// after registering.
    count: AtomicU64,
    semaphore: bool,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
    inode: AnonInode,
}

/// The counter never reaches this value (man 2 eventfd).
const CEILING: u64 = u64::MAX;

impl EventFd {
    /// A counter of `initial`; with `semaphore` each read takes 1.
    pub fn new(initial: u32, semaphore: bool) -> Arc<EventFd> {
        Arc::new(EventFd {
            count: AtomicU64::new(u64::from(initial)),
            semaphore,
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            inode: AnonInode::new(0o600),
        })
    }

    fn try_take(&self) -> Option<u64> {
        let taken = |count: u64| if self.semaphore { 1 } else { count };
        let take = |count: u64| count.checked_sub(taken(count)).filter(|_| count != 0);
        self.count
            .fetch_update(SeqCst, SeqCst, take)
            .map(taken)
            .ok()
    }

    fn try_add(&self, n: u64) -> Option<()> {
        let add = |count: u64| count.checked_add(n).filter(|&sum| sum < CEILING);
        self.count.fetch_update(SeqCst, SeqCst, add).map(drop).ok()
    }
}

impl File for EventFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = match self.try_take() {
            Some(value) => value,
            None if of.nonblocking() => return Err(Errno::EAGAIN),
            None => self
                .readable
                .wait_interruptible(None, || self.try_take())
                .map_err(|_| Errno::ERESTARTSYS)?,
        };
        self.writable.wake_all();
        dst.put(&value.to_ne_bytes())
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        if src.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        src.get(&mut bytes)?;
        let n = u64::from_ne_bytes(bytes);
        if n == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.try_add(n) {
            Some(()) => {}
            None if of.nonblocking() => return Err(Errno::EAGAIN),
            None => self
                .writable
                .wait_interruptible(None, || self.try_add(n))
                .map_err(|_| Errno::ERESTARTSYS)?,
        }
        self.readable.wake_all();
        Ok(8)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.readable);
            table.register_writers(&self.writable);
        }
        let count = self.count.load(SeqCst);
        let mut events = PollEvents::empty();
        if count > 0 {
            events |= PollEvents::IN;
        }
        if count < CEILING - 1 {
            events |= PollEvents::OUT;
        }
        events
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventfd]".to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_take_all_or_one() {
        let all = EventFd::new(0, false);
        assert_eq!(all.try_take(), None);
        assert_eq!(all.try_add(3), Some(()));
        assert_eq!(all.try_add(0), Some(()));
        assert_eq!((all.try_take(), all.try_take()), (Some(3), None));
        let one = EventFd::new(2, true);
        assert_eq!(
            [one.try_take(), one.try_take(), one.try_take()],
            [Some(1), Some(1), None]
        );
        // The counter stops below its ceiling.
        assert_eq!(one.try_add(CEILING), None);
        assert_eq!(one.try_add(CEILING - 1), Some(()));
        assert_eq!(one.try_add(1), None);
        assert_eq!(one.try_take(), Some(1));
        assert_eq!(one.try_add(1), Some(()));
    }

    #[test]
    fn nothing_is_lost_between_writers_and_readers() {
        const EACH: u64 = 2000;
        let counter = EventFd::new(0, false);
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| (0..EACH).for_each(|_| counter.try_add(1).unwrap()));
            }
            let taken = s.spawn(|| {
                let mut sum = 0;
                while sum < 2 * EACH {
                    sum += counter.try_take().unwrap_or(0);
                    std::thread::yield_now();
                }
                sum
            });
            assert_eq!(taken.join().unwrap(), 2 * EACH);
        });
        assert_eq!(counter.try_take(), None);
    }
}
