//! Where a read puts its bytes and a write takes them from: user buffers (one or a vector) or
//! kernel memory, behind one type each, so that files are written once.
//!
//! Both move data through the fault-recovering copies of [`super::user`]; neither may be
//! used under a spin lock when it names user memory.

use alloc::vec::Vec;

use super::user::{copy_from_user, copy_in, copy_out, copy_to_user};
use crate::error::{Errno, Result};
use crate::mm::UserAddr;

/// One user buffer: start and length in bytes.
#[derive(Clone, Copy, Debug)]
pub struct UserRange {
    /// First byte.
    pub addr: UserAddr,
    /// Length in bytes.
    pub len: usize,
}

/// User buffers one after the other, used up from the front.
struct UserRanges {
    first: UserRange,
    /// From `next` on, those behind `first`.
    rest: Vec<UserRange>,
    next: usize,
}

impl UserRanges {
    fn one(range: UserRange) -> UserRanges {
        UserRanges {
            first: range,
            rest: Vec::new(),
            next: 0,
        }
    }

    /// Those of a vector, and their bytes in all.
    fn vector(rest: Vec<UserRange>) -> (UserRanges, usize) {
        let total = rest.iter().map(|r| r.len).sum();
        let first = UserRange {
            addr: UserAddr(0),
            len: 0,
        };
        (
            UserRanges {
                first,
                rest,
                next: 0,
            },
            total,
        )
    }

    /// The first one with room; `None` when all is used up.
    #[inline]
    fn front(&mut self) -> Option<&mut UserRange> {
        while self.first.len == 0 {
            self.first = *self.rest.get(self.next)?;
            self.next += 1;
        }
        Some(&mut self.first)
    }
}

impl UserRange {
    /// `n` of its bytes were used. EFAULT when the addresses wrap.
    fn advance(&mut self, n: usize) -> Result<()> {
        self.addr = self.addr.checked_add(n as u64).ok_or(Errno::EFAULT)?;
        self.len -= n;
        Ok(())
    }
}

enum Place<'a> {
    Kernel(&'a mut [u8]),
    User(UserRanges),
}

/// Destination of a read.
pub struct IoDest<'a> {
    place: Place<'a>,
    remaining: usize,
}

enum Origin<'a> {
    Kernel(&'a [u8]),
    User(UserRanges),
}

/// Source of a write.
pub struct IoSource<'a> {
    place: Origin<'a>,
    remaining: usize,
    file_limit: u64,
    keeps_set_id: fn() -> bool,
    appends: bool,
}

impl<'a> IoDest<'a> {
    /// Kernel memory.
    pub fn kernel(buf: &'a mut [u8]) -> Self {
        let remaining = buf.len();
        Self {
            place: Place::Kernel(buf),
            remaining,
        }
    }
    /// One user buffer.
    pub fn user(addr: UserAddr, len: usize) -> Self {
        Self {
            place: Place::User(UserRanges::one(UserRange { addr, len })),
            remaining: len,
        }
    }
    /// A vector of user buffers (readv); the caller checked that the sum fits `isize`.
    pub fn vector(ranges: Vec<UserRange>) -> Self {
        let (ranges, remaining) = UserRanges::vector(ranges);
        Self {
            place: Place::User(ranges),
            remaining,
        }
    }
    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.remaining
    }
    /// Counts `n` bytes, or as many as fit, as put although they are thrown away. Who begins
    /// to skip puts nothing any more.
    pub fn skip(&mut self, n: usize) {
        let n = n.min(self.remaining);
        self.remaining -= n;
    }
    /// Copies out as much of `bytes` as fits; returns how much. EFAULT: nothing of the part
    /// that failed counts as put.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let total = bytes.len().min(self.remaining);
        let mut copied = 0;
        while copied < total {
            let part = &bytes[copied..total];
            let n = match &mut self.place {
                Place::Kernel(buf) => {
                    let n = part.len();
                    let (head, tail) = core::mem::take(buf).split_at_mut(n);
                    head.copy_from_slice(part);
                    *buf = tail;
                    n
                }
                Place::User(ranges) => {
                    let Some(range) = ranges.front() else {
                        break;
                    };
                    let n = part.len().min(range.len);
                    copy_to_user(range.addr, &part[..n])?;
                    range.advance(n)?;
                    n
                }
            };
            copied += n;
            self.remaining -= n;
        }
        Ok(copied)
    }
    /// Copies out up to `len` bytes at `from`; returns how many went over before the end or
    /// the first byte that cannot be written, all of which count as put. EFAULT when not one
    /// did.
    ///
    /// # Safety
    /// `from` is valid for reads of `len` bytes. They may change meanwhile (a cached page).
    pub unsafe fn put_raw(&mut self, from: *const u8, len: usize) -> Result<usize> {
        let total = len.min(self.remaining);
        let mut copied = 0;
        while copied < total {
            // SAFETY: `copied` is below `len`.
            let part = unsafe { from.add(copied) };
            let want = total - copied;
            let (asked, moved) = match &mut self.place {
                Place::Kernel(buf) => {
                    let (head, tail) = core::mem::take(buf).split_at_mut(want);
                    // SAFETY: `part` has `want` bytes, `head` is ours.
                    unsafe { core::ptr::copy(part, head.as_mut_ptr(), want) };
                    *buf = tail;
                    (want, Ok(want))
                }
                Place::User(ranges) => {
                    let Some(range) = ranges.front() else {
                        break;
                    };
                    let ask = want.min(range.len);
                    // SAFETY: `part` has `ask` bytes.
                    let moved = unsafe { copy_out(range.addr, part, ask) };
                    if let Ok(n) = moved {
                        range.advance(n)?;
                    }
                    (ask, moved)
                }
            };
            let n = match moved {
                Ok(n) => n,
                Err(_) if copied > 0 => break,
                Err(e) => return Err(e),
            };
            copied += n;
            self.remaining -= n;
            if n < asked {
                break;
            }
        }
        Ok(copied)
    }
    /// Puts `n` zero bytes, or as many as fit.
    pub fn put_zeros(&mut self, n: usize) -> Result<usize> {
        static ZEROS: [u8; 1024] = [0; 1024];
        let mut left = n.min(self.remaining);
        let total = left;
        while left > 0 {
            left -= self.put(&ZEROS[..left.min(ZEROS.len())])?;
        }
        Ok(total)
    }
}

