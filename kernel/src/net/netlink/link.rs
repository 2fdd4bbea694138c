//! Interfaces (RTM_*LINK, man 7 rtnetlink).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::super::inet::ioctl::flags;
use super::message::{Answer, CAP_NET_ADMIN, attributes, text, word};
use crate::error::{Errno, Result};
use crate::net::stack::config;
use crate::net::stack::{self, Netif};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;
const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_QDISC: u16 = 6;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_STATS64: u16 = 23;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const IFF_UP: u32 = 1;

pub(super) fn put_link(answer: &mut Answer, netif: &Netif, multi: u16) {
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

/// The interface that a request names, by number or by name. ENODEV.
pub(super) fn find(body: &[u8]) -> Result<Arc<Netif>> {
    let attributes = attributes(body.get(16..).unwrap_or(&[]));
    let name = attributes.iter().find(|a| a.0 == IFLA_IFNAME);
    let netif = match (word(body, 4).unwrap_or(0), name) {
        (0, Some((_, name))) => text(name).and_then(stack::by_name),
        (index, _) => stack::by_index(index),
    };
    netif.ok_or(Errno::ENODEV)
}

/// RTM_SETLINK and RTM_NEWLINK of an interface that is there: up and down.
pub(super) fn change_link(body: &[u8]) -> Result<()> {
    crate::net::may(CAP_NET_ADMIN)?;
    let attributes = attributes(body.get(16..).unwrap_or(&[]));
    let netif = find(body)?;
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
