use std::path::PathBuf;

use brush_core::builtins;
use clap::Parser;

/// Evaluate the provided script in the current shell environment.
#[derive(Parser)]
pub(crate) struct DotCommand {
    /// Path to the script to evaluate.
    script_path: String,

    /// Any arguments to be passed as positional parameters to the script.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    script_args: Vec<String>,
}

impl builtins::Command for DotCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<brush_core::ExecutionResult, Self::Error> {
        // TODO(dot): Handle trap inheritance.
        // A name without a slash is looked for in PATH, then here.
        let mut path = PathBuf::from(&self.script_path);
        if !self.script_path.contains('/') {
            let dirs = context.shell.env_str("PATH").unwrap_or_default();
            let found = std::env::split_paths(dirs.as_ref())
                .map(|dir| context.shell.absolute_path(dir).join(&path))
                .find(|candidate| candidate.is_file());
            path = found.unwrap_or(path);
        }
        context
            .shell
            .source_script(path, self.script_args.iter(), &context.params)
            .await
    }
}
