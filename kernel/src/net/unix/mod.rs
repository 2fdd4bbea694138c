//! Unix sockets (man 7 unix): stream, datagram and seqpacket, pairs and named ones.
//!
//! An [`Endpoint`] is a socket as others reach it: by its name ([`address`]) or as the peer
//! of a connection. Sending adds to the peer's [`inbox`]; [`passing`] counts the files in it.
//! A [`UnixSocket`] is the file that owns an endpoint; closing it closes the endpoint;
//! [`known`] lists them.
//!
//! # Locks
//!
//! `Endpoint::setup` (sleeps: bind, listen and connect of one socket take turns) >
//! an inbox's mutex (sleeps) > `Endpoint::link` (spins, never two at once). Endpoints and
//! files are dropped with none of them held but `setup`.

mod address;
mod callers;
mod endpoint;
mod file;
mod garbage;
mod inbox;
pub mod known;
mod options;
mod passing;
mod transfer;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use super::{MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::abi;
use crate::abi::net::SOL_SOCKET;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile};
use crate::vfs::Caller;
use crate::vm::{IoDest, IoSource};
use address::Address;
pub use callers::{Callers, Identity, set_callers};
use callers::{connector, identity, sender};
use endpoint::{Endpoint, Link, SHUT_READ, SHUT_WRITE};
use inbox::{How, Sender};
use transfer::{Baggage, deadline, launch, wait_error};

/// A stream's message is at most this long, so that a large send needs no large buffer.
const STREAM_CHUNK: usize = 32 * 1024;
/// Most connections that wait to be accepted (net.core.somaxconn).
const BACKLOG_MAX: usize = 4096;
/// SCM_CREDENTIALS.
const SCM_CREDENTIALS: u32 = 2;
/// AF_UNIX (man 2 socket).
pub const AF_UNIX: u32 = 1;

/// What a socket keeps of message boundaries (man 2 socket, SOCK_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// SOCK_STREAM: none.
    Stream = 1,
    /// SOCK_DGRAM: each send is a message.
    Datagram = 2,
    /// SOCK_SEQPACKET: as datagrams, with an end.
    Seqpacket = 5,
}

/// A unix socket's file.
pub struct UnixSocket {
    end: Arc<Endpoint>,
    inode: AnonInode,
}

/// man 2 socket, for AF_UNIX. ESOCKTNOSUPPORT, EPROTONOSUPPORT.
pub fn create(kind: u32, protocol: u32) -> Result<Arc<UnixSocket>> {
    if protocol > 1 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match kind {
        1 => Kind::Stream,
        // Raw unix sockets are datagram ones, as on Linux.
        2 | 3 => Kind::Datagram,
        5 => Kind::Seqpacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    garbage::tidy();
    Ok(UnixSocket::of(Endpoint::new(kind)))
}

/// man 2 socketpair: two connected ends. `credentials` are those of the caller.
pub fn pair(kind: Kind, credentials: Sender) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
    garbage::tidy();
    let (a, b) = (Endpoint::new(kind), Endpoint::new(kind));
    a.set_link(Link::Peer(b.clone()));
    b.set_link(Link::Peer(a.clone()));
    for end in [&a, &b] {
        *end.peer_credentials.lock() = Some(credentials);
    }
    (UnixSocket::of(a), UnixSocket::of(b))
}

impl UnixSocket {
    fn of(end: Arc<Endpoint>) -> Arc<UnixSocket> {
        let socket = Arc::new(UnixSocket {
            end,
            inode: AnonInode::new(abi::S_IFSOCK | 0o777),
        });
        known::add(&socket);
        socket
    }
}

impl Socket for UnixSocket {
    fn family_type_protocol(&self) -> (u32, u32, u32) {
        (AF_UNIX, self.end.kind as u32, 0)
    }

