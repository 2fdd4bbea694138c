//! From one file to another inside the kernel (man 2 sendfile, copy_file_range).

use alloc::vec::Vec;

use super::limit::{file_limit, keeps_set_id, over_file_limit};
use super::{MAX_RW_COUNT, SyscallResult, io_file, position, with_sigpipe};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::process;
use crate::vm::{IoDest, IoSource, UserPtr};

/// Bytes that go through the kernel at once in copying calls.
pub(super) const COPY_CHUNK: usize = 64 * 1024;

/// Moves up to `count` bytes from `input` to `output`; each at its own position where one is
/// given (and advanced), else at its description's. A short count when either ends or fails
/// after the first byte.
fn copy_between(
    input: &OpenFile,
    in_pos: Option<&mut u64>,
    output: &OpenFile,
    out_pos: Option<&mut u64>,
    count: usize,
) -> Result<usize> {
    let done = copy_in_pieces(input, in_pos, output, out_pos, count);
    if done == Err(Errno::EFBIG) && output.file.is_positional() && file_limit() != u64::MAX {
        return Err(over_file_limit());
    }
    done
}

/// As [`copy_between`], without the signal of a file size limit.
fn copy_in_pieces(
    input: &OpenFile,
    mut in_pos: Option<&mut u64>,
    output: &OpenFile,
    mut out_pos: Option<&mut u64>,
    count: usize,
) -> Result<usize> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(COPY_CHUNK.min(count))
        .map_err(|_| Errno::ENOMEM)?;
    buffer.resize(COPY_CHUNK.min(count), 0);
    let limit = file_limit();
    let mut total = 0;
    while total < count {
        let want = buffer.len().min(count - total);
        let before = input.position();
        let from = in_pos.as_deref().copied().unwrap_or(before);
        let step = match input.pread(from, &mut IoDest::kernel(&mut buffer[..want])) {
            Ok(0) => break,
            Ok(got) => {
                let mut src = IoSource::kernel(&buffer[..got])
                    .with_file_limit(limit)
                    .with_keeps_set_id(keeps_set_id);
                match out_pos.as_deref_mut() {
                    Some(pos) => output.pwrite(*pos, &mut src).inspect(|&n| *pos += n as u64),
                    None => output.write(&mut src),
                }
                .map(|n| (n, n < got))
            }
            Err(e) => Err(e),
        };
        let (n, short) = match step {
            Ok(step) => step,
            Err(_) if total > 0 => break,
            Err(e) => return Err(e),
        };
        total += n;
        match in_pos.as_deref_mut() {
            Some(pos) => *pos += n as u64,
            None => {
                input.seek((before + n as u64) as i64, abi::SEEK_SET)?;
            }
        }
        if short {
            break;
        }
    }
    Ok(total)
}

pub fn sendfile(out: i32, input: i32, offset: UserPtr<i64>, count: usize) -> SyscallResult {
    let output = process::current().file(out)?;
    let input = process::current().file(input)?;
    if !input.readable() || !output.writable() {
        return Err(Errno::EBADF);
    }
    if !input.file.is_positional() || output.flags() & abi::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let mut pos = match offset.non_null() {
        Some(ptr) => Some(position(ptr.read()?)?),
        None => None,
    };
    let n = copy_between(&input, pos.as_mut(), &output, None, count.min(MAX_RW_COUNT));
    if let (Some(pos), Ok(_)) = (pos, &n) {
        offset.write(pos as i64)?;
    }
    with_sigpipe(&output, n)
}

pub fn copy_file_range(
    input: i32,
    in_offset: UserPtr<i64>,
    output: i32,
    out_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> SyscallResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (input, output) = (io_file(input)?, io_file(output)?);
    if !input.readable() || !output.writable() || output.flags() & abi::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    for of in [&input, &output] {
        match of.file.stat()?.st_mode & 0o170_000 {
            abi::S_IFREG => {}
            abi::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let read_offset = |ptr: UserPtr<i64>| match ptr.non_null() {
        Some(ptr) => position(ptr.read()?).map(Some),
        None => Ok(None),
    };
    let (mut from, mut to) = (read_offset(in_offset)?, read_offset(out_offset)?);
    let (start, at) = (
        from.unwrap_or_else(|| input.position()),
        to.unwrap_or_else(|| output.position()),
    );
    let st = input.file.stat()?;
    let size = u64::try_from(st.st_size).unwrap_or(0);
    let (end, out_end) = match (
        start.checked_add(count as u64),
        at.checked_add(count as u64),
    ) {
        (Some(end), Some(out_end)) => (end, out_end),
        _ => return Err(Errno::EOVERFLOW),
    };
    let same = output.file.stat().map(|o| (o.st_dev, o.st_ino))? == (st.st_dev, st.st_ino);
    let out_end = out_end.min(at.saturating_add(size.saturating_sub(start)));
    if same && start < out_end && at < end.min(size) {
        return Err(Errno::EINVAL);
    }
    if start >= size {
        return Ok(0);
    }
    let count = count.min(MAX_RW_COUNT);
    let n = copy_between(&input, from.as_mut(), &output, to.as_mut(), count)?;
    if let Some(pos) = from {
        in_offset.write(pos as i64)?;
    }
    if let Some(pos) = to {
        out_offset.write(pos as i64)?;
    }
    Ok(n as isize)
}
