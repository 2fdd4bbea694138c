//! `ip`: interfaces, addresses, routes and neighbours, in iproute2's words and form.

use std::ffi::OsString;
use std::net::IpAddr;

use crate::format::{error, json, mac, parse_mac};
use crate::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink};
use crate::network::{
    self, Address, FLAGS, Link, RTM_DELADDR, RTM_DELNEIGH, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWNEIGH,
    RTM_NEWROUTE, Route, Wanted,
};

const HELP: &str = "\
Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }
OBJECT:  address | link | route | neighbour
OPTIONS: -4 | -6 | -br[ief] | -o[neline] | -s[tatistics] | -j[son]
  ip address [ show [ dev ] NAME ]
  ip address { add | del } PREFIX [ broadcast ADDRESS | brd + ] dev NAME
  ip address flush [ dev ] NAME
  ip link [ show [ dev ] NAME ]
  ip link set [ dev ] NAME { up | down | mtu N }
  ip route [ show ]
  ip route { add | del | replace } { default | PREFIX } [ via ADDRESS ] [ dev NAME ]
           [ src ADDRESS ] [ metric N ]
  ip route get ADDRESS
  ip neighbour [ show [ dev ] NAME ]
  ip neighbour { add | del } ADDRESS [ lladdr MAC ] dev NAME
  ip neighbour flush [ dev ] NAME
";

/// How the answer is to look.
#[derive(Clone, Copy, Default)]
struct Look {
    family: Option<u8>,
    brief: bool,
    one_line: bool,
    statistics: bool,
    json: bool,
}

/// man 8 ip.
pub fn ip(args: Vec<OsString>) -> i32 {
    let args = crate::arguments(&args);
    let mut look = Look::default();
    let mut words = args.iter().map(String::as_str).peekable();
    while let Some(option) = words.next_if(|w| w.starts_with('-')) {
        match option.trim_start_matches('-') {
            "4" => look.family = Some(4),
            "6" => look.family = Some(6),
            "br" | "brief" => look.brief = true,
            "o" | "oneline" => look.one_line = true,
            "s" | "stats" | "statistics" => look.statistics = true,
            "j" | "json" => look.json = true,
            "c" | "color" | "d" | "details" | "n" | "h" | "human" => {}
            "V" | "Version" => {
                println!("ip of oxbox {}", env!("CARGO_PKG_VERSION"));
                return 0;
            }
            _ => {
                eprintln!("Option \"{option}\" is unknown, try \"ip -help\".");
                return 255;
            }
        }
    }
    let words: Vec<&str> = words.collect();
    let Some((object, rest)) = words.split_first() else {
        eprint!("{HELP}");
        return 255;
    };
    if *object == "help" || rest.first() == Some(&"help") {
        crate::print(HELP);
        return 0;
    }
    let of = |name: &str| name.starts_with(object);
    let result = if of("address") {
        address(look, rest)
    } else if of("link") {
        link(look, rest)
    } else if of("route") {
        route(look, rest)
    } else if of("neighbour") || of("neighbor") {
        neighbour(look, rest)
    } else {
        eprintln!("Object \"{object}\" is unknown, try \"ip help\".");
        return 1;
    };
    match result {
        Ok(()) => 0,
        Err(Failure::Usage(why)) => {
            eprintln!("{why}");
            1
        }
        Err(Failure::Kernel(e)) => {
            eprintln!("RTNETLINK answers: {}", error(&e));
            2
        }
    }
}

enum Failure {
    Usage(String),
    Kernel(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Failure {
        Failure::Kernel(e)
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Usage(why)
    }
}

type Outcome = Result<(), Failure>;

fn usage<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Usage(why.into()))
}

/// The command and what follows; `show` when there is none.
fn command<'a>(words: &'a [&'a str]) -> (&'a str, &'a [&'a str]) {
    match words.split_first() {
        None => ("show", &[]),
        Some((first, rest)) => (first, rest),
    }
}

fn is(word: &str, name: &str) -> bool {
    !word.is_empty() && name.starts_with(word)
}

/// `[dev] NAME`.
fn device<'a>(words: &[&'a str]) -> Result<Option<&'a str>, Failure> {
    match *words {
        [] => Ok(None),
        ["dev"] => usage("Command line is not complete. Try option \"help\""),
        ["dev", name] | [name] => Ok(Some(name)),
        [_, other, ..] => usage(format!("Error: argument \"{other}\" is wrong.")),
    }
}

fn wanted(socket: &mut Netlink, name: Option<&str>) -> Result<Vec<Link>, Failure> {
    let all = network::links(socket)?;
    let Some(name) = name else {
        return Ok(all);
    };
    let one: Vec<Link> = all.into_iter().filter(|l| l.name == name).collect();
    if one.is_empty() {
        return usage(format!("Device \"{name}\" does not exist."));
    }
    Ok(one)
}

