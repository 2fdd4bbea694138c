//! Virtio network device (virtio 1.2, 5.1): one queue pair, mergeable receive buffers,
//! checksum and segmentation offload where offered.
//!
//! Received frames are handed up without a copy: the page that the device filled becomes the
//! packet, and a new one takes its place. The interrupt only says that there is work; the
//! stack's worker drains the queue and asks for the next one. Sent pages are taken back when
//! more is sent; an interrupt for them is asked for only when the ring is full.
//!
//! Lock order: `rx` or `tx` (rank `Device`), not both.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, checksum,
};

use super::queue::{Access, Piece, Queue};
use super::transport::{Notifier, SetupError, Transport, handler, next_cpu};
use crate::drivers::pci::Function;
use crate::mm::frame::Purpose;
use crate::mm::{FrameRef, PAGE_SIZE};
use crate::net::device::{Events, NetDevice, Offloads, Packet};
use crate::sync::{IrqLock, Rank};

/// Feature bits (5.1.3; the last is 6.3's for transitional devices).
mod feature {
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const ANY_LAYOUT: u64 = 1 << 27;
}

/// `struct virtio_net_hdr` (5.1.6): flags, gso_type, hdr_len, gso_size, csum_start,
/// csum_offset, and num_buffers where there is one.
const HDR_LEGACY: usize = 10;
const HDR_LONG: usize = 12;
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Receive buffers of a page each.
const RX_BUFFERS: u16 = 128;
/// A TCP packet that the device cuts up: four contiguous pages are found even when memory is
/// in pieces.
const TSO_MAX: usize = 4 * PAGE_SIZE - 64;
/// Where the checksum lies in a TCP header.
const TCP_CHECKSUM: usize = 16;

struct Rx {
    queue: Queue,
    /// By head descriptor.
    pages: Vec<Option<FrameRef>>,
    dead: bool,
}

struct Tx {
    queue: Queue,
    /// By head descriptor.
    packets: Vec<Option<Packet>>,
    dead: bool,
}

/// A network card.
pub struct VirtioNet {
    transport: Transport,
    mac: [u8; 6],
    mtu: usize,
    features: u64,
    header: usize,
    /// The header needs a descriptor of its own (legacy without ANY_LAYOUT).
    split_header: bool,
    rx: IrqLock<Rx>,
    rx_notifier: Notifier,
    tx: IrqLock<Tx>,
    tx_notifier: Notifier,
    link: AtomicBool,
    /// Who the handler tells.
    events: IrqLock<Option<Arc<dyn Events>>>,
}

fn table<T>(len: u16) -> Result<Vec<Option<T>>, SetupError> {
    let mut out = Vec::new();
    out.try_reserve_exact(len.into())
        .map_err(|_| SetupError::OutOfMemory)?;
    out.resize_with(len.into(), || None);
    Ok(out)
}

