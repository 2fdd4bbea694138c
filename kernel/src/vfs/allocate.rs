//! Storage ahead of writes, and holes (man 2 fallocate), for regular files of any filesystem.

use alloc::sync::Arc;

use super::inode::{Inode, SetAttr, Timestamp};
use crate::error::{Errno, Result};
use crate::file::Allocate;
use crate::mm::PAGE_SIZE;
use crate::vm::IoSource;

const PAGE: u64 = PAGE_SIZE as u64;

/// Does it. EOPNOTSUPP, ENOSPC, EFBIG, EIO.
pub(super) fn allocate(inode: &Arc<dyn Inode>, how: Allocate, pos: u64, len: u64) -> Result<()> {
    let end = pos.checked_add(len).filter(|&e| e <= i64::MAX as u64);
    let end = end.ok_or(Errno::EFBIG)?;
    let _alone = inode.io_lock().lock();
    let size = inode.size();
    let grows = matches!(how, Allocate::Grow | Allocate::Zero) && end > size;
    if grows {
        inode.page_cache()?.zero_past(size);
    }
    match how {
        Allocate::Grow | Allocate::Keep => inode.preallocate(pos, end, grows)?,
        Allocate::Zero | Allocate::ZeroKeep => {
            make_zero(inode, pos, end.min(size))?;
            inode.preallocate(pos, end, grows)?;
        }
        Allocate::Punch => make_zero(inode, pos, end.min(size))?,
    }
    let now = Timestamp::now();
    inode.setattr(&SetAttr {
        size: grows.then_some(end),
        mtime: Some(now),
        ctime: Some(now),
        ..SetAttr::default()
    })
}

/// Makes bytes `[pos, end)` of the file zeros: whole pages become a hole.
fn make_zero(inode: &Arc<dyn Inode>, pos: u64, end: u64) -> Result<()> {
    if pos >= end {
        return Ok(());
    }
    let whole = (pos.div_ceil(PAGE), end / PAGE);
    if end == inode.size() && !end.is_multiple_of(PAGE) {
        // The file's last page goes as a whole, what lies past the end included.
        return zero_around(inode, pos, end, (whole.0, end.div_ceil(PAGE)));
    }
    zero_around(inode, pos, end, whole)
}

fn zero_around(inode: &Arc<dyn Inode>, pos: u64, end: u64, whole: (u64, u64)) -> Result<()> {
    let (from, to) = whole;
    if from >= to {
        return write_zeros(inode, pos, end);
    }
    write_zeros(inode, pos, from * PAGE)?;
    write_zeros(inode, to * PAGE, end)?;
    inode.punch(from, to)
}

/// Stores zeros where the file has storage; less than two pages.
fn write_zeros(inode: &Arc<dyn Inode>, pos: u64, end: u64) -> Result<()> {
    static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
    let mut at = pos;
    while at < end {
        let stop = end.min((at / PAGE + 1) * PAGE);
        let is_hole = match inode.seek_hole(at, false) {
            Ok(data) => data >= stop,
            Err(Errno::ENXIO) => true,
            Err(e) => return Err(e),
        };
        let cache = inode.page_cache()?;
        if !is_hole || cache.is_cached(at / PAGE) {
            let zeros = ZEROS.get(..(stop - at) as usize).ok_or(Errno::EIO)?;
            cache.write_at(at, &mut IoSource::kernel(zeros))?;
        }
        at = stop;
    }
    Ok(())
}
