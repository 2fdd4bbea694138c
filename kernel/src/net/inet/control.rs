//! Control messages of datagrams (man 7 ip, man 7 ipv6): what a program is told about one that
//! came, and what it asks for one that goes.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::options::{Options, Timestamps};
use super::{Family, IPPROTO_IP, IPPROTO_IPV6};
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::net::stack;
use crate::net::stack::table::Datagram;
use crate::time::NS_PER_SEC;

/// A control message: level, type, bytes.
type Message = (u32, u32, Vec<u8>);

/// The messages that a program asked for with a datagram (man 7 ip, man 7 ipv6, man 7 socket).
pub fn of_received(family: Family, options: &Options, d: &Datagram) -> Vec<Message> {
    let mut out = Vec::new();
    let (seconds, rest) = (d.time_ns / NS_PER_SEC, d.time_ns % NS_PER_SEC);
    let pair = |fraction: u64| [seconds.to_ne_bytes(), fraction.to_ne_bytes()].concat();
    match options.timestamps {
        Timestamps::None => {}
        Timestamps::Microseconds => {
            out.push((uapi::SOL_SOCKET, uapi::SO_TIMESTAMP_OLD, pair(rest / 1000)));
        }
        Timestamps::Nanoseconds => {
            out.push((uapi::SOL_SOCKET, uapi::SO_TIMESTAMPNS_OLD, pair(rest)));
        }
    }
    if options.receive_info {
        out.extend(info(family, d));
    }
    let int = |v: u8| i32::from(v).to_ne_bytes().to_vec();
    if options.receive_hops {
        let (level, kind) = match family {
            Family::V4 => (IPPROTO_IP, uapi::IP_TTL),
            Family::V6 => (IPPROTO_IPV6, uapi::IPV6_HOPLIMIT),
        };
        out.push((level, kind, int(d.hops)));
    }
    let class = d.traffic_class;
    match d.to {
        IpAddress::Ipv4(_) if options.receive_tos => {
            // A byte, where IPv6 has an int.
            out.push((IPPROTO_IP, uapi::IP_TOS, alloc::vec![class]));
        }
        IpAddress::Ipv6(_) if options.receive_traffic_class => {
            out.push((IPPROTO_IPV6, uapi::IPV6_TCLASS, int(class)));
        }
        _ => {}
    }
    out
}

/// IP_PKTINFO or IPV6_PKTINFO.
fn info(family: Family, d: &Datagram) -> Option<Message> {
    let index = d.interface.to_ne_bytes();
    match (family, d.to) {
        (Family::V4, IpAddress::Ipv4(to)) => {
            // Index, the local address, the header's destination.
            let local = if to.is_multicast() || to.is_broadcast() {
                stack::by_index(d.interface)
                    .and_then(|n| n.config().source(d.from.addr))
                    .and_then(|a| match a {
                        IpAddress::Ipv4(a) => Some(a),
                        IpAddress::Ipv6(_) => None,
                    })
                    .unwrap_or(to)
            } else {
                to
            };
            let info = [index, local.octets(), to.octets()].concat();
            Some((IPPROTO_IP, uapi::IP_PKTINFO, info))
        }
        (Family::V6, to) => {
            let to = match to {
                IpAddress::Ipv6(to) => to,
                IpAddress::Ipv4(to) => to.to_ipv6_mapped(),
            };
            let mut info = to.octets().to_vec();
            info.extend_from_slice(&index);
            Some((IPPROTO_IPV6, uapi::IPV6_PKTINFO, info))
        }
        (Family::V4, IpAddress::Ipv6(_)) => None,
    }
}

/// What the control messages of a send ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The source address.
    pub from: Option<IpAddress>,
    /// The interface; 0 for any.
    pub interface: u32,
    /// TTL or hop limit.
    pub hops: Option<u8>,
    /// Type of service or traffic class.
    pub traffic_class: Option<u8>,
}

fn word(data: &[u8], at: usize) -> Result<[u8; 4]> {
    let bytes = data.get(at..at + 4).and_then(|b| b.first_chunk());
    bytes.copied().ok_or(Errno::EINVAL)
}

/// The value of an int message that must lie in `range`. EINVAL.
fn int_in(data: &[u8], range: core::ops::RangeInclusive<i32>) -> Result<i32> {
    let value = i32::from_ne_bytes(word(data, 0)?);
    if data.len() == 4 && range.contains(&value) {
        Ok(value)
    } else {
        Err(Errno::EINVAL)
    }
}

/// A value of -1 to 255, where -1 is the socket's own.
fn byte_or_own(data: &[u8]) -> Result<Option<u8>> {
    Ok(u8::try_from(int_in(data, -1..=255)?).ok())
}

