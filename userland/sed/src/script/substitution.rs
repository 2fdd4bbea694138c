//! The arguments of s and y.

use std::collections::HashMap;

use super::{Action, Case, Parser, Part, Res, Substitution, fail};
use oxbow_regex::byte_escape;

impl Parser<'_> {
    pub(super) fn substitution(&mut self) -> Res<Action> {
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

    pub(super) fn translation(&mut self) -> Res<Action> {
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
