//! How pages come in: looked up, waited for, read, read ahead.
//!
//! Every read is started and then waited for by those who need one of its pages, so that what
//! was read ahead arrives while the reader is busy. A read that fails is an error only for who
//! reads a bad page: the others read theirs again, alone.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::flight::Flight;
use super::index::Mark;
use super::window::Span;
use super::{CachedFrame, Lookup, PageCache, PageSource, Pattern, Readahead, State, reclaim};
use crate::error::{Errno, Result};
use crate::mm::frame::Purpose;
use crate::mm::{FrameRef, PAGE_SIZE};

/// Most pages of one read from a source (512 KiB).
const MAX_RUN: u64 = 128;

/// What the cache knows of a page.
enum Look {
    /// It is there.
    Page(FrameRef),
    /// It is being read.
    Coming(Arc<Flight>),
    Absent,
}

/// What looking at a page says about it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It is in use: keep it.
    Counts,
    /// It will not be used again.
    Once,
}

/// What came of starting reads.
enum Started {
    /// The read that brings the page that was asked for.
    Flight(Arc<Flight>),
    /// All the rest is there, or under way.
    Nothing,
    /// Memory did not suffice for pages that nobody asked for.
    NoMemory,
    /// The page that was asked for lies past the end of the file.
    PastEnd,
}

impl PageCache {
    /// The page at `index`, read in alone if need be. EIO and what else the source answers;
    /// ENOMEM. A page past the end is zeros, and not kept.
    pub fn get(&self, index: u64) -> Result<FrameRef> {
        match self.get_alone(index)? {
            Some(page) => Ok(page),
            None => Ok(reclaim::alloc_zeroed_frame()?),
        }
    }

    /// The page at `index`, read in alone if need be; `None` past the end.
    fn get_alone(&self, index: u64) -> Result<Option<FrameRef>> {
        let alone = |_: &PageCache| Span::only(index, 1);
        self.get_with(index, Use::Counts, alone, |_| None, || {})
    }

    /// As [`PageCache::get`] for who is about to grow the file over the page, and holds the
    /// lock that keeps its size: a page past the end is zeros, and kept.
    pub(super) fn get_for_write(&self, index: u64) -> Result<FrameRef> {
        loop {
            if let Some(page) = self.get_alone(index)? {
                return Ok(page);
            }
            let frame = reclaim::alloc_zeroed_frame()?;
            // In vain while a reader that saw the file longer has not found out yet.
            if self.insert_uptodate(index, frame.clone()) {
                return Ok(frame);
            }
        }
    }

    /// The page at `index` for a reader that wants `want` pages from there on; `None` past the
    /// end. Reads ahead as `ahead` tells.
    pub(super) fn get_for_read(
        &self,
        ahead: &Readahead,
        index: u64,
        want: u64,
    ) -> Result<Option<FrameRef>> {
        let pattern = ahead.pattern();
        let reading = if ahead.is_once() {
            Use::Once
        } else {
            Use::Counts
        };
        self.get_with(
            index,
            reading,
            |cache| ahead.on_miss(cache, pattern, index, want),
            |cache| ahead.on_mark(cache, pattern, index, want),
            || ahead.on_error(),
        )
    }

    /// As [`PageCache::get`], for a fault: what surrounds the page is read with it.
    pub(in crate::vm) fn get_for_fault(
        &self,
        ahead: &Readahead,
        pattern: Pattern,
        index: u64,
    ) -> Result<FrameRef> {
        let page = self.get_with(
            index,
            Use::Counts,
            |cache| ahead.on_fault(cache, pattern, index),
            |cache| ahead.on_marked_fault(cache, pattern, index),
            || ahead.on_error(),
        )?;
        ahead.has_read(index);
        match page {
            Some(page) => Ok(page),
            None => Ok(reclaim::alloc_zeroed_frame()?),
        }
    }

    /// A fault hit the mark on page `index`: reads what follows.
    pub(in crate::vm) fn read_on(&self, ahead: &Readahead, pattern: Pattern, index: u64) {
        ahead.has_read(index);
        if let Some(span) = ahead.on_marked_fault(self, pattern, index) {
            self.prefetch(span);
        }
    }

