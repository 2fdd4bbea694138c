//! Addresses and routes of an interface, and where they come from: DHCP (RFC 2131), router
//! advertisements (RFC 4862), or whoever sets them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smoltcp::iface::Interface;
use smoltcp::socket::dhcpv4;
use smoltcp::time::Duration;
use smoltcp::wire::{Icmpv6Message, IpAddress, IpCidr, Ipv4Address};

use super::demux::parse_ip;
use super::ether::Ether;
use super::link::ETHERNET;
use super::{Netif, instant, link_local, netifs};
use crate::error::{Errno, Result};
use crate::net::device::Packet;
use crate::time::now_ns;

/// Where an address or a route came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody set it.
    Set,
    /// A DHCP server.
    Dhcp,
    /// A router's advertisement.
    Router,
}

/// A route through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpCidr,
    /// The router; `None` when the destination is on the link.
    pub gateway: Option<IpAddress>,
    /// Where it came from.
    pub origin: Origin,
    /// Of routes to the same place the one with the lowest counts.
    pub metric: u32,
}

/// What an interface is told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// It takes and sends packets.
    pub is_up: bool,
    /// Its addresses.
    pub addresses: Vec<IpCidr>,
    /// Those of them that DHCP and routers gave.
    pub leased: Vec<(IpCidr, Origin)>,
    /// Its routes, beside those that the addresses' prefixes make.
    pub routes: Vec<Route>,
    /// Name servers that DHCP named.
    pub dns: Vec<IpAddress>,
}

/// 127.0.0.0/8 and ::1.
pub fn is_loopback(addr: IpAddress) -> bool {
    match addr {
        IpAddress::Ipv4(a) => a.octets()[0] == 127,
        IpAddress::Ipv6(a) => a.is_loopback(),
    }
}

fn is_link_local(addr: IpAddress) -> bool {
    match addr {
        IpAddress::Ipv4(a) => a.octets()[..2] == [169, 254],
        IpAddress::Ipv6(a) => a.octets()[0] == 0xfe && a.octets()[1] & 0xc0 == 0x80,
    }
}

impl Config {
    /// Whether `addr` is one of its addresses.
    pub fn has(&self, addr: IpAddress) -> bool {
        self.addresses.iter().any(|c| c.address() == addr)
    }

    /// Whether `addr` is a broadcast address of it (RFC 919).
    pub fn is_broadcast(&self, addr: IpAddress) -> bool {
        let IpAddress::Ipv4(v4) = addr else {
            return false;
        };
        v4.is_broadcast()
            || self
                .addresses
                .iter()
                .any(|c| matches!(c, IpCidr::Ipv4(c) if c.broadcast() == Some(v4)))
    }

    /// Length of the longest prefix by which it reaches `to`; `None` when it does not.
    pub fn reaches(&self, to: IpAddress) -> Option<u8> {
        self.cost(to).map(|(prefix, _)| prefix)
    }

    /// Length of the longest prefix by which it reaches `to`, and the metric of that way.
    pub fn cost(&self, to: IpAddress) -> Option<(u8, u32)> {
        let same = |c: &&IpCidr| c.address().version() == to.version();
        if to.is_multicast() || to.is_broadcast() {
            return self.addresses.iter().any(|c| same(&c)).then_some((0, 0));
        }
        let near = self.addresses.iter().filter(|c| c.contains_addr(&to));
        let near = near.map(|c| (c.prefix_len(), 0));
        let far = self.routes.iter().filter(|r| r.to.contains_addr(&to));
        let far = far.map(|r| (r.to.prefix_len(), r.metric));
        near.chain(far)
            .max_by_key(|&(prefix, metric)| (prefix, core::cmp::Reverse(metric)))
    }

