//! The interactive session: prompt, edit, run, until the user leaves.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use brush_core::escape::{QuoteMode, quote_if_needed};
use brush_core::history::{History, Item};
use brush_core::terminal::TerminalControl;
use brush_core::{ExecutionResult, ShellValue, ShellVariable};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::Shell;
use crate::editor::{Completions, Editor, Host, Outcome};

/// Lines of the history file that are read; older ones stay in the file.
const HISTORY_LINES: usize = 1000;

/// Exit status of a command that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Takes the terminal and its signals. Before any command runs, as the
/// interpreter's own handlers for the same signals must come later.
pub fn take_terminal() -> Result<TerminalControl, brush_core::Error> {
    catch_terminal_signals();
    TerminalControl::acquire()
}

/// Runs the session on the terminal at standard input.
pub async fn run(shell: &mut Shell) -> Result<(), brush_core::Error> {
    let mut editor = Editor::new();
    let mut history = HistoryFile::new(shell);
    shell.start_interactive_session()?;

    // Whether the user knows that jobs are stopped, and asked to leave all the same.
    let mut warned = false;
    loop {
        before_prompt(shell, &editor).await?;
        let prompt = shell.compose_prompt().await?;
        match read_command(shell, &mut editor, &mut history, prompt).await? {
            Outcome::Line(command) => {
                if command.trim().is_empty() {
                    continue;
                }
                history.add(shell, &command);
                let result = execute(shell, command).await;
                if brush_core::tasks::take_interrupt() {
                    shell.set_last_exit_status(INTERRUPTED);
                    // The terminal echoed ^C; the prompt starts a new row.
                    let _ = writeln!(shell.stderr());
                    continue;
                }
                if result.is_some_and(|r| r.is_return_or_exit()) {
                    if may_leave(shell, &mut warned) {
                        break;
                    }
                    continue;
                }
                warned = false;
            }
            Outcome::Interrupted => {
                shell.set_last_exit_status(INTERRUPTED);
            }
            Outcome::EndOfInput => {
                let word = if shell.options().login_shell {
                    "logout"
                } else {
                    "exit"
                };
                let _ = writeln!(shell.stderr(), "{word}");
                if may_leave(shell, &mut warned) {
                    break;
                }
                continue;
            }
        }
        if shell.options().exit_after_one_command {
            break;
        }
    }
    shell.end_interactive_session()?;
    shell.on_exit().await
}

/// Whether the session may end: not the first time that the user asks while jobs are stopped,
/// which would end with it.
fn may_leave(shell: &mut Shell, warned: &mut bool) -> bool {
    let _ = shell.jobs_mut().notice_stops();
    let stopped =
        |job: &brush_core::jobs::Job| matches!(job.state, brush_core::jobs::JobState::Stopped);
    if std::mem::replace(warned, true) || !shell.jobs().jobs.iter().any(stopped) {
        return true;
    }
    let _ = writeln!(shell.stderr(), "There are stopped jobs.");
    shell.set_last_exit_status(1);
    false
}

/// Reports finished jobs, repairs the terminal, runs `PROMPT_COMMAND`.
async fn before_prompt(shell: &mut Shell, editor: &Editor) -> Result<(), brush_core::Error> {
    shell.check_for_completed_jobs()?;
    brush_core::tasks::take_interrupt();
    if shell.last_exit_status() > 128 {
        // Killed by a signal: it had no chance to put the modes back.
        editor.restore_terminal();
    }
    let commands: Vec<String> = match shell.env_var("PROMPT_COMMAND").map(|v| v.value()) {
        Some(ShellValue::String(command)) => vec![command.clone()],
        Some(ShellValue::IndexedArray(commands)) => commands.values().cloned().collect(),
        _ => return Ok(()),
    };
    let status = shell.last_exit_status();
    let params = shell.default_exec_params();
    for command in commands {
        let source = brush_core::SourceInfo::from("PROMPT_COMMAND");
        shell.run_string(command, &source, &params).await?;
    }
    shell.set_last_exit_status(status);
    Ok(())
}

