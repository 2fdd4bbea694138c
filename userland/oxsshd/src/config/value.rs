//! Values of sshd_config that are more than a flag or a number.

use std::borrow::Cow;
use std::fmt;

use russh::{cipher, kex, mac};

use super::Penalties;

/// PermitRootLogin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitRoot {
    Yes,
    ProhibitPassword,
    ForcedCommandsOnly,
    No,
}

impl PermitRoot {
    pub fn from_name(name: &str) -> Option<PermitRoot> {
        Some(match name {
            "yes" => PermitRoot::Yes,
            "prohibit-password" | "without-password" => PermitRoot::ProhibitPassword,
            "forced-commands-only" => PermitRoot::ForcedCommandsOnly,
            "no" => PermitRoot::No,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            PermitRoot::Yes => "yes",
            PermitRoot::ProhibitPassword => "prohibit-password",
            PermitRoot::ForcedCommandsOnly => "forced-commands-only",
            PermitRoot::No => "no",
        }
    }
}

/// AllowTcpForwarding and AllowStreamLocalForwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The client's ports lead to what this machine reaches (`ssh -L`).
    pub local: bool,
    /// This machine's ports lead to the client (`ssh -R`).
    pub remote: bool,
}

impl Forwarding {
    pub const ALL: Forwarding = Forwarding {
        local: true,
        remote: true,
    };

    pub const NONE: Forwarding = Forwarding {
        local: false,
        remote: false,
    };

    pub fn from_name(name: &str) -> Option<Forwarding> {
        let (local, remote) = match name {
            "yes" | "all" => (true, true),
            "no" => (false, false),
            "local" => (true, false),
            "remote" => (false, true),
            _ => return None,
        };
        Some(Forwarding { local, remote })
    }

    pub fn name(self) -> &'static str {
        match (self.local, self.remote) {
            (true, true) => "yes",
            (true, false) => "local",
            (false, true) => "remote",
            (false, false) => "no",
        }
    }
}

/// GatewayPorts: who may connect to remotely forwarded ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Loopback only.
    No,
    /// Everybody.
    Yes,
    /// As the client asks.
    ClientSpecified,
}

impl Gateway {
    pub fn from_name(name: &str) -> Option<Gateway> {
        Some(match name {
            "no" => Gateway::No,
            "yes" => Gateway::Yes,
            "clientspecified" => Gateway::ClientSpecified,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Gateway::No => "no",
            Gateway::Yes => "yes",
            Gateway::ClientSpecified => "clientspecified",
        }
    }
}

/// MaxStartups: from `begin` connections on `rate` percent are refused, rising to all at `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startups {
    pub begin: usize,
    pub rate: usize,
    pub full: usize,
}

impl Startups {
    pub fn from_text(text: &str) -> Option<Startups> {
        let mut numbers = text.split(':').map(|part| part.parse::<usize>());
        let begin = numbers.next()?.ok()?;
        let startups = match numbers.next() {
            None => Startups {
                begin,
                rate: 100,
                full: begin,
            },
            Some(rate) => Startups {
                begin,
                rate: rate.ok()?,
                full: numbers.next()?.ok()?,
            },
        };
        let sound = startups.begin >= 1
            && startups.begin <= startups.full
            && (1..=100).contains(&startups.rate);
        (sound && numbers.next().is_none()).then_some(startups)
    }
}

impl fmt::Display for Startups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.begin, self.rate, self.full)
    }
}

impl Penalties {
    /// Takes one word of PerSourcePenalties.
    pub fn set(&mut self, word: &str) -> Option<()> {
        match word {
            "yes" => self.enabled = true,
            "no" => self.enabled = false,
            _ => {
                let (name, value) = word.split_once(':')?;
                let field = match name {
                    "crash" => &mut self.crash,
                    "authfail" => &mut self.authfail,
                    "noauth" => &mut self.noauth,
                    "grace-exceeded" => &mut self.grace_exceeded,
                    "max" => &mut self.max,
                    "min" => &mut self.min,
                    _ => return None,
                };
                *field = seconds(value)?;
                self.enabled = true;
            }
        }
        Some(())
    }
}

impl fmt::Display for Penalties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.enabled {
            return f.write_str("no");
        }
        write!(
            f,
            "crash:{} authfail:{} noauth:{} grace-exceeded:{} max:{} min:{}",
            self.crash, self.authfail, self.noauth, self.grace_exceeded, self.max, self.min
        )
    }
}

/// A time of sshd_config in seconds: numbers with the units `s m h d w`, added up.
pub fn seconds(text: &str) -> Option<u64> {
    let mut sum: u64 = 0;
    let mut number: Option<u64> = None;
    for byte in text.bytes() {
        if byte.is_ascii_digit() {
            number = Some(
                number
                    .unwrap_or(0)
                    .checked_mul(10)?
                    .checked_add(u64::from(byte - b'0'))?,
            );
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86400,
            b'w' => 7 * 86400,
            _ => return None,
        };
        sum = sum.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    if text.is_empty() {
        None
    } else {
        sum.checked_add(number.unwrap_or(0))
    }
}

/// An ordered choice of algorithms: KexAlgorithms, Ciphers or MACs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Algorithms {
    names: Vec<String>,
    /// Everything that can be chosen.
    known: &'static [&'static str],
}

