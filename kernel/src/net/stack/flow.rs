//! What the stack keeps of one connection: the smoltcp socket in a set of its own, and what
//! sockets, waiters and `poll` look at without the stack's lock.

use alloc::sync::Arc;
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst,
};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::Netif;
use crate::error::Errno;
use crate::net::fifo::Fifo;
use crate::sched::WaitQueue;
use crate::sync::{Rank, SpinLock};

/// Names a flow within its interface; never reused.
pub type FlowId = u64;

/// The socket behind a connection, a listener or a receiver, as /proc/net tells of it.
#[derive(Default)]
pub struct Holder {
    inode: AtomicU64,
    uid: AtomicU32,
}

impl Holder {
    /// A socket with this inode, made by this user, has it from now on.
    pub fn set(&self, inode: u64, uid: u32) {
        self.inode.store(inode, SeqCst);
        self.uid.store(uid, SeqCst);
    }
    /// Inode and user; 0 and 0 while no socket has it.
    pub fn get(&self) -> (u64, u32) {
        (self.inode.load(SeqCst), self.uid.load(SeqCst))
    }
}

/// Both ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// This machine's end.
    pub local: IpEndpoint,
    /// The other end.
    pub remote: IpEndpoint,
}

/// The number of a state (net/tcp_states.h).
pub fn state_number(state: tcp::State) -> u8 {
    match state {
        tcp::State::Established => 1,
        tcp::State::SynSent => 2,
        tcp::State::SynReceived => 3,
        tcp::State::FinWait1 => 4,
        tcp::State::FinWait2 => 5,
        tcp::State::TimeWait => 6,
        tcp::State::Closed => 7,
        tcp::State::CloseWait => 8,
        tcp::State::LastAck => 9,
        tcp::State::Listen => 10,
        tcp::State::Closing => 11,
    }
}

/// Bits of [`Status`].
pub mod bit {
    /// The handshake was completed.
    pub const CONNECTED: u32 = 1;
    /// The peer ends its stream behind what can be read now.
    pub const READ_END: u32 = 2;
    /// Nothing more can be written.
    pub const WRITE_END: u32 = 4;
    /// The connection is over.
    pub const CLOSED: u32 = 8;
    /// The peer sent its end, maybe behind unread bytes.
    pub const PEER_END: u32 = 16;
    /// The peer acknowledged all bytes and the end, or will not any more.
    pub const DELIVERED: u32 = 32;
}

/// The state of a connection as of the stack's last look; changes under the interface's lock.
pub struct Status {
    /// Bytes to read.
    pub readable: AtomicUsize,
    /// Bytes that can be written.
    pub room: AtomicUsize,
    /// Size of the send buffer in bytes.
    pub capacity: AtomicUsize,
    /// Bits of [`bit`].
    pub bits: AtomicU32,
    /// Why it broke, until somebody is told (SO_ERROR); 0 when it did not.
    error: AtomicU16,
    /// How long data may stay unacknowledged (TCP_USER_TIMEOUT); 0 for the default.
    user_timeout_ms: AtomicU32,
    /// Type of service of its packets (IP_TOS, IPV6_TCLASS).
    pub traffic_class: AtomicU8,
    /// Whose it is.
    pub holder: Holder,
    /// Woken when there is more to read, or the end.
    pub readers: Arc<WaitQueue>,
    /// Woken when there is room, at the connection's start and end.
    pub writers: Arc<WaitQueue>,
}

