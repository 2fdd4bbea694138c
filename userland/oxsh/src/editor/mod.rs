//! The line editor: emacs keys, history, incremental search, completion.
//!
//! It exists because the editors on the registry ask the terminal where its
//! cursor is, or follow the prompt with cursor movements: over a serial line
//! the first waits for an answer that may never come, and the second breaks
//! programs that wait for the prompt's last characters. This one writes the
//! prompt and nothing after it, reads a byte at a time, and redraws with
//! relative movements that a vt100 knows.

mod keys;
mod line;
mod screen;
mod terminal;

use std::io;

use keys::{Decoder, Key};
use line::{Case, Line};
use screen::Screen;
use terminal::Terminal;

/// How an edited line ended.
pub enum Outcome {
    /// Enter: the line, without its newline.
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D on an empty line, or the terminal is gone.
    EndOfInput,
}

/// What may stand in place of the word before the cursor.
#[derive(Debug, Default)]
pub struct Completions {
    /// Byte offset at which the replaced word starts.
    pub start: usize,
    /// Replacements, quoted as needed.
    pub candidates: Vec<String>,
    /// What to show for each when there are several.
    pub labels: Vec<String>,
}

/// What the editor asks of the shell.
pub trait Host {
    fn history_len(&mut self) -> usize;
    /// Entry `index`, 0 being the oldest.
    fn history(&mut self, index: usize) -> Option<String>;
    /// Completions for the text before byte `cursor` of `line`.
    fn complete(&mut self, line: &str, cursor: usize) -> Completions;
}

/// The editor's state from line to line.
pub struct Editor {
    terminal: Terminal,
    /// What the last kill removed, for Ctrl-Y.
    killed: String,
}

/// The state of one line's editing.
struct Edit<'a> {
    line: Line,
    undo: Vec<Line>,
    /// Position in the history; its length is the line being typed.
    position: usize,
    /// The line being typed, while the history is on display.
    draft: Line,
    screen: Screen,
    prompt: &'a str,
    after_kill: bool,
    after_tab: bool,
}

impl Editor {
    pub fn new() -> Self {
        Self {
            terminal: Terminal::new(),
            killed: String::new(),
        }
    }

    /// Puts the terminal's modes back to what they were at first.
    pub fn restore_terminal(&self) {
        self.terminal.restore();
    }

    /// Shows `prompt` and reads one line. `idle` runs when the prompt is on
    /// display and before the first key is awaited.
    pub fn read_line(
        &mut self,
        prompt: &str,
        host: &mut dyn Host,
        idle: impl FnOnce(&mut dyn Host),
    ) -> io::Result<Outcome> {
        let raw = self.terminal.enter_raw();
        self.terminal.write(prompt)?;
        idle(host);
        let mut edit = Edit {
            line: Line::default(),
            undo: Vec::new(),
            position: usize::MAX,
            draft: Line::default(),
            screen: Screen::new(prompt, self.terminal.columns()),
            prompt,
            after_kill: false,
            after_tab: false,
        };
        let mut keys = Decoder::default();
        let outcome = loop {
            let Some(key) = self.next_key(&mut keys)? else {
                break Outcome::EndOfInput;
            };
            if let Some(outcome) = self.handle(key, &mut edit, host)? {
                break outcome;
            }
        };
        drop(raw);
        Ok(outcome)
    }

