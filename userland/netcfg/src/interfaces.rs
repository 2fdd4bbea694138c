//! `ifup` and `ifdown`: /etc/network/interfaces (a subset of Debian's man 5 interfaces) made
//! true, through route netlink and, for DHCP, /proc/net/dhcp.
//!
//! The kernel brings every card up with DHCP and router advertisements by itself; a `static`
//! or `manual` stanza ends DHCP there. What was brought up is noted in /run/network/ifstate.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use crate::format::error;
use crate::netlink::{NLM_F_CREATE, NLM_F_REPLACE, Netlink};
use crate::network::{self, Link, RTM_DELADDR, RTM_NEWADDR, RTM_NEWROUTE, Wanted};

const FILE: &str = "/etc/network/interfaces";
const STATE: &str = "/run/network/ifstate";
const DHCP: &str = "/proc/net/dhcp";
const RESOLV: &str = "/etc/resolv.conf";
/// Where /etc/resolv.conf leads while nobody else says who resolves names.
const RESOLV_LINK: &str = "../proc/net/pnp";

/// How an interface gets its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Loopback,
    Dhcp,
    Auto,
    Static,
    Manual,
}

/// One `iface` stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stanza {
    name: String,
    v6: bool,
    method: Method,
    /// Its lines: option and value, in order.
    options: Vec<(String, String)>,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interfaces {
    auto: Vec<String>,
    hotplug: Vec<String>,
    stanzas: Vec<Stanza>,
}

const OPTIONS: [&str; 16] = [
    "address",
    "netmask",
    "broadcast",
    "gateway",
    "metric",
    "mtu",
    "dns-nameservers",
    "dns-nameserver",
    "dns-search",
    "dns-domain",
    "pre-up",
    "up",
    "post-up",
    "pre-down",
    "down",
    "post-down",
];

impl Interfaces {
    /// Reads the file's text; what is wrong with it, with the line's number.
    fn parse(text: &str) -> Result<Interfaces, String> {
        let mut out = Interfaces::default();
        let mut in_stanza = false;
        let mut lines = text.lines().enumerate();
        while let Some((nr, line)) = lines.next() {
            let mut line = line.trim().to_owned();
            while line.ends_with('\\') {
                line.pop();
                line += lines.next().map_or("", |l| l.1.trim());
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: String| format!("line {}: {why}", nr + 1);
            let (word, rest) = line.split_once([' ', '\t']).unwrap_or((&line, ""));
            let rest = rest.trim();
            let names = || rest.split_whitespace().map(str::to_owned);
            match word {
                "auto" | "allow-auto" => {
                    out.auto.extend(names());
                    in_stanza = false;
                }
                "allow-hotplug" => {
                    out.hotplug.extend(names());
                    in_stanza = false;
                }
                "source" | "source-directory" | "mapping" | "rename" | "no-auto-down" => {
                    return Err(wrong(format!("{word}: not supported")));
                }
                "iface" => {
                    out.stanzas.push(head(rest).map_err(wrong)?);
                    in_stanza = true;
                }
                option => {
                    let stanza = out.stanzas.last_mut().filter(|_| in_stanza);
                    let stanza =
                        stanza.ok_or_else(|| wrong(format!("{option}: not in a stanza")))?;
                    if !OPTIONS.contains(&option) {
                        return Err(wrong(format!("{option}: unknown option")));
                    }
                    stanza.options.push((option.to_owned(), rest.to_owned()));
                    stanza.check().map_err(wrong)?;
                }
            }
        }
        Ok(out)
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Stanza> {
        self.stanzas.iter().filter(move |s| s.name == name)
    }
}

/// `NAME inet|inet6 METHOD`.
fn head(text: &str) -> Result<Stanza, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [name, family, method] = words[..] else {
        return Err("iface: a name, a family and a method are due".to_owned());
    };
    let v6 = match family {
        "inet" => false,
        "inet6" => true,
        other => return Err(format!("{other}: unknown address family")),
    };
    let method = match (method, v6) {
        ("loopback", _) => Method::Loopback,
        ("dhcp", false) => Method::Dhcp,
        ("auto", true) => Method::Auto,
        ("static", _) => Method::Static,
        ("manual", _) => Method::Manual,
        (other, _) => return Err(format!("{other}: unknown method for {family}")),
    };
    Ok(Stanza {
        name: name.to_owned(),
        v6,
        method,
        options: Vec::new(),
    })
}

impl Stanza {
    fn all<'a, 'b>(&'a self, option: &'b str) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        let of = self.options.iter().filter(move |o| o.0 == option);
        of.map(|o| o.1.as_str())
    }
    fn get(&self, option: &str) -> Option<&str> {
        self.all(option).next()
    }
    /// Whether the values make sense as far as they are known.
    fn check(&self) -> Result<(), String> {
        self.prefix()?;
        self.gateway()?;
        self.servers()?;
        for option in ["mtu", "metric"] {
            self.number(option)?;
        }
        Ok(())
    }
    fn number(&self, option: &str) -> Result<Option<u32>, String> {
        let parse = |v: &str| v.parse().map_err(|_| format!("{option} {v}: not a number"));
        self.get(option).map(parse).transpose()
    }
    /// The address with the length of its prefix, from either way of writing it.
    fn prefix(&self) -> Result<Option<(IpAddr, u8)>, String> {
        let Some(address) = self.get("address") else {
            return Ok(None);
        };
        let text = match self.get("netmask") {
            Some(mask) if !address.contains('/') => format!("{address}/{mask}"),
            _ => address.to_owned(),
        };
        let prefix = network::parse_prefix(&text).map_err(|_| format!("{text}: not an address"))?;
        if prefix.0.is_ipv6() != self.v6 {
            return Err(format!("{text}: not of this family"));
        }
        Ok(Some(prefix))
    }
    fn gateway(&self) -> Result<Option<IpAddr>, String> {
        match self.get("gateway") {
            None | Some("none") => Ok(None),
            Some(text) => match text.parse::<IpAddr>() {
                Ok(a) if a.is_ipv6() == self.v6 => Ok(Some(a)),
                _ => Err(format!("gateway {text}: not an address of this family")),
            },
        }
    }
    fn servers(&self) -> Result<Vec<IpAddr>, String> {
        let both = self
            .all("dns-nameservers")
            .chain(self.all("dns-nameserver"));
        both.flat_map(str::split_whitespace)
            .map(|w| {
                w.parse()
                    .map_err(|_| format!("{w}: not a name server's address"))
            })
            .collect()
    }
}

