//! Passwords against /etc/shadow's hashes: `$5$` and `$6$` (SHA-crypt), `$y$` (yescrypt).

use sha_crypt::PasswordVerifier;

use super::account::Account;
use super::shadow;

/// Hashes that nothing fits and that take as long as real ones, for accounts that have none.
const NOBODY: [&str; 3] = [
    "$6$oxbowoxbowoxbow$/KpI3VhHeu.KUxQRns9IVeeOXlEkozEqudlWiO5Ye/nG4Ee3Z89TALK2C7BpODc7CxL8QqH1gXy82cpWdKGEE1",
    "$5$oxbowoxbowoxbow$hJDK6n7kj2w1B7yV7zd/upWdkkRw9qlDLJgmqDevNa5",
    "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$BDAZgp.Wr5t0C6oscMm9JdnoE31Xm8yH8RfL4uzR.Z9",
];

/// The stand-in of the kind that the system's accounts have.
fn stand_in(shadow: &str) -> &'static str {
    let kind_of = |line: &str| {
        line.split(':')
            .nth(1)
            .and_then(|hash| hash.get(..3))
            .map(String::from)
    };
    let kinds = shadow.lines().filter_map(kind_of);
    let mut known =
        kinds.filter_map(|kind| NOBODY.into_iter().find(|hash| hash.starts_with(&kind)));
    known.next().unwrap_or(NOBODY[0])
}

/// Whether `password` is the account's. An account that does not exist, is locked or has no password takes the time of
/// one that has.
pub fn check(account: Option<&Account>, password: &str, permit_empty: bool) -> bool {
    let text = shadow::read();
    let entry = account.and_then(|account| shadow::find(&text, &account.name));
    let hash = entry.as_ref().map_or("*", |entry| entry.hash.as_str());
    let fits = verify(password, hash, stand_in(&text), permit_empty);
    fits && !entry.is_some_and(|entry| entry.password_expired(shadow::today()))
}

fn verify(password: &str, hash: &str, stand_in: &str, permit_empty: bool) -> bool {
    if hash.is_empty() {
        // An account without a password: only with PermitEmptyPasswords, and only by an empty one.
        return permit_empty && password.is_empty();
    }
    if password.is_empty() || password.len() > 1024 {
        verify_hash("x", stand_in);
        return false;
    }
    if !hash.starts_with('$') {
        verify_hash(password, stand_in);
        return false;
    }
    verify_hash(password, hash)
}

fn verify_hash(password: &str, hash: &str) -> bool {
    let password = password.as_bytes();
    match hash.get(..3) {
        Some("$5$" | "$6$") => sha_crypt::PasswordHash::new(hash).is_ok_and(|hash| {
            sha_crypt::ShaCrypt::default()
                .verify_password(password, &hash)
                .is_ok()
        }),
        Some("$y$") => yescrypt::Yescrypt::default()
            .verify_password(password, hash)
            .is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by crypt(3) of glibc 2.36.
    const SHA512: &str = "$6$saltsaltsalt$PMWE8DTlam1JU37Piyk43bHcMxTJq6sgu5DKB0/tGPjanN35jcY68QkpDfPFUGPWX5uCxIQkSPzMmqEiVNgts.";
    const SHA512_ROUNDS: &str = "$6$rounds=1400$anotherlongsalt$GgIsmY8/iRvu5gZ47obybyiAhDD7s7u3Dw7dmgui/06yeirFJjz/UHTF1ruurLHgwOs1LjZn57x0E0WZeclyd1";
    const SHA256: &str = "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.";
    const YESCRYPT: &str =
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$GmcwIgvdUC9qLWcKCi6gklUa1dM3ziD43YxYNURLKy0";

    #[test]
    fn hashes_of_crypt() {
        for hash in [SHA512, SHA512_ROUNDS, SHA256, YESCRYPT] {
            assert!(verify("secret", hash, NOBODY[0], false), "{hash}");
            assert!(!verify("Secret", hash, NOBODY[0], false), "{hash}");
            assert!(!verify("", hash, NOBODY[0], true), "{hash}");
        }
    }

    #[test]
    fn locked_and_empty_fit_nothing() {
        for hash in [
            "*",
            "!",
            "!!",
            "x",
            "!$6$salt$x",
            "$1$salt$x",
            "$6$",
            "$y$",
            "$6$salt$x",
        ] {
            assert!(!verify("secret", hash, NOBODY[0], true), "{hash}");
            assert!(!verify("", hash, NOBODY[0], true), "{hash}");
        }
        assert!(!verify("", "", NOBODY[0], false));
        assert!(!verify("x", "", NOBODY[0], true));
        assert!(verify("", "", NOBODY[0], true));
    }

    #[test]
    fn the_stand_in_takes_the_time_of_a_real_hash() {
        // It must be one that is computed, not one that fails to parse.
        assert!(sha_crypt::PasswordHash::new(NOBODY[0]).is_ok());
        assert!(sha_crypt::PasswordHash::new(NOBODY[1]).is_ok());
        assert!(yescrypt::PasswordHash::new(NOBODY[2]).is_ok());
        assert_eq!(stand_in("root:*:1::\nalice:$y$j9T$a$b:2::\n"), NOBODY[2]);
        assert_eq!(stand_in("root:!$6$x$y:1::\n\n:\nx"), NOBODY[0]);
        let time = |hash: &str| {
            let start = std::time::Instant::now();
            for _ in 0..3 {
                verify("secret", hash, NOBODY[0], false);
            }
            start.elapsed()
        };
        let (real, none) = (time(SHA512), time("*"));
        assert!(none * 3 > real && real * 3 > none, "{real:?} {none:?}");
    }
}
