//! A network device as smoltcp sees it: one packet in at a time, packets out while there is
//! room.

use alloc::sync::Arc;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU64, Ordering};

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use crate::net::device::{NetDevice, Packet};

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

/// A device with the packet that is being received.
pub struct Port {
    /// The device.
    pub device: Arc<dyn NetDevice>,
    /// What the next `receive` takes.
    pub staged: Option<Packet>,
    /// The device was full since this was cleared.
    pub blocked: bool,
    /// Shared with the interface.
    pub counters: Arc<Counters>,
}

/// The received packet.
pub struct RxToken(Packet);

/// The right to send one packet.
pub struct TxToken<'a> {
    device: &'a dyn NetDevice,
    counters: &'a Counters,
    segment_size: Option<u16>,
}

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.bytes())
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let packet = if self.device.needs_dma() {
            Packet::for_device(len)
        } else {
            Packet::in_heap(len)
        };
        let Ok(mut packet) = packet else {
            count(&self.counters.tx_dropped, 1);
            // Lost for want of memory, as on the wire: protocols send again. What is written
            // has to go somewhere; there was memory for the socket's own buffers.
            return f(&mut alloc::vec![0; len]);
        };
        let result = f(packet.bytes_mut());
        packet.segment_size = self.segment_size;
        match self.device.transmit(packet) {
            Ok(()) => {
                count(&self.counters.tx_packets, 1);
                count(&self.counters.tx_bytes, len as u64);
            }
            Err(_) => count(&self.counters.tx_dropped, 1),
        }
        result
    }
    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_size = meta.segmentation_offload_size.map(|n| n.get());
    }
}

impl Port {
    /// `device`, with nothing received yet.
    pub fn new(device: Arc<dyn NetDevice>, counters: Arc<Counters>) -> Port {
        Port {
            device,
            staged: None,
            blocked: false,
            counters,
        }
    }
    fn token(&self) -> TxToken<'_> {
        TxToken {
            device: &*self.device,
            counters: &self.counters,
            segment_size: None,
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
        if !self.device.link_is_up() {
            // Sent into nothing: protocols send again once the cable is back.
            return Some(self.token());
        }
        if !self.device.has_room() {
            self.blocked = true;
            return None;
        }
        Some(self.token())
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        let mtu = self.device.mtu();
        (caps.medium, caps.max_transmission_unit) = match self.device.mac() {
            Some(_) => (Medium::Ethernet, mtu + 14),
            None => (Medium::Ip, mtu),
        };
        let offloads = self.device.offloads();
        // Received TCP checksums are verified before smoltcp sees the packet.
        caps.checksum.tcp = if offloads.tx_tcp_checksum {
            Checksum::None
        } else {
            Checksum::Tx
        };
        caps.segmentation.tcpv4 = offloads.segmentation_v4.and_then(NonZeroUsize::new);
        caps.segmentation.tcpv6 = offloads.segmentation_v6.and_then(NonZeroUsize::new);
        caps
    }
}
