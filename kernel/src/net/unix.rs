//! Unix sockets (man 7 unix): connected pairs of stream, datagram and seqpacket sockets.
//!
//! Each end owns an inbox; sending appends to the peer's. An inbox's messages are guarded by
//! a sleeping mutex, which may be held across user copies; how much is in it and who left is
//! kept in atomics beside it, so that waiters and `poll` look without the mutex.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::{MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::mm::UserAddr;
use crate::sched::{Mutex, WaitQueue};
use crate::vm::{IoDest, IoSource, UserPtr};

/// Bytes an inbox holds before senders wait (Linux's default SO_SNDBUF).
const INBOX_BYTES: usize = 212_992;
/// A stream's message is at most this long, so that a large send needs no large buffer.
const STREAM_CHUNK: usize = 32 * 1024;
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

struct Message {
    bytes: Vec<u8>,
    /// Bytes before this one were read.
    start: usize,
}

struct Inbox {
    messages: Mutex<VecDeque<Message>>,
    /// Unread bytes, and one per message so that empty datagrams count.
    used: AtomicUsize,
    /// Nothing more will come: the sender closed or shut down its writing half.
    ended: AtomicBool,
    /// Nothing more will be read: the owner closed or shut down its reading half.
    refused: AtomicBool,
    readable: Arc<WaitQueue>,
    /// Senders that wait for room.
    writable: Arc<WaitQueue>,
}

impl Inbox {
    fn new() -> Arc<Inbox> {
        Arc::new(Inbox {
            messages: Mutex::new(VecDeque::new()),
            used: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
        })
    }
    fn has_room_for(&self, len: usize) -> bool {
        let used = self.used.load(SeqCst);
        // One message always fits an empty inbox.
        used == 0 || used + len < INBOX_BYTES
    }
    fn end(&self) {
        self.ended.store(true, SeqCst);
        self.readable.wake_all();
        self.writable.wake_all();
    }
    fn refuse(&self) {
        self.refused.store(true, SeqCst);
        self.readable.wake_all();
        self.writable.wake_all();
    }
}

/// One end of a connected pair.
pub struct UnixSocket {
    kind: Kind,
    inbox: Arc<Inbox>,
    peer: Arc<Inbox>,
    /// Who made the pair: (pid, uid, gid).
    credentials: (i32, u32, u32),
    inode: AnonInode,
}

/// man 2 socketpair: two connected ends. `credentials` are those of the caller.
pub fn pair(kind: Kind, credentials: (i32, u32, u32)) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
    let (a, b) = (Inbox::new(), Inbox::new());
    let end = |inbox: &Arc<Inbox>, peer: &Arc<Inbox>| {
        Arc::new(UnixSocket {
            kind,
            inbox: inbox.clone(),
            peer: peer.clone(),
            credentials,
            inode: AnonInode::new(abi::S_IFSOCK | 0o777),
        })
    };
    (end(&a, &b), end(&b, &a))
}

