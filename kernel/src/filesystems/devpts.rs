//! devpts: the names of pseudo-terminals, /dev/pts/N, and a `ptmx` beside them.
//!
//! The terminals belong to `tty::pty`, with their nodes' owners and modes. Every mount shows
//! all of them; the options of the latest one decide how nodes made from then on look.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{DirSink, File};
use crate::mm::PAGE_SIZE;
use crate::sync::{Rank, SpinLock};
use crate::tty::pty::{self, Handle, NodeOptions, PTMX, SLAVE_MAJOR};
use crate::vfs::device;
use crate::vfs::inode::dt;
use crate::vfs::{
    Attr, Dev, FileSystem, FsStat, Inode, MountSource, Mounted, Path, Perm, SetAttr, SuperBlock,
    Timestamp,
};

const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
/// Inode number, and directory position, of terminal 0.
const FIRST_INO: u64 = 3;

/// Registers /dev/ptmx and the terminals' numbers; `filesystems::init` does, once.
pub fn init() {
    device::register_char(PTMX.major, PTMX.minor, 1, |_, _| pty::open_master());
    device::add_node("ptmx", abi::S_IFCHR | 0o666, PTMX);
    device::register_char(SLAVE_MAJOR, 0, u32::MAX, |dev, flags| {
        pty::open_slave(dev.minor, flags)
    });
}

/// The filesystem type `devpts`.
pub struct DevPts;

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }
    fn needs_device(&self) -> bool {
        false
    }
    fn mount(&self, _source: &MountSource, read_only: bool, options: &[u8]) -> Result<Mounted> {
        let options = Options::parse(options)?;
        pty::set_node_options(options.nodes);
        let now = Timestamp::now();
        Ok(Mounted {
            ops: Arc::new(PtsSuper {
                options,
                root: fixed(abi::S_IFDIR | 0o755, now),
                ptmx: fixed(abi::S_IFCHR | options.ptmx_mode, now),
            }),
            dev: None,
            read_only,
        })
    }
}

/// Mount options (filesystems/devpts of Linux's documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    nodes: NodeOptions,
    ptmx_mode: u32,
}

