//! Calls on sockets: decode addresses, messages and control data, call the [`Socket`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SyscallResult;
use super::file::{install, io_file, nofile, with_sigpipe};
use crate::abi;
use crate::abi::net::{SO_DOMAIN, SO_PROTOCOL, SO_TYPE, SOL_SOCKET};
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile};
use crate::mm::UserAddr;
use crate::net::unix::{self, AF_UNIX, Kind};
use crate::net::{self, MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::process;
use crate::security::capability;
use crate::time::{NS_PER_SEC, now_ns};
use crate::vm::io::UserRange;
use crate::vm::user::{copy_from_user, copy_to_user};
use crate::vm::{IoDest, IoSource, UserPtr};

// man 2 socket, man 2 recv (linux/socket.h).
const SOCK_NONBLOCK: u32 = abi::O_NONBLOCK;
const SOCK_CLOEXEC: u32 = abi::O_CLOEXEC;
const MSG_PEEK: u32 = 0x2;
const MSG_DONTROUTE: u32 = 0x4;
const MSG_CTRUNC: u32 = 0x8;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_EOR: u32 = 0x80;
const MSG_WAITALL: u32 = 0x100;
const MSG_CONFIRM: u32 = 0x800;
const MSG_ERRQUEUE: u32 = 0x2000;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_MORE: u32 = 0x8000;
const MSG_WAITFORONE: u32 = 0x1_0000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Most files in one message (SCM_MAX_FD).
const MAX_FILES: usize = 253;
/// Most entries of a message's I/O vector (UIO_MAXIOV).
const IOV_MAX: usize = 1024;
/// `struct sockaddr_storage`.
const ADDRESS_MAX: usize = 128;
/// Longest control data taken (net.core.optmem_max).
const CONTROL_MAX: usize = 20480;

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

/// The description behind `fd`, which must be a socket (ENOTSOCK).
fn socket_file(fd: i32) -> Result<Arc<OpenFile>> {
    let of = io_file(fd)?;
    socket_of(&of)?;
    Ok(of)
}

fn socket_of(of: &OpenFile) -> Result<&dyn Socket> {
    net::of_file(&*of.file).ok_or(Errno::ENOTSOCK)
}

/// Copies an address in. EINVAL when it is longer than any.
fn read_address(address: UserAddr, len: u32) -> Result<Vec<u8>> {
    if len as usize > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; len as usize];
    copy_from_user(&mut bytes, address)?;
    Ok(bytes)
}

/// Copies an address out, cut to the room that `*len` says; `*len` becomes its full length.
fn write_address(bytes: &[u8], address: UserAddr, len: UserPtr<u32>) -> Result<()> {
    let room = len.read()?;
    if room > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    copy_to_user(address, &bytes[..bytes.len().min(room as usize)])?;
    len.write(bytes.len() as u32)
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
    socket_of(&of)?.connect(&of, &address)?;
    Ok(0)
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

fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 {
        Err(Errno::EOPNOTSUPP)
    } else {
        Ok(())
    }
}

fn send(of: &OpenFile, src: &mut IoSource<'_>, flags: u32, with: Outgoing<'_>) -> Result<usize> {
    // MSG_MORE and MSG_CONFIRM are hints; nothing is routed off-link by MSG_DONTROUTE's users.
    check_flags(
        flags,
        MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_CONFIRM | MSG_EOR | MSG_DONTROUTE,
    )?;
    socket_of(of)?.send(of, src, decode(of, flags), with)
}

