//! Virtio block device (virtio 1.2, 5.2).
//!
//! Many requests are in flight at once; each is completed by interrupt. Who finds the ring
//! full sleeps until a request comes back. A device that breaks the protocol is stopped, and
//! every request ends with EIO.
//!
//! Lock order: `state` (rank `Device`); completions run without it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::queue::{Access, Piece, Queue};
use super::transport::{Notifier, SetupError, Transport, handler, next_cpu};
use crate::block::{BlockDevice, Completion, Op, Request, SECTOR_BYTES, Segment};
use crate::drivers::pci::Function;
use crate::error::{Errno, Result};
use crate::mm::frame::ContiguousFrames;
use crate::mm::{PAGE_SIZE, PhysAddr};
use crate::sched::WaitQueue;
use crate::sync::{IrqLock, Rank};
use crate::time::now_ns;

/// Feature bits (5.2.3).
mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const FLUSH: u64 = 1 << 9;
}

/// Request types (5.2.6).
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
/// Status bytes.
const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
/// What the driver puts there before.
const STATUS_NONE: u8 = 0xff;

/// Pieces of data in one request to the device.
const MAX_PIECES: usize = 64;

/// Header and status of a request, one per descriptor, in memory the device reaches.
#[repr(C, align(32))]
struct Slot {
    kind: u32,
    reserved: u32,
    sector: u64,
    status: u8,
}
const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES == 32);

/// A part of a request that fits into one chain of descriptors.
struct Part {
    op: Op,
    sector: u64,
    segments: Vec<Segment>,
    done: Completion,
}

struct State {
    queue: Queue,
    slots: ContiguousFrames,
    /// By head descriptor.
    in_flight: Vec<Option<Part>>,
    /// The device broke the protocol.
    dead: bool,
}

/// A disk.
pub struct VirtioBlk {
    name: String,
    transport: Transport,
    notifier: Notifier,
    nr_sectors: u64,
    read_only: bool,
    /// Without it every write is on stable storage when it completes (5.2.6.2).
    has_flush: bool,
    max_pieces: usize,
    max_piece_bytes: u32,
    state: IrqLock<State>,
    /// Woken when descriptors come free.
    room: WaitQueue,
    failures: Failures,
}

/// Requests that failed: the log is told of some, so that a bad disk does not fill it.
#[derive(Default)]
struct Failures {
    /// When the present period began, in ns.
    since: AtomicU64,
    /// Those since then.
    count: AtomicU32,
}

impl Failures {
    /// In a period, in ns, the log is told of so many.
    const PERIOD: u64 = 5_000_000_000;
    const MOST: u32 = 10;

