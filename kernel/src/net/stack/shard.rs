//! A part of an interface's TCP connections, with a lock of its own.
//!
//! Flows are spread by a hash of both their ends that is the same from either end: so a
//! connection over the loopback interface lies in one shard with its other end, and its
//! packets go round under one lock. Each shard has a smoltcp `Interface` that speaks bare IP
//! and knows neither addresses nor neighbours: the link does.
//!
//! Packets for a shard that is at work wait in its `inbox`; whoever holds the lock takes them
//! in before and after letting go, so that the card's worker never waits for a system call.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use smoltcp::iface::{Interface, PollResult, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::{IpEndpoint, TcpPacket};

use super::demux::Headers;
use super::flow::{self, Accepted, Flow, FlowId, FlowKey, Listener, Stage, Status, bit};
use super::link::ETHERNET;
use super::port::{Port, count};
use super::{Netif, config, instant, table};
use crate::error::{Errno, Result};
use crate::mm::PAGE_SIZE;
use crate::net::device::{HEADROOM, Packet};
use crate::net::fifo::Fifo;
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::time::{Timer, now_ns};

/// Connections of an interface that are kept for their TIME_WAIT.
const MAX_LINGERING: usize = 4096;
/// Connections of a shard above which idle ones give their buffers back.
const CROWDED: usize = 32;
/// How long a closed connection may take to end.
const ORPHAN_SECONDS: u64 = 60;
/// How long a peer may leave data or a SYN unacknowledged (tcp_retries2, tcp_syn_retries).
const DATA_TIMEOUT_SECONDS: u64 = 924;
pub(super) const CONNECT_TIMEOUT_SECONDS: u64 = 127;
const EMBRYO_SECONDS: u64 = 60;
/// Packets that wait for a shard that is at work.
const MAX_INBOX: usize = 1024;
/// The longest IP packet, and the longest one that a page takes with what is in front of it.
const LONGEST: usize = 65536;
const PAGE_PACKET: usize = PAGE_SIZE - HEADROOM - ETHERNET;
/// Packets of the loopback interface that one system call hands round.
const BUDGET: usize = 1024;

/// A shard of an interface.
pub struct Shard {
    pub(super) state: Mutex<State>,
    /// Flows by their ends; changed under `state`, looked at without.
    pub(super) keys: SpinLock<BTreeMap<FlowKey, FlowId>>,
    inbox: SpinLock<Fifo<(Headers, Packet)>>,
    /// Its timer fired, or its device has room again.
    pub(super) due: AtomicBool,
    /// Flows wait for room in the device.
    blocked: AtomicBool,
    pub(super) timer: Timer,
    index: usize,
}

/// What a shard's lock guards.
pub struct State {
    pub(super) iface: Box<Interface>,
    pub(super) port: Port,
    pub(super) flows: BTreeMap<FlowId, Flow>,
    deadlines: BTreeSet<(u64, FlowId)>,
    /// Flows that had something to send when the device was full.
    pub(super) blocked: Vec<FlowId>,
    /// Handshakes that go on, the oldest first; some may be over.
    embryos: VecDeque<FlowId>,
    next_id: FlowId,
    /// What the timer is armed for.
    armed: Option<u64>,
    /// For packets that concern no socket.
    nobody: SocketSet<'static>,
}

impl Shard {
    pub(super) fn new(index: usize, iface: Box<Interface>, port: Port, timer: Timer) -> Shard {
        Shard {
            state: Mutex::new(State {
                iface,
                port,
                flows: BTreeMap::new(),
                deadlines: BTreeSet::new(),
                blocked: Vec::new(),
                embryos: VecDeque::new(),
                next_id: 1,
                armed: None,
                nobody: SocketSet::new(Vec::new()),
            }),
            keys: SpinLock::new(Rank::Object, BTreeMap::new()),
            inbox: SpinLock::new(Rank::Object, Fifo::new()),
            due: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            timer,
            index,
        }
    }

