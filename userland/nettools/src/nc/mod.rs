//! nc: standard input to a connection, the connection to standard output.
//!
//! At the end of standard input the sending half is closed (with -q the program
//! ends so many seconds later). When the other side has sent its last byte a
//! client ends, unless a file is still being sent; a listener goes on until its
//! input ends too, unless that is a terminal.

mod relay;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Args;
use crate::cli::{Failure, Message as _, OrFail, Outcome, finish, number, parser, seconds, text};
use crate::sys::{self, Family, poll, wait_for};
use relay::relay;

const USAGE: &str = "\
Usage: nc [-46dklnNuUvz] [-p port] [-q seconds] [-s address] [-w seconds] host port[-port]
       nc -l [options] [-p] port
       nc [-l] -U path

  -4, -6  use IPv4 or IPv6          -q  end this long after the end of input
  -d      do not read input         -s  local address
  -k      listen again              -u  datagrams (UDP)
  -l      listen                    -U  unix socket
  -n      numbers only, no names    -v  say more
  -N      shut down at end of input (always)
  -p      local port                -w  time limit for connecting and for silence
  -z      only look whether the port is open";

#[derive(Default)]
struct Options {
    family: Family,
    listen: bool,
    again: bool,
    numeric: bool,
    udp: bool,
    unix: bool,
    verbose: bool,
    scan: bool,
    no_input: bool,
    port: Option<u16>,
    from: Option<String>,
    quit: Option<Duration>,
    wait: Option<Duration>,
    operands: Vec<String>,
}

pub fn main(args: Args) -> i32 {
    finish("nc", run(args))
}

fn run(args: Args) -> Outcome {
    let Some(options) = read_options(args)? else {
        println!("{USAGE}");
        return Ok(0);
    };
    let options = &options;
    match (options.operands.as_slice(), options.unix) {
        ([path], true) if options.listen => listen_unix(options, path),
        ([path], true) => connect_unix(options, path),
        ([host, ports], false) if !options.listen => connect(options, host, ports),
        (operands, false) if options.listen => listen(options, operands),
        _ => Err(Failure::new(
            1,
            format!("missing or too many arguments\n{USAGE}"),
        )),
    }
}

fn read_options(args: Args) -> Result<Option<Options>, Failure> {
    let mut options = Options::default();
    let mut args = parser(args);
    while let Some(arg) = args.next().or_fail(1)? {
        match arg {
            Short('4') => options.family = Family::V4,
            Short('6') => options.family = Family::V6,
            Short('l') => options.listen = true,
            Short('k') => options.again = true,
            Short('n') => options.numeric = true,
            Short('N') => {}
            Short('u') => options.udp = true,
            Short('U') => options.unix = true,
            Short('v') => options.verbose = true,
            Short('z') => options.scan = true,
            Short('d') => options.no_input = true,
            Short('p') => {
                options.port = Some(number(&text(&mut args, 1)?, 0..=65_535).or_fail(1)? as u16)
            }
            Short('s') => options.from = Some(text(&mut args, 1)?),
            Short('q') => {
                let value = text(&mut args, 1)?;
                // Below zero: never.
                if !value.starts_with('-') {
                    options.quit = Some(seconds(&value).or_fail(1)?);
                }
            }
            Short('w') => options.wait = Some(seconds(&text(&mut args, 1)?).or_fail(1)?),
            Short('h') | Long("help") => return Ok(None),
            Value(value) => options.operands.push(value.string().or_fail(1)?),
            other => return Err(Failure::new(1, other.unexpected())),
        }
    }
    if options.again && !options.listen {
        return Err(Failure::new(1, "must use -l with -k"));
    }
    Ok(Some(options))
}

impl Options {
    fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        if self.numeric && host.parse::<std::net::IpAddr>().is_err() {
            return Err(Failure::new(
                1,
                format!("{host}: Name or service not known"),
            ));
        }
        sys::resolve(host, port, self.family).or_fail(1)
    }

    fn socket_type(&self) -> Type {
        if self.udp { Type::DGRAM } else { Type::STREAM }
    }

    fn protocol_name(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }

    fn say(&self, text: impl std::fmt::Display) {
        if self.verbose {
            eprintln!("{text}");
        }
    }
}

