//! ICMP errors about what datagram sockets sent (RFC 792, RFC 4443): which error a socket is
//! told, and how sockets get to know all about it (man 7 ip, IP_RECVERR).

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpEndpoint, IpProtocol};

use super::Netif;
use super::demux::{Headers, ports, quoted};
use super::table::{self, Datagram, Takes};
use crate::error::Errno;

/// Who found an error (linux/errqueue.h, SO_EE_ORIGIN_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// This machine.
    Local = 1,
    /// An ICMP packet.
    Icmp = 2,
    /// An ICMPv6 packet.
    Icmp6 = 3,
}

/// An error about a packet that was sent.
pub struct Report {
    /// What it means.
    pub errno: Errno,
    /// Who found it.
    pub origin: Origin,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The MTU where the packet was too long, or where it is wrong.
    pub info: u32,
    /// Where the packet was sent to.
    pub to: IpEndpoint,
    /// What is quoted of its payload; and the error's own sender, hops...
    pub quote: Datagram,
}

/// An error, and whether sockets that did not ask for reports are told.
type Meaning = (Errno, bool);

/// What an ICMP error means (RFC 1122, 4.1.3.3, as Linux has it); `None` for what is no error.
fn meaning_v4(kind: u8, code: u8) -> Option<Meaning> {
    Some(match (kind, code) {
        (3, 0 | 11) => (Errno::ENETUNREACH, false),
        (3, 1 | 12) => (Errno::EHOSTUNREACH, false),
        (3, 2) => (Errno::ENOPROTOOPT, true),
        (3, 3) => (Errno::ECONNREFUSED, true),
        (3, 4) => (Errno::EMSGSIZE, true),
        (3, 5) => (Errno::EOPNOTSUPP, false),
        (3, 6 | 9) => (Errno::ENETUNREACH, true),
        (3, 7) => (Errno::EHOSTDOWN, true),
        (3, 8) => (Errno::ENONET, true),
        (3, 10 | 13..=15) => (Errno::EHOSTUNREACH, true),
        (3 | 11, _) => (Errno::EHOSTUNREACH, false),
        (12, _) => (Errno::EPROTO, true),
        _ => return None,
    })
}

/// [`meaning_v4`] of ICMPv6.
fn meaning_v6(kind: u8, code: u8) -> Option<Meaning> {
    Some(match (kind, code) {
        (1, 0) => (Errno::ENETUNREACH, false),
        (1, 1 | 5 | 6) => (Errno::EACCES, true),
        (1, 2 | 3) => (Errno::EHOSTUNREACH, false),
        (1, 4) => (Errno::ECONNREFUSED, true),
        (1, _) => (Errno::EPROTO, true),
        (2, _) => (Errno::EMSGSIZE, true),
        (3, _) => (Errno::EHOSTUNREACH, false),
        (4, _) => (Errno::EPROTO, true),
        _ => return None,
    })
}

/// Which sockets may have sent a packet: what they take, its ends, and where what they wrote
/// begins in it. `head` is the payload of the IP packet.
fn senders(
    protocol: u8,
    from: IpAddress,
    to: IpAddress,
    head: &[u8],
) -> Option<(Takes, IpEndpoint, IpEndpoint, usize)> {
    const HEADER: usize = 8;
    let end = |addr, port| IpEndpoint::new(addr, port);
    match (IpProtocol::from(protocol), head.first()?) {
        (IpProtocol::Udp, _) => {
            let (source, destination) = ports(head)?;
            let (local, remote) = (end(from, source), end(to, destination));
            Some((Takes::Udp, local, remote, HEADER))
        }
        // Echo requests.
        (IpProtocol::Icmp, 8) | (IpProtocol::Icmpv6, 128) => {
            let id = head.get(4..6)?;
            let id = u16::from_be_bytes([id[0], id[1]]);
            Some((Takes::Ping, end(from, id), end(to, 0), 0))
        }
        _ => None,
    }
}