    /// Whether flows wait for room in the device.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst)
    }

    /// Runs `f` under the shard's lock, then what packets it caused.
    pub(super) fn with<R>(&self, netif: &Arc<Netif>, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let r = f(&mut state);
        self.finish(netif, &mut state);
        drop(state);
        self.serve(netif);
        r
    }

    /// Leaves a packet for the shard. The caller calls [`Shard::serve`] once it left all.
    pub(super) fn post(&self, netif: &Netif, headers: Headers, packet: Packet) {
        let mut inbox = self.inbox.lock();
        let lost = if inbox.len() < MAX_INBOX {
            inbox.push_back((headers, packet)).err()
        } else {
            Some((headers, packet))
        };
        drop(inbox);
        if lost.is_some() {
            count(&netif.counters.rx_dropped, 1);
        }
    }

    /// Takes in what was left, unless somebody is at it, who then does.
    pub(super) fn serve(&self, netif: &Arc<Netif>) {
        loop {
            let due = self.due.load(Ordering::SeqCst);
            if !due && self.inbox.lock().is_empty() {
                return;
            }
            let Some(mut state) = self.state.try_lock() else {
                return;
            };
            // What came is taken in first: after a pause of the machine an acknowledgement and
            // the timer that waited for it are both there.
            self.take_in(netif, &mut state);
            if self.due.swap(false, Ordering::SeqCst) {
                state.expire(netif, self);
            }
            self.finish(netif, &mut state);
        }
    }

    /// Takes packets in that wait; how many more may be.
    fn take_in(&self, netif: &Arc<Netif>, state: &mut State) -> usize {
        let mut left = BUDGET;
        while left > 0 {
            let Some((headers, packet)) = self.inbox.lock().pop_front() else {
                break;
            };
            state.take(netif, self, headers, packet);
            left -= 1;
        }
        left
    }

    /// The end of every piece of work: packets that wait, the device's doorbell, the timer.
    fn finish(&self, netif: &Arc<Netif>, state: &mut State) {
        let mut left = self.take_in(netif, state);
        if netif.is_loopback() {
            while let Some(packet) = state.port.local.pop_front() {
                count(&netif.counters.rx_packets, 1);
                count(&netif.counters.rx_bytes, packet.bytes().len() as u64);
                if !netif.config().is_up {
                    count(&netif.counters.rx_dropped, 1);
                } else if let Some(headers) = super::demux::parse_ip(packet.bytes(), 0) {
                    state.take(netif, self, headers, packet);
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    // Others get the lock.
                    self.due.store(true, Ordering::SeqCst);
                    netif.kick();
                    break;
                }
            }
            if state.port.blocked && state.port.local.is_empty() {
                self.due.store(true, Ordering::SeqCst);
                netif.kick();
            }
        } else {
            netif.device.flush();
        }
        self.blocked.store(state.port.blocked, Ordering::SeqCst);
        let next = state.deadlines.first().map(|d| d.0);
        if next != state.armed {
            state.armed = next;
            // One that is armed for nothing fires in vain.
            if let Some(deadline) = next {
                self.timer.arm(deadline);
            }
        }
    }
}

/// A set with memory for one socket.
fn set_of_one() -> Option<SocketSet<'static>> {
    let mut place = Vec::new();
    place.try_reserve_exact(1).ok()?;
    Some(SocketSet::new(place))
}

impl State {
    /// A TCP segment, or a packet that nobody wanted and smoltcp answers.
    fn take(&mut self, netif: &Arc<Netif>, shard: &Shard, headers: Headers, packet: Packet) {
        if headers.protocol == smoltcp::wire::IpProtocol::Tcp {
            self.segment(netif, shard, headers, packet);
        } else if !netif.is_loopback()
            || !netif.deliver_datagram(&headers, packet.bytes(), packet.checksum_ok)
        {
            self.ingest(packet, None);
        }
    }

