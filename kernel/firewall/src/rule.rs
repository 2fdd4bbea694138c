//! Rules and what they decide: the first that matches a packet counts, then the default.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Which way a packet goes. There is no chain for forwarding: nothing is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// From outside.
    In,
    /// From a program of this machine.
    Out,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It passes.
    Allow,
    /// It is dropped without a word.
    Deny,
    /// It is dropped and its sender is told: a reset, or "unreachable".
    Reject,
}

/// Protocols that rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the protocols' names")]
pub enum Protocol {
    Any,
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
}

impl Protocol {
    /// Its number in IP headers (IANA, Assigned Internet Protocol Numbers).
    pub fn number(self) -> Option<u8> {
        match self {
            Protocol::Any => None,
            Protocol::Tcp => Some(6),
            Protocol::Udp => Some(17),
            Protocol::Icmp => Some(1),
            Protocol::Icmpv6 => Some(58),
        }
    }
}

/// Ports, or types of ICMP messages, from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u16,
    /// The last, not below it.
    pub last: u16,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The first of them.
    pub address: IpAddr,
    /// Bits that they have in common.
    pub len: u8,
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        // At the top, so that prefixes of both families are compared alike.
        IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl Prefix {
    /// The prefix that `address` is in; `None` when `len` is more bits than it has.
    pub fn new(address: IpAddr, len: u8) -> Option<Prefix> {
        let (all, most) = bits(address);
        if len > most {
            return None;
        }
        let kept = all & mask(len);
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(((kept >> 96) as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(kept.into()),
        };
        Some(Prefix { address, len })
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && (bits(self.address).0 ^ bits(address).0) & mask(self.len) == 0
    }
}

/// A rule. What is `None` or empty matches all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which way.
    pub chain: Chain,
    /// What becomes of what it matches.
    pub action: Action,
    /// Of this protocol.
    pub protocol: Protocol,
    /// To one of these ports; for ICMP: of one of these types.
    pub ports: Vec<Range>,
    /// From these addresses.
    pub from: Option<Prefix>,
    /// From one of these ports.
    pub from_ports: Vec<Range>,
    /// To these addresses.
    pub to: Option<Prefix>,
    /// Through this interface.
    pub interface: Option<String>,
    /// What it matches is told to the kernel's log, at a bounded rate.
    pub log: bool,
    /// What it is for.
    pub comment: Option<String>,
}

/// What a packet shows to the rules.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Which way it goes.
    pub chain: Chain,
    /// The protocol's number.
    pub protocol: u8,
    /// Its sender.
    pub from: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Source and destination port; for ICMP: 0 and the type. `None` when it has none.
    pub ports: Option<(u16, u16)>,
    /// The interface's name.
    pub interface: &'a str,
}

fn within(ranges: &[Range], number: Option<u16>) -> bool {
    ranges.is_empty()
        || number.is_some_and(|n| ranges.iter().any(|r| (r.first..=r.last).contains(&n)))
}

impl Rule {
    /// Whether it is about this packet.
    pub fn matches(&self, p: &Packet<'_>) -> bool {
        self.chain == p.chain
            && self.protocol.number().is_none_or(|n| n == p.protocol)
            && within(&self.ports, p.ports.map(|p| p.1))
            && within(&self.from_ports, p.ports.map(|p| p.0))
            && self.from.is_none_or(|prefix| prefix.contains(p.from))
            && self.to.is_none_or(|prefix| prefix.contains(p.to))
            && self.interface.as_deref().is_none_or(|n| n == p.interface)
    }
}

/// All rules, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// What comes in and matches none.
    pub default_in: Action,
    /// What goes out and matches none.
    pub default_out: Action,
    /// Whether the filter is to be switched on or off; `None` leaves it as it is.
    pub switch: Option<bool>,
    /// Counters begin anew.
    pub reset_counters: bool,
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Default for RuleSet {
    /// No rules: nothing comes in, all goes out.
    fn default() -> RuleSet {
        RuleSet {
            default_in: Action::Deny,
            default_out: Action::Allow,
            switch: None,
            reset_counters: false,
            rules: Vec::new(),
        }
    }
}

impl RuleSet {
    /// What becomes of a packet, and the place of the rule that says so; `None` when it is
    /// the default.
    pub fn decide(&self, packet: &Packet<'_>) -> (Action, Option<usize>) {
        match self.rules.iter().position(|r| r.matches(packet)) {
            Some(at) => (self.rules[at].action, Some(at)),
            None => (self.policy(packet.chain), None),
        }
    }

    /// A chain's default.
    pub fn policy(&self, chain: Chain) -> Action {
        match chain {
            Chain::In => self.default_in,
            Chain::Out => self.default_out,
        }
    }

