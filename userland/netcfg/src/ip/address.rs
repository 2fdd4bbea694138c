//! `ip address`.

use super::show::show_addresses;
use super::{Look, Outcome, action, command, device, is, usage, wanted};
use crate::netlink::Netlink;
use crate::network::{self, RTM_DELADDR, RTM_NEWADDR};

pub fn run(look: Look, words: &[&str]) -> Outcome {
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
    let action = action(command, "address", (RTM_NEWADDR, RTM_DELADDR))?;
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
