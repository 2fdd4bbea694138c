//! Metadata blocks in memory: bitmaps, tables, pointers, directories, with write-back.
//!
//! Kept by block and not by page: a page of a device with small blocks would mix metadata
//! with file content that lives in another cache, and writing it back would undo the content.
//! A buffer's lock is held while it is read or written, so that a block that was freed
//! ([`Buffers::forget`]) never reaches the disk after it has another use.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::HashMap;

use crate::error::{Errno, Result};
use crate::sched::Mutex;

/// The device under a filesystem, in bytes. Positions and lengths are multiples of 512.
pub trait Disk: Send + Sync {
    /// Reads at `pos`.
    fn read(&self, pos: u64, out: &mut [u8]) -> Result<()>;
    /// Writes the parts one after the other from `pos` on, as one request.
    fn write(&self, pos: u64, parts: &[&[u8]]) -> Result<()>;
    /// What was written before is durable on return.
    fn flush(&self) -> Result<()>;
}

struct Buffer {
    block: u32,
    /// Used since the last sweep.
    used: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Empty until read.
    bytes: Box<[u8]>,
    dirty: bool,
    /// Freed: never write it.
    forgotten: bool,
}

type Shard = HashMap<u32, Arc<Buffer>>;

const SHARDS: usize = 16;
/// The part of memory that buffers may take before clean ones go: one in so many bytes.
const MEMORY_SHARE: usize = 32;
/// Blocks in one write request at most.
const RUN_LIMIT: usize = 64;

/// The metadata blocks of one filesystem.
pub struct Buffers {
    disk: Arc<dyn Disk>,
    block_size: usize,
    shards: [Mutex<Shard>; SHARDS],
    /// Buffers per shard before clean ones go.
    shard_limit: usize,
    dirty: AtomicUsize,
}

impl Buffers {
    /// No buffers, over `disk`.
    pub fn new(disk: Arc<dyn Disk>, block_size: u32) -> Buffers {
        let memory = crate::mm::frame::total() * crate::mm::PAGE_SIZE;
        let limit = memory / MEMORY_SHARE / SHARDS / (block_size as usize).max(1);
        Buffers {
            disk,
            shard_limit: limit.max(16),
            block_size: block_size as usize,
            shards: core::array::from_fn(|_| Mutex::new(Shard::new())),
            dirty: AtomicUsize::new(0),
        }
    }
    /// The device.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    fn find(&self, block: u32) -> Result<Arc<Buffer>> {
        let mut shard = self.shards[block as usize % SHARDS].lock();
        if let Some(buffer) = shard.get(&block) {
            buffer.used.store(true, Ordering::Relaxed);
            return Ok(buffer.clone());
        }
        if shard.len() >= self.shard_limit {
            self.sweep(&mut shard);
        }
        shard.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let buffer = Arc::new(Buffer {
            block,
            used: AtomicBool::new(true),
            state: Mutex::new(State {
                bytes: Box::default(),
                dirty: false,
                forgotten: false,
            }),
        });
        shard.insert(block, buffer.clone());
        Ok(buffer)
    }

    /// Lets clean buffers go that were not used since the last sweep.
    fn sweep(&self, shard: &mut Shard) {
        shard.retain(|_, buffer| {
            Arc::strong_count(buffer) > 1
                || buffer.used.swap(false, Ordering::Relaxed)
                || buffer.state.try_lock().is_none_or(|s| s.dirty)
        });
    }

    fn fresh(&self) -> Result<Box<[u8]>> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(self.block_size)
            .map_err(|_| Errno::ENOMEM)?;
        bytes.resize(self.block_size, 0);
        Ok(bytes.into_boxed_slice())
    }

    fn load(&self, buffer: &Buffer, state: &mut State) -> Result<()> {
        if state.bytes.is_empty() {
            let mut bytes = self.fresh()?;
            let pos = u64::from(buffer.block) * self.block_size as u64;
            self.disk.read(pos, &mut bytes)?;
            state.bytes = bytes;
        }
        Ok(())
    }

    fn mark(&self, state: &mut State) {
        if !state.dirty {
            state.dirty = true;
            self.dirty.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks at a block.
    pub fn with<R>(&self, block: u32, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        loop {
            let buffer = self.find(block)?;
            let mut state = buffer.state.lock();
            if state.forgotten {
                continue;
            }
            self.load(&buffer, &mut state)?;
            return Ok(look(&state.bytes));
        }
    }

    /// Changes a block.
    pub fn with_mut<R>(&self, block: u32, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        loop {
            let buffer = self.find(block)?;
            let mut state = buffer.state.lock();
            if state.forgotten {
                continue;
            }
            self.load(&buffer, &mut state)?;
            self.mark(&mut state);
            return Ok(change(&mut state.bytes));
        }
    }

    /// Starts a block that was just allocated, from zeros and without reading it.
    pub fn start(&self, block: u32, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        loop {
            let buffer = self.find(block)?;
            let mut state = buffer.state.lock();
            if state.forgotten {
                continue;
            }
            if state.bytes.is_empty() {
                state.bytes = self.fresh()?;
            } else {
                state.bytes.fill(0);
            }
            self.mark(&mut state);
            fill(&mut state.bytes);
            return Ok(());
        }
    }

    /// The block was freed: what is in memory of it is void and will not be written.
    pub fn forget(&self, block: u32) {
        let gone = self.shards[block as usize % SHARDS].lock().remove(&block);
        if let Some(buffer) = gone {
            let mut state = buffer.state.lock();
            state.forgotten = true;
            if core::mem::take(&mut state.dirty) {
                self.dirty.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes every dirty block, neighbours in one request. The first error is the result;
    /// blocks that failed stay dirty.
    pub fn write_back(&self) -> Result<()> {
        self.write_back_last(|_| false)
    }

    /// As [`Buffers::write_back`], the blocks that are `last` after all others.
    pub fn write_back_last(&self, last: impl Fn(u32) -> bool) -> Result<()> {
        let mut all: Vec<Arc<Buffer>> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.try_reserve(shard.len()).map_err(|_| Errno::ENOMEM)?;
            all.extend(shard.values().cloned());
        }
        all.sort_unstable_by_key(|b| (last(b.block), b.block));
        let mut result = Ok(());
        let mut run = Vec::new();
        for buffer in &all {
            let state = buffer.state.lock();
            if !state.dirty || state.forgotten {
                drop(state);
                result = result.and(self.write_run(&mut run));
                continue;
            }
            let apart = run
                .last()
                .is_some_and(|(b, _): &(u32, _)| b + 1 != buffer.block);
            if apart || run.len() >= RUN_LIMIT {
                result = result.and(self.write_run(&mut run));
            }
            run.push((buffer.block, state));
        }
        result.and(self.write_run(&mut run))
    }

    fn write_run(&self, run: &mut Vec<(u32, crate::sched::MutexGuard<'_, State>)>) -> Result<()> {
        let Some((first, _)) = run.first() else {
            return Ok(());
        };
        let pos = u64::from(*first) * self.block_size as u64;
        let result = {
            let parts: Vec<&[u8]> = run.iter().map(|(_, s)| &*s.bytes).collect();
            self.disk.write(pos, &parts)
        };
        if result.is_ok() {
            for (_, state) in run.iter_mut() {
                state.dirty = false;
                self.dirty.fetch_sub(1, Ordering::Relaxed);
            }
        }
        run.clear();
        result
    }
}
