use clap::Parser;
use std::io::Write;

use brush_core::traps::TrapSignal;
use brush_core::{ExecutionExitCode, ExecutionResult, builtins};

/// Signal a job or process.
#[derive(Parser)]
pub(crate) struct KillCommand {
    /// Name of the signal to send.
    #[arg(short = 's', value_name = "SIG_NAME")]
    signal_name: Option<String>,

    /// Number of the signal to send.
    #[arg(short = 'n', value_name = "SIG_NUM")]
    signal_number: Option<usize>,

    //
    // TODO(kill): implement -sigspec syntax
    /// List known signal names.
    #[arg(short = 'l', short_alias = 'L')]
    list_signals: bool,

    // Interpretation of these depends on whether -l is present.
    #[arg(allow_hyphen_values = true)]
    args: Vec<String>,
}

impl builtins::Command for KillCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<brush_core::ExecutionResult, Self::Error> {
        let mut trap_signal = TrapSignal::Signal(nix::sys::signal::Signal::SIGTERM);

        // Try parsing the signal name (if specified).
        if let Some(signal_name) = &self.signal_name {
            if let Ok(parsed_trap_signal) = TrapSignal::try_from(signal_name.as_str()) {
                trap_signal = parsed_trap_signal;
            } else {
                writeln!(
                    context.stderr(),
                    "{}: invalid signal name: {}",
                    context.command_name,
                    signal_name
                )?;
                return Ok(ExecutionExitCode::InvalidUsage.into());
            }
        }

        // Try parsing the signal number (if specified).
        if let Some(signal_number) = &self.signal_number {
            #[expect(clippy::cast_possible_truncation)]
            #[expect(clippy::cast_possible_wrap)]
            if let Ok(parsed_trap_signal) = TrapSignal::try_from(*signal_number as i32) {
                trap_signal = parsed_trap_signal;
            } else {
                writeln!(
                    context.stderr(),
                    "{}: invalid signal number: {}",
                    context.command_name,
                    signal_number
                )?;
                return Ok(ExecutionExitCode::InvalidUsage.into());
            }
        }

        if self.list_signals {
            return print_signals(&context, self.args.as_ref());
        }

        // A signal may come first, in the -sigspec style; -0 only asks whether the process is there.
        let mut args = self.args.as_slice();
        let mut only_ask =
            self.signal_name.as_deref() == Some("0") || self.signal_number == Some(0);
        if let Some((first, rest)) = args.split_first()
            && let Some(name) = first.strip_prefix('-')
            && self.signal_name.is_none()
            && self.signal_number.is_none()
            && name != "-"
        {
            args = rest;
            if name == "0" {
                only_ask = true;
            } else if let Ok(parsed) = name.parse::<TrapSignal>() {
                trap_signal = parsed;
            } else {
                writeln!(
                    context.stderr(),
                    "{}: {name}: invalid signal specification",
                    context.command_name
                )?;
                return Ok(ExecutionExitCode::GeneralError.into());
            }
        }
        if args.first().is_some_and(|a| a == "--") {
            args = &args[1..];
        }
        if args.is_empty() {
            writeln!(
                context.stderr(),
                "{}: usage: kill [-s sigspec | -n signum | -sigspec] pid | jobspec ...",
                context.command_name
            )?;
            return Ok(ExecutionExitCode::InvalidUsage.into());
        }

        // What has ended must not look alive because nobody has collected it yet.
        context.shell.jobs_mut().forget_ended()?;

        let mut result = ExecutionResult::success();
        for arg in args {
            let sent = if arg.starts_with('%') {
                match context.shell.jobs_mut().resolve_job_spec(arg) {
                    Some(job) => {
                        if only_ask {
                            Ok(())
                        } else {
                            job.kill(trap_signal).map_err(|e| e.to_string())
                        }
                    }
                    None => Err("no such job".to_owned()),
                }
            } else if let Ok(pid) = arg.parse::<i32>() {
                match context.shell.jobs_mut().find_by_id(pid) {
                    // Shell code in the background is reached through its job.
                    Some(job) if !only_ask && job.user_id() == Some(pid) && job.is_shell_code() => {
                        job.kill(trap_signal).map_err(|e| e.to_string())
                    }
                    Some(job) if only_ask && job.is_shell_code() => Ok(()),
                    _ => {
                        let signal = match trap_signal {
                            TrapSignal::Signal(signal) if !only_ask => Some(signal),
                            _ => None,
                        };
                        let pid = nix::unistd::Pid::from_raw(pid);
                        nix::sys::signal::kill(pid, signal).map_err(|e| e.desc().to_owned())
                    }
                }
            } else {
                Err("arguments must be process or job IDs".to_owned())
            };
            if let Err(why) = sent {
                writeln!(
                    context.stderr(),
                    "{}: ({arg}) - {why}",
                    context.command_name
                )?;
                result = ExecutionResult::general_error();
            }
        }
        Ok(result)
    }
}

fn print_signals(
    context: &brush_core::ExecutionContext<'_, impl brush_core::ShellExtensions>,
    signals: &[String],
) -> Result<ExecutionResult, brush_core::Error> {
    let mut exit_code = ExecutionResult::success();
    if !signals.is_empty() {
        for s in signals {
            // If the user gives us a code, we print the name; if they give a name, we print its
            // code.
            enum PrintSignal {
                Name(&'static str),
                Num(i32),
            }

            let signal = if let Ok(n) = s.parse::<i32>() {
                // bash compatibility. `SIGHUP` -> `HUP`
                TrapSignal::try_from(n).map(|s| {
                    PrintSignal::Name(s.as_str().strip_prefix("SIG").unwrap_or(s.as_str()))
                })
            } else {
                TrapSignal::try_from(s.as_str()).map(|sig| {
                    i32::try_from(sig).map_or(PrintSignal::Name(sig.as_str()), PrintSignal::Num)
                })
            };

            match signal {
                Ok(PrintSignal::Num(n)) => {
                    writeln!(context.stdout(), "{n}")?;
                }
                Ok(PrintSignal::Name(s)) => {
                    writeln!(context.stdout(), "{s}")?;
                }
                Err(e) => {
                    writeln!(context.stderr(), "{e}")?;
                    exit_code = ExecutionResult::general_error();
                }
            }
        }
    } else {
        return brush_core::traps::format_signals(
            context.stdout(),
            TrapSignal::iterator().filter(|s| !matches!(s, TrapSignal::Exit)),
        )
        .map(|()| ExecutionResult::success());
    }

    Ok(exit_code)
}
