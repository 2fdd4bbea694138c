//! Records: of the main input, which is the files that the arguments name one after another, and of what getline reads.
//! How bytes become records is in `crate::io`.

use std::io;
use std::rc::Rc;

use super::{Cell, Interp, Main, Res};
use crate::ast::*;
use crate::io::{Input, Separator, reason};
use crate::value::{Str, Value, input, text};

impl<'p> Interp<'p> {
    pub(super) fn after_file(&self) -> Main {
        match self.main {
            Main::Ended => Main::Ended,
            _ => Main::NotBegun,
        }
    }

    /// Reads the next record of the main input into $0.
    pub(super) fn next_record(&mut self) -> Res<bool> {
        let mut next = std::mem::take(&mut self.next);
        let found = self.next_into(&mut next);
        // At the end the last record stays, for END.
        self.next = match found {
            Ok(true) => self.record.replace(next),
            _ => next,
        };
        found
    }

    fn next_into(&mut self, record: &mut Vec<u8>) -> Res<bool> {
        let mut terminator = std::mem::take(&mut self.terminator);
        let found = loop {
            let read = match &mut self.main {
                Main::Ended => break false,
                Main::NotBegun => {
                    if !self.next_file()? {
                        self.main = Main::Ended;
                    }
                    continue;
                }
                Main::Stdin => self.stdin().and_then(|(input, separator)| {
                    input.record(&separator, record, &mut terminator)
                }),
                Main::File(input) => input.record(&self.separator, record, &mut terminator),
            };
            match read {
                Ok(true) => {
                    self.nr += 1.0;
                    self.fnr += 1.0;
                    break true;
                }
                Ok(false) => self.main = Main::NotBegun,
                Err(error) => {
                    self.warn(format!("read error: {}", reason(&error)));
                    self.status = 2;
                    self.main = Main::NotBegun;
                }
            }
        };
        self.set_terminator(&terminator);
        self.terminator = terminator;
        Ok(found)
    }

    fn set_terminator(&mut self, terminator: &[u8]) {
        if let Cell::Scalar(Value::Str(old)) = &self.globals[RT]
            && old.as_slice() == terminator
        {
            return;
        }
        self.globals[RT] = Cell::Scalar(text(terminator));
    }

    /// Standard input, which the main input and getline share.
    fn stdin(&mut self) -> io::Result<(&mut Input, Rc<Separator>)> {
        if !self.inputs.contains_key(b"-".as_slice()) {
            self.inputs.insert(b"-".to_vec(), Input::stdin()?);
        }
        let input = self
            .inputs
            .get_mut(b"-".as_slice())
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((input, self.separator.clone()))
    }

    /// Begins with the next file that the arguments name.
    fn next_file(&mut self) -> Res<bool> {
        loop {
            let count = self.get_var(Var::Global(ARGC))?.num();
            if self.next_arg as f64 >= count {
                if self.any_file {
                    return Ok(false);
                }
                self.any_file = true;
                self.fnr = 0.0;
                self.main = Main::Stdin;
                return Ok(true);
            }
            let key = self.next_arg.to_string();
            self.next_arg += 1;
            let argv = self.array(Var::Global(ARGV))?;
            let name = match argv.borrow().peek(key.as_bytes()) {
                Some(value) => value.to_str(&self.convfmt),
                None => continue,
            };
            if name.is_empty() {
                continue;
            }
            if let Some((variable, value)) = crate::assignment(&name) {
                self.assign_by_name(&variable, &value);
                continue;
            }
            self.any_file = true;
            self.fnr = 0.0;
            self.globals[FILENAME] = Cell::Scalar(input(&name));
            if name.as_slice() == b"-" || name.as_slice() == b"/dev/stdin" {
                self.main = Main::Stdin;
                return Ok(true);
            }
            match Input::file(&name) {
                Ok(input) => {
                    self.main = Main::File(input);
                    return Ok(true);
                }
                Err(error) => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    self.line = 0;
                    return self.fatal(format!(
                        "cannot open file `{name}' for reading: {}",
                        reason(&error)
                    ));
                }
            }
        }
    }

    fn warn(&mut self, message: String) {
        let _ = self.stdout.flush();
        eprintln!("awk: {message}");
    }

    pub(super) fn getline(&mut self, source: &'p Source, target: Option<&'p Expr>) -> Res<Value> {
        let mut record = Vec::new();
        let found = match source {
            Source::Next => self.next_into(&mut record).map(Some)?,
            Source::File(name) | Source::Command(name) => {
                let command = matches!(source, Source::Command(_));
                let name = self.eval(name)?.to_str(&self.convfmt);
                self.read_from(&name, command, &mut record)
            }
        };
        let Some(found) = found else {
            return Ok(Value::Num(-1.0));
        };
        if !found {
            return Ok(Value::Num(0.0));
        }
        match target {
            Some(target) => self.assign(target, Value::Input(Rc::new(record)))?,
            None => self.record.set(Rc::new(record)),
        }
        Ok(Value::Num(1.0))
    }

    /// A record of a file or command; None if it cannot be read.
    fn read_from(&mut self, name: &Str, command: bool, record: &mut Vec<u8>) -> Option<bool> {
        let mut terminator = Vec::new();
        if !command && (name.as_slice() == b"-" || name.as_slice() == b"/dev/stdin") {
            let (input, separator) = self.stdin().ok()?;
            return input.record(&separator, record, &mut terminator).ok();
        }
        if !self.inputs.contains_key(name.as_slice()) {
            let input = if command {
                self.flush_all();
                Input::command(name)
            } else {
                Input::file(name)
            };
            self.inputs.insert(name.to_vec(), input.ok()?);
        }
        let separator = self.separator.clone();
        let input = self.inputs.get_mut(name.as_slice())?;
        let found = input.record(&separator, record, &mut terminator).ok()?;
        if found {
            self.set_terminator(&terminator);
        }
        Some(found)
    }
}
