//! `ntpd -q` and `ntpdate`: sets the clock once, by SNTP (RFC 4330, RFC 5905).
//!
//! Of a few answers of a server the one with the shortest way counts. An answer
//! is believed when it comes from the server asked, carries the random stamp of
//! our question back, and its server says that its own clock is set.
//! Not here: keeping the clock right over time.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lexopt::prelude::*;

use crate::Args;
use crate::cli::{Failure, Message as _, OrFail, Outcome, finish, number, parser, seconds, text};
use crate::sys::{self, Family};

/// Questions per server.
const NR_SAMPLES: u64 = 4;
/// Between questions to one server, which counts too many of them as abuse.
const PAUSE: Duration = Duration::from_millis(250);
/// Below this the clock is left alone: a step would do more harm than good.
const SMALL_NS: i64 = 1_000_000;
/// From NTP's epoch, 1900, to Unix's.
const EPOCH_SECONDS: i128 = 2_208_988_800;
const NS: i128 = 1_000_000_000;
const PACKET_BYTES: usize = 48;

struct Options {
    servers: Vec<String>,
    port: u16,
    family: Family,
    set: bool,
    verbose: bool,
    samples: u64,
    timeout: Duration,
}

impl Options {
    fn new() -> Options {
        Options {
            servers: Vec::new(),
            port: 123,
            family: Family::Any,
            set: true,
            verbose: false,
            samples: NR_SAMPLES,
            timeout: Duration::from_secs(2),
        }
    }
}

/// BusyBox's `ntpd`, as far as one look at the time goes.
pub fn ntpd(args: Args) -> i32 {
    const USAGE: &str = "Usage: ntpd -q [-dnw46] -p PEER[:PORT]...\n\
                         \n  -q  set the clock once, then end (required)\
                         \n  -p  server; may be given several times\
                         \n  -w  only ask, do not set the clock\
                         \n  -d  say more\
                         \n  -n  stay in the foreground (always)";
    let read = || -> Result<Option<Options>, Failure> {
        let mut options = Options::new();
        let mut once = false;
        let mut args = parser(args);
        while let Some(arg) = args.next().or_fail(1)? {
            match arg {
                Short('q') => once = true,
                Short('d') => options.verbose = true,
                Short('n') => {}
                Short('w') => options.set = false,
                Short('4') => options.family = Family::V4,
                Short('6') => options.family = Family::V6,
                Short('p') => options
                    .servers
                    .push(args.value().or_fail(1)?.string().or_fail(1)?),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(Failure::new(1, other.unexpected())),
            }
        }
        if !once && options.set {
            return Err(Failure::new(
                1,
                "only -q, setting the clock once, is supported",
            ));
        }
        if options.servers.is_empty() {
            return Err(Failure::new(1, "no server given, use -p PEER"));
        }
        Ok(Some(options))
    };
    run("ntpd", USAGE, read())
}

/// `ntpdate SERVER...`
pub fn ntpdate(args: Args) -> i32 {
    const USAGE: &str = "Usage: ntpdate [-qdbuv46] [-p samples] [-t timeout] server[:port]...\n\
                         \n  -q  only ask, do not set the clock\
                         \n  -d  the same, and say more";
    let read = || -> Result<Option<Options>, Failure> {
        let mut options = Options::new();
        let mut args = parser(args);
        while let Some(arg) = args.next().or_fail(1)? {
            match arg {
                Short('q') => options.set = false,
                Short('d') => (options.set, options.verbose) = (false, true),
                // Steps and unprivileged ports are what there is.
                Short('b' | 'u') => {}
                Short('v') => options.verbose = true,
                Short('4') => options.family = Family::V4,
                Short('6') => options.family = Family::V6,
                Short('p') => options.samples = number(&text(&mut args, 1)?, 1..=8).or_fail(1)?,
                Short('t') => options.timeout = seconds(&text(&mut args, 1)?).or_fail(1)?,
                Short('h') | Long("help") => return Ok(None),
                Value(server) => options.servers.push(server.string().or_fail(1)?),
                other => return Err(Failure::new(1, other.unexpected())),
            }
        }
        if options.servers.is_empty() {
            return Err(Failure::new(1, "no servers can be used, exiting"));
        }
        Ok(Some(options))
    };
    run("ntpdate", USAGE, read())
}

fn run(program: &str, usage: &str, options: Result<Option<Options>, Failure>) -> i32 {
    let outcome = options.and_then(|options| match options {
        Some(options) => set_clock(program, &options),
        None => {
            println!("{usage}");
            Ok(0)
        }
    });
    finish(program, outcome)
}

