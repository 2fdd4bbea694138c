//! Control data beside a message (man 3 cmsg): files, credentials, and what each protocol adds.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::net::SOL_SOCKET;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::net::Outgoing;
use crate::process;
use crate::security::capability;
use crate::syscall::file::install;

// man 7 unix (linux/socket.h).
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Most files in one message (SCM_MAX_FD).
const MAX_FILES: usize = 253;
/// `struct cmsghdr`: its length with the header, level, type.
const CMSG_HEADER: usize = 16;

/// Reads control messages of a send (man 3 cmsg).
pub(super) fn read_control(bytes: &[u8], with: &mut Outgoing<'_>) -> Result<()> {
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
                // `struct ucred` (man 7 unix), no more and no less.
                if data.len() != 12 {
                    return Err(Errno::EINVAL);
                }
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

/// Collects control messages of a receive in the room that the program gave.
pub(super) struct ControlOut {
    pub(super) bytes: Vec<u8>,
    room: usize,
    /// Something did not fit.
    pub(super) cut: bool,
}

impl ControlOut {
    /// For a program that gave `room` bytes.
    pub(super) fn new(room: usize) -> ControlOut {
        ControlOut {
            bytes: Vec::new(),
            room,
            cut: false,
        }
    }

    /// Adds one message, cut to the room that is left.
    pub(super) fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
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
    pub(super) fn put_files(&mut self, files: Vec<Arc<OpenFile>>, close_on_exec: bool) {
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
