//! Groups (RFC 1112; RFC 4291, 2.7): which of them an interface belongs to, and packets to
//! them. Sockets join and leave (`inet::multicast`); the part that speaks Ethernet tells
//! routers (IGMP, MLD).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use smoltcp::wire::{IpAddress, IpProtocol};

use super::{Netif, parse_ip};
use crate::error::{Errno, Result};
use crate::net::device::Packet;

/// How many sockets want each group.
pub type Members = BTreeMap<IpAddress, usize>;

/// Groups that every machine belongs to: 224.0.0.1, ff01::1, ff02::1.
fn is_for_everybody(group: IpAddress) -> bool {
    match group {
        IpAddress::Ipv4(a) => a.octets() == [224, 0, 0, 1],
        IpAddress::Ipv6(a) => matches!(a.segments(), [0xff01 | 0xff02, 0, 0, 0, 0, 0, 0, 1]),
    }
}

/// Whether a router asks which groups there are members of (RFC 3376, 4.1; RFC 3810, 5.1).
pub fn is_query(protocol: IpProtocol, payload: &[u8]) -> bool {
    const IGMP_QUERY: u8 = 0x11;
    const MLD_QUERY: u8 = 130;
    match (protocol, payload) {
        (IpProtocol::Igmp, [kind, ..]) => *kind == IGMP_QUERY,
        // Behind the option that has routers look at it: next header and length in eights.
        (IpProtocol::HopByHop, [next, eights, ..]) => {
            let inner = (usize::from(*eights) + 1) * 8;
            IpProtocol::from(*next) == IpProtocol::Icmpv6 && payload.get(inner) == Some(&MLD_QUERY)
        }
        _ => false,
    }
}

impl Netif {
    /// One more socket wants packets to `group`. ENOBUFS when the interface is in too many.
    pub fn join_group(self: &Arc<Self>, group: IpAddress) -> Result<()> {
        let guard = self.changing.lock();
        let known = self.groups.lock().contains_key(&group);
        if let (Some(ether), false) = (&self.ether, known) {
            let joined = ether.lock().iface.join_multicast_group(group);
            joined.map_err(|_| Errno::ENOBUFS)?;
        }
        *self.groups.lock().entry(group).or_default() += 1;
        drop(guard);
        // The worker sends the report.
        self.kick();
        Ok(())
    }

    /// One socket less wants packets to `group`.
    pub fn leave_group(self: &Arc<Self>, group: IpAddress) {
        let guard = self.changing.lock();
        let last = {
            let mut groups = self.groups.lock();
            let left = groups.get_mut(&group).map(|n| {
                *n = n.saturating_sub(1);
                *n
            });
            if left == Some(0) {
                groups.remove(&group);
            }
            left == Some(0)
        };
        if let (Some(ether), true) = (&self.ether, last) {
            // It fails for addresses that are no groups, which nobody joined.
            let _ = ether.lock().iface.leave_multicast_group(group);
        }
        drop(guard);
        self.kick();
    }

    /// Whether packets to `group` are for this machine.
    pub(super) fn is_member(&self, group: IpAddress) -> bool {
        is_for_everybody(group) || self.groups.lock().contains_key(&group)
    }

    /// Sends an IP packet of [`Netif::packet`] to a group; `loops`: this machine hears it, too,
    /// where it is a member. Errors as [`Netif::send_packet`].
    pub fn send_to_group(self: &Arc<Self>, packet: Packet, cut: bool, loops: bool) -> Result<()> {
        let ip = &packet.bytes()[self.prefix()..];
        let headers = parse_ip(ip, 0).ok_or(Errno::EINVAL)?;
        if self.is_loopback() {
            return self.send_packet(packet, cut);
        }
        // It may be lost on this way, as on others.
        let copy = (loops && self.is_member(headers.to)).then(|| Packet::in_heap(ip.len()));
        let copy = copy.and_then(core::result::Result::ok).map(|mut copy| {
            copy.bytes_mut().copy_from_slice(ip);
            copy
        });
        // A hop limit of 0 stays here (RFC 1112, 6.1).
        if headers.hops > 0 {
            self.send_packet(packet, cut)?;
        }
        if let Some(copy) = copy {
            self.deliver_datagram(&headers, copy.bytes(), true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_told_from_reports() {
        assert!(is_query(IpProtocol::Igmp, &[0x11, 0, 0, 0]));
        assert!(!is_query(IpProtocol::Igmp, &[0x16]));
        assert!(!is_query(IpProtocol::Udp, &[0x11]));
        let mut mld = [0; 9];
        (mld[0], mld[8]) = (58, 130);
        assert!(is_query(IpProtocol::HopByHop, &mld));
        mld[8] = 143;
        assert!(!is_query(IpProtocol::HopByHop, &mld));
        mld[1] = 255;
        assert!(!is_query(IpProtocol::HopByHop, &mld));
        assert!(!is_query(IpProtocol::HopByHop, &[]));
    }
}
