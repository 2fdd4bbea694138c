//! Whether the addresses of a command select the line.

use std::rc::Rc;

use super::{Machine, Res, Trouble};
use crate::script::Address;
use oxbow_regex::Regex;

impl<'s> Machine<'s> {
    pub(super) fn selected(&mut self, at: usize) -> Res<bool> {
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

    pub(super) fn regex(&mut self, regex: Option<&Rc<Regex>>) -> Res<Rc<Regex>> {
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
}
