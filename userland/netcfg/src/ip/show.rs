//! How links and their addresses look, as text and as JSON.

use super::Look;
use crate::format::{json, mac};
use crate::network::{Address, FLAGS, Link};

pub fn flag_names(flags: u32) -> Vec<&'static str> {
    let set = FLAGS.iter().filter(|(bit, _)| flags >> bit & 1 != 0);
    set.map(|(_, name)| *name).collect()
}

fn kind_name(kind: u16) -> String {
    match kind {
        1 => "ether".to_owned(),
        772 => "loopback".to_owned(),
        other => format!("[{other}]"),
    }
}

pub fn scope_name(scope: u8) -> String {
    match scope {
        0 => "global".to_owned(),
        200 => "site".to_owned(),
        253 => "link".to_owned(),
        254 => "host".to_owned(),
        255 => "nowhere".to_owned(),
        other => other.to_string(),
    }
}

/// The lines of a link, without its addresses.
pub fn link_lines(l: &Link, look: Look) -> Vec<String> {
    let mut flags = flag_names(l.flags);
    // iproute2 says so first when nothing is plugged in.
    if l.flags & 1 != 0 && l.flags & 0x40 == 0 {
        flags.insert(0, "NO-CARRIER");
    }
    let mut lines = vec![
        format!(
            "{}: {}: <{}> mtu {} qdisc {} state {} group default qlen {}",
            l.index,
            l.name,
            flags.join(","),
            l.mtu,
            l.qdisc,
            l.state_name(),
            l.txqlen
        ),
        format!(
            "    link/{} {} brd {}",
            kind_name(l.kind),
            mac(&l.mac),
            mac(&l.broadcast)
        ),
    ];
    if look.statistics {
        lines.extend(statistics(l));
    }
    lines
}

fn statistics(l: &Link) -> [String; 4] {
    let s = |at| l.stat(at);
    let row = |a: &[u64; 6]| {
        format!(
            "    {:>10} {:>7} {:>6} {:>7} {:>7} {:>7} ",
            a[0], a[1], a[2], a[3], a[4], a[5]
        )
    };
    let head = |name: &str, last: [&str; 2]| {
        format!(
            "    {name}:  bytes packets errors dropped {:>7} {:>7}           ",
            last[0], last[1]
        )
    };
    [
        head("RX", ["missed", "mcast"]),
        row(&[s(2), s(0), s(4), s(6), s(20), s(8)]),
        head("TX", ["carrier", "collsns"]),
        row(&[s(3), s(1), s(5), s(7), s(16), s(9)]),
    ]
}

fn lifetime(seconds: u32) -> String {
    if seconds == u32::MAX {
        "forever".to_owned()
    } else {
        format!("{seconds}sec")
    }
}

/// The two lines of an address.
fn address_lines(a: &Address, name: &str) -> [String; 2] {
    let family = if a.address.is_ipv4() { "inet" } else { "inet6" };
    let mut line = format!("    {family} {}", a.address);
    if let Some(peer) = a.peer {
        line += &format!(" peer {peer}");
    }
    line += &format!("/{}", a.prefix);
    if let Some(broadcast) = a.broadcast {
        line += &format!(" brd {broadcast}");
    }
    line += &format!(" scope {}", scope_name(a.scope));
    const PERMANENT: u32 = 0x80;
    const SECONDARY: u32 = 1;
    if a.address.is_ipv4() && a.flags & SECONDARY != 0 {
        line += " secondary";
    }
    if a.flags & PERMANENT == 0 {
        line += " dynamic";
    }
    const NODAD: u32 = 2;
    if a.address.is_ipv6() && a.flags & NODAD != 0 {
        line += " nodad";
    }
    line += " ";
    if a.address.is_ipv4() {
        line += a.label.as_deref().unwrap_or(name);
    }
    let (preferred, valid) = a.lifetime.unwrap_or((u32::MAX, u32::MAX));
    let second = format!(
        "       valid_lft {} preferred_lft {}",
        lifetime(valid),
        lifetime(preferred)
    );
    [line, second]
}

