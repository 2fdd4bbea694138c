//! pgrep, pkill, pidof, killall and renice: processes chosen by what they are.

use std::path::Path;
use std::str::FromStr as _;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Args;
use crate::proc::Process;
use crate::sys::{fail, group_id, lossy, options, user_id};

/// A signal by number or by name, with or without `SIG`. 0 (only check) is
/// `None`.
fn signal(text: &str) -> Result<Option<Signal>, String> {
    if let Ok(number) = text.parse::<i32>() {
        if number == 0 {
            return Ok(None);
        }
        return Signal::try_from(number)
            .map(Some)
            .map_err(|_| format!("{text}: invalid signal"));
    }
    let name = text.to_uppercase();
    let name = if name.starts_with("SIG") {
        name
    } else {
        format!("SIG{name}")
    };
    Signal::from_str(&name)
        .map(Some)
        .map_err(|_| format!("{text}: invalid signal"))
}

/// Takes `-9`, `-HUP`, `-SIGHUP` out of `args`, as the first argument only.
fn leading_signal(args: &mut Args) -> Result<Option<Signal>, String> {
    let text = args.get(1).map(|a| a.to_string_lossy().into_owned());
    let candidate = text.as_deref().and_then(|t| t.strip_prefix('-'));
    // A single capital is an option of the applet's own.
    let is_signal = |name: &str| {
        name.chars().all(|c| c.is_ascii_digit())
            || (name.len() > 1
                && name
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
    };
    if let Some(name) = candidate.filter(|name| !name.is_empty() && is_signal(name)) {
        let found = signal(name)?;
        args.remove(1);
        return Ok(found);
    }
    Ok(Some(Signal::SIGTERM))
}

fn send(applet: &str, pid: i32, signal: Option<Signal>) -> Result<(), i32> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => Ok(()),
        // Gone by itself in the meantime.
        Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(fail(applet, format!("{pid}: {}", error.desc()), 1)),
    }
}

pub fn pgrep(args: Args) -> i32 {
    select("pgrep", args, None)
}

pub fn pkill(mut args: Args) -> i32 {
    match leading_signal(&mut args) {
        Ok(signal) => select("pkill", args, Some(signal)),
        Err(message) => fail("pkill", message, 2),
    }
}

