//! The IP stack: smoltcp behind interfaces.
//!
//! Each interface ([`Netif`]) has one smoltcp `Interface`, a worker thread and a lock. smoltcp
//! would walk all sockets for every packet; here each socket is alone in a set, and
//! [`demux`] finds the one that a packet is for, so that the cost of a packet does not grow
//! with the number of connections. Datagrams do not go through smoltcp's sockets on the way
//! in: they are queued at their receivers ([`table`]).
//!
//! Work happens in three places, all under the interface's lock: the worker, when the device
//! or a timer calls; a system call, for the flow it is about; and both drain the loopback
//! device behind them, so that local traffic needs no thread switch.
//!
//! Lock order: one interface's state (sleeping), then the tables' spin locks. Two interfaces'
//! states are never held together.

pub mod config;
mod demux;
pub mod flow;
mod port;
pub mod table;
#[cfg(test)]
mod wire_tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use smoltcp::iface::{self, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{raw, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv6Address, Ipv6Cidr};

use super::device::{Events, Loopback, NetDevice};
use crate::error::{Errno, Result};
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::time::{NS_PER_SEC, Timer, TimerCallback, now_ns};
use config::Config;
pub use demux::{Headers, parse_ip, ports, quoted};
use flow::{Accepted, Flow, FlowId, FlowKey, Kind, Stage, Status, bit};
pub use port::Counters;
use port::Port;

/// Packets a worker takes in one go before others get the lock.
const BUDGET: usize = 64;
/// Packets that may wait for a neighbour's address.
const MAX_PENDING: usize = 256;
/// How long they wait.
const PENDING_NS: u64 = 3 * NS_PER_SEC;
/// Flows of an interface above which none is kept for its TIME_WAIT.
const MAX_LINGERING: usize = 1024;
/// How long a closed connection may take to end.
const ORPHAN_SECONDS: u64 = 60;
/// How long a peer may leave data or a SYN unacknowledged (tcp_retries2, tcp_syn_retries).
const DATA_TIMEOUT_SECONDS: u64 = 924;
const CONNECT_TIMEOUT_SECONDS: u64 = 127;

/// The time, as smoltcp counts it.
pub fn now() -> Instant {
    instant(now_ns())
}

fn instant(ns: u64) -> Instant {
    Instant::from_micros((ns / 1000) as i64)
}

/// An interface: a device with addresses.
pub struct Netif {
    /// Number, from 1 (the loopback interface).
    pub index: u32,
    /// Name: `lo`, `eth0`...
    pub name: String,
    /// Its device.
    pub device: Arc<dyn NetDevice>,
    /// What went through it.
    pub counters: Arc<Counters>,
    /// Addresses and routes; replaced as a whole.
    config: SpinLock<Arc<Config>>,
    state: Mutex<State>,
    /// There is work for the worker.
    pending: AtomicBool,
    worker: WaitQueue,
    timer: Timer,
    nr_flows: AtomicUsize,
}

/// What the lock guards.
struct State {
    iface: Box<Interface>,
    /// A second one that only hears router advertisements: smoltcp's deadline of a socket
    /// is lost when its interface solicits routers itself and none answers.
    slaac: Option<Box<Interface>>,
    port: Port,
    flows: BTreeMap<FlowId, Flow>,
    /// TCP flows by their ends.
    keys: BTreeMap<FlowKey, FlowId>,
    deadlines: BTreeSet<(u64, FlowId)>,
    /// Flows that had something to send when the device was full.
    blocked: Vec<FlowId>,
    nr_pending: usize,
    next_id: FlowId,
    dhcp: Option<FlowId>,
    /// What the timer is armed for.
    armed: Option<u64>,
    slaac_deadline: Option<u64>,
    /// What DHCP and routers gave, in order, until the work at hand is done: answers of both
    /// may come together.
    changes: Vec<config::Change>,
    /// For packets that concern no socket.
    nobody: SocketSet<'static>,
    /// Takes packets that were put together from fragments.
    whole: SocketSet<'static>,
    whole_handle: SocketHandle,
    link_was_up: bool,
}

/// The interfaces, in the order of their numbers.
static NETIFS: SpinLock<Vec<Arc<Netif>>> = SpinLock::new(Rank::Object, Vec::new());

/// All interfaces.
pub fn netifs() -> Vec<Arc<Netif>> {
    NETIFS.lock().clone()
}

/// The interface with this number.
pub fn by_index(index: u32) -> Option<Arc<Netif>> {
    NETIFS.lock().get((index as usize).checked_sub(1)?).cloned()
}

/// The interface with this name.
pub fn by_name(name: &str) -> Option<Arc<Netif>> {
    NETIFS.lock().iter().find(|n| n.name == name).cloned()
}

/// Makes the loopback interface, the first one. ENOMEM.
pub fn start() -> Result<()> {
    // A quarter of the memory may hold what TCP carries.
    let memory = crate::mm::frame::total() * crate::mm::PAGE_SIZE;
    smoltcp::storage::set_budget((memory / 4).max(8 << 20));
    let lo = attach(Loopback::new())?;
    let mut config = Config {
        is_up: true,
        ..Config::default()
    };
    config
        .addresses
        .push(IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8));
    config
        .addresses
        .push(IpCidr::new(IpAddress::Ipv6(Ipv6Address::LOCALHOST), 128));
    lo.set_config(config);
    Ok(())
}

