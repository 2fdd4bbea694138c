//! top: who uses the processor, refreshed until `q`.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

use super::Args;
use crate::proc::{self, Process};
use crate::sys::{fail, options, terminal_size, user_id, user_name};

pub fn top(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("batch", 'b'),
        ("batch-mode", 'b'),
        ("delay", 'd'),
        ("iterations", 'n'),
        ("pid", 'p'),
        ("filter-any-user", 'u'),
        ("sort-override", 'o'),
        ("threads-show", 'H'),
        ("cmdline-toggle", 'c'),
        ("idle-toggle", 'i'),
    ];
    let parsed = match options(args, "bHciS1", "dnpuUow", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("top", message, 1),
    };
    let delay: f64 = match parsed.value('d').unwrap_or("3").parse() {
        Ok(delay) if delay >= 0.0 => delay,
        _ => return fail("top", "-d: bad number of seconds", 1),
    };
    let rounds: u64 = match parsed.value('n').map(str::parse) {
        Some(Err(error)) => return fail("top", format!("-n: {error}"), 1),
        Some(Ok(rounds)) => rounds,
        None => u64::MAX,
    };
    let batch = parsed.has('b') || !io::stdout().is_terminal();
    let mut pids = Vec::new();
    let lists = parsed.values.iter().filter(|(letter, _)| *letter == 'p');
    for pid in lists.flat_map(|(_, list)| list.split(',')) {
        match pid.parse::<i32>() {
            Ok(pid) => pids.push(pid),
            Err(_) => return fail("top", format!("bad pid '{pid}'"), 1),
        }
    }
    let user = parsed.value('u').or(parsed.value('U'));
    let user = match user.map(|name| user_id(name).ok_or(name)) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(name)) => return fail("top", format!("Invalid user '{name}'"), 1),
    };
    let order = match parsed
        .value('o')
        .map(|name| name.trim_start_matches(['+', '-']))
    {
        None | Some("%CPU") => Order::Cpu,
        Some("%MEM" | "RES") => Order::Memory,
        Some("PID") => Order::Pid,
        Some("TIME" | "TIME+") => Order::Time,
        Some(other) => return fail("top", format!("unrecognized field name '{other}'"), 1),
    };
    let view = View {
        batch,
        delay: Duration::from_secs_f64(delay.min(86_400.0)),
        pids,
        user,
        order,
        threads: parsed.has('H'),
        command_lines: parsed.has('c'),
        hide_idle: parsed.has('i'),
    };
    let cooked = if batch { None } else { raw_mode() };
    let result = view.run(rounds);
    if let Some(cooked) = cooked {
        // Fails only when the terminal is gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &cooked);
        println!();
    }
    match result {
        Ok(()) => 0,
        Err(error) => fail("top", error, 1),
    }
}

fn raw_mode() -> Option<Termios> {
    let cooked = termios::tcgetattr(io::stdin()).ok()?;
    let mut raw = cooked.clone();
    raw.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO);
    termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).ok()?;
    Some(cooked)
}

struct View {
    batch: bool,
    delay: Duration,
    /// Empty: all.
    pids: Vec<i32>,
    user: Option<u32>,
    order: Order,
    threads: bool,
    command_lines: bool,
    hide_idle: bool,
}

/// Counters at one moment.
struct Sample {
    at: Instant,
    cpu: [u64; 8],
    processes: Vec<Process>,
}