    fn segment(&mut self, netif: &Arc<Netif>, shard: &Shard, headers: Headers, packet: Packet) {
        let (at, end) = headers.payload;
        let Some(Ok(tcp)) = packet.bytes().get(at..end).map(TcpPacket::new_checked) else {
            return;
        };
        let key = FlowKey {
            local: IpEndpoint::new(headers.to, tcp.dst_port()),
            remote: IpEndpoint::new(headers.from, tcp.src_port()),
        };
        let opens = tcp.syn() && !tcp.ack() && !tcp.rst();
        let known = shard.keys.lock().get(&key).copied();
        if let Some(id) = known
            && !(opens && self.gives_way(netif, shard, id))
        {
            self.ingest(packet, Some(id));
            self.service(netif, shard, id, Errno::ECONNRESET);
            return;
        }
        if !opens {
            self.ingest(packet, None);
            return;
        }
        let spread = usize::from(key.remote.port);
        let Some(listener) = table::find_listener(key.local, spread) else {
            self.ingest(packet, None);
            return;
        };
        let set = match listener.queue_has_room() && self.make_room(netif, shard, &listener) {
            true => set_of_one(),
            false => None,
        };
        let Some(set) = set.filter(|_| self.embryos.try_reserve(1).is_ok()) else {
            // No room, or no memory. The peer tries again (man 2 listen).
            count(&netif.counters.rx_dropped, 1);
            return;
        };
        let limits = flow::buffers(listener.buffers, netif.nr_flows());
        let mut socket = super::connections::new_tcp(limits);
        if socket.listen(key.local).is_err() {
            return;
        }
        socket.set_max_segment(listener.max_segment);
        socket.set_timeout(Some(Duration::from_secs(EMBRYO_SECONDS)));
        listener.embryos.fetch_add(1, Ordering::SeqCst);
        let status = Status::new(Arc::new(WaitQueue::new()), Arc::new(WaitQueue::new()));
        let class = listener.traffic_class(key.local.addr);
        status.traffic_class.store(class, Ordering::SeqCst);
        let stage = Stage::Embryo(listener);
        let id = self.add(netif, shard, (set, socket), key, stage, status);
        self.embryos.push_back(id);
        self.ingest(packet, Some(id));
        self.service(netif, shard, id, Errno::ECONNRESET);
        // It is still listening when smoltcp did not like the segment.
        if self.tcp(id).map(|s| s.state()) == Some(tcp::State::Listen) {
            self.remove(netif, shard, id);
        }
    }

    /// Whether a flow's handshake goes on.
    pub(super) fn is_opening(&mut self, id: FlowId) -> bool {
        self.tcp(id)
            .is_some_and(|s| s.state() == tcp::State::SynSent)
    }

