//! ps, pstree and w.

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write as _};

use super::Args;
use crate::proc::{self, Process, TICKS};
use crate::sys::{fail, lossy, terminal_size, user_id, user_name};

/// What to show and of whom.
#[derive(Default)]
struct Choice {
    /// Processes of every user and terminal.
    all: bool,
    /// With those that have no terminal.
    without_tty: bool,
    pids: Option<HashSet<i32>>,
    users: Option<HashSet<u32>>,
    columns: Vec<Column>,
    headings: bool,
    wide: bool,
    threads_first: bool,
    sort: Option<(String, bool)>,
}

#[derive(Clone)]
struct Column {
    key: &'static str,
    heading: String,
}

/// Key, heading, width, flush right.
const COLUMNS: &[(&str, &str, usize, bool)] = &[
    ("pid", "PID", 6, true),
    ("ppid", "PPID", 6, true),
    ("pgid", "PGID", 6, true),
    ("sid", "SID", 6, true),
    ("user", "USER", 8, false),
    ("uid", "UID", 5, true),
    ("%cpu", "%CPU", 4, true),
    ("%mem", "%MEM", 4, true),
    ("vsz", "VSZ", 7, true),
    ("rss", "RSS", 6, true),
    ("tty", "TTY", 8, false),
    ("stat", "STAT", 4, false),
    ("s", "S", 1, false),
    ("start", "START", 5, true),
    ("stime", "STIME", 5, true),
    ("time", "TIME", 8, true),
    ("etime", "ELAPSED", 11, true),
    ("ni", "NI", 3, true),
    ("pri", "PRI", 3, true),
    ("nlwp", "NLWP", 4, true),
    ("comm", "COMMAND", 15, false),
    ("args", "COMMAND", 0, false),
];

/// Other names of columns.
const ALIASES: &[(&str, &str)] = &[
    ("pcpu", "%cpu"),
    ("pmem", "%mem"),
    ("c", "%cpu"),
    ("tt", "tty"),
    ("tname", "tty"),
    ("state", "s"),
    ("nice", "ni"),
    ("pgrp", "pgid"),
    ("session", "sid"),
    ("euser", "user"),
    ("vsize", "vsz"),
    ("rssize", "rss"),
    ("cputime", "time"),
    ("cmd", "args"),
    ("command", "args"),
    ("ucmd", "comm"),
    ("thcount", "nlwp"),
];

fn column(name: &str) -> Option<(&'static str, &'static str, usize, bool)> {
    let alias = ALIASES.iter().find(|(other, _)| *other == name);
    let key = alias.map_or(name, |(_, key)| key);
    COLUMNS.iter().find(|c| c.0 == key).copied()
}

fn set(names: &str) -> Vec<Column> {
    names
        .split(' ')
        .filter_map(column)
        .map(|(key, heading, _, _)| Column {
            key,
            heading: heading.to_owned(),
        })
        .collect()
}

pub fn ps(args: Args) -> i32 {
    let choice = match parse(args.into_iter().skip(1).map(lossy)) {
        Ok(choice) => choice,
        Err(message) => return fail("ps", message, 1),
    };
    let all = Process::all();
    let own_tty = all
        .iter()
        .find(|p| u32::try_from(p.pid) == Ok(std::process::id()))
        .map_or(0, |p| p.tty);
    let own_uid = nix::unistd::getuid().as_raw();
    let mut shown: Vec<&Process> = all
        .iter()
        .filter(|p| {
            if choice.pids.is_some() || choice.users.is_some() {
                return choice.pids.as_ref().is_some_and(|s| s.contains(&p.pid))
                    || choice.users.as_ref().is_some_and(|s| s.contains(&p.uid));
            }
            match (choice.all, choice.without_tty) {
                (true, true) => true,
                (true, false) => p.tty != 0,
                (false, true) => p.uid == own_uid,
                (false, false) => p.uid == own_uid && p.tty == own_tty,
            }
        })
        .collect();
    if let Some((key, down)) = &choice.sort {
        shown.sort_by(|a, b| {
            let order = rank(a, key).total_cmp(&rank(b, key));
            if *down { order.reverse() } else { order }
        });
    }
    let text = table(&choice, &shown);
    let status = i32::from(std::io::stdout().write_all(text.as_bytes()).is_err());
    if shown.is_empty() { 1 } else { status }
}

