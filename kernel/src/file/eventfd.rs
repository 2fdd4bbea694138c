//! eventfd (man 2 eventfd): a 64-bit counter to wait on.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::anon::AnonInode;
use super::{File, OpenFile, PollEvents, PollTable};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::WaitQueue;
use crate::sync::{IrqLock, Rank};
use crate::vm::{IoDest, IoSource};

/// A counter; see the module.
pub struct EventFd {
    count: IrqLock<u64>,
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
            count: IrqLock::new(Rank::Object, u64::from(initial)),
            semaphore,
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            inode: AnonInode::new(0o600),
        })
    }

    fn try_take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        let taken = match *count {
            0 => return None,
            _ if self.semaphore => 1,
            all => all,
        };
        *count -= taken;
        Some(taken)
    }

    fn try_add(&self, n: u64) -> Option<()> {
        let mut count = self.count.lock();
        let sum = count.checked_add(n).filter(|&sum| sum < CEILING)?;
        *count = sum;
        Some(())
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
        let count = *self.count.lock();
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
