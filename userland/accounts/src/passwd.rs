//! passwd and chpasswd: changing passwords.

use std::path::Path;

use lexopt::prelude::*;

use crate::accounts::{Accounts, HASH, LAST_CHANGE};
use crate::password::{self, ask};
use crate::{Failure, failure, say, syslog, text, with_status};

const ETC: &str = "/etc";
/// The shortest password that somebody who is not root may choose.
const SHORTEST: usize = 8;
const TRIES: u32 = 3;

const PASSWD_USAGE: &str = "\
usage: passwd [USER]         set a password: your own, as root anybody's
       passwd -S [USER]      status: name, P (password), L (locked) or NP (none), day of the last change
       passwd -l|-u|-d USER  lock, unlock, delete the password (root)";

/// `passwd`: set-user-id root.
pub fn passwd(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let (mut name, mut action) = (None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Short('l') | Long("lock") => action = Some('l'),
            Short('u') | Long("unlock") => action = Some('u'),
            Short('d') | Long("delete") => action = Some('d'),
            Short('S') | Long("status") => action = Some('S'),
            Short('h') | Long("help") => {
                say(PASSWD_USAGE);
                return Ok(0);
            }
            Value(value) if name.is_none() => name = Some(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let accounts = Accounts::read(Path::new(ETC))?;
    let real = nix::unistd::getuid();
    let own = accounts.user_of(real.as_raw());
    let name = match (name, &own) {
        (Some(name), _) => name,
        (None, Some(own)) => own.name.clone(),
        (None, None) => return Err(failure("who are you?")),
    };
    let user = accounts
        .user(&name)
        .ok_or_else(|| failure(format!("user '{name}' does not exist")))?;
    let denied = || {
        failure(format!(
            "You may not view or modify password information for {name}."
        ))
    };
    if !real.is_root() && user.uid != real.as_raw() {
        return Err(denied());
    }
    match action {
        Some('S') => {
            say(&status(&accounts, &name));
            Ok(0)
        }
        Some(_) if !real.is_root() => Err(denied()),
        Some(action) => {
            let mut accounts = Accounts::lock(Path::new(ETC))?;
            let hash = changed(&accounts.hash(&name), action)?;
            accounts.set_hash(&name, &hash);
            accounts.save()?;
            syslog::note("passwd", &format!("password of {name} changed (-{action})"));
            say("passwd: password changed.");
            Ok(0)
        }
        None => change(&accounts, &name, real.is_root()),
    }
}

/// A hash locked, unlocked or deleted.
pub fn changed(hash: &str, action: char) -> Result<String, Failure> {
    match action {
        'l' if hash.starts_with('!') => Ok(hash.to_owned()),
        'l' => Ok(format!("!{hash}")),
        'u' => match hash.trim_start_matches('!') {
            "" if !hash.is_empty() => Err(with_status(
                3,
                "unlocking the password would result in a passwordless account.\n\
                 You should set a password with usermod -p to unlock the password of this account.",
            )),
            rest => Ok(rest.to_owned()),
        },
        _ => Ok(String::new()),
    }
}

fn status(accounts: &Accounts, name: &str) -> String {
    let fields = accounts.shadow.find(name).unwrap_or_default();
    let field = |index: usize| fields.get(index).map_or("", String::as_str);
    let state = match field(HASH) {
        "" if fields.is_empty() => "L",
        "" => "NP",
        hash if hash.starts_with('$') => "P",
        _ => "L",
    };
    let changed = match field(LAST_CHANGE).parse() {
        Ok(day) => date(day),
        Err(_) => "never".to_owned(),
    };
    let number = |index: usize| match field(index) {
        "" => "-1",
        number => number,
    };
    let [least, most, warning, inactive] = [3, 4, 5, 6].map(number);
    format!("{name} {state} {changed} {least} {most} {warning} {inactive}")
}

/// A day since 1970-01-01 in the Gregorian calendar.
fn date(day: u64) -> String {
    let (mut year, mut left) = (1970, day.min(10_000_000));
    let every = |year: u64, count| year.is_multiple_of(count);
    let leap = |year| every(year, 4) && (!every(year, 100) || every(year, 400));
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", left + 1)
}

/// Asks for a new password, of its owner for the old one first, and sets it.
fn change(accounts: &Accounts, name: &str, root: bool) -> Result<i32, Failure> {
    let unchanged = || with_status(10, "password unchanged");
    let old = accounts.hash(name);
    let mut current = String::new();
    if !root {
        say(&format!("Changing password for {name}."));
        if !old.is_empty() {
            if !old.starts_with('$') {
                return Err(with_status(
                    10,
                    format!("the password of {name} is locked; password unchanged"),
                ));
            }
            current = ask("Current password: ")?.ok_or_else(unchanged)?;
            if !password::verify(&current, &old) {
                syslog::note("passwd", &format!("wrong password for {name}"));
                std::thread::sleep(std::time::Duration::from_secs(2));
                return Err(with_status(
                    10,
                    "Authentication token manipulation error; password unchanged",
                ));
            }
        }
    }
    for _ in 0..TRIES {
        let new = ask("New password: ")?.ok_or_else(unchanged)?;
        if let Some(problem) = problem(&new, &current, name, root) {
            eprintln!("{problem}");
            continue;
        }
        let again = ask("Retype new password: ")?.ok_or_else(unchanged)?;
        if new != again {
            eprintln!("Sorry, passwords do not match.");
            continue;
        }
        set(name, &old, &new)?;
        say("passwd: password updated successfully");
        return Ok(0);
    }
    Err(unchanged())
}

/// What is wrong with a new password.
fn problem(new: &str, old: &str, name: &str, root: bool) -> Option<&'static str> {
    if new.is_empty() {
        return Some("No password has been supplied.");
    }
    if root {
        return None;
    }
    if new == old {
        return Some("The password has not been changed.");
    }
    if new.chars().count() < SHORTEST {
        return Some("You must choose a longer password (8 characters or more).");
    }
    if new.contains(name) {
        return Some("Bad: new password contains the user's name.");
    }
    None
}

fn set(name: &str, old: &str, new: &str) -> Result<(), Failure> {
    let hash = password::hash(new)?;
    // Root in all respects: the caller's signals must not stop it half way.
    let _ = nix::unistd::setuid(nix::unistd::Uid::from_raw(0));
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    if accounts.hash(name) != old {
        return Err(failure(
            "somebody else has changed it meanwhile; password unchanged",
        ));
    }
    accounts.set_hash(name, &hash);
    accounts.save()?;
    syslog::note("passwd", &format!("password of {name} changed"));
    Ok(())
}

/// Asks twice and sets the password of a new user, for adduser. Without an
/// answer the account stays locked.
pub fn ask_for(name: &str) -> Result<i32, Failure> {
    let accounts = Accounts::read(Path::new(ETC))?;
    change(&accounts, name, true)
}

/// `chpasswd`: lines of `user:password` on standard input.
pub fn chpasswd(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let mut hashed = false;
    while let Some(arg) = args.next()? {
        match arg {
            Short('e') | Long("encrypted") => hashed = true,
            _ => return Err(arg.unexpected().into()),
        }
    }
    let input = std::io::read_to_string(std::io::stdin())
        .map_err(|error| failure(format!("standard input: {error}")))?;
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    let mut errors = 0;
    for (number, line) in input.lines().enumerate() {
        if let Err(message) = set_line(&mut accounts, line, hashed) {
            eprintln!("chpasswd: line {}: {message}", number + 1);
            errors += 1;
        }
    }
    // All or nothing.
    if errors > 0 {
        return Err(failure("error detected, changes ignored"));
    }
    accounts.save()?;
    syslog::note("chpasswd", "passwords changed");
    Ok(0)
}

fn set_line(accounts: &mut Accounts, line: &str, hashed: bool) -> Result<(), String> {
    let (name, password) = line.split_once(':').ok_or("missing new password")?;
    if accounts.user(name).is_none() {
        return Err(format!("user '{name}' does not exist"));
    }
    if !hashed && (password.is_empty() || password.len() > password::MAX_LENGTH) {
        return Err("the password is empty or too long".to_owned());
    }
    if hashed && !crate::table::is_field(password) {
        return Err("invalid hash".to_owned());
    }
    let hash = if hashed {
        password.to_owned()
    } else {
        password::hash(password).map_err(|failure| failure.message)?
    };
    accounts.set_hash(name, &hash);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tests::folder;

    #[test]
    fn locks_keep_the_hash() {
        let change = |hash: &str, action| changed(hash, action).expect("possible");
        assert_eq!(change("$y$x", 'l'), "!$y$x");
        assert_eq!(change("!$y$x", 'l'), "!$y$x");
        assert_eq!(change("!$y$x", 'u'), "$y$x");
        assert_eq!(change("*", 'u'), "*");
        assert_eq!(change("$y$x", 'd'), "");
        assert!(changed("!", 'u').is_err());
    }

    #[test]
    fn status_lines() {
        let mut accounts = Accounts::read(&folder("status")).expect("there");
        assert_eq!(status(&accounts, "root"), "root L 2024-10-04 0 99999 7 -1");
        accounts.shadow.set("root", HASH, "$6$x");
        assert!(status(&accounts, "root").starts_with("root P "));
        accounts.shadow.set("root", HASH, "");
        assert!(status(&accounts, "root").starts_with("root NP "));
    }

    #[test]
    fn dates() {
        for (day, text) in [
            (0, "1970-01-01"),
            (19_782, "2024-02-29"),
            (19_783, "2024-03-01"),
            (20_088, "2024-12-31"),
        ] {
            assert_eq!(date(day), text);
        }
    }

    #[test]
    fn weak_passwords() {
        let weak = |new, root| problem(new, "old password", "bob", root).is_some();
        assert!(weak("", true) && !weak("x", true));
        assert!(
            weak("1234567", false) && weak("bob-is-here", false) && weak("old password", false)
        );
        assert!(!weak("correct horse", false));
    }

    #[test]
    fn lines_of_chpasswd() {
        let mut accounts = Accounts::read(&folder("chpasswd")).expect("there");
        set_line(&mut accounts, "root:with:colon", false).expect("valid");
        assert!(password::verify("with:colon", &accounts.hash("root")));
        set_line(&mut accounts, "root:$6$a$b", true).expect("valid");
        assert_eq!(accounts.hash("root"), "$6$a$b");
        for bad in ["root", "eve:x", "root:"] {
            assert!(set_line(&mut accounts, bad, false).is_err(), "{bad}");
        }
        assert!(set_line(&mut accounts, "root:a:b", true).is_err());
    }
}
