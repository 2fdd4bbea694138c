//! What follows from a change of a flow: what it sends, what its socket is told, when it is
//! looked at again, and whether it ends.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::{Shard, State};
use crate::error::Errno;
use crate::mm::PAGE_SIZE;
use crate::net::device::HEADROOM;
use crate::net::stack::flow::{Accepted, FlowId, Stage, bit};
use crate::net::stack::link::ETHERNET;
use crate::net::stack::{Netif, instant};
use crate::time::now_ns;

/// Connections of a shard above which idle ones give their buffers back.
const CROWDED: usize = 32;
/// Connections of an interface that are kept for their TIME_WAIT.
const MAX_LINGERING: usize = 4096;
/// How long a peer may leave data unacknowledged (tcp_retries2).
const DATA_TIMEOUT_SECONDS: u64 = 924;
/// The longest IP packet, and the longest one that a page takes with what is in front of it.
const LONGEST: usize = 65536;
const PAGE_PACKET: usize = PAGE_SIZE - HEADROOM - ETHERNET;

impl State {
    /// Sends what a flow has to send, notes when it wants to be looked at again, and tells
    /// whoever waits. `why` is the error of a connection that is found broken.
    pub(in crate::net::stack) fn service(
        &mut self,
        netif: &Arc<Netif>,
        shard: &Shard,
        id: FlowId,
        why: Errno,
    ) {
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
    pub(super) fn expire(&mut self, netif: &Arc<Netif>, shard: &Shard) {
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
}
