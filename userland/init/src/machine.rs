//! The life of a service as a state machine.
//!
//! Pure: it is told what happened and when, and says what is to be done. It
//! knows no process beyond its number. [`crate::services`] drives it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::unit::Restart;

/// A run shorter than this counts as a failure to run.
pub const SHORT_RUN: Duration = Duration::from_secs(2);
/// The pause after the first failure, and the longest one.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between one SIGKILL and the next.
const KILL_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running, and not meant to.
    Stopped,
    /// To be started, once what it comes after is there.
    Waiting,
    /// A one-shot command is running.
    Starting,
    Running,
    /// Ended too soon; is started again after a pause.
    BackingOff,
    /// Told to end.
    Stopping,
    /// A one-shot command ended well.
    Done,
    /// Ended badly, and is not started again.
    Failed,
    /// A file that it needs is missing.
    Skipped,
}

impl State {
    /// Whether what comes after may go on.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Waiting | Self::Starting)
    }

    /// Whether what needs it may start.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Done)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing-off",
            Self::Stopping => "stopping",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(&'static str),
    /// It never ran; why.
    NotStarted(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(name) => f.write_str(name),
            Self::NotStarted(why) => f.write_str(why),
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Start it, if what it comes after is there.
    Start,
    /// SIGKILL to all of it.
    Kill,
}

/// The part of a unit that decides.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub restart: Restart,
    pub one_shot: bool,
    pub remain: bool,
    pub stop_timeout: Duration,
    pub start_timeout: Duration,
}

#[derive(Debug)]
pub struct Machine {
    pub policy: Policy,
    state: State,
    /// When the state was entered.
    since: Instant,
    /// When the state ends by itself.
    deadline: Option<Instant>,
    /// The main process, not yet collected.
    pid: Option<i32>,
    pause: Duration,
    restarts: u32,
    last_exit: Option<Exit>,
    /// What follows on [`State::Stopping`].
    after_stop: State,
}