/// Reads the messages of a send to `to` by a socket of `family`; other levels than the ones of
/// its protocol are for others. EINVAL for what is not known or unsound, ENODEV; ENETUNREACH,
/// or EINVAL for IPv6, for a source that is not this machine's.
pub fn of_send(family: Family, to: IpAddress, messages: &[Message]) -> Result<Wishes> {
    let mut wishes = Wishes::default();
    for (level, kind, data) in messages {
        match (*level, to) {
            (IPPROTO_IP, IpAddress::Ipv4(_)) => wishes.ask_v4(*kind, data)?,
            (IPPROTO_IPV6, IpAddress::Ipv6(_)) => wishes.ask_v6(*kind, data)?,
            (IPPROTO_IPV6, IpAddress::Ipv4(_))
                if family == Family::V6 && *kind == uapi::IPV6_PKTINFO =>
            {
                wishes.ask_mapped(data)?;
            }
            _ => {}
        }
    }
    if wishes.interface != 0 && stack::by_index(wishes.interface).is_none() {
        return Err(Errno::ENODEV);
    }
    match wishes.from {
        Some(a) if stack::is_local(a) => Ok(wishes),
        Some(IpAddress::Ipv4(_)) => Err(Errno::ENETUNREACH),
        Some(IpAddress::Ipv6(_)) => Err(Errno::EINVAL),
        None => Ok(wishes),
    }
}

impl Wishes {
    fn ask_v4(&mut self, kind: u32, data: &[u8]) -> Result<()> {
        match kind {
            uapi::IP_PKTINFO if data.len() == 12 => {
                self.interface = u32::from_ne_bytes(word(data, 0)?);
                let from = Ipv4Address::from(word(data, 4)?);
                self.from = (!from.is_unspecified()).then_some(from.into());
            }
            uapi::IP_TTL => self.hops = Some(int_in(data, 1..=255)? as u8),
            uapi::IP_TOS => {
                self.traffic_class = Some(match data {
                    [class] => *class,
                    _ => int_in(data, 0..=255)? as u8,
                });
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn ask_v6(&mut self, kind: u32, data: &[u8]) -> Result<()> {
        match kind {
            uapi::IPV6_PKTINFO => {
                let from: &[u8; 16] = data.first_chunk().ok_or(Errno::EINVAL)?;
                let from = Ipv6Address::from(*from);
                self.interface = u32::from_ne_bytes(word(data, 16)?);
                self.from = (!from.is_unspecified()).then_some(from.into());
            }
            uapi::IPV6_HOPLIMIT => self.hops = byte_or_own(data)?,
            uapi::IPV6_TCLASS => self.traffic_class = byte_or_own(data)?,
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// IPV6_PKTINFO for a datagram to a mapped address.
    fn ask_mapped(&mut self, data: &[u8]) -> Result<()> {
        let from: &[u8; 16] = data.first_chunk().ok_or(Errno::EINVAL)?;
        let from = Ipv6Address::from(*from)
            .to_ipv4_mapped()
            .ok_or(Errno::EINVAL)?;
        self.interface = u32::from_ne_bytes(word(data, 16)?);
        self.from = (!from.is_unspecified()).then_some(from.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: IpAddress = IpAddress::v4(127, 0, 0, 1);
    const SIX: IpAddress = IpAddress::Ipv6(Ipv6Address::LOCALHOST);

    fn asked(to: IpAddress, level: u32, kind: u32, data: &[u8]) -> Result<Wishes> {
        stack::start_once();
        let family = match to {
            IpAddress::Ipv4(_) => Family::V4,
            IpAddress::Ipv6(_) => Family::V6,
        };
        of_send(family, to, &[(level, kind, data.to_vec())])
    }

    #[test]
    fn numbers_are_checked() {
        let ttl = |v: i32| asked(FOUR, IPPROTO_IP, uapi::IP_TTL, &v.to_ne_bytes());
        assert_eq!(ttl(9).unwrap().hops, Some(9));
        assert_eq!((ttl(0), ttl(256)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
        let tos = |data: &[u8]| asked(FOUR, IPPROTO_IP, uapi::IP_TOS, data);
        assert_eq!(tos(&[0x10]).unwrap().traffic_class, Some(0x10));
        assert_eq!(tos(&[1, 2]), Err(Errno::EINVAL));
        let class = |v: i32| asked(SIX, IPPROTO_IPV6, uapi::IPV6_TCLASS, &v.to_ne_bytes());
        assert_eq!(class(-1).unwrap().traffic_class, None);
        assert_eq!(class(255).unwrap().traffic_class, Some(255));
        assert_eq!(class(-2), Err(Errno::EINVAL));
        assert_eq!(asked(FOUR, IPPROTO_IP, 77, &[0; 4]), Err(Errno::EINVAL));
        // The other protocol's are not this one's.
        let other = asked(FOUR, IPPROTO_IPV6, uapi::IPV6_TCLASS, &[9; 4]);
        assert_eq!(other, Ok(Wishes::default()));
    }

    #[test]
    fn sources_must_be_local() {
        let info = |index: u32, from: [u8; 4]| {
            let data = [index.to_ne_bytes(), from, [0; 4]].concat();
            asked(FOUR, IPPROTO_IP, uapi::IP_PKTINFO, &data)
        };
        assert_eq!(info(1, [127, 0, 0, 9]).unwrap().interface, 1);
        assert_eq!(info(0, [0; 4]), Ok(Wishes::default()));
        assert_eq!(info(0, [192, 0, 2, 77]), Err(Errno::ENETUNREACH));
        assert_eq!(info(4711, [0; 4]), Err(Errno::ENODEV));
        let short = asked(SIX, IPPROTO_IPV6, uapi::IPV6_PKTINFO, &[0; 19]);
        assert_eq!(short, Err(Errno::EINVAL));
    }
}
