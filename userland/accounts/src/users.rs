//! useradd, usermod, userdel, adduser and deluser.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use lexopt::prelude::*;

use crate::accounts::{Accounts, COMMENT, GID, HOME, MEMBERS, SHELL, UID, User, today};
use crate::groups::{SYSTEM, USERS, add_group, change_member, set_member};
use crate::table::{is_field, is_name, members};
use crate::{Failure, failure, passwd, say, syslog, text, with_status};

const ETC: &str = "/etc";
const SHELLS: &str = "/bin/sh";
const NO_SHELL: &str = "/bin/false";

/// What a user is to be.
#[derive(Default)]
struct Wish {
    name: String,
    uid: Option<u32>,
    /// Primary group, by name or number; its own without one.
    group: Option<String>,
    groups: Vec<String>,
    comment: String,
    home: Option<String>,
    shell: Option<String>,
    /// As shadow(5) has it; locked without one.
    hash: Option<String>,
    system: bool,
}

/// `useradd [-mMrN] [-u UID] [-g GROUP] [-G GROUPS] [-c COMMENT] [-d HOME] [-s SHELL] [-p HASH] USER`.
pub fn useradd(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let mut wish = Wish::default();
    let mut create_home = None;
    while let Some(arg) = args.next()? {
        match arg {
            Short('u') | Long("uid") => wish.uid = Some(args.value()?.parse()?),
            Short('g') | Long("gid") => wish.group = Some(text(args.value()?)?),
            Short('G') | Long("groups") => wish.groups = list(&text(args.value()?)?),
            Short('c') | Long("comment") => wish.comment = text(args.value()?)?,
            Short('d') | Long("home-dir") => wish.home = Some(text(args.value()?)?),
            Short('s') | Long("shell") => wish.shell = Some(text(args.value()?)?),
            Short('p') | Long("password") => wish.hash = Some(text(args.value()?)?),
            Short('r') | Long("system") => wish.system = true,
            Short('m') | Long("create-home") => create_home = Some(true),
            Short('M') | Long("no-create-home") => create_home = Some(false),
            Short('U') | Long("user-group") => wish.group = None,
            Short('N') | Long("no-user-group") => wish.group = Some("users".to_owned()),
            Value(value) if wish.name.is_empty() => wish.name = text(value)?,
            _ => return Err(arg.unexpected().into()),
        }
    }
    if wish.name.is_empty() {
        return Err(with_status(2, "usage: useradd [OPTION]... USER"));
    }
    let create_home = create_home.unwrap_or(!wish.system);
    create(&wish, create_home, "useradd")
}

