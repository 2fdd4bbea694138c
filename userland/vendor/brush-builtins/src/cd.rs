use std::io::Write;
use std::path::PathBuf;

use clap::Parser;

use brush_core::{ExecutionResult, builtins, error};

/// Change the current shell working directory.
#[derive(Parser)]
pub(crate) struct CdCommand {
    /// Force following symlinks.
    #[arg(short = 'L', overrides_with = "use_physical_dir")]
    force_follow_symlinks: bool,

    /// Use physical dir structure without following symlinks.
    #[arg(short = 'P', overrides_with = "force_follow_symlinks")]
    use_physical_dir: bool,

    /// Exit with non zero exit status if current working directory resolution fails.
    #[arg(short = 'e')]
    exit_on_failed_cwd_resolution: bool,

    /// Show file with extended attributes as a dir with extended
    /// attributes.
    #[arg(short = '@')]
    file_with_xattr_as_dir: bool,

    /// By default it is the value of the HOME shell variable. If `TARGET_DIR` is "-", it is
    /// converted to $OLDPWD.
    target_dir: Option<PathBuf>,

    /// More directories, which there must not be.
    #[arg(hide = true)]
    extra: Vec<PathBuf>,
}

impl builtins::Command for CdCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        // TODO(cd): implement 'cd -@'
        if self.file_with_xattr_as_dir {
            return error::unimp("cd -@");
        }

        if !self.extra.is_empty() {
            writeln!(
                context.stderr(),
                "{}: too many arguments",
                context.command_name
            )?;
            return Ok(ExecutionResult::general_error());
        }

        let mut should_print = false;
        let mut target_dir = if let Some(target_dir) = &self.target_dir {
            // `cd -', equivalent to `cd $OLDPWD'
            if target_dir.as_os_str() == "-" {
                should_print = true;
                if let Some(oldpwd) = context.shell.env_str("OLDPWD") {
                    PathBuf::from(oldpwd.to_string())
                } else {
                    writeln!(context.stderr(), "{}: OLDPWD not set", context.command_name)?;
                    return Ok(ExecutionResult::general_error());
                }
            } else if target_dir.as_os_str().is_empty() {
                // Where the shell is.
                return Ok(ExecutionResult::success());
            } else {
                // What does not start with a slash or a dot is looked for in CDPATH.
                let named = target_dir.to_string_lossy();
                let dirs = match named.starts_with('/')
                    || named
                        .split('/')
                        .next()
                        .is_some_and(|c| c == "." || c == "..")
                {
                    true => None,
                    false => context.shell.env_str("CDPATH"),
                };
                let found = dirs.and_then(|dirs| {
                    std::env::split_paths(dirs.as_ref())
                        .map(|dir| {
                            (
                                !dir.as_os_str().is_empty(),
                                context.shell.absolute_path(dir).join(target_dir),
                            )
                        })
                        .find(|(_, candidate)| candidate.is_dir())
                });
                match found {
                    Some((print, dir)) => {
                        should_print = print;
                        dir
                    }
                    None => target_dir.clone(),
                }
            }
        // `cd' without arguments is equivalent to `cd $HOME'
        } else {
            if let Some(home_var) = context.shell.env_str("HOME") {
                PathBuf::from(home_var.to_string())
            } else {
                writeln!(context.stderr(), "{}: HOME not set", context.command_name)?;
                return Ok(ExecutionResult::general_error());
            }
        };

        if self.use_physical_dir
            || context
                .shell
                .options()
                .do_not_resolve_symlinks_when_changing_dir
        {
            // -e is only relevant in physical mode.
            if self.exit_on_failed_cwd_resolution {
                return error::unimp("cd -e");
            }

            match context.shell.absolute_path(&target_dir).canonicalize() {
                Ok(physical) => target_dir = physical,
                Err(e) => return report(&context, &target_dir, &error::io_text(&e)),
            }
        }

        if let Err(e) = context.shell.set_working_dir(&target_dir) {
            let why = match e.kind() {
                brush_core::ErrorKind::NotADirectory(_) => "Not a directory".to_owned(),
                _ => e.to_string(),
            };
            return report(&context, &target_dir, &why);
        }

        // Bash compatibility
        // https://www.gnu.org/software/bash/manual/bash.html#index-cd
        // If a non-empty directory name from CDPATH is used, or if '-' is the first argument, and
        // the directory change is successful, the absolute pathname of the new working
        // directory is written to the standard output.
        if should_print {
            writeln!(
                context.stdout(),
                "{}",
                context.shell.working_dir().display()
            )?;
        }

        Ok(ExecutionResult::success())
    }
}

fn report(
    context: &brush_core::ExecutionContext<'_, impl brush_core::ShellExtensions>,
    dir: &std::path::Path,
    why: &str,
) -> Result<ExecutionResult, brush_core::Error> {
    writeln!(
        context.stderr(),
        "{}: {}: {why}",
        context.command_name,
        dir.display()
    )?;
    Ok(ExecutionResult::general_error())
}
