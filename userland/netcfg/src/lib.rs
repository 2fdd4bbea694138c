//! Tools that configure the network and show it: [`oxfw`] for the packet filter, [`ip`],
//! [`ifconfig`], [`route`] and [`arp`] for interfaces and routes, [`ss`] and [`netstat`] for
//! sockets, [`ifup`] and [`ifdown`] for /etc/network/interfaces.
//!
//! Each takes its arguments, own name first, and returns its exit status. What they know comes
//! from route netlink and /proc/net; nothing here depends on Oxbow but `oxfw` and DHCP.

mod firewall;
mod format;
mod interfaces;
mod ip;
mod legacy;
mod netlink;
mod network;
mod sockets;

pub use firewall::oxfw;
pub use interfaces::{ifdown, ifup};
pub use ip::ip;
pub use legacy::{arp, ifconfig, route};
pub use sockets::{netstat, ss};

use std::ffi::OsString;

/// A tool's name and what runs it.
pub type Tool = (&'static str, fn(Vec<OsString>) -> i32);

/// All of them.
pub const TOOLS: &[Tool] = &[
    ("arp", arp),
    ("ifconfig", ifconfig),
    ("ifdown", ifdown),
    ("ifup", ifup),
    ("ip", ip),
    ("netstat", netstat),
    ("oxfw", oxfw),
    ("route", route),
    ("ss", ss),
];

/// Arguments as text, without the tool's name.
fn arguments(args: &[OsString]) -> Vec<String> {
    let text = |a: &OsString| a.to_string_lossy().into_owned();
    args.iter().skip(1).map(text).collect()
}

/// Prints to standard output; whoever closed it wants no more.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Tells what failed, as `tool: why`, and returns the exit status.
fn finish(tool: &str, result: Result<(), String>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{tool}: {why}");
            1
        }
    }
}