fn signalled(of: &OpenFile, result: Result<usize>, flags: u32) -> SyscallResult {
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

fn receive(of: &OpenFile, dst: &mut IoDest<'_>, flags: u32) -> Result<Received> {
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
fn received_len(received: &Received, flags: u32) -> isize {
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

/// `struct msghdr` of x86_64: name, its length, vector, its length, control, its length, flags.
type MsgHdr = [u64; 7];
/// `struct mmsghdr`: a header and the bytes moved, padded.
type MMsgHdr = [u64; 8];

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

/// `struct cmsghdr`: its length with the header, level, type.
const CMSG_HEADER: usize = 16;

/// Reads control messages of a send (man 3 cmsg).
fn read_control(bytes: &[u8], with: &mut Outgoing<'_>) -> Result<()> {
    let task = process::current();
    let mut rest = bytes;
    while rest.len() >= CMSG_HEADER {
        let len = u64::from_ne_bytes(*rest.first_chunk().ok_or(Errno::EINVAL)?) as usize;
        let word = |at: usize| {
            let bytes = rest.get(at..at + 4).and_then(|b| b.first_chunk());
            bytes.map(|b| u32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
        };
        let (level, kind) = (word(8)?, word(12)?);
        let data = rest.get(CMSG_HEADER..len).ok_or(Errno::EINVAL)?;
        match (level, kind) {
            (SOL_SOCKET, SCM_RIGHTS) => {
                for fd in data.as_chunks::<4>().0 {
                    if with.files.len() == MAX_FILES {
                        return Err(Errno::EINVAL);
                    }
                    with.files.push(task.file(i32::from_ne_bytes(*fd))?);
                }
            }
            (SOL_SOCKET, SCM_CREDENTIALS) => {
                let (pid, uid, gid) = (word(16)? as i32, word(20)?, word(24)?);
                let cred = task.cred();
                let is_own = pid == task.pid()
                    && [cred.uid, cred.euid, cred.suid].contains(&uid)
                    && [cred.gid, cred.egid, cred.sgid].contains(&gid);
                if !is_own && !cred.capable(capability::CAP_SYS_ADMIN) {
                    return Err(Errno::EPERM);
                }
                with.credentials = Some((pid, uid, gid));
            }
            (SOL_SOCKET, _) => return Err(Errno::EINVAL),
            // IP_PKTINFO...
            _ => with.control.push((level, kind, data.to_vec())),
        }
        let next = len.next_multiple_of(8).min(rest.len());
        rest = &rest[next..];
    }
    Ok(())
}

fn send_message(of: &OpenFile, header: &MsgHdr, flags: u32) -> Result<usize> {
    let address = match (header[0], header[1] as u32) {
        (0, _) | (_, 0) => None,
        (at, len) => Some(read_address(UserAddr(at), len)?),
    };
    let mut with = Outgoing {
        address: address.as_deref(),
        ..Outgoing::default()
    };
    let control_len = header[5] as usize;
    if header[4] != 0 && control_len != 0 {
        if control_len > CONTROL_MAX {
            return Err(Errno::ENOBUFS);
        }
        let mut control = alloc::vec![0; control_len];
        copy_from_user(&mut control, UserAddr(header[4]))?;
        read_control(&control, &mut with)?;
    }
    send(of, &mut IoSource::vector(ranges(header)?), flags, with)
}

pub fn sendmsg(fd: i32, message: UserPtr<MsgHdr>, flags: u32) -> SyscallResult {
    let of = socket_file(fd)?;
    signalled(&of, send_message(&of, &message.read()?, flags), flags)
}

pub fn sendmmsg(fd: i32, messages: UserPtr<MMsgHdr>, count: u32, flags: u32) -> SyscallResult {
    let of = socket_file(fd)?;
    let mut sent = 0;
    for i in 0..(count as usize).min(IOV_MAX) {
        let at = messages.at(i)?;
        let result = at.read().and_then(|mut entry| {
            let header: MsgHdr = core::array::from_fn(|i| entry[i]);
            entry[7] = send_message(&of, &header, flags)? as u64;
            at.write(entry)
        });
        match result {
            Ok(()) => sent += 1,
            Err(_) if sent > 0 => break,
            Err(e) => return signalled(&of, Err(e), flags),
        }
    }
    Ok(sent)
}

/// Collects control messages of a receive in the room that the program gave.
struct ControlOut {
    bytes: Vec<u8>,
    room: usize,
    cut: bool,
}

impl ControlOut {
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
        if self.room - self.bytes.len() < CMSG_HEADER {
            self.cut = true;
            return;
        }
        let start = self.bytes.len();
        let n = data.len().min(self.room - start - CMSG_HEADER);
        self.cut |= n < data.len();
        self.bytes
            .extend_from_slice(&((CMSG_HEADER + n) as u64).to_ne_bytes());
        self.bytes.extend_from_slice(&level.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&data[..n]);
        let end = self.bytes.len().next_multiple_of(8).min(self.room);
        self.bytes.resize(end, 0);
    }

    /// Gives descriptors to the files that fit.
    fn put_files(&mut self, files: Vec<Arc<OpenFile>>, close_on_exec: bool) {
        if files.is_empty() {
            return;
        }
        let room = self.room.saturating_sub(self.bytes.len() + CMSG_HEADER) / 4;
        let mut fds = Vec::new();
        let wanted = files.len();
        for file in files.into_iter().take(room) {
            match install(file, close_on_exec) {
                Ok(fd) => fds.extend_from_slice(&(fd as i32).to_ne_bytes()),
                Err(_) => break,
            }
        }
        self.cut |= fds.len() / 4 < wanted;
        if !fds.is_empty() {
            self.put(SOL_SOCKET, SCM_RIGHTS, &fds);
        }
    }
}

fn receive_message(of: &OpenFile, header: &mut MsgHdr, flags: u32) -> Result<isize> {
    let mut received = receive(of, &mut IoDest::vector(ranges(header)?), flags)?;
    if header[0] != 0 {
        let room = (header[1] as u32).min(ADDRESS_MAX as u32) as usize;
        let address = &received.address;
        copy_to_user(UserAddr(header[0]), &address[..address.len().min(room)])?;
        header[1] = address.len() as u64;
    }
    let mut control = ControlOut {
        bytes: Vec::new(),
        room: if header[4] == 0 {
            0
        } else {
            header[5] as usize
        },
        cut: false,
    };
    for (level, kind, data) in &received.control {
        control.put(*level, *kind, data);
    }
    let files = core::mem::take(&mut received.files);
    control.put_files(files, flags & MSG_CMSG_CLOEXEC != 0);
    if !control.bytes.is_empty() {
        copy_to_user(UserAddr(header[4]), &control.bytes)?;
    }
    header[5] = control.bytes.len() as u64;
    let mut out = 0;
    if received.full_len > received.len {
        out |= MSG_TRUNC;
    }
    if control.cut {
        out |= MSG_CTRUNC;
    }
    if received.is_error {
        out |= MSG_ERRQUEUE;
    }
    out |= flags & MSG_CMSG_CLOEXEC;
    // The flags word shares its eight bytes with padding.
    header[6] = u64::from(out);
    Ok(received_len(&received, flags))
}

pub fn recvmsg(fd: i32, message: UserPtr<MsgHdr>, flags: u32) -> SyscallResult {
    let of = socket_file(fd)?;
    let mut header = message.read()?;
    let n = receive_message(&of, &mut header, flags)?;
    message.write(header)?;
    Ok(n)
}

pub fn recvmmsg(
    fd: i32,
    messages: UserPtr<MMsgHdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<[i64; 2]>,
) -> SyscallResult {
    let of = socket_file(fd)?;
    let deadline = match timeout.non_null() {
        None => None,
        Some(timeout) => {
            let [seconds, ns] = timeout.read()?;
            if seconds < 0 || !(0..NS_PER_SEC as i64).contains(&ns) {
                return Err(Errno::EINVAL);
            }
            let ns = (seconds as u64)
                .saturating_mul(NS_PER_SEC)
                .saturating_add(ns as u64);
            Some(now_ns().saturating_add(ns))
        }
    };
    let mut flags_now = flags & !MSG_WAITFORONE;
    let mut done = 0;
    for i in 0..(count as usize).min(IOV_MAX) {
        let at = messages.at(i)?;
        let result = at.read().and_then(|mut entry| {
            let mut header: MsgHdr = core::array::from_fn(|i| entry[i]);
            let n = receive_message(&of, &mut header, flags_now)?;
            entry[..7].copy_from_slice(&header);
            entry[7] = n as u64;
            at.write(entry)
        });
        match result {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
        if flags & MSG_WAITFORONE != 0 {
            flags_now |= MSG_DONTWAIT;
        }
        // Looked at after each message only (man 2 recvmmsg, BUGS).
        if deadline.is_some_and(|d| now_ns() >= d) {
            break;
        }
    }
    Ok(done)
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
