//! Sockets: the [`Socket`] trait that every kind implements, unix sockets ([`unix`]), internet
//! sockets ([`inet`]) over the IP stack ([`stack`]) and its devices ([`device`]), netlink.
//!
//! Addresses cross the trait as the bytes of a `sockaddr` (man 7 ip, man 7 unix): each family
//! reads its own. Not responsible for user pointers: `syscall::net` copies.

pub mod device;
pub mod dhcp;
pub mod fifo;
pub mod filter;
pub mod inet;
pub mod netlink;
pub mod stack;
pub mod unix;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Errno, Result};
use crate::file::{File, OpenFile};
use crate::security::cred::Credentials;
use crate::sync::{Rank, SpinLock};
use crate::vm::{IoDest, IoSource};

/// The parts of `send` and `recv` flags that sockets honour (man 2 recv, MSG_*).
#[derive(Clone, Copy, Debug, Default)]
pub struct MsgFlags {
    /// MSG_PEEK: leave the data.
    pub peek: bool,
    /// MSG_DONTWAIT, or the description is non-blocking.
    pub nonblocking: bool,
    /// MSG_WAITALL: fill the buffer.
    pub wait_all: bool,
    /// MSG_MORE: what does not fill a packet waits for the next send.
    pub more: bool,
    /// MSG_TRUNC to a stream: the bytes are dropped.
    pub discard: bool,
    /// MSG_ERRQUEUE: from the queue of errors.
    pub errors: bool,
}

impl MsgFlags {
    /// Those of a call that has no flags: the description says whether it blocks.
    fn none(of: &OpenFile) -> MsgFlags {
        MsgFlags {
            nonblocking: of.nonblocking(),
            ..MsgFlags::default()
        }
    }
}

/// What goes with the bytes of a send (man 2 sendmsg).
#[derive(Default)]
pub struct Outgoing<'a> {
    /// Bytes of the destination's `sockaddr`; `None` when the call names none.
    pub address: Option<&'a [u8]>,
    /// Open files to pass (SCM_RIGHTS).
    pub files: Vec<Arc<OpenFile>>,
    /// Credentials the sender claims (SCM_CREDENTIALS): pid, uid, gid; checked by the caller.
    pub credentials: Option<(i32, u32, u32)>,
    /// Control messages of other levels than SOL_SOCKET: level, type, bytes. A kind ignores
    /// levels that it does not know.
    pub control: Vec<(u32, u32, Vec<u8>)>,
}

/// What a receive found.
#[derive(Default)]
pub struct Received {
    /// Bytes put into the buffer.
    pub len: usize,
    /// Length of the message, which may be more (datagrams).
    pub full_len: usize,
    /// Bytes of the sender's `sockaddr`; empty when there is none to tell.
    pub address: Vec<u8>,
    /// It is a report from the queue of errors (MSG_ERRQUEUE).
    pub is_error: bool,
    /// Open files that came along (SCM_RIGHTS).
    pub files: Vec<Arc<OpenFile>>,
    /// Further control messages: level, type, bytes (SCM_CREDENTIALS, IP_TTL...).
    pub control: Vec<(u32, u32, Vec<u8>)>,
}

/// Which halves `shutdown` closes (man 2 shutdown).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// SHUT_RD.
    Read,
    /// SHUT_WR.
    Write,
    /// SHUT_RDWR.
    Both,
}