pub fn link_json(l: &Link, look: Look) -> String {
    let flags: Vec<String> = flag_names(l.flags).iter().map(|f| json(f)).collect();
    let mut out = format!(
        "\"ifindex\":{},\"ifname\":{},\"flags\":[{}],\"mtu\":{},\"qdisc\":{},\"operstate\":\"{}\",\
         \"group\":\"default\",\"txqlen\":{},\"link_type\":{},\"address\":\"{}\",\"broadcast\":\"{}\"",
        l.index,
        json(&l.name),
        flags.join(","),
        l.mtu,
        json(&l.qdisc),
        l.state_name(),
        l.txqlen,
        json(&kind_name(l.kind)),
        mac(&l.mac),
        mac(&l.broadcast)
    );
    if look.statistics {
        let s = |at| l.stat(at);
        out += &format!(
            ",\"stats64\":{{\"rx\":{{\"bytes\":{},\"packets\":{},\"errors\":{},\"dropped\":{}}},\
             \"tx\":{{\"bytes\":{},\"packets\":{},\"errors\":{},\"dropped\":{}}}}}",
            s(2),
            s(0),
            s(4),
            s(6),
            s(3),
            s(1),
            s(5),
            s(7)
        );
    }
    out
}

fn address_json(a: &Address) -> String {
    let family = if a.address.is_ipv4() { "inet" } else { "inet6" };
    let mut out = format!(
        "{{\"family\":\"{family}\",\"local\":\"{}\",\"prefixlen\":{}",
        a.address, a.prefix
    );
    if let Some(broadcast) = a.broadcast {
        out += &format!(",\"broadcast\":\"{broadcast}\"");
    }
    out += &format!(",\"scope\":\"{}\"", scope_name(a.scope));
    if let Some(label) = &a.label {
        out += &format!(",\"label\":{}", json(label));
    }
    let (preferred, valid) = a.lifetime.unwrap_or((u32::MAX, u32::MAX));
    out + &format!(",\"valid_life_time\":{valid},\"preferred_life_time\":{preferred}}}")
}

pub fn join(lines: &[String], look: Look) -> String {
    lines.join(if look.one_line { "\\" } else { "\n" }) + "\n"
}

pub fn brief_state(l: &Link) -> String {
    format!("{:<16} {:<14} ", l.name, l.state_name())
}

pub fn show_addresses(links: &[Link], addresses: &[Address], look: Look) -> String {
    let mut out = String::new();
    let mut objects = Vec::new();
    for l in links {
        let own = || addresses.iter().filter(|a| a.index == l.index);
        if look.family.is_some() && own().next().is_none() {
            continue;
        }
        if look.json {
            let all: Vec<String> = own().map(address_json).collect();
            objects.push(format!(
                "{{{},\"addr_info\":[{}]}}",
                link_json(l, look),
                all.join(",")
            ));
        } else if look.brief {
            out += &brief_state(l);
            own().for_each(|a| out += &format!("{}/{} ", a.address, a.prefix));
            out.push('\n');
        } else if look.one_line {
            for a in own() {
                let lines = address_lines(a, &l.name);
                let joined = format!("{}: {}{}", l.index, l.name, lines.join("\\"));
                out += &(joined + "\n");
            }
        } else {
            let mut lines = link_lines(
                l,
                Look {
                    statistics: false,
                    ..look
                },
            );
            if look.family.is_some() {
                lines.truncate(1);
            }
            own().for_each(|a| lines.extend(address_lines(a, &l.name)));
            if look.statistics {
                lines.extend(statistics(l));
            }
            out += &join(&lines, look);
        }
    }
    if look.json {
        out = format!("[{}]\n", objects.join(","));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_addresses_look_like_iproute2s() {
        let l = Link {
            index: 2,
            name: "eth0".to_owned(),
            kind: 1,
            flags: 0x1_1043,
            mtu: 1500,
            qdisc: "noqueue".to_owned(),
            state: 6,
            txqlen: 1000,
            mac: vec![0x52, 0x54, 0, 0x12, 0x34, 0x56],
            broadcast: vec![0xff; 6],
            stats: vec![],
        };
        let a = Address {
            index: 2,
            address: "10.0.2.15".parse().unwrap(),
            prefix: 24,
            peer: None,
            broadcast: "10.0.2.255".parse().ok(),
            label: Some("eth0".to_owned()),
            scope: 0,
            flags: 0x80,
            lifetime: None,
        };
        let text = show_addresses(&[l], &[a], Look::default());
        assert_eq!(
            text,
            "2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000\n    \
             link/ether 52:54:00:12:34:56 brd ff:ff:ff:ff:ff:ff\n    \
             inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0\n       \
             valid_lft forever preferred_lft forever\n"
        );
    }
}
