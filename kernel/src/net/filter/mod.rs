//! The packet filter: what comes in from outside, and what programs send.
//!
//! Rules are `oxbow_firewall`'s. Answers pass without them: segments of TCP connections that
//! are there, datagrams and echo replies of flows that something sent or let in ([`track`]),
//! errors about those, the answers of DHCP while its client runs, and routers' questions about
//! groups. What the kernel itself
//! answers (resets, echo replies, neighbour discovery) is not judged on its way out. Local
//! traffic is not filtered.
//!
//! The rules are one value behind an `Arc`: a packet takes the leaf lock for as long as it
//! takes to count a reference. Whoever changes rules builds the new value outside that lock;
//! `CHANGE` (sleeping) makes changes one after the other. `net::stack` calls, with an
//! interface's lock held or without; /proc/net/firewall shows and replaces.

mod track;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oxbow_firewall::{Action, Chain, RuleSet};
use smoltcp::wire::{Icmpv4Message, Icmpv6Message, IpAddress, IpEndpoint, IpProtocol};

use super::stack::flow::FlowKey;
use super::stack::groups;
use super::stack::{Headers, Netif, parse_ip, ports, quoted};
use crate::error::{Errno, Result};
use crate::sched::Mutex;
use crate::sync::{Rank, SpinLock};
use crate::time::{NS_PER_SEC, now_ns};
pub use oxbow_firewall::MAX_TEXT;
use track::{Tracked, Tracker};

const CAP_NET_ADMIN: u32 = 12;
/// Lines about packets that the log takes in a second.
const LOG_RATE: u64 = 10;

/// What became of how much.
#[derive(Default)]
struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, len: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
    fn reset(&self) {
        self.packets.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

impl core::fmt::Display for Counter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (packets, bytes) = (&self.packets, &self.bytes);
        let (packets, bytes) = (
            packets.load(Ordering::Relaxed),
            bytes.load(Ordering::Relaxed),
        );
        write!(f, "packets {packets} bytes {bytes}")
    }
}

/// Rules in force, each with its counter.
struct Active {
    set: RuleSet,
    counters: Vec<Arc<Counter>>,
    /// Of the defaults, in and out.
    defaults: [Arc<Counter>; 2],
    /// Everything may go out.
    out_is_open: bool,
    /// Everything may come in.
    in_is_open: bool,
}

/// Whether anything is kept out.
static ENABLED: AtomicBool = AtomicBool::new(true);
/// The rules; none before [`start`].
static ACTIVE: SpinLock<Option<Arc<Active>>> = SpinLock::new(Rank::Leaf, None);
/// One change at a time.
static CHANGE: Mutex<()> = Mutex::new(());
/// Flows of datagrams and echoes.
static TRACKER: SpinLock<Tracker> = SpinLock::new(Rank::Object, Tracker::new());
/// Answers that passed.
static ANSWERS: Counter = Counter {
    packets: AtomicU64::new(0),
    bytes: AtomicU64::new(0),
};

/// What the stack does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Takes it.
    Allow,
    /// Drops it.
    Drop,
    /// Answers that nobody is there.
    Reject,
}

/// The boot step: the rules of a machine that nobody configured.
pub fn start(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
    // Checked by a test; without them nothing would come in.
    install(RuleSet::parse(oxbow_firewall::DEFAULTS).unwrap_or_default());
}

/// Puts rules in force. A rule that was there before keeps its counter.
pub(super) fn install(set: RuleSet) {
    let _guard = CHANGE.lock();
    let old = ACTIVE.lock().clone();
    let keep = old.as_ref().filter(|_| !set.reset_counters);
    let counters = set.rules.iter().map(|rule| {
        let at = keep.and_then(|k| k.set.rules.iter().position(|r| r == rule));
        keep.zip(at)
            .map_or_else(Arc::default, |(k, at)| k.counters[at].clone())
    });
    let counters = counters.collect();
    let defaults = keep.map_or_else(Default::default, |k| k.defaults.clone());
    if set.reset_counters {
        ANSWERS.reset();
    }
    if let Some(on) = set.switch {
        ENABLED.store(on, Ordering::Relaxed);
    }
    let new = Arc::new(Active {
        out_is_open: set.is_open(Chain::Out),
        in_is_open: set.is_open(Chain::In),
        set,
        counters,
        defaults,
    });
    let replaced = ACTIVE.lock().replace(new);
    drop(replaced);
}