/// What a resolv.conf says for these stanzas; `None` when they name no server.
fn resolv(stanzas: &[&Stanza]) -> Option<String> {
    let mut out = String::new();
    for stanza in stanzas {
        for option in ["dns-search", "dns-domain"] {
            for domains in stanza.all(option) {
                out += &format!("search {domains}\n");
            }
        }
    }
    let servers: Vec<IpAddr> = stanzas
        .iter()
        .flat_map(|s| s.servers().unwrap_or_default())
        .collect();
    for server in &servers {
        out += &format!("nameserver {server}\n");
    }
    (!servers.is_empty()).then(|| format!("# Written by ifup from {FILE}.\n{out}"))
}

/// man 8 ifup.
pub fn ifup(args: Vec<OsString>) -> i32 {
    run("ifup", &crate::arguments(&args), true)
}

/// man 8 ifdown.
pub fn ifdown(args: Vec<OsString>) -> i32 {
    run("ifdown", &crate::arguments(&args), false)
}

fn run(tool: &'static str, args: &[String], up: bool) -> i32 {
    let (mut all, mut force, mut dry, mut file) = (false, false, false, FILE);
    let mut names = Vec::new();
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-a" | "--all" => all = true,
            "-f" | "--force" => force = true,
            "-n" | "--no-act" => dry = true,
            "-v" | "--verbose" => {}
            "-i" | "--interfaces" => file = words.next().unwrap_or(FILE),
            "-h" | "--help" => {
                println!("Usage: {tool} [-f] [-n] [-i FILE] -a | INTERFACE...");
                return 0;
            }
            w if w.starts_with('-') => {
                eprintln!("{tool}: {w}: unknown option");
                return 2;
            }
            name => names.push(name.to_owned()),
        }
    }
    if names.is_empty() && !all {
        eprintln!("Usage: {tool} [-f] [-n] [-i FILE] -a | INTERFACE...");
        return 2;
    }
    let text = fs::read_to_string(file).map_err(|e| error(&e));
    let interfaces = match text.and_then(|t| Interfaces::parse(&t)) {
        Ok(interfaces) => interfaces,
        Err(why) => {
            eprintln!("{tool}: {file}: {why}");
            return 1;
        }
    };
    let mut state = State::read();
    if all {
        names.extend(if up {
            let present = present();
            let hotplug = interfaces.hotplug.iter().filter(|n| present.contains(n));
            interfaces.auto.iter().chain(hotplug).cloned().collect()
        } else {
            state.0.clone()
        });
    }
    let mut status = 0;
    for name in &names {
        if let Err(why) = one(tool, &interfaces, &mut state, name, (up, force, dry)) {
            eprintln!("{tool}: {name}: {why}");
            status = 1;
        }
    }
    if !dry && let Err(why) = state.write() {
        eprintln!("{tool}: {STATE}: {why}");
        status = 1;
    }
    status
}

fn present() -> Vec<String> {
    let all = Netlink::open().and_then(|mut s| network::links(&mut s));
    all.unwrap_or_default()
        .into_iter()
        .map(|l| l.name)
        .collect()
}

