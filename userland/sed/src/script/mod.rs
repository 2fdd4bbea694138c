//! The script: from text to a list of commands. Blocks and labels become places in that list. Here: what commands are
//! made of, and the parser; its modules read one part of a command each.

mod address;
mod command;
mod cursor;
mod substitution;

use std::collections::HashMap;
use std::rc::Rc;

use oxbow_regex::Regex;

/// What is wrong with a script, with where (`-e expression #1, char 5`).
pub type Res<T> = Result<T, String>;

#[derive(Debug)]
pub enum Address {
    Line(usize),
    /// First and step, as `0~4`.
    Step(usize, usize),
    Last,
    /// None is the last expression used.
    Regex(Option<Rc<Regex>>),
    /// As second address: so many lines after the first.
    Plus(usize),
    /// As second address: up to the next multiple.
    Multiple(usize),
}

#[derive(Debug)]
pub struct Command {
    pub from: Option<Address>,
    pub to: Option<Address>,
    pub negated: bool,
    pub action: Action,
}

#[derive(Debug)]
pub enum Action {
    /// `}`, `:label` and the like.
    Nothing,
    /// `{`: where the block ends.
    Block(usize),
    Append(Vec<u8>),
    Insert(Vec<u8>),
    Change(Vec<u8>),
    /// b, t, T: the place in the list, past its end where there is no label.
    Branch(When, usize),
    Delete,
    DeleteLine,
    Execute(Vec<u8>),
    FileName,
    Get,
    GetAppend,
    Hold,
    HoldAppend,
    List(Option<usize>),
    Next,
    NextAppend,
    Print,
    PrintLine,
    Quit {
        status: i32,
        print: bool,
    },
    Read(Vec<u8>),
    ReadLine(Vec<u8>),
    Substitute(Box<Substitution>),
    Write(Vec<u8>),
    WriteLine(Vec<u8>),
    Exchange,
    Translate(HashMap<Vec<u8>, Vec<u8>>),
    Zap,
    LineNumber,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    Substituted,
    NotSubstituted,
}

#[derive(Debug)]
pub struct Substitution {
    pub regex: Option<Rc<Regex>>,
    pub replacement: Vec<Part>,
    /// From which match on.
    pub number: usize,
    pub global: bool,
    pub print: usize,
    pub execute: bool,
    pub file: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(Vec<u8>),
    /// A group; 0 is all that matched.
    Group(usize),
    Case(Case),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Upper,
    Lower,
    UpperNext,
    LowerNext,
    End,
}

/// A piece of the script and what messages call it.
pub struct Source {
    pub text: Vec<u8>,
    /// The file it is from; None for an argument.
    pub file: Option<String>,
}

pub struct Settings {
    pub extended: bool,
    pub utf8: bool,
    pub sandbox: bool,
    pub null_data: bool,
}

pub fn parse(sources: &[Source], settings: &Settings) -> Res<Vec<Command>> {
    let mut text = Vec::new();
    let mut starts = Vec::new();
    for source in sources {
        starts.push(text.len());
        text.extend_from_slice(&source.text);
        if text.last() != Some(&b'\n') || source.file.is_none() {
            text.push(b'\n');
        }
    }
    let mut parser = Parser {
        text: &text,
        at: 0,
        settings,
        commands: Vec::new(),
        blocks: Vec::new(),
        labels: HashMap::new(),
        jumps: Vec::new(),
    };
    parser.whole().map_err(|message| {
        if parser.at > text.len() {
            return message;
        }
        let piece = starts
            .iter()
            .rposition(|start| *start < parser.at.max(1))
            .unwrap_or(0);
        let inside = &text[starts[piece]..parser.at.max(starts[piece])];
        match &sources[piece].file {
            Some(name) => {
                let line = inside
                    .strip_suffix(b"\n")
                    .unwrap_or(inside)
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count()
                    + 1;
                format!("file {name} line {line}: {message}")
            }
            None => {
                let number = sources[..=piece]
                    .iter()
                    .filter(|s| s.file.is_none())
                    .count();
                let place = inside.len().min(sources[piece].text.len());
                format!("-e expression #{number}, char {place}: {message}")
            }
        }
    })?;
    Ok(parser.commands)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    settings: &'a Settings,
    commands: Vec<Command>,
    /// Open blocks.
    blocks: Vec<usize>,
    labels: HashMap<Vec<u8>, usize>,
    jumps: Vec<(usize, Vec<u8>)>,
}

fn fail<T>(message: impl Into<String>) -> Res<T> {
    Err(message.into())
}
