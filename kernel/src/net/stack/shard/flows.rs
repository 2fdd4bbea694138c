//! A shard's flows: beginning, failing and ending them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::{Shard, State};
use crate::error::{Errno, Result};
use crate::net::stack::flow::{Flow, FlowId, FlowKey, Stage, Status};
use crate::net::stack::{Netif, config, is_local};

/// How long a closed connection may take to end.
const ORPHAN_SECONDS: u64 = 60;

/// A set with memory for one socket.
pub(super) fn set_of_one() -> Option<SocketSet<'static>> {
    let mut place = Vec::new();
    place.try_reserve_exact(1).ok()?;
    Some(SocketSet::new(place))
}

impl State {
    /// Whether a flow's handshake goes on.
    pub(in crate::net::stack) fn is_opening(&mut self, id: FlowId) -> bool {
        self.tcp(id)
            .is_some_and(|s| s.state() == tcp::State::SynSent)
    }

    pub(in crate::net::stack) fn tcp(&mut self, id: FlowId) -> Option<&mut tcp::Socket<'static>> {
        let flow = self.flows.get_mut(&id)?;
        Some(flow.set.get_mut::<tcp::Socket>(flow.handle))
    }

    pub(in crate::net::stack) fn add(
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

    pub(in crate::net::stack) fn remove(&mut self, netif: &Netif, shard: &Shard, id: FlowId) {
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

    /// Ends the connections whose own address is gone.
    pub(in crate::net::stack) fn drop_strangers(&mut self, netif: &Netif, shard: &Shard) {
        let config = netif.config();
        let gone = |f: &Flow| {
            let own = f.key.local.addr;
            !config.has(own) && !config::is_loopback(own) && !is_local(own)
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
    pub(in crate::net::stack) fn fail(
        &mut self,
        netif: &Netif,
        shard: &Shard,
        id: FlowId,
        why: Errno,
    ) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        flow.status.break_off(why);
        if !matches!(flow.stage, Stage::Queued) {
            self.remove(netif, shard, id);
        }
    }

    /// Starts a connection. EADDRINUSE when there is one between these ends.
    pub(in crate::net::stack) fn connect(
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
    pub(in crate::net::stack) fn release(
        &mut self,
        netif: &Arc<Netif>,
        shard: &Shard,
        id: FlowId,
        reset: bool,
    ) {
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
