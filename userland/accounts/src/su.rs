//! su and login: becoming another user.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use lexopt::prelude::*;
use nix::unistd::{Gid, Uid};

use crate::accounts::{Accounts, User};
use crate::password::{ask, verify};
use crate::{Failure, failure, say, syslog, text, with_status};

const ETC: &str = "/etc";
/// After a wrong password.
const PENALTY: Duration = Duration::from_secs(2);
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Passwords that fit no account take as long as those that do.
const NOBODY: &str = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$GmcwIgvdUC9qLWcKCi6gklUa1dM3ziD43YxYNURLKy0";

const USAGE: &str = "\
usage: su [OPTION]... [-] [USER [ARGUMENT]...]
  -, -l, --login         with the environment and the directory of a login
  -c, --command COMMAND  run this and end
  -s, --shell SHELL      instead of the user's own, which must be in /etc/shells
  -m, -p                 keep the environment";

/// What is to run as the other user.
#[derive(Default)]
struct Session {
    login: bool,
    keep_environment: bool,
    command: Option<String>,
    shell: Option<String>,
    arguments: Vec<String>,
}

/// `su`: set-user-id root.
pub fn su(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let mut session = Session::default();
    let mut name = None;
    while let Some(arg) = args.next()? {
        match arg {
            Short('l') | Long("login") => session.login = true,
            Short('c') | Long("command") => session.command = Some(text(args.value()?)?),
            Short('s') | Long("shell") => session.shell = Some(text(args.value()?)?),
            Short('m' | 'p') | Long("preserve-environment") => session.keep_environment = true,
            Short('h') | Long("help") => {
                say(USAGE);
                return Ok(0);
            }
            Value(value) if value == "-" && name.is_none() => session.login = true,
            Value(value) if name.is_none() => name = Some(text(value)?),
            Value(value) => session.arguments.push(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let name = name.unwrap_or_else(|| "root".to_owned());
    let accounts = Accounts::read(Path::new(ETC))?;
    let real = nix::unistd::getuid();
    let from = accounts
        .user_of(real.as_raw())
        .map_or_else(|| real.to_string(), |user| user.name);
    let user = accounts.user(&name);
    if !real.is_root() {
        if !nix::unistd::geteuid().is_root() {
            return Err(failure("must be suid to work properly"));
        }
        authenticate(&accounts, user.as_ref(), &from)?;
    }
    let user = user.ok_or_else(|| {
        failure(format!(
            "user {name} does not exist or the user entry does not contain all the required fields"
        ))
    })?;
    if let Some(shell) = &session.shell
        && !real.is_root()
        && !is_listed(&user.shell)
    {
        // A restricted account stays what it is.
        eprintln!("su: using restricted shell {}, not {shell}", user.shell);
        session.shell = None;
    }
    syslog::note("su", &format!("{from} became {}", user.name));
    Err(enter(&user, &session))
}

/// Asks for the password of `user`, which may not exist.
fn authenticate(accounts: &Accounts, user: Option<&User>, from: &str) -> Result<(), Failure> {
    let refused = || failure("Authentication failure");
    let hash = user.map_or_else(|| "*".to_owned(), |user| accounts.hash(&user.name));
    let given = ask("Password: ")?.ok_or_else(refused)?;
    let real = hash.starts_with('$');
    let fits = verify(&given, if real { &hash } else { NOBODY });
    let name = user.map_or("an unknown user", |user| user.name.as_str());
    if !(real && fits) {
        syslog::note("su", &format!("{from} failed to become {name}"));
        std::thread::sleep(PENALTY);
        return Err(refused());
    }
    if accounts.is_expired(name) {
        return Err(failure(
            "Your account has expired; please contact your system administrator.",
        ));
    }
    Ok(())
}

/// Whether /etc/shells has `shell`.
fn is_listed(shell: &str) -> bool {
    let shells = std::fs::read_to_string("/etc/shells").unwrap_or_default();
    shells.lines().any(|line| line.trim() == shell)
}

/// `login [-f] [USER]`: for root only, on a terminal.
pub fn login(mut args: lexopt::Parser) -> Result<i32, Failure> {
    let (mut name, mut trusted) = (None, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('f') => trusted = true,
            Short('p') => {}
            Value(value) if name.is_none() => name = Some(text(value)?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    if !nix::unistd::getuid().is_root() {
        return Err(failure("only root may; su serves everybody"));
    }
    let accounts = Accounts::read(Path::new(ETC))?;
    let name = match name {
        Some(name) => name,
        None => ask_name()?,
    };
    let user = accounts.user(&name);
    if !trusted {
        authenticate(&accounts, user.as_ref(), "login")
            .map_err(|failure| with_status(failure.status, "Login incorrect"))?;
    }
    let user = user.ok_or_else(|| failure("Login incorrect"))?;
    syslog::note("login", &format!("{} logged in", user.name));
    let session = Session {
        login: true,
        ..Session::default()
    };
    Err(enter(&user, &session))
}

fn ask_name() -> Result<String, Failure> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    eprint!("{} login: ", host.to_string_lossy());
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => Err(failure("no name")),
        Ok(_) => Ok(line.trim().to_owned()),
    }
}

/// Becomes `user` and runs its shell; returns only when that fails.
fn enter(user: &User, session: &Session) -> Failure {
    let shell = session.shell.as_deref().unwrap_or(&user.shell);
    let mut arguments = vec![if session.login {
        format!("-{}", shell.rsplit('/').next().unwrap_or(shell))
    } else {
        shell.rsplit('/').next().unwrap_or(shell).to_owned()
    }];
    if let Some(command) = &session.command {
        arguments.extend(["-c".to_owned(), command.clone()]);
    }
    arguments.extend(session.arguments.iter().cloned());
    let environment = environment(user, shell, session);

    let strings = |all: &[String]| -> Result<Vec<CString>, std::ffi::NulError> {
        all.iter().map(|text| CString::new(text.as_str())).collect()
    };
    let (Ok(arguments), Ok(environment), Ok(program), Ok(name)) = (
        strings(&arguments),
        strings(&environment),
        CString::new(shell),
        CString::new(user.name.as_str()),
    ) else {
        return failure("an argument holds a zero byte");
    };
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let changed = nix::unistd::initgroups(&name, gid)
        .and_then(|()| nix::unistd::setresgid(gid, gid, gid))
        .and_then(|()| nix::unistd::setresuid(uid, uid, uid));
    if let Err(error) = changed {
        return failure(format!("cannot set user and groups: {}", error.desc()));
    }
    if session.login && std::env::set_current_dir(&user.home).is_err() {
        eprintln!("su: cannot change directory to {}", user.home);
        let _ = std::env::set_current_dir("/");
    }
    // Rust ignores SIGPIPE, and exec would pass that on.
    let default = nix::sys::signal::SigHandler::SigDfl;
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, default) };
    let Err(error) = nix::unistd::execve(&program, &arguments, &environment);
    let status = if error == nix::errno::Errno::ENOENT {
        127
    } else {
        126
    };
    with_status(
        status,
        format!("failed to execute {shell}: {}", error.desc()),
    )
}

/// `NAME=VALUE` for the new session (su(1)).
fn environment(user: &User, shell: &str, session: &Session) -> Vec<String> {
    let mut all: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        // What a dynamic loader takes from the caller is not for somebody else.
        .filter(|(key, _)| !key.starts_with("LD_"))
        .collect();
    if session.login {
        all.retain(|key, _| key == "TERM");
        let path = if user.uid == 0 { ROOT_PATH } else { PATH };
        all.insert("PATH".to_owned(), path.to_owned());
    }
    let mut set = |key: &str, value: &str| all.insert(key.to_owned(), value.to_owned());
    if session.login || !session.keep_environment {
        set("HOME", &user.home);
        set("SHELL", shell);
        if session.login || user.uid != 0 {
            set("USER", &user.name);
            set("LOGNAME", &user.name);
        }
    }
    all.into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> User {
        User {
            name: "bob".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/bob".into(),
            shell: "/bin/sh".into(),
        }
    }

    #[test]
    fn environments() {
        let login = Session {
            login: true,
            ..Session::default()
        };
        let clean = environment(&bob(), "/bin/sh", &login);
        let without_term: Vec<&String> = clean.iter().filter(|e| !e.starts_with("TERM=")).collect();
        assert_eq!(
            without_term,
            [
                "HOME=/home/bob",
                "LOGNAME=bob",
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "SHELL=/bin/sh",
                "USER=bob"
            ]
        );
        let usual = environment(&bob(), "/bin/sh", &Session::default());
        assert!(usual.contains(&"HOME=/home/bob".to_owned()));
        assert!(usual.iter().any(|e| e.starts_with("PATH=")), "kept");
    }

    #[test]
    fn the_stand_in_is_a_hash_that_can_be_computed() {
        assert!(verify("secret", NOBODY));
    }
}
