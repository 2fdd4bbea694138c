//! Signal-driven input and output (man 2 fcntl, O_ASYNC): an owner hears when a description
//! becomes ready.
//!
//! Here: what a description remembers of it, and the way from a wait queue's wake-up to the owner.
//! A wake-up comes under the queue's lock and maybe in an interrupt handler, where no signal may be
//! sent; so it only puts a [`Notifier`] on a list, and a kernel thread, without locks, looks at the
//! file and tells the [`Owner`]. Wake-ups that come before that look are one: who is told reads
//! until nothing is left. Who owners are and what they are sent is `process::sigio`'s business;
//! the system calls say which files can do it.
//!
//! A change may be told once more than Linux does (a TCP socket with unread data, when a segment
//! of its own is acknowledged), and splice(2) does not note that it found no room.
//!
//! # Locks, outermost first
//!
//! | lock | guards |
//! | --- | --- |
//! | `AsyncIo::watch` (sleeps) | whether the file's queues are watched |
//! | `REGISTERING` (sleeps) | that the list has room for every notifier there is; the thread's start |
//! | `NEWS` (`Poll`) | the notifiers that were woken |
//! | `AsyncIo::settings`, `OpenFile::async_io` (`Leaf`) | owner, signal, descriptor |

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{OpenFile, PollEvents, PollTable};
use crate::abi;
use crate::error::{Errno, Result};
use crate::sched::{self, Mutex, WaitQueue, Wake, Woken};
use crate::sync::{IrqLock, Rank, SpinLock};

/// What became of a description (man 2 sigaction, `si_code` of SIGIO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is something to read.
    In,
    /// There is room to write.
    Out,
    /// Its error was set.
    Err,
    /// The other end is gone.
    Hup,
}

/// Who is told. Called in thread context without locks.
pub trait Owner: Send + Sync + Any {
    /// Sends `signal` (0: a bare SIGIO) about descriptor `fd`.
    fn tell(&self, signal: u32, fd: i32, reason: Reason);
    /// For who set it.
    fn as_any(&self) -> &dyn Any;
}

/// Of which changes a file's owner hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Input, the end of it, and whatever is read from the other end.
    Pipe,
    /// Input, errors and the end; room once a program found none.
    Socket,
    /// Input; room once a program found none.
    Terminal,
    /// Input.
    Events,
}

#[derive(Clone, Default)]
struct Settings {
    owner: Option<Arc<dyn Owner>>,
    signal: u32,
    /// Through which O_ASYNC was set.
    fd: i32,
}

/// The registrations with a file's wait queues; dropping it ends them.
struct Watch {
    kind: Kind,
    _input: PollTable,
    _room: PollTable,
    /// Told again when a program finds no room.
    room: Arc<Notifier>,
}

/// What a description remembers.
pub struct AsyncIo {
    of: Weak<OpenFile>,
    settings: SpinLock<Settings>,
    watch: Mutex<Option<Watch>>,
    /// A program found no room since the owner was told of some.
    lacks_room: AtomicBool,
    /// The owner was told of the end.
    told_end: AtomicBool,
}

/// One side of a watched description.
struct Notifier {
    me: Weak<Notifier>,
    io: Weak<AsyncIo>,
    kind: Kind,
    is_room: bool,
    /// On the list.
    queued: AtomicBool,
}

struct News {
    woken: VecDeque<Arc<Notifier>>,
    /// Notifiers there are: the list has room for as many, so that a wake-up never allocates.
    live: usize,
}

static NEWS: IrqLock<News> = IrqLock::new(
    Rank::Poll,
    News {
        woken: VecDeque::new(),
        live: 0,
    },
);
/// Where the thread waits for news.
static WORK: WaitQueue = WaitQueue::new();
/// Whether the thread runs.
static REGISTERING: Mutex<bool> = Mutex::new(false);

impl Notifier {
    /// ENOMEM.
    fn new(io: &Arc<AsyncIo>, kind: Kind, is_room: bool) -> Result<Arc<Notifier>> {
        let mut runs = REGISTERING.lock();
        if !*runs {
            sched::spawn_kernel("sigio", tell_for_ever)?;
            *runs = true;
        }
        let (live, capacity) = {
            let news = NEWS.lock();
            (news.live, news.woken.capacity())
        };
        // Only here the number rises.
        if live >= capacity {
            let mut roomier = VecDeque::new();
            roomier
                .try_reserve(2 * live + 16)
                .map_err(|_| Errno::ENOMEM)?;
            let mut news = NEWS.lock();
            roomier.extend(news.woken.drain(..));
            core::mem::swap(&mut news.woken, &mut roomier);
            // The small one is freed after the lock.
            drop(news);
        }
        NEWS.lock().live += 1;
        Ok(Arc::new_cyclic(|me| Notifier {
            me: me.clone(),
            io: Arc::downgrade(io),
            kind,
            is_room,
            queued: AtomicBool::new(false),
        }))
    }

    fn enqueue(&self) {
        {
            let mut news = NEWS.lock();
            if self.queued.swap(true, SeqCst) {
                return;
            }
            let Some(me) = self.me.upgrade() else {
                return;
            };
            news.woken.push_back(me);
        }
        WORK.wake_one();
    }

    /// Tells the owner, if the file is as it waits for.
    fn look(&self) {
        let Some(io) = self.io.upgrade() else {
            return;
        };
        let Some(of) = io.of.upgrade() else {
            return;
        };
        if of.flags() & abi::FASYNC == 0 {
            return;
        }
        let events = of.file.poll(&of, None);
        let reason = match self.is_room {
            true => self.reason_of_room(&io, events),
            false => self.reason_of_input(&io, events),
        };
        let Some(reason) = reason else {
            return;
        };
        let Settings { owner, signal, fd } = io.settings.lock().clone();
        if let Some(owner) = owner {
            owner.tell(signal, fd, reason);
        }
    }