/// `20`, or `20-25` in order.
fn port_range(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let port = |text: &str| number(text, 1..=65_535).map(|port| port as u16);
    match text.split_once('-') {
        Some((low, high)) => {
            let (low, high) = (port(low)?, port(high)?);
            Ok(low.min(high)..=low.max(high))
        }
        None => port(text).map(|port| port..=port),
    }
}

fn connect(options: &Options, host: &str, ports: &str) -> Outcome {
    let mut status = 1;
    for port in port_range(ports).or_fail(1)? {
        let addresses = options.resolve(host, port)?;
        let mut last = None;
        for address in addresses {
            match connect_one(options, address) {
                Ok(socket) => {
                    last = Some(Ok(socket));
                    break;
                }
                Err(error) => last = Some(Err(error)),
            }
        }
        let protocol = options.protocol_name();
        match last {
            Some(Ok(socket)) if options.scan => {
                if options.udp && !udp_answers(&socket) {
                    options.say(format_args!("connect to {host} port {port} (udp) failed"));
                    continue;
                }
                options.say(format_args!(
                    "Connection to {host} {port} port [{protocol}] succeeded!"
                ));
                status = 0;
            }
            Some(Ok(socket)) => {
                options.say(format_args!(
                    "Connection to {host} {port} port [{protocol}] succeeded!"
                ));
                return relay(options, socket, Vec::new());
            }
            Some(Err(error)) => {
                let why = error.message();
                if options.verbose || !options.scan {
                    eprintln!("nc: connect to {host} port {port} ({protocol}) failed: {why}");
                }
            }
            None => {}
        }
    }
    Ok(status)
}

fn connect_one(options: &Options, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), options.socket_type(), None)?;
    if options.from.is_some() || options.port.is_some() {
        socket.set_reuse_address(true)?;
        socket.bind(&local(options, address.is_ipv6())?.into())?;
    }
    match options.wait {
        Some(limit) if !options.udp => socket.connect_timeout(&address.into(), limit)?,
        _ => socket.connect(&address.into())?,
    }
    Ok(socket)
}

/// The address that -s and -p name.
fn local(options: &Options, v6: bool) -> io::Result<SocketAddr> {
    let port = options.port.unwrap_or(0);
    match &options.from {
        None if v6 => Ok(([0; 16], port).into()),
        None => Ok(([0; 4], port).into()),
        Some(text) => match text.parse() {
            Ok(address) => Ok(SocketAddr::new(address, port)),
            Err(_) => Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
        },
    }
}

