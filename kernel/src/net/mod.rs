//! Sockets. So far connected pairs of unix sockets ([`unix`]); what a socket call asks of a
//! file is in [`Socket`], which every kind implements.

pub mod unix;

use crate::error::Result;
use crate::file::OpenFile;
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
}

/// What a receive found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Bytes put into the buffer.
    pub len: usize,
    /// Length of the message, which may be more (datagrams).
    pub full_len: usize,
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

/// A socket, behind the [`crate::file::File`] that a descriptor names.
pub trait Socket {
    /// (address family, SOCK_* type, protocol).
    fn family_type_protocol(&self) -> (u32, u32, u32);
    /// man 2 send. EPIPE: the caller sends SIGPIPE unless MSG_NOSIGNAL.
    fn send(&self, of: &OpenFile, src: &mut IoSource<'_>, flags: MsgFlags) -> Result<usize>;
    /// man 2 recv.
    fn receive(&self, of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received>;
    /// man 2 shutdown.
    fn shut_down(&self, how: Shutdown) -> Result<()>;
    /// Size of the send and of the receive buffer in bytes (SO_SNDBUF, SO_RCVBUF).
    fn buffer_sizes(&self) -> (usize, usize);
    /// (pid, uid, gid) of the peer (SO_PEERCRED); `None` where that means nothing.
    fn peer_credentials(&self) -> Option<(i32, u32, u32)>;
}
