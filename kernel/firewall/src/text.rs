//! The text of rules, one per line:
//!
//! ```text
//! # all behind it is passed by
//! filter on|off
//! counters reset
//! default in|out allow|deny|reject
//! [in|out] allow|deny|reject [PROTOCOL [NUMBERS]] [from PREFIX [port NUMBERS]] [to PREFIX]
//!     [on INTERFACE] [log] [comment "TEXT"]
//! ```
//!
//! PROTOCOL is `any`, `tcp`, `udp`, `icmp` or `icmpv6`; NUMBERS are ports (for ICMP: types of
//! messages) such as `80,443,8000-8010`; PREFIX is `any`, an address, or an address with the
//! length of a prefix. A rule that names no chain is for what comes in.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::rule::{Action, Chain, Prefix, Protocol, Range, Rule, RuleSet};
use crate::{MAX_COMMENT, MAX_NAME, MAX_RULES, MAX_TEXT};

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The line, from 1; 0 when it is none in particular.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

/// The words of a line; what stands in quotes is one.
fn words(line: &str) -> Result<Vec<&str>, String> {
    let mut out = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote that does not end")?,
            None => {
                let end = rest.find([' ', '\t', '#', '\r']).unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        out.push(word);
        rest = tail.trim_ascii_start();
    }
    Ok(out)
}

fn chain(word: &str) -> Option<Chain> {
    match word {
        "in" => Some(Chain::In),
        "out" => Some(Chain::Out),
        _ => None,
    }
}

fn action(word: &str) -> Option<Action> {
    match word {
        "allow" => Some(Action::Allow),
        "deny" | "drop" => Some(Action::Deny),
        "reject" => Some(Action::Reject),
        _ => None,
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    match word {
        "any" => Some(Protocol::Any),
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "icmp" => Some(Protocol::Icmp),
        "icmpv6" => Some(Protocol::Icmpv6),
        _ => None,
    }
}

/// A number in the one way of writing it.
fn number<T: core::str::FromStr>(word: &str) -> Option<T> {
    let plain = word.bytes().all(|b| b.is_ascii_digit());
    word.parse().ok().filter(|_| plain)
}

fn ranges(word: &str, most: u16) -> Result<Vec<Range>, String> {
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = Range {
            first: number(first)?,
            last: number(last)?,
        };
        (range.first <= range.last && range.last <= most).then_some(range)
    };
    let all: Option<Vec<Range>> = word.split(',').map(one).collect();
    all.ok_or_else(|| format!("{word}: not numbers from 0 to {most}"))
}

/// An address with the length of its prefix, or without; `any` is `None`.
pub fn prefix(word: &str) -> Result<Option<Prefix>, String> {
    if word == "any" {
        return Ok(None);
    }
    let (address, len) = match word.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (word, None),
    };
    let parsed = address.parse::<IpAddr>().ok().and_then(|address| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        Prefix::new(address, len.map_or(Some(most), number)?)
    });
    parsed
        .map(Some)
        .ok_or_else(|| format!("{word}: not an address or prefix"))
}

