//! The blocks that are kept for the superuser, so that a disk which its users filled can still be
//! put in order (mke2fs -m, tune2fs -u and -g).

use super::layout::Geometry;
use super::volume::Volume;
use crate::process;
use crate::security::capability::CAP_SYS_RESOURCE;

impl Volume {
    /// How many of `free` blocks the caller may have: all, or all but the reserve. It is exact
    /// only below `want`.
    pub(super) fn spare(&self, free: u64, want: u64) -> u64 {
        let spare = free.saturating_sub(u64::from(self.geometry.reserved));
        if spare >= want || !may_use(&self.geometry) {
            spare
        } else {
            free
        }
    }

    /// Whether the caller may have `want` blocks more, as things are.
    pub fn has_room(&self, want: u64) -> bool {
        self.spare(self.free().blocks, want) >= want
    }
}

/// Whether the reserve is also the caller's. The kernel itself, which has begun already what it
/// needs blocks for, may use it.
fn may_use(geometry: &Geometry) -> bool {
    let Some(task) = process::try_current() else {
        return true;
    };
    let cred = task.cred();
    let (uid, gid) = (
        u32::from(geometry.reserved_uid),
        u32::from(geometry.reserved_gid),
    );
    cred.capable(CAP_SYS_RESOURCE) || cred.fsuid == uid || gid != 0 && cred.in_group(gid)
}
