//! Pattern lists of sshd_config and authorized_keys (man 5 ssh_config, PATTERNS), and CIDR ranges.

use std::net::IpAddr;

/// Whether `text` matches `pattern`, where `*` stands for any characters and `?` for one.
pub fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut at, mut next) = (0, 0);
    // Where to go on when the characters after the last `*` do not match.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match pattern.get(next) {
            Some(b'*') => {
                star = Some((at, next + 1));
                next += 1;
                continue;
            }
            Some(&wanted)
                if at < text.len() && (wanted == b'?' || Some(&wanted) == text.get(at)) =>
            {
                at += 1;
                next += 1;
                continue;
            }
            None if at == text.len() => return true,
            _ => {}
        }
        match star {
            Some((from, after)) if from < text.len() => {
                star = Some((from + 1, after));
                at = from + 1;
                next = after;
            }
            _ => return false,
        }
    }
}

/// What a list says of a text: a negated match wins over all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Match,
    NoMatch,
    Negated,
}

fn decide<'a>(patterns: impl Iterator<Item = &'a str>, fits: impl Fn(&str) -> bool) -> Verdict {
    let mut verdict = Verdict::NoMatch;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(pattern) => return Verdict::Negated,
            Some(_) => {}
            None if fits(pattern) => verdict = Verdict::Match,
            None => {}
        }
    }
    verdict
}

/// Matches a text against a comma-separated list of patterns.
pub fn list(text: &str, patterns: &str) -> Verdict {
    decide(patterns.split(','), |pattern| matches(text, pattern))
}

/// Whether a comma-separated list of patterns, addresses and CIDR ranges is sound: no empty entry, no mask that is
/// longer than the address or shorter than what is set in it.
pub fn is_address_list(patterns: &str) -> bool {
    patterns.split(',').all(|pattern| {
        let pattern = pattern.strip_prefix('!').unwrap_or(pattern);
        let Some((network, bits)) = pattern.split_once('/') else {
            return !pattern.is_empty();
        };
        match (network.parse::<IpAddr>(), bits.parse::<u32>()) {
            (Ok(IpAddr::V4(network)), Ok(bits)) => {
                bits <= 32 && u64::from(u32::from(network)) << bits & 0xffff_ffff == 0
            }
            (Ok(IpAddr::V6(network)), Ok(bits)) => {
                bits <= 128 && u128::from(network).checked_shl(bits).unwrap_or(0) == 0
            }
            // Not a range, and so a pattern that fits nothing.
            _ => true,
        }
    })
}

/// Matches an address against a comma-separated list of patterns, addresses and CIDR ranges.
pub fn address(peer: IpAddr, patterns: &str) -> Verdict {
    let peer = peer.to_canonical();
    let text = peer.to_string();
    decide(
        patterns.split(',').map(str::trim),
        |pattern| match pattern.split_once('/') {
            Some((network, bits)) => in_network(peer, network, bits),
            // An address has several spellings.
            None => pattern
                .parse::<IpAddr>()
                .map_or_else(|_| matches(&text, pattern), |address| address == peer),
        },
    )
}

fn in_network(peer: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (peer, network) {
        (IpAddr::V4(peer), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(peer) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(peer), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(peer) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

/// Matches `user` coming from `peer` against one entry of AllowUsers or DenyUsers: `USER` or `USER@HOST`.
pub fn user(name: &str, peer: IpAddr, entry: &str) -> bool {
    match entry.rsplit_once('@') {
        None => matches(name, entry),
        Some((user, host)) => matches(name, user) && address(peer, host) == Verdict::Match,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        assert!(matches("LC_ALL", "LC_*"));
        assert!(matches("", "*"));
        assert!(matches("abcbd", "a*b?"));
        assert!(!matches("abcb", "a*bc"));
        assert!(!matches("LANG", "LANGUAGE"));
        assert!(!matches("LANGUAGE", "LANG"));
        assert!(matches("a", "a**"));
        // Many stars must not take exponential time.
        assert!(!matches(
            &"a".repeat(200),
            &"*a".repeat(60).replace("a*", "a*b")
        ));
    }

    #[test]
    fn addresses_and_ranges() {
        let peer: IpAddr = "10.0.2.2".parse().unwrap();
        assert_eq!(address(peer, "10.0.0.0/8"), Verdict::Match);
        assert_eq!(address(peer, "10.0.2.*,!10.0.2.2"), Verdict::Negated);
        assert_eq!(address(peer, "0.0.0.0/0"), Verdict::Match);
        assert_eq!(address(peer, "10.0.2.0/33"), Verdict::NoMatch);
        assert_eq!(
            address("::ffff:10.0.2.2".parse().unwrap(), "10.0.2.2/32"),
            Verdict::Match
        );
        assert_eq!(
            address("fe80::1".parse().unwrap(), "fe80::/10"),
            Verdict::Match
        );
        assert_eq!(address("fe80::1".parse().unwrap(), "::/0"), Verdict::Match);
        assert_eq!(
            address("fe80::1".parse().unwrap(), "FE80:0::1"),
            Verdict::Match
        );
    }

    #[test]
    fn sound_lists_of_addresses() {
        for sound in [
            "10.0.2.2",
            "10.*,!10.0.0.0/8",
            "0.0.0.0/0,::/0",
            "fe80::/10",
            "::1/128",
        ] {
            assert!(is_address_list(sound), "{sound}");
        }
        for wrong in [
            "",
            "!",
            "10.0.0.1,",
            "10.0.2.2/8",
            "10.0.0.0/33",
            "fe80::1/64",
            "::/129",
        ] {
            assert!(!is_address_list(wrong), "{wrong}");
        }
    }

    #[test]
    fn negated_patterns_win() {
        assert_eq!(list("eve", "a*,e*"), Verdict::Match);
        assert_eq!(list("eve", "e*,!eve"), Verdict::Negated);
        assert_eq!(list("eve", "!bob"), Verdict::NoMatch);
    }

    #[test]
    fn users_with_hosts() {
        let peer: IpAddr = "10.0.2.2".parse().unwrap();
        assert!(user("root", peer, "root@10.0.2.0/24"));
        assert!(!user("root", peer, "root@192.168.0.0/16"));
        assert!(user("alice", peer, "al*"));
    }
}
