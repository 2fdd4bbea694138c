//! Options about groups (man 7 ip, man 7 ipv6): where datagrams to them go, and which ones a
//! socket belongs to.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::{AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6};
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::net::stack::table::Receiver;
use crate::net::stack::{self, Netif};
use crate::sched::Mutex;

/// Most groups of a socket (net.ipv4.igmp_max_memberships), for IPv6 as well.
const MAX_MEMBERSHIPS: usize = 20;

/// Where datagrams to groups go.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// IP_MULTICAST_IF: the interface (0: any) and the source address.
    v4: (u32, Option<IpAddress>),
    /// IPV6_MULTICAST_IF; 0: any.
    v6: u32,
    /// IP_MULTICAST_LOOP: this machine's members hear them.
    loop_v4: bool,
    /// IPV6_MULTICAST_LOOP.
    loop_v6: bool,
}

impl Default for Sending {
    fn default() -> Self {
        Sending {
            v4: (0, None),
            v6: 0,
            loop_v4: true,
            loop_v6: true,
        }
    }
}

fn flag(value: i32) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

fn bytes_at<const N: usize>(value: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = value.get(at..).and_then(|b| b.first_chunk());
    bytes.copied().ok_or(Errno::EINVAL)
}

fn int_at(value: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_ne_bytes(bytes_at(value, at)?))
}

fn v4_at(value: &[u8], at: usize) -> Result<Option<IpAddress>> {
    let addr = Ipv4Address::from(bytes_at::<4>(value, at)?);
    Ok((!addr.is_unspecified()).then_some(addr.into()))
}

/// The interface that has an address.
fn by_address(addr: IpAddress) -> Option<Arc<Netif>> {
    stack::netifs().into_iter().find(|n| n.config().has(addr))
}

impl Sending {
    /// Interface (0: any) and source address for datagrams to `group`.
    pub fn way(&self, group: IpAddress) -> (u32, Option<IpAddress>) {
        match group {
            IpAddress::Ipv4(_) => self.v4,
            IpAddress::Ipv6(_) => (self.v6, None),
        }
    }

    /// Whether this machine's members hear what is sent to `group`.
    pub fn loops(&self, group: IpAddress) -> bool {
        match group {
            IpAddress::Ipv4(_) => self.loop_v4,
            IpAddress::Ipv6(_) => self.loop_v6,
        }
    }

    /// man 2 getsockopt; `None` for other options.
    pub fn get(&self, level: u32, option: u32) -> Option<Vec<u8>> {
        let int = |v: u32| Some(v.to_ne_bytes().to_vec());
        match (level, option) {
            (IPPROTO_IP, uapi::IP_MULTICAST_IF) => Some(match self.v4.1 {
                Some(IpAddress::Ipv4(a)) => a.octets().to_vec(),
                _ => alloc::vec![0; 4],
            }),
            (IPPROTO_IP, uapi::IP_MULTICAST_LOOP) => int(self.loop_v4.into()),
            (IPPROTO_IPV6, uapi::IPV6_MULTICAST_IF) => int(self.v6),
            (IPPROTO_IPV6, uapi::IPV6_MULTICAST_LOOP) => int(self.loop_v6.into()),
            _ => None,
        }
    }

    /// man 2 setsockopt for a socket tied to interface `tied` (0: none); `None` for other
    /// options. EINVAL, EADDRNOTAVAIL, ENODEV.
    pub fn set(&mut self, level: u32, option: u32, value: &[u8], tied: u32) -> Option<Result<()>> {
        Some(match (level, option) {
            (IPPROTO_IP, uapi::IP_MULTICAST_IF) => self.set_interface_v4(value, tied),
            (IPPROTO_IPV6, uapi::IPV6_MULTICAST_IF) => self.set_interface_v6(value, tied),
            (IPPROTO_IP, uapi::IP_MULTICAST_LOOP) => match value {
                [] => Err(Errno::EINVAL),
                [n, rest @ ..] if rest.len() < 3 => {
                    self.loop_v4 = *n != 0;
                    Ok(())
                }
                _ => int_at(value, 0).map(|n| self.loop_v4 = n != 0),
            },
            (IPPROTO_IPV6, uapi::IPV6_MULTICAST_LOOP) => int_at(value, 0)
                .and_then(|n| flag(n as i32))
                .map(|on| self.loop_v6 = on),
            _ => return None,
        })
    }