/// One interface up or down.
fn one(
    tool: &str,
    interfaces: &Interfaces,
    state: &mut State,
    name: &str,
    (up, force, dry): (bool, bool, bool),
) -> Result<(), String> {
    let stanzas: Vec<&Stanza> = interfaces.of(name).collect();
    if stanzas.is_empty() {
        return Err(format!("not in {FILE}"));
    }
    if state.has(name) == up && !force {
        let word = if up { "already" } else { "not" };
        println!("{tool}: interface {name} {word} configured");
        return Ok(());
    }
    if dry {
        for stanza in stanzas {
            println!("{stanza:?}");
        }
        return Ok(());
    }
    let mut socket = Netlink::open().map_err(|e| error(&e))?;
    let link = network::link(&mut socket, name)?;
    if up {
        bring_up(&mut socket, &link, &stanzas)?;
        state.add(name);
    } else {
        take_down(&mut socket, &link, &stanzas)?;
        state.0.retain(|n| n != name);
    }
    Ok(())
}

/// Runs the commands of an option, each by the shell; the first that fails ends it.
fn commands(stanza: &Stanza, option: &str, phase: &str) -> Result<(), String> {
    let family = if stanza.v6 { "inet6" } else { "inet" };
    let method = format!("{:?}", stanza.method).to_lowercase();
    for command in stanza.all(option) {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).env("IFACE", &stanza.name);
        shell.env("ADDRFAM", family).env("METHOD", &method);
        shell.env(
            "MODE",
            if phase.ends_with("up") {
                "start"
            } else {
                "stop"
            },
        );
        shell.env("PHASE", phase);
        for (option, value) in &stanza.options {
            let name = option.to_uppercase().replace('-', "_");
            shell.env(format!("IF_{name}"), value);
        }
        let status = shell.status().map_err(|e| error(&e))?;
        if !status.success() {
            return Err(format!("{option} {command}: {status}"));
        }
    }
    Ok(())
}

/// Asks the kernel's DHCP client for something.
fn dhcp(word: &str, name: &str) -> Result<(), String> {
    let text = format!("{word} {name}\n");
    let written = fs::File::options()
        .write(true)
        .open(DHCP)
        .and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|e| format!("{DHCP}: {}", error(&e)))
}

