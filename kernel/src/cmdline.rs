//! The kernel command line: `name` or `name=value`, separated by white space; values may be
//! quoted with `"`. Unknown words are passed by (init reads /proc/cmdline).
//!
//! | word | meaning |
//! | --- | --- |
//! | `root=` | block device of the root filesystem: /dev name, `LABEL=`, `UUID=` or `PARTUUID=` |
//! | `init=` | path of the first program, default /sbin/init |
//! | `console=` | terminal that is /dev/console, such as ttyS0 or tty0; the last one counts |
//! | `quiet` | only errors on the console |
//! | `loglevel=` | records of this level or worse (0 to 7) on the console |
//! | `panic=` | seconds until a restart after a panic; 0: halt, below 0: at once |
//! | `firewall=off` | lets all packets in |
//! | `ip=off` | network cards come up without addresses: no DHCP, no router advertisements |
//! | `nosmp`, `maxcpus=` | run on one CPU, on so many |

use alloc::boxed::Box;
use alloc::string::String;
use core::sync::atomic::{AtomicPtr, Ordering};

/// What the kernel itself takes from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// `root=`.
    pub root: Option<&'a str>,
    /// `init=`.
    pub init: &'a str,
    /// The last `console=`.
    pub console: Option<&'a str>,
    /// Console log level from `quiet` and `loglevel=`.
    pub log_level: Option<u8>,
    /// `panic=`.
    pub panic_seconds: i32,
    /// `nosmp` (1), `maxcpus=`.
    pub max_cpus: usize,
    /// `rw` or `ro`.
    pub read_only: bool,
    /// Not `firewall=off`.
    pub firewall: bool,
    /// Not `ip=off`.
    pub configures_cards: bool,
}

/// The words of `line`, with quotes taken away from values.
pub fn words(line: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = line;
    core::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest
            .find(|c: char| {
                quoted ^= c == '"';
                c.is_whitespace() && !quoted
            })
            .unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail;
        Some(match word.split_once('=') {
            Some((name, value)) => (name, Some(unquote(value))),
            None => (word, None),
        })
    })
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|v| v.strip_suffix('"'))
        .unwrap_or(value)
}

impl<'a> Options<'a> {
    /// Reads `line`; what makes no sense is passed by.
    pub fn parse(line: &'a str) -> Options<'a> {
        let mut o = Options {
            root: None,
            init: "/sbin/init",
            console: None,
            log_level: None,
            panic_seconds: 0,
            max_cpus: crate::arch::MAX_CPUS,
            read_only: false,
            firewall: true,
            configures_cards: true,
        };
        for (name, value) in words(line) {
            let number = || value.and_then(|v| v.parse::<i32>().ok());
            match (name, value) {
                ("root", Some(v)) => o.root = Some(v),
                ("init", Some(v)) if !v.is_empty() => o.init = v,
                ("console", Some(v)) => o.console = v.split(',').next(),
                ("quiet", None) => o.log_level = Some(3),
                ("loglevel", _) => {
                    if let Some(n) = number() {
                        o.log_level = Some(n.clamp(0, 7) as u8);
                    }
                }
                ("panic", _) => o.panic_seconds = number().unwrap_or(0),
                ("nosmp", None) => o.max_cpus = 1,
                ("maxcpus", _) => {
                    if let Some(n) = number() {
                        o.max_cpus = n.clamp(1, crate::arch::MAX_CPUS as i32) as usize;
                    }
                }
                ("firewall", Some(v)) => o.firewall = v != "off",
                ("ip", Some(v)) => o.configures_cards = v != "off",
                ("ro", None) => o.read_only = true,
                ("rw", None) => o.read_only = false,
                _ => {}
            }
        }
        o
    }
}

static LINE: Once = Once::new();

/// Keeps the command line for /proc/cmdline. Boot only, once.
pub fn set(line: String) {
    LINE.set(line);
}

/// The command line as the loader gave it.
pub fn get() -> &'static str {
    LINE.get()
}

/// A string that is set once.
struct Once(AtomicPtr<String>);

impl Once {
    const fn new() -> Self {
        Once(AtomicPtr::new(core::ptr::null_mut()))
    }
    fn set(&self, value: String) {
        self.0
            .store(Box::into_raw(Box::new(value)), Ordering::Release);
    }
    fn get(&self) -> &'static str {
        // SAFETY: only `set` stores, and what it stored lives for ever.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }.map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let o = Options::parse(
            "root=LABEL=oxbow-root  init=/bin/sh console=tty0 console=ttyS0,115200 loglevel=4 panic=-1 nosmp",
        );
        assert_eq!(o.root, Some("LABEL=oxbow-root"));
        assert_eq!(o.init, "/bin/sh");
        assert_eq!(o.console, Some("ttyS0"));
        assert_eq!(o.log_level, Some(4));
        assert_eq!(o.panic_seconds, -1);
        assert_eq!(o.max_cpus, 1);
    }

    #[test]
    fn nonsense_is_passed_by() {
        let o = Options::parse(" =x init= panic=soon loglevel=99 maxcpus=-3 \"a b\" quiet=1 ");
        assert_eq!(o.init, "/sbin/init");
        assert_eq!(o.panic_seconds, 0);
        assert_eq!(o.log_level, Some(7));
        assert_eq!(o.max_cpus, 1);
        assert_eq!(Options::parse("").root, None);
    }

    #[test]
    fn quotes_hold_white_space() {
        let w: std::vec::Vec<_> = words("a b=\"c d\" e=\"f").collect();
        assert_eq!(w, [("a", None), ("b", Some("c d")), ("e", Some("\"f"))]);
    }
}
