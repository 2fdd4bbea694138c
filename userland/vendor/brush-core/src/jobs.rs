//! Job management

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;

use crate::ExecutionResult;
use crate::error;
use crate::processes;
use crate::sys;
use crate::trace_categories;
use crate::traps;

pub(crate) type JobJoinHandle = tokio::task::JoinHandle<Result<ExecutionResult, error::Error>>;
pub(crate) type JobResult = (Job, Result<ExecutionResult, error::Error>);

/// Manages the jobs that are currently managed by the shell.
#[derive(Default)]
pub struct JobManager {
    /// The jobs that are currently managed by the shell.
    pub jobs: Vec<Job>,
    /// The id of the last job started in the background (`$!`).
    last_background_id: Option<i32>,
    /// Ids and statuses of jobs that ended, for a later `wait`; the oldest first.
    ended: VecDeque<(i32, ExecutionResult)>,
    /// In a subshell, what `jobs` and `jobs -p` print of its parent's jobs.
    pub inherited: Vec<(String, Option<i32>)>,
}

/// How many ended jobs are remembered.
const ENDED_JOBS: usize = 1024;

/// Represents a task that is part of a job.
pub enum JobTask {
    /// An external process.
    External(processes::ChildProcess),
    /// An internal asynchronous task.
    Internal(JobJoinHandle),
}

/// Represents the result of waiting on a job task.
pub enum JobTaskWaitResult {
    /// The task has completed.
    Completed(ExecutionResult),
    /// The task was stopped.
    Stopped,
}

impl JobTask {
    /// Returns whether the task is an external process.
    pub const fn is_external(&self) -> bool {
        matches!(self, Self::External(_))
    }

    /// Waits for the task to complete. Returns the result of the wait.
    pub async fn wait(&mut self) -> Result<JobTaskWaitResult, error::Error> {
        match self {
            Self::External(process) => {
                let wait_result = process.wait().await?;
                match wait_result {
                    processes::ProcessWaitResult::Completed(output) => {
                        Ok(JobTaskWaitResult::Completed(output.into()))
                    }
                    processes::ProcessWaitResult::Stopped => Ok(JobTaskWaitResult::Stopped),
                }
            }
            Self::Internal(handle) => Ok(JobTaskWaitResult::Completed(handle.await??)),
        }
    }

    /// Polls the task for completion. Returns `Some(result)` if the task has completed,
    /// or `None` if it is still running. The result is the execution result of the task.
    /// Behaves in a best-effort manner; if an internal error occurs during polling,
    /// it will return `None`.
    fn poll(&mut self) -> Option<Result<ExecutionResult, error::Error>> {
        match self {
            Self::External(process) => {
                let check_result = process.poll();
                check_result.map(|polled_result| polled_result.map(|output| output.into()))
            }
            Self::Internal(handle) => {
                let checkable_handle = handle;
                checkable_handle.now_or_never().and_then(|r| r.ok())
            }
        }
    }
}

/// Stopped jobs of subshells that have ended.
static LEFT_STOPPED: Mutex<Vec<Job>> = Mutex::new(Vec::new());

fn lock_left() -> std::sync::MutexGuard<'static, Vec<Job>> {
    // Nothing can panic while it is held.
    LEFT_STOPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves a stopped job of a subshell, which ends, to the shell itself.
pub(crate) fn hand_over(job: Job) {
    lock_left().push(job);
}

impl JobManager {
    /// Returns a new job manager.
    pub fn new() -> Self {
        Self::default()
    }

    /// The job manager of a subshell: without jobs of its own, but it knows of its parent's.
    pub(crate) fn for_subshell(&self) -> Self {
        let own = self.jobs.iter();
        let own = own.map(|job| (job.to_string(), job.representative_pid().or(job.user_id())));
        Self {
            inherited: own.chain(self.inherited.iter().cloned()).collect(),
            last_background_id: self.last_background_id,
            ..Self::default()
        }
    }

    /// Adds a job that was started in the background; `$!` is its id from now on.
    pub(crate) fn add_background(&mut self, job: Job) -> &Job {
        self.last_background_id = job.user_id();
        self.inherited.clear();
        self.add_as_current(job)
    }

    /// The id of the last job started in the background (`$!`).
    pub const fn last_background_id(&self) -> Option<i32> {
        self.last_background_id
    }

