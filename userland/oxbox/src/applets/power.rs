//! poweroff, reboot and halt: signals to process 1, or reboot(2) with `-f`.

use nix::sys::reboot::{RebootMode, reboot as reboot_now};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Args;
use crate::sys::{fail, options};

/// Asks init with `signal` for an orderly shutdown; with `-f` does `mode` at
/// once, after a sync unless `-n` says not to.
fn shut_down(applet: &str, args: Args, signal: Signal, mode: RebootMode) -> i32 {
    const LONG: &[(&str, char)] = &[("force", 'f'), ("no-sync", 'n')];
    let parsed = match options(args, "fn", "d", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail(applet, message, 1),
    };
    if parsed.has('f') {
        if !parsed.has('n') {
            nix::unistd::sync();
        }
        let Err(error) = reboot_now(mode);
        return fail(applet, error.desc(), 1);
    }
    match kill(Pid::from_raw(1), signal) {
        Ok(()) => 0,
        Err(error) => fail(applet, format!("cannot signal init: {}", error.desc()), 1),
    }
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
