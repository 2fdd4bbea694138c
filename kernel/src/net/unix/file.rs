//! A unix socket as a file: read, write, poll, ioctl.

use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::SeqCst;

use super::endpoint::{SHUT_READ, SHUT_WRITE};
use super::{Kind, UnixSocket};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::mm::UserAddr;
use crate::net::Socket;
use crate::vm::{IoDest, IoSource, UserPtr};

impl File for UnixSocket {
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
        let end = &self.end;
        let mut peer = end.peer();
        if let Some(table) = table {
            table.register(&end.readable);
            table.register_writers(&end.sendable);
            if let (Kind::Datagram, Some(peer)) = (end.kind, &peer) {
                table.register_writers(&peer.room);
            }
            // It may have been connected in between.
            peer = end.peer();
        }
        let mut events = PollEvents::empty();
        if end.error.load(SeqCst) != 0 {
            events |= PollEvents::ERR;
        }
        let shut = end.shut.load(SeqCst);
        if end.inbox.has_any() || end.has_pending() || shut & SHUT_READ != 0 {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if shut & SHUT_READ != 0 {
            events |= PollEvents::RDHUP;
        }
        if shut & (SHUT_READ | SHUT_WRITE) == SHUT_READ | SHUT_WRITE {
            events |= PollEvents::HUP;
        }
        if end.is_listening() {
            return events;
        }
        let limit = end.send_limit.load(SeqCst);
        let writable = match &peer {
            // Half free, so that writers do not wake for every byte.
            Some(peer) => peer.inbox.used() * 2 <= limit || peer.is_closed(),
            None => true,
        };
        if peer.is_none() && end.kind != Kind::Datagram {
            events |= PollEvents::HUP;
        }
        if writable || shut & SHUT_WRITE != 0 {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }
    fn raises_sigpipe(&self) -> bool {
        self.end.kind == Kind::Stream
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        let out = UserPtr::<i32>::new(UserAddr(arg));
        match cmd {
            abi::ioctl::FIONREAD => {
                if self.end.is_listening() {
                    return Err(Errno::EINVAL);
                }
                out.write(self.end.inbox.nr_readable(self.end.kind) as i32)?;
            }
            abi::ioctl::TIOCOUTQ => {
                let used = self.end.peer().map_or(0, |p| p.inbox.used());
                out.write(used as i32)?;
            }
            // Any socket will do to ask about interfaces: if_nametoindex(3) takes this kind.
            _ => return crate::net::inet::ioctl::interface(cmd, arg),
        }
        Ok(0)
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        self.inode.describe("socket")
    }
}
