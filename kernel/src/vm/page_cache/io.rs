//! `read` and `write` through a page cache.
//!
//! Copies touch user memory and may fault, even on the very page they fill (a `write` whose
//! buffer is a mapping of the same file): so they run without locks and wait for no page that
//! they hold up themselves. A whole new page is filled in a private frame first and enters
//! the cache complete.

use core::sync::atomic::Ordering;

use super::{PageCache, PageSource, Readahead, reclaim};
use crate::error::{Errno, Result};
use crate::mm::{FrameRef, PAGE_SIZE};
use crate::vm::io::{IoDest, IoSource};

const PAGE: u64 = PAGE_SIZE as u64;

pub(super) fn read(
    cache: &PageCache,
    ahead: &Readahead,
    mut pos: u64,
    size: u64,
    dst: &mut IoDest<'_>,
) -> Result<usize> {
    let mut done = 0;
    let end = size.min(pos.saturating_add(dst.remaining() as u64));
    while dst.remaining() > 0 && pos < size {
        let offset = (pos % PAGE) as usize;
        let want = (PAGE_SIZE - offset)
            .min(dst.remaining())
            .min(usize::try_from(size - pos).unwrap_or(usize::MAX));
        let moved = if cache.has_source() {
            let index = pos / PAGE;
            match cache.get_for_read(ahead, index, end.div_ceil(PAGE) - index) {
                // The file ends here since.
                Ok(None) => break,
                found => found,
            }
        } else {
            // A hole in a file that lives in memory reads as zeros and stays a hole.
            Ok(cache.get_cached(pos / PAGE))
        }
        .and_then(|page| match page {
            // SAFETY: `offset + want` is at most a page; the reference keeps the frame.
            Some(page) => unsafe { dst.put_raw(page.as_ptr().add(offset), want) },
            None => dst.put_zeros(want),
        });
        match moved {
            Ok(n) => {
                done += n;
                pos += n as u64;
                if n < want {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    if done > 0 {
        ahead.has_read((pos - 1) / PAGE);
    }
    Ok(done)
}

pub(super) fn write(cache: &PageCache, mut pos: u64, src: &mut IoSource<'_>) -> Result<usize> {
    let source = match &cache.source {
        Some(weak) => Some(weak.upgrade().ok_or(Errno::EIO)?),
        None => None,
    };
    let mut done = 0;
    while src.remaining() > 0 {
        let offset = (pos % PAGE) as usize;
        let want = (PAGE_SIZE - offset).min(src.remaining());
        match write_page(cache, source.as_deref(), pos, want, src) {
            Ok(n) => {
                done += n;
                pos += n as u64;
                if n < want {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    super::writeback::throttle(cache);
    Ok(done)
}

/// Writes up to `want` bytes at `pos`, all in one page. EFAULT only when not one byte came.
fn write_page(
    cache: &PageCache,
    source: Option<&dyn PageSource>,
    pos: u64,
    want: usize,
    src: &mut IoSource<'_>,
) -> Result<usize> {
    let index = pos / PAGE;
    let size = match source {
        Some(source) => source.size(),
        None => cache.own_size.load(Ordering::Acquire),
    };
    // Nothing of the page exists yet: it need not be read.
    let is_new = index >= size.div_ceil(PAGE);
    if (is_new || want == PAGE_SIZE) && !cache.is_cached(index) {
        write_fresh(cache, source, pos, want, is_new, src)
    } else {
        let page = cache.get_for_write(index)?;
        if let Some(source) = source {
            source.reserve(pos, want as u64)?;
        }
        let n = copy_in(&page, pos, want, src)?;
        finish(cache, source, pos, n);
        Ok(n)
    }
}

/// Fills a frame of its own first, then enters it as the page.
fn write_fresh(
    cache: &PageCache,
    source: Option<&dyn PageSource>,
    pos: u64,
    want: usize,
    is_new: bool,
    src: &mut IoSource<'_>,
) -> Result<usize> {
    let index = pos / PAGE;
    let frame = if want == PAGE_SIZE {
        reclaim::alloc_frame()?
    } else {
        reclaim::alloc_zeroed_frame()?
    };
    let n = copy_in(&frame, pos, want, src)?;
    if n < want {
        if is_new {
            // The rest of a fresh page is zero.
            let end = (pos % PAGE) as usize + n;
            // SAFETY: `end` is at most a page, and the frame is ours alone.
            unsafe { core::ptr::write_bytes(frame.as_ptr().add(end), 0, PAGE_SIZE - end) };
        } else {
            // Not the whole page after all: what the file has there is needed.
            return overlay(cache, source, pos, n, &frame);
        }
    }
    // A page past the end is invisible until the file grows: its blocks may come first.
    if let (Some(source), true) = (source, is_new) {
        source.reserve(pos, n as u64)?;
    }
    if !cache.insert_uptodate(index, frame.clone()) {
        return overlay(cache, source, pos, n, &frame);
    }
    if let (Some(source), false) = (source, is_new) {
        // The page is in the cache before its blocks exist, so that nobody reads what
        // those held before.
        if let Err(e) = source.reserve(pos, n as u64) {
            cache.drop_pages(index, index + 1);
            return Err(e);
        }
    }
    finish(cache, source, pos, n);
    Ok(n)
}

/// Copies `n` bytes at `pos` from a private frame into the page that the cache has.
fn overlay(
    cache: &PageCache,
    source: Option<&dyn PageSource>,
    pos: u64,
    n: usize,
    from: &FrameRef,
) -> Result<usize> {
    let page = cache.get_for_write(pos / PAGE)?;
    if let Some(source) = source {
        source.reserve(pos, n as u64)?;
    }
    let offset = (pos % PAGE) as usize;
    // SAFETY: within one page each; two different frames.
    unsafe {
        core::ptr::copy(from.as_ptr().add(offset), page.as_ptr().add(offset), n);
    }
    finish(cache, source, pos, n);
    Ok(n)
}

fn copy_in(page: &FrameRef, pos: u64, want: usize, src: &mut IoSource<'_>) -> Result<usize> {
    let offset = (pos % PAGE) as usize;
    // SAFETY: `offset + want` is at most a page; the reference keeps the frame, and no
    // reference to its bytes is made.
    unsafe { src.get_raw(page.as_ptr().add(offset), want) }
}

/// `n` bytes at `pos` were stored: they await write-back, and the file reaches over them.
fn finish(cache: &PageCache, source: Option<&dyn PageSource>, pos: u64, n: usize) {
    cache.mark_dirty(pos / PAGE);
    let end = pos + n as u64;
    match source {
        Some(source) => {
            if end > source.size() {
                source.grow(end);
            }
        }
        None => {
            cache.own_size.fetch_max(end, Ordering::AcqRel);
        }
    }
}
