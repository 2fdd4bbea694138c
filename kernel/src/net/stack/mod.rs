//! The IP stack: smoltcp's TCP behind interfaces.
//!
//! Each interface ([`Netif`]) spreads its TCP connections over [`shard`]s by a hash of their
//! ends; each shard has a lock and a smoltcp `Interface`. smoltcp would walk all sockets for
//! every packet; here each socket is alone in a set, and [`demux`] finds the one that a packet
//! is for. Datagrams do not go through smoltcp at all: they are queued at their receivers
//! ([`table`]), and leave by the [`link`], which knows the neighbours and cuts what is too
//! long ([`fragment`]). What speaks Ethernet (ARP, neighbour discovery, DHCP, groups) is
//! [`ether`].
//!
//! Work happens in three places: the interface's worker, when the device or a timer calls; a
//! system call, for the flow it is about; and whoever holds a shard takes in what was left for
//! it meanwhile. Local packets go round in the hands of whoever sent them.
//!
//! Lock order: a card's Ethernet part (sleeping) or one shard (sleeping), never two of them,
//! then the spin locks of tables and link.

pub mod config;
mod demux;
pub mod errors;
mod ether;
pub mod flow;
mod fragment;
#[cfg(test)]
mod fuzz_tests;
pub mod groups;
#[cfg(test)]
mod lease_tests;
mod link;
mod neighbour;
#[cfg(test)]
mod pieces_tests;
mod port;
mod receiver;
mod shard;
#[cfg(test)]
mod stream_tests;
pub mod table;
pub mod traffic_class;
#[cfg(test)]
mod window_tests;
#[cfg(test)]
mod wire_tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use smoltcp::iface::{self, Interface};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv6Address, Ipv6Cidr};

use super::device::{Events, Loopback, NetDevice, Packet};
use crate::error::{Errno, Result};
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::time::{Timer, TimerCallback, now_ns};
use config::{Change, Config};
pub use demux::{Headers, parse_ip, ports, quoted};
use ether::Ether;
use flow::{FlowId, FlowKey, Stage, Status};
use fragment::Reassembly;
use link::Link;
pub use port::Counters;
use port::{Port, count};
use shard::Shard;

/// Packets a worker takes in one go before it looks after timers.
const BUDGET: usize = 64;

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
    link: Arc<Link>,
    /// What speaks Ethernet, where that is spoken.
    ether: Option<Mutex<Ether>>,
    /// At most 64, a power of two.
    shards: Vec<Shard>,
    fragments: SpinLock<Reassembly>,
    /// Groups that sockets joined; changes under `changing`.
    groups: SpinLock<groups::Members>,
    /// Names fragments.
    next_fragment: AtomicU32,
    /// Makes the spread of connections hard to guess.
    seed: u64,
    /// Changes of addresses are made one after the other.
    changing: Mutex<()>,
    /// There is work for the worker.
    pending: AtomicBool,
    worker: WaitQueue,
    /// For neighbours, DHCP and routers.
    timer: Timer,
    asks: AtomicBool,
    nr_flows: AtomicUsize,
    /// Connections that only wait for late segments.
    nr_lingering: AtomicUsize,
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
    let lo = attach(Arc::new(Loopback))?;
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
        super::set_caller(super::Caller {
            capable: |_| true,
            may_linger: || true,
        });
        start().unwrap();
        // On the host there are neither timers nor workers.
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(std::time::Duration::from_millis(2));
                for netif in netifs() {
                    for shard in &netif.shards {
                        shard.due.store(true, Ordering::SeqCst);
                        shard.serve(&netif);
                    }
                }
            }
        });
    });
}

/// Shards of an interface: enough that two busy connections seldom share one.
fn nr_shards() -> usize {
    (crate::arch::nr_cpus() * 8)
        .next_power_of_two()
        .clamp(8, 64)
}

