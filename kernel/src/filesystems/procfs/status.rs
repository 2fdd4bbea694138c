//! stat, statm, status and limits of a process (man 5 proc).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::system::ticks;
use crate::abi;
use crate::arch;
use crate::error::Result;
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::process::limits::INFINITY;
use crate::process::{Process, Task, Usage};
use crate::sched::Class;
use crate::vm::space::SpaceUsage;

/// What a file tells of: a whole process (through its oldest thread), or one thread.
pub struct Subject<'a> {
    /// The process.
    pub process: &'a Process,
    /// The thread; `None` for a zombie.
    pub task: Option<&'a Task>,
    /// Show the thread's own figures where they differ.
    pub single: bool,
}

impl Subject<'_> {
    fn id(&self) -> i32 {
        match (self.single, self.task) {
            (true, Some(task)) => task.tid(),
            _ => self.process.pid(),
        }
    }
    fn comm(&self) -> Vec<u8> {
        self.task.map_or_else(|| self.process.comm(), |t| t.comm())
    }
    fn state(&self) -> u8 {
        match (self.single, self.task) {
            (true, Some(task)) => task.state_letter(),
            _ => self.process.state_letter(),
        }
    }
    /// Own use, and that of children waited for.
    fn usage(&self) -> (Usage, Usage) {
        match (self.single, self.task) {
            (true, Some(task)) => (task.usage(), self.process.usage().1),
            _ => self.process.usage(),
        }
    }
    fn memory(&self) -> Option<SpaceUsage> {
        self.process.space().map(|s| s.usage())
    }
}

/// (priority, nice, real-time priority, policy) as the file shows them.
fn scheduling(task: Option<&Task>) -> (i64, i64, u32, u32) {
    let Some(thread) = task.and_then(|t| t.thread()) else {
        return (20, 0, 0, 0);
    };
    let nice = i64::from(thread.nice());
    match thread.class() {
        Class::Normal => (20 + nice, nice, 0, abi::SCHED_NORMAL),
        Class::Batch => (20 + nice, nice, 0, abi::SCHED_BATCH),
        Class::Idle => (20 + nice, nice, 0, abi::SCHED_IDLE),
        Class::Fifo(p) => (-1 - i64::from(p), nice, u32::from(p), abi::SCHED_FIFO),
        Class::RoundRobin(p) => (-1 - i64::from(p), nice, u32::from(p), abi::SCHED_RR),
    }
}

/// /proc/pid/stat.
pub fn stat(s: &Subject<'_>) -> Result<Vec<u8>> {
    let p = s.process;
    let (own, children) = s.usage();
    let memory = s.memory().unwrap_or_default();
    let (priority, nice, rt_priority, policy) = scheduling(s.task);
    let (tty, foreground) = p.tty();
    let sets = s.task.map(|t| t.signal_sets()).unwrap_or_default();
    let cpu = s.task.and_then(|t| t.thread()).map_or(0, |t| t.last_cpu());
    let brk = p.space().map_or(UserAddr(0), |space| space.brk_range().0);
    let mut out = alloc::format!("{} (", s.id()).into_bytes();
    out.extend_from_slice(&s.comm());
    let mut rest = String::new();
    let _ = write!(
        rest,
        ") {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} 0 {} {} {} {} ",
        s.state() as char,
        p.ppid(),
        p.pgid(),
        p.sid(),
        tty,
        foreground,
        p.flags(),
        own.minor_faults,
        children.minor_faults,
        own.major_faults,
        children.major_faults,
        ticks(own.user_ns),
        ticks(own.system_ns),
        ticks(children.user_ns),
        ticks(children.system_ns),
        priority,
        nice,
        p.nr_threads().max(1),
        ticks(p.start_ns()),
        memory.virtual_bytes,
        memory.resident_bytes / PAGE_SIZE as u64,
        p.limit(abi::RLIMIT_RSS),
    );
    // Addresses of code are for those who may look into the process; none are shown.
    let _ = writeln!(
        rest,
        "1 1 {} 0 0 {} {} {} {} 0 0 0 {} {} {} {} 0 0 0 0 0 {} 0 0 0 0 0",
        p.start_stack().0,
        sets.pending.0 & 0x7fff_ffff,
        sets.blocked.0 & 0x7fff_ffff,
        sets.ignored.0 & 0x7fff_ffff,
        sets.caught.0 & 0x7fff_ffff,
        p.exit_signal(),
        cpu,
        rt_priority,
        policy,
        brk.0,
    );
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// /proc/pid/statm, in pages.
pub fn statm(s: &Subject<'_>) -> Result<Vec<u8>> {
    let m = s.memory().unwrap_or_default();
    let pages = |bytes: u64| bytes / PAGE_SIZE as u64;
    let line = alloc::format!(
        "{} {} {} {} 0 {} 0\n",
        pages(m.virtual_bytes),
        pages(m.resident_bytes),
        pages(m.shared_bytes),
        pages(m.text_bytes),
        pages(m.data_bytes + m.stack_bytes),
    );
    Ok(line.into_bytes())
}

fn state_name(letter: u8) -> &'static str {
    match letter {
        b'R' => "R (running)",
        b'S' => "S (sleeping)",
        b'D' => "D (disk sleep)",
        b'T' => "T (stopped)",
        b'Z' => "Z (zombie)",
        _ => "X (dead)",
    }
}