    /// Finds the job that the given process id, or id of a job without a process, belongs to.
    pub fn find_by_id(&mut self, id: i32) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.has_id(id))
    }

    /// The status of a job that ended and is forgotten otherwise.
    pub fn ended_status(&self, id: i32) -> Option<ExecutionResult> {
        let found = self.ended.iter().rev().find(|(ended, _)| *ended == id);
        found.map(|(_, result)| ExecutionResult::from(result.exit_code))
    }

    fn note_ended(&mut self, id: Option<i32>, result: &ExecutionResult) {
        if let Some(id) = id {
            if self.ended.len() == ENDED_JOBS {
                self.ended.pop_front();
            }
            self.ended
                .push_back((id, ExecutionResult::from(result.exit_code)));
        }
    }

    /// Removes the jobs that have ended, without a word.
    pub fn forget_ended(&mut self) -> Result<(), error::Error> {
        self.poll().map(drop)
    }

    /// Takes over the jobs that subshells have left stopped; how each shows.
    pub(crate) fn take_over(&mut self) -> Vec<String> {
        let left = std::mem::take(&mut *lock_left());
        let shown = |job| self.add_as_current(job).to_string();
        left.into_iter().map(shown).collect()
    }

    /// Removes the job with the number `id`, which ended with `result`, without a word.
    pub fn forget(&mut self, id: usize, result: &ExecutionResult) {
        if let Some(at) = self.jobs.iter().position(|job| job.id == id) {
            let job = self.jobs.remove(at);
            self.note_ended(job.user_id(), result);
            self.renew_annotations();
        }
    }

    /// Adds a job to the job manager and marks it as the current job;
    /// returns an immutable reference to the job.
    ///
    /// # Arguments
    ///
    /// * `job` - The job to add.
    #[allow(
        clippy::missing_panics_doc,
        reason = "push() guarantees the vector length is >= 1"
    )]
    pub fn add_as_current(&mut self, mut job: Job) -> &Job {
        for j in &mut self.jobs {
            if matches!(j.annotation, JobAnnotation::Current) {
                j.annotation = JobAnnotation::Previous;
                break;
            }
        }

        // Numbers of jobs that are still there stay theirs.
        let id = self.jobs.iter().map(|j| j.id).max().unwrap_or(0) + 1;
        job.id = id;
        job.annotation = JobAnnotation::Current;
        self.jobs.push(job);

        #[allow(clippy::unwrap_used, reason = "we just pushed an element")]
        self.jobs.last().unwrap()
    }

    /// Returns the current job, if there is one.
    pub fn current_job(&self) -> Option<&Job> {
        self.jobs
            .iter()
            .find(|j| matches!(j.annotation, JobAnnotation::Current))
    }

    /// Returns a mutable reference to the current job, if there is one.
    pub fn current_job_mut(&mut self) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .find(|j| matches!(j.annotation, JobAnnotation::Current))
    }

    /// Returns the previous job, if there is one.
    pub fn prev_job(&self) -> Option<&Job> {
        self.jobs
            .iter()
            .find(|j| matches!(j.annotation, JobAnnotation::Previous))
    }

    /// Returns a mutable reference to the previous job, if there is one.
    pub fn prev_job_mut(&mut self) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .find(|j| matches!(j.annotation, JobAnnotation::Previous))
    }

    /// Tries to resolve the given job specification to a job.
    ///
    /// # Arguments
    ///
    /// * `job_spec` - The job specification to resolve.
    pub fn resolve_job_spec(&mut self, job_spec: &str) -> Option<&mut Job> {
        let remainder = job_spec.strip_prefix('%')?;

        match remainder {
            "" | "%" | "+" => self.current_job_mut(),
            "-" => self.prev_job_mut(),
            s if s.chars().all(char::is_numeric) => {
                let id = s.parse::<usize>().ok()?;
                self.jobs.iter_mut().find(|j| j.id == id)
            }
            s => match s.strip_prefix('?') {
                Some(part) => self
                    .jobs
                    .iter_mut()
                    .rev()
                    .find(|j| j.command_line.contains(part)),
                None => self
                    .jobs
                    .iter_mut()
                    .rev()
                    .find(|j| j.command_line.starts_with(s)),
            },
        }
    }

    /// Waits for all managed jobs to complete.
    pub async fn wait_all(&mut self) -> Result<Vec<Job>, error::Error> {
        let mut ended = vec![];
        for job in &mut self.jobs {
            let id = job.user_id();
            ended.push((id, job.wait().await?));
        }
        for (id, result) in ended {
            self.note_ended(id, &result);
        }

        Ok(self.sweep_completed_jobs())
    }

    /// Sees which jobs have stopped.
    pub fn notice_stops(&mut self) -> Result<(), error::Error> {
        for job in &mut self.jobs {
            job.notice_stop()?;
        }
        Ok(())
    }

    /// Polls all managed jobs for completion.
    pub fn poll(&mut self) -> Result<Vec<JobResult>, error::Error> {
        let mut results = vec![];

        self.notice_stops()?;

        let mut i = 0;
        while i != self.jobs.len() {
            let id = self.jobs[i].user_id();
            if let Some(result) = self.jobs[i].poll_done()? {
                let job = self.jobs.remove(i);
                if let Ok(result) = &result {
                    self.note_ended(id, result);
                }
                self.renew_annotations();
                results.push((job, result));
            } else if matches!(self.jobs[i].state, JobState::Done) {
                // TODO(jobs): This is a workaround to remove jobs that are done but for which we
                // don't know what happened.
                results.push((self.jobs.remove(i), Ok(ExecutionResult::success())));
                self.renew_annotations();
            } else {
                i += 1;
            }
        }

        Ok(results)
    }

    /// Makes the youngest job the current one when the current one is gone.
    fn renew_annotations(&mut self) {
        if self.current_job().is_some() {
            return;
        }
        let previous = self.jobs.iter().rposition(Job::is_prev);
        if let Some(at) = previous.or_else(|| self.jobs.len().checked_sub(1)) {
            self.jobs[at].annotation = JobAnnotation::Current;
            if let Some(older) = at.checked_sub(1) {
                self.jobs[older].annotation = JobAnnotation::Previous;
            }
        }
    }

    fn sweep_completed_jobs(&mut self) -> Vec<Job> {
        let mut completed_jobs = vec![];

        let mut i = 0;
        while i != self.jobs.len() {
            if self.jobs[i].tasks.is_empty() {
                completed_jobs.push(self.jobs.remove(i));
            } else {
                i += 1;
            }
        }

        completed_jobs
    }
}

