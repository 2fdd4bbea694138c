//! Readiness: what `poll`, `select` and `epoll` ask of a file.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, Ordering};

use super::OpenFile;
use crate::abi;
use crate::sched::{WaitError, WaitQueue, Wake, Woken};

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
    wanted: PollEvents,
    side: Side,
    queues: Vec<Watched>,
}

/// A queue that is watched, for as long as it takes.
enum Watched {
    Shared(Arc<WaitQueue>),
    Static(&'static WaitQueue),
}

impl Deref for Watched {
    type Target = WaitQueue;
    fn deref(&self) -> &WaitQueue {
        match self {
            Self::Shared(queue) => queue,
            Self::Static(queue) => queue,
        }
    }
}

/// Which of a file's queues are watched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Those that the wanted events need.
    AsWanted,
    /// Only those that tell of input.
    Input,
    /// Only those that tell of room.
    Room,
}

impl PollTable {
    /// A table whose queues will wake `waker`, for files of which `wanted` is asked.
    pub fn new(waker: Arc<dyn Wake>, wanted: PollEvents) -> Self {
        Self {
            waker,
            wanted,
            side: Side::AsWanted,
            queues: Vec::new(),
        }
    }
    /// As [`PollTable::new`], for what tells of input alone.
    pub fn for_input(waker: Arc<dyn Wake>) -> Self {
        let mut table = Self::new(waker, PollEvents::IN);
        table.side = Side::Input;
        table
    }
    /// As [`PollTable::new`], for what tells of room alone.
    pub fn for_room(waker: Arc<dyn Wake>) -> Self {
        let mut table = Self::new(waker, PollEvents::OUT);
        table.side = Side::Room;
        table
    }
    /// Watches `queue`. A file calls this from [`super::File::poll`] before it looks at its
    /// state, so that no change is lost.
    pub fn register(&mut self, queue: &Arc<WaitQueue>) {
        if self.side != Side::Room {
            self.watch(Watched::Shared(queue.clone()));
        }
    }
    /// As [`PollTable::register`], for a queue that is always there.
    pub fn register_static(&mut self, queue: &'static WaitQueue) {
        if self.side != Side::Room {
            self.watch(Watched::Static(queue));
        }
    }
    /// As [`PollTable::register`], for a queue that is woken when there is room to write. Who
    /// only waits to read is not bothered by it: the file wakes readers of hang-ups and errors.
    pub fn register_writers(&mut self, queue: &Arc<WaitQueue>) {
        if wants_room(self.wanted) {
            self.watch(Watched::Shared(queue.clone()));
        }
    }
    /// As [`PollTable::register_writers`], for a queue that alone hears of hang-ups and errors.
    pub fn register_writing_end(&mut self, queue: &Arc<WaitQueue>) {
        if self.side != Side::Input {
            self.watch(Watched::Shared(queue.clone()));
        }
    }
    fn watch(&mut self, queue: Watched) {
        queue.observe(self.key(), self.waker.clone());
        self.queues.push(queue);
    }
    /// Whether the registrations serve a wait for `wanted` as well.
    pub fn watches(&self, wanted: PollEvents) -> bool {
        wants_room(self.wanted) || !wants_room(wanted)
    }
    fn key(&self) -> usize {
        Arc::as_ptr(&self.waker).cast::<()>().addr()
    }
}

/// Whether a wait for `wanted` watches for room to write.
fn wants_room(wanted: PollEvents) -> bool {
    let reads = PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP | PollEvents::PRI;
    let writes = PollEvents::OUT | PollEvents::WRNORM;
    wanted.intersects(writes) || !wanted.intersects(reads)
}

impl Drop for PollTable {
    fn drop(&mut self) {
        let key = self.key();
        for queue in &self.queues {
            queue.unobserve(key);
        }
    }
}

/// A thread in `poll` or `select`: woken once any of the queues it watches is.
pub struct PollWaiter {
    woken: AtomicBool,
    queue: WaitQueue,
}

impl PollWaiter {
    /// A waiter that nothing has woken yet.
    pub fn new() -> Arc<PollWaiter> {
        Arc::new(PollWaiter {
            woken: AtomicBool::new(false),
            queue: WaitQueue::new(),
        })
    }

    /// Sleeps until a watched queue was woken since the last call, or until `deadline`.
    pub fn wait(&self, deadline: Option<u64>) -> Result<(), WaitError> {
        self.queue.wait_interruptible(deadline, || {
            self.woken.swap(false, Ordering::SeqCst).then_some(())
        })
    }
}

impl Wake for PollWaiter {
    fn wake(&self) -> Woken {
        self.woken.store(true, Ordering::SeqCst);
        self.queue.wake_all();
        Woken::Observed
    }
}

/// One entry of a poll call: a description (or a bad descriptor), the events asked for, and
/// what was found.
pub struct PollEntry {
    /// `None` for a descriptor that is not open (POLLNVAL).
    pub of: Option<Arc<OpenFile>>,
    /// Events asked for; ERR and HUP are always reported.
    pub wanted: PollEvents,
    /// Events found.
    pub found: PollEvents,
    /// Left out: a negative descriptor.
    pub ignored: bool,
}

fn scan(entries: &mut [PollEntry], mut table: Option<&mut PollTable>) -> usize {
    let mut nr_ready = 0;
    for entry in entries.iter_mut().filter(|e| !e.ignored) {
        entry.found = match &entry.of {
            None => PollEvents::NVAL,
            Some(of) => {
                let always = PollEvents::ERR | PollEvents::HUP;
                if let Some(table) = table.as_deref_mut() {
                    table.wanted = entry.wanted;
                }
                of.file.poll(of, table.as_deref_mut()) & (entry.wanted | always)
            }
        };
        if !entry.found.is_empty() {
            nr_ready += 1;
            // Something is ready: the call will not sleep, so further queues need no watching.
            table = None;
        }
    }
    nr_ready
}

/// man 2 poll: fills `found` in; returns how many entries have events. Waits until `deadline`
/// (monotonic ns; `None` for ever, `Some(0)` not at all).
pub fn poll_files(entries: &mut [PollEntry], deadline: Option<u64>) -> Result<usize, WaitError> {
    if deadline == Some(0) {
        return Ok(scan(entries, None));
    }
    let waiter = PollWaiter::new();
    let mut table = PollTable::new(waiter.clone(), PollEvents::empty());
    let mut nr_ready = scan(entries, Some(&mut table));
    while nr_ready == 0 {
        match waiter.wait(deadline) {
            Ok(()) => nr_ready = scan(entries, None),
            Err(WaitError::TimedOut) => return Ok(scan(entries, None)),
            Err(WaitError::Interrupted) => return Err(WaitError::Interrupted),
        }
    }
    Ok(nr_ready)
}
