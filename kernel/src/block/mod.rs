//! Block devices: the trait that drivers implement, requests, partitions, and the registry
//! of devices.
//!
//! Not responsible for caching (the page cache above) nor for hardware (drivers below).

pub mod partition;
mod registry;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Errno, Result};
use crate::mm::FrameRef;
use crate::sched::WaitQueue;
use crate::sync::{IrqLock, Rank};

pub use registry::{Disk, by_number, disks, find, find_root, register};

/// Bytes in a sector, the unit of addresses here.
pub const SECTOR_BYTES: u64 = 512;

/// A stretch of memory that a request moves: part of one frame.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The frame, kept alive until completion.
    pub frame: FrameRef,
    /// First byte in the frame.
    pub offset: u32,
    /// Length in bytes; a multiple of [`SECTOR_BYTES`].
    pub len: u32,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Device to memory.
    Read,
    /// Memory to device.
    Write,
    /// What was written before is on stable storage at completion: the writes that had
    /// completed when the flush was submitted.
    Flush,
}

/// A request. Completed once, maybe from interrupt context.
pub struct Request {
    /// What to do.
    pub op: Op,
    /// First sector.
    pub sector: u64,
    /// The memory, in order; empty for a flush.
    pub segments: Vec<Segment>,
    /// Called once with the outcome (EIO...). Must not sleep.
    pub done: Completion,
}

impl Request {
    /// Length in sectors.
    pub fn sectors(&self) -> u64 {
        self.segments
            .iter()
            .map(|s| u64::from(s.len) / SECTOR_BYTES)
            .sum()
    }

    /// Whether the request makes sense for a device of `nr_sectors`: EIO outside it, EROFS for
    /// a write to one that takes none, EINVAL for memory that is not whole sectors in a frame.
    pub fn check(&self, nr_sectors: u64, read_only: bool) -> Result<()> {
        if self.op == Op::Flush {
            return if self.segments.is_empty() {
                Ok(())
            } else {
                Err(Errno::EINVAL)
            };
        }
        if self.op == Op::Write && read_only {
            return Err(Errno::EROFS);
        }
        let whole = self.segments.iter().all(|s| {
            s.len != 0
                && u64::from(s.len).is_multiple_of(SECTOR_BYTES)
                && u64::from(s.offset) + u64::from(s.len) <= crate::mm::PAGE_SIZE as u64
        });
        if self.segments.is_empty() || !whole {
            return Err(Errno::EINVAL);
        }
        match self.sector.checked_add(self.sectors()) {
            Some(end) if end <= nr_sectors => Ok(()),
            _ => Err(Errno::EIO),
        }
    }
}

/// What a request's end calls.
pub type Completion = alloc::boxed::Box<dyn FnOnce(Result<()>) + Send>;

/// A device of sectors.
pub trait BlockDevice: Send + Sync {
    /// Name without /dev/, e.g. `vda` or `vda3`.
    fn name(&self) -> &str;
    /// Size in sectors.
    fn nr_sectors(&self) -> u64;
    /// Whether writes are refused (EROFS).
    fn read_only(&self) -> bool;
    /// Queues a request; returns at once when the device has room, else sleeps until it has.
    /// A bad request completes with an error.
    fn submit(&self, request: Request);
}

/// The outcome of a request that somebody waits for.
struct Pending {
    result: IrqLock<Option<Result<()>>>,
    queue: WaitQueue,
}

impl Pending {
    /// Submits a request whose outcome [`Pending::wait`] returns.
    fn submit(
        dev: &Arc<dyn BlockDevice>,
        op: Op,
        sector: u64,
        segments: Vec<Segment>,
    ) -> Arc<Pending> {
        let pending = Arc::new(Pending {
            result: IrqLock::new(Rank::Leaf, None),
            queue: WaitQueue::new(),
        });
        let theirs = pending.clone();
        dev.submit(Request {
            op,
            sector,
            segments,
            done: alloc::boxed::Box::new(move |result| {
                *theirs.result.lock() = Some(result);
                theirs.queue.wake_all();
            }),
        });
        pending
    }

    fn wait(&self) -> Result<()> {
        self.queue.wait_until(|| *self.result.lock())
    }
}

/// Submits and sleeps until done.
pub fn submit_and_wait(
    dev: &Arc<dyn BlockDevice>,
    op: Op,
    sector: u64,
    segments: Vec<Segment>,
) -> Result<()> {
    Pending::submit(dev, op, sector, segments).wait()
}

/// A read of a few kernel bytes that is under way.
struct Reading {
    segments: Vec<Segment>,
    len: usize,
    pending: Arc<Pending>,
}