/// Represents the current execution state of a job.
#[derive(Clone)]
pub enum JobState {
    /// Unknown state.
    Unknown,
    /// The job is running.
    Running,
    /// The job is stopped.
    Stopped,
    /// The job has completed.
    Done,
}

impl Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => write!(f, "Unknown"),
            Self::Running => write!(f, "Running"),
            Self::Stopped => write!(f, "Stopped"),
            Self::Done => write!(f, "Done"),
        }
    }
}

/// Represents an annotation for a job.
#[derive(Clone)]
pub enum JobAnnotation {
    /// No annotation.
    None,
    /// The job is the current job.
    Current,
    /// The job is the previous job.
    Previous,
}

impl Display for JobAnnotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => write!(f, ""),
            Self::Current => write!(f, "+"),
            Self::Previous => write!(f, "-"),
        }
    }
}

/// Encapsulates a set of processes managed by the shell as a single unit.
pub struct Job {
    /// The tasks that make up the job.
    tasks: VecDeque<JobTask>,

    /// If available, the process group ID of the job's processes.
    pgid: Option<sys::process::ProcessId>,

    /// The annotation of the job (e.g., current, previous).
    annotation: JobAnnotation,

    /// The shell-internal ID of the job.
    pub id: usize,

    /// The command line of the job.
    pub command_line: String,

    /// The current operational state of the job.
    pub state: JobState,

    /// The way to reach the job's shell code.
    control: Option<std::sync::Arc<crate::tasks::TaskControl>>,

    /// The id under which users know the job.
    user_id: Option<i32>,

    /// The status of its last command, when that has ended before the others.
    last_status: Option<ExecutionResult>,

    /// Whether the last command has been waited for.
    waited: bool,
}

impl Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe(&self.state.to_string()))
    }
}

