//! devtmpfs: a tmpfs that the kernel fills with device nodes, and the memory devices
//! (man 4 null, full, random).
//!
//! Nodes come from `vfs::device`; terminals and drivers register theirs there. Programs may
//! add names of their own.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::kmsg::Kmsg;
use super::memfs::{MemInode, MemSuper, Options};
use crate::abi;
use crate::block;
use crate::error::{Errno, Result};
use crate::file::{File, MapTarget, OpenFile};
use crate::mm::frame;
use crate::security::random;
use crate::sync::{Rank, SpinLock};
use crate::vfs::device::{self, Node};
use crate::vfs::{Attr, Dev, FileSystem, MountSource, Mounted, NewNode, Perm, SuperBlock};
use crate::vm::{IoDest, IoSource};

/// The filesystem type `devtmpfs`. One instance shows at every mount.
pub struct DevFs;

static INSTANCE: SpinLock<Option<Arc<MemSuper>>> = SpinLock::new(Rank::Vfs, None);

impl FileSystem for DevFs {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }
    fn needs_device(&self) -> bool {
        false
    }
    fn is_single(&self) -> bool {
        true
    }
    fn mount(&self, _source: &MountSource, read_only: bool, options: &[u8]) -> Result<Mounted> {
        let ops = instance()?;
        ops.reconfigure(options)?;
        Ok(Mounted {
            ops,
            dev: None,
            read_only,
        })
    }
}

/// The tree, made on first use.
fn instance() -> Result<Arc<dyn SuperBlock>> {
    if let Some(there) = INSTANCE.lock().clone() {
        return Ok(there);
    }
    let mut options = Options::new(frame::stats().total as u64);
    options.root = Perm {
        mode: abi::S_IFDIR | 0o755,
        uid: 0,
        gid: 0,
    };
    options.volatile = true;
    let fs = MemSuper::new(&options)?;
    let root = fs.root_inode();
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let node = new_node(abi::S_IFLNK | 0o777, 0, Dev::default());
        root.add(name.as_bytes(), &node, Some(target.as_bytes()))?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777)] {
        let node = new_node(abi::S_IFDIR | mode, 0, Dev::default());
        root.add(name.as_bytes(), &node, None)?;
    }
    let first = {
        let mut slot = INSTANCE.lock();
        slot.get_or_insert(fs.clone()).clone()
    };
    if Arc::ptr_eq(&first, &fs) {
        for node in device::watch_nodes(show) {
            show(&node);
        }
        for disk in block::disks() {
            let (major, minor) = disk.number;
            show(&Node {
                name: disk.device.name().into(),
                mode: abi::S_IFBLK | 0o660,
                dev: Dev::new(major, minor),
            });
        }
    }
    Ok(first)
}

fn new_node(mode: u32, gid: u32, rdev: Dev) -> NewNode {
    NewNode {
        mode,
        uid: 0,
        gid,
        rdev,
    }
}

/// Puts a node into the tree, with the directories above it.
fn show(node: &Node) {
    let Some(fs) = INSTANCE.lock().clone() else {
        return;
    };
    if let Err(e) = place(fs.root_inode(), node) {
        warn!("devtmpfs: no node {}: {e:?}", node.name);
    }
}

fn place(root: &Arc<MemInode>, node: &Node) -> Result<()> {
    /// Group `disk` and group `tty` of /etc/group.
    const DISK: u32 = 6;
    const TTY: u32 = 5;
    let mut dir = root.clone();
    let mut rest = node.name.as_str();
    while let Some((first, tail)) = rest.split_once('/') {
        dir = match dir.find(first.as_bytes()) {
            Ok(there) => there,
            Err(_) => {
                let new = new_node(abi::S_IFDIR | 0o755, 0, Dev::default());
                dir.add(first.as_bytes(), &new, None)?
            }
        };
        rest = tail;
    }
    let gid = match node.mode & abi::S_IFMT {
        abi::S_IFBLK => DISK,
        _ if matches!(node.dev.major, 4 | 5) => TTY,
        _ => 0,
    };
    dir.add(rest.as_bytes(), &new_node(node.mode, gid, node.dev), None)?;
    Ok(())
}

