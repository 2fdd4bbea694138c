//! Pseudo-terminals (man 7 pty, man 4 ptmx): a [`Tty`] whose line ends in a file, the master.
//!
//! What programs write to the terminal waits in `Line::output` for the master's reader;
//! what the master writes waits in `Line::input` until the line discipline has room. Both
//! directions hold their writers back. The terminal exists as long as its master is open;
//! its number is free again once nobody holds either end.
//!
//! Not responsible for names: `filesystems::devpts` shows the terminals as /dev/pts/N.
//!
//! # Locks
//!
//! `Pty::feeding` (sleeps; keeps input in order) > `Tty::state`, `Pty::line` (spin, never
//! nested). The registry's lock is taken alone.

mod line;
pub mod master;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};

use super::ldisc::Settings;
use super::{Tty, TtyDriver, makedev};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::File;
use crate::process;
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::vfs::{Dev, Perm, SetAttr, Timestamp};
use line::{INPUT_BYTES, Line, OUTPUT_BYTES};
use master::Master;

/// Major number of the terminals' ends (Linux's devices.txt: 136 to 143 are pts).
pub const SLAVE_MAJOR: u32 = 136;
/// /dev/ptmx.
pub const PTMX: Dev = Dev::new(5, 2);
/// Numbers there are: as many as a minor number has.
const MAX_NUMBERS: u32 = 1 << 20;
/// Bytes handed to the line discipline at a time.
const FEED_BYTES: usize = 256;

/// The numbers of terminals: the lowest free one first.
struct Numbers {
    next: u32,
    free: BTreeSet<u32>,
}

impl Numbers {
    const fn new() -> Self {
        Self {
            next: 0,
            free: BTreeSet::new(),
        }
    }
    fn take(&mut self) -> Option<u32> {
        if let Some(n) = self.free.pop_first() {
            return Some(n);
        }
        let n = self.next;
        (n < MAX_NUMBERS).then(|| self.next += 1)?;
        Some(n)
    }
    fn give_back(&mut self, n: u32) {
        self.free.insert(n);
        while self.next > 0 && self.free.remove(&(self.next - 1)) {
            self.next -= 1;
        }
    }
}

/// Mode and group that new terminals' nodes get: options of the devpts mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// Permission bits.
    pub mode: u32,
    /// The group; `None`: that of whoever opens the master.
    pub gid: Option<u32>,
}

struct Registry {
    numbers: Numbers,
    /// Terminals whose master is open.
    live: BTreeMap<u32, (Arc<Pty>, Arc<Tty>)>,
    options: NodeOptions,
}

static REGISTRY: SpinLock<Registry> = SpinLock::new(
    Rank::Vfs,
    Registry {
        numbers: Numbers::new(),
        live: BTreeMap::new(),
        options: NodeOptions {
            mode: 0o600,
            gid: None,
        },
    },
);

/// Sets what nodes of later terminals look like.
pub fn set_node_options(options: NodeOptions) {
    REGISTRY.lock().options = options;
}

/// The terminal with that number, while its master is open.
pub fn find(number: u32) -> Option<Arc<Pty>> {
    REGISTRY.lock().live.get(&number).map(|(p, _)| p.clone())
}

/// The lowest number from `from` on whose master is open.
pub fn next_number(from: u32) -> Option<u32> {
    let registry = REGISTRY.lock();
    registry.live.range(from..).next().map(|(&n, _)| n)
}

/// Who owns a terminal's node.
struct Node {
    perm: Perm,
    atime: Timestamp,
    mtime: Timestamp,
    ctime: Timestamp,
}

/// A pseudo-terminal.
pub struct Pty {
    number: u32,
    line: SpinLock<Line>,
    /// One hand at a time moves input to the line discipline.
    feeding: Mutex<()>,
    /// Readers and writers of the master.
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
    node: SpinLock<Node>,
}

