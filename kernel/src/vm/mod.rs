//! Virtual memory of programs: address spaces, faults, the page cache, user copies.
//! May sleep. Sees a [`page_cache::PageSource`], never an inode.

pub mod fault;
pub mod io;
pub mod mapping;
pub mod oom;
pub mod page_cache;
pub mod shrink;
pub mod space;
pub mod user;
pub mod vma;

pub use io::{IoDest, IoSource};
pub use page_cache::reclaim::reclaim;
pub use page_cache::{PageCache, PageSource, Readahead};
pub use space::AddressSpace;
pub use user::{Pod, UserPtr};

use crate::error::Result;
use crate::sync::{Rank, SpinLock};

/// Where random numbers come from, once `security` has some to give.
static RANDOM: SpinLock<Option<fn() -> u64>> = SpinLock::new(Rank::Leaf, None);

/// Names the source of the random numbers that decide where things are mapped.
pub fn set_random_source(source: fn() -> u64) {
    *RANDOM.lock() = Some(source);
}

/// A random number for address choices. Before a source is named it comes from the
/// time-stamp counter: hard to guess from afar, no more.
fn random() -> u64 {
    let source = *RANDOM.lock();
    match source {
        Some(source) => source(),
        None => {
            // splitmix64's finaliser.
            let mut x = crate::arch::tsc().wrapping_add(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        }
    }
}

/// Starts what runs in the background; boot calls it once threads run, before the first
/// program.
pub fn start() -> Result<()> {
    fault::prepare_zero_page()?;
    page_cache::writeback::start()?;
    page_cache::reclaim::start()
}
