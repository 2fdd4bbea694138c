//! TCP sockets (man 7 tcp): idle, listening or with a connection of the stack.
//!
//! Here is what a socket holds and how it ends; `listen`, `connect` and `transfer` are its
//! calls, `options` what programs tell it, `file` the socket as a file.
//!
//! What a socket is now ([`Phase`]) is behind a spin lock; it changes under the sleeping lock of
//! its port, so that threads that use one socket at once make one connection or listener of it.

mod connect;
mod connection;
mod file;
mod listen;
mod options;
mod transfer;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use smoltcp::socket::tcp;

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile};
use crate::net::inet::{
    Family, IPPROTO_TCP, Name, Options, Owner, SOCK_STREAM, name_of, write_name,
};
use crate::net::stack::flow::{Listener, bit};
use crate::net::stack::table::Port;
use crate::net::{MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::sched::{Mutex, WaitError, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::time::NS_PER_SEC;
use crate::vm::{IoDest, IoSource};
use connection::Connection;
use listen::stop_listening;

/// What a socket is now.
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
    /// Changes under `port`.
    phase: SpinLock<Phase>,
    /// What `bind` said.
    bound: SpinLock<Option<Name>>,
    /// The port it claims, if it chose one.
    port: Mutex<Option<Port>>,
    writing: Mutex<()>,
    readers: Arc<WaitQueue>,
    writers: Arc<WaitQueue>,
}

/// Why a wait ended; `timeout` where time was over.
fn interrupted(e: WaitError, timeout: Errno) -> Errno {
    match e {
        WaitError::Interrupted => Errno::ERESTARTSYS,
        WaitError::TimedOut => timeout,
    }
}

impl TcpSocket {
    /// An idle socket.
    pub fn new(family: Family, owner: Owner) -> Arc<TcpSocket> {
        let queues = (Arc::new(WaitQueue::new()), Arc::new(WaitQueue::new()));
        Self::with(family, owner, Options::default(), Phase::Idle, queues)
    }

    /// A socket without a name; `queues` are those of its readers and writers.
    fn with(
        family: Family,
        owner: Owner,
        options: Options,
        phase: Phase,
        (readers, writers): (Arc<WaitQueue>, Arc<WaitQueue>),
    ) -> Arc<TcpSocket> {
        Arc::new(TcpSocket {
            family,
            owner,
            inode: AnonInode::new(abi::S_IFSOCK | 0o777),
            options: SpinLock::new(Rank::Object, options),
            phase: SpinLock::new(Rank::Object, phase),
            bound: SpinLock::new(Rank::Object, None),
            port: Mutex::new(None),
            writing: Mutex::new(()),
            readers,
            writers,
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

    /// The connection, once it is there. ENOTCONN; EPIPE is the caller's.
    fn connection(&self) -> Result<Arc<Connection>> {
        match self.phase() {
            Phase::Connected(c) => Ok(c),
            _ => Err(Errno::ENOTCONN),
        }
    }
}

impl Socket for TcpSocket {
    fn family_type_protocol(&self) -> (u32, u32, u32) {
        (self.family.number(), SOCK_STREAM, IPPROTO_TCP)
    }

    fn bind(&self, address: &[u8]) -> Result<()> {
        self.bind_to(address)
    }

    fn connect(&self, of: &OpenFile, address: &[u8]) -> Result<()> {
        self.connect_to(of, address)
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        self.start_listening(backlog)
    }

    fn accept(&self, of: &OpenFile) -> Result<(Arc<dyn File>, Vec<u8>)> {
        self.take_connection(of)
    }

    fn send(
        &self,
        _of: &OpenFile,
        src: &mut IoSource<'_>,
        flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        self.send_bytes(src, flags, with)
    }

    fn receive(&self, _of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        self.receive_bytes(dst, flags)
    }

    fn shut_down(&self, how: Shutdown) -> Result<()> {
        match self.phase() {
            Phase::Idle => return Err(Errno::ENOTCONN),
            Phase::Listening(_) => {
                if how != Shutdown::Write {
                    let _port = self.port.lock();
                    if let Phase::Listening(listener) = self.phase() {
                        stop_listening(&listener);
                        self.set_phase(Phase::Idle);
                    }
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
