//! The syntax of sshd_config: one keyword and its arguments per line, arguments in double quotes where they have blanks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use super::Config;
use super::value::{Forwarding, Gateway, PermitRoot, Startups, seconds};
use crate::log::Level;

/// What is wrong with a line, in OpenSSH's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file, self.line, self.text)
    }
}

/// Keywords that may come several times and add up.
const LISTS: [&str; 11] = [
    "port",
    "listenaddress",
    "hostkey",
    "acceptenv",
    "allowusers",
    "denyusers",
    "allowgroups",
    "denygroups",
    "subsystem",
    "persourcepenalties",
    "persourcepenaltyexemptlist",
];

pub fn parse(text: &str, file: &str) -> Result<Config, Vec<Problem>> {
    let mut config = Config::default();
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        if let Err(text) = line_into(&mut config, line, &mut seen) {
            problems.push(Problem {
                file: file.to_string(),
                line: index + 1,
                text,
            });
        }
    }
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

/// Splits a line into words; `None` for a quote that is not closed. `#` starts a comment where a word could start.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.peek().is_some_and(|c| c.is_whitespace()) {
            chars.next();
        }
        match chars.peek() {
            None | Some('#') => return Some(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quoted = false;
        loop {
            match chars.peek().copied() {
                None if quoted => return None,
                None => break,
                Some('"') => quoted = !quoted,
                Some(c) if c.is_whitespace() && !quoted => break,
                // `Keyword=value` is allowed.
                Some('=') if words.is_empty() && !quoted => {
                    chars.next();
                    break;
                }
                Some(c) => word.push(c),
            }
            chars.next();
        }
        words.push(word);
        // `Keyword = value` too.
        if words.len() == 1 {
            while chars.peek().is_some_and(|c| c.is_whitespace()) {
                chars.next();
            }
            if chars.peek() == Some(&'=') {
                chars.next();
            }
        }
    }
}

fn line_into(config: &mut Config, line: &str, seen: &mut BTreeSet<String>) -> Result<(), String> {
    let mut words = words(line).ok_or("missing end quote")?;
    if words.is_empty() {
        return Ok(());
    }
    let original = words.remove(0);
    let keyword = original.to_ascii_lowercase();
    let mut scratch;
    let first = LISTS.contains(&keyword.as_str()) || seen.insert(keyword.clone());
    let config = if first {
        config
    } else {
        // A second value is checked and has no effect.
        scratch = config.clone();
        &mut scratch
    };
    if words.is_empty() {
        return Err(format!("{original}: missing argument."));
    }
    let arguments = words.iter().map(String::as_str).collect::<Vec<_>>();
    keyword_into(config, &original, &keyword, &arguments)
}