    fn tell(&self, disk: &str, part: &Part, error: Errno) {
        let now = now_ns();
        if now >= self.since.load(Ordering::Relaxed) + Self::PERIOD {
            self.since.store(now, Ordering::Relaxed);
            let missed = self.count.swap(0, Ordering::Relaxed);
            if missed > Self::MOST {
                error!("{disk}: {} more requests failed", missed - Self::MOST);
            }
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= Self::MOST {
            return;
        }
        let bytes: u64 = part.segments.iter().map(|s| u64::from(s.len)).sum();
        let (op, sector) = (part.op, part.sector);
        error!("{disk}: {op:?} of {bytes} bytes at sector {sector} failed: {error:?}");
    }
}

/// Disks named so far.
static NR_DISKS: AtomicU32 = AtomicU32::new(0);

/// `vda`, `vdb`, ... `vdz`, `vdaa`...
fn disk_name(index: u32) -> String {
    let mut letters = Vec::new();
    let mut n = index + 1;
    while n > 0 {
        n -= 1;
        letters.push(b'a' + (n % 26) as u8);
        n /= 26;
    }
    let mut name = String::from("vd");
    name.extend(letters.iter().rev().map(|&b| char::from(b)));
    name
}

/// Takes over a block device.
pub fn probe(function: &Function) -> core::result::Result<Arc<VirtioBlk>, SetupError> {
    let mut transport = Transport::new(function)?;
    let wanted = feature::SIZE_MAX | feature::SEG_MAX | feature::RO | feature::FLUSH;
    let features = transport.negotiate(wanted)?;
    let (queue, notifier) = transport.setup_queue(0, 0)?;
    let size = usize::from(queue.size());
    if size < 3 {
        return Err(SetupError::NoQueue);
    }
    let nr_sectors = transport.config_u64(0);
    let limit = |bit: u64, offset: u32| {
        (features & bit != 0)
            .then(|| transport.config_u32(offset))
            .filter(|&n| n != 0)
    };
    let max_piece_bytes = limit(feature::SIZE_MAX, 8).unwrap_or(u32::MAX);
    if max_piece_bytes < PAGE_SIZE as u32 {
        return Err(SetupError::Refused);
    }
    let max_pieces = limit(feature::SEG_MAX, 12)
        .map_or(MAX_PIECES, |n| n as usize)
        .min(MAX_PIECES)
        .min(size - 2);
    let slots = ContiguousFrames::alloc_zeroed((size * SLOT_BYTES).div_ceil(PAGE_SIZE), None)
        .map_err(|_| SetupError::OutOfMemory)?;
    let mut in_flight = Vec::new();
    in_flight
        .try_reserve_exact(size)
        .map_err(|_| SetupError::OutOfMemory)?;
    in_flight.resize_with(size, || None);
    let disk = Arc::new(VirtioBlk {
        name: disk_name(NR_DISKS.fetch_add(1, Ordering::Relaxed)),
        notifier,
        nr_sectors,
        read_only: features & feature::RO != 0,
        has_flush: features & feature::FLUSH != 0,
        max_pieces,
        max_piece_bytes,
        state: IrqLock::new(
            Rank::Device,
            State {
                queue,
                slots,
                in_flight,
                dead: false,
            },
        ),
        room: WaitQueue::new(),
        failures: Failures::default(),
        transport,
    });
    disk.state.lock().queue.enable_interrupts();
    disk.transport
        .connect(0, next_cpu(), handler(&disk, VirtioBlk::on_interrupt))?;
    disk.transport.start();
    Ok(disk)
}

/// The outcome of a request that was split: the first error wins.
struct Joined {
    left: AtomicU32,
    error: IrqLock<Option<Errno>>,
    done: IrqLock<Option<Completion>>,
}

impl Joined {
    fn part_done(&self, result: Result<()>) {
        if let Err(e) = result {
            self.error.lock().get_or_insert(e);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let outcome = self.error.lock().map_or(Ok(()), Err);
            let done = self.done.lock().take();
            if let Some(done) = done {
                done(outcome);
            }
        }
    }
}

impl State {
    fn slot(&self, head: u16) -> *mut Slot {
        // SAFETY: heads are below the queue's size, for which the block was made.
        unsafe { self.slots.as_ptr().cast::<Slot>().add(head.into()) }
    }

    /// Puts a part on the ring. Gives it back when there is no room.
    fn add(&mut self, disk: &VirtioBlk, part: Part) -> core::result::Result<(), Part> {
        let mut pieces = [Piece {
            addr: PhysAddr(0),
            len: 0,
            access: Access::DeviceReads,
        }; MAX_PIECES + 2];
        let nr_data = gather(&part, &mut pieces[1..=MAX_PIECES], disk.max_piece_bytes);
        if nr_data + 2 > usize::from(self.queue.nr_free()) {
            return Err(part);
        }
        let head = self.queue.next_head();
        let slot = self.slot(head);
        let at = self.slots.addr() + (usize::from(head) * SLOT_BYTES) as u64;
        let kind = match part.op {
            Op::Read => TYPE_IN,
            Op::Write => TYPE_OUT,
            Op::Flush => TYPE_FLUSH,
        };
        // SAFETY: the slot of a free descriptor belongs to the driver.
        unsafe {
            slot.write_volatile(Slot {
                kind,
                reserved: 0,
                sector: part.sector,
                status: STATUS_NONE,
            });
        }
        pieces[0] = Piece {
            addr: at,
            len: 16,
            access: Access::DeviceReads,
        };
        pieces[nr_data + 1] = Piece {
            addr: at + 16,
            len: 1,
            access: Access::DeviceWrites,
        };
        match self.queue.add(&pieces[..nr_data + 2]) {
            Ok(head) => {
                self.in_flight[usize::from(head)] = Some(part);
                Ok(())
            }
            Err(_) => Err(part),
        }
    }

