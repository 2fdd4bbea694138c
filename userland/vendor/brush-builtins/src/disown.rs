use clap::Parser;
use std::io::Write;

use brush_core::{ExecutionResult, builtins, jobs};

/// Has the shell forget jobs, which go on without it.
#[derive(Parser)]
#[clap(disable_help_flag = true)]
pub(crate) struct DisownCommand {
    /// All jobs.
    #[arg(short = 'a')]
    all: bool,

    /// Keep the jobs, but spare them SIGHUP (which this shell never sends).
    #[arg(short = 'h')]
    keep: bool,

    /// Running jobs only.
    #[arg(short = 'r')]
    running_only: bool,

    /// Job specs or process ids.
    ids: Vec<String>,
}

impl builtins::Command for DisownCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let mut stderr = context.stderr();
        let mut result = ExecutionResult::success();
        let jobs = context.shell.jobs_mut();
        let mut chosen: Vec<usize> = vec![];
        for id in &self.ids {
            let job = match id.parse() {
                Ok(pid) => jobs.find_by_id(pid),
                Err(_) => jobs.resolve_job_spec(id),
            };
            if let Some(job) = job {
                chosen.push(job.id);
            } else {
                writeln!(stderr, "{}: {id}: no such job", context.command_name)?;
                result = ExecutionResult::general_error();
            }
        }
        if self.ids.is_empty() {
            if self.all || self.running_only {
                chosen.extend(jobs.jobs.iter().map(|job| job.id));
            } else if let Some(job) = jobs.current_job() {
                chosen.push(job.id);
            } else {
                writeln!(stderr, "{}: current: no such job", context.command_name)?;
                result = ExecutionResult::general_error();
            }
        }
        if !self.keep {
            jobs.jobs.retain(|job| {
                let spared = self.running_only && !matches!(job.state, jobs::JobState::Running);
                spared || !chosen.contains(&job.id)
            });
        }
        Ok(result)
    }
}
