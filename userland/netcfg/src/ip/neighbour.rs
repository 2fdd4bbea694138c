//! `ip neighbour`.

use std::net::IpAddr;

use super::{Look, Outcome, action, command, device, is, usage, wanted};
use crate::format::{mac, parse_mac};
use crate::netlink::Netlink;
use crate::network::{self, RTM_DELNEIGH, RTM_NEWNEIGH};

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

pub fn run(look: Look, words: &[&str]) -> Outcome {
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
    let action = action(command, "neighbour", (RTM_NEWNEIGH, RTM_DELNEIGH))?;
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
