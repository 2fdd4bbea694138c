//! /proc/net: interfaces, routes and sockets (man 5 proc). The order of bytes in addresses is
//! the kernel's own, as programs expect.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint};

use crate::error::Result;
use crate::net::stack::flow::{Holder, state_number};
use crate::net::stack::table::{self, Takes};
use crate::net::stack::{self, config};
use crate::net::unix::known;

pub fn dev() -> Result<Vec<u8>> {
    let mut out = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|\
         bytes    packets errs drop fifo colls carrier compressed\n",
    );
    for netif in stack::netifs() {
        let c = &netif.counters;
        let _ = writeln!(
            out,
            "{:>6}: {:7} {:7}    0 {:4}    0     0          0         0 {:8} {:7}    0 {:4}    0     0       0          0",
            netif.name,
            c.rx_bytes.load(Relaxed),
            c.rx_packets.load(Relaxed),
            c.rx_dropped.load(Relaxed),
            c.tx_bytes.load(Relaxed),
            c.tx_packets.load(Relaxed),
            c.tx_dropped.load(Relaxed),
        );
    }
    Ok(out.into_bytes())
}

fn hex(addr: IpAddress) -> String {
    let mut out = String::new();
    let words = |out: &mut String, octets: &[u8]| {
        for b in octets.as_chunks::<4>().0 {
            let _ = write!(out, "{:08X}", u32::from_ne_bytes(*b));
        }
    };
    match addr {
        IpAddress::Ipv4(a) => words(&mut out, &a.octets()),
        IpAddress::Ipv6(a) => words(&mut out, &a.octets()),
    }
    out
}

/// man 7 arp: IPv4 neighbours that answered.
pub fn arp() -> Result<Vec<u8>> {
    let mut out = String::from(
        "IP address       HW type     Flags       HW address            Mask     Device\n",
    );
    for netif in stack::netifs() {
        for (addr, mac, _) in netif.neighbours() {
            const COMPLETE: u32 = 2;
            let (IpAddress::Ipv4(_), Some(m)) = (addr, mac) else {
                continue;
            };
            let _ = writeln!(
                out,
                "{:<16} 0x1         {COMPLETE:#x}         \
                 {:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}     *        {}",
                alloc::format!("{addr}"),
                m[0],
                m[1],
                m[2],
                m[3],
                m[4],
                m[5],
                netif.name,
            );
        }
    }
    Ok(out.into_bytes())
}

pub fn route() -> Result<Vec<u8>> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    let mut out = String::from(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
    );
    for netif in stack::netifs() {
        if netif.is_loopback() {
            continue;
        }
        let config = netif.config();
        let far = config.routes.iter().map(|r| (r.to, r.gateway, r.metric));
        let near = config.addresses.iter().map(|c| (*c, None, 0));
        for (to, gateway, metric) in far.chain(near) {
            let IpCidr::Ipv4(to) = to else {
                continue;
            };
            let gateway = match gateway {
                Some(IpAddress::Ipv4(g)) => Some(g),
                _ => None,
            };
            let word = |octets: [u8; 4]| u32::from_ne_bytes(octets);
            let _ = writeln!(
                out,
                "{}\t{:08X}\t{:08X}\t{:04X}\t0\t0\t{metric}\t{:08X}\t0\t0\t0",
                netif.name,
                word(to.network().address().octets()),
                gateway.map_or(0, |g| word(g.octets())),
                UP | gateway.map_or(0, |_| GATEWAY),
                word(to.netmask().octets()),
            );
        }
    }
    Ok(out.into_bytes())
}

pub fn if_inet6() -> Result<Vec<u8>> {
    let mut out = String::new();
    for netif in stack::netifs() {
        for cidr in &netif.config().addresses {
            let IpCidr::Ipv6(cidr) = cidr else {
                continue;
            };
            for b in cidr.address().octets() {
                let _ = write!(out, "{b:02x}");
            }
            let scope = if cidr.address().is_loopback() {
                0x10
            } else if cidr.address().is_unicast_link_local() {
                0x20
            } else {
                0
            };
            let (index, len) = (netif.index, cidr.prefix_len());
            let _ = writeln!(
                out,
                " {index:02x} {len:02x} {scope:02x} 80 {:>8}",
                netif.name
            );
        }
    }
    Ok(out.into_bytes())
}

/// Name servers that DHCP named, in resolv.conf's form: /etc/resolv.conf may link here.
pub fn pnp() -> Result<Vec<u8>> {
    let mut out = String::new();
    for server in config::name_servers() {
        let _ = writeln!(out, "nameserver {server}");
    }
    Ok(out.into_bytes())
}

