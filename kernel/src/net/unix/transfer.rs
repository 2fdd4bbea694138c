//! Steps of sending and connecting: where a message goes, how it gets into the peer's inbox,
//! how a connection gets into a listener's queue.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use super::address::{self, Name, Registration};
use super::callers::{connector, identity};
use super::endpoint::{CLOSED, Endpoint, Link, SHUT_READ, SHUT_WRITE};
use super::garbage;
use super::inbox::{Message, Sender};
use super::passing::{self, Passed};
use super::{Kind, UnixSocket};
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::PAGE_SIZE;
use crate::sched::WaitError;
use crate::security::capability::{CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use crate::time::now_ns;
use crate::vfs::Caller;
use crate::vm::IoSource;

/// When a wait with timeout `ns` (0: none) ends.
pub(super) fn deadline(ns: u64) -> Option<u64> {
    (ns > 0).then(|| now_ns().saturating_add(ns))
}

pub(super) fn wait_error(e: WaitError, has_timeout: bool) -> Errno {
    match e {
        WaitError::TimedOut => Errno::EAGAIN,
        // man 7 signal: with a timeout a call is not restarted.
        WaitError::Interrupted if has_timeout => Errno::EINTR,
        WaitError::Interrupted => Errno::ERESTARTSYS,
    }
}

/// Sends files on their way, as many as the caller may have there.
pub(super) fn launch(files: Vec<Arc<OpenFile>>) -> Result<Option<Passed>> {
    if files.is_empty() {
        return Ok(None);
    }
    match identity() {
        Some(me) => {
            let cred = &me.cred;
            let any = cred.capable(CAP_SYS_RESOURCE) || cred.capable(CAP_SYS_ADMIN);
            let limit = (!any).then_some(me.max_files);
            if limit.is_some_and(|most| passing::nr_in_flight(cred.uid) > most) {
                // They may be such that nobody can receive.
                garbage::collect();
            }
            Passed::new(files, cred.uid, limit)
        }
        None => Passed::new(files, 0, None),
    }
}

/// What goes along with a send.
pub(super) struct Baggage {
    pub(super) files: Option<Passed>,
    pub(super) sender: Sender,
    pub(super) from: Option<Arc<Name>>,
}

impl UnixSocket {
    pub(super) fn find(&self, address: &[u8]) -> Result<Arc<Endpoint>> {
        match identity() {
            Some(me) => {
                let caller = Caller::new(&me.fs, &me.cred);
                address::find(address, self.end.kind, Some(&caller))
            }
            None => address::find(address, self.end.kind, None),
        }
    }

    /// Gives a name to a socket whose messages are to tell where they come from.
    pub(super) fn autobind_if_told(&self) -> Result<()> {
        let end = &self.end;
        if end.pass_credentials.load(SeqCst) && end.name().is_none() {
            let _alone = end.setup.lock();
            if end.name().is_none() {
                end.set_name(self.autobind()?);
            }
        }
        Ok(())
    }

    pub(super) fn autobind(&self) -> Result<(Name, Registration)> {
        address::autobind(&self.end, self.inode.ino as u32)
    }

    /// Whether `target` takes messages from this socket.
    pub(super) fn check_open(&self, target: &Arc<Endpoint>) -> Result<()> {
        let end = &self.end;
        if end.is_shut(SHUT_WRITE) {
            return Err(Errno::EPIPE);
        }
        if end.kind != Kind::Datagram {
            return if target.is_shut(SHUT_READ | CLOSED) {
                Err(Errno::EPIPE)
            } else {
                Ok(())
            };
        }
        if target.is_closed() {
            return Err(Errno::ECONNREFUSED);
        }
        if target.is_shut(SHUT_READ) {
            return Err(Errno::EPIPE);
        }
        Ok(())
    }

    /// Queues a message of the next `len` bytes; of a page of them where a stream's are to go
    /// and memory has no larger blocks. How many it has. ENOBUFS.
    pub(super) fn put(
        &self,
        target: &Arc<Endpoint>,
        src: &mut IoSource<'_>,
        len: usize,
        nonblocking: bool,
        baggage: &mut Baggage,
    ) -> Result<usize> {
        let limit = self.end.send_limit.load(SeqCst);
        let until = deadline(self.end.send_timeout.load(SeqCst));
        let mut bytes = Vec::new();
        let has_block = bytes.try_reserve_exact(len).is_ok();
        let len = match self.end.kind {
            Kind::Stream if !has_block => len.min(PAGE_SIZE),
            _ => len,
        };
        bytes.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(len, 0);
        src.get(&mut bytes)?;
        let mut message = Some(bytes);
        loop {
            let make = || {
                Ok(Message {
                    bytes: message.take().unwrap_or_default(),
                    start: 0,
                    files: baggage.files.take(),
                    sender: baggage.sender,
                    from: baggage.from.clone(),
                })
            };
            let open = || self.check_open(target);
            if target.inbox.put(limit, open, make)? {
                target.readable.wake_all();
                return Ok(len);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            target
                .room
                .wait_interruptible(until, || {
                    let ready = target.inbox.has_room(limit)
                        || target.is_shut(SHUT_READ | CLOSED)
                        || self.end.is_shut(SHUT_WRITE);
                    ready.then_some(())
                })
                .map_err(|e| wait_error(e, until.is_some()))?;
        }
    }

    /// Where a send goes.
    pub(super) fn destination(&self, address: Option<&[u8]>) -> Result<Arc<Endpoint>> {
        let end = &self.end;
        match (end.kind, address) {
            (Kind::Datagram, Some(address)) => {
                let target = self.find(address)?;
                // A connected socket hears from its peer only.
                let stranger = target.peer().is_some_and(|p| !Arc::ptr_eq(&p, end));
                if stranger {
                    return Err(Errno::EPERM);
                }
                Ok(target)
            }
            (Kind::Stream, Some(_)) if end.peer().is_some() => Err(Errno::EISCONN),
            (Kind::Stream, Some(_)) => Err(Errno::EOPNOTSUPP),
            _ => {
                let target = end.peer().ok_or(Errno::ENOTCONN)?;
                if end.kind == Kind::Datagram && end.is_shut(SHUT_WRITE) {
                    return Err(Errno::EPIPE);
                }
                if end.kind == Kind::Datagram && target.is_closed() {
                    // As Linux: the next send finds no destination.
                    end.set_link(Link::Idle);
                    return Err(Errno::ECONNREFUSED);
                }
                Ok(target)
            }
        }
    }

    pub(super) fn connect_datagram(&self, address: &[u8]) -> Result<()> {
        const AF_UNSPEC: u16 = 0;
        if address.first_chunk::<2>() == Some(&AF_UNSPEC.to_ne_bytes()) {
            self.end.set_link(Link::Idle);
            return Ok(());
        }
        self.autobind_if_told()?;
        let target = self.find(address)?;
        let stranger = target.peer().is_some_and(|p| !Arc::ptr_eq(&p, &self.end));
        if stranger {
            return Err(Errno::EPERM);
        }
        self.end.set_link(Link::Peer(target));
        self.end.sendable.wake_all();
        Ok(())
    }

    /// Puts a connection to this socket into the listener's queue. False: it is full.
    pub(super) fn enqueue(&self, listener: &Arc<Endpoint>) -> Result<bool> {
        let server = Endpoint::new(listener.kind);
        server
            .pass_credentials
            .store(listener.pass_credentials.load(SeqCst), SeqCst);
        *server.peer_credentials.lock() = Some(connector());
        let name = listener.name();
        *server.name.lock() = name;
        let theirs = *listener.peer_credentials.lock();
        server.set_link(Link::Peer(self.end.clone()));
        let added = match &mut *listener.link.lock() {
            Link::Listening { backlog, pending } if !listener.is_shut(SHUT_READ) => {
                if pending.len() > *backlog || pending.try_reserve(1).is_err() {
                    Ok(false)
                } else {
                    pending.push_back(server.clone());
                    Ok(true)
                }
            }
            _ => Err(Errno::ECONNREFUSED),
        };
        if !matches!(added, Ok(true)) {
            // It never was anybody's peer.
            server.set_link(Link::Idle);
            return added;
        }
        *self.end.peer_credentials.lock() = theirs;
        self.end.set_link(Link::Peer(server.clone()));
        if server.is_closed() {
            // The listener closed in between.
            self.end.shut(SHUT_READ | SHUT_WRITE);
        }
        listener.readable.wake_all();
        self.end.sendable.wake_all();
        Ok(true)
    }
}
