//! Routes (RTM_*ROUTE, man 7 rtnetlink).

use alloc::sync::Arc;

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv6Address};

use super::message::{
    Answer, CAP_NET_ADMIN, NLM_F_MULTI, NLM_F_REPLACE, address, attributes, check_prefix, family,
    octets, word,
};
use crate::error::{Errno, Result};
use crate::net::inet::AF_INET6;
use crate::net::stack::config::{Origin, Route};
use crate::net::stack::{self, Netif};

pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;

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
struct Told {
    to: IpCidr,
    gateway: Option<IpAddress>,
    source: Option<IpAddress>,
    protocol: u8,
    metric: u32,
}

fn put_route(answer: &mut Answer, netif: &Netif, told: &Told) {
    let scope = match told.gateway {
        Some(_) => SCOPE_UNIVERSE,
        None => SCOPE_LINK,
    };
    let to = &told.to;
    let mut head = [0; 12];
    head[..2].copy_from_slice(&[family(to.address()), to.prefix_len()]);
    head[4..8].copy_from_slice(&[RT_TABLE_MAIN, told.protocol, scope, RTN_UNICAST]);
    answer.begin(RTM_NEWROUTE, NLM_F_MULTI, &head);
    answer.attribute(RTA_TABLE, &u32::from(RT_TABLE_MAIN).to_ne_bytes());
    if to.prefix_len() != 0 {
        answer.attribute(RTA_DST, &octets(network(to)));
    }
    if let Some(gateway) = told.gateway {
        answer.attribute(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = told.source {
        answer.attribute(RTA_PREFSRC, &octets(source));
    }
    if told.metric != 0 {
        answer.attribute(RTA_PRIORITY, &told.metric.to_ne_bytes());
    }
    answer.attribute(RTA_OIF, &netif.index.to_ne_bytes());
    answer.end();
}

/// All routes through an interface, of the family `wanted` (0: of both).
pub(super) fn put_routes(answer: &mut Answer, netif: &Netif, wanted: u8) {
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
        let told = Told {
            to: route.to,
            gateway: route.gateway,
            source: None,
            protocol: match route.origin {
                Origin::Set => STATIC,
                Origin::Dhcp => DHCP,
                Origin::Router => RA,
            },
            metric: route.metric,
        };
        put_route(answer, netif, &told);
    }
    for cidr in config.addresses.iter().filter(|c| is_wanted(c.address())) {
        let told = Told {
            to: *cidr,
            gateway: None,
            source: Some(cidr.address()),
            protocol: KERNEL,
            metric: 0,
        };
        put_route(answer, netif, &told);
    }
}

/// RTM_GETROUTE for one destination: the way that a packet takes.
pub(super) fn tell_route(answer: &mut Answer, body: &[u8]) -> Result<()> {
    let attributes = attributes(body.get(12..).unwrap_or(&[]));
    let find = |kind| attributes.iter().find(|a| a.0 == kind).map(|a| a.1);
    let to = address(find(RTA_DST).ok_or(Errno::EINVAL)?)?;
    let through = find(RTA_OIF).map_or(Ok(0), |b| word(b, 0))?;
    let (netif, source) = stack::route(to, None, through)?;
    const RTN_LOCAL: u8 = 2;
    const RT_TABLE_LOCAL: u8 = 255;
    const RTM_F_CLONED: u32 = 0x200;
    let (table, class) = match netif.is_loopback() {
        true => (RT_TABLE_LOCAL, RTN_LOCAL),
        false => (RT_TABLE_MAIN, RTN_UNICAST),
    };
    let bits = match to {
        IpAddress::Ipv4(_) => 32,
        IpAddress::Ipv6(_) => 128,
    };
    let mut head = [0; 12];
    head[..2].copy_from_slice(&[family(to), bits]);
    head[4..8].copy_from_slice(&[table, 0, SCOPE_UNIVERSE, class]);
    head[8..].copy_from_slice(&RTM_F_CLONED.to_ne_bytes());
    answer.begin(RTM_NEWROUTE, 0, &head);
    answer.attribute(RTA_TABLE, &u32::from(table).to_ne_bytes());
    answer.attribute(RTA_DST, &octets(to));
    answer.attribute(RTA_OIF, &netif.index.to_ne_bytes());
    answer.attribute(RTA_PREFSRC, &octets(source));
    if let Some(gateway) = netif.config().next_hop(to)
        && gateway != to
        && !netif.is_loopback()
    {
        answer.attribute(RTA_GATEWAY, &octets(gateway));
    }
    answer.end();
    Ok(())
}

/// RTM_NEWROUTE and RTM_DELROUTE.
pub(super) fn change_route(add: bool, flags: u16, body: &[u8]) -> Result<()> {
    crate::net::may(CAP_NET_ADMIN)?;
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
    let metric = find(RTA_PRIORITY).map(|b| word(b, 0)).transpose()?;
    let same = |r: &Route| {
        r.to == to
            && (gateway.is_none() || r.gateway == gateway)
            && metric.is_none_or(|m| r.metric == m)
    };
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
    if netif.is_loopback() {
        return Err(Errno::EOPNOTSUPP);
    }
    let metric = metric.unwrap_or(0);
    if netif
        .config()
        .addresses
        .iter()
        .any(|a| network(a) == network(&to) && a.prefix_len() == to.prefix_len())
    {
        // The address made it.
        return Err(Errno::EEXIST);
    }
    let rivals = |r: &Route| r.to == to && r.metric == metric;
    if flags & NLM_F_REPLACE != 0 {
        for other in stack::netifs() {
            if other.index != netif.index && other.config().routes.iter().any(rivals) {
                other.change_config(|c| c.routes.retain(|r| !rivals(r)));
            }
        }
    } else if netif.config().routes.iter().any(rivals) {
        // One way to a place with one metric, as on Linux.
        return Err(Errno::EEXIST);
    }
    netif.change_config(|c| {
        c.routes.retain(|r| !rivals(r));
        c.routes.push(Route {
            to,
            gateway,
            origin: Origin::Set,
            metric,
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_masked() {
        let c = IpCidr::new("fe80::1234:5678".parse::<IpAddress>().unwrap(), 10);
        assert_eq!(network(&c), "fe80::".parse::<IpAddress>().unwrap());
        let c = IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24);
        assert_eq!(network(&c), IpAddress::v4(10, 0, 2, 0));
    }
}
