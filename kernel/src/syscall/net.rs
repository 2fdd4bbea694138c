//! Calls on sockets. There are connected unix pairs so far; `socket` answers EAFNOSUPPORT.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SyscallResult;
use super::file::{io_file, with_sigpipe};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::net::unix::{self, AF_UNIX, Kind};
use crate::net::{MsgFlags, Received, Shutdown, Socket};
use crate::process;
use crate::vm::io::UserRange;
use crate::vm::{IoDest, IoSource, UserPtr};

// man 2 socket, man 2 recv, man 7 socket (asm-generic/socket.h).
const SOCK_NONBLOCK: u32 = abi::O_NONBLOCK;
const SOCK_CLOEXEC: u32 = abi::O_CLOEXEC;
const MSG_PEEK: u32 = 0x2;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_WAITALL: u32 = 0x100;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
const SOL_SOCKET: u32 = 1;
const SO_TYPE: u32 = 3;
const SO_ERROR: u32 = 4;
const SO_SNDBUF: u32 = 7;
const SO_RCVBUF: u32 = 8;
const SO_PEERCRED: u32 = 17;
const SO_ACCEPTCONN: u32 = 30;
const SO_PROTOCOL: u32 = 38;
const SO_DOMAIN: u32 = 39;
/// Most entries of a message's I/O vector (UIO_MAXIOV).
const IOV_MAX: usize = 1024;

pub fn socket(_family: u32, _kind: u32, _protocol: u32) -> SyscallResult {
    Err(Errno::EAFNOSUPPORT)
}

pub fn socketpair(family: u32, kind: u32, protocol: u32, fds: UserPtr<[i32; 2]>) -> SyscallResult {
    if family != AF_UNIX {
        return Err(match family {
            // AF_INET and AF_INET6 exist but make no pairs.
            2 | 10 => Errno::EOPNOTSUPP,
            _ => Errno::EAFNOSUPPORT,
        });
    }
    if protocol > 1 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let flags = kind & (SOCK_NONBLOCK | SOCK_CLOEXEC);
    let kind = match kind & !flags {
        1 => Kind::Stream,
        2 => Kind::Datagram,
        5 => Kind::Seqpacket,
        // Raw unix sockets are datagram ones, as on Linux.
        3 => Kind::Datagram,
        // The bits below are the type's, the ones above are flags (man 2 socket).
        other if other > 0xf => return Err(Errno::EINVAL),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    let task = process::current();
    let files = task.files();
    let limit = task.process().limit(abi::RLIMIT_NOFILE);
    let (first, second) = (files.reserve(limit)?, files.reserve(limit)?);
    fds.write([first.fd(), second.fd()])?;
    let cred = task.cred();
    let (a, b) = unix::pair(kind, (task.pid(), cred.euid, cred.egid));
    let open = |end| OpenFile::new(end, abi::O_RDWR | (flags & SOCK_NONBLOCK));
    first.install(open(a), flags & SOCK_CLOEXEC != 0);
    second.install(open(b), flags & SOCK_CLOEXEC != 0);
    Ok(0)
}

/// The description behind `fd`, which must be a socket (ENOTSOCK).
fn socket_file(fd: i32) -> Result<Arc<OpenFile>> {
    let of = io_file(fd)?;
    socket_of(&of)?;
    Ok(of)
}

fn socket_of(of: &OpenFile) -> Result<&dyn Socket> {
    let socket = unix::of_file(&*of.file).ok_or(Errno::ENOTSOCK)?;
    Ok(socket)
}

fn decode(of: &OpenFile, flags: u32) -> MsgFlags {
    MsgFlags {
        peek: flags & MSG_PEEK != 0,
        nonblocking: flags & MSG_DONTWAIT != 0 || of.nonblocking(),
        wait_all: flags & MSG_WAITALL != 0,
    }
}

fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 {
        Err(Errno::EOPNOTSUPP)
    } else {
        Ok(())
    }
}

fn send(fd: i32, mut src: IoSource<'_>, flags: u32) -> SyscallResult {
    check_flags(flags, MSG_DONTWAIT | MSG_NOSIGNAL)?;
    let of = socket_file(fd)?;
    let result = socket_of(&of)?.send(&of, &mut src, decode(&of, flags));
    if flags & MSG_NOSIGNAL != 0 {
        return result.map(|n| n as isize);
    }
    with_sigpipe(result)
}

pub fn sendto(
    fd: i32,
    buf: UserAddr,
    len: usize,
    flags: u32,
    _address: UserAddr,
    address_len: u32,
) -> SyscallResult {
    if address_len != 0 {
        // Pairs are connected.
        socket_file(fd)?;
        return Err(Errno::EISCONN);
    }
    send(fd, IoSource::user(buf, len.min(isize::MAX as usize)), flags)
}