fn rank(process: &Process, key: &str) -> f64 {
    match key {
        "%cpu" => cpu_percent(process),
        "rss" | "%mem" => process.resident_pages as f64,
        "vsz" => process.virtual_bytes as f64,
        "time" => process.cpu_ticks() as f64,
        "start" | "etime" => process.start as f64,
        "ppid" => f64::from(process.ppid),
        "uid" | "user" => f64::from(process.uid),
        _ => f64::from(process.pid),
    }
}

fn parse(args: impl Iterator<Item = String>) -> Result<Choice, String> {
    let mut choice = Choice {
        headings: true,
        wide: !std::io::stdout().is_terminal(),
        ..Choice::default()
    };
    let mut columns: Vec<Column> = Vec::new();
    let mut standard = set("pid tty time comm");
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        if let Some(long) = arg.strip_prefix("--") {
            match long.split_once('=').unwrap_or((long, "")) {
                ("no-headings" | "no-heading" | "no-headers", _) => choice.headings = false,
                ("sort", key) => {
                    let (key, down) = match key.strip_prefix('-') {
                        Some(key) => (key, true),
                        None => (key.trim_start_matches('+'), false),
                    };
                    let known = column(key).ok_or(format!("unknown sort key '{key}'"))?;
                    choice.sort = Some((known.0.to_owned(), down));
                }
                ("pid", list) => choice.pids = Some(pid_list(list)?),
                ("forest", _) => choice.threads_first = true,
                _ => return Err(format!("unknown option '{arg}'")),
            }
            continue;
        }
        let dash = arg.starts_with('-');
        let letters = arg.trim_start_matches('-');
        if !dash && letters.chars().all(|c| c.is_ascii_digit() || c == ',') {
            choice.pids = Some(pid_list(letters)?);
            continue;
        }
        for (at, letter) in letters.char_indices() {
            let mut value = || {
                let tail = &letters[at + 1..];
                let text = if tail.is_empty() {
                    args.next()
                } else {
                    Some(tail.to_owned())
                };
                text.ok_or(format!("option '{letter}' needs a list"))
            };
            match (letter, dash) {
                ('e' | 'A', true) => (choice.all, choice.without_tty) = (true, true),
                ('a', _) => choice.all = true,
                ('x', _) => choice.without_tty = true,
                ('f', true) => standard = set("user pid ppid %cpu stime tty time args"),
                ('l', _) => standard = set("s uid pid ppid %cpu pri ni rss vsz tty time comm"),
                ('j', _) => standard = set("pid pgid sid tty time comm"),
                ('u', false) => {
                    standard = set("user pid %cpu %mem vsz rss tty stat start time args");
                }
                ('w', _) => choice.wide = true,
                ('h', false) => choice.headings = false,
                ('p', true) => {
                    choice.pids = Some(pid_list(&value()?)?);
                    break;
                }
                ('u' | 'U', true) => {
                    let list = value()?;
                    let ids = list
                        .split(',')
                        .map(|n| user_id(n).ok_or(format!("no user '{n}'")));
                    choice.users = Some(ids.collect::<Result<_, _>>()?);
                    break;
                }
                ('o', _) => {
                    columns.extend(format_list(&value()?)?);
                    break;
                }
                ('f' | 'H' | 'T' | 'L' | 'e', _) => {}
                _ => return Err(format!("unknown option '{letter}'")),
            }
        }
    }
    choice.columns = if columns.is_empty() {
        standard
    } else {
        columns
    };
    if choice.columns.iter().all(|c| c.heading.is_empty()) {
        choice.headings = false;
    }
    Ok(choice)
}

fn pid_list(text: &str) -> Result<HashSet<i32>, String> {
    text.split([',', ' '])
        .filter(|pid| !pid.is_empty())
        .map(|pid| {
            pid.parse()
                .map_err(|_| format!("'{pid}' is not a process id"))
        })
        .collect()
}

