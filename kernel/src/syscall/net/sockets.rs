//! Making sockets, naming and connecting them, their options.

use alloc::sync::Arc;

use super::{ADDRESS_MAX, read_address, socket_file, socket_of, write_address};
use crate::abi::net::{SO_DOMAIN, SO_PROTOCOL, SO_TYPE, SOL_SOCKET};
use crate::error::Errno;
use crate::file::{File, OpenFile, async_io};
use crate::mm::UserAddr;
use crate::net::unix::{self, AF_UNIX, Kind};
use crate::net::{self, Shutdown};
use crate::syscall::SyscallResult;
use crate::syscall::file::{install, nofile};
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user};
use crate::{abi, process};

/// Flags in the type of a new socket (man 2 socket).
const SOCK_NONBLOCK: u32 = abi::O_NONBLOCK;
const SOCK_CLOEXEC: u32 = abi::O_CLOEXEC;

pub fn socket(family: u32, kind: u32, protocol: u32) -> SyscallResult {
    let flags = kind & (SOCK_NONBLOCK | SOCK_CLOEXEC);
    // The bits below are the type's, the ones above are flags (man 2 socket); SOCK_PACKET is
    // the highest type.
    if kind & !flags > 10 {
        return Err(Errno::EINVAL);
    }
    let task = process::current();
    let file = net::create(family, kind & !flags, protocol, &task.cred())?;
    open(file, flags)
}

/// A descriptor for a new socket; `flags` are SOCK_NONBLOCK and SOCK_CLOEXEC.
fn open(file: Arc<dyn File>, flags: u32) -> SyscallResult {
    let of = OpenFile::new(file, abi::O_RDWR | (flags & SOCK_NONBLOCK));
    install(of, flags & SOCK_CLOEXEC != 0)
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

pub fn bind(fd: i32, address: UserAddr, len: u32) -> SyscallResult {
    let of = socket_file(fd)?;
    let address = read_address(address, len)?;
    socket_of(&of)?.bind(&address)?;
    Ok(0)
}

pub fn connect(fd: i32, address: UserAddr, len: u32) -> SyscallResult {
    let of = socket_file(fd)?;
    let address = read_address(address, len)?;
    let result = socket_of(&of)?.connect(&of, &address);
    if result == Err(Errno::EINPROGRESS) {
        // Its owner hears when it can be written to: then it is connected.
        async_io::lacks_room(&of);
    }
    result.map(|()| 0)
}

pub fn listen(fd: i32, backlog: i32) -> SyscallResult {
    let of = socket_file(fd)?;
    socket_of(&of)?.listen(backlog)?;
    Ok(0)
}

pub fn accept(fd: i32, address: UserAddr, len: UserPtr<u32>) -> SyscallResult {
    accept4(fd, address, len, 0)
}

pub fn accept4(fd: i32, address: UserAddr, len: UserPtr<u32>, flags: u32) -> SyscallResult {
    if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let of = socket_file(fd)?;
    // Before a connection is taken: none is lost for want of a descriptor.
    let task = process::current();
    let files = task.files();
    let reserved = files.reserve(nofile())?;
    let (file, peer) = socket_of(&of)?.accept(&of)?;
    if address.0 != 0 {
        write_address(&peer, address, len)?;
    }
    let of = OpenFile::new(file, abi::O_RDWR | (flags & SOCK_NONBLOCK));
    Ok(reserved.install(of, flags & SOCK_CLOEXEC != 0) as isize)
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
    let (family, kind, protocol) = socket.family_type_protocol();
    let int = |v: u32| v.to_ne_bytes().to_vec();
    let bytes = match (level, option) {
        (SOL_SOCKET, SO_TYPE) => int(kind),
        (SOL_SOCKET, SO_DOMAIN) => int(family),
        (SOL_SOCKET, SO_PROTOCOL) => int(protocol),
        _ => socket.option(level, option)?,
    };
    let room = len.read()? as usize;
    if room > i32::MAX as usize {
        return Err(Errno::EINVAL);
    }
    let n = bytes.len().min(room);
    copy_to_user(value, &bytes[..n])?;
    len.write(n as u32)?;
    Ok(0)
}

pub fn setsockopt(fd: i32, level: u32, option: u32, value: UserAddr, len: u32) -> SyscallResult {
    let of = socket_file(fd)?;
    if len > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; (len as usize).min(ADDRESS_MAX * 4)];
    copy_from_user(&mut bytes, value)?;
    socket_of(&of)?.set_option(level, option, &bytes)?;
    Ok(0)
}

pub fn getsockname(fd: i32, address: UserAddr, len: UserPtr<u32>) -> SyscallResult {
    let of = socket_file(fd)?;
    write_address(&socket_of(&of)?.local_address()?, address, len)?;
    Ok(0)
}

pub fn getpeername(fd: i32, address: UserAddr, len: UserPtr<u32>) -> SyscallResult {
    let of = socket_file(fd)?;
    write_address(&socket_of(&of)?.peer_address()?, address, len)?;
    Ok(0)
}
