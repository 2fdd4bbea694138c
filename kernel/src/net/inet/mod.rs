//! AF_INET and AF_INET6 sockets (man 7 ip, man 7 ipv6): addresses that TCP ([`tcp`])
//! and datagram sockets ([`datagram`]) share; [`options`] are those of both.

mod control;
pub mod datagram;
mod errors;
pub mod ioctl;
#[cfg(test)]
mod loopback_tests;
mod multicast;
mod options;
pub mod tcp;
mod tcp_info;

use alloc::sync::Arc;
use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address, Ipv6Address};

use super::stack::{self, table::Takes};
use crate::error::{Errno, Result};
use crate::file::File;
use crate::security::cred::Credentials;
use options::{DEFAULT_BUFFER, Options};

/// AF_INET (man 2 socket).
pub const AF_INET: u32 = 2;
/// AF_INET6.
pub const AF_INET6: u32 = 10;

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_RAW: u32 = 3;
const IPPROTO_IP: u32 = 0;
const IPPROTO_ICMP: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_IPV6: u32 = 41;
const IPPROTO_ICMPV6: u32 = 58;
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_RAW: u32 = 13;

/// An internet family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6.
    V6,
}

impl Family {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        }
    }
}

/// Who made a socket.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Its user, for SO_REUSEPORT.
    pub uid: u32,
}

/// man 2 socket, for these families.
pub fn create(
    family: Family,
    kind: u32,
    protocol: u32,
    cred: &Credentials,
) -> Result<Arc<dyn File>> {
    let owner = Owner { uid: cred.euid };
    let icmp = match family {
        Family::V4 => IPPROTO_ICMP,
        Family::V6 => IPPROTO_ICMPV6,
    };
    let takes = match (kind, protocol) {
        (SOCK_STREAM, 0 | IPPROTO_TCP) => {
            return Ok(tcp::TcpSocket::new(family, owner));
        }
        (SOCK_DGRAM, 0 | IPPROTO_UDP) => Takes::Udp,
        (SOCK_DGRAM, p) if p == icmp => Takes::Ping,
        (SOCK_RAW, 1..=255) => {
            if !cred.capable(CAP_NET_RAW) {
                return Err(Errno::EPERM);
            }
            Takes::Raw(protocol as u8)
        }
        (SOCK_STREAM | SOCK_DGRAM | SOCK_RAW, _) => return Err(Errno::EPROTONOSUPPORT),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok(datagram::DatagramSocket::new(family, takes, owner))
}

/// An address and port as a program names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// `None` is the unspecified address.
    pub addr: Option<IpAddress>,
    /// Port.
    pub port: u16,
    /// The interface of a link-local address (sin6_scope_id); 0 for none.
    pub scope: u32,
}

/// Reads a `sockaddr_in` or `sockaddr_in6` for a socket of `family`. EINVAL when it is too
/// short; EAFNOSUPPORT.
pub fn read_name(family: Family, bytes: &[u8]) -> Result<Name> {
    let least = match family {
        Family::V4 => 16,
        Family::V6 => 24,
    };
    if bytes.len() < least {
        return Err(Errno::EINVAL);
    }
    let number = u32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = |b: &[u8]| u16::from_be_bytes([b[2], b[3]]);
    match (family, number) {
        (Family::V4, AF_INET) => {
            let b = bytes;
            let addr = Ipv4Address::new(b[4], b[5], b[6], b[7]);
            Ok(Name {
                addr: (!addr.is_unspecified()).then_some(addr.into()),
                port: port(b),
                scope: 0,
            })
        }
        (Family::V6, AF_INET6) => {
            let b = bytes;
            let octets: &[u8; 16] = b[8..].first_chunk().ok_or(Errno::EINVAL)?;
            let addr = Ipv6Address::from(*octets);
            let scope: &[u8; 4] = match bytes.get(24..28) {
                Some(b) => b.first_chunk().ok_or(Errno::EINVAL)?,
                None => &[0; 4],
            };
            let addr = match addr.to_ipv4_mapped() {
                Some(v4) => (!v4.is_unspecified()).then_some(IpAddress::Ipv4(v4)),
                None if addr.is_unspecified() => None,
                None => Some(IpAddress::Ipv6(addr)),
            };
            Ok(Name {
                addr,
                port: port(b),
                scope: u32::from_ne_bytes(*scope),
            })
        }
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// The bytes of a `sockaddr_in` or, for sockets of AF_INET6, `sockaddr_in6`.
pub fn write_name(family: Family, name: Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    out.extend_from_slice(&(family.number() as u16).to_ne_bytes());
    out.extend_from_slice(&name.port.to_be_bytes());
    match family {
        Family::V4 => {
            let addr = match name.addr {
                Some(IpAddress::Ipv4(a)) => a,
                _ => Ipv4Address::UNSPECIFIED,
            };
            out.extend_from_slice(&addr.octets());
            out.resize(16, 0);
        }
        Family::V6 => {
            let addr = match name.addr {
                Some(IpAddress::Ipv6(a)) => a,
                Some(IpAddress::Ipv4(a)) => a.to_ipv6_mapped(),
                None => Ipv6Address::UNSPECIFIED,
            };
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&addr.octets());
            out.extend_from_slice(&name.scope.to_ne_bytes());
        }
    }
    out
}

/// The name of an end of a connection.
pub fn name_of(end: IpEndpoint) -> Name {
    Name {
        addr: (!end.addr.is_unspecified()).then_some(end.addr),
        port: end.port,
        scope: 0,
    }
}

/// A destination: the unspecified address means this machine (as on Linux).
pub fn destination(family: Family, name: Name) -> IpAddress {
    name.addr.unwrap_or(match family {
        Family::V4 => IpAddress::v4(127, 0, 0, 1),
        Family::V6 => IpAddress::Ipv6(Ipv6Address::LOCALHOST),
    })
}

/// Whether a socket may be bound to `addr`. EADDRNOTAVAIL.
pub fn check_bindable(addr: Option<IpAddress>) -> Result<()> {
    match addr {
        None => Ok(()),
        Some(a) if a.is_multicast() || a.is_broadcast() || stack::is_local(a) => Ok(()),
        Some(_) => Err(Errno::EADDRNOTAVAIL),
    }
}

/// Whether the running thread may bind to `port` (ip_unprivileged_port_start). EACCES.
pub fn check_port(port: u16) -> Result<()> {
    if (1..1024).contains(&port) {
        super::may(CAP_NET_BIND_SERVICE).map_err(|_| Errno::EACCES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let v4 = Name {
            addr: Some(IpAddress::v4(10, 1, 2, 3)),
            port: 0x1234,
            scope: 0,
        };
        let bytes = write_name(Family::V4, v4);
        assert_eq!(bytes[..8], [2, 0, 0x12, 0x34, 10, 1, 2, 3]);
        assert_eq!(read_name(Family::V4, &bytes), Ok(v4));
        // On an AF_INET6 socket the same address is a mapped one.
        let mapped = write_name(Family::V6, v4);
        assert_eq!(mapped.len(), 28);
        assert_eq!(read_name(Family::V6, &mapped), Ok(v4));
        assert_eq!(read_name(Family::V4, &mapped), Err(Errno::EAFNOSUPPORT));
        assert_eq!(read_name(Family::V4, &bytes[..15]), Err(Errno::EINVAL));
        assert_eq!(read_name(Family::V6, &[10]), Err(Errno::EINVAL));
        let any = Name {
            addr: None,
            port: 0,
            scope: 3,
        };
        let bytes = write_name(Family::V6, any);
        assert_eq!(read_name(Family::V6, &bytes), Ok(any));
    }
}
