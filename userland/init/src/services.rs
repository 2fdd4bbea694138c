//! The table of services: what unit files define, brought to life.
//!
//! Each service is a [`Unit`], the [`Machine`] that decides about it, and a log
//! that its output goes to through a pipe. Both ends of the pipe stay open here,
//! so that a service that starts again goes on with it: no line is lost, and a
//! restart needs no descriptor that might not be there.

use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::budget::Budget;
use crate::log::Log;
use crate::machine::{Exit, Machine, Policy, State, Step};
use crate::spawn::{Failure, spawn};
use crate::syslog::Syslog;
use crate::unit::Unit;
use crate::{session, store};

/// Reads from one pipe in one go.
const READS: usize = 4;

/// A pipe's reading end as a file, for its `Read`.
struct Pipe {
    reader: std::fs::File,
    writer: OwnedFd,
}

pub struct Service {
    pub unit: Unit,
    pub machine: Machine,
    pub log: Log,
    /// Why it is skipped.
    pub remark: String,
    pipe: Option<Pipe>,
    budget: Budget,
    /// The session of its last run.
    session: i32,
    /// It comes after itself by way of others: its order is not kept.
    unordered: bool,
    /// Its unit file is gone; it goes when it has stopped.
    removed: bool,
}

fn policy(unit: &Unit) -> Policy {
    Policy {
        restart: unit.restart,
        one_shot: unit.one_shot,
        remain: unit.remain,
        stop_timeout: unit.stop_timeout,
        start_timeout: unit.start_timeout,
    }
}

/// Where the output of service `name` goes.
pub fn log_path(name: &str) -> PathBuf {
    Path::new("/var/log").join(format!("{name}.log"))
}

impl Service {
    fn new(unit: Unit, now: Instant) -> Self {
        Self {
            machine: Machine::new(policy(&unit), now),
            log: Log::new(&log_path(&unit.name), unit.log_limit),
            remark: String::new(),
            pipe: None,
            budget: Budget::new(now),
            session: 0,
            unordered: false,
            removed: false,
            unit,
        }
    }

    fn open_pipe(&mut self) -> nix::Result<()> {
        if self.pipe.is_none() {
            let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            // The service's end stays blocking, as programs expect.
            let flags = nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
            nix::fcntl::fcntl(&reader, flags)?;
            let reader = reader.into();
            self.pipe = Some(Pipe { reader, writer });
        }
        Ok(())
    }

    /// Takes output from the pipe, no more than its budget. Returns whole lines.
    pub fn pump(&mut self, now: Instant) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut buffer = [0; 4096];
        for _ in 0..READS {
            if self.budget.wait(now).is_some() {
                break;
            }
            let Some(pipe) = &mut self.pipe else { break };
            let Ok(length) = pipe.reader.read(&mut buffer) else {
                break;
            };
            if length == 0 {
                break;
            }
            self.budget.spend(length);
            lines.extend(self.log.feed(&buffer[..length], SystemTime::now()));
            if length < buffer.len() {
                break;
            }
        }
        lines
    }

    /// The pipe to poll, unless its service has written too much of late.
    pub fn descriptor(&mut self, now: Instant) -> Option<BorrowedFd<'_>> {
        if self.budget.wait(now).is_some() {
            return None;
        }
        self.pipe.as_ref().map(|pipe| pipe.reader.as_fd())
    }

    fn is_alive(&self) -> bool {
        matches!(
            self.machine.state(),
            State::Starting | State::Running | State::Stopping
        )
    }

    fn kill(&self, signal: Signal) {
        if self.session > 1 {
            session::signal(self.session, signal);
        }
    }

    fn stop(&mut self, now: Instant) {
        if self.machine.stop(now) {
            self.kill(self.unit.stop_signal);
        }
    }
}

pub struct Services {
    pub all: Vec<Service>,
    pub syslog: Syslog,
    /// The console's type, for `TERM`.
    terminal: String,
}

impl Services {
    /// An empty table.
    pub fn new(terminal: String, now: Instant) -> Self {
        Self {
            all: Vec::new(),
            syslog: Syslog::new(now),
            terminal,
        }
    }

    /// Starts the console's shell before anything else is even read, where its
    /// unit allows that.
    pub fn start_console(&mut self, now: Instant) {
        if let Some(unit) = store::load_console(Path::new(store::FOLDER)) {
            let mut service = Service::new(unit, now);
            service.machine.start(now);
            self.all.push(service);
            self.step(now);
        }
    }