impl Pty {
    /// Its device number.
    pub fn dev(&self) -> Dev {
        Dev::new(SLAVE_MAJOR, self.number)
    }
    /// Whether its master is open.
    pub fn is_live(&self) -> bool {
        !self.line.lock().master_gone
    }
    /// Owner, group and mode of its node.
    pub fn perm(&self) -> Perm {
        self.node.lock().perm
    }
    /// atime, mtime, ctime of its node.
    pub fn times(&self) -> [Timestamp; 3] {
        let node = self.node.lock();
        [node.atime, node.mtime, node.ctime]
    }
    /// Changes its node's attributes; a length means nothing.
    pub fn set_attr(&self, changes: &SetAttr) {
        let mut node = self.node.lock();
        if let Some(mode) = changes.mode {
            node.perm.mode = abi::S_IFCHR | (mode & 0o7777);
        }
        node.perm.uid = changes.uid.unwrap_or(node.perm.uid);
        node.perm.gid = changes.gid.unwrap_or(node.perm.gid);
        node.atime = changes.atime.unwrap_or(node.atime);
        node.mtime = changes.mtime.unwrap_or(node.mtime);
        node.ctime = changes.ctime.unwrap_or(node.ctime);
    }

    /// Hands input to the line discipline while it has room.
    fn feed(&self, tty: &Tty) {
        let mut piece = [0; FEED_BYTES];
        let _in_order = self.feeding.lock();
        loop {
            let room = tty.input_room().min(FEED_BYTES);
            let (n, has_room) = {
                let mut line = self.line.lock();
                let n = room.min(line.input.len());
                let taken = line.input.drain(..n);
                piece.iter_mut().zip(taken).for_each(|(to, b)| *to = b);
                (n, line.input.len() < INPUT_BYTES)
            };
            if n == 0 {
                return;
            }
            tty.receive(&piece[..n]);
            if has_room {
                self.writable.wake_all();
            }
        }
    }

    fn input_has_room(&self) -> bool {
        self.line.lock().input.len() < INPUT_BYTES
    }
}

impl TtyDriver for Pty {
    fn write(&self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let n = self.line.lock().put_output(bytes);
        self.readable.wake_all();
        n
    }
    fn room(&self) -> usize {
        OUTPUT_BYTES.saturating_sub(self.line.lock().output.len())
    }
    fn nr_pending(&self) -> usize {
        // Once the master has it, output is on the line.
        0
    }
    fn flush_output(&self) {
        let mut line = self.line.lock();
        line.output.clear();
        line.tell(abi::TIOCPKT_FLUSHWRITE);
        drop(line);
        self.readable.wake_all();
    }
    fn set_stopped(&self, stopped: bool) {
        let changed = {
            let mut line = self.line.lock();
            let changed = line.stopped != stopped;
            line.stopped = stopped;
            if changed {
                let (event, opposite) = match stopped {
                    true => (abi::TIOCPKT_STOP, abi::TIOCPKT_START),
                    false => (abi::TIOCPKT_START, abi::TIOCPKT_STOP),
                };
                line.events &= !(opposite as u8);
                line.tell(event);
            }
            changed
        };
        if changed {
            self.readable.wake_all();
        }
    }
    fn configure(&self, settings: &Settings) {
        let stop = settings.cc[abi::VSTOP as usize] == 0x13;
        let start = settings.cc[abi::VSTART as usize] == 0x11;
        let does_stop = settings.iflag & abi::IXON != 0 && stop && start;
        let mut line = self.line.lock();
        if line.does_stop != does_stop {
            line.does_stop = does_stop;
            let (event, opposite) = match does_stop {
                true => (abi::TIOCPKT_DOSTOP, abi::TIOCPKT_NOSTOP),
                false => (abi::TIOCPKT_NOSTOP, abi::TIOCPKT_DOSTOP),
            };
            line.events &= !(opposite as u8);
            line.tell(event);
            drop(line);
            self.readable.wake_all();
        }
    }
    fn open(&self) -> Result<()> {
        let mut line = self.line.lock();
        if line.locked || line.master_gone {
            return Err(Errno::EIO);
        }
        line.nr_open += 1;
        line.was_open = true;
        Ok(())
    }
    fn close(&self) {
        let closed = {
            let mut line = self.line.lock();
            line.nr_open -= 1;
            line.nr_open == 0
        };
        if closed {
            self.readable.wake_all();
            self.writable.wake_all();
        }
    }
    fn input_taken(&self, tty: &Tty) {
        if !self.line.lock().input.is_empty() {
            self.feed(tty);
        }
    }
    fn input_flushed(&self) {
        let mut line = self.line.lock();
        line.input.clear();
        line.tell(abi::TIOCPKT_FLUSHREAD);
        drop(line);
        self.readable.wake_all();
        self.writable.wake_all();
    }
    fn interrupted(&self) {
        // Of what was typed, the discipline dropped its part.
        let mut line = self.line.lock();
        line.output.clear();
        line.tell(abi::TIOCPKT_FLUSHREAD);
        line.tell(abi::TIOCPKT_FLUSHWRITE);
        drop(line);
        self.readable.wake_all();
    }
    fn is_lost(&self) -> bool {
        self.line.lock().master_gone
    }
    fn is_pty(&self) -> bool {
        true
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        REGISTRY.lock().numbers.give_back(self.number);
    }
}

