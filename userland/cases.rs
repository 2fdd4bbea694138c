//! Runs tables of scripts and compares what they print. Included by the tests
//! of the shell and of the utilities.
//!
//! A table is a text file of cases:
//!
//! ```text
//! === title
//! script, any number of lines
//! ---
//! what it prints on standard output
//! ```
//!
//! A last line `[status N]` is the exit status where it is not 0. A title that
//! ends in `(ours)` is not checked against the host's programs: there Oxbow
//! differs on purpose or the host has no such program.
//!
//! With `OXBOW_WRITE_CASES=1` the expected output of each other case is written
//! anew from the host's programs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Case {
    title: String,
    script: String,
    expected: String,
}

/// Runs every case of `table` with `ours`, and with `host` where that is
/// installed; panics with all differences. Both get the script as a file name
/// to append to their arguments.
pub fn run(table: &Path, ours: impl Fn() -> Command, host: Option<&dyn Fn() -> Command>) {
    let text = std::fs::read_to_string(table).expect("table is there");
    let mut cases = parse(&text);
    let write = std::env::var_os("OXBOW_WRITE_CASES").is_some();
    let mut failures = String::new();
    for (number, case) in cases.iter_mut().enumerate() {
        let own = case.title.ends_with("(ours)");
        if let Some(host) = host.filter(|_| !own) {
            let printed = output(host(), &case.script, number);
            if write {
                case.expected = printed;
            } else if printed != case.expected {
                report(
                    &mut failures,
                    &case.title,
                    "the host",
                    &case.expected,
                    &printed,
                );
            }
        }
        let printed = output(ours(), &case.script, number);
        if printed != case.expected {
            report(&mut failures, &case.title, "ours", &case.expected, &printed);
        }
    }
    if write {
        std::fs::write(table, render(&cases)).expect("table can be written");
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn parse(text: &str) -> Vec<Case> {
    text.split("=== ")
        .skip(1)
        .map(|case| {
            let (title, rest) = case.split_once('\n').unwrap_or((case, ""));
            let (script, expected) = rest.split_once("---\n").unwrap_or((rest, ""));
            Case {
                title: title.to_owned(),
                script: script.to_owned(),
                expected: expected.to_owned(),
            }
        })
        .collect()
}

fn render(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let _ = write!(
            text,
            "=== {}\n{}---\n{}",
            case.title, case.script, case.expected
        );
    }
    text
}

fn report(failures: &mut String, title: &str, who: &str, expected: &str, printed: &str) {
    let _ = writeln!(
        failures,
        "--- {title}: {who} differ\nexpected:\n{expected}printed:\n{printed}"
    );
}

/// Runs `script` in an empty directory; returns standard output and status.
fn output(command: Command, script: &str, number: usize) -> String {
    let mut command = with_default_signals(&command);
    let dir = scratch(&format!("case-{number}"));
    let file = dir.join("../script");
    std::fs::write(&file, script).expect("script can be written");
    let result = command
        .arg(&file)
        .current_dir(&dir)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("HOME", &dir)
        .stdin(Stdio::null())
        .output();
    let _ = std::fs::remove_dir_all(dir.parent().expect("has a parent"));
    match result {
        Err(error) => format!("[cannot run: {error}]\n"),
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !text.is_empty() && !text.ends_with('\n') {
                text.push_str("[no newline]\n");
            }
            match output.status.code() {
                Some(0) => {}
                Some(status) => text.push_str(&format!("[status {status}]\n")),
                None => text.push_str("[killed]\n"),
            }
            text
        }
    }
}

/// The same command with every signal at its default: a test run that was started in the
/// background ignores SIGINT, and what a shell finds ignored it cannot trap.
fn with_default_signals(command: &Command) -> Command {
    let mut clean = Command::new("env");
    clean.arg("--default-signal");
    clean.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => clean.env(name, value),
            None => clean.env_remove(name),
        };
    }
    clean
}

/// A new empty directory, inside another one of its own.
pub fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("oxbow-{}-{name}/work", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("temporary directory");
    dir
}

/// Whether the host has `program`.
#[allow(dead_code, reason = "only the table of the shell needs it")]
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
