//! ping: echo requests to one host, and what came back.
//!
//! Ping sockets (`SOCK_DGRAM` of ICMP, for everybody) first, raw sockets where
//! there are none. Output and exit status follow iputils: 0 when answers came,
//! 1 when none or fewer than asked for, 2 for everything else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Args;
use crate::cli::{Failure, Message as _, OrFail, Outcome, finish, number, parser, seconds, text};
use crate::icmp::{self, Message};
use crate::sys::{self, Family, catch_interrupts, interrupted, poll, wait_for};

/// How long to wait for the last answers when none has come yet (iputils).
const LINGER: Duration = Duration::from_secs(10);

const USAGE: &str = "\
Usage: ping [options] <destination>

  -4, -6           use IPv4 or IPv6
  -c <count>       stop after <count> requests
  -i <interval>    seconds between requests (1)
  -I <interface>   interface name or source address
  -n               no name lookups in the output (there never are)
  -q               print only the first line and the statistics
  -s <size>        bytes of data in a request (56)
  -t <ttl>         time to live
  -w <deadline>    end after <deadline> seconds
  -W <timeout>     seconds to wait for an answer";

struct Options {
    family: Family,
    count: Option<u64>,
    interval: Duration,
    from: Option<String>,
    quiet: bool,
    size: usize,
    ttl: Option<u32>,
    deadline: Option<Duration>,
    timeout: Option<Duration>,
    host: String,
}

pub fn ping(args: Args) -> i32 {
    finish("ping", run(args, Family::Any))
}

pub fn ping6(args: Args) -> i32 {
    finish("ping6", run(args, Family::V6))
}

fn run(args: Args, family: Family) -> Outcome {
    match read_options(args, family)? {
        Some(options) => Pinger::new(options)?.run(),
        None => {
            println!("{USAGE}");
            Ok(0)
        }
    }
}

fn read_options(args: Args, family: Family) -> Result<Option<Options>, Failure> {
    let mut options = Options {
        family,
        count: None,
        interval: Duration::from_secs(1),
        from: None,
        quiet: false,
        size: 56,
        ttl: None,
        deadline: None,
        timeout: None,
        host: String::new(),
    };
    let mut args = parser(args);
    while let Some(arg) = args.next().or_fail(2)? {
        match arg {
            Short('4') => options.family = Family::V4,
            Short('6') => options.family = Family::V6,
            Short('c') => {
                options.count = Some(number(&text(&mut args, 2)?, 1..=u64::MAX).or_fail(2)?)
            }
            Short('i') => {
                options.interval = seconds(&text(&mut args, 2)?).or_fail(2)?;
                if options.interval < Duration::from_millis(2) {
                    return Err(Failure::new(2, "cannot flood, minimal interval is 2 ms"));
                }
            }
            Short('I') => options.from = Some(text(&mut args, 2)?),
            Short('n') => {}
            Short('q') => options.quiet = true,
            Short('s') => {
                options.size = number(&text(&mut args, 2)?, 0..=65_507 - 8).or_fail(2)? as usize
            }
            Short('t') => {
                options.ttl = Some(number(&text(&mut args, 2)?, 1..=255).or_fail(2)? as u32)
            }
            Short('w') => options.deadline = Some(seconds(&text(&mut args, 2)?).or_fail(2)?),
            Short('W') => options.timeout = Some(seconds(&text(&mut args, 2)?).or_fail(2)?),
            Short('h') | Long("help") => return Ok(None),
            Value(host) if options.host.is_empty() => options.host = host.string().or_fail(2)?,
            other => return Err(Failure::new(2, other.unexpected())),
        }
    }
    if options.host.is_empty() {
        return Err(Failure::new(2, "usage error: Destination address required"));
    }
    Ok(Some(options))
}

/// A request that was sent, by its sequence number.
#[derive(Clone, Copy)]
struct Sent {
    sequence: u16,
    at: Instant,
    answered: bool,
}

/// How many requests are remembered; answers to older ones have no time.
const NR_REMEMBERED: usize = 1024;

struct Pinger {
    options: Options,
    to: SocketAddr,
    socket: Socket,
    /// A raw socket sees the IP header (of IPv4) and everybody's answers.
    raw: bool,
    id: u16,
    sent: Vec<Option<Sent>>,
    statistics: Statistics,
}

impl Pinger {
    fn new(options: Options) -> Result<Pinger, Failure> {
        let to = sys::resolve(&options.host, 0, options.family).or_fail(2)?[0];
        let v6 = to.is_ipv6();
        let (socket, raw) = open(v6).or_fail_at(2, "socket")?;
        if let Some(from) = &options.from {
            bind(&socket, from, v6)?;
        }
        if let Some(ttl) = options.ttl {
            let set = match v6 {
                true => socket.set_unicast_hops_v6(ttl),
                false => socket.set_ttl_v4(ttl),
            };
            set.or_fail_at(2, "cannot set unicast time-to-live")?;
        }
        sys::want_hops(&socket, v6);
        // Errors about our requests, such as "no route", come back from connected sockets.
        socket.connect(&to.into()).or_fail_at(2, "connect")?;
        let id = match raw {
            true => std::process::id() as u16,
            false => local_port(&socket).unwrap_or(0),
        };
        Ok(Pinger {
            options,
            to,
            socket,
            raw,
            id,
            sent: vec![None; NR_REMEMBERED],
            statistics: Statistics::default(),
        })
    }