/// Makes an interface for a device, named by its kind, and starts its worker.
pub fn attach(device: Arc<dyn NetDevice>) -> Result<Arc<Netif>> {
    // One after the other: an interface's number is its place.
    static ATTACHING: Mutex<()> = Mutex::new(());
    let guard = ATTACHING.lock();
    let nr = NETIFS.lock().len() as u32;
    let name = match device.mac() {
        Some(_) => alloc::format!("eth{}", nr.saturating_sub(1)),
        None => String::from("lo"),
    };
    let counters = Arc::new(Counters::default());
    let link = Link::new(device.clone(), counters.clone());
    let ether = device.mac().map(|mac| Mutex::new(Ether::new(&link, mac)));
    let netif = Arc::new_cyclic(|weak: &Weak<Netif>| {
        let shards = (0..nr_shards()).map(|i| {
            let mut port = Port::new(link.clone());
            let mut iface = new_interface(HardwareAddress::Ip, &mut port, false);
            // What comes here was found to be for this machine.
            iface.set_any_ip(true);
            let wakeup = Wakeup(weak.clone(), Some(i));
            Shard::new(i, iface, port, Timer::new(Arc::new(wakeup)))
        });
        Netif {
            index: nr + 1,
            name,
            device: device.clone(),
            counters,
            shards: shards.collect(),
            link,
            ether,
            fragments: SpinLock::new(Rank::Object, Reassembly::default()),
            groups: SpinLock::new(Rank::Object, groups::Members::new()),
            next_fragment: AtomicU32::new(crate::security::random::word() as u32),
            seed: crate::security::random::word() | 1,
            changing: Mutex::new(()),
            pending: AtomicBool::new(false),
            worker: WaitQueue::new(),
            timer: Timer::new(Arc::new(Wakeup(weak.clone(), None))),
            asks: AtomicBool::new(false),
            nr_flows: AtomicUsize::new(0),
            nr_lingering: AtomicUsize::new(0),
        }
    });
    device.set_events(Arc::new(Wakeup(Arc::downgrade(&netif), None)));
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
    drop(guard);
    // What came before there was a worker to tell.
    netif.kick();
    Ok(netif)
}

