//! The way to the wire: the hardware address of the next hop, fragments of what is too long,
//! the device.
//!
//! Everything that sends IP packets shares one [`Link`] per interface; its locks are spin
//! locks, held for a look-up and never while the device works.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, IpRepr, Ipv4Address, Ipv6Address, NdiscRepr,
};

use super::config::Config;
use super::neighbour::{Next, Table};
use super::port::{Counters, count};
use crate::error::{Errno, Result};
use crate::net::device::{NetDevice, Packet};
use crate::sync::{Rank, SpinLock};
use crate::time::now_ns;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// An interface as those see it who send.
pub struct Link {
    /// The device.
    pub device: Arc<dyn NetDevice>,
    /// What went through it.
    pub counters: Arc<Counters>,
    /// Addresses and routes; replaced as a whole.
    pub config: SpinLock<Arc<Config>>,
    /// Who is where on the wire.
    pub neighbours: SpinLock<Table>,
}

impl Link {
    /// A link without addresses.
    pub fn new(device: Arc<dyn NetDevice>, counters: Arc<Counters>) -> Arc<Link> {
        Arc::new(Link {
            device,
            counters,
            config: SpinLock::new(Rank::Leaf, Arc::new(Config::default())),
            neighbours: SpinLock::new(Rank::Object, Table::default()),
        })
    }

    /// Whether packets never leave the machine.
    pub fn is_loopback(&self) -> bool {
        self.device.mac().is_none()
    }

    /// Addresses and routes as they are now.
    pub fn config(&self) -> Arc<Config> {
        self.config.lock().clone()
    }

    /// Bytes in front of an IP packet in a [`Packet`] that is to be sent.
    pub fn prefix(&self) -> usize {
        if self.is_loopback() { 0 } else { ETHERNET }
    }

    /// A packet with room for `len` bytes of IP behind [`Link::prefix`]. ENOBUFS.
    pub fn packet(&self, len: usize) -> Result<Packet> {
        let len = self.prefix() + len;
        let packet = if self.device.needs_dma() {
            Packet::for_device(len)
        } else {
            Packet::in_heap(len)
        };
        packet.map_err(|_| Errno::ENOBUFS)
    }

    /// Sends an IP packet of [`Link::packet`] to the next hop, or keeps it until that one's
    /// address is known. Not for the loopback interface.
    pub fn send(&self, mut packet: Packet) {
        let Some(to) = destination(&packet.bytes()[ETHERNET..]) else {
            return;
        };
        let config = self.config();
        let mac = match hardware_group(to, &config) {
            Some(mac) => mac,
            None => {
                let Some(next) = config.next_hop(to) else {
                    count(&self.counters.tx_dropped, 1);
                    return;
                };
                let found = self.neighbours.lock().send(next, packet, now_ns());
                match found {
                    Next::Known(mac, known, ask) => {
                        packet = known;
                        if ask {
                            self.solicit(next, Some(mac));
                        }
                        mac
                    }
                    Next::Waits { ask, dropped } => {
                        if ask {
                            self.solicit(next, None);
                        }
                        count(&self.counters.tx_dropped, dropped);
                        return;
                    }
                }
            }
        };
        self.frame(packet, mac);
    }

    /// Puts the Ethernet header in front of an IP packet and gives it to the device.
    fn frame(&self, mut packet: Packet, to: [u8; 6]) {
        let Some(own) = self.device.mac() else {
            return;
        };
        let bytes = packet.bytes_mut();
        let is_v4 = bytes[ETHERNET] >> 4 == 4;
        let mut frame = EthernetFrame::new_unchecked(bytes);
        frame.set_src_addr(EthernetAddress(own));
        frame.set_dst_addr(EthernetAddress(to));
        frame.set_ethertype(if is_v4 {
            EthernetProtocol::Ipv4
        } else {
            EthernetProtocol::Ipv6
        });
        self.transmit(packet);
    }

    /// Gives a whole frame to the device.
    pub fn transmit(&self, packet: Packet) {
        let len = packet.bytes().len() as u64;
        match self.device.transmit(packet) {
            Ok(()) => {
                count(&self.counters.tx_packets, 1);
                count(&self.counters.tx_bytes, len);
            }
            Err(_) => count(&self.counters.tx_dropped, 1),
        }
    }

    /// A neighbour said where it is: what waited for it goes out.
    pub fn heard(&self, from: IpAddress, mac: [u8; 6]) {
        let waiting = self.neighbours.lock().learn(from, mac, now_ns());
        for packet in waiting {
            self.frame(packet, mac);
        }
    }