impl<'a> IoSource<'a> {
    /// Kernel memory.
    pub fn kernel(buf: &'a [u8]) -> Self {
        Self {
            place: Origin::Kernel(buf),
            remaining: buf.len(),
            file_limit: u64::MAX,
            keeps_set_id: || false,
            appends: false,
        }
    }
    /// One user buffer.
    pub fn user(addr: UserAddr, len: usize) -> Self {
        Self {
            place: Origin::User(UserRanges::one(UserRange { addr, len })),
            remaining: len,
            file_limit: u64::MAX,
            keeps_set_id: || false,
            appends: false,
        }
    }
    /// A vector of user buffers (writev); the caller checked that the sum fits `isize`.
    pub fn vector(ranges: Vec<UserRange>) -> Self {
        let (ranges, remaining) = UserRanges::vector(ranges);
        Self {
            place: Origin::User(ranges),
            remaining,
            file_limit: u64::MAX,
            keeps_set_id: || false,
            appends: false,
        }
    }
    /// Takes no more than `len` further bytes.
    pub fn limit(&mut self, len: usize) {
        self.remaining = self.remaining.min(len);
    }
    /// Lets no regular file grow beyond `len` bytes by it (man 2 getrlimit, RLIMIT_FSIZE).
    pub fn with_file_limit(mut self, len: u64) -> Self {
        self.file_limit = len;
        self
    }
    /// Who tells, when it is asked, whether the writer's privilege leaves set-id bits alone.
    pub fn with_keeps_set_id(mut self, ask: fn() -> bool) -> Self {
        self.keeps_set_id = ask;
        self
    }
    /// Whether set-id bits survive the write.
    pub fn keeps_set_id(&self) -> bool {
        (self.keeps_set_id)()
    }
    /// Writes at the end of a regular file, wherever the position is (RWF_APPEND).
    pub fn with_append(mut self) -> Self {
        self.appends = true;
        self
    }
    /// Whether it goes to the file's end.
    pub fn appends(&self) -> bool {
        self.appends
    }
    /// How long a regular file may become by it.
    pub fn file_limit(&self) -> u64 {
        self.file_limit
    }
    /// Bytes left to take.
    pub fn remaining(&self) -> usize {
        self.remaining
    }
    /// Fills `out` from the source; returns how much (less than `out` only at the end).
    /// EFAULT: nothing of the part that failed counts as taken.
    pub fn get(&mut self, out: &mut [u8]) -> Result<usize> {
        let total = out.len().min(self.remaining);
        let mut copied = 0;
        while copied < total {
            let part = &mut out[copied..total];
            let n = match &mut self.place {
                Origin::Kernel(buf) => {
                    let n = part.len();
                    part.copy_from_slice(&buf[..n]);
                    *buf = &buf[n..];
                    n
                }
                Origin::User(ranges) => {
                    let Some(range) = ranges.front() else {
                        break;
                    };
                    let n = part.len().min(range.len);
                    copy_from_user(&mut part[..n], range.addr)?;
                    range.advance(n)?;
                    n
                }
            };
            copied += n;
            self.remaining -= n;
        }
        Ok(copied)
    }
    /// Fills up to `len` bytes at `to`; returns how many came over before the end of the
    /// source or its first byte that cannot be read, all of which count as taken. EFAULT when
    /// not one did.
    ///
    /// # Safety
    /// `to` is valid for writes of `len` bytes. Others may look at them meanwhile.
    pub unsafe fn get_raw(&mut self, to: *mut u8, len: usize) -> Result<usize> {
        let total = len.min(self.remaining);
        let mut copied = 0;
        while copied < total {
            // SAFETY: `copied` is below `len`.
            let part = unsafe { to.add(copied) };
            let want = total - copied;
            let (asked, moved) = match &mut self.place {
                Origin::Kernel(buf) => {
                    // SAFETY: `part` has `want` bytes, and so has `buf`.
                    unsafe { core::ptr::copy(buf.as_ptr(), part, want) };
                    *buf = &buf[want..];
                    (want, Ok(want))
                }
                Origin::User(ranges) => {
                    let Some(range) = ranges.front() else {
                        break;
                    };
                    let ask = want.min(range.len);
                    // SAFETY: `part` has `ask` bytes.
                    let moved = unsafe { copy_in(part, range.addr, ask) };
                    if let Ok(n) = moved {
                        range.advance(n)?;
                    }
                    (ask, moved)
                }
            };
            let n = match moved {
                Ok(n) => n,
                Err(_) if copied > 0 => break,
                Err(e) => return Err(e),
            };
            copied += n;
            self.remaining -= n;
            if n < asked {
                break;
            }
        }
        Ok(copied)
    }
}