/// Reads one command, with as many lines as it takes to complete it.
async fn read_command(
    shell: &mut Shell,
    editor: &mut Editor,
    history: &mut HistoryFile,
    mut prompt: String,
) -> Result<Outcome, brush_core::Error> {
    let mut command = String::new();
    loop {
        let mut host = SessionHost { shell, history };
        let outcome = editor
            .read_line(&prompt, &mut host, |host| {
                host.history_len();
            })
            .unwrap_or(Outcome::EndOfInput);
        match outcome {
            Outcome::Line(line) => {
                command.push_str(&line);
                command.push('\n');
                if crate::script::is_complete(shell, &command) {
                    command.pop();
                    return Ok(Outcome::Line(command));
                }
                prompt = shell.compose_continuation_prompt().await?;
            }
            Outcome::EndOfInput if !command.is_empty() => return Ok(Outcome::Line(command)),
            other => return Ok(other),
        }
    }
}

async fn execute(shell: &mut Shell, command: String) -> Option<ExecutionResult> {
    if let Ok(text) = shell.compose_precmd_prompt().await
        && !text.is_empty()
    {
        let _ = write!(shell.stderr(), "{text}");
    }
    let lines = command.lines().count().max(1);
    let params = shell.default_exec_params();
    let source = brush_core::SourceInfo::from("main");
    let result = shell.run_string(command, &source, &params).await;
    shell.increment_interactive_line_offset(lines);
    match result {
        Ok(result) => Some(result),
        Err(error) => {
            let _ = shell.display_error(&mut shell.stderr(), &error);
            shell.set_last_exit_status(1);
            None
        }
    }
}

/// Keeps the keys that interrupt, quit or suspend a command from ending the
/// shell too. Handlers rather than "ignore": children would inherit that.
fn catch_terminal_signals() {
    extern "C" fn nothing(_: nix::libc::c_int) {}
    extern "C" fn interrupt(_: nix::libc::c_int) {
        brush_core::tasks::request_interrupt();
    }
    let handlers: [(Signal, extern "C" fn(nix::libc::c_int)); 4] = [
        (Signal::SIGINT, interrupt),
        (Signal::SIGQUIT, nothing),
        (Signal::SIGTSTP, nothing),
        (Signal::SIGTERM, nothing),
    ];
    for (signal, handler) in handlers {
        // A `read` that waits for a line is to hear of Ctrl-C.
        let flags = match signal {
            Signal::SIGINT => SaFlags::empty(),
            _ => SaFlags::SA_RESTART,
        };
        let action = SigAction::new(SigHandler::Handler(handler), flags, SigSet::empty());
        // SAFETY: the handlers store to an atomic at most, so they are
        // async-signal-safe.
        let installed = unsafe { sigaction(signal, &action) };
        debug_assert!(installed.is_ok(), "{signal} can be caught");
    }
}

/// The history file: read when first needed, appended to with each command, so
/// that a power cut takes no more than the last line.
struct HistoryFile {
    path: Option<PathBuf>,
    loaded: bool,
    /// The last command, not to be recorded twice in a row.
    last: String,
}

