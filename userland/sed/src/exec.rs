//! Runs a script over its input.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::rc::Rc;

use oxbow_regex::{Group, Regex};

use crate::output::Output;
use crate::script::{Action, Address, Case, Command, Part, Substitution, When};
use crate::{path_of, reason};

pub struct Setup {
    pub quiet: bool,
    pub separate: bool,
    /// Change files in place, with the suffix of their copies.
    pub in_place: Option<Vec<u8>>,
    /// What ends lines.
    pub end: u8,
    pub unbuffered: bool,
    pub width: usize,
    pub posix: bool,
    pub utf8: bool,
}

/// What ends a run early: the message and the status.
pub struct Trouble(pub String, pub i32);

type Res<T> = Result<T, Trouble>;

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble(format!("couldn't write to output: {}", reason(&error)), 4)
    }
}

/// What a command does to the order of things.
enum Step {
    On,
    Jump(usize),
    /// Ends the cycle; whether the pattern space is printed.
    End(bool),
    /// Begins again with what is left in the pattern space.
    Again,
    Quit(bool),
}

/// What comes out at the end of a cycle.
enum Queued {
    Text(Vec<u8>),
    File(Vec<u8>),
    Line(Vec<u8>, bool),
}

pub struct Machine<'s> {
    script: &'s [Command],
    setup: &'s Setup,
    files: std::vec::IntoIter<Vec<u8>>,
    reader: Option<Box<dyn BufRead>>,
    name: Vec<u8>,
    /// A line read before it was asked for, to know whether there is one.
    ahead: Option<(Vec<u8>, bool)>,
    line_number: usize,
    pattern: Vec<u8>,
    /// The pattern space ends with a newline when printed.
    ended: bool,
    hold: Vec<u8>,
    hold_ended: bool,
    /// For each command with two addresses, whether it is inside, and the last line where that is known.
    ranges: Vec<Option<usize>>,
    /// Whether it has been inside before.
    begun: Vec<bool>,
    substituted: bool,
    last_regex: Option<Rc<Regex>>,
    queue: Vec<Queued>,
    stdout: Output,
    /// The file being changed in place: its new text, that text's place, its name.
    changing: Option<(Output, PathBuf, PathBuf)>,
    outputs: HashMap<Vec<u8>, Output>,
    lines: HashMap<Vec<u8>, Option<BufReader<File>>>,
    pub status: i32,
}

impl<'s> Machine<'s> {
    pub fn new(script: &'s [Command], setup: &'s Setup, files: Vec<Vec<u8>>) -> Res<Self> {
        let stdout = io::stdout();
        let unbuffered = setup.unbuffered || stdout.is_terminal();
        let stdout = File::from(stdout.as_fd().try_clone_to_owned()?);
        let mut machine = Machine {
            script,
            setup,
            files: files.into_iter(),
            reader: None,
            name: b"-".to_vec(),
            ahead: None,
            line_number: 0,
            pattern: Vec::new(),
            ended: true,
            hold: Vec::new(),
            hold_ended: true,
            ranges: Vec::new(),
            begun: Vec::new(),
            substituted: false,
            last_regex: None,
            queue: Vec::new(),
            stdout: Output::new(Box::new(stdout), setup.end, unbuffered),
            changing: None,
            outputs: HashMap::new(),
            lines: HashMap::new(),
            status: 0,
        };
        machine.reset_ranges();
        machine.open_outputs()?;
        Ok(machine)
    }

    fn reset_ranges(&mut self) {
        let begun = |command: &Command| {
            matches!(command.from, Some(Address::Line(0))).then_some(usize::MAX)
        };
        self.ranges = self.script.iter().map(begun).collect();
        self.begun = self.ranges.iter().map(Option::is_some).collect();
    }