/// `pid,comm=NAME`: names separated by commas or blanks, each with a heading.
fn format_list(text: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find([',', ' ', '=']).unwrap_or(rest.len());
        let name = &rest[..end];
        let known = column(name).ok_or(format!("unknown column '{name}'"))?;
        let (heading, used) = match rest[end..].strip_prefix('=') {
            // A heading runs to the next comma only where it is empty.
            Some(tail) => {
                let length = if tail.starts_with(',') { 0 } else { tail.len() };
                (tail[..length].to_owned(), end + 1 + length)
            }
            None => (known.1.to_owned(), end),
        };
        columns.push(Column {
            key: known.0,
            heading,
        });
        rest = rest[used..].trim_start_matches([',', ' ']);
    }
    Ok(columns)
}

/// Share of one processor since the process started, in per cent.
fn cpu_percent(process: &Process) -> f64 {
    let lived = proc::uptime().unwrap_or(0.0) - process.start as f64 / TICKS as f64;
    if lived <= 0.0 {
        return 0.0;
    }
    process.cpu_ticks() as f64 / TICKS as f64 / lived * 100.0
}

fn cell(process: &Process, key: &str, memory_kib: u64) -> String {
    match key {
        "pid" => process.pid.to_string(),
        "ppid" => process.ppid.to_string(),
        "pgid" => process.pgid.to_string(),
        "sid" => process.session.to_string(),
        "user" => user_name(process.uid),
        "uid" => process.uid.to_string(),
        "%cpu" => format!("{:.1}", cpu_percent(process)),
        "%mem" => format!(
            "{:.1}",
            process.resident_kib() as f64 * 100.0 / memory_kib.max(1) as f64
        ),
        "vsz" => (process.virtual_bytes / 1024).to_string(),
        "rss" => process.resident_kib().to_string(),
        "tty" => process.tty_name(),
        "stat" => status(process),
        "s" => process.state.to_string(),
        "start" | "stime" => started(process),
        "time" => proc::clock(process.cpu_ticks()),
        "etime" => elapsed(process),
        "ni" => process.nice.to_string(),
        "pri" => process.priority.to_string(),
        "nlwp" => process.threads.to_string(),
        "comm" => process.comm.clone(),
        _ => process.command(),
    }
}

/// The state with its modifiers, as in the manual of ps.
fn status(process: &Process) -> String {
    let mut text = process.state.to_string();
    match process.nice {
        ..0 => text.push('<'),
        1.. => text.push('N'),
        0 => {}
    }
    if process.session == process.pid {
        text.push('s');
    }
    if process.threads > 1 {
        text.push('l');
    }
    if process.tpgid == process.pgid && process.tty != 0 {
        text.push('+');
    }
    text
}

fn started(process: &Process) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let lived = (proc::uptime().unwrap_or(0.0) - process.start as f64 / TICKS as f64).max(0.0);
    let start = now.saturating_sub(lived as u64);
    if lived >= 86400.0 {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let (_, month, day) = super::text::civil_date((start / 86400) as i64);
        let name = MONTHS[(month as usize).clamp(1, 12) - 1];
        return format!("{name}{day:02}");
    }
    format!("{:02}:{:02}", start / 3600 % 24, start / 60 % 60)
}

fn elapsed(process: &Process) -> String {
    let lived = (proc::uptime().unwrap_or(0.0) - process.start as f64 / TICKS as f64).max(0.0);
    let seconds = lived as u64;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{:02}", seconds % 60),
        (0, _) => format!("{hours:02}:{minutes:02}:{:02}", seconds % 60),
        _ => format!("{days}-{hours:02}:{minutes:02}:{:02}", seconds % 60),
    }
}

