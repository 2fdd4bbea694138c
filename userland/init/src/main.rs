//! The first process of Oxbow, and `svc`, which talks to it.
//!
//! It mounts what every program expects, gives the machine its name, keeps the
//! services of `/etc/services` running ([`services`]), logs what they print and
//! what programs send to /dev/log ([`log`], [`syslog`]), answers `svc`
//! ([`control`]), reaps what nobody else waits for, and takes the system down in
//! order when asked. Nothing before the first shell runs that the shell does not
//! need: its time is boot time.
//!
//! One thread and one poll(2) for everything; no call waits for a service, a
//! client or a terminal. Signals, as BusyBox init: SIGUSR1 halts, SIGUSR2 powers
//! off, SIGTERM reboots, SIGINT (the kernel's Ctrl-Alt-Del) reboots; SIGHUP
//! reads the unit files again. All are blocked and come through a signalfd, so
//! that no code of this process runs in a handler.

mod budget;
mod client;
mod clock;
mod console;
mod control;
mod log;
mod machine;
mod memory;
mod mounts;
mod services;
mod session;
mod shutdown;
mod spawn;
mod store;
mod syslog;
mod unit;

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};

use control::Control;
use machine::Exit;
use services::Services;
use shutdown::Goal;

/// What poll(2) found something for.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Syslog,
    /// The output of a service, by its place in the table.
    Output(usize),
    Client(usize),
}

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    if name.rsplit('/').next() == Some("svc") {
        std::process::exit(client::main(std::env::args().skip(1).collect()));
    }
    if std::process::id() != 1 {
        eprintln!(
            "init: this is the first process; `svc`, `poweroff`, `reboot`, `halt` talk to it"
        );
        std::process::exit(1);
    }
    // Before the first child, so that no signal is lost.
    let blocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    console::attach();
    console::check("block signals", blocked);
    umask(Mode::from_bits_truncate(0o022));

    mounts::mount_all();
    set_hostname();
    // Ctrl-Alt-Del then sends SIGINT here rather than resetting the machine.
    let caught = nix::sys::reboot::set_cad_enabled(false);
    if caught != Err(Errno::ENOSYS) && caught != Err(Errno::EINVAL) {
        console::check("take over Ctrl-Alt-Del", caught);
    }

    let signals = signal_descriptor();
    let mut services = Services::new(console::terminal_type(), Instant::now());
    services.start_console(Instant::now());
    for problem in services.load(Instant::now()) {
        eprintln!("init: {problem}");
    }
    if let Err(error) = services.syslog.listen() {
        eprintln!("init: /dev/log: {error}");
    }
    let mut control = Control::new();
    let goal = serve(&signals, &mut services, &mut control);
    shutdown::run(goal)
}