    /// Files of `w` are there even if nothing is written.
    fn open_outputs(&mut self) -> Res<()> {
        for command in self.script {
            let name = match &command.action {
                Action::Write(name) | Action::WriteLine(name) => name,
                Action::Substitute(sub) => match &sub.file {
                    Some(name) => name,
                    None => continue,
                },
                _ => continue,
            };
            if self.outputs.contains_key(name) || name == b"/dev/stdout" {
                continue;
            }
            let output = match name.as_slice() {
                b"/dev/stderr" => Output::new(Box::new(io::stderr()), self.setup.end, true),
                _ => Output::file(path_of(name), self.setup.end).map_err(|error| {
                    let name = String::from_utf8_lossy(name);
                    Trouble(format!("couldn't open file {name}: {}", reason(&error)), 4)
                })?,
            };
            self.outputs.insert(name.clone(), output);
        }
        Ok(())
    }

    pub fn run(&mut self) -> Res<()> {
        let result = self.cycles();
        let finished = self.finish_file(result.is_ok());
        let flushed = self
            .stdout
            .flush()
            .map_err(|error| Trouble(format!("couldn't flush stdout: {}", reason(&error)), 4));
        result.and(finished).and(flushed)
    }

    fn cycles(&mut self) -> Res<()> {
        let mut fresh = true;
        loop {
            if fresh {
                match self.read_line()? {
                    Some((line, ended)) => {
                        self.pattern = line;
                        self.ended = ended;
                        self.substituted = false;
                    }
                    None => return Ok(()),
                }
            }
            fresh = true;
            match self.cycle()? {
                Step::Quit(print) => {
                    if print && !self.setup.quiet {
                        self.print()?;
                    }
                    if print {
                        self.flush_queue()?;
                    }
                    // In place, the rest of the file stays.
                    self.copy_rest()?;
                    return Ok(());
                }
                Step::Again => {
                    self.flush_queue()?;
                    fresh = false;
                }
                step => {
                    if !self.setup.quiet && !matches!(step, Step::End(false)) {
                        self.print()?;
                    }
                    self.flush_queue()?;
                }
            }
        }
    }

    fn copy_rest(&mut self) -> Res<()> {
        if self.changing.is_some() {
            while let Some((line, ended)) = self.line_of_file()? {
                self.out().line(&line, ended)?;
            }
        }
        Ok(())
    }

    fn cycle(&mut self) -> Res<Step> {
        let script = self.script;
        let mut at = 0;
        while let Some(command) = script.get(at) {
            let selected = self.selected(at)? != command.negated;
            if !selected {
                if let Action::Block(end) = command.action {
                    at = end;
                }
                at += 1;
                continue;
            }
            match self.execute(at)? {
                Step::On => at += 1,
                Step::Jump(to) => at = to,
                other => return Ok(other),
            }
        }
        Ok(Step::End(true))
    }

    // ---- input

    /// The next line of the input, of whichever file.
    fn read_line(&mut self) -> Res<Option<(Vec<u8>, bool)>> {
        loop {
            if let Some(line) = self.line_of_file()? {
                self.line_number += 1;
                return Ok(Some(line));
            }
            if !self.next_file()? {
                return Ok(None);
            }
        }
    }

