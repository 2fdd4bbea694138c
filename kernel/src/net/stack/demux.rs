//! What becomes of a received packet: which flow, listener or receiver it is for.
//!
//! TCP segments go to smoltcp with the one socket they concern; UDP datagrams, echo replies
//! and raw packets go to their receivers; all else (ARP, neighbour discovery, echo requests,
//! what nobody wants) goes to smoltcp with no socket, which answers it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smoltcp::socket::raw;
use smoltcp::wire::{
    ArpPacket, EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, Icmpv6Message,
    Icmpv6Packet, IpAddress, IpEndpoint, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

use super::flow::{FlowKey, Stage, Status};
use super::port::count;
use super::table::{self, Datagram, Takes};
use super::{Netif, State, flow, instant, new_tcp};
use crate::error::Errno;
use crate::net::device::Packet;
use crate::net::filter::{self, Verdict};
use crate::sched::WaitQueue;
use crate::time::now_ns;

/// What the headers of an IP packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub from: IpAddress,
    pub to: IpAddress,
    pub protocol: IpProtocol,
    pub hops: u8,
    /// The IP packet within the frame.
    pub ip: (usize, usize),
    /// Its payload within the frame.
    pub payload: (usize, usize),
    pub is_fragment: bool,
}

/// Reads the IP header at `start`; `None` when it is no sound IP packet.
pub fn parse_ip(frame: &[u8], start: usize) -> Option<Headers> {
    let bytes = frame.get(start..)?;
    match bytes.first()? >> 4 {
        4 => {
            let p = Ipv4Packet::new_checked(bytes).ok()?;
            let header = usize::from(p.header_len());
            let total = usize::from(p.total_len());
            // smoltcp's check of lengths lets short headers through.
            if header < 20 || total < header || !p.verify_checksum() {
                return None;
            }
            Some(Headers {
                from: p.src_addr().into(),
                to: p.dst_addr().into(),
                protocol: p.next_header(),
                hops: p.hop_limit(),
                ip: (start, start + total),
                payload: (start + header, start + total),
                is_fragment: p.more_frags() || p.frag_offset() != 0,
            })
        }
        6 => {
            let p = Ipv6Packet::new_checked(bytes).ok()?;
            let header = p.header_len();
            let total = header + usize::from(p.payload_len());
            Some(Headers {
                from: p.src_addr().into(),
                to: p.dst_addr().into(),
                protocol: p.next_header(),
                hops: p.hop_limit(),
                ip: (start, start + total),
                payload: (start + header, start + total),
                is_fragment: p.next_header() == IpProtocol::Ipv6Frag,
            })
        }
        _ => None,
    }
}

impl State {
    /// Takes in a received packet.
    pub(super) fn input(&mut self, netif: &Arc<Netif>, packet: Packet) {
        count(&netif.counters.rx_packets, 1);
        count(&netif.counters.rx_bytes, packet.bytes().len() as u64);
        if !netif.config().is_up {
            count(&netif.counters.rx_dropped, 1);
            return;
        }
        let start = if netif.is_loopback() {
            0
        } else {
            let Ok(frame) = EthernetFrame::new_checked(packet.bytes()) else {
                return;
            };
            let to = frame.dst_addr();
            if to.is_unicast() && netif.device.mac() != Some(to.0) {
                return;
            }
            match frame.ethertype() {
                EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => {
                    EthernetFrame::<&[u8]>::header_len()
                }
                EthernetProtocol::Arp => {
                    if ArpPacket::new_checked(frame.payload()).is_ok() {
                        self.ingest(packet, None);
                        self.neighbour_answered(netif);
                    }
                    return;
                }
                _ => return,
            }
        };
        let Some(headers) = parse_ip(packet.bytes(), start) else {
            count(&netif.counters.rx_dropped, 1);
            return;
        };
        if headers.is_fragment {
            self.fragment(netif, packet);
            return;
        }
        let keys = &self.keys;
        let is_open = |key: &FlowKey| keys.contains_key(key);
        let asks = self.dhcp.is_some();
        match filter::incoming(netif, &headers, packet.bytes(), asks, is_open) {
            Verdict::Allow => {}
            Verdict::Drop => {
                count(&netif.counters.rx_dropped, 1);
                return;
            }
            Verdict::Reject => {
                // smoltcp answers what is for nobody: a reset, or "unreachable".
                count(&netif.counters.rx_dropped, 1);
                self.ingest(packet, None);
                return;
            }
        }
        self.deliver(netif, headers, packet);
    }

