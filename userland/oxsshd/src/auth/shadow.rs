//! /etc/shadow (man 5 shadow): hashes, locked and expired accounts.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub hash: String,
    /// The day since 1970 on which the account expires.
    expires: Option<u64>,
    /// The day the password was changed last; 0 asks for a new one at the next login.
    changed: Option<u64>,
    max_days: Option<u64>,
}

impl Entry {
    /// Locked as a whole: no way to log in, not even by a key. `*` only means that no password fits.
    pub fn locked(&self) -> bool {
        self.hash.starts_with('!')
    }

    pub fn expired(&self, today: u64) -> bool {
        self.expires.is_some_and(|day| today >= day)
    }

    /// Whether the password is too old to be used, or has to be changed first.
    pub fn password_expired(&self, today: u64) -> bool {
        match (self.changed, self.max_days) {
            (Some(0), _) => true,
            (Some(changed), Some(max)) => today > changed.saturating_add(max),
            _ => false,
        }
    }
}

/// Days since 1970.
pub fn today() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs() / 86400)
}

/// The entry of `name`; `None` when there is none, or no right to read the file.
pub fn entry(name: &str) -> Option<Entry> {
    find(&read(), name)
}

/// The file's text; empty without the right to read it.
pub fn read() -> String {
    std::fs::read_to_string("/etc/shadow").unwrap_or_default()
}

/// The entry of `name` in the file's text.
pub fn find(text: &str, name: &str) -> Option<Entry> {
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let fields: Vec<&str> = line.split(':').collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
    Some(Entry {
        hash: fields.get(1)?.to_string(),
        changed: number(2),
        max_days: number(4),
        expires: number(7),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "root:*:20000:0:99999:7:::\nalice:$6$salt$hash:20000:0:90:7::21000:\nbob:!$6$x$y:20000::::::\nnew:$5$a$b:0::::::\n";

    #[test]
    fn fields() {
        let alice = find(TEXT, "alice").unwrap();
        assert_eq!(alice.hash, "$6$salt$hash");
        assert!(!alice.expired(20999) && alice.expired(21000));
        assert!(!alice.password_expired(20090) && alice.password_expired(20091));
        assert!(find(TEXT, "bob").unwrap().locked());
        assert!(!find(TEXT, "root").unwrap().locked());
        assert!(find(TEXT, "new").unwrap().password_expired(20000));
        assert_eq!(find(TEXT, "ali"), None);
        assert_eq!(find("alice", "alice"), None);
    }
}
