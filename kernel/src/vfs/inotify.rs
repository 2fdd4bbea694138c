//! The file of man 7 inotify: a queue of events, and the watches that fill it (`notify`).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

use super::caller::Caller;
use super::mount::Path;
use super::notify::{self, mask};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::mm::UserAddr;
use crate::sched::WaitQueue;
use crate::security::cred::MAY_READ;
use crate::sync::{Rank, SpinLock};
use crate::vm::{IoDest, UserPtr};

/// Events that wait to be read, at most (fs.inotify.max_queued_events).
const MAX_EVENTS: usize = 16_384;
/// Bytes of `struct inotify_event` without the name.
const HEADER: usize = 16;

#[derive(PartialEq, Eq)]
struct Event {
    wd: i32,
    what: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    /// Bytes as read: the name with at least one NUL, in multiples of the header.
    fn len(&self) -> usize {
        match self.name.len() {
            0 => HEADER,
            n => HEADER + (n + 1).next_multiple_of(HEADER),
        }
    }
    fn bytes(&self) -> Vec<u8> {
        let len = self.len();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&self.wd.to_ne_bytes());
        out.extend_from_slice(&self.what.to_ne_bytes());
        out.extend_from_slice(&self.cookie.to_ne_bytes());
        out.extend_from_slice(&((len - HEADER) as u32).to_ne_bytes());
        out.extend_from_slice(&self.name);
        out.resize(len, 0);
        out
    }
}

struct State {
    events: VecDeque<Event>,
    next_wd: i32,
}

/// An inotify object.
pub struct Inotify {
    state: SpinLock<State>,
    readable: Arc<WaitQueue>,
    inode: AnonInode,
}

impl Inotify {
    /// One without watches.
    pub fn new() -> Arc<Inotify> {
        Arc::new(Inotify {
            state: SpinLock::new(
                Rank::Object,
                State {
                    events: VecDeque::new(),
                    next_wd: 1,
                },
            ),
            readable: Arc::new(WaitQueue::new()),
            inode: AnonInode::new(0o600),
        })
    }

    /// Watches what is at `path`, or changes what an older watch of it asks for; `flags` are
    /// IN_* of man 2 inotify_add_watch. Returns the watch's number. EINVAL, EEXIST, EACCES,
    /// ENOSPC.
    pub fn watch(self: &Arc<Self>, caller: &Caller<'_>, path: &Path, flags: u32) -> Result<i32> {
        const MASK_CREATE: u32 = 0x1000_0000;
        const MASK_ADD: u32 = 0x2000_0000;
        let wanted = flags & (mask::ALL | mask::ONESHOT | mask::EXCL_UNLINK);
        if flags & mask::ALL == 0 || flags & MASK_ADD != 0 && flags & MASK_CREATE != 0 {
            return Err(Errno::EINVAL);
        }
        caller.check(&path.dentry, MAY_READ)?;
        if let Some(old) = notify::find(self, &path.dentry)? {
            if flags & MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            if flags & MASK_ADD != 0 {
                old.mask.fetch_or(wanted, Ordering::Relaxed);
            } else {
                old.mask.store(wanted, Ordering::Relaxed);
            }
            return Ok(old.wd);
        }
        let wd = {
            let mut state = self.state.lock();
            let wd = state.next_wd;
            state.next_wd = wd.checked_add(1).ok_or(Errno::ENOSPC)?;
            wd
        };
        notify::add(self, path.dentry.clone(), wd, wanted)?;
        Ok(wd)
    }

    /// Ends watch `wd`. EINVAL.
    pub fn unwatch(self: &Arc<Self>, wd: i32) -> Result<()> {
        if !notify::remove(Arc::as_ptr(self), wd) {
            return Err(Errno::EINVAL);
        }
        self.queue(wd, mask::IGNORED, 0, b"");
        Ok(())
    }

    /// Appends an event, unless it says what the last one says.
    pub(super) fn queue(&self, wd: i32, what: u32, cookie: u32, name: &[u8]) {
        let event = Event {
            wd,
            what,
            cookie,
            name: name.to_vec(),
        };
        {
            let mut state = self.state.lock();
            if state.events.back() == Some(&event) {
                return;
            }
            match state.events.len() {
                n if n < MAX_EVENTS => state.events.push_back(event),
                MAX_EVENTS => state.events.push_back(Event {
                    wd: -1,
                    what: mask::Q_OVERFLOW,
                    cookie: 0,
                    name: Vec::new(),
                }),
                _ => return,
            }
        }
        self.readable.wake_all();
    }

    /// The next event, if it has at most `room` bytes; EINVAL if it has more.
    fn next(&self, room: usize) -> Option<Result<Event>> {
        let mut state = self.state.lock();
        match state.events.front()?.len() {
            len if len > room => Some(Err(Errno::EINVAL)),
            _ => state.events.pop_front().map(Ok),
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        notify::remove_all(core::ptr::from_ref(self));
    }
}

impl File for Inotify {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        let mut total = 0;
        loop {
            match self.next(dst.remaining()) {
                Some(Ok(event)) => total += dst.put(&event.bytes())?,
                Some(Err(_)) | None if total > 0 => return Ok(total),
                Some(Err(e)) => return Err(e),
                None if of.nonblocking() => return Err(Errno::EAGAIN),
                None => self
                    .readable
                    .wait_interruptible(None, || {
                        (!self.state.lock().events.is_empty()).then_some(())
                    })
                    .map_err(|_| Errno::ERESTARTSYS)?,
            }
        }
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.readable);
        }
        if self.state.lock().events.is_empty() {
            PollEvents::empty()
        } else {
            PollEvents::IN | PollEvents::RDNORM
        }
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        if cmd != abi::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.state.lock().events.iter().map(Event::len).sum();
        UserPtr::<i32>::new(UserAddr(arg)).write(bytes as i32)?;
        Ok(0)
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:inotify".to_vec()
    }
}
