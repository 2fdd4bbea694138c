use clap::Parser;
use std::io::Write;

use brush_core::{ExecutionExitCode, ExecutionResult, builtins, error};

/// Wait for jobs to terminate.
#[derive(Parser)]
pub(crate) struct WaitCommand {
    /// Wait for specified job to terminate (instead of change status).
    #[arg(short = 'f')]
    wait_for_terminate: bool,

    /// Wait for a single job to change status; if jobs are specified, waits for
    /// the first to change status, and otherwise waits for the next change.
    #[arg(short = 'n')]
    wait_for_first_or_next: bool,

    /// Name of variable to receive the job ID of the job whose status is indicated.
    #[arg(short = 'p', value_name = "VAR_NAME")]
    variable_to_receive_id: Option<String>,

    /// Process IDs or job specs to wait for.
    ids: Vec<String>,
}

impl builtins::Command for WaitCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        mut context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        if self.wait_for_terminate {
            return error::unimp("wait -f");
        }

        // SIGINT ends the waiting, not what is waited for.
        let traps = context.shell.trapped_signals();
        tokio::select! {
            result = self.wait(&mut context) => result,
            signal = brush_core::Shell::<SE>::trapped_signal(traps) => {
                Ok(ExecutionResult::new(u8::try_from(128 + signal).unwrap_or(u8::MAX)))
            }
        }
    }
}

impl WaitCommand {
    async fn wait<SE: brush_core::ShellExtensions>(
        &self,
        context: &mut brush_core::ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, brush_core::Error> {
        if self.wait_for_first_or_next {
            return self.wait_for_next(context).await;
        }

        if self.ids.is_empty() {
            // Wait for all jobs.
            let jobs = context.shell.jobs_mut().wait_all().await?;

            if context.shell.options().enable_job_control {
                for job in jobs {
                    writeln!(context.stdout(), "{job}")?;
                }
            }
            return Ok(ExecutionResult::success());
        }

        let mut result = ExecutionResult::success();
        for id in &self.ids {
            let job = match id.parse() {
                Ok(pid) => {
                    if let Some(status) = context.shell.jobs().ended_status(pid) {
                        result = status;
                        continue;
                    }
                    context.shell.jobs_mut().find_by_id(pid)
                }
                Err(_) => context.shell.jobs_mut().resolve_job_spec(id),
            };
            if let Some(job) = job {
                result = job.wait().await?;
                context.shell.jobs_mut().forget_ended()?;
            } else {
                let what = if id.starts_with('%') {
                    format!("{id}: no such job")
                } else {
                    format!("pid {id} is not a child of this shell")
                };
                writeln!(context.stderr(), "{}: {what}", context.command_name)?;
                result = ExecutionExitCode::Custom(127).into();
            }
        }

        if let Some(name) = &self.variable_to_receive_id
            && let Some(id) = self.ids.last()
        {
            let value = brush_core::ShellVariable::new(id.clone());
            context.shell.set_env_global(name, value)?;
        }

        Ok(result)
    }

    /// Waits until any job (of the given ones) ends.
    async fn wait_for_next<SE: brush_core::ShellExtensions>(
        &self,
        context: &mut brush_core::ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, brush_core::Error> {
        let wanted: Vec<i32> = self.ids.iter().filter_map(|id| id.parse().ok()).collect();
        let jobs = context.shell.jobs_mut();
        let mut waits = vec![];
        for job in &mut jobs.jobs {
            let id = job.user_id();
            if wanted.is_empty() || id.is_some_and(|id| wanted.contains(&id)) {
                waits.push(Box::pin(async move { (id, job.wait().await) }));
            }
        }
        if waits.is_empty() {
            return Ok(ExecutionExitCode::Custom(127).into());
        }
        let ((id, result), _, rest) = futures::future::select_all(waits).await;
        drop(rest);
        jobs.forget_ended()?;
        if let Some(name) = &self.variable_to_receive_id
            && let Some(id) = id
        {
            let value = brush_core::ShellVariable::new(id.to_string());
            context.shell.set_env_global(name, value)?;
        }
        result
    }
}