impl Sample {
    fn take(view: &View) -> Self {
        let mut processes = Process::all();
        processes.retain(|p| {
            (view.pids.is_empty() || view.pids.contains(&p.pid))
                && view.user.is_none_or(|uid| p.uid == uid)
        });
        if view.threads {
            processes = processes.iter().flat_map(Process::each_thread).collect();
        }
        Self {
            at: Instant::now(),
            cpu: proc::cpu_times(),
            processes,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Cpu,
    Memory,
    Pid,
    Time,
}

impl View {
    fn run(&self, rounds: u64) -> io::Result<()> {
        let mut before: Option<Sample> = None;
        let mut order = self.order;
        for round in 0..rounds {
            let now = Sample::take(self);
            let text = self.screen(before.as_ref(), &now, order);
            let mut out = io::stdout().lock();
            if !self.batch {
                out.write_all(b"\x1b[H\x1b[J")?;
            }
            out.write_all(text.as_bytes())?;
            out.flush()?;
            before = Some(now);
            if round + 1 == rounds {
                break;
            }
            match self.wait()? {
                Some(b'q' | 3) => break,
                Some(b'P') => order = Order::Cpu,
                Some(b'M') => order = Order::Memory,
                Some(b'N') => order = Order::Pid,
                Some(b'T') => order = Order::Time,
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits for the next round or a key.
    fn wait(&self) -> io::Result<Option<u8>> {
        if self.batch {
            std::thread::sleep(self.delay);
            return Ok(None);
        }
        let stdin = io::stdin();
        let mut wanted = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(self.delay).unwrap_or(PollTimeout::MAX);
        match poll(&mut wanted, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut byte = [0];
        let count = nix::unistd::read(stdin.as_fd(), &mut byte)?;
        Ok(Some(if count == 0 { b'q' } else { byte[0] }))
    }

    fn screen(&self, before: Option<&Sample>, now: &Sample, order: Order) -> String {
        let (rows, width) = if self.batch {
            (usize::MAX, 512)
        } else {
            terminal_size()
        };
        let mut lines = head(before, now, self.threads);
        let used: HashMap<i32, u64> = before
            .map(|b| b.processes.iter().map(|p| (p.tid, p.cpu_ticks())).collect())
            .unwrap_or_default();
        let ticks = match before {
            Some(before) => (now.at - before.at).as_secs_f64() * proc::TICKS as f64,
            None => proc::uptime().unwrap_or(0.0) * proc::TICKS as f64,
        };
        let share = |p: &Process| {
            let since = used.get(&p.tid).copied().unwrap_or(0);
            p.cpu_ticks().saturating_sub(since) as f64 * 100.0 / ticks.max(1.0)
        };
        let memory = proc::meminfo().get("MemTotal").copied().unwrap_or(0).max(1);
        let mut shown: Vec<(&Process, f64)> = now.processes.iter().map(|p| (p, share(p))).collect();
        shown.sort_by(|a, b| match order {
            Order::Cpu => b.1.total_cmp(&a.1),
            Order::Memory => b.0.resident_pages.cmp(&a.0.resident_pages),
            Order::Pid => a.0.pid.cmp(&b.0.pid),
            Order::Time => b.0.cpu_ticks().cmp(&a.0.cpu_ticks()),
        });
        let heading = format!(
            "{:>7} {:<8} {:>3} {:>3} {:>7} {:>6} {:>6} {} {:>5} {:>5} {:>9} COMMAND",
            "PID", "USER", "PR", "NI", "VIRT", "RES", "SHR", "S", "%CPU", "%MEM", "TIME+"
        );
        lines.push(String::new());
        lines.push(if self.batch {
            heading
        } else {
            format!("\x1b[7m{heading:<width$}\x1b[0m")
        });
        if self.hide_idle {
            shown.retain(|(p, cpu)| *cpu > 0.0 || p.state == 'R');
        }
        let room = rows.saturating_sub(lines.len() + 1);
        for (p, cpu) in shown.into_iter().take(room) {
            let ticks = p.cpu_ticks();
            let line = format!(
                "{:>7} {:<8.8} {:>3} {:>3} {:>7} {:>6} {:>6} {} {cpu:>5.1} {:>5.1} {:>9} {}",
                p.tid,
                user_name(p.uid),
                p.priority,
                p.nice,
                p.virtual_bytes / 1024,
                p.resident_kib(),
                proc::shared_kib(p.pid),
                p.state,
                p.resident_kib() as f64 * 100.0 / memory as f64,
                format!(
                    "{}:{:02}.{:02}",
                    ticks / 6000,
                    ticks / 100 % 60,
                    ticks % 100
                ),
                if self.command_lines {
                    p.command()
                } else {
                    p.comm.clone()
                }
            );
            lines.push(line.chars().take(width).collect());
        }
        lines.join("\n") + "\n"
    }
}

/// The five lines above the table.
fn head(before: Option<&Sample>, now: &Sample, threads: bool) -> Vec<String> {
    let count = |states: &str| {
        now.processes
            .iter()
            .filter(|p| states.contains(p.state))
            .count()
    };
    let mut cpu = now.cpu;
    if let Some(before) = before {
        for (value, old) in cpu.iter_mut().zip(before.cpu) {
            *value = value.saturating_sub(old);
        }
    }
    let total = cpu.iter().sum::<u64>().max(1) as f64;
    let share = |at: usize| cpu[at] as f64 * 100.0 / total;
    let info = proc::meminfo();
    let mib = |name: &str| info.get(name).copied().unwrap_or(0) as f64 / 1024.0;
    let cache = mib("Buffers") + mib("Cached") + mib("SReclaimable");
    vec![
        format!("top -{}", super::memory::summary()),
        format!(
            "{}: {:>3} total, {:>3} running, {:>3} sleeping, {:>3} stopped, {:>3} zombie",
            if threads { "Threads" } else { "Tasks" },
            now.processes.len(),
            count("R"),
            count("SDIW"),
            count("Tt"),
            count("Z")
        ),
        format!(
            "%Cpu(s): {:>4.1} us, {:>4.1} sy, {:>4.1} ni, {:>4.1} id, {:>4.1} wa, {:>4.1} hi, {:>4.1} si, {:>4.1} st",
            share(0),
            share(2),
            share(1),
            share(3),
            share(4),
            share(5),
            share(6),
            share(7)
        ),
        format!(
            "MiB Mem : {:>8.1} total, {:>8.1} free, {:>8.1} used, {:>8.1} buff/cache",
            mib("MemTotal"),
            mib("MemFree"),
            (mib("MemTotal") - mib("MemAvailable")).max(0.0),
            cache
        ),
        format!(
            "MiB Swap: {:>8.1} total, {:>8.1} free, {:>8.1} used. {:>8.1} avail Mem",
            mib("SwapTotal"),
            mib("SwapFree"),
            mib("SwapTotal") - mib("SwapFree"),
            mib("MemAvailable")
        ),
    ]
}