impl Status {
    /// A connection that is not there yet, and who waits for it to read and to write.
    pub fn new(readers: Arc<WaitQueue>, writers: Arc<WaitQueue>) -> Arc<Status> {
        Arc::new(Status {
            readable: AtomicUsize::new(0),
            room: AtomicUsize::new(0),
            capacity: AtomicUsize::new(0),
            bits: AtomicU32::new(0),
            error: AtomicU16::new(0),
            user_timeout_ms: AtomicU32::new(0),
            traffic_class: AtomicU8::new(0),
            holder: Holder::default(),
            readers,
            writers,
        })
    }
    /// Whether one of `bits` is set.
    pub fn has(&self, bits: u32) -> bool {
        self.bits.load(SeqCst) & bits != 0
    }
    /// Takes the pending error: it is reported once.
    pub fn take_error(&self) -> Option<Errno> {
        Errno::from_code(self.error.swap(0, SeqCst))
    }
    /// Whether an error waits to be reported.
    pub fn has_error(&self) -> bool {
        self.error.load(SeqCst) != 0
    }
    /// Leaves an error to be reported, unless there is one.
    pub fn set_error(&self, error: Errno) {
        let _ = self.error.compare_exchange(0, error.code(), SeqCst, SeqCst);
    }
    /// How long data may stay unacknowledged in ms; 0 for the default.
    pub fn user_timeout_ms(&self) -> u32 {
        self.user_timeout_ms.load(SeqCst)
    }
    /// Sets [`Status::user_timeout_ms`].
    pub fn set_user_timeout_ms(&self, ms: u32) {
        self.user_timeout_ms.store(ms, SeqCst);
    }
    /// The connection is over because of `why`.
    pub fn break_off(&self, why: Errno) {
        self.set_error(why);
        let over = bit::CLOSED | bit::WRITE_END | bit::READ_END | bit::PEER_END | bit::DELIVERED;
        self.bits.fetch_or(over, SeqCst);
        self.readers.wake_all();
        self.writers.wake_all();
    }
    /// Takes over the socket's state; wakes who waits for what changed. `why` is the error
    /// that a connection which breaks now broke of.
    pub fn refresh(&self, socket: &tcp::Socket<'_>, why: Errno) {
        use tcp::State::*;
        let state = socket.state();
        let readable = socket.recv_queue();
        let room = if socket.may_send() {
            socket.send_room()
        } else {
            0
        };
        self.capacity.store(socket.send_capacity(), SeqCst);
        let before = self.bits.load(SeqCst);
        let mut bits = before;
        if matches!(
            state,
            Established | CloseWait | FinWait1 | FinWait2 | LastAck | Closing | TimeWait
        ) {
            bits |= bit::CONNECTED;
        }
        let peer_ended = matches!(state, CloseWait | LastAck | Closing | TimeWait | Closed);
        if peer_ended {
            bits |= bit::PEER_END;
            if readable == 0 {
                bits |= bit::READ_END;
            }
        }
        if matches!(state, FinWait2 | TimeWait | Closed) {
            bits |= bit::DELIVERED;
        }
        if state == Closed {
            bits |= bit::CLOSED | bit::WRITE_END;
            // Orderly when both ends had been sent.
            if before & bit::CLOSED == 0 {
                let both_ended = bit::PEER_END | bit::WRITE_END;
                if before & bit::CONNECTED == 0 {
                    let refused = why == Errno::ECONNRESET;
                    self.set_error(if refused { Errno::ECONNREFUSED } else { why });
                } else if before & both_ended != both_ended {
                    self.set_error(why);
                }
            }
        } else if bits & bit::CONNECTED != 0 && !socket.may_send() {
            bits |= bit::WRITE_END;
        }
        let more = readable > self.readable.swap(readable, SeqCst);
        let roomier = room > self.room.swap(room, SeqCst);
        self.bits.store(bits, SeqCst);
        let changed = bits != before;
        if more || changed {
            self.readers.wake_all();
        }
        if roomier || changed {
            self.writers.wake_all();
        }
    }
}

/// Who has a TCP flow.
pub enum Stage {
    /// A socket.
    Owned,
    /// Nobody yet: the handshake goes on for this listener.
    Embryo(Arc<Listener>),
    /// It waits in a listener's queue.
    Queued,
    /// Its socket was closed: it ends by itself.
    Orphan,
}

/// A TCP connection: a smoltcp socket, alone in its set, so that a packet costs no walk over
/// other sockets.
pub struct Flow {
    /// The set.
    pub set: SocketSet<'static>,
    /// The socket in it.
    pub handle: SocketHandle,
    /// Its ends.
    pub key: FlowKey,
    /// What others see of it.
    pub status: Arc<Status>,
    /// Who has it.
    pub stage: Stage,
    /// When it wants to be looked at (monotonic ns), as in the shard's list.
    pub deadline: Option<u64>,
    /// It only waits for late segments, and is counted among those.
    pub lingers: bool,
    /// When its listener takes it though no bytes came.
    pub deferred_ns: Option<u64>,
}

/// A connection that waits to be accepted.
pub struct Accepted {
    /// Its interface.
    pub netif: Arc<Netif>,
    /// Its name there.
    pub id: FlowId,
    /// Its ends.
    pub key: FlowKey,
    /// Its state.
    pub status: Arc<Status>,
}

/// Handshakes that go on for one listener at most (net.ipv4.tcp_max_syn_backlog).
const MAX_EMBRYOS: usize = 1024;