    /// The next part that the device is done with, and how it went.
    fn take_done(&mut self) -> Option<(Part, Result<()>)> {
        loop {
            let used = match self.queue.pop() {
                Ok(used) => used?,
                Err(_) => {
                    self.dead = true;
                    return None;
                }
            };
            // SAFETY: the slot of a buffer that came back; read once.
            let status = unsafe { (&raw const (*self.slot(used.head)).status).read_volatile() };
            let result = match status {
                STATUS_OK => Ok(()),
                STATUS_UNSUPPORTED => Err(Errno::EOPNOTSUPP),
                _ => Err(Errno::EIO),
            };
            // The queue only returns heads that are in flight.
            if let Some(part) = self.in_flight[usize::from(used.head)].take() {
                return Some((part, result));
            }
        }
    }
}

/// Lists the memory of a part, joining what is physically contiguous; returns the number.
fn gather(part: &Part, out: &mut [Piece], max_bytes: u32) -> usize {
    let access = if part.op == Op::Read {
        Access::DeviceWrites
    } else {
        Access::DeviceReads
    };
    let mut n = 0;
    for s in &part.segments {
        let addr = s.frame.addr() + u64::from(s.offset);
        if n > 0 {
            let last: &mut Piece = &mut out[n - 1];
            let joined = last.len.checked_add(s.len);
            if last.addr + u64::from(last.len) == addr && joined.is_some_and(|l| l <= max_bytes) {
                last.len += s.len;
                continue;
            }
        }
        out[n] = Piece {
            addr,
            len: s.len,
            access,
        };
        n += 1;
    }
    n
}

impl VirtioBlk {
    /// Queues a part, sleeping while the ring is full.
    fn submit_part(&self, part: Part) {
        let mut waiting = Some(part);
        let refused = self.room.wait_until(|| {
            let part = waiting.take()?;
            let mut state = self.state.lock();
            if state.dead {
                return Some(Some(part));
            }
            match state.add(self, part) {
                Ok(()) => {
                    let notify = state.queue.must_notify();
                    drop(state);
                    if notify {
                        self.notifier.notify();
                    }
                    Some(None)
                }
                Err(part) => {
                    waiting = Some(part);
                    None
                }
            }
        });
        if let Some(part) = refused {
            (part.done)(Err(Errno::EIO));
        }
    }

    /// Takes back what the device is done with.
    fn on_interrupt(&self) {
        let mut any = false;
        loop {
            let mut state = self.state.lock();
            if state.dead {
                break;
            }
            if let Some((part, result)) = state.take_done() {
                drop(state);
                any = true;
                if let Err(e) = result {
                    self.failures.tell(&self.name, &part, e);
                }
                (part.done)(result);
                continue;
            }
            if state.dead {
                drop(state);
                self.die();
                break;
            }
            // Asked for the next interrupt; what came meanwhile is taken now.
            if !state.queue.enable_interrupts() {
                break;
            }
        }
        if any {
            self.room.wake_all();
        }
    }

    /// The device broke the protocol: stops it and fails what it had.
    fn die(&self) {
        error!(
            "{}: the device broke the protocol and is not used any more",
            self.name
        );
        let stopped = self.transport.reset().is_ok();
        loop {
            let part = {
                let mut state = self.state.lock();
                state.in_flight.iter_mut().find_map(Option::take)
            };
            let Some(part) = part else {
                break;
            };
            (part.done)(Err(Errno::EIO));
            if !stopped {
                // It may still write there: the memory is lost.
                core::mem::forget(part.segments);
            }
        }
        self.room.wake_all();
    }
}

impl BlockDevice for VirtioBlk {
    fn name(&self) -> &str {
        &self.name
    }
    fn nr_sectors(&self) -> u64 {
        self.nr_sectors
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn submit(&self, request: Request) {
        if let Err(e) = request.check(self.nr_sectors, self.read_only) {
            (request.done)(Err(e));
            return;
        }
        if request.op == Op::Flush && !self.has_flush {
            (request.done)(Ok(()));
            return;
        }
        let Request {
            op,
            mut sector,
            segments,
            done,
        } = request;
        if segments.len() <= self.max_pieces {
            self.submit_part(Part {
                op,
                sector,
                segments,
                done,
            });
            return;
        }
        let nr_parts = segments.len().div_ceil(self.max_pieces);
        let joined = Arc::new(Joined {
            left: AtomicU32::new(nr_parts as u32),
            error: IrqLock::new(Rank::Leaf, None),
            done: IrqLock::new(Rank::Leaf, Some(done)),
        });
        for chunk in segments.chunks(self.max_pieces) {
            let sectors: u64 = chunk.iter().map(|s| u64::from(s.len) / SECTOR_BYTES).sum();
            let joined = joined.clone();
            self.submit_part(Part {
                op,
                sector,
                segments: chunk.to_vec(),
                done: Box::new(move |result| joined.part_done(result)),
            });
            sector += sectors;
        }
    }
}
