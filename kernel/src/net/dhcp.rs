//! /proc/net/dhcp: what the DHCP client of each interface does, a line each, and commands to
//! it: `start NAME`, `stop NAME` (the lease goes, and what it gave), `renew NAME` (asks for a
//! new one). Not the client itself: that is smoltcp's, in `stack::config`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::stack::config::{self, Origin};
use super::stack::{self, Netif};
use crate::error::{Errno, Result};

const CAP_NET_ADMIN: u32 = 12;
/// Most bytes of a command.
pub const MAX_TEXT: usize = 256;

fn line(netif: &Netif, out: &mut String) {
    let config = netif.config();
    let lease = config.leased.iter().find(|(_, from)| *from == Origin::Dhcp);
    let _ = match (config::has_dhcp(netif), lease) {
        (false, _) => writeln!(out, "{} off", netif.name),
        (true, None) => writeln!(out, "{} asking", netif.name),
        (true, Some((cidr, _))) => writeln!(out, "{} bound {cidr}", netif.name),
    };
}

/// The state of every card's client.
pub fn text() -> Result<Vec<u8>> {
    let mut out = String::new();
    for netif in stack::netifs().iter().filter(|n| !n.is_loopback()) {
        line(netif, &mut out);
    }
    Ok(out.into_bytes())
}

/// Obeys a command. EPERM without CAP_NET_ADMIN, ENODEV, EINVAL for what is none.
pub fn control(text: &[u8]) -> Result<()> {
    super::may(CAP_NET_ADMIN)?;
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let mut words = text.split_ascii_whitespace();
    let (Some(word), Some(name), None) = (words.next(), words.next(), words.next()) else {
        return Err(Errno::EINVAL);
    };
    let netif = stack::by_name(name).ok_or(Errno::ENODEV)?;
    if netif.is_loopback() {
        return Err(Errno::EOPNOTSUPP);
    }
    match word {
        "start" => config::set_dhcp(&netif, true),
        "stop" => config::set_dhcp(&netif, false),
        "renew" => config::renew_dhcp(&netif)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
