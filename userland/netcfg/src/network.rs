//! Interfaces, addresses, routes and neighbours as route netlink tells them, and changes to
//! them (man 7 rtnetlink, linux/rtnetlink.h).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::{Body, Message, Netlink, word};

pub const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
pub const RTM_NEWNEIGH: u16 = 28;
pub const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

pub const IFF_UP: u32 = 1;
pub const IFF_LOOPBACK: u32 = 8;
/// Names of IFF_* with their bits, in the order that iproute2 shows.
pub const FLAGS: [(u32, &str); 16] = [
    (3, "LOOPBACK"),
    (1, "BROADCAST"),
    (4, "POINTOPOINT"),
    (12, "MULTICAST"),
    (7, "NOARP"),
    (9, "ALLMULTI"),
    (8, "PROMISC"),
    (10, "MASTER"),
    (11, "SLAVE"),
    (2, "DEBUG"),
    (15, "DYNAMIC"),
    (14, "AUTOMEDIA"),
    (13, "PORTSEL"),
    (5, "NOTRAILERS"),
    (0, "UP"),
    (16, "LOWER_UP"),
];

/// Which family is asked for; 0 for all.
pub fn family(v: Option<u8>) -> u8 {
    match v {
        Some(4) => libc::AF_INET as u8,
        Some(_) => libc::AF_INET6 as u8,
        None => 0,
    }
}

fn family_of(address: IpAddr) -> u8 {
    family(Some(if address.is_ipv4() { 4 } else { 6 }))
}

/// An interface.
#[derive(Clone, Debug, Default)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub kind: u16,
    pub flags: u32,
    pub mtu: u32,
    pub qdisc: String,
    pub state: u8,
    pub txqlen: u32,
    pub mac: Vec<u8>,
    pub broadcast: Vec<u8>,
    /// rtnl_link_stats64.
    pub stats: Vec<u64>,
}

impl Link {
    fn read(m: &Message) -> Link {
        const FIXED: usize = 16;
        let stats = m.attribute(FIXED, 23).unwrap_or(&[]);
        let (stats, _) = stats.as_chunks::<8>();
        Link {
            index: m.word(4),
            name: m.text(FIXED, 3).unwrap_or_default(),
            kind: u16::from_ne_bytes([m.byte(2), m.byte(3)]),
            flags: m.word(8),
            mtu: m.number(FIXED, 4).unwrap_or(0),
            qdisc: m.text(FIXED, 6).unwrap_or_else(|| "noop".to_owned()),
            state: m
                .attribute(FIXED, 16)
                .and_then(|b| b.first())
                .copied()
                .unwrap_or(0),
            txqlen: m.number(FIXED, 13).unwrap_or(0),
            mac: m.attribute(FIXED, 1).unwrap_or(&[]).to_vec(),
            broadcast: m.attribute(FIXED, 2).unwrap_or(&[]).to_vec(),
            stats: stats.iter().map(|b| u64::from_ne_bytes(*b)).collect(),
        }
    }
    pub fn is_loopback(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0
    }
    pub fn stat(&self, at: usize) -> u64 {
        self.stats.get(at).copied().unwrap_or(0)
    }
    /// IF_OPER_* (linux/if.h).
    pub fn state_name(&self) -> &'static str {
        const NAMES: [&str; 7] = [
            "UNKNOWN",
            "NOTPRESENT",
            "DOWN",
            "LOWERLAYERDOWN",
            "TESTING",
            "DORMANT",
            "UP",
        ];
        NAMES.get(usize::from(self.state)).unwrap_or(&"UNKNOWN")
    }
}

/// An address of an interface.
#[derive(Clone, Debug)]
pub struct Address {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    pub peer: Option<IpAddr>,
    pub broadcast: Option<IpAddr>,
    pub label: Option<String>,
    pub scope: u8,
    pub flags: u32,
    /// Seconds that it is preferred and valid.
    pub lifetime: Option<(u32, u32)>,
}

impl Address {
    fn read(m: &Message) -> Option<Address> {
        const FIXED: usize = 8;
        let (near, far) = (m.address(FIXED, 2), m.address(FIXED, 1));
        let address = near.or(far)?;
        Some(Address {
            index: m.word(4),
            address,
            prefix: m.byte(1),
            peer: far.filter(|far| *far != address),
            broadcast: m.address(FIXED, 4),
            label: m.text(FIXED, 3),
            scope: m.byte(3),
            flags: m.number(FIXED, 8).unwrap_or(u32::from(m.byte(2))),
            lifetime: m.attribute(FIXED, 6).map(|b| (word(b, 0), word(b, 4))),
        })
    }
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    pub v6: bool,
    /// `None` for the default route.
    pub to: Option<IpAddr>,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub index: u32,
    pub source: Option<IpAddr>,
    pub metric: Option<u32>,
    pub protocol: u8,
    pub scope: u8,
    pub kind: u8,
    pub table: u32,
}