impl Options {
    /// EINVAL for what is unknown, or needs what there is not (`uid`, `max`).
    fn parse(text: &[u8]) -> Result<Options> {
        let mut options = Options {
            nodes: NodeOptions {
                mode: 0o600,
                gid: None,
            },
            ptmx_mode: 0,
        };
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let mode = |value: &str| -> Result<u32> {
            let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
            Ok(mode & 0o7777)
        };
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').ok_or(Errno::EINVAL)?;
            match key {
                "mode" => options.nodes.mode = mode(value)?,
                "ptmxmode" => options.ptmx_mode = mode(value)?,
                "gid" => options.nodes.gid = Some(value.parse().map_err(|_| Errno::EINVAL)?),
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// Attributes of the two objects that are always there.
struct Fixed {
    perm: Perm,
    time: Timestamp,
}

type Shared = Arc<SpinLock<Fixed>>;

fn fixed(mode: u32, time: Timestamp) -> Shared {
    let perm = Perm {
        mode,
        uid: 0,
        gid: 0,
    };
    Arc::new(SpinLock::new(Rank::Object, Fixed { perm, time }))
}

struct PtsSuper {
    options: Options,
    root: Shared,
    ptmx: Shared,
}

impl SuperBlock for PtsSuper {
    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(Arc::new(PtsInode::Root {
            own: self.root.clone(),
            ptmx: self.ptmx.clone(),
        }))
    }
    fn statfs(&self) -> Result<FsStat> {
        Ok(FsStat {
            magic: abi::DEVPTS_SUPER_MAGIC,
            block_size: PAGE_SIZE as u64,
            ..FsStat::default()
        })
    }
    fn show_options(&self) -> Vec<u8> {
        let nodes = self.options.nodes;
        let gid = nodes
            .gid
            .map_or_else(Default::default, |g| format!(",gid={g}"));
        let (mode, ptmx_mode) = (nodes.mode, self.options.ptmx_mode);
        format!("{gid},mode={mode:03o},ptmxmode={ptmx_mode:03o}").into_bytes()
    }
}

enum PtsInode {
    Root { own: Shared, ptmx: Shared },
    Ptmx(Shared),
    Terminal(u32, Handle),
}

/// The number that `name` spells, without leading zeros or signs.
fn parse_number(name: &[u8]) -> Option<u32> {
    let plain =
        name.iter().all(u8::is_ascii_digit) && (name.len() == 1 || name.first() != Some(&b'0'));
    let text = core::str::from_utf8(name).ok().filter(|_| plain)?;
    text.parse().ok()
}

impl Inode for PtsInode {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn attr(&self) -> Result<Attr> {
        let fixed = |own: &Shared, ino, nlink, rdev| {
            let own = own.lock();
            (ino, own.perm, nlink, rdev, [own.time; 3])
        };
        let (ino, perm, nlink, rdev, [atime, mtime, ctime]) = match self {
            PtsInode::Root { own, .. } => fixed(own, ROOT_INO, 2, Dev::default()),
            PtsInode::Ptmx(own) => fixed(own, PTMX_INO, 1, PTMX),
            PtsInode::Terminal(number, handle) => {
                let pty = handle.get().ok_or(Errno::ENOENT)?;
                let ino = FIRST_INO + u64::from(*number);
                (ino, pty.perm(), 1, pty.dev(), pty.times())
            }
        };
        Ok(Attr {
            ino,
            mode: perm.mode,
            uid: perm.uid,
            gid: perm.gid,
            nlink,
            size: 0,
            blocks: 0,
            block_size: 1024,
            atime,
            mtime,
            ctime,
            btime: None,
            rdev,
        })
    }
    fn perm(&self) -> Perm {
        match self {
            PtsInode::Root { own, .. } | PtsInode::Ptmx(own) => own.lock().perm,
            PtsInode::Terminal(_, handle) => match handle.get() {
                Some(pty) => pty.perm(),
                None => Perm {
                    mode: abi::S_IFCHR,
                    uid: 0,
                    gid: 0,
                },
            },
        }
    }
    fn setattr(&self, changes: &SetAttr) -> Result<()> {
        match self {
            PtsInode::Root { own, .. } | PtsInode::Ptmx(own) => {
                let mut own = own.lock();
                if let Some(mode) = changes.mode {
                    own.perm.mode = (own.perm.mode & abi::S_IFMT) | (mode & 0o7777);
                }
                own.perm.uid = changes.uid.unwrap_or(own.perm.uid);
                own.perm.gid = changes.gid.unwrap_or(own.perm.gid);
                own.time = changes.mtime.or(changes.ctime).unwrap_or(own.time);
            }
            PtsInode::Terminal(_, handle) => handle.get().ok_or(Errno::ENOENT)?.set_attr(changes),
        }
        Ok(())
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let PtsInode::Root { ptmx, .. } = self else {
            return Err(Errno::ENOTDIR);
        };
        if name == b"ptmx" {
            return Ok(Arc::new(PtsInode::Ptmx(ptmx.clone())));
        }
        let number = parse_number(name).ok_or(Errno::ENOENT)?;
        let pty = pty::find(number).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(PtsInode::Terminal(number, Handle::new(&pty))))
    }
    fn read_dir(&self, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        if !matches!(self, PtsInode::Root { .. }) {
            return Err(Errno::ENOTDIR);
        }
        let always: [(&[u8], u64, u8); 3] = [
            (b".", ROOT_INO, dt::DIR),
            (b"..", ROOT_INO, dt::DIR),
            (b"ptmx", PTMX_INO, dt::CHR),
        ];
        let mut next = pos;
        for (at, (name, ino, kind)) in (0..).zip(always) {
            if at < next {
                continue;
            }
            if !sink.entry(name, ino, kind, at + 1) {
                return Ok(next);
            }
            next = at + 1;
        }
        let from = |next: u64| u32::try_from(next - FIRST_INO).ok();
        while let Some(number) = from(next).and_then(pty::next_number) {
            let ino = FIRST_INO + u64::from(number);
            let name = format!("{number}");
            if !sink.entry(name.as_bytes(), ino, dt::CHR, ino + 1) {
                return Ok(ino);
            }
            next = ino + 1;
        }
        Ok(next)
    }
    fn keeps(&self, _child: &dyn Inode) -> bool {
        // Terminals come and go without notice.
        false
    }
    fn caches_misses(&self) -> bool {
        false
    }
    fn open(&self, _path: &Path, flags: u32) -> Result<Option<Arc<dyn File>>> {
        match self {
            PtsInode::Root { .. } => Ok(None),
            PtsInode::Ptmx(_) => pty::open_master().map(Some),
            PtsInode::Terminal(number, handle) => {
                // Not one that got the number after this one.
                if !handle.get().is_some_and(|pty| pty.is_live()) {
                    return Err(Errno::EIO);
                }
                pty::open_slave(*number, flags).map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_linux() {
        let options = Options::parse(b"mode=0620,gid=5,ptmxmode=0666").unwrap();
        assert_eq!(options.nodes.mode, 0o620);
        assert_eq!(options.nodes.gid, Some(5));
        assert_eq!(options.ptmx_mode, 0o666);
        assert_eq!(Options::parse(b"").unwrap().nodes.mode, 0o600);
        for bad in [&b"mode=9"[..], b"gid=x", b"newinstance", b"color=blue"] {
            assert_eq!(Options::parse(bad), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn names_are_plain_numbers() {
        assert_eq!(parse_number(b"0"), Some(0));
        assert_eq!(parse_number(b"12"), Some(12));
        for bad in [&b""[..], b"01", b"+1", b"1x", b"99999999999"] {
            assert_eq!(parse_number(bad), None);
        }
    }
}