/// Retries where there is no memory: without signals there is no way down.
fn signal_descriptor() -> SignalFd {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    loop {
        match SignalFd::with_flags(&SigSet::all(), flags) {
            Ok(descriptor) => return descriptor,
            Err(error) => console::check("watch for signals", Err::<(), _>(error)),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Runs services and answers requests until somebody asks for the way down and
/// the services are off it.
fn serve(signals: &SignalFd, services: &mut Services, control: &mut Control) -> Goal {
    let mut down: Option<(Goal, Instant)> = None;
    loop {
        let now = Instant::now();
        if let Some((goal, deadline)) = down
            && (services.shut_down(now) || deadline <= now)
        {
            services.close_logs(now);
            return goal;
        }
        services.step(now);
        control.settle(services, now);
        let end = down.map(|(_, deadline)| deadline.saturating_duration_since(now));
        for (source, events) in wait(signals, services, control, end) {
            let now = Instant::now();
            match source {
                Source::Signals => {
                    while let Ok(Some(taken)) = signals.read_signal() {
                        let number = i32::try_from(taken.ssi_signo).unwrap_or(0);
                        match Signal::try_from(number) {
                            Ok(Signal::SIGCHLD) => reap(services, control),
                            Ok(Signal::SIGHUP) => drop(services.load(now)),
                            Ok(signal) if down.is_none() => {
                                down = goal(signal).map(|goal| {
                                    shutdown::announce(goal);
                                    control.close();
                                    (goal, now + shutdown::GRACE)
                                });
                            }
                            _ => {}
                        }
                    }
                }
                Source::Listener => control.accept(now),
                Source::Syslog => services.syslog.receive(now),
                Source::Output(index) => {
                    if let Some(service) = services.all.get_mut(index) {
                        let lines = service.pump(now);
                        control.deliver(&service.unit.name, &lines);
                    }
                }
                Source::Client(index) => {
                    if events
                        .intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
                    {
                        control.receive(index, services, now);
                    }
                }
            }
        }
    }
}

fn goal(signal: Signal) -> Option<Goal> {
    match signal {
        Signal::SIGUSR1 => Some(Goal::Halt),
        Signal::SIGUSR2 => Some(Goal::PowerOff),
        Signal::SIGTERM | Signal::SIGINT => Some(Goal::Reboot),
        _ => None,
    }
}

/// Waits for something to happen, or until something is due. Outputs come
/// first: handling the others may change the table they are counted by.
fn wait(
    signals: &SignalFd,
    services: &mut Services,
    control: &Control,
    end: Option<Duration>,
) -> Vec<(Source, PollFlags)> {
    let now = Instant::now();
    let due = [services.next_due(now), control.next_due(services, now), end];
    let limit = due.into_iter().flatten().min();

    let mut sources = Vec::new();
    let mut polled = Vec::new();
    for (index, service) in services.all.iter_mut().enumerate() {
        if let Some(descriptor) = service.descriptor(now) {
            sources.push(Source::Output(index));
            polled.push(PollFd::new(descriptor, PollFlags::POLLIN));
        }
    }
    for (index, (descriptor, events)) in control.clients().enumerate() {
        sources.push(Source::Client(index));
        polled.push(PollFd::new(descriptor, events));
    }
    let mut add = |source, descriptor| {
        sources.push(source);
        polled.push(PollFd::new(descriptor, PollFlags::POLLIN));
    };
    if let Some(descriptor) = services.syslog.descriptor() {
        add(Source::Syslog, descriptor);
    }
    add(Source::Signals, signals.as_fd());
    if let Some(descriptor) = control.descriptor(now) {
        add(Source::Listener, descriptor);
    }

    let timeout = match limit {
        None => PollTimeout::NONE,
        // Rounded up: waking before the time would only mean another round.
        Some(limit) => {
            PollTimeout::try_from(limit + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        // No memory in the kernel: some comes back.
        Err(_) => std::thread::sleep(Duration::from_millis(50)),
    }
    let events = polled
        .iter()
        .map(|one| one.revents().unwrap_or(PollFlags::empty()));
    sources
        .into_iter()
        .zip(events)
        .filter(|(_, events)| !events.is_empty())
        .collect()
}

/// Collects every child that has ended; one SIGCHLD may stand for many.
fn reap(services: &mut Services, control: &mut Control) {
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let now = Instant::now();
    while let Ok(status) = waitid(Id::All, ended) {
        let (pid, exit) = match status {
            WaitStatus::Exited(pid, code) => (pid, Exit::Code(code)),
            WaitStatus::Signaled(pid, signal, _) => (pid, Exit::Signal(signal.as_str())),
            _ => break,
        };
        // Before it is collected: until then its number stands for it alone.
        if let Some((index, lines)) = services.ended(pid, exit, now) {
            control.deliver(&services.all[index].unit.name, &lines);
        }
        if waitpid(pid, None).is_err() {
            break;
        }
    }
    services.check_stopping(now);
}

/// Sets the host name from the first line of /etc/hostname.
fn set_hostname() {
    let text = store::read(std::path::Path::new("/etc/hostname")).unwrap_or_default();
    let name = match text.lines().next().map(str::trim) {
        Some(name) if !name.is_empty() => name,
        _ => "oxbow",
    };
    console::check("set the host name", nix::unistd::sethostname(name));
}
