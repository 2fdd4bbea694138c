//! /etc/resolv.conf (man 5 resolv.conf).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What the file says; defaults for what it leaves out.
#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    /// Names with fewer dots are first tried with the search list.
    pub dots: usize,
    pub timeout: Duration,
    pub attempts: u32,
}

/// As libc: more servers are not used.
const MAX_SERVERS: usize = 3;

impl Config {
    /// Reads the file; without it, or without a server in it, that of this
    /// machine is meant.
    pub fn load() -> Config {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Config::parse(&text)
    }

    pub fn parse(text: &str) -> Config {
        let mut config = Config {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A zone (`fe80::1%eth0`) has no place in an IpAddr.
                    let address: Option<IpAddr> =
                        words.next().and_then(|w| w.split('%').next()?.parse().ok());
                    config.servers.extend(address);
                }
                Some("search") => config.search = words.map(str::to_owned).collect(),
                Some("domain") => config.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| config.option(word)),
                _ => {}
            }
        }
        config.servers.truncate(MAX_SERVERS);
        if config.servers.is_empty() {
            config.servers.push(IpAddr::from([127, 0, 0, 1]));
        }
        config
    }

    fn option(&mut self, word: &str) {
        let Some((name, Ok(value))) = word.split_once(':').map(|(n, v)| (n, v.parse::<u32>()))
        else {
            return;
        };
        match name {
            "ndots" => self.dots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The servers at `port`.
    pub fn at(&self, port: u16) -> Vec<SocketAddr> {
        let at_port = |ip: &IpAddr| SocketAddr::new(*ip, port);
        self.servers.iter().map(at_port).collect()
    }

    /// The names to try for `name`, in order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut names: Vec<String> = self.search.iter().map(|s| format!("{name}.{s}")).collect();
        let at = match name.matches('.').count() >= self.dots {
            true => 0,
            false => names.len(),
        };
        names.insert(at, name.to_owned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read() {
        let config = Config::parse(
            "# DHCP\nnameserver 10.0.2.3\nnameserver fe80::1%eth0\nnameserver x\n\
             search a.example b.example\noptions ndots:2 timeout:1 rotate\n",
        );
        assert_eq!(config.servers.len(), 2);
        assert_eq!(config.timeout, Duration::from_secs(1));
        assert_eq!(config.candidates("h"), ["h.a.example", "h.b.example", "h"]);
        assert_eq!(config.candidates("h.i.j")[0], "h.i.j");
        assert_eq!(config.candidates("h."), ["h."]);
    }

    #[test]
    fn without_servers_it_is_this_machine() {
        let servers = Config::parse("").at(53);
        assert_eq!(servers, ["127.0.0.1:53".parse().expect("an address")]);
    }
}
