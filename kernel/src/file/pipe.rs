//! Pipes and FIFOs (man 7 pipe): a ring of page frames between writers and readers.
//!
//! The ring is guarded by a sleeping mutex, which may be held across user copies; how full it
//! is and who is there is kept in atomics beside it, so that waiters and `poll` look without
//! the mutex. Whoever changes the ring updates the atomics before it wakes.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use super::anon::AnonInode;
use super::{File, OpenFile, PollEvents, PollTable};
use crate::abi;
use crate::error::{Errno, Result};
use crate::mm::{FrameRef, PAGE_SIZE, UserAddr};
use crate::sched::{Mutex, WaitError, WaitQueue};
use crate::vm::page_cache::reclaim;
use crate::vm::{IoDest, IoSource, UserPtr};

/// Writes up to this size are atomic (man 7 pipe, PIPE_BUF).
pub const PIPE_BUF: usize = 4096;
/// Pages of a new pipe: 64 KiB (man 7 pipe).
const DEFAULT_PAGES: usize = 16;
/// Most pages `F_SETPIPE_SZ` gives an unprivileged program: 1 MiB (pipe-max-size).
const MAX_PAGES: usize = 256;

/// A stretch of unread bytes in one frame.
struct Chunk {
    frame: FrameRef,
    start: usize,
    end: usize,
}

impl Chunk {
    /// Bytes that can be added behind: none when another pipe has the frame too (tee).
    fn tail(&self) -> usize {
        if self.frame.ref_count() == 1 {
            PAGE_SIZE - self.end
        } else {
            0
        }
    }
}

#[derive(Default)]
struct Ring {
    chunks: VecDeque<Chunk>,
    max_chunks: usize,
    /// A drained frame kept for the next write.
    spare: Option<FrameRef>,
}

impl Ring {
    fn used(&self) -> usize {
        self.chunks.iter().map(|c| c.end - c.start).sum()
    }

    fn room(&self) -> usize {
        let tail = self.chunks.back().map_or(0, Chunk::tail);
        tail + self.max_chunks.saturating_sub(self.chunks.len()) * PAGE_SIZE
    }

    /// Takes in what fits; returns the count. An error only when nothing was taken.
    fn fill(&mut self, src: &mut IoSource<'_>) -> Result<usize> {
        let mut total = 0;
        while src.remaining() > 0 {
            let full = self.chunks.back().is_none_or(|c| c.tail() == 0);
            if full {
                if self.chunks.len() >= self.max_chunks {
                    break;
                }
                let frame = match self.spare.take().map_or_else(reclaim::alloc_frame, Ok) {
                    Ok(frame) => frame,
                    Err(_) if total > 0 => break,
                    Err(e) => return Err(e.into()),
                };
                self.chunks.push_back(Chunk {
                    frame,
                    start: 0,
                    end: 0,
                });
            }
            let Some(chunk) = self.chunks.back_mut() else {
                break;
            };
            let n = src.remaining().min(PAGE_SIZE - chunk.end);
            // SAFETY: the frame is the pipe's alone, the ring's mutex is held, and
            // [end, end+n) lies within it.
            let room =
                unsafe { core::slice::from_raw_parts_mut(chunk.frame.as_ptr().add(chunk.end), n) };
            match src.get(room) {
                Ok(n) => {
                    chunk.end += n;
                    total += n;
                }
                Err(e) => {
                    if chunk.start == chunk.end {
                        self.chunks.pop_back();
                    }
                    return if total > 0 { Ok(total) } else { Err(e) };
                }
            }
        }
        Ok(total)
    }

