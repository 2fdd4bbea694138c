//! The current record: its text and its fields, each made from the other only when somebody asks.

use std::ops::Range;
use std::rc::Rc;

use crate::value::{Str, Value, input};
use oxbow_regex::Regex;

/// How text is cut into fields.
#[derive(Clone, Debug)]
pub enum Splitter {
    /// At runs of blanks, leading and trailing ones ignored.
    Blanks,
    Byte(u8),
    /// At that byte and at newlines, for records that are paragraphs.
    ByteOrNewline(u8),
    Regex(Rc<Regex>),
    /// After each character.
    Characters,
}

/// Calls `field` with the place of each field of `text`.
pub fn split(text: &[u8], splitter: &Splitter, utf8: bool, mut field: impl FnMut(Range<usize>)) {
    if text.is_empty() {
        return;
    }
    let mut start = 0;
    match splitter {
        Splitter::Blanks => {
            let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n');
            loop {
                start += text[start..].iter().take_while(|b| blank(b)).count();
                if start == text.len() {
                    return;
                }
                let length = text[start..]
                    .iter()
                    .position(blank)
                    .unwrap_or(text.len() - start);
                field(start..start + length);
                start += length;
            }
        }
        Splitter::Byte(byte) => {
            for at in memchr::memchr_iter(*byte, text) {
                field(start..at);
                start = at + 1;
            }
        }
        Splitter::ByteOrNewline(byte) => {
            for at in memchr::memchr2_iter(*byte, b'\n', text) {
                field(start..at);
                start = at + 1;
            }
        }
        Splitter::Regex(regex) => {
            let mut from = 0;
            while let Some((at, end)) = regex.find(text, from) {
                if end > at {
                    field(start..at);
                    start = end;
                    from = end;
                } else if at < text.len() {
                    from = at + 1;
                } else {
                    break;
                }
            }
        }
        Splitter::Characters => {
            while start < text.len() {
                let length = if utf8 {
                    oxbow_regex::char_len(&text[start..])
                } else {
                    1
                };
                field(start..start + length);
                start += length;
            }
            return;
        }
    }
    field(start..text.len());
}

enum Field {
    /// Part of the text as it was read.
    Part(usize, usize),
    Set(Value),
}

pub struct Record {
    /// The text that the fields are parts of.
    base: Str,
    /// The text as of now, where that is another one.
    now: Option<Str>,
    /// A field has changed since `now` was made.
    stale: bool,
    fields: Vec<Field>,
    split: bool,
    utf8: bool,
}

/// More fields than this are refused: a slip like `$(NR*1e9) = 1` should not take all memory.
pub const MAX_FIELDS: usize = 50_000_000;

impl Record {
    pub fn new(utf8: bool) -> Self {
        Record {
            base: Str::default(),
            now: None,
            stale: false,
            fields: Vec::new(),
            split: true,
            utf8,
        }
    }

    pub fn set(&mut self, text: Str) {
        self.fields.clear();
        self.split = false;
        self.now = None;
        self.stale = false;
        self.base = text;
    }

    /// Sets the text and returns a buffer for the next one: the last text's, if nobody else has it.
    pub fn replace(&mut self, mut text: Vec<u8>) -> Vec<u8> {
        let mut base = std::mem::take(&mut self.base);
        match Rc::get_mut(&mut base) {
            Some(bytes) => {
                std::mem::swap(bytes, &mut text);
                self.set(base);
                text
            }
            None => {
                self.set(Rc::new(text));
                Vec::new()
            }
        }
    }

    pub fn ensure_split(&mut self, splitter: &Splitter) {
        if !self.split {
            self.split = true;
            let fields = &mut self.fields;
            split(&self.base, splitter, self.utf8, |part| {
                fields.push(Field::Part(part.start, part.end))
            });
        }
    }

    /// Number of fields; they have been split.
    pub fn nf(&self) -> usize {
        self.fields.len()
    }

    pub fn text(&mut self, ofs: &[u8], convfmt: &[u8]) -> &Str {
        if self.stale {
            let mut out = Vec::with_capacity(self.base.len() + 16);
            for (at, field) in self.fields.iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(ofs);
                }
                match field {
                    Field::Part(from, to) => out.extend_from_slice(&self.base[*from..*to]),
                    Field::Set(value) => value.append_to(&mut out, convfmt),
                }
            }
            self.now = Some(Rc::new(out));
            self.stale = false;
        }
        self.now.as_ref().unwrap_or(&self.base)
    }

    /// Field `at`, from 1.
    pub fn field(&mut self, at: usize) -> Value {
        match self.fields.get_mut(at - 1) {
            None => Value::Uninit,
            Some(Field::Set(value)) => value.clone(),
            Some(part) => {
                let Field::Part(from, to) = *part else {
                    return Value::Uninit;
                };
                let value = input(&self.base[from..to]);
                *part = Field::Set(value.clone());
                value
            }
        }
    }

    /// The text of a field that is text.
    pub fn field_bytes(&self, at: usize) -> Option<&[u8]> {
        match self.fields.get(at - 1) {
            None => Some(b""),
            Some(Field::Part(from, to)) => Some(&self.base[*from..*to]),
            Some(Field::Set(Value::Str(text) | Value::Input(text))) => Some(text),
            Some(Field::Set(Value::Uninit)) => Some(b""),
            Some(Field::Set(Value::Num(_))) => None,
        }
    }

    pub fn set_field(&mut self, at: usize, value: Value) {
        if at > self.fields.len() {
            self.set_nf(at);
        }
        self.fields[at - 1] = Field::Set(value);
        self.stale = true;
    }

    pub fn set_nf(&mut self, count: usize) {
        self.fields.resize_with(count, || Field::Set(Value::Uninit));
        self.stale = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, splitter: Splitter) -> Vec<String> {
        let mut all = Vec::new();
        split(text.as_bytes(), &splitter, true, |r| {
            all.push(text[r].to_owned())
        });
        all
    }

    #[test]
    fn fields() {
        assert_eq!(parts("  a\tb \n c ", Splitter::Blanks), ["a", "b", "c"]);
        assert_eq!(parts(" ", Splitter::Blanks), [""; 0]);
        assert_eq!(parts(":a::", Splitter::Byte(b':')), ["", "a", "", ""]);
        let regex = Rc::new(crate::compile(b"x*,", true).unwrap());
        assert_eq!(parts("axx,b,", Splitter::Regex(regex)), ["a", "b", ""]);
        assert_eq!(parts("aéb", Splitter::Characters), ["a", "é", "b"]);
    }

    #[test]
    fn a_changed_field_makes_the_text_anew() {
        let mut record = Record::new(true);
        record.set(Rc::new(b"a b  c".to_vec()));
        record.ensure_split(&Splitter::Blanks);
        assert_eq!(record.text(b"-", b"%.6g").as_slice(), b"a b  c");
        record.set_field(5, Value::Num(1.0));
        assert_eq!(record.text(b"-", b"%.6g").as_slice(), b"a-b-c--1");
        record.set_nf(2);
        assert_eq!(record.text(b"-", b"%.6g").as_slice(), b"a-b");
    }
}