    /// Who takes a packet to `to`: itself when it is on the link, else the router of the
    /// longest prefix. `None` when it cannot be reached.
    pub fn next_hop(&self, to: IpAddress) -> Option<IpAddress> {
        let near = self.addresses.iter().filter(|c| c.contains_addr(&to));
        let near = near.map(|c| (c.prefix_len(), to)).max_by_key(|(n, _)| *n);
        let far = self.routes.iter().filter(|r| r.to.contains_addr(&to));
        let far = far
            .max_by_key(|r| (r.to.prefix_len(), core::cmp::Reverse(r.metric)))
            .map(|r| (r.to.prefix_len(), r.gateway.unwrap_or(to)));
        match (near, far) {
            (Some(near), Some(far)) if far.0 > near.0 => Some(far.1),
            (Some(near), _) => Some(near.1),
            (None, far) => far.map(|f| f.1),
        }
    }

    /// The address to send from to `to`: of the same network, else the first that is good
    /// beyond the link.
    pub fn source(&self, to: IpAddress) -> Option<IpAddress> {
        let same = |c: &&IpCidr| c.address().version() == to.version();
        let of_network = self
            .addresses
            .iter()
            .filter(same)
            .find(|c| c.contains_addr(&to));
        let global = || {
            self.addresses
                .iter()
                .filter(same)
                .find(|c| !is_link_local(c.address()))
        };
        let any = || self.addresses.iter().find(same);
        of_network.or_else(global).or_else(any).map(IpCidr::address)
    }

    /// Replaces all that came from `origin`.
    fn replace(&mut self, origin: Origin, addresses: &[IpCidr], routes: &[Route]) {
        let old = core::mem::take(&mut self.leased);
        for (cidr, from) in old {
            if from == origin {
                self.addresses.retain(|a| *a != cidr);
            } else {
                self.leased.push((cidr, from));
            }
        }
        for cidr in addresses {
            if !self.addresses.contains(cidr) {
                self.addresses.push(*cidr);
                self.leased.push((*cidr, origin));
            }
        }
        self.routes.retain(|r| r.origin != origin);
        self.routes.extend_from_slice(routes);
    }
}

/// A change that is applied when the work at hand is done.
pub struct Change {
    origin: Origin,
    addresses: Vec<IpCidr>,
    routes: Vec<Route>,
    dns: Option<Vec<IpAddress>>,
}

impl Change {
    /// Applies it to a copy of `config`.
    pub(super) fn apply(self, name: &str, config: &Config) -> Config {
        let mut config = config.clone();
        for cidr in self.addresses.iter().filter(|a| !config.has(a.address())) {
            info!("{name}: address {cidr}");
        }
        config.replace(self.origin, &self.addresses, &self.routes);
        if let Some(dns) = self.dns {
            config.dns = dns;
        }
        config
    }
}

/// Brings a card up: its link-local address, router solicitation, and DHCP unless somebody
/// gave it an IPv4 address.
pub fn bring_up(netif: &Arc<Netif>) {
    let Some(mac) = netif.device.mac() else {
        return;
    };
    netif.change_config(|c| {
        c.is_up = true;
        let own = IpCidr::Ipv6(link_local(mac));
        if !c.addresses.contains(&own) {
            c.addresses.push(own);
        }
    });
    let config = netif.config();
    let is_given =
        |c: &IpCidr| matches!(c, IpCidr::Ipv4(_)) && !config.leased.iter().any(|(l, _)| l == c);
    if !config.addresses.iter().any(is_given) {
        set_dhcp(netif, true);
    }
}

/// Starts or stops the DHCP client. Stopping forgets what it gave.
pub fn set_dhcp(netif: &Arc<Netif>, on: bool) {
    let Some(ether) = &netif.ether else {
        return;
    };
    let mut state = ether.lock();
    match (on, state.dhcp) {
        (true, None) => {
            let mut socket = dhcpv4::Socket::new();
            let mut retries = dhcpv4::RetryConfig::default();
            // A first request that a switch swallowed costs little.
            retries.discover_timeout = Duration::from_secs(3);
            socket.set_retry_config(retries);
            state.dhcp = Some(state.sockets.add(socket));
            state.slaac_deadline = Some(now_ns());
            drop(state);
            netif.kick();
        }
        (false, Some(handle)) => {
            state.dhcp = None;
            state.sockets.remove(handle);
            drop(state);
            netif.apply_changes(alloc::vec![Change {
                origin: Origin::Dhcp,
                addresses: Vec::new(),
                routes: Vec::new(),
                dns: Some(Vec::new()),
            }]);
        }
        _ => {}
    }
}