    fn next_key(&self, keys: &mut Decoder) -> io::Result<Option<Key>> {
        while let Some(byte) = self.terminal.read()? {
            if let Some(key) = keys.push(byte) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn handle(
        &mut self,
        key: Key,
        edit: &mut Edit<'_>,
        host: &mut dyn Host,
    ) -> io::Result<Option<Outcome>> {
        let before = edit.line.clone();
        let after_kill = std::mem::take(&mut edit.after_kill);
        let after_tab = std::mem::take(&mut edit.after_tab);
        let mut killed = None;
        match key {
            Key::Enter => return self.accept(edit).map(Some),
            Key::Ctrl('c') => {
                let leave = edit.screen.leave();
                self.terminal.write(&format!("{leave}^C\n"))?;
                return Ok(Some(Outcome::Interrupted));
            }
            Key::Ctrl('d') if edit.line.text().is_empty() => {
                self.terminal.write("\n")?;
                return Ok(Some(Outcome::EndOfInput));
            }
            Key::Char(c) => edit.line.insert(c.encode_utf8(&mut [0; 4])),
            Key::Backspace => drop(edit.line.backspace()),
            Key::Delete | Key::Ctrl('d') => drop(edit.line.delete()),
            Key::Left | Key::Ctrl('b') => edit.line.left(),
            Key::Right | Key::Ctrl('f') => edit.line.right(),
            Key::Home | Key::Ctrl('a') => edit.line.home(),
            Key::End | Key::Ctrl('e') => edit.line.end(),
            Key::WordLeft | Key::Alt('b') => edit.line.word_left(),
            Key::WordRight | Key::Alt('f') => edit.line.word_right(),
            Key::Up | Key::Ctrl('p') => edit.older(host),
            Key::Down | Key::Ctrl('n') => edit.newer(host),
            Key::Alt('<') | Key::PageUp => edit.oldest(host),
            Key::Alt('>') | Key::PageDown => edit.newest(host),
            Key::Ctrl('k') => killed = Some((edit.line.kill_to_end(), false)),
            Key::Ctrl('u') => killed = Some((edit.line.kill_to_start(), true)),
            Key::Ctrl('w') => killed = Some((edit.line.kill_blank_word_back(), true)),
            Key::AltBackspace => killed = Some((edit.line.kill_word_back(), true)),
            Key::Alt('d') => killed = Some((edit.line.kill_word(), false)),
            Key::Ctrl('y') => edit.line.insert(&self.killed),
            Key::Ctrl('t') => edit.line.transpose(),
            Key::Alt('u') => edit.line.change_case(Case::Upper),
            Key::Alt('l') => edit.line.change_case(Case::Lower),
            Key::Alt('c') => edit.line.change_case(Case::Capital),
            Key::Alt('.') => edit.last_argument(host),
            Key::Ctrl('_') => {
                if let Some(line) = edit.undo.pop() {
                    edit.line = line;
                }
                return self.refresh(edit).map(|()| None);
            }
            Key::Ctrl('l') => {
                let again = edit.screen.again(edit.prompt);
                self.terminal.write(&format!("\x1b[H\x1b[2J{again}"))?;
            }
            Key::Ctrl('r') => {
                if let Some(outcome) = self.search(edit, host)? {
                    return Ok(Some(outcome));
                }
            }
            Key::Tab => self.complete(edit, host, after_tab)?,
            Key::Ctrl(_) | Key::Alt(_) => {}
        }
        if let Some((text, backwards)) = killed {
            edit.after_kill = true;
            match (after_kill, backwards) {
                (false, _) => self.killed = text,
                (true, true) => self.killed.insert_str(0, &text),
                (true, false) => self.killed.push_str(&text),
            }
        }
        if before.text() != edit.line.text() {
            edit.undo.push(before);
        }
        self.refresh(edit).map(|()| None)
    }

    fn refresh(&self, edit: &mut Edit<'_>) -> io::Result<()> {
        let shown = edit.screen.show(edit.line.text(), edit.line.cursor());
        self.terminal.write(&shown)
    }

    fn accept(&self, edit: &mut Edit<'_>) -> io::Result<Outcome> {
        let leave = edit.screen.leave();
        self.terminal.write(&format!("{leave}\n"))?;
        Ok(Outcome::Line(
            std::mem::take(&mut edit.line).text().to_owned(),
        ))
    }

    /// Ctrl-R: finds older lines that contain what is typed. Enter runs the
    /// line found, Ctrl-G goes back, any other key edits it.
    fn search(&mut self, edit: &mut Edit<'_>, host: &mut dyn Host) -> io::Result<Option<Outcome>> {
        let original = edit.line.clone();
        let mut pattern = String::new();
        let mut from = host.history_len();
        let mut keys = Decoder::default();
        let result = loop {
            let prompt = format!("(reverse-i-search)`{pattern}': ");
            let shown = edit
                .screen
                .show_with_prompt(&prompt, edit.line.text(), edit.line.cursor());
            self.terminal.write(&shown)?;
            let Some(key) = self.next_key(&mut keys)? else {
                break Some(None);
            };
            let start = match key {
                Key::Char(c) => {
                    pattern.push(c);
                    from + 1
                }
                Key::Backspace => {
                    pattern.pop();
                    host.history_len()
                }
                Key::Ctrl('r') => from,
                Key::Ctrl('g') => {
                    edit.line = original;
                    break None;
                }
                key => break Some(Some(key)),
            };
            let found = (0..start.min(host.history_len()))
                .rev()
                .find_map(|at| Some((at, host.history(at).filter(|l| l.contains(&pattern))?)));
            match found {
                Some((at, text)) => {
                    from = at;
                    edit.line = Line::new(text);
                }
                None => self.terminal.write("\x07")?,
            }
        };
        let last = edit.prompt.rsplit('\n').next().unwrap_or_default();
        let shown = edit
            .screen
            .show_with_prompt(last, edit.line.text(), edit.line.cursor());
        self.terminal.write(&shown)?;
        match result {
            Some(Some(Key::Ctrl('r'))) | None => Ok(None),
            Some(Some(key)) => self.handle(key, edit, host),
            Some(None) => Ok(Some(Outcome::EndOfInput)),
        }
    }

    /// Tab: inserts what all completions have in common; when that is nothing
    /// new, a second Tab lists them.
    fn complete(
        &mut self,
        edit: &mut Edit<'_>,
        host: &mut dyn Host,
        again: bool,
    ) -> io::Result<()> {
        let completions = host.complete(edit.line.text(), edit.line.cursor());
        let Some(common) = common_prefix(&completions.candidates) else {
            return self.terminal.write("\x07");
        };
        let current = edit
            .line
            .head()
            .get(completions.start..)
            .unwrap_or_default();
        let progress = common.len() > current.len() || completions.candidates.len() == 1;
        if progress {
            edit.line.replace_before_cursor(completions.start, common);
        } else if again {
            let leave = edit.screen.leave();
            let list = columns(&completions.labels, self.terminal.columns());
            self.terminal.write(&format!("{leave}\n{list}"))?;
            let shown = edit.screen.again(edit.prompt);
            self.terminal.write(&shown)?;
        } else {
            edit.after_tab = true;
            self.terminal.write("\x07")?;
        }
        Ok(())
    }
}

impl Edit<'_> {
    fn show_entry(&mut self, position: usize, host: &mut dyn Host) {
        let count = host.history_len();
        if self.position >= count {
            self.draft = self.line.clone();
        }
        if position >= count {
            self.line = self.draft.clone();
            self.position = count;
        } else if let Some(text) = host.history(position) {
            self.line = Line::new(text);
            self.position = position;
        }
    }

    fn older(&mut self, host: &mut dyn Host) {
        let position = self.position.min(host.history_len());
        if position > 0 {
            self.show_entry(position - 1, host);
        }
    }

    fn newer(&mut self, host: &mut dyn Host) {
        if self.position < host.history_len() {
            self.show_entry(self.position + 1, host);
        }
    }

    fn oldest(&mut self, host: &mut dyn Host) {
        if host.history_len() > 0 {
            self.show_entry(0, host);
        }
    }

    fn newest(&mut self, host: &mut dyn Host) {
        if self.position < host.history_len() {
            self.show_entry(usize::MAX, host);
        }
    }

    /// Inserts the last word of the last command.
    fn last_argument(&mut self, host: &mut dyn Host) {
        let count = host.history_len();
        let last = count.checked_sub(1).and_then(|at| host.history(at));
        if let Some(word) = last.as_deref().and_then(|l| l.split_whitespace().last()) {
            self.line.insert(word);
        }
    }
}

/// The longest prefix that all of `candidates` share; `None` without any.
fn common_prefix(candidates: &[String]) -> Option<&str> {
    let (first, rest) = candidates.split_first()?;
    let mut length = first.len();
    for other in rest {
        let same = first
            .char_indices()
            .zip(other.chars())
            .find(|((_, a), b)| a != b)
            .map_or(first.len().min(other.len()), |((at, _), _)| at);
        length = length.min(same);
    }
    Some(&first[..length])
}

/// Lays `labels` out in columns, top to bottom, as `ls` does.
fn columns(labels: &[String], width: usize) -> String {
    let widest = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0) + 2;
    let across = (width / widest).max(1);
    let rows = labels.len().div_ceil(across);
    let mut out = String::new();
    for row in 0..rows {
        let mut line = String::new();
        for label in labels.iter().skip(row).step_by(rows) {
            line.push_str(&format!("{label:widest$}"));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_of_all_candidates() {
        let of = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            common_prefix(&list).map(str::to_owned)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["été", "étude"]).as_deref(), Some("ét"));
        assert_eq!(of(&["a", "b"]).as_deref(), Some(""));
    }

    #[test]
    fn candidates_fill_columns_downwards() {
        let labels: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(columns(&labels, 7), "a  c\nb\n");
    }
}