    /// Hands out what fits; returns the count. An error only when nothing was handed out.
    fn drain(&mut self, dst: &mut IoDest<'_>) -> Result<usize> {
        let mut total = 0;
        while dst.remaining() > 0 {
            let Some(chunk) = self.chunks.front_mut() else {
                break;
            };
            let n = dst.remaining().min(chunk.end - chunk.start);
            // SAFETY: as in `fill`; [start, start+n) was filled.
            let bytes =
                unsafe { core::slice::from_raw_parts(chunk.frame.as_ptr().add(chunk.start), n) };
            match dst.put(bytes) {
                Ok(n) => {
                    chunk.start += n;
                    total += n;
                }
                Err(e) => return if total > 0 { Ok(total) } else { Err(e) },
            }
            if chunk.start == chunk.end {
                let drained = self.chunks.pop_front().map(|c| c.frame);
                self.spare = drained.filter(|frame| frame.ref_count() == 1);
            }
        }
        Ok(total)
    }
}

impl Ring {
    /// References to the first `max` unread bytes.
    fn copies(&self, max: usize) -> VecDeque<Chunk> {
        let mut out = VecDeque::new();
        let mut left = max;
        for chunk in &self.chunks {
            if left == 0 {
                break;
            }
            let n = left.min(chunk.end - chunk.start);
            out.push_back(Chunk {
                frame: chunk.frame.clone(),
                start: chunk.start,
                end: chunk.start + n,
            });
            left -= n;
        }
        out
    }

    /// Takes the first `max` unread bytes out.
    fn split_off(&mut self, max: usize) -> VecDeque<Chunk> {
        let out = self.copies(max);
        for taken in &out {
            if let Some(chunk) = self.chunks.front_mut() {
                chunk.start += taken.end - taken.start;
                if chunk.start == chunk.end {
                    self.chunks.pop_front();
                }
            }
        }
        out
    }
}

/// The object between the ends.
pub struct Pipe {
    ring: Mutex<Ring>,
    /// Unread bytes; follows the ring.
    used: AtomicUsize,
    /// Bytes that fit; follows the ring.
    room: AtomicUsize,
    readers: AtomicUsize,
    writers: AtomicUsize,
    /// Opens for reading ever: lets a FIFO's opener see a reader that came and went.
    reader_opens: AtomicU64,
    /// Opens for writing ever.
    writer_opens: AtomicU64,
    /// Woken when bytes or end-of-file come, and when a writer opens.
    readable: Arc<WaitQueue>,
    /// Woken when room comes or the last reader goes, and when a reader opens.
    writable: Arc<WaitQueue>,
}