/// [`start`], for tests, which share the interfaces.
#[cfg(test)]
pub fn start_once() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        super::set_capability_check(|_| true);
        start().unwrap();
    });
}

/// Makes an interface for a device, named by its kind, and starts its worker.
pub fn attach(device: Arc<dyn NetDevice>) -> Result<Arc<Netif>> {
    let nr = NETIFS.lock().len() as u32;
    let (name, hardware) = match device.mac() {
        Some(mac) => (
            alloc::format!("eth{}", nr.saturating_sub(1)),
            HardwareAddress::Ethernet(EthernetAddress(mac)),
        ),
        None => (String::from("lo"), HardwareAddress::Ip),
    };
    let counters = Arc::new(Counters::default());
    let mut port = Port::new(device.clone(), counters.clone());
    let mut iface = new_interface(hardware, &mut port, false);
    let slaac = device
        .mac()
        .map(|_| new_interface(hardware, &mut port, true));
    if device.mac().is_none() {
        // Whatever was routed here is local.
        iface.set_any_ip(true);
    }
    let mut whole = SocketSet::new(Vec::new());
    let ring = |packets: usize, bytes: usize| {
        raw::PacketBuffer::new(
            alloc::vec![raw::PacketMetadata::EMPTY; packets],
            alloc::vec![0; bytes],
        )
    };
    let whole_handle = whole.add(raw::Socket::new(None, None, ring(2, 66_000), ring(1, 1)));
    let link_was_up = device.link_is_up();
    let netif = Arc::new_cyclic(|weak: &alloc::sync::Weak<Netif>| Netif {
        index: nr + 1,
        name,
        device: device.clone(),
        counters,
        config: SpinLock::new(Rank::Leaf, Arc::new(Config::default())),
        state: Mutex::new(State {
            iface,
            slaac,
            port,
            flows: BTreeMap::new(),
            keys: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            blocked: Vec::new(),
            nr_pending: 0,
            next_id: 1,
            dhcp: None,
            armed: None,
            slaac_deadline: None,
            changes: Vec::new(),
            nobody: SocketSet::new(Vec::new()),
            whole,
            whole_handle,
            link_was_up,
        }),
        pending: AtomicBool::new(false),
        worker: WaitQueue::new(),
        timer: Timer::new(Arc::new(Wakeup(weak.clone()))),
        nr_flows: AtomicUsize::new(0),
    });
    device.set_events(Arc::new(Wakeup(Arc::downgrade(&netif))));
    let own = netif.clone();
    crate::sched::spawn_kernel(&alloc::format!("net/{}", netif.name), move || {
        loop {
            // Nobody interrupts this thread.
            let _ = own.worker.wait_interruptible(None, || {
                own.pending.swap(false, Ordering::SeqCst).then_some(())
            });
            own.work();
        }
    })?;
    NETIFS.lock().push(netif.clone());
    // What came before there was a worker to tell.
    netif.kick();
    Ok(netif)
}

fn new_interface(hardware: HardwareAddress, port: &mut Port, slaac: bool) -> Box<Interface> {
    let mut config = iface::Config::new(hardware);
    config.random_seed = crate::security::random::word();
    config.slaac = slaac;
    let mut iface = Box::new(Interface::new(config, port, instant(now_ns())));
    if let HardwareAddress::Ethernet(mac) = hardware
        && slaac
    {
        iface.update_ip_addrs(|addrs| {
            let _ = addrs.push(IpCidr::Ipv6(link_local(mac.0)));
        });
    }
    iface
}