    fn run(mut self) -> Outcome {
        catch_interrupts();
        let start = Instant::now();
        let (to, size) = (self.to.ip(), self.options.size);
        println!(
            "PING {} ({to}) {size}({}) bytes of data.",
            self.options.host,
            size + icmp::HEADER_BYTES + if to.is_ipv6() { 40 } else { 20 }
        );
        let deadline = self.options.deadline.map(|d| start + d);
        let mut next = start;
        let mut last = start;
        loop {
            let now = Instant::now();
            let all_sent = self.options.count == Some(self.statistics.sent);
            if interrupted() || deadline.is_some_and(|d| now >= d) {
                break;
            }
            // Every answer there can be, unless -w waits for answers rather than requests.
            if all_sent && self.statistics.answered() >= self.statistics.sent {
                break;
            }
            if !all_sent && now >= next {
                self.send()?;
                last = now;
                next = now + self.options.interval;
                continue;
            }
            let mut until = match all_sent {
                false => next,
                true => last + self.linger(),
            };
            if all_sent && now >= until {
                break;
            }
            if let Some(deadline) = deadline {
                until = until.min(deadline);
            }
            let mut fds = [wait_for(self.socket.as_raw_fd(), libc::POLLIN)];
            if poll(&mut fds, Some(until)).or_fail_at(2, "poll")? > 0 {
                self.receive();
            }
        }
        self.statistics.print(&self.options.host, start.elapsed());
        let wanted = match deadline {
            Some(_) => self.options.count.unwrap_or(1),
            None => 1,
        };
        Ok(i32::from(self.statistics.received < wanted))
    }

    /// How long to wait for answers to the last request.
    fn linger(&self) -> Duration {
        let longest = Duration::from_secs_f64(self.statistics.max / 1000.0);
        match (self.options.timeout, self.statistics.received) {
            (Some(timeout), _) => timeout,
            (None, 0) => LINGER,
            (None, _) => (longest * 2).max(Duration::from_secs(1)),
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.statistics.sent += 1;
        let sequence = self.statistics.sent as u16;
        let data: Vec<u8> = (0..self.options.size).map(|i| i as u8).collect();
        let message = icmp::echo_request(self.to.is_ipv6(), self.id, sequence, &data);
        self.sent[usize::from(sequence) % NR_REMEMBERED] = Some(Sent {
            sequence,
            at: Instant::now(),
            answered: false,
        });
        match self.socket.send(&message) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                Err(Failure::new(2, format!("sendmsg: {}", error.message())))
            }
            Err(error) => {
                // The network may come back.
                self.statistics.errors += 1;
                eprintln!("ping: sendmsg: {}", error.message());
                Ok(())
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = vec![0; 65_536];
        loop {
            let got = match sys::receive(&self.socket, &mut buffer) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
                Err(error) => {
                    self.statistics.errors += 1;
                    eprintln!("ping: recvmsg: {}", error.message());
                    return;
                }
            };
            let now = Instant::now();
            let mut message = &buffer[..got.bytes];
            let mut hops = got.hops;
            if self.raw && !self.to.is_ipv6() {
                hops = message.get(8).map(|ttl| u32::from(*ttl));
                message = icmp::without_ip_header(message).unwrap_or(&[]);
            }
            let from = got.from.map_or(self.to.ip(), |from| from.ip());
            match icmp::read(self.to.is_ipv6(), message) {
                Message::EchoReply { id, sequence, data } if id == self.id => {
                    let bytes = data.len() + icmp::HEADER_BYTES;
                    self.answer(from, sequence, bytes, hops, now);
                }
                Message::Unreachable { id, sequence, what } if id == self.id => {
                    self.statistics.errors += 1;
                    println!("From {from} icmp_seq={sequence} {what}");
                }
                _ => {}
            }
        }
    }

    fn answer(
        &mut self,
        from: IpAddr,
        sequence: u16,
        bytes: usize,
        hops: Option<u32>,
        now: Instant,
    ) {
        let slot = &mut self.sent[usize::from(sequence) % NR_REMEMBERED];
        let Some(sent) = slot.as_mut().filter(|sent| sent.sequence == sequence) else {
            return;
        };
        let again = std::mem::replace(&mut sent.answered, true);
        let ms = now.duration_since(sent.at).as_secs_f64() * 1000.0;
        self.statistics.answer(ms, again);
        if self.options.quiet {
            return;
        }
        let ttl = hops.map_or(String::new(), |ttl| format!(" ttl={ttl}"));
        println!(
            "{bytes} bytes from {from}: icmp_seq={sequence}{ttl} time={} ms{}",
            rounded(ms),
            if again { " (DUP!)" } else { "" }
        );
    }
}

