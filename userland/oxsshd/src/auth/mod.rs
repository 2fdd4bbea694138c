//! Who may log in, and how. Decisions only: the protocol around them is the connection's.

pub mod account;
pub mod authorized_keys;
pub mod password;
pub mod shadow;
mod strict;

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use russh::keys::PublicKey;

use crate::config::{Config, PermitRoot};
use crate::log::{debug, info};
use crate::pattern;
use account::Account;
use authorized_keys::KeyOptions;

/// Files of keys above this size are not read.
const MAX_KEYS_FILE: u64 = 4 << 20;

/// Whether the account may log in at all, whatever it proves. What is refused is logged with its reason; the peer
/// cannot tell it from a wrong password.
pub fn allowed(account: &Account, peer: IpAddr, config: &Config) -> bool {
    let name = &account.name;
    let refuse = |why: &str| {
        info!("User {name} from {peer} not allowed because {why}");
        false
    };
    match shadow::entry(name) {
        Some(entry) if entry.locked() => return refuse("account is locked"),
        Some(entry) if entry.expired(shadow::today()) => return refuse("account has expired"),
        _ => {}
    }
    if !account.shell_runs() {
        return refuse(&format!(
            "shell {} does not exist or is not executable",
            account.shell.display()
        ));
    }
    if config
        .deny_users
        .iter()
        .any(|entry| pattern::user(name, peer, entry))
    {
        return refuse("listed in DenyUsers");
    }
    if !config.allow_users.is_empty()
        && !config
            .allow_users
            .iter()
            .any(|entry| pattern::user(name, peer, entry))
    {
        return refuse("not listed in AllowUsers");
    }
    if config.deny_groups.is_empty() && config.allow_groups.is_empty() {
        return true;
    }
    let groups = account.group_names();
    let member = |list: &[String]| {
        list.iter()
            .any(|entry| groups.iter().any(|group| pattern::matches(group, entry)))
    };
    if member(&config.deny_groups) {
        return refuse("a group is listed in DenyGroups");
    }
    if !config.allow_groups.is_empty() && !member(&config.allow_groups) {
        return refuse("none of user's groups are listed in AllowGroups");
    }
    true
}

/// Whether root may use a password at all.
pub fn password_allowed(account: &Account, config: &Config) -> bool {
    account.uid != 0 || config.permit_root == PermitRoot::Yes
}

/// Whether root may log in by a key with these options.
pub fn key_allowed(account: &Account, options: &KeyOptions, config: &Config) -> bool {
    account.uid != 0
        || match config.permit_root {
            PermitRoot::Yes | PermitRoot::ProhibitPassword => true,
            PermitRoot::ForcedCommandsOnly => options.command.is_some(),
            PermitRoot::No => false,
        }
}

/// The options that `account`'s files give `key`; `None` when they do not list it.
pub fn find_key(
    account: &Account,
    key: &PublicKey,
    peer: IpAddr,
    config: &Config,
) -> Option<KeyOptions> {
    for pattern in &config.authorized_keys_files {
        if pattern == "none" {
            continue;
        }
        let path = keys_path(pattern, account);
        let text = account.with_ids(|| read_keys(&path, account, config.strict_modes));
        let text = match text {
            Ok(text) => text,
            Err(Unreadable::Missing) => continue,
            Err(Unreadable::Unsafe(why)) => {
                info!("Authentication refused: {why}");
                continue;
            }
        };
        match authorized_keys::find(&text, key, peer, authorized_keys::now()) {
            Ok(Some(options)) => return Some(options),
            Ok(None) => debug!("{}: no match for the key", path.display()),
            Err(why) => info!(
                "Authentication tried for {} with correct key but {why} ({})",
                account.name,
                path.display()
            ),
        }
    }
    None
}

/// Expands `%h`, `%u`, `%U` and `%%`; what does not start at the root is below the home directory.
fn keys_path(pattern: &str, account: &Account) -> PathBuf {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match if c == '%' { chars.next() } else { None } {
            Some('h') => out.push_str(&account.home.to_string_lossy()),
            Some('u') => out.push_str(&account.name),
            Some('U') => out.push_str(&account.uid.to_string()),
            Some(other) => out.push(other),
            None => out.push(c),
        }
    }
    account.home.join(out)
}

enum Unreadable {
    Missing,
    Unsafe(String),
}

fn read_keys(path: &Path, account: &Account, strict_modes: bool) -> Result<String, Unreadable> {
    // Not to be stopped by a FIFO that somebody put there.
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options
        .read(true)
        .open(path)
        .map_err(|_| Unreadable::Missing)?;
    let status = file.metadata().map_err(|_| Unreadable::Missing)?;
    if !status.is_file() {
        return Err(Unreadable::Unsafe(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    if strict_modes {
        strict::check(&status, path, account).map_err(Unreadable::Unsafe)?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_KEYS_FILE)
        .read_to_end(&mut bytes)
        .map_err(|_| Unreadable::Missing)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_key_files() {
        let account = Account::for_test("alice", 1000, "/home/alice");
        assert_eq!(
            keys_path(".ssh/authorized_keys", &account),
            Path::new("/home/alice/.ssh/authorized_keys")
        );
        assert_eq!(
            keys_path("/etc/keys/%u-%U", &account),
            Path::new("/etc/keys/alice-1000")
        );
        assert_eq!(keys_path("%h/x%%", &account), Path::new("/home/alice/x%"));
    }

    #[test]
    fn root_needs_a_key() {
        let root = Account::for_test("root", 0, "/root");
        let config = |text| Config::parse(text, "").unwrap();
        let plain = KeyOptions::default();
        let mut forced = KeyOptions::default();
        forced.command = Some("date".into());
        assert!(!password_allowed(&root, &config("")));
        assert!(password_allowed(&root, &config("PermitRootLogin yes")));
        assert!(key_allowed(&root, &plain, &config("")));
        assert!(!key_allowed(&root, &plain, &config("PermitRootLogin no")));
        assert!(!key_allowed(
            &root,
            &plain,
            &config("PermitRootLogin forced-commands-only")
        ));
        assert!(key_allowed(
            &root,
            &forced,
            &config("PermitRootLogin forced-commands-only")
        ));
        assert!(password_allowed(
            &Account::for_test("alice", 1000, "/"),
            &config("")
        ));
    }
}