    fn line_of_file(&mut self) -> Res<Option<(Vec<u8>, bool)>> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let mut line = Vec::new();
        match reader.read_until(self.setup.end, &mut line) {
            Ok(0) => {
                self.reader = None;
                Ok(None)
            }
            Ok(_) => {
                let ended = line.last() == Some(&self.setup.end);
                if ended {
                    line.pop();
                }
                Ok(Some((line, ended)))
            }
            Err(error) => {
                let name = String::from_utf8_lossy(&self.name);
                Err(Trouble(
                    format!("read error on {name}: {}", reason(&error)),
                    4,
                ))
            }
        }
    }

    fn next_file(&mut self) -> Res<bool> {
        self.finish_file(true)?;
        loop {
            let Some(name) = self.files.next() else {
                return Ok(false);
            };
            let shown = String::from_utf8_lossy(&name).into_owned();
            let standard = name == b"-" && self.setup.in_place.is_none();
            let opened: io::Result<Box<dyn BufRead>> = if standard {
                Ok(Box::new(io::stdin().lock()))
            } else {
                File::open(path_of(&name)).map(|file| {
                    Box::new(BufReader::with_capacity(64 * 1024, file)) as Box<dyn BufRead>
                })
            };
            let reader = match opened {
                Ok(reader) => reader,
                Err(error) => {
                    self.warn(&format!("can't read {shown}: {}", reason(&error)));
                    self.status = 2;
                    continue;
                }
            };
            if let Some(_suffix) = &self.setup.in_place {
                if !fs::metadata(path_of(&name)).is_ok_and(|m| m.is_file()) {
                    self.warn(&format!("couldn't edit {shown}: not a regular file"));
                    self.status = 4;
                    continue;
                }
                self.begin_change(&name)?;
            }
            self.reader = Some(reader);
            self.name = name;
            if self.setup.separate {
                self.line_number = 0;
                self.reset_ranges();
            }
            return Ok(true);
        }
    }

    fn begin_change(&mut self, name: &[u8]) -> Res<()> {
        let path = path_of(name).to_path_buf();
        let trouble = |what: &str, error: io::Error| {
            Trouble(format!("{what} {}: {}", path.display(), reason(&error)), 4)
        };
        let metadata = fs::metadata(&path).map_err(|e| trouble("couldn't edit", e))?;
        for attempt in 0..100 {
            let mut temporary = path.file_name().unwrap_or_default().to_os_string();
            temporary.push(format!(".sed{}-{attempt}", std::process::id()));
            let temporary = path.with_file_name(temporary);
            match File::create_new(&temporary) {
                Ok(file) => {
                    // Mode and owner as before; the owner is root's to keep.
                    let _ = file.set_permissions(metadata.permissions());
                    use std::os::unix::fs::MetadataExt;
                    let _ = std::os::unix::fs::fchown(
                        &file,
                        Some(metadata.uid()),
                        Some(metadata.gid()),
                    );
                    self.changing = Some((
                        Output::new(Box::new(file), self.setup.end, false),
                        temporary,
                        path,
                    ));
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(trouble("couldn't open temporary file for", error)),
            }
        }
        Err(Trouble(
            format!("couldn't open temporary file for {}", path.display()),
            4,
        ))
    }

    /// Puts the changed file in its place, or drops it.
    fn finish_file(&mut self, keep: bool) -> Res<()> {
        let Some((mut output, temporary, path)) = self.changing.take() else {
            return Ok(());
        };
        let written = output.flush();
        drop(output);
        if !keep || written.is_err() {
            let _ = fs::remove_file(&temporary);
            written?;
            return Ok(());
        }
        let suffix = self.setup.in_place.clone().unwrap_or_default();
        let moved = (|| {
            if !suffix.is_empty() {
                let copy = backup_name(&path, &suffix);
                // The name must not be free for a moment.
                let _ = fs::remove_file(&copy);
                fs::hard_link(&path, &copy).or_else(|_| fs::rename(&path, &copy))?;
            }
            fs::rename(&temporary, &path)
        })();
        moved.map_err(|error| {
            Trouble(
                format!("cannot rename {}: {}", temporary.display(), reason(&error)),
                4,
            )
        })
    }

    /// Whether this is the last line.
    fn is_last(&mut self) -> Res<bool> {
        loop {
            if self.ahead.is_some() {
                return Ok(false);
            }
            self.ahead = self.line_of_file()?;
            if self.ahead.is_some() {
                return Ok(false);
            }
            if self.setup.separate || !self.next_file()? {
                return Ok(true);
            }
        }
    }

    fn warn(&mut self, message: &str) {
        let _ = self.stdout.flush();
        eprintln!("sed: {message}");
    }

    // ---- addresses

    fn selected(&mut self, at: usize) -> Res<bool> {
        let script = self.script;
        let command = &script[at];
        let Some(from) = &command.from else {
            return Ok(true);
        };
        let Some(to) = &command.to else {
            return self.matches(from);
        };
        let line = self.line_number;
        if let Some(end) = self.ranges[at] {
            match to {
                Address::Line(_) | Address::Plus(_) | Address::Multiple(_) => {
                    if line >= end {
                        self.ranges[at] = None;
                    }
                    if line <= end {
                        return Ok(true);
                    }
                    // Lines were skipped; a new range may begin here.
                }
                _ => {
                    if self.matches(to)? {
                        self.ranges[at] = None;
                    }
                    return Ok(true);
                }
            }
        }
        // A line that no command saw (d, N) is made up for by the first one after it that lies in the range.
        let late = match (from, to) {
            (Address::Line(first), _) if line <= *first || self.begun[at] => false,
            (Address::Line(_), Address::Line(last)) => line <= *last,
            (Address::Line(_), _) => true,
            _ => false,
        };
        if !late && !self.matches(from)? {
            return Ok(false);
        }
        self.begun[at] = true;
        let end = match to {
            Address::Line(end) => *end,
            Address::Plus(count) => line + count,
            Address::Multiple(0) => line,
            Address::Multiple(step) => line.div_ceil(*step) * step,
            _ => usize::MAX,
        };
        self.ranges[at] = (end > line).then_some(end);
        Ok(true)
    }

    fn matches(&mut self, address: &Address) -> Res<bool> {
        Ok(match address {
            Address::Line(line) => self.line_number == *line,
            Address::Step(first, 0) => self.line_number == *first,
            Address::Step(first, step) => {
                self.line_number >= *first && (self.line_number - first).is_multiple_of(*step)
            }
            Address::Last => self.is_last()?,
            Address::Regex(regex) => self.regex(regex.as_ref())?.is_match(&self.pattern),
            Address::Plus(_) | Address::Multiple(_) => false,
        })
    }

    fn regex(&mut self, regex: Option<&Rc<Regex>>) -> Res<Rc<Regex>> {
        if let Some(regex) = regex {
            if !self
                .last_regex
                .as_ref()
                .is_some_and(|last| Rc::ptr_eq(last, regex))
            {
                self.last_regex = Some(regex.clone());
            }
            return Ok(regex.clone());
        }
        self.last_regex
            .clone()
            .ok_or_else(|| Trouble("no previous regular expression".to_owned(), 1))
    }

    // ---- commands

    /// Where the script's output goes.
    fn out(&mut self) -> &mut Output {
        match &mut self.changing {
            Some((output, ..)) => output,
            None => &mut self.stdout,
        }
    }

    fn print(&mut self) -> Res<()> {
        let pattern = std::mem::take(&mut self.pattern);
        let ended = self.ended;
        let result = self.out().line(&pattern, ended);
        self.pattern = pattern;
        Ok(result?)
    }

    fn flush_queue(&mut self) -> Res<()> {
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

    fn write_to(&mut self, name: &[u8], line: &[u8], ended: bool) -> Res<()> {
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

    fn execute(&mut self, at: usize) -> Res<Step> {
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

    /// No line is left, for n and N: also those of the files to come.
    fn is_last_of_all(&mut self) -> Res<bool> {
        if !self.is_last()? {
            return Ok(false);
        }
        Ok(!self.setup.separate || self.files.len() == 0)
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

    fn run_command(&mut self, command: &[u8]) -> Res<Vec<u8>> {
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

    fn substitute(&mut self, sub: &Substitution) -> Res<()> {
        let regex = self.regex(sub.regex.as_ref())?;
        let grouped = sub
            .replacement
            .iter()
            .any(|part| matches!(part, Part::Group(1..)));
        let text = &self.pattern;
        let mut out = Vec::new();
        let mut copied = 0;
        let mut from = 0;
        let mut count = 0;
        let mut changed = false;
        let mut last_end = None;
        while from <= text.len() {
            let groups: Vec<Group> = if grouped {
                match regex.captures(text, from) {
                    Some(groups) => groups,
                    None => break,
                }
            } else {
                match regex.find(text, from) {
                    Some(found) => vec![Some(found)],
                    None => break,
                }
            };
            let Some((start, end)) = groups[0] else {
                break;
            };
            let step = |at: usize| match text.get(at..).filter(|rest| !rest.is_empty()) {
                Some(rest) if self.setup.utf8 => at + oxbow_regex::char_len(rest),
                _ => at + 1,
            };
            // An empty match right behind another match is none.
            if start == end && last_end == Some(start) {
                from = step(end);
                last_end = None;
                continue;
            }
            count += 1;
            last_end = Some(end);
            from = if start == end { step(end) } else { end };
            if count < sub.number {
                continue;
            }
            out.extend_from_slice(&text[copied..start]);
            replace(&mut out, &sub.replacement, text, &groups);
            copied = end;
            changed = true;
            if !sub.global {
                break;
            }
        }
        if !changed {
            return Ok(());
        }
        out.extend_from_slice(&text[copied..]);
        self.pattern = out;
        self.substituted = true;
        if sub.execute {
            let command = std::mem::take(&mut self.pattern);
            self.pattern = self.run_command(&command)?;
            if self.pattern.last() == Some(&self.setup.end) {
                self.pattern.pop();
            }
        }
        for _ in 0..sub.print {
            self.print()?;
        }
        if let Some(name) = &sub.file {
            let line = std::mem::take(&mut self.pattern);
            let result = self.write_to(name, &line, self.ended);
            self.pattern = line;
            result?;
        }
        Ok(())
    }
}

fn backup_name(path: &Path, suffix: &[u8]) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut copy = Vec::new();
    if suffix.contains(&b'*') {
        for byte in suffix {
            match byte {
                b'*' => copy.extend_from_slice(name),
                other => copy.push(*other),
            }
        }
    } else {
        copy.extend_from_slice(name);
        copy.extend_from_slice(suffix);
    }
    let copy = std::ffi::OsString::from_vec(copy);
    if suffix.contains(&b'/') {
        copy.into()
    } else {
        path.with_file_name(copy)
    }
}

/// Appends what a match is replaced by.
fn replace(out: &mut Vec<u8>, parts: &[Part], text: &[u8], groups: &[Group]) {
    let mut case = Case::End;
    let mut next = Case::End;
    for part in parts {
        let piece = match part {
            Part::Text(piece) => piece.as_slice(),
            Part::Group(number) => match groups.get(*number).copied().flatten() {
                Some((from, to)) => &text[from..to],
                None => continue,
            },
            Part::Case(change) => {
                match change {
                    Case::UpperNext | Case::LowerNext => next = *change,
                    other => {
                        case = *other;
                        next = Case::End;
                    }
                }
                continue;
            }
        };
        if case == Case::End && next == Case::End {
            out.extend_from_slice(piece);
            continue;
        }
        if piece.is_empty() {
            continue;
        }
        let first = oxbow_regex::char_len(piece);
        let (head, tail) = piece.split_at(if next == Case::End { 0 } else { first });
        out.extend_from_slice(&in_case(head, next));
        out.extend_from_slice(&in_case(tail, case));
        next = Case::End;
    }
}

fn in_case(piece: &[u8], case: Case) -> Vec<u8> {
    let upper = match case {
        Case::Upper | Case::UpperNext => true,
        Case::Lower | Case::LowerNext => false,
        Case::End => return piece.to_vec(),
    };
    match std::str::from_utf8(piece) {
        Ok(text) if upper => text.to_uppercase().into_bytes(),
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) if upper => piece.to_ascii_uppercase(),
        Err(_) => piece.to_ascii_lowercase(),
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
