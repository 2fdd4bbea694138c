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
//! Work happens in three places: the interface's [`worker`], when the device or a timer calls; a
//! system call, for the flow it is about; and whoever holds a shard takes in what was left for
//! it meanwhile. Local packets go round in the hands of whoever sent them.
//!
//! Lock order: a card's Ethernet part (sleeping) or one shard (sleeping), never two of them,
//! then the spin locks of tables and link.

mod addresses;
pub mod config;
mod connections;
mod demux;
pub mod errors;
mod ether;
pub mod flow;
mod fragment;
#[cfg(test)]
mod fuzz_tests;
pub mod groups;
mod interfaces;
#[cfg(test)]
mod lease_tests;
mod link;
mod neighbour;
mod output;
#[cfg(test)]
mod pieces_tests;
mod port;
mod receiver;
mod route;
mod shard;
#[cfg(test)]
mod stream_tests;
pub mod table;
pub mod traffic_class;
#[cfg(test)]
mod window_tests;
#[cfg(test)]
mod wire_tests;
mod worker;

pub use demux::{Headers, parse_ip, ports, quoted};
#[cfg(test)]
pub use interfaces::start_once;
pub use interfaces::{attach, by_index, by_name, netifs, start};
pub use port::Counters;
pub use route::{is_local, route};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use smoltcp::iface::{self, Interface};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv6Address, Ipv6Cidr};

use crate::net::device::NetDevice;
use crate::sched::{Mutex, WaitQueue};
use crate::sync::SpinLock;
use crate::time::{Timer, now_ns};
use config::Config;
use ether::Ether;
use fragment::Reassembly;
use link::Link;
use shard::Shard;

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

    /// Forgets a neighbour; whether it was known.
    pub fn forget_neighbour(&self, who: IpAddress) -> bool {
        self.link.neighbours.lock().forget(who)
    }

    /// Whether the DHCP client waits for answers.
    fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }
}
