//! Devices as smoltcp sees them: one packet in at a time, packets out while there is room.
//! [`Port`] is for those who speak IP, [`Wire`] for the one that speaks Ethernet.

use alloc::sync::Arc;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU64, Ordering};

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::link::{ETHERNET, Link};
use super::traffic_class;
use crate::net::device::Packet;
use crate::net::fifo::Fifo;

/// What went through an interface (/proc/net/dev).
#[derive(Default)]
#[allow(missing_docs, reason = "the file's column names")]
pub struct Counters {
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub rx_dropped: AtomicU64,
    pub tx_packets: AtomicU64,
    pub tx_bytes: AtomicU64,
    pub tx_dropped: AtomicU64,
}

/// Counts one more.
pub fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// The received packet.
pub struct RxToken(Packet);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.bytes())
    }
}

/// A link with the IP packet that is being received.
pub struct Port {
    /// The link.
    pub link: Arc<Link>,
    /// What the next `receive` takes.
    pub staged: Option<Packet>,
    /// The device was full since this was cleared.
    pub blocked: bool,
    /// There was no memory for a packet since this was cleared.
    pub starved: bool,
    /// Packets on their way back to this machine (loopback).
    pub local: Fifo<Packet>,
    /// Type of service of what is sent.
    pub traffic_class: u8,
}

/// The right to send one IP packet.
pub struct TxToken<'a> {
    link: &'a Link,
    local: &'a mut Fifo<Packet>,
    starved: &'a mut bool,
    segment_size: Option<u16>,
    traffic_class: u8,
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> Option<R> {
        let loops = self.link.is_loopback();
        let packet = self.link.packet(len).ok();
        let Some(mut packet) = packet.filter(|_| !loops || self.local.reserve()) else {
            *self.starved = true;
            return None;
        };
        let bytes = &mut packet.bytes_mut()[self.link.prefix()..];
        let result = f(bytes);
        traffic_class::set(bytes, self.traffic_class);
        if loops {
            packet.checksum_ok = true;
            count(&self.link.counters.tx_packets, 1);
            count(&self.link.counters.tx_bytes, len as u64);
            // There is room.
            let _ = self.local.push_back(packet);
        } else {
            packet.segment_size = self.segment_size;
            self.link.send(packet);
        }
        Some(result)
    }
    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_size = meta.segmentation_offload_size.map(|n| n.get());
    }
}

impl Port {
    /// A port of `link`, with nothing received yet.
    pub fn new(link: Arc<Link>) -> Port {
        Port {
            link,
            staged: None,
            blocked: false,
            starved: false,
            local: Fifo::new(),
            traffic_class: 0,
        }
    }
    fn token(&mut self) -> TxToken<'_> {
        TxToken {
            link: &self.link,
            local: &mut self.local,
            starved: &mut self.starved,
            segment_size: None,
            traffic_class: self.traffic_class,
        }
    }
}

impl phy::Device for Port {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken, TxToken<'_>)> {
        let packet = self.staged.take()?;
        Some((RxToken(packet), self.token()))
    }
    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        if self.link.is_loopback() {
            if self.local.len() >= MAX_LOCAL {
                self.blocked = true;
                return None;
            }
        } else if self.link.device.link_is_up() && !self.link.device.has_room() {
            // Without a cable it is sent into nothing: protocols send again once it is back.
            self.blocked = true;
            return None;
        }
        Some(self.token())
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.link.device.mtu();
        let offloads = self.link.device.offloads();
        // Received TCP checksums are verified before smoltcp sees the packet.
        caps.checksum.tcp = if offloads.tx_tcp_checksum {
            Checksum::None
        } else {
            Checksum::Tx
        };
        let size = |longest: Option<usize>| {
            longest.and_then(|n| NonZeroUsize::new(n.saturating_sub(ETHERNET)))
        };
        caps.segmentation.tcpv4 = size(offloads.segmentation_v4);
        caps.segmentation.tcpv6 = size(offloads.segmentation_v6);
        caps
    }
}

/// Packets that wait in one shard's own queue.
const MAX_LOCAL: usize = 256;

/// A card with the Ethernet frame that is being received.
pub struct Wire {
    /// The link.
    pub link: Arc<Link>,
    /// What the next `receive` takes.
    pub staged: Option<Packet>,
}

/// The right to send one frame.
pub struct WireToken<'a>(&'a Link);

impl phy::TxToken for WireToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> Option<R> {
        let Ok(mut packet) = Packet::for_device(len) else {
            // Lost, as on the wire: its protocols ask again.
            count(&self.0.counters.tx_dropped, 1);
            return None;
        };
        let result = f(packet.bytes_mut());
        self.0.transmit(packet);
        Some(result)
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = WireToken<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken, WireToken<'_>)> {
        let packet = self.staged.take()?;
        Some((RxToken(packet), WireToken(&self.link)))
    }
    fn transmit(&mut self, _now: Instant) -> Option<WireToken<'_>> {
        (!self.link.device.link_is_up() || self.link.device.has_room())
            .then(|| WireToken(&self.link))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = self.link.device.mtu() + ETHERNET;
        caps
    }
}