fn heading(v6: bool) -> String {
    let pad = if v6 { "                         " } else { "" };
    let mut out = String::new();
    let _ = writeln!(
        out,
        "  sl  local_address {pad}rem_address   {pad}st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    );
    out
}

fn unspecified(v6: bool) -> IpAddress {
    if v6 {
        IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 0)
    } else {
        IpAddress::v4(0, 0, 0, 0)
    }
}

fn row(
    out: &mut String,
    nr: usize,
    ends: [IpEndpoint; 2],
    state: u8,
    waiting: usize,
    holder: &Holder,
) {
    let [local, remote] = ends;
    let (inode, uid) = holder.get();
    let _ = writeln!(
        out,
        "{nr:4}: {}:{:04X} {}:{:04X} {state:02X} 00000000:{waiting:08X} 00:00000000 00000000 {uid:5}        0 {inode} 1 0000000000000000",
        hex(local.addr),
        local.port,
        hex(remote.addr),
        remote.port,
    );
}

fn is_v6(addr: IpAddress) -> bool {
    matches!(addr, IpAddress::Ipv6(_))
}

fn tcp_rows(v6: bool) -> Result<Vec<u8>> {
    let mut out = heading(v6);
    let mut nr = 0;
    for listener in table::listeners() {
        let family = if v6 {
            listener.v6
        } else {
            listener.v4 && !listener.v6
        };
        if !family {
            continue;
        }
        let addr = listener.addr.unwrap_or(unspecified(v6));
        let local = IpEndpoint::new(addr, listener.port);
        let remote = IpEndpoint::new(unspecified(v6), 0);
        row(
            &mut out,
            nr,
            [local, remote],
            state_number(State::Listen),
            listener.nr_queued(),
            &listener.holder,
        );
        nr += 1;
    }
    for netif in stack::netifs() {
        netif.for_each_tcp(|key, state, status| {
            if is_v6(key.local.addr) != v6 {
                return;
            }
            let state = state_number(state);
            let waiting = status.readable.load(SeqCst);
            row(
                &mut out,
                nr,
                [key.local, key.remote],
                state,
                waiting,
                &status.holder,
            );
            nr += 1;
        });
    }
    Ok(out.into_bytes())
}

pub fn tcp() -> Result<Vec<u8>> {
    tcp_rows(false)
}

pub fn tcp6() -> Result<Vec<u8>> {
    tcp_rows(true)
}

fn datagram_rows(v6: bool, wanted: fn(Takes) -> bool) -> Result<Vec<u8>> {
    const UNCONNECTED: u8 = 7;
    const CONNECTED: u8 = 1;
    let mut out = heading(v6);
    let mut nr = 0;
    for receiver in table::receivers() {
        let ends = *receiver.ends.lock();
        let family = if v6 { ends.v6 } else { ends.v4 && !ends.v6 };
        if !wanted(receiver.takes) || !family {
            continue;
        }
        let local = IpEndpoint::new(ends.addr.unwrap_or(unspecified(v6)), ends.port);
        let remote = ends.remote.unwrap_or(IpEndpoint::new(unspecified(v6), 0));
        let state = if ends.remote.is_some() {
            CONNECTED
        } else {
            UNCONNECTED
        };
        row(
            &mut out,
            nr,
            [local, remote],
            state,
            receiver.next_len(),
            &receiver.holder,
        );
        nr += 1;
    }
    Ok(out.into_bytes())
}

pub fn udp() -> Result<Vec<u8>> {
    datagram_rows(false, |t| t == Takes::Udp)
}

pub fn udp6() -> Result<Vec<u8>> {
    datagram_rows(true, |t| t == Takes::Udp)
}

pub fn raw() -> Result<Vec<u8>> {
    datagram_rows(false, |t| matches!(t, Takes::Raw(_)))
}

pub fn icmp() -> Result<Vec<u8>> {
    datagram_rows(false, |t| t == Takes::Ping)
}

/// man 5 proc: what is behind the kernel's own addresses stays hidden.
pub fn unix() -> Result<Vec<u8>> {
    const LISTENS: u32 = 0x1_0000;
    let mut out = b"Num       RefCount Protocol Flags    Type St Inode Path\n".to_vec();
    for row in known::rows() {
        // linux/net.h, socket_state.
        let (flags, state) = match row.stage {
            known::Stage::Unconnected => (0, 1),
            known::Stage::Listening => (LISTENS, 1),
            known::Stage::Connecting => (0, 2),
            known::Stage::Connected => (0, 3),
        };
        let text = alloc::format!(
            "{:016x}: {:08X} {:08X} {flags:08X} {:04X} {state:02X} {:5}",
            0,
            row.users,
            0,
            row.kind as u32,
            row.inode
        );
        out.extend_from_slice(text.as_bytes());
        if !row.name.is_empty() {
            out.push(b' ');
            out.extend(row.name.iter().map(|&b| if b == 0 { b'@' } else { b }));
        }
        out.push(b'\n');
    }
    Ok(out)
}
