//! Allocations that fail on purpose, in builds with debug assertions: with `failblock=N` on the
//! command line every Nth request for more than one frame does, with `failframe=N` every Nth
//! frame for a program or the page cache. What programs cause has to come through that with an
//! error or a victim of the OOM killer.
//!
//! Single frames of the kernel's own are left alone: it lives on its reserve, and where that
//! ends is a matter of what programs may make it allocate, not of luck.

use core::sync::atomic::{AtomicU32, Ordering};

/// Fails one request of `period`.
pub struct Injector {
    /// 0: none.
    period: AtomicU32,
    count: AtomicU32,
}

/// Blocks of several frames, for the heap and kernel stacks.
pub static BLOCKS: Injector = Injector::new();
/// Frames for programs and the page cache.
pub static FRAMES: Injector = Injector::new();

impl Injector {
    const fn new() -> Self {
        Injector {
            period: AtomicU32::new(0),
            count: AtomicU32::new(0),
        }
    }

    /// From here on one request of `period` fails; none with 0.
    pub fn arm(&self, period: u32) {
        self.period.store(period, Ordering::Relaxed);
    }

    /// Whether this request is to fail.
    pub fn fails(&self) -> bool {
        let period = self.period.load(Ordering::Relaxed);
        period != 0
            && self
                .count
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(period)
    }
}
