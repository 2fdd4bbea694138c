//! What `ioctl` on a socket asks of interfaces (man 7 netdevice).

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use super::AF_INET;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::net::stack::config::{self, Origin, Route};
use crate::net::stack::{self, Netif};
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user};
use alloc::sync::Arc;

// linux/sockios.h.
const SIOCADDRT: u32 = 0x890b;
const SIOCDELRT: u32 = 0x890c;
const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCSIFFLAGS: u32 = 0x8914;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCSIFADDR: u32 = 0x8916;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCSIFNETMASK: u32 = 0x891c;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;

// net/if.h.
const IFF_UP: u32 = 0x1;
const IFF_BROADCAST: u32 = 0x2;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;
const IFF_MULTICAST: u32 = 0x1000;
const IFF_LOWER_UP: u32 = 0x1_0000;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const CAP_NET_ADMIN: u32 = 12;

/// `struct ifreq`: a name of 16 bytes and 24 of what is asked.
const IFREQ: usize = 40;
const NAME: usize = 16;
/// `struct rtentry`: padding, destination, gateway and mask as `sockaddr`, flags...
const RTENTRY: usize = 120;

/// An interface's IFF_* flags.
pub fn flags(netif: &Netif) -> u32 {
    let mut flags = 0;
    if netif.config().is_up {
        flags |= IFF_UP;
    }
    if netif.device.link_is_up() {
        flags |= IFF_RUNNING | IFF_LOWER_UP;
    }
    flags
        | if netif.is_loopback() {
            IFF_LOOPBACK
        } else {
            IFF_BROADCAST | IFF_MULTICAST
        }
}

fn first_v4(netif: &Netif) -> Option<Ipv4Cidr> {
    netif.config().addresses.iter().find_map(|c| match c {
        IpCidr::Ipv4(c) => Some(*c),
        IpCidr::Ipv6(_) => None,
    })
}