impl HistoryFile {
    /// `$HISTFILE` where the environment sets it, else `~/.oxsh_history`.
    fn new(shell: &mut Shell) -> Self {
        let path = std::env::var_os("HISTFILE")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".oxsh_history")))
            .filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = &path {
            let value = ShellVariable::new(path.to_string_lossy().into_owned());
            // Only a read-only HISTFILE refuses, and then the user wants that.
            let _ = shell.set_env_global("HISTFILE", value);
        }
        Self {
            path,
            loaded: false,
            last: String::new(),
        }
    }

    fn load(&mut self, shell: &mut Shell) {
        if std::mem::replace(&mut self.loaded, true) {
            return;
        }
        let Some(bytes) = self.path.as_ref().and_then(|path| std::fs::read(path).ok()) else {
            return;
        };
        let text = String::from_utf8_lossy(&bytes);
        let skip = text.lines().count().saturating_sub(HISTORY_LINES);
        let recent = text.lines().skip(skip).collect::<Vec<_>>().join("\n");
        if let (Ok(read), Some(history)) = (History::import(recent.as_bytes()), shell.history_mut())
        {
            *history = read;
        }
        self.last = text.lines().last().unwrap_or_default().to_owned();
    }

    /// Records `command`, unless it starts with a blank or repeats the last.
    fn add(&mut self, shell: &mut Shell, command: &str) {
        self.load(shell);
        let command = command.trim_end();
        if command.starts_with(' ') || command == self.last {
            return;
        }
        self.last = command.to_owned();
        if let Some(history) = shell.history_mut() {
            let mut item = Item::new(command);
            // Written below, so brush need not.
            item.dirty = false;
            let _ = history.add(item);
        }
        if let Some(path) = &self.path {
            let mut options = std::fs::OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.append(true).create(true).open(path);
            // A read-only or full disk must not keep the command from running.
            let _ = file.and_then(|mut file| file.write_all(format!("{command}\n").as_bytes()));
        }
    }
}

/// Gives the editor what it needs of the shell.
struct SessionHost<'a> {
    shell: &'a mut Shell,
    history: &'a mut HistoryFile,
}

impl Host for SessionHost<'_> {
    fn history_len(&mut self) -> usize {
        self.history.load(self.shell);
        self.shell.history().map_or(0, History::count)
    }

    fn history(&mut self, index: usize) -> Option<String> {
        let item = self.shell.history()?.get(index)?;
        Some(item.command_line.clone())
    }

    fn complete(&mut self, line: &str, cursor: usize) -> Completions {
        let shell = &mut *self.shell;
        let found = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(shell.complete(line, cursor))
        });
        let Ok(found) = found else {
            return Completions::default();
        };
        if found.insertion_index + found.delete_count != cursor {
            return Completions::default();
        }
        let quote = open_quote(&line[..cursor]);
        let at_end = cursor == line.len();
        let mut completions = Completions {
            start: found.insertion_index,
            ..Completions::default()
        };
        let mut seen = std::collections::HashSet::new();
        for candidate in found.candidates {
            if !seen.insert(candidate.clone()) {
                continue;
            }
            let mut text = candidate.clone();
            let mut label = candidate;
            let mut directory = false;
            if found.options.treat_as_filenames {
                directory = text.ends_with('/') || shell.absolute_path(&text).is_dir();
                if directory && !text.ends_with('/') {
                    text.push('/');
                }
                let name = text.trim_end_matches('/').rsplit('/').next();
                label = name.unwrap_or(&text).to_owned();
                if directory {
                    label.push('/');
                }
                if !found.options.no_autoquote_filenames {
                    text = quoted(text, quote);
                }
            }
            if at_end && !directory && !found.options.no_trailing_space_at_end_of_line {
                text.push(' ');
            }
            completions.candidates.push(text);
            completions.labels.push(label);
        }
        completions
    }
}

/// The quote that is open at the end of `text`.
fn open_quote(text: &str) -> Option<char> {
    let mut open = None;
    let mut escaped = false;
    for c in text.chars() {
        match (c, open) {
            _ if escaped => escaped = false,
            ('\\', None | Some('"')) => escaped = true,
            ('\'' | '"', None) => open = Some(c),
            (c, Some(quote)) if c == quote => open = None,
            _ => {}
        }
    }
    open
}

fn quoted(text: String, quote: Option<char>) -> String {
    let mode = match quote {
        Some('\'') => QuoteMode::SingleQuote,
        Some(_) => QuoteMode::DoubleQuote,
        None => QuoteMode::BackslashEscape,
    };
    match quote_if_needed(&text, mode) {
        Cow::Owned(quoted) => quoted,
        Cow::Borrowed(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::open_quote;

    #[test]
    fn quotes_open_and_close() {
        assert_eq!(open_quote("echo 'a b"), Some('\''));
        assert_eq!(open_quote("echo \"it's"), Some('"'));
        assert_eq!(open_quote("echo \\'a"), None);
        assert_eq!(open_quote("echo 'a' b"), None);
    }
}