fn set_clock(program: &str, options: &Options) -> Outcome {
    let mut best: Option<(Sample, SocketAddr)> = None;
    for server in &options.servers {
        let (host, port) = split_port(server, options.port);
        let address = match sys::resolve(host, port, options.family) {
            Ok(addresses) => addresses[0],
            Err(text) => {
                eprintln!("{program}: bad address: {text}");
                continue;
            }
        };
        let Some(sample) = ask(program, address, options) else {
            continue;
        };
        if !options.set || options.verbose {
            println!(
                "server {}, stratum {}, offset {}, delay {:.5}",
                address.ip(),
                sample.stratum,
                signed_seconds(sample.offset_ns),
                sample.delay_ns as f64 / 1e9
            );
        }
        if best
            .as_ref()
            .is_none_or(|(other, _)| sample.delay_ns < other.delay_ns)
        {
            best = Some((sample, address));
        }
    }
    let Some((sample, server)) = best else {
        return Err(Failure::new(
            1,
            "no server suitable for synchronization found",
        ));
    };
    let offset = signed_seconds(sample.offset_ns);
    if !options.set {
        return Ok(0);
    }
    if sample.offset_ns.abs() < SMALL_NS {
        println!(
            "{program}: clock is right: server {} offset {offset} sec",
            server.ip()
        );
        return Ok(0);
    }
    let now = unix_ns() + i128::from(sample.offset_ns);
    let seconds = u64::try_from(now / NS).map_err(|_| "impossible time".to_owned());
    let time = Duration::new(seconds.or_fail(1)?, (now % NS) as u32);
    sys::set_clock(time).or_fail_at(1, "cannot set the clock")?;
    println!(
        "{program}: set the clock to {}: server {} offset {offset} sec",
        date(time.as_secs()),
        server.ip()
    );
    Ok(0)
}

/// `HOST:PORT`, `[V6]:PORT` or a host alone.
fn split_port(text: &str, default: u16) -> (&str, u16) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, port),
            Err(_) => (text, default),
        },
        _ => (text, default),
    }
}

/// What an answer says of our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    /// To be added to our clock.
    offset_ns: i64,
    /// There and back, without the server's own time.
    delay_ns: i64,
    stratum: u8,
}

/// The best sample of a few; says why those that were no good were not.
fn ask(program: &str, server: SocketAddr, options: &Options) -> Option<Sample> {
    let mut best: Option<Sample> = None;
    for i in 0..options.samples {
        if i > 0 {
            std::thread::sleep(PAUSE);
        }
        match ask_once(server, options.timeout) {
            Ok(sample) => {
                if options.verbose {
                    println!(
                        "{program}: {}: offset {}, delay {:.5}",
                        server.ip(),
                        signed_seconds(sample.offset_ns),
                        sample.delay_ns as f64 / 1e9
                    );
                }
                if best.is_none_or(|other| sample.delay_ns < other.delay_ns) {
                    best = Some(sample);
                }
            }
            Err(error) => {
                eprintln!("{program}: {}: {}", server.ip(), error.message());
                // Who refuses, or is not there, does so again.
                if error.kind() != io::ErrorKind::TimedOut {
                    break;
                }
            }
        }
    }
    best
}

fn ask_once(server: SocketAddr, timeout: Duration) -> io::Result<Sample> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    let cookie: [u8; 8] = sys::random()?;
    let sent = unix_ns();
    let start = Instant::now();
    socket.send(&question(cookie))?;
    let mut buffer = [0; 512];
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "timed out, no answer");
        if left.is_zero() {
            return Err(timed_out());
        }
        socket.set_read_timeout(Some(left))?;
        let bytes = match socket.recv(&mut buffer) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // By the monotonic clock: somebody else may set the other meanwhile.
        let received = sent + start.elapsed().as_nanos() as i128;
        match judge(&buffer[..bytes], cookie, sent, received) {
            Ok(sample) => return Ok(sample),
            // Not an answer to this question.
            Err(None) => {}
            Err(Some(why)) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
        }
    }
}

/// A client's packet, version 4. Its transmit stamp is a random number rather
/// than our time: the server sends it back, and nobody else knows it.
fn question(cookie: [u8; 8]) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = 4 << 3 | 3;
    packet[40..].copy_from_slice(&cookie);
    packet
}

