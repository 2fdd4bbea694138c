//! `ip route`.

use std::net::IpAddr;

use super::show::scope_name;
use super::{Failure, Look, Outcome, action, command, is, usage};
use crate::format::json;
use crate::netlink::{NLM_F_APPEND, NLM_F_CREATE, Netlink};
use crate::network::{self, RTM_DELROUTE, RTM_NEWROUTE, Route, Wanted};

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

pub fn run(look: Look, words: &[&str]) -> Outcome {
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
    let action = if is(command, "append") {
        (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND)
    } else {
        action(command, "route", (RTM_NEWROUTE, RTM_DELROUTE))?
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