fn flag_names(flags: u32) -> Vec<&'static str> {
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

fn scope_name(scope: u8) -> String {
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
fn link_lines(l: &Link, look: Look) -> Vec<String> {
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

fn link_json(l: &Link, look: Look) -> String {
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

fn join(lines: &[String], look: Look) -> String {
    lines.join(if look.one_line { "\\" } else { "\n" }) + "\n"
}

fn brief_state(l: &Link) -> String {
    format!("{:<16} {:<14} ", l.name, l.state_name())
}

fn link(look: Look, words: &[&str]) -> Outcome {
    let mut socket = Netlink::open()?;
    let (command, rest) = command(words);
    if is(command, "show") || is(command, "list") {
        let links = wanted(&mut socket, device(rest)?)?;
        let mut out = String::new();
        if look.json {
            let all: Vec<String> = links
                .iter()
                .map(|l| format!("{{{}}}", link_json(l, look)))
                .collect();
            out = format!("[{}]\n", all.join(","));
        } else if look.brief {
            for l in &links {
                let flags = flag_names(l.flags).join(",");
                out += &format!("{}{:<18} <{flags}> \n", brief_state(l), mac(&l.mac));
            }
        } else {
            for l in &links {
                out += &join(&link_lines(l, look), look)
                    .replace(" group default qlen", " mode DEFAULT group default qlen");
            }
        }
        crate::print(&out);
        return Ok(());
    }
    if !is(command, "set") {
        return usage(format!(
            "Command \"{command}\" is unknown, try \"ip link help\"."
        ));
    }
    let mut words = rest.iter().copied();
    let (mut name, mut up, mut mtu) = (None, None, None);
    while let Some(word) = words.next() {
        match word {
            "up" => up = Some(true),
            "down" => up = Some(false),
            "dev" => name = words.next(),
            "mtu" => {
                let value = words.next().and_then(|v| v.parse::<u32>().ok());
                mtu = Some(
                    value
                        .ok_or_else(|| "Error: argument of \"mtu\" must be a number".to_owned())?,
                );
            }
            other if name.is_none() => name = Some(other),
            other => {
                return usage(format!(
                    "Error: either \"dev\" is duplicate, or \"{other}\" is a garbage."
                ));
            }
        }
    }
    let Some(name) = name else {
        return usage("Not enough of information: \"dev\" argument is required.");
    };
    let link = network::link(&mut socket, name)?;
    network::change_link(&mut socket, link.index, up, mtu)?;
    Ok(())
}

fn address(look: Look, words: &[&str]) -> Outcome {
    let mut socket = Netlink::open()?;
    let (command, rest) = command(words);
    let family = network::family(look.family);
    if is(command, "show") || is(command, "list") {
        let links = wanted(&mut socket, device(rest)?)?;
        let addresses = network::addresses(&mut socket, family)?;
        crate::print(&show_addresses(&links, &addresses, look));
        return Ok(());
    }
    if is(command, "flush") {
        let Some(name) = device(rest)? else {
            return usage("Flush requires arguments.");
        };
        let link = network::link(&mut socket, name)?;
        for a in network::addresses(&mut socket, family)?
            .iter()
            .filter(|a| a.index == link.index)
        {
            network::change_address(
                &mut socket,
                (RTM_DELADDR, 0),
                a.index,
                (a.address, a.prefix),
                None,
            )?;
        }
        return Ok(());
    }
    let action = if is(command, "add") {
        (RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL)
    } else if command == "replace" {
        (RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE)
    } else if is(command, "delete") {
        (RTM_DELADDR, 0)
    } else {
        return usage(format!(
            "Command \"{command}\" is unknown, try \"ip address help\"."
        ));
    };
    let mut words = rest.iter().copied();
    let (mut prefix, mut name, mut broadcast) = (None, None, None);
    while let Some(word) = words.next() {
        match word {
            "dev" => name = words.next(),
            "brd" | "broadcast" => broadcast = words.next(),
            "local" => prefix = words.next(),
            "scope" | "label" => {
                words.next();
            }
            other => prefix = Some(other),
        }
    }
    let (Some(prefix), Some(name)) = (prefix, name) else {
        return usage("Not enough information: \"dev\" argument is required.");
    };
    let (address, len) = network::parse_prefix(prefix).map_err(|e| format!("Error: {e}"))?;
    let broadcast = match broadcast {
        None => None,
        Some("+") => network::broadcast(address, len),
        Some(text) => Some(
            text.parse()
                .map_err(|_| format!("Error: {text}: not an address"))?,
        ),
    };
    let link = network::link(&mut socket, name)?;
    network::change_address(&mut socket, action, link.index, (address, len), broadcast)?;
    Ok(())
}

fn show_addresses(links: &[Link], addresses: &[Address], look: Look) -> String {
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

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "redirect".to_owned(),
        2 => "kernel".to_owned(),
        3 => "boot".to_owned(),
        4 => "static".to_owned(),
        9 => "ra".to_owned(),
        16 => "dhcp".to_owned(),
        other => other.to_string(),
    }
}

/// Where a route goes to, as shown.
fn destination(r: &Route) -> String {
    let whole = if r.v6 { 128 } else { 32 };
    match r.to {
        None => "default".to_owned(),
        Some(to) if r.prefix == whole => to.to_string(),
        Some(to) => format!("{to}/{}", r.prefix),
    }
}

fn route_line(r: &Route, name: &str) -> String {
    let mut line = destination(r);
    if let Some(gateway) = r.gateway {
        line += &format!(" via {gateway}");
    }
    line += &format!(" dev {name}");
    // Who did not say gets "boot".
    const BOOT: u8 = 3;
    if r.protocol != BOOT {
        line += &format!(" proto {}", protocol_name(r.protocol));
    }
    if !r.v6 && r.scope != 0 {
        line += &format!(" scope {}", scope_name(r.scope));
    }
    if let Some(source) = r.source.filter(|_| !r.v6) {
        line += &format!(" src {source}");
    }
    if let Some(metric) = r.metric {
        line += &format!(" metric {metric}");
    }
    if r.v6 {
        line += " pref medium";
    }
    line + if r.v6 { "" } else { " " }
}

fn route_json(r: &Route, name: &str) -> String {
    let mut out = format!("{{\"dst\":\"{}\"", destination(r));
    if let Some(gateway) = r.gateway {
        out += &format!(",\"gateway\":\"{gateway}\"");
    }
    out += &format!(
        ",\"dev\":{},\"protocol\":\"{}\"",
        json(name),
        protocol_name(r.protocol)
    );
    if !r.v6 && r.scope != 0 {
        out += &format!(",\"scope\":\"{}\"", scope_name(r.scope));
    }
    if let Some(source) = r.source {
        out += &format!(",\"prefsrc\":\"{source}\"");
    }
    if let Some(metric) = r.metric {
        out += &format!(",\"metric\":{metric}");
    }
    out + ",\"flags\":[]}"
}

fn route(look: Look, words: &[&str]) -> Outcome {
    let mut socket = Netlink::open()?;
    let (command, rest) = command(words);
    let links = network::links(&mut socket)?;
    let name = |index: u32| {
        let found = links.iter().find(|l| l.index == index);
        found.map_or_else(|| format!("if{index}"), |l| l.name.clone())
    };
    if is(command, "show") || is(command, "list") {
        let only = match *rest {
            [] | ["table", "main"] => None,
            ["dev", name] => Some(network::link(&mut socket, name)?.index),
            ["default"] => None,
            [other, ..] => return usage(format!("Error: argument \"{other}\" is wrong.")),
        };
        let family = network::family(look.family.or(Some(4)));
        let mut routes = network::routes(&mut socket, family)?;
        const MAIN: u32 = 254;
        const UNICAST: u8 = 1;
        routes.retain(|r| r.table == MAIN && r.kind == UNICAST);
        routes.retain(|r| only.is_none_or(|i| i == r.index));
        if rest == ["default"] {
            routes.retain(|r| r.to.is_none());
        }
        if look.json {
            let all: Vec<String> = routes
                .iter()
                .map(|r| route_json(r, &name(r.index)))
                .collect();
            crate::print(&format!("[{}]\n", all.join(",")));
        } else {
            let text: String = routes
                .iter()
                .map(|r| route_line(r, &name(r.index)) + "\n")
                .collect();
            crate::print(&text);
        }
        return Ok(());
    }
    if is(command, "get") {
        let Some(to) = rest.iter().find_map(|w| w.parse::<IpAddr>().ok()) else {
            return usage("need at least a destination address");
        };
        let r = network::route_to(&mut socket, to)?;
        const LOCAL: u8 = 2;
        let mut line = if r.kind == LOCAL {
            format!("local {to}")
        } else {
            to.to_string()
        };
        if let Some(gateway) = r.gateway {
            line += &format!(" via {gateway}");
        }
        line += &format!(" dev {}", name(r.index));
        if let Some(source) = r.source {
            line += &format!(" src {source}");
        }
        let own = own_uid();
        let local = if r.kind == LOCAL { "<local> " } else { "" };
        crate::print(&format!("{line} uid {own} \n    cache {local}\n"));
        return Ok(());
    }
    let action = if is(command, "add") {
        (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    } else if is(command, "replace") || is(command, "change") {
        (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)
    } else if is(command, "append") {
        (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND)
    } else if is(command, "delete") {
        (RTM_DELROUTE, 0)
    } else {
        return usage(format!(
            "Command \"{command}\" is unknown, try \"ip route help\"."
        ));
    };
    let wanted = parse_route(&mut socket, look, rest)?;
    network::change_route(&mut socket, action, &wanted)?;
    Ok(())
}

fn own_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getuid() }
}

fn parse_route(socket: &mut Netlink, look: Look, words: &[&str]) -> Result<Wanted, Failure> {
    let mut wanted = Wanted {
        v6: look.family == Some(6),
        ..Wanted::default()
    };
    let mut words = words.iter().copied();
    let mut has_target = false;
    let address = |word: Option<&str>| {
        let parsed = word.and_then(|w| w.parse::<IpAddr>().ok());
        parsed.ok_or_else(|| {
            format!(
                "Error: any valid address is expected rather than \"{}\".",
                word.unwrap_or("")
            )
        })
    };
    while let Some(word) = words.next() {
        match word {
            "via" => wanted.gateway = Some(address(words.next())?),
            "src" => wanted.source = Some(address(words.next())?),
            "dev" => wanted.index = Some(network::link(socket, words.next().unwrap_or(""))?.index),
            "metric" => {
                let value = words.next().and_then(|v| v.parse().ok());
                wanted.metric =
                    Some(value.ok_or_else(|| "Error: \"metric\" value is invalid".to_owned())?);
            }
            "proto" | "scope" | "table" => {
                words.next();
            }
            "default" if !has_target => has_target = true,
            other if !has_target => {
                has_target = true;
                let prefix = network::parse_prefix(other).map_err(|e| format!("Error: {e}"))?;
                wanted.to = Some(prefix).filter(|p| p.1 != 0);
                wanted.v6 = prefix.0.is_ipv6();
            }
            other => {
                return usage(format!(
                    "Error: either \"to\" is duplicate, or \"{other}\" is a garbage."
                ));
            }
        }
    }
    if !has_target {
        return usage("Command line is not complete. Try option \"help\"");
    }
    Ok(wanted)
}

fn neighbour_state(state: u16) -> &'static str {
    match state {
        0x01 => "INCOMPLETE",
        0x02 => "REACHABLE",
        0x04 => "STALE",
        0x08 => "DELAY",
        0x10 => "PROBE",
        0x20 => "FAILED",
        0x40 => "NOARP",
        0x80 => "PERMANENT",
        _ => "NONE",
    }
}

