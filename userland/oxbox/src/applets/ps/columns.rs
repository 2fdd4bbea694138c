//! The columns of ps: their names, headings and what stands in them.

use crate::proc::{self, Process, TICKS};
use crate::sys::{group_name, local_time, user_name};

/// How a cell stands in its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    Left,
    Right,
}
use Side::{Left, Right};

#[derive(Clone, Debug)]
pub struct Column {
    pub key: &'static str,
    pub heading: String,
    pub width: usize,
    pub side: Side,
}

/// Stands for as many digits as a process id can have.
const PID: usize = 0;

fn pid_digits() -> usize {
    static DIGITS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *DIGITS.get_or_init(|| {
        let limit = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        let limit: u64 = limit.trim().parse().unwrap_or(32768);
        limit.saturating_sub(1).to_string().len().max(5)
    })
}

/// Key, heading, width: those of procps, so that columns stand where people know them.
const COLUMNS: &[(&str, &str, usize, Side)] = &[
    ("pid", "PID", PID, Right),
    ("ppid", "PPID", PID, Right),
    ("pgid", "PGID", PID, Right),
    ("sid", "SID", PID, Right),
    ("lwp", "LWP", PID, Right),
    ("spid", "SPID", PID, Right),
    ("tpgid", "TPGID", PID, Right),
    ("user", "USER", 8, Left),
    // The user's name under the heading that `-f` gives it.
    ("uname", "UID", 8, Left),
    ("uid", "UID", 5, Right),
    ("group", "GROUP", 8, Left),
    ("gid", "GID", 5, Right),
    ("%cpu", "%CPU", 4, Right),
    ("c", "C", 2, Right),
    ("%mem", "%MEM", 4, Right),
    ("vsz", "VSZ", 6, Right),
    ("rss", "RSS", 5, Right),
    ("sz", "SZ", 5, Right),
    ("psr", "PSR", 3, Right),
    ("f", "F", 1, Right),
    ("addr", "ADDR", 4, Left),
    ("wchan", "WCHAN", 6, Left),
    ("tty", "TTY", 8, Left),
    ("stat", "STAT", 4, Left),
    ("s", "S", 1, Left),
    ("start", "START", 5, Right),
    ("stime", "STIME", 5, Left),
    ("lstart", "STARTED", 24, Right),
    ("time", "TIME", 8, Right),
    // Minutes and seconds, as in BSD.
    ("mtime", "TIME", 6, Right),
    ("times", "TIME", 8, Right),
    ("etime", "ELAPSED", 11, Right),
    ("etimes", "ELAPSED", 7, Right),
    ("ni", "NI", 3, Right),
    ("pri", "PRI", 3, Right),
    ("opri", "PRI", 3, Right),
    ("priority", "PRI", 3, Right),
    ("nlwp", "NLWP", 4, Right),
    ("cls", "CLS", 3, Right),
    ("comm", "COMMAND", 15, Left),
    ("args", "COMMAND", 27, Left),
    // The same two under the heading of System V.
    ("ccmd", "CMD", 15, Left),
    ("acmd", "CMD", 27, Left),
    ("exe", "EXE", 27, Left),
];

/// Other names of columns.
const ALIASES: &[(&str, &str)] = &[
    ("pcpu", "%cpu"),
    ("pmem", "%mem"),
    ("cmd", "acmd"),
    ("command", "args"),
    ("ucmd", "ccmd"),
    ("ucomm", "comm"),
    ("state", "s"),
    ("nice", "ni"),
    ("rssize", "rss"),
    ("rsz", "rss"),
    ("vsize", "vsz"),
    ("size", "vsz"),
    ("sess", "sid"),
    ("session", "sid"),
    ("pgrp", "pgid"),
    ("tid", "lwp"),
    ("thcount", "nlwp"),
    ("tt", "tty"),
    ("tname", "tty"),
    ("euser", "user"),
    ("ruser", "user"),
    ("euid", "uid"),
    ("ruid", "uid"),
    ("egroup", "group"),
    ("rgroup", "group"),
    ("egid", "gid"),
    ("rgid", "gid"),
    ("cputime", "time"),
    ("cputimes", "times"),
    ("bsdtime", "mtime"),
    ("start_time", "stime"),
    ("bsdstart", "start"),
    ("class", "cls"),
    ("policy", "cls"),
    ("flag", "f"),
    ("flags", "f"),
];

