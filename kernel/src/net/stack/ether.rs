//! What an interface with a card does beside carrying IP: it answers ARP and neighbour
//! discovery, asks routers and DHCP, and joins groups (IGMP, MLD).
//!
//! One smoltcp `Interface` that speaks Ethernet does that under a lock of its own, which is
//! taken before the shards' and never with them.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{EthernetAddress, HardwareAddress};

use super::config::{self, Change};
use super::link::Link;
use super::port::Wire;
use super::{Netif, instant, new_interface};
use crate::net::device::Packet;
use crate::time::now_ns;

/// What the lock guards.
pub struct Ether {
    pub(super) iface: Box<Interface>,
    /// A second one that only hears router advertisements: smoltcp's deadline of a socket
    /// is lost when its interface solicits routers itself and none answers.
    pub(super) slaac: Box<Interface>,
    pub(super) wire: Wire,
    /// Empty, or the DHCP client.
    pub(super) sockets: SocketSet<'static>,
    pub(super) nobody: SocketSet<'static>,
    pub(super) dhcp: Option<SocketHandle>,
    pub(super) slaac_deadline: Option<u64>,
    pub(super) link_was_up: bool,
}

impl Ether {
    pub(super) fn new(link: &Arc<Link>, mac: [u8; 6]) -> Ether {
        let mut wire = Wire {
            link: link.clone(),
            staged: None,
        };
        let hardware = HardwareAddress::Ethernet(EthernetAddress(mac));
        Ether {
            iface: new_interface(hardware, &mut wire, false),
            slaac: new_interface(hardware, &mut wire, true),
            wire,
            sockets: SocketSet::new(Vec::new()),
            nobody: SocketSet::new(Vec::new()),
            dhcp: None,
            slaac_deadline: None,
            link_was_up: link.device.link_is_up(),
        }
    }

    /// Takes in a frame; answers it where that is due.
    pub(super) fn ingest(&mut self, frame: Packet) {
        self.wire.staged = Some(frame);
        let now = instant(now_ns());
        self.iface
            .poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        self.wire.staged = None;
    }

    /// Does what is due; what DHCP and routers gave goes to `changes`. When to come back.
    pub(super) fn work(&mut self, netif: &Netif, changes: &mut Vec<Change>) -> Option<u64> {
        let up = netif.device.link_is_up();
        if up != self.link_was_up {
            self.link_was_up = up;
            info!("{}: link {}", netif.name, if up { "up" } else { "down" });
            if let (true, Some(handle)) = (up, self.dhcp) {
                // Maybe another network.
                self.sockets.get_mut::<dhcpv4::Socket>(handle).reset();
            }
        }
        let now_ns = now_ns();
        let now = instant(now_ns);
        self.iface.poll_maintenance(now);
        // Joins and leaves of groups go out one for each call.
        for _ in 0..32 {
            let sent = self
                .iface
                .poll_egress(now, &mut self.wire, &mut self.sockets);
            if sent == smoltcp::iface::PollResult::None {
                break;
            }
        }
        if let Some(handle) = self.dhcp
            && let Some(change) =
                config::lease(self.sockets.get_mut::<dhcpv4::Socket>(handle).poll())
        {
            changes.push(change);
        }
        config::poll_slaac(netif, self, changes);
        netif.device.flush();
        let again = self
            .iface
            .poll_at(now, &self.sockets)
            .map(|at| (at.total_micros().max(0) as u64).saturating_mul(1000))
            // Nobody spins.
            .map(|at| at.max(now_ns + 10_000_000));
        [again, self.slaac_deadline].into_iter().flatten().min()
    }
}
