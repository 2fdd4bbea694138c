//! An interface's TCP connections, each in a shard by a hash of its ends.
//!
//! Called by TCP sockets for their own connection, and by who lists all.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::Netif;
use super::flow::{self, FlowId, FlowKey, Stage, Status};
use super::shard::{CONNECT_TIMEOUT_SECONDS, Shard};
use crate::error::{Errno, Result};

impl Netif {
    /// How many connections there are, of sockets and of none.
    pub(super) fn nr_flows(&self) -> usize {
        self.nr_flows.load(Ordering::Relaxed)
    }

    /// The shard of a connection, the same from either end.
    pub(super) fn shard_of(&self, key: &FlowKey) -> usize {
        let end = |e: &IpEndpoint| {
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

    /// The shard that a connection lies in.
    pub(super) fn shard(&self, id: FlowId) -> &Shard {
        &self.shards[id as usize % self.shards.len()]
    }

    /// Whether there is a connection between these ends.
    pub(super) fn is_open(&self, key: &FlowKey) -> bool {
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
        crate::net::filter::connecting(self, &key)?;
        let mut socket = new_tcp(flow::buffers(buffers, self.nr_flows()));
        prepare(&mut socket);
        let limit = match status.user_timeout_ms() {
            0 => Duration::from_secs(CONNECT_TIMEOUT_SECONDS),
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

pub(super) fn new_tcp((rx, tx): (usize, usize)) -> tcp::Socket<'static> {
    let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
    socket.set_congestion_control(tcp::CongestionControl::Reno);
    socket
}
