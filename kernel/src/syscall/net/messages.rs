//! Messages: many buffers, an address and control data at once (man 2 sendmsg, recvmsg).

use alloc::vec::Vec;

use super::control::{ControlOut, read_control};
use super::transfer::{
    MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_TRUNC, receive, received_len, send, signalled,
};
use super::{ADDRESS_MAX, read_address, socket_file};
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::net::Outgoing;
use crate::syscall::SyscallResult;
use crate::syscall::file::io::{IOV_MAX, vector};
use crate::time::{NS_PER_SEC, now_ns};
use crate::vm::io::UserRange;
use crate::vm::user::{copy_from_user, copy_to_user};
use crate::vm::{IoDest, IoSource, UserPtr};

// man 2 recv (linux/socket.h); the other flags are all transfers'.
const MSG_CTRUNC: u32 = 0x8;
const MSG_WAITFORONE: u32 = 0x1_0000;
/// Longest control data taken (net.core.optmem_max).
const CONTROL_MAX: usize = 20480;

/// `struct msghdr` of x86_64: name, its length, vector, its length, control, its length, flags.
type MsgHdr = [u64; 7];

/// `struct mmsghdr`: a header and the bytes moved, padded.
type MMsgHdr = [u64; 8];

/// The memory that a message's vector names. EMSGSIZE for too many entries.
fn ranges(header: &MsgHdr) -> Result<Vec<UserRange>> {
    let count = header[3] as usize;
    if count > IOV_MAX {
        return Err(Errno::EMSGSIZE);
    }
    vector(UserPtr::new(UserAddr(header[2])), count)
}

/// Sends one message; the bytes that went.
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

/// Receives one message and fills in its header; what the call returns of it.
fn receive_message(of: &OpenFile, header: &mut MsgHdr, flags: u32) -> Result<isize> {
    let mut received = receive(of, &mut IoDest::vector(ranges(header)?), flags)?;
    if header[0] != 0 {
        let room = (header[1] as u32).min(ADDRESS_MAX as u32) as usize;
        let address = &received.address;
        copy_to_user(UserAddr(header[0]), &address[..address.len().min(room)])?;
        header[1] = address.len() as u64;
    }
    let room = if header[4] == 0 { 0 } else { header[5] };
    let mut control = ControlOut::new(room as usize);
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
