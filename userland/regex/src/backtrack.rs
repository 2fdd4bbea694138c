//! Matches expressions that have back-references, by trying: the crates compile expressions to automata, which cannot.
//! It finds the leftmost match, of the alternatives the first that fits, repetitions as often as possible.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::{Group, Options};

#[derive(Debug)]
pub struct Matcher {
    hir: Hir,
    groups: usize,
}

/// What is to match after what is being matched; true ends the search.
type Rest<'r> = &'r mut dyn FnMut(usize, &mut Vec<Group>) -> bool;

impl Matcher {
    /// `pattern` is in the crates' syntax, `(?P<bN_M>)` refers to group N.
    pub fn new(pattern: &str, options: Options) -> Result<Self, String> {
        let hir = regex_syntax::ParserBuilder::new()
            .utf8(false)
            .unicode(options.utf8)
            .case_insensitive(options.ignore_case)
            .multi_line(options.lines)
            .dot_matches_new_line(true)
            .build()
            .parse(pattern)
            .map_err(|_| "Invalid regular expression".to_owned())?;
        let groups = hir.properties().explicit_captures_len();
        Ok(Matcher { hir, groups })
    }

    /// Groups of the first match from `from` on, the whole match first.
    pub fn find(&self, text: &[u8], from: usize) -> Option<Vec<Group>> {
        let numbers = numbering(&self.hir, self.groups);
        let last = numbers.iter().flatten().max().copied().unwrap_or(0);
        for start in from..=text.len() {
            let run = Run {
                depth: std::cell::Cell::new(0),
                text,
                numbers: &numbers,
            };
            let mut found = None;
            let mut groups = vec![None; last + 1];
            run.step(&self.hir, start, &mut groups, &mut |end, groups| {
                groups[0] = Some((start, end));
                found = Some(groups.clone());
                true
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// The number of each of the crate's groups; None for those that stand for references.
fn numbering(hir: &Hir, count: usize) -> Vec<Option<usize>> {
    fn collect(hir: &Hir, references: &mut Vec<usize>) {
        match hir.kind() {
            HirKind::Capture(capture) => {
                if capture.name.is_some() {
                    references.push(capture.index as usize);
                }
                collect(&capture.sub, references);
            }
            HirKind::Repetition(repetition) => collect(&repetition.sub, references),
            HirKind::Concat(list) | HirKind::Alternation(list) => {
                list.iter().for_each(|part| collect(part, references))
            }
            _ => {}
        }
    }
    let mut references = Vec::new();
    collect(hir, &mut references);
    let mut number = 0;
    let mut number_of = |index: usize| {
        if references.contains(&index) {
            return None;
        }
        number += 1;
        Some(number)
    };
    std::iter::once(Some(0))
        .chain((1..=count).map(&mut number_of))
        .collect()
}

/// Repetitions inside each other before a way is given up, for the stack's sake.
const MAX_DEPTH: usize = 800;

struct Run<'a> {
    depth: std::cell::Cell<usize>,
    text: &'a [u8],
    numbers: &'a [Option<usize>],
}

impl Run<'_> {
    fn step(&self, hir: &Hir, at: usize, groups: &mut Vec<Group>, rest: Rest) -> bool {
        match hir.kind() {
            HirKind::Empty => rest(at, groups),
            HirKind::Literal(literal) => {
                self.text[at..].starts_with(&literal.0) && rest(at + literal.0.len(), groups)
            }
            HirKind::Class(class) => match self.one(class, at) {
                Some(end) => rest(end, groups),
                None => false,
            },
            HirKind::Look(look) => self.look(*look, at) && rest(at, groups),
            HirKind::Concat(parts) => self.all(parts, at, groups, rest),
            HirKind::Alternation(parts) => {
                parts.iter().any(|part| self.step(part, at, groups, rest))
            }
            HirKind::Repetition(repetition) => {
                let most = repetition.max.map_or(usize::MAX, |max| max as usize);
                self.repeat(
                    &repetition.sub,
                    repetition.min as usize,
                    most,
                    at,
                    groups,
                    rest,
                )
            }
            HirKind::Capture(capture) => {
                if let Some(name) = &capture.name {
                    let number = name[1..]
                        .split('_')
                        .next()
                        .and_then(|n| n.parse::<usize>().ok());
                    let Some((from, to)) = number.and_then(|n| groups.get(n).copied().flatten())
                    else {
                        return false;
                    };
                    let same = self.text[at..].starts_with(&self.text[from..to]);
                    return same && rest(at + to - from, groups);
                }
                let Some(number) = self.numbers.get(capture.index as usize).copied().flatten()
                else {
                    return false;
                };
                let before = groups[number];
                let found = self.step(&capture.sub, at, groups, &mut |end, groups| {
                    let inner = groups[number];
                    groups[number] = Some((at, end));
                    rest(end, groups) || {
                        groups[number] = inner;
                        false
                    }
                });
                if !found {
                    groups[number] = before;
                }
                found
            }
        }
    }

    fn all(&self, parts: &[Hir], at: usize, groups: &mut Vec<Group>, rest: Rest) -> bool {
        match parts.split_first() {
            None => rest(at, groups),
            Some((first, others)) => self.step(first, at, groups, &mut |end, groups| {
                self.all(others, end, groups, rest)
            }),
        }
    }

    fn repeat(
        &self,
        sub: &Hir,
        least: usize,
        most: usize,
        at: usize,
        groups: &mut Vec<Group>,
        rest: Rest,
    ) -> bool {
        // What takes one character is repeated without nesting, as often as it can, then less.
        if let HirKind::Class(class) = sub.kind() {
            let mut ends = vec![at];
            while ends.len() <= most
                && let Some(end) = self.one(class, ends[ends.len() - 1])
            {
                ends.push(end);
            }
            return ends.iter().skip(least).rev().any(|end| rest(*end, groups));
        }
        let depth = self.depth.get();
        self.depth.set(depth + 1);
        let more = most > 0
            && depth < MAX_DEPTH
            && self.step(sub, at, groups, &mut |end, groups| {
                // An empty round leads nowhere.
                (end > at || least > 0)
                    && self.repeat(sub, least.saturating_sub(1), most - 1, end, groups, rest)
            });
        self.depth.set(depth);
        more || least == 0 && rest(at, groups)
    }

    /// Where the character at `at` ends, if it is of the class.
    fn one(&self, class: &Class, at: usize) -> Option<usize> {
        let first = *self.text.get(at)?;
        match class {
            Class::Bytes(bytes) => bytes
                .iter()
                .any(|r| (r.start()..=r.end()).contains(&first))
                .then_some(at + 1),
            Class::Unicode(chars) => {
                let length = crate::char_len(&self.text[at..]);
                let c = std::str::from_utf8(&self.text[at..at + length])
                    .ok()?
                    .chars()
                    .next()?;
                chars
                    .iter()
                    .any(|r| (r.start()..=r.end()).contains(&c))
                    .then_some(at + length)
            }
        }
    }

    fn look(&self, look: Look, at: usize) -> bool {
        let word = |at: Option<usize>| {
            let byte = at.and_then(|at| self.text.get(at));
            byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 128)
        };
        let (before, after) = (word(at.checked_sub(1)), word(Some(at)));
        match look {
            Look::Start => at == 0,
            Look::End => at == self.text.len(),
            Look::StartLF | Look::StartCRLF => at == 0 || self.text[at - 1] == b'\n',
            Look::EndLF | Look::EndCRLF => self.text.get(at).is_none_or(|b| *b == b'\n'),
            Look::WordAscii | Look::WordUnicode => before != after,
            Look::WordAsciiNegate | Look::WordUnicodeNegate => before == after,
            Look::WordStartAscii | Look::WordStartUnicode => !before && after,
            Look::WordEndAscii | Look::WordEndUnicode => before && !after,
            Look::WordStartHalfAscii | Look::WordStartHalfUnicode => !before,
            Look::WordEndHalfAscii | Look::WordEndHalfUnicode => !after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_does_not_exhaust_the_stack() {
        let options = Options {
            utf8: true,
            ..Options::default()
        };
        let matcher = Matcher::new("(a)*(?P<b1_1>)b", options).unwrap();
        assert!(matcher.find(&vec![b'a'; 2000], 0).is_none());
        let found = matcher.find(b"xaaab", 0).unwrap();
        assert_eq!(found, [Some((1, 5)), Some((2, 3))]);
    }
}
