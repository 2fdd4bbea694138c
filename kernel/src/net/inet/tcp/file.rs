//! A socket as a file: reading, writing, polling, what ioctl asks.

use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::SeqCst;

use super::{Phase, TcpSocket};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::mm::UserAddr;
use crate::net::Socket;
use crate::net::inet::ioctl;
use crate::net::stack::flow::bit;
use crate::vm::{IoDest, IoSource, UserPtr};

/// A socket is writable when it takes this much, or a third of its buffer.
const LOW_WATER: usize = 2048;

impl File for TcpSocket {
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
        if let Some(table) = table {
            table.register(&self.readers);
            table.register_writers(&self.writers);
        }
        let (readable, writable) = (
            PollEvents::IN | PollEvents::RDNORM,
            PollEvents::OUT | PollEvents::WRNORM,
        );
        let c = match self.phase() {
            Phase::Idle => return writable | PollEvents::HUP,
            Phase::Listening(l) if l.nr_queued() > 0 => return readable,
            Phase::Listening(_) => return PollEvents::empty(),
            Phase::Connected(c) => c,
        };
        let status = &c.status;
        let mut events = PollEvents::empty();
        let read_shut = c.read_shut.load(SeqCst);
        let read_end = status.has(bit::READ_END | bit::CLOSED) || read_shut;
        let low = (self.options().receive_low as usize).max(1);
        if status.readable.load(SeqCst) >= low || read_end {
            events |= readable;
        }
        if status.has(bit::PEER_END | bit::CLOSED) || read_shut {
            events |= PollEvents::RDHUP;
        }
        let write_end = status.has(bit::WRITE_END) || c.write_shut.load(SeqCst);
        let enough = LOW_WATER.min(status.capacity.load(SeqCst) / 3).max(1);
        if status.room.load(SeqCst) >= enough || write_end {
            events |= writable;
        }
        if status.has(bit::CLOSED) || write_end && status.has(bit::PEER_END) {
            events |= PollEvents::HUP;
        }
        if status.has_error() {
            events |= PollEvents::ERR;
        }
        events
    }

    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        let out = UserPtr::<i32>::new(UserAddr(arg));
        match cmd {
            abi::ioctl::FIONREAD => {
                let n = match self.phase() {
                    Phase::Connected(c) => c.status.readable.load(SeqCst),
                    Phase::Idle => 0,
                    Phase::Listening(_) => return Err(Errno::EINVAL),
                };
                out.write(n as i32)?;
                Ok(0)
            }
            abi::ioctl::TIOCOUTQ => {
                let n = match self.phase() {
                    Phase::Connected(c) => c
                        .netif
                        .with_tcp(c.id, |socket| socket.send_queue())
                        .unwrap_or(0),
                    _ => 0,
                };
                out.write(n as i32)?;
                Ok(0)
            }
            _ => ioctl::interface(cmd, arg),
        }
    }

    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }

    fn describe(&self) -> Vec<u8> {
        self.inode.describe("socket")
    }
}