/// Opens a new pseudo-terminal's master (/dev/ptmx). ENOSPC: no number is free.
pub fn open_master() -> Result<Arc<dyn File>> {
    let (uid, gid) = match process::try_current() {
        Some(task) => {
            let cred = task.cred();
            (cred.fsuid, cred.fsgid)
        }
        None => (0, 0),
    };
    let (number, options) = {
        let mut registry = REGISTRY.lock();
        let number = registry.numbers.take().ok_or(Errno::ENOSPC)?;
        (number, registry.options)
    };
    let now = Timestamp::now();
    let pty = Arc::new(Pty {
        number,
        line: SpinLock::new(Rank::Object, Line::new()),
        feeding: Mutex::new(()),
        readable: Arc::new(WaitQueue::new()),
        writable: Arc::new(WaitQueue::new()),
        node: SpinLock::new(
            Rank::Object,
            Node {
                perm: Perm {
                    mode: abi::S_IFCHR | options.mode,
                    uid,
                    gid: options.gid.unwrap_or(gid),
                },
                atime: now,
                mtime: now,
                ctime: now,
            },
        ),
    });
    let name = alloc::format!("pts/{number}");
    let device = makedev(u64::from(SLAVE_MAJOR), u64::from(number));
    let tty = Tty::with_settings(&name, device, pty.clone(), Settings::pseudo());
    let ends = (pty.clone(), tty.clone());
    REGISTRY.lock().live.insert(number, ends);
    Ok(Arc::new(Master { pty, tty }))
}

/// Opens terminal `number`. EIO: it has no master, or is locked still (TIOCSPTLCK).
pub fn open_slave(number: u32, flags: u32) -> Result<Arc<dyn File>> {
    let found = {
        let registry = REGISTRY.lock();
        registry.live.get(&number).map(|(_, tty)| tty.clone())
    };
    found.ok_or(Errno::EIO)?.open(flags)
}

/// A name's hold on a terminal that lets it go when its ends are closed.
#[derive(Clone)]
pub struct Handle(Weak<Pty>);

impl Handle {
    /// Of `pty`.
    pub fn new(pty: &Arc<Pty>) -> Handle {
        Handle(Arc::downgrade(pty))
    }
    /// The terminal, while somebody has it open.
    pub fn get(&self) -> Option<Arc<Pty>> {
        self.0.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let mut numbers = Numbers::new();
        assert_eq!((0..4).map(|_| numbers.take()).last(), Some(Some(3)));
        numbers.give_back(1);
        numbers.give_back(0);
        assert_eq!(numbers.take(), Some(0));
        assert_eq!(numbers.take(), Some(1));
        assert_eq!(numbers.take(), Some(4));
        for n in [0, 2, 4, 1, 3] {
            numbers.give_back(n);
        }
        assert!(numbers.free.is_empty());
        numbers.next = MAX_NUMBERS;
        assert_eq!(numbers.take(), None);
    }
}
