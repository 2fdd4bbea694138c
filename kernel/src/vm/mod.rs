//! Virtual memory of programs: address spaces, faults, the page cache, user copies.
//! May sleep. Sees a [`page_cache::PageSource`], never an inode.

pub mod io;
pub mod page_cache;
pub mod space;
pub mod user;

pub use io::{IoDest, IoSource};
pub use page_cache::{PageCache, PageSource};
pub use space::AddressSpace;
pub use user::{Pod, UserPtr};