/// What one error says to all sockets that it concerns.
struct Heard<'a> {
    netif: &'a Netif,
    headers: &'a Headers,
    origin: Origin,
    meaning: Meaning,
    kind: u8,
    code: u8,
    info: u32,
}

impl Heard<'_> {
    /// Tells those who sent the IP packet whose payload begins with `head`.
    fn tell(&self, protocol: u8, from: IpAddress, to: IpAddress, head: &[u8]) {
        if let Some((takes, local, remote, at)) = senders(protocol, from, to, head) {
            self.tell_receivers(takes, local, remote, head.get(at..).unwrap_or(&[]));
        }
        let takes = Takes::Raw(protocol);
        if table::has_raw(protocol) {
            let (local, remote) = (IpEndpoint::new(from, 0), IpEndpoint::new(to, 0));
            self.tell_receivers(takes, local, remote, head);
        }
    }

    fn tell_receivers(&self, takes: Takes, local: IpEndpoint, remote: IpEndpoint, sent: &[u8]) {
        let (errno, is_hard) = self.meaning;
        let all = matches!(takes, Takes::Raw(_));
        for receiver in table::find_receivers(takes, remote, local, all) {
            if errno == Errno::EMSGSIZE && !receiver.reports.minds_size() {
                continue;
            }
            if !receiver.reports.are_wanted(remote.addr) {
                // Only who has one peer knows what the error is about.
                if is_hard && receiver.ends.lock().remote.is_some() {
                    receiver.set_error(errno);
                }
                continue;
            }
            let mut bytes = Vec::new();
            if bytes.try_reserve_exact(sent.len()).is_ok() {
                bytes.extend_from_slice(sent);
            }
            let headers = self.headers;
            let quote = Datagram {
                bytes,
                from: IpEndpoint::new(headers.from, 0),
                to: headers.to,
                hops: headers.hops,
                traffic_class: headers.traffic_class,
                interface: self.netif.index,
                time_ns: crate::time::realtime_ns(),
            };
            receiver.report(Report {
                errno,
                origin: self.origin,
                kind: self.kind,
                code: self.code,
                info: self.info,
                to: remote,
                quote,
            });
            receiver.set_error(errno);
        }
    }
}

impl Netif {
    /// Takes in an ICMP packet whose checksum is right; whether it is an error.
    pub(super) fn hear_error(&self, headers: &Headers, icmp: &[u8]) -> bool {
        let [kind, code, _, _, a, b, c, d, quote @ ..] = icmp else {
            return false;
        };
        let (kind, code) = (*kind, *code);
        let word = u32::from_be_bytes([*a, *b, *c, *d]);
        let (origin, meaning, info) = match headers.protocol {
            IpProtocol::Icmp => {
                let info = match (kind, code) {
                    (3, 4) => word & 0xffff,
                    (12, _) => word >> 24,
                    _ => 0,
                };
                (Origin::Icmp, meaning_v4(kind, code), info)
            }
            _ => (Origin::Icmp6, meaning_v6(kind, code), word),
        };
        let Some(meaning) = meaning else {
            return false;
        };
        if let Some((from, to, protocol, at)) = quoted(quote) {
            let heard = Heard {
                netif: self,
                headers,
                origin,
                meaning,
                kind,
                code,
                info,
            };
            heard.tell(protocol, from, to, quote.get(at..).unwrap_or(&[]));
        }
        true
    }

    /// Nobody answers for the next hop of a packet that is no TCP segment: this machine finds
    /// that out, as a router would.
    pub(super) fn nobody_answers(&self, headers: &Headers, payload: &[u8]) {
        let (origin, kind, code) = match headers.to {
            IpAddress::Ipv4(_) => (Origin::Icmp, 3, 1),
            IpAddress::Ipv6(_) => (Origin::Icmp6, 1, 3),
        };
        let own = Headers {
            to: headers.from,
            ..*headers
        };
        let heard = Heard {
            netif: self,
            headers: &own,
            origin,
            meaning: (Errno::EHOSTUNREACH, false),
            kind,
            code,
            info: 0,
        };
        heard.tell(headers.protocol.into(), headers.from, headers.to, payload);
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpRepr, UdpPacket};

