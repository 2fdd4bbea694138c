//! The first process of Oxbow.
//!
//! It mounts what every program expects, gives the machine its name, keeps the
//! services of [`services`] running (today: the shell on the console), reaps
//! what nobody else waits for, and takes the system down in order when asked.
//! It does nothing else, and nothing before the first shell runs that the shell
//! does not need: its time is boot time.
//!
//! Signals, as BusyBox init: SIGUSR1 halts, SIGUSR2 powers off, SIGTERM reboots,
//! SIGINT (the kernel's Ctrl-Alt-Del) reboots. All signals are blocked and taken
//! one at a time from `sigtimedwait`, so that no code of this process runs in a
//! handler.

mod console;
mod mounts;
mod services;
mod shutdown;

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};

use services::Services;
use shutdown::Goal;

/// What a signal asks of init.
enum Request {
    /// A child ended.
    Reap,
    Stop(Goal),
    /// The time to wait is over.
    Nothing,
}

fn main() {
    if std::process::id() != 1 {
        eprintln!("init: this is the first process; `poweroff`, `reboot`, `halt` talk to it");
        std::process::exit(1);
    }
    // Before the first child, so that no signal is lost.
    let signals = SigSet::all();
    let blocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None);
    console::attach();
    console::check("block signals", blocked);

    mounts::mount_all();
    set_hostname();
    // Ctrl-Alt-Del then sends SIGINT here rather than resetting the machine.
    let caught = nix::sys::reboot::set_cad_enabled(false);
    if caught != Err(Errno::ENOSYS) && caught != Err(Errno::EINVAL) {
        console::check("take over Ctrl-Alt-Del", caught);
    }

    let mut services = Services::new(console::terminal_type());
    let goal = loop {
        let now = Instant::now();
        services.start_due(now);
        match wait_for_request(&signals, services.next_start(now)) {
            Request::Reap => reap(&mut services),
            Request::Stop(goal) => break goal,
            Request::Nothing => {}
        }
    };
    shutdown::run(goal)
}

/// Waits for a signal, at most `limit` where there is one.
fn wait_for_request(signals: &SigSet, limit: Option<Duration>) -> Request {
    let taken = match limit {
        None => signals.wait(),
        Some(limit) => shutdown::wait_for_signal(signals, limit),
    };
    match taken {
        Ok(Signal::SIGCHLD) => Request::Reap,
        Ok(Signal::SIGUSR1) => Request::Stop(Goal::Halt),
        Ok(Signal::SIGUSR2) => Request::Stop(Goal::PowerOff),
        Ok(Signal::SIGTERM | Signal::SIGINT) => Request::Stop(Goal::Reboot),
        _ => Request::Nothing,
    }
}

/// Collects every child that has ended; one SIGCHLD may stand for many.
fn reap(services: &mut Services) {
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, ended) {
        let (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) = status else {
            break;
        };
        services.ended(pid, Instant::now());
        if waitpid(pid, None).is_err() {
            break;
        }
    }
}

/// Sets the host name from the first line of /etc/hostname.
fn set_hostname() {
    let text = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = match text.lines().next().map(str::trim) {
        Some(name) if !name.is_empty() => name,
        _ => "oxbow",
    };
    console::check("set the host name", nix::unistd::sethostname(name));
}
