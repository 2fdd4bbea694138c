//! Netlink sockets of the route family (man 7 netlink, man 7 rtnetlink): what `getifaddrs`
//! and `ip addr|link|route` ask and change. Answers are made when a request is sent and wait
//! in the socket; changes are not announced to others.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv6Address};

use super::inet::{AF_INET, AF_INET6, ioctl::flags};
use super::stack::config::{self, Origin, Route};
use super::stack::{self, Netif};
use super::{MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::abi;
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::sched::WaitQueue;
use crate::sync::{Rank, SpinLock};
use crate::vm::{IoDest, IoSource};

/// AF_NETLINK (man 2 socket).
pub const AF_NETLINK: u32 = 16;
const NETLINK_ROUTE: u32 = 0;
const CAP_NET_ADMIN: u32 = 12;

// linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const HEADER: usize = 16;

// linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_QDISC: u16 = 6;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_STATS64: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const IFF_UP: u32 = 1;

/// Longest message of a dump: what musl's buffer takes.
const MESSAGE: usize = 4096;
/// Most bytes of answers that wait.
const MAX_WAITING: usize = 1 << 20;
const MAX_REQUEST: usize = 32 * 1024;

/// Builds answers of one request: several netlink messages in few datagrams.
struct Answer {
    datagrams: Vec<Vec<u8>>,
    current: Vec<u8>,
    /// Where the message that is being built begins.
    start: usize,
    sequence: u32,
    port: u32,
}

impl Answer {
    fn begin(&mut self, kind: u16, flags: u16, head: &[u8]) {
        if self.current.len() > MESSAGE - 1024 {
            self.datagrams.push(core::mem::take(&mut self.current));
        }
        self.start = self.current.len();
        self.current.extend_from_slice(&0u32.to_ne_bytes());
        self.current.extend_from_slice(&kind.to_ne_bytes());
        self.current.extend_from_slice(&flags.to_ne_bytes());
        self.current.extend_from_slice(&self.sequence.to_ne_bytes());
        self.current.extend_from_slice(&self.port.to_ne_bytes());
        self.current.extend_from_slice(head);
    }
    fn attribute(&mut self, kind: u16, data: &[u8]) {
        let len = (4 + data.len()) as u16;
        self.current.extend_from_slice(&len.to_ne_bytes());
        self.current.extend_from_slice(&kind.to_ne_bytes());
        self.current.extend_from_slice(data);
        let end = self.current.len().next_multiple_of(4);
        self.current.resize(end, 0);
    }
    fn end(&mut self) {
        let len = (self.current.len() - self.start) as u32;
        self.current[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }
    /// An acknowledgement, or the error of the request whose header is `request`.
    fn error(&mut self, result: Result<()>, request: &[u8]) {
        let code = result.err().map_or(0, |e| -i32::from(e.code()));
        self.begin(NLMSG_ERROR, 0, &code.to_ne_bytes());
        self.current
            .extend_from_slice(&request[..request.len().min(HEADER)]);
        self.end();
    }
    fn done(&mut self) {
        self.begin(NLMSG_DONE, NLM_F_MULTI, &0u32.to_ne_bytes());
        self.end();
    }
    fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.current.is_empty() {
            self.datagrams.push(self.current);
        }
        self.datagrams
    }
}

fn octets(addr: IpAddress) -> Vec<u8> {
    match addr {
        IpAddress::Ipv4(a) => a.octets().to_vec(),
        IpAddress::Ipv6(a) => a.octets().to_vec(),
    }
}

fn family(addr: IpAddress) -> u8 {
    (match addr {
        IpAddress::Ipv4(_) => AF_INET,
        IpAddress::Ipv6(_) => AF_INET6,
    }) as u8
}

fn put_link(answer: &mut Answer, netif: &Netif, multi: u16) {
    let kind = if netif.is_loopback() {
        ARPHRD_LOOPBACK
    } else {
        ARPHRD_ETHER
    };
    let mut head = [0; 16];
    head[2..4].copy_from_slice(&kind.to_ne_bytes());
    head[4..8].copy_from_slice(&netif.index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags(netif).to_ne_bytes());
    answer.begin(RTM_NEWLINK, multi, &head);
    let mut name = netif.name.as_bytes().to_vec();
    name.push(0);
    answer.attribute(IFLA_IFNAME, &name);
    answer.attribute(IFLA_TXQLEN, &1000u32.to_ne_bytes());
    const UNKNOWN: u8 = 0;
    const DOWN: u8 = 2;
    const UP: u8 = 6;
    let state = match (netif.is_loopback(), netif.device.link_is_up()) {
        (true, _) => UNKNOWN,
        (_, true) => UP,
        (_, false) => DOWN,
    };
    answer.attribute(IFLA_OPERSTATE, &[state]);
    answer.attribute(IFLA_MTU, &(netif.device.mtu() as u32).to_ne_bytes());
    answer.attribute(IFLA_QDISC, b"noqueue\0");
    let mac = netif.device.mac();
    answer.attribute(IFLA_ADDRESS, &mac.unwrap_or([0; 6]));
    answer.attribute(IFLA_BROADCAST, &mac.map_or([0; 6], |_| [0xff; 6]));
    let c = &netif.counters;
    let mut stats = [0u64; 24];
    let read = |a: &core::sync::atomic::AtomicU64| a.load(Ordering::Relaxed);
    (stats[0], stats[1]) = (read(&c.rx_packets), read(&c.tx_packets));
    (stats[2], stats[3]) = (read(&c.rx_bytes), read(&c.tx_bytes));
    (stats[6], stats[7]) = (read(&c.rx_dropped), read(&c.tx_dropped));
    let stats: Vec<u8> = stats.iter().flat_map(|n| n.to_ne_bytes()).collect();
    answer.attribute(IFLA_STATS64, &stats);
    answer.end();
}

fn put_addresses(answer: &mut Answer, netif: &Netif, wanted: u8) {
    for cidr in &netif.config().addresses {
        let addr = cidr.address();
        if wanted != 0 && wanted != family(addr) {
            continue;
        }
        let scope = if config::is_loopback(addr) {
            SCOPE_HOST
        } else if matches!(addr, IpAddress::Ipv6(a) if a.is_unicast_link_local()) {
            SCOPE_LINK
        } else {
            SCOPE_UNIVERSE
        };
        const IFA_F_PERMANENT: u8 = 0x80;
        let mut head = [0; 8];
        head[..4].copy_from_slice(&[family(addr), cidr.prefix_len(), IFA_F_PERMANENT, scope]);
        head[4..].copy_from_slice(&netif.index.to_ne_bytes());
        answer.begin(RTM_NEWADDR, NLM_F_MULTI, &head);
        answer.attribute(IFA_ADDRESS, &octets(addr));
        if let IpCidr::Ipv4(v4) = cidr {
            answer.attribute(IFA_LOCAL, &octets(addr));
            let mut label = netif.name.as_bytes().to_vec();
            label.push(0);
            if let (Some(broadcast), false) = (v4.broadcast(), netif.is_loopback()) {
                answer.attribute(IFA_BROADCAST, &broadcast.octets());
            }
            answer.attribute(IFA_LABEL, &label);
        }
        answer.end();
    }
}

fn network(cidr: &IpCidr) -> IpAddress {
    match cidr {
        IpCidr::Ipv4(c) => c.network().address().into(),
        IpCidr::Ipv6(c) => {
            let mut octets = c.address().octets();
            for (i, octet) in octets.iter_mut().enumerate() {
                let kept = usize::from(c.prefix_len()).saturating_sub(i * 8).min(8);
                *octet &= !(0xffu16 >> kept) as u8;
            }
            IpAddress::Ipv6(Ipv6Address::from(octets))
        }
    }
}

/// A route as `RTM_GETROUTE` tells it.
fn put_route(
    answer: &mut Answer,
    netif: &Netif,
    to: &IpCidr,
    gateway: Option<IpAddress>,
    source: Option<IpAddress>,
    protocol: u8,
) {
    let scope = match gateway {
        Some(_) => SCOPE_UNIVERSE,
        None => SCOPE_LINK,
    };
    let mut head = [0; 12];
    head[..2].copy_from_slice(&[family(to.address()), to.prefix_len()]);
    head[4..8].copy_from_slice(&[RT_TABLE_MAIN, protocol, scope, RTN_UNICAST]);
    answer.begin(RTM_NEWROUTE, NLM_F_MULTI, &head);
    answer.attribute(RTA_TABLE, &u32::from(RT_TABLE_MAIN).to_ne_bytes());
    if to.prefix_len() != 0 {
        answer.attribute(RTA_DST, &octets(network(to)));
    }
    if let Some(gateway) = gateway {
        answer.attribute(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = source {
        answer.attribute(RTA_PREFSRC, &octets(source));
    }
    answer.attribute(RTA_OIF, &netif.index.to_ne_bytes());
    answer.end();
}

fn put_routes(answer: &mut Answer, netif: &Netif, wanted: u8) {
    const KERNEL: u8 = 2;
    const STATIC: u8 = 4;
    const RA: u8 = 9;
    const DHCP: u8 = 16;
    if netif.is_loopback() {
        return;
    }
    let config = netif.config();
    let is_wanted = |a: IpAddress| wanted == 0 || wanted == family(a);
    for route in config.routes.iter().filter(|r| is_wanted(r.to.address())) {
        let protocol = match route.origin {
            Origin::Set => STATIC,
            Origin::Dhcp => DHCP,
            Origin::Router => RA,
        };
        put_route(answer, netif, &route.to, route.gateway, None, protocol);
    }
    for cidr in config.addresses.iter().filter(|c| is_wanted(c.address())) {
        put_route(answer, netif, cidr, None, Some(cidr.address()), KERNEL);
    }
}

/// The attributes behind a message's fixed part.
fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut out = Vec::new();
    while let Some(head) = rest.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(data) = rest.get(4..len) else {
            break;
        };
        // Two bits say how the content is encoded (NLA_TYPE_MASK).
        out.push((u16::from_ne_bytes([head[2], head[3]]) & 0x3fff, data));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    out
}

fn address(bytes: &[u8]) -> Result<IpAddress> {
    if let Ok(b) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddress::Ipv4(Ipv4Address::from(b)));
    }
    let b = <[u8; 16]>::try_from(bytes).map_err(|_| Errno::EINVAL)?;
    Ok(IpAddress::Ipv6(Ipv6Address::from(b)))
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let b = bytes.get(at..at + 4).and_then(|b| b.first_chunk());
    b.map(|b| u32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

fn check_prefix(addr: IpAddress, len: u8) -> Result<IpCidr> {
    let most = match addr {
        IpAddress::Ipv4(_) => 32,
        IpAddress::Ipv6(_) => 128,
    };
    if len > most {
        return Err(Errno::EINVAL);
    }
    Ok(IpCidr::new(addr, len))
}

/// RTM_NEWADDR and RTM_DELADDR.
fn change_address(add: bool, exclusive: bool, body: &[u8]) -> Result<()> {
    super::may(CAP_NET_ADMIN)?;
    let netif = stack::by_index(word(body, 4)?).ok_or(Errno::ENODEV)?;
    let attributes = attributes(body.get(8..).unwrap_or(&[]));
    let find = |kind| attributes.iter().find(|a| a.0 == kind).map(|a| a.1);
    let bytes = find(IFA_LOCAL).or(find(IFA_ADDRESS)).ok_or(Errno::EINVAL)?;
    let addr = address(bytes)?;
    if !addr.is_unicast() {
        return Err(Errno::EINVAL);
    }
    let cidr = check_prefix(addr, body[1])?;
    let has = netif.config().addresses.contains(&cidr);
    if add && has {
        return if exclusive {
            Err(Errno::EEXIST)
        } else {
            Ok(())
        };
    }
    if !add && !has {
        return Err(Errno::EADDRNOTAVAIL);
    }
    if matches!(addr, IpAddress::Ipv4(_)) {
        // Whoever sets addresses by hand wants no others.
        config::set_dhcp(&netif, false);
    }
    netif.change_config(|c| {
        if add {
            c.addresses.push(cidr);
        } else {
            c.addresses.retain(|a| *a != cidr);
        }
    });
    Ok(())
}

/// RTM_NEWROUTE and RTM_DELROUTE.
fn change_route(add: bool, body: &[u8]) -> Result<()> {
    super::may(CAP_NET_ADMIN)?;
    let head = body.get(..12).ok_or(Errno::EINVAL)?;
    let attributes = attributes(&body[12..]);
    let find = |kind| attributes.iter().find(|a| a.0 == kind).map(|a| a.1);
    let to = match (find(RTA_DST), u32::from(head[0])) {
        (Some(bytes), _) => address(bytes)?,
        (None, AF_INET6) => IpAddress::Ipv6(Ipv6Address::UNSPECIFIED),
        (None, _) => IpAddress::Ipv4(Ipv4Address::UNSPECIFIED),
    };
    let to = check_prefix(to, head[1])?;
    let gateway = find(RTA_GATEWAY).map(address).transpose()?;
    let through = find(RTA_OIF).map(|b| word(b, 0)).transpose()?;
    let fits = |n: &Arc<Netif>| match (through, gateway) {
        (Some(index), _) => n.index == index,
        (None, Some(g)) => n.config().addresses.iter().any(|c| c.contains_addr(&g)),
        (None, None) => false,
    };
    let same = |r: &Route| r.to == to && (gateway.is_none() || r.gateway == gateway);
    if !add {
        let netif = stack::netifs()
            .into_iter()
            .find(|n| through.is_none_or(|i| n.index == i) && n.config().routes.iter().any(same))
            .ok_or(Errno::ESRCH)?;
        netif.change_config(|c| c.routes.retain(|r| !same(r)));
        return Ok(());
    }
    let netif = stack::netifs().into_iter().find(fits);
    let netif = netif.ok_or(Errno::ENETUNREACH)?;
    if gateway.is_none() {
        // smoltcp has routes by routers only; what is on the link follows from addresses.
        return Err(Errno::EOPNOTSUPP);
    }
    if netif.config().routes.iter().any(same) {
        return Err(Errno::EEXIST);
    }
    netif.change_config(|c| {
        c.routes.push(Route {
            to,
            gateway,
            origin: Origin::Set,
        });
    });
    Ok(())
}

/// RTM_SETLINK and RTM_NEWLINK of an interface that is there: up and down.
fn change_link(body: &[u8]) -> Result<()> {
    super::may(CAP_NET_ADMIN)?;
    let attributes = attributes(body.get(16..).unwrap_or(&[]));
    let name = attributes.iter().find(|a| a.0 == IFLA_IFNAME);
    let netif = match (word(body, 4)?, name) {
        (0, Some((_, name))) => {
            let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
            let name = core::str::from_utf8(name).map_err(|_| Errno::ENODEV)?;
            stack::by_name(name)
        }
        (index, _) => stack::by_index(index),
    };
    let netif = netif.ok_or(Errno::ENODEV)?;
    let (flags, change) = (word(body, 8)?, word(body, 12)?);
    if change & !IFF_UP != 0 || attributes.iter().any(|a| a.0 != IFLA_IFNAME) {
        return Err(Errno::EOPNOTSUPP);
    }
    if change & IFF_UP != 0 {
        let up = flags & IFF_UP != 0;
        if up && !netif.config().is_up && !netif.is_loopback() {
            config::bring_up(&netif);
        } else {
            netif.change_config(|c| c.is_up = up);
        }
    }
    Ok(())
}

/// Answers one message. ENOBUFS never: answers are bounded by the number of interfaces.
fn respond(message: &[u8], port: u32) -> Vec<Vec<u8>> {
    let half = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
    let (kind, flags) = (half(4), half(6));
    let body = &message[HEADER..];
    let mut answer = Answer {
        datagrams: Vec::new(),
        current: Vec::new(),
        start: 0,
        sequence: word(message, 8).unwrap_or(0),
        port,
    };
    let wanted = body.first().copied().unwrap_or(0);
    let dumps = flags & NLM_F_DUMP == NLM_F_DUMP;
    let result = match kind {
        RTM_GETLINK | RTM_GETADDR | RTM_GETROUTE if dumps => {
            for netif in stack::netifs() {
                match kind {
                    RTM_GETLINK => put_link(&mut answer, &netif, NLM_F_MULTI),
                    RTM_GETADDR => put_addresses(&mut answer, &netif, wanted),
                    _ => put_routes(&mut answer, &netif, wanted),
                }
            }
            answer.done();
            return answer.finish();
        }
        RTM_GETLINK => {
            let index = word(body, 4).unwrap_or(0);
            let attributes = attributes(body.get(16..).unwrap_or(&[]));
            let name = attributes.iter().find(|a| a.0 == IFLA_IFNAME);
            let netif = match name {
                Some((_, name)) if index == 0 => {
                    let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
                    core::str::from_utf8(name).ok().and_then(stack::by_name)
                }
                _ => stack::by_index(index),
            };
            match netif {
                Some(netif) => {
                    put_link(&mut answer, &netif, 0);
                    return answer.finish();
                }
                None => Err(Errno::ENODEV),
            }
        }
        RTM_NEWLINK | RTM_SETLINK => change_link(body),
        RTM_NEWADDR if body.len() >= 8 => change_address(true, flags & NLM_F_EXCL != 0, body),
        RTM_DELADDR if body.len() >= 8 => change_address(false, false, body),
        RTM_NEWROUTE => change_route(true, body),
        RTM_DELROUTE => change_route(false, body),
        RTM_NEWADDR | RTM_DELADDR => Err(Errno::EINVAL),
        // Control messages are for nobody here.
        0..=15 => return Vec::new(),
        _ => Err(Errno::EOPNOTSUPP),
    };
    if result.is_err() || flags & NLM_F_ACK != 0 {
        answer.error(result, message);
    }
    answer.finish()
}

/// A netlink socket.
pub struct NetlinkSocket {
    kind: u32,
    inode: AnonInode,
    /// Its port number; 0 until it has one.
    port: AtomicU32,
    answers: SpinLock<VecDeque<Vec<u8>>>,
    waiting: AtomicUsize,
    readers: Arc<WaitQueue>,
}

/// man 2 socket. EPROTONOSUPPORT for families of netlink other than route.
pub fn create(kind: u32, protocol: u32) -> Result<Arc<dyn File>> {
    if !matches!(kind, 2 | 3) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if protocol != NETLINK_ROUTE {
        return Err(Errno::EPROTONOSUPPORT);
    }
    Ok(Arc::new(NetlinkSocket {
        kind,
        inode: AnonInode::new(abi::S_IFSOCK | 0o777),
        port: AtomicU32::new(0),
        answers: SpinLock::new(Rank::Object, VecDeque::new()),
        waiting: AtomicUsize::new(0),
        readers: Arc::new(WaitQueue::new()),
    }))
}

fn name(port: u32) -> Vec<u8> {
    // struct sockaddr_nl: family, padding, port, groups.
    let mut out = (AF_NETLINK as u16).to_ne_bytes().to_vec();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&port.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

impl NetlinkSocket {
    fn own_port(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1 << 20);
        let port = self.port.load(Ordering::Relaxed);
        if port != 0 {
            return port;
        }
        let new = NEXT.fetch_add(1, Ordering::Relaxed);
        let set = self
            .port
            .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
        set.map_or_else(|other| other, |_| new)
    }
}

impl Socket for NetlinkSocket {
    fn family_type_protocol(&self) -> (u32, u32, u32) {
        (AF_NETLINK, self.kind, NETLINK_ROUTE)
    }
    fn bind(&self, address: &[u8]) -> Result<()> {
        if address.len() < 12 {
            return Err(Errno::EINVAL);
        }
        let (port, groups) = (word(address, 4)?, word(address, 8)?);
        if groups != 0 {
            // Nothing is announced: who would listen must know.
            return Err(Errno::EOPNOTSUPP);
        }
        if port != 0 {
            self.port.store(port, Ordering::Relaxed);
        }
        self.own_port();
        Ok(())
    }
    fn connect(&self, _of: &OpenFile, address: &[u8]) -> Result<()> {
        match address.len() {
            12.. if word(address, 4)? == 0 => Ok(()),
            12.. => Err(Errno::ECONNREFUSED),
            _ => Err(Errno::EINVAL),
        }
    }
    fn send(
        &self,
        _of: &OpenFile,
        src: &mut IoSource<'_>,
        _flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        if let Some(to) = with.address
            && (to.len() < 12 || word(to, 4)? != 0)
        {
            // Only the kernel answers.
            return Err(Errno::ECONNREFUSED);
        }
        let len = src.remaining();
        if len > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        if self.waiting.load(Ordering::Relaxed) > MAX_WAITING {
            return Err(Errno::ENOBUFS);
        }
        let mut bytes = alloc::vec![0; len];
        src.get(&mut bytes)?;
        let port = self.own_port();
        let mut rest = &bytes[..];
        while rest.len() >= HEADER {
            let n = word(rest, 0)? as usize;
            let Some(message) = rest.get(..n).filter(|m| m.len() >= HEADER) else {
                return Err(Errno::EINVAL);
            };
            for datagram in respond(message, port) {
                self.waiting.fetch_add(datagram.len(), Ordering::Relaxed);
                self.answers.lock().push_back(datagram);
            }
            rest = rest.get(n.next_multiple_of(4)..).unwrap_or(&[]);
        }
        self.readers.wake_all();
        Ok(len)
    }
    fn receive(&self, _of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        loop {
            let first = self.answers.lock().pop_front();
            if let Some(datagram) = first {
                let mut received = Received {
                    full_len: datagram.len(),
                    address: name(0),
                    ..Received::default()
                };
                let copied = dst.put(&datagram);
                if flags.peek {
                    self.answers.lock().push_front(datagram);
                } else {
                    self.waiting.fetch_sub(datagram.len(), Ordering::Relaxed);
                }
                received.len = copied?;
                return Ok(received);
            }
            if flags.nonblocking {
                return Err(Errno::EAGAIN);
            }
            self.readers
                .wait_interruptible(None, || {
                    (self.waiting.load(Ordering::Relaxed) > 0).then_some(())
                })
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }
    fn shut_down(&self, _how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(name(self.port.load(Ordering::Relaxed)))
    }
    fn peer_address(&self) -> Result<Vec<u8>> {
        Ok(name(0))
    }
    fn option(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        match (level, option) {
            (uapi::SOL_SOCKET, uapi::SO_ERROR) => Ok(0u32.to_ne_bytes().to_vec()),
            (uapi::SOL_SOCKET, uapi::SO_RCVBUF | uapi::SO_SNDBUF) => {
                Ok((MAX_WAITING as u32).to_ne_bytes().to_vec())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        match (level, option) {
            // A request for room; there is as much as it ever gets.
            (uapi::SOL_SOCKET, uapi::SO_RCVBUF | uapi::SO_SNDBUF) => {
                super::int_option(value).map(|_| ())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
}

impl File for NetlinkSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        let flags = MsgFlags {
            nonblocking: of.nonblocking(),
            ..MsgFlags::default()
        };
        self.receive(of, dst, flags).map(|r| r.len)
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.send(of, src, MsgFlags::default(), Outgoing::default())
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.readers);
        }
        let mut events = PollEvents::OUT | PollEvents::WRNORM;
        if self.waiting.load(Ordering::Relaxed) > 0 {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        events
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        super::inet::ioctl::interface(cmd, arg)
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        self.inode.describe("socket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut m = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        m.extend_from_slice(&kind.to_ne_bytes());
        m.extend_from_slice(&flags.to_ne_bytes());
        m.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
        m.extend_from_slice(body);
        m
    }

    #[test]
    fn a_dump_ends() {
        let answer = respond(&request(RTM_GETROUTE, NLM_F_DUMP | 1, &[0; 12]), 9);
        let last = answer.last().unwrap();
        let end = &last[last.len() - 20..];
        assert_eq!(word(end, 0), Ok(20));
        assert_eq!(u16::from_ne_bytes([end[4], end[5]]), NLMSG_DONE);
        assert_eq!((word(end, 8), word(end, 12)), (Ok(7), Ok(9)));
    }

    #[test]
    fn requests_of_any_shape_are_answered_with_errors() {
        for kind in 16..40 {
            for len in 0..40 {
                respond(&request(kind, NLM_F_ACK, &vec![0xff; len]), 1);
            }
        }
        let answer = respond(&request(99, 1, &[]), 1);
        let code = -i32::from(Errno::EOPNOTSUPP.code());
        assert_eq!(answer[0][16..20], code.to_ne_bytes());
    }

    #[test]
    fn attributes_stop_at_nonsense() {
        assert!(attributes(&[1, 0, 1]).is_empty());
        assert!(attributes(&[200, 0, 1, 0, 5]).is_empty());
        let two = [5, 0, 3, 0, b'x', 0, 0, 0, 8, 0, 4, 0, 1, 2, 3, 4];
        let got = attributes(&two);
        assert_eq!(got, [(3, &b"x"[..]), (4, &[1, 2, 3, 4][..])]);
    }

    #[test]
    fn networks_are_masked() {
        let c = IpCidr::new("fe80::1234:5678".parse::<IpAddress>().unwrap(), 10);
        assert_eq!(network(&c), "fe80::".parse::<IpAddress>().unwrap());
        let c = IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24);
        assert_eq!(network(&c), IpAddress::v4(10, 0, 2, 0));
    }
}