    pub(super) fn tcp(&mut self, id: FlowId) -> Option<&mut tcp::Socket<'static>> {
        let flow = self.flows.get_mut(&id)?;
        Some(flow.set.get_mut::<tcp::Socket>(flow.handle))
    }

    /// Ends a connection that only waits for late segments, for a new one between the same
    /// ends (RFC 1122, 4.2.2.13); whether it did.
    fn gives_way(&mut self, netif: &Netif, shard: &Shard, id: FlowId) -> bool {
        let gives = self.flows.get(&id).is_some_and(|flow| {
            let socket = flow.set.get::<tcp::Socket>(flow.handle);
            matches!(flow.stage, Stage::Orphan) && socket.state() == tcp::State::TimeWait
        });
        if gives {
            self.remove(netif, shard, id);
        }
        gives
    }

    /// Room for one more handshake of a listener: the oldest one that was not completed gives
    /// way, so that a flood of SYNs cannot keep others out for long.
    fn make_room(&mut self, netif: &Netif, shard: &Shard, listener: &Arc<Listener>) -> bool {
        let is_embryo = |flows: &BTreeMap<FlowId, Flow>, id: &FlowId| {
            flows
                .get(id)
                .is_some_and(|f| matches!(f.stage, Stage::Embryo(_)))
        };
        while self
            .embryos
            .front()
            .is_some_and(|id| !is_embryo(&self.flows, id))
        {
            self.embryos.pop_front();
        }
        // Those that are over go when their memory is wanted.
        if self.embryos.len() > 8192 || self.embryos.try_reserve(1).is_err() {
            let flows = &self.flows;
            self.embryos.retain(|id| is_embryo(flows, id));
        }
        if listener.embryos_have_room() {
            return true;
        }
        let flows = &self.flows;
        let oldest = self.embryos.iter().position(|id| {
            flows
                .get(id)
                .is_some_and(|f| matches!(&f.stage, Stage::Embryo(l) if Arc::ptr_eq(l, listener)))
        });
        match oldest.and_then(|at| self.embryos.remove(at)) {
            Some(id) => {
                self.remove(netif, shard, id);
                true
            }
            None => false,
        }
    }

    pub(super) fn add(
        &mut self,
        netif: &Netif,
        shard: &Shard,
        (mut set, socket): (SocketSet<'static>, tcp::Socket<'static>),
        key: FlowKey,
        stage: Stage,
        status: Arc<Status>,
    ) -> FlowId {
        let handle = set.add(socket);
        let id = self.next_id * netif.shards.len() as u64 + shard.index as u64;
        self.next_id += 1;
        let flow = Flow {
            set,
            handle,
            key,
            status,
            stage,
            deadline: None,
            lingers: false,
            deferred_ns: None,
        };
        self.flows.insert(id, flow);
        netif.nr_flows.fetch_add(1, Ordering::Relaxed);
        shard.keys.lock().insert(key, id);
        id
    }

    pub(super) fn remove(&mut self, netif: &Netif, shard: &Shard, id: FlowId) {
        let Some(flow) = self.flows.remove(&id) else {
            return;
        };
        netif.nr_flows.fetch_sub(1, Ordering::Relaxed);
        if flow.lingers {
            netif.nr_lingering.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(deadline) = flow.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        let mut keys = shard.keys.lock();
        if keys.get(&flow.key) == Some(&id) {
            keys.remove(&flow.key);
        }
        drop(keys);
        if let Stage::Embryo(listener) = &flow.stage {
            listener.embryos.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Gives a packet to smoltcp with one flow's set, or with nobody's.
    pub(super) fn ingest(&mut self, packet: Packet, id: Option<FlowId>) {
        self.port.staged = Some(packet);
        let set = match id.and_then(|id| self.flows.get_mut(&id)) {
            Some(flow) => {
                self.port.traffic_class = flow.status.traffic_class.load(Ordering::Relaxed);
                &mut flow.set
            }
            None => {
                self.port.traffic_class = 0;
                &mut self.nobody
            }
        };
        let now = instant(now_ns());
        self.iface.poll_ingress_single(now, &mut self.port, set);
        self.port.staged = None;
    }

    /// Sends what a flow has to send, notes when it wants to be looked at again, and tells
    /// whoever waits. `why` is the error of a connection that is found broken.
    pub(super) fn service(&mut self, netif: &Arc<Netif>, shard: &Shard, id: FlowId, why: Errno) {
        let now_ns = now_ns();
        let now = instant(now_ns);
        let is_crowded = self.flows.len() > CROWDED;
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        self.port.traffic_class = flow.status.traffic_class.load(Ordering::Relaxed);
        let mut left = 256;
        let mut limit = usize::MAX;
        self.iface.set_packet_limit(limit);
        loop {
            self.port.starved = false;
            while self.iface.poll_egress(now, &mut self.port, &mut flow.set)
                == PollResult::SocketStateChanged
            {
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            // No block for a long segment: shorter ones, down to what a page takes. Without a
            // page it is tried again shortly (below).
            if !self.port.starved || limit == PAGE_PACKET || left == 0 {
                break;
            }
            limit = (limit.min(LONGEST) / 4).max(PAGE_PACKET);
            self.iface.set_packet_limit(limit);
        }
        let socket = flow.set.get_mut::<tcp::Socket>(flow.handle);
        // A peer may be silent unless something waits for its answer.
        if matches!(
            socket.state(),
            tcp::State::Established | tcp::State::CloseWait
        ) {
            let limit = match flow.status.user_timeout_ms() {
                0 => Duration::from_secs(DATA_TIMEOUT_SECONDS),
                ms => Duration::from_millis(ms.into()),
            };
            socket.set_timeout((socket.send_queue() > 0).then_some(limit));
        }
        if is_crowded {
            socket.trim();
        }
        flow.status.refresh(socket, why);
        let closed = socket.state() == tcp::State::Closed;
        let in_time_wait = socket.state() == tcp::State::TimeWait;
        let mut deadline = match self.iface.poll_at(now, &flow.set) {
            Some(at) if at > now => Some((at.total_micros() as u64).saturating_mul(1000)),
            Some(_) if self.port.blocked && self.blocked.contains(&id) => None,
            Some(_) if self.port.blocked && self.blocked.try_reserve(1).is_ok() => {
                self.blocked.push(id);
                None
            }
            // Shortly: nobody spins.
            Some(_) => Some(now_ns + 10_000_000),
            None => None,
        };
        let mut gone = false;
        // TCP_DEFER_ACCEPT.
        let patience = match &flow.stage {
            Stage::Embryo(l) if flow.status.has(bit::CONNECTED) => {
                u64::from(l.defer_seconds.load(Ordering::Relaxed)) * crate::time::NS_PER_SEC
            }
            _ => 0,
        };
        let waits = patience > 0 && {
            let until = *flow.deferred_ns.get_or_insert(now_ns + patience);
            deadline = Some(deadline.map_or(until, |d| d.min(until)));
            now_ns < until && flow.status.readable.load(Ordering::SeqCst) == 0
        };
        match &flow.stage {
            Stage::Embryo(_) if waits => gone = closed,
            Stage::Embryo(listener) if flow.status.has(bit::CONNECTED) && !closed => {
                listener.embryos.fetch_sub(1, Ordering::SeqCst);
                let accepted = Accepted {
                    netif: netif.clone(),
                    id,
                    key: flow.key,
                    status: flow.status.clone(),
                };
                if listener.push(accepted).is_ok() {
                    flow.stage = Stage::Queued;
                } else {
                    flow.stage = Stage::Orphan;
                    flow.set.get_mut::<tcp::Socket>(flow.handle).abort();
                    deadline = Some(now_ns);
                }
            }
            // A reset was sent above, unless the neighbour is unknown.
            Stage::Embryo(_) => gone = closed,
            Stage::Orphan => {
                gone = closed;
                if in_time_wait && !flow.lingers {
                    flow.set.get_mut::<tcp::Socket>(flow.handle).trim();
                    flow.lingers = true;
                    let before = netif.nr_lingering.fetch_add(1, Ordering::Relaxed);
                    // Who waits for late segments gives way to who has some.
                    gone = before >= MAX_LINGERING;
                }
            }
            Stage::Owned | Stage::Queued => {}
        }
        if gone {
            self.remove(netif, shard, id);
        } else if flow.deadline != deadline {
            if let Some(old) = flow.deadline {
                self.deadlines.remove(&(old, id));
            }
            flow.deadline = deadline;
            if let Some(new) = deadline {
                self.deadlines.insert((new, id));
            }
        }
    }

    /// Looks after the flows whose time has come, and those that waited for room.
    fn expire(&mut self, netif: &Arc<Netif>, shard: &Shard) {
        let now = now_ns();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, id));
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.deadline = None;
            }
            self.service(netif, shard, id, Errno::ETIMEDOUT);
        }
        // Also one that fired for a deadline which was put off.
        self.armed = None;
        if self.port.blocked && (netif.is_loopback() || netif.device.has_room()) {
            self.port.blocked = false;
            for id in core::mem::take(&mut self.blocked) {
                self.service(netif, shard, id, Errno::ETIMEDOUT);
            }
        }
    }

    /// Ends the connections whose own address is gone.
    pub(super) fn drop_strangers(&mut self, netif: &Netif, shard: &Shard) {
        let config = netif.config();
        let gone = |f: &Flow| {
            let own = f.key.local.addr;
            !config.has(own) && !config::is_loopback(own) && !super::is_local(own)
        };
        let ids: Vec<FlowId> = self
            .flows
            .iter()
            .filter(|(_, f)| gone(f))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.fail(netif, shard, id, Errno::ENETUNREACH);
        }
    }

    /// Breaks a connection without a word to its peer.
    pub(super) fn fail(&mut self, netif: &Netif, shard: &Shard, id: FlowId, why: Errno) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        flow.status.break_off(why);
        if !matches!(flow.stage, Stage::Queued) {
            self.remove(netif, shard, id);
        }
    }

    /// Starts a connection. EADDRINUSE when there is one between these ends.
    pub(super) fn connect(
        &mut self,
        netif: &Arc<Netif>,
        shard: &Shard,
        key: FlowKey,
        mut socket: tcp::Socket<'static>,
        status: Arc<Status>,
    ) -> Result<FlowId> {
        let taken = shard.keys.lock().get(&key).copied();
        if let Some(id) = taken
            && !self.gives_way(netif, shard, id)
        {
            return Err(Errno::EADDRINUSE);
        }
        let set = set_of_one().ok_or(Errno::ENOBUFS)?;
        socket
            .connect(self.iface.context(), key.remote, key.local)
            .map_err(|_| Errno::EADDRNOTAVAIL)?;
        let id = self.add(netif, shard, (set, socket), key, Stage::Owned, status);
        self.service(netif, shard, id, Errno::ETIMEDOUT);
        Ok(id)
    }

    /// The socket of a connection was closed: see [`Netif::release`].
    pub(super) fn release(&mut self, netif: &Arc<Netif>, shard: &Shard, id: FlowId, reset: bool) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        flow.stage = Stage::Orphan;
        let socket = flow.set.get_mut::<tcp::Socket>(flow.handle);
        if reset || socket.recv_queue() > 0 {
            socket.abort();
        } else {
            socket.set_corked(None);
            socket.close();
            socket.set_timeout(Some(Duration::from_secs(ORPHAN_SECONDS)));
        }
        self.service(netif, shard, id, Errno::ECONNRESET);
    }
}
