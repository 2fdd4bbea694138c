//! The format of ~/.ssh/authorized_keys (man 8 sshd, AUTHORIZED_KEYS FILE FORMAT): `[options] type key [comment]`.
//!
//! A line whose options are not understood, or ask for what is not there, is a key that lets nobody in: a restriction
//! that is ignored is worse than a key that is refused.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::PublicKey;

use crate::pattern::{self, Verdict};

/// What a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOptions {
    pub command: Option<String>,
    pub environment: Vec<(String, String)>,
    pub pty: bool,
    pub port_forwarding: bool,
    pub agent_forwarding: bool,
    /// Where `ssh -L` may lead, `HOST:PORT`; anywhere when empty.
    pub permit_open: Vec<String>,
    /// Where `ssh -R` may listen.
    pub permit_listen: Vec<String>,
    from: Option<String>,
    /// Seconds since 1970.
    expires: Option<u64>,
}

impl Default for KeyOptions {
    fn default() -> KeyOptions {
        KeyOptions {
            command: None,
            environment: Vec::new(),
            pty: true,
            port_forwarding: true,
            agent_forwarding: true,
            permit_open: Vec::new(),
            permit_listen: Vec::new(),
            from: None,
            expires: None,
        }
    }
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Looks for `key` in the text of a file.
///
/// # Errors
/// Why the last line that lists the key does not let it in, when none does.
pub fn find(
    text: &str,
    key: &PublicKey,
    peer: IpAddr,
    now: u64,
) -> Result<Option<KeyOptions>, String> {
    let mut refused = None;
    for line in text.lines() {
        let Some((options, listed)) = parse_line(line) else {
            continue;
        };
        if listed.key_data() != key.key_data() {
            continue;
        }
        match options.and_then(|options| options.admit(peer, now)) {
            Ok(options) => return Ok(Some(options)),
            Err(why) => refused = Some(why),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// A line's options, or what is wrong with them, and its key; `None` for a line without a key.
fn parse_line(line: &str) -> Option<(Result<KeyOptions, String>, PublicKey)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    if let Some(key) = parse_key(line) {
        return Some((Ok(KeyOptions::default()), key));
    }
    let end = end_of_options(line)?;
    let key = parse_key(line[end..].trim_start())?;
    Some((parse_options(&line[..end]), key))
}

/// `type base64 [comment]`. The comment is dropped, whatever is in it.
fn parse_key(text: &str) -> Option<PublicKey> {
    let mut words = text.split_ascii_whitespace();
    PublicKey::from_openssh(&format!("{} {}", words.next()?, words.next()?)).ok()
}

/// Where the options end: at the first blank outside of quotes.
fn end_of_options(line: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b' ' | b'\t' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn parse_options(text: &str) -> Result<KeyOptions, String> {
    let mut options = KeyOptions::default();
    for (name, value) in split_options(text)? {
        options.set(&name.to_ascii_lowercase(), value)?;
    }
    Ok(options)
}

/// `name`, `name="value"`, separated by commas; `\"` in a value is a quote.
fn split_options(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != ',' && *c != '=') {
            name.push(c);
        }
        let mut value = None;
        if chars.next_if_eq(&'=').is_some() {
            if chars.next() != Some('"') {
                return Err(format!("option {name} has no quotes"));
            }
            let mut text = String::new();
            loop {
                match chars.next() {
                    None => return Err(format!("option {name} has no closing quote")),
                    Some('"') => break,
                    Some('\\') if chars.next_if_eq(&'"').is_some() => text.push('"'),
                    Some(c) => text.push(c),
                }
            }
            value = Some(text);
        }
        if name.is_empty() || chars.next().is_some_and(|c| c != ',') {
            return Err(format!("bad options \"{text}\""));
        }
        found.push((name, value));
    }
    Ok(found)
}

impl KeyOptions {
    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let unknown = || Err(format!("unknown key option {name}"));
        match (name, value) {
            ("restrict", None) => {
                self.pty = false;
                self.port_forwarding = false;
                self.agent_forwarding = false;
            }
            ("pty", None) => self.pty = true,
            ("no-pty", None) => self.pty = false,
            ("port-forwarding", None) => self.port_forwarding = true,
            ("no-port-forwarding", None) => self.port_forwarding = false,
            ("agent-forwarding", None) => self.agent_forwarding = true,
            ("no-agent-forwarding", None) => self.agent_forwarding = false,
            // There is neither X11 forwarding nor ~/.ssh/rc, and security keys always want a touch.
            (
                "x11-forwarding" | "no-x11-forwarding" | "user-rc" | "no-user-rc"
                | "no-touch-required",
                None,
            ) => {}
            ("command", Some(command)) if self.command.is_none() => self.command = Some(command),
            ("environment", Some(setting)) => match setting.split_once('=') {
                Some((name, value)) if valid_name(name) => {
                    self.environment.push((name.into(), value.into()))
                }
                _ => return Err(format!("bad environment option {setting}")),
            },
            ("from", Some(list)) if self.from.is_none() => self.from = Some(list),
            ("expiry-time", Some(time)) => {
                let time = parse_time(&time).ok_or(format!("bad expiry-time {time}"))?;
                self.expires = Some(self.expires.map_or(time, |old| old.min(time)));
            }
            ("permitopen", Some(target)) => self.permit_open.push(target),
            ("permitlisten", Some(target)) => self.permit_listen.push(target),
            _ => return unknown(),
        }
        Ok(())
    }

    fn admit(self, peer: IpAddr, now: u64) -> Result<KeyOptions, String> {
        if let Some(list) = &self.from
            && pattern::address(peer, list) != Verdict::Match
        {
            return Err(format!("not from a permitted host (ip={peer})"));
        }
        if self.expires.is_some_and(|time| now >= time) {
            return Err("the key has expired".into());
        }
        Ok(self)
    }

    /// Whether `ssh -L` may lead to `host` and `port`.
    pub fn may_open(&self, host: &str, port: u32) -> bool {
        self.permit_open.is_empty()
            || self
                .permit_open
                .iter()
                .any(|target| target_fits(target, host, port))
    }

    /// Whether `ssh -R` may listen on `host` and `port`.
    pub fn may_listen(&self, host: &str, port: u32) -> bool {
        let fits = |target: &String| match target.rsplit_once(':') {
            // A port alone is one of the loopback's, whatever name the client gives that.
            None => target == "*" || target.parse() == Ok(port),
            Some(_) => target_fits(target, host, port),
        };
        self.permit_listen.is_empty() || self.permit_listen.iter().any(fits)
    }
}

/// `HOST:PORT`, `[HOST]:PORT`; `*` for any.
fn target_fits(target: &str, host: &str, port: u32) -> bool {
    let Some((wanted, number)) = target.rsplit_once(':') else {
        return false;
    };
    let wanted = wanted.trim_start_matches('[').trim_end_matches(']');
    (wanted == "*" || wanted == host) && (number == "*" || number.parse() == Ok(port))
}

fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `YYYYMMDD[HHMM[SS]][Z]` in seconds since 1970. The system's clock is UTC.
fn parse_time(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    if !matches!(text.len(), 8 | 12 | 14) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number =
        |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse::<u64>().ok());
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = number(8, 10).unwrap_or(0) * 3600
        + number(10, 12).unwrap_or(0) * 60
        + number(12, 14).unwrap_or(0);
    Some(days_since_1970(year, month, day) * 86400 + seconds)
}