/// The link-local address of a card (RFC 4291, appendix A).
pub fn link_local(mac: [u8; 6]) -> Ipv6Cidr {
    let m = |i: usize| u16::from(mac[i]);
    let address = Ipv6Address::new(
        0xfe80,
        0,
        0,
        0,
        (m(0) ^ 2) << 8 | m(1),
        m(2) << 8 | 0xff,
        0xfe00 | m(3),
        m(4) << 8 | m(5),
    );
    Ipv6Cidr::new(address, 64)
}

/// Wakes an interface's worker: for its device and its timer.
struct Wakeup(alloc::sync::Weak<Netif>);

impl Events for Wakeup {
    fn notify(&self) {
        if let Some(netif) = self.0.upgrade() {
            netif.kick();
        }
    }
}

impl TimerCallback for Wakeup {
    fn expired(&self, _now: u64) {
        self.notify();
    }
}

impl Netif {
    /// Whether packets never leave the machine.
    pub fn is_loopback(&self) -> bool {
        self.device.mac().is_none()
    }

    /// Addresses and routes as they are now.
    pub fn config(&self) -> Arc<Config> {
        self.config.lock().clone()
    }

    fn kick(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.worker.wake_all();
    }

    /// Replaces addresses and routes. More than smoltcp's tables take are left out.
    pub fn set_config(self: &Arc<Self>, config: Config) {
        let mut state = self.state.lock();
        self.apply(&mut state, config);
        self.finish(&mut state);
    }

    fn apply(&self, state: &mut State, config: Config) {
        let config = Arc::new(config);
        state.iface.update_ip_addrs(|addrs| {
            addrs.clear();
            let usable = |a: &&IpCidr| a.address().is_unicast();
            for cidr in config.addresses.iter().filter(usable) {
                if addrs.push(*cidr).is_err() {
                    break;
                }
            }
        });
        state.iface.routes_mut().update(|routes| {
            routes.clear();
            for route in &config.routes {
                let Some(via_router) = route.gateway else {
                    continue;
                };
                let route = iface::Route {
                    cidr: route.to,
                    via_router,
                    preferred_until: None,
                    expires_at: None,
                };
                if routes.push(route).is_err() {
                    break;
                }
            }
        });
        let old = core::mem::replace(&mut *self.config.lock(), config);
        drop(old);
    }