    fn bind(&self, address: &[u8]) -> Result<()> {
        let end = &self.end;
        let address = address::parse(address)?;
        let _alone = end.setup.lock();
        if end.name().is_some() {
            // Binding a named socket to no name in particular changes nothing.
            return match address {
                Address::Unnamed => Ok(()),
                _ => Err(Errno::EINVAL),
            };
        }
        let name = match address {
            Address::Unnamed => self.autobind()?,
            Address::Abstract(name) => address::bind_abstract(end, name)?,
            Address::Path(path) => {
                let me = identity().ok_or(Errno::EINVAL)?;
                address::bind_path(end, &Caller::new(&me.fs, &me.cred), path)?
            }
        };
        end.set_name(name);
        Ok(())
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        let end = &self.end;
        if end.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let _alone = end.setup.lock();
        if end.name().is_none() {
            return Err(Errno::EINVAL);
        }
        // Negative: as many as can be (man 2 listen, Linux).
        let most = usize::try_from(backlog).map_or(BACKLOG_MAX, |n| n.min(BACKLOG_MAX));
        match &mut *end.link.lock() {
            Link::Peer(_) => return Err(Errno::EINVAL),
            Link::Listening { backlog, .. } => *backlog = most,
            link @ Link::Idle => {
                *link = Link::Listening {
                    backlog: most,
                    pending: VecDeque::new(),
                };
            }
        }
        *end.peer_credentials.lock() = Some(connector());
        // A larger backlog has room for who waits.
        end.room.wake_all();
        Ok(())
    }

    fn connect(&self, of: &OpenFile, address: &[u8]) -> Result<()> {
        let end = &self.end;
        if end.kind == Kind::Datagram {
            return self.connect_datagram(address);
        }
        let _alone = end.setup.lock();
        match address::parse(address)? {
            Address::Unnamed => return Err(Errno::EINVAL),
            Address::Path(_) | Address::Abstract(_) => {}
        }
        if end.pass_credentials.load(SeqCst) && end.name().is_none() {
            end.set_name(self.autobind()?);
        }
        let until = deadline(end.send_timeout.load(SeqCst));
        loop {
            match &*end.link.lock() {
                Link::Idle => {}
                Link::Peer(_) => return Err(Errno::EISCONN),
                Link::Listening { .. } => return Err(Errno::EINVAL),
            }
            let listener = self.find(address)?;
            if self.enqueue(&listener)? {
                return Ok(());
            }
            if of.nonblocking() {
                return Err(Errno::EAGAIN);
            }
            listener
                .room
                .wait_interruptible(until, || (listener.is_full() != Some(true)).then_some(()))
                .map_err(|e| wait_error(e, until.is_some()))?;
        }
    }

    fn accept(&self, of: &OpenFile) -> Result<(Arc<dyn File>, Vec<u8>)> {
        let end = &self.end;
        if end.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let until = deadline(end.receive_timeout.load(SeqCst));
        loop {
            let next = match &mut *end.link.lock() {
                Link::Listening { pending, .. } => pending.pop_front(),
                _ => return Err(Errno::EINVAL),
            };
            if let Some(server) = next {
                end.room.wake_all();
                let peer = server.peer().map_or_else(address::unnamed, |p| p.address());
                return Ok((UnixSocket::of(server), peer));
            }
            if end.is_shut(SHUT_READ) {
                return Err(Errno::EINVAL);
            }
            if of.nonblocking() {
                return Err(Errno::EAGAIN);
            }
            end.readable
                .wait_interruptible(until, || {
                    (end.has_pending() || end.is_shut(SHUT_READ)).then_some(())
                })
                .map_err(|e| wait_error(e, until.is_some()))?;
        }
    }