    fn reason_of_room(&self, io: &AsyncIo, events: PollEvents) -> Option<Reason> {
        let has_room = match self.kind {
            Kind::Pipe => events.intersects(PollEvents::OUT | PollEvents::ERR),
            Kind::Socket | Kind::Terminal => {
                events.contains(PollEvents::OUT) && io.lacks_room.swap(false, SeqCst)
            }
            Kind::Events => false,
        };
        has_room.then_some(Reason::Out)
    }

    fn reason_of_input(&self, io: &AsyncIo, events: PollEvents) -> Option<Reason> {
        let (has_input, ended) = (
            events.contains(PollEvents::IN),
            events.contains(PollEvents::HUP),
        );
        match self.kind {
            Kind::Pipe => (has_input || ended).then_some(Reason::In),
            // One that was hung up has nothing to tell any more.
            Kind::Terminal => {
                (has_input && !events.contains(PollEvents::ERR)).then_some(Reason::In)
            }
            Kind::Events => has_input.then_some(Reason::In),
            Kind::Socket if ended => {
                let reason = match events.contains(PollEvents::ERR) {
                    true => Reason::Err,
                    false => Reason::Hup,
                };
                (!io.told_end.swap(true, SeqCst)).then_some(reason)
            }
            Kind::Socket => {
                io.told_end.store(false, SeqCst);
                match events.contains(PollEvents::ERR) {
                    true => Some(Reason::Err),
                    false => has_input.then_some(Reason::In),
                }
            }
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        NEWS.lock().live -= 1;
    }
}

impl Wake for Notifier {
    fn wake(&self) -> Woken {
        self.enqueue();
        Woken::Observed
    }
}

/// The thread.
fn tell_for_ever() {
    loop {
        let notifier = WORK.wait_until(|| NEWS.lock().woken.pop_front());
        // From here on a wake-up queues it anew: nothing is lost.
        notifier.queued.store(false, SeqCst);
        notifier.look();
    }
}

/// What `of` remembers, if a program asked for something.
fn known(of: &OpenFile) -> Option<Arc<AsyncIo>> {
    of.async_io.lock().clone()
}

fn of_description(of: &Arc<OpenFile>) -> Arc<AsyncIo> {
    if let Some(io) = known(of) {
        return io;
    }
    let fresh = Arc::new(AsyncIo {
        of: Arc::downgrade(of),
        settings: SpinLock::new(Rank::Leaf, Settings::default()),
        watch: Mutex::new(None),
        lacks_room: AtomicBool::new(false),
        told_end: AtomicBool::new(false),
    });
    let mut place = of.async_io.lock();
    if let Some(io) = &*place {
        // Somebody was faster. What is not needed is freed after the lock.
        let io = io.clone();
        drop(place);
        return io;
    }
    *place = Some(fresh.clone());
    fresh
}

/// Who is told of `of`.
pub fn owner(of: &OpenFile) -> Option<Arc<dyn Owner>> {
    known(of)?.settings.lock().owner.clone()
}

/// Makes `owner` the one who is told (F_SETOWN).
pub fn set_owner(of: &Arc<OpenFile>, owner: Option<Arc<dyn Owner>>) {
    let io = of_description(of);
    let old = core::mem::replace(&mut io.settings.lock().owner, owner);
    drop(old);
}

/// The signal that is sent, 0 for a bare SIGIO.
pub fn signal(of: &OpenFile) -> u32 {
    known(of).map_or(0, |io| io.settings.lock().signal)
}

/// Sets the signal that is sent (F_SETSIG).
pub fn set_signal(of: &Arc<OpenFile>, signal: u32) {
    of_description(of).settings.lock().signal = signal;
}

/// O_ASYNC is set through descriptor `fd`, for changes as `kind` has them. ENOMEM.
pub fn start(of: &Arc<OpenFile>, fd: i32, kind: Kind) -> Result<()> {
    let io = of_description(of);
    let mut watch = io.watch.lock();
    if watch.is_none() {
        let input = Notifier::new(&io, kind, false)?;
        let room = Notifier::new(&io, kind, true)?;
        io.settings.lock().fd = fd;
        let mut of_input = PollTable::for_input(input);
        let mut of_room = PollTable::for_room(room.clone());
        let _ = of.file.poll(of, Some(&mut of_input));
        let _ = of.file.poll(of, Some(&mut of_room));
        *watch = Some(Watch {
            kind,
            _input: of_input,
            _room: of_room,
            room,
        });
    }
    of.set_flags(abi::FASYNC, abi::FASYNC);
    Ok(())
}

/// O_ASYNC is cleared.
pub fn stop(of: &OpenFile) {
    if let Some(io) = known(of) {
        let mut watch = io.watch.lock();
        of.set_flags(abi::FASYNC, 0);
        let gone = watch.take();
        drop(gone);
    } else {
        of.set_flags(abi::FASYNC, 0);
    }
}

/// A program that would not wait found no room, or too little: its owner hears of the next.
pub fn lacks_room(of: &OpenFile) {
    if of.flags() & abi::FASYNC == 0 {
        return;
    }
    let Some(io) = known(of) else {
        return;
    };
    let watch = io.watch.lock();
    if let Some(watch) = watch.as_ref()
        && watch.kind != Kind::Pipe
    {
        io.lacks_room.store(true, SeqCst);
        // There may be room again since.
        watch.room.enqueue();
    }
}
