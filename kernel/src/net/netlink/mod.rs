//! Netlink sockets of the route family (man 7 netlink, man 7 rtnetlink): what `getifaddrs`
//! and `ip addr|link|route` ask and change. Answers are made when a request is sent and wait
//! in the socket; changes are not announced to others.

mod address;
mod link;
mod message;
mod neighbour;
mod route;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::stack;
use super::{MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::abi;
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::sched::WaitQueue;
use crate::sync::{Rank, SpinLock};
use crate::vm::{IoDest, IoSource};
use address::{RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR, change_address, put_addresses};
use link::{RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK, change_link, find, put_link};
use message::{Answer, HEADER, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_MULTI, word};
use neighbour::{RTM_DELNEIGH, RTM_GETNEIGH, put_neighbours};
use route::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, change_route, put_routes, tell_route};

/// AF_NETLINK (man 2 socket).
pub const AF_NETLINK: u32 = 16;
const NETLINK_ROUTE: u32 = 0;
/// Most bytes of answers that wait.
const MAX_WAITING: usize = 1 << 20;
const MAX_REQUEST: usize = 32 * 1024;

/// Answers one message. ENOBUFS never: answers are bounded by the number of interfaces.
fn respond(message: &[u8], port: u32) -> Vec<Vec<u8>> {
    let half = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
    let (kind, flags) = (half(4), half(6));
    let body = &message[HEADER..];
    let mut answer = Answer::new(word(message, 8).unwrap_or(0), port);
    let wanted = body.first().copied().unwrap_or(0);
    let dumps = flags & NLM_F_DUMP == NLM_F_DUMP;
    let result = match kind {
        RTM_GETLINK | RTM_GETADDR | RTM_GETROUTE | RTM_GETNEIGH if dumps => {
            for netif in stack::netifs() {
                match kind {
                    RTM_GETLINK => put_link(&mut answer, &netif, NLM_F_MULTI),
                    RTM_GETADDR => put_addresses(&mut answer, &netif, wanted),
                    RTM_GETNEIGH => put_neighbours(&mut answer, &netif, wanted),
                    _ => put_routes(&mut answer, &netif, wanted),
                }
            }
            answer.done();
            return answer.finish();
        }
        RTM_GETLINK => match find(body) {
            Ok(netif) => {
                put_link(&mut answer, &netif, 0);
                return answer.finish();
            }
            Err(e) => Err(e),
        },
        RTM_NEWLINK | RTM_SETLINK => change_link(body),
        RTM_NEWADDR if body.len() >= 8 => change_address(true, flags & NLM_F_EXCL != 0, body),
        RTM_DELADDR if body.len() >= 8 => change_address(false, false, body),
        RTM_NEWROUTE => change_route(true, flags, body),
        RTM_DELROUTE => change_route(false, flags, body),
        RTM_GETROUTE => match tell_route(&mut answer, body) {
            Ok(()) => return answer.finish(),
            failed => failed,
        },
        RTM_DELNEIGH => neighbour::forget(body),
        RTM_NEWADDR | RTM_DELADDR => Err(Errno::EINVAL),
        // Control messages are for nobody here.
        0..=15 => return Vec::new(),
        _ => Err(Errno::EOPNOTSUPP),
    };
    if result.is_err() || flags & NLM_F_ACK != 0 {
        answer.error(result, message);
    }
    answer.finish()
}

/// A netlink socket.
pub struct NetlinkSocket {
    kind: u32,
    inode: AnonInode,
    /// Its port number; 0 until it has one.
    port: AtomicU32,
    answers: SpinLock<VecDeque<Vec<u8>>>,
    waiting: AtomicUsize,
    readers: Arc<WaitQueue>,
}

/// man 2 socket. EPROTONOSUPPORT for families of netlink other than route.
pub fn create(kind: u32, protocol: u32) -> Result<Arc<dyn File>> {
    if !matches!(kind, 2 | 3) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if protocol != NETLINK_ROUTE {
        return Err(Errno::EPROTONOSUPPORT);
    }
    Ok(Arc::new(NetlinkSocket {
        kind,
        inode: AnonInode::new(abi::S_IFSOCK | 0o777),
        port: AtomicU32::new(0),
        answers: SpinLock::new(Rank::Object, VecDeque::new()),
        waiting: AtomicUsize::new(0),
        readers: Arc::new(WaitQueue::new()),
    }))
}

fn name(port: u32) -> Vec<u8> {
    // struct sockaddr_nl: family, padding, port, groups.
    let mut out = (AF_NETLINK as u16).to_ne_bytes().to_vec();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&port.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

impl NetlinkSocket {
    fn own_port(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1 << 20);
        let port = self.port.load(Ordering::Relaxed);
        if port != 0 {
            return port;
        }
        let new = NEXT.fetch_add(1, Ordering::Relaxed);
        let set = self
            .port
            .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
        set.map_or_else(|other| other, |_| new)
    }
}

