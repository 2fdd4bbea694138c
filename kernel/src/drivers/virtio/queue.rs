//! The split virtqueue (virtio 1.2, 2.7): how driver and device pass buffers.
//!
//! The device is not trusted: what it writes is read once and checked; the chains of free
//! descriptors are kept in the driver's own memory. A device that breaks the rules gives a
//! [`BadDevice`], never an access out of bounds.
//!
//! Not responsible for the lock around a queue, for notifying the device or for the memory
//! behind buffers.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use crate::mm::frame::{ContiguousFrames, OutOfMemory};
use crate::mm::{PAGE_SIZE, PhysAddr};

/// Descriptor flags (virtio 1.2, 2.7.5).
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
/// `avail.flags`: no interrupt wanted (2.7.6).
const AVAIL_NO_INTERRUPT: u16 = 1;
/// `used.flags`: no notification wanted (2.7.8).
const USED_NO_NOTIFY: u16 = 1;

/// Most descriptors the driver asks for; devices offer up to 32768.
pub const MAX_SIZE: u16 = 256;

#[derive(Clone, Copy)]
#[repr(C)]
struct Desc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct UsedElem {
    id: u32,
    len: u32,
}

/// One piece of memory of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte.
    pub addr: PhysAddr,
    /// Length in bytes, above 0.
    pub len: u32,
    /// Who writes it.
    pub access: Access,
}

/// Direction of a [`Piece`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The driver wrote it; the device reads.
    DeviceReads,
    /// The device writes it.
    DeviceWrites,
}

/// The device broke the protocol; the queue is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDevice;

/// Too few free descriptors now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A buffer that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`Queue::add`] returned.
    pub head: u16,
    /// Bytes that the device says it wrote; never more than the buffer's writable bytes.
    pub written: u32,
}

/// What the driver knows of a descriptor, in memory that the device cannot reach.
#[derive(Clone, Copy, Default)]
struct Shadow {
    /// The next of its chain, or of the free list.
    next: u16,
    /// Of a head in flight: descriptors in its chain. 0 otherwise.
    chain_len: u16,
    /// Of a head in flight: bytes the device may write.
    writable: u32,
}

/// Where the three parts of a queue lie, for the transport.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Descriptor table.
    pub desc: PhysAddr,
    /// Available ring ("driver area").
    pub avail: PhysAddr,
    /// Used ring ("device area").
    pub used: PhysAddr,
}

/// Byte offsets of the parts in one block, as legacy devices want them (2.7.2), and its size.
const fn offsets(size: u16) -> (usize, usize, usize) {
    let n = size as usize;
    let avail = size_of::<Desc>() * n;
    let used = (avail + 6 + 2 * n).next_multiple_of(PAGE_SIZE);
    (avail, used, used + 6 + size_of::<UsedElem>() * n)
}

/// The driver's side of a split virtqueue.
pub struct Queue {
    memory: ContiguousFrames,
    size: u16,
    event_idx: bool,
    shadow: Vec<Shadow>,
    free_head: u16,
    nr_free: u16,
    /// `avail.idx` as written last.
    avail_idx: u16,
    /// `avail.idx` when the device was notified last.
    notified_idx: u16,
    /// `used.idx` up to which was read.
    used_idx: u16,
    broken: bool,
}

// SAFETY: owns its memory; the device's accesses go on whichever CPU drives it.
unsafe impl Send for Queue {}

