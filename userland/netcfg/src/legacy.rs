//! `ifconfig`, `route` and `arp` in the form of net-tools, over route netlink.

use std::ffi::OsString;
use std::net::IpAddr;

use crate::format::{error, mac};
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink};
use crate::network::{
    self, Address, IFF_UP, Link, RTM_DELADDR, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWROUTE, Wanted,
};

/// man 8 ifconfig.
pub fn ifconfig(args: Vec<OsString>) -> i32 {
    let mut args = crate::arguments(&args);
    let all = args.iter().any(|a| a == "-a");
    args.retain(|a| a != "-a");
    crate::finish("ifconfig", configure(&args, all))
}

fn configure(args: &[String], all: bool) -> Result<(), String> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut socket = Netlink::open().map_err(|e| error(&e))?;
    let Some((name, changes)) = words.split_first() else {
        return show(&mut socket, None, all);
    };
    if changes.is_empty() {
        return show(&mut socket, Some(name), true);
    }
    let no_device = |_| format!("{name}: error fetching interface information: Device not found");
    let link = network::link(&mut socket, name).map_err(no_device)?;
    let kernel = |what: &str, e: std::io::Error| format!("{what}: {}", error(&e));
    let mut words = changes.iter().copied();
    let mut address: Option<(IpAddr, Option<u8>)> = None;
    let mut broadcast = None;
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{word}: nothing follows"))
        };
        match word {
            "up" | "down" => {
                network::change_link(&mut socket, link.index, Some(word == "up"), None)
                    .map_err(|e| kernel("SIOCSIFFLAGS", e))?;
            }
            "mtu" => {
                let mtu = value()?
                    .parse()
                    .map_err(|_| "mtu: not a number".to_owned())?;
                network::change_link(&mut socket, link.index, None, Some(mtu))
                    .map_err(|e| kernel("SIOCSIFMTU", e))?;
            }
            "netmask" => {
                let mask = value()?;
                let len = mask.parse().ok().and_then(network::mask_len);
                let len = len.ok_or_else(|| format!("{mask}: bad netmask"))?;
                let base = match address {
                    Some((address, _)) => address,
                    None => {
                        let own = first_v4(&mut socket, link.index)?;
                        own.ok_or("netmask: there is no address")?.address
                    }
                };
                address = Some((base, Some(len)));
            }
            "broadcast" => {
                broadcast = Some(
                    value()?
                        .parse()
                        .map_err(|_| "broadcast: bad address".to_owned())?,
                );
            }
            "add" | "del" => {
                let (ip, len) = network::parse_prefix(value()?)?;
                let kind = if word == "add" {
                    (RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL)
                } else {
                    (RTM_DELADDR, 0)
                };
                network::change_address(&mut socket, kind, link.index, (ip, len), None)
                    .map_err(|e| kernel("SIOCSIFADDR", e))?;
            }
            "inet" => {}
            text => {
                let has_len = text.contains('/');
                let (ip, len) =
                    network::parse_prefix(text).map_err(|_| format!("{text}: Unknown host"))?;
                address = Some((ip, has_len.then_some(len)));
            }
        }
    }
    if let Some((ip, len)) = address {
        set(&mut socket, &link, ip, len, broadcast).map_err(|e| kernel("SIOCSIFADDR", e))?;
    }
    Ok(())
}

/// The length that an address had by its class (RFC 791, 3.2).
fn class_len(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(a) if a.octets()[0] < 128 => 8,
        IpAddr::V4(a) if a.octets()[0] < 192 => 16,
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 128,
    }
}

fn first_v4(socket: &mut Netlink, index: u32) -> Result<Option<Address>, String> {
    let all = network::addresses(socket, network::family(Some(4))).map_err(|e| error(&e))?;
    Ok(all.into_iter().find(|a| a.index == index))
}

/// Makes `ip` the interface's first IPv4 address, and brings it up.
fn set(
    socket: &mut Netlink,
    link: &Link,
    ip: IpAddr,
    len: Option<u8>,
    broadcast: Option<IpAddr>,
) -> std::io::Result<()> {
    let len = len.unwrap_or(class_len(ip));
    let old = first_v4(socket, link.index).ok().flatten();
    if link.flags & IFF_UP == 0 {
        network::change_link(socket, link.index, Some(true), None)?;
    }
    let flags = (RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    let broadcast = broadcast.or(network::broadcast(ip, len));
    network::change_address(socket, flags, link.index, (ip, len), broadcast)?;
    if let Some(old) = old.filter(|old| (old.address, old.prefix) != (ip, len)) {
        // A lease goes by itself when an address is set.
        let old = (old.address, old.prefix);
        let _ = network::change_address(socket, (RTM_DELADDR, 0), link.index, old, None);
    }
    Ok(())
}

fn show(socket: &mut Netlink, name: Option<&str>, all: bool) -> Result<(), String> {
    let links = network::links(socket).map_err(|e| error(&e))?;
    let addresses = network::addresses(socket, 0).map_err(|e| error(&e))?;
    let mut out = String::new();
    let mut found = false;
    for link in &links {
        if name.is_some_and(|n| n != link.name) {
            continue;
        }
        found = true;
        if all || link.flags & IFF_UP != 0 {
            out += &block(link, &addresses);
        }
    }
    match name {
        Some(name) if !found => {
            return Err(format!(
                "{name}: error fetching interface information: Device not found"
            ));
        }
        _ => crate::print(&out),
    }
    Ok(())
}

/// A number of bytes as net-tools says it.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{bytes} ({value:.1} {unit})")
}

