//! Packets on their way in: to the flow that a segment is for, or to a new one of a listener.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::{IpEndpoint, IpProtocol, TcpPacket};

use super::flows::set_of_one;
use super::{Shard, State};
use crate::error::Errno;
use crate::net::device::Packet;
use crate::net::stack::connections::new_tcp;
use crate::net::stack::demux::Headers;
use crate::net::stack::flow::{self, Flow, FlowId, FlowKey, Listener, Stage, Status};
use crate::net::stack::port::count;
use crate::net::stack::{Netif, instant, table};
use crate::sched::WaitQueue;
use crate::time::now_ns;

/// How long a handshake of a listener may take.
const EMBRYO_SECONDS: u64 = 60;

impl State {
    /// A TCP segment, or a packet that nobody wanted and smoltcp answers.
    pub(super) fn take(
        &mut self,
        netif: &Arc<Netif>,
        shard: &Shard,
        headers: Headers,
        packet: Packet,
    ) {
        if headers.protocol == IpProtocol::Tcp {
            self.segment(netif, shard, headers, packet);
        } else if !netif.is_loopback()
            || !netif.deliver_datagram(&headers, packet.bytes(), packet.checksum_ok)
        {
            self.ingest(packet, None);
        }
    }

    /// A TCP segment: for a flow between these ends, or for a listener when it opens one.
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
        let mut socket = new_tcp(limits);
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

    /// Ends a connection that only waits for late segments, for a new one between the same
    /// ends (RFC 1122, 4.2.2.13); whether it did.
    pub(super) fn gives_way(&mut self, netif: &Netif, shard: &Shard, id: FlowId) -> bool {
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

    /// Gives a packet to smoltcp with one flow's set, or with nobody's.
    pub(in crate::net::stack) fn ingest(&mut self, packet: Packet, id: Option<FlowId>) {
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
}