fn bring_up(socket: &mut Netlink, link: &Link, stanzas: &[&Stanza]) -> Result<(), String> {
    let kernel = |what: &str, e: std::io::Error| format!("{what}: {}", error(&e));
    for stanza in stanzas {
        commands(stanza, "pre-up", "pre-up")?;
    }
    let takes_dhcp = stanzas.iter().any(|s| s.method == Method::Dhcp);
    network::change_link(socket, link.index, Some(true), None).map_err(|e| kernel("up", e))?;
    if takes_dhcp {
        dhcp("start", &link.name)?;
    } else if !link.is_loopback() && stanzas.iter().any(|s| !s.v6) {
        dhcp("stop", &link.name)?;
    }
    for stanza in stanzas {
        if let Some(mtu) = stanza.number("mtu")? {
            network::change_link(socket, link.index, None, Some(mtu))
                .map_err(|e| kernel("mtu", e))?;
        }
        if stanza.method == Method::Static {
            let prefix = stanza.prefix()?.ok_or("static: no address")?;
            let flags = (RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
            let broadcast = network::broadcast(prefix.0, prefix.1);
            network::change_address(socket, flags, link.index, prefix, broadcast)
                .map_err(|e| kernel("address", e))?;
        }
        if let Some(gateway) = stanza.gateway()? {
            let wanted = Wanted {
                gateway: Some(gateway),
                index: Some(link.index),
                metric: stanza.number("metric")?,
                v6: stanza.v6,
                ..Wanted::default()
            };
            let flags = (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
            network::change_route(socket, flags, &wanted).map_err(|e| kernel("gateway", e))?;
        }
    }
    if let Some(text) = resolv(stanzas) {
        replace(RESOLV, |new| fs::write(new, &text)).map_err(|e| kernel(RESOLV, e))?;
    }
    for stanza in stanzas {
        commands(stanza, "up", "post-up")?;
        commands(stanza, "post-up", "post-up")?;
    }
    Ok(())
}

fn take_down(socket: &mut Netlink, link: &Link, stanzas: &[&Stanza]) -> Result<(), String> {
    let kernel = |what: &str, e: std::io::Error| format!("{what}: {}", error(&e));
    for stanza in stanzas {
        commands(stanza, "pre-down", "pre-down")?;
        commands(stanza, "down", "pre-down")?;
    }
    if !link.is_loopback() {
        dhcp("stop", &link.name)?;
        let addresses = network::addresses(socket, network::family(Some(4)));
        for a in addresses.map_err(|e| kernel("addresses", e))? {
            if a.index == link.index {
                let address = (a.address, a.prefix);
                network::change_address(socket, (RTM_DELADDR, 0), a.index, address, None)
                    .map_err(|e| kernel("address", e))?;
            }
        }
    }
    for stanza in stanzas
        .iter()
        .filter(|s| s.v6 && s.method == Method::Static)
    {
        if let Some(prefix) = stanza.prefix()? {
            // Gone already when the interface was changed by hand.
            let _ = network::change_address(socket, (RTM_DELADDR, 0), link.index, prefix, None);
        }
    }
    network::change_link(socket, link.index, Some(false), None).map_err(|e| kernel("down", e))?;
    if resolv(stanzas).is_some() {
        replace(RESOLV, |new| std::os::unix::fs::symlink(RESOLV_LINK, new))
            .map_err(|e| kernel(RESOLV, e))?;
    }
    for stanza in stanzas {
        commands(stanza, "post-down", "post-down")?;
    }
    Ok(())
}

/// Puts what `make` makes in the place of `path`, which is the old or the new at any time.
fn replace(path: &str, make: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    let new = format!("{path}.new");
    let new = Path::new(&new);
    match fs::remove_file(new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    make(new)?;
    fs::rename(new, path)
}

/// The interfaces that were brought up.
struct State(Vec<String>);

impl State {
    fn read() -> State {
        let text = fs::read_to_string(STATE).unwrap_or_default();
        let names = text.lines().filter_map(|l| l.split('=').next());
        State(names.filter(|n| !n.is_empty()).map(str::to_owned).collect())
    }
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|n| n == name)
    }
    fn add(&mut self, name: &str) {
        if !self.has(name) {
            self.0.push(name.to_owned());
        }
    }
    fn write(&self) -> Result<(), String> {
        let text: String = self.0.iter().map(|n| format!("{n}={n}\n")).collect();
        let dir = Path::new(STATE).parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir)
            .and_then(|()| replace(STATE, |new| fs::write(new, &text)))
            .map_err(|e| error(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
# comment
auto lo eth0
allow-hotplug eth1
iface lo inet loopback

iface eth0 inet static
    address 192.168.7.2
    netmask 255.255.255.0
    gateway 192.168.7.1
    dns-nameservers 192.168.7.1 1.1.1.1
    dns-search example.org
    mtu 1400
    up ip route add 10.0.0.0/8 \\
        via 192.168.7.3
iface eth0 inet6 static
    address 2001:db8::2/64
iface eth1 inet dhcp
";

    #[test]
    fn reads_debians_form() {
        let got = Interfaces::parse(SAMPLE).unwrap();
        assert_eq!((got.auto.len(), got.hotplug.len()), (2, 1));
        let stanzas: Vec<&Stanza> = got.of("eth0").collect();
        assert_eq!(stanzas.len(), 2);
        let v4 = stanzas[0];
        assert_eq!(v4.prefix(), Ok(Some(("192.168.7.2".parse().unwrap(), 24))));
        assert_eq!(v4.gateway(), Ok("192.168.7.1".parse().ok()));
        assert_eq!(v4.number("mtu"), Ok(Some(1400)));
        assert_eq!(
            v4.get("up"),
            Some("ip route add 10.0.0.0/8 via 192.168.7.3")
        );
        assert_eq!(
            stanzas[1].prefix(),
            Ok(Some(("2001:db8::2".parse().unwrap(), 64)))
        );
        let text = resolv(&stanzas).unwrap();
        assert!(text.ends_with("search example.org\nnameserver 192.168.7.1\nnameserver 1.1.1.1\n"));
        assert_eq!(resolv(&got.of("eth1").collect::<Vec<_>>()), None);
    }

    #[test]
    fn the_shipped_file_is_sound() {
        let file = include_str!("../../rootfs/etc/network/interfaces");
        let got = Interfaces::parse(file).unwrap();
        assert_eq!(got.of("eth0").next().map(|s| s.method), Some(Method::Dhcp));
    }

    #[test]
    fn errors_name_their_line() {
        let head = "iface e inet static\n";
        for (text, line) in [
            ("address 1.2.3.4".to_owned(), 1),
            ("iface e inet".to_owned(), 1),
            ("iface e inet auto".to_owned(), 1),
            ("iface e ipx static".to_owned(), 1),
            (format!("{head}address 1.2.3"), 2),
            (format!("{head}address ::1"), 2),
            (format!("{head}mtu many"), 2),
            (format!("{head}\ncolour red"), 3),
            (format!("{head}gateway nowhere"), 2),
            (format!("{head}dns-nameservers a"), 2),
            ("source /etc/network/interfaces.d/*".to_owned(), 1),
        ] {
            let why = Interfaces::parse(&text).unwrap_err();
            assert!(why.starts_with(&format!("line {line}:")), "{text}: {why}");
        }
    }
}
