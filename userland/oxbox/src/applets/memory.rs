//! free, uptime, lsof and sysctl: what /proc says about the system.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::Args;
use crate::proc::{self, Process};
use crate::sys::{fail, options};

pub fn free(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("bytes", 'b'),
        ("kibi", 'k'),
        ("mebi", 'm'),
        ("gibi", 'g'),
        ("human", 'h'),
        ("total", 't'),
    ];
    let parsed = match options(args, "bkmghtw", "", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("free", message, 1),
    };
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
    let mut text = format!(
        "{:8}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}\n",
        "", "total", "used", "free", "shared", "buff/cache", "available"
    );
    let used = total.saturating_sub(available);
    text += &row("Mem:", &[total, used, free, get("Shmem"), cache, available]);
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
    if parsed.has('p') {
        println!("up {}", pretty(up as u64));
    } else if parsed.has('s') {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let boot = now.saturating_sub(up as u64);
        let (year, month, day) = super::text::civil_date((boot / 86400) as i64);
        let time = boot % 86400;
        println!(
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
            time / 3600,
            time / 60 % 60,
            time % 60
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
    let time = now % 86400;
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
        time / 3600,
        time / 60 % 60,
        time % 60
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
    let parsed = match options(args, "anweq", "", &[("all", 'a'), ("values", 'n')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("sysctl", message, 1),
    };
    let mut names = parsed.operands.clone();
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
        if let Some(value) = value
            && let Err(error) = fs::write(&path, format!("{value}\n"))
        {
            status = fail("sysctl", format!("{name}: {error}"), 1);
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) if parsed.has('n') => print!("{text}"),
            Ok(text) => println!("{name} = {}", text.trim_end()),
            Err(_) if parsed.has('a') => {}
            Err(error) => status = fail("sysctl", format!("{name}: {error}"), 1),
        }
    }
    status
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
