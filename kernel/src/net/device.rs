//! Network devices: the trait that drivers implement, the memory of packets, and the loopback
//! device.
//!
//! Not responsible for protocols ([`super::stack`]) nor for hardware (drivers). A device tells
//! its [`Events`] from interrupt context that there is something to do and then stays quiet
//! until the stack has drained it and asks for the next event.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::mm::frame::{ContiguousFrames, OutOfMemory, Purpose};
use crate::mm::{FrameRef, PAGE_SIZE, PhysAddr};

/// Bytes before a packet's data that a driver may use for its own header.
pub const HEADROOM: usize = 16;

enum Storage {
    Page(FrameRef),
    Pages(ContiguousFrames),
    Heap(Vec<u8>),
}

/// A packet: bytes that one owner holds, with room in front where it is for a device.
pub struct Packet {
    storage: Storage,
    start: usize,
    len: usize,
    /// A device vouches for the TCP or UDP checksum (it verified it, or the packet never
    /// left the machine).
    pub checksum_ok: bool,
    /// The bytes of TCP payload per segment, when the device is to cut the packet up.
    pub segment_size: Option<u16>,
}

// SAFETY: one owner at a time; the frames are plain memory.
unsafe impl Send for Packet {}

impl Packet {
    fn new(storage: Storage, start: usize, len: usize) -> Packet {
        Packet {
            storage,
            start,
            len,
            checksum_ok: false,
            segment_size: None,
        }
    }

    /// A packet of `len` bytes that a device can reach, contiguous, behind [`HEADROOM`].
    pub fn for_device(len: usize) -> Result<Packet, OutOfMemory> {
        let total = HEADROOM + len;
        let storage = if total <= PAGE_SIZE {
            Storage::Page(FrameRef::alloc(Purpose::Kernel)?)
        } else {
            Storage::Pages(ContiguousFrames::alloc(total.div_ceil(PAGE_SIZE), None)?)
        };
        Ok(Packet::new(storage, HEADROOM, len))
    }

