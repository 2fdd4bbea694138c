//! The packet filter for what comes in from outside: what the rules allow, what answers this
//! machine, and nothing else.
//!
//! Answers to TCP connections are known by the connection; answers to datagrams by where the
//! receiving socket has sent. Local traffic is not filtered.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use smoltcp::wire::{IpEndpoint, IpProtocol};

use super::stack::table::{self, Takes};
use super::stack::{Headers, Netif, ports};
use crate::sync::{Rank, SpinLock};

/// Lets packets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// TCP or UDP.
    pub protocol: IpProtocol,
    /// First and last port.
    pub ports: (u16, u16),
}

/// Whether anything is kept out.
static ENABLED: AtomicBool = AtomicBool::new(true);

/// What is let in beside ICMP and answers; SSH from the start.
static RULES: SpinLock<Vec<Rule>> = SpinLock::new(Rank::Leaf, Vec::new());

/// Switches the filter on or off.
pub fn set_enabled(on: bool) {
    ENABLED.store(on, Ordering::Relaxed);
}

/// Replaces the rules.
pub fn set_rules(rules: Vec<Rule>) {
    let old = core::mem::replace(&mut *RULES.lock(), rules);
    drop(old);
}

/// The rules of a system that nobody configured: SSH.
pub fn defaults() -> Vec<Rule> {
    alloc::vec![Rule {
        protocol: IpProtocol::Tcp,
        ports: (22, 22),
    }]
}

fn matches(rules: &[Rule], protocol: IpProtocol, port: u16) -> bool {
    rules
        .iter()
        .any(|r| r.protocol == protocol && (r.ports.0..=r.ports.1).contains(&port))
}

/// Whether a packet may come in. TCP segments of connections are not its business: the
/// caller knows those.
pub fn allows(netif: &Netif, headers: &Headers, frame: &[u8]) -> bool {
    if netif.is_loopback() || !ENABLED.load(Ordering::Relaxed) {
        return true;
    }
    let payload = frame.get(headers.payload.0..headers.payload.1);
    let Some((from, to)) = payload.and_then(ports) else {
        return !matches!(headers.protocol, IpProtocol::Tcp | IpProtocol::Udp);
    };
    match headers.protocol {
        IpProtocol::Icmp | IpProtocol::Icmpv6 => true,
        IpProtocol::Udp => {
            // DHCP's answers come before there is an address to have asked from.
            if (from, to) == (67, 68) || matches(&RULES.lock(), IpProtocol::Udp, to) {
                return true;
            }
            let local = IpEndpoint::new(headers.to, to);
            let remote = IpEndpoint::new(headers.from, from);
            table::find_receivers(Takes::Udp, remote, local, true)
                .iter()
                .any(|r| r.has_sent_to(remote))
        }
        protocol => matches(&RULES.lock(), protocol, to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_protocol_and_port() {
        let rules = [
            Rule {
                protocol: IpProtocol::Tcp,
                ports: (22, 22),
            },
            Rule {
                protocol: IpProtocol::Udp,
                ports: (5000, 5010),
            },
        ];
        assert!(matches(&rules, IpProtocol::Tcp, 22));
        assert!(!matches(&rules, IpProtocol::Udp, 22));
        assert!(matches(&rules, IpProtocol::Udp, 5010));
        assert!(!matches(&rules, IpProtocol::Tcp, 23));
    }
}