    /// A fragment: smoltcp collects them; a packet that is complete comes back here.
    fn fragment(&mut self, netif: &Arc<Netif>, packet: Packet) {
        self.port.staged = Some(packet);
        let now = instant(now_ns());
        self.iface
            .poll_ingress_single(now, &mut self.port, &mut self.whole);
        self.port.staged = None;
        let socket = self.whole.get_mut::<raw::Socket>(self.whole_handle);
        let whole = socket.recv().ok().map(Vec::from);
        let Some(bytes) = whole else {
            return;
        };
        if let Some(headers) = parse_ip(&bytes, 0)
            && headers.protocol != IpProtocol::Tcp
            && filter::incoming(netif, &headers, &bytes, false, |_| false) == Verdict::Allow
        {
            // Nobody answers for it: smoltcp took it as handled.
            self.deliver_datagram(netif, headers, &bytes, false);
        }
    }

    fn deliver(&mut self, netif: &Arc<Netif>, headers: Headers, packet: Packet) {
        if headers.protocol == IpProtocol::Tcp {
            self.segment(netif, headers, packet);
            return;
        }
        if headers.protocol == IpProtocol::Udp
            && let Some(id) = self.dhcp
            && ports(&packet.bytes()[headers.payload.0..headers.payload.1]) == Some((67, 68))
        {
            // Before there is an address that it could be for.
            self.ingest(packet, Some(id));
            self.service(netif, id, Errno::ETIMEDOUT);
            return;
        }
        let checked = packet.checksum_ok;
        if self.deliver_datagram(netif, headers, packet.bytes(), checked) {
            return;
        }
        let is_icmpv6 = headers.protocol == IpProtocol::Icmpv6;
        if is_icmpv6 {
            super::config::hear_router(self, &packet);
        }
        self.ingest(packet, None);
        if is_icmpv6 {
            self.neighbour_answered(netif);
        }
    }

