//! free, uptime, lsof and sysctl: what /proc says about the system.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::Args;
use super::archive::plain;
use crate::proc::{self, Process};
use crate::sys::{Options, fail, local_time, options};

pub fn free(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("bytes", 'b'),
        ("kibi", 'k'),
        ("mebi", 'm'),
        ("gibi", 'g'),
        ("human", 'h'),
        ("total", 't'),
        ("wide", 'w'),
        ("lohi", 'l'),
        ("seconds", 's'),
        ("count", 'c'),
    ];
    let parsed = match options(args, "bkmghtwl", "sc", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("free", message, 1),
    };
    let pause = parsed.value('s').map(|text| (text, text.parse::<f64>()));
    let pause = match pause {
        None => 1.0,
        Some((_, Ok(seconds))) if seconds > 0.0 => seconds.min(1e9),
        Some((text, _)) => return fail("free", format!("seconds argument '{text}' failed"), 1),
    };
    let rounds = match parsed.value('c').map(|text| (text, text.parse::<u64>())) {
        None if parsed.value('s').is_some() => u64::MAX,
        None => 1,
        Some((_, Ok(count))) if count > 0 => count,
        Some((text, _)) => return fail("free", format!("count argument '{text}' failed"), 1),
    };
    for round in 0..rounds {
        if round > 0 {
            std::thread::sleep(std::time::Duration::from_secs_f64(pause));
            println!();
        }
        let status = free_once(&parsed);
        if status != 0 {
            return status;
        }
    }
    0
}