    /// `struct in_addr`, `struct ip_mreq` or `struct ip_mreqn`.
    fn set_interface_v4(&mut self, value: &[u8], tied: u32) -> Result<()> {
        let addr = v4_at(value, if value.len() >= 8 { 4 } else { 0 })?;
        let index = match int_at(value, 8) {
            Ok(index) => index as i32,
            Err(_) => 0,
        };
        self.v4 = match (index, addr) {
            (0, None) => (0, None),
            (0, Some(a)) => {
                let netif = by_address(a).ok_or(Errno::EADDRNOTAVAIL)?;
                (netif.index, addr)
            }
            (index, _) => {
                let netif = stack::by_index(index as u32).ok_or(Errno::EADDRNOTAVAIL)?;
                (netif.index, addr)
            }
        };
        if tied != 0 && self.v4.0 != 0 && self.v4.0 != tied {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn set_interface_v6(&mut self, value: &[u8], tied: u32) -> Result<()> {
        let index = int_at(value, 0)?;
        if index != 0 {
            if tied != 0 && tied != index {
                return Err(Errno::EINVAL);
            }
            stack::by_index(index).ok_or(Errno::ENODEV)?;
        }
        self.v6 = index;
        Ok(())
    }
}

/// What an option asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    joins: bool,
    group: IpAddress,
    /// The interface's number; 0 when it is not named so.
    index: u32,
    /// Its address.
    addr: Option<IpAddress>,
}

/// Whether an option joins or leaves a group.
pub fn is_membership(level: u32, option: u32) -> bool {
    matches!(
        (level, option),
        (
            IPPROTO_IP,
            uapi::IP_ADD_MEMBERSHIP | uapi::IP_DROP_MEMBERSHIP
        ) | (
            IPPROTO_IPV6,
            uapi::IPV6_ADD_MEMBERSHIP | uapi::IPV6_DROP_MEMBERSHIP
        ) | (
            IPPROTO_IP | IPPROTO_IPV6,
            uapi::MCAST_JOIN_GROUP | uapi::MCAST_LEAVE_GROUP
        )
    )
}

/// Reads an option that [`is_membership`]. EINVAL; EADDRNOTAVAIL for a group of another family.
pub fn read_membership(level: u32, option: u32, value: &[u8]) -> Result<Asked> {
    let joins = matches!(
        (level, option),
        (_, uapi::MCAST_JOIN_GROUP)
            | (IPPROTO_IP, uapi::IP_ADD_MEMBERSHIP)
            | (IPPROTO_IPV6, uapi::IPV6_ADD_MEMBERSHIP)
    );
    let (group, index, addr) = match option {
        uapi::MCAST_JOIN_GROUP | uapi::MCAST_LEAVE_GROUP => {
            // `struct group_req`: index, padding, `struct sockaddr_storage`.
            const SIZE: usize = 136;
            if value.len() < SIZE {
                return Err(Errno::EINVAL);
            }
            let index = int_at(value, 0)?;
            let family = u32::from(u16::from_ne_bytes(bytes_at(value, 8)?));
            let group = match (level, family) {
                (IPPROTO_IP, AF_INET) => v4_at(value, 12)?,
                (IPPROTO_IP, _) => return Err(Errno::EINVAL),
                (_, AF_INET6) => Some(Ipv6Address::from(bytes_at::<16>(value, 16)?).into()),
                _ => return Err(Errno::EADDRNOTAVAIL),
            };
            (group, index, None)
        }
        _ if level == IPPROTO_IP => {
            // `struct ip_mreq`, or the longer `struct ip_mreqn`.
            let addr = v4_at(value, 4)?;
            (v4_at(value, 0)?, int_at(value, 8).unwrap_or(0), addr)
        }
        _ => {
            let group = Ipv6Address::from(bytes_at::<16>(value, 0)?);
            (Some(group.into()), int_at(value, 16)?, None)
        }
    };
    let group = match group {
        Some(group) if group.is_multicast() => group,
        // Nobody is a member of it.
        _ if !joins && level == IPPROTO_IP => return Err(Errno::EADDRNOTAVAIL),
        _ => return Err(Errno::EINVAL),
    };
    Ok(Asked {
        joins,
        group,
        index,
        addr,
    })
}

impl Asked {
    /// The interface it is about.
    fn netif(&self) -> Option<Arc<Netif>> {
        match (self.index, self.addr) {
            (0, None) => stack::route(self.group, None, 0).ok().map(|(n, _)| n),
            (0, Some(addr)) => by_address(addr),
            (index, _) => stack::by_index(index),
        }
    }
}

/// The groups of a socket, left when it is closed.
#[derive(Default)]
pub struct Memberships(Mutex<Vec<(IpAddress, Arc<Netif>)>>);

impl Memberships {
    /// Joins or leaves for `receiver`. ENODEV without an interface; EADDRINUSE when it is a
    /// member, EADDRNOTAVAIL when it is none; ENOBUFS for too many.
    pub fn change(&self, asked: Asked, receiver: &Receiver) -> Result<()> {
        let netif = asked.netif();
        let mut all = self.0.lock();
        if asked.joins {
            let netif = netif.ok_or(Errno::ENODEV)?;
            let same = |(group, on): &(IpAddress, Arc<Netif>)| {
                *group == asked.group && on.index == netif.index
            };
            if all.iter().any(same) {
                return Err(Errno::EADDRINUSE);
            }
            if all.len() >= MAX_MEMBERSHIPS {
                return Err(Errno::ENOBUFS);
            }
            netif.join_group(asked.group)?;
            all.push((asked.group, netif));
        } else {
            // IPv6: whichever interface, when none is named.
            let index = match (&netif, asked.group) {
                (_, IpAddress::Ipv6(_)) if asked.index == 0 => 0,
                (Some(netif), _) => netif.index,
                (None, _) if asked.index == 0 && asked.addr.is_none() => {
                    return Err(Errno::ENODEV);
                }
                (None, _) => return Err(Errno::EADDRNOTAVAIL),
            };
            let at = all
                .iter()
                .position(|(g, on)| *g == asked.group && (index == 0 || on.index == index))
                .ok_or(Errno::EADDRNOTAVAIL)?;
            let (group, netif) = all.remove(at);
            netif.leave_group(group);
        }
        let groups = all.iter().map(|(g, n)| (*g, n.index)).collect();
        let old = core::mem::replace(&mut receiver.hears.lock().groups, groups);
        drop(old);
        Ok(())
    }
}

impl Drop for Memberships {
    fn drop(&mut self) {
        let all = core::mem::take(&mut *self.0.lock());
        for (group, netif) in all {
            netif.leave_group(group);
        }
    }
}

/// IP_MULTICAST_ALL and IPV6_MULTICAST_ALL: whether a socket hears groups that others joined.
/// `None` for other options.
pub fn all_option(level: u32, option: u32, receiver: &Receiver) -> Option<Vec<u8>> {
    let hears = receiver.hears.lock();
    let on = match (level, option) {
        (IPPROTO_IP, uapi::IP_MULTICAST_ALL) => hears.all_v4,
        (IPPROTO_IPV6, uapi::IPV6_MULTICAST_ALL) => hears.all_v6,
        _ => return None,
    };
    Some(u32::from(on).to_ne_bytes().to_vec())
}

/// Sets [`all_option`]. EINVAL.
pub fn set_all_option(
    level: u32,
    option: u32,
    value: &[u8],
    receiver: &Receiver,
) -> Option<Result<()>> {
    let on = || match value {
        [n, rest @ ..] if level == IPPROTO_IP && rest.len() < 3 => flag((*n).into()),
        _ => flag(int_at(value, 0)? as i32),
    };
    let set = |which: &dyn Fn(bool)| Some(on().map(which));
    match (level, option) {
        (IPPROTO_IP, uapi::IP_MULTICAST_ALL) => set(&|on| receiver.hears.lock().all_v4 = on),
        (IPPROTO_IPV6, uapi::IPV6_MULTICAST_ALL) => set(&|on| receiver.hears.lock().all_v6 = on),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_all_forms() {
        let group = IpAddress::v4(239, 1, 2, 3);
        let own = IpAddress::v4(127, 0, 0, 1);
        let short = [239, 1, 2, 3, 127, 0, 0, 1];
        let read = |option, value: &[u8]| read_membership(IPPROTO_IP, option, value);
        let asked = read(uapi::IP_ADD_MEMBERSHIP, &short).unwrap();
        assert_eq!((asked.joins, asked.group, asked.index), (true, group, 0));
        assert_eq!(asked.addr, Some(own));
        let long = [&[239, 1, 2, 3, 0, 0, 0, 0][..], &7u32.to_ne_bytes()].concat();
        let asked = read(uapi::IP_DROP_MEMBERSHIP, &long).unwrap();
        assert_eq!((asked.joins, asked.index, asked.addr), (false, 7, None));
        assert_eq!(
            read(uapi::IP_ADD_MEMBERSHIP, &short[..7]),
            Err(Errno::EINVAL)
        );
        assert_eq!(read(uapi::IP_ADD_MEMBERSHIP, &[10; 8]), Err(Errno::EINVAL));
        let mut request = [0; 136];
        request[..4].copy_from_slice(&3u32.to_ne_bytes());
        request[8..10].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
        request[12..16].copy_from_slice(&[239, 1, 2, 3]);
        let asked = read(uapi::MCAST_JOIN_GROUP, &request).unwrap();
        assert_eq!((asked.group, asked.index), (group, 3));
        let other = read_membership(IPPROTO_IPV6, uapi::MCAST_JOIN_GROUP, &request);
        assert_eq!(other, Err(Errno::EADDRNOTAVAIL));
        let mut six = [0; 20];
        (six[0], six[1], six[15]) = (0xff, 2, 9);
        let asked = read_membership(IPPROTO_IPV6, uapi::IPV6_ADD_MEMBERSHIP, &six).unwrap();
        assert!(asked.joins && asked.group.is_multicast());
    }
}
