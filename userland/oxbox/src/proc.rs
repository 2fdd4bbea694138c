//! Reads /proc for `ps`, `top`, `free` and their kin.
//!
//! Directly and leniently: what a kernel does not report is taken as zero or
//! empty, so that the tools work on any /proc that has the classic files.
//! Formats: man 5 proc.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// Clock ticks per second in /proc (`USER_HZ`): fixed by the Linux ABI.
pub const TICKS: u64 = 100;

/// One process, from /proc/PID/{stat,cmdline} and the directory's owner.
#[derive(Debug, Default, Clone)]
pub struct Process {
    pub pid: i32,
    /// The thread's own number; that of the process for its first.
    pub tid: i32,
    pub ppid: i32,
    pub pgid: i32,
    pub session: i32,
    /// Device number of the controlling terminal; 0 for none.
    pub tty: u64,
    pub tpgid: i32,
    pub state: char,
    /// File name of the program, at most 15 bytes.
    pub comm: String,
    pub cmdline: Vec<String>,
    pub uid: u32,
    pub gid: u32,
    pub flags: u64,
    /// The processor it last ran on, and its scheduling policy.
    pub processor: u64,
    pub policy: u64,
    /// Time in user mode and in the kernel, in ticks.
    pub utime: u64,
    pub stime: u64,
    pub priority: i64,
    pub nice: i64,
    pub threads: u64,
    /// Ticks after boot.
    pub start: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
}

impl Process {
    /// Reads process `pid`; `None` when there is none (any more).
    pub fn read(pid: i32) -> Option<Self> {
        let dir = format!("/proc/{pid}");
        let mut process = parse_stat(&fs::read_to_string(format!("{dir}/stat")).ok()?)?;
        if let Ok(meta) = fs::metadata(&dir) {
            (process.uid, process.gid) = (meta.uid(), meta.gid());
        }
        process.cmdline = fs::read(format!("{dir}/cmdline"))
            .unwrap_or_default()
            .split(|b| *b == 0)
            .filter(|arg| !arg.is_empty())
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
            .collect();
        Some(process)
    }

    /// Every process, by pid.
    pub fn all() -> Vec<Self> {
        let mut pids: Vec<i32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        pids.into_iter().filter_map(Self::read).collect()
    }

    /// Its threads, each as what it would be alone.
    pub fn each_thread(&self) -> Vec<Self> {
        let directory = format!("/proc/{}/task", self.pid);
        let mut threads: Vec<Self> = fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let text = fs::read_to_string(entry.path().join("stat")).ok()?;
                let own = parse_stat(&text)?;
                Some(Self {
                    tid: own.pid,
                    pid: self.pid,
                    ppid: self.ppid,
                    uid: self.uid,
                    gid: self.gid,
                    cmdline: self.cmdline.clone(),
                    ..own
                })
            })
            .collect();
        threads.sort_by_key(|thread| thread.tid);
        if threads.is_empty() {
            return vec![self.clone()];
        }
        threads
    }

    /// The command line, or the program's name in brackets as for a thread of
    /// the kernel.
    pub fn command(&self) -> String {
        if self.cmdline.is_empty() {
            return format!("[{}]", self.comm);
        }
        self.cmdline.join(" ")
    }

    /// Name of the controlling terminal, `?` for none.
    pub fn tty_name(&self) -> String {
        let major = (self.tty >> 8) & 0xfff;
        let minor = (self.tty & 0xff) | ((self.tty >> 12) & 0xfff00);
        match (major, minor) {
            (0, 0) => "?".into(),
            (4, minor @ 0..64) => format!("tty{minor}"),
            (4, minor) => format!("ttyS{}", minor - 64),
            (5, 0) => "tty".into(),
            (5, 1) => "console".into(),
            (136..=143, minor) => format!("pts/{}", (major - 136) * 256 + minor),
            (229, minor) => format!("hvc{minor}"),
            (major, minor) => format!("{major}:{minor}"),
        }
    }

    /// Ticks of processor time used.
    pub fn cpu_ticks(&self) -> u64 {
        self.utime + self.stime
    }

    pub fn resident_kib(&self) -> u64 {
        self.resident_pages * 4
    }
}

/// Takes a line of /proc/PID/stat apart. The name is in parentheses and may
/// itself hold blanks and parentheses.
fn parse_stat(line: &str) -> Option<Process> {
    let (pid, rest) = line.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // `fields[0]` is field 3 of the manual.
    let number = |field: usize| -> i64 {
        let text = fields.get(field - 3).copied().unwrap_or("0");
        text.parse().unwrap_or(0)
    };
    let unsigned = |field: usize| u64::try_from(number(field)).unwrap_or(0);
    let small = |field: usize| i32::try_from(number(field)).unwrap_or(0);
    let pid = pid.trim().parse().ok()?;
    Some(Process {
        pid,
        tid: pid,
        comm: comm.to_owned(),
        state: fields.first()?.chars().next()?,
        ppid: small(4),
        pgid: small(5),
        session: small(6),
        tty: unsigned(7),
        tpgid: small(8),
        flags: unsigned(9),
        utime: unsigned(14),
        stime: unsigned(15),
        priority: number(18),
        nice: number(19),
        threads: unsigned(20),
        start: unsigned(22),
        virtual_bytes: unsigned(23),
        resident_pages: unsigned(24),
        processor: unsigned(39),
        policy: unsigned(41),
        ..Process::default()
    })
}

/// Resident memory of a process that comes from files, in KiB.
pub fn shared_kib(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(2)
        .and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * 4
}

/// /proc/meminfo, in KiB by name.
pub fn meminfo() -> HashMap<String, u64> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.split_whitespace().next()?.parse().ok()?;
            Some((name.to_owned(), value))
        })
        .collect()
}

/// Seconds since boot.
pub fn uptime() -> Option<f64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The load averages over 1, 5 and 15 minutes.
pub fn load() -> [f64; 3] {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap_or(0.0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0.0))
}

/// The `cpu` line of /proc/stat: user, nice, system, idle, iowait, irq,
/// softirq, steal, in ticks.
pub fn cpu_times() -> [u64; 8] {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("cpu ")).unwrap_or("");
    let mut numbers = line
        .split_whitespace()
        .skip(1)
        .map(|n| n.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

/// Ticks as `H:MM:SS` with the hours only when there are any.
pub fn clock(ticks: u64) -> String {
    let seconds = ticks / TICKS;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_parentheses() {
        let line = "42 (a) (b) S 1 42 42 1088 42 0 0 0 0 0 7 8 0 0 20 0 1 0 99 4096 3";
        let process = parse_stat(line).expect("valid line");
        assert_eq!((process.pid, process.ppid, process.state), (42, 1, 'S'));
        assert_eq!(process.comm, "a) (b");
        assert_eq!(process.cpu_ticks(), 15);
        assert_eq!(process.tty_name(), "ttyS0");
        assert_eq!((process.start, process.resident_kib()), (99, 12));
    }

    #[test]
    fn short_lines_are_read_as_far_as_they_go() {
        let process = parse_stat("1 (init) R 0").expect("valid line");
        assert_eq!((process.ppid, process.start), (0, 0));
        assert!(parse_stat("garbage").is_none());
    }

    #[test]
    fn own_process_is_there() {
        let pid = i32::try_from(std::process::id()).expect("pid fits");
        let own = Process::read(pid).expect("own process");
        assert!(own.resident_pages > 0 && !own.cmdline.is_empty());
    }
}
