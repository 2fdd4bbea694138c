//! Runs a script over the input, line after line. Here: the state of a run, and the cycle that takes a line, lets the
//! commands work on it and prints it. `input` reads, `address` selects, `command` does.

mod address;
mod command;
mod in_place;
mod input;
mod substitute;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;

use crate::output::Output;
use crate::script::{Action, Address, Command};
use crate::{path_of, reason};
use oxbow_regex::Regex;

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
}