/// Days from 1970-01-01, in the calendar whose years start in March: leap days then come last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn look(text: &str) -> Result<Option<KeyOptions>, String> {
        find(
            text,
            &PublicKey::from_openssh(KEY).unwrap(),
            "10.0.2.2".parse().unwrap(),
            1_700_000_000,
        )
    }

    fn options(text: &str) -> KeyOptions {
        look(&format!("{text} {KEY} me@host")).unwrap().unwrap()
    }

    #[test]
    fn plain_keys_comments_and_junk() {
        assert_eq!(
            look(&format!("# mine\n\n{OTHER} a\n{KEY} a comment \u{fc}\n")),
            Ok(Some(KeyOptions::default()))
        );
        assert_eq!(
            look(&format!(
                "{OTHER}\nssh-ed25519 AAAA\nssh-rsa\n\"\njunk junk junk"
            )),
            Ok(None)
        );
        assert_eq!(look(&format!("#{KEY}")), Ok(None));
        assert_eq!(
            look(&format!("\t {KEY}\r")),
            Ok(Some(KeyOptions::default()))
        );
    }

    #[test]
    fn options_restrict() {
        let restricted = options("restrict,pty,command=\"echo \\\"a, b\\\" c\"");
        assert_eq!(restricted.command.as_deref(), Some("echo \"a, b\" c"));
        assert!(restricted.pty && !restricted.port_forwarding && !restricted.agent_forwarding);
        assert!(!options("no-pty,no-X11-forwarding").pty);
        let env = options("environment=\"A=b=c\",environment=\"D=\"");
        assert_eq!(
            env.environment,
            [("A".into(), "b=c".into()), ("D".into(), "".into())]
        );
    }

    #[test]
    fn what_is_not_understood_lets_nobody_in() {
        for bad in [
            "unknown",
            "command",
            "command=\"a\",command=\"b\"",
            "command=x",
            "no-pty=\"x\"",
            "restrict,,pty",
            "cert-authority",
            "verify-required",
            "environment=\"=x\"",
            "environment=\"LD PRELOAD=x\"",
            "expiry-time=\"never\"",
            "principals=\"x\"",
        ] {
            assert!(look(&format!("{bad} {KEY}")).is_err(), "{bad}");
        }
        // A later line may let it in.
        assert!(look(&format!("unknown {KEY}\n{KEY}\n")).is_ok_and(|found| found.is_some()));
    }

    #[test]
    fn from_and_expiry() {
        assert!(look(&format!("from=\"10.0.0.0/8,!10.0.2.3\" {KEY}")).is_ok());
        assert!(look(&format!("from=\"*,!10.0.2.2\" {KEY}")).is_err());
        assert!(look(&format!("from=\"192.168.0.*\" {KEY}")).is_err());
        assert!(look(&format!("expiry-time=\"20231114221320Z\" {KEY}")).is_err());
        assert!(look(&format!("expiry-time=\"20231114221321\" {KEY}")).is_ok());
        assert_eq!(parse_time("19700101"), Some(0));
        assert_eq!(parse_time("20240229"), Some(1_709_164_800));
        assert_eq!(parse_time("202402290101"), Some(1_709_164_800 + 3660));
        assert_eq!(parse_time("20241301"), None);
    }

    #[test]
    fn where_forwarding_may_lead() {
        let options =
            options("permitopen=\"localhost:80\",permitopen=\"[::1]:*\",permitlisten=\"8080\"");
        assert!(options.may_open("localhost", 80) && options.may_open("::1", 22));
        assert!(!options.may_open("localhost", 81));
        assert!(options.may_listen("localhost", 8080) && !options.may_listen("localhost", 8081));
        assert!(KeyOptions::default().may_open("anything", 1));
    }
}