/// Takes over a network device.
pub fn probe(function: &Function) -> Result<Arc<VirtioNet>, SetupError> {
    let mut transport = Transport::new(function)?;
    let wanted = feature::CSUM
        | feature::GUEST_CSUM
        | feature::MTU
        | feature::MAC
        | feature::HOST_TSO4
        | feature::HOST_TSO6
        | feature::MRG_RXBUF
        | feature::STATUS
        | feature::ANY_LAYOUT;
    let features = transport.negotiate(wanted)?;
    let has = |bit: u64| features & bit != 0;
    let modern = transport.is_modern();
    let header = if modern || has(feature::MRG_RXBUF) {
        HDR_LONG
    } else {
        HDR_LEGACY
    };
    let (rx_queue, rx_notifier) = transport.setup_queue(0, 0)?;
    let (tx_queue, tx_notifier) = transport.setup_queue(1, 0)?;
    let mut mac = [0; 6];
    if has(feature::MAC) {
        transport.read_config(0, &mut mac);
    }
    if mac == [0; 6] || mac[0] & 1 != 0 {
        // A locally administered one of its own.
        mac = crate::security::random::bytes();
        mac[0] = mac[0] & 0xfc | 2;
    }
    // A frame fits the page it is received into.
    let most = PAGE_SIZE - HDR_LONG - 14;
    let mtu = has(feature::MTU)
        .then(|| usize::from(transport.config_u16(10)))
        .filter(|&mtu| mtu >= 1280)
        .unwrap_or(1500)
        .min(most);
    let (rx_size, tx_size) = (rx_queue.size(), tx_queue.size());
    let card = Arc::new(VirtioNet {
        mac,
        mtu,
        features,
        header,
        split_header: !modern && !has(feature::ANY_LAYOUT),
        rx: IrqLock::new(
            Rank::Device,
            Rx {
                pages: table(rx_size)?,
                queue: rx_queue,
                dead: false,
            },
        ),
        rx_notifier,
        tx: IrqLock::new(
            Rank::Device,
            Tx {
                packets: table(tx_size)?,
                queue: tx_queue,
                dead: false,
            },
        ),
        tx_notifier,
        link: AtomicBool::new(true),
        events: IrqLock::new(Rank::Leaf, None),
        transport,
    });
    card.read_link();
    {
        let mut rx = card.rx.lock();
        for _ in 0..RX_BUFFERS.min(rx_size) {
            let page = FrameRef::alloc(Purpose::Kernel).map_err(|_| SetupError::OutOfMemory)?;
            if card.post(&mut rx, page).is_err() {
                break;
            }
        }
        // The first packet is announced.
        rx.queue.enable_interrupts();
    }
    card.tx.lock().queue.disable_interrupts();
    let on_change: fn(&VirtioNet) = VirtioNet::on_config;
    if card.transport.has_msix() {
        card.transport
            .connect(0, next_cpu(), handler(&card, VirtioNet::on_interrupt))?;
        // Without an entry to spare the link's state stays what it was.
        if card
            .transport
            .connect(1, 0, handler(&card, on_change))
            .is_ok()
        {
            card.transport.set_config_entry(1);
        }
    } else {
        // One line says both.
        let both: fn(&VirtioNet) = |card| {
            card.on_config();
            card.on_interrupt();
        };
        card.transport.connect(0, 0, handler(&card, both))?;
    }
    card.transport.start();
    card.rx_notifier.notify();
    Ok(card)
}

impl VirtioNet {
    fn has(&self, bit: u64) -> bool {
        self.features & bit != 0
    }

    /// Puts a page on the receive ring; gives it back when the ring is full.
    fn post(&self, rx: &mut Rx, page: FrameRef) -> Result<(), FrameRef> {
        let piece = |offset: usize, len: usize| Piece {
            addr: page.addr() + offset as u64,
            len: len as u32,
            access: Access::DeviceWrites,
        };
        let head = if self.split_header {
            let (header, body) = (self.header, PAGE_SIZE - self.header);
            rx.queue.add(&[piece(0, header), piece(header, body)])
        } else {
            rx.queue.add(&[piece(0, PAGE_SIZE)])
        };
        match head {
            Ok(head) => {
                rx.pages[usize::from(head)] = Some(page);
                Ok(())
            }
            Err(_) => Err(page),
        }
    }

    /// The next filled page and how many bytes are in it, replaced by a fresh one.
    fn take(&self, rx: &mut Rx) -> Option<(FrameRef, usize)> {
        loop {
            let used = match rx.queue.pop() {
                Ok(used) => used?,
                Err(_) => {
                    rx.dead = true;
                    error!("virtio-net: the device broke the protocol and is not used any more");
                    return None;
                }
            };
            let Some(page) = rx.pages[usize::from(used.head)].take() else {
                continue;
            };
            match FrameRef::alloc(Purpose::Kernel) {
                Ok(fresh) => {
                    // The ring has the descriptors that just came back.
                    let _ = self.post(rx, fresh);
                    return Some((page, used.written as usize));
                }
                // No memory: the packet is lost, its page goes round again.
                Err(_) => {
                    let _ = self.post(rx, page);
                }
            }
        }
    }