/// Whether the DHCP client runs.
pub fn has_dhcp(netif: &Netif) -> bool {
    netif
        .ether
        .as_ref()
        .is_some_and(|e| e.lock().dhcp.is_some())
}

/// Forgets the lease and asks for a new one. EINVAL when the client does not run.
pub fn renew_dhcp(netif: &Arc<Netif>) -> Result<()> {
    let ether = netif.ether.as_ref().ok_or(Errno::EINVAL)?;
    let mut state = ether.lock();
    let handle = state.dhcp.ok_or(Errno::EINVAL)?;
    state.sockets.get_mut::<dhcpv4::Socket>(handle).reset();
    drop(state);
    netif.kick();
    Ok(())
}

/// What the DHCP client has to tell.
pub(super) fn lease(event: Option<dhcpv4::Event<'_>>) -> Option<Change> {
    let mut change = Change {
        origin: Origin::Dhcp,
        addresses: Vec::new(),
        routes: Vec::new(),
        dns: Some(Vec::new()),
    };
    match event? {
        dhcpv4::Event::Deconfigured => {}
        dhcpv4::Event::Configured(lease) => {
            if !IpAddress::from(lease.address.address()).is_unicast() {
                return None;
            }
            change.addresses.push(IpCidr::Ipv4(lease.address));
            if let Some(router) = lease.router {
                change.routes.push(Route {
                    to: IpCidr::new(Ipv4Address::UNSPECIFIED.into(), 0),
                    gateway: Some(router.into()),
                    origin: Origin::Dhcp,
                    metric: 0,
                });
            }
            let servers = lease.dns_servers.iter().map(|&s| s.into());
            change.dns = Some(servers.collect());
        }
    }
    Some(change)
}

/// Shows a router's advertisement to the interface that makes addresses of it; whether it
/// was one.
pub(super) fn hear_router(ether: &mut Ether, frame: &[u8]) -> bool {
    let is_advertisement = parse_ip(frame, ETHERNET)
        .is_some_and(|h| frame.get(h.payload.0) == Some(&u8::from(Icmpv6Message::RouterAdvert)));
    if is_advertisement {
        ether.wire.staged = Some(Packet::from_vec(frame.to_vec()));
        let now = instant(now_ns());
        ether
            .slaac
            .poll_ingress_single(now, &mut ether.wire, &mut ether.nobody);
        ether.wire.staged = None;
        ether.slaac_deadline = Some(now_ns());
    }
    is_advertisement
}

/// Solicits routers when it is time, and takes over what they gave.
pub(super) fn poll_slaac(netif: &Netif, ether: &mut Ether, changes: &mut Vec<Change>) {
    let now_ns = now_ns();
    if ether.slaac_deadline.is_none_or(|d| d > now_ns) {
        return;
    }
    ether.slaac_deadline = None;
    let slaac = &mut ether.slaac;
    let now = instant(now_ns);
    slaac.poll_maintenance(now);
    slaac.poll_egress(now, &mut ether.wire, &mut ether.nobody);
    let again = slaac.poll_at(now, &ether.nobody);
    let (addresses, routes) = learned(slaac);
    let config = netif.config();
    let known: Vec<IpCidr> = config
        .leased
        .iter()
        .filter(|(_, from)| *from == Origin::Router)
        .map(|(cidr, _)| *cidr)
        .collect();
    let routed = config.routes.iter().any(|r| r.origin == Origin::Router);
    if known != addresses || routed == routes.is_empty() {
        changes.push(Change {
            origin: Origin::Router,
            addresses,
            routes,
            dns: None,
        });
    }
    ether.slaac_deadline = again.map(|at| {
        let at = (at.total_micros().max(0) as u64).saturating_mul(1000);
        at.max(now_ns + 500_000_000)
    });
}