fn keyword_into(
    config: &mut Config,
    original: &str,
    keyword: &str,
    words: &[&str],
) -> Result<(), String> {
    let word = words.first().copied().unwrap_or_default();
    let list = || words.iter().map(|word| word.to_string());
    let bad = || format!("unsupported option \"{word}\".");
    let number =
        || usize::from_str(word).map_err(|_| format!("{original}: integer value {word} invalid."));
    let time = || {
        seconds(word)
            .map(Duration::from_secs)
            .ok_or_else(|| format!("invalid time value {word}."))
    };
    let flag = || match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(bad()),
    };
    let path = || {
        if word == "none" {
            None
        } else {
            Some(word.into())
        }
    };
    // Those that take one argument.
    let many = matches!(
        keyword,
        "acceptenv"
            | "allowusers"
            | "denyusers"
            | "allowgroups"
            | "denygroups"
            | "authorizedkeysfile"
            | "subsystem"
            | "persourcepenalties"
            | "forcecommand"
            | "listenaddress"
            | "rekeylimit"
            | "ipqos"
            | "permitopen"
            | "permitlisten"
            | "match"
            | "include"
    );
    if !many && words.len() > 1 {
        return Err(format!("keyword {original} extra arguments at end of line"));
    }
    match keyword {
        "port" => config
            .ports
            .push(port(word).ok_or("Badly formatted port number.")?),
        "listenaddress" => config
            .listen
            .push(listen_address(word).ok_or_else(|| format!("bad address {word}"))?),
        "addressfamily" => {
            (config.inet, config.inet6) = match word {
                "any" => (true, true),
                "inet" => (true, false),
                "inet6" => (false, true),
                _ => return Err(bad()),
            }
        }
        "hostkey" => config.host_keys.push(word.into()),
        "pidfile" => config.pid_file = path(),
        "loglevel" => {
            config.log_level =
                Level::from_name(word).ok_or_else(|| format!("unsupported log level '{word}'"))?
        }
        "syslogfacility" => {
            config.log_facility = match word.to_ascii_uppercase().as_str() {
                "DAEMON" => 3,
                "USER" => 1,
                "AUTH" => 4,
                "AUTHPRIV" => 10,
                local => match local
                    .strip_prefix("LOCAL")
                    .and_then(|n| n.parse::<u8>().ok())
                {
                    Some(n) if n < 8 => 16 + n,
                    _ => return Err(format!("unsupported log facility '{word}'")),
                },
            }
        }
        "logingracetime" => config.login_grace = time()?,
        "maxauthtries" => config.max_auth_tries = number()?,
        "maxsessions" => config.max_sessions = number()?,
        "maxstartups" => {
            config.max_startups = Startups::from_text(word).ok_or("Illegal MaxStartups spec.")?
        }
        "persourcemaxstartups" => {
            config.per_source_startups = if word == "none" {
                None
            } else {
                Some(number()?)
            }
        }
        "persourcepenalties" => {
            for word in words {
                config
                    .penalties
                    .set(word)
                    .ok_or_else(|| format!("invalid PerSourcePenalties \"{word}\""))?;
            }
        }
        "persourcepenaltyexemptlist" => config.penalties.exempt.push(word.to_string()),
        "clientaliveinterval" => config.client_alive_interval = time()?,
        "clientalivecountmax" => config.client_alive_count = number()?,
        "tcpkeepalive" => config.tcp_keep_alive = flag()?,
        "kexalgorithms" => config
            .kex
            .set(word)
            .ok_or_else(|| format!("Bad SSH2 KexAlgorithms '{word}'."))?,
        "ciphers" => config
            .ciphers
            .set(word)
            .ok_or_else(|| format!("Bad SSH2 ciphers '{word}'."))?,
        "macs" => config
            .macs
            .set(word)
            .ok_or_else(|| format!("Bad SSH2 MACs '{word}'."))?,
        "rekeylimit" => {
            if word != "default" && word != "none" {
                // Above 1 GiB a key is never used (RFC 4253, 9).
                let bytes = size(word)
                    .filter(|bytes| *bytes >= 16)
                    .ok_or("rekeylimit: bad size")?;
                config.rekey_bytes = bytes.min(1 << 30);
            }
            match words.get(1).copied() {
                None | Some("none") => {}
                Some(time) => {
                    let time = seconds(time)
                        .filter(|time| *time > 0)
                        .ok_or(format!("invalid time value {time}."))?;
                    config.rekey_time = Duration::from_secs(time);
                }
            }
        }
        "permitrootlogin" => config.permit_root = PermitRoot::from_name(word).ok_or_else(bad)?,
        "pubkeyauthentication" => config.pubkey_authentication = flag()?,
        "passwordauthentication" => config.password_authentication = flag()?,
        "kbdinteractiveauthentication" | "challengeresponseauthentication" => {
            config.kbd_interactive_authentication = flag()?;
        }
        "permitemptypasswords" => config.permit_empty_passwords = flag()?,
        "authorizedkeysfile" => config.authorized_keys_files = list().collect(),
        "strictmodes" => config.strict_modes = flag()?,
        "allowusers" => config.allow_users.extend(list()),
        "denyusers" => config.deny_users.extend(list()),
        "allowgroups" => config.allow_groups.extend(list()),
        "denygroups" => config.deny_groups.extend(list()),
        "banner" => config.banner = path(),
        "acceptenv" => config.accept_env.extend(list()),
        "permituserenvironment" => config.permit_user_environment = flag()?,
        "permittty" => config.permit_tty = flag()?,
        "printmotd" => config.print_motd = flag()?,
        "forcecommand" => config.force_command = (word != "none").then(|| words.join(" ")),
        "subsystem" => {
            let command = words
                .get(1..)
                .filter(|rest| !rest.is_empty())
                .ok_or("Missing subsystem command.")?;
            if config.subsystem(word).is_some() {
                return Err(format!("Subsystem '{word}' already defined."));
            }
            config
                .subsystems
                .push((word.to_string(), command.join(" ")));
        }
        "allowtcpforwarding" => {
            config.tcp_forwarding = Forwarding::from_name(word).ok_or_else(bad)?
        }
        "allowstreamlocalforwarding" => {
            config.stream_local_forwarding = Forwarding::from_name(word).ok_or_else(bad)?
        }
        "streamlocalbindunlink" => config.stream_local_unlink = flag()?,
        "allowagentforwarding" => config.agent_forwarding = flag()?,
        "gatewayports" => config.gateway_ports = Gateway::from_name(word).ok_or_else(bad)?,
        "disableforwarding" => config.disable_forwarding = flag()?,
        // What is not there can only be off, and what OpenSSH's files set as a matter of course only to what is so.
        "x11forwarding"
        | "permittunnel"
        | "usepam"
        | "usedns"
        | "gssapiauthentication"
        | "kerberosauthentication"
        | "hostbasedauthentication"
        | "compression" => {
            if flag().unwrap_or(keyword == "compression") && keyword != "compression" {
                return Err(format!("{original} is not supported; only \"no\" is"));
            }
        }
        "printlastlog"
        | "ignorerhosts"
        | "useprivilegeseparation"
        | "ipqos"
        | "versionaddendum"
        | "x11uselocalhost"
        | "x11displayoffset" => {}
        "match" | "include" => return Err(format!("Directive '{original}' is not supported")),
        _ => return Err(format!("Bad configuration option: {original}")),
    }
    Ok(())
}

