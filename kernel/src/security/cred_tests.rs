use super::*;

fn user(uid: Uid, gid: Gid) -> Credentials {
    Credentials {
        uid,
        euid: uid,
        suid: uid,
        fsuid: uid,
        gid,
        egid: gid,
        sgid: gid,
        fsgid: gid,
        groups: vec![50],
        caps: Capabilities::NONE,
    }
}

#[test]
fn owner_class_decides_alone() {
    // The owner lacks what the group has: still denied.
    assert!(!user(7, 50).permits(MAY_READ, 7, 50, 0o100_040));
    assert!(user(8, 1).permits(MAY_READ, 7, 50, 0o100_040));
    assert!(!user(8, 1).permits(MAY_READ, 7, 51, 0o100_040));
}

#[test]
fn root_executes_only_executables() {
    let root = Credentials::root();
    assert!(root.permits(MAY_READ | MAY_WRITE, 7, 7, 0o100_000));
    assert!(!root.permits(MAY_EXEC, 7, 7, 0o100_644));
    assert!(root.permits(MAY_EXEC, 7, 7, 0o100_744));
    assert!(root.permits(MAY_EXEC, 7, 7, 0o040_000));
}

/// The three ids after a call, or the error.
fn ids(result: Result<Credentials>) -> Result<Ids> {
    result.map(|c| {
        assert_eq!(c.fsuid, c.euid, "fsuid follows euid");
        c.uids()
    })
}

#[test]
fn setuid_table() {
    let root = Credentials::root();
    assert_eq!(ids(root.setuid(5, false)), Ok((5, 5, 5)));
    assert_eq!(root.setuid(UNCHANGED, false), Err(Errno::EINVAL));
    // A set-user-id program of user 9, run by user 5.
    let (setuid, gained) = user(5, 5).exec(Some(9), None);
    assert!(gained);
    assert_eq!(setuid.uids(), (5, 9, 9));
    assert_eq!(ids(setuid.setuid(5, false)), Ok((5, 5, 9)));
    assert_eq!(ids(setuid.setuid(9, false)), Ok((5, 9, 9)));
    assert_eq!(setuid.setuid(0, false), Err(Errno::EPERM));
    // Dropped for good: no way back.
    let dropped = root.setuid(5, false).unwrap();
    assert_eq!(dropped.setuid(0, false), Err(Errno::EPERM));
    assert!(!dropped.is_privileged());
}

#[test]
fn setreuid_table() {
    let c = Credentials {
        uid: 1,
        euid: 2,
        suid: 3,
        fsuid: 2,
        ..user(1, 1)
    };
    let u = UNCHANGED;
    let table = [
        // (real, effective) -> (real, effective, saved)
        ((u, u), Ok((1, 2, 3))),
        ((1, u), Ok((1, 2, 2))),
        ((2, u), Ok((2, 2, 2))),
        ((3, u), Err(Errno::EPERM)),
        ((u, 1), Ok((1, 1, 3))),
        ((u, 2), Ok((1, 2, 2))),
        ((u, 3), Ok((1, 3, 3))),
        ((u, 4), Err(Errno::EPERM)),
        ((2, 1), Ok((2, 1, 1))),
    ];
    for ((r, e), want) in table {
        assert_eq!(ids(c.setreuid(r, e, false)), want, "setreuid({r}, {e})");
    }
    assert_eq!(
        ids(Credentials::root().setreuid(7, 8, false)),
        Ok((7, 8, 8))
    );
}

#[test]
fn setresuid_table() {
    let c = Credentials {
        uid: 1,
        euid: 2,
        suid: 3,
        fsuid: 2,
        ..user(1, 1)
    };
    let u = UNCHANGED;
    assert_eq!(ids(c.setresuid((u, u, u), false)), Ok((1, 2, 3)));
    assert_eq!(ids(c.setresuid((3, 1, 2), false)), Ok((3, 1, 2)));
    assert_eq!(c.setresuid((4, u, u), false), Err(Errno::EPERM));
    assert_eq!(c.setresuid((u, u, 4), false), Err(Errno::EPERM));
    // root keeps the way back open in the saved id.
    let root = Credentials::root();
    let away = root.setresuid((u, 5, u), false).unwrap();
    assert_eq!(away.uids(), (0, 5, 0));
    assert!(!away.is_privileged());
    let back = away.setresuid((u, 0, u), false).unwrap();
    assert!(back.is_privileged());
}

#[test]
fn group_calls() {
    let c = user(5, 6);
    assert_eq!(c.setgid(7), Err(Errno::EPERM));
    assert_eq!(c.setgid(UNCHANGED), Err(Errno::EINVAL));
    assert_eq!(c.setgid(6).unwrap().gids(), (6, 6, 6));
    assert_eq!(c.setgroups(vec![1]), Err(Errno::EPERM));
    let r = Credentials::root().setgroups(vec![9, 3]).unwrap();
    assert_eq!(r.groups, [3, 9]);
    assert!(r.in_group(9) && r.in_group(0) && !r.in_group(4));
    assert_eq!(
        Credentials::root().setresgid((1, 2, 3)).unwrap().gids(),
        (1, 2, 3)
    );
    assert_eq!(c.setregid(UNCHANGED, 9), Err(Errno::EPERM));
}

#[test]
fn setfsuid_knows_only_own_ids() {
    let c = user(5, 5);
    assert!(c.setfsuid(6).is_none());
    assert!(c.setfsuid(UNCHANGED).is_none());
    assert_eq!(c.setfsuid(5).unwrap().fsuid, 5);
    let root = Credentials::root().setfsuid(6).unwrap();
    assert!(!root.permits(MAY_READ, 7, 7, 0o100_600));
    assert!(root.setfsuid(0).unwrap().permits(MAY_READ, 7, 7, 0o100_600));
    assert!(Credentials::root().setfsgid(4).is_some());
}

#[test]
fn exec_of_ordinary_files_keeps_ids() {
    let c = Credentials {
        uid: 1,
        euid: 2,
        suid: 3,
        fsuid: 9,
        ..user(1, 1)
    };
    let (new, gained) = c.exec(None, None);
    assert_eq!((new.uids(), new.fsuid, gained), ((1, 2, 2), 2, true));
    assert!(!user(4, 4).exec(None, None).1);
}
