use brush_core::{ErrorKind, ExecutionResult, builtins};
use cfg_if::cfg_if;
use clap::Parser;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use nix::sys::stat::Mode;
use std::io::Write;

/// Manage the process umask.
#[derive(Parser)]
pub(crate) struct UmaskCommand {
    /// If MODE is omitted, output in a form that may be reused as input.
    #[arg(short = 'p')]
    print_roundtrippable: bool,

    /// Makes the output symbolic; otherwise an octal number is given.
    #[arg(short = 'S')]
    symbolic_output: bool,

    /// Mode mask.
    mode: Option<String>,
}

impl builtins::Command for UmaskCommand {
    type Error = brush_core::Error;

    async fn execute<SE: brush_core::ShellExtensions>(
        &self,
        context: brush_core::ExecutionContext<'_, SE>,
    ) -> Result<brush_core::ExecutionResult, Self::Error> {
        if let Some(mode) = &self.mode {
            if mode.starts_with(|c: char| c.is_digit(8)) {
                let parsed = u32::from_str_radix(mode, 8)
                    .ok()
                    .filter(|mask| *mask <= 0o777);
                let Some(parsed) = parsed else {
                    writeln!(
                        context.stderr(),
                        "{}: {mode}: octal number out of range",
                        context.command_name
                    )?;
                    return Ok(ExecutionResult::general_error());
                };
                let before = set_umask(parsed)?;
                context.shell.note_umask(before);
            } else {
                let Some(allowed) = symbolic_mode(mode, !get_umask()? & 0o777) else {
                    writeln!(
                        context.stderr(),
                        "{}: {mode}: invalid symbolic mode",
                        context.command_name
                    )?;
                    return Ok(ExecutionResult::general_error());
                };
                let before = set_umask(!allowed & 0o777)?;
                context.shell.note_umask(before);
            }
        } else {
            let umask = get_umask()?;

            let formatted = if self.symbolic_output {
                let u = symbolic_mask_from_bits((!umask & 0o700) >> 6);
                let g = symbolic_mask_from_bits((!umask & 0o070) >> 3);
                let o = symbolic_mask_from_bits(!umask & 0o007);
                std::format!("u={u},g={g},o={o}")
            } else {
                std::format!("{umask:04o}")
            };

            if self.print_roundtrippable {
                writeln!(context.stdout(), "umask {formatted}")?;
            } else {
                writeln!(context.stdout(), "{formatted}")?;
            }
        }

        Ok(ExecutionResult::success())
    }
}

cfg_if! {
    if #[cfg(any(target_os = "linux", target_os = "android"))] {
        fn get_umask() -> Result<u32, brush_core::Error> {
            let umask = procfs::process::Process::myself().ok().and_then(|me| me.status().ok()).and_then(|status| status.umask);
            umask.ok_or_else(|| brush_core::ErrorKind::InvalidUmask.into())
        }
    } else {
        #[expect(clippy::unnecessary_wraps)]
        fn get_umask() -> Result<u32, brush_core::Error> {
            let u = nix::sys::stat::umask(Mode::empty());
            nix::sys::stat::umask(u);
            Ok(u32::from(u.bits()))
        }
    }
}

/// Sets the mask; returns the one before.
fn set_umask(value: nix::sys::stat::mode_t) -> Result<u32, brush_core::Error> {
    // value of mode_t can be platform dependent
    let mode = nix::sys::stat::Mode::from_bits(value).ok_or_else(|| ErrorKind::InvalidUmask)?;
    Ok(nix::sys::stat::umask(mode).bits())
}

/// What `mode`, as of chmod(1), makes of the permissions `allowed`.
fn symbolic_mode(mode: &str, mut allowed: u32) -> Option<u32> {
    for clause in mode.split(',') {
        let operator = clause.find(['+', '-', '='])?;
        let mut who = 0;
        for c in clause[..operator].chars() {
            who |= match c {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        if who == 0 {
            who = 0o777;
        }
        let mut bits = 0;
        for c in clause[operator + 1..].chars() {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'u' => (allowed >> 6 & 7) * 0o111,
                'g' => (allowed >> 3 & 7) * 0o111,
                'o' => (allowed & 7) * 0o111,
                _ => return None,
            };
        }
        allowed = match clause.as_bytes()[operator] {
            b'+' => allowed | bits & who,
            b'-' => allowed & !(bits & who),
            _ => allowed & !who | bits & who,
        };
    }
    Some(allowed)
}

fn symbolic_mask_from_bits(bits: u32) -> String {
    let mut result = String::new();

    if (bits & 0b100) != 0 {
        result.push('r');
    }
    if (bits & 0b010) != 0 {
        result.push('w');
    }
    if (bits & 0b001) != 0 {
        result.push('x');
    }

    result
}
