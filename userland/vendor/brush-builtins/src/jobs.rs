use clap::Parser;
use std::io::Write;

use brush_core::{ExecutionResult, builtins, error, jobs};

/// Manage jobs.
#[derive(Parser)]
pub(crate) struct JobsCommand {
    /// Also show process IDs.
    #[arg(short = 'l')]
    also_show_pids: bool,

    /// List only jobs that have changed status since the last notification.
    #[arg(short = 'n')]
    list_changed_only: bool,

    /// Show only process IDs.
    #[arg(short = 'p')]
    show_pids_only: bool,

    /// Show only running jobs.
    #[arg(short = 'r')]
    running_jobs_only: bool,

    /// Show only stopped jobs.
    #[arg(short = 's')]
    stopped_jobs_only: bool,

    /// Job specs to list.
    // TODO(jobs): Add -x option
    job_specs: Vec<String>,
}

impl builtins::Command for JobsCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<brush_core::ExecutionResult, Self::Error> {
        if self.list_changed_only {
            return error::unimp("jobs -n");
        }

        context.shell.jobs_mut().notice_stops()?;
        if !self.job_specs.is_empty() {
            let mut result = ExecutionResult::success();
            for spec in &self.job_specs {
                let found = context.shell.jobs_mut().resolve_job_spec(spec);
                let id = found.map(|job| job.id);
                let jobs = &context.shell.jobs().jobs;
                if let Some(job) = jobs.iter().find(|job| Some(job.id) == id) {
                    self.display_job(&context, job)?;
                } else {
                    writeln!(
                        context.stderr(),
                        "{}: {spec}: no such job",
                        context.command_name
                    )?;
                    result = ExecutionResult::general_error();
                }
            }
            return Ok(result);
        }

        for job in &context.shell.jobs().jobs {
            self.display_job(&context, job)?;
        }
        for (line, pid) in &context.shell.jobs().inherited {
            if !self.show_pids_only {
                writeln!(context.stdout(), "{line}")?;
            } else if let Some(pid) = pid {
                writeln!(context.stdout(), "{pid}")?;
            }
        }

        Ok(ExecutionResult::success())
    }
}

impl JobsCommand {
    fn display_job(
        &self,
        context: &brush_core::ExecutionContext<'_, impl brush_core::ShellExtensions>,
        job: &jobs::Job,
    ) -> Result<(), brush_core::Error> {
        if self.running_jobs_only && !matches!(job.state, jobs::JobState::Running) {
            return Ok(());
        }
        if self.stopped_jobs_only && !matches!(job.state, jobs::JobState::Stopped) {
            return Ok(());
        }

        if self.show_pids_only {
            if let Some(pid) = job.representative_pid().or(job.user_id()) {
                writeln!(context.stdout(), "{pid}")?;
            }
        } else if self.also_show_pids {
            let line = job.to_string();
            let pid = job.representative_pid().or(job.user_id());
            // After the number and the mark of the current job.
            let at = line.find(']').map_or(0, |at| at + 2).min(line.len());
            let (start, rest) = line.split_at(at);
            writeln!(
                context.stdout(),
                "{start} {} {}",
                pid.unwrap_or_default(),
                rest.trim_start()
            )?;
        } else {
            writeln!(context.stdout(), "{job}")?;
        }

        Ok(())
    }
}