/// The column of that name.
pub fn column(name: &str) -> Option<Column> {
    let alias = ALIASES.iter().find(|(other, _)| *other == name);
    let key = alias.map_or(name, |(_, key)| key);
    let &(key, heading, width, side) = COLUMNS.iter().find(|c| c.0 == key)?;
    let width = if width == PID { pid_digits() } else { width };
    Some(Column {
        key,
        heading: heading.to_owned(),
        width,
        side,
    })
}

/// Columns that are known to exist.
pub fn set(names: &str) -> Vec<Column> {
    names.split(' ').filter_map(column).collect()
}

/// `pid,comm=NAME`: names separated by commas or blanks; after `=` stands a heading,
/// which ends the list where it is not empty.
pub fn list(text: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find([',', ' ', '=']).unwrap_or(rest.len());
        let name = &rest[..end];
        let mut known = column(name).ok_or(format!(
            "error: unknown user-defined format specifier \"{name}\""
        ))?;
        let mut used = end;
        if let Some(tail) = rest[end..].strip_prefix('=') {
            let length = if tail.starts_with(',') { 0 } else { tail.len() };
            known.heading = tail[..length].to_owned();
            used = end + 1 + length;
        }
        columns.push(known);
        rest = rest[used..].trim_start_matches([',', ' ']);
    }
    Ok(columns)
}

/// What all rows need: read once, so that they agree.
pub struct Moment {
    uptime: f64,
    now: u64,
    memory_kib: u64,
}

impl Moment {
    pub fn now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            uptime: proc::uptime().unwrap_or(0.0),
            now: now.map_or(0, |d| d.as_secs()),
            memory_kib: proc::meminfo().get("MemTotal").copied().unwrap_or(0),
        }
    }

    /// Seconds since the process started.
    fn lived(&self, process: &Process) -> f64 {
        (self.uptime - process.start as f64 / TICKS as f64).max(0.0)
    }

    /// When it started, in seconds since 1970.
    fn start(&self, process: &Process) -> i64 {
        i64::try_from(self.now.saturating_sub(self.lived(process) as u64)).unwrap_or(0)
    }

    /// Share of one processor since the process started, in per cent.
    fn cpu(&self, process: &Process) -> f64 {
        let lived = self.lived(process);
        if lived <= 0.0 {
            return 0.0;
        }
        // A tick may be counted before it has passed.
        (process.cpu_ticks() as f64 / TICKS as f64 / lived * 100.0).min(100.0 * 1024.0)
    }

    fn memory(&self, process: &Process) -> f64 {
        process.resident_kib() as f64 * 100.0 / self.memory_kib.max(1) as f64
    }

    /// What to sort by.
    pub fn rank(&self, process: &Process, key: &str) -> Rank {
        Rank::Number(match key {
            "%cpu" | "c" => self.cpu(process),
            "rss" | "%mem" => process.resident_pages as f64,
            "vsz" | "sz" => process.virtual_bytes as f64,
            "time" | "mtime" | "times" => process.cpu_ticks() as f64,
            "start" | "stime" | "lstart" => process.start as f64,
            "etime" | "etimes" => self.lived(process),
            "ppid" => f64::from(process.ppid),
            "pgid" => f64::from(process.pgid),
            "sid" => f64::from(process.session),
            "uid" => f64::from(process.uid),
            "ni" => process.nice as f64,
            "pri" | "opri" | "priority" => process.priority as f64,
            "nlwp" => process.threads as f64,
            "lwp" | "spid" => f64::from(process.tid),
            "pid" => f64::from(process.pid),
            _ => return Rank::Text(self.cell(process, key)),
        })
    }

    /// What stands in the column `key`.
    pub fn cell(&self, process: &Process, key: &str) -> String {
        let seconds = process.cpu_ticks() / TICKS;
        match key {
            "pid" => process.pid.to_string(),
            "ppid" => process.ppid.to_string(),
            "pgid" => process.pgid.to_string(),
            "sid" => process.session.to_string(),
            "lwp" | "spid" => process.tid.to_string(),
            "tpgid" => process.tpgid.to_string(),
            "user" | "uname" => user_name(process.uid),
            "uid" => process.uid.to_string(),
            "group" => group_name(process.gid).unwrap_or_else(|| process.gid.to_string()),
            "gid" => process.gid.to_string(),
            "%cpu" => share(self.cpu(process)),
            "c" => format!("{:.0}", self.cpu(process).floor().min(99.0)),
            "%mem" => share(self.memory(process)),
            "vsz" => (process.virtual_bytes / 1024).to_string(),
            "sz" => (process.virtual_bytes / 4096).to_string(),
            "rss" => process.resident_kib().to_string(),
            "psr" => process.processor.to_string(),
            // PF_SUPERPRIV and PF_FORKNOEXEC are all that ps shows of the flags.
            "f" => (process.flags >> 6 & 7).to_string(),
            "addr" => "-".to_owned(),
            "wchan" => wchan(process),
            "tty" => process.tty_name(),
            "stat" => status(process),
            "s" => process.state.to_string(),
            "start" | "stime" => self.started(process),
            "lstart" => {
                let time = local_time(self.start(process));
                format!(
                    "{} {} {:2} {:02}:{:02}:{:02} {}",
                    name(&DAYS, time.tm_wday),
                    name(&MONTHS, time.tm_mon),
                    time.tm_mday,
                    time.tm_hour,
                    time.tm_min,
                    time.tm_sec,
                    time.tm_year + 1900
                )
            }
            "time" => proc::clock(process.cpu_ticks()),
            "mtime" => format!("{}:{:02}", seconds / 60, seconds % 60),
            "times" => seconds.to_string(),
            "etime" => elapsed(self.lived(process) as u64),
            "etimes" => (self.lived(process) as u64).to_string(),
            "ni" => process.nice.to_string(),
            "pri" => (39 - process.priority).to_string(),
            "opri" => (60 + process.priority).to_string(),
            "priority" => process.priority.to_string(),
            "nlwp" => process.threads.to_string(),
            "cls" => match process.policy {
                1 => "FF",
                2 => "RR",
                3 => "B",
                5 => "IDL",
                _ => "TS",
            }
            .to_owned(),
            "comm" | "ccmd" if process.state == 'Z' => format!("{} <defunct>", process.comm),
            "comm" | "ccmd" => process.comm.clone(),
            "exe" => std::fs::read_link(format!("/proc/{}/exe", process.pid))
                .map_or("-".to_owned(), |path| path.display().to_string()),
            _ if process.state == 'Z' => format!("{} <defunct>", process.command()),
            _ => process.command(),
        }
    }

    /// Hour and minute, or the day where that was not today, or the year.
    pub fn started(&self, process: &Process) -> String {
        let start = self.start(process);
        let time = local_time(start);
        let today = local_time(i64::try_from(self.now).unwrap_or(0));
        if time.tm_year != today.tm_year {
            return (time.tm_year + 1900).to_string();
        }
        if time.tm_yday != today.tm_yday {
            return format!("{}{:02}", name(&MONTHS, time.tm_mon), time.tm_mday);
        }
        format!("{:02}:{:02}", time.tm_hour, time.tm_min)
    }
}

