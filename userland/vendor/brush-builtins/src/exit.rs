use clap::Parser;
use std::io::Write as _;

use brush_core::{ExecutionControlFlow, ExecutionResult, builtins};

/// Exit the shell.
#[derive(Parser)]
pub(crate) struct ExitCommand {
    /// The exit code to return.
    #[arg(allow_hyphen_values = true)]
    code: Option<String>,
}

impl builtins::Command for ExitCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<brush_core::ExecutionResult, Self::Error> {
        let code_8bit = match self
            .code
            .as_ref()
            .map(|code| (code, code.trim().parse::<i64>()))
        {
            None => context.shell.default_exit_status(),
            Some((_, Ok(code))) => (code & 0xFF) as u8,
            Some((code, Err(_))) => {
                writeln!(
                    context.stderr(),
                    "{}: {code}: numeric argument required",
                    context.command_name
                )?;
                2
            }
        };

        let mut result = ExecutionResult::new(code_8bit);
        result.next_control_flow = ExecutionControlFlow::ExitShell;

        Ok(result)
    }
}
