//! Sockets that are on their way in each other's inboxes, or in their own, and that nobody can
//! receive any more (man 7 unix, SCM_RIGHTS): finds and empties them.
//!
//! A socket in flight is out of reach when all references to its file lie in inboxes, and every
//! socket that has one of those is out of reach too. Nothing is stopped for the search. A file
//! that has no reference outside of inboxes gets one only when somebody takes it out of one, or
//! looks at it there; each such [`moved`] is counted, and the search is void when the count
//! changed. References that it misses because a message came in meanwhile make a socket look
//! reachable, never the other way round.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use super::UnixSocket;
use super::known;
use crate::file::OpenFile;
use crate::time::{NS_PER_SEC, now_ns};

/// Files of sockets in inboxes, or about to be.
static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);
/// How often one was taken out, or looked at.
static MOVES: AtomicU64 = AtomicU64::new(0);
/// How many in flight are worth a search: twice what the last one left, so that searches cost
/// as much as sending does.
static WORTH: AtomicUsize = AtomicUsize::new(LEAST);
const LEAST: usize = 16;
/// One search at a time: what it closes may send for another.
static SEARCHING: AtomicBool = AtomicBool::new(false);
/// When the last one ended, in ns.
static LAST: AtomicU64 = AtomicU64::new(0);
/// Void searches after which the next occasion is waited for.
const TRIES: usize = 4;

/// The unix socket behind `file`.
fn socket_of(file: &OpenFile) -> Option<&UnixSocket> {
    file.file.as_any().downcast_ref()
}

/// How many of `files` are unix sockets.
pub(super) fn count(files: &[Arc<OpenFile>]) -> usize {
    files.iter().filter(|f| socket_of(f).is_some()).count()
}

/// So many sockets were sent on their way. Where nothing is locked.
pub(super) fn launched(sockets: usize) {
    if sockets > 0 && IN_FLIGHT.fetch_add(sockets, SeqCst) + sockets > WORTH.load(SeqCst) {
        collect();
    }
}

/// So many are not on their way any more.
pub(super) fn landed(sockets: usize) {
    IN_FLIGHT.fetch_sub(sockets, SeqCst);
}

/// So many, which are in an inbox, are about to be taken out or looked at; under its lock.
pub(super) fn moved(sockets: usize) {
    if sockets > 0 {
        MOVES.fetch_add(1, SeqCst);
    }
}

/// For occasions on which what is out of reach may be in the way, like a new socket that is to
/// have the name of an old one; at most once a second. Where nothing is locked.
pub(super) fn tidy() {
    if IN_FLIGHT.load(SeqCst) > 0 && now_ns().saturating_sub(LAST.load(SeqCst)) >= NS_PER_SEC {
        collect();
    }
}

/// Empties the inboxes of all sockets that are out of reach. Where nothing is locked.
pub(super) fn collect() {
    if SEARCHING.swap(true, SeqCst) {
        return;
    }
    for _ in 0..TRIES {
        let before = MOVES.load(SeqCst);
        // Without memory for a search there is none.
        let Some(lost) = search() else { break };
        if MOVES.load(SeqCst) != before {
            continue;
        }
        for socket in lost {
            socket.end.discard();
        }
        break;
    }
    WORTH.store((2 * IN_FLIGHT.load(SeqCst)).max(LEAST), SeqCst);
    LAST.store(now_ns(), SeqCst);
    SEARCHING.store(false, SeqCst);
}

/// What a search knows of a socket.
struct Node {
    socket: Arc<UnixSocket>,
    /// References to its file that lie in inboxes.
    sent: usize,
    /// All references to its file, when it was last seen in one.
    references: usize,
    is_reached: bool,
}

/// The sockets that are out of reach, unless something moves meanwhile. `None`: no memory.
fn search() -> Option<Vec<Arc<UnixSocket>>> {
    let mut nodes = Vec::new();
    known::each(|socket| {
        nodes.try_reserve(1).ok()?;
        nodes.push(Node {
            socket,
            sent: 0,
            references: 0,
            is_reached: false,
        });
        Some(())
    })?;
    // (who has it in its inbox, what it has)
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for holder in 0..nodes.len() {
        let end = nodes[holder].socket.end.clone();
        let mut is_complete = true;
        end.each_sent(&mut |file| {
            let Some(socket) = socket_of(file) else {
                return;
            };
            let ino = socket.inode.ino;
            // One that was made meanwhile is not in the list, and out of the search.
            let Ok(at) = nodes.binary_search_by_key(&ino, |n| n.socket.inode.ino) else {
                return;
            };
            is_complete &= edges.try_reserve(1).is_ok();
            if is_complete {
                edges.push((holder, at));
                nodes[at].sent += 1;
                nodes[at].references = Arc::strong_count(file);
            }
        });
        if !is_complete {
            return None;
        }
    }
    // Edges are in order of their holders.
    let of = |holder: usize| {
        let from = edges.partition_point(|e| e.0 < holder);
        let to = edges.partition_point(|e| e.0 <= holder);
        &edges[from..to]
    };
    let mut reached: Vec<usize> = Vec::new();
    reached.try_reserve_exact(nodes.len()).ok()?;
    for (at, node) in nodes.iter_mut().enumerate() {
        if node.sent == 0 || node.references > node.sent {
            node.is_reached = true;
            reached.push(at);
        }
    }
    while let Some(holder) = reached.pop() {
        for &(_, at) in of(holder) {
            if !nodes[at].is_reached {
                nodes[at].is_reached = true;
                reached.push(at);
            }
        }
    }
    nodes.retain(|node| !node.is_reached);
    let mut lost = Vec::new();
    lost.try_reserve_exact(nodes.len()).ok()?;
    lost.extend(nodes.into_iter().map(|node| node.socket));
    Some(lost)
}