    /// A packet of `len` bytes in the heap.
    pub fn in_heap(len: usize) -> Result<Packet, OutOfMemory> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
        bytes.resize(len, 0);
        Ok(Packet::new(Storage::Heap(bytes), 0, len))
    }

    /// A packet whose bytes were collected elsewhere.
    pub fn from_vec(bytes: Vec<u8>) -> Packet {
        let len = bytes.len();
        Packet::new(Storage::Heap(bytes), 0, len)
    }

    /// What a device wrote into a frame that nobody else refers to: `len` bytes at `start`,
    /// cut to the frame.
    pub fn from_frame(frame: FrameRef, start: usize, len: usize) -> Packet {
        debug_assert!(frame.ref_count() == 1);
        let start = start.min(PAGE_SIZE);
        Packet::new(Storage::Page(frame), start, len.min(PAGE_SIZE - start))
    }

    /// Drops the first `n` bytes, or fewer when there are not as many.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.len);
        self.start += n;
        self.len -= n;
    }

    /// Takes bytes back that [`Packet::advance`] dropped.
    pub fn retreat(&mut self, n: usize) {
        let n = n.min(self.start);
        self.start -= n;
        self.len += n;
    }

    fn base(&self) -> *mut u8 {
        match &self.storage {
            Storage::Page(frame) => frame.as_ptr(),
            Storage::Pages(frames) => frames.as_ptr(),
            Storage::Heap(bytes) => bytes.as_ptr().cast_mut(),
        }
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start + len` lies inside the storage (constructors), which is this
        // packet's alone: no device has it while the packet is a value.
        unsafe { core::slice::from_raw_parts(self.base().add(self.start), self.len) }
    }

    /// The packet, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let base = match &mut self.storage {
            Storage::Heap(bytes) => bytes.as_mut_ptr(),
            _ => self.base(),
        };
        // SAFETY: as in `bytes`; borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(base.add(self.start), self.len) }
    }

    /// The `n` bytes in front of the packet and their physical address, which the packet
    /// follows; `None` when it is in the heap or `n` is above [`HEADROOM`].
    pub fn header(&mut self, n: usize) -> Option<(&mut [u8], PhysAddr)> {
        let at = self.start.checked_sub(n)?;
        let base = match &self.storage {
            Storage::Page(frame) => frame.addr(),
            Storage::Pages(frames) => frames.addr(),
            Storage::Heap(_) => return None,
        };
        // SAFETY: inside the storage, in front of the data; borrowed exclusively.
        let bytes = unsafe { core::slice::from_raw_parts_mut(self.base().add(at), n) };
        Some((bytes, base + at as u64))
    }

    /// The frame behind the packet, for a device to use again.
    pub fn into_frame(self) -> Option<FrameRef> {
        match self.storage {
            Storage::Page(frame) => Some(frame),
            _ => None,
        }
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packet({} bytes)", self.len)
    }
}

/// Work that a device does for the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offloads {
    /// It completes the TCP checksum of packets it sends.
    pub tx_tcp_checksum: bool,
    /// Longest TCP packet over IPv4, with its headers, that it cuts into segments.
    pub segmentation_v4: Option<usize>,
    /// As above, over IPv6.
    pub segmentation_v6: Option<usize>,
}

/// Who a device tells that packets came, that there is room again or that the link changed.
/// Called from interrupt context: must not sleep.
pub trait Events: Send + Sync {
    /// Something is to be done.
    fn notify(&self);
}

/// A device that sends and receives packets.
pub trait NetDevice: Send + Sync {
    /// Its hardware address; `None` for a device of bare IP packets.
    fn mac(&self) -> Option<[u8; 6]>;
    /// Longest IP packet in bytes.
    fn mtu(&self) -> usize;
    /// What it does for the stack.
    fn offloads(&self) -> Offloads;
    /// Whether a cable is plugged in.
    fn link_is_up(&self) -> bool;
    /// Whether packets must lie in memory that the hardware reaches ([`Packet::for_device`]).
    fn needs_dma(&self) -> bool;
    /// Who is told; set once.
    fn set_events(&self, events: Arc<dyn Events>);
    /// Whether a packet can be sent now. When not, an event comes once it can.
    fn has_room(&self) -> bool;
    /// Sends a packet; it may stay unseen until [`NetDevice::flush`]. Gives it back when
    /// there is no room.
    fn transmit(&self, packet: Packet) -> Result<(), Packet>;
    /// Makes the hardware see what was given to [`NetDevice::transmit`].
    fn flush(&self);
    /// The next packet that came.
    fn receive(&self) -> Option<Packet>;
    /// Asks for an event when the next packet comes; true when one is there already.
    fn enable_events(&self) -> bool;
}

/// The loopback interface's device: it has properties, and its packets never reach it, for
/// the stack hands them round.
pub struct Loopback;

impl NetDevice for Loopback {
    fn mac(&self) -> Option<[u8; 6]> {
        None
    }
    fn mtu(&self) -> usize {
        65535
    }
    fn offloads(&self) -> Offloads {
        Offloads {
            tx_tcp_checksum: true,
            ..Offloads::default()
        }
    }
    fn link_is_up(&self) -> bool {
        true
    }
    fn needs_dma(&self) -> bool {
        false
    }
    fn set_events(&self, _events: Arc<dyn Events>) {}
    fn has_room(&self) -> bool {
        true
    }
    fn transmit(&self, packet: Packet) -> Result<(), Packet> {
        Err(packet)
    }
    fn flush(&self) {}
    fn receive(&self) -> Option<Packet> {
        None
    }
    fn enable_events(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_room_in_front() {
        let mut p = Packet::for_device(100).unwrap();
        p.bytes_mut().fill(7);
        let (header, addr) = p.header(12).unwrap();
        header.fill(1);
        assert_eq!(addr.as_u64() % PAGE_SIZE as u64, 4);
        assert!(p.bytes().iter().all(|&b| b == 7));
        assert!(p.header(HEADROOM + 1).is_none());
        assert_eq!(Packet::for_device(20_000).unwrap().bytes().len(), 20_000);
    }
}
