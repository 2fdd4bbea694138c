//! Making the process of a service.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Gid, Pid, Uid, User, execve, fork, setsid};

use crate::console;
use crate::unit::Unit;

/// The search path of the system, as in /etc/profile.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the child needs, made before the fork: after it, only
/// system calls.
struct Plan<'a> {
    unit: &'a Unit,
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    /// Not set for root, who needs no change.
    user: Option<(CString, Uid, Gid)>,
    output: Option<BorrowedFd<'a>>,
}

/// What stops a start.
pub enum Failure {
    /// The unit is wrong; the same will happen next time.
    Unit(String),
    /// The system has no room now.
    System(String),
}

/// Starts `unit`. `output` is what its standard output and error become;
/// /dev/null without one. `terminal` is the console's type.
pub fn spawn(unit: &Unit, output: Option<BorrowedFd>, terminal: &str) -> Result<Pid, Failure> {
    let plan = plan(unit, output, terminal)?;
    // SAFETY: this process has one thread, so the child may run any code; it
    // makes system calls and ends in exec or exit.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child),
        Ok(ForkResult::Child) => plan.run(),
        Err(error) => Err(Failure::System(format!("cannot fork: {}", error.desc()))),
    }
}

fn plan<'a>(
    unit: &'a Unit,
    output: Option<BorrowedFd<'a>>,
    terminal: &str,
) -> Result<Plan<'a>, Failure> {
    let name = if unit.user.is_empty() {
        "root"
    } else {
        &unit.user
    };
    let entry = match name {
        // Known, so that the console does not wait for a file.
        "root" => None,
        _ => User::from_name(name).map_err(|error| {
            Failure::System(format!("cannot look up user {name}: {}", error.desc()))
        })?,
    };
    if entry.is_none() && name != "root" {
        return Err(Failure::Unit(format!("there is no user {name}")));
    }
    let home = entry
        .as_ref()
        .map_or("/root".to_owned(), |user| user.dir.display().to_string());
    let shell = match &entry {
        _ if unit.login => unit.command[0].clone(),
        Some(user) => user.shell.display().to_string(),
        None => "/bin/sh".to_owned(),
    };
    let mut environment = vec![
        format!("HOME={home}"),
        format!("USER={name}"),
        format!("LOGNAME={name}"),
        format!("SHELL={shell}"),
        PATH.to_owned(),
    ];
    if unit.console {
        environment.push(format!("TERM={terminal}"));
    }
    // The unit's own come last and replace ours.
    for given in &unit.environment {
        let key = given.split('=').next().unwrap_or(given);
        environment.retain(|own| own.split('=').next() != Some(key));
        environment.push(given.clone());
    }
    let mut arguments = unit.command.clone();
    if unit.login {
        let file = arguments[0].rsplit('/').next().unwrap_or("sh");
        arguments[0] = format!("-{file}");
    }
    let directory = match unit.directory.as_str() {
        "" if unit.login => home,
        "" => "/".to_owned(),
        given => given.to_owned(),
    };
    let user = match entry {
        Some(user) if !user.uid.is_root() => Some((c_string(name), user.uid, user.gid)),
        _ => None,
    };
    Ok(Plan {
        unit,
        program: c_string(&unit.command[0]),
        arguments: arguments.iter().map(|a| c_string(a)).collect(),
        environment: environment.iter().map(|e| c_string(e)).collect(),
        directory: c_string(&directory),
        user,
        output,
    })
}

fn c_string(text: &str) -> CString {
    // Units hold no NUL, and neither do /etc/passwd's fields or the kernel's TERM.
    CString::new(text).unwrap_or_default()
}

impl Plan<'_> {
    /// The child's side.
    fn run(&self) -> ! {
        let name = &self.unit.name;
        console::check(
            &format!("{name}: take its place"),
            setsid().map(drop).and_then(|()| self.streams()),
        );
        if self.unit.console {
            welcome();
        }
        if let Some((user, uid, gid)) = &self.user {
            let changed = nix::unistd::initgroups(user, *gid)
                .and_then(|()| nix::unistd::setgid(*gid))
                .and_then(|()| nix::unistd::setuid(*uid));
            if let Err(error) = changed {
                // Never as root what is meant for somebody else.
                eprintln!("init: {name}: cannot become {user:?}: {}", error.desc());
                std::process::exit(126);
            }
        }
        if nix::unistd::chdir(self.directory.as_c_str()).is_err() {
            let _ = nix::unistd::chdir("/");
        }
        // Rust ignores SIGPIPE, and exec would pass that on.
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { sigaction(Signal::SIGPIPE, &default) };
        console::check(
            &format!("{name}: unblock signals"),
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None),
        );
        let Err(error) = execve(&self.program, &self.arguments, &self.environment);
        let program = self.program.to_string_lossy();
        eprintln!("init: {name}: cannot run {program}: {}", error.desc());
        std::process::exit(127)
    }

    /// Standard input, output and error.
    fn streams(&self) -> nix::Result<()> {
        if self.unit.console {
            return console::take();
        }
        let null = open(
            c"/dev/null",
            OFlag::O_RDWR | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let output = self.output.unwrap_or(null.as_fd());
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(output)?;
        nix::unistd::dup2_stderr(output)?;
        if null.as_raw_fd() <= 2 {
            let _ = std::os::fd::IntoRawFd::into_raw_fd(null);
        }
        Ok(())
    }
}

/// Shows /etc/motd on the terminal, as login(1) does.
fn welcome() {
    // Without the file, or with a terminal that is gone, there is no welcome.
    if let Ok(text) = std::fs::read("/etc/motd") {
        let _ = std::io::Write::write_all(&mut std::io::stdout(), &text);
    }
}