    use super::super::{by_index, parse_ip, start_once};
    use super::table::Receiver;
    use super::*;

    const OWN: IpAddress = IpAddress::v4(127, 0, 0, 1);
    const FAR: IpAddress = IpAddress::v4(10, 77, 0, 1);
    const ROUTER: IpAddress = IpAddress::v4(10, 77, 0, 254);

    /// An IP packet of `protocol` with `payload`.
    fn ip(from: IpAddress, to: IpAddress, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let ip = IpRepr::new(from, to, protocol, payload.len(), 61);
        let mut out = vec![0; ip.buffer_len()];
        ip.emit(&mut out[..], &ChecksumCapabilities::default());
        out[ip.header_len()..].copy_from_slice(payload);
        out
    }

    fn receiver(port: u16, remote: Option<IpEndpoint>) -> alloc::sync::Arc<Receiver> {
        let receiver = Receiver::new(Takes::Udp, true, false, 10_000);
        let mut ends = receiver.ends.lock();
        (ends.port, ends.remote) = (port, remote);
        drop(ends);
        table::add_receiver(&receiver);
        receiver
    }

    /// The router says something about a datagram from our `port` to port 7.
    fn hear(port: u16, head: [u8; 8]) {
        start_once();
        let mut udp = vec![0; 12];
        udp[8..].copy_from_slice(b"text");
        let mut packet = UdpPacket::new_unchecked(&mut udp[..]);
        packet.set_src_port(port);
        packet.set_dst_port(7);
        packet.set_len(12);
        let quote = ip(OWN, FAR, IpProtocol::Udp, &udp);
        let icmp = [&head[..], &quote].concat();
        let packet = ip(ROUTER, OWN, IpProtocol::Icmp, &icmp);
        let headers = parse_ip(&packet, 0).unwrap();
        assert!(by_index(1).unwrap().hear_error(&headers, &icmp));
        // However little of it came.
        for len in 0..icmp.len() {
            by_index(1)
                .unwrap()
                .hear_error(&headers, &icmp[..len.min(30)]);
        }
    }

    #[test]
    fn who_asked_for_reports_gets_them() {
        let r = receiver(4801, None);
        r.reports.want_v4(true);
        hear(4801, [11, 0, 0, 0, 0, 0, 0, 0]);
        let report = r.take_report().unwrap();
        assert_eq!(
            (report.errno, report.kind, report.code),
            (Errno::EHOSTUNREACH, 11, 0)
        );
        assert_eq!(report.to, IpEndpoint::new(FAR, 7));
        assert_eq!((report.quote.from.addr, report.quote.hops), (ROUTER, 61));
        assert_eq!(report.quote.bytes, b"text");
        // The error goes with the last report.
        assert!(r.take_report().is_none() && r.take_error().is_none());
        hear(4801, [3, 4, 0, 0, 0, 0, 5, 0]);
        assert_eq!(r.take_error(), Some(Errno::EMSGSIZE));
        assert_eq!(r.take_report().unwrap().info, 1280);
        r.reports.want_v4(false);
        hear(4801, [3, 3, 0, 0, 0, 0, 0, 0]);
        assert!(!r.has_report() && !r.has_error());
        table::remove_receiver(&r);
    }

    #[test]
    fn others_hear_of_hard_errors_of_their_peer() {
        let r = receiver(4802, Some(IpEndpoint::new(FAR, 7)));
        hear(4802, [11, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(r.take_error(), None);
        hear(4802, [3, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(r.take_error(), Some(Errno::ECONNREFUSED));
        hear(4802, [3, 13, 0, 0, 0, 0, 0, 0]);
        assert_eq!(r.take_error(), Some(Errno::EHOSTUNREACH));
        assert!(!r.has_report());
        table::remove_receiver(&r);
    }
}