/// Replaces all rules by those of `text`, or none of them. EPERM without CAP_NET_ADMIN,
/// EINVAL for a text that is no sound one.
pub fn replace(text: &[u8]) -> Result<()> {
    super::may(CAP_NET_ADMIN)?;
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    install(RuleSet::parse(text).map_err(|_| Errno::EINVAL)?);
    Ok(())
}

/// The rules as text, each line with its counters in a comment.
pub fn show() -> String {
    let Some(active) = ACTIVE.lock().clone() else {
        return String::new();
    };
    let mut out = String::new();
    let on = if ENABLED.load(Ordering::Relaxed) {
        "on"
    } else {
        "off"
    };
    let _ = writeln!(out, "filter {on}");
    let _ = writeln!(out, "# answers: {ANSWERS}");
    for (chain, counter) in [Chain::In, Chain::Out].into_iter().zip(&active.defaults) {
        let _ = writeln!(
            out,
            "default {chain} {} # {counter}",
            active.set.policy(chain)
        );
    }
    for (rule, counter) in active.set.rules.iter().zip(&active.counters) {
        let _ = writeln!(out, "{rule} # {counter}");
    }
    out
}

fn std_addr(addr: IpAddress) -> IpAddr {
    match addr {
        IpAddress::Ipv4(a) => IpAddr::V4(a),
        IpAddress::Ipv6(a) => IpAddr::V6(a),
    }
}

/// What a packet is about, seen from this machine.
struct About {
    local: IpEndpoint,
    remote: IpEndpoint,
    protocol: IpProtocol,
    /// Ports as rules see them, source first.
    ports: Option<(u16, u16)>,
    /// It is a datagram or an echo, which are tracked by both ends.
    is_tracked: bool,
}

impl About {
    fn of(chain: Chain, headers: &Headers, payload: &[u8]) -> About {
        let (mut source, mut destination) = (0, 0);
        let mut seen = None;
        let mut is_tracked = false;
        match headers.protocol {
            IpProtocol::Tcp | IpProtocol::Udp => {
                seen = ports(payload);
                (source, destination) = seen.unwrap_or((0, 0));
                is_tracked = seen.is_some() && headers.protocol == IpProtocol::Udp;
            }
            IpProtocol::Icmp | IpProtocol::Icmpv6 => {
                let is_v4 = headers.protocol == IpProtocol::Icmp;
                let echo = |kind: u8| match is_v4 {
                    true => matches!(
                        Icmpv4Message::from(kind),
                        Icmpv4Message::EchoRequest | Icmpv4Message::EchoReply
                    ),
                    false => matches!(
                        Icmpv6Message::from(kind),
                        Icmpv6Message::EchoRequest | Icmpv6Message::EchoReply
                    ),
                };
                seen = payload.first().map(|&kind| (0, u16::from(kind)));
                is_tracked = payload.len() >= 8 && echo(payload[0]);
                if is_tracked {
                    // The identifier stands for the asking end's port.
                    let ident = u16::from_be_bytes([payload[4], payload[5]]);
                    (source, destination) = (ident, ident);
                }
            }
            _ => {}
        }
        let from = IpEndpoint::new(headers.from, source);
        let to = IpEndpoint::new(headers.to, destination);
        let (local, remote) = match chain {
            Chain::In => (to, from),
            Chain::Out => (from, to),
        };
        About {
            local,
            remote,
            protocol: headers.protocol,
            ports: seen,
            is_tracked,
        }
    }
    fn key(&self) -> FlowKey {
        FlowKey {
            local: self.local,
            remote: self.remote,
        }
    }
    fn tracked(&self) -> Tracked {
        Tracked {
            protocol: u8::from(self.protocol),
            local: self.local,
            remote: self.remote,
        }
    }
}

