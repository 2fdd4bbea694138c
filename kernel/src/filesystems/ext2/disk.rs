//! The block device under a volume: metadata by bytes, content by page frames.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::buffers::Disk;
use crate::block::{BlockDevice, Completion, Op, Request, SECTOR_BYTES, Segment};
use crate::error::{Errno, Result};
use crate::mm::frame::Purpose;
use crate::mm::{FrameRef, PAGE_SIZE};
use crate::sched::WaitQueue;
use crate::sync::{IrqLock, Rank};

/// Metadata access to a device, through frames of its own.
pub struct DeviceDisk(pub Arc<dyn BlockDevice>);

fn sector_of(pos: u64) -> Result<u64> {
    if pos.is_multiple_of(SECTOR_BYTES) {
        Ok(pos / SECTOR_BYTES)
    } else {
        Err(Errno::EINVAL)
    }
}

fn frames_for(bytes: usize) -> Result<Vec<Segment>> {
    let mut out = Vec::new();
    out.try_reserve_exact(bytes.div_ceil(PAGE_SIZE))
        .map_err(|_| Errno::ENOMEM)?;
    let mut left = bytes;
    while left > 0 {
        let len = left.min(PAGE_SIZE);
        out.push(Segment {
            frame: FrameRef::alloc(Purpose::Kernel)?,
            offset: 0,
            len: len as u32,
        });
        left -= len;
    }
    Ok(out)
}

impl Disk for DeviceDisk {
    fn read(&self, pos: u64, out: &mut [u8]) -> Result<()> {
        let segments = frames_for(out.len())?;
        let frames: Vec<FrameRef> = segments.iter().map(|s| s.frame.clone()).collect();
        transfer(
            &self.0,
            Op::Read,
            vec![Piece {
                sector: sector_of(pos)?,
                segments,
            }],
        )?;
        for (part, frame) in out.chunks_mut(PAGE_SIZE).zip(&frames) {
            // SAFETY: the frame is ours alone and the device is done with it; a part is at
            // most a page long.
            unsafe {
                core::ptr::copy_nonoverlapping(frame.as_ptr(), part.as_mut_ptr(), part.len());
            }
        }
        Ok(())
    }
    fn write(&self, pos: u64, parts: &[&[u8]]) -> Result<()> {
        let bytes = parts.iter().map(|p| p.len()).sum();
        let segments = frames_for(bytes)?;
        let mut at = 0;
        for mut part in parts.iter().copied() {
            while !part.is_empty() {
                let offset = at % PAGE_SIZE;
                let n = part.len().min(PAGE_SIZE - offset);
                let segment = segments.get(at / PAGE_SIZE).ok_or(Errno::EIO)?;
                // SAFETY: the frame is ours alone, and `offset + n` stays within it.
                unsafe {
                    core::ptr::copy_nonoverlapping(
                        part.as_ptr(),
                        segment.frame.as_ptr().add(offset),
                        n,
                    );
                }
                part = &part[n..];
                at += n;
            }
        }
        transfer(
            &self.0,
            Op::Write,
            vec![Piece {
                sector: sector_of(pos)?,
                segments,
            }],
        )
    }
    fn flush(&self) -> Result<()> {
        transfer(
            &self.0,
            Op::Flush,
            vec![Piece {
                sector: 0,
                segments: Vec::new(),
            }],
        )
    }
}

/// A stretch of a device and the memory it moves to or from.
pub struct Piece {
    /// First sector.
    pub sector: u64,
    /// The memory.
    pub segments: Vec<Segment>,
}

/// Requests under way together.
struct Flight {
    left: AtomicUsize,
    error: IrqLock<Option<Errno>>,
    done: IrqLock<Option<Completion>>,
}

/// Moves all pieces, at the same time; `done` hears when all are, with the first error.
pub fn start_transfer(
    device: &Arc<dyn BlockDevice>,
    op: Op,
    mut pieces: Vec<Piece>,
    done: Completion,
) {
    if pieces.len() < 2 {
        match pieces.pop() {
            None => done(Ok(())),
            Some(piece) => device.submit(Request {
                op,
                sector: piece.sector,
                segments: piece.segments,
                done,
            }),
        }
        return;
    }
    let flight = Arc::new(Flight {
        left: AtomicUsize::new(pieces.len()),
        error: IrqLock::new(Rank::Leaf, None),
        done: IrqLock::new(Rank::Leaf, Some(done)),
    });
    for piece in pieces {
        let flight = flight.clone();
        device.submit(Request {
            op,
            sector: piece.sector,
            segments: piece.segments,
            done: Box::new(move |result| {
                if let Err(e) = result {
                    flight.error.lock().get_or_insert(e);
                }
                if flight.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    let outcome = flight.error.lock().map_or(Ok(()), Err);
                    let done = flight.done.lock().take();
                    if let Some(done) = done {
                        done(outcome);
                    }
                }
            }),
        });
    }
}

/// As [`start_transfer`]; returns when all are done.
pub fn transfer(device: &Arc<dyn BlockDevice>, op: Op, pieces: Vec<Piece>) -> Result<()> {
    let outcome = Arc::new((IrqLock::new(Rank::Leaf, None), WaitQueue::new()));
    let theirs = outcome.clone();
    let done = Box::new(move |result| {
        *theirs.0.lock() = Some(result);
        theirs.1.wake_all();
    });
    start_transfer(device, op, pieces, done);
    outcome.1.wait_until(|| *outcome.0.lock())
}
