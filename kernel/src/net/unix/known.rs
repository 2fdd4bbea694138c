//! All unix sockets, for those who list them (/proc/net/unix).

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::endpoint::Link;
use super::{Kind, UnixSocket, address};
use crate::sync::{Rank, SpinLock};

/// Sockets by inode. Nothing is dropped while it is held: the last reference to a socket
/// takes it.
static KNOWN: SpinLock<BTreeMap<u64, Weak<UnixSocket>>> =
    SpinLock::new(Rank::Object, BTreeMap::new());

/// What a socket is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Neither connected nor listening.
    Unconnected,
    /// Connections may come.
    Listening,
    /// A connection that nobody accepted yet.
    Connecting,
    /// It has a peer, or a destination.
    Connected,
}

/// A socket as a list shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its inode; 0 while no file has it.
    pub inode: u64,
    /// Its kind.
    pub kind: Kind,
    /// What it is to others.
    pub stage: Stage,
    /// Who refers to it.
    pub users: usize,
    /// Its name: a path, or a zero byte and an abstract name; empty when it has none.
    pub name: Vec<u8>,
}

/// Adds a socket that was made.
pub(super) fn add(socket: &Arc<UnixSocket>) {
    let weak = Arc::downgrade(socket);
    KNOWN.lock().insert(socket.inode.ino, weak);
}

/// Forgets a socket.
pub(super) fn remove(socket: &UnixSocket) {
    let gone = KNOWN.lock().remove(&socket.inode.ino);
    drop(gone);
}

/// Gives each socket to `see`, in the order of their inodes, as long as it says to go on. `None`:
/// it did not, or there is no memory for the list.
pub(super) fn each(mut see: impl FnMut(Arc<UnixSocket>) -> Option<()>) -> Option<()> {
    let mut all: Vec<Weak<UnixSocket>> = Vec::new();
    loop {
        let count = KNOWN.lock().len();
        all.try_reserve_exact(count).ok()?;
        let known = KNOWN.lock();
        // More may have come in between.
        if known.len() <= all.capacity() {
            all.extend(known.values().cloned());
            break;
        }
    }
    let mut sockets = all.iter().filter_map(Weak::upgrade);
    sockets.try_for_each(|s| see(s).ok_or(())).ok()
}

/// All sockets there are, in the order in which they were made.
pub fn rows() -> Vec<Row> {
    let all: Vec<Weak<UnixSocket>> = KNOWN.lock().values().cloned().collect();
    let mut rows = Vec::new();
    for socket in all.iter().filter_map(Weak::upgrade) {
        let end = &socket.end;
        let name = end.name();
        let name = name.map_or_else(Vec::new, |n| address::text(&n.bytes).to_vec());
        let (stage, nr_waiting) = match &*end.link.lock() {
            Link::Idle => (Stage::Unconnected, 0),
            Link::Peer(_) => (Stage::Connected, 0),
            Link::Listening { pending, .. } => (Stage::Listening, pending.len()),
        };
        // Those that wait have their listener's name.
        rows.extend((0..nr_waiting).map(|_| Row {
            inode: 0,
            kind: end.kind,
            stage: Stage::Connecting,
            users: 2,
            name: name.clone(),
        }));
        rows.push(Row {
            inode: socket.inode.ino,
            kind: end.kind,
            stage,
            users: Arc::strong_count(end),
            name,
        });
    }
    rows
}
