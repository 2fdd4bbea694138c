//! The interfaces of this machine: making one for a device, and finding them.
//!
//! Called by drivers that found a card, by whoever asks for interfaces by name or number, and
//! once at boot for the loopback interface.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv6Address};

use super::config::Config;
use super::ether::Ether;
use super::fragment::Reassembly;
use super::groups;
use super::link::Link;
use super::port::{Counters, Port};
use super::shard::Shard;
use super::worker::{self, Wakeup};
use super::{Netif, new_interface};
use crate::error::Result;
use crate::net::device::{Loopback, NetDevice};
use crate::sched::{Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::time::Timer;

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
    use core::sync::atomic::Ordering;
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        crate::net::set_caller(crate::net::Caller {
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
            let wakeup = Wakeup::new(weak.clone(), Some(i));
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
            timer: Timer::new(Arc::new(Wakeup::new(weak.clone(), None))),
            asks: AtomicBool::new(false),
            nr_flows: AtomicUsize::new(0),
            nr_lingering: AtomicUsize::new(0),
        }
    });
    device.set_events(Arc::new(Wakeup::new(Arc::downgrade(&netif), None)));
    worker::start(&netif)?;
    NETIFS.lock().push(netif.clone());
    drop(guard);
    // What came before there was a worker to tell.
    netif.kick();
    Ok(netif)
}
