//! Collecting requests before they go to the device, so that neighbours become one.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{BlockDevice, Completion, Op, Request};

/// Sectors of a request that is not grown any further: 1 MiB.
const MAX_SECTORS: u64 = 2048;

/// Collects requests of one thread for one device; [`Plug::flush`] (or dropping it) sorts
/// them, joins neighbours of the same kind and submits them. A flush goes behind what was
/// collected, but covers only what had completed: wait for the writes first.
pub struct Plug {
    device: Arc<dyn BlockDevice>,
    waiting: Vec<Request>,
}

impl Plug {
    /// Nothing collected yet.
    pub fn new(device: &Arc<dyn BlockDevice>) -> Plug {
        Plug {
            device: device.clone(),
            waiting: Vec::new(),
        }
    }

    /// Takes a request. Submits it (and what waits) at once when it cannot be kept.
    pub fn add(&mut self, request: Request) {
        if request.op == Op::Flush || self.waiting.try_reserve(1).is_err() {
            self.flush();
            self.device.submit(request);
        } else {
            self.waiting.push(request);
        }
    }

    /// Submits what was collected, in the order of sectors.
    pub fn flush(&mut self) {
        let mut waiting = core::mem::take(&mut self.waiting);
        // Stable: of two requests for the same sector the earlier stays first.
        waiting.sort_by_key(|r| r.sector);
        let mut current: Option<Request> = None;
        for next in waiting {
            current = match current.take() {
                None => Some(next),
                Some(mut joined) if can_join(&joined, &next) => {
                    joined.segments.extend(next.segments);
                    joined.done = both(joined.done, next.done);
                    Some(joined)
                }
                Some(ready) => {
                    self.device.submit(ready);
                    Some(next)
                }
            };
        }
        if let Some(last) = current {
            self.device.submit(last);
        }
    }
}

fn can_join(a: &Request, b: &Request) -> bool {
    let len = a.sectors();
    a.op == b.op && a.sector.checked_add(len) == Some(b.sector) && len + b.sectors() <= MAX_SECTORS
}

fn both(a: Completion, b: Completion) -> Completion {
    Box::new(move |result| {
        a(result);
        b(result);
    })
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{RamDisk, segment};
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn neighbours_become_one_request() {
        let disk = RamDisk::new("t", 4096);
        let dev: Arc<dyn BlockDevice> = disk.clone();
        let completions = Arc::new(AtomicU32::new(0));
        let request = |op, sector, fill| Request {
            op,
            sector,
            segments: vec![segment(fill)],
            done: {
                let n = completions.clone();
                Box::new(move |r| {
                    r.unwrap();
                    n.fetch_add(1, Ordering::Relaxed);
                })
            },
        };
        let mut plug = Plug::new(&dev);
        plug.add(request(Op::Write, 16, 3));
        plug.add(request(Op::Write, 0, 1));
        plug.add(request(Op::Write, 8, 2));
        plug.add(request(Op::Write, 32, 5));
        assert!(disk.log.lock().unwrap().is_empty());
        drop(plug);
        assert_eq!(
            *disk.log.lock().unwrap(),
            [(Op::Write, 0, 24), (Op::Write, 32, 8)]
        );
        assert_eq!(completions.load(Ordering::Relaxed), 4);
        let bytes = disk.bytes.lock().unwrap();
        assert_eq!((bytes[0], bytes[4096], bytes[8192]), (1, 2, 3));
    }

    #[test]
    fn a_flush_goes_last() {
        let disk = RamDisk::new("t", 64);
        let dev: Arc<dyn BlockDevice> = disk.clone();
        let mut plug = Plug::new(&dev);
        plug.add(Request {
            op: Op::Write,
            sector: 8,
            segments: vec![segment(1)],
            done: Box::new(|r| r.unwrap()),
        });
        plug.add(Request {
            op: Op::Flush,
            sector: 0,
            segments: vec![],
            done: Box::new(|r| r.unwrap()),
        });
        assert_eq!(
            *disk.log.lock().unwrap(),
            [(Op::Write, 8, 8), (Op::Flush, 0, 0)]
        );
    }
}