    /// Gives a packet that is not TCP to its receivers; true when it needs no answer.
    fn deliver_datagram(
        &mut self,
        netif: &Arc<Netif>,
        headers: Headers,
        frame: &[u8],
        checked: bool,
    ) -> bool {
        let (at, end) = headers.payload;
        let Some(payload) = frame.get(at..end) else {
            return true;
        };
        let is_for_all = headers.to.is_multicast() || netif.config().is_broadcast(headers.to);
        if !is_for_all && !netif.is_loopback() && !netif.config().has(headers.to) {
            // Not ours; DHCP's answers may come to an address that is not there yet.
            return false;
        }
        let protocol = u8::from(headers.protocol);
        if table::has_raw(protocol) {
            let bytes = match headers.to {
                IpAddress::Ipv4(_) => &frame[headers.ip.0..headers.ip.1],
                IpAddress::Ipv6(_) => payload,
            };
            let (from, to) = (with_port(headers.from, 0), with_port(headers.to, 0));
            give(netif, Takes::Raw(protocol), from, to, true, bytes, headers);
        }
        match headers.protocol {
            IpProtocol::Udp => {
                let Ok(udp) = UdpPacket::new_checked(payload) else {
                    return true;
                };
                let from = with_port(headers.from, udp.src_port());
                let to = with_port(headers.to, udp.dst_port());
                if !checked && !udp.verify_checksum(&headers.from, &headers.to) {
                    return true;
                }
                let bytes = udp.payload();
                give(netif, Takes::Udp, from, to, is_for_all, bytes, headers) || is_for_all
            }
            IpProtocol::Icmp => {
                let Ok(icmp) = Icmpv4Packet::new_checked(payload) else {
                    return true;
                };
                if !icmp.verify_checksum() {
                    return true;
                }
                match icmp.msg_type() {
                    Icmpv4Message::EchoReply => {
                        let from = with_port(headers.from, 0);
                        let to = with_port(headers.to, icmp.echo_ident());
                        give(netif, Takes::Ping, from, to, false, payload, headers);
                        true
                    }
                    Icmpv4Message::DstUnreachable => {
                        unreachable(icmp.data());
                        true
                    }
                    Icmpv4Message::EchoRequest => false,
                    _ => true,
                }
            }
            IpProtocol::Icmpv6 => {
                let Ok(icmp) = Icmpv6Packet::new_checked(payload) else {
                    return true;
                };
                let (IpAddress::Ipv6(from), IpAddress::Ipv6(to)) = (headers.from, headers.to)
                else {
                    return true;
                };
                if !icmp.verify_checksum(&from, &to) {
                    return true;
                }
                match icmp.msg_type() {
                    Icmpv6Message::EchoReply => {
                        let ident = icmp.echo_ident();
                        let (from, to) = (with_port(headers.from, 0), with_port(headers.to, ident));
                        give(netif, Takes::Ping, from, to, false, payload, headers);
                        true
                    }
                    Icmpv6Message::DstUnreachable => {
                        unreachable(icmp.payload());
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    fn segment(&mut self, netif: &Arc<Netif>, headers: Headers, packet: Packet) {
        let (at, end) = headers.payload;
        let Ok(tcp) = TcpPacket::new_checked(&packet.bytes()[at..end]) else {
            return;
        };
        if !packet.checksum_ok && !tcp.verify_checksum(&headers.from, &headers.to) {
            count(&netif.counters.rx_dropped, 1);
            return;
        }
        let key = FlowKey {
            local: IpEndpoint::new(headers.to, tcp.dst_port()),
            remote: IpEndpoint::new(headers.from, tcp.src_port()),
        };
        if let Some(&id) = self.keys.get(&key) {
            self.ingest(packet, Some(id));
            self.service(netif, id, Errno::ECONNRESET);
            return;
        }
        let opens = tcp.syn() && !tcp.ack() && !tcp.rst();
        let is_ours = netif.is_loopback() || netif.config().has(headers.to);
        if !opens || !is_ours {
            self.ingest(packet, None);
            return;
        }
        let spread = usize::from(key.remote.port);
        let Some(listener) = table::find_listener(key.local, spread) else {
            self.ingest(packet, None);
            return;
        };
        if !listener.has_room() {
            // The peer tries again (man 2 listen).
            count(&netif.counters.rx_dropped, 1);
            return;
        }
        let mut socket = new_tcp(flow::buffers(listener.buffers, self.flows.len()));
        if socket.listen(key.local).is_err() {
            return;
        }
        socket.set_timeout(Some(smoltcp::time::Duration::from_secs(60)));
        listener.embryos.fetch_add(1, Ordering::SeqCst);
        let status = Status::new(Arc::new(WaitQueue::new()), Arc::new(WaitQueue::new()));
        let id = self.add_tcp(netif, socket, key, Stage::Embryo(listener), status);
        self.ingest(packet, Some(id));
        self.service(netif, id, Errno::ECONNRESET);
        // It is still listening when smoltcp did not like the segment.
        let state = self
            .flows
            .get(&id)
            .map(|f| f.set.get::<smoltcp::socket::tcp::Socket>(f.handle).state());
        if state == Some(smoltcp::socket::tcp::State::Listen) {
            self.remove(netif, id);
        }
    }
}

fn with_port(addr: IpAddress, port: u16) -> IpEndpoint {
    IpEndpoint::new(addr, port)
}

/// Source and destination port at the head of a TCP or UDP packet.
pub fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    let bytes: &[u8; 4] = payload.first_chunk()?;
    Some((
        u16::from_be_bytes([bytes[0], bytes[1]]),
        u16::from_be_bytes([bytes[2], bytes[3]]),
    ))
}

/// Queues a copy at each receiver; whether there was one.
fn give(
    netif: &Netif,
    takes: Takes,
    from: IpEndpoint,
    to: IpEndpoint,
    all: bool,
    bytes: &[u8],
    headers: Headers,
) -> bool {
    let receivers = table::find_receivers(takes, from, to, all);
    for receiver in &receivers {
        let mut copy = Vec::new();
        if copy.try_reserve_exact(bytes.len()).is_err() {
            continue;
        }
        copy.extend_from_slice(bytes);
        receiver.push(Datagram {
            bytes: copy,
            from,
            to: headers.to,
            hops: headers.hops,
            interface: netif.index,
        });
    }
    !receivers.is_empty()
}

/// What an ICMP error quotes of the packet it is about: its ends, its protocol, and where
/// that begins.
pub fn quoted(quote: &[u8]) -> Option<(IpAddress, IpAddress, u8, usize)> {
    // The quote may be cut: only headers are read, and not by `parse_ip`.
    match quote.first().map(|b| b >> 4) {
        Some(4) if quote.len() >= 28 => {
            let addr = |i: usize| IpAddress::v4(quote[i], quote[i + 1], quote[i + 2], quote[i + 3]);
            let at = usize::from(quote[0] & 15) * 4;
            Some((addr(12), addr(16), quote[9], at))
        }
        Some(6) if quote.len() >= 48 => {
            let addr = |i: usize| {
                let mut b = [0; 16];
                b.copy_from_slice(&quote[i..i + 16]);
                IpAddress::Ipv6(b.into())
            };
            Some((addr(8), addr(24), quote[6], 40))
        }
        _ => None,
    }
}

/// An ICMP error came: tells the socket that sent what it quotes.
fn unreachable(quote: &[u8]) {
    let Some((from, to, protocol, at)) = quoted(quote) else {
        return;
    };
    const UDP: u8 = 17;
    if protocol == UDP
        && let Some((src, dst)) = quote.get(at..).and_then(ports)
    {
        table::report_unreachable(Takes::Udp, with_port(from, src), with_port(to, dst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet over IPv4, as a bare IP packet.
    fn sample() -> Vec<u8> {
        let mut p = vec![
            0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0,
            53, 0, 11, 0, 0, b'a', b'b', b'c',
        ];
        Ipv4Packet::new_unchecked(&mut p[..]).fill_checksum();
        p
    }

    #[test]
    fn headers_of_a_sound_packet() {
        let h = parse_ip(&sample(), 0).unwrap();
        assert_eq!(h.from, IpAddress::v4(10, 0, 0, 1));
        assert_eq!(h.protocol, IpProtocol::Udp);
        assert_eq!((h.payload, h.is_fragment), ((20, 31), false));
        assert_eq!(ports(&sample()[20..]), Some((0x1234, 53)));
    }

    #[test]
    fn damaged_packets_are_refused() {
        let good = sample();
        for i in 0..20 {
            let mut bad = good.clone();
            bad[i] ^= 0x10;
            assert_eq!(parse_ip(&bad, 0), None, "byte {i}");
        }
        for len in 0..good.len() {
            assert_eq!(parse_ip(&good[..len], 0), None);
            assert_eq!(parse_ip(&good[..len], len), None);
        }
    }

    #[test]
    fn quotes_of_any_length_are_read_safely() {
        let p = sample();
        for len in 0..p.len() {
            unreachable(&p[..len]);
        }
        let mut long = p.clone();
        long[0] = 0x4f;
        unreachable(&long);
    }
}
