//! Gives every program the page that tells the time ([`arch::vdso`](crate::arch::vdso)).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;

use crate::arch;
use crate::error::Result;
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::sync::{Rank, SpinLock};
use crate::vm::AddressSpace;
use crate::vm::page_cache::PageCache;
use crate::vm::space::{Backing, MapRequest, MappedFile, Placement, Prot};
use crate::vm::vma::VmaFlags;

/// What /proc/pid/maps calls it.
struct Name;

impl MappedFile for Name {
    fn path(&self) -> Vec<u8> {
        b"[vdso]".to_vec()
    }
    fn id(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// The page, and its name.
type Page = (Arc<PageCache>, Arc<dyn MappedFile>);

/// Set once by [`init`]; a shared page that no reclaim takes, as it has nowhere to go.
static PAGE: SpinLock<Option<Page>> = SpinLock::new(Rank::Leaf, None);

/// Makes the page. Once, when the clock runs. ENOMEM.
pub fn init() -> Result<()> {
    let cache = PageCache::new(None)?;
    cache.truncate(PAGE_SIZE as u64);
    let frame = cache.get(0)?;
    if let Some(page) = NonNull::new(frame.as_ptr()) {
        // SAFETY: a page of the cache, which `PAGE` keeps for good and nobody else knows;
        // programs have no way to write to it (NEVER_WRITE).
        unsafe { arch::vdso::install(page) };
        arch::vdso::set_wall_offset(crate::time::realtime_offset_ns());
    }
    *PAGE.lock() = Some((cache, Arc::new(Name)));
    Ok(())
}

/// Maps it into a new program; where, if there is one. ENOMEM.
pub fn map(space: &AddressSpace) -> Result<Option<UserAddr>> {
    let Some((cache, name)) = PAGE.lock().clone() else {
        return Ok(None);
    };
    let request = MapRequest {
        at: Placement::Hint(UserAddr(0)),
        len: PAGE_SIZE,
        prot: Prot::READ | Prot::EXEC,
        flags: VmaFlags::SHARED | VmaFlags::NEVER_WRITE,
        backing: Backing::File {
            cache,
            offset: 0,
            name,
        },
        populate: false,
        low: false,
        privileged: false,
    };
    space.map_request(request).map(Some)
}
