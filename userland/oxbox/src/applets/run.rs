//! flock and time: they run a command and care for what is around it.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Usage, UsageWho, getrusage};

use super::Args;
use crate::sys::{fail, options};

/// The exit status a shell would report.
pub fn shell_status(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Builds the command that `words` name.
pub fn command(words: &[OsString]) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    Some(command)
}

/// Runs a command while holding a lock on a file, or takes the lock on a
/// descriptor that the shell has open (`flock 9`).
pub fn flock(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("shared", 's'),
        ("exclusive", 'x'),
        ("nonblock", 'n'),
        ("nb", 'n'),
        ("unlock", 'u'),
        ("close", 'o'),
        ("command", 'c'),
        ("timeout", 'w'),
        ("wait", 'w'),
        ("conflict-exit-code", 'E'),
        ("verbose", 'v'),
    ];
    let parsed = match options(args, "sexnuov", "wE", LONG, false) {
        Ok(parsed) => parsed,
        Err(message) => return fail("flock", message, 64),
    };
    let number = |letter: char| -> Result<Option<f64>, String> {
        let text = parsed.value(letter);
        let value = text.map(|text| text.parse::<f64>().ok().filter(|v| *v >= 0.0).ok_or(text));
        value
            .transpose()
            .map_err(|text| format!("-{letter}: invalid number '{text}'"))
    };
    let (conflict, limit) = match (number('E'), number('w')) {
        (Ok(conflict), Ok(limit)) => (conflict.unwrap_or(1.0) as i32, limit),
        (Err(message), _) | (_, Err(message)) => return fail("flock", message, 64),
    };
    let mut how = match (parsed.has('u'), parsed.has('s')) {
        (true, _) => libc::LOCK_UN,
        (_, true) => libc::LOCK_SH,
        _ => libc::LOCK_EX,
    };
    if parsed.has('n') {
        how |= libc::LOCK_NB;
    }
    let Some((path, words)) = parsed.paths.split_first() else {
        return fail("flock", "name a file or a descriptor", 64);
    };
    if words.is_empty() {
        let number = path.to_str().and_then(|text| text.parse().ok());
        let Some(number) = number.filter(|number: &i32| *number >= 0) else {
            return fail("flock", "no command given", 64);
        };
        // SAFETY: used only for flock(2), which checks that the descriptor is open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        return match lock(descriptor, how, limit) {
            Ok(true) => 0,
            Ok(false) => conflict,
            Err(error) => fail("flock", format!("{number}: {}", error.desc()), 65),
        };
    }
    let shell: Vec<OsString>;
    let words = match words {
        [option, text] if option == "-c" || option == "--command" => {
            shell = vec!["/bin/sh".into(), "-c".into(), text.clone()];
            &shell
        }
        words => words,
    };
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
        Err(error) => return fail("flock", format!("{}: {error}", path.display()), 66),
    };
    use std::os::fd::AsFd as _;
    match lock(file.as_fd(), how, limit) {
        Ok(true) => {}
        Ok(false) => return conflict,
        Err(error) => return fail("flock", error.desc(), 65),
    }
    match command.status() {
        Ok(status) => shell_status(status),
        Err(error) => fail("flock", format!("{}: {error}", words[0].display()), 69),
    }
}

/// flock(2) for at most `limit` seconds; false where somebody else has the lock.
fn lock(descriptor: BorrowedFd, how: i32, limit: Option<f64>) -> nix::Result<bool> {
    let end = limit.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.min(1e9)));
    let mut pause = Duration::from_millis(1);
    loop {
        // The call cannot wait for a time: with a limit it is asked again and again.
        let flags = how | end.map_or(0, |_| libc::LOCK_NB);
        // SAFETY: takes two integers and touches no memory.
        let result = unsafe { libc::flock(descriptor.as_raw_fd(), flags) };
        match Errno::result(result) {
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EWOULDBLOCK) => match end {
                Some(end) if Instant::now() < end => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                _ => return Ok(false),
            },
            Err(error) => return Err(error),
        }
    }
}

/// Runs a command and reports how long it took.
pub fn time(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("portability", 'p'),
        ("verbose", 'v'),
        ("output", 'o'),
        ("append", 'a'),
    ];
    let parsed = match options(args, "pva", "o", LONG, false) {
        Ok(parsed) => parsed,
        Err(message) => return fail("time", message, 125),
    };
    let Some(mut command) = command(&parsed.paths) else {
        return fail("time", "no command given", 125);
    };
    let start = Instant::now();
    let status = match command.status() {
        Ok(status) => status,
        Err(error) => {
            let status = if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            };
            return fail("time", format!("{}: {error}", parsed.operands[0]), status);
        }
    };
    let real = start.elapsed().as_secs_f64();
    let mut report = String::new();
    if let Some(signal) = status.signal() {
        report = format!("Command terminated by signal {signal}\n");
    }
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) {
        report += &match parsed.has('v') {
            true => verbose(&parsed.operands, real, &usage, shell_status(status)),
            false => {
                let (user, system) = seconds(&usage);
                format!("real {real:.2}\nuser {user:.2}\nsys {system:.2}\n")
            }
        };
    }
    let written = match parsed.value('o') {
        None => std::io::stderr().write_all(report.as_bytes()),
        Some(path) => fs::OpenOptions::new()
            .create(true)
            .write(true)
            .append(parsed.has('a'))
            .truncate(!parsed.has('a'))
            .open(path)
            .and_then(|mut file| file.write_all(report.as_bytes())),
    };
    match written {
        Ok(()) => shell_status(status),
        Err(error) => fail("time", error, 125),
    }
}

/// Processor seconds in user mode and in the kernel.
fn seconds(usage: &Usage) -> (f64, f64) {
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    (seconds(usage.user_time()), seconds(usage.system_time()))
}

fn verbose(words: &[String], real: f64, usage: &Usage, status: i32) -> String {
    let (user, system) = seconds(usage);
    let share = (user + system) * 100.0 / real.max(0.001);
    let (hours, minutes) = (real as u64 / 3600, real as u64 / 60 % 60);
    let clock = match hours {
        0 => format!("{minutes}:{:05.2}", real % 60.0),
        hours => format!("{hours}:{minutes:02}:{:02.0}", real % 60.0),
    };
    let rows = [
        ("Command being timed", format!("\"{}\"", words.join(" "))),
        ("User time (seconds)", format!("{user:.2}")),
        ("System time (seconds)", format!("{system:.2}")),
        ("Percent of CPU this job got", format!("{share:.0}%")),
        ("Elapsed (wall clock) time (h:mm:ss or m:ss)", clock),
        (
            "Maximum resident set size (kbytes)",
            usage.max_rss().to_string(),
        ),
        (
            "Major (requiring I/O) page faults",
            usage.major_page_faults().to_string(),
        ),
        (
            "Minor (reclaiming a frame) page faults",
            usage.minor_page_faults().to_string(),
        ),
        (
            "Voluntary context switches",
            usage.voluntary_context_switches().to_string(),
        ),
        (
            "Involuntary context switches",
            usage.involuntary_context_switches().to_string(),
        ),
        ("File system inputs", usage.block_reads().to_string()),
        ("File system outputs", usage.block_writes().to_string()),
        ("Exit status", status.to_string()),
    ];
    let lines = rows
        .iter()
        .map(|(name, value)| format!("\t{name}: {value}\n"));
    lines.collect()
}
