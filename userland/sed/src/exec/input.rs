//! The files of the command line as one input or, with -s and -i, each for itself.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};

use super::{Machine, Res, Trouble};
use crate::{path_of, reason};

impl<'s> Machine<'s> {
    /// The next line of the input, of whichever file.
    pub(super) fn read_line(&mut self) -> Res<Option<(Vec<u8>, bool)>> {
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

    pub(super) fn line_of_file(&mut self) -> Res<Option<(Vec<u8>, bool)>> {
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

    /// Whether this is the last line.
    pub(super) fn is_last(&mut self) -> Res<bool> {
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

    /// No line is left, for n and N: also those of the files to come.
    pub(super) fn is_last_of_all(&mut self) -> Res<bool> {
        if !self.is_last()? {
            return Ok(false);
        }
        Ok(!self.setup.separate || self.files.len() == 0)
    }
}
