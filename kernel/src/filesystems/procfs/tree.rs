//! The directories: what names lead where, and the inodes behind them.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::links::Link;
use super::net;
use super::pid::{self, Sub, What, Who};
use super::profile;
use super::system;
use super::text::TextFile;
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::{DirSink, File};
use crate::net::{dhcp, filter};
use crate::process;
use crate::time::{self, NS_PER_SEC};
use crate::uts;
use crate::vfs::inode::dt;
use crate::vfs::{Attr, Inode, Path, Perm, SetAttr, Timestamp};

/// A fixed entry.
struct Item {
    name: &'static str,
    kind: Fixed,
}

/// What a fixed entry is.
#[derive(Clone, Copy)]
enum Fixed {
    Dir(&'static [Item]),
    Text(fn() -> Result<Vec<u8>>),
    /// What one write takes is the whole content, of so many bytes; permission bits.
    Control(fn() -> Result<Vec<u8>>, fn(&[u8]) -> Result<()>, usize, u32),
    Link(fn() -> Result<Vec<u8>>),
}

const fn dir(name: &'static str, items: &'static [Item]) -> Item {
    Item {
        name,
        kind: Fixed::Dir(items),
    }
}
const fn file(name: &'static str, make: fn() -> Result<Vec<u8>>) -> Item {
    Item {
        name,
        kind: Fixed::Text(make),
    }
}
const fn control(
    name: &'static str,
    make: fn() -> Result<Vec<u8>>,
    take: fn(&[u8]) -> Result<()>,
    most: usize,
    mode: u32,
) -> Item {
    Item {
        name,
        kind: Fixed::Control(make, take, most, mode),
    }
}
const fn link(name: &'static str, make: fn() -> Result<Vec<u8>>) -> Item {
    Item {
        name,
        kind: Fixed::Link(make),
    }
}

static ROOT: &[Item] = &[
    file("cmdline", system::cmdline),
    file("cpuinfo", system::cpuinfo),
    file("filesystems", system::filesystems),
    file("loadavg", system::loadavg),
    file("meminfo", system::meminfo),
    link("mounts", || Ok(b"self/mounts".to_vec())),
    dir("net", NET),
    file("partitions", system::partitions),
    control(
        "profile",
        profile::text,
        profile::take,
        profile::MAX_TEXT,
        0o600,
    ),
    link("self", own_pid),
    control("slabinfo", system::slabinfo, |_| Err(Errno::EIO), 0, 0o400),
    file("stat", system::stat),
    dir("sys", SYS),
    link("thread-self", own_thread),
    file("uptime", system::uptime),
    file("version", system::version),
];

static NET: &[Item] = &[
    file("arp", net::arp),
    file("dev", net::dev),
    control("dhcp", dhcp::text, dhcp::control, dhcp::MAX_TEXT, 0o644),
    control(
        "firewall",
        filter::text,
        filter::replace,
        filter::MAX_TEXT,
        0o600,
    ),
    file("icmp", net::icmp),
    file("if_inet6", net::if_inet6),
    file("pnp", net::pnp),
    file("raw", net::raw),
    file("route", net::route),
    file("tcp", net::tcp),
    file("tcp6", net::tcp6),
    file("udp", net::udp),
    file("udp6", net::udp6),
    file("unix", net::unix),
];

static SYS: &[Item] = &[
    dir("fs", SYS_FS),
    dir("kernel", SYS_KERNEL),
    dir("vm", SYS_VM),
];
static SYS_FS: &[Item] = &[
    file("file-max", system::file_max),
    file("nr_open", system::nr_open),
];
/// Bytes that are taken of a name and its newline.
const MAX_NAME_TEXT: usize = uts::NAME_MAX + 1;
static SYS_KERNEL: &[Item] = &[
    file("cap_last_cap", system::cap_last_cap),
    control(
        "domainname",
        system::domainname,
        system::set_domainname,
        MAX_NAME_TEXT,
        0o644,
    ),
    control(
        "hostname",
        system::hostname,
        system::set_hostname,
        MAX_NAME_TEXT,
        0o644,
    ),
    file("ngroups_max", system::ngroups_max),
    file("osrelease", system::osrelease),
    file("ostype", system::ostype),
    file("pid_max", system::pid_max),
    dir("random", SYS_RANDOM),
    file("threads-max", system::threads_max),
    file("version", system::os_version),
];
static SYS_RANDOM: &[Item] = &[
    file("boot_id", system::boot_id),
    file("uuid", system::random_uuid),
];
static SYS_VM: &[Item] = &[
    file("max_map_count", system::max_map_count),
    file("mmap_min_addr", system::mmap_min_addr),
    file("overcommit_memory", system::overcommit_memory),
];

fn own_pid() -> Result<Vec<u8>> {
    let task = process::try_current().ok_or(Errno::ENOENT)?;
    Ok(format!("{}", task.pid()).into_bytes())
}

fn own_thread() -> Result<Vec<u8>> {
    let task = process::try_current().ok_or(Errno::ENOENT)?;
    Ok(format!("{}/task/{}", task.pid(), task.tid()).into_bytes())
}

/// An object of procfs.
enum Node {
    /// The root: fixed entries and processes.
    Root,
    Fixed(&'static Item),
    /// /proc/N or /proc/N/task/M.
    Process(Who),
    /// An entry of such a directory: index into [`pid::ITEMS`].
    Item(Who, usize),
    FdLink(Who, i32),
    FdInfo(Who, i32),
}

struct ProcInode {
    node: Node,
}

/// The root directory.
pub fn root() -> Arc<dyn Inode> {
    Arc::new(ProcInode { node: Node::Root })
}

fn inode(node: Node) -> Arc<dyn Inode> {
    Arc::new(ProcInode { node })
}

/// First position of the processes in the root's listing.
const FIRST_PID: u64 = 0x1000;

impl Node {
    /// Type and permission bits.
    fn mode(&self) -> u32 {
        match self {
            Node::Root => abi::S_IFDIR | 0o555,
            Node::Fixed(item) => match item.kind {
                Fixed::Dir(_) => abi::S_IFDIR | 0o555,
                Fixed::Text(_) => abi::S_IFREG | 0o444,
                Fixed::Control(.., mode) => abi::S_IFREG | mode,
                Fixed::Link(_) => abi::S_IFLNK | 0o777,
            },
            Node::Process(_) => abi::S_IFDIR | 0o555,
            Node::Item(_, index) => {
                let (_, what, mode) = pid::ITEMS[*index];
                let kind = match what {
                    What::Text => abi::S_IFREG,
                    What::Link(_) => abi::S_IFLNK,
                    What::Dir(_) => abi::S_IFDIR,
                };
                kind | mode
            }
            Node::FdLink(who, fd) => {
                // The link's bits tell how the file is open.
                let file = who.task().and_then(|t| t.try_files()?.get(*fd).ok());
                let mut mode = abi::S_IFLNK | 0o100;
                if let Some(file) = file {
                    if file.readable() {
                        mode |= 0o400;
                    }
                    if file.writable() {
                        mode |= 0o200;
                    }
                }
                mode
            }
            Node::FdInfo(..) => abi::S_IFREG | 0o444,
        }
    }

