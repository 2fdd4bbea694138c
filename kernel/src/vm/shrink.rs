//! What the kernel keeps only to be quick (names, and the inodes behind them) and gives back
//! when memory is short.
//!
//! Whoever keeps such things registers a [`Shrinker`]. Reclaim may hold locks that giving
//! back needs, so it only notes how much it wants: the flusher, which holds none, serves it.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::{Rank, SpinLock};

/// A cache of kernel objects. Its methods are called by the flusher without locks, and may
/// sleep.
#[derive(Clone, Copy)]
pub struct Shrinker {
    /// How many objects are kept.
    pub count: fn() -> usize,
    /// Gives up to so many back, least recently used first; returns how many went.
    pub shrink: fn(usize) -> usize,
}

static SHRINKERS: SpinLock<Vec<Shrinker>> = SpinLock::new(Rank::Table, Vec::new());
/// The share of all objects that is wanted back, in units of 1 / [`WHOLE`]. At most `WHOLE`.
static WANTED: AtomicUsize = AtomicUsize::new(0);
const WHOLE: usize = 1 << 10;

/// Adds a cache. At boot.
pub fn register(shrinker: Shrinker) {
    SHRINKERS.lock().push(shrinker);
}

/// Wants `part` of `whole` back, at the flusher's next round.
pub(super) fn want(part: usize, whole: usize) {
    let share = (part.saturating_mul(WHOLE) / whole.max(1)).clamp(1, WHOLE);
    // The closure never refuses.
    let _ = WANTED.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |old| {
        Some((old + share).min(WHOLE))
    });
}

/// Whether somebody wants memory back.
pub(super) fn is_wanted() -> bool {
    WANTED.load(Ordering::Acquire) != 0
}

/// Gives back what is wanted. By the flusher.
pub(super) fn serve() {
    let share = WANTED.swap(0, Ordering::AcqRel);
    if share == 0 {
        return;
    }
    for shrinker in all() {
        let count = (shrinker.count)().saturating_mul(share).div_ceil(WHOLE);
        if count > 0 {
            (shrinker.shrink)(count);
        }
    }
}

/// One after the other, without the lock.
fn all() -> impl Iterator<Item = Shrinker> {
    (0..).map_while(|at| SHRINKERS.lock().get(at).copied())
}

/// Whether there is anything to give back.
pub(super) fn has_some() -> bool {
    all().any(|shrinker| (shrinker.count)() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    static KEPT: AtomicUsize = AtomicUsize::new(1000);

    #[test]
    fn a_share_of_what_is_kept_goes() {
        register(Shrinker {
            count: || KEPT.load(Ordering::Relaxed),
            shrink: |count| {
                KEPT.fetch_sub(count, Ordering::Relaxed);
                count
            },
        });
        assert!(has_some());
        want(1, 4);
        assert!(is_wanted());
        serve();
        // Other tests reclaim as well, and want more.
        assert!(KEPT.load(Ordering::Relaxed) <= 750);
        want(9, 2);
        serve();
        assert_eq!(KEPT.load(Ordering::Relaxed), 0);
        want(1, 1000);
        serve();
        assert_eq!(KEPT.load(Ordering::Relaxed), 0);
    }
}
