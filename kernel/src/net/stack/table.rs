//! Who listens where: TCP listeners, receivers of datagrams, and which ports are taken.
//!
//! One spin lock for each table; they are never held together, nor while anything is woken.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use smoltcp::wire::{IpAddress, IpEndpoint};

use super::flow::Listener;
pub use super::receiver::{Datagram, Receiver, Takes};
use crate::error::{Errno, Result};
use crate::sync::{Rank, SpinLock};

/// Ports that are given to sockets which name none (ip_local_port_range).
pub const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;

/// Protocols with ports of their own. Echo identifiers of ping sockets count as ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the protocols' names")]
pub enum Protocol {
    Tcp,
    Udp,
    Ping,
}

/// What a socket claims of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its address; `None` for all.
    pub addr: Option<IpAddress>,
    /// It is for IPv4 packets.
    pub v4: bool,
    /// It is for IPv6 packets.
    pub v6: bool,
    /// SO_REUSEADDR.
    pub reuse_addr: bool,
    /// SO_REUSEPORT, with the user it belongs to.
    pub reuse_port: Option<u32>,
    /// A TCP socket that listens.
    pub listens: bool,
}

impl Claim {
    /// Whether two claims on one port exclude each other (man 7 socket, SO_REUSEADDR).
    pub fn conflicts(&self, other: &Claim, protocol: Protocol) -> bool {
        let families = self.v4 && other.v4 || self.v6 && other.v6;
        let addresses = match (self.addr, other.addr) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        if !families || !addresses {
            return false;
        }
        if self.reuse_port.is_some() && self.reuse_port == other.reuse_port {
            return false;
        }
        let both_reuse = self.reuse_addr && other.reuse_addr;
        let shared = match protocol {
            Protocol::Tcp => both_reuse && !self.listens && !other.listens,
            Protocol::Udp | Protocol::Ping => both_reuse,
        };
        !shared
    }
}

/// A claim on a port, given up when dropped.
pub struct Port {
    protocol: Protocol,
    number: u16,
    id: u64,
}

type Claims = BTreeMap<(Protocol, u16), Vec<(u64, Claim)>>;
static PORTS: SpinLock<Claims> = SpinLock::new(Rank::Object, BTreeMap::new());

fn try_claim(ports: &mut Claims, protocol: Protocol, number: u16, claim: Claim) -> Option<Port> {
    static NEXT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);
    let claims = ports.entry((protocol, number)).or_default();
    if claims.iter().any(|(_, c)| claim.conflicts(c, protocol)) {
        return None;
    }
    let id = NEXT.fetch_add(1, SeqCst);
    claims.push((id, claim));
    Some(Port {
        protocol,
        number,
        id,
    })
}

impl Port {
    /// Claims port `number`, or a free ephemeral one for 0. EADDRINUSE; EAGAIN when all
    /// ephemeral ones are taken.
    pub fn claim(protocol: Protocol, number: u16, claim: Claim) -> Result<Port> {
        let mut ports = PORTS.lock();
        if number != 0 {
            return try_claim(&mut ports, protocol, number, claim).ok_or(Errno::EADDRINUSE);
        }
        let nr = u64::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
        let first = crate::security::random::word() % nr;
        for i in 0..nr {
            let number = EPHEMERAL.start() + ((first + i) % nr) as u16;
            let taken = ports
                .get(&(protocol, number))
                .is_some_and(|c| !c.is_empty());
            // The kernel chooses none that is shared; who names it later may share it.
            if !taken && let Some(port) = try_claim(&mut ports, protocol, number, claim) {
                return Ok(port);
            }
        }
        Err(Errno::EAGAIN)
    }
    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
    /// Changes the claim, e.g. when the socket listens. EADDRINUSE.
    pub fn update(&self, change: impl FnOnce(&mut Claim)) -> Result<()> {
        let mut ports = PORTS.lock();
        let Some(claims) = ports.get_mut(&(self.protocol, self.number)) else {
            return Ok(());
        };
        let Some(own) = claims.iter().find(|(id, _)| *id == self.id) else {
            return Ok(());
        };
        let mut new = own.1;
        change(&mut new);
        let mut others = claims.iter().filter(|(id, _)| *id != self.id);
        if others.any(|(_, c)| new.conflicts(c, self.protocol)) {
            return Err(Errno::EADDRINUSE);
        }
        if let Some(own) = claims.iter_mut().find(|(id, _)| *id == self.id) {
            own.1 = new;
        }
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut ports = PORTS.lock();
        let at = (self.protocol, self.number);
        if let Some(claims) = ports.get_mut(&at) {
            claims.retain(|(id, _)| *id != self.id);
            if claims.is_empty() {
                ports.remove(&at);
            }
        }
    }
}

