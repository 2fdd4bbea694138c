//! IP packets on their way out: cut where they are too long for the wire, or back in when they
//! are for this machine. What leaves is the link's.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use smoltcp::wire::{IpEndpoint, IpProtocol};

use super::Netif;
use super::demux::{parse_ip, ports};
use super::flow::FlowKey;
use super::fragment;
use super::port::count;
use crate::error::{Errno, Result};
use crate::net::device::Packet;

impl Netif {
    /// Memory for an IP packet of `len` bytes that [`Netif::send_packet`] takes; it begins at
    /// [`Netif::prefix`]. ENOBUFS.
    pub fn packet(&self, len: usize) -> Result<Packet> {
        self.link.packet(len)
    }

    /// Bytes in front of the IP packet in [`Netif::packet`].
    pub fn prefix(&self) -> usize {
        self.link.prefix()
    }

    /// Sends one IP packet; with `cut` in fragments when it is longer than the wire takes.
    /// EMSGSIZE when it must not be cut, ENOBUFS, EPERM when the packet filter keeps it in.
    pub fn send_packet(self: &Arc<Self>, packet: Packet, cut: bool) -> Result<()> {
        let prefix = self.prefix();
        let mtu = self.device.mtu();
        let len = packet.bytes().len() - prefix;
        if len > mtu && !cut {
            return Err(Errno::EMSGSIZE);
        }
        crate::net::filter::outgoing(self, &packet.bytes()[prefix..])?;
        if self.is_loopback() {
            self.send_to_self(packet);
            return Ok(());
        }
        if len <= mtu {
            self.send_on_wire(packet);
        } else {
            let id = self.next_fragment.fetch_add(1, Ordering::Relaxed);
            let mut enough = true;
            let is_cut = fragment::cut(&packet.bytes()[prefix..], mtu, id, |header, payload| {
                let Ok(mut piece) = self.packet(header.len() + payload.len()) else {
                    enough = false;
                    return;
                };
                let bytes = &mut piece.bytes_mut()[prefix..];
                bytes[..header.len()].copy_from_slice(header);
                bytes[header.len()..].copy_from_slice(payload);
                if enough {
                    self.send_on_wire(piece);
                }
            });
            if !is_cut {
                return Err(Errno::EMSGSIZE);
            }
            if !enough {
                return Err(Errno::ENOBUFS);
            }
        }
        self.device.flush();
        if self.link.neighbours.lock().is_waiting() {
            // Its timer asks again.
            self.kick();
        }
        Ok(())
    }

    fn send_on_wire(&self, packet: Packet) {
        if self.device.link_is_up() && !self.device.has_room() {
            // Lost, as datagrams may be.
            count(&self.counters.tx_dropped, 1);
            return;
        }
        self.link.send(packet);
    }

    fn send_to_self(self: &Arc<Self>, mut packet: Packet) {
        let len = packet.bytes().len() as u64;
        count(&self.counters.tx_packets, 1);
        count(&self.counters.tx_bytes, len);
        if !self.config().is_up {
            count(&self.counters.rx_dropped, 1);
            return;
        }
        count(&self.counters.rx_packets, 1);
        count(&self.counters.rx_bytes, len);
        packet.checksum_ok = true;
        let Some(headers) = parse_ip(packet.bytes(), 0) else {
            return;
        };
        let shard = match headers.protocol {
            IpProtocol::Tcp => {
                // From a raw socket.
                let payload = &packet.bytes()[headers.payload.0..headers.payload.1];
                let Some((source, destination)) = ports(payload) else {
                    return;
                };
                self.shard_of(&FlowKey {
                    local: IpEndpoint::new(headers.to, destination),
                    remote: IpEndpoint::new(headers.from, source),
                })
            }
            _ if self.deliver_datagram(&headers, packet.bytes(), true) => return,
            _ => 0,
        };
        self.shards[shard].post(self, headers, packet);
        self.shards[shard].serve(self);
    }
}