/// Whether a datagram comes back refused: the only thing UDP tells.
fn udp_answers(socket: &Socket) -> bool {
    for _ in 0..2 {
        if socket.send(b"X").is_err() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    !matches!(socket.take_error(), Ok(Some(_)))
}

fn connect_unix(options: &Options, path: &str) -> Outcome {
    let socket = Socket::new(Domain::UNIX, options.socket_type(), None).or_fail_at(1, "socket")?;
    let address = SockAddr::unix(path).or_fail_at(1, path)?;
    socket.connect(&address).or_fail_at(1, path)?;
    match options.scan {
        true => Ok(0),
        false => relay(options, socket, Vec::new()),
    }
}

fn listen(options: &Options, operands: &[String]) -> Outcome {
    // `nc -l PORT`, `nc -l HOST PORT` or `nc -l -p PORT [HOST]`.
    let (host, port) = match (operands, options.port) {
        ([port], None) => (None, number(port, 0..=65_535).or_fail(1)? as u16),
        ([host, port], None) => (Some(host), number(port, 0..=65_535).or_fail(1)? as u16),
        ([], Some(port)) => (None, port),
        ([host], Some(port)) => (Some(host), port),
        _ => return Err(Failure::new(1, format!("missing port\n{USAGE}"))),
    };
    let address = match (host.or(options.from.as_ref()), options.family) {
        (Some(host), _) => options.resolve(host, port)?[0],
        (None, Family::V6) => ([0; 16], port).into(),
        (None, _) => ([0; 4], port).into(),
    };
    let socket = Socket::new(Domain::for_address(address), options.socket_type(), None)
        .or_fail_at(1, "socket")?;
    socket
        .set_reuse_address(true)
        .or_fail_at(1, "SO_REUSEADDR")?;
    socket.bind(&address.into()).or_fail_at(1, "bind")?;
    let bound = socket.local_addr().ok().and_then(|a| a.as_socket());
    let bound = bound.unwrap_or(address);
    if options.udp {
        options.say(format_args!("Bound on {} {}", bound.ip(), bound.port()));
        return serve_datagrams(options, &socket);
    }
    socket.listen(16).or_fail_at(1, "listen")?;
    options.say(format_args!("Listening on {} {}", bound.ip(), bound.port()));
    accept(options, &socket)
}

fn listen_unix(options: &Options, path: &str) -> Outcome {
    let socket = Socket::new(Domain::UNIX, options.socket_type(), None).or_fail_at(1, "socket")?;
    let address = SockAddr::unix(path).or_fail_at(1, path)?;
    socket.bind(&address).or_fail_at(1, path)?;
    let outcome = match options.udp {
        true => relay(options, socket, Vec::new()),
        false => match socket.listen(16).or_fail_at(1, "listen") {
            Ok(()) => {
                options.say(format_args!("Listening on {path}"));
                accept(options, &socket)
            }
            Err(failure) => Err(failure),
        },
    };
    // Ours: bind made it.
    let _ = std::fs::remove_file(path);
    outcome
}

fn accept(options: &Options, listener: &Socket) -> Outcome {
    loop {
        if let Some(limit) = options.wait {
            let mut fds = [wait_for(listener.as_raw_fd(), libc::POLLIN)];
            let ready = poll(&mut fds, Some(Instant::now() + limit)).or_fail_at(1, "poll")?;
            if ready == 0 {
                return Ok(1);
            }
        }
        let (socket, peer) = listener.accept().or_fail_at(1, "accept")?;
        match peer.as_socket() {
            Some(peer) => options.say(format_args!(
                "Connection received on {} {}",
                peer.ip(),
                peer.port()
            )),
            None => options.say("Connection received"),
        }
        if !options.scan {
            let status = relay(options, socket, Vec::new())?;
            if !options.again {
                return Ok(status);
            }
        } else if !options.again {
            return Ok(0);
        }
    }
}

/// Takes the sender of the first datagram for the other side. With -k everybody's
/// datagrams go to standard output instead.
fn serve_datagrams(options: &Options, socket: &Socket) -> Outcome {
    let mut buffer = vec![0; 65_536];
    let mut out = io::stdout();
    loop {
        if let Some(limit) = options.wait {
            let mut fds = [wait_for(socket.as_raw_fd(), libc::POLLIN)];
            let ready = poll(&mut fds, Some(Instant::now() + limit)).or_fail_at(1, "poll")?;
            if ready == 0 {
                return Ok(1);
            }
        }
        let mut fds = [wait_for(socket.as_raw_fd(), libc::POLLIN)];
        if poll(&mut fds, None).or_fail_at(1, "poll")? == 0 {
            continue;
        }
        let got = sys::receive(socket, &mut buffer).or_fail_at(1, "recvfrom")?;
        let first = buffer[..got.bytes].to_vec();
        if let Some(peer) = got.from {
            options.say(format_args!(
                "Connection received on {} {}",
                peer.ip(),
                peer.port()
            ));
            if !options.again {
                socket.connect(&peer.into()).or_fail_at(1, "connect")?;
            }
        }
        if !options.again {
            let socket = socket.try_clone().or_fail_at(1, "dup")?;
            return relay(options, socket, first);
        }
        let written = out.write_all(&first).and_then(|()| out.flush());
        written.or_fail_at(1, "write")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports() {
        assert_eq!(port_range("22"), Ok(22..=22));
        assert_eq!(port_range("20-25"), Ok(20..=25));
        assert_eq!(port_range("25-20"), Ok(20..=25));
        assert!(port_range("0").is_err() && port_range("x-1").is_err());
        assert!(port_range("65536").is_err());
    }

    #[test]
    fn options_bundle() {
        let args = ["nc", "-lvnp", "80", "-w1"]
            .iter()
            .map(Into::into)
            .collect();
        let options = read_options(args).ok().flatten().expect("valid");
        assert!(options.listen && options.verbose && options.numeric);
        assert_eq!(options.port, Some(80));
        let args = ["nc", "-k", "x", "1"].iter().map(Into::into).collect();
        assert!(read_options(args).is_err());
    }
}