impl Active {
    /// What the rules say; counts it.
    fn judge(&self, chain: Chain, netif: &Netif, about: &About, len: usize) -> Action {
        let (from, to) = match chain {
            Chain::In => (about.remote, about.local),
            Chain::Out => (about.local, about.remote),
        };
        let packet = oxbow_firewall::Packet {
            chain,
            protocol: u8::from(about.protocol),
            from: std_addr(from.addr),
            to: std_addr(to.addr),
            ports: about.ports,
            interface: &netif.name,
        };
        let (action, rule) = self.set.decide(&packet);
        let counter = match rule {
            Some(at) => &self.counters[at],
            None => &self.defaults[usize::from(chain == Chain::Out)],
        };
        counter.add(len);
        if rule.is_some_and(|at| self.set.rules[at].log) && may_log() {
            let ports = about.ports.unwrap_or((0, 0));
            info!(
                "firewall: {chain} {action} {} {} {}:{} -> {}:{} length {len}",
                netif.name, about.protocol, from.addr, ports.0, to.addr, ports.1
            );
        }
        action
    }
}

/// Whether the log takes another line this second.
fn may_log() -> bool {
    static SECOND: AtomicU64 = AtomicU64::new(0);
    static LINES: AtomicU64 = AtomicU64::new(0);
    let second = now_ns() / NS_PER_SEC;
    if SECOND.swap(second, Ordering::Relaxed) != second {
        LINES.store(0, Ordering::Relaxed);
    }
    LINES.fetch_add(1, Ordering::Relaxed) < LOG_RATE
}

/// Whether an ICMP error is about something that this machine sent.
fn is_about_ours(payload: &[u8], is_open: &mut dyn FnMut(&FlowKey) -> bool) -> bool {
    let Some((from, to, protocol, at)) = payload.get(8..).and_then(quoted) else {
        return false;
    };
    let Some(head) = payload.get(8 + at..) else {
        return false;
    };
    let (source, destination) = match IpProtocol::from(protocol) {
        IpProtocol::Tcp | IpProtocol::Udp => match ports(head) {
            Some(ports) => ports,
            None => return false,
        },
        IpProtocol::Icmp | IpProtocol::Icmpv6 => match head.get(4..6) {
            Some(b) => {
                let ident = u16::from_be_bytes([b[0], b[1]]);
                (ident, ident)
            }
            None => return false,
        },
        _ => return false,
    };
    let (local, remote) = (
        IpEndpoint::new(from, source),
        IpEndpoint::new(to, destination),
    );
    if IpProtocol::from(protocol) == IpProtocol::Tcp {
        return is_open(&FlowKey { local, remote });
    }
    let tracked = Tracked {
        protocol,
        local,
        remote,
    };
    TRACKER.lock().knows(&tracked, now_ns())
}

fn is_error(protocol: IpProtocol, payload: &[u8]) -> bool {
    let Some(&kind) = payload.first() else {
        return false;
    };
    match protocol {
        IpProtocol::Icmp => matches!(
            Icmpv4Message::from(kind),
            Icmpv4Message::DstUnreachable
                | Icmpv4Message::TimeExceeded
                | Icmpv4Message::ParamProblem
        ),
        // RFC 4443, 2.1: errors are below 128.
        IpProtocol::Icmpv6 => kind < 128,
        _ => false,
    }
}