impl Route {
    fn read(m: &Message) -> Route {
        const FIXED: usize = 12;
        Route {
            v6: m.byte(0) == libc::AF_INET6 as u8,
            to: m.address(FIXED, 1),
            prefix: m.byte(1),
            gateway: m.address(FIXED, 5),
            index: m.number(FIXED, 4).unwrap_or(0),
            source: m.address(FIXED, 7),
            metric: m.number(FIXED, 6),
            protocol: m.byte(5),
            scope: m.byte(6),
            kind: m.byte(7),
            table: m.number(FIXED, 15).unwrap_or(u32::from(m.byte(4))),
        }
    }
}

/// A neighbour.
#[derive(Clone, Debug)]
pub struct Neighbour {
    pub index: u32,
    pub address: IpAddr,
    pub mac: Vec<u8>,
    pub state: u16,
    pub flags: u8,
}

/// All interfaces.
pub fn links(socket: &mut Netlink) -> io::Result<Vec<Link>> {
    let messages = socket.dump(RTM_GETLINK, &[0; 16])?;
    let of_links = messages.iter().filter(|m| m.kind == RTM_NEWLINK);
    Ok(of_links.map(Link::read).collect())
}

/// The interface of this name.
pub fn link(socket: &mut Netlink, name: &str) -> Result<Link, String> {
    let all = links(socket).map_err(|e| crate::format::error(&e))?;
    let found = all.into_iter().find(|l| l.name == name);
    found.ok_or_else(|| format!("Cannot find device \"{name}\""))
}

/// Names of all interfaces but loopback ones.
pub fn interface_names() -> Vec<String> {
    let all = Netlink::open().and_then(|mut s| links(&mut s));
    let real = all
        .unwrap_or_default()
        .into_iter()
        .filter(|l| !l.is_loopback());
    real.map(|l| l.name).collect()
}

/// All addresses, by family ([`family`]).
pub fn addresses(socket: &mut Netlink, family: u8) -> io::Result<Vec<Address>> {
    let mut body = [0; 8];
    body[0] = family;
    let messages = socket.dump(RTM_GETADDR, &body)?;
    let all = messages.iter().filter(|m| m.kind == RTM_NEWADDR);
    Ok(all.filter_map(Address::read).collect())
}

/// All routes, by family.
pub fn routes(socket: &mut Netlink, family: u8) -> io::Result<Vec<Route>> {
    let mut body = [0; 12];
    body[0] = family;
    let messages = socket.dump(RTM_GETROUTE, &body)?;
    let all = messages.iter().filter(|m| m.kind == RTM_NEWROUTE);
    Ok(all.map(Route::read).collect())
}

/// The route that a packet to `to` takes.
pub fn route_to(socket: &mut Netlink, to: IpAddr) -> io::Result<Route> {
    let mut body = Body(vec![0; 12]);
    body.0[0] = family_of(to);
    body.0[1] = if to.is_ipv4() { 32 } else { 128 };
    body.address(1, to);
    socket.get(RTM_GETROUTE, &body.0).map(|m| Route::read(&m))
}

/// All neighbours, by family.
pub fn neighbours(socket: &mut Netlink, family: u8) -> io::Result<Vec<Neighbour>> {
    const FIXED: usize = 12;
    let mut body = [0; 12];
    body[0] = family;
    let messages = socket.dump(RTM_GETNEIGH, &body)?;
    let read = |m: &Message| {
        Some(Neighbour {
            index: m.word(4),
            address: m.address(FIXED, 1)?,
            mac: m.attribute(FIXED, 2).unwrap_or(&[]).to_vec(),
            state: u16::from_ne_bytes([m.byte(8), m.byte(9)]),
            flags: m.byte(10),
        })
    };
    let all = messages.iter().filter(|m| m.kind == RTM_NEWNEIGH);
    Ok(all.filter_map(read).collect())
}

/// Adds (RTM_NEWADDR) or takes away (RTM_DELADDR) an address.
pub fn change_address(
    socket: &mut Netlink,
    (kind, flags): (u16, u16),
    index: u32,
    (address, prefix): (IpAddr, u8),
    broadcast: Option<IpAddr>,
) -> io::Result<()> {
    let mut body = Body(vec![family_of(address), prefix, 0, 0]);
    body.0.extend_from_slice(&index.to_ne_bytes());
    body.address(2, address);
    body.address(1, address);
    if let Some(broadcast) = broadcast {
        body.address(4, broadcast);
    }
    socket.change(kind, flags, &body.0)
}