impl Rule {
    /// Reads a rule's words. What is wrong with them.
    pub fn parse(words: &[&str]) -> Result<Rule, String> {
        let mut words = words.iter().copied().peekable();
        let chain = words.next_if(|w| chain(w).is_some()).and_then(chain);
        let first = words.next().ok_or("no action")?;
        let action = action(first)
            .ok_or_else(|| format!("{first}: not an action (allow, deny or reject)"))?;
        let named = words.next_if(|w| protocol(w).is_some()).and_then(protocol);
        let mut rule = Rule {
            chain: chain.unwrap_or(Chain::In),
            action,
            protocol: named.unwrap_or(Protocol::Any),
            ports: Vec::new(),
            from: None,
            from_ports: Vec::new(),
            to: None,
            interface: None,
            log: false,
            comment: None,
        };
        let most = match rule.protocol {
            Protocol::Icmp | Protocol::Icmpv6 => u16::from(u8::MAX),
            _ => u16::MAX,
        };
        if let Some(ports) = words.next_if(|w| w.starts_with(|c: char| c.is_ascii_digit())) {
            rule.ports = ranges(ports, most)?;
        }
        let mut seen = Vec::new();
        while let Some(word) = words.next() {
            if seen.contains(&word) {
                return Err(format!("{word}: twice"));
            }
            seen.push(word);
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| format!("{word}: nothing follows"))
            };
            match word {
                "from" => {
                    rule.from = prefix(value()?)?;
                    if words.next_if_eq(&"port").is_some() {
                        let ports = words.next().ok_or("port: nothing follows")?;
                        rule.from_ports = ranges(ports, u16::MAX)?;
                    }
                }
                "to" => rule.to = prefix(value()?)?,
                "on" => rule.interface = Some(interface(value()?)?),
                "log" => rule.log = true,
                "comment" => rule.comment = Some(comment(value()?)?),
                _ => return Err(format!("{word}: not understood")),
            }
        }
        rule.check()?;
        Ok(rule)
    }

    /// Whether its parts go together.
    fn check(&self) -> Result<(), String> {
        let has_ports = matches!(self.protocol, Protocol::Tcp | Protocol::Udp);
        if !self.ports.is_empty() && self.protocol == Protocol::Any
            || !self.from_ports.is_empty() && !has_ports
        {
            return Err("ports need tcp or udp".to_owned());
        }
        let is_v4 = |p: Option<Prefix>| p.map(|p| p.address.is_ipv4());
        let of_protocol = match self.protocol {
            Protocol::Icmp => Some(true),
            Protocol::Icmpv6 => Some(false),
            _ => None,
        };
        let mut families = [is_v4(self.from), is_v4(self.to), of_protocol]
            .into_iter()
            .flatten();
        if let Some(first) = families.next()
            && families.any(|f| f != first)
        {
            return Err("IPv4 and IPv6 in one rule".to_owned());
        }
        if self.action == Action::Reject && of_protocol.is_some() {
            return Err("reject: nobody answers to ICMP with an error; use deny".to_owned());
        }
        Ok(())
    }
}

fn interface(name: &str) -> Result<String, String> {
    let sound = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'/';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(sound) {
        return Err(format!("{name}: not an interface's name"));
    }
    Ok(name.to_owned())
}

fn comment(text: &str) -> Result<String, String> {
    if text.len() > MAX_COMMENT || text.contains(|c: char| c.is_control() || c == '"') {
        return Err(format!(
            "comment: above {MAX_COMMENT} bytes, or a quote or control character in it"
        ));
    }
    Ok(text.to_owned())
}

impl RuleSet {
    /// Reads a text. The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<RuleSet, TextError> {
        let general = |message: String| TextError { line: 0, message };
        if text.len() > MAX_TEXT {
            return Err(general(format!("above {MAX_TEXT} bytes")));
        }
        let mut set = RuleSet::default();
        for (i, line) in text.lines().enumerate() {
            let at = |message: String| TextError {
                line: i + 1,
                message,
            };
            set.line(&words(line).map_err(at)?).map_err(at)?;
        }
        if set.rules.len() > MAX_RULES {
            return Err(general(format!("above {MAX_RULES} rules")));
        }
        Ok(set)
    }

    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            [] => {}
            ["filter", "on"] => self.switch = Some(true),
            ["filter", "off"] => self.switch = Some(false),
            ["counters", "reset"] => self.reset_counters = true,
            ["default", which, what] => {
                let which = chain(which).ok_or_else(|| format!("{which}: not in or out"))?;
                let what = action(what).ok_or_else(|| format!("{what}: not an action"))?;
                match which {
                    Chain::In => self.default_in = what,
                    Chain::Out => self.default_out = what,
                }
            }
            ["filter" | "counters" | "default", ..] => {
                return Err(format!("{}: not understood", words.join(" ")));
            }
            _ => self.rules.push(Rule::parse(words)?),
        }
        Ok(())
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Chain::In => "in",
            Chain::Out => "out",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Allow => "allow",
            Action::Deny => "deny",
            Action::Reject => "reject",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Any => "any",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
            Protocol::Icmpv6 => "icmpv6",
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        write!(f, "{}", self.address)?;
        if self.len != whole {
            write!(f, "/{}", self.len)?;
        }
        Ok(())
    }
}