    fn read_link(&self) {
        const LINK_UP: u16 = 1;
        if self.has(feature::STATUS) {
            let up = self.transport.config_u16(6) & LINK_UP != 0;
            self.link.store(up, Ordering::Relaxed);
        }
    }

    fn tell(&self) {
        let events = self.events.lock().clone();
        if let Some(events) = events {
            events.notify();
        }
    }

    fn on_interrupt(&self) {
        self.rx.lock().queue.disable_interrupts();
        self.tell();
    }

    fn on_config(&self) {
        let before = self.link.load(Ordering::Relaxed);
        self.read_link();
        if before != self.link.load(Ordering::Relaxed) {
            self.tell();
        }
    }

    /// Takes back what was sent.
    fn reclaim(tx: &mut Tx) {
        while !tx.dead {
            match tx.queue.pop() {
                Ok(Some(used)) => tx.packets[usize::from(used.head)] = None,
                Ok(None) => break,
                Err(_) => {
                    error!("virtio-net: the device broke the protocol and is not used any more");
                    tx.dead = true;
                }
            }
        }
    }
}

/// Fills the header for a TCP packet whose checksum, and maybe segmentation, is the device's:
/// the checksum field gets the sum of the pseudo header (5.1.6.2). Others need nothing.
fn prepare(frame: &mut [u8], segment_size: Option<u16>, header: &mut [u8; HDR_LONG]) {
    let Ok(ethernet) = EthernetFrame::new_checked(&*frame) else {
        return;
    };
    let ip = EthernetFrame::<&[u8]>::header_len();
    let (start, gso, sum) = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let Ok(p) = Ipv4Packet::new_checked(ethernet.payload()) else {
                return;
            };
            if p.next_header() != IpProtocol::Tcp || p.more_frags() || p.frag_offset() != 0 {
                return;
            }
            let len = u32::from(p.total_len()) - u32::from(p.header_len());
            let sum =
                checksum::pseudo_header_v4(&p.src_addr(), &p.dst_addr(), IpProtocol::Tcp, len);
            (ip + usize::from(p.header_len()), GSO_TCPV4, sum)
        }
        EthernetProtocol::Ipv6 => {
            let Ok(p) = Ipv6Packet::new_checked(ethernet.payload()) else {
                return;
            };
            if p.next_header() != IpProtocol::Tcp {
                return;
            }
            let len = u32::from(p.payload_len());
            let sum =
                checksum::pseudo_header_v6(&p.src_addr(), &p.dst_addr(), IpProtocol::Tcp, len);
            (ip + p.header_len(), GSO_TCPV6, sum)
        }
        _ => return,
    };
    let Some(tcp) = frame.get_mut(start..).filter(|t| t.len() >= 20) else {
        return;
    };
    if tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2] != [0, 0] {
        // Complete: from a raw socket.
        return;
    }
    tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    let tcp_header = usize::from(tcp[12] >> 4) * 4;
    header[0] = NEEDS_CSUM;
    header[6..8].copy_from_slice(&(start as u16).to_le_bytes());
    header[8..10].copy_from_slice(&(TCP_CHECKSUM as u16).to_le_bytes());
    if let Some(size) = segment_size {
        header[1] = gso;
        header[2..4].copy_from_slice(&((start + tcp_header) as u16).to_le_bytes());
        header[4..6].copy_from_slice(&size.to_le_bytes());
    }
}