fn new_interface(
    hardware: HardwareAddress,
    device: &mut impl smoltcp::phy::Device,
    slaac: bool,
) -> Box<Interface> {
    let mut config = iface::Config::new(hardware);
    config.random_seed = crate::security::random::word();
    config.slaac = slaac;
    let mut iface = Box::new(Interface::new(config, device, now()));
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

/// Wakes an interface's worker: for its device and its timers, of which each shard has one.
struct Wakeup(Weak<Netif>, Option<usize>);

impl Events for Wakeup {
    fn notify(&self) {
        if let Some(netif) = self.0.upgrade() {
            if let Some(shard) = self.1.and_then(|i| netif.shards.get(i)) {
                shard.due.store(true, Ordering::SeqCst);
            }
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
        self.link.config()
    }

    /// Neighbours that are known or asked for: address, hardware address, and the age of the
    /// answer in ns.
    pub fn neighbours(&self) -> Vec<(IpAddress, Option<[u8; 6]>, u64)> {
        self.link.neighbours.lock().list(now_ns())
    }

    fn kick(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.worker.wake_all();
    }

    /// Forgets a neighbour; whether it was known.
    pub fn forget_neighbour(&self, who: IpAddress) -> bool {
        self.link.neighbours.lock().forget(who)
    }

    fn nr_flows(&self) -> usize {
        self.nr_flows.load(Ordering::Relaxed)
    }

    /// Whether the DHCP client waits for answers.
    fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }

    /// Replaces addresses and routes. More than smoltcp's tables take are not announced.
    pub fn set_config(self: &Arc<Self>, config: Config) {
        let guard = self.changing.lock();
        self.install(config);
        drop(guard);
    }

    /// [`Netif::set_config`], by who holds `changing`.
    fn install(self: &Arc<Self>, config: Config) {
        let config = Arc::new(config);
        if let Some(ether) = &self.ether {
            announce(&mut ether.lock().iface, &config);
        }
        let lost = {
            let old = self.config();
            old.addresses.iter().any(|a| !config.has(a.address()))
        };
        let old = core::mem::replace(&mut *self.link.config.lock(), config);
        drop(old);
        if lost {
            self.link.neighbours.lock().clear();
            for netif in netifs() {
                for shard in &netif.shards {
                    shard.with(&netif, |state| state.drop_strangers(&netif, shard));
                }
            }
        }
        self.kick();
    }

    /// Changes addresses and routes.
    pub fn change_config(self: &Arc<Self>, change: impl FnOnce(&mut Config)) {
        let guard = self.changing.lock();
        let mut config = Config::clone(&self.config());
        change(&mut config);
        self.install(config);
        drop(guard);
    }

    /// What DHCP and routers gave, in order.
    fn apply_changes(self: &Arc<Self>, changes: Vec<Change>) {
        for change in changes {
            let guard = self.changing.lock();
            let config = change.apply(&self.name, &self.config());
            self.install(config);
            drop(guard);
        }
    }

    /// What the worker does when it was woken.
    fn work(self: &Arc<Self>) {
        loop {
            let mut more = true;
            let mut touched = 0;
            for _ in 0..BUDGET {
                let Some(packet) = self.device.receive() else {
                    more = self.device.enable_events();
                    break;
                };
                self.input(packet, &mut touched);
            }
            let has_room = self.device.has_room();
            for (i, shard) in self.shards.iter().enumerate() {
                if has_room && shard.is_blocked() {
                    shard.due.store(true, Ordering::SeqCst);
                }
                if touched >> i & 1 != 0 || shard.due.load(Ordering::SeqCst) {
                    shard.serve(self);
                }
            }
            self.look_after_link();
            if !more {
                return;
            }
        }
    }

    /// Neighbours, DHCP, routers, groups: what is due, and the timer for the next.
    fn look_after_link(self: &Arc<Self>) {
        let Some(ether) = &self.ether else {
            return;
        };
        let mut changes = Vec::new();
        let mut state = ether.lock();
        self.asks.store(state.dhcp.is_some(), Ordering::Relaxed);
        let next = state.work(self, &mut changes);
        drop(state);
        self.apply_changes(changes);
        let (asked, given_up) = self.link.expire(now_ns());
        for packet in given_up {
            self.unreachable(&packet);
        }
        self.device.flush();
        if let Some(deadline) = [next, asked].into_iter().flatten().min() {
            self.timer.arm(deadline);
        }
    }

    /// Nobody answers for the next hop of a packet: tells who sent it.
    fn unreachable(self: &Arc<Self>, packet: &Packet) {
        let Some(headers) = parse_ip(packet.bytes(), link::ETHERNET) else {
            return;
        };
        let payload = packet.bytes().get(headers.payload.0..headers.payload.1);
        let payload = payload.unwrap_or(&[]);
        if headers.protocol != smoltcp::wire::IpProtocol::Tcp {
            self.nobody_answers(&headers, payload);
            return;
        }
        let Some((source, destination)) = ports(payload) else {
            return;
        };
        let key = FlowKey {
            local: smoltcp::wire::IpEndpoint::new(headers.from, source),
            remote: smoltcp::wire::IpEndpoint::new(headers.to, destination),
        };
        let shard = &self.shards[self.shard_of(&key)];
        shard.with(self, |state| {
            let id = shard.keys.lock().get(&key).copied();
            // One that was established goes on trying.
            if let Some(id) = id
                && state.is_opening(id)
            {
                state.fail(self, shard, id, Errno::EHOSTUNREACH);
            }
        });
    }

    /// The shard of a connection, the same from either end.
    fn shard_of(&self, key: &FlowKey) -> usize {
        let end = |e: &smoltcp::wire::IpEndpoint| {
            let addr = match e.addr {
                IpAddress::Ipv4(a) => u64::from(u32::from(a)),
                IpAddress::Ipv6(a) => {
                    let bits = u128::from(a);
                    (bits >> 64) as u64 ^ (bits as u64).rotate_left(32)
                }
            };
            let x = (addr ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (x ^ x >> 29 ^ u64::from(e.port)).wrapping_mul(self.seed)
        };
        let hash = end(&key.local).wrapping_add(end(&key.remote));
        let hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    fn shard(&self, id: FlowId) -> &Shard {
        &self.shards[id as usize % self.shards.len()]
    }

    /// Whether there is a connection between these ends.
    fn is_open(&self, key: &FlowKey) -> bool {
        self.shards[self.shard_of(key)]
            .keys
            .lock()
            .contains_key(key)
    }

    /// Runs `f` with the TCP socket of a flow, then sends what there is to send. ENOTCONN
    /// when the flow is gone.
    pub fn with_tcp<R>(
        self: &Arc<Self>,
        id: FlowId,
        f: impl FnOnce(&mut tcp::Socket<'static>) -> R,
    ) -> Result<R> {
        let shard = self.shard(id);
        shard.with(self, |state| {
            let r = f(state.tcp(id).ok_or(Errno::ENOTCONN)?);
            state.service(self, shard, id, Errno::ECONNRESET);
            Ok(r)
        })
    }

    /// Looks at the TCP socket of a flow. ENOTCONN when the flow is gone.
    pub fn see_tcp<R>(&self, id: FlowId, f: impl FnOnce(&tcp::Socket<'static>) -> R) -> Result<R> {
        let mut state = self.shard(id).state.lock();
        state.tcp(id).map(|s| f(s)).ok_or(Errno::ENOTCONN)
    }

    /// Starts a connection. EADDRINUSE when there is one between these ends; EPERM,
    /// ECONNREFUSED when the packet filter keeps it in.
    pub fn connect(
        self: &Arc<Self>,
        key: FlowKey,
        buffers: (usize, usize),
        status: Arc<Status>,
        prepare: impl FnOnce(&mut tcp::Socket<'static>),
    ) -> Result<FlowId> {
        super::filter::connecting(self, &key)?;
        let mut socket = new_tcp(flow::buffers(buffers, self.nr_flows()));
        prepare(&mut socket);
        let limit = match status.user_timeout_ms() {
            0 => Duration::from_secs(shard::CONNECT_TIMEOUT_SECONDS),
            ms => Duration::from_millis(ms.into()),
        };
        socket.set_timeout(Some(limit));
        let shard = &self.shards[self.shard_of(&key)];
        shard.with(self, |state| {
            state.connect(self, shard, key, socket, status)
        })
    }

    /// A socket takes a connection that was queued for it.
    pub fn adopt(self: &Arc<Self>, id: FlowId) {
        let mut state = self.shard(id).state.lock();
        if let Some(flow) = state.flows.get_mut(&id) {
            flow.stage = Stage::Owned;
        }
    }

    /// The socket of a connection was closed: it ends in order, or by a reset when `reset` or
    /// when bytes were left unread (RFC 2525, 2.17).
    pub fn release(self: &Arc<Self>, id: FlowId, reset: bool) {
        let shard = self.shard(id);
        shard.with(self, |state| state.release(self, shard, id, reset));
    }

    /// Memory for an IP packet of `len` bytes that [`Netif::send_packet`] takes; it begins at
    /// [`Netif::prefix`]. ENOBUFS.
    pub fn packet(&self, len: usize) -> Result<Packet> {
        self.link.packet(len)
    }

    /// Bytes in front of the IP packet in [`Netif::packet`].
    pub fn prefix(&self) -> usize {
        self.link.prefix()
    }

    /// Sends one IP packet; with `cut` in fragments when it is longer than the wire takes.
    /// EMSGSIZE when it must not be cut, ENOBUFS, EPERM when the packet filter keeps it in.
    pub fn send_packet(self: &Arc<Self>, packet: Packet, cut: bool) -> Result<()> {
        let prefix = self.prefix();
        let mtu = self.device.mtu();
        let len = packet.bytes().len() - prefix;
        if len > mtu && !cut {
            return Err(Errno::EMSGSIZE);
        }
        super::filter::outgoing(self, &packet.bytes()[prefix..])?;
        if self.is_loopback() {
            self.send_to_self(packet);
            return Ok(());
        }
        if len <= mtu {
            self.send_on_wire(packet);
        } else {
            let id = self.next_fragment.fetch_add(1, Ordering::Relaxed);
            let mut enough = true;
            let is_cut = fragment::cut(&packet.bytes()[prefix..], mtu, id, |header, payload| {
                let Ok(mut piece) = self.packet(header.len() + payload.len()) else {
                    enough = false;
                    return;
                };
                let bytes = &mut piece.bytes_mut()[prefix..];
                bytes[..header.len()].copy_from_slice(header);
                bytes[header.len()..].copy_from_slice(payload);
                if enough {
                    self.send_on_wire(piece);
                }
            });
            if !is_cut {
                return Err(Errno::EMSGSIZE);
            }
            if !enough {
                return Err(Errno::ENOBUFS);
            }
        }
        self.device.flush();
        if self.link.neighbours.lock().is_waiting() {
            // Its timer asks again.
            self.kick();
        }
        Ok(())
    }

    fn send_on_wire(&self, packet: Packet) {
        if self.device.link_is_up() && !self.device.has_room() {
            // Lost, as datagrams may be.
            count(&self.counters.tx_dropped, 1);
            return;
        }
        self.link.send(packet);
    }

    fn send_to_self(self: &Arc<Self>, mut packet: Packet) {
        let len = packet.bytes().len() as u64;
        count(&self.counters.tx_packets, 1);
        count(&self.counters.tx_bytes, len);
        if !self.config().is_up {
            count(&self.counters.rx_dropped, 1);
            return;
        }
        count(&self.counters.rx_packets, 1);
        count(&self.counters.rx_bytes, len);
        packet.checksum_ok = true;
        let Some(headers) = parse_ip(packet.bytes(), 0) else {
            return;
        };
        let shard = match headers.protocol {
            smoltcp::wire::IpProtocol::Tcp => {
                // From a raw socket.
                let payload = &packet.bytes()[headers.payload.0..headers.payload.1];
                let Some((source, destination)) = ports(payload) else {
                    return;
                };
                self.shard_of(&FlowKey {
                    local: smoltcp::wire::IpEndpoint::new(headers.to, destination),
                    remote: smoltcp::wire::IpEndpoint::new(headers.from, source),
                })
            }
            _ if self.deliver_datagram(&headers, packet.bytes(), true) => return,
            _ => 0,
        };
        self.shards[shard].post(self, headers, packet);
        self.shards[shard].serve(self);
    }

    /// Calls `f` with the ends, state and status of every connection.
    pub fn for_each_tcp(&self, mut f: impl FnMut(&FlowKey, tcp::State, &Status)) {
        for shard in &self.shards {
            let state = shard.state.lock();
            for flow in state.flows.values() {
                let socket = flow.set.get::<tcp::Socket>(flow.handle);
                f(&flow.key, socket.state(), &flow.status);
            }
        }
    }
}

/// Tells the part that answers ARP and neighbour discovery about addresses and routes.
fn announce(iface: &mut Interface, config: &Config) {
    iface.update_ip_addrs(|addrs| {
        addrs.clear();
        let usable = |a: &&IpCidr| a.address().is_unicast();
        for cidr in config.addresses.iter().filter(usable) {
            if addrs.push(*cidr).is_err() {
                break;
            }
        }
    });
    iface.routes_mut().update(|routes| {
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
}

fn new_tcp((rx, tx): (usize, usize)) -> tcp::Socket<'static> {
    let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
    socket.set_congestion_control(tcp::CongestionControl::Reno);
    socket
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
    let mut best: Option<((u8, u32), Arc<Netif>)> = None;
    // The loopback interface carries what is for groups when it is named.
    let groups = through != 0 && to.is_multicast();
    for netif in all.iter().filter(|n| !n.is_loopback() || groups) {
        if through != 0 && netif.index != through {
            continue;
        }
        let config = netif.config();
        if !config.is_up {
            continue;
        }
        let Some((prefix, metric)) = config.cost(to) else {
            continue;
        };
        let beats = |(len, other): (u8, u32)| prefix > len || prefix == len && metric < other;
        if best.as_ref().is_none_or(|(cost, _)| beats(*cost)) {
            best = Some(((prefix, metric), netif.clone()));
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