    fn who(&self) -> Option<&Who> {
        match self {
            Node::Root | Node::Fixed(_) => None,
            Node::Process(who)
            | Node::Item(who, _)
            | Node::FdLink(who, _)
            | Node::FdInfo(who, _) => Some(who),
        }
    }

    /// Whether the process, thread or descriptor exists now.
    fn is_there(&self) -> bool {
        match self {
            Node::FdLink(who, fd) | Node::FdInfo(who, fd) => who
                .task()
                .and_then(|t| t.try_files())
                .is_some_and(|f| f.get(*fd).is_ok()),
            node => node.who().is_none_or(Who::is_there),
        }
    }

    fn ino(&self) -> u64 {
        let base = |who: &Who| {
            let id = who.tid.unwrap_or(who.process.pid());
            let thread = u64::from(who.tid.is_some());
            (1 << 62) | (id as u64) << 28 | thread << 27
        };
        match self {
            Node::Root => 1,
            // Static entries: their address tells them apart.
            Node::Fixed(item) => {
                2 + (core::ptr::from_ref::<Item>(item).addr() as u64 & 0xffff_ffff)
            }
            Node::Process(who) => base(who),
            Node::Item(who, index) => base(who) + 1 + *index as u64,
            Node::FdLink(who, fd) => base(who) + (1 << 25) + *fd as u64,
            Node::FdInfo(who, fd) => base(who) + (1 << 26) + *fd as u64,
        }
    }