    /// Changes addresses and routes.
    pub fn change_config(self: &Arc<Self>, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.config());
        change(&mut config);
        self.set_config(config);
    }

    /// What the worker does when it was woken.
    fn work(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let mut more = true;
            for _ in 0..BUDGET {
                let Some(packet) = self.device.receive() else {
                    more = self.device.enable_events();
                    break;
                };
                state.input(self, packet);
            }
            self.link_changed(&mut state);
            self.expire(&mut state);
            self.finish(&mut state);
            drop(state);
            if !more {
                return;
            }
        }
    }

    fn link_changed(self: &Arc<Self>, state: &mut State) {
        let up = self.device.link_is_up();
        if up == state.link_was_up {
            return;
        }
        state.link_was_up = up;
        info!("{}: link {}", self.name, if up { "up" } else { "down" });
        if let (true, Some(id)) = (up, state.dhcp)
            && let Some(flow) = state.flows.get_mut(&id)
        {
            // Maybe another network.
            config::restart_dhcp(flow);
            state.service(self, id, Errno::ETIMEDOUT);
        }
    }

    /// Looks after the flows whose time has come.
    fn expire(self: &Arc<Self>, state: &mut State) {
        let now = now_ns();
        while let Some(&(deadline, id)) = state.deadlines.first() {
            if deadline > now {
                break;
            }
            state.deadlines.remove(&(deadline, id));
            if let Some(flow) = state.flows.get_mut(&id) {
                flow.deadline = None;
            }
            state.service(self, id, Errno::ETIMEDOUT);
        }
        if state.port.blocked && self.device.has_room() {
            state.port.blocked = false;
            for id in core::mem::take(&mut state.blocked) {
                state.service(self, id, Errno::ETIMEDOUT);
            }
        }
        config::poll_slaac(self, state);
    }

    /// The end of every piece of work: local packets, the device's doorbell, the timer.
    fn finish(self: &Arc<Self>, state: &mut State) {
        if self.is_loopback() {
            let mut left = BUDGET * 16;
            while let Some(packet) = self.device.receive() {
                state.input(self, packet);
                left -= 1;
                if left == 0 {
                    self.kick();
                    break;
                }
            }
        }
        let changes = core::mem::take(&mut state.changes);
        let changed = !changes.is_empty();
        for change in changes {
            let config = change.apply(self, &self.config());
            self.apply(state, config);
        }
        if changed {
            // Connections whose address is gone end.
            let ids: Vec<FlowId> = state.keys.values().copied().collect();
            for id in ids {
                state.service(self, id, Errno::ENETUNREACH);
            }
        }
        self.device.flush();
        let first = state.deadlines.first().map(|d| d.0);
        let next = [first, state.slaac_deadline].into_iter().flatten().min();
        if next != state.armed {
            state.armed = next;
            // One that is armed for nothing fires in vain.
            if let Some(deadline) = next {
                self.timer.arm(deadline);
            }
        }
    }

    /// Runs `f` with the TCP socket of a flow, then sends what there is to send. ENOTCONN
    /// when the flow is gone.
    pub fn with_tcp<R>(
        self: &Arc<Self>,
        id: FlowId,
        f: impl FnOnce(&mut tcp::Socket<'static>) -> R,
    ) -> Result<R> {
        let mut state = self.state.lock();
        let flow = state.flows.get_mut(&id).ok_or(Errno::ENOTCONN)?;
        let handle = flow.handle;
        let r = f(flow.set.get_mut::<tcp::Socket>(handle));
        state.service(self, id, Errno::ECONNRESET);
        self.finish(&mut state);
        Ok(r)
    }

    /// Starts a connection. EADDRINUSE when there is one between these ends; ENOBUFS.
    pub fn connect(
        self: &Arc<Self>,
        key: FlowKey,
        buffers: (usize, usize),
        status: Arc<Status>,
        prepare: impl FnOnce(&mut tcp::Socket<'static>),
    ) -> Result<FlowId> {
        super::filter::connecting(self, &key)?;
        let limits = flow::buffers(buffers, self.nr_flows.load(Ordering::Relaxed));
        let mut socket = new_tcp(limits);
        prepare(&mut socket);
        socket.set_timeout(Some(Duration::from_secs(CONNECT_TIMEOUT_SECONDS)));
        let mut state = self.state.lock();
        if state.keys.contains_key(&key) {
            return Err(Errno::EADDRINUSE);
        }
        socket
            .connect(state.iface.context(), key.remote, key.local)
            .map_err(|_| Errno::EADDRNOTAVAIL)?;
        let id = state.add_tcp(self, socket, key, Stage::Owned, status);
        state.service(self, id, Errno::ETIMEDOUT);
        self.finish(&mut state);
        Ok(id)
    }

    /// Whether there is a connection between these ends.
    pub fn has_flow(&self, key: &FlowKey) -> bool {
        self.state.lock().keys.contains_key(key)
    }

    /// A socket takes a connection that was queued for it.
    pub fn adopt(self: &Arc<Self>, id: FlowId) {
        if let Some(Flow {
            kind: Kind::Tcp { stage, .. },
            ..
        }) = self.state.lock().flows.get_mut(&id)
        {
            *stage = Stage::Owned;
        }
    }

    /// The socket of a connection was closed: it ends in order, or by a reset when `reset` or
    /// when bytes were left unread (RFC 2525, 2.17).
    pub fn release(self: &Arc<Self>, id: FlowId, reset: bool) {
        let mut state = self.state.lock();
        let Some(flow) = state.flows.get_mut(&id) else {
            return;
        };
        if let Kind::Tcp { stage, .. } = &mut flow.kind {
            *stage = Stage::Orphan;
        }
        let socket = flow.set.get_mut::<tcp::Socket>(flow.handle);
        if reset || socket.recv_queue() > 0 {
            socket.abort();
        } else {
            socket.close();
            socket.set_timeout(Some(Duration::from_secs(ORPHAN_SECONDS)));
        }
        state.service(self, id, Errno::ECONNRESET);
        self.finish(&mut state);
    }

    /// Sends one IP packet with its header. EMSGSIZE when it is too long, ENOBUFS when too
    /// many wait.
    pub fn send_packet(self: &Arc<Self>, packet: Vec<u8>) -> Result<()> {
        let mtu = self.device.mtu();
        // smoltcp's buffer for fragments.
        if packet.len() > mtu && (packet.len() > 4096 || packet[0] >> 4 != 4) {
            return Err(Errno::EMSGSIZE);
        }
        super::filter::outgoing(self, &packet)?;
        let mut state = self.state.lock();
        if state.nr_pending >= MAX_PENDING {
            return Err(Errno::ENOBUFS);
        }
        let buffer = |packets: usize, bytes: Vec<u8>| {
            raw::PacketBuffer::new(alloc::vec![raw::PacketMetadata::EMPTY; packets], bytes)
        };
        let len = packet.len();
        let none = buffer(0, Vec::new());
        let mut socket = raw::Socket::new(None, None, none, buffer(1, alloc::vec![0; len]));
        socket.send_slice(&packet).map_err(|_| Errno::ENOBUFS)?;
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        let id = state.add(
            self,
            Flow {
                set,
                handle,
                kind: Kind::Packet {
                    expires_ns: now_ns() + PENDING_NS,
                },
                deadline: None,
            },
        );
        state.nr_pending += 1;
        state.service(self, id, Errno::ETIMEDOUT);
        self.finish(&mut state);
        Ok(())
    }

    /// Calls `f` with the ends, state and status of every connection.
    pub fn for_each_tcp(&self, mut f: impl FnMut(&FlowKey, tcp::State, &Status)) {
        let state = self.state.lock();
        for flow in state.flows.values() {
            if let Kind::Tcp { key, status, .. } = &flow.kind {
                f(
                    key,
                    flow.set.get::<tcp::Socket>(flow.handle).state(),
                    status,
                );
            }
        }
    }
}

fn new_tcp((rx, tx): (usize, usize)) -> tcp::Socket<'static> {
    let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
    socket.set_congestion_control(tcp::CongestionControl::Reno);
    socket
}