    /// Reads the units again: new ones that are enabled start, changed ones
    /// count from their next start, removed ones stop. Returns what is wrong.
    pub fn load(&mut self, now: Instant) -> Vec<String> {
        let loaded = store::load(Path::new(store::FOLDER));
        let mut problems = loaded.problems;
        for service in &mut self.all {
            let name = &service.unit.name;
            // A unit that has become unreadable is a mistake, not a removal.
            let file = Path::new(store::FOLDER).join(format!("{name}.conf"));
            service.removed = !service.unit.console && !std::fs::exists(file).unwrap_or(true);
            if service.removed {
                service.stop(now);
            }
            service.log.close();
        }
        for unit in loaded.units {
            if let Some(service) = self.all.iter_mut().find(|s| s.unit.name == unit.name) {
                service.machine.policy = policy(&unit);
                service.log.set_limit(unit.log_limit);
                service.unit = unit;
                continue;
            }
            let mut service = Service::new(unit, now);
            if service.unit.enabled {
                service.machine.start(now);
            }
            self.all.push(service);
        }
        for index in 0..self.all.len() {
            let circle = self.comes_after_itself(index);
            self.all[index].unordered = circle;
            if circle {
                let name = &self.all[index].unit.name;
                problems.push(format!("{name} comes after itself: its order is not kept"));
            }
        }
        for problem in &problems {
            self.syslog.note(problem);
        }
        problems
    }