/// When `process` started, in five characters.
pub fn started(process: &Process) -> String {
    Moment::now().started(process)
}

/// Something that has an order.
pub enum Rank {
    Number(f64),
    Text(String),
}

impl Rank {
    pub fn compare(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        }
    }
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

fn name<'a>(names: &[&'a str], index: i32) -> &'a str {
    let index = usize::try_from(index).unwrap_or(0);
    names.get(index).copied().unwrap_or("?")
}

/// At most four characters while it is below 1000.
fn share(value: f64) -> String {
    if value < 99.95 {
        return format!("{value:.1}");
    }
    format!("{value:.0}")
}

fn wchan(process: &Process) -> String {
    let path = format!("/proc/{}/wchan", process.pid);
    match std::fs::read_to_string(path).as_deref().map(str::trim) {
        Ok("" | "0") | Err(_) => "-".to_owned(),
        Ok(name) => name.chars().take(6).collect(),
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

fn elapsed(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    let seconds = seconds % 60;
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_exist() {
        for (alias, key) in ALIASES {
            assert_eq!(column(alias).map(|c| c.key), Some(*key), "{alias}");
        }
    }

    #[test]
    fn lists_with_headings() {
        let headings = |text: &str| -> Vec<String> {
            let columns = list(text).expect("valid");
            columns.into_iter().map(|c| c.heading).collect()
        };
        assert_eq!(headings("pid=,comm=NAME"), ["", "NAME"]);
        assert_eq!(headings("pid,args=A B"), ["PID", "A B"]);
        assert_eq!(headings("pid ppid"), ["PID", "PPID"]);
        assert!(list("pid,nonsense").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(elapsed(61), "01:01");
        assert_eq!(elapsed(90_061), "1-01:01:01");
        assert_eq!(share(3.06), "3.1");
        assert_eq!(share(123.4), "123");
    }
}