/// CPUs as a hexadecimal mask and as ranges.
fn cpu_list(mask: u64) -> (String, String) {
    let mask = mask & (u64::MAX >> (64 - arch::nr_cpus().clamp(1, 64)));
    let mut list = String::new();
    let mut cpu = 0;
    while cpu < 64 {
        if mask & (1 << cpu) == 0 {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while cpu < 64 && mask & (1 << cpu) != 0 {
            cpu += 1;
        }
        if !list.is_empty() {
            list.push(',');
        }
        let _ = write!(list, "{first}");
        if cpu - 1 > first {
            let _ = write!(list, "-{}", cpu - 1);
        }
    }
    (alloc::format!("{mask:x}"), list)
}

/// /proc/pid/status.
pub fn status(s: &Subject<'_>) -> Result<Vec<u8>> {
    let p = s.process;
    let cred = s.task.map_or_else(|| p.cred(), |t| t.cred());
    let fs = s.task.and_then(|t| t.try_fs());
    let files = s.task.and_then(|t| t.try_files());
    let mut out = b"Name:\t".to_vec();
    for &b in &s.comm() {
        match b {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b => out.push(b),
        }
    }
    let mut t = String::from("\n");
    if let Some(fs) = &fs {
        let _ = writeln!(t, "Umask:\t{:04o}", fs.umask());
    }
    let descriptors = files.map_or(0, |f| f.list(0, usize::MAX >> 1).len());
    let _ = write!(
        t,
        "State:\t{}\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t0\n\
         Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{}\nGroups:\t",
        state_name(s.state()),
        p.pid(),
        s.id(),
        p.ppid(),
        cred.uid,
        cred.euid,
        cred.suid,
        cred.fsuid,
        cred.gid,
        cred.egid,
        cred.sgid,
        cred.fsgid,
        descriptors.next_power_of_two().max(64),
    );
    for group in &cred.groups {
        let _ = write!(t, "{group} ");
    }
    let _ = write!(
        t,
        "\nNStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{}\nNSsid:\t{}\n",
        p.pid(),
        s.id(),
        p.pgid(),
        p.sid()
    );
    let (own, _) = p.usage();
    if let Some(m) = s.memory() {
        let peak = own.max_resident_bytes.max(m.resident_bytes);
        for (name, bytes) in [
            ("VmPeak", m.virtual_bytes),
            ("VmSize", m.virtual_bytes),
            ("VmLck", m.locked_bytes),
            ("VmPin", 0),
            ("VmHWM", peak),
            ("VmRSS", m.resident_bytes),
            ("RssAnon", m.resident_bytes.saturating_sub(m.shared_bytes)),
            ("RssFile", m.shared_bytes),
            ("RssShmem", 0),
            ("VmData", m.data_bytes),
            ("VmStk", m.stack_bytes),
            ("VmExe", m.text_bytes),
            ("VmLib", 0),
            ("VmPTE", m.table_bytes),
            ("VmSwap", 0),
        ] {
            let _ = writeln!(t, "{name}:\t{:8} kB", bytes / 1024);
        }
    }
    let sets = s.task.map(|t| t.signal_sets()).unwrap_or_default();
    let caps = &cred.caps;
    let thread = s.task.and_then(|t| t.thread());
    let affinity = thread.as_ref().map_or(u64::MAX, |t| t.affinity());
    let (mask, list) = cpu_list(affinity);
    let (voluntary, involuntary) = thread.map_or((0, 0), |t| t.switches());
    let _ = write!(
        t,
        "Threads:\t{}\nSigQ:\t{}/{}\n\
         SigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n\
         CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\n\
         NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\n\
         Cpus_allowed:\t{mask}\nCpus_allowed_list:\t{list}\n\
         Mems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n",
        p.nr_threads().max(1),
        sets.nr_queued,
        p.limit(abi::RLIMIT_SIGPENDING),
        sets.pending.0,
        sets.shared_pending.0,
        sets.blocked.0,
        sets.ignored.0,
        sets.caught.0,
        caps.inheritable,
        caps.permitted,
        caps.effective,
        caps.bounding,
        caps.ambient,
        u32::from(s.task.is_some_and(|t| t.no_new_privs())),
    );
    out.extend_from_slice(t.as_bytes());
    Ok(out)
}

/// /proc/pid/limits.
pub fn limits(s: &Subject<'_>) -> Result<Vec<u8>> {
    let mut out = alloc::format!(
        "{:<26}{:<21}{:<21}{:<10}\n",
        "Limit",
        "Soft Limit",
        "Hard Limit",
        "Units"
    );
    let show = |v: u64| {
        if v == INFINITY {
            String::from("unlimited")
        } else {
            alloc::format!("{v}")
        }
    };
    for (which, name, unit) in [
        (abi::RLIMIT_CPU, "Max cpu time", "seconds"),
        (abi::RLIMIT_FSIZE, "Max file size", "bytes"),
        (abi::RLIMIT_DATA, "Max data size", "bytes"),
        (abi::RLIMIT_STACK, "Max stack size", "bytes"),
        (abi::RLIMIT_CORE, "Max core file size", "bytes"),
        (abi::RLIMIT_RSS, "Max resident set", "bytes"),
        (abi::RLIMIT_NPROC, "Max processes", "processes"),
        (abi::RLIMIT_NOFILE, "Max open files", "files"),
        (abi::RLIMIT_MEMLOCK, "Max locked memory", "bytes"),
        (abi::RLIMIT_AS, "Max address space", "bytes"),
        (abi::RLIMIT_LOCKS, "Max file locks", "locks"),
        (abi::RLIMIT_SIGPENDING, "Max pending signals", "signals"),
        (abi::RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"),
        (abi::RLIMIT_NICE, "Max nice priority", ""),
        (abi::RLIMIT_RTPRIO, "Max realtime priority", ""),
        (abi::RLIMIT_RTTIME, "Max realtime timeout", "us"),
    ] {
        let (soft, hard) = s.process.rlimit(which);
        let _ = writeln!(
            out,
            "{name:<26}{:<21}{:<21}{unit:<10}",
            show(soft),
            show(hard)
        );
    }
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ranges() {
        // One CPU runs on the host.
        assert_eq!(cpu_list(u64::MAX), ("1".into(), "0".into()));
    }
}
