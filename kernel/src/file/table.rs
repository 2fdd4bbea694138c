//! The descriptor table (being written).
use super::OpenFile;
use crate::error::Result;
use alloc::sync::Arc;
/// A process's descriptors.
pub struct FdTable {}
impl FdTable {
    /// The description behind `fd`; EBADF.
    pub fn get(&self, _fd: i32) -> Result<Arc<OpenFile>> {
        todo!()
    }
}