/// Addresses and the default route that routers gave.
fn learned(slaac: &Interface) -> (Vec<IpCidr>, Vec<Route>) {
    let addresses = slaac
        .ip_addrs()
        .iter()
        .filter(|c| !is_link_local(c.address()))
        .copied()
        .collect();
    let routes = slaac
        .routes()
        .get_default_ipv6_route()
        .map(|r| Route {
            to: r.cidr,
            gateway: Some(r.via_router),
            origin: Origin::Router,
            metric: 0,
        })
        .into_iter()
        .collect();
    (addresses, routes)
}

/// Name servers of all interfaces.
pub fn name_servers() -> Vec<IpAddress> {
    let mut out = Vec::new();
    for netif in netifs() {
        for server in &netif.config().dns {
            if !out.contains(server) {
                out.push(*server);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut c = Config::default();
        let mut mac = link_local([2, 0, 0, 0, 0, 1]);
        mac = smoltcp::wire::Ipv6Cidr::new(mac.address(), 64);
        c.addresses.push(IpCidr::Ipv6(mac));
        c.addresses
            .push(IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24));
        c
    }

    #[test]
    fn reach_and_source() {
        let mut c = config();
        let near = IpAddress::v4(10, 0, 2, 2);
        let far = IpAddress::v4(1, 1, 1, 1);
        assert_eq!(c.reaches(near), Some(24));
        assert_eq!(c.reaches(far), None);
        c.routes.push(Route {
            to: IpCidr::new(IpAddress::v4(0, 0, 0, 0), 0),
            gateway: Some(near),
            origin: Origin::Dhcp,
            metric: 0,
        });
        assert_eq!(c.reaches(far), Some(0));
        assert_eq!(c.next_hop(far), Some(near));
        assert_eq!(c.next_hop(near), Some(near));
        assert_eq!(c.source(far), Some(IpAddress::v4(10, 0, 2, 15)));
        assert!(c.is_broadcast(IpAddress::v4(10, 0, 2, 255)));
        assert!(!c.is_broadcast(near));
    }

    #[test]
    fn the_lowest_metric_counts() {
        let mut c = config();
        for (last, metric) in [(3, 200), (2, 100), (4, 300)] {
            c.routes.push(Route {
                to: IpCidr::new(IpAddress::v4(0, 0, 0, 0), 0),
                gateway: Some(IpAddress::v4(10, 0, 2, last)),
                origin: Origin::Set,
                metric,
            });
        }
        let far = IpAddress::v4(1, 1, 1, 1);
        assert_eq!(c.cost(far), Some((0, 100)));
        assert_eq!(c.next_hop(far), Some(IpAddress::v4(10, 0, 2, 2)));
        let near = IpAddress::v4(10, 0, 2, 9);
        assert_eq!(
            (c.cost(near), c.next_hop(near)),
            (Some((24, 0)), Some(near))
        );
    }

    #[test]
    fn a_lease_that_ends_takes_its_routes_along() {
        let mut c = Config::default();
        let lease = IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24);
        let route = Route {
            to: IpCidr::new(IpAddress::v4(0, 0, 0, 0), 0),
            gateway: Some(IpAddress::v4(10, 0, 2, 2)),
            origin: Origin::Dhcp,
            metric: 0,
        };
        let own = IpCidr::new(IpAddress::v4(192, 168, 1, 1), 24);
        c.addresses.push(own);
        c.replace(Origin::Dhcp, &[lease], &[route]);
        assert_eq!((c.addresses.len(), c.routes.len()), (2, 1));
        c.replace(Origin::Dhcp, &[], &[]);
        assert_eq!((c.addresses, c.routes.len()), (vec![own], 0));
    }
}
