//! A part of an interface's TCP connections, with a lock of its own.
//!
//! Flows are spread by a hash of both their ends that is the same from either end: so a
//! connection over the loopback interface lies in one shard with its other end, and its
//! packets go round under one lock. Each shard has a smoltcp `Interface` that speaks bare IP
//! and knows neither addresses nor neighbours: the link does.
//!
//! Packets for a shard that is at work wait in its `inbox`; whoever holds the lock takes them
//! in before and after letting go, so that the card's worker never waits for a system call.
//!
//! Here is the shard and its lock; `input`, `service` and `flows` are what happens under it.

mod flows;
mod input;
mod service;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use smoltcp::iface::{Interface, SocketSet};

use crate::net::device::Packet;
use crate::net::fifo::Fifo;
use crate::net::stack::Netif;
use crate::net::stack::demux::{Headers, parse_ip};
use crate::net::stack::flow::{Flow, FlowId, FlowKey};
use crate::net::stack::port::{Port, count};
use crate::sched::Mutex;
use crate::sync::{Rank, SpinLock};
use crate::time::Timer;

/// How long a SYN may go unanswered (tcp_syn_retries).
pub(super) const CONNECT_TIMEOUT_SECONDS: u64 = 127;
/// Packets that wait for a shard that is at work.
const MAX_INBOX: usize = 1024;
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
                } else if let Some(headers) = parse_ip(packet.bytes(), 0) {
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