/// `adduser [-h HOME] [-g COMMENT] [-s SHELL] [-G GROUP] [-u UID] [-S] [-D] [-H] USER`, or
/// `adduser USER GROUP`.
pub fn adduser(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let mut wish = Wish::default();
    let (mut group, mut ask, mut create_home) = (None, true, true);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("home") => wish.home = Some(text(args.value()?)?),
            Short('g') | Long("gecos") => wish.comment = text(args.value()?)?,
            Short('s') | Long("shell") => wish.shell = Some(text(args.value()?)?),
            Short('G') | Long("ingroup") => wish.group = Some(text(args.value()?)?),
            Short('u') | Long("uid") => wish.uid = Some(args.value()?.parse()?),
            Short('S') | Long("system") => wish.system = true,
            Short('D') | Long("disabled-password") => ask = false,
            Short('H') | Long("no-create-home") => create_home = false,
            Value(value) if wish.name.is_empty() => wish.name = text(value)?,
            Value(value) if group.is_none() => group = Some(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    if let Some(group) = group {
        return change_member(&wish.name, &group, true);
    }
    if wish.name.is_empty() {
        return Err(with_status(
            2,
            "usage: adduser [OPTION]... USER, or adduser USER GROUP",
        ));
    }
    let system = wish.system;
    create(&wish, create_home && !system, "adduser")?;
    if !ask || system {
        return Ok(0);
    }
    let asked = passwd::ask_for(&wish.name);
    if asked.is_err() {
        say(&format!(
            "The account has no password: passwd {} sets one.",
            wish.name
        ));
    }
    asked
}

fn list(text: &str) -> Vec<String> {
    members(text).into_iter().map(str::to_owned).collect()
}

/// Makes the user and its home.
fn create(wish: &Wish, create_home: bool, command: &str) -> Result<i32, Failure> {
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    let user = add(&mut accounts, wish)?;
    accounts.save()?;
    syslog::note(command, &format!("new user {} ({})", user.name, user.uid));
    if create_home && let Err(error) = make_home(&user) {
        return Err(with_status(
            12,
            format!("cannot create home {}: {error}", user.home),
        ));
    }
    Ok(0)
}

fn add(accounts: &mut Accounts, wish: &Wish) -> Result<User, Failure> {
    let name = wish.name.as_str();
    if !is_name(name) {
        return Err(with_status(3, format!("invalid user name '{name}'")));
    }
    if accounts.passwd.find(name).is_some() {
        return Err(with_status(9, format!("user '{name}' already exists")));
    }
    let range = if wish.system { SYSTEM } else { USERS };
    let uid = match wish.uid {
        Some(uid) if accounts.user_of(uid).is_some() => {
            return Err(with_status(4, format!("UID {uid} is not unique")));
        }
        Some(uid) => uid,
        None => accounts
            .passwd
            .free_id(UID, range)
            .ok_or_else(|| failure("no user numbers left"))?,
    };
    let home = wish.home.clone().unwrap_or_else(|| format!("/home/{name}"));
    let shell = wish.shell.clone().unwrap_or_else(|| {
        let usual = if wish.system { NO_SHELL } else { SHELLS };
        usual.to_owned()
    });
    for value in [&home, &shell] {
        check_path(value)?;
    }
    check_field(&wish.comment)?;
    let hash = wish.hash.as_deref().unwrap_or("!");
    check_field(hash)?;

    let gid = match &wish.group {
        Some(group) => accounts.group_id(group)?,
        None => {
            // The same number where it is free.
            let same = Some(uid).filter(|gid| accounts.group_id(&gid.to_string()).is_err());
            add_group(accounts, name, same, wish.system)?
        }
    };
    for group in &wish.groups {
        set_member(accounts, name, group, true)?;
    }
    let (uid_text, gid_text) = (uid.to_string(), gid.to_string());
    let fields = [
        name,
        "x",
        &uid_text,
        &gid_text,
        &wish.comment,
        &home,
        &shell,
    ];
    accounts.passwd.push(&fields);
    // An entry that a user of that name left must not count.
    accounts.shadow.remove(name);
    let day = today().to_string();
    accounts
        .shadow
        .push(&[name, hash, &day, "0", "99999", "7", "", "", ""]);
    Ok(User {
        name: name.to_owned(),
        uid,
        gid,
        home,
        shell,
    })
}

fn check_field(value: &str) -> Result<(), Failure> {
    if is_field(value) {
        return Ok(());
    }
    Err(with_status(3, format!("invalid field '{value}'")))
}

fn check_path(value: &str) -> Result<(), Failure> {
    if is_field(value) && value.starts_with('/') {
        return Ok(());
    }
    Err(with_status(3, format!("'{value}' is no absolute path")))
}

/// Makes the home directory with what is in /etc/skel. One that is there stays
/// as it is.
fn make_home(user: &User) -> std::io::Result<()> {
    let home = Path::new(&user.home);
    if home.exists() {
        say(&format!(
            "The home directory {} is there already.",
            user.home
        ));
        return Ok(());
    }
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(home)?;
    fs::set_permissions(home, fs::Permissions::from_mode(0o700))?;
    if Path::new("/etc/skel").is_dir() {
        copy_into("/etc/skel".as_ref(), home, user)?;
    }
    std::os::unix::fs::chown(home, Some(user.uid), Some(user.gid))
}

fn copy_into(from: &Path, to: &Path, user: &User) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&entry.path(), &target, user)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
        std::os::unix::fs::lchown(&target, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}

