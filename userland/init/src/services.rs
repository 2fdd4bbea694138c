//! What init keeps running.
//!
//! A service is a program with a state; the table has one row today, the shell
//! on the console. One that ends is started again, at once when it ran for a
//! while, else after a pause that doubles.

use std::ffi::CString;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, execve, fork, setsid};

use crate::console;

/// A run shorter than this counts as a failure.
const SHORT_RUN: Duration = Duration::from_secs(2);
/// The pause after the first failure, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The search path of the system, as in /etc/profile.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum State {
    Running { pid: Pid, since: Instant },
    Due(Instant),
}

struct Service {
    name: &'static str,
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Runs in a session of its own, with the console as its terminal.
    on_console: bool,
    state: State,
    pause: Duration,
}

/// The table of services.
pub struct Services {
    all: Vec<Service>,
}

impl Services {
    /// `terminal`: the console's type, for `TERM`.
    pub fn new(terminal: String) -> Self {
        let shell = ["/bin/oxsh", "/bin/sh"]
            .into_iter()
            .find(|path| std::fs::exists(path).unwrap_or(false))
            .unwrap_or("/bin/sh");
        let name = shell.rsplit('/').next().unwrap_or("sh");
        let environment = [
            "HOME=/root".to_owned(),
            "USER=root".to_owned(),
            "LOGNAME=root".to_owned(),
            format!("SHELL={shell}"),
            format!("TERM={terminal}"),
            PATH.to_owned(),
        ];
        let console_shell = Service {
            name: "console shell",
            program: c_string(shell),
            // The dash makes it a login shell.
            arguments: vec![c_string(&format!("-{name}"))],
            environment: environment.iter().map(|e| c_string(e)).collect(),
            on_console: true,
            state: State::Due(Instant::now()),
            pause: Duration::ZERO,
        };
        Self {
            all: vec![console_shell],
        }
    }

    /// Starts every service whose time has come.
    pub fn start_due(&mut self, now: Instant) {
        for service in &mut self.all {
            if matches!(service.state, State::Due(at) if at <= now) {
                service.start(now);
            }
        }
    }

    /// How long until the next service is to be started, if any is waiting.
    pub fn next_start(&self, now: Instant) -> Option<Duration> {
        let due = self.all.iter().filter_map(|service| match service.state {
            State::Due(at) => Some(at.saturating_duration_since(now)),
            State::Running { .. } => None,
        });
        due.min()
    }

    /// Notes that process `pid` ended; it may be nobody's.
    pub fn ended(&mut self, pid: Pid, now: Instant) {
        let service = self
            .all
            .iter_mut()
            .find(|s| matches!(s.state, State::Running { pid: own, .. } if own == pid));
        if let Some(service) = service
            && let State::Running { since, .. } = service.state
        {
            service.pause = next_pause(service.pause, now.saturating_duration_since(since));
            service.state = State::Due(now + service.pause);
        }
    }
}

/// The pause before the next start, after a run of length `ran`.
fn next_pause(last: Duration, ran: Duration) -> Duration {
    if ran >= SHORT_RUN {
        return Duration::ZERO;
    }
    (last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

fn c_string(text: &str) -> CString {
    // The texts of this file hold no NUL; TERM cannot, coming from the kernel.
    CString::new(text).unwrap_or_default()
}

impl Service {
    fn start(&mut self, now: Instant) {
        // SAFETY: this process has one thread, so the child may run any code;
        // it makes system calls and ends in exec or exit.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => {
                self.state = State::Running {
                    pid: child,
                    since: now,
                };
            }
            Ok(ForkResult::Child) => self.run(),
            Err(error) => {
                console::check(&format!("start the {}", self.name), Err::<(), _>(error));
                self.pause = next_pause(self.pause, Duration::ZERO);
                self.state = State::Due(now + self.pause);
            }
        }
    }

    /// The child's side of [`Self::start`].
    fn run(&self) -> ! {
        let ready = setsid().map(drop).and_then(|()| {
            if self.on_console {
                console::take()
            } else {
                Ok(())
            }
        });
        console::check(&format!("give the {} its terminal", self.name), ready);
        if self.on_console {
            welcome();
        }
        // The home of root, where there is one.
        let _ = nix::unistd::chdir("/root");
        let none = SigSet::empty();
        console::check(
            "unblock signals",
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&none), None),
        );
        let Err(error) = execve(&self.program, &self.arguments, &self.environment);
        console::check(
            &format!("run {}", self.program.to_string_lossy()),
            Err::<(), _>(error),
        );
        std::process::exit(127)
    }
}

/// Shows /etc/motd on the terminal, as login(1) does.
fn welcome() {
    // Without the file, or with a terminal that is gone, there is no welcome.
    if let Ok(text) = std::fs::read("/etc/motd") {
        let _ = std::io::Write::write_all(&mut std::io::stdout(), &text);
    }
}

/// The signals that end a process in good order: a shell ignores SIGTERM, and
/// a stopped process must wake up to end.
pub const FAREWELL: [Signal; 3] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCONT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let short = Duration::from_millis(10);
        let first = next_pause(Duration::ZERO, short);
        assert_eq!(first, FIRST_PAUSE);
        assert_eq!(next_pause(first, short), FIRST_PAUSE * 2);
        assert_eq!(next_pause(LONGEST_PAUSE, short), LONGEST_PAUSE);
        assert_eq!(next_pause(first, SHORT_RUN), Duration::ZERO);
    }

    #[test]
    fn the_ended_service_is_due_and_no_other() {
        let mut services = Services::new("vt100".into());
        let now = Instant::now();
        let pid = Pid::from_raw(7);
        services.all[0].state = State::Running { pid, since: now };
        services.ended(Pid::from_raw(8), now);
        assert_eq!(services.next_start(now), None);
        services.ended(pid, now);
        assert_eq!(services.next_start(now), Some(FIRST_PAUSE));
    }
}