    /// Asks again for those that did not answer. When to come back; the packets that wait no
    /// longer.
    pub fn expire(&self, now: u64) -> (Option<u64>, Vec<Packet>) {
        let (ask, given_up, again) = self.neighbours.lock().expire(now);
        for addr in ask {
            self.solicit(addr, None);
        }
        (again, given_up)
    }

    /// Asks where `addr` is: the one who was there, or everybody.
    fn solicit(&self, addr: IpAddress, mac: Option<[u8; 6]>) {
        let Some(own) = self.device.mac() else {
            return;
        };
        let request = match addr {
            IpAddress::Ipv4(to) => self.arp_request(to, own, mac),
            IpAddress::Ipv6(to) => self.solicitation(to, own, mac),
        };
        if let Some(packet) = request {
            self.transmit(packet);
        }
    }

    fn arp_request(&self, to: Ipv4Address, own: [u8; 6], mac: Option<[u8; 6]>) -> Option<Packet> {
        let IpAddress::Ipv4(source) = self.config().source(to.into())? else {
            return None;
        };
        let repr = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(own),
            source_protocol_addr: source,
            target_hardware_addr: EthernetAddress(mac.unwrap_or([0; 6])),
            target_protocol_addr: to,
        };
        let mut packet = Packet::for_device(ETHERNET + repr.buffer_len()).ok()?;
        let mut frame = EthernetFrame::new_unchecked(packet.bytes_mut());
        frame.set_src_addr(EthernetAddress(own));
        frame.set_dst_addr(EthernetAddress(mac.unwrap_or([0xff; 6])));
        frame.set_ethertype(EthernetProtocol::Arp);
        repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        Some(packet)
    }

    fn solicitation(&self, to: Ipv6Address, own: [u8; 6], mac: Option<[u8; 6]>) -> Option<Packet> {
        let IpAddress::Ipv6(source) = self.config().source(to.into())? else {
            return None;
        };
        let repr = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            target_addr: to,
            lladdr: Some(EthernetAddress(own).into()),
        });
        let o = to.octets();
        // RFC 4291, 2.7.1.
        let group = Ipv6Address::from([
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15],
        ]);
        let asked = if mac.is_some() { to } else { group };
        let len = repr.buffer_len();
        let ip = IpRepr::new(source.into(), asked.into(), IpProtocol::Icmpv6, len, 255);
        let mut packet = Packet::for_device(ETHERNET + ip.header_len() + len).ok()?;
        let bytes = packet.bytes_mut();
        let caps = smoltcp::phy::ChecksumCapabilities::default();
        ip.emit(&mut bytes[ETHERNET..], &caps);
        let mut icmp = Icmpv6Packet::new_unchecked(&mut bytes[ETHERNET + ip.header_len()..]);
        repr.emit(&source, &asked, &mut icmp, &caps);
        let mut frame = EthernetFrame::new_unchecked(bytes);
        frame.set_src_addr(EthernetAddress(own));
        let mac = mac.unwrap_or([0x33, 0x33, 0xff, o[13], o[14], o[15]]);
        frame.set_dst_addr(EthernetAddress(mac));
        frame.set_ethertype(EthernetProtocol::Ipv6);
        Some(packet)
    }
}

/// Where an IP packet goes; `None` when it is too short to say.
fn destination(ip: &[u8]) -> Option<IpAddress> {
    match ip.first()? >> 4 {
        4 => {
            let b: &[u8; 4] = ip.get(16..20)?.first_chunk()?;
            Some(IpAddress::Ipv4((*b).into()))
        }
        6 => {
            let b: &[u8; 16] = ip.get(24..40)?.first_chunk()?;
            Some(IpAddress::Ipv6((*b).into()))
        }
        _ => None,
    }
}

/// The hardware address of broadcasts and groups (RFC 1112, 6.4; RFC 2464, 7).
fn hardware_group(to: IpAddress, config: &Config) -> Option<[u8; 6]> {
    match to {
        _ if config.is_broadcast(to) => Some([0xff; 6]),
        IpAddress::Ipv4(a) if a.is_multicast() => {
            let o = a.octets();
            Some([1, 0, 0x5e, o[1] & 0x7f, o[2], o[3]])
        }
        IpAddress::Ipv6(a) if a.is_multicast() => {
            let o = a.octets();
            Some([0x33, 0x33, o[12], o[13], o[14], o[15]])
        }
        _ => None,
    }
}