/// What ifconfig says of an interface.
fn block(l: &Link, addresses: &[Address]) -> String {
    const NAMES: [(u32, &str); 7] = [
        (0, "UP"),
        (1, "BROADCAST"),
        (3, "LOOPBACK"),
        (6, "RUNNING"),
        (7, "NOARP"),
        (8, "PROMISC"),
        (12, "MULTICAST"),
    ];
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(bit, _)| l.flags >> bit & 1 != 0)
        .map(|(_, name)| *name)
        .collect();
    let mut out = format!(
        "{}: flags={}<{}>  mtu {}\n",
        l.name,
        l.flags & 0xffff,
        names.join(","),
        l.mtu
    );
    for a in addresses.iter().filter(|a| a.index == l.index) {
        match a.address {
            IpAddr::V4(_) => {
                out += &format!(
                    "        inet {}  netmask {}",
                    a.address,
                    network::mask(a.prefix)
                );
                if let Some(broadcast) = a.broadcast {
                    out += &format!("  broadcast {broadcast}");
                }
                out.push('\n');
            }
            IpAddr::V6(_) => {
                let (id, scope) = match a.scope {
                    0 => (0, "global"),
                    253 => (0x20, "link"),
                    254 => (0x10, "host"),
                    _ => (0x40, "site"),
                };
                out += &format!(
                    "        inet6 {}  prefixlen {}  scopeid 0x{id:x}<{scope}>\n",
                    a.address, a.prefix
                );
            }
        }
    }
    out += &match l.is_loopback() {
        true => format!("        loop  txqueuelen {}  (Local Loopback)\n", l.txqlen),
        false => format!(
            "        ether {}  txqueuelen {}  (Ethernet)\n",
            mac(&l.mac),
            l.txqlen
        ),
    };
    let s = |at| l.stat(at);
    out += &format!("        RX packets {}  bytes {}\n", s(0), human(s(2)));
    out += &format!(
        "        RX errors {}  dropped {}  overruns {}  frame {}\n",
        s(4),
        s(6),
        s(11),
        s(13)
    );
    out += &format!("        TX packets {}  bytes {}\n", s(1), human(s(3)));
    out + &format!(
        "        TX errors {}  dropped {} overruns {}  carrier {}  collisions {}\n\n",
        s(5),
        s(7),
        s(17),
        s(16),
        s(9)
    )
}

/// man 8 route.
pub fn route(args: Vec<OsString>) -> i32 {
    let args = crate::arguments(&args);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let v6 = words.contains(&"-6") || words.contains(&"inet6");
    let words: Vec<&str> = words
        .into_iter()
        .filter(|w| !w.starts_with("-") && *w != "inet6")
        .collect();
    let result = match words.split_first() {
        None => table(v6),
        Some((&"add", rest)) => change(true, v6, rest),
        Some((&("del" | "delete"), rest)) => change(false, v6, rest),
        Some((other, _)) => Err(format!("{other}: unknown command (add or del)")),
    };
    crate::finish("route", result)
}

/// The table, also for `netstat -r`.
pub fn table(v6: bool) -> Result<(), String> {
    let mut socket = Netlink::open().map_err(|e| error(&e))?;
    let links = network::links(&mut socket).map_err(|e| error(&e))?;
    let family = network::family(Some(if v6 { 6 } else { 4 }));
    let mut routes = network::routes(&mut socket, family).map_err(|e| error(&e))?;
    const MAIN: u32 = 254;
    routes.retain(|r| r.table == MAIN);
    let name = |index: u32| {
        let found = links.iter().find(|l| l.index == index);
        found.map_or("?", |l| l.name.as_str())
    };
    let mut out = String::new();
    out += if v6 {
        "Kernel IPv6 routing table\nDestination                    Next Hop                   Flag Met Ref Use If\n"
    } else {
        "Kernel IP routing table\nDestination     Gateway         Genmask         Flags Metric Ref    Use Iface\n"
    };
    for r in &routes {
        let whole = if v6 { 128 } else { 32 };
        let mut flags = String::from("U");
        if r.gateway.is_some() {
            flags.push('G');
        }
        if r.to.is_some() && r.prefix == whole {
            flags.push('H');
        }
        let metric = r.metric.unwrap_or(0);
        if v6 {
            let to =
                r.to.map_or("[::]/0".to_owned(), |t| format!("{t}/{}", r.prefix));
            let via = r.gateway.map_or("[::]".to_owned(), |g| g.to_string());
            out += &format!(
                "{to:<30} {via:<26} {flags:<4} {metric:<4}{:<4}{:>3} {}\n",
                1,
                0,
                name(r.index)
            );
        } else {
            let any = "0.0.0.0".to_owned();
            let to = r.to.map_or(any.clone(), |t| t.to_string());
            let via = r.gateway.map_or(any, |g| g.to_string());
            let mask = network::mask(r.prefix).to_string();
            out += &format!(
                "{to:<15} {via:<15} {mask:<15} {flags:<5} {metric:<6} {:<2} {:>7} {}\n",
                0,
                0,
                name(r.index)
            );
        }
    }
    crate::print(&out);
    Ok(())
}