    fn link_text(&self) -> Result<Vec<u8>> {
        match self {
            Node::Fixed(item) => match item.kind {
                Fixed::Link(make) => make(),
                _ => Err(Errno::EINVAL),
            },
            Node::FdLink(who, fd) => Link::Fd(*fd).text(&*who.task().ok_or(Errno::ENOENT)?),
            Node::Item(who, index) => match pid::ITEMS[*index].1 {
                What::Link(link) => link.text(&*who.task().ok_or(Errno::ENOENT)?),
                _ => Err(Errno::EINVAL),
            },
            _ => Err(Errno::EINVAL),
        }
    }
}

fn find_fixed(items: &'static [Item], name: &[u8]) -> Result<Arc<dyn Inode>> {
    let item = items.iter().find(|i| i.name.as_bytes() == name);
    item.map(|i| inode(Node::Fixed(i))).ok_or(Errno::ENOENT)
}

impl ProcInode {
    /// When the process started, or the kernel.
    fn born(&self) -> Timestamp {
        let since_boot = self.node.who().map_or(0, |who| who.process.start_ns());
        let boot = time::realtime_ns().saturating_sub(time::now_ns());
        let ns = boot + since_boot;
        Timestamp {
            sec: (ns / NS_PER_SEC) as i64,
            nsec: (ns % NS_PER_SEC) as u32,
        }
    }
}

impl Inode for ProcInode {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn attr(&self) -> Result<Attr> {
        let perm = self.perm();
        let born = self.born();
        let nlink = match &self.node {
            Node::Root => 2 + process::info::counts().0 as u32,
            _ if perm.mode & abi::S_IFMT == abi::S_IFDIR => 2,
            _ => 1,
        };
        let size = match &self.node {
            // readlink's buffer is often sized by this.
            Node::FdLink(..) => 64,
            _ => 0,
        };
        Ok(Attr {
            ino: self.node.ino(),
            mode: perm.mode,
            uid: perm.uid,
            gid: perm.gid,
            nlink,
            size,
            block_size: 1024,
            atime: born,
            mtime: born,
            ctime: born,
            ..Attr::default()
        })
    }
    fn perm(&self) -> Perm {
        let mode = self.node.mode();
        let (uid, gid) = match self.node.who() {
            // What a process hides from its user belongs to the superuser.
            Some(who) if who.process.dumpable() == 1 || matches!(self.node, Node::Process(_)) => {
                let cred = who.process.cred();
                (cred.euid, cred.egid)
            }
            _ => (0, 0),
        };
        Perm { mode, uid, gid }
    }
    fn setattr(&self, changes: &SetAttr) -> Result<()> {
        // Opening with O_TRUNC, as shells do: there is nothing to cut.
        if changes.size.is_some() && changes.uid.is_none() && changes.gid.is_none() {
            return Ok(());
        }
        Err(Errno::EPERM)
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match &self.node {
            Node::Root => {
                if let Some(id) = pid::parse_id(name) {
                    return Ok(inode(Node::Process(Who::find(id)?)));
                }
                find_fixed(ROOT, name)
            }
            Node::Fixed(item) => match item.kind {
                Fixed::Dir(items) => find_fixed(items, name),
                _ => Err(Errno::ENOTDIR),
            },
            Node::Process(who) => {
                let index = pid::ITEMS
                    .iter()
                    .position(|(n, what, _)| n.as_bytes() == name && shows(who, *what));
                let index = index.ok_or(Errno::ENOENT)?;
                Ok(inode(Node::Item(who.clone(), index)))
            }
            Node::Item(who, index) => {
                let What::Dir(sub) = pid::ITEMS[*index].1 else {
                    return Err(Errno::ENOTDIR);
                };
                let id = pid::parse_id(name).ok_or(Errno::ENOENT)?;
                let node = match sub {
                    Sub::Fd => Node::FdLink(who.clone(), id),
                    Sub::FdInfo => Node::FdInfo(who.clone(), id),
                    Sub::Task => Node::Process(Who {
                        process: who.process.clone(),
                        tid: Some(id),
                    }),
                };
                if !node.is_there() {
                    return Err(Errno::ENOENT);
                }
                Ok(inode(node))
            }
            _ => Err(Errno::ENOTDIR),
        }
    }
    fn read_dir(&self, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut list = Listing {
            next: pos,
            sink,
            full: false,
        };
        list.entry(0, b".", self.node.ino(), dt::DIR);
        list.entry(1, b"..", 1, dt::DIR);
        match &self.node {
            Node::Root => {
                list.fixed(ROOT);
                let mut pids = process::tree::pids();
                pids.sort_unstable();
                for pid in pids {
                    if FIRST_PID + (pid as u64) < list.next {
                        continue;
                    }
                    let Ok(who) = Who::find(pid) else { continue };
                    let ino = Node::Process(who).ino();
                    let name = format!("{pid}");
                    list.entry(FIRST_PID + pid as u64, name.as_bytes(), ino, dt::DIR);
                }
            }
            Node::Fixed(item) => match item.kind {
                Fixed::Dir(items) => list.fixed(items),
                _ => return Err(Errno::ENOTDIR),
            },
            Node::Process(who) => {
                for (i, (name, what, _)) in pid::ITEMS.iter().enumerate() {
                    if shows(who, *what) {
                        let node = Node::Item(who.clone(), i);
                        let kind = dt::from_mode(node.mode());
                        list.entry(2 + i as u64, name.as_bytes(), node.ino(), kind);
                    }
                }
            }
            Node::Item(who, index) => {
                let What::Dir(sub) = pid::ITEMS[*index].1 else {
                    return Err(Errno::ENOTDIR);
                };
                let ids = match sub {
                    Sub::Task => who.process.threads().iter().map(|t| t.tid()).collect(),
                    _ => {
                        super::links::check(&who.process)?;
                        pid::descriptors(who)
                    }
                };
                for id in ids {
                    let (node, kind) = match sub {
                        Sub::Fd => (Node::FdLink(who.clone(), id), dt::LNK),
                        Sub::FdInfo => (Node::FdInfo(who.clone(), id), dt::REG),
                        Sub::Task => (
                            Node::Process(Who {
                                process: who.process.clone(),
                                tid: Some(id),
                            }),
                            dt::DIR,
                        ),
                    };
                    let name = format!("{id}");
                    list.entry(2 + id as u64, name.as_bytes(), node.ino(), kind);
                }
            }
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(list.next)
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        self.node.link_text()
    }
    fn magic_link(&self) -> Option<Result<Path>> {
        let (who, link) = match &self.node {
            Node::FdLink(who, fd) => (who, Link::Fd(*fd)),
            Node::Item(who, index) => match pid::ITEMS[*index].1 {
                What::Link(link) => (who, link),
                _ => return None,
            },
            _ => return None,
        };
        Some(match who.task() {
            Some(task) => link.target(&task),
            None => Err(Errno::ENOENT),
        })
    }
    fn keeps(&self, child: &dyn Inode) -> bool {
        // Processes and descriptors come and go, and a name must not keep one alive.
        let child = child.as_any().downcast_ref::<ProcInode>();
        child.is_some_and(|c| matches!(c.node, Node::Fixed(_)))
    }
    fn footprint(&self) -> usize {
        size_of::<Self>()
    }
    fn caches_misses(&self) -> bool {
        matches!(self.node, Node::Fixed(_))
    }
    fn open(&self, path: &Path, _flags: u32) -> Result<Option<Arc<dyn File>>> {
        let (make, take): (super::text::Make, Option<super::text::Take>) = match &self.node {
            Node::Fixed(item) => match item.kind {
                Fixed::Text(make) => (Box::new(make), None),
                Fixed::Control(make, take, most, _) => {
                    let file = TextFile::new(path.clone(), Box::new(make), Some(Box::new(take)));
                    return Ok(Some(Arc::new(file.taking_whole(most))));
                }
                _ => return Ok(None),
            },
            Node::Item(who, index) => {
                let (name, what, _) = pid::ITEMS[*index];
                if what != What::Text {
                    return Ok(None);
                }
                if matches!(name, "maps" | "environ") {
                    super::links::check(&who.process)?;
                }
                let (reader, writer) = (who.clone(), who.clone());
                (
                    Box::new(move || pid::read(&reader, name)),
                    pid::is_writable(name).then(|| -> super::text::Take {
                        Box::new(move |input: &[u8]| pid::write(&writer, name, input))
                    }),
                )
            }
            Node::FdInfo(who, fd) => {
                let (who, fd) = (who.clone(), *fd);
                (Box::new(move || pid::fdinfo(&who, fd)), None)
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(TextFile::new(path.clone(), make, take))))
    }
}

/// Whether a directory has the entry: threads have no threads of their own.
fn shows(who: &Who, what: What) -> bool {
    who.tid.is_none() || what != What::Dir(Sub::Task)
}

/// A listing under way.
struct Listing<'a> {
    next: u64,
    sink: &'a mut dyn DirSink,
    full: bool,
}

impl Listing<'_> {
    /// The entry at position `at`, unless it was listed before or there is no room.
    fn entry(&mut self, at: u64, name: &[u8], ino: u64, kind: u8) {
        if self.full || at < self.next {
            return;
        }
        if self.sink.entry(name, ino, kind, at + 1) {
            self.next = at + 1;
        } else {
            self.full = true;
        }
    }
    fn fixed(&mut self, items: &'static [Item]) {
        for (i, item) in items.iter().enumerate() {
            let node = Node::Fixed(item);
            let kind = dt::from_mode(node.mode());
            self.entry(2 + i as u64, item.name.as_bytes(), node.ino(), kind);
        }
    }
}