/// What becomes of a packet that came through `netif`. `is_open` knows its TCP connections,
/// `asks` whether its DHCP client runs.
pub fn incoming(
    netif: &Netif,
    headers: &Headers,
    frame: &[u8],
    asks: bool,
    mut is_open: impl FnMut(&FlowKey) -> bool,
) -> Verdict {
    if netif.is_loopback() || !ENABLED.load(Ordering::Relaxed) {
        return Verdict::Allow;
    }
    let Some(payload) = frame.get(headers.payload.0..headers.payload.1) else {
        return Verdict::Drop;
    };
    let about = About::of(Chain::In, headers, payload);
    let len = headers.ip.1 - headers.ip.0;
    let is_answer = match headers.protocol {
        IpProtocol::Tcp => is_open(&about.key()),
        // DHCP's answers come before there is an address to have asked from.
        IpProtocol::Udp if about.ports == Some((67, 68)) && asks => true,
        // Only the kernel hears it, and only members answer.
        protocol if groups::is_query(protocol, payload) => true,
        protocol if is_error(protocol, payload) => is_about_ours(payload, &mut is_open),
        _ if about.is_tracked => TRACKER.lock().answered(&about.tracked(), now_ns()),
        _ => false,
    };
    if is_answer {
        ANSWERS.add(len);
        return Verdict::Allow;
    }
    let Some(active) = ACTIVE.lock().clone() else {
        return Verdict::Drop;
    };
    match active.judge(Chain::In, netif, &about, len) {
        Action::Allow => {
            if about.is_tracked && !active.out_is_open {
                TRACKER.lock().opened_by_peer(about.tracked(), now_ns());
            }
            Verdict::Allow
        }
        Action::Deny => Verdict::Drop,
        // An error about ICMP would answer an error (RFC 1122, 3.2.2).
        Action::Reject
            if matches!(
                headers.protocol,
                IpProtocol::Icmp | IpProtocol::Icmpv6 | IpProtocol::Igmp
            ) =>
        {
            Verdict::Drop
        }
        Action::Reject => Verdict::Reject,
    }
}

/// Whether a program may send this IP packet, which is no TCP segment of a connection.
/// EPERM (man 2 send).
pub fn outgoing(netif: &Netif, packet: &[u8]) -> Result<()> {
    if netif.is_loopback() || !ENABLED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let Some(active) = ACTIVE.lock().clone() else {
        return Ok(());
    };
    // What a raw socket sends may be anything; rules know only sound packets.
    let Some(headers) = parse_ip(packet, 0) else {
        return if active.out_is_open {
            Ok(())
        } else {
            Err(Errno::EPERM)
        };
    };
    let payload = packet
        .get(headers.payload.0..headers.payload.1)
        .unwrap_or(&[]);
    let about = About::of(Chain::Out, &headers, payload);
    let is_answer = about.is_tracked
        && !active.out_is_open
        && TRACKER.lock().continues(&about.tracked(), now_ns());
    if !is_answer && active.judge(Chain::Out, netif, &about, packet.len()) != Action::Allow {
        return Err(Errno::EPERM);
    }
    if about.is_tracked && !active.in_is_open {
        TRACKER.lock().opened_here(about.tracked(), now_ns());
    }
    Ok(())
}

/// Whether a program may open this TCP connection. EPERM for what is denied and ECONNREFUSED
/// for what is rejected (man 2 connect).
pub fn connecting(netif: &Netif, key: &FlowKey) -> Result<()> {
    if netif.is_loopback() || !ENABLED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let Some(active) = ACTIVE.lock().clone() else {
        return Ok(());
    };
    let about = About {
        local: key.local,
        remote: key.remote,
        protocol: IpProtocol::Tcp,
        ports: Some((key.local.port, key.remote.port)),
        is_tracked: false,
    };
    // A SYN with the options that the stack sends.
    const SYN: usize = 60;
    match active.judge(Chain::Out, netif, &about, SYN) {
        Action::Allow => Ok(()),
        Action::Deny => Err(Errno::EPERM),
        Action::Reject => Err(Errno::ECONNREFUSED),
    }
}

/// The text of [`show`] as a file's content.
pub fn text() -> Result<Vec<u8>> {
    Ok(show().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        let set = RuleSet::parse(oxbow_firewall::DEFAULTS).unwrap();
        assert_eq!(set.rules.len(), 3);
        assert!(set.is_open(Chain::Out));
    }

    #[test]
    fn errors_of_any_length_are_read_safely() {
        let mut payload = [0u8; 80];
        payload[8] = 0x4f;
        for len in 0..payload.len() {
            is_about_ours(&payload[..len], &mut |_| true);
        }
        payload[8] = 0x60;
        for len in 0..payload.len() {
            is_about_ours(&payload[..len], &mut |_| true);
        }
    }
}
