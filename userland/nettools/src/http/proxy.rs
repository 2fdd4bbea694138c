//! Which proxy the environment names for a URL: `http_proxy`, `https_proxy`,
//! `all_proxy` and `no_proxy`, as curl reads them.

use std::net::IpAddr;

use super::url::Url;

/// The proxy for `url`, if any; `get` reads the environment. HTTP_PROXY in
/// capitals does not count: a CGI program's caller could set it.
pub fn for_url(url: &Url, get: impl Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name: &str| get(name).filter(|value| !value.is_empty());
    let excluded = set("no_proxy").or_else(|| set("NO_PROXY"));
    if excluded.is_some_and(|list| covers(&list, &url.host)) {
        return None;
    }
    let own = match url.scheme.as_str() {
        "https" => set("https_proxy").or_else(|| set("HTTPS_PROXY")),
        _ => set("http_proxy"),
    };
    own.or_else(|| set("all_proxy"))
        .or_else(|| set("ALL_PROXY"))
}

/// Whether the list of names, addresses and networks of `no_proxy` has `host`.
fn covers(list: &str, host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    let entries = list.split([',', ' ']).filter(|entry| !entry.is_empty());
    for entry in entries {
        if entry == "*" {
            return true;
        }
        if let Some(address) = address {
            if in_network(entry, address) {
                return true;
            }
            continue;
        }
        let name = entry.trim_start_matches('.').to_ascii_lowercase();
        let under = host.strip_suffix(&name);
        if under.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) {
            return true;
        }
    }
    false
}

/// Whether `entry`, an address or a network (`10.0.0.0/8`), has `address`.
fn in_network(entry: &str, address: IpAddr) -> bool {
    let entry = entry.trim_start_matches('[').trim_end_matches(']');
    let (base, bits) = match entry.split_once('/') {
        Some((base, bits)) => (base, bits.parse::<u32>().ok()),
        None => (entry, Some(128)),
    };
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let (Ok(base), Some(bits)) = (base.parse::<IpAddr>(), bits) else {
        return false;
    };
    let ((base_bits, width), (bits_of, other)) = (number(base), number(address));
    let same = (base_bits ^ bits_of).leading_zeros();
    width == other && same >= bits.min(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, environment: &[(&str, &str)]) -> Option<String> {
        let url = Url::parse(url).expect("legal");
        for_url(&url, |name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_scheme_has_its_own() {
        let both = [("http_proxy", "p:1"), ("https_proxy", "p:2")];
        assert_eq!(chosen("http://h/", &both).as_deref(), Some("p:1"));
        assert_eq!(chosen("https://h/", &both).as_deref(), Some("p:2"));
        assert_eq!(chosen("http://h/", &[("HTTP_PROXY", "p")]), None);
        assert_eq!(
            chosen("http://h/", &[("ALL_PROXY", "p")]).as_deref(),
            Some("p")
        );
        assert_eq!(chosen("http://h/", &[("http_proxy", "")]), None);
    }

    #[test]
    fn exceptions() {
        let through = |host: &str, list: &str| {
            let environment = [("http_proxy", "p"), ("no_proxy", list)];
            chosen(&format!("http://{host}/"), &environment).is_some()
        };
        assert!(!through("a.example.com", "example.com"));
        assert!(!through("a.example.com", ".example.com, other"));
        assert!(!through("example.com", ".example.com"));
        assert!(through("badexample.com", "example.com"));
        assert!(!through("h", "*"));
        assert!(!through("10.1.2.3", "10.0.0.0/8"));
        assert!(through("11.1.2.3", "10.0.0.0/8"));
        assert!(!through("[::1]", "::1"));
        assert!(through("10.0.0.1", "::/0"));
    }
}