    pub fn index(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|s| s.unit.name == name)
    }

    fn comes_after_itself(&self, index: usize) -> bool {
        let mut seen = vec![false; self.all.len()];
        let mut next = vec![index];
        while let Some(at) = next.pop() {
            for name in self.all[at].unit.before_it() {
                match self.index(name) {
                    Some(before) if before == index => return true,
                    Some(before) if !seen[before] => {
                        seen[before] = true;
                        next.push(before);
                    }
                    _ => {}
                }
            }
        }
        false
    }

    /// Somebody wants service `index`, and so what it needs.
    pub fn start(&mut self, index: usize, now: Instant) {
        let mut seen = vec![false; self.all.len()];
        let mut next = vec![index];
        while let Some(at) = next.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            self.all[at].machine.start(now);
            let needs = &self.all[at].unit.needs;
            next.extend(needs.iter().filter_map(|name| self.index(name)));
        }
    }

    pub fn stop(&mut self, index: usize, now: Instant) {
        self.all[index].stop(now);
    }

    /// Sends the unit's reload signal to the main process. False: none runs.
    pub fn reload_one(&self, index: usize) -> bool {
        let service = &self.all[index];
        let pid = service
            .machine
            .pid()
            .filter(|_| service.machine.state() == State::Running);
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), service.unit.reload_signal).is_ok())
    }

    /// Does everything that is due.
    pub fn step(&mut self, now: Instant) {
        // One that fails or is skipped may let another go on: until nothing changes.
        let mut again = true;
        while again {
            again = false;
            for index in 0..self.all.len() {
                let before = self.all[index].machine.state();
                match self.all[index].machine.step(now) {
                    Step::Nothing => {}
                    Step::Start => self.try_start(index, now),
                    Step::Kill => {
                        let service = &self.all[index];
                        service.kill(Signal::SIGKILL);
                        let name = &service.unit.name;
                        self.syslog.note(&format!("{name}: does not end, killed"));
                    }
                }
                again |= self.all[index].machine.state() != before;
            }
        }
        self.all
            .retain(|service| !(service.removed && service.machine.state() == State::Stopped));
    }

    /// Starts service `index` if all that comes before it is there.
    fn try_start(&mut self, index: usize, now: Instant) {
        let service = &self.all[index];
        if service.machine.state() == State::Waiting && !service.unordered {
            match self.ready(index) {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => return self.failed(index, why, now),
            }
        }
        let service = &mut self.all[index];
        let missing = |path: &&String| !std::fs::exists(path).unwrap_or(false);
        if let Some(path) = service.unit.needs_files.iter().find(missing) {
            service.remark = format!("there is no {path}");
            service.machine.skip(now);
            return;
        }
        service.remark.clear();
        let piped = service.unit.log && !service.unit.console;
        if piped && let Err(error) = service.open_pipe() {
            let why = format!("cannot make a pipe: {}", error.desc());
            service.machine.not_started(why, now);
            return;
        }
        let output = service.pipe.as_ref().filter(|_| piped);
        let output = output.map(|pipe| pipe.writer.as_fd());
        match spawn(&service.unit, output, &self.terminal) {
            Ok(pid) => {
                service.session = pid.as_raw();
                service.machine.started(pid.as_raw(), now);
                // The console's prompt is not to wait for a disk.
                if !service.unit.console {
                    let name = &service.unit.name;
                    self.syslog.note(&format!("{name}: started, process {pid}"));
                }
            }
            Err(Failure::Unit(why)) => self.failed(index, why, now),
            Err(Failure::System(why)) => {
                let name = &service.unit.name;
                self.syslog.note(&format!("{name}: {why}"));
                service.machine.not_started(why, now);
            }
        }
    }

    fn failed(&mut self, index: usize, why: String, now: Instant) {
        let service = &mut self.all[index];
        self.syslog.note(&format!("{}: {why}", service.unit.name));
        service.machine.fail(why, now);
    }

    /// Whether what comes before service `index` is there; an error when it
    /// never will be.
    fn ready(&self, index: usize) -> Result<bool, String> {
        let unit = &self.all[index].unit;
        let mut ready = true;
        for name in &unit.needs {
            let Some(needed) = self.index(name) else {
                return Err(format!("needs {name}, which there is not"));
            };
            match self.all[needed].machine.state() {
                state if state.is_up() => {}
                state @ (State::Stopped | State::Failed | State::Skipped) => {
                    return Err(format!("needs {name}, which is {state}"));
                }
                _ => ready = false,
            }
        }
        let mut after = unit.after.iter().filter_map(|name| self.index(name));
        Ok(ready && after.all(|before| self.all[before].machine.state().is_settled()))
    }

    /// How long until [`Self::step`] has something to do; `None`: no time is set.
    pub fn next_due(&mut self, now: Instant) -> Option<Duration> {
        let due = self.all.iter_mut().filter_map(|service| {
            let deadline = service.machine.deadline();
            let step = deadline.map(|at| at.saturating_duration_since(now));
            let pipe = service.budget.wait(now);
            [step, pipe].into_iter().flatten().min()
        });
        due.min()
    }

    /// Notes that process `pid`, not collected yet, has ended; it may be
    /// nobody's. Returns the service and the last lines of its output.
    pub fn ended(&mut self, pid: Pid, exit: Exit, now: Instant) -> Option<(usize, Vec<u8>)> {
        let pid = pid.as_raw();
        let mine = |s: &Service| s.machine.pid() == Some(pid);
        let index = self.all.iter().position(mine)?;
        let service = &mut self.all[index];
        let mut lines = service.pump(now);
        lines.extend(service.log.finish_line(SystemTime::now()));

        let stopping = service.machine.state() == State::Stopping;
        let ran = now.saturating_duration_since(service.machine.since());
        let alone = !stopping || session::members(pid).is_empty();
        if !stopping && !service.unit.one_shot && !service.unit.console {
            // What it left behind must not be in the way of the next run.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let what = exit.to_string();
        service.machine.ended(exit, alone, now);
        if !service.unit.console {
            let mut text = format!(
                "{}: {what} after {:.1} s, now {}",
                service.unit.name,
                ran.as_secs_f64(),
                service.machine.state()
            );
            if let Some(at) = service.machine.deadline() {
                let pause = at.saturating_duration_since(now).as_secs_f64();
                text.push_str(&format!(" for {pause:.2} s"));
            }
            self.syslog.note(&text);
        }
        Some((index, lines))
    }

    /// Some process ended: one may have been the last of a service that stops.
    pub fn check_stopping(&mut self, now: Instant) {
        for service in &mut self.all {
            let machine = &mut service.machine;
            if machine.state() == State::Stopping
                && machine.pid().is_none()
                && session::members(service.session).is_empty()
            {
                machine.gone(now);
            }
        }
    }

    /// Stops what nothing that is alive came after; true once all are down.
    pub fn shut_down(&mut self, now: Instant) -> bool {
        for index in 0..self.all.len() {
            let name = &self.all[index].unit.name;
            let depends = |s: &Service| {
                s.is_alive() && !s.unordered && s.unit.before_it().any(|before| before == name)
            };
            if !self.all[index].is_alive() || !self.all.iter().any(depends) {
                self.stop(index, now);
            }
        }
        !self.all.iter().any(Service::is_alive)
    }

    /// Lets go of every file on a disk.
    pub fn close_logs(&mut self, now: Instant) {
        for service in &mut self.all {
            service.pump(now);
            service.log.close();
        }
        self.syslog.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(units: &[(&str, &str)]) -> (Services, Instant) {
        let now = Instant::now();
        let all = units
            .iter()
            .map(|(name, text)| {
                let text = format!("command = /no/such/program\nlog = no\n{text}");
                Service::new(Unit::parse(name, &text).expect("valid"), now)
            })
            .collect();
        let services = Services {
            all,
            syslog: Syslog::new(now),
            terminal: "vt100".into(),
        };
        (services, now)
    }

    #[test]
    fn what_is_needed_starts_too_and_first() {
        let (mut services, now) = services(&[
            ("a", "needs = b"),
            ("b", "one-shot = yes\nremain = yes"),
            ("c", "after = b"),
        ]);
        services.start(0, now);
        assert_eq!(services.all[1].machine.state(), State::Waiting);
        assert_eq!(services.ready(0), Ok(false));
        services.all[1].machine.started(7, now);
        assert_eq!(
            services.ready(0),
            Ok(false),
            "a one-shot is up when it has ended"
        );
        assert_eq!(services.ready(2), Ok(false));
        services.all[1].machine.ended(Exit::Code(0), true, now);
        assert_eq!(services.ready(0), Ok(true));
        assert_eq!(services.ready(2), Ok(true));
    }

    #[test]
    fn what_needs_a_failed_one_fails_and_what_comes_after_does_not() {
        let (mut services, now) = services(&[
            ("a", "needs = b"),
            ("b", ""),
            ("c", "after = b gone"),
            ("d", "needs = gone"),
        ]);
        services.all[1].machine.fail("no".into(), now);
        assert_eq!(services.ready(0), Err("needs b, which is failed".into()));
        assert_eq!(services.ready(2), Ok(true));
        assert_eq!(
            services.ready(3),
            Err("needs gone, which there is not".into())
        );
    }

    #[test]
    fn circles_are_found() {
        let (services, _) = services(&[
            ("a", "after = b"),
            ("b", "needs = c"),
            ("c", "after = b"),
            ("d", "after = a"),
        ]);
        let circles: Vec<bool> = (0..4).map(|i| services.comes_after_itself(i)).collect();
        assert_eq!(circles, [false, true, true, false]);
    }

    #[test]
    fn a_missing_file_skips() {
        let (mut services, now) = services(&[("a", "needs-file = /no/such/file")]);
        services.start(0, now);
        services.step(now);
        assert_eq!(services.all[0].machine.state(), State::Skipped);
        assert_eq!(services.all[0].remark, "there is no /no/such/file");
    }

    #[test]
    fn the_ended_service_is_due_and_no_other() {
        let (mut services, now) = services(&[("a", "restart = always"), ("b", "")]);
        services.all[0].machine.started(1_000_001, now);
        services.all[1].machine.started(1_000_002, now);
        assert!(
            services
                .ended(Pid::from_raw(9), Exit::Code(0), now)
                .is_none()
        );
        assert_eq!(services.next_due(now), None);
        // No such group gets a signal: process ids do not go that far.
        let ended = services.ended(Pid::from_raw(1_000_001), Exit::Code(1), now);
        assert_eq!(ended.map(|(index, _)| index), Some(0));
        assert_eq!(services.next_due(now), Some(crate::machine::FIRST_PAUSE));
        assert_eq!(services.all[1].machine.state(), State::Running);
    }

    #[test]
    fn the_last_started_stops_first() {
        let (mut services, now) = services(&[("a", ""), ("b", "after = a")]);
        // No process has this number.
        services.all[0].machine.started(1_000_001, now);
        services.all[1].machine.started(1_000_002, now);
        assert!(!services.shut_down(now));
        assert_eq!(services.all[0].machine.state(), State::Running);
        assert_eq!(services.all[1].machine.state(), State::Stopping);
        services.all[1].machine.ended(Exit::Code(0), true, now);
        assert!(!services.shut_down(now));
        assert_eq!(services.all[0].machine.state(), State::Stopping);
        services.all[0].machine.ended(Exit::Code(0), true, now);
        assert!(services.shut_down(now));
    }
}