    fn send(
        &self,
        _of: &OpenFile,
        src: &mut IoSource<'_>,
        flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        let end = &self.end;
        if end.kind == Kind::Datagram {
            self.autobind_if_told()?;
        }
        let target = self.destination(with.address)?;
        self.check_open(&target)?;
        let mut baggage = Baggage {
            files: launch(with.files)?,
            sender: with.credentials.unwrap_or_else(sender),
            from: match end.kind {
                Kind::Datagram => end.name(),
                _ => None,
            },
        };
        if end.kind != Kind::Stream {
            let len = src.remaining();
            if len + inbox::MESSAGE_COST > end.send_limit.load(SeqCst) {
                return Err(Errno::EMSGSIZE);
            }
            self.put(&target, src, len, flags.nonblocking, &mut baggage)?;
            return Ok(len);
        }
        let mut sent = 0;
        while src.remaining() > 0 {
            let len = src.remaining().min(STREAM_CHUNK);
            match self.put(&target, src, len, flags.nonblocking, &mut baggage) {
                Ok(n) => sent += n,
                Err(_) if sent > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }

    fn receive(&self, _of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        let end = &self.end;
        match (end.kind, &*end.link.lock()) {
            (Kind::Datagram, _) | (_, Link::Peer(_)) => {}
            (Kind::Stream, _) => return Err(Errno::EINVAL),
            (Kind::Seqpacket, _) => return Err(Errno::ENOTCONN),
        }
        let mut total = Received::default();
        if end.kind == Kind::Stream && dst.remaining() == 0 {
            return Ok(total);
        }
        let by_sender = end.pass_credentials.load(SeqCst);
        let how = How {
            peek: flags.peek,
            by_sender,
        };
        let until = deadline(end.receive_timeout.load(SeqCst));
        loop {
            // Looked at before the messages: what was sent before the end is not missed.
            let over = end.is_shut(SHUT_READ);
            if let Some(taken) = end.inbox.take(end.kind, dst, how)? {
                if taken.freed {
                    end.room.wake_all();
                    if let Some(peer) = end.peer() {
                        peer.sendable.wake_all();
                    }
                }
                total.len += taken.len;
                total.full_len += taken.full_len;
                total.files = taken.files;
                if let (true, Some((pid, uid, gid)), true) =
                    (by_sender, taken.sender, total.control.is_empty())
                {
                    let words = [pid as u32, uid, gid];
                    let bytes = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
                    total.control.push((SOL_SOCKET, SCM_CREDENTIALS, bytes));
                }
                total.address = taken.from.map_or_else(Vec::new, |name| name.bytes.clone());
                let fill = flags.wait_all && !flags.peek && end.kind == Kind::Stream;
                // With senders told apart, the next read begins with another's bytes.
                if !fill || taken.ends || by_sender || dst.remaining() == 0 {
                    return Ok(total);
                }
            }
            if total.len == 0 {
                end.take_error()?;
            }
            if over {
                return Ok(total);
            }
            if flags.nonblocking {
                return if total.len > 0 {
                    Ok(total)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            let waited = end.readable.wait_interruptible(until, || {
                (end.inbox.has_any() || end.is_shut(SHUT_READ)).then_some(())
            });
            if let Err(e) = waited {
                return if total.len > 0 {
                    Ok(total)
                } else {
                    Err(wait_error(e, until.is_some()))
                };
            }
        }
    }

    fn shut_down(&self, how: Shutdown) -> Result<()> {
        let (mine, theirs) = match how {
            Shutdown::Read => (SHUT_READ, SHUT_WRITE),
            Shutdown::Write => (SHUT_WRITE, SHUT_READ),
            Shutdown::Both => (SHUT_READ | SHUT_WRITE, SHUT_READ | SHUT_WRITE),
        };
        self.end.shut(mine);
        if self.end.kind != Kind::Datagram
            && let Some(peer) = self.end.peer()
        {
            peer.shut(theirs);
        }
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(self.end.address())
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        Ok(self.end.peer().ok_or(Errno::ENOTCONN)?.address())
    }

    fn option(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        options::get(&self.end, level, option)
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        options::set(&self.end, level, option, value)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        known::remove(self);
        self.end.close();
    }
}

#[cfg(test)]
mod tests;
