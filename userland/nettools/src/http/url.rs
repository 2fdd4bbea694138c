//! URLs as people type them and as servers redirect to (RFC 3986).

use std::fmt;

/// A URL that can be asked for. User and password are decoded; the path is
/// encoded, starts with a slash and has the query with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// In lower case.
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// Without brackets.
    pub host: String,
    /// As written; `None` for the scheme's own.
    pub port: Option<u16>,
    /// With the query.
    pub path: String,
}

impl Url {
    /// Reads `text`; without a scheme it is taken for `http`.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ => ("http".to_owned(), text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (user, password) =
            match user_info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
                Some((user, password)) => (Some(decoded(user)), Some(decoded(password))),
                None => (None, None),
            };
        let (host, port) = split_port(host_port)?;
        if host.is_empty() && scheme != "file" {
            return Err("No host part in the URL".into());
        }
        if host
            .bytes()
            .any(|b| !(b.is_ascii_graphic()) || b"<>\"\\^`{|}%".contains(&b))
        {
            return Err("Bad host part in the URL".into());
        }
        Ok(Url {
            scheme,
            user,
            password,
            host: host.to_ascii_lowercase(),
            port,
            path: path_and_query(path),
        })
    }

    /// The URL that `text`, a redirection's target, means from here.
    pub fn join(&self, text: &str) -> Result<Url, String> {
        let text = text.trim();
        if let Some((scheme, _)) = text.split_once("://")
            && is_scheme(scheme)
        {
            return Url::parse(text);
        }
        if text.starts_with("//") {
            return Url::parse(&format!("{}:{text}", self.scheme));
        }
        let (path, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let joined = if text.starts_with('/') {
            text.to_owned()
        } else if text.starts_with('?') {
            format!("{path}{text}")
        } else if text.is_empty() || text.starts_with('#') {
            self.path.clone()
        } else {
            let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
            format!("{folder}{text}")
        };
        let (path, query) = match joined.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (joined.as_str(), String::new()),
        };
        Ok(Url {
            path: path_and_query(&(without_dots(path) + &query)),
            ..self.clone()
        })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        let default = if self.scheme == "https" { 443 } else { 80 };
        self.port.unwrap_or(default)
    }

    /// Host, in brackets if need be, and the port if it was given.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// Whether both lead to the same server, so that it may see our password.
    pub fn same_server(&self, other: &Url) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port() == other.port()
    }

    /// The name for a file of it: the last part of the path, `None` if that is
    /// empty. Never a path itself.
    pub fn file_name(&self) -> Option<String> {
        let (path, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let name = decoded(path.rsplit('/').next().unwrap_or(""));
        match name.as_str() {
            "" | "." | ".." => None,
            // What would be a path, or would speak to a terminal that lists it.
            name => Some(name.replace(|c: char| c == '/' || c.is_control(), "_")),
        }
    }
}

impl fmt::Display for Url {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("Bad IPv6 address in the URL")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("Bad IPv6 address in the URL".into());
            }
            match after.strip_prefix(':') {
                Some(port) => (host, port),
                None if after.is_empty() => (host, ""),
                None => return Err("Bad host part in the URL".into()),
            }
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    match port {
        "" => Ok((host, None)),
        port => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => {
                Ok((host, Some(number)))
            }
            _ => Err("Port number was not a decimal number between 1 and 65535".into()),
        },
    }
}

/// The path, with a slash at least, and the query; what may not stand in a
/// request is encoded, the fragment is dropped.
fn path_and_query(text: &str) -> String {
    let text = text.split('#').next().unwrap_or("");
    let mut out = String::with_capacity(text.len() + 1);
    if !text.starts_with('/') {
        out.push('/');
    }
    for byte in text.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => encode(&mut out, byte),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => encode(&mut out, byte),
        }
    }
    out
}

fn encode(out: &mut String, byte: u8) {
    use fmt::Write as _;
    // Writing to a String cannot fail.
    _ = write!(out, "%{byte:02X}");
}

/// Without `%xx`; what is not UTF-8 then is replaced.
pub fn decoded(text: &str) -> String {
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A path without `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        match *part {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Url::parse(text).expect("legal").to_string()
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        assert_eq!(shown("example.com"), "http://example.com/");
        assert_eq!(
            shown("Example.com:8080/a b?c=d e#f"),
            "http://example.com:8080/a%20b?c=d%20e"
        );
        assert_eq!(shown("HTTPS://x?q"), "https://x/?q");
        assert_eq!(shown("http://[::1]:99/ä"), "http://[::1]:99/%C3%A4");
        assert_eq!(shown("http://x/%20{a}"), "http://x/%20%7Ba%7D");
        assert_eq!(shown("file:///etc/passwd"), "file:///etc/passwd");
        assert_eq!(Url::parse("https://x").map(|u| u.port()), Ok(443));
    }

    #[test]
    fn users_are_split_off() {
        let url = Url::parse("http://me:p%40ss@host/").expect("legal");
        assert_eq!(
            (url.user.as_deref(), url.password.as_deref()),
            (Some("me"), Some("p@ss"))
        );
        assert_eq!(url.to_string(), "http://host/");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "http://",
            "http://:80/",
            "http://h:0/",
            "http://h:x/",
            "http://h:99999/",
            "http://[::1/",
            "http://[zz]/",
            "http://a b/",
            "http://h:+80/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirections_are_relative() {
        let base = Url::parse("http://h:81/a/b/c?q").expect("legal");
        for (text, expected) in [
            ("/x", "http://h:81/x"),
            ("x", "http://h:81/a/b/x"),
            ("../x?y", "http://h:81/a/x?y"),
            ("../../../../x", "http://h:81/x"),
            ("./", "http://h:81/a/b/"),
            ("?z", "http://h:81/a/b/c?z"),
            ("", "http://h:81/a/b/c?q"),
            ("//other/x", "http://other/x"),
            ("https://other", "https://other/"),
        ] {
            assert_eq!(
                base.join(text).map(|u| u.to_string()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        assert!(base.same_server(&base.join("/x").expect("legal")));
        assert!(!base.same_server(&base.join("//h/x").expect("legal")));
    }

    #[test]
    fn file_names_are_no_paths() {
        let name = |text: &str| Url::parse(text).expect("legal").file_name();
        assert_eq!(
            name("http://h/a/b.tar.gz?x=/y").as_deref(),
            Some("b.tar.gz")
        );
        assert_eq!(name("http://h/a%20b").as_deref(), Some("a b"));
        assert_eq!(
            name("http://h/..%2f..%2fetc%2fpasswd").as_deref(),
            Some(".._.._etc_passwd")
        );
        assert_eq!(name("http://h/%1b[2J%00").as_deref(), Some("_[2J_"));
        assert_eq!(name("http://h/a/"), None);
        assert_eq!(name("http://h/%2e%2e"), None);
    }
}
