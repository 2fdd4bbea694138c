//! TCP sockets (man 7 tcp): idle, listening or with a connection of the stack.
//!
//! What a socket is now is behind a spin lock; data moves through a bounce buffer, so that no
//! page fault happens under the stack's lock. Writers are serialised by a sleeping lock, taken
//! before the stack's and never held while waiting for room.

mod options;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};

use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::{
    Family, IPPROTO_TCP, Name, Options, Owner, check_bindable, check_port, destination, name_of,
    read_name, write_name,
};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::net::stack::flow::{FlowId, FlowKey, Listener, Status, bit};
use crate::net::stack::table::{self, Claim, Port, Protocol};
use crate::net::stack::{self, Netif};
use crate::net::{MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::sched::{Mutex, WaitError, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::time::NS_PER_SEC;
use crate::vm::{IoDest, IoSource, UserPtr};

/// Bytes that one look at the stack moves.
const CHUNK: usize = 64 * 1024;
/// A socket is writable when it takes this much, or a third of its buffer.
const LOW_WATER: usize = 2048;
/// Most connections that wait (net.core.somaxconn).
const MAX_BACKLOG: i32 = 4096;
/// Ephemeral ports that are tried for a peer.
const PORT_TRIES: usize = 16;

/// Turns that make a conversation (as Linux counts them).
const INTERACTIVE: u8 = 3;
/// Bytes from which on it is no talk but a transfer.
const TALK: usize = 1024;
/// Set in the count of turns while bytes were read and nothing was written since.
const READ_LAST: u8 = 0x80;

/// A connection of the stack.
struct Connection {
    netif: Arc<Netif>,
    id: FlowId,
    key: FlowKey,
    status: Arc<Status>,
    /// The program was told that it is connected.
    told: AtomicBool,
    /// Turns of talk in which a read was answered by a write: from [`INTERACTIVE`] on,
    /// acknowledgements wait for the answer.
    turns: AtomicU8,
    /// The last send was one with MSG_MORE.
    corked: AtomicBool,
    read_shut: AtomicBool,
    write_shut: AtomicBool,
}

#[derive(Clone)]
enum Phase {
    Idle,
    Listening(Arc<Listener>),
    Connected(Arc<Connection>),
}

/// A TCP socket.
pub struct TcpSocket {
    family: Family,
    owner: Owner,
    inode: AnonInode,
    options: SpinLock<Options>,
    phase: SpinLock<Phase>,
    /// What `bind` said.
    bound: SpinLock<Option<Name>>,
    /// The port it claims, if it chose one.
    port: Mutex<Option<Port>>,
    writing: Mutex<()>,
    readers: Arc<WaitQueue>,
    writers: Arc<WaitQueue>,
}

/// Memory for `want` bytes; where memory has no such block for a page, or for less. ENOMEM.
fn bounce_buffer(want: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for len in [want, want.min(PAGE_SIZE), want.min(512)] {
        if bytes.try_reserve_exact(len).is_ok() {
            bytes.resize(len, 0);
            return Ok(bytes);
        }
    }
    Err(Errno::ENOMEM)
}

fn interrupted(e: WaitError, timeout: Errno) -> Errno {
    match e {
        WaitError::Interrupted => Errno::ERESTARTSYS,
        WaitError::TimedOut => timeout,
    }
}

impl Connection {
    /// Notes that `n` bytes were read; whether an answer is to be expected, which takes the
    /// acknowledgement along.
    fn awaits_answer(&self, n: usize) -> bool {
        let turns = self.turns.load(SeqCst);
        // Two reads without an answer: it is no conversation.
        let turns = if turns & READ_LAST != 0 { 0 } else { turns };
        self.turns.store(turns | READ_LAST, SeqCst);
        turns >= INTERACTIVE && n < TALK
    }

    /// Whether acknowledgements wait for answers.
    fn is_conversation(&self) -> bool {
        self.turns.load(SeqCst) & !READ_LAST >= INTERACTIVE
    }

    /// Notes that bytes were written.
    fn answered(&self) {
        let turns = self.turns.load(SeqCst);
        if turns & READ_LAST != 0 {
            let turns = (turns & !READ_LAST).saturating_add(1).min(INTERACTIVE);
            self.turns.store(turns, SeqCst);
        }
    }
}

impl TcpSocket {
    /// An idle socket.
    pub fn new(family: Family, owner: Owner) -> Arc<TcpSocket> {
        Arc::new(TcpSocket {
            family,
            owner,
            inode: AnonInode::new(abi::S_IFSOCK | 0o777),
            options: SpinLock::new(Rank::Object, Options::default()),
            phase: SpinLock::new(Rank::Object, Phase::Idle),
            bound: SpinLock::new(Rank::Object, None),
            port: Mutex::new(None),
            writing: Mutex::new(()),
            readers: Arc::new(WaitQueue::new()),
            writers: Arc::new(WaitQueue::new()),
        })
    }

    fn options(&self) -> Options {
        *self.options.lock()
    }

    fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

    fn set_phase(&self, phase: Phase) {
        let old = core::mem::replace(&mut *self.phase.lock(), phase);
        drop(old);
    }

    fn claim(&self, addr: Option<IpAddress>, options: &Options) -> Claim {
        let (v4, v6) = match (self.family, addr) {
            (Family::V4, _) | (_, Some(IpAddress::Ipv4(_))) => (true, false),
            (_, Some(IpAddress::Ipv6(_))) => (false, true),
            (Family::V6, None) => (!options.v6_only, true),
        };
        Claim {
            addr,
            v4,
            v6,
            reuse_addr: options.reuse_addr,
            reuse_port: options.reuse_port.then_some(self.owner.uid),
            listens: false,
        }
    }

    /// Starts a connection to `to`.
    fn start(&self, to: Name) -> Result<Arc<Connection>> {
        let options = self.options();
        let remote = IpEndpoint::new(destination(self.family, to), to.port);
        if remote.addr.is_multicast() || remote.addr.is_broadcast() {
            return Err(Errno::ENETUNREACH);
        }
        if to.port == 0 {
            return Err(Errno::ECONNREFUSED);
        }
        if options.v6_only && matches!(remote.addr, IpAddress::Ipv4(_)) {
            return Err(Errno::ENETUNREACH);
        }
        let bound = *self.bound.lock();
        let through = if to.scope != 0 {
            to.scope
        } else {
            options.interface
        };
        let own = bound.and_then(|b| b.addr);
        let (netif, source) = stack::route(remote.addr, own, through)?;
        let mut port = self.port.lock();
        let chose = port.is_none();
        for _ in 0..PORT_TRIES {
            if port.is_none() {
                let claim = self.claim(Some(source), &options);
                // All are taken.
                let free = Port::claim(Protocol::Tcp, 0, claim);
                *port = Some(free.map_err(|_| Errno::EADDRNOTAVAIL)?);
            }
            let number = port.as_ref().map_or(0, Port::number);
            let key = FlowKey {
                local: IpEndpoint::new(source, number),
                remote,
            };
            let status = Status::new(self.readers.clone(), self.writers.clone());
            status.set_user_timeout_ms(options.user_timeout_ms);
            let class = options.traffic_class(remote.addr);
            status.traffic_class.store(class, SeqCst);
            status.holder.set(self.inode.ino, self.owner.uid);
            let buffers = (options.receive_buffer, options.send_buffer);
            let started = netif.connect(key, buffers, status.clone(), |socket| {
                Self::tune(&options, socket);
            });
            match started {
                Ok(id) => {
                    return Ok(Arc::new(Connection {
                        netif,
                        id,
                        key,
                        status,
                        told: AtomicBool::new(false),
                        turns: AtomicU8::new(0),
                        corked: AtomicBool::new(false),
                        read_shut: AtomicBool::new(false),
                        write_shut: AtomicBool::new(false),
                    }));
                }
                // Another port may be free for this peer.
                Err(Errno::EADDRINUSE) if chose => *port = None,
                Err(Errno::EADDRINUSE) => return Err(Errno::EADDRNOTAVAIL),
                Err(e) => {
                    if chose {
                        *port = None;
                    }
                    return Err(e);
                }
            }
        }
        Err(Errno::EADDRNOTAVAIL)
    }

    /// Waits for a connection that was started.
    fn finish_connect(&self, of: &OpenFile, c: &Arc<Connection>) -> Result<()> {
        let over = || c.status.has(bit::CONNECTED | bit::CLOSED).then_some(());
        if over().is_none() {
            if of.nonblocking() {
                return Err(Errno::EINPROGRESS);
            }
            let deadline = Options::deadline(self.options().send_timeout_ns);
            self.writers
                .wait_interruptible(deadline, over)
                .map_err(|e| interrupted(e, Errno::EINPROGRESS))?;
        }
        if c.status.has(bit::CONNECTED) {
            c.told.store(true, SeqCst);
            return Ok(());
        }
        let error = c.status.take_error().unwrap_or(Errno::ECONNABORTED);
        c.netif.release(c.id, true);
        // The program may try again.
        self.set_phase(Phase::Idle);
        if self.bound.lock().is_none() {
            *self.port.lock() = None;
        }
        Err(error)
    }

    /// The connection, once it is there. ENOTCONN; EPIPE is the caller's.
    fn connection(&self) -> Result<Arc<Connection>> {
        match self.phase() {
            Phase::Connected(c) => Ok(c),
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// Moves what is there to `dst`: `None` when nothing is, or the end is reached.
    fn take(&self, c: &Connection, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Option<usize>> {
        let ready = c.status.readable.load(SeqCst);
        let want = ready.min(dst.remaining()).min(CHUNK);
        if want == 0 {
            return Ok(None);
        }
        let mut bounce = bounce_buffer(want)?;
        let n = c.netif.with_tcp(c.id, |socket| {
            if flags.peek {
                return socket.peek_slice(&mut bounce).unwrap_or(0);
            }
            let n = socket.recv_slice(&mut bounce).unwrap_or(0);
            if n > 0 && !c.awaits_answer(n) {
                // The sender may wait for it (RFC 896).
                socket.ack_now();
            }
            n
        })?;
        if n == 0 {
            return Ok(None);
        }
        if flags.discard {
            dst.skip(n);
            return Ok(Some(n));
        }
        dst.put(&bounce[..n]).map(Some)
    }
}

impl Socket for TcpSocket {
    fn family_type_protocol(&self) -> (u32, u32, u32) {
        (self.family.number(), super::SOCK_STREAM, IPPROTO_TCP)
    }

    fn bind(&self, address: &[u8]) -> Result<()> {
        let name = read_name(self.family, address)?;
        check_port(name.port)?;
        check_bindable(name.addr)?;
        let mut port = self.port.lock();
        if port.is_some() || !matches!(self.phase(), Phase::Idle) {
            return Err(Errno::EINVAL);
        }
        let claim = self.claim(name.addr, &self.options());
        let new = Port::claim(Protocol::Tcp, name.port, claim).map_err(|_| Errno::EADDRINUSE)?;
        *self.bound.lock() = Some(Name {
            port: new.number(),
            ..name
        });
        *port = Some(new);
        Ok(())
    }

    fn connect(&self, of: &OpenFile, address: &[u8]) -> Result<()> {
        let to = read_name(self.family, address)?;
        let connection = match self.phase() {
            Phase::Listening(_) => return Err(Errno::EISCONN),
            Phase::Connected(c) => {
                if c.told.load(SeqCst) {
                    return Err(Errno::EISCONN);
                }
                if of.nonblocking() && !c.status.has(bit::CONNECTED | bit::CLOSED) {
                    return Err(Errno::EALREADY);
                }
                c
            }
            Phase::Idle => {
                let c = self.start(to)?;
                self.set_phase(Phase::Connected(c.clone()));
                if of.nonblocking() {
                    // Whatever came of it is told later, even what is known by now.
                    return Err(Errno::EINPROGRESS);
                }
                c
            }
        };
        self.finish_connect(of, &connection)
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        let backlog = backlog.clamp(1, MAX_BACKLOG) as usize;
        let options = self.options();
        match self.phase() {
            Phase::Connected(_) => return Err(Errno::EINVAL),
            Phase::Listening(listener) => {
                listener.backlog.store(backlog, SeqCst);
                return Ok(());
            }
            Phase::Idle => {}
        }
        let mut port = self.port.lock();
        let bound = *self.bound.lock();
        let addr = bound.and_then(|b| b.addr);
        let claim = self.claim(addr, &options);
        if port.is_none() {
            *port = Some(Port::claim(Protocol::Tcp, 0, claim)?);
        }
        let Some(port) = port.as_ref() else {
            return Err(Errno::EADDRINUSE);
        };
        port.update(|c| c.listens = true)?;
        let listener = Listener::new(
            addr,
            port.number(),
            (claim.v4, claim.v6),
            backlog,
            (options.receive_buffer, options.send_buffer),
            (options.max_segment != 0).then_some(options.max_segment),
            self.readers.clone(),
        );
        listener
            .defer_seconds
            .store(options.defer_accept_seconds, SeqCst);
        Self::mark(&options, &listener);
        listener.holder.set(self.inode.ino, self.owner.uid);
        table::listen(listener.clone());
        self.set_phase(Phase::Listening(listener));
        self.readers.wake_all();
        self.writers.wake_all();
        Ok(())
    }

    fn accept(&self, of: &OpenFile) -> Result<(Arc<dyn File>, Vec<u8>)> {
        let Phase::Listening(listener) = self.phase() else {
            return Err(Errno::EINVAL);
        };
        let options = self.options();
        let deadline = Options::deadline(options.receive_timeout_ns);
        let accepted = loop {
            if let Some(accepted) = listener.pop() {
                break accepted;
            }
            if listener.is_closed() {
                return Err(Errno::EINVAL);
            }
            if of.nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.readers
                .wait_interruptible(deadline, || {
                    (listener.nr_queued() > 0 || listener.is_closed()).then_some(())
                })
                .map_err(|e| interrupted(e, Errno::EAGAIN))?;
        };
        accepted.netif.adopt(accepted.id);
        accepted.status.set_user_timeout_ms(options.user_timeout_ms);
        let _ = accepted
            .netif
            .with_tcp(accepted.id, |socket| Self::tune(&options, socket));
        let peer = write_name(self.family, name_of(accepted.key.remote));
        let connection = Connection {
            netif: accepted.netif,
            id: accepted.id,
            key: accepted.key,
            status: accepted.status.clone(),
            told: AtomicBool::new(true),
            turns: AtomicU8::new(0),
            corked: AtomicBool::new(false),
            read_shut: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
        };
        let socket = Arc::new(TcpSocket {
            family: self.family,
            owner: self.owner,
            inode: AnonInode::new(abi::S_IFSOCK | 0o777),
            options: SpinLock::new(Rank::Object, options),
            phase: SpinLock::new(Rank::Object, Phase::Connected(Arc::new(connection))),
            bound: SpinLock::new(Rank::Object, None),
            port: Mutex::new(None),
            writing: Mutex::new(()),
            readers: accepted.status.readers.clone(),
            writers: accepted.status.writers.clone(),
        });
        accepted
            .status
            .holder
            .set(socket.inode.ino, socket.owner.uid);
        Ok((socket, peer))
    }

    fn send(
        &self,
        _of: &OpenFile,
        src: &mut IoSource<'_>,
        flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        if !with.files.is_empty() || with.credentials.is_some() {
            return Err(Errno::EINVAL);
        }
        // An address is ignored for a connected stream (man 2 send).
        let c = match self.phase() {
            Phase::Connected(c) => c,
            _ => return Err(Errno::EPIPE),
        };
        let status = &c.status;
        let deadline = Options::deadline(self.options().send_timeout_ns);
        let was_corked = c.corked.swap(flags.more, SeqCst);
        let corked = flags.more || self.options().cork;
        let mut sent = 0;
        let mut bounce = Vec::new();
        // Bytes of it that the connection has not taken yet.
        let mut rest = 0..0;
        loop {
            let failure = if status.has(bit::WRITE_END) || c.write_shut.load(SeqCst) {
                Some(status.take_error().unwrap_or(Errno::EPIPE))
            } else {
                None
            };
            if let Some(e) = failure {
                return if sent > 0 { Ok(sent) } else { Err(e) };
            }
            if src.remaining() == 0 && rest.is_empty() {
                return Ok(sent);
            }
            // Alone, so that the room that is seen is there when the bytes come.
            let writing = self.writing.lock();
            let room = status.room.load(SeqCst);
            if room > 0 {
                if rest.is_empty() {
                    let want = room.min(src.remaining()).min(CHUNK);
                    if bounce.len() < want {
                        bounce = match bounce_buffer(want) {
                            Ok(bounce) => bounce,
                            Err(_) if sent > 0 => return Ok(sent),
                            Err(e) => return Err(e),
                        };
                    }
                    let want = want.min(bounce.len());
                    rest = match src.get(&mut bounce[..want]) {
                        Ok(n) => 0..n,
                        Err(_) if sent > 0 => return Ok(sent),
                        Err(e) => return Err(e),
                    };
                }
                let queued = c.netif.with_tcp(c.id, |socket| {
                    if corked || was_corked {
                        Self::cork(corked, socket);
                    }
                    socket.send_slice(&bounce[rest.clone()])
                })?;
                c.answered();
                // Fewer than there was room for when there was no memory; what is left then
                // waits for room. A connection that just broke takes none.
                let queued = queued.unwrap_or(0);
                sent += queued;
                rest.start += queued;
                continue;
            }
            drop(writing);
            if flags.nonblocking {
                return if sent > 0 {
                    Ok(sent)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            let waited = self.writers.wait_interruptible(deadline, || {
                let ready = status.room.load(SeqCst) > 0
                    || status.has(bit::WRITE_END)
                    || c.write_shut.load(SeqCst);
                ready.then_some(())
            });
            if let Err(e) = waited {
                return if sent > 0 {
                    Ok(sent)
                } else {
                    Err(interrupted(e, Errno::EAGAIN))
                };
            }
        }
    }

    fn receive(&self, _of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        if flags.errors {
            // Streams tell their errors by calls that fail.
            return Err(Errno::EAGAIN);
        }
        let c = self.connection()?;
        let status = &c.status;
        let deadline = Options::deadline(self.options().receive_timeout_ns);
        let mut total = Received::default();
        if dst.remaining() == 0 {
            return Ok(total);
        }
        // SO_RCVLOWAT: what one call waits for.
        let target = (self.options().receive_low as usize).clamp(1, dst.remaining());
        loop {
            // Looked at before the bytes: what came before the end is not missed.
            let over = status.has(bit::READ_END | bit::CLOSED) || c.read_shut.load(SeqCst);
            match self.take(&c, dst, flags) {
                Ok(Some(n)) => {
                    total.len += n;
                    total.full_len = total.len;
                    if flags.peek || dst.remaining() == 0 {
                        return Ok(total);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(_) if total.len > 0 => return Ok(total),
                Err(Errno::ENOTCONN) => {}
                Err(e) => return Err(e),
            }
            if total.len >= target && !flags.wait_all {
                return Ok(total);
            }
            if over {
                return match status.take_error() {
                    Some(e) if total.len == 0 => Err(e),
                    _ => Ok(total),
                };
            }
            if !status.has(bit::CONNECTED) && !c.told.load(SeqCst) && status.has(bit::CLOSED) {
                return Err(Errno::ENOTCONN);
            }
            if flags.nonblocking {
                return if total.len > 0 {
                    Ok(total)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            let waited = self.readers.wait_interruptible(deadline, || {
                let wanted = target.saturating_sub(total.len).max(1);
                let ready = status.readable.load(SeqCst) >= wanted
                    || status.has(bit::READ_END | bit::CLOSED)
                    || c.read_shut.load(SeqCst);
                ready.then_some(())
            });
            if let Err(e) = waited {
                return if total.len > 0 {
                    Ok(total)
                } else {
                    Err(interrupted(e, Errno::EAGAIN))
                };
            }
        }
    }

    fn shut_down(&self, how: Shutdown) -> Result<()> {
        match self.phase() {
            Phase::Idle => return Err(Errno::ENOTCONN),
            Phase::Listening(listener) => {
                if how != Shutdown::Write {
                    stop_listening(&listener);
                    self.set_phase(Phase::Idle);
                }
                return Ok(());
            }
            Phase::Connected(c) => {
                if !c.status.has(bit::CONNECTED) || c.status.has(bit::CLOSED) {
                    return Err(Errno::ENOTCONN);
                }
                if how != Shutdown::Write {
                    c.read_shut.store(true, SeqCst);
                }
                if how != Shutdown::Read {
                    c.write_shut.store(true, SeqCst);
                    c.netif.with_tcp(c.id, tcp::Socket::close)?;
                }
            }
        }
        self.readers.wake_all();
        self.writers.wake_all();
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let name = match self.phase() {
            Phase::Connected(c) => name_of(c.key.local),
            Phase::Listening(l) => Name {
                addr: l.addr,
                port: l.port,
                scope: 0,
            },
            Phase::Idle => self.bound.lock().unwrap_or(Name {
                addr: None,
                port: 0,
                scope: 0,
            }),
        };
        Ok(write_name(self.family, name))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let c = self.connection()?;
        if !c.status.has(bit::CONNECTED) || c.status.has(bit::CLOSED) {
            return Err(Errno::ENOTCONN);
        }
        Ok(write_name(self.family, name_of(c.key.remote)))
    }

    fn option(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        self.get_option(level, option)
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        self.change_option(level, option, value)
    }
}

/// Ends a listener and resets who waited there.
fn stop_listening(listener: &Arc<Listener>) {
    table::unlisten(listener);
    for waiting in listener.close() {
        waiting.netif.release(waiting.id, true);
    }
}

impl File for TcpSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        self.read_bytes(of, dst)
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.write_bytes(of, src)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.readers);
            table.register_writers(&self.writers);
        }
        let (readable, writable) = (
            PollEvents::IN | PollEvents::RDNORM,
            PollEvents::OUT | PollEvents::WRNORM,
        );
        let c = match self.phase() {
            Phase::Idle => return writable | PollEvents::HUP,
            Phase::Listening(l) if l.nr_queued() > 0 => return readable,
            Phase::Listening(_) => return PollEvents::empty(),
            Phase::Connected(c) => c,
        };
        let status = &c.status;
        let mut events = PollEvents::empty();
        let read_shut = c.read_shut.load(SeqCst);
        let read_end = status.has(bit::READ_END | bit::CLOSED) || read_shut;
        let low = (self.options().receive_low as usize).max(1);
        if status.readable.load(SeqCst) >= low || read_end {
            events |= readable;
        }
        if status.has(bit::PEER_END | bit::CLOSED) || read_shut {
            events |= PollEvents::RDHUP;
        }
        let write_end = status.has(bit::WRITE_END) || c.write_shut.load(SeqCst);
        let enough = LOW_WATER.min(status.capacity.load(SeqCst) / 3).max(1);
        if status.room.load(SeqCst) >= enough || write_end {
            events |= writable;
        }
        if status.has(bit::CLOSED) || write_end && status.has(bit::PEER_END) {
            events |= PollEvents::HUP;
        }
        if status.has_error() {
            events |= PollEvents::ERR;
        }
        events
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        let out = UserPtr::<i32>::new(UserAddr(arg));
        match cmd {
            abi::ioctl::FIONREAD => {
                let n = match self.phase() {
                    Phase::Connected(c) => c.status.readable.load(SeqCst),
                    Phase::Idle => 0,
                    Phase::Listening(_) => return Err(Errno::EINVAL),
                };
                out.write(n as i32)?;
                Ok(0)
            }
            abi::ioctl::TIOCOUTQ => {
                let n = match self.phase() {
                    Phase::Connected(c) => c
                        .netif
                        .with_tcp(c.id, |socket| socket.send_queue())
                        .unwrap_or(0),
                    _ => 0,
                };
                out.write(n as i32)?;
                Ok(0)
            }
            _ => super::ioctl::interface(cmd, arg),
        }
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        self.inode.describe("socket")
    }
}

impl TcpSocket {
    /// SO_LINGER: waits until the peer acknowledged all, time is over or a signal comes. The
    /// connection ends by itself in any case.
    fn linger(&mut self, c: &Connection) {
        let seconds = self.options.get_mut().linger_seconds.unwrap_or(0);
        let delivered = || c.status.has(bit::DELIVERED).then_some(());
        if seconds == 0 || delivered().is_some() || !crate::net::may_linger() {
            return;
        }
        let deadline = Options::deadline(u64::from(seconds) * NS_PER_SEC);
        let _ = c.status.writers.wait_interruptible(deadline, delivered);
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        let resets = self.options.get_mut().linger_seconds == Some(0);
        match core::mem::replace(self.phase.get_mut(), Phase::Idle) {
            Phase::Idle => {}
            Phase::Listening(listener) => stop_listening(&listener),
            Phase::Connected(c) => {
                c.netif.release(c.id, resets);
                self.linger(&c);
            }
        }
    }
}
