//! What becomes of a received packet: which shard, listener or receiver it is for.
//!
//! TCP segments go to the shard of their connection; UDP datagrams, echo replies and raw
//! packets go to their receivers without any interface's lock; ARP, neighbour discovery and
//! DHCP go to the part that speaks Ethernet; echo requests and what nobody wants go to the
//! first shard, where smoltcp answers them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smoltcp::phy::Medium;
use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, HardwareAddress, Icmpv4Message,
    Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpEndpoint, IpProtocol, Ipv4Packet,
    Ipv6Packet, NdiscRepr, TcpPacket, UdpPacket,
};

use super::flow::FlowKey;
use super::link::ETHERNET;
use super::port::count;
use super::table::{self, Datagram, Takes};
use super::{Netif, config, traffic_class};
use crate::net::device::Packet;
use crate::net::filter::{self, Verdict};
use crate::time::now_ns;

/// What the headers of an IP packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub from: IpAddress,
    pub to: IpAddress,
    pub protocol: IpProtocol,
    pub hops: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
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
                traffic_class: traffic_class::of(bytes),
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
                traffic_class: traffic_class::of(bytes),
                ip: (start, start + total),
                payload: (start + header, start + total),
                is_fragment: p.next_header() == IpProtocol::Ipv6Frag,
            })
        }
        _ => None,
    }
}

impl Netif {
    /// Takes in a received frame; shards that got something are noted in `touched`.
    pub(super) fn input(self: &Arc<Self>, mut packet: Packet, touched: &mut u64) {
        count(&self.counters.rx_packets, 1);
        count(&self.counters.rx_bytes, packet.bytes().len() as u64);
        if !self.config().is_up {
            count(&self.counters.rx_dropped, 1);
            return;
        }
        let Ok(frame) = EthernetFrame::new_checked(packet.bytes()) else {
            return;
        };
        let to = frame.dst_addr();
        if to.is_unicast() && self.device.mac() != Some(to.0) {
            return;
        }
        match frame.ethertype() {
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => {
                packet.advance(ETHERNET);
                self.ip_input(packet, touched);
            }
            EthernetProtocol::Arp => {
                if let Ok(arp) = ArpPacket::new_checked(frame.payload()) {
                    self.hear_arp(&arp);
                    self.ethernet(packet);
                }
            }
            _ => {}
        }
    }

    fn hear_arp(&self, arp: &ArpPacket<&[u8]>) {
        let Ok(ArpRepr::EthernetIpv4 {
            source_hardware_addr: mac,
            source_protocol_addr: from,
            ..
        }) = ArpRepr::parse(arp)
        else {
            return;
        };
        if mac.is_unicast() && !from.is_unspecified() {
            self.link.heard(from.into(), mac.0);
        }
    }

    /// Gives a whole frame to the part that speaks Ethernet.
    fn ethernet(self: &Arc<Self>, frame: Packet) {
        if let Some(ether) = &self.ether {
            ether.lock().ingest(frame);
        }
    }

    /// Takes in an IP packet from outside.
    fn ip_input(self: &Arc<Self>, packet: Packet, touched: &mut u64) {
        let Some(headers) = parse_ip(packet.bytes(), 0) else {
            count(&self.counters.rx_dropped, 1);
            return;
        };
        if headers.is_fragment {
            let whole = self.fragments.lock().add(packet.bytes(), now_ns());
            if let Some(whole) = whole {
                self.ip_input(Packet::from_vec(whole), touched);
            }
            return;
        }
        let is_open = |key: &FlowKey| self.is_open(key);
        match filter::incoming(self, &headers, packet.bytes(), self.asks(), is_open) {
            Verdict::Allow => {}
            Verdict::Drop => {
                count(&self.counters.rx_dropped, 1);
                return;
            }
            Verdict::Reject => {
                // smoltcp answers what is for nobody: a reset, or "unreachable".
                count(&self.counters.rx_dropped, 1);
                if self.config().has(headers.to) {
                    self.shards[0].with(self, |state| state.ingest(packet, None));
                }
                return;
            }
        }
        self.deliver(headers, packet, touched);
    }