/// A size of RekeyLimit in bytes, with `K`, `M` or `G`.
fn size(text: &str) -> Option<usize> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

/// `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT`, `*` or `localhost`.
fn listen_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let address = IpAddr::V6(address.parse::<Ipv6Addr>().ok()?);
        return match after.strip_prefix(':') {
            Some(number) => Some((address, Some(port(number)?))),
            None => after.is_empty().then_some((address, None)),
        };
    }
    let (name, number) = match text.rsplit_once(':') {
        Some((name, number)) => (name, Some(port(number)?)),
        None => (text, None),
    };
    let address = match name {
        "*" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => name.parse().ok()?,
    };
    Some((IpAddr::V4(address), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "file").unwrap()
    }

    fn problem(text: &str) -> String {
        Config::parse(text, "f")
            .map(|_| ())
            .unwrap_err()
            .iter()
            .map(|p| p.to_string() + "|")
            .collect()
    }

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(words("  Port 22 # ssh").unwrap(), ["Port", "22"]);
        assert_eq!(
            words("Banner \"/etc/my issue\"").unwrap(),
            ["Banner", "/etc/my issue"]
        );
        assert_eq!(words("Port=22").unwrap(), ["Port", "22"]);
        assert_eq!(words("Port = 22").unwrap(), ["Port", "22"]);
        assert_eq!(words("ForceCommand a=b").unwrap(), ["ForceCommand", "a=b"]);
        assert!(words("Banner \"x").is_none());
        assert!(words("#Port 22").unwrap().is_empty());
    }

    #[test]
    fn defaults_are_openssh_s() {
        let config = config("");
        assert_eq!(config.ports, [22]);
        assert_eq!(config.permit_root, PermitRoot::ProhibitPassword);
        assert!(!config.permit_empty_passwords);
        assert!(config.strict_modes);
        assert_eq!(config.login_grace, Duration::from_secs(120));
    }

    #[test]
    fn first_value_counts_and_lists_add_up() {
        let config = config(
            "permitrootlogin no\nPermitRootLogin yes\nPort 22\nPort 2222\nAcceptEnv LANG LC_*\nAcceptEnv TZ\n",
        );
        assert_eq!(config.permit_root, PermitRoot::No);
        assert_eq!(config.ports, [22, 2222]);
        assert_eq!(config.accept_env, ["LANG", "LC_*", "TZ"]);
    }

    #[test]
    fn addresses() {
        assert_eq!(
            listen_address("10.0.0.1:2222"),
            Some(("10.0.0.1".parse().unwrap(), Some(2222)))
        );
        assert_eq!(listen_address("::1"), Some(("::1".parse().unwrap(), None)));
        assert_eq!(
            listen_address("[::1]:23"),
            Some(("::1".parse().unwrap(), Some(23)))
        );
        assert_eq!(listen_address("[::1"), None);
        assert_eq!(listen_address("host.example"), None);
        assert_eq!(listen_address("1.2.3.4:0"), None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(
            problem("\nPrt 22\n"),
            "f line 2: Bad configuration option: Prt|"
        );
        assert_eq!(
            problem("PermitRootLogin maybe"),
            "f line 1: unsupported option \"maybe\".|"
        );
        assert_eq!(problem("Port"), "f line 1: Port: missing argument.|");
        assert_eq!(
            problem("Port 70000"),
            "f line 1: Badly formatted port number.|"
        );
        assert_eq!(
            problem("X11Forwarding yes"),
            "f line 1: X11Forwarding is not supported; only \"no\" is|"
        );
        assert_eq!(
            problem("Match User x"),
            "f line 1: Directive 'Match' is not supported|"
        );
        assert_eq!(
            problem("StrictModes yes no"),
            "f line 1: keyword StrictModes extra arguments at end of line|"
        );
        assert_eq!(
            problem("Port 1\nPort x\nFoo y"),
            "f line 2: Badly formatted port number.|f line 3: Bad configuration option: Foo|"
        );
        // A second value has no effect and is checked all the same.
        assert_eq!(
            problem("UseDNS no\nUseDNS yes"),
            "f line 2: UseDNS is not supported; only \"no\" is|"
        );
    }

    #[test]
    fn subsystems_and_rekey() {
        let config = config("Subsystem sftp internal-sftp -l INFO\nRekeyLimit 512M 1h\n");
        assert_eq!(config.subsystem("sftp"), Some("internal-sftp -l INFO"));
        assert_eq!(config.rekey_bytes, 512 << 20);
        assert_eq!(config.rekey_time, Duration::from_secs(3600));
        assert!(problem("Subsystem sftp").contains("Missing subsystem command"));
    }
}