impl Pipe {
    /// An empty pipe with no ends.
    pub fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            ring: Mutex::new(Ring {
                max_chunks: DEFAULT_PAGES,
                ..Ring::default()
            }),
            used: AtomicUsize::new(0),
            room: AtomicUsize::new(DEFAULT_PAGES * PAGE_SIZE),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            reader_opens: AtomicU64::new(0),
            writer_opens: AtomicU64::new(0),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
        })
    }

    fn publish(&self, ring: &Ring) {
        self.used.store(ring.used(), SeqCst);
        self.room.store(ring.room(), SeqCst);
    }

    fn read(&self, dst: &mut IoDest<'_>, nonblocking: bool) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        loop {
            {
                let mut ring = self.ring.lock();
                if !ring.chunks.is_empty() {
                    let result = ring.drain(dst);
                    self.publish(&ring);
                    drop(ring);
                    self.writable.wake_all();
                    if self.used.load(SeqCst) > 0 {
                        self.readable.pass_on();
                    }
                    return result;
                }
            }
            if self.writers.load(SeqCst) == 0 {
                // A writer may have written and gone between the two looks.
                if self.used.load(SeqCst) == 0 {
                    return Ok(0);
                }
                continue;
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            self.readable
                .wait_interruptible(None, || {
                    (self.used.load(SeqCst) > 0 || self.writers.load(SeqCst) == 0).then_some(())
                })
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    fn write(&self, src: &mut IoSource<'_>, nonblocking: bool) -> Result<usize> {
        let wanted = src.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        // What must go in at once: all of a small write.
        let at_once = if wanted <= PIPE_BUF { wanted } else { 1 };
        let mut total = 0;
        let finish = |total: usize, e: Errno| if total > 0 { Ok(total) } else { Err(e) };
        loop {
            if self.readers.load(SeqCst) == 0 {
                return finish(total, Errno::EPIPE);
            }
            {
                let mut ring = self.ring.lock();
                if ring.room() >= at_once {
                    let result = ring.fill(src);
                    self.publish(&ring);
                    drop(ring);
                    self.readable.wake_one();
                    match result {
                        Ok(n) => total += n,
                        Err(e) => return finish(total, e),
                    }
                    if src.remaining() == 0 {
                        if self.room.load(SeqCst) > 0 {
                            self.writable.pass_on();
                        }
                        return Ok(total);
                    }
                    continue;
                }
            }
            if nonblocking {
                return finish(total, Errno::EAGAIN);
            }
            let waited = self.writable.wait_interruptible(None, || {
                (self.room.load(SeqCst) >= at_once || self.readers.load(SeqCst) == 0).then_some(())
            });
            if waited.is_err() {
                return finish(total, Errno::ERESTARTSYS);
            }
        }
    }

    /// Takes up to `max` unread bytes out and hands them to `take`, piece by piece, until it
    /// takes fewer than it was given; what it left is unread again. Waits for the first byte
    /// as a read does. Returns what was taken; an error only when that is nothing.
    ///
    /// `take` runs without the pipe's lock: it may sleep, and use pipes.
    pub fn splice_out(
        &self,
        max: usize,
        nonblocking: bool,
        mut take: impl FnMut(&[u8]) -> Result<usize>,
    ) -> Result<usize> {
        if max == 0 || !self.wait_readable(nonblocking)? {
            return Ok(0);
        }
        let mut mine = {
            let mut ring = self.ring.lock();
            let mine = ring.split_off(max);
            self.publish(&ring);
            mine
        };
        let mut total = 0;
        let mut error = None;
        while let Some(chunk) = mine.front_mut() {
            // SAFETY: [start, end) of the frame was filled, and nobody writes there while a
            // chunk names it.
            let bytes = unsafe {
                core::slice::from_raw_parts(
                    chunk.frame.as_ptr().add(chunk.start),
                    chunk.end - chunk.start,
                )
            };
            let n = match take(bytes) {
                Ok(n) => n.min(bytes.len()),
                Err(e) => {
                    error = Some(e);
                    break;
                }
            };
            total += n;
            chunk.start += n;
            if chunk.start < chunk.end {
                break;
            }
            mine.pop_front();
        }
        {
            let mut ring = self.ring.lock();
            while let Some(chunk) = mine.pop_back() {
                ring.chunks.push_front(chunk);
            }
            self.publish(&ring);
        }
        self.writable.wake_all();
        if self.used.load(SeqCst) > 0 {
            self.readable.wake_one();
        }
        match error {
            Some(e) if total == 0 => Err(e),
            _ => Ok(total),
        }
    }

    /// tee: up to `max` of the unread bytes become unread bytes of `to` as well. Waits for
    /// bytes here and room there. EAGAIN, EPIPE.
    pub fn tee(&self, to: &Pipe, max: usize, nonblocking: bool) -> Result<usize> {
        if max == 0 || !self.wait_readable(nonblocking)? {
            return Ok(0);
        }
        to.wait_writable(nonblocking)?;
        let copies = self.ring.lock().copies(max);
        let mut total = 0;
        {
            let mut ring = to.ring.lock();
            for chunk in copies {
                if ring.chunks.len() >= ring.max_chunks {
                    break;
                }
                total += chunk.end - chunk.start;
                ring.chunks.push_back(chunk);
            }
            to.publish(&ring);
        }
        to.readable.wake_all();
        Ok(total)
    }

    /// Waits for unread bytes; false at the end of what writers sent. EAGAIN, ERESTARTSYS.
    fn wait_readable(&self, nonblocking: bool) -> Result<bool> {
        loop {
            if self.used.load(SeqCst) > 0 {
                return Ok(true);
            }
            if self.writers.load(SeqCst) == 0 {
                return Ok(self.used.load(SeqCst) > 0);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            self.readable
                .wait_interruptible(None, || {
                    (self.used.load(SeqCst) > 0 || self.writers.load(SeqCst) == 0).then_some(())
                })
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// Waits for room and returns how much there is. EPIPE, EAGAIN, ERESTARTSYS.
    pub fn wait_writable(&self, nonblocking: bool) -> Result<usize> {
        loop {
            if self.readers.load(SeqCst) == 0 {
                return Err(Errno::EPIPE);
            }
            match self.room.load(SeqCst) {
                0 if nonblocking => return Err(Errno::EAGAIN),
                0 => {}
                room => return Ok(room),
            }
            self.writable
                .wait_interruptible(None, || {
                    (self.room.load(SeqCst) > 0 || self.readers.load(SeqCst) == 0).then_some(())
                })
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// F_GETPIPE_SZ: capacity in bytes.
    pub fn capacity(&self) -> usize {
        self.ring.lock().max_chunks * PAGE_SIZE
    }

    /// F_SETPIPE_SZ: capacity of at least `bytes`, rounded up to a power of two pages.
    /// EPERM beyond 1 MiB without privilege, EBUSY when the unread bytes would not fit.
    pub fn set_capacity(&self, bytes: usize, privileged: bool) -> Result<usize> {
        if bytes > i32::MAX as usize {
            return Err(Errno::EINVAL);
        }
        let pages = bytes.div_ceil(PAGE_SIZE).max(1).next_power_of_two();
        if pages > MAX_PAGES && !privileged {
            return Err(Errno::EPERM);
        }
        let mut ring = self.ring.lock();
        if ring.chunks.len() > pages {
            return Err(Errno::EBUSY);
        }
        ring.max_chunks = pages;
        self.publish(&ring);
        drop(ring);
        self.writable.wake_all();
        Ok(pages * PAGE_SIZE)
    }
}

/// One open end (or both ends, for a FIFO opened read-write).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    identity: Identity,
}

/// What `fstat` and /proc say of an end.
enum Identity {
    Anonymous(Arc<AnonInode>),
    /// A FIFO's inode answers for itself.
    Named(Arc<dyn FifoNode>),
}

/// The inode of a FIFO, as its open ends see it.
pub trait FifoNode: Send + Sync {
    /// man 2 fstat.
    fn stat(&self) -> Result<abi::stat>;
    /// Its path.
    fn path(&self) -> Vec<u8>;
}

impl PipeEnd {
    fn open(pipe: Arc<Pipe>, reads: bool, writes: bool, identity: Identity) -> Arc<PipeEnd> {
        if reads {
            pipe.readers.fetch_add(1, SeqCst);
            pipe.reader_opens.fetch_add(1, SeqCst);
            pipe.writable.wake_all();
        }
        if writes {
            pipe.writers.fetch_add(1, SeqCst);
            pipe.writer_opens.fetch_add(1, SeqCst);
            pipe.readable.wake_all();
        }
        Arc::new(PipeEnd {
            pipe,
            reads,
            writes,
            identity,
        })
    }

    /// The pipe behind the end (F_GETPIPE_SZ, splice).
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

/// man 2 pipe2: the read end and the write end. `flags` may hold O_NONBLOCK.
pub fn pipe(flags: u32) -> (Arc<OpenFile>, Arc<OpenFile>) {
    let pipe = Pipe::new();
    let inode = Arc::new(AnonInode::new(abi::S_IFIFO | 0o600));
    let reader = PipeEnd::open(
        pipe.clone(),
        true,
        false,
        Identity::Anonymous(inode.clone()),
    );
    let writer = PipeEnd::open(pipe, false, true, Identity::Anonymous(inode));
    (
        OpenFile::new(reader, abi::O_RDONLY | flags),
        OpenFile::new(writer, abi::O_WRONLY | flags),
    )
}

/// Opens a FIFO (man 7 fifo): waits for the other side unless `O_NONBLOCK` or read-write.
/// ENXIO: non-blocking write-only open without a reader. ERESTARTSYS when interrupted.
pub fn open_fifo(pipe: &Arc<Pipe>, flags: u32, node: Arc<dyn FifoNode>) -> Result<Arc<dyn File>> {
    let identity = Identity::Named(node);
    let nonblocking = flags & abi::O_NONBLOCK != 0;
    let interrupted = |_: WaitError| Errno::ERESTARTSYS;
    match flags & abi::O_ACCMODE {
        abi::O_RDONLY => {
            // Looked at before the writer may see us: it may write and be gone at once.
            let seen = pipe.writer_opens.load(SeqCst);
            let alone = pipe.writers.load(SeqCst) == 0;
            let end = PipeEnd::open(pipe.clone(), true, false, identity);
            if alone && !nonblocking {
                pipe.readable
                    .wait_interruptible(None, || {
                        (pipe.writer_opens.load(SeqCst) != seen).then_some(())
                    })
                    .map_err(interrupted)?;
            }
            Ok(end)
        }
        abi::O_WRONLY => {
            if nonblocking && pipe.readers.load(SeqCst) == 0 {
                return Err(Errno::ENXIO);
            }
            let seen = pipe.reader_opens.load(SeqCst);
            let alone = pipe.readers.load(SeqCst) == 0;
            let end = PipeEnd::open(pipe.clone(), false, true, identity);
            if alone && !nonblocking {
                pipe.writable
                    .wait_interruptible(None, || {
                        (pipe.reader_opens.load(SeqCst) != seen).then_some(())
                    })
                    .map_err(interrupted)?;
            }
            Ok(end)
        }
        _ => Ok(PipeEnd::open(pipe.clone(), true, true, identity)),
    }
}

impl File for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        self.pipe.read(dst, of.nonblocking())
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.pipe.write(src, of.nonblocking())
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        let pipe = &self.pipe;
        if let Some(table) = table {
            if self.reads {
                table.register(&pipe.readable);
            }
            if self.writes {
                table.register_writing_end(&pipe.writable);
            }
        }
        let mut events = PollEvents::empty();
        if self.reads {
            if pipe.used.load(SeqCst) > 0 {
                events |= PollEvents::IN | PollEvents::RDNORM;
            }
            // A FIFO that no writer ever opened is empty, not hung up.
            if pipe.writers.load(SeqCst) == 0 && pipe.writer_opens.load(SeqCst) > 0 {
                events |= PollEvents::HUP;
            }
        }
        if self.writes {
            if pipe.room.load(SeqCst) >= PIPE_BUF {
                events |= PollEvents::OUT | PollEvents::WRNORM;
            }
            if pipe.readers.load(SeqCst) == 0 {
                events |= PollEvents::ERR;
            }
        }
        events
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        match cmd {
            abi::ioctl::FIONREAD => {
                let used = self.pipe.used.load(SeqCst) as i32;
                UserPtr::<i32>::new(UserAddr(arg)).write(used)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
    fn stat(&self) -> Result<abi::stat> {
        match &self.identity {
            Identity::Anonymous(inode) => Ok(inode.stat()),
            Identity::Named(node) => node.stat(),
        }
    }
    fn describe(&self) -> Vec<u8> {
        match &self.identity {
            Identity::Anonymous(inode) => inode.describe("pipe"),
            Identity::Named(node) => node.path(),
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let pipe = &self.pipe;
        if self.reads && pipe.readers.fetch_sub(1, SeqCst) == 1 {
            pipe.writable.wake_all();
        }
        if self.writes && pipe.writers.fetch_sub(1, SeqCst) == 1 {
            pipe.readable.wake_all();
        }
        if pipe.readers.load(SeqCst) == 0 && pipe.writers.load(SeqCst) == 0 {
            // Nobody will read what is left (matters for FIFOs, whose pipe stays).
            let mut ring = pipe.ring.lock();
            if pipe.readers.load(SeqCst) == 0 && pipe.writers.load(SeqCst) == 0 {
                ring.chunks.clear();
                ring.spare = None;
                pipe.publish(&ring);
            }
        }
    }
}