impl Socket for NetlinkSocket {
    fn family_type_protocol(&self) -> (u32, u32, u32) {
        (AF_NETLINK, self.kind, NETLINK_ROUTE)
    }
    fn bind(&self, address: &[u8]) -> Result<()> {
        if address.len() < 12 {
            return Err(Errno::EINVAL);
        }
        let (port, groups) = (word(address, 4)?, word(address, 8)?);
        if groups != 0 {
            // Nothing is announced: who would listen must know.
            return Err(Errno::EOPNOTSUPP);
        }
        if port != 0 {
            self.port.store(port, Ordering::Relaxed);
        }
        self.own_port();
        Ok(())
    }
    fn connect(&self, _of: &OpenFile, address: &[u8]) -> Result<()> {
        match address.len() {
            12.. if word(address, 4)? == 0 => Ok(()),
            12.. => Err(Errno::ECONNREFUSED),
            _ => Err(Errno::EINVAL),
        }
    }
    fn send(
        &self,
        _of: &OpenFile,
        src: &mut IoSource<'_>,
        _flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        if let Some(to) = with.address
            && (to.len() < 12 || word(to, 4)? != 0)
        {
            // Only the kernel answers.
            return Err(Errno::ECONNREFUSED);
        }
        let len = src.remaining();
        if len > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        if self.waiting.load(Ordering::Relaxed) > MAX_WAITING {
            return Err(Errno::ENOBUFS);
        }
        let mut bytes = alloc::vec![0; len];
        src.get(&mut bytes)?;
        let port = self.own_port();
        let mut rest = &bytes[..];
        while rest.len() >= HEADER {
            let n = word(rest, 0)? as usize;
            let Some(message) = rest.get(..n).filter(|m| m.len() >= HEADER) else {
                return Err(Errno::EINVAL);
            };
            for datagram in respond(message, port) {
                self.waiting.fetch_add(datagram.len(), Ordering::Relaxed);
                self.answers.lock().push_back(datagram);
            }
            rest = rest.get(n.next_multiple_of(4)..).unwrap_or(&[]);
        }
        self.readers.wake_all();
        Ok(len)
    }
    fn receive(&self, _of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        loop {
            let first = self.answers.lock().pop_front();
            if let Some(datagram) = first {
                let mut received = Received {
                    full_len: datagram.len(),
                    address: name(0),
                    ..Received::default()
                };
                let copied = dst.put(&datagram);
                if flags.peek {
                    self.answers.lock().push_front(datagram);
                } else {
                    self.waiting.fetch_sub(datagram.len(), Ordering::Relaxed);
                }
                received.len = copied?;
                return Ok(received);
            }
            if flags.nonblocking {
                return Err(Errno::EAGAIN);
            }
            self.readers
                .wait_interruptible(None, || {
                    (self.waiting.load(Ordering::Relaxed) > 0).then_some(())
                })
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }
    fn shut_down(&self, _how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(name(self.port.load(Ordering::Relaxed)))
    }
    fn peer_address(&self) -> Result<Vec<u8>> {
        Ok(name(0))
    }
    fn option(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        match (level, option) {
            (uapi::SOL_SOCKET, uapi::SO_ERROR) => Ok(0u32.to_ne_bytes().to_vec()),
            (uapi::SOL_SOCKET, uapi::SO_RCVBUF | uapi::SO_SNDBUF) => {
                Ok((MAX_WAITING as u32).to_ne_bytes().to_vec())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        match (level, option) {
            // A request for room; there is as much as it ever gets.
            (uapi::SOL_SOCKET, uapi::SO_RCVBUF | uapi::SO_SNDBUF) => {
                super::int_option(value).map(|_| ())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
}

impl File for NetlinkSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        self.read_bytes(of, dst)
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.send(of, src, MsgFlags::default(), Outgoing::default())
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.readers);
        }
        let mut events = PollEvents::OUT | PollEvents::WRNORM;
        if self.waiting.load(Ordering::Relaxed) > 0 {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        events
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        super::inet::ioctl::interface(cmd, arg)
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        self.inode.describe("socket")
    }
}

#[cfg(test)]
mod tests {
    use super::message::NLMSG_DONE;
    use super::*;

    fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut m = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        m.extend_from_slice(&kind.to_ne_bytes());
        m.extend_from_slice(&flags.to_ne_bytes());
        m.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
        m.extend_from_slice(body);
        m
    }

    #[test]
    fn a_dump_ends() {
        let answer = respond(&request(RTM_GETROUTE, NLM_F_DUMP | 1, &[0; 12]), 9);
        let last = answer.last().unwrap();
        let end = &last[last.len() - 20..];
        assert_eq!(word(end, 0), Ok(20));
        assert_eq!(u16::from_ne_bytes([end[4], end[5]]), NLMSG_DONE);
        assert_eq!((word(end, 8), word(end, 12)), (Ok(7), Ok(9)));
    }

    #[test]
    fn requests_of_any_shape_are_answered_with_errors() {
        for kind in 16..40 {
            for len in 0..40 {
                respond(&request(kind, NLM_F_ACK, &vec![0xff; len]), 1);
            }
        }
        let answer = respond(&request(99, 1, &[]), 1);
        let code = -i32::from(Errno::EOPNOTSUPP.code());
        assert_eq!(answer[0][16..20], code.to_ne_bytes());
    }
}