impl State {
    fn add(&mut self, netif: &Netif, flow: Flow) -> FlowId {
        let id = self.next_id;
        self.next_id += 1;
        self.flows.insert(id, flow);
        netif.nr_flows.store(self.flows.len(), Ordering::Relaxed);
        id
    }

    fn add_tcp(
        &mut self,
        netif: &Netif,
        socket: tcp::Socket<'static>,
        key: FlowKey,
        stage: Stage,
        status: Arc<Status>,
    ) -> FlowId {
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        let flow = Flow {
            set,
            handle,
            kind: Kind::Tcp { key, status, stage },
            deadline: None,
        };
        let id = self.add(netif, flow);
        self.keys.insert(key, id);
        id
    }

    fn remove(&mut self, netif: &Netif, id: FlowId) {
        let Some(flow) = self.flows.remove(&id) else {
            return;
        };
        netif.nr_flows.store(self.flows.len(), Ordering::Relaxed);
        if let Some(deadline) = flow.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        match &flow.kind {
            Kind::Tcp { key, stage, .. } => {
                if self.keys.get(key) == Some(&id) {
                    self.keys.remove(key);
                }
                if let Stage::Embryo(listener) = stage {
                    listener.embryos.fetch_sub(1, Ordering::SeqCst);
                }
            }
            Kind::Packet { .. } => self.nr_pending -= 1,
            Kind::Dhcp => {}
        }
    }

    /// Gives the staged packet to smoltcp with one flow's set, or with nobody's.
    fn ingest(&mut self, packet: super::device::Packet, id: Option<FlowId>) {
        self.port.staged = Some(packet);
        let set = match id.and_then(|id| self.flows.get_mut(&id)) {
            Some(flow) => &mut flow.set,
            None => &mut self.nobody,
        };
        let now = instant(now_ns());
        self.iface.poll_ingress_single(now, &mut self.port, set);
        self.port.staged = None;
    }