    fn deliver(self: &Arc<Self>, headers: Headers, mut packet: Packet, touched: &mut u64) {
        let (at, end) = headers.payload;
        if headers.protocol == IpProtocol::Tcp {
            let Ok(tcp) = TcpPacket::new_checked(&packet.bytes()[at..end]) else {
                return;
            };
            let is_ours = self.config().has(headers.to);
            let is_sound = packet.checksum_ok || tcp.verify_checksum(&headers.from, &headers.to);
            if !is_sound || !is_ours {
                count(&self.counters.rx_dropped, 1);
                return;
            }
            let local = IpEndpoint::new(headers.to, tcp.dst_port());
            let remote = IpEndpoint::new(headers.from, tcp.src_port());
            let shard = self.shard_of(&FlowKey { local, remote });
            *touched |= 1 << shard;
            self.shards[shard].post(self, headers, packet);
            return;
        }
        let bytes = packet.bytes();
        let is_lease =
            headers.protocol == IpProtocol::Udp && ports(&bytes[at..end]) == Some((67, 68));
        if is_lease && self.asks() {
            // Before there is an address that it could be for.
            packet.retreat(ETHERNET);
            self.ethernet(packet);
            return;
        }
        if is_neighbourly(&headers, bytes) {
            self.hear_neighbour(&headers, bytes);
            packet.retreat(ETHERNET);
            if let Some(ether) = &self.ether {
                let mut ether = ether.lock();
                if !config::hear_router(&mut ether, packet.bytes()) {
                    ether.ingest(packet);
                }
            }
            return;
        }
        let checked = packet.checksum_ok;
        if self.deliver_datagram(&headers, bytes, checked) || !self.config().has(headers.to) {
            return;
        }
        // Echo requests, and what nobody is there for.
        *touched |= 1;
        self.shards[0].post(self, headers, packet);
    }

    /// A neighbour's advertisement, or its own address in its question (RFC 4861, 7.2.3).
    fn hear_neighbour(&self, headers: &Headers, ip: &[u8]) {
        let Some(icmp) = ip.get(headers.payload.0..headers.payload.1) else {
            return;
        };
        let (Ok(icmp), 255) = (Icmpv6Packet::new_checked(icmp), headers.hops) else {
            return;
        };
        let (IpAddress::Ipv6(from), IpAddress::Ipv6(to)) = (headers.from, headers.to) else {
            return;
        };
        if !icmp.verify_checksum(&from, &to) {
            return;
        }
        let (who, address) = match NdiscRepr::parse(&icmp) {
            Ok(NdiscRepr::NeighborAdvert {
                target_addr,
                lladdr,
                ..
            }) => (target_addr, lladdr),
            Ok(NdiscRepr::NeighborSolicit { lladdr, .. }) => (from, lladdr),
            _ => return,
        };
        let Some(address) = address else {
            return;
        };
        if let Ok(HardwareAddress::Ethernet(mac)) = address.parse(Medium::Ethernet)
            && mac.is_unicast()
            && !who.is_unspecified()
        {
            self.link.heard(who.into(), mac.0);
        }
    }

    /// Gives a packet that is not TCP to its receivers; true when it needs no answer.
    pub(super) fn deliver_datagram(&self, headers: &Headers, frame: &[u8], checked: bool) -> bool {
        let (at, end) = headers.payload;
        let Some(payload) = frame.get(at..end) else {
            return true;
        };
        let is_for_all = headers.to.is_multicast() || self.config().is_broadcast(headers.to);
        if !is_for_all && !self.is_loopback() && !self.config().has(headers.to) {
            // Not ours; DHCP's answers may come to an address that is not there yet.
            return false;
        }
        if headers.to.is_multicast() && !self.is_member(headers.to) {
            return true;
        }
        let protocol = u8::from(headers.protocol);
        if table::has_raw(protocol) {
            let bytes = match headers.to {
                IpAddress::Ipv4(_) => &frame[headers.ip.0..headers.ip.1],
                IpAddress::Ipv6(_) => payload,
            };
            let (from, to) = (with_port(headers.from, 0), with_port(headers.to, 0));
            give(self, Takes::Raw(protocol), from, to, true, bytes, headers);
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
                give(self, Takes::Udp, from, to, is_for_all, bytes, headers) || is_for_all
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
                        give(self, Takes::Ping, from, to, false, payload, headers);
                        true
                    }
                    Icmpv4Message::EchoRequest => false,
                    _ => {
                        self.hear_error(headers, payload);
                        true
                    }
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
                        give(self, Takes::Ping, from, to, false, payload, headers);
                        true
                    }
                    _ => self.hear_error(headers, payload),
                }
            }
            _ => false,
        }
    }
}

/// Neighbour discovery and group membership (RFC 4861, RFC 3810, RFC 3376).
fn is_neighbourly(headers: &Headers, ip: &[u8]) -> bool {
    match headers.protocol {
        IpProtocol::Igmp => true,
        IpProtocol::Icmpv6 => {
            matches!(ip.get(headers.payload.0), Some(130..=132 | 133..=137 | 143))
        }
        // Reports and queries begin with a hop-by-hop option.
        IpProtocol::HopByHop => true,
        _ => false,
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
    headers: &Headers,
) -> bool {
    let mut receivers = table::find_receivers(takes, from, to, all);
    if to.addr.is_multicast() {
        receivers.retain(|r| r.hears.lock().group(to.addr, netif.index));
    }
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
            traffic_class: headers.traffic_class,
            interface: netif.index,
            time_ns: crate::time::realtime_ns(),
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
            assert_eq!(quoted(&p[..len]).is_some(), len >= 28);
        }
        let mut long = p.clone();
        long[0] = 0x4f;
        assert_eq!(quoted(&long).unwrap().3, 60);
    }
}