fn receive(fd: i32, dst: &mut IoDest<'_>, flags: u32) -> Result<Received> {
    check_flags(
        flags,
        MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_CMSG_CLOEXEC,
    )?;
    let of = socket_file(fd)?;
    socket_of(&of)?.receive(&of, dst, decode(&of, flags))
}

/// What a receive returns: with MSG_TRUNC the message's whole length.
fn received_len(received: Received, flags: u32) -> isize {
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
    let mut dst = IoDest::user(buf, len.min(isize::MAX as usize));
    let received = receive(fd, &mut dst, flags)?;
    if address.0 != 0 {
        // The peer has no name.
        address_len.write(0)?;
    }
    Ok(received_len(received, flags))
}

/// `struct msghdr` of x86_64: name, its length, vector, its length, control, its length, flags.
type MsgHdr = [u64; 7];

fn ranges(header: &MsgHdr) -> Result<Vec<UserRange>> {
    let count = header[3] as usize;
    if count > IOV_MAX {
        return Err(Errno::EMSGSIZE);
    }
    let entries = UserPtr::<abi::iovec>::new(UserAddr(header[2])).read_vec(count)?;
    let mut total: usize = 0;
    entries
        .iter()
        .map(|e| {
            let len = e.iov_len as usize;
            total = total
                .checked_add(len)
                .filter(|&t| t <= isize::MAX as usize)?;
            Some(UserRange {
                addr: UserAddr(e.iov_base.addr() as u64),
                len,
            })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(Errno::EINVAL)
}

pub fn sendmsg(fd: i32, message: UserPtr<MsgHdr>, flags: u32) -> SyscallResult {
    let header = message.read()?;
    socket_file(fd)?;
    if header[5] != 0 {
        // Passing descriptors and credentials is not there yet.
        return Err(Errno::EOPNOTSUPP);
    }
    if header[0] != 0 && header[1] as u32 != 0 {
        return Err(Errno::EISCONN);
    }
    send(fd, IoSource::vector(ranges(&header)?), flags)
}

pub fn recvmsg(fd: i32, message: UserPtr<MsgHdr>, flags: u32) -> SyscallResult {
    let mut header = message.read()?;
    let received = receive(fd, &mut IoDest::vector(ranges(&header)?), flags)?;
    // No name, no control data; the flags word shares its eight bytes with padding.
    header[1] = 0;
    header[5] = 0;
    header[6] = if received.full_len > received.len {
        u64::from(MSG_TRUNC)
    } else {
        0
    };
    message.write(header)?;
    Ok(received_len(received, flags))
}

pub fn shutdown(fd: i32, how: u32) -> SyscallResult {
    let of = socket_file(fd)?;
    let how = match how {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        2 => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    socket_of(&of)?.shut_down(how)?;
    Ok(0)
}

pub fn getsockopt(
    fd: i32,
    level: u32,
    option: u32,
    value: UserAddr,
    len: UserPtr<u32>,
) -> SyscallResult {
    let of = socket_file(fd)?;
    let socket = socket_of(&of)?;
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let (family, kind, protocol) = socket.family_type_protocol();
    let (send, receive) = socket.buffer_sizes();
    let int = |v: u32| v.to_ne_bytes().to_vec();
    let bytes = match option {
        SO_TYPE => int(kind),
        SO_DOMAIN => int(family),
        SO_PROTOCOL => int(protocol),
        // Pairs report errors at once: none is kept.
        SO_ERROR | SO_ACCEPTCONN => int(0),
        SO_SNDBUF => int(send as u32),
        SO_RCVBUF => int(receive as u32),
        SO_PEERCRED => {
            let (pid, uid, gid) = socket.peer_credentials().ok_or(Errno::ENOPROTOOPT)?;
            [int(pid as u32), int(uid), int(gid)].concat()
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    let room = len.read()? as usize;
    let n = bytes.len().min(room);
    crate::vm::user::copy_to_user(value, &bytes[..n])?;
    len.write(n as u32)?;
    Ok(0)
}

/// No option can be changed yet.
pub fn setsockopt(
    fd: i32,
    _level: u32,
    _option: u32,
    _value: UserAddr,
    _len: u32,
) -> SyscallResult {
    socket_file(fd)?;
    Err(Errno::ENOPROTOOPT)
}

/// The name of an unnamed unix socket: the family alone.
fn write_unnamed(fd: i32, address: UserAddr, len: UserPtr<u32>) -> SyscallResult {
    let of = socket_file(fd)?;
    let family = (socket_of(&of)?.family_type_protocol().0 as u16).to_ne_bytes();
    let room = len.read()? as usize;
    crate::vm::user::copy_to_user(address, &family[..family.len().min(room)])?;
    len.write(family.len() as u32)?;
    Ok(0)
}

pub fn getsockname(fd: i32, address: UserAddr, len: UserPtr<u32>) -> SyscallResult {
    write_unnamed(fd, address, len)
}

pub fn getpeername(fd: i32, address: UserAddr, len: UserPtr<u32>) -> SyscallResult {
    write_unnamed(fd, address, len)
}