    /// Sends what a flow has to send, notes when it wants to be looked at again, and tells
    /// whoever waits. `why` is the error of a connection that is found broken.
    fn service(&mut self, netif: &Arc<Netif>, id: FlowId, why: Errno) {
        let now_ns = now_ns();
        let now = instant(now_ns);
        let is_crowded = self.flows.len() > MAX_LINGERING;
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        let mut left = 256;
        while self.iface.poll_egress(now, &mut self.port, &mut flow.set)
            == PollResult::SocketStateChanged
        {
            left -= 1;
            if left == 0 {
                break;
            }
        }
        if let Kind::Tcp { .. } = flow.kind {
            let socket = flow.set.get_mut::<tcp::Socket>(flow.handle);
            // A peer may be silent unless something waits for its answer.
            if matches!(
                socket.state(),
                tcp::State::Established | tcp::State::CloseWait
            ) {
                let waits = socket.send_queue() > 0;
                socket.set_timeout(waits.then(|| Duration::from_secs(DATA_TIMEOUT_SECONDS)));
            }
        }
        let mut deadline = match self.iface.poll_at(now, &flow.set) {
            Some(at) if at > now => Some((at.total_micros() as u64).saturating_mul(1000)),
            Some(_) if self.port.blocked => {
                if !self.blocked.contains(&id) {
                    self.blocked.push(id);
                }
                None
            }
            // Shortly: nobody spins.
            Some(_) => Some(now_ns + 10_000_000),
            None => None,
        };
        let mut gone = false;
        match &mut flow.kind {
            Kind::Tcp { key, status, stage } => {
                let socket = flow.set.get_mut::<tcp::Socket>(flow.handle);
                status.refresh(socket, why);
                let closed = socket.state() == tcp::State::Closed;
                match stage {
                    Stage::Embryo(listener) if status.has(bit::CONNECTED) && !closed => {
                        listener.embryos.fetch_sub(1, Ordering::SeqCst);
                        let accepted = Accepted {
                            netif: netif.clone(),
                            id,
                            key: *key,
                            status: status.clone(),
                        };
                        if listener.push(accepted).is_ok() {
                            *stage = Stage::Queued;
                        } else {
                            *stage = Stage::Orphan;
                            socket.abort();
                            deadline = Some(now_ns);
                        }
                    }
                    Stage::Embryo(_) | Stage::Orphan => {
                        // A reset was sent above, unless the neighbour is unknown.
                        // Who waits for late segments gives way to who has some.
                        gone = closed || is_crowded && socket.state() == tcp::State::TimeWait;
                    }
                    Stage::Owned | Stage::Queued => {}
                }
            }
            Kind::Packet { expires_ns } => {
                let socket = flow.set.get_mut::<raw::Socket>(flow.handle);
                gone = socket.send_queue() == 0 || now_ns >= *expires_ns;
            }
            Kind::Dhcp => {
                if let Some(change) = config::poll_dhcp(flow) {
                    self.changes.push(change);
                }
            }
        }
        if gone {
            self.remove(netif, id);
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

    /// A neighbour's address became known: looks after the flows that wait for one.
    fn neighbour_answered(&mut self, netif: &Arc<Netif>) {
        let soon = now_ns() + NS_PER_SEC + NS_PER_SEC / 10;
        let waiting: Vec<FlowId> = self
            .deadlines
            .range(..(soon, 0))
            .map(|&(_, id)| id)
            .collect();
        for id in waiting {
            self.service(netif, id, Errno::ETIMEDOUT);
        }
    }
}

/// Where a packet to `to` goes out and with which source address: through the interface
/// `through` when one is named (0: any), from `from` when the socket has an address.
/// ENETUNREACH; ENODEV.
pub fn route(
    to: IpAddress,
    from: Option<IpAddress>,
    through: u32,
) -> Result<(Arc<Netif>, IpAddress)> {
    let all = netifs();
    let first = all.first().cloned().ok_or(Errno::ENETUNREACH)?;
    if through == 0 || first.index == through {
        let is_own = |a: IpAddress| all.iter().any(|n| n.config().has(a));
        let v4_loopback = IpAddress::v4(127, 0, 0, 1);
        if config::is_loopback(to) {
            let own = match to {
                IpAddress::Ipv4(_) => v4_loopback,
                IpAddress::Ipv6(_) => to,
            };
            return Ok((first, from.unwrap_or(own)));
        }
        if is_own(to) {
            return Ok((first, from.unwrap_or(to)));
        }
    }
    let mut best: Option<(u8, Arc<Netif>)> = None;
    for netif in all.iter().filter(|n| !n.is_loopback()) {
        if through != 0 && netif.index != through {
            continue;
        }
        let config = netif.config();
        if !config.is_up {
            continue;
        }
        let Some(prefix) = config.reaches(to) else {
            continue;
        };
        if best.as_ref().is_none_or(|(len, _)| prefix > *len) {
            best = Some((prefix, netif.clone()));
        }
    }
    let (_, netif) = best.ok_or(Errno::ENETUNREACH)?;
    let source = match from {
        Some(from) => from,
        None => netif.config().source(to).ok_or(Errno::EADDRNOTAVAIL)?,
    };
    Ok((netif, source))
}

/// Whether `addr` is one of this machine's.
pub fn is_local(addr: IpAddress) -> bool {
    config::is_loopback(addr) || netifs().iter().any(|n| n.config().has(addr))
}