/// Switches an interface on or off, or sets its MTU.
pub fn change_link(
    socket: &mut Netlink,
    index: u32,
    up: Option<bool>,
    mtu: Option<u32>,
) -> io::Result<()> {
    let mut body = Body(vec![0; 4]);
    body.0.extend_from_slice(&index.to_ne_bytes());
    body.0
        .extend_from_slice(&u32::from(up == Some(true)).to_ne_bytes());
    body.0
        .extend_from_slice(&u32::from(up.is_some()).to_ne_bytes());
    if let Some(mtu) = mtu {
        body.attribute(4, &mtu.to_ne_bytes());
    }
    socket.change(RTM_NEWLINK, 0, &body.0)
}

/// What a route is to be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `None` for the default route.
    pub to: Option<(IpAddr, u8)>,
    pub gateway: Option<IpAddr>,
    pub index: Option<u32>,
    pub source: Option<IpAddr>,
    pub metric: Option<u32>,
    /// The family, where no address tells.
    pub v6: bool,
}

/// Adds (RTM_NEWROUTE) or takes away (RTM_DELROUTE) a route.
pub fn change_route(
    socket: &mut Netlink,
    (kind, flags): (u16, u16),
    wanted: &Wanted,
) -> io::Result<()> {
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    const SCOPE_LINK: u8 = 253;
    const NOWHERE: u8 = 255;
    let any: IpAddr = if wanted.v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let one = wanted.to.map(|t| t.0).or(wanted.gateway).unwrap_or(any);
    let adds = kind == RTM_NEWROUTE;
    let scope = match (adds, wanted.gateway) {
        (false, _) => NOWHERE,
        (true, None) if one.is_ipv4() => SCOPE_LINK,
        _ => 0,
    };
    let (protocol, class) = if adds { (BOOT, UNICAST) } else { (0, 0) };
    let mut body = Body(vec![family_of(one), wanted.to.map_or(0, |t| t.1), 0, 0]);
    body.0
        .extend_from_slice(&[MAIN, protocol, scope, class, 0, 0, 0, 0]);
    if let Some((to, _)) = wanted.to {
        body.address(1, to);
    }
    if let Some(gateway) = wanted.gateway {
        body.address(5, gateway);
    }
    if let Some(index) = wanted.index {
        body.attribute(4, &index.to_ne_bytes());
    }
    if let Some(source) = wanted.source {
        body.address(7, source);
    }
    if let Some(metric) = wanted.metric {
        body.attribute(6, &metric.to_ne_bytes());
    }
    socket.change(kind, flags, &body.0)
}

/// Adds or takes away a neighbour.
pub fn change_neighbour(
    socket: &mut Netlink,
    (kind, flags): (u16, u16),
    index: u32,
    address: IpAddr,
    mac: Option<&[u8]>,
) -> io::Result<()> {
    const PERMANENT: u16 = 0x80;
    let mut body = Body(vec![family_of(address), 0, 0, 0]);
    body.0.extend_from_slice(&index.to_ne_bytes());
    body.0.extend_from_slice(&PERMANENT.to_ne_bytes());
    body.0.extend_from_slice(&[0; 2]);
    body.address(1, address);
    if let Some(mac) = mac {
        body.attribute(2, mac);
    }
    socket.change(kind, flags, &body.0)
}

/// An address with an optional prefix length; without one the whole address.
pub fn parse_prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let bad = || format!("any valid prefix is expected rather than \"{text}\".");
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = match len {
        None => most,
        Some(len) => match len.parse::<Ipv4Addr>() {
            Ok(mask) => mask_len(mask).ok_or_else(bad)?,
            Err(_) => len.parse().map_err(|_| bad())?,
        },
    };
    if len > most {
        Err(bad())
    } else {
        Ok((address, len))
    }
}

/// The length of a netmask; `None` when it has holes.
pub fn mask_len(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let len = bits.leading_ones();
    (len + bits.trailing_zeros() >= 32).then_some(len as u8)
}

/// The netmask of a length.
pub fn mask(len: u8) -> Ipv4Addr {
    u32::MAX
        .checked_shl(32 - u32::from(len.min(32)))
        .unwrap_or(0)
        .into()
}

/// The broadcast address of an address's network (RFC 919).
pub fn broadcast(address: IpAddr, len: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) if len < 31 => {
            Some(Ipv4Addr::from(a.to_bits() | !mask(len).to_bits()).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_prefixes() {
        for len in 0..=32 {
            assert_eq!(mask_len(mask(len)), Some(len));
        }
        assert_eq!(mask_len("255.0.255.0".parse().unwrap()), None);
        let ten: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(parse_prefix("10.0.0.1/255.255.255.0"), Ok((ten, 24)));
        assert_eq!(parse_prefix("10.0.0.1"), Ok((ten, 32)));
        assert!(parse_prefix("10.0.0.1/33").is_err() && parse_prefix("x").is_err());
        assert_eq!(broadcast(ten, 24), "10.0.0.255".parse().ok());
        assert_eq!(broadcast(ten, 32), None);
    }
}