fn free_once(parsed: &Options) -> i32 {
    let info = proc::meminfo();
    let Some(total) = info.get("MemTotal").copied() else {
        return fail("free", "/proc/meminfo: no MemTotal", 1);
    };
    let get = |name: &str| info.get(name).copied().unwrap_or(0);
    let free = get("MemFree");
    let cache = get("Buffers") + get("Cached") + get("SReclaimable");
    let available = info.get("MemAvailable").copied().unwrap_or(free + cache);
    let swap = get("SwapTotal");
    let swap_free = get("SwapFree");
    let unit = parsed.flags.iter().rev().find(|f| "bkmgh".contains(**f));
    let show = |kib: u64| match unit {
        Some('b') => (kib * 1024).to_string(),
        Some('m') => (kib / 1024).to_string(),
        Some('g') => (kib / 1024 / 1024).to_string(),
        Some('h') => human(kib),
        _ => kib.to_string(),
    };
    let row = |name: &str, values: &[u64]| {
        let cells: String = values.iter().map(|v| format!("{:>12}", show(*v))).collect();
        format!("{name:<8}{cells}\n")
    };
    let headings: &[&str] = match parsed.has('w') {
        true => &[
            "total",
            "used",
            "free",
            "shared",
            "buffers",
            "cache",
            "available",
        ],
        false => &["total", "used", "free", "shared", "buff/cache", "available"],
    };
    let headings: String = headings.iter().map(|h| format!("{h:>12}")).collect();
    let mut text = format!("{:8}{headings}\n", "");
    let used = total.saturating_sub(available);
    let shared = get("Shmem");
    text += &match parsed.has('w') {
        true => {
            let (buffers, cache) = (get("Buffers"), get("Cached") + get("SReclaimable"));
            row(
                "Mem:",
                &[total, used, free, shared, buffers, cache, available],
            )
        }
        false => row("Mem:", &[total, used, free, shared, cache, available]),
    };
    if parsed.has('l') {
        // There is no memory here that the kernel reaches only sometimes.
        text += &row("Low:", &[total, total.saturating_sub(free), free]);
        text += &row("High:", &[0, 0, 0]);
    }
    text += &row("Swap:", &[swap, swap - swap_free.min(swap), swap_free]);
    if parsed.has('t') {
        text += &row(
            "Total:",
            &[
                total + swap,
                used + swap - swap_free.min(swap),
                free + swap_free,
            ],
        );
    }
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

/// KiB with a unit, three digits at most, as `free -h` writes them.
fn human(kib: u64) -> String {
    let mut value = kib as f64;
    let mut unit = "Ki";
    for next in ["Mi", "Gi", "Ti"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if kib == 0 {
        "0B".to_owned()
    } else if value < 10.0 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

pub fn uptime(args: Args) -> i32 {
    let parsed = match options(args, "ps", "", &[("pretty", 'p'), ("since", 's')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("uptime", message, 1),
    };
    let Some(up) = proc::uptime() else {
        return fail("uptime", "/proc/uptime: cannot read", 1);
    };
    if !parsed.operands.is_empty() {
        return fail("uptime", "takes no operands", 1);
    }
    if parsed.has('p') {
        println!("up {}", pretty(up as u64));
    } else if parsed.has('s') {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let boot = now.saturating_sub(up as u64);
        let time = local_time(i64::try_from(boot).unwrap_or(0));
        println!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            time.tm_year + 1900,
            time.tm_mon + 1,
            time.tm_mday,
            time.tm_hour,
            time.tm_min,
            time.tm_sec
        );
    } else {
        println!("{}", summary());
    }
    0
}

/// The line that `uptime`, `top` and `w` start with.
pub fn summary() -> String {
    let up = proc::uptime().unwrap_or(0.0) as u64;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let time = local_time(i64::try_from(now).unwrap_or(0));
    let [one, five, fifteen] = proc::load();
    let (days, hours, minutes) = (up / 86400, up / 3600 % 24, up / 60 % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        days => format!("{days} days, "),
    };
    let clock = if hours > 0 {
        format!("{hours:2}:{minutes:02}")
    } else {
        format!("{minutes} min")
    };
    let terminals = sessions().len();
    let users = if terminals == 1 { "user" } else { "users" };
    format!(
        " {:02}:{:02}:{:02} up {days}{clock},  {terminals} {users},  \
         load average: {one:.2}, {five:.2}, {fifteen:.2}",
        time.tm_hour, time.tm_min, time.tm_sec
    )
}

/// Leaders of sessions that have a terminal: the logged-in users, as there is
/// no utmp in a musl system.
pub fn sessions() -> Vec<Process> {
    let mut all = Process::all();
    all.retain(|p| p.session == p.pid && p.tty != 0);
    all
}

fn pretty(seconds: u64) -> String {
    let parts = [
        (seconds / 86400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    if shown.is_empty() {
        return "0 minutes".to_owned();
    }
    shown.join(", ")
}

/// Lists the open files of all processes, or of `-p PID`.
pub fn lsof(args: Args) -> i32 {
    let parsed = match options(args, "", "p", &[], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("lsof", message, 1),
    };
    let only: Option<Vec<&str>> = parsed.value('p').map(|pids| pids.split(',').collect());
    let mut text = format!(
        "{:<15} {:>6} {:<8} {:>4} NAME\n",
        "COMMAND", "PID", "USER", "FD"
    );
    for process in Process::all() {
        let pid = process.pid.to_string();
        if only
            .as_ref()
            .is_some_and(|only| !only.contains(&pid.as_str()))
        {
            continue;
        }
        let user = crate::sys::user_name(process.uid);
        let dir = format!("/proc/{pid}");
        let mut row = |fd: &str, path: &Path| {
            let Ok(target) = fs::read_link(path) else {
                return;
            };
            if !parsed.operands.is_empty()
                && !parsed.operands.iter().any(|o| Path::new(o) == target)
            {
                return;
            }
            text += &format!(
                "{:<15} {pid:>6} {user:<8} {fd:>4} {}\n",
                process.comm,
                target.display()
            );
        };
        row("cwd", Path::new(&format!("{dir}/cwd")));
        row("txt", Path::new(&format!("{dir}/exe")));
        let mut descriptors: Vec<u32> = fs::read_dir(format!("{dir}/fd"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        descriptors.sort_unstable();
        for fd in descriptors {
            row(&fd.to_string(), Path::new(&format!("{dir}/fd/{fd}")));
        }
    }
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

/// Reads and writes /proc/sys: `sysctl -a`, `sysctl NAME`, `sysctl NAME=VALUE`.
pub fn sysctl(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("all", 'a'),
        ("values", 'n'),
        ("names", 'N'),
        ("ignore", 'e'),
        ("write", 'w'),
        ("quiet", 'q'),
        ("load", 'p'),
        ("system", 'S'),
    ];
    let parsed = match options(args, "anNweqpS", "", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("sysctl", message, 1),
    };
    let mut names = parsed.operands.clone();
    if parsed.has('p') || parsed.has('S') {
        let mut files = std::mem::take(&mut names);
        if files.is_empty() {
            files.push("/etc/sysctl.conf".to_owned());
        }
        for file in files {
            match crate::sys::read_input(&file) {
                Ok(text) => names.extend(settings(&String::from_utf8_lossy(&text))),
                Err(error) => return fail("sysctl", format!("cannot open \"{file}\": {error}"), 1),
            }
        }
    } else if names.is_empty() && !parsed.has('a') {
        return fail("sysctl", "name a parameter; try 'sysctl --help'", 1);
    }
    if parsed.has('a') {
        collect(Path::new("/proc/sys"), &mut names);
        names.sort();
    }
    let mut status = 0;
    for name in names {
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (name.as_str(), None),
        };
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        if !Path::new(&path).exists() {
            if !parsed.has('e') {
                let text = format!("cannot stat {path}: No such file or directory");
                status = fail("sysctl", text, 1);
            }
            continue;
        }
        if let Some(value) = value
            && let Err(error) = fs::write(&path, format!("{value}\n"))
        {
            let text = format!("setting key \"{name}\": {}", plain(&error));
            status = fail("sysctl", text, 1);
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(_) if parsed.has('q') && value.is_some() => {}
            Ok(_) if parsed.has('N') => println!("{name}"),
            Ok(text) if parsed.has('n') => print!("{text}"),
            // Each line of a table is one of its own.
            Ok(text) => text.lines().for_each(|line| println!("{name} = {line}")),
            Err(_) if parsed.has('a') => {}
            Err(error) => {
                let text = format!("reading key \"{name}\": {}", plain(&error));
                status = fail("sysctl", text, 1);
            }
        }
    }
    status
}

/// `name = value` lines, less blanks and comments.
fn settings(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(|line| line.trim_start_matches('-').to_owned())
        .collect()
}

fn collect(dir: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, names);
        } else if let Ok(name) = path.strip_prefix("/proc/sys") {
            names.push(name.to_string_lossy().replace('/', "."));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(512), "512Ki");
        assert_eq!(human(1536), "1.5Mi");
        assert_eq!(human(64 * 1024 * 1024), "64Gi");
    }

    #[test]
    fn durations_for_people() {
        assert_eq!(pretty(59), "0 minutes");
        assert_eq!(pretty(90061), "1 day, 1 hour, 1 minute");
    }
}