    /// The page at `index`; `None` when it lies past the end. `on_miss` says what to read when
    /// it is missing, `on_mark` what to read when it carries the mark.
    fn get_with(
        &self,
        index: u64,
        reading: Use,
        on_miss: impl Fn(&PageCache) -> Span,
        on_mark: impl Fn(&PageCache) -> Option<Span>,
        on_error: impl Fn(),
    ) -> Result<Option<FrameRef>> {
        let mut alone = false;
        loop {
            let (found, marked) = self.look(index, reading);
            if marked && let Some(span) = on_mark(self) {
                // Before waiting: what comes next shall be under way meanwhile.
                self.prefetch(span);
            }
            let flight = match found {
                Look::Page(page) => return Ok(Some(page)),
                Look::Coming(flight) => flight,
                Look::Absent => {
                    let Some(source) = &self.source else {
                        self.insert_uptodate(index, reclaim::alloc_zeroed_frame()?);
                        continue;
                    };
                    let source = source.upgrade().ok_or(Errno::EIO)?;
                    let span = if alone {
                        Span::only(index, 1)
                    } else {
                        on_miss(self)
                    };
                    match self.start_reads(&*source, span, Some(index))? {
                        Started::Flight(flight) => flight,
                        Started::PastEnd => return Ok(None),
                        Started::Nothing | Started::NoMemory => continue,
                    }
                }
            };
            if let Err(e) = flight.wait() {
                if !flight.has_landed() {
                    // Its pages stay on their way; only the caller does not wait.
                    return Err(e);
                }
                self.settle(&mut self.state.lock());
                if flight.frames.len() == 1 {
                    return Err(e);
                }
                // One bad block must not take its neighbours along.
                alone = true;
                on_error();
            }
        }
    }

    /// Finds a page, and takes the mark off it.
    fn look(&self, index: u64, reading: Use) -> (Look, bool) {
        let mut state = self.state.lock();
        if let Some(page) = state.find(index, reading) {
            let page = page.share();
            return (Look::Page(page), state.take_mark(index));
        }
        self.settle(&mut state);
        if let Some(page) = state.find(index, reading) {
            let page = page.share();
            return (Look::Page(page), state.take_mark(index));
        }
        match state.flight_of(index).cloned() {
            Some(flight) => (Look::Coming(flight), state.take_mark(index)),
            None => (Look::Absent, false),
        }
    }

    /// The page at `index` if it is in the cache and up to date.
    pub fn get_cached(&self, index: u64) -> Option<FrameRef> {
        match self.lookup(index) {
            Lookup::Frame(frame) | Lookup::Marked(frame) => Some(frame),
            Lookup::Absent => None,
        }
    }

    /// The page at `index` for a fault that holds a page-table lock. Takes the mark off it.
    pub(in crate::vm) fn lookup(&self, index: u64) -> Lookup {
        match self.look(index, Use::Counts) {
            (Look::Page(page), false) => Lookup::Frame(page),
            (Look::Page(page), true) => Lookup::Marked(page),
            _ => Lookup::Absent,
        }
    }

    /// Starts to read pages that nobody waits for yet. What fails here fails again, and is
    /// told, when somebody wants the page. False when memory is short.
    pub(super) fn prefetch(&self, span: Span) -> bool {
        let Some(source) = self.source() else {
            return false;
        };
        matches!(self.start_reads(&*source, span, None), Ok(Started::Nothing))
    }

    /// Starts to read what is missing of `span`. Only `wanted` is worth reclaiming pages that
    /// were used lately. ENOMEM is told for that page alone.
    fn start_reads(
        &self,
        source: &dyn PageSource,
        span: Span,
        wanted: Option<u64>,
    ) -> Result<Started> {
        let end_of_file = source.size().div_ceil(PAGE_SIZE as u64);
        if wanted.is_some_and(|wanted| wanted >= end_of_file) {
            return Ok(Started::PastEnd);
        }
        let span = span.below(end_of_file);
        let mut outcome = Started::Nothing;
        let mut brings = None;
        let mut at = span.start;
        while let Some((start, count)) = self.missing_run(at, span.end()) {
            let asked = wanted.filter(|wanted| (start..start + count).contains(wanted));
            let flight = match self.board(start, count, asked, span.mark) {
                Ok(Some(flight)) => flight,
                Err(e) if asked.is_some() => return Err(e),
                _ => match wanted.filter(|&wanted| wanted >= start + count) {
                    Some(wanted) => {
                        at = wanted;
                        continue;
                    }
                    None => {
                        outcome = Started::NoMemory;
                        break;
                    }
                },
            };
            if flight.frames.is_empty() {
                // Somebody else is at it.
                at = start + 1;
                continue;
            }
            at = flight.end();
            let end_of_file = source.size().div_ceil(PAGE_SIZE as u64);
            let is_past_end = asked.is_some_and(|asked| asked >= end_of_file);
            if flight.end() > end_of_file {
                self.disembark(&flight, end_of_file);
            }
            let done = flight.clone();
            source.start_read(
                flight.start,
                &flight.frames,
                Box::new(move |result| done.land(result)),
            );
            if is_past_end {
                return Ok(Started::PastEnd);
            }
            if asked.is_some_and(|asked| (flight.start..flight.end()).contains(&asked)) {
                brings = Some(flight);
            }
        }
        Ok(brings.map_or(outcome, Started::Flight))
    }