impl Job {
    /// Returns a new job object.
    ///
    /// # Arguments
    ///
    /// * `children` - The job's known child processes.
    /// * `command_line` - The command line of the job.
    /// * `state` - The current operational state of the job.
    pub(crate) fn new<I>(tasks: I, command_line: String, state: JobState) -> Self
    where
        I: IntoIterator<Item = JobTask>,
    {
        Self {
            id: 0,
            tasks: tasks.into_iter().collect(),
            pgid: None,
            annotation: JobAnnotation::None,
            // On one line.
            command_line: command_line
                .lines()
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" "),
            state,
            control: None,
            user_id: None,
            last_status: None,
            waited: false,
        }
        .with_user_id()
    }

    /// The line with which the shell speaks of the job, in the given state.
    fn describe(&self, state: &str) -> String {
        format!(
            "[{}]{:3}{state:24}{}{}",
            self.id,
            self.annotation.to_string(),
            self.command_line,
            if matches!(self.state, JobState::Running) {
                " &"
            } else {
                ""
            },
        )
    }

    /// The line with which the shell tells that the job has ended with `result`.
    pub(crate) fn describe_end(&self, result: &ExecutionResult) -> String {
        let state = match u8::from(result.exit_code) {
            0 => "Done".to_owned(),
            129 => "Hangup".to_owned(),
            130 => "Interrupt".to_owned(),
            131 => "Quit".to_owned(),
            134 => "Aborted".to_owned(),
            137 => "Killed".to_owned(),
            139 => "Segmentation fault".to_owned(),
            141 => "Broken pipe".to_owned(),
            143 => "Terminated".to_owned(),
            code => format!("Exit {code}"),
        };
        self.describe(&state)
    }

    /// Takes ids from the tasks: users know a pipeline by its last process.
    fn with_user_id(mut self) -> Self {
        self.user_id = match self.tasks.back() {
            Some(JobTask::External(process)) => process.pid(),
            _ => None,
        };
        self.pgid = self.tasks.iter().find_map(|task| match task {
            JobTask::External(process) => process.pgid(),
            JobTask::Internal(_) => None,
        });
        self
    }

    /// Attaches the way to reach the job's shell code.
    pub(crate) fn with_control(
        mut self,
        control: std::sync::Arc<crate::tasks::TaskControl>,
    ) -> Self {
        self.user_id = self.user_id.or_else(|| Some(control.id()));
        self.control = Some(control);
        self
    }

    /// The id under which users know the job: that of its last process, else one of its own.
    pub const fn user_id(&self) -> Option<i32> {
        self.user_id
    }

    /// Sees whether a process of a running job has stopped.
    fn notice_stop(&mut self) -> Result<(), error::Error> {
        if !matches!(self.state, JobState::Running) {
            return Ok(());
        }
        for task in &self.tasks {
            if let JobTask::External(process) = task
                && let Some(pid) = process.pid()
                && sys::signal::poll_for_stopped_child(pid)?
            {
                self.state = JobState::Stopped;
            }
        }
        Ok(())
    }

    /// Whether the job is shell code alone, without a process of its own.
    pub fn is_shell_code(&self) -> bool {
        self.tasks.iter().all(|task| !task.is_external())
    }

    fn has_id(&self, id: i32) -> bool {
        self.user_id == Some(id)
            || self.tasks.iter().any(|task| match task {
                JobTask::External(process) => process.pid() == Some(id),
                JobTask::Internal(_) => false,
            })
    }

    /// Returns a pid-style string for the job.
    pub fn to_pid_style_string(&self) -> String {
        let id = self.user_id.unwrap_or_default();
        std::format!("[{}] {id}", self.id)
    }

    /// Returns the annotation of the job.
    pub fn annotation(&self) -> JobAnnotation {
        self.annotation.clone()
    }

    /// Returns the command name of the job.
    pub fn command_name(&self) -> &str {
        self.command_line
            .split_ascii_whitespace()
            .next()
            .unwrap_or_default()
    }

    /// Returns whether the job is the current job.
    pub const fn is_current(&self) -> bool {
        matches!(self.annotation, JobAnnotation::Current)
    }

    /// Returns whether the job is the previous job.
    pub const fn is_prev(&self) -> bool {
        matches!(self.annotation, JobAnnotation::Previous)
    }

    /// Polls whether the job has completed.
    pub fn poll_done(
        &mut self,
    ) -> Result<Option<Result<ExecutionResult, error::Error>>, error::Error> {
        let mut result: Option<Result<ExecutionResult, error::Error>> = None;

        tracing::debug!(target: trace_categories::JOBS, "Polling job {} for completion...", self.id);

        while !self.tasks.is_empty() {
            let task = &mut self.tasks[0];
            match task.poll() {
                Some(r) => {
                    self.tasks.remove(0);
                    result = Some(r);
                }
                None => {
                    return Ok(None);
                }
            }
        }

        tracing::debug!(target: trace_categories::JOBS, "Job {} has completed.", self.id);

        self.state = JobState::Done;

        Ok(result)
    }

    /// Waits for the job to complete.
    pub async fn wait(&mut self) -> Result<ExecutionResult, error::Error> {
        let mut result = ExecutionResult::success();

        if let Some(status) = &self.last_status {
            result = ExecutionResult::from(status.exit_code);
        }
        let mut is_last = !self.waited;
        while let Some(task) = self.tasks.back_mut() {
            match task.wait().await? {
                JobTaskWaitResult::Completed(execution_result) => {
                    // A pipeline's status is that of its last command.
                    if is_last {
                        result = execution_result;
                        self.last_status = Some(ExecutionResult::from(result.exit_code));
                        self.waited = true;
                    }
                    is_last = false;
                    self.tasks.pop_back();
                }
                JobTaskWaitResult::Stopped => {
                    self.state = JobState::Stopped;
                    return Ok(ExecutionResult::stopped());
                }
            }
        }

        self.state = JobState::Done;

        Ok(result)
    }

    /// Moves the job to execute in the background.
    pub fn move_to_background(&mut self) -> Result<(), error::Error> {
        if matches!(self.state, JobState::Stopped) {
            if let Some(pgid) = self.process_group_id() {
                sys::signal::continue_group(pgid)?;
                self.state = JobState::Running;
                Ok(())
            } else {
                Err(error::ErrorKind::FailedToSendSignal.into())
            }
        } else {
            error::unimp("move job to background")
        }
    }

    /// Moves the job to execute in the foreground.
    pub fn move_to_foreground(&mut self) -> Result<(), error::Error> {
        let group = self.process_group_id();
        // First the terminal: what continues may read it at once.
        if let Some(pgid) = group {
            sys::terminal::move_to_foreground(pgid)?;
        }
        if matches!(self.state, JobState::Stopped) {
            let pgid = group.ok_or(error::ErrorKind::FailedToSendSignal)?;
            sys::signal::continue_group(pgid)?;
            self.state = JobState::Running;
        }

        Ok(())
    }

    /// Kills the job.
    ///
    /// # Arguments
    ///
    /// * `signal` - The signal to send to the job.
    pub fn kill(&self, signal: traps::TrapSignal) -> Result<(), error::Error> {
        let traps::TrapSignal::Signal(number) = signal else {
            return Err(error::ErrorKind::InvalidSignal(signal.to_string()).into());
        };
        for task in &self.tasks {
            if let JobTask::External(process) = task
                && let Some(pid) = process.pid()
            {
                sys::signal::kill_process(pid, signal)?;
                // Only a running process can end.
                if number != sys::signal::Signal::SIGSTOP && number != sys::signal::Signal::SIGTSTP
                {
                    let go_on = traps::TrapSignal::Signal(sys::signal::Signal::SIGCONT);
                    sys::signal::kill_process(pid, go_on)?;
                }
            }
        }
        if let Some(control) = &self.control {
            control.signal(number);
        }
        Ok(())
    }

    /// Tries to retrieve a "representative" pid for the job.
    pub fn representative_pid(&self) -> Option<sys::process::ProcessId> {
        for task in &self.tasks {
            match task {
                JobTask::External(p) => {
                    if let Some(pid) = p.pid() {
                        return Some(pid);
                    }
                }
                JobTask::Internal(_) => (),
            }
        }
        None
    }

    /// Tries to retrieve the process group ID (PGID) of the job.
    pub fn process_group_id(&self) -> Option<sys::process::ProcessId> {
        // TODO(jobs): Don't assume that the first PID is the PGID.
        self.pgid.or_else(|| self.representative_pid())
    }
}
