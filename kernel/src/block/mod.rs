//! Block devices: the trait that drivers implement, requests, partitions.
//! (Skeleton: the block owner fills it in.)

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::Result;
use crate::mm::FrameRef;

/// Bytes in a sector, the unit of addresses here.
pub const SECTOR_BYTES: u64 = 512;

/// A stretch of memory that a request moves: part of one frame.
#[derive(Clone)]
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
    /// Everything written before is on stable storage at completion.
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

/// Submits and sleeps until done.
pub fn submit_and_wait(
    _dev: &Arc<dyn BlockDevice>,
    _op: Op,
    _sector: u64,
    _segments: Vec<Segment>,
) -> Result<()> {
    todo!()
}