static LISTENERS: SpinLock<BTreeMap<u16, Vec<Arc<Listener>>>> =
    SpinLock::new(Rank::Object, BTreeMap::new());

/// Makes a listener known.
pub fn listen(listener: Arc<Listener>) {
    LISTENERS
        .lock()
        .entry(listener.port)
        .or_default()
        .push(listener);
}

/// Forgets a listener.
pub fn unlisten(listener: &Arc<Listener>) {
    let mut listeners = LISTENERS.lock();
    if let Some(list) = listeners.get_mut(&listener.port) {
        list.retain(|l| !Arc::ptr_eq(l, listener));
        if list.is_empty() {
            listeners.remove(&listener.port);
        }
    }
}

/// Who listens for connections to `local`: the one with that address before one for all;
/// `spread` chooses among those that share the port.
pub fn find_listener(local: IpEndpoint, spread: usize) -> Option<Arc<Listener>> {
    let listeners = LISTENERS.lock();
    let list = listeners.get(&local.port)?;
    let matching = |exact: bool| {
        list.iter()
            .filter(move |l| l.covers(local.addr) && l.addr.is_some() == exact)
    };
    for exact in [true, false] {
        let n = matching(exact).count();
        if n > 0 {
            return matching(exact).nth(spread % n).cloned();
        }
    }
    None
}

/// All listeners (/proc/net/tcp).
pub fn listeners() -> Vec<Arc<Listener>> {
    LISTENERS.lock().values().flatten().cloned().collect()
}

/// Receivers by port, raw ones under 0.
static RECEIVERS: SpinLock<BTreeMap<u16, Vec<Arc<Receiver>>>> =
    SpinLock::new(Rank::Object, BTreeMap::new());

/// Makes a receiver known under its port.
pub fn add_receiver(receiver: &Arc<Receiver>) {
    let port = receiver.ends.lock().port;
    RECEIVERS
        .lock()
        .entry(port)
        .or_default()
        .push(receiver.clone());
}

/// Forgets a receiver.
pub fn remove_receiver(receiver: &Arc<Receiver>) {
    let port = receiver.ends.lock().port;
    let mut receivers = RECEIVERS.lock();
    if let Some(list) = receivers.get_mut(&port) {
        list.retain(|r| !Arc::ptr_eq(r, receiver));
        if list.is_empty() {
            receivers.remove(&port);
        }
    }
}

/// Who hears a packet: the best match, or all matches when `all` (multicast, broadcast).
pub fn find_receivers(
    takes: Takes,
    from: IpEndpoint,
    to: IpEndpoint,
    all: bool,
) -> Vec<Arc<Receiver>> {
    let receivers = RECEIVERS.lock();
    let Some(list) = receivers.get(&to.port) else {
        return Vec::new();
    };
    let scored = list
        .iter()
        .filter(|r| r.takes == takes)
        .filter_map(|r| Some((r.ends.lock().score(from, to)?, r)));
    if all {
        return scored.map(|(_, r)| r.clone()).collect();
    }
    scored
        .max_by_key(|(score, _)| *score)
        .map(|(_, r)| r.clone())
        .into_iter()
        .collect()
}