fn sockaddr(addr: Ipv4Address) -> [u8; 16] {
    let mut out = [0; 16];
    out[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
    out[4..8].copy_from_slice(&addr.octets());
    out
}

fn read_sockaddr(bytes: &[u8]) -> Result<Ipv4Address> {
    match bytes.get(..8) {
        Some(b) if u32::from(u16::from_ne_bytes([b[0], b[1]])) == AF_INET => {
            Ok(Ipv4Address::new(b[4], b[5], b[6], b[7]))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn prefix_len(mask: Ipv4Address) -> Result<u8> {
    let bits = u32::from_be_bytes(mask.octets());
    if bits.leading_ones() + bits.trailing_zeros() < 32 {
        return Err(Errno::EINVAL);
    }
    Ok(bits.leading_ones() as u8)
}

fn mask(prefix_len: u8) -> Ipv4Address {
    Ipv4Address::from(
        u32::MAX
            .checked_shl(32 - u32::from(prefix_len))
            .unwrap_or(0),
    )
}

fn may_change() -> Result<()> {
    super::super::may(CAP_NET_ADMIN)
}

fn set_first_v4(netif: &Arc<Netif>, new: Option<Ipv4Cidr>) {
    config::set_dhcp(netif, false);
    netif.change_config(|c| {
        let old = c
            .addresses
            .iter()
            .position(|a| matches!(a, IpCidr::Ipv4(_)));
        if let Some(at) = old {
            c.addresses.remove(at);
        }
        if let Some(new) = new {
            c.addresses.insert(0, IpCidr::Ipv4(new));
        }
    });
}

/// An interface request. ENOTTY for what is none; ENODEV; EADDRNOTAVAIL; EPERM.
pub fn interface(cmd: u32, arg: u64) -> Result<isize> {
    match cmd {
        SIOCGIFCONF => return list(arg),
        SIOCADDRT | SIOCDELRT => return change_route(cmd == SIOCADDRT, arg),
        SIOCGIFNAME..=SIOCGIFTXQLEN => {}
        _ => return Err(Errno::ENOTTY),
    }
    let mut request = [0; IFREQ];
    copy_from_user(&mut request, UserAddr(arg))?;
    let (name, value) = request.split_at_mut(NAME);
    let int = i32::from_ne_bytes([value[0], value[1], value[2], value[3]]);
    if cmd == SIOCGIFNAME {
        let netif = stack::by_index(int as u32).ok_or(Errno::ENODEV)?;
        name.fill(0);
        let n = netif.name.len().min(NAME - 1);
        name[..n].copy_from_slice(&netif.name.as_bytes()[..n]);
        copy_to_user(UserAddr(arg), &request)?;
        return Ok(0);
    }
    let end = name.iter().position(|&b| b == 0).unwrap_or(NAME);
    let text = core::str::from_utf8(&name[..end]).map_err(|_| Errno::ENODEV)?;
    let netif = stack::by_name(text).ok_or(Errno::ENODEV)?;
    let v4 = || first_v4(&netif).ok_or(Errno::EADDRNOTAVAIL);
    let mut put = |bytes: &[u8]| value[..bytes.len()].copy_from_slice(bytes);
    match cmd {
        SIOCGIFFLAGS => put(&(flags(&netif) as u16).to_ne_bytes()),
        SIOCGIFADDR => put(&sockaddr(v4()?.address())),
        SIOCGIFNETMASK => put(&sockaddr(mask(v4()?.prefix_len()))),
        SIOCGIFBRDADDR => put(&sockaddr(
            v4()?.broadcast().unwrap_or(Ipv4Address::UNSPECIFIED),
        )),
        SIOCGIFMETRIC => put(&0u32.to_ne_bytes()),
        SIOCGIFMTU => put(&(netif.device.mtu() as u32).to_ne_bytes()),
        SIOCGIFTXQLEN => put(&1000u32.to_ne_bytes()),
        SIOCGIFINDEX => put(&netif.index.to_ne_bytes()),
        SIOCGIFHWADDR => {
            let (kind, mac) = match netif.device.mac() {
                Some(mac) => (ARPHRD_ETHER, mac),
                None => (ARPHRD_LOOPBACK, [0; 6]),
            };
            put(&kind.to_ne_bytes());
            value[2..8].copy_from_slice(&mac);
        }
        SIOCSIFFLAGS => {
            may_change()?;
            let up = int as u32 & IFF_UP != 0;
            if up && !netif.config().is_up && !netif.is_loopback() {
                config::bring_up(&netif);
            } else {
                netif.change_config(|c| c.is_up = up);
            }
            return Ok(0);
        }
        SIOCSIFADDR => {
            may_change()?;
            let addr = read_sockaddr(value)?;
            if addr.is_unspecified() {
                set_first_v4(&netif, None);
            } else if IpAddress::from(addr).is_unicast() {
                set_first_v4(&netif, Some(Ipv4Cidr::new(addr, 24)));
            } else {
                return Err(Errno::EINVAL);
            }
            return Ok(0);
        }
        SIOCSIFNETMASK => {
            may_change()?;
            let prefix = prefix_len(read_sockaddr(value)?)?;
            let new = Ipv4Cidr::new(v4()?.address(), prefix);
            set_first_v4(&netif, Some(new));
            return Ok(0);
        }
        _ => return Err(Errno::ENOTTY),
    }
    copy_to_user(UserAddr(arg), &request)?;
    Ok(0)
}

/// SIOCGIFCONF: `struct ifconf` names a buffer for `struct ifreq`s with addresses.
fn list(arg: u64) -> Result<isize> {
    let header = UserPtr::<[u64; 2]>::new(UserAddr(arg));
    let [len, buffer] = header.read()?;
    let room = len as u32 as usize;
    let mut out = Vec::new();
    for netif in stack::netifs() {
        let Some(cidr) = first_v4(&netif) else {
            continue;
        };
        let mut request = [0; IFREQ];
        let n = netif.name.len().min(NAME - 1);
        request[..n].copy_from_slice(&netif.name.as_bytes()[..n]);
        request[NAME..NAME + 16].copy_from_slice(&sockaddr(cidr.address()));
        if buffer != 0 && out.len() + IFREQ > room {
            break;
        }
        out.extend_from_slice(&request);
    }
    if buffer != 0 {
        copy_to_user(UserAddr(buffer), &out)?;
    }
    UserPtr::<u32>::new(UserAddr(arg)).write(out.len() as u32)?;
    Ok(0)
}

/// SIOCADDRT and SIOCDELRT: `struct rtentry`.
fn change_route(add: bool, arg: u64) -> Result<isize> {
    may_change()?;
    let mut entry = [0; RTENTRY];
    copy_from_user(&mut entry, UserAddr(arg))?;
    let to = read_sockaddr(&entry[8..])?;
    let gateway = read_sockaddr(&entry[24..])
        .ok()
        .filter(|g| !g.is_unspecified());
    let mask = read_sockaddr(&entry[40..]).unwrap_or(Ipv4Address::UNSPECIFIED);
    let to = IpCidr::Ipv4(Ipv4Cidr::new(to, prefix_len(mask)?));
    let same = |r: &Route| r.to == to && gateway.is_none_or(|g| r.gateway == Some(g.into()));
    if !add {
        let netif = stack::netifs()
            .into_iter()
            .find(|n| n.config().routes.iter().any(same))
            .ok_or(Errno::ESRCH)?;
        netif.change_config(|c| c.routes.retain(|r| !same(r)));
        return Ok(0);
    }
    let gateway = IpAddress::from(gateway.ok_or(Errno::EINVAL)?);
    // Through the interface on whose network the router is.
    let netif = stack::netifs()
        .into_iter()
        .find(|n| {
            n.config()
                .addresses
                .iter()
                .any(|c| c.contains_addr(&gateway))
        })
        .ok_or(Errno::ENETUNREACH)?;
    if netif.config().routes.iter().any(same) {
        return Err(Errno::EEXIST);
    }
    netif.change_config(|c| {
        c.routes.push(Route {
            to,
            gateway: Some(gateway),
            origin: Origin::Set,
            metric: 0,
        });
    });
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_prefixes() {
        for n in 0..=32 {
            assert_eq!(prefix_len(mask(n)), Ok(n));
        }
        assert_eq!(
            prefix_len(Ipv4Address::new(255, 0, 255, 0)),
            Err(Errno::EINVAL)
        );
    }
}