    /// Enters frames for the missing pages from `start` on, up to `count`, as those of a read
    /// that is about to be started. Empty when somebody was faster; `None` when there is no
    /// memory to read ahead.
    pub(super) fn board(
        &self,
        start: u64,
        count: u64,
        asked: Option<u64>,
        mark: Option<u64>,
    ) -> Result<Option<Arc<Flight>>> {
        let mut start = start;
        let mut frames = Vec::new();
        frames
            .try_reserve_exact(count as usize)
            .map_err(|_| Errno::ENOMEM)?;
        alloc_some(&mut frames, count as usize);
        if let Some(asked) = asked
            && (asked - start) as usize >= frames.len()
        {
            start = asked;
            frames.clear();
            frames.push(reclaim::alloc_frame()?);
            alloc_some(&mut frames, 1);
        }
        if frames.is_empty() {
            return Ok(None);
        }
        let mut state = self.state.lock();
        state.flights.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let nr_placed = frames
            .iter()
            .zip(start..)
            .take_while(|(frame, index)| {
                let page = CachedFrame::new((*frame).clone());
                state.index.insert(*index, page).is_ok()
            })
            .count();
        self.total().fetch_add(nr_placed, Ordering::Relaxed);
        frames.truncate(nr_placed);
        let flight = Arc::new(Flight::new(start, frames));
        if nr_placed > 0 {
            state.flights.push(flight.clone());
        }
        if let Some(mark) = mark
            && (flight.start..flight.end()).contains(&mark)
        {
            state.index.set(mark, Mark::Ahead);
        }
        Ok(Some(flight))
    }

    /// Takes out pages of a read that was not started yet: those from page `end_of_file` on,
    /// where the file ends now.
    pub(super) fn disembark(&self, flight: &Flight, end_of_file: u64) {
        let mut state = self.state.lock();
        for (index, frame) in flight.pages() {
            if index >= end_of_file && state.holds(index, frame) {
                drop(self.remove_locked(&mut state, index));
            }
        }
    }

    /// The first missing pages of `[from, to)` without a gap, as (first, count).
    fn missing_run(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let mut state = self.state.lock();
        self.settle(&mut state);
        let start = (from..to).find(|&i| state.index.get(i).is_none())?;
        let most = to.min(start + MAX_RUN);
        let end = (start + 1..most)
            .find(|&i| state.index.get(i).is_some())
            .unwrap_or(most);
        Some((start, end - start))
    }

    /// The first page of `[from, to)` that is neither there nor on its way.
    pub(super) fn next_missing(&self, from: u64, to: u64) -> Option<u64> {
        let state = self.state.lock();
        (from..to).find(|&i| state.index.get(i).is_none())
    }

    /// How many pages before `index` are there, or on their way, without a gap; up to `most`.
    pub(super) fn cached_before(&self, index: u64, most: u64) -> u64 {
        let state = self.state.lock();
        let first = index.saturating_sub(most);
        let is_there = |i: &u64| state.index.get(*i).is_some();
        (first..index).rev().take_while(is_there).count() as u64
    }
}

impl State {
    /// The page at `index` if it is up to date.
    fn find(&mut self, index: u64, reading: Use) -> Option<&CachedFrame> {
        match reading {
            Use::Counts => self.index.touch(index),
            Use::Once => self.index.get_uptodate(index),
        }
    }

    /// Takes the mark off a page; whether it was there.
    fn take_mark(&mut self, index: u64) -> bool {
        self.index.nr_marked(Mark::Ahead) > 0 && self.index.clear(index, Mark::Ahead)
    }
}

/// Frames for pages that nobody asked for, up to `count` in all: such as are free, and a few
/// for which clean pages go that were not used lately.
fn alloc_some(frames: &mut Vec<FrameRef>, count: usize) {
    let mut may_reclaim = true;
    while frames.len() < count {
        match FrameRef::alloc(Purpose::User) {
            Ok(frame) => frames.push(frame),
            Err(_) if may_reclaim => {
                may_reclaim = false;
                if reclaim::reclaim_unused(count - frames.len()) == 0 {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