/// Lists or (with `action`) signals the processes that match.
fn select(applet: &str, args: Args, action: Option<Option<Signal>>) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("full", 'f'),
        ("exact", 'x'),
        ("newest", 'n'),
        ("oldest", 'o'),
        ("inverse", 'v'),
        ("count", 'c'),
        ("list-name", 'l'),
        ("list-full", 'a'),
        ("ignore-case", 'i'),
        ("parent", 'P'),
        ("uid", 'u'),
        ("euid", 'u'),
        ("terminal", 't'),
        ("delimiter", 'd'),
        ("signal", 'S'),
        ("session", 's'),
        ("pgroup", 'g'),
        ("group", 'G'),
        ("runstates", 'r'),
        ("lightweight", 'w'),
        ("echo", 'e'),
    ];
    let parsed = match options(args, "fxnovclaiew", "PuUtgGdsSr", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail(applet, message, 2),
    };
    let action = match (action, parsed.value('S')) {
        (Some(_), Some(name)) => match signal(name) {
            Ok(signal) => Some(signal),
            Err(message) => return fail(applet, message, 2),
        },
        (action, _) => action,
    };
    let ids = |letter: char| -> Option<Vec<u32>> {
        let list = parsed.value(letter)?;
        Some(list.split(',').filter_map(user_id).collect())
    };
    let (parents, users) = (ids('P'), ids('u').or(ids('U')));
    // Zero stands for the caller's own.
    let own_or = |letter: char, own: i32| -> Option<Vec<i32>> {
        let list = parsed.value(letter)?.split(',');
        let numbers = list.filter_map(|id| id.parse::<i32>().ok());
        Some(numbers.map(|id| if id == 0 { own } else { id }).collect())
    };
    let groups = own_or('g', nix::unistd::getpgrp().as_raw());
    let session = nix::unistd::getsid(None).map_or(0, Pid::as_raw);
    let sessions = own_or('s', session);
    let group_ids: Option<Vec<u32>> = parsed
        .value('G')
        .map(|list| list.split(',').filter_map(group_id).collect());
    let criteria = ["P", "u", "U", "t", "g", "s", "G", "r"];
    let any = criteria
        .iter()
        .any(|letter| letter.chars().any(|l| parsed.value(l).is_some()));
    let pattern = match parsed.operands.as_slice() {
        [] if !any => {
            return fail(applet, "no matching criteria specified", 2);
        }
        [] => None,
        [pattern] => {
            let anchored = if parsed.has('x') {
                format!("^(?:{pattern})$")
            } else {
                pattern.clone()
            };
            let built = regex::RegexBuilder::new(&anchored)
                .case_insensitive(parsed.has('i'))
                .build();
            match built {
                Ok(regex) => Some(regex),
                Err(error) => return fail(applet, error, 2),
            }
        }
        _ => return fail(applet, "only one pattern can be given", 2),
    };
    let own = std::process::id();
    let mut found: Vec<Process> = Process::all();
    found.retain(|p| {
        if u32::try_from(p.pid) == Ok(own) {
            return false;
        }
        let text = if parsed.has('f') {
            p.command()
        } else {
            p.comm.clone()
        };
        let matches = pattern.as_ref().is_none_or(|regex| regex.is_match(&text))
            && parents
                .as_ref()
                .is_none_or(|l| l.iter().any(|id| i32::try_from(*id) == Ok(p.ppid)))
            && users.as_ref().is_none_or(|list| list.contains(&p.uid))
            && parsed
                .value('t')
                .is_none_or(|t| t.split(',').any(|t| t == p.tty_name()))
            && groups.as_ref().is_none_or(|list| list.contains(&p.pgid))
            && sessions
                .as_ref()
                .is_none_or(|list| list.contains(&p.session))
            && group_ids.as_ref().is_none_or(|list| list.contains(&p.gid))
            && parsed
                .value('r')
                .is_none_or(|states| states.contains(p.state));
        matches != parsed.has('v')
    });
    if parsed.has('n') || parsed.has('o') {
        found.sort_by_key(|p| (p.start, p.pid));
        let keep = if parsed.has('n') {
            found.pop()
        } else {
            found.drain(..).next()
        };
        found = keep.into_iter().collect();
    }
    if parsed.has('c') {
        println!("{}", found.len());
    }
    if let Some(signal) = action {
        let mut status = i32::from(found.is_empty());
        for process in &found {
            match send(applet, process.pid, signal) {
                Ok(()) if parsed.has('e') => {
                    println!("{} killed (pid {})", process.comm, process.pid);
                }
                Ok(()) => {}
                Err(failed) => status = failed,
            }
        }
        return status;
    }
    if !parsed.has('c') {
        let lines: Vec<String> = found
            .iter()
            .map(|p| match (parsed.has('a'), parsed.has('l')) {
                (true, _) => format!("{} {}", p.pid, p.command()),
                (_, true) => format!("{} {}", p.pid, p.comm),
                _ => p.pid.to_string(),
            })
            .collect();
        if !lines.is_empty() {
            println!("{}", lines.join(parsed.value('d').unwrap_or("\n")));
        }
    }
    i32::from(found.is_empty())
}

/// Whether `process` runs the program `name`.
fn runs(process: &Process, name: &str) -> bool {
    let wanted = Path::new(name).file_name().unwrap_or_default();
    let program = process.cmdline.first().map(|c| c.trim_start_matches('-'));
    let file = program.and_then(|p| Path::new(p).file_name());
    let short: String = wanted.to_string_lossy().chars().take(15).collect();
    process.comm == short || file == Some(wanted)
}