/// Whether any raw receiver wants packets of a protocol.
pub fn has_raw(protocol: u8) -> bool {
    let receivers = RECEIVERS.lock();
    receivers
        .get(&0)
        .is_some_and(|list| list.iter().any(|r| r.takes == Takes::Raw(protocol)))
}

/// All receivers (/proc/net/udp).
pub fn receivers() -> Vec<Arc<Receiver>> {
    RECEIVERS.lock().values().flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(addr: Option<IpAddress>) -> Claim {
        Claim {
            addr,
            v4: true,
            v6: false,
            reuse_addr: false,
            reuse_port: None,
            listens: false,
        }
    }

    #[test]
    fn ports_are_exclusive_per_address() {
        let a = IpAddress::v4(10, 0, 0, 1);
        let one = Port::claim(Protocol::Tcp, 4711, claim(Some(a))).unwrap();
        let again = Port::claim(Protocol::Tcp, 4711, claim(None));
        assert_eq!(again.err(), Some(Errno::EADDRINUSE));
        let other = IpAddress::v4(10, 0, 0, 2);
        assert!(Port::claim(Protocol::Tcp, 4711, claim(Some(other))).is_ok());
        assert!(Port::claim(Protocol::Udp, 4711, claim(None)).is_ok());
        drop(one);
        assert!(Port::claim(Protocol::Tcp, 4711, claim(None)).is_ok());
    }

    #[test]
    fn listening_sockets_do_not_share_by_reuseaddr() {
        let mut c = claim(None);
        c.reuse_addr = true;
        let a = Port::claim(Protocol::Tcp, 4712, c).unwrap();
        let b = Port::claim(Protocol::Tcp, 4712, c).unwrap();
        a.update(|c| c.listens = true).unwrap_err();
        drop(b);
        a.update(|c| c.listens = true).unwrap();
        assert!(Port::claim(Protocol::Tcp, 4712, c).is_err());
        c.reuse_port = Some(0);
        let p = Port::claim(Protocol::Tcp, 4713, c).unwrap();
        p.update(|c| c.listens = true).unwrap();
        c.listens = true;
        assert!(Port::claim(Protocol::Tcp, 4713, c).is_ok());
    }

    #[test]
    fn ephemeral_ports_differ() {
        let a = Port::claim(Protocol::Ping, 0, claim(None)).unwrap();
        let b = Port::claim(Protocol::Ping, 0, claim(None)).unwrap();
        assert!(EPHEMERAL.contains(&a.number()) && a.number() != b.number());
        let mut shared = claim(None);
        shared.reuse_addr = true;
        let chosen = Port::claim(Protocol::Udp, 0, shared).unwrap();
        assert!(Port::claim(Protocol::Udp, chosen.number(), shared).is_ok());
    }

    #[test]
    fn the_closest_receiver_hears() {
        let to = IpEndpoint::new(IpAddress::v4(10, 0, 0, 1), 4714);
        let from = IpEndpoint::new(IpAddress::v4(10, 0, 0, 9), 53);
        let make = |remote| {
            let r = Receiver::new(Takes::Udp, true, false, 1 << 16);
            let mut ends = r.ends.lock();
            ends.port = 4714;
            ends.remote = remote;
            drop(ends);
            add_receiver(&r);
            r
        };
        let (open, bound) = (make(None), make(Some(from)));
        let found = find_receivers(Takes::Udp, from, to, false);
        assert!(found.len() == 1 && Arc::ptr_eq(&found[0], &bound));
        assert_eq!(find_receivers(Takes::Udp, from, to, true).len(), 2);
        let stranger = IpEndpoint::new(from.addr, 54);
        let found = find_receivers(Takes::Udp, stranger, to, false);
        assert!(Arc::ptr_eq(&found[0], &open));
        remove_receiver(&open);
        remove_receiver(&bound);
        assert!(find_receivers(Takes::Udp, from, to, true).is_empty());
    }
}