/// A socket, behind the [`crate::file::File`] that a descriptor names. The defaults answer
/// what Linux answers for kinds that lack the operation.
pub trait Socket {
    /// (address family, SOCK_* type, protocol).
    fn family_type_protocol(&self) -> (u32, u32, u32);
    /// man 2 sendmsg. EPIPE: the caller sends SIGPIPE unless MSG_NOSIGNAL.
    fn send(
        &self,
        of: &OpenFile,
        src: &mut IoSource<'_>,
        flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize>;
    /// man 2 recvmsg.
    fn receive(&self, of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received>;
    /// man 2 read: a receive without flags.
    fn read_bytes(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        self.receive(of, dst, MsgFlags::none(of)).map(|r| r.len)
    }
    /// man 2 write: a send without flags or address.
    fn write_bytes(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.send(of, src, MsgFlags::none(of), Outgoing::default())
    }
    /// man 2 shutdown.
    fn shut_down(&self, how: Shutdown) -> Result<()>;
    /// man 2 bind.
    fn bind(&self, _address: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// man 2 connect. Blocks until connected unless `of` is non-blocking (EINPROGRESS).
    fn connect(&self, _of: &OpenFile, _address: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// man 2 listen.
    fn listen(&self, _backlog: i32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// man 2 accept: the new socket and the bytes of its peer's `sockaddr`.
    fn accept(&self, _of: &OpenFile) -> Result<(Arc<dyn File>, Vec<u8>)> {
        Err(Errno::EOPNOTSUPP)
    }
    /// man 2 getsockname, as the bytes of a `sockaddr`.
    fn local_address(&self) -> Result<Vec<u8>>;
    /// man 2 getpeername.
    fn peer_address(&self) -> Result<Vec<u8>>;
    /// man 2 getsockopt: the option's bytes. SO_TYPE, SO_DOMAIN and SO_PROTOCOL are answered
    /// by the caller. ENOPROTOOPT for what the kind does not know.
    fn option(&self, _level: u32, _option: u32) -> Result<Vec<u8>> {
        Err(Errno::ENOPROTOOPT)
    }
    /// man 2 setsockopt.
    fn set_option(&self, _level: u32, _option: u32, _value: &[u8]) -> Result<()> {
        Err(Errno::ENOPROTOOPT)
    }
}

/// man 2 socket. EAFNOSUPPORT for families there are not, ESOCKTNOSUPPORT and EPROTONOSUPPORT
/// for kinds and protocols; EPERM for raw sockets without CAP_NET_RAW.
pub fn create(family: u32, kind: u32, protocol: u32, cred: &Credentials) -> Result<Arc<dyn File>> {
    match family {
        unix::AF_UNIX => Ok(unix::create(kind, protocol)?),
        inet::AF_INET => inet::create(inet::Family::V4, kind, protocol, cred),
        inet::AF_INET6 => inet::create(inet::Family::V6, kind, protocol, cred),
        netlink::AF_NETLINK => netlink::create(kind, protocol),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// The socket behind a file.
pub fn of_file(file: &dyn File) -> Option<&dyn Socket> {
    let any = file.as_any();
    if let Some(socket) = any.downcast_ref::<unix::UnixSocket>() {
        return Some(socket);
    }
    if let Some(socket) = any.downcast_ref::<inet::tcp::TcpSocket>() {
        return Some(socket);
    }
    if let Some(socket) = any.downcast_ref::<inet::datagram::DatagramSocket>() {
        return Some(socket);
    }
    if let Some(socket) = any.downcast_ref::<netlink::NetlinkSocket>() {
        return Some(socket);
    }
    None
}

/// The value of an `int` option (man 2 setsockopt). EINVAL when it is too short.
pub fn int_option(value: &[u8]) -> Result<i32> {
    let bytes = value.first_chunk::<4>().ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(*bytes))
}

/// What sockets ask of the running thread, which layers above know.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Whether it has a capability.
    pub capable: fn(u32) -> bool,
    /// Whether it may be kept waiting for a socket that it closes: not while it ends.
    pub may_linger: fn() -> bool,
}

static CALLER: SpinLock<Option<Caller>> = SpinLock::new(Rank::Leaf, None);

/// Tells how to ask the running thread.
fn set_caller(caller: Caller) {
    *CALLER.lock() = Some(caller);
}

/// EPERM unless the running thread has capability `cap`.
fn may(cap: u32) -> Result<()> {
    let caller = *CALLER.lock();
    match caller {
        Some(caller) if (caller.capable)(cap) => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

/// Whether closing a socket may wait (SO_LINGER).
fn may_linger() -> bool {
    let caller = *CALLER.lock();
    caller.is_some_and(|c| (c.may_linger)())
}

/// The boot step: the loopback interface and the packet filter's rules. ENOMEM.
pub fn start(caller: Caller) -> Result<()> {
    set_caller(caller);
    let options = crate::cmdline::Options::parse(crate::cmdline::get());
    filter::start(options.firewall);
    stack::start()
}
