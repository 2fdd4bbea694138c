//! Messages of netlink (linux/netlink.h): answers that are built, attributes that are read.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv6Address};

use super::super::inet::{AF_INET, AF_INET6};
use crate::error::{Errno, Result};

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLM_F_MULTI: u16 = 2;
pub(super) const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const HEADER: usize = 16;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const CAP_NET_ADMIN: u32 = 12;

/// Longest message of a dump: what musl's buffer takes.
const MESSAGE: usize = 4096;

/// Builds answers of one request: several netlink messages in few datagrams.
pub(super) struct Answer {
    datagrams: Vec<Vec<u8>>,
    current: Vec<u8>,
    /// Where the message that is being built begins.
    start: usize,
    sequence: u32,
    port: u32,
}

impl Answer {
    /// An empty answer to message number `sequence` of the socket `port`.
    pub(super) fn new(sequence: u32, port: u32) -> Answer {
        Answer {
            datagrams: Vec::new(),
            current: Vec::new(),
            start: 0,
            sequence,
            port,
        }
    }
    pub(super) fn begin(&mut self, kind: u16, flags: u16, head: &[u8]) {
        if self.current.len() > MESSAGE - 1024 {
            self.datagrams.push(core::mem::take(&mut self.current));
        }
        self.start = self.current.len();
        self.current.extend_from_slice(&0u32.to_ne_bytes());
        self.current.extend_from_slice(&kind.to_ne_bytes());
        self.current.extend_from_slice(&flags.to_ne_bytes());
        self.current.extend_from_slice(&self.sequence.to_ne_bytes());
        self.current.extend_from_slice(&self.port.to_ne_bytes());
        self.current.extend_from_slice(head);
    }
    pub(super) fn attribute(&mut self, kind: u16, data: &[u8]) {
        let len = (4 + data.len()) as u16;
        self.current.extend_from_slice(&len.to_ne_bytes());
        self.current.extend_from_slice(&kind.to_ne_bytes());
        self.current.extend_from_slice(data);
        let end = self.current.len().next_multiple_of(4);
        self.current.resize(end, 0);
    }
    pub(super) fn end(&mut self) {
        let len = (self.current.len() - self.start) as u32;
        self.current[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }
    /// An acknowledgement, or the error of the request whose header is `request`.
    pub(super) fn error(&mut self, result: Result<()>, request: &[u8]) {
        let code = result.err().map_or(0, |e| -i32::from(e.code()));
        self.begin(NLMSG_ERROR, 0, &code.to_ne_bytes());
        self.current
            .extend_from_slice(&request[..request.len().min(HEADER)]);
        self.end();
    }
    pub(super) fn done(&mut self) {
        self.begin(NLMSG_DONE, NLM_F_MULTI, &0u32.to_ne_bytes());
        self.end();
    }
    pub(super) fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.current.is_empty() {
            self.datagrams.push(self.current);
        }
        self.datagrams
    }
}

pub(super) fn octets(addr: IpAddress) -> Vec<u8> {
    match addr {
        IpAddress::Ipv4(a) => a.octets().to_vec(),
        IpAddress::Ipv6(a) => a.octets().to_vec(),
    }
}

pub(super) fn family(addr: IpAddress) -> u8 {
    (match addr {
        IpAddress::Ipv4(_) => AF_INET,
        IpAddress::Ipv6(_) => AF_INET6,
    }) as u8
}

/// The attributes behind a message's fixed part.
pub(super) fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut out = Vec::new();
    while let Some(head) = rest.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(data) = rest.get(4..len) else {
            break;
        };
        // Two bits say how the content is encoded (NLA_TYPE_MASK).
        out.push((u16::from_ne_bytes([head[2], head[3]]) & 0x3fff, data));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    out
}

pub(super) fn address(bytes: &[u8]) -> Result<IpAddress> {
    if let Ok(b) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddress::Ipv4(Ipv4Address::from(b)));
    }
    let b = <[u8; 16]>::try_from(bytes).map_err(|_| Errno::EINVAL)?;
    Ok(IpAddress::Ipv6(Ipv6Address::from(b)))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let b = bytes.get(at..at + 4).and_then(|b| b.first_chunk());
    b.map(|b| u32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

pub(super) fn check_prefix(addr: IpAddress, len: u8) -> Result<IpCidr> {
    let most = match addr {
        IpAddress::Ipv4(_) => 32,
        IpAddress::Ipv6(_) => 128,
    };
    if len > most {
        return Err(Errno::EINVAL);
    }
    Ok(IpCidr::new(addr, len))
}

/// A name as an attribute holds it, up to its end.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.split(|&b| b == 0).next().unwrap_or(&[]);
    core::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stop_at_nonsense() {
        assert!(attributes(&[1, 0, 1]).is_empty());
        assert!(attributes(&[200, 0, 1, 0, 5]).is_empty());
        let two = [5, 0, 3, 0, b'x', 0, 0, 0, 8, 0, 4, 0, 1, 2, 3, 4];
        let got = attributes(&two);
        assert_eq!(got, [(3, &b"x"[..]), (4, &[1, 2, 3, 4][..])]);
    }
}
