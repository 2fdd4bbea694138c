//! poweroff, reboot, halt and shutdown: signals to process 1, or reboot(2) with `-f`.

use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot as reboot_now};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Args;
use crate::sys::{fail, options};

/// Asks init with `signal` for an orderly shutdown; with `-f` does `mode` at
/// once, after a sync unless `-n` says not to.
fn shut_down(applet: &str, args: Args, signal: Signal, mode: RebootMode) -> i32 {
    const LONG: &[(&str, char)] = &[("force", 'f'), ("no-sync", 'n')];
    let parsed = match options(args, "fnpw", "d", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail(applet, message, 1),
    };
    let delay = parsed.value('d').map(str::parse::<u32>);
    match delay {
        Some(Ok(seconds)) => std::thread::sleep(Duration::from_secs(seconds.into())),
        Some(Err(error)) => return fail(applet, format!("-d: {error}"), 1),
        None => {}
    }
    let (signal, mode) = match parsed.has('p') {
        true => (Signal::SIGUSR2, RebootMode::RB_POWER_OFF),
        false => (signal, mode),
    };
    if parsed.has('f') {
        if !parsed.has('n') {
            nix::unistd::sync();
        }
        let Err(error) = reboot_now(mode);
        return fail(applet, error.desc(), 1);
    }
    ask_init(applet, signal)
}

fn ask_init(applet: &str, signal: Signal) -> i32 {
    match kill(Pid::from_raw(1), signal) {
        Ok(()) => 0,
        Err(error) => fail(applet, format!("cannot signal init: {}", error.desc()), 1),
    }
}

/// shutdown [-hPHr] [TIME] [MESSAGE]: waits in the foreground, so that Ctrl-C
/// calls it off.
pub fn shutdown(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("poweroff", 'P'),
        ("reboot", 'r'),
        ("halt", 'H'),
        ("no-wall", 'k'),
    ];
    let parsed = match options(args, "hPHrfk", "", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("shutdown", message, 1),
    };
    let when = parsed.operands.first().map_or("now", String::as_str);
    let Some(seconds) = seconds_until(when) else {
        return fail("shutdown", format!("{when}: not now, +MINUTES or HH:MM"), 1);
    };
    let signal = match (parsed.has('r'), parsed.has('H')) {
        (true, _) => Signal::SIGTERM,
        (_, true) => Signal::SIGUSR1,
        _ => Signal::SIGUSR2,
    };
    // Who may not do it should hear so now.
    if let Err(error) = kill(Pid::from_raw(1), None) {
        return fail(
            "shutdown",
            format!("cannot signal init: {}", error.desc()),
            1,
        );
    }
    if seconds > 0 {
        println!("The system goes down in {seconds} seconds; Ctrl-C calls it off.");
        std::thread::sleep(Duration::from_secs(seconds));
    }
    ask_init("shutdown", signal)
}

/// Seconds until `now`, `+MINUTES` or the next `HH:MM`.
fn seconds_until(when: &str) -> Option<u64> {
    if when == "now" {
        return Some(0);
    }
    if let Some(minutes) = when.strip_prefix('+') {
        return minutes.parse::<u64>().ok()?.checked_mul(60);
    }
    let (hour, minute) = when.split_once(':')?;
    let (hour, minute): (u64, u64) = (hour.parse().ok()?, minute.parse().ok()?);
    if hour > 23 || minute > 59 {
        return None;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time = crate::sys::local_time(i64::try_from(now.ok()?.as_secs()).ok()?);
    let now = u64::try_from(time.tm_hour * 3600 + time.tm_min * 60 + time.tm_sec).ok()?;
    Some((hour * 3600 + minute * 60 + 86400 - now) % 86400)
}

pub fn poweroff(args: Args) -> i32 {
    shut_down("poweroff", args, Signal::SIGUSR2, RebootMode::RB_POWER_OFF)
}

pub fn reboot(args: Args) -> i32 {
    shut_down("reboot", args, Signal::SIGTERM, RebootMode::RB_AUTOBOOT)
}

pub fn halt(args: Args) -> i32 {
    shut_down("halt", args, Signal::SIGUSR1, RebootMode::RB_HALT_SYSTEM)
}

#[cfg(test)]
mod tests {
    use super::seconds_until;

    #[test]
    fn times() {
        assert_eq!(seconds_until("now"), Some(0));
        assert_eq!(seconds_until("+2"), Some(120));
        assert!(seconds_until("23:59").is_some_and(|s| s < 86400));
        for bad in ["24:00", "x", "+x", "1", "12:60", "+99999999999999999999"] {
            assert_eq!(seconds_until(bad), None, "{bad}");
        }
    }
}
