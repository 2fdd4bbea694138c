//! groupadd, groupdel, addgroup and delgroup.

use std::path::Path;

use lexopt::prelude::*;

use crate::accounts::{Accounts, GID, MEMBERS};
use crate::table::{is_name, members};
use crate::{Failure, failure, syslog, text, with_status};

const ETC: &str = "/etc";
/// Numbers of users' groups and of services' (login.defs(5)).
pub const USERS: std::ops::RangeInclusive<u32> = 1000..=60_000;
pub const SYSTEM: std::ops::RangeInclusive<u32> = 101..=999;

/// `groupadd [-f] [-r] [-g GID] GROUP`.
pub fn groupadd(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let (mut name, mut gid, mut system, mut force) = (None, None, false, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('g') | Long("gid") => gid = Some(args.value()?.parse()?),
            Short('r') | Long("system") => system = true,
            Short('f') | Long("force") => force = true,
            Value(value) if name.is_none() => name = Some(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let name = name.ok_or_else(|| with_status(2, "usage: groupadd [-fr] [-g GID] GROUP"))?;
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    if force && accounts.group.find(&name).is_some() {
        return Ok(0);
    }
    add_group(&mut accounts, &name, gid, system)?;
    accounts.save()?;
    syslog::note("groupadd", &format!("new group {name}"));
    Ok(0)
}

/// Adds an empty group; returns its number.
pub fn add_group(
    accounts: &mut Accounts,
    name: &str,
    gid: Option<u32>,
    system: bool,
) -> Result<u32, Failure> {
    if !is_name(name) {
        return Err(with_status(
            3,
            format!("'{name}' is not a valid group name"),
        ));
    }
    if accounts.group.find(name).is_some() {
        return Err(with_status(9, format!("group '{name}' already exists")));
    }
    let range = if system { SYSTEM } else { USERS };
    let gid = match gid {
        Some(gid) if accounts.group_id(&gid.to_string()).is_ok() => {
            return Err(with_status(4, format!("GID '{gid}' already exists")));
        }
        Some(gid) => gid,
        None => accounts
            .group
            .free_id(2, range)
            .ok_or_else(|| failure("no group numbers left"))?,
    };
    accounts.group.push(&[name, "x", &gid.to_string(), ""]);
    Ok(gid)
}

/// `groupdel GROUP`.
pub fn groupdel(args: lexopt::Parser) -> Result<i32, Failure> {
    let [name] = operands(args, "groupdel GROUP")?;
    remove_group(&name)
}

fn remove_group(name: &str) -> Result<i32, Failure> {
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    delete_group(&mut accounts, name)?;
    accounts.save()?;
    syslog::note("groupdel", &format!("group {name} removed"));
    Ok(0)
}

fn delete_group(accounts: &mut Accounts, name: &str) -> Result<(), Failure> {
    let missing = || with_status(6, format!("group '{name}' does not exist"));
    let entry = accounts.group.find(name).ok_or_else(missing)?;
    let gid = entry.get(2).map_or("", String::as_str);
    let user = accounts
        .passwd
        .rows()
        .find(|row| row.get(GID) == Some(&gid))
        .map(|row| row[0].to_owned());
    if let Some(user) = user {
        return Err(with_status(
            8,
            format!("cannot remove the primary group of user '{user}'"),
        ));
    }
    accounts.group.remove(name);
    Ok(())
}

/// Exactly `N` operands and no options.
fn operands<const N: usize>(mut args: lexopt::Parser, usage: &str) -> Result<[String; N], Failure> {
    let mut all = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Value(value) => all.push(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    all.try_into()
        .map_err(|_| with_status(2, format!("usage: {usage}")))
}

/// Puts `user` into `group` or takes it out; false when nothing changed.
pub fn set_member(
    accounts: &mut Accounts,
    user: &str,
    group: &str,
    wanted: bool,
) -> Result<bool, Failure> {
    let entry = accounts
        .group
        .find(group)
        .ok_or_else(|| with_status(6, format!("group '{group}' does not exist")))?;
    let field = entry.get(MEMBERS).map_or("", String::as_str);
    let mut all = members(field);
    if all.contains(&user) == wanted {
        return Ok(false);
    }
    if wanted {
        all.push(user);
    } else {
        all.retain(|member| *member != user);
    }
    let list = all.join(",");
    Ok(accounts.group.set(group, MEMBERS, &list))
}

/// Changes one membership in the files.
pub fn change_member(user: &str, group: &str, wanted: bool) -> Result<i32, Failure> {
    let mut accounts = Accounts::lock(Path::new(ETC))?;
    if wanted && accounts.user(user).is_none() {
        return Err(failure(format!("user '{user}' does not exist")));
    }
    let changed = set_member(&mut accounts, user, group, wanted)?;
    if !changed && !wanted {
        return Err(failure(format!("user '{user}' is not in group '{group}'")));
    }
    accounts.save()?;
    let what = if wanted { "added to" } else { "removed from" };
    syslog::note("oxsu", &format!("user {user} {what} group {group}"));
    Ok(0)
}

/// `addgroup [-S] [-g GID] GROUP` or `addgroup USER GROUP`.
pub fn addgroup(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let (mut names, mut gid, mut system) = (Vec::new(), None, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('g') | Long("gid") => gid = Some(args.value()?.parse()?),
            Short('S') | Long("system") => system = true,
            Value(value) => names.push(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    match names.as_slice() {
        [user, group] => change_member(user, group, true),
        [group] => {
            let mut accounts = Accounts::lock(Path::new(ETC))?;
            add_group(&mut accounts, group, gid, system)?;
            accounts.save()?;
            syslog::note("addgroup", &format!("new group {group}"));
            Ok(0)
        }
        _ => Err(with_status(
            2,
            "usage: addgroup [-S] [-g GID] GROUP, or addgroup USER GROUP",
        )),
    }
}

/// `delgroup GROUP` or `delgroup USER GROUP`.
pub fn delgroup(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let mut names = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Value(value) => names.push(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    match names.as_slice() {
        [user, group] => change_member(user, group, false),
        [group] => remove_group(group),
        _ => Err(with_status(
            2,
            "usage: delgroup GROUP, or delgroup USER GROUP",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tests::folder;

    #[test]
    fn groups_come_and_go() {
        let mut accounts = Accounts::read(&folder("groups")).expect("there");
        assert_eq!(
            add_group(&mut accounts, "staff", None, false).expect("new"),
            1000
        );
        assert_eq!(
            add_group(&mut accounts, "daemons", None, true).expect("new"),
            101
        );
        assert_eq!(
            add_group(&mut accounts, "staff", None, false)
                .unwrap_err()
                .status,
            9
        );
        assert_eq!(
            add_group(&mut accounts, "other", Some(10), false)
                .unwrap_err()
                .status,
            4
        );
        assert_eq!(
            add_group(&mut accounts, "a:b", None, false)
                .unwrap_err()
                .status,
            3
        );
        assert!(set_member(&mut accounts, "nobody", "staff", true).expect("there"));
        assert!(set_member(&mut accounts, "root", "staff", true).expect("there"));
        assert!(!set_member(&mut accounts, "root", "staff", true).expect("there"));
        assert_eq!(
            accounts.group.find("staff").expect("there")[3],
            "nobody,root"
        );
        assert!(set_member(&mut accounts, "nobody", "staff", false).expect("there"));
        assert_eq!(accounts.group.find("staff").expect("there")[3], "root");
        assert_eq!(
            delete_group(&mut accounts, "nogroup").unwrap_err().status,
            8
        );
        assert_eq!(delete_group(&mut accounts, "gone").unwrap_err().status, 6);
        delete_group(&mut accounts, "staff").expect("nobody's");
    }
}
