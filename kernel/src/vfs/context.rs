//! What a process brings to a path: root, working directory, umask.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use super::mount::{self, Path};
use crate::error::Result;
use crate::sync::{Rank, SpinLock};

/// Root, working directory and umask of a process (CLONE_FS shares it).
pub struct FsContext {
    places: SpinLock<Places>,
    umask: AtomicU32,
}

#[derive(Clone)]
struct Places {
    root: Path,
    cwd: Path,
}

impl FsContext {
    /// Root and working directory at the root mount, umask 022.
    pub fn at_root() -> Result<Arc<FsContext>> {
        let root = mount::root()?.descend();
        Ok(Self::make(root.clone(), root, 0o022))
    }
    fn make(root: Path, cwd: Path, umask: u32) -> Arc<FsContext> {
        Arc::new(FsContext {
            places: SpinLock::new(Rank::Object, Places { root, cwd }),
            umask: AtomicU32::new(umask),
        })
    }
    /// A copy for a child without CLONE_FS.
    pub fn duplicate(&self) -> Arc<FsContext> {
        let places = self.places.lock().clone();
        Self::make(places.root, places.cwd, self.umask())
    }
    /// The root directory.
    pub fn root(&self) -> Path {
        self.places.lock().root.clone()
    }
    /// The working directory.
    pub fn cwd(&self) -> Path {
        self.places.lock().cwd.clone()
    }
    /// Bits that new files lack.
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }
    /// Sets the umask; returns the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Ordering::Relaxed)
    }
    /// Sets the working directory; the caller checked it.
    pub fn set_cwd(&self, to: Path) {
        let old = core::mem::replace(&mut self.places.lock().cwd, to);
        drop(old);
    }
    /// Sets the root directory; the caller checked it.
    pub fn set_root(&self, to: Path) {
        let old = core::mem::replace(&mut self.places.lock().root, to);
        drop(old);
    }
}
