//! One buffer to or from a socket (man 2 send, man 2 recv), and what the flags of all transfers
//! mean.

use super::{read_address, socket_file, socket_of, write_address};
use crate::error::{Errno, Result};
use crate::file::{OpenFile, async_io};
use crate::mm::UserAddr;
use crate::net::{self, MsgFlags, Outgoing, Received};
use crate::syscall::SyscallResult;
use crate::syscall::file::with_sigpipe;
use crate::vm::{IoDest, IoSource, UserPtr};

// man 2 send, man 2 recv (linux/socket.h).
const MSG_PEEK: u32 = 0x2;
const MSG_DONTROUTE: u32 = 0x4;
pub(super) const MSG_TRUNC: u32 = 0x20;
pub(super) const MSG_DONTWAIT: u32 = 0x40;
const MSG_EOR: u32 = 0x80;
const MSG_WAITALL: u32 = 0x100;
const MSG_CONFIRM: u32 = 0x800;
pub(super) const MSG_ERRQUEUE: u32 = 0x2000;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_MORE: u32 = 0x8000;
pub(super) const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;

/// The flags in the words of [`crate::net::Socket`].
fn decode(of: &OpenFile, flags: u32) -> MsgFlags {
    MsgFlags {
        peek: flags & MSG_PEEK != 0,
        nonblocking: flags & MSG_DONTWAIT != 0 || of.nonblocking(),
        wait_all: flags & MSG_WAITALL != 0,
        more: flags & MSG_MORE != 0,
        discard: flags & MSG_TRUNC != 0,
        errors: flags & MSG_ERRQUEUE != 0,
    }
}

/// EOPNOTSUPP for flags that a call does not know.
fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 {
        Err(Errno::EOPNOTSUPP)
    } else {
        Ok(())
    }
}

/// Sends what `src` holds; the bytes that went.
pub(super) fn send(
    of: &OpenFile,
    src: &mut IoSource<'_>,
    flags: u32,
    with: Outgoing<'_>,
) -> Result<usize> {
    // MSG_MORE and MSG_CONFIRM are hints; nothing is routed off-link by MSG_DONTROUTE's users.
    check_flags(
        flags,
        MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_CONFIRM | MSG_EOR | MSG_DONTROUTE,
    )?;
    let result = socket_of(of)?.send(of, src, decode(of, flags), with);
    if src.remaining() > 0 || result == Err(Errno::EAGAIN) {
        async_io::lacks_room(of);
    }
    result
}

/// SIGPIPE for a broken stream, unless MSG_NOSIGNAL.
pub(super) fn signalled(of: &OpenFile, result: Result<usize>, flags: u32) -> SyscallResult {
    if flags & MSG_NOSIGNAL != 0 {
        return result.map(|n| n as isize);
    }
    with_sigpipe(of, result)
}

pub fn sendto(
    fd: i32,
    buf: UserAddr,
    len: usize,
    flags: u32,
    address: UserAddr,
    address_len: u32,
) -> SyscallResult {
    let of = socket_file(fd)?;
    let address = match address.0 {
        0 => None,
        _ => Some(read_address(address, address_len)?),
    };
    let with = Outgoing {
        address: address.as_deref(),
        ..Outgoing::default()
    };
    let mut src = IoSource::user(buf, len.min(isize::MAX as usize));
    signalled(&of, send(&of, &mut src, flags, with), flags)
}

/// Receives into `dst`.
pub(super) fn receive(of: &OpenFile, dst: &mut IoDest<'_>, flags: u32) -> Result<Received> {
    let mut known =
        MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_CMSG_CLOEXEC | MSG_NOSIGNAL;
    if matches!(
        socket_of(of)?.family_type_protocol().0,
        net::inet::AF_INET | net::inet::AF_INET6
    ) {
        known |= MSG_ERRQUEUE;
    }
    check_flags(flags, known)?;
    socket_of(of)?.receive(of, dst, decode(of, flags))
}

/// What a receive returns: with MSG_TRUNC the message's whole length.
pub(super) fn received_len(received: &Received, flags: u32) -> isize {
    (if flags & MSG_TRUNC != 0 {
        received.full_len
    } else {
        received.len
    }) as isize
}

pub fn recvfrom(
    fd: i32,
    buf: UserAddr,
    len: usize,
    flags: u32,
    address: UserAddr,
    address_len: UserPtr<u32>,
) -> SyscallResult {
    let of = socket_file(fd)?;
    let mut dst = IoDest::user(buf, len.min(isize::MAX as usize));
    let received = receive(&of, &mut dst, flags)?;
    if address.0 != 0 {
        write_address(&received.address, address, address_len)?;
    }
    Ok(received_len(&received, flags))
}