/// A socket for echo, and whether it is a raw one.
fn open(v6: bool) -> io::Result<(Socket, bool)> {
    let (domain, protocol) = match v6 {
        true => (Domain::IPV6, Protocol::ICMPV6),
        false => (Domain::IPV4, Protocol::ICMPV4),
    };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok((socket, false)),
        Err(_) => Ok((Socket::new(domain, Type::RAW, Some(protocol))?, true)),
    }
}

/// The number that the kernel gave a ping socket, its echo id.
fn local_port(socket: &Socket) -> Option<u16> {
    Some(socket.local_addr().ok()?.as_socket()?.port())
}

/// `-I`: a source address, or else an interface.
fn bind(socket: &Socket, from: &str, v6: bool) -> Result<(), Failure> {
    match from.parse::<IpAddr>() {
        Ok(address) if address.is_ipv6() == v6 => {
            let address = SocketAddr::new(address, 0);
            socket.bind(&address.into()).or_fail_at(2, "bind")
        }
        Ok(_) => Err(Failure::new(2, format!("bad source address {from}"))),
        Err(_) => socket
            .bind_device(Some(from.as_bytes()))
            .or_fail_at(2, format!("SO_BINDTODEVICE {from}")),
    }
}

#[derive(Default)]
struct Statistics {
    sent: u64,
    received: u64,
    duplicates: u64,
    errors: u64,
    /// Of the times, in milliseconds.
    min: f64,
    max: f64,
    sum: f64,
    sum_of_squares: f64,
}

impl Statistics {
    fn answered(&self) -> u64 {
        self.received
    }

    fn answer(&mut self, ms: f64, again: bool) {
        let first = self.received + self.duplicates == 0;
        self.min = if first { ms } else { self.min.min(ms) };
        self.max = self.max.max(ms);
        self.sum += ms;
        self.sum_of_squares += ms * ms;
        match again {
            true => self.duplicates += 1,
            false => self.received += 1,
        }
    }

    fn print(&self, host: &str, time: Duration) {
        println!("\n--- {host} ping statistics ---");
        let duplicates = match self.duplicates {
            0 => String::new(),
            count => format!(", +{count} duplicates"),
        };
        let errors = match self.errors {
            0 => String::new(),
            count => format!(", +{count} errors"),
        };
        let lost = (self.sent - self.received.min(self.sent)) as f64;
        println!(
            "{} packets transmitted, {} received{duplicates}{errors}, {}% packet loss, time {}ms",
            self.sent,
            self.received,
            percentage(lost, self.sent as f64),
            time.as_millis()
        );
        let count = (self.received + self.duplicates) as f64;
        if count > 0.0 {
            let mean = self.sum / count;
            let variance = (self.sum_of_squares / count - mean * mean).max(0.0);
            println!(
                "rtt min/avg/max/mdev = {:.3}/{mean:.3}/{:.3}/{:.3} ms",
                self.min,
                self.max,
                variance.sqrt()
            );
        }
    }
}

/// With as many digits as mean something.
fn percentage(part: f64, whole: f64) -> String {
    let value = if whole > 0.0 {
        part / whole * 100.0
    } else {
        0.0
    };
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Three digits, as iputils shows times.
fn rounded(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3}"),
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let args = [
            "ping", "-c3", "-i", "0.2", "-W1", "-s", "100", "-q", "-6", "host",
        ];
        let args = args.iter().map(Into::into).collect();
        let options = read_options(args, Family::Any)
            .ok()
            .flatten()
            .expect("options");
        assert_eq!(options.count, Some(3));
        assert_eq!(options.interval, Duration::from_millis(200));
        assert_eq!(options.size, 100);
        assert!(options.quiet && options.family == Family::V6);
        for bad in [
            &["ping"][..],
            &["ping", "-c0", "h"],
            &["ping", "-z", "h"],
            &["ping", "a", "b"],
        ] {
            let args = bad.iter().map(Into::into).collect();
            assert!(read_options(args, Family::Any).is_err());
        }
    }

    #[test]
    fn figures_have_the_usual_digits() {
        assert_eq!(rounded(0.1234), "0.123");
        assert_eq!(rounded(12.34), "12.3");
        assert_eq!(percentage(1.0, 3.0), "33.3333");
        assert_eq!(percentage(0.0, 3.0), "0");
        assert_eq!(percentage(3.0, 3.0), "100");
    }

    #[test]
    fn statistics_add_up() {
        let mut s = Statistics::default();
        s.answer(2.0, false);
        s.answer(4.0, false);
        s.answer(3.0, true);
        assert_eq!((s.min, s.max, s.received, s.duplicates), (2.0, 4.0, 2, 1));
    }
}
