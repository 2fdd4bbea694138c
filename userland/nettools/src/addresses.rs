//! `hostname -I`: the machine's addresses, without those of the loopback
//! interface and of single links, on one line.

use std::io;
use std::net::IpAddr;

use crate::cli::{OrFail, Outcome, finish};
use crate::{Args, sys};

pub fn main(_: Args) -> i32 {
    finish("hostname", run())
}

fn run() -> Outcome {
    let addresses: io::Result<Vec<IpAddr>> = sys::interface_addresses();
    let mut addresses = addresses.or_fail_at(1, "cannot read the interfaces")?;
    // Scripts take the first word, and mean IPv4.
    addresses.sort_by_key(IpAddr::is_ipv6);
    let line: String = addresses
        .into_iter()
        .filter(|address| is_shown(*address))
        .map(|address| format!("{address} "))
        .collect();
    println!("{line}");
    Ok(0)
}

fn is_shown(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_use() {
        for (text, shown) in [
            ("127.0.0.1", false),
            ("10.0.2.15", true),
            ("::1", false),
            ("fe80::1", false),
            ("fec0::1", true),
        ] {
            assert_eq!(is_shown(text.parse().expect("an address")), shown, "{text}");
        }
    }
}
