//! What each keyword of sshd_config does with its arguments (man 5 sshd_config).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use super::Config;
use super::value::{Forwarding, Gateway, PermitRoot, Startups, seconds};
use crate::log::Level;

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

/// Keywords that OpenSSH permits in a Match block, as far as they are known here.
const FOR_SOME: [&str; 33] = [
    "acceptenv",
    "allowagentforwarding",
    "allowgroups",
    "allowstreamlocalforwarding",
    "allowtcpforwarding",
    "allowusers",
    "authorizedkeysfile",
    "banner",
    "clientalivecountmax",
    "clientaliveinterval",
    "denygroups",
    "denyusers",
    "disableforwarding",
    "forcecommand",
    "gatewayports",
    "gssapiauthentication",
    "hostbasedauthentication",
    "ignorerhosts",
    "ipqos",
    "kbdinteractiveauthentication",
    "kerberosauthentication",
    "loglevel",
    "maxauthtries",
    "maxsessions",
    "passwordauthentication",
    "permitemptypasswords",
    "permitrootlogin",
    "permittty",
    "permittunnel",
    "pubkeyauthentication",
    "rekeylimit",
    "streamlocalbindunlink",
    "subsystem",
];

/// The name under which a keyword is known.
pub fn canonical(original: &str) -> String {
    let keyword = original.to_ascii_lowercase();
    match keyword.as_str() {
        "challengeresponseauthentication" => "kbdinteractiveauthentication".into(),
        _ => keyword,
    }
}

/// Whether values add up instead of the first one's counting.
pub fn adds_up(keyword: &str) -> bool {
    LISTS.contains(&keyword)
}

/// Whether a Match block may have the keyword.
pub fn may_differ(keyword: &str) -> bool {
    FOR_SOME.contains(&keyword) || keyword.starts_with("x11")
}

/// Empties what a keyword that adds up has put together, of subsystems the one called `name`.
pub fn clear(config: &mut Config, keyword: &str, name: &str) {
    match keyword {
        "acceptenv" => config.accept_env.clear(),
        "allowusers" => config.allow_users.clear(),
        "denyusers" => config.deny_users.clear(),
        "allowgroups" => config.allow_groups.clear(),
        "denygroups" => config.deny_groups.clear(),
        "subsystem" => config.subsystems.retain(|(known, _)| known != name),
        _ => {}
    }
}

/// Takes one keyword's arguments, of which there is at least one.
///
/// # Errors
/// What is wrong with them, in OpenSSH's words.
pub fn apply(
    config: &mut Config,
    original: &str,
    keyword: &str,
    words: &[String],
) -> Result<(), String> {
    let word = words.first().map(String::as_str).unwrap_or_default();
    let list = || words.iter().cloned();
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
            match words.get(1).map(String::as_str) {
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
        "kbdinteractiveauthentication" => config.kbd_interactive_authentication = flag()?,
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
            if config.subsystem(word).is_none() {
                config
                    .subsystems
                    .push((word.to_string(), command.join(" ")));
            }
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

/// A port number; 0 is none.
pub fn port(text: &str) -> Option<u16> {
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
}
