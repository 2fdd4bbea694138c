//! oxsu: users, groups and their passwords, and becoming another user.
//!
//! One program that does what `argv[0]` names. It is installed set-user-id
//! root, because `su` and `passwd` serve everybody; it is apart from oxbox so
//! that nothing else is. Every other name first gives up what that bit gave, so
//! that for them the caller's own rights decide.
//!
//! [`table`] and [`accounts`] know /etc/passwd, /etc/shadow and /etc/group,
//! [`password`] knows hashes and the terminal; one file per subject has the
//! commands.

mod accounts;
mod groups;
mod passwd;
mod password;
mod su;
mod syslog;
mod table;
mod users;

use std::ffi::OsString;

/// Why a command ends: the message, and the exit status.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub status: i32,
}

/// A failure of status 1; most commands' manuals name others as well.
fn failure(message: impl std::fmt::Display) -> Failure {
    with_status(1, message)
}

fn with_status(status: i32, message: impl std::fmt::Display) -> Failure {
    Failure {
        message: message.to_string(),
        status,
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        with_status(2, error)
    }
}

type Command = fn(lexopt::Parser) -> Result<i32, Failure>;

/// By name; whether it may keep root's rights.
const COMMANDS: [(&str, Command, bool); 13] = [
    ("addgroup", groups::addgroup, false),
    ("adduser", users::adduser, false),
    ("chpasswd", passwd::chpasswd, false),
    ("delgroup", groups::delgroup, false),
    ("deluser", users::deluser, false),
    ("groupadd", groups::groupadd, false),
    ("groupdel", groups::groupdel, false),
    ("login", su::login, false),
    ("passwd", passwd::passwd, true),
    ("su", su::su, true),
    ("useradd", users::useradd, false),
    ("userdel", users::userdel, false),
    ("usermod", users::usermod, false),
];

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let mut name = file_name(args.first());
    if name == "oxsu" && args.len() > 1 {
        args.remove(0);
        name = file_name(args.first());
    }
    let Some((_, command, keep)) = COMMANDS.iter().find(|(own, ..)| *own == name) else {
        let names = COMMANDS.map(|(name, ..)| name).join(" ");
        eprintln!("usage: oxsu COMMAND [ARGUMENT]...\ncommands: {names}");
        std::process::exit(2);
    };
    if !keep && let Err(error) = give_up_privileges() {
        eprintln!("{name}: cannot give up privileges: {}", error.desc());
        std::process::exit(1);
    }
    let status = match command(lexopt::Parser::from_args(args.into_iter().skip(1))) {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("{name}: {}", failure.message);
            failure.status
        }
    };
    std::process::exit(status);
}

fn file_name(argv0: Option<&OsString>) -> String {
    let path = std::path::Path::new(argv0.map_or("".as_ref(), OsString::as_os_str));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix('-').unwrap_or(&name).to_owned()
}

/// Real user and group for good, also in the saved set.
fn give_up_privileges() -> nix::Result<()> {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    nix::unistd::setresgid(group, group, group)?;
    nix::unistd::setresuid(user, user, user)
}

/// An argument as text.
fn text(value: OsString) -> Result<String, Failure> {
    value
        .into_string()
        .map_err(|value| with_status(2, format!("'{}' is not UTF-8", value.to_string_lossy())))
}

/// A line on standard output. A reader that left is no failure of the command.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
