//! Addresses, and the regular expressions of addresses and commands.

use std::rc::Rc;

use super::{Address, Parser, Res};
use oxbow_regex::{Flavor, Regex};

impl Parser<'_> {
    pub(super) fn address(&mut self) -> Res<Option<Address>> {
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

    pub(super) fn options(&self) -> oxbow_regex::Options {
        oxbow_regex::Options {
            utf8: self.settings.utf8,
            ..oxbow_regex::Options::default()
        }
    }

    pub(super) fn regex(
        &self,
        source: &[u8],
        options: oxbow_regex::Options,
    ) -> Res<Option<Rc<Regex>>> {
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
}