fn put_ranges(f: &mut fmt::Formatter<'_>, ranges: &[Range]) -> fmt::Result {
    for (i, r) in ranges.iter().enumerate() {
        f.write_str(if i == 0 { " " } else { "," })?;
        write!(f, "{}", r.first)?;
        if r.last != r.first {
            write!(f, "-{}", r.last)?;
        }
    }
    Ok(())
}

impl fmt::Display for Rule {
    /// As [`Rule::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.chain, self.action, self.protocol)?;
        put_ranges(f, &self.ports)?;
        if self.from.is_some() || !self.from_ports.is_empty() {
            match self.from {
                Some(from) => write!(f, " from {from}")?,
                None => f.write_str(" from any")?,
            }
        }
        if !self.from_ports.is_empty() {
            f.write_str(" port")?;
            put_ranges(f, &self.from_ports)?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " on {interface}")?;
        }
        if self.log {
            f.write_str(" log")?;
        }
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleSet {
    /// As [`RuleSet::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(on) = self.switch {
            writeln!(f, "filter {}", if on { "on" } else { "off" })?;
        }
        writeln!(f, "default in {}", self.default_in)?;
        writeln!(f, "default out {}", self.default_out)?;
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_is_shown_can_be_read() {
        let text = "filter on\ndefault in reject\ndefault out deny\n\
            in allow tcp 22,80-90 from 10.0.0.0/8 port 1024-65535 to 10.1.1.1 on eth0 log comment \"a # b\"\n\
            out reject udp 53\n\
            in deny any from 2001:db8::/32\n\
            in allow icmp 8\n\
            in allow udp from any port 123\n";
        let set = RuleSet::parse(text).unwrap();
        assert_eq!(set.to_string(), text);
        let defaults = RuleSet::parse(crate::DEFAULTS).unwrap();
        assert_eq!(defaults.to_string(), crate::DEFAULTS);
    }

    #[test]
    fn short_forms() {
        let set = RuleSet::parse("  allow from 10.0.0.1/8 # x\n\n#y\ndrop tcp 1").unwrap();
        assert_eq!(set.rules[0].to_string(), "in allow any from 10.0.0.0/8");
        assert_eq!(set.rules[1].to_string(), "in deny tcp 1");
    }

    #[test]
    fn errors_name_their_line() {
        let bad = [
            "permit tcp 22",
            "allow tcp 22 22",
            "allow tcp 70000",
            "allow tcp 9-1",
            "allow tcp +1",
            "allow icmp 256",
            "allow any 22",
            "allow udp to 1.2.3.4 to 1.2.3.4",
            "allow udp from 1.2.3.4/33",
            "allow udp from 1.2.3.4 to ::1",
            "allow icmp from ::1",
            "allow tcp on",
            "allow tcp on interface-of-16b",
            "allow tcp comment \"open",
            "reject icmp",
            "default in",
            "default in out",
            "filter maybe",
            "in",
            "allow sctp 1",
        ];
        for line in bad {
            let error = RuleSet::parse(&format!("allow tcp 1\n{line}\n"));
            assert_eq!(error.map_err(|e| e.line), Err(2), "{line}");
        }
        let long = "allow any\n".repeat(MAX_RULES + 1);
        assert_eq!(RuleSet::parse(&long).unwrap_err().line, 0);
    }

    #[test]
    fn no_text_makes_it_fail_otherwise() {
        let pieces = [
            "in",
            "allow",
            "tcp",
            "\"",
            "#",
            "from",
            "1.2.3.4/8",
            "port",
            "-",
            ",",
            "\n",
            "\t",
            "comment",
            "on",
            "é",
            "::/0",
        ];
        let mut state = 1u32;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text += pieces[(state >> 24) as usize % pieces.len()];
                if state & 0x10_0000 != 0 {
                    text += " ";
                }
            }
            if let Ok(set) = RuleSet::parse(&text) {
                assert_eq!(RuleSet::parse(&set.to_string()), Ok(set));
            }
        }
    }
}
