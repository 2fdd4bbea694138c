use clap::Parser;
use std::io::Write;

use brush_core::{ExecutionResult, builtins, jobs, sys};

/// Move a specified job to the foreground.
#[derive(Parser)]
pub(crate) struct FgCommand {
    /// Job spec for the job to move to the foreground; if not specified, the current job is moved.
    job_spec: Option<String>,
}

impl builtins::Command for FgCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<brush_core::ExecutionResult, Self::Error> {
        context.shell.jobs_mut().notice_stops()?;
        let is_interactive = context.shell.options().interactive;
        let mut stdout = context.stdout();
        let mut stderr = context.stderr();

        let jobs = context.shell.jobs_mut();
        let found = match &self.job_spec {
            Some(job_spec) => jobs.resolve_job_spec(job_spec),
            None => jobs.current_job_mut(),
        };
        let Some(job) = found else {
            let wanted = self.job_spec.as_deref().unwrap_or("current");
            writeln!(stderr, "{}: {wanted}: no such job", context.command_name)?;
            return Ok(ExecutionResult::general_error());
        };

        writeln!(stdout, "{}", job.command_line)?;
        job.move_to_foreground()?;
        let result = job.wait().await?;
        if is_interactive {
            sys::terminal::move_self_to_foreground()?;
        }

        if matches!(job.state, jobs::JobState::Stopped) {
            // N.B. We use the '\r' to overwrite any ^Z output.
            writeln!(stderr, "\r{job}")?;
        } else if !told_at_prompt(&result) {
            let id = job.id;
            context.shell.jobs_mut().forget(id, &result);
        }
        Ok(result)
    }
}

/// Whether the end of a job that the user waited for is news: when a signal ended it, other than
/// the user's own.
fn told_at_prompt(result: &ExecutionResult) -> bool {
    let status = u8::from(result.exit_code);
    status > 128 && status != 130
}
