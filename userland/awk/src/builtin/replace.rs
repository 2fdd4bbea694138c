//! sub, gsub, gensub and match.

use std::rc::Rc;

use crate::ast::*;
use crate::interp::{Interp, Res};
use crate::value::{Value, input};
use oxbow_regex::char_len;

impl<'p> Interp<'p> {
    pub(super) fn substitute(&mut self, args: &'p [Expr], all: bool) -> Res<Value> {
        let regex = self.regex(&args[0])?;
        let replacement = self.str(&args[1])?;
        let subject = match args.get(2) {
            Some(target) => self.str(target)?,
            None => self.record_text(),
        };
        let Some(first) = regex.find(&subject, 0) else {
            return Ok(Value::Num(0.0));
        };
        let plain = !replacement.contains(&b'&') && !replacement.contains(&b'\\');
        let mut out = Vec::with_capacity(subject.len() + replacement.len());
        let mut count = 0;
        let mut copied = 0;
        let mut next = Some(first);
        while let Some((start, end)) = next {
            out.extend_from_slice(&subject[copied..start]);
            if plain {
                out.extend_from_slice(&replacement);
            } else {
                replace(&mut out, &replacement, &subject[start..end]);
            }
            count += 1;
            copied = end;
            if !all {
                break;
            }
            next = following(&regex, &subject, start, end, self.utf8);
        }
        out.extend_from_slice(&subject[copied..]);
        let value = Value::Str(Rc::new(out));
        match args.get(2) {
            Some(target) => self.assign(target, value)?,
            None => self.set_field(0, value),
        }
        Ok(Value::Num(f64::from(count)))
    }

    pub(super) fn gensub(&mut self, args: &'p [Expr]) -> Res<Value> {
        let regex = self.regex(&args[0])?;
        let replacement = self.str(&args[1])?;
        let how = self.eval(&args[2])?;
        let subject = match args.get(3) {
            Some(target) => self.str(target)?,
            None => self.record_text(),
        };
        let global = matches!(how.to_str(&self.convfmt).first(), Some(b'g' | b'G'));
        let wanted = (how.num() as usize).max(1);
        let mut out = Vec::new();
        let mut copied = 0;
        let mut seen = 0;
        let mut next = regex.find(&subject, 0);
        while let Some((start, end)) = next {
            seen += 1;
            if global || seen == wanted {
                out.extend_from_slice(&subject[copied..start]);
                let groups = regex.captures(&subject, start).unwrap_or_default();
                expand(&mut out, &replacement, &subject, (start, end), &groups);
                copied = end;
                if !global {
                    break;
                }
            }
            next = following(&regex, &subject, start, end, self.utf8);
        }
        out.extend_from_slice(&subject[copied..]);
        Ok(Value::Str(Rc::new(out)))
    }

    pub(super) fn match_function(&mut self, args: &'p [Expr]) -> Res<Value> {
        let subject = self.str(&args[0])?;
        let regex = self.regex(&args[1])?;
        let found = regex.find(&subject, 0);
        let (start, length) = match found {
            Some((from, to)) => (
                self.chars(&subject[..from]) as f64 + 1.0,
                self.chars(&subject[from..to]) as f64,
            ),
            None => (0.0, -1.0),
        };
        if let Some(Expr::Var(var)) = args.get(2) {
            let array = self.array(*var)?;
            let mut array = array.borrow_mut();
            array.clear();
            let groups = found
                .and_then(|(from, _)| regex.captures(&subject, from))
                .unwrap_or_default();
            for (at, group) in groups.iter().enumerate() {
                let group = if at == 0 { found } else { *group };
                let Some((from, to)) = group else {
                    continue;
                };
                *array.get(at.to_string().as_bytes()) = input(&subject[from..to]);
                let place =
                    |name: &str| [at.to_string().as_bytes(), b"\x1c", name.as_bytes()].concat();
                *array.get(&place("start")) = Value::Num(self.chars(&subject[..from]) as f64 + 1.0);
                *array.get(&place("length")) = Value::Num(self.chars(&subject[from..to]) as f64);
            }
        }
        self.set_var(Var::Global(RSTART), Value::Num(start))?;
        self.set_var(Var::Global(RLENGTH), Value::Num(length))?;
        Ok(Value::Num(start))
    }
}

/// The match after the one from `start` to `end`. An empty one right behind another match does not count.
fn following(
    regex: &oxbow_regex::Regex,
    subject: &[u8],
    start: usize,
    end: usize,
    utf8: bool,
) -> Option<(usize, usize)> {
    let mut from = end;
    if start == end {
        if end >= subject.len() {
            return None;
        }
        from += if utf8 { char_len(&subject[end..]) } else { 1 };
        return regex.find(subject, from);
    }
    loop {
        let found = regex.find(subject, from)?;
        if found != (end, end) {
            return Some(found);
        }
        if from >= subject.len() {
            return None;
        }
        from += if utf8 { char_len(&subject[from..]) } else { 1 };
    }
}

/// Appends sub's replacement: `&` is what matched, `\&` an ampersand.
pub(super) fn replace(out: &mut Vec<u8>, replacement: &[u8], matched: &[u8]) {
    let mut at = 0;
    while at < replacement.len() {
        match replacement[at..] {
            [b'\\', b'&', ..] => {
                out.push(b'&');
                at += 2;
            }
            // Two backslashes are one, before what matched.
            [b'\\', b'\\', b'&', ..] => {
                out.push(b'\\');
                at += 2;
            }
            [b'\\', b'\\', b'\\', b'&', ..] => {
                out.extend_from_slice(b"\\&");
                at += 4;
            }
            [b'&', ..] => {
                out.extend_from_slice(matched);
                at += 1;
            }
            _ => {
                out.push(replacement[at]);
                at += 1;
            }
        }
    }
}

/// Appends gensub's replacement, which may name groups.
fn expand(
    out: &mut Vec<u8>,
    replacement: &[u8],
    subject: &[u8],
    whole: (usize, usize),
    groups: &[Option<(usize, usize)>],
) {
    let mut at = 0;
    while at < replacement.len() {
        match replacement[at..] {
            [b'\\', digit @ b'0'..=b'9', ..] => {
                let group = match usize::from(digit - b'0') {
                    0 => Some(whole),
                    number => groups.get(number).copied().flatten(),
                };
                if let Some((from, to)) = group {
                    out.extend_from_slice(&subject[from..to]);
                }
                at += 2;
            }
            [b'\\', byte @ (b'&' | b'\\'), ..] => {
                out.push(byte);
                at += 2;
            }
            [b'&', ..] => {
                out.extend_from_slice(&subject[whole.0..whole.1]);
                at += 1;
            }
            _ => {
                out.push(replacement[at]);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements() {
        let made = |replacement: &str| {
            let mut out = Vec::new();
            replace(&mut out, replacement.as_bytes(), b"M");
            String::from_utf8(out).unwrap()
        };
        for (replacement, expected) in [
            ("[&]", "[M]"),
            ("\\&", "&"),
            ("\\\\&", "\\M"),
            ("\\\\\\&", "\\&"),
            ("a\\b", "a\\b"),
            ("\\\\", "\\\\"),
        ] {
            assert_eq!(made(replacement), expected, "{replacement}");
        }
    }
}