pub fn pidof(args: Args) -> i32 {
    let parsed = match options(args, "sxqc", "o", &[("single-shot", 's')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("pidof", message, 1),
    };
    let own = std::process::id();
    let omit: Vec<&str> = parsed
        .value('o')
        .map_or(Vec::new(), |o| o.split(',').collect());
    let mut pids: Vec<String> = Process::all()
        .iter()
        .rev()
        .filter(|p| u32::try_from(p.pid) != Ok(own))
        .filter(|p| parsed.operands.iter().any(|name| runs(p, name)))
        .map(|p| p.pid.to_string())
        .filter(|pid| !omit.contains(&pid.as_str()))
        .collect();
    if parsed.has('s') {
        pids.truncate(1);
    }
    if pids.is_empty() {
        return 1;
    }
    if !parsed.has('q') {
        println!("{}", pids.join(" "));
    }
    0
}

pub fn killall(mut args: Args) -> i32 {
    let mut action = match leading_signal(&mut args) {
        Ok(signal) => signal,
        Err(message) => return fail("killall", message, 1),
    };
    let parsed = match options(args, "qvwe", "s", &[("signal", 's'), ("quiet", 'q')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("killall", message, 1),
    };
    if let Some(name) = parsed.value('s') {
        action = match signal(name) {
            Ok(signal) => signal,
            Err(message) => return fail("killall", message, 1),
        };
    }
    if parsed.operands.is_empty() {
        return fail("killall", "name a process; try 'killall --help'", 1);
    }
    let own = std::process::id();
    let all = Process::all();
    let mut status = 0;
    let mut signalled = Vec::new();
    for name in &parsed.operands {
        let mut found = false;
        for process in &all {
            if u32::try_from(process.pid) != Ok(own) && runs(process, name) {
                found = true;
                match send("killall", process.pid, action) {
                    Err(failed) => status = failed,
                    Ok(()) => {
                        signalled.push(process.pid);
                        if parsed.has('v') {
                            eprintln!("Killed {}({})", process.comm, process.pid);
                        }
                    }
                }
            }
        }
        if !found {
            status = 1;
            if !parsed.has('q') {
                eprintln!("{name}: no process found");
            }
        }
    }
    if parsed.has('w') {
        // Nobody tells us of the end of what is not our child.
        while signalled
            .iter()
            .any(|pid| Process::read(*pid).is_some_and(|p| p.state != 'Z'))
        {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
    status
}

/// Sets the nice value of running processes, groups or users.
pub fn renice(args: Args) -> i32 {
    let mut words = args.into_iter().skip(1).map(lossy).peekable();
    if words.peek().is_some_and(|w| w == "-n" || w == "--priority") {
        words.next();
    }
    let Some(Ok(value)) = words.next().map(|w| w.parse::<i32>()) else {
        return fail("renice", "give a nice value", 1);
    };
    let mut kind = nix::libc::PRIO_PROCESS;
    let mut status = 0;
    for word in words {
        match word.as_str() {
            "-p" | "--pid" => kind = nix::libc::PRIO_PROCESS,
            "-g" | "--pgrp" => kind = nix::libc::PRIO_PGRP,
            "-u" | "--user" => kind = nix::libc::PRIO_USER,
            word => {
                let id = match kind {
                    nix::libc::PRIO_USER => user_id(word),
                    _ => word.parse().ok(),
                };
                let Some(id) = id else {
                    status = fail("renice", format!("{word}: bad id"), 1);
                    continue;
                };
                // SAFETY: takes three integers, touches no memory.
                let result = unsafe { nix::libc::setpriority(kind, id, value) };
                if let Err(error) = Errno::result(result) {
                    status = fail("renice", format!("{word}: {}", error.desc()), 1);
                }
            }
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        assert_eq!(signal("9"), Ok(Some(Signal::SIGKILL)));
        assert_eq!(signal("hup"), Ok(Some(Signal::SIGHUP)));
        assert_eq!(signal("SIGUSR1"), Ok(Some(Signal::SIGUSR1)));
        assert_eq!(signal("0"), Ok(None));
        assert!(signal("nope").is_err());
    }

    #[test]
    fn only_a_leading_signal_is_taken() {
        let mut args: Args = vec!["pkill".into(), "-HUP".into(), "x".into()];
        assert_eq!(leading_signal(&mut args), Ok(Some(Signal::SIGHUP)));
        assert_eq!(args.len(), 2);
        let mut args: Args = vec!["pkill".into(), "-f".into(), "x".into()];
        assert_eq!(leading_signal(&mut args), Ok(Some(Signal::SIGTERM)));
        assert_eq!(args.len(), 3);
    }

    #[test]
    fn login_shells_count() {
        let process = Process {
            comm: "oxsh".into(),
            cmdline: vec!["-oxsh".into()],
            ..Process::default()
        };
        assert!(runs(&process, "oxsh") && runs(&process, "/bin/oxsh"));
        assert!(!runs(&process, "sh"));
    }
}