impl Reading {
    /// Starts to read `len` bytes (whole sectors, at most 1 MiB) from `sector`.
    fn start(dev: &Arc<dyn BlockDevice>, sector: u64, len: usize) -> Result<Reading> {
        const PAGE: usize = crate::mm::PAGE_SIZE;
        if len == 0 || len > 1 << 20 || !(len as u64).is_multiple_of(SECTOR_BYTES) {
            return Err(Errno::EINVAL);
        }
        let mut segments = Vec::new();
        for at in (0..len).step_by(PAGE) {
            segments.push(Segment {
                frame: FrameRef::alloc_zeroed(crate::mm::frame::Purpose::Kernel)?,
                offset: 0,
                len: (len - at).min(PAGE) as u32,
            });
        }
        let pending = Pending::submit(dev, Op::Read, sector, segments.clone());
        Ok(Reading {
            segments,
            len,
            pending,
        })
    }

    /// Sleeps until it is done.
    fn finish(self) -> Result<Vec<u8>> {
        self.pending.wait()?;
        let mut out = Vec::new();
        out.try_reserve_exact(self.len).map_err(|_| Errno::ENOMEM)?;
        for s in &self.segments {
            // SAFETY: the frame is ours alone again: the request is done.
            let bytes = unsafe { core::slice::from_raw_parts(s.frame.as_ptr(), s.len as usize) };
            out.extend_from_slice(bytes);
        }
        Ok(out)
    }
}

/// Reads `len` bytes (whole sectors, at most 1 MiB) from `sector`, for partition tables and
/// superblocks.
pub fn read_bytes(dev: &Arc<dyn BlockDevice>, sector: u64, len: usize) -> Result<Vec<u8>> {
    Reading::start(dev, sector, len)?.finish()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex as StdMutex;

    /// A disk in memory that completes at once and remembers what it was asked.
    pub struct RamDisk {
        pub name: &'static str,
        pub bytes: StdMutex<Vec<u8>>,
        pub log: StdMutex<Vec<(Op, u64, u64)>>,
    }
    impl RamDisk {
        pub fn new(name: &'static str, sectors: usize) -> Arc<RamDisk> {
            Arc::new(RamDisk {
                name,
                bytes: StdMutex::new(vec![0; sectors * 512]),
                log: StdMutex::new(Vec::new()),
            })
        }
    }
    impl BlockDevice for RamDisk {
        fn name(&self) -> &str {
            self.name
        }
        fn nr_sectors(&self) -> u64 {
            self.bytes.lock().unwrap().len() as u64 / 512
        }
        fn read_only(&self) -> bool {
            false
        }
        fn submit(&self, r: Request) {
            let result = r.check(self.nr_sectors(), false);
            self.log.lock().unwrap().push((r.op, r.sector, r.sectors()));
            if result.is_ok() {
                let mut disk = self.bytes.lock().unwrap();
                let mut at = r.sector as usize * 512;
                for s in &r.segments {
                    let (n, off) = (s.len as usize, s.offset as usize);
                    // SAFETY: inside the segment's frame (checked).
                    let memory =
                        unsafe { core::slice::from_raw_parts_mut(s.frame.as_ptr().add(off), n) };
                    match r.op {
                        Op::Read => memory.copy_from_slice(&disk[at..at + n]),
                        Op::Write => disk[at..at + n].copy_from_slice(memory),
                        Op::Flush => {}
                    }
                    at += n;
                }
            }
            (r.done)(result);
        }
    }

    pub fn segment(fill: u8) -> Segment {
        let frame = FrameRef::alloc_zeroed(crate::mm::frame::Purpose::User).unwrap();
        // SAFETY: the frame is new.
        unsafe { frame.as_ptr().write_bytes(fill, 4096) };
        Segment {
            frame,
            offset: 0,
            len: 4096,
        }
    }

    #[test]
    fn reads_what_was_written() {
        let disk: Arc<dyn BlockDevice> = RamDisk::new("t", 64);
        submit_and_wait(&disk, Op::Write, 8, vec![segment(7)]).unwrap();
        let back = read_bytes(&disk, 0, 8192 + 512).unwrap();
        assert!(back[..4096].iter().all(|&b| b == 0));
        assert!(back[4096..8192].iter().all(|&b| b == 7));
        assert_eq!(back.len(), 8704);
    }

    #[test]
    fn bad_requests_fail() {
        let disk: Arc<dyn BlockDevice> = RamDisk::new("t", 64);
        let write = |sector, s| submit_and_wait(&disk, Op::Write, sector, s);
        assert_eq!(write(57, vec![segment(1)]), Err(Errno::EIO));
        assert_eq!(write(u64::MAX, vec![segment(1)]), Err(Errno::EIO));
        assert_eq!(write(0, vec![]), Err(Errno::EINVAL));
        let mut odd = segment(1);
        odd.len = 100;
        assert_eq!(write(0, vec![odd]), Err(Errno::EINVAL));
        let mut out = segment(1);
        out.offset = 512;
        assert_eq!(write(0, vec![out]), Err(Errno::EINVAL));
        assert_eq!(read_bytes(&disk, 0, 100), Err(Errno::EINVAL));
    }
}