impl Machine {
    pub fn new(policy: Policy, now: Instant) -> Self {
        Self {
            policy,
            state: State::Stopped,
            since: now,
            deadline: None,
            pid: None,
            pause: Duration::ZERO,
            restarts: 0,
            last_exit: None,
            after_stop: State::Stopped,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn since(&self) -> Instant {
        self.since
    }

    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Starts since somebody last asked for one.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    pub fn last_exit(&self) -> Option<&Exit> {
        self.last_exit.as_ref()
    }

    /// When [`Self::step`] has something to say again.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn enter(&mut self, state: State, now: Instant, deadline: Option<Instant>) {
        self.state = state;
        self.since = now;
        self.deadline = deadline;
    }

    /// It is wanted.
    pub fn start(&mut self, now: Instant) {
        match self.state {
            State::Waiting | State::Starting | State::Running => {}
            State::Done if self.policy.remain => {}
            State::Stopping => self.after_stop = State::Waiting,
            _ => {
                self.pause = Duration::ZERO;
                self.restarts = 0;
                self.enter(State::Waiting, now, None);
            }
        }
    }

    /// It is no longer wanted. True: send it its stop signal.
    #[must_use]
    pub fn stop(&mut self, now: Instant) -> bool {
        match self.state {
            State::Starting | State::Running => {
                self.after_stop = State::Stopped;
                let deadline = now + self.policy.stop_timeout;
                self.enter(State::Stopping, now, Some(deadline));
                return true;
            }
            State::Stopping => self.after_stop = State::Stopped,
            State::Stopped => {}
            _ => self.enter(State::Stopped, now, None),
        }
        false
    }

    /// A file that it needs is missing.
    pub fn skip(&mut self, now: Instant) {
        self.enter(State::Skipped, now, None);
    }

    /// It cannot be started, and trying again would not help.
    pub fn fail(&mut self, why: String, now: Instant) {
        self.last_exit = Some(Exit::NotStarted(why));
        self.enter(State::Failed, now, None);
    }

    /// Process `pid` was made for it.
    pub fn started(&mut self, pid: i32, now: Instant) {
        if self.state == State::BackingOff {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.pid = Some(pid);
        if self.policy.one_shot {
            let deadline = now + self.policy.start_timeout;
            self.enter(State::Starting, now, Some(deadline));
        } else {
            self.enter(State::Running, now, None);
        }
    }

    /// No process could be made for it (no memory, no descriptors): try again
    /// later, whatever the policy says.
    pub fn not_started(&mut self, why: String, now: Instant) {
        self.last_exit = Some(Exit::NotStarted(why));
        self.back_off(Duration::ZERO, now);
    }

    fn back_off(&mut self, ran: Duration, now: Instant) {
        self.pause = next_pause(self.pause, ran);
        self.enter(State::BackingOff, now, Some(now + self.pause));
    }

    /// Its main process ended. `alone`: it left no process behind.
    pub fn ended(&mut self, exit: Exit, alone: bool, now: Instant) {
        let ran = now.saturating_duration_since(self.since);
        let well = exit == Exit::Code(0);
        self.pid = None;
        self.last_exit = Some(exit);
        match self.state {
            State::Stopping => {
                if alone {
                    self.gone(now);
                }
            }
            State::Starting if well && self.policy.remain => self.enter(State::Done, now, None),
            State::Starting | State::Running => match self.policy.restart {
                Restart::Always => self.back_off(ran, now),
                Restart::OnFailure if !well => self.back_off(ran, now),
                _ if well => self.enter(State::Stopped, now, None),
                _ => self.enter(State::Failed, now, None),
            },
            _ => {}
        }
    }

    /// The last process of a service that is stopping is gone.
    pub fn gone(&mut self, now: Instant) {
        if self.state == State::Stopping && self.pid.is_none() {
            let next = self.after_stop;
            self.enter(next, now, None);
            if next == State::Waiting {
                self.pause = Duration::ZERO;
                self.restarts = 0;
            }
        }
    }

    /// What is due at `now`.
    #[must_use]
    pub fn step(&mut self, now: Instant) -> Step {
        let due = self.deadline.is_some_and(|at| at <= now);
        match self.state {
            State::Waiting => Step::Start,
            State::BackingOff if due => Step::Start,
            State::Stopping if due => {
                self.deadline = Some(now + KILL_AGAIN);
                Step::Kill
            }
            State::Starting if due => {
                self.after_stop = State::Failed;
                self.enter(State::Stopping, now, Some(now + KILL_AGAIN));
                Step::Kill
            }
            _ => Step::Nothing,
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(restart: Restart, one_shot: bool) -> Policy {
        Policy {
            restart,
            one_shot,
            remain: one_shot,
            stop_timeout: 5 * SECOND,
            start_timeout: 30 * SECOND,
        }
    }

    fn running(restart: Restart) -> (Machine, Instant) {
        let now = Instant::now();
        let mut machine = Machine::new(policy(restart, false), now);
        assert_eq!(machine.step(now), Step::Nothing);
        machine.start(now);
        assert_eq!(machine.step(now), Step::Start);
        machine.started(7, now);
        assert_eq!(machine.state(), State::Running);
        (machine, now)
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_start_over_after_a_good_run() {
        let short = Duration::from_millis(10);
        let first = next_pause(Duration::ZERO, short);
        assert_eq!(first, FIRST_PAUSE);
        assert_eq!(next_pause(first, short), FIRST_PAUSE * 2);
        assert_eq!(next_pause(LONGEST_PAUSE, short), LONGEST_PAUSE);
        assert_eq!(next_pause(first, SHORT_RUN), Duration::ZERO);
    }

    #[test]
    fn a_crash_loop_is_slowed_down() {
        let (mut machine, start) = running(Restart::Always);
        let mut now = start;
        let mut starts = 0;
        while now < start + 60 * SECOND {
            machine.ended(Exit::Code(1), true, now);
            assert_eq!(machine.state(), State::BackingOff);
            assert_eq!(machine.step(now), Step::Nothing);
            now = machine.deadline().expect("a pause");
            assert_eq!(machine.step(now), Step::Start);
            machine.started(8, now);
            starts += 1;
        }
        assert!(starts <= 9, "{starts} starts in a minute");
        assert_eq!(machine.restarts(), starts);
    }

    #[test]
    fn the_policy_decides_about_the_next_run() {
        for (restart, code, state) in [
            (Restart::Always, 0, State::BackingOff),
            (Restart::Always, 1, State::BackingOff),
            (Restart::OnFailure, 0, State::Stopped),
            (Restart::OnFailure, 1, State::BackingOff),
            (Restart::Never, 0, State::Stopped),
            (Restart::Never, 1, State::Failed),
        ] {
            let (mut machine, now) = running(restart);
            machine.ended(Exit::Code(code), true, now + SECOND);
            assert_eq!(machine.state(), state, "{restart:?} {code}");
        }
    }

    #[test]
    fn after_a_good_run_it_starts_at_once() {
        let (mut machine, now) = running(Restart::Always);
        let later = now + 10 * SECOND;
        machine.ended(Exit::Signal("SIGSEGV"), true, later);
        assert_eq!(machine.step(later), Step::Start);
    }

    #[test]
    fn stop_signals_waits_and_kills() {
        let (mut machine, now) = running(Restart::Always);
        assert!(machine.stop(now));
        assert!(!machine.stop(now), "one signal is enough");
        assert_eq!(machine.step(now + 4 * SECOND), Step::Nothing);
        assert_eq!(machine.step(now + 5 * SECOND), Step::Kill);
        machine.ended(Exit::Signal("SIGKILL"), true, now + 5 * SECOND);
        assert_eq!(machine.state(), State::Stopped);
        assert_eq!(machine.step(now + 60 * SECOND), Step::Nothing);
    }

    #[test]
    fn what_it_left_behind_is_waited_for() {
        let (mut machine, now) = running(Restart::Always);
        assert!(machine.stop(now));
        machine.ended(Exit::Code(0), false, now);
        assert_eq!(machine.state(), State::Stopping);
        assert_eq!(machine.step(now + 5 * SECOND), Step::Kill);
        machine.gone(now + 5 * SECOND);
        assert_eq!(machine.state(), State::Stopped);
    }

    #[test]
    fn a_start_while_stopping_is_a_restart() {
        let (mut machine, now) = running(Restart::Never);
        assert!(machine.stop(now));
        machine.start(now);
        machine.ended(Exit::Code(0), true, now);
        assert_eq!(machine.state(), State::Waiting);
        assert_eq!(machine.step(now), Step::Start);
    }

    #[test]
    fn one_shot_commands_end_and_stay_done() {
        let now = Instant::now();
        let mut machine = Machine::new(policy(Restart::Never, true), now);
        machine.start(now);
        machine.started(7, now);
        assert_eq!(machine.state(), State::Starting);
        assert!(!machine.state().is_settled());
        machine.ended(Exit::Code(0), true, now);
        assert_eq!(machine.state(), State::Done);
        machine.start(now);
        assert_eq!(machine.state(), State::Done);
        assert!(!machine.stop(now));
        machine.start(now);
        assert_eq!(machine.step(now), Step::Start);
        machine.started(8, now);
        machine.ended(Exit::Code(2), true, now);
        assert_eq!(machine.state(), State::Failed);
    }

    #[test]
    fn a_one_shot_command_that_hangs_fails() {
        let now = Instant::now();
        let mut machine = Machine::new(policy(Restart::Never, true), now);
        machine.start(now);
        machine.started(7, now);
        assert_eq!(machine.step(now + 30 * SECOND), Step::Kill);
        machine.ended(Exit::Signal("SIGKILL"), true, now + 30 * SECOND);
        assert_eq!(machine.state(), State::Failed);
    }

    #[test]
    fn no_process_to_be_had_is_tried_again_whatever_the_policy() {
        let now = Instant::now();
        let mut machine = Machine::new(policy(Restart::Never, true), now);
        machine.start(now);
        machine.not_started("cannot fork".into(), now);
        assert_eq!(machine.step(now + FIRST_PAUSE), Step::Start);
        assert!(!machine.stop(now));
        assert_eq!(machine.state(), State::Stopped);
    }
}
