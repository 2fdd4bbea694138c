//! Bytes through pipes without a program's memory (man 2 splice, tee, vmsplice).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::copy::COPY_CHUNK;
use super::io::vector;
use super::limit::{file_limit, keeps_set_id, over_file_limit};
use super::{MAX_RW_COUNT, SyscallResult, io_file, position, with_sigpipe};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::file::pipe::{Pipe, PipeEnd};
use crate::vm::{IoDest, IoSource, UserPtr};

/// SPLICE_F_* (man 2 splice). Moving pages and gifts are hints.
const NONBLOCK: u32 = 2;
const KNOWN: u32 = 0xf;

fn pipe_of(of: &OpenFile) -> Option<&Arc<Pipe>> {
    of.file
        .as_any()
        .downcast_ref::<PipeEnd>()
        .map(PipeEnd::pipe)
}

/// A position argument of a descriptor: none for a pipe (ESPIPE).
fn offset_of(ptr: UserPtr<i64>, of: &OpenFile) -> Result<Option<u64>> {
    match ptr.non_null() {
        None => Ok(None),
        Some(_) if pipe_of(of).is_some() => Err(Errno::ESPIPE),
        Some(_) if !of.file.is_positional() => Err(Errno::EINVAL),
        Some(ptr) => position(ptr.read()?).map(Some),
    }
}

pub fn splice(
    input: i32,
    in_offset: UserPtr<i64>,
    output: i32,
    out_offset: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> SyscallResult {
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (io_file(input)?, io_file(output)?);
    if !input.readable() || !output.writable() {
        return Err(Errno::EBADF);
    }
    let from = offset_of(in_offset, &input)?;
    let to = offset_of(out_offset, &output)?;
    let nonblocking = flags & NONBLOCK != 0;
    let len = len.min(MAX_RW_COUNT);
    match (pipe_of(&input), pipe_of(&output)) {
        (None, None) => Err(Errno::EINVAL),
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Err(Errno::EINVAL),
        (Some(pipe), to_pipe) => {
            if to_pipe.is_none() && output.flags() & abi::O_APPEND != 0 {
                return Err(Errno::EINVAL);
            }
            let nonblocking = nonblocking || input.nonblocking();
            let mut pos = to;
            let n = pipe.splice_out(len, nonblocking, |bytes| put(&output, &mut pos, bytes));
            if n == Err(Errno::EFBIG) && file_limit() != u64::MAX {
                return Err(over_file_limit());
            }
            if let (Some(pos), Ok(_)) = (pos, &n) {
                out_offset.write(pos as i64)?;
            }
            with_sigpipe(&output, n)
        }
        (None, Some(pipe)) => {
            let nonblocking = nonblocking || output.nonblocking();
            let room = with_sigpipe(&output, pipe.wait_writable(nonblocking))? as usize;
            let mut buffer = Vec::new();
            let want = len.min(room).min(COPY_CHUNK);
            buffer.try_reserve_exact(want).map_err(|_| Errno::ENOMEM)?;
            buffer.resize(want, 0);
            let mut dst = IoDest::kernel(&mut buffer);
            let got = match from {
                Some(pos) => input.pread(pos, &mut dst)?,
                None => input.read(&mut dst)?,
            };
            let n = output.write(&mut IoSource::kernel(&buffer[..got]));
            if let (Some(pos), Ok(n)) = (from, &n) {
                in_offset.write((pos + *n as u64) as i64)?;
            }
            with_sigpipe(&output, n)
        }
    }
}

/// Writes a piece at the position given, or at the description's.
fn put(output: &OpenFile, pos: &mut Option<u64>, bytes: &[u8]) -> Result<usize> {
    let mut src = IoSource::kernel(bytes)
        .with_file_limit(file_limit())
        .with_keeps_set_id(keeps_set_id);
    match pos {
        Some(at) => output.pwrite(*at, &mut src).inspect(|&n| *at += n as u64),
        None => output.write(&mut src),
    }
}

pub fn tee(input: i32, output: i32, len: usize, flags: u32) -> SyscallResult {
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (io_file(input)?, io_file(output)?);
    if !input.readable() || !output.writable() {
        return Err(Errno::EBADF);
    }
    let (Some(from), Some(to)) = (pipe_of(&input), pipe_of(&output)) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(from, to) {
        return Err(Errno::EINVAL);
    }
    let nonblocking = flags & NONBLOCK != 0 || input.nonblocking() || output.nonblocking();
    with_sigpipe(&output, from.tee(to, len, nonblocking))
}

/// The pages are copied, gift or not: what the program stores into them later does not show.
pub fn vmsplice(fd: i32, iov: UserPtr<abi::iovec>, count: usize, flags: u32) -> SyscallResult {
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let of = io_file(fd)?;
    let Some(pipe) = pipe_of(&of) else {
        return Err(Errno::EBADF);
    };
    let ranges = vector(iov, count)?;
    if ranges.iter().all(|range| range.len == 0) {
        return Ok(0);
    }
    if !of.writable() {
        return Ok(of.read(&mut IoDest::vector(ranges))? as isize);
    }
    let mut src = IoSource::vector(ranges);
    if flags & NONBLOCK != 0 {
        let room = with_sigpipe(&of, pipe.wait_writable(true))? as usize;
        src.limit(room);
    }
    with_sigpipe(&of, of.write(&mut src))
}