fn neighbour(look: Look, words: &[&str]) -> Outcome {
    let mut socket = Netlink::open()?;
    let (command, rest) = command(words);
    let family = network::family(look.family);
    let shows = is(command, "show") || is(command, "list");
    if shows || is(command, "flush") {
        let links = wanted(&mut socket, device(rest)?)?;
        for n in network::neighbours(&mut socket, family)? {
            let Some(l) = links.iter().find(|l| l.index == n.index) else {
                continue;
            };
            if !shows {
                network::change_neighbour(
                    &mut socket,
                    (RTM_DELNEIGH, 0),
                    n.index,
                    n.address,
                    None,
                )?;
                continue;
            }
            const NOARP: u16 = 0x40;
            if n.state == NOARP {
                continue;
            }
            let mut line = format!("{} dev {}", n.address, l.name);
            if !n.mac.is_empty() {
                line += &format!(" lladdr {}", mac(&n.mac));
            }
            const ROUTER: u8 = 0x80;
            if n.flags & ROUTER != 0 {
                line += " router";
            }
            crate::print(&format!("{line} {} \n", neighbour_state(n.state)));
        }
        return Ok(());
    }
    let action = if is(command, "add") {
        (RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL)
    } else if is(command, "replace") {
        (RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE)
    } else if is(command, "delete") {
        (RTM_DELNEIGH, 0)
    } else {
        return usage(format!(
            "Command \"{command}\" is unknown, try \"ip neighbour help\"."
        ));
    };
    let mut words = rest.iter().copied();
    let (mut address, mut hardware, mut name) = (None, None, None);
    while let Some(word) = words.next() {
        match word {
            "dev" => name = words.next(),
            "lladdr" => hardware = words.next().and_then(parse_mac),
            "nud" => {
                words.next();
            }
            other => address = other.parse::<IpAddr>().ok(),
        }
    }
    let (Some(address), Some(name)) = (address, name) else {
        return usage("Device and destination are required arguments.");
    };
    let link = network::link(&mut socket, name)?;
    network::change_neighbour(
        &mut socket,
        action,
        link.index,
        address,
        hardware.as_deref(),
    )?;
    Ok(())
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
