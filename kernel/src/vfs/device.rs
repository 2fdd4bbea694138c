//! Device numbers and what stands behind them: character devices by open function, block
//! devices by `block`; and the nodes that `devtmpfs` shows for the former.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::inode::Dev;
use crate::block::{self, BlockDevice};
use crate::error::{Errno, Result};
use crate::file::File;
use crate::sync::{Rank, SpinLock};

/// Opens a character device; `flags` are O_*.
pub type OpenChar = Arc<dyn Fn(Dev, u32) -> Result<Arc<dyn File>> + Send + Sync>;

/// A node in /dev.
#[derive(Clone)]
pub struct Node {
    /// Path below /dev, e.g. `null` or `input/event0`.
    pub name: String,
    /// S_IFCHR or S_IFBLK and permission bits.
    pub mode: u32,
    /// Its number.
    pub dev: Dev,
}

struct Range {
    major: u32,
    first: u32,
    count: u32,
    open: OpenChar,
}

struct Registry {
    chars: Vec<Range>,
    nodes: Vec<Node>,
    /// Told of every new node: the mounted devtmpfs.
    watcher: Option<fn(&Node)>,
}

static REGISTRY: SpinLock<Registry> = SpinLock::new(
    Rank::Vfs,
    Registry {
        chars: Vec::new(),
        nodes: Vec::new(),
        watcher: None,
    },
);

/// Registers character devices `major`:`first`.. (`count` of them). Nodes are added apart.
pub fn register_char(
    major: u32,
    first: u32,
    count: u32,
    open: impl Fn(Dev, u32) -> Result<Arc<dyn File>> + Send + Sync + 'static,
) {
    let open: OpenChar = Arc::new(open);
    REGISTRY.lock().chars.push(Range {
        major,
        first,
        count,
        open,
    });
}

/// Shows a device as /dev/`name`; `mode` with S_IFCHR or S_IFBLK. Once the devtmpfs is up the
/// node appears there at once.
pub fn add_node(name: &str, mode: u32, dev: Dev) {
    let node = Node {
        name: String::from(name),
        mode,
        dev,
    };
    let watcher = {
        let mut registry = REGISTRY.lock();
        registry.nodes.push(node.clone());
        registry.watcher
    };
    if let Some(tell) = watcher {
        tell(&node);
    }
}

/// The nodes so far; `watcher` hears of later ones.
pub fn watch_nodes(watcher: fn(&Node)) -> Vec<Node> {
    let mut registry = REGISTRY.lock();
    registry.watcher = Some(watcher);
    registry.nodes.clone()
}

/// The block device with that number.
pub fn block(dev: Dev) -> Option<Arc<dyn BlockDevice>> {
    block::by_number(dev.major, dev.minor).map(|disk| disk.device.clone())
}

/// Opens a character device. ENXIO when no driver has that number.
pub(super) fn open_char(dev: Dev, flags: u32) -> Result<Arc<dyn File>> {
    let open = {
        let registry = REGISTRY.lock();
        let found = registry
            .chars
            .iter()
            .find(|r| r.major == dev.major && (r.first..r.first + r.count).contains(&dev.minor));
        found.map(|r| r.open.clone())
    };
    open.ok_or(Errno::ENXIO)?(dev, flags)
}

/// Opens a block device node. ENXIO when there is no such device.
pub(super) fn open_block(dev: Dev, flags: u32) -> Result<Arc<dyn File>> {
    let device = block(dev).ok_or(Errno::ENXIO)?;
    let file = super::block_file::BlockFile::open(dev, &device, flags)?;
    Ok(Arc::new(file))
}
