//! A socket as others reach it: by its name or as the peer of a connection.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst,
};

use super::Kind;
use super::address::{self, Name, Registration};
use super::inbox::{Inbox, Sender};
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};

/// Bytes of messages that a sender may have in an inbox (Linux's default SO_SNDBUF).
pub(super) const SEND_BYTES: usize = 212_992;

/// What an endpoint is to others.
pub(super) enum Link {
    Idle,
    /// A connection, or a datagram socket's destination.
    Peer(Arc<Endpoint>),
    Listening {
        backlog: usize,
        /// Ends of connections that nobody accepted yet.
        pending: VecDeque<Arc<Endpoint>>,
    },
}

// Bits of `Endpoint::shut`.
pub(super) const SHUT_READ: u8 = 1;
pub(super) const SHUT_WRITE: u8 = 2;
pub(super) const CLOSED: u8 = 4;

/// A socket as others reach it.
pub struct Endpoint {
    pub(super) kind: Kind,
    pub(super) inbox: Inbox,
    pub(super) link: SpinLock<Link>,
    pub(super) name: SpinLock<Option<Arc<Name>>>,
    /// What makes it found by its name. Ends of accepted connections share the listener's
    /// name, but not this.
    pub(super) registration: SpinLock<Option<Registration>>,
    pub(super) setup: Mutex<()>,
    pub(super) shut: AtomicU8,
    /// Reported once (SO_ERROR): an errno or 0.
    pub(super) error: AtomicI32,
    /// Who made the peer: (pid, uid, gid); pid 0 for none.
    pub(super) peer_credentials: SpinLock<Option<Sender>>,
    pub(super) pass_credentials: AtomicBool,
    pub(super) reuse: AtomicBool,
    pub(super) send_limit: AtomicUsize,
    pub(super) receive_limit: AtomicUsize,
    /// SO_RCVTIMEO, SO_SNDTIMEO in ns; 0: none.
    pub(super) receive_timeout: AtomicU64,
    pub(super) send_timeout: AtomicU64,
    /// Messages or connections came, or none will any more.
    pub(super) readable: Arc<WaitQueue>,
    /// Room came in this inbox, or in a listener's backlog.
    pub(super) room: Arc<WaitQueue>,
    /// Room came in the peer's inbox.
    pub(super) sendable: Arc<WaitQueue>,
}

impl Endpoint {
    pub(super) fn new(kind: Kind) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            kind,
            inbox: Inbox::default(),
            link: SpinLock::new(Rank::Object, Link::Idle),
            name: SpinLock::new(Rank::Object, None),
            registration: SpinLock::new(Rank::Object, None),
            setup: Mutex::new(()),
            shut: AtomicU8::new(0),
            error: AtomicI32::new(0),
            peer_credentials: SpinLock::new(Rank::Object, None),
            pass_credentials: AtomicBool::new(false),
            reuse: AtomicBool::new(false),
            send_limit: AtomicUsize::new(SEND_BYTES),
            receive_limit: AtomicUsize::new(SEND_BYTES),
            receive_timeout: AtomicU64::new(0),
            send_timeout: AtomicU64::new(0),
            readable: Arc::new(WaitQueue::new()),
            room: Arc::new(WaitQueue::new()),
            sendable: Arc::new(WaitQueue::new()),
        })
    }
    /// Whether its file is gone.
    pub fn is_closed(&self) -> bool {
        self.is_shut(CLOSED)
    }
    pub(super) fn is_shut(&self, bits: u8) -> bool {
        self.shut.load(SeqCst) & bits != 0
    }
    pub(super) fn shut(&self, bits: u8) {
        self.shut.fetch_or(bits, SeqCst);
        self.wake_all();
    }
    pub(super) fn wake_all(&self) {
        self.readable.wake_all();
        self.room.wake_all();
        self.sendable.wake_all();
    }
    pub(super) fn peer(&self) -> Option<Arc<Endpoint>> {
        match &*self.link.lock() {
            Link::Peer(peer) => Some(peer.clone()),
            _ => None,
        }
    }
    pub(super) fn is_listening(&self) -> bool {
        matches!(&*self.link.lock(), Link::Listening { .. })
    }
    pub(super) fn has_pending(&self) -> bool {
        matches!(&*self.link.lock(), Link::Listening { pending, .. } if !pending.is_empty())
    }
    /// Whether connections wait up to the backlog; `None`: it does not listen.
    pub(super) fn is_full(&self) -> Option<bool> {
        match &*self.link.lock() {
            // As Linux: one more than was asked for.
            Link::Listening { backlog, pending } => Some(pending.len() > *backlog),
            _ => None,
        }
    }
    pub(super) fn set_link(&self, link: Link) {
        let old = core::mem::replace(&mut *self.link.lock(), link);
        drop(old);
    }
    pub(super) fn name(&self) -> Option<Arc<Name>> {
        self.name.lock().clone()
    }
    pub(super) fn address(&self) -> Vec<u8> {
        self.name()
            .map_or_else(address::unnamed, |n| n.bytes.clone())
    }
    pub(super) fn set_name(&self, (name, registration): (Name, Registration)) {
        let old = self.registration.lock().replace(registration);
        drop(old);
        let old = self.name.lock().replace(Arc::new(name));
        drop(old);
    }
    pub(super) fn take_error(&self) -> Result<()> {
        match self.error.swap(0, SeqCst) {
            0 => Ok(()),
            _ => Err(Errno::ECONNRESET),
        }
    }
    pub(super) fn reset(&self) {
        self.error
            .store(i32::from(Errno::ECONNRESET.code()), SeqCst);
    }

    /// Gives each file on its way in its inbox, and in those of connections that nobody accepted
    /// yet, to `see`.
    pub(super) fn each_sent(&self, see: &mut dyn FnMut(&Arc<OpenFile>)) {
        self.inbox.each_sent(see);
        for end in self.pending() {
            end.inbox.each_sent(see);
        }
    }
    /// Throws away what was sent to it and nobody can read: messages, and connections.
    pub(super) fn discard(&self) {
        self.inbox.clear();
        for end in self.pending() {
            end.inbox.clear();
        }
    }
    /// Ends of connections that nobody accepted yet.
    fn pending(&self) -> Vec<Arc<Endpoint>> {
        match &*self.link.lock() {
            Link::Listening { pending, .. } => pending.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Its file is gone, or nobody will ever accept it.
    pub(super) fn close(&self) {
        self.shut(SHUT_READ | SHUT_WRITE | CLOSED);
        let had_unread = self.inbox.clear();
        let link = core::mem::replace(&mut *self.link.lock(), Link::Idle);
        match link {
            Link::Idle => {}
            // A datagram may come from elsewhere: only connections end with their peer.
            Link::Peer(_) if self.kind == Kind::Datagram => {}
            Link::Peer(peer) => {
                if had_unread {
                    peer.reset();
                }
                peer.shut(SHUT_READ | SHUT_WRITE);
            }
            Link::Listening { pending, .. } => {
                for end in pending {
                    if let Some(client) = end.peer() {
                        client.reset();
                    }
                    end.close();
                }
            }
        }
        let registration = self.registration.lock().take();
        drop(registration);
    }
}
