//! clear, reset, which, setsid and help.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::termios::{self, InputFlags, LocalFlags, OutputFlags, SetArg};

use super::Args;
use super::run::{command, shell_status};
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
    // Where a shell without a PATH looks.
    let path = std::env::var("PATH").unwrap_or_else(|_| "/sbin:/usr/sbin:/bin:/usr/bin".to_owned());
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
    let Some(mut command) = command(&parsed.paths) else {
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
