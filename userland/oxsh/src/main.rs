//! oxsh, the shell of Oxbow: brush (a bash-compatible interpreter) behind a
//! small front end.
//!
//! This crate is responsible for what brush leaves to its host: the command
//! line ([`options`]), where commands come from when there is no terminal
//! ([`script`]), and the interactive session ([`session`]) with its line
//! editor ([`editor`]). The language, the builtins and job control are brush's.
//!
//! Two things shape it. The time from `exec` to the prompt is part of the
//! system's boot time, so nothing is read or computed before the prompt that
//! the prompt does not need. And the terminal may be a serial line with a
//! program on the other end, so nothing here ever asks the terminal a question
//! and waits for the answer.

mod editor;
mod options;
mod script;
mod session;

use brush_builtins::{BuiltinSet, ShellBuilderExt as _};
use brush_core::openfiles::{OpenFile, OpenFiles};
use brush_core::{ProfileLoadBehavior, RcLoadBehavior, ShellValue, ShellVariable};
use options::{Options, Source};
use std::collections::HashMap;
use std::io::IsTerminal as _;

/// The shell type used throughout: brush with bash's error format.
type Shell = brush_core::Shell<Extensions>;
type Extensions = brush_core::extensions::ShellExtensionsImpl<ErrorFormat>;

/// Formats errors as bash does: the shell's name, then the message.
#[derive(Clone, Default)]
struct ErrorFormat;

impl brush_core::extensions::ErrorFormatter for ErrorFormat {
    fn format_error(
        &self,
        error: &brush_core::Error,
        shell: &brush_core::Shell<impl brush_core::ShellExtensions>,
    ) -> String {
        let name = shell.current_shell_name();
        format!("{}: {error:#}\n", name.as_deref().unwrap_or("oxsh"))
    }
}

/// One thread beside the main one, to watch descriptors and child processes
/// while the main one is blocked in a read. Subshells get their own.
const WORKER_THREADS: usize = 1;

/// The interpreter recurses once per nested command.
const STACK_BYTES: usize = 8 << 20;

fn main() {
    let options = match options::parse(std::env::args().collect()) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("oxsh: {message}");
            std::process::exit(2);
        }
    };
    match options.source {
        Source::Help => return print!("{}", options::HELP),
        Source::Version => return println!("{}", options::version()),
        _ => {}
    }

    if !options.interactive {
        brush_core::tasks::end_on_interrupt();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_stack_size(STACK_BYTES)
        .enable_io()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("oxsh: cannot start: {error}");
            std::process::exit(1);
        }
    };
    let status = match runtime.block_on(run(options)) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("oxsh: {error:#}");
            1
        }
    };
    if brush_core::tasks::take_interrupt() {
        // Does not return, unless the signal is blocked: then the exit status tells.
        brush_core::tasks::end_by_interrupt();
    }
    // Without unwinding the runtime: its threads may be blocked in a read that
    // never ends, and the kernel reclaims everything.
    std::process::exit(i32::from(status));
}

/// Runs the shell to its end; returns its exit status.
async fn run(options: Options) -> Result<u8, brush_core::Error> {
    let on_terminal = options.interactive && std::io::stdin().is_terminal();
    let _terminal = on_terminal.then(session::take_terminal).transpose()?;
    let mut shell = build(&options).await?;
    let profile = if options.no_profile {
        ProfileLoadBehavior::Skip
    } else {
        ProfileLoadBehavior::LoadDefault
    };
    let rc = match (&options.rc_file, options.no_rc) {
        (_, true) => RcLoadBehavior::Skip,
        (Some(file), false) => RcLoadBehavior::LoadCustom(file.into()),
        (None, false) => RcLoadBehavior::LoadDefault,
    };
    shell.load_config(&profile, &rc).await?;

    match options.source {
        Source::Command(command) => {
            shell.run_dash_c_command(command).await?;
        }
        Source::Script(path) => {
            shell
                .run_script(path, options.arguments.into_iter())
                .await?;
        }
        Source::Stdin if options.interactive => session::run(&mut shell).await?,
        Source::Stdin => script::run_stdin(&mut shell).await?,
        Source::Help | Source::Version => {}
    }
    Ok(shell.last_exit_status())
}

async fn build(options: &Options) -> Result<Shell, brush_core::Error> {
    let mut files = HashMap::new();
    if !std::io::stdin().is_terminal() {
        let stdin = OpenFile::Stream(Box::new(script::RawStdin));
        files.insert(OpenFiles::STDIN_FD, stdin);
    }
    let mut builder = brush_core::Shell::builder_with_extensions::<Extensions>()
        .enable_options(options.set_on.clone())
        .disable_options(options.set_off.clone())
        .enable_shopt_options(options.shopt_on.clone())
        .disable_shopt_options(options.shopt_off.clone())
        .login(options.login)
        .interactive(options.interactive)
        .command_string_mode(matches!(options.source, Source::Command(_)))
        .read_commands_from_stdin(matches!(options.source, Source::Stdin))
        .fds(files)
        .posix(options.posix)
        .profile(ProfileLoadBehavior::Skip)
        .rc(RcLoadBehavior::Skip)
        .maybe_shell_name(Some(options.name.clone()))
        .shell_product_display_str(options::version())
        .shell_version(env!("CARGO_PKG_VERSION").to_owned())
        .maybe_shell_args(match options.source {
            Source::Script(_) => None,
            _ => Some(options.arguments.clone()),
        });
    if options.interactive {
        // Empty until the session has shown its first prompt: brush would read
        // the whole history file here.
        builder = builder.var(
            "HISTFILE",
            ShellVariable::new(ShellValue::String(String::new())),
        );
    }
    builder.default_builtins(BuiltinSet::BashMode).build().await
}