/// `userdel [-r] USER`.
pub fn userdel(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let (mut name, mut remove_home) = (None, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('r') | Long("remove") => remove_home = true,
            Value(value) if name.is_none() => name = Some(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let name = name.ok_or_else(|| with_status(2, "usage: userdel [-r] USER"))?;
    remove(&name, remove_home, "userdel")
}

/// `deluser [--remove-home] USER` or `deluser USER GROUP`.
pub fn deluser(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let (mut names, mut remove_home) = (Vec::new(), false);
    while let Some(arg) = args.next()? {
        match arg {
            Long("remove-home") => remove_home = true,
            Value(value) => names.push(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    match names.as_slice() {
        [user, group] => change_member(user, group, false),
        [user] => remove(user, remove_home, "deluser"),
        _ => Err(with_status(
            2,
            "usage: deluser [--remove-home] USER, or deluser USER GROUP",
        )),
    }
}

fn remove(name: &str, remove_home: bool, command: &str) -> Result<i32, Failure> {
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    let user = delete(&mut accounts, name)?;
    if let Some(pid) = process_of(user.uid) {
        return Err(with_status(
            8,
            format!("user {name} is currently used by process {pid}"),
        ));
    }
    accounts.save()?;
    syslog::note(command, &format!("user {name} removed"));
    if remove_home {
        delete_home(&user).map_err(|message| with_status(12, message))?;
    }
    Ok(0)
}

/// A process that runs as `uid`.
fn process_of(uid: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == uid))
}

fn delete(accounts: &mut Accounts, name: &str) -> Result<User, Failure> {
    let user = accounts
        .user(name)
        .ok_or_else(|| with_status(6, format!("user '{name}' does not exist")))?;
    if user.uid == 0 {
        return Err(failure(format!("{name} is the administrator, and stays")));
    }
    accounts.passwd.remove(name);
    accounts.shadow.remove(name);
    let groups: Vec<(String, String)> = accounts
        .group
        .rows()
        .map(|row| {
            (
                row[0].to_owned(),
                row.get(MEMBERS).unwrap_or(&"").to_string(),
            )
        })
        .collect();
    for (group, list) in groups {
        if members(&list).contains(&name) {
            set_member(accounts, name, &group, false)?;
        }
    }
    // Its own group, once nobody is in it.
    let gid = user.gid.to_string();
    let own = accounts.group.find(name).filter(|g| g.get(2) == Some(&gid));
    let used = accounts
        .passwd
        .rows()
        .any(|row| row.get(GID) == Some(&gid.as_str()));
    if own.is_some_and(|g| g.get(MEMBERS).is_none_or(String::is_empty)) && !used {
        accounts.group.remove(name);
    }
    Ok(user)
}

fn delete_home(user: &User) -> Result<(), String> {
    let home = Path::new(&user.home);
    let Ok(metadata) = fs::symlink_metadata(home) else {
        return Ok(());
    };
    if metadata.uid() != user.uid || !metadata.is_dir() {
        return Err(format!("{} is not {}'s, and stays", user.home, user.name));
    }
    fs::remove_dir_all(home).map_err(|error| format!("cannot remove {}: {error}", user.home))
}

/// `usermod [-a] [-G GROUPS] [-g GROUP] [-c COMMENT] [-d HOME] [-s SHELL] [-p HASH] [-L|-U] USER`.
pub fn usermod(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let (mut name, mut append, mut groups) = (None, false, None);
    let mut changes: Vec<(usize, String)> = Vec::new();
    let (mut group, mut hash, mut lock) = (None, None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Short('a') | Long("append") => append = true,
            Short('G') | Long("groups") => groups = Some(list(&text(args.value()?)?)),
            Short('g') | Long("gid") => group = Some(text(args.value()?)?),
            Short('c') | Long("comment") => changes.push((COMMENT, text(args.value()?)?)),
            Short('d') | Long("home") => changes.push((HOME, text(args.value()?)?)),
            Short('s') | Long("shell") => changes.push((SHELL, text(args.value()?)?)),
            Short('p') | Long("password") => hash = Some(text(args.value()?)?),
            Short('L') | Long("lock") => lock = Some(true),
            Short('U') | Long("unlock") => lock = Some(false),
            Value(value) if name.is_none() => name = Some(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let name = name.ok_or_else(|| with_status(2, "usage: usermod [OPTION]... USER"))?;
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    if accounts.user(&name).is_none() {
        return Err(with_status(6, format!("user '{name}' does not exist")));
    }
    for (field, value) in &changes {
        match *field {
            COMMENT => check_field(value)?,
            _ => check_path(value)?,
        }
        accounts.passwd.set(&name, *field, value);
    }
    if let Some(group) = group {
        let gid = accounts.group_id(&group)?.to_string();
        accounts.passwd.set(&name, GID, &gid);
    }
    if let Some(hash) = hash {
        check_field(&hash)?;
        accounts.set_hash(&name, &hash);
    }
    if let Some(lock) = lock {
        let old = accounts.hash(&name);
        let hash = passwd::changed(&old, if lock { 'l' } else { 'u' })?;
        accounts.set_hash(&name, &hash);
    }
    if let Some(groups) = groups {
        set_groups(&mut accounts, &name, &groups, append)?;
    }
    accounts.save()?;
    syslog::note("usermod", &format!("user {name} changed"));
    Ok(0)
}

/// Makes `groups` the supplementary groups of `name`, or adds them.
fn set_groups(
    accounts: &mut Accounts,
    name: &str,
    groups: &[String],
    append: bool,
) -> Result<(), Failure> {
    for group in groups {
        set_member(accounts, name, group, true)?;
    }
    let all: Vec<String> = accounts.group.rows().map(|row| row[0].to_owned()).collect();
    for group in all {
        if !append && !groups.contains(&group) {
            set_member(accounts, name, &group, false)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tests::folder;

    fn wish(name: &str) -> Wish {
        Wish {
            name: name.to_owned(),
            ..Wish::default()
        }
    }

    #[test]
    fn a_user_comes_and_goes() {
        let mut accounts = Accounts::read(&folder("users")).expect("there");
        let user = add(&mut accounts, &wish("bob")).expect("new");
        assert_eq!((user.uid, user.gid), (1000, 1000));
        let line = accounts.passwd.find("bob").expect("there").join(":");
        assert_eq!(line, "bob:x:1000:1000::/home/bob:/bin/sh");
        assert_eq!(accounts.hash("bob"), "!", "locked until it has a password");
        assert_eq!(add(&mut accounts, &wish("bob")).unwrap_err().status, 9);
        set_member(&mut accounts, "bob", "wheel", true).expect("there");
        delete(&mut accounts, "bob").expect("there");
        assert!(accounts.group.find("bob").is_none());
        assert_eq!(accounts.group.find("wheel").expect("there")[3], "root");
        assert!(accounts.shadow.find("bob").is_none());
        assert_eq!(delete(&mut accounts, "bob").unwrap_err().status, 6);
        assert!(delete(&mut accounts, "root").is_err());
    }

    #[test]
    fn wishes_are_kept_or_refused() {
        let mut accounts = Accounts::read(&folder("wishes")).expect("there");
        let daemon = Wish {
            system: true,
            group: Some("nogroup".to_owned()),
            groups: vec!["wheel".to_owned()],
            ..wish("www")
        };
        let user = add(&mut accounts, &daemon).expect("new");
        assert_eq!(
            (user.uid, user.gid, user.shell.as_str()),
            (101, 65534, NO_SHELL)
        );
        assert_eq!(accounts.group.find("wheel").expect("there")[3], "root,www");
        for (bad, status) in [
            (wish("Bob"), 3),
            (
                Wish {
                    uid: Some(0),
                    ..wish("zero")
                },
                4,
            ),
            (
                Wish {
                    group: Some("gone".to_owned()),
                    ..wish("a")
                },
                6,
            ),
            (
                Wish {
                    groups: vec!["gone".to_owned()],
                    ..wish("b")
                },
                6,
            ),
            (
                Wish {
                    comment: "a:b".to_owned(),
                    ..wish("c")
                },
                3,
            ),
            (
                Wish {
                    shell: Some("sh".to_owned()),
                    ..wish("d")
                },
                3,
            ),
            (
                Wish {
                    hash: Some("a\nroot::".to_owned()),
                    ..wish("e")
                },
                3,
            ),
        ] {
            assert_eq!(
                add(&mut accounts, &bad).unwrap_err().status,
                status,
                "{}",
                bad.name
            );
        }
    }

    #[test]
    fn groups_are_replaced_or_added_to() {
        let mut accounts = Accounts::read(&folder("usermod")).expect("there");
        let groups = ["users".to_owned()];
        set_groups(&mut accounts, "root", &groups, true).expect("there");
        assert_eq!(accounts.group.find("wheel").expect("there")[3], "root");
        set_groups(&mut accounts, "root", &groups, false).expect("there");
        assert_eq!(accounts.group.find("wheel").expect("there")[3], "");
        assert_eq!(accounts.group.find("users").expect("there")[3], "root");
    }
}
