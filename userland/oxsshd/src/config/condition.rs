//! Match lines of sshd_config: what is asked of a client (man 5 sshd_config, Match).

use std::net::IpAddr;

use crate::pattern::{self, Verdict};

/// What a Match line can ask. What is not known fits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub user: Option<String>,
    /// No account has the user's name.
    pub invalid_user: bool,
    /// Names of the groups that the user is in.
    pub groups: Vec<String>,
    /// The host's name; its address, as names are not looked up (UseDNS no).
    pub host: Option<String>,
    pub address: Option<IpAddr>,
    pub local_address: Option<IpAddr>,
    pub local_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Criterion {
    User(String),
    InvalidUser,
    Group(String),
    Host(String),
    Address(String),
    LocalAddress(String),
    LocalPort(u16),
}

/// A Match line: all of its criteria have to fit. None of them are there for `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(Vec<Criterion>);

impl Condition {
    /// # Errors
    /// What is wrong with the arguments of a Match line, in OpenSSH's words.
    pub fn parse(words: &[String]) -> Result<Condition, String> {
        let mut criteria = Vec::new();
        let mut words = words.iter();
        while let Some(name) = words.next() {
            let kind = name.to_ascii_lowercase();
            if kind == "all" {
                if !criteria.is_empty() || words.next().is_some() {
                    return Err("'all' cannot be combined with other Match attributes".into());
                }
                return Ok(Condition(criteria));
            }
            if kind == "invalid-user" {
                criteria.push(Criterion::InvalidUser);
                continue;
            }
            let make: fn(&str) -> Option<Criterion> = match kind.as_str() {
                "user" => |list| Some(Criterion::User(list.into())),
                "group" => |list| Some(Criterion::Group(list.into())),
                "host" => |list| Some(Criterion::Host(list.to_ascii_lowercase())),
                "address" => |list| Some(Criterion::Address(addresses(list)?)),
                "localaddress" => |list| Some(Criterion::LocalAddress(addresses(list)?)),
                "localport" => |port| Some(Criterion::LocalPort(super::keyword::port(port)?)),
                _ => return Err(format!("Unsupported Match attribute {name}")),
            };
            let list = words.next().filter(|list| !list.is_empty());
            let list = list.ok_or_else(|| format!("Missing Match criteria for {name}"))?;
            criteria.push(make(list).ok_or_else(|| match kind.as_str() {
                "localport" => format!("Invalid LocalPort '{list}' on Match line"),
                _ => format!("Bad Match condition: invalid {name} list '{list}'"),
            })?);
        }
        if criteria.is_empty() {
            return Err("One or more attributes required for Match".into());
        }
        Ok(Condition(criteria))
    }

    /// Whether every client fits.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    pub fn fits(&self, client: &Client) -> bool {
        self.0.iter().all(|criterion| criterion.fits(client))
    }
}

impl Criterion {
    fn fits(&self, client: &Client) -> bool {
        let text = |known: &Option<String>, list: &str| {
            known
                .as_deref()
                .is_some_and(|text| pattern::list(text, list) == Verdict::Match)
        };
        let address = |known: Option<IpAddr>, list: &str| {
            known.is_some_and(|known| pattern::address(known, list) == Verdict::Match)
        };
        match self {
            Criterion::User(list) => text(&client.user, list),
            Criterion::InvalidUser => client.user.is_some() && client.invalid_user,
            Criterion::Group(list) => {
                let mut verdicts = client.groups.iter().map(|name| pattern::list(name, list));
                // One group that is excluded decides for all of them.
                verdicts.clone().any(|verdict| verdict == Verdict::Match)
                    && verdicts.all(|verdict| verdict != Verdict::Negated)
            }
            Criterion::Host(list) => text(&client.host, list),
            Criterion::Address(list) => address(client.address, list),
            Criterion::LocalAddress(list) => address(client.local_address, list),
            Criterion::LocalPort(port) => client.local_port == Some(*port),
        }
    }
}

fn addresses(list: &str) -> Option<String> {
    pattern::is_address_list(list).then(|| list.to_string())
}

impl Client {
    /// Reads what `sshd -C` says: `keyword=value`, separated by commas.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_test_values(&mut self, spec: &str) -> Result<(), String> {
        for part in spec.split(',') {
            let wrong = || format!("Invalid test mode specification {part}");
            if part == "invalid-user" {
                self.invalid_user = true;
                continue;
            }
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            match name {
                "user" => self.user = Some(value.into()),
                "host" => self.host = Some(value.to_ascii_lowercase()),
                "addr" => self.address = Some(value.parse().map_err(|_| wrong())?),
                "laddr" => self.local_address = Some(value.parse().map_err(|_| wrong())?),
                "lport" => {
                    let port = super::keyword::port(value);
                    self.local_port = Some(port.ok_or_else(|| {
                        format!("Invalid port '{value}' in test mode specification {part}")
                    })?);
                }
                "rdomain" => {}
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Condition, String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        Condition::parse(&words)
    }

    fn client() -> Client {
        let mut client = Client {
            groups: vec!["ada".into(), "staff".into()],
            ..Client::default()
        };
        let spec = "user=ada,host=Gate.example,addr=10.0.2.2,laddr=10.0.2.15,lport=22";
        client.add_test_values(spec).unwrap();
        client
    }

    #[test]
    fn criteria_fit_or_not() {
        for (line, fits) in [
            ("all", true),
            ("User ada", true),
            ("user bob,a*", true),
            ("User *,!ada", false),
            ("User !bob", false),
            ("Group staff", true),
            ("Group *,!staff", false),
            ("Group wheel", false),
            ("Host *.EXAMPLE", true),
            ("Host *.org", false),
            ("Address 10.0.0.0/8", true),
            ("Address 10.0.0.0/8,!10.0.2.2", false),
            ("Address 192.168.*", false),
            ("LocalAddress 10.0.2.15", true),
            ("LocalPort 22", true),
            ("LocalPort 2222", false),
            ("User ada LocalPort 22 Address 10.0.2.0/24", true),
            ("User ada LocalPort 23", false),
            ("invalid-user", false),
        ] {
            let condition = parse(line).unwrap();
            assert_eq!(condition.fits(&client()), fits, "{line}");
            assert_eq!(condition.fits(&Client::default()), line == "all", "{line}");
        }
    }

    #[test]
    fn lines_that_are_wrong() {
        for (line, error) in [
            ("", "One or more attributes required for Match"),
            (
                "all User x",
                "'all' cannot be combined with other Match attributes",
            ),
            (
                "User x all",
                "'all' cannot be combined with other Match attributes",
            ),
            ("User", "Missing Match criteria for User"),
            ("Colour red", "Unsupported Match attribute Colour"),
            ("LocalPort x", "Invalid LocalPort 'x' on Match line"),
            (
                "Address 10.0.2.2/8",
                "Bad Match condition: invalid Address list '10.0.2.2/8'",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
        for spec in ["x", "addr=host", "lport=0", "colour=red"] {
            assert!(Client::default().add_test_values(spec).is_err(), "{spec}");
        }
    }
}
