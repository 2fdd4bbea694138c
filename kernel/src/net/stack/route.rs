//! Where packets go: the interface and the source address for a destination.

use alloc::sync::Arc;

use smoltcp::wire::IpAddress;

use super::interfaces::netifs;
use super::{Netif, config};
use crate::error::{Errno, Result};

/// Where a packet to `to` goes out and with which source address: through the interface
/// `through` when one is named (0: any), from `from` when the socket has an address.
/// ENETUNREACH; ENODEV.
pub fn route(
    to: IpAddress,
    from: Option<IpAddress>,
    through: u32,
) -> Result<(Arc<Netif>, IpAddress)> {
    let all = netifs();
    let first = all.first().cloned().ok_or(Errno::ENETUNREACH)?;
    if through == 0 || first.index == through {
        let is_own = |a: IpAddress| all.iter().any(|n| n.config().has(a));
        let v4_loopback = IpAddress::v4(127, 0, 0, 1);
        if config::is_loopback(to) {
            let own = match to {
                IpAddress::Ipv4(_) => v4_loopback,
                IpAddress::Ipv6(_) => to,
            };
            return Ok((first, from.unwrap_or(own)));
        }
        if is_own(to) {
            return Ok((first, from.unwrap_or(to)));
        }
    }
    let mut best: Option<((u8, u32), Arc<Netif>)> = None;
    // The loopback interface carries what is for groups when it is named.
    let groups = through != 0 && to.is_multicast();
    for netif in all.iter().filter(|n| !n.is_loopback() || groups) {
        if through != 0 && netif.index != through {
            continue;
        }
        let config = netif.config();
        if !config.is_up {
            continue;
        }
        let Some((prefix, metric)) = config.cost(to) else {
            continue;
        };
        let beats = |(len, other): (u8, u32)| prefix > len || prefix == len && metric < other;
        if best.as_ref().is_none_or(|(cost, _)| beats(*cost)) {
            best = Some(((prefix, metric), netif.clone()));
        }
    }
    let (_, netif) = best.ok_or(Errno::ENETUNREACH)?;
    let source = match from {
        Some(from) => from,
        None => netif.config().source(to).ok_or(Errno::EADDRNOTAVAIL)?,
    };
    Ok((netif, source))
}

/// Whether `addr` is one of this machine's.
pub fn is_local(addr: IpAddress) -> bool {
    config::is_loopback(addr) || netifs().iter().any(|n| n.config().has(addr))
}
