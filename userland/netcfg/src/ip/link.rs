//! `ip link`.

use super::show::{brief_state, flag_names, join, link_json, link_lines};
use super::{Look, Outcome, command, device, is, usage, wanted};
use crate::format::mac;
use crate::netlink::Netlink;
use crate::network;

pub fn run(look: Look, words: &[&str]) -> Outcome {
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