    /// Whether a chain lets everything pass.
    pub fn is_open(&self, chain: Chain) -> bool {
        let mut rules = self.rules.iter().filter(|r| r.chain == chain);
        self.policy(chain) == Action::Allow && rules.all(|r| r.action == Action::Allow && !r.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(protocol: u8, from: &str, to: &str, ports: (u16, u16)) -> Packet<'a> {
        Packet {
            chain: Chain::In,
            protocol,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            ports: Some(ports),
            interface: "eth0",
        }
    }

    fn set(text: &str) -> RuleSet {
        RuleSet::parse(text).unwrap()
    }

    /// Rule, packet (protocol, from, source port, to, port), whether it matches.
    #[test]
    fn truth_table() {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const ICMP: u8 = 1;
        let (a, b, v6) = ("10.1.2.3", "192.168.0.1", "2001:db8::1");
        type Shown = (u8, &'static str, u16, &'static str, u16);
        let table: &[(&str, Shown, bool)] = &[
            ("allow any", (TCP, a, 1, b, 2), true),
            ("allow any", (47, a, 0, b, 0), true),
            ("allow tcp", (TCP, a, 1, b, 2), true),
            ("allow tcp", (UDP, a, 1, b, 2), false),
            ("allow tcp 22", (TCP, a, 1, b, 22), true),
            ("allow tcp 22", (TCP, a, 22, b, 1), false),
            ("allow tcp 22", (TCP, v6, 1, v6, 22), true),
            ("allow udp 5000-5010", (UDP, a, 1, b, 4999), false),
            ("allow udp 5000-5010", (UDP, a, 1, b, 5000), true),
            ("allow udp 5000-5010", (UDP, a, 1, b, 5010), true),
            ("allow udp 5000-5010", (UDP, a, 1, b, 5011), false),
            ("allow tcp 80,443", (TCP, a, 1, b, 443), true),
            ("allow tcp 80,443", (TCP, a, 1, b, 81), false),
            ("allow icmp 8", (ICMP, a, 0, b, 8), true),
            ("allow icmp 8", (ICMP, a, 0, b, 0), false),
            ("allow icmpv6", (ICMP, a, 0, b, 8), false),
            ("allow icmpv6", (58, v6, 0, v6, 135), true),
            ("allow tcp from 10.0.0.0/8", (TCP, a, 1, b, 2), true),
            ("allow tcp from 10.0.0.0/8", (TCP, b, 1, a, 2), false),
            ("allow tcp from 0.0.0.0/0", (TCP, v6, 1, v6, 2), false),
            ("allow tcp from 10.1.2.3", (TCP, a, 1, b, 2), true),
            ("allow tcp from 10.1.2.4", (TCP, a, 1, b, 2), false),
            (
                "allow tcp from 10.0.0.0/8 port 1-9",
                (TCP, a, 9, b, 2),
                true,
            ),
            ("allow tcp from any port 1-9", (TCP, a, 10, b, 2), false),
            ("allow udp to 2001:db8::/32", (UDP, v6, 1, v6, 2), true),
            ("allow udp to 2001:db9::/32", (UDP, v6, 1, v6, 2), false),
            ("allow udp to 2001:db8::/32", (UDP, a, 1, b, 2), false),
            ("allow any on eth0", (TCP, a, 1, b, 2), true),
            ("allow any on eth1", (TCP, a, 1, b, 2), false),
            ("out allow any", (TCP, a, 1, b, 2), false),
        ];
        for (text, (protocol, from, src, to, dst), expected) in table {
            let p = packet(*protocol, from, to, (*src, *dst));
            assert_eq!(set(text).rules[0].matches(&p), *expected, "{text}: {p:?}");
        }
    }

    #[test]
    fn a_packet_without_ports_matches_no_rule_of_ports() {
        let mut p = packet(6, "10.0.0.1", "10.0.0.2", (1, 22));
        p.ports = None;
        assert_eq!(set("allow tcp 22").decide(&p), (Action::Deny, None));
        assert_eq!(set("allow tcp").decide(&p), (Action::Allow, Some(0)));
    }

    #[test]
    fn the_first_match_counts_then_the_default() {
        let set = set("default in reject\ndeny tcp 22 from 10.0.0.0/8\nallow tcp 22\n");
        let near = packet(6, "10.0.0.1", "10.0.0.2", (1, 22));
        let far = packet(6, "11.0.0.1", "10.0.0.2", (1, 22));
        let other = packet(6, "11.0.0.1", "10.0.0.2", (1, 23));
        assert_eq!(set.decide(&near), (Action::Deny, Some(0)));
        assert_eq!(set.decide(&far), (Action::Allow, Some(1)));
        assert_eq!(set.decide(&other), (Action::Reject, None));
        let out = Packet {
            chain: Chain::Out,
            ..other
        };
        assert_eq!(set.decide(&out), (Action::Allow, None));
        assert!(set.is_open(Chain::Out) && !set.is_open(Chain::In));
    }

    #[test]
    fn prefixes_of_every_length() {
        let address: IpAddr = "255.255.255.255".parse().unwrap();
        for len in 0..=32 {
            let prefix = Prefix::new(address, len).unwrap();
            assert!(prefix.contains(address));
            if len > 0 {
                assert!(!prefix.contains("0.0.0.0".parse().unwrap()));
            }
        }
        assert!(Prefix::new(address, 33).is_none());
        assert!(Prefix::new("::".parse().unwrap(), 129).is_none());
        let all = Prefix::new("::".parse().unwrap(), 0).unwrap();
        assert!(all.contains("ffff::1".parse().unwrap()));
    }
}