impl NetDevice for VirtioNet {
    fn mac(&self) -> Option<[u8; 6]> {
        Some(self.mac)
    }
    fn mtu(&self) -> usize {
        self.mtu
    }
    fn offloads(&self) -> Offloads {
        let checksum = self.has(feature::CSUM);
        let tso = |bit| (checksum && self.has(bit)).then_some(TSO_MAX);
        Offloads {
            tx_tcp_checksum: checksum,
            segmentation_v4: tso(feature::HOST_TSO4),
            segmentation_v6: tso(feature::HOST_TSO6),
        }
    }
    fn link_is_up(&self) -> bool {
        self.link.load(Ordering::Relaxed)
    }
    fn needs_dma(&self) -> bool {
        true
    }
    fn set_events(&self, events: Arc<dyn Events>) {
        *self.events.lock() = Some(events);
    }
    fn has_room(&self) -> bool {
        let mut tx = self.tx.lock();
        if tx.queue.nr_free() < tx.queue.size() / 2 {
            Self::reclaim(&mut tx);
        }
        if tx.queue.nr_free() >= 2 {
            tx.queue.disable_interrupts();
            return true;
        }
        // An interrupt says when; one that came meanwhile counts.
        if tx.queue.enable_interrupts() {
            Self::reclaim(&mut tx);
        }
        tx.queue.nr_free() >= 2
    }
    fn transmit(&self, mut packet: Packet) -> Result<(), Packet> {
        let mut header = [0; HDR_LONG];
        let segment_size = packet.segment_size;
        if self.has(feature::CSUM) {
            prepare(packet.bytes_mut(), segment_size, &mut header);
        }
        let len = packet.bytes().len();
        let n = self.header;
        let Some((room, addr)) = packet.header(n) else {
            return Err(packet);
        };
        room.copy_from_slice(&header[..n]);
        let piece = |offset: usize, len: usize| Piece {
            addr: addr + offset as u64,
            len: len as u32,
            access: Access::DeviceReads,
        };
        let mut tx = self.tx.lock();
        let head = if self.split_header {
            tx.queue.add(&[piece(0, n), piece(n, len)])
        } else {
            tx.queue.add(&[piece(0, n + len)])
        };
        match head {
            Ok(head) => {
                tx.packets[usize::from(head)] = Some(packet);
                Ok(())
            }
            Err(_) => Err(packet),
        }
    }
    fn flush(&self) {
        let mut tx = self.tx.lock();
        let notify = tx.queue.must_notify();
        drop(tx);
        if notify {
            self.tx_notifier.notify();
        }
    }
    fn receive(&self) -> Option<Packet> {
        let mut rx = self.rx.lock();
        let (page, written) = self.take(&mut rx)?;
        let mut packet = Packet::from_frame(page, 0, written);
        let header = packet.bytes();
        let flags = *header.first()?;
        let nr_buffers = match header.get(10..12) {
            Some(b) if self.has(feature::MRG_RXBUF) => u16::from_le_bytes([b[0], b[1]]),
            _ => 1,
        };
        if nr_buffers > 1 {
            // Longer than a page: joined in the heap.
            let mut bytes = Vec::new();
            let first = header.get(self.header..)?;
            let mut fits = bytes.try_reserve(first.len()).is_ok();
            if fits {
                bytes.extend_from_slice(first);
            }
            for _ in 1..nr_buffers {
                let (page, written) = self.take(&mut rx)?;
                let more = Packet::from_frame(page, 0, written);
                fits &= bytes.try_reserve(written).is_ok();
                if fits {
                    bytes.extend_from_slice(more.bytes());
                }
            }
            if !fits {
                // Lost, as on the wire: an empty frame is for nobody.
                bytes.clear();
            }
            packet = Packet::from_vec(bytes);
        } else {
            packet = Packet::from_frame(
                packet.into_frame()?,
                self.header,
                written.saturating_sub(self.header),
            );
        }
        packet.checksum_ok = flags & (NEEDS_CSUM | DATA_VALID) != 0;
        let notify = rx.queue.must_notify();
        drop(rx);
        if notify {
            self.rx_notifier.notify();
        }
        Some(packet)
    }
    fn enable_events(&self) -> bool {
        let mut rx = self.rx.lock();
        !rx.dead && rx.queue.enable_interrupts()
    }
}