/// Registers the memory devices and /dev/tty; `init` does, once.
pub fn init() {
    const MEM: u32 = 1;
    for (name, minor, mode, kind) in [
        ("null", 3, 0o666, Kind::Null),
        ("zero", 5, 0o666, Kind::Zero),
        ("full", 7, 0o666, Kind::Full),
        ("random", 8, 0o666, Kind::Random),
        ("urandom", 9, 0o666, Kind::Random),
    ] {
        device::register_char(MEM, minor, 1, move |dev, _| {
            Ok(Arc::new(Memory { kind, dev }))
        });
        device::add_node(name, abi::S_IFCHR | mode, Dev::new(MEM, minor));
    }
    device::register_char(MEM, 11, 1, |dev, _| Ok(Arc::new(Kmsg::new(dev))));
    device::add_node("kmsg", abi::S_IFCHR | 0o640, Dev::new(MEM, 11));
    device::register_char(5, 0, 1, |_, _| crate::tty::open_controlling());
    device::add_node("tty", abi::S_IFCHR | 0o666, Dev::new(5, 0));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
    Random,
}

/// /dev/null, zero, full, random, urandom.
struct Memory {
    kind: Kind,
    dev: Dev,
}

pub(super) fn device_stat(dev: Dev) -> abi::stat {
    let attr = Attr {
        ino: dev.encode(),
        mode: abi::S_IFCHR | 0o666,
        nlink: 1,
        block_size: 4096,
        rdev: dev,
        ..Attr::default()
    };
    attr.to_stat(Dev::default())
}

/// Bytes made at a time: interrupts are off while the generator runs.
const RANDOM_PIECE: usize = 256;

impl File for Memory {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, _of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        match self.kind {
            Kind::Null => Ok(0),
            Kind::Zero | Kind::Full => dst.put_zeros(dst.remaining()),
            Kind::Random => {
                /// man 4 random: a read gives 32 MiB - 1 at most.
                const MOST: usize = (32 << 20) - 1;
                let mut done = 0;
                let mut piece = [0; RANDOM_PIECE];
                while dst.remaining() > 0 && done < MOST {
                    let n = piece.len().min(dst.remaining()).min(MOST - done);
                    random::fill(&mut piece[..n]);
                    match dst.put(&piece[..n]) {
                        Ok(n) => done += n,
                        Err(_) if done > 0 => break,
                        Err(e) => return Err(e),
                    }
                }
                Ok(done)
            }
        }
    }
    fn write(&self, _of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        match self.kind {
            Kind::Null | Kind::Zero => Ok(src.remaining()),
            Kind::Full => Err(Errno::ENOSPC),
            Kind::Random => {
                let mut done = 0;
                let mut piece = [0; RANDOM_PIECE];
                while src.remaining() > 0 {
                    let n = src.get(&mut piece)?;
                    random::stir(&piece[..n]);
                    done += n;
                }
                Ok(done)
            }
        }
    }
    // man 4 null and Linux: positions are allowed and mean nothing.
    fn read_at(&self, of: &OpenFile, _pos: u64, dst: &mut IoDest<'_>) -> Result<usize> {
        self.read(of, dst)
    }
    fn write_at(&self, of: &OpenFile, pos: u64, src: &mut IoSource<'_>) -> Result<(usize, u64)> {
        Ok((self.write(of, src)?, pos))
    }
    fn seek(&self, _of: &OpenFile, _pos: u64, _offset: i64, _whence: u32) -> Result<u64> {
        Ok(0)
    }
    fn can_epoll(&self) -> bool {
        self.kind == Kind::Random
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(device_stat(self.dev))
    }
    fn map(&self, _of: &OpenFile) -> Result<MapTarget> {
        match self.kind {
            Kind::Zero => Ok(MapTarget::Zero),
            _ => Err(Errno::ENODEV),
        }
    }
    fn describe(&self) -> Vec<u8> {
        let name = match (self.kind, self.dev.minor) {
            (Kind::Null, _) => "/dev/null",
            (Kind::Zero, _) => "/dev/zero",
            (Kind::Full, _) => "/dev/full",
            (Kind::Random, 8) => "/dev/random",
            (Kind::Random, _) => "/dev/urandom",
        };
        name.into()
    }
}
