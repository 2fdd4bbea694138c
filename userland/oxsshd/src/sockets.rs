//! The sockets that the daemon listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use crate::config::Config;
use crate::log::{error, info};

/// Every address to listen on.
pub fn addresses(config: &Config) -> Vec<SocketAddr> {
    let any = [
        (config.inet, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (config.inet6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ];
    let listed: Vec<(IpAddr, Option<u16>)> = if config.listen.is_empty() {
        any.iter()
            .filter(|(on, _)| *on)
            .map(|(_, ip)| (*ip, None))
            .collect()
    } else {
        config
            .listen
            .iter()
            .filter(|(ip, _)| {
                if ip.is_ipv4() {
                    config.inet
                } else {
                    config.inet6
                }
            })
            .copied()
            .collect()
    };
    let ports = |port: Option<u16>| port.map_or_else(|| config.ports.clone(), |port| vec![port]);
    listed
        .into_iter()
        .flat_map(|(ip, port)| {
            ports(port)
                .into_iter()
                .map(move |port| SocketAddr::new(ip, port))
        })
        .collect()
}

/// Binds every address that can be bound, and logs the others.
pub fn listen_on(config: &Config) -> Vec<TcpListener> {
    let bound = addresses(config)
        .into_iter()
        .filter_map(|address| match listen_at(address) {
            Ok(socket) => {
                info!(
                    "Server listening on {} port {}.",
                    address.ip(),
                    address.port()
                );
                Some(socket)
            }
            Err(error) => {
                error!(
                    "Bind to port {} on {} failed: {error}.",
                    address.port(),
                    address.ip()
                );
                None
            }
        });
    bound.collect()
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(128)?)?;
    Ok(fd.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> String {
        addresses(&Config::parse(text, "").unwrap())
            .iter()
            .map(|address| format!("{address} "))
            .collect()
    }

    #[test]
    fn addresses_and_ports() {
        assert_eq!(all(""), "0.0.0.0:22 [::]:22 ");
        assert_eq!(
            all("Port 1\nPort 2\nAddressFamily inet"),
            "0.0.0.0:1 0.0.0.0:2 "
        );
        assert_eq!(
            all("Port 1\nListenAddress 127.0.0.1\nListenAddress [::1]:9"),
            "127.0.0.1:1 [::1]:9 "
        );
    }
}
