//! clear, reset, which, setsid, flock, time and help.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::termios::{self, InputFlags, LocalFlags, OutputFlags, SetArg};

use super::Args;
use crate::sys::{fail, lossy, options};

/// Home the cursor, clear the screen, clear what scrolled off it.
pub fn clear(_: Args) -> i32 {
    i32::from(
        std::io::stdout()
            .write_all(b"\x1b[H\x1b[2J\x1b[3J")
            .is_err(),
    )
}

/// Brings a confused terminal back: its modes, then its own state.
pub fn reset(_: Args) -> i32 {
    let stdin = std::io::stdin();
    if let Ok(mut modes) = termios::tcgetattr(&stdin) {
        modes.input_flags |= InputFlags::ICRNL | InputFlags::IXON | InputFlags::BRKINT;
        modes.input_flags &= !(InputFlags::INLCR | InputFlags::IGNCR);
        modes.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
        modes.local_flags |= LocalFlags::ICANON
            | LocalFlags::ISIG
            | LocalFlags::IEXTEN
            | LocalFlags::ECHO
            | LocalFlags::ECHOE
            | LocalFlags::ECHOK
            | LocalFlags::ECHOCTL
            | LocalFlags::ECHOKE;
        if let Err(error) = termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &modes) {
            return fail("reset", error.desc(), 1);
        }
    }
    // RIS, then the default character set and visible cursor.
    i32::from(
        std::io::stdout()
            .write_all(b"\x1bc\x1b(B\x1b[0m\x1b[?25h")
            .is_err(),
    )
}

/// The first executable file of that name in $PATH (`-a`: every one).
pub fn which(args: Args) -> i32 {
    let parsed = match options(args, "a", "", &[("all", 'a')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("which", message, 2),
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let mut status = 0;
    for name in &parsed.operands {
        let mut candidates: Vec<String> = if name.contains('/') {
            vec![name.clone()]
        } else {
            path.split(':')
                .map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir }))
                .collect()
        };
        candidates.retain(|path| is_executable(Path::new(path)));
        if candidates.is_empty() {
            status = 1;
        }
        let shown = if parsed.has('a') { candidates.len() } else { 1 };
        for path in candidates.iter().take(shown) {
            println!("{path}");
        }
    }
    status
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The exit status a shell would report.
fn shell_status(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Builds the command that `words` name.
fn command(words: &[String]) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    Some(command)
}

/// Runs a program in a session of its own; `-c` gives it the terminal.
pub fn setsid(args: Args) -> i32 {
    let parsed = match options(
        args,
        "cfw",
        "",
        &[("ctty", 'c'), ("fork", 'f'), ("wait", 'w')],
        false,
    ) {
        Ok(parsed) => parsed,
        Err(message) => return fail("setsid", message, 1),
    };
    let Some(mut command) = command(&parsed.operands) else {
        return fail("setsid", "no command given", 1);
    };
    let terminal = parsed.has('c');
    let enter = move || {
        nix::unistd::setsid()?;
        if terminal {
            // SAFETY: TIOCSCTTY takes an integer and touches no memory.
            let result = unsafe { nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 1) };
            nix::errno::Errno::result(result)?;
        }
        Ok(())
    };
    // A leader of a group cannot start a session: let a child do it.
    if parsed.has('f') || nix::unistd::getpgrp() == nix::unistd::getpid() {
        // SAFETY: between fork and exec it only makes system calls.
        unsafe { command.pre_exec(enter) };
        return match command.spawn() {
            Ok(mut child) if parsed.has('w') => child.wait().map_or(1, shell_status),
            Ok(_) => 0,
            Err(error) => fail("setsid", error, 126),
        };
    }
    if let Err(error) = enter() {
        return fail("setsid", error, 1);
    }
    fail("setsid", command.exec(), 127)
}

/// Runs a command while holding a lock on a file.
pub fn flock(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("shared", 's'),
        ("exclusive", 'x'),
        ("nonblock", 'n'),
        ("unlock", 'u'),
        ("command", 'c'),
        ("conflict-exit-code", 'E'),
    ];
    let parsed = match options(args, "sxenu", "cE", LONG, false) {
        Ok(parsed) => parsed,
        Err(message) => return fail("flock", message, 64),
    };
    let Some((path, mut words)) = parsed.operands.split_first() else {
        return fail("flock", "no file given", 64);
    };
    let after: Vec<String>;
    if let [option, text] = words
        && (option == "-c" || option == "--command")
    {
        after = vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()];
        words = &after;
    }
    let Some(mut command) = command(words) else {
        return fail("flock", "no command given", 64);
    };
    let file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .or_else(|_| fs::File::open(path));
    let file = match file {
        Ok(file) => file,
        Err(error) => return fail("flock", format!("{path}: {error}"), 66),
    };
    let how = match (parsed.has('s'), parsed.has('n')) {
        (true, true) => FlockArg::LockSharedNonblock,
        (true, false) => FlockArg::LockShared,
        (false, true) => FlockArg::LockExclusiveNonblock,
        (false, false) => FlockArg::LockExclusive,
    };
    let conflict = parsed.value('E').and_then(|c| c.parse().ok()).unwrap_or(1);
    let Ok(_lock) = Flock::lock(file, how) else {
        return conflict;
    };
    match command.status() {
        Ok(status) => shell_status(status),
        Err(error) => fail("flock", error, 127),
    }
}

/// Runs a command and reports how long it took.
pub fn time(args: Args) -> i32 {
    let parsed = match options(args, "pv", "", &[], false) {
        Ok(parsed) => parsed,
        Err(message) => return fail("time", message, 125),
    };
    let Some(mut command) = command(&parsed.operands) else {
        return fail("time", "no command given", 125);
    };
    let start = Instant::now();
    let status = match command.status() {
        Ok(status) => shell_status(status),
        Err(error) => return fail("time", format!("{}: {error}", parsed.operands[0]), 127),
    };
    let real = start.elapsed().as_secs_f64();
    let (user, system) = children_times();
    eprintln!("real {real:.2}\nuser {user:.2}\nsys {system:.2}");
    status
}

/// Processor seconds of the children waited for, in user mode and the kernel.
fn children_times() -> (f64, f64) {
    use nix::sys::resource::{UsageWho, getrusage};
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    match getrusage(UsageWho::RUSAGE_CHILDREN) {
        Ok(usage) => (seconds(usage.user_time()), seconds(usage.system_time())),
        Err(_) => (0.0, 0.0),
    }
}

/// What there is on this system, and how to learn more.
pub fn help(args: Args) -> i32 {
    if let Some(name) = args.get(1).cloned().map(lossy) {
        let Ok(own) = std::env::current_exe() else {
            return fail("help", "cannot find oxbox", 1);
        };
        let status = Command::new(own).args([name.as_str(), "--help"]).status();
        return status.map_or(1, shell_status);
    }
    let mut names: Vec<&str> = crate::all().map(|applet| applet.name).collect();
    names.sort_unstable();
    println!("Oxbow: an operating system for virtual machines.\n");
    println!("Programs (NAME --help tells more; `help` in the shell lists its builtins):");
    let (_, width) = crate::sys::terminal_size();
    let mut line = String::from(" ");
    for name in names {
        if line.len() + name.len() + 1 > width.min(100) {
            println!("{line}");
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(name);
    }
    println!("{line}");
    println!("\n`poweroff` ends the machine, `reboot` starts it anew.");
    0
}
