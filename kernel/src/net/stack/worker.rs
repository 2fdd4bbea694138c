//! An interface's worker: takes packets in when its device calls, and looks after neighbours,
//! DHCP, routers and groups when its timer does.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smoltcp::wire::{IpEndpoint, IpProtocol};

use super::Netif;
use super::demux::{parse_ip, ports};
use super::flow::FlowKey;
use super::link::ETHERNET;
use crate::error::{Errno, Result};
use crate::net::device::{Events, Packet};
use crate::time::{TimerCallback, now_ns};

/// Packets a worker takes in one go before it looks after timers.
const BUDGET: usize = 64;

/// Wakes an interface's worker: for its device and its timers, of which each shard has one.
pub(super) struct Wakeup(Weak<Netif>, Option<usize>);

impl Wakeup {
    /// For the interface itself, or for one of its shards.
    pub(super) fn new(netif: Weak<Netif>, shard: Option<usize>) -> Wakeup {
        Wakeup(netif, shard)
    }
}

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

/// Starts the worker of a new interface. ENOMEM.
pub(super) fn start(netif: &Arc<Netif>) -> Result<()> {
    let own = netif.clone();
    crate::sched::spawn_kernel(alloc::format!("net/{}", netif.name), move || {
        loop {
            // Nobody interrupts this thread.
            let _ = own.worker.wait_interruptible(None, || {
                own.pending.swap(false, Ordering::SeqCst).then_some(())
            });
            own.work();
        }
    })?;
    Ok(())
}

impl Netif {
    /// There is work for the worker.
    pub(super) fn kick(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.worker.wake_all();
    }

    /// What the worker does when it was woken.
    pub(super) fn work(self: &Arc<Self>) {
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
    pub(super) fn unreachable(self: &Arc<Self>, packet: &Packet) {
        let Some(headers) = parse_ip(packet.bytes(), ETHERNET) else {
            return;
        };
        let payload = packet.bytes().get(headers.payload.0..headers.payload.1);
        let payload = payload.unwrap_or(&[]);
        if headers.protocol != IpProtocol::Tcp {
            self.nobody_answers(&headers, payload);
            return;
        }
        let Some((source, destination)) = ports(payload) else {
            return;
        };
        let key = FlowKey {
            local: IpEndpoint::new(headers.from, source),
            remote: IpEndpoint::new(headers.to, destination),
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
}