impl Queue {
    /// An empty queue of `size` descriptors, a power of two up to 32768. `event_idx` says that
    /// VIRTIO_F_EVENT_IDX was negotiated.
    pub fn new(size: u16, event_idx: bool) -> Result<Queue, OutOfMemory> {
        debug_assert!(size.is_power_of_two());
        let (_, _, bytes) = offsets(size);
        let memory = ContiguousFrames::alloc_zeroed(bytes.div_ceil(PAGE_SIZE), None)?;
        let mut shadow = Vec::new();
        shadow
            .try_reserve_exact(size.into())
            .map_err(|_| OutOfMemory)?;
        shadow.extend((0..size).map(|i| Shadow {
            next: i + 1,
            ..Shadow::default()
        }));
        Ok(Queue {
            memory,
            size,
            event_idx,
            shadow,
            free_head: 0,
            nr_free: size,
            avail_idx: 0,
            notified_idx: 0,
            used_idx: 0,
            broken: false,
        })
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Descriptors free now.
    pub fn nr_free(&self) -> u16 {
        self.nr_free
    }

    /// What the next [`Queue::add`] will return, for drivers that keep something per buffer.
    /// Beyond the size when the queue is full.
    pub fn next_head(&self) -> u16 {
        self.free_head
    }

    /// Physical addresses of the parts.
    pub fn layout(&self) -> Layout {
        let base = self.memory.addr();
        let (avail, used, _) = offsets(self.size);
        Layout {
            desc: base,
            avail: base + avail as u64,
            used: base + used as u64,
        }
    }

    fn desc(&self, i: u16) -> *mut Desc {
        debug_assert!(i < self.size);
        // SAFETY: `i` is below the size (callers), so inside the block.
        unsafe { self.memory.as_ptr().cast::<Desc>().add(i.into()) }
    }
    /// 16-bit field of the available ring: flags, idx, ring[size], used_event.
    fn avail(&self, word: usize) -> &AtomicU16 {
        let (avail, _, _) = offsets(self.size);
        debug_assert!(word < 3 + self.size as usize);
        // SAFETY: inside the block, aligned; both sides access it as a 16-bit atomic.
        unsafe { AtomicU16::from_ptr(self.memory.as_ptr().add(avail + 2 * word).cast()) }
    }
    /// 16-bit field of the used ring's head: flags, idx.
    fn used(&self, word: usize) -> &AtomicU16 {
        let (_, used, _) = offsets(self.size);
        // SAFETY: as above.
        unsafe { AtomicU16::from_ptr(self.memory.as_ptr().add(used + 2 * word).cast()) }
    }
    fn used_elem(&self, slot: u16) -> UsedElem {
        let (_, used, _) = offsets(self.size);
        let at = used + 4 + size_of::<UsedElem>() * usize::from(slot % self.size);
        // SAFETY: inside the block, aligned; read once, because the device may change it.
        unsafe {
            self.memory
                .as_ptr()
                .add(at)
                .cast::<UsedElem>()
                .read_volatile()
        }
    }
    /// `avail_event`: behind the used ring (2.7.10).
    fn avail_event(&self) -> u16 {
        let (_, used, _) = offsets(self.size);
        let at = used + 4 + size_of::<UsedElem>() * usize::from(self.size);
        // SAFETY: inside the block, aligned.
        unsafe { AtomicU16::from_ptr(self.memory.as_ptr().add(at).cast()) }.load(Ordering::Relaxed)
    }

    /// Puts a buffer of one or more pieces on the available ring; those the device reads come
    /// first (2.7.4.2). The device may see it at once; [`Queue::must_notify`] says whether it
    /// has to be told. The memory stays valid until the buffer comes back.
    pub fn add(&mut self, pieces: &[Piece]) -> Result<u16, Full> {
        let n = pieces.len() as u16;
        if self.broken || pieces.is_empty() || pieces.len() > usize::from(self.nr_free) {
            return Err(Full);
        }
        let head = self.free_head;
        let mut at = head;
        let mut writable = 0u32;
        for (i, piece) in pieces.iter().enumerate() {
            let next = self.shadow[usize::from(at)].next;
            let last = i + 1 == pieces.len();
            let mut flags = 0;
            if piece.access == Access::DeviceWrites {
                flags |= DESC_WRITE;
                writable = writable.saturating_add(piece.len);
            }
            if !last {
                flags |= DESC_NEXT;
            }
            let desc = Desc {
                addr: piece.addr.as_u64(),
                len: piece.len,
                flags,
                next: if last { 0 } else { next },
            };
            // SAFETY: `at` comes from the free list, so it is below the size, and the device
            // does not own it.
            unsafe { self.desc(at).write_volatile(desc) };
            if last {
                self.free_head = next;
            } else {
                at = next;
            }
        }
        self.nr_free -= n;
        let shadow = &mut self.shadow[usize::from(head)];
        shadow.chain_len = n;
        shadow.writable = writable;
        let slot = 2 + usize::from(self.avail_idx % self.size);
        self.avail(slot).store(head, Ordering::Relaxed);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        // The device sees the descriptors and the ring entry before the index (2.7.13.3).
        self.avail(1).store(self.avail_idx, Ordering::Release);
        Ok(head)
    }

    /// Whether the device wants to be told of what was added since the last call.
    pub fn must_notify(&mut self) -> bool {
        // The index is written before the device's wish is read (2.7.13.4.1).
        fence(Ordering::SeqCst);
        let (old, new) = (self.notified_idx, self.avail_idx);
        if old == new {
            return false;
        }
        self.notified_idx = new;
        if self.event_idx {
            // (new - event - 1) < (new - old), in 16 bits: the event index was passed.
            let event = self.avail_event();
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.used(0).load(Ordering::Relaxed) & USED_NO_NOTIFY == 0
        }
    }

    /// Takes back the oldest buffer that the device is done with, if there is one.
    pub fn pop(&mut self) -> Result<Option<Used>, BadDevice> {
        if self.broken {
            return Err(BadDevice);
        }
        let ready = self.used(1).load(Ordering::Acquire);
        if ready == self.used_idx {
            return Ok(None);
        }
        if ready.wrapping_sub(self.used_idx) > self.size {
            self.broken = true;
            return Err(BadDevice);
        }
        let elem = self.used_elem(self.used_idx);
        let shadow = u16::try_from(elem.id)
            .ok()
            .and_then(|id| self.shadow.get(usize::from(id)))
            .filter(|s| s.chain_len != 0)
            .copied();
        let Some(shadow) = shadow.filter(|s| elem.len <= s.writable) else {
            self.broken = true;
            return Err(BadDevice);
        };
        self.used_idx = self.used_idx.wrapping_add(1);
        let head = elem.id as u16;
        self.free_chain(head, shadow.chain_len);
        Ok(Some(Used {
            head,
            written: elem.len,
        }))
    }

    fn free_chain(&mut self, head: u16, len: u16) {
        let mut tail = head;
        for _ in 1..len {
            tail = self.shadow[usize::from(tail)].next;
        }
        self.shadow[usize::from(head)].chain_len = 0;
        self.shadow[usize::from(tail)].next = self.free_head;
        self.free_head = head;
        self.nr_free += len;
    }

    /// Asks for an interrupt when the next buffer comes back, and says whether one has come
    /// back already: then [`Queue::pop`] again.
    pub fn enable_interrupts(&mut self) -> bool {
        if self.event_idx {
            let used_event = 2 + usize::from(self.size);
            self.avail(used_event)
                .store(self.used_idx, Ordering::Relaxed);
        } else {
            self.avail(0).store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.used(1).load(Ordering::Acquire) != self.used_idx
    }

    /// Asks for no interrupts (a hint).
    pub fn disable_interrupts(&mut self) {
        if !self.event_idx {
            self.avail(0).store(AVAIL_NO_INTERRUPT, Ordering::Relaxed);
        }
    }

    /// Whether the device broke the protocol.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the device on the same memory.
    struct Device {
        avail_idx: u16,
        used_idx: u16,
    }
    impl Device {
        fn new() -> Self {
            Self {
                avail_idx: 0,
                used_idx: 0,
            }
        }
        /// The next chain: its head and pieces as (address, length, device writes).
        #[allow(clippy::type_complexity)] // A descriptor's fields, in a test.
        fn take(&mut self, q: &Queue) -> Option<(u16, Vec<(u64, u32, bool)>)> {
            if q.avail(1).load(Ordering::Acquire) == self.avail_idx {
                return None;
            }
            let head = q
                .avail(2 + usize::from(self.avail_idx % q.size))
                .load(Ordering::Relaxed);
            self.avail_idx = self.avail_idx.wrapping_add(1);
            let mut pieces = Vec::new();
            let mut at = head;
            loop {
                // SAFETY: the driver keeps the index in range.
                let d = unsafe { q.desc(at).read_volatile() };
                pieces.push((d.addr, d.len, d.flags & DESC_WRITE != 0));
                if d.flags & DESC_NEXT == 0 {
                    return Some((head, pieces));
                }
                at = d.next;
            }
        }
        fn give(&mut self, q: &Queue, id: u32, len: u32) {
            let (_, used, _) = offsets(q.size);
            let at = used + 4 + 8 * usize::from(self.used_idx % q.size);
            // SAFETY: inside the block.
            unsafe {
                q.memory
                    .as_ptr()
                    .add(at)
                    .cast::<UsedElem>()
                    .write_volatile(UsedElem { id, len });
            }
            self.used_idx = self.used_idx.wrapping_add(1);
            q.used(1).store(self.used_idx, Ordering::Release);
        }
    }

    fn read(addr: u64, len: u32) -> Piece {
        Piece {
            addr: PhysAddr(addr),
            len,
            access: Access::DeviceReads,
        }
    }
    fn write(addr: u64, len: u32) -> Piece {
        Piece {
            addr: PhysAddr(addr),
            len,
            access: Access::DeviceWrites,
        }
    }

    #[test]
    fn buffers_go_round_out_of_order_for_long() {
        let mut q = Queue::new(8, false).unwrap();
        let mut dev = Device::new();
        // More rounds than 16 bits count.
        for round in 0..30_000u64 {
            let a = q
                .add(&[read(round, 16), write(2, 512), write(3, 1)])
                .unwrap();
            let b = q.add(&[write(9, 4)]).unwrap();
            let (da, pieces) = dev.take(&q).unwrap();
            assert_eq!(pieces, [(round, 16, false), (2, 512, true), (3, 1, true)]);
            let (db, _) = dev.take(&q).unwrap();
            assert_eq!((da, db), (a, b));
            dev.give(&q, db.into(), 4);
            dev.give(&q, da.into(), 513);
            assert_eq!(
                q.pop(),
                Ok(Some(Used {
                    head: b,
                    written: 4
                }))
            );
            assert_eq!(
                q.pop(),
                Ok(Some(Used {
                    head: a,
                    written: 513
                }))
            );
            assert_eq!(q.pop(), Ok(None));
            assert_eq!(q.nr_free(), 8);
        }
    }

    #[test]
    fn full_ring_refuses_and_recovers() {
        let mut q = Queue::new(4, false).unwrap();
        let mut dev = Device::new();
        let a = q.add(&[read(1, 1), read(2, 1), write(3, 1)]).unwrap();
        assert_eq!(q.add(&[read(1, 1), read(2, 1)]), Err(Full));
        q.add(&[read(4, 1)]).unwrap();
        assert_eq!(q.add(&[read(5, 1)]), Err(Full));
        assert_eq!(q.add(&[]), Err(Full));
        dev.take(&q).unwrap();
        dev.give(&q, a.into(), 0);
        q.pop().unwrap().unwrap();
        assert_eq!(q.nr_free(), 3);
        q.add(&[read(1, 1), read(2, 1), write(3, 1)]).unwrap();
        let (_, pieces) = dev.take(&q).unwrap();
        assert_eq!(pieces.len(), 1);
        let (_, pieces) = dev.take(&q).unwrap();
        assert_eq!(pieces.len(), 3);
    }

    #[test]
    fn lies_of_the_device_are_errors() {
        let cases: [fn(&Queue, &mut Device, u16); 5] = [
            // An id beyond the table.
            |q, d, _| d.give(q, 8, 0),
            // An id beyond 16 bits that would wrap onto a valid one.
            |q, d, head| d.give(q, 0x1_0000 + u32::from(head), 0),
            // A descriptor that is not a head in flight.
            |q, d, head| d.give(q, u32::from(head) + 1, 0),
            // More bytes than there was room for.
            |q, d, head| d.give(q, head.into(), 5),
            // An index that runs ahead by more than the ring holds.
            |q, _, _| q.used(1).store(100, Ordering::Release),
        ];
        for case in cases {
            let mut q = Queue::new(8, false).unwrap();
            let mut dev = Device::new();
            let head = q.add(&[read(1, 16), write(2, 4)]).unwrap();
            case(&q, &mut dev, head);
            assert_eq!(q.pop(), Err(BadDevice));
            assert!(q.is_broken());
            assert_eq!(q.add(&[read(1, 1)]), Err(Full));
        }
        // The same head twice.
        let mut q = Queue::new(8, false).unwrap();
        let mut dev = Device::new();
        let head = q.add(&[write(2, 4)]).unwrap();
        dev.give(&q, head.into(), 4);
        dev.give(&q, head.into(), 4);
        assert!(q.pop().is_ok());
        assert_eq!(q.pop(), Err(BadDevice));
    }

    #[test]
    fn notifies_only_when_wanted() {
        let mut q = Queue::new(8, false).unwrap();
        assert!(!q.must_notify());
        q.add(&[read(1, 1)]).unwrap();
        assert!(q.must_notify());
        assert!(!q.must_notify());
        q.used(0).store(USED_NO_NOTIFY, Ordering::Relaxed);
        q.add(&[read(1, 1)]).unwrap();
        assert!(!q.must_notify());

        let mut q = Queue::new(8, true).unwrap();
        q.add(&[read(1, 1)]).unwrap();
        assert!(q.must_notify());
        // The device's event index stays at 0, which is behind: it is awake.
        q.add(&[read(1, 1)]).unwrap();
        assert!(!q.must_notify());
        let mut dev = Device::new();
        q.add(&[write(1, 1)]).unwrap();
        let (_, used, _) = offsets(8);
        // SAFETY: inside the block.
        unsafe { AtomicU16::from_ptr(q.memory.as_ptr().add(used + 4 + 64).cast()) }
            .store(2, Ordering::Relaxed);
        assert!(q.must_notify());
        assert!(!q.enable_interrupts());
        while dev.take(&q).is_some() {}
        dev.give(&q, 0, 0);
        assert!(q.enable_interrupts());
    }
}
