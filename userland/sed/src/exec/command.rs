//! What commands do to the line and the held text, and what they put out.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command as Process, Stdio};

use super::{Machine, Queued, Res, Step, Trouble};
use crate::output::Output;
use crate::script::{Action, When};
use crate::{path_of, reason};

impl<'s> Machine<'s> {
    /// Where the script's output goes.
    pub(super) fn out(&mut self) -> &mut Output {
        match &mut self.changing {
            Some((output, ..)) => output,
            None => &mut self.stdout,
        }
    }

    pub(super) fn print(&mut self) -> Res<()> {
        let pattern = std::mem::take(&mut self.pattern);
        let ended = self.ended;
        let result = self.out().line(&pattern, ended);
        self.pattern = pattern;
        Ok(result?)
    }

    pub(super) fn flush_queue(&mut self) -> Res<()> {
        for item in std::mem::take(&mut self.queue) {
            match item {
                Queued::Text(text) => self.out().text(&text)?,
                Queued::Line(line, ended) => self.out().line(&line, ended)?,
                Queued::File(name) => {
                    let text = if name == b"/dev/stdin" {
                        let mut text = Vec::new();
                        let _ = io::stdin().read_to_end(&mut text);
                        text
                    } else {
                        // A file that cannot be read is an empty one.
                        fs::read(path_of(&name)).unwrap_or_default()
                    };
                    self.out().text(&text)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn write_to(&mut self, name: &[u8], line: &[u8], ended: bool) -> Res<()> {
        match self.outputs.get_mut(name) {
            Some(output) => output.line(line, ended)?,
            None => self.stdout.line(line, ended)?,
        }
        Ok(())
    }

    fn first_line(&self) -> &[u8] {
        let end = memchr::memchr(b'\n', &self.pattern).unwrap_or(self.pattern.len());
        &self.pattern[..end]
    }

    pub(super) fn execute(&mut self, at: usize) -> Res<Step> {
        let script = self.script;
        match &script[at].action {
            Action::Nothing | Action::Block(_) => {}
            Action::Append(text) => self.queue.push(Queued::Text(text.clone())),
            Action::Insert(text) => self.out().text(text)?,
            Action::Change(text) => {
                // Of a range, once, at its end.
                let inside =
                    script[at].to.is_some() && !script[at].negated && self.ranges[at].is_some();
                if !inside || self.is_last()? {
                    self.out().text(text)?;
                }
                return Ok(Step::End(false));
            }
            Action::Branch(when, to) => {
                let jumps = match when {
                    When::Always => true,
                    When::Substituted => std::mem::take(&mut self.substituted),
                    When::NotSubstituted => !std::mem::take(&mut self.substituted),
                };
                if jumps {
                    return Ok(Step::Jump(*to));
                }
            }
            Action::Delete => return Ok(Step::End(false)),
            Action::DeleteLine => {
                let Some(end) = memchr::memchr(b'\n', &self.pattern) else {
                    return Ok(Step::End(false));
                };
                self.pattern.drain(..=end);
                return Ok(Step::Again);
            }
            Action::Execute(command) if command.is_empty() => {
                let command = std::mem::take(&mut self.pattern);
                self.pattern = self.run_command(&command)?;
                if self.pattern.last() == Some(&self.setup.end) {
                    self.pattern.pop();
                }
            }
            Action::Execute(command) => {
                let output = self.run_command(command)?;
                self.out().text(&output)?;
            }
            Action::FileName => {
                let name = self.name.clone();
                self.out().line(&name, true)?;
            }
            Action::Get => self.pattern.clone_from(&self.hold),
            Action::GetAppend => {
                self.pattern.push(self.setup.end);
                self.pattern.extend_from_slice(&self.hold);
            }
            Action::Hold => self.hold.clone_from(&self.pattern),
            Action::HoldAppend => {
                self.hold.push(self.setup.end);
                self.hold.extend_from_slice(&self.pattern);
            }
            Action::List(width) => {
                let text = listed(&self.pattern, width.unwrap_or(self.setup.width));
                self.out().text(&text)?;
            }
            Action::Next => {
                let last = self.is_last_of_all()?;
                if last && self.setup.posix {
                    return Ok(Step::Quit(false));
                }
                if last {
                    return Ok(Step::Quit(true));
                }
                if !self.setup.quiet {
                    self.print()?;
                }
                self.flush_queue()?;
                if let Some((line, ended)) = self.read_line()? {
                    self.pattern = line;
                    self.ended = ended;
                }
            }
            Action::NextAppend => {
                if self.is_last_of_all()? {
                    return Ok(Step::Quit(!self.setup.posix));
                }
                self.flush_queue()?;
                if let Some((line, ended)) = self.read_line()? {
                    self.pattern.push(self.setup.end);
                    self.pattern.extend_from_slice(&line);
                    self.ended = ended;
                }
            }
            Action::Print => self.print()?,
            Action::PrintLine => {
                let line = self.first_line().to_vec();
                self.out().line(&line, true)?;
            }
            Action::Quit { status, print } => {
                self.status = *status;
                return Ok(Step::Quit(*print));
            }
            Action::Read(name) => self.queue.push(Queued::File(name.clone())),
            Action::ReadLine(name) => self.queue_line(name),
            Action::Substitute(sub) => self.substitute(sub)?,
            Action::Write(name) => {
                let line = std::mem::take(&mut self.pattern);
                let result = self.write_to(name, &line, self.ended);
                self.pattern = line;
                result?;
            }
            Action::WriteLine(name) => {
                let line = self.first_line().to_vec();
                self.write_to(name, &line, true)?;
            }
            Action::Exchange => {
                std::mem::swap(&mut self.pattern, &mut self.hold);
                std::mem::swap(&mut self.ended, &mut self.hold_ended);
            }
            Action::Translate(map) => {
                let mut out = Vec::with_capacity(self.pattern.len());
                let mut at = 0;
                while at < self.pattern.len() {
                    let length = if self.setup.utf8 {
                        oxbow_regex::char_len(&self.pattern[at..])
                    } else {
                        1
                    };
                    let character = &self.pattern[at..at + length];
                    out.extend_from_slice(map.get(character).map_or(character, |to| to));
                    at += length;
                }
                self.pattern = out;
            }
            Action::Zap => self.pattern.clear(),
            Action::LineNumber => {
                let number = format!("{}\n", self.line_number);
                self.out().text(number.as_bytes())?;
            }
        }
        Ok(Step::On)
    }

    fn queue_line(&mut self, name: &[u8]) {
        let reader = self
            .lines
            .entry(name.to_vec())
            .or_insert_with(|| File::open(path_of(name)).ok().map(BufReader::new));
        let mut line = Vec::new();
        if let Some(reader) = reader
            && reader
                .read_until(self.setup.end, &mut line)
                .is_ok_and(|count| count > 0)
        {
            let ended = line.last() == Some(&self.setup.end);
            if ended {
                line.pop();
            }
            self.queue.push(Queued::Line(line, ended));
        }
    }

    pub(super) fn run_command(&mut self, command: &[u8]) -> Res<Vec<u8>> {
        self.out().flush()?;
        let output = Process::new("sh")
            .arg("-c")
            .arg(path_of(command))
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output();
        output
            .map(|output| output.stdout)
            .map_err(|error| Trouble(format!("couldn't run command: {}", reason(&error)), 4))
    }
}

/// What `l` shows: escapes for what cannot be seen, in lines of `width` columns.
fn listed(text: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut column = 0;
    for byte in text {
        let shown = match byte {
            b'\\' => "\\\\".to_owned(),
            7 => "\\a".to_owned(),
            8 => "\\b".to_owned(),
            12 => "\\f".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\r' => "\\r".to_owned(),
            b'\t' => "\\t".to_owned(),
            11 => "\\v".to_owned(),
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\{byte:03o}"),
        };
        if width > 1 && column + shown.len() > width - 1 {
            out.extend_from_slice(b"\\\n");
            column = 0;
        }
        column += shown.len();
        out.extend_from_slice(shown.as_bytes());
    }
    out.extend_from_slice(b"$\n");
    out
}