/// A listening socket.
pub struct Listener {
    /// The address it listens on; `None` for all.
    pub addr: Option<IpAddress>,
    /// Its port.
    pub port: u16,
    /// It takes IPv4 connections.
    pub v4: bool,
    /// It takes IPv6 connections.
    pub v6: bool,
    /// Most connections that wait.
    pub backlog: AtomicUsize,
    /// Handshakes that go on.
    pub embryos: AtomicUsize,
    /// Receive and send buffer of its connections, in bytes.
    pub buffers: (usize, usize),
    /// Longest segment of its connections (TCP_MAXSEG).
    pub max_segment: Option<u16>,
    /// Connections are queued once bytes came, or after so long (TCP_DEFER_ACCEPT).
    pub defer_seconds: AtomicU32,
    /// Type of service of its connections, over IPv4 and over IPv6.
    pub traffic_classes: (AtomicU8, AtomicU8),
    /// Whose it is.
    pub holder: Holder,
    queue: SpinLock<Fifo<Accepted>>,
    nr_queued: AtomicUsize,
    closed: AtomicBool,
    /// Woken when a connection waits.
    pub readers: Arc<WaitQueue>,
}

impl Listener {
    /// A listener; `table::listen` makes it known.
    pub fn new(
        addr: Option<IpAddress>,
        port: u16,
        (v4, v6): (bool, bool),
        backlog: usize,
        buffers: (usize, usize),
        max_segment: Option<u16>,
        readers: Arc<WaitQueue>,
    ) -> Arc<Listener> {
        Arc::new(Listener {
            addr,
            port,
            v4,
            v6,
            backlog: AtomicUsize::new(backlog),
            embryos: AtomicUsize::new(0),
            buffers,
            max_segment,
            defer_seconds: AtomicU32::new(0),
            traffic_classes: (AtomicU8::new(0), AtomicU8::new(0)),
            queue: SpinLock::new(Rank::Object, Fifo::new()),
            nr_queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            holder: Holder::default(),
            readers,
        })
    }
    /// Whether it listens on an address.
    pub fn covers(&self, addr: IpAddress) -> bool {
        let family = match addr {
            IpAddress::Ipv4(_) => self.v4,
            IpAddress::Ipv6(_) => self.v6,
        };
        family && self.addr.is_none_or(|own| own == addr)
    }
    /// Type of service of its connections to `addr`.
    pub fn traffic_class(&self, addr: IpAddress) -> u8 {
        match addr {
            IpAddress::Ipv4(_) => self.traffic_classes.0.load(SeqCst),
            IpAddress::Ipv6(_) => self.traffic_classes.1.load(SeqCst),
        }
    }
    /// Connections that wait.
    pub fn nr_queued(&self) -> usize {
        self.nr_queued.load(SeqCst)
    }
    /// Whether one more connection may wait.
    pub fn queue_has_room(&self) -> bool {
        self.nr_queued() <= self.backlog.load(SeqCst)
    }
    /// Whether one more handshake may begin.
    pub fn embryos_have_room(&self) -> bool {
        self.embryos.load(SeqCst) < self.backlog.load(SeqCst).clamp(64, MAX_EMBRYOS)
    }
    /// Queues an established connection; gives it back when nobody listens any more.
    pub fn push(&self, accepted: Accepted) -> core::result::Result<(), Accepted> {
        let mut queue = self.queue.lock();
        if self.closed.load(SeqCst) {
            return Err(accepted);
        }
        queue.push_back(accepted)?;
        self.nr_queued.store(queue.len(), SeqCst);
        drop(queue);
        self.readers.wake_all();
        Ok(())
    }
    /// Takes the oldest connection.
    pub fn pop(&self) -> Option<Accepted> {
        let mut queue = self.queue.lock();
        let accepted = queue.pop_front();
        self.nr_queued.store(queue.len(), SeqCst);
        accepted
    }
    /// Listens no more; what waited is to be reset by the caller.
    pub fn close(&self) -> Fifo<Accepted> {
        let mut queue = self.queue.lock();
        self.closed.store(true, SeqCst);
        self.nr_queued.store(0, SeqCst);
        let waiting = core::mem::take(&mut *queue);
        drop(queue);
        self.readers.wake_all();
        waiting
    }
    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }
}

/// Most bytes that the buffers of a new connection take: as asked, or by how many connections
/// there are already. They occupy what is in them.
pub fn buffers(asked: (usize, usize), nr_flows: usize) -> (usize, usize) {
    let default = match nr_flows {
        0..64 => 512 * 1024,
        64..512 => 256 * 1024,
        512..4096 => 64 * 1024,
        _ => 32 * 1024,
    };
    let size = |asked: usize| if asked == 0 { default } else { asked };
    (size(asked.0), size(asked.1))
}