fn change(add: bool, v6: bool, words: &[&str]) -> Result<(), String> {
    let mut socket = Netlink::open().map_err(|e| error(&e))?;
    let mut wanted = Wanted {
        v6,
        ..Wanted::default()
    };
    let mut target: Option<(IpAddr, u8)> = None;
    let mut has_target = false;
    let mut words = words.iter().copied();
    let host = |text: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| format!("{text}: Host name lookup failure"))
    };
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{word}: nothing follows"))
        };
        match word {
            "-net" | "-host" | "net" | "host" => {}
            "gw" | "gateway" => wanted.gateway = Some(host(value()?)?),
            "netmask" => {
                let mask = value()?;
                let len = mask.parse().ok().and_then(network::mask_len);
                let len = len.ok_or_else(|| format!("netmask {mask}: bad"))?;
                target = target.map(|(ip, _)| (ip, len));
            }
            "metric" => {
                wanted.metric = Some(
                    value()?
                        .parse()
                        .map_err(|_| "metric: not a number".to_owned())?,
                )
            }
            "default" => has_target = true,
            "dev" => wanted.index = Some(network::link(&mut socket, value()?)?.index),
            text if !has_target => {
                has_target = true;
                target = Some(
                    network::parse_prefix(text)
                        .map_err(|_| format!("{text}: Host name lookup failure"))?,
                );
            }
            text => wanted.index = Some(network::link(&mut socket, text)?.index),
        }
    }
    if !has_target {
        return Err("no destination".to_owned());
    }
    wanted.to = target.filter(|t| t.1 != 0);
    let action = if add {
        (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    } else {
        (RTM_DELROUTE, 0)
    };
    let name = if add { "SIOCADDRT" } else { "SIOCDELRT" };
    network::change_route(&mut socket, action, &wanted)
        .map_err(|e| format!("{name}: {}", error(&e)))
}

/// man 8 arp: shows the table; changes are `ip neighbour`'s.
pub fn arp(args: Vec<OsString>) -> i32 {
    let args = crate::arguments(&args);
    if let Some(other) = args
        .iter()
        .find(|a| !matches!(a.as_str(), "-n" | "-a" | "-an" | "-e"))
    {
        eprintln!("arp: {other}: only -n, -a and -e are known; see ip neighbour");
        return 2;
    }
    let bsd = args.iter().any(|a| a.contains('a'));
    let list = || -> std::io::Result<String> {
        let mut socket = Netlink::open()?;
        let links = network::links(&mut socket)?;
        let mut out = String::new();
        if !bsd {
            out += "Address                  HWtype  HWaddress           Flags Mask            Iface\n";
        }
        for n in network::neighbours(&mut socket, network::family(Some(4)))? {
            let name = links
                .iter()
                .find(|l| l.index == n.index)
                .map_or("?", |l| l.name.as_str());
            const NOARP: u16 = 0x40;
            const PERMANENT: u16 = 0x80;
            if n.state == NOARP {
                continue;
            }
            let flags = if n.state == PERMANENT { "CM" } else { "C" };
            let known = !n.mac.is_empty();
            out += &match (bsd, known) {
                (true, true) => format!("? ({}) at {} [ether] on {name}\n", n.address, mac(&n.mac)),
                (true, false) => format!("? ({}) at <incomplete> on {name}\n", n.address),
                (false, true) => format!(
                    "{:<24} ether   {:<19} {flags:<21} {name}\n",
                    n.address.to_string(),
                    mac(&n.mac)
                ),
                (false, false) => format!(
                    "{:<24}         (incomplete)                              {name}\n",
                    n.address.to_string()
                ),
            };
        }
        Ok(out)
    };
    crate::finish(
        "arp",
        list().map(|t| crate::print(&t)).map_err(|e| error(&e)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_classes() {
        assert_eq!(human(999), "999 (999.0 B)");
        assert_eq!(human(1_500_000), "1500000 (1.4 MiB)");
        assert_eq!(class_len("10.0.0.1".parse().unwrap()), 8);
        assert_eq!(class_len("192.168.0.1".parse().unwrap()), 24);
    }
}