/// What the answer `packet` says; `Err(None)` if it answers something else,
/// `Err(Some(why))` if its server's time is not to be used.
fn judge(
    packet: &[u8],
    cookie: [u8; 8],
    sent: i128,
    received: i128,
) -> Result<Sample, Option<String>> {
    if packet.len() < PACKET_BYTES || packet[24..32] != cookie {
        return Err(None);
    }
    let (leap, version, mode) = (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7);
    let stratum = packet[1];
    // 4 is a server.
    if mode != 4 || !(1..=4).contains(&version) {
        return Err(None);
    }
    if stratum == 0 {
        let code: String = packet[12..16]
            .iter()
            .filter(|b| b.is_ascii_alphanumeric())
            .map(|b| char::from(*b))
            .collect();
        return Err(Some(format!("server refuses (kiss code {code})")));
    }
    if leap == 3 || stratum >= 16 {
        return Err(Some("server's clock is not synchronized".into()));
    }
    // Root delay and dispersion, in 1/65536 s: more than 16 s is no clock.
    let root = |at: usize| {
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    };
    if root(4) as i32 >= 16 << 16 || root(8) >= 16 << 16 {
        return Err(Some("server is too far from its reference".into()));
    }
    let (Some(arrived), Some(left)) = (stamp(packet, 32), stamp(packet, 40)) else {
        return Err(Some("server sends no time".into()));
    };
    let delay = (received - sent) - (left - arrived);
    let offset = ((arrived - sent) + (left - received)) / 2;
    let (Ok(offset_ns), Ok(delay_ns)) = (i64::try_from(offset), i64::try_from(delay)) else {
        return Err(Some("server sends an absurd time".into()));
    };
    if left < arrived || delay_ns < -SMALL_NS {
        return Err(Some("server sends an absurd time".into()));
    }
    Ok(Sample {
        offset_ns,
        delay_ns: delay_ns.max(0),
        stratum,
    })
}

/// The time stamp at `at` in nanoseconds since 1970; `None` for zero. Without
/// its top bit it is of the era that begins in 2036.
fn stamp(packet: &[u8], at: usize) -> Option<i128> {
    let bytes: [u8; 8] = packet.get(at..at + 8)?.try_into().ok()?;
    let whole = u64::from_be_bytes(bytes);
    (whole != 0).then_some(())?;
    let (seconds, fraction) = (i128::from(whole >> 32), i128::from(whole & 0xffff_ffff));
    let era = if whole >> 63 == 0 { 1i128 << 32 } else { 0 };
    Some((seconds + era - EPOCH_SECONDS) * NS + ((fraction * NS) >> 32))
}

/// The clock, in nanoseconds since 1970.
fn unix_ns() -> i128 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

fn signed_seconds(ns: i64) -> String {
    format!("{:+.6}", ns as f64 / 1e9)
}

/// A time in seconds since 1970 as date and time in UTC.
pub fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, counting years from March so that leap days end them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: [u8; 8] = *b"cookie!!";

    /// An answer that says both stamps are `at` nanoseconds since 1970.
    fn answer(at: i128) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[0] = 4 << 3 | 4;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&COOKIE);
        let seconds = (at.div_euclid(NS) + EPOCH_SECONDS) as u64 & 0xffff_ffff;
        let fraction = ((at.rem_euclid(NS)) << 32) / NS;
        let whole = (seconds << 32 | fraction as u64).to_be_bytes();
        packet[32..40].copy_from_slice(&whole);
        packet[40..].copy_from_slice(&whole);
        packet
    }

    #[test]
    fn offset_and_delay() {
        let sent = 1_700_000_000 * NS;
        let sample = judge(&answer(sent + 5 * NS), COOKIE, sent, sent + NS / 10).expect("good");
        assert!((sample.offset_ns - 4_950_000_000).abs() < 2, "{sample:?}");
        assert_eq!(sample.delay_ns, 100_000_000);
        // Ours is ahead.
        let sample = judge(&answer(sent - 7 * NS), COOKIE, sent, sent).expect("good");
        assert!((sample.offset_ns + 7_000_000_000).abs() < 2);
    }

    #[test]
    fn after_2036() {
        let at = 2_100_000_000 * NS;
        let sample = judge(&answer(at), COOKIE, at, at).expect("good");
        assert!(sample.offset_ns.abs() < 2);
    }

    #[test]
    fn what_is_not_believed() {
        let at = 1_700_000_000 * NS;
        let judged = |change: &dyn Fn(&mut [u8; PACKET_BYTES])| {
            let mut packet = answer(at);
            change(&mut packet);
            judge(&packet, COOKIE, at, at)
        };
        assert!(judged(&|_| {}).is_ok());
        assert_eq!(judged(&|p| p[24] ^= 1), Err(None));
        assert_eq!(judged(&|p| p[0] = 4 << 3 | 3), Err(None));
        assert!(matches!(judged(&|p| p[1] = 0), Err(Some(_))));
        assert!(matches!(judged(&|p| p[1] = 16), Err(Some(_))));
        assert!(matches!(judged(&|p| p[0] |= 0xc0), Err(Some(_))));
        assert!(matches!(judged(&|p| p[40..].fill(0)), Err(Some(_))));
        assert!(matches!(judged(&|p| p[8] = 1), Err(Some(_))));
        assert_eq!(judge(&answer(at)[..47], COOKIE, at, at), Err(None));
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13:20 UTC");
    }

    #[test]
    fn ports_of_servers() {
        assert_eq!(split_port("a:99", 123), ("a", 99));
        assert_eq!(split_port("::1", 123), ("::1", 123));
        assert_eq!(split_port("[::1]:99", 123), ("[::1]", 99));
    }
}