fn table(choice: &Choice, shown: &[&Process]) -> String {
    let memory = proc::meminfo().get("MemTotal").copied().unwrap_or(0);
    let width = if choice.wide {
        usize::MAX
    } else {
        terminal_size().1
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    if choice.headings {
        rows.push(choice.columns.iter().map(|c| c.heading.clone()).collect());
    }
    for process in shown {
        let cells = choice.columns.iter().map(|c| cell(process, c.key, memory));
        rows.push(cells.collect());
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (column, value)) in choice.columns.iter().zip(row).enumerate() {
            if at > 0 {
                line.push(' ');
            }
            let (_, _, size, right) = self::column(column.key).unwrap_or(("", "", 0, false));
            let size = size.max(column.heading.len());
            if right {
                line.push_str(&format!("{value:>size$}"));
            } else if at + 1 == choice.columns.len() {
                line.push_str(&value);
            } else {
                line.push_str(&format!("{value:<size$}"));
            }
        }
        text.extend(line.trim_end().chars().take(width));
        text.push('\n');
    }
    text
}

/// Processes as a tree, children below their parents.
pub fn pstree(args: Args) -> i32 {
    let parsed = match crate::sys::options(args, "paA", "", &[], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("pstree", message, 1),
    };
    let root = match parsed.operands.first().map(|o| o.parse()) {
        Some(Err(_)) => return fail("pstree", "give a process id", 1),
        Some(Ok(pid)) => pid,
        None => 1,
    };
    let all = Process::all();
    let Some(root) = all.iter().find(|p| p.pid == root).or(all.first()) else {
        return 1;
    };
    let mut text = String::new();
    branch(&all, root, "", "", &parsed, &mut text);
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

fn branch(
    all: &[Process],
    process: &Process,
    lead: &str,
    below: &str,
    parsed: &crate::sys::Options,
    text: &mut String,
) {
    let name = if parsed.has('a') {
        process.command()
    } else {
        process.comm.clone()
    };
    let pid = if parsed.has('p') {
        format!("({})", process.pid)
    } else {
        String::new()
    };
    text.push_str(&format!("{lead}{name}{pid}\n"));
    let children: Vec<&Process> = all
        .iter()
        .filter(|p| p.ppid == process.pid && p.pid != process.pid)
        .collect();
    for (at, child) in children.iter().enumerate() {
        let last = at + 1 == children.len();
        let (fork, bar) = if last { ("`-", "  ") } else { ("|-", "| ") };
        branch(
            all,
            child,
            &format!("{below}{fork}"),
            &format!("{below}{bar}"),
            parsed,
            text,
        );
    }
}

/// Who is on which terminal and doing what.
pub fn w(args: Args) -> i32 {
    let parsed = match crate::sys::options(args, "hs", "", &[("no-header", 'h')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("w", message, 1),
    };
    if !parsed.has('h') {
        println!("{}", super::memory::summary());
        println!(
            "{:<8} {:<8} {:>6} {:>8} WHAT",
            "USER", "TTY", "LOGIN@", "TIME"
        );
    }
    let all = Process::all();
    for leader in super::memory::sessions() {
        let front = all
            .iter()
            .find(|p| p.tty == leader.tty && p.pgid == leader.tpgid)
            .unwrap_or(&leader);
        println!(
            "{:<8} {:<8} {:>6} {:>8} {}",
            user_name(leader.uid),
            leader.tty_name(),
            started(&leader),
            proc::clock(front.cpu_ticks()),
            front.command()
        );
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(args: &[&str]) -> Choice {
        parse(args.iter().map(|a| (*a).to_owned())).expect("valid")
    }

    #[test]
    fn three_styles_of_options() {
        assert!(chosen(&["-ef"]).without_tty);
        assert!(chosen(&["aux"]).all);
        assert_eq!(chosen(&["-p", "1,2"]).pids.map(|p| p.len()), Some(2));
        assert!(parse(["-Z".to_owned()].into_iter()).is_err());
    }

    #[test]
    fn columns_with_headings() {
        let choice = chosen(&["-o", "pid=,comm=NAME"]);
        let headings: Vec<&str> = choice.columns.iter().map(|c| c.heading.as_str()).collect();
        assert_eq!(headings, ["", "NAME"]);
        assert!(!chosen(&["-o", "pid="]).headings);
    }
}
