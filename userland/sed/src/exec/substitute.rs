//! The s command: what matched, and what takes its place.

use super::{Machine, Res};
use crate::script::{Case, Part, Substitution};
use oxbow_regex::Group;

impl<'s> Machine<'s> {
    pub(super) fn substitute(&mut self, sub: &Substitution) -> Res<()> {
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
