//! The script: from text to a list of commands. Blocks and labels become places in that list.

use std::collections::HashMap;
use std::rc::Rc;

use oxbow_regex::{Flavor, Regex, byte_escape};

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

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip(&mut self, what: fn(u8) -> bool) {
        while self.peek().is_some_and(what) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        self.skip(|b| matches!(b, b' ' | b'\t' | b'\r' | 11 | 12));
    }

    fn number(&mut self) -> Option<usize> {
        let start = self.at;
        self.skip(|b| b.is_ascii_digit());
        let digits = &self.text[start..self.at];
        if digits.is_empty() {
            return None;
        }
        Some(digits.iter().fold(0usize, |n, b| {
            n.saturating_mul(10).saturating_add(usize::from(b - b'0'))
        }))
    }

    fn whole(&mut self) -> Res<()> {
        loop {
            self.skip(|b| b.is_ascii_whitespace() || b == b';');
            if self.peek().is_none() {
                break;
            }
            self.command()?;
        }
        if !self.blocks.is_empty() {
            self.at = 0;
            return fail("unmatched `{'");
        }
        for (command, label) in std::mem::take(&mut self.jumps) {
            let place = match self.labels.get(&label) {
                Some(place) => *place,
                None => {
                    self.at = usize::MAX;
                    return fail(format!(
                        "can't find label for jump to `{}'",
                        String::from_utf8_lossy(&label)
                    ));
                }
            };
            if let Action::Branch(_, target) = &mut self.commands[command].action {
                *target = place;
            }
        }
        Ok(())
    }

    fn address(&mut self) -> Res<Option<Address>> {
        let Some(byte) = self.peek() else {
            return Ok(None);
        };
        match byte {
            b'0'..=b'9' => {
                let first = self.number().unwrap_or(0);
                self.skip_blanks();
                if self.take(b'~') {
                    self.skip_blanks();
                    return Ok(Some(Address::Step(first, self.number().unwrap_or(0))));
                }
                Ok(Some(Address::Line(first)))
            }
            b'$' => {
                self.at += 1;
                Ok(Some(Address::Last))
            }
            b'/' | b'\\' => {
                self.at += 1;
                let delimiter = if byte == b'/' {
                    b'/'
                } else {
                    let delimiter = self.peek().filter(|b| !matches!(b, b'\n' | b'\\'));
                    self.at += 1;
                    delimiter.ok_or("unterminated address regex")?
                };
                let source = self
                    .delimited(delimiter, true)?
                    .ok_or("unterminated address regex")?;
                let mut options = self.options();
                loop {
                    match self.peek() {
                        Some(b'I') => options.ignore_case = true,
                        Some(b'M') => options.lines = !self.settings.null_data,
                        _ => break,
                    }
                    self.at += 1;
                }
                Ok(Some(Address::Regex(self.regex(&source, options)?)))
            }
            _ => Ok(None),
        }
    }

    fn options(&self) -> oxbow_regex::Options {
        oxbow_regex::Options {
            utf8: self.settings.utf8,
            ..oxbow_regex::Options::default()
        }
    }

    fn regex(&self, source: &[u8], options: oxbow_regex::Options) -> Res<Option<Rc<Regex>>> {
        if source.is_empty() {
            return Ok(None);
        }
        let flavor = if self.settings.extended {
            Flavor::Extended
        } else {
            Flavor::Basic
        };
        Regex::new(source, flavor, options).map(|regex| Some(Rc::new(regex)))
    }

    /// Text up to an unescaped `delimiter`, which loses its backslashes. None where it does not end.
    fn delimited(&mut self, delimiter: u8, regex: bool) -> Res<Option<Vec<u8>>> {
        let mut out = Vec::new();
        loop {
            let Some(byte) = self.peek() else {
                return Ok(None);
            };
            if byte == delimiter {
                self.at += 1;
                return Ok(Some(out));
            }
            match byte {
                b'\\' => {
                    self.at += 1;
                    let Some(next) = self.peek() else {
                        return Ok(None);
                    };
                    if next == delimiter {
                        // What would be an operator with its backslash is itself with the delimiter's.
                        out.push(next);
                    } else if next == b'\n' && regex {
                        out.push(b'\n');
                    } else {
                        out.extend([b'\\', next]);
                    }
                    self.at += 1;
                }
                b'\n' if regex => return Ok(None),
                b'[' if regex => {
                    let length = bracket_length(&self.text[self.at..]);
                    out.extend_from_slice(&self.text[self.at..self.at + length]);
                    self.at += length;
                }
                _ => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn command(&mut self) -> Res<()> {
        let from = self.address()?;
        let mut to = None;
        self.skip_blanks();
        if from.is_some() && self.take(b',') {
            self.skip_blanks();
            to = if self.take(b'+') {
                Some(Address::Plus(
                    self.number().ok_or("expected a number after `+'")?,
                ))
            } else if self.take(b'~') {
                Some(Address::Multiple(self.number().unwrap_or(0)))
            } else {
                self.address()?
            };
            if to.is_none() {
                self.at += 1;
                return fail("unexpected `,'");
            }
        }
        if matches!(from, Some(Address::Line(0))) && !matches!(to, Some(Address::Regex(_))) {
            self.at += 1;
            return fail("invalid usage of line address 0");
        }
        self.skip_blanks();
        let mut negated = false;
        while self.take(b'!') {
            negated = true;
            self.skip_blanks();
        }
        let Some(name) = self.peek().filter(|b| *b != b'\n') else {
            return fail("missing command");
        };
        self.at += 1;
        let addresses = usize::from(from.is_some()) + usize::from(to.is_some());
        let index = self.commands.len();
        self.commands.push(Command {
            from,
            to,
            negated,
            action: Action::Nothing,
        });
        let action = self.action(name, addresses, index)?;
        self.commands[index].action = action;
        Ok(())
    }

    fn action(&mut self, name: u8, addresses: usize, index: usize) -> Res<Action> {
        let simple = match name {
            b'{' => {
                self.blocks.push(index);
                return Ok(Action::Block(0));
            }
            b'}' => {
                if addresses > 0 {
                    return fail("} doesn't want any addresses");
                }
                let Some(open) = self.blocks.pop() else {
                    return fail("unexpected `}'");
                };
                self.commands[open].action = Action::Block(index);
                Action::Nothing
            }
            b'#' => {
                if addresses > 0 {
                    return fail("comments don't accept any addresses");
                }
                self.skip(|b| b != b'\n');
                return Ok(Action::Nothing);
            }
            b':' => {
                if addresses > 0 {
                    return fail(": doesn't want any addresses");
                }
                let label = self.label();
                if label.is_empty() {
                    return fail("\":\" lacks a label");
                }
                self.labels.insert(label, index);
                return Ok(Action::Nothing);
            }
            b'a' | b'i' | b'c' => {
                let text = self.text_argument();
                return Ok(match name {
                    b'a' => Action::Append(text),
                    b'i' => Action::Insert(text),
                    _ => Action::Change(text),
                });
            }
            b'b' | b't' | b'T' => {
                let when = match name {
                    b'b' => When::Always,
                    b't' => When::Substituted,
                    _ => When::NotSubstituted,
                };
                let label = self.label();
                if !label.is_empty() {
                    self.jumps.push((index, label));
                }
                Action::Branch(when, usize::MAX)
            }
            b'r' | b'R' | b'w' | b'W' => {
                self.sandboxed()?;
                let file = self.rest_of_line();
                if file.is_empty() {
                    return fail("missing filename in r/R/w/W commands");
                }
                return Ok(match name {
                    b'r' => Action::Read(file),
                    b'R' => Action::ReadLine(file),
                    b'w' => Action::Write(file),
                    _ => Action::WriteLine(file),
                });
            }
            b'e' => {
                self.sandboxed()?;
                return Ok(Action::Execute(self.rest_of_line()));
            }
            b's' => return self.substitution(),
            b'y' => self.translation()?,
            b'q' | b'Q' => {
                if addresses > 1 {
                    return fail("command only uses one address");
                }
                self.skip_blanks();
                let status = self.number().unwrap_or(0);
                Action::Quit {
                    status: (status & 255) as i32,
                    print: name == b'q',
                }
            }
            b'l' | b'L' => {
                self.skip_blanks();
                Action::List(self.number())
            }
            b'd' => Action::Delete,
            b'D' => Action::DeleteLine,
            b'F' => Action::FileName,
            b'g' => Action::Get,
            b'G' => Action::GetAppend,
            b'h' => Action::Hold,
            b'H' => Action::HoldAppend,
            b'n' => Action::Next,
            b'N' => Action::NextAppend,
            b'p' => Action::Print,
            b'P' => Action::PrintLine,
            b'x' => Action::Exchange,
            b'z' => Action::Zap,
            b'=' => Action::LineNumber,
            _ => return fail(format!("unknown command: `{}'", char::from(name))),
        };
        self.ended()?;
        Ok(simple)
    }

    fn sandboxed(&self) -> Res<()> {
        match self.settings.sandbox {
            true => fail("e/r/w commands disabled in sandbox mode"),
            false => Ok(()),
        }
    }

    /// Nothing but `;`, `}`, `#` or a newline may follow.
    fn ended(&mut self) -> Res<()> {
        self.skip_blanks();
        match self.peek() {
            None | Some(b'\n' | b';' | b'}' | b'#') => Ok(()),
            Some(_) => {
                self.at += 1;
                fail("extra characters after command")
            }
        }
    }

    fn label(&mut self) -> Vec<u8> {
        self.skip_blanks();
        let start = self.at;
        self.skip(|b| !b.is_ascii_whitespace() && b != b';' && b != b'}');
        self.text[start..self.at].to_vec()
    }

    fn rest_of_line(&mut self) -> Vec<u8> {
        self.skip_blanks();
        let start = self.at;
        self.skip(|b| b != b'\n');
        self.text[start..self.at].to_vec()
    }

    /// The text of a, i and c, in the old form after `\` and newline or on the line of the command.
    fn text_argument(&mut self) -> Vec<u8> {
        self.skip_blanks();
        if self.take(b'\\') {
            let line = self.at;
            self.skip_blanks();
            if !self.take(b'\n') {
                self.at = line;
            } else if self.peek().is_none() {
                return Vec::new();
            }
        }
        let mut out = Vec::new();
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\n' => break,
                b'\\' => {
                    let rest = &self.text[self.at..];
                    // A backslash at the very end of the script is none.
                    if rest == b"\n" {
                        self.at += 1;
                        if out.is_empty() {
                            return out;
                        }
                    } else if let Some((escaped, used)) =
                        byte_escape(rest, false).filter(|_| !out.is_empty())
                    {
                        out.push(escaped);
                        self.at += used;
                    } else if let Some(next) = self.peek() {
                        out.push(next);
                        self.at += 1;
                    }
                }
                _ => out.push(byte),
            }
        }
        out.push(b'\n');
        out
    }

    fn substitution(&mut self) -> Res<Action> {
        let unterminated = "unterminated `s' command";
        let delimiter = self
            .peek()
            .filter(|b| !matches!(b, b'\n' | b'\\'))
            .ok_or(unterminated)?;
        self.at += 1;
        let result = self.delimited(delimiter, true)?;
        let Some(source) = result else {
            self.at = self.at.max(1);
            return fail(unterminated);
        };
        let Some(replacement) = self.delimited_replacement(delimiter) else {
            return fail(unterminated);
        };
        let mut options = self.options();
        let mut sub = Substitution {
            regex: None,
            replacement,
            number: 1,
            global: false,
            print: 0,
            execute: false,
            file: None,
        };
        let mut numbered = false;
        while let Some(flag) = self.peek() {
            match flag {
                b'g' if sub.global => {
                    self.at += 1;
                    return fail("multiple `g' options to `s' command");
                }
                b'g' => sub.global = true,
                b'p' => sub.print += 1,
                b'i' | b'I' => options.ignore_case = true,
                // Where lines end with NUL, no line ends inside one.
                b'm' | b'M' => options.lines = !self.settings.null_data,
                b'e' => {
                    self.sandboxed()?;
                    sub.execute = true;
                }
                b'0'..=b'9' => {
                    if std::mem::replace(&mut numbered, true) {
                        return fail("multiple number options to `s' command");
                    }
                    sub.number = self.number().unwrap_or(0);
                    if sub.number == 0 {
                        return fail("number option to `s' command may not be zero");
                    }
                    continue;
                }
                b'w' => {
                    self.sandboxed()?;
                    self.at += 1;
                    let file = self.rest_of_line();
                    if file.is_empty() {
                        return fail("missing filename in r/R/w/W commands");
                    }
                    sub.file = Some(file);
                    break;
                }
                _ if flag.is_ascii_whitespace() || matches!(flag, b';' | b'}' | b'#') => break,
                _ => {
                    self.at += 1;
                    return fail("unknown option to `s'");
                }
            }
            self.at += 1;
        }
        sub.regex = self.regex(&source, options)?;
        let most = sub
            .replacement
            .iter()
            .map(|part| if let Part::Group(n) = part { *n } else { 0 })
            .max()
            .unwrap_or(0);
        if let Some(regex) = &sub.regex
            && most > regex.groups()
        {
            return fail(format!("invalid reference \\{most} on `s' command's RHS"));
        }
        self.ended()?;
        Ok(Action::Substitute(Box::new(sub)))
    }

    fn delimited_replacement(&mut self, delimiter: u8) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            let part = match byte {
                _ if byte == delimiter => break,
                b'&' => Part::Group(0),
                // The script ends with a newline of ours.
                b'\n' if self.at == self.text.len() => return None,
                b'\\' => {
                    let next = self.peek()?;
                    if next != delimiter
                        && next != b'&'
                        && let Some((escaped, used)) = byte_escape(&self.text[self.at..], false)
                    {
                        text.push(escaped);
                        self.at += used;
                        continue;
                    }
                    self.at += 1;
                    match next {
                        _ if next == delimiter => {
                            text.push(next);
                            continue;
                        }
                        b'0'..=b'9' => Part::Group(usize::from(next - b'0')),
                        b'U' => Part::Case(Case::Upper),
                        b'L' => Part::Case(Case::Lower),
                        b'u' => Part::Case(Case::UpperNext),
                        b'l' => Part::Case(Case::LowerNext),
                        b'E' => Part::Case(Case::End),
                        _ => {
                            text.push(next);
                            continue;
                        }
                    }
                }
                _ => {
                    text.push(byte);
                    continue;
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Some(parts)
    }

    fn translation(&mut self) -> Res<Action> {
        let unterminated = "unterminated `y' command";
        let delimiter = self
            .peek()
            .filter(|b| !matches!(b, b'\n' | b'\\'))
            .ok_or(unterminated)?;
        self.at += 1;
        let from = self.delimited(delimiter, false)?.ok_or(unterminated)?;
        let to = self.delimited(delimiter, false)?.ok_or(unterminated)?;
        let (from, to) = (self.characters(&from)?, self.characters(&to)?);
        if from.len() != to.len() {
            return fail("strings for `y' command are different lengths");
        }
        let mut map = HashMap::new();
        for (from, to) in from.into_iter().zip(to) {
            map.entry(from).or_insert(to);
        }
        Ok(Action::Translate(map))
    }

    fn characters(&self, text: &[u8]) -> Res<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if text[at] == b'\\' {
                if let Some((byte, used)) = byte_escape(&text[at + 1..], false) {
                    all.push(vec![byte]);
                    at += 1 + used;
                    continue;
                }
                if text.get(at + 1) == Some(&b'\\') {
                    at += 1;
                }
            }
            let length = if self.settings.utf8 {
                oxbow_regex::char_len(&text[at..])
            } else {
                1
            };
            all.push(text[at..at + length].to_vec());
            at += length;
        }
        Ok(all)
    }
}

/// Bytes of the bracket expression that `text` begins with; 1 if it is not closed on its line.
fn bracket_length(text: &[u8]) -> usize {
    let mut at = 1 + usize::from(text.get(1) == Some(&b'^'));
    at += usize::from(text.get(at) == Some(&b']'));
    while let Some(byte) = text.get(at) {
        match byte {
            b'\n' => return 1,
            b']' => return at + 1,
            b'[' if matches!(text.get(at + 1), Some(b':' | b'.' | b'=')) => {
                let kind = text[at + 1];
                match text[at + 2..].windows(2).position(|w| w == [kind, b']']) {
                    Some(end) => at += 2 + end + 2,
                    None => at += 1,
                }
            }
            _ => at += 1,
        }
    }
    1
}