impl UnixSocket {
    fn send_message(&self, src: &mut IoSource<'_>, len: usize, nonblocking: bool) -> Result<()> {
        let peer = &self.peer;
        let closed = || peer.refused.load(SeqCst) || peer.ended.load(SeqCst);
        let gone = match self.kind {
            Kind::Datagram if !peer.ended.load(SeqCst) => Errno::ECONNREFUSED,
            _ => Errno::EPIPE,
        };
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
        loop {
            if closed() {
                return Err(gone);
            }
            {
                let mut messages = peer.messages.lock();
                if peer.has_room_for(len) {
                    messages.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
                    bytes.resize(len, 0);
                    src.get(&mut bytes)?;
                    messages.push_back(Message { bytes, start: 0 });
                    peer.used.fetch_add(len + 1, SeqCst);
                    drop(messages);
                    peer.readable.wake_all();
                    return Ok(());
                }
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            peer.writable
                .wait_interruptible(None, || (peer.has_room_for(len) || closed()).then_some(()))
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// Moves what is there to `dst`; `None` when the inbox is empty.
    fn take(&self, dst: &mut IoDest<'_>, peek: bool) -> Result<Option<Received>> {
        let mut messages = self.inbox.messages.lock();
        if messages.is_empty() {
            return Ok(None);
        }
        let mut received = Received::default();
        let mut freed = 0;
        let mut result = Ok(());
        if self.kind == Kind::Stream {
            let mut at = 0;
            while dst.remaining() > 0 {
                let Some(message) = messages.get_mut(at) else {
                    break;
                };
                let n = match dst.put(&message.bytes[message.start..]) {
                    Ok(n) => n,
                    Err(e) => {
                        result = Err(e);
                        break;
                    }
                };
                received.len += n;
                if peek {
                    at += 1;
                    continue;
                }
                message.start += n;
                freed += n;
                if message.start == message.bytes.len() {
                    messages.pop_front();
                    freed += 1;
                }
            }
            received.full_len = received.len;
        } else if let Some(message) = messages.front() {
            received.full_len = message.bytes.len();
            match dst.put(&message.bytes) {
                Ok(n) => received.len = n,
                Err(e) => result = Err(e),
            }
            if !peek && result.is_ok() {
                freed = received.full_len + 1;
                messages.pop_front();
            }
        }
        self.inbox.used.fetch_sub(freed, SeqCst);
        drop(messages);
        if freed > 0 {
            self.inbox.writable.wake_all();
        }
        match result {
            Err(e) if received.len == 0 => Err(e),
            _ => Ok(Some(received)),
        }
    }
}

impl Socket for UnixSocket {
    fn family_type_protocol(&self) -> (u32, u32, u32) {
        (AF_UNIX, self.kind as u32, 0)
    }

    fn send(
        &self,
        _of: &OpenFile,
        src: &mut IoSource<'_>,
        flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        if with.address.is_some() {
            // Pairs are connected.
            return Err(Errno::EISCONN);
        }
        if !with.files.is_empty() || with.credentials.is_some() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.kind != Kind::Stream {
            let len = src.remaining();
            if len >= INBOX_BYTES {
                return Err(Errno::EMSGSIZE);
            }
            self.send_message(src, len, flags.nonblocking)?;
            return Ok(len);
        }
        let mut sent = 0;
        while src.remaining() > 0 {
            let len = src.remaining().min(STREAM_CHUNK);
            match self.send_message(src, len, flags.nonblocking) {
                Ok(()) => sent += len,
                Err(_) if sent > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }

    fn receive(&self, _of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        let inbox = &self.inbox;
        if self.kind == Kind::Stream && dst.remaining() == 0 {
            return Ok(Received::default());
        }
        let mut total = Received::default();
        loop {
            // Looked at before the messages: what was sent before the end is not missed.
            let over = inbox.ended.load(SeqCst) || inbox.refused.load(SeqCst);
            if let Some(received) = self.take(dst, flags.peek)? {
                total.len += received.len;
                total.full_len += received.full_len;
                let fill = flags.wait_all && !flags.peek && self.kind == Kind::Stream;
                if !fill || dst.remaining() == 0 {
                    return Ok(total);
                }
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
            let waited = inbox.readable.wait_interruptible(None, || {
                let ready = inbox.used.load(SeqCst) > 0
                    || inbox.ended.load(SeqCst)
                    || inbox.refused.load(SeqCst);
                ready.then_some(())
            });
            if waited.is_err() {
                return if total.len > 0 {
                    Ok(total)
                } else {
                    Err(Errno::ERESTARTSYS)
                };
            }
        }
    }

    fn shut_down(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Write {
            self.inbox.refuse();
        }
        if how != Shutdown::Read {
            self.peer.end();
        }
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        // Unnamed: the family alone.
        Ok((AF_UNIX as u16).to_ne_bytes().to_vec())
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        self.local_address()
    }

    fn option(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        if level != abi::net::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let int = |v: u32| v.to_ne_bytes().to_vec();
        Ok(match option {
            // Pairs report errors at once: none is kept.
            abi::net::SO_ERROR | abi::net::SO_ACCEPTCONN => int(0),
            abi::net::SO_SNDBUF | abi::net::SO_RCVBUF => int(INBOX_BYTES as u32),
            abi::net::SO_PEERCRED => {
                let (pid, uid, gid) = self.credentials;
                [int(pid as u32), int(uid), int(gid)].concat()
            }
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }
}

impl File for UnixSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        let flags = MsgFlags {
            nonblocking: of.nonblocking(),
            ..MsgFlags::default()
        };
        self.receive(of, dst, flags).map(|r| r.len)
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        let flags = MsgFlags {
            nonblocking: of.nonblocking(),
            ..MsgFlags::default()
        };
        self.send(of, src, flags, Outgoing::default())
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        let (inbox, peer) = (&self.inbox, &self.peer);
        if let Some(table) = table {
            table.register(&inbox.readable);
            table.register(&peer.writable);
        }
        let mut events = PollEvents::empty();
        let ended = inbox.ended.load(SeqCst) || inbox.refused.load(SeqCst);
        if inbox.used.load(SeqCst) > 0 || ended {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if ended {
            events |= PollEvents::RDHUP;
        }
        let cannot_send = peer.ended.load(SeqCst) || peer.refused.load(SeqCst);
        if ended && cannot_send {
            events |= PollEvents::HUP;
        }
        // A quarter free, so that writers do not wake for every byte.
        if cannot_send || peer.used.load(SeqCst) * 4 < INBOX_BYTES * 3 {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        let out = UserPtr::<i32>::new(UserAddr(arg));
        match cmd {
            abi::ioctl::FIONREAD => {
                let messages = self.inbox.messages.lock();
                let unread = |m: &Message| m.bytes.len() - m.start;
                let n: usize = match self.kind {
                    Kind::Stream => messages.iter().map(unread).sum(),
                    _ => messages.front().map_or(0, unread),
                };
                drop(messages);
                out.write(n as i32)?;
            }
            abi::ioctl::TIOCOUTQ => out.write(self.peer.used.load(SeqCst) as i32)?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        self.inode.describe("socket")
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // A datagram may come from elsewhere: only connections end with their peer.
        if self.kind != Kind::Datagram {
            self.peer.end();
        }
        self.inbox.refuse();
    }
}
