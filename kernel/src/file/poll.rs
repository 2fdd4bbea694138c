//! Readiness: what `poll`, `select` and `epoll` ask of a file.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi;
use crate::sched::{WaitQueue, Wake};

bitflags::bitflags! {
    /// Events of man 2 poll and man 2 epoll_ctl (same bit values).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PollEvents: u32 {
        /// Reading does not block.
        const IN = abi::POLLIN;
        /// Exceptional condition (TCP urgent data).
        const PRI = abi::POLLPRI;
        /// Writing does not block.
        const OUT = abi::POLLOUT;
        /// Error; always reported.
        const ERR = abi::POLLERR;
        /// Hang-up; always reported.
        const HUP = abi::POLLHUP;
        /// Not an open descriptor; poll only.
        const NVAL = abi::POLLNVAL;
        /// As IN.
        const RDNORM = abi::POLLRDNORM;
        /// As OUT.
        const WRNORM = abi::POLLWRNORM;
        /// The peer shut down its writing half.
        const RDHUP = abi::POLLRDHUP;
    }
}

/// Collects the wait queues that a poll call looks at; removes the observer from all of them
/// when dropped.
pub struct PollTable {
    waker: Arc<dyn Wake>,
    queues: Vec<Arc<WaitQueue>>,
}

impl PollTable {
    /// A table whose queues will wake `waker`.
    pub fn new(waker: Arc<dyn Wake>) -> Self {
        Self {
            waker,
            queues: Vec::new(),
        }
    }
    /// Watches `queue`. A file calls this from [`super::File::poll`] before it looks at its
    /// state, so that no change is lost.
    pub fn register(&mut self, queue: &Arc<WaitQueue>) {
        queue.observe(self.key(), self.waker.clone());
        self.queues.push(queue.clone());
    }
    fn key(&self) -> usize {
        Arc::as_ptr(&self.waker).cast::<()>().addr()
    }
}

impl Drop for PollTable {
    fn drop(&mut self) {
        let key = self.key();
        for queue in &self.queues {
            queue.unobserve(key);
        }
    }
}
