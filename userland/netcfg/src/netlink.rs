//! A socket of the route family (man 7 rtnetlink): requests, dumps, and what is in messages.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;

/// A message that is being written: the fixed part, then attributes.
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn attribute(&mut self, kind: u16, data: &[u8]) {
        let len = (4 + data.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
    pub fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.attribute(kind, &a.octets()),
            IpAddr::V6(a) => self.attribute(kind, &a.octets()),
        }
    }
}

/// A message that came.
pub struct Message {
    pub kind: u16,
    pub body: Vec<u8>,
}

impl Message {
    pub fn byte(&self, at: usize) -> u8 {
        self.body.get(at).copied().unwrap_or(0)
    }
    pub fn word(&self, at: usize) -> u32 {
        word(&self.body, at)
    }
    /// The attribute `kind` behind a fixed part of `fixed` bytes.
    pub fn attribute(&self, fixed: usize, kind: u16) -> Option<&[u8]> {
        let mut rest = self.body.get(fixed..)?;
        while let Some(head) = rest.first_chunk::<4>() {
            let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            let data = rest.get(4..len)?;
            if u16::from_ne_bytes([head[2], head[3]]) & 0x3fff == kind {
                return Some(data);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
        None
    }
    pub fn address(&self, fixed: usize, kind: u16) -> Option<IpAddr> {
        address(self.attribute(fixed, kind)?)
    }
    pub fn number(&self, fixed: usize, kind: u16) -> Option<u32> {
        self.attribute(fixed, kind).map(|b| word(b, 0))
    }
    pub fn text(&self, fixed: usize, kind: u16) -> Option<String> {
        let bytes = self.attribute(fixed, kind)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

/// The word at `at`; 0 past the end.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|b| b.first_chunk::<4>());
    four.map_or(0, |b| u32::from_ne_bytes(*b))
}

/// An address of four or sixteen bytes.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The socket.
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

fn checked(n: isize) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        const ROUTE: i32 = 0;
        // SAFETY: no pointers.
        let fd =
            unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, ROUTE) };
        checked(fd as isize)?;
        // SAFETY: a new descriptor that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Netlink { fd, sequence: 0 })
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        // SAFETY: the buffer lives through the call and has that length.
        let n = unsafe {
            libc::send(
                self.fd.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        checked(n).map(|_| ())
    }

    /// Everything that answers the last request: until the end of a dump, an error or an
    /// acknowledgement; or one message when `single`.
    fn answers(&mut self, single: bool) -> io::Result<Vec<Message>> {
        let mut out = Vec::new();
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            // SAFETY: the buffer lives through the call and has that length.
            let n = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            let mut rest = &buffer[..checked(n)?];
            while rest.len() >= HEADER {
                let len = word(rest, 0) as usize;
                let Some(body) = rest.get(HEADER..len) else {
                    return Err(io::Error::from_raw_os_error(libc::EBADMSG));
                };
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let is_ours = word(rest, 8) == self.sequence;
                rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
                match kind {
                    _ if !is_ours => {}
                    NLMSG_DONE => return Ok(out),
                    NLMSG_ERROR => {
                        return match word(body, 0) as i32 {
                            0 => Ok(out),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => {
                        let body = body.to_vec();
                        out.push(Message { kind, body });
                        if single {
                            return Ok(out);
                        }
                    }
                }
            }
        }
    }

    /// All objects of a kind.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        self.send(kind, NLM_F_DUMP, body)?;
        self.answers(false)
    }

    /// One object.
    pub fn get(&mut self, kind: u16, body: &[u8]) -> io::Result<Message> {
        self.send(kind, 0, body)?;
        let first = self.answers(true)?.into_iter().next();
        first.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))
    }

    /// Asks for a change.
    pub fn change(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, flags | NLM_F_ACK, body)?;
        self.answers(false).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_nonsense_is_not() {
        let mut body = Body(vec![0; 4]);
        body.attribute(3, b"eth0\0");
        body.address(1, "10.0.0.1".parse().unwrap());
        let m = Message {
            kind: 0,
            body: body.0,
        };
        assert_eq!(m.text(4, 3).as_deref(), Some("eth0"));
        assert_eq!(m.address(4, 1), "10.0.0.1".parse().ok());
        assert_eq!(m.attribute(4, 9), None);
        for len in 0..m.body.len() {
            let cut = Message {
                kind: 0,
                body: m.body[..len].to_vec(),
            };
            cut.attribute(4, 9);
        }
    }

    #[test]
    fn the_loopback_interface_is_there() {
        let mut socket = Netlink::open().unwrap();
        let links = socket.dump(18, &[0; 16]).unwrap();
        assert!(links.iter().any(|m| m.text(16, 3).as_deref() == Some("lo")));
    }
}
