//! Addresses of interfaces (RTM_*ADDR, man 7 rtnetlink).

use smoltcp::wire::{IpAddress, IpCidr};

use super::message::{
    Answer, CAP_NET_ADMIN, NLM_F_MULTI, address, attributes, check_prefix, family, octets, word,
};
use crate::error::{Errno, Result};
use crate::net::stack::config;
use crate::net::stack::{self, Netif};

pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

pub(super) fn put_addresses(answer: &mut Answer, netif: &Netif, wanted: u8) {
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

/// RTM_NEWADDR and RTM_DELADDR.
pub(super) fn change_address(add: bool, exclusive: bool, body: &[u8]) -> Result<()> {
    crate::net::may(CAP_NET_ADMIN)?;
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