const KEX: &[&str] = &[
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
    "mlkem768x25519-sha256",
];
const CIPHERS: &[&str] = &[
    "chacha20-poly1305@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
];
const MACS: &[&str] = &[
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
];

impl Algorithms {
    fn new(default: &[&str], known: &'static [&'static str]) -> Algorithms {
        Algorithms {
            names: default.iter().map(|name| name.to_string()).collect(),
            known,
        }
    }

    /// Key exchanges. The hybrid with ML-KEM first, as OpenSSH since 10.0.
    pub fn kex() -> Algorithms {
        let mut default = vec!["mlkem768x25519-sha256"];
        default.extend(KEX.iter().filter(|name| **name != "mlkem768x25519-sha256"));
        Algorithms::new(&default, KEX)
    }

    pub fn ciphers() -> Algorithms {
        Algorithms::new(CIPHERS, CIPHERS)
    }

    pub fn macs() -> Algorithms {
        Algorithms::new(MACS, MACS)
    }

    /// Takes a value of sshd_config: a list, or one that starts with `+` (append), `-` (remove) or `^` (put first).
    pub fn set(&mut self, text: &str) -> Option<()> {
        let (mode, list) = match text.as_bytes().first()? {
            mode @ (b'+' | b'-' | b'^') => (*mode, &text[1..]),
            _ => (b'=', text),
        };
        let words: Vec<&str> = list.split(',').collect();
        if mode == b'-' {
            self.names
                .retain(|name| !words.iter().any(|word| crate::pattern::matches(name, word)));
            return (!self.names.is_empty()).then_some(());
        }
        if !words.iter().all(|word| self.known.contains(word)) {
            return None;
        }
        let mut words: Vec<String> = words.into_iter().map(String::from).collect();
        let old = std::mem::take(&mut self.names);
        self.names = match mode {
            b'+' => old.into_iter().chain(words).collect(),
            b'^' => words.drain(..).chain(old).collect(),
            _ => words,
        };
        let mut seen = std::collections::BTreeSet::new();
        self.names.retain(|name| seen.insert(name.clone()));
        Some(())
    }

    /// The key exchanges in the library's terms, with the markers of extensions.
    pub fn kex_names(&self) -> Cow<'static, [kex::Name]> {
        let mut names: Vec<kex::Name> = self
            .names
            .iter()
            .filter_map(|name| kex::Name::try_from(name.as_str()).ok())
            .collect();
        names.push(kex::EXTENSION_SUPPORT_AS_SERVER);
        names.push(kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER);
        Cow::Owned(names)
    }

    pub fn cipher_names(&self) -> Cow<'static, [cipher::Name]> {
        Cow::Owned(
            self.names
                .iter()
                .filter_map(|name| cipher::Name::try_from(name.as_str()).ok())
                .collect(),
        )
    }

    pub fn mac_names(&self) -> Cow<'static, [mac::Name]> {
        Cow::Owned(
            self.names
                .iter()
                .filter_map(|name| mac::Name::try_from(name.as_str()).ok())
                .collect(),
        )
    }
}

impl fmt::Display for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("2w"), Some(1209600));
        assert_eq!(seconds(""), None);
        assert_eq!(seconds("m"), None);
        assert_eq!(seconds("1x"), None);
        assert_eq!(seconds("99999999999999999999"), None);
    }

    #[test]
    fn startups() {
        assert_eq!(
            Startups::from_text("10:30:100"),
            Some(Startups {
                begin: 10,
                rate: 30,
                full: 100
            })
        );
        assert_eq!(
            Startups::from_text("5"),
            Some(Startups {
                begin: 5,
                rate: 100,
                full: 5
            })
        );
        for wrong in [
            "",
            "0",
            "10:30",
            "10:0:100",
            "10:101:100",
            "20:30:10",
            "1:2:3:4",
        ] {
            assert_eq!(Startups::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn algorithm_lists() {
        let mut ciphers = Algorithms::ciphers();
        ciphers.set("^aes256-ctr").unwrap();
        assert!(ciphers.to_string().starts_with("aes256-ctr,chacha20"));
        ciphers.set("-aes*").unwrap();
        assert_eq!(ciphers.to_string(), "chacha20-poly1305@openssh.com");
        assert_eq!(ciphers.set("3des-cbc"), None);
        // Every name that can be chosen is one that the library has.
        assert_eq!(Algorithms::ciphers().cipher_names().len(), CIPHERS.len());
        assert_eq!(Algorithms::kex().kex_names().len(), KEX.len() + 2);
        assert_eq!(Algorithms::macs().mac_names().len(), MACS.len());
    }
}
