//! Values, their conversions, and arrays.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashTable};

pub type Str = Rc<Vec<u8>>;

/// What ends the program with status 2.
#[derive(Debug)]
pub struct Fatal {
    /// Line of the program text, from 1; 0 for none.
    pub line: usize,
    pub message: String,
}

impl Fatal {
    pub fn at(line: usize, message: impl Into<String>) -> Self {
        Fatal {
            line,
            message: message.into(),
        }
    }
}

/// A scalar.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Never assigned: "" and 0.
    #[default]
    Uninit,
    Num(f64),
    Str(Str),
    /// From outside (fields, getline, arguments): a number too if it looks like one.
    Input(Str),
}

pub fn text(bytes: &[u8]) -> Value {
    Value::Str(Rc::new(bytes.to_vec()))
}

pub fn input(bytes: &[u8]) -> Value {
    Value::Input(Rc::new(bytes.to_vec()))
}

impl Value {
    pub fn num(&self) -> f64 {
        match self {
            Value::Uninit => 0.0,
            Value::Num(n) => *n,
            Value::Str(s) | Value::Input(s) => prefix_number(s),
        }
    }

    pub fn truth(&self) -> bool {
        match self {
            Value::Uninit => false,
            Value::Num(n) => *n != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::Input(s) => match whole_number(s) {
                Some(n) => n != 0.0,
                None => !s.is_empty(),
            },
        }
    }

    /// The number this is for comparisons and `%c`, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Uninit => Some(0.0),
            Value::Num(n) => Some(*n),
            Value::Str(_) => None,
            Value::Input(s) => whole_number(s),
        }
    }

    /// `convfmt` says how a number that is no integer looks.
    pub fn to_str(&self, convfmt: &[u8]) -> Str {
        match self {
            Value::Str(s) | Value::Input(s) => s.clone(),
            other => {
                let mut out = Vec::new();
                other.append_to(&mut out, convfmt);
                Rc::new(out)
            }
        }
    }

    pub fn append_to(&self, out: &mut Vec<u8>, convfmt: &[u8]) {
        match self {
            Value::Uninit => {}
            Value::Num(n) => append_number(out, *n, convfmt),
            Value::Str(s) | Value::Input(s) => out.extend_from_slice(s),
        }
    }
}

pub fn append_number(out: &mut Vec<u8>, n: f64, convfmt: &[u8]) {
    if n == n.trunc() && n.abs() < 1e16 {
        append_integer(out, n as i64);
    } else if n.is_nan() {
        out.extend_from_slice(if n.is_sign_negative() {
            b"-nan"
        } else {
            b"+nan"
        });
    } else if n.is_infinite() {
        out.extend_from_slice(if n < 0.0 { b"-inf" } else { b"+inf" });
    } else if n == n.trunc() {
        out.extend_from_slice(format!("{n:.0}").as_bytes());
    } else {
        crate::format::append_one(out, convfmt, n);
    }
}

fn append_integer(out: &mut Vec<u8>, n: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

pub fn compare(a: &Value, b: &Value, convfmt: &[u8]) -> Option<Ordering> {
    match (a.as_number(), b.as_number()) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => match (a, b) {
            (Value::Str(a) | Value::Input(a), Value::Str(b) | Value::Input(b)) => {
                Some(a.as_slice().cmp(b))
            }
            _ => Some(a.to_str(convfmt).cmp(&b.to_str(convfmt))),
        },
    }
}

/// A decimal number at the start of `bytes`, without sign or blanks before it, and how many bytes it takes.
pub fn scan_number(bytes: &[u8]) -> Option<(f64, usize)> {
    let digits = |from: usize| {
        bytes[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut end = whole;
    let mut integer = true;
    if bytes.get(end) == Some(&b'.') {
        let part = digits(end + 1);
        if whole + part == 0 {
            return None;
        }
        integer = false;
        end += 1 + part;
    } else if whole == 0 {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let part = if end + 1 + sign <= bytes.len() {
            digits(end + 1 + sign)
        } else {
            0
        };
        if part > 0 {
            integer = false;
            end += 1 + sign + part;
        }
    }
    if integer && end <= 15 {
        let n = bytes[..end]
            .iter()
            .fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
        return Some((n as f64, end));
    }
    let value = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    Some((value, end))
}

/// A number with blanks and a sign before it, and where it ends.
fn signed_number(bytes: &[u8]) -> Option<(f64, usize)> {
    let blanks = bytes.iter().take_while(|b| is_blank(**b)).count();
    let sign = bytes.get(blanks).filter(|b| matches!(b, b'+' | b'-'));
    let start = blanks + usize::from(sign.is_some());
    let rest = &bytes[start..];
    let (value, used) = match scan_number(rest) {
        Some(found) => found,
        None if sign.is_some() && rest.len() >= 3 => {
            let special = match rest[..3].to_ascii_lowercase().as_slice() {
                b"inf" => f64::INFINITY,
                b"nan" => f64::NAN,
                _ => return None,
            };
            if rest.get(3).is_some_and(|b| !is_blank(*b)) {
                return None;
            }
            (special, 3)
        }
        None => return None,
    };
    let value = if sign == Some(&b'-') { -value } else { value };
    Some((value, start + used))
}

/// Blanks around numbers and between fields.
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 11 | 12)
}

pub fn prefix_number(bytes: &[u8]) -> f64 {
    signed_number(bytes).map_or(0.0, |(value, _)| value)
}

/// The number that all of `bytes` is, if so.
pub fn whole_number(bytes: &[u8]) -> Option<f64> {
    // Most text is no number, and its first byte says so.
    match bytes.first() {
        Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b' ' | b'\t' | b'\n' | b'\r' | 11 | 12) => {}
        _ => return None,
    }
    let (value, end) = signed_number(bytes)?;
    bytes[end..].iter().all(|b| is_blank(*b)).then_some(value)
}

pub type ArrayRef = Rc<RefCell<Array>>;

/// An associative array. It lists its elements in the order they came.
#[derive(Default)]
pub struct Array {
    entries: Vec<Option<(Box<[u8]>, Value)>>,
    table: HashTable<usize>,
    hasher: DefaultHashBuilder,
}

impl Array {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        let same = |at: &usize| self.entries[*at].as_ref().is_some_and(|(k, _)| **k == *key);
        self.table.find(hash, same).copied()
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    pub fn peek(&self, key: &[u8]) -> Option<&Value> {
        self.entries[self.find(key)?]
            .as_ref()
            .map(|(_, value)| value)
    }

    /// The element `key`, made if it is not there.
    pub fn get(&mut self, key: &[u8]) -> &mut Value {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let same = |at: &usize| entries[*at].as_ref().is_some_and(|(k, _)| **k == *key);
        let at = match self.table.find(hash, same) {
            Some(at) => *at,
            None => {
                let at = self.entries.len();
                self.entries.push(Some((key.into(), Value::Uninit)));
                let (entries, hasher) = (&self.entries, &self.hasher);
                let again = |at: &usize| {
                    entries[*at]
                        .as_ref()
                        .map_or(0, |(k, _)| hasher.hash_one(&**k))
                };
                self.table.insert_unique(hash, at, again);
                at
            }
        };
        &mut self.entries[at].get_or_insert_with(Default::default).1
    }

    pub fn remove(&mut self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let same = |at: &usize| entries[*at].as_ref().is_some_and(|(k, _)| **k == *key);
        if let Ok(found) = self.table.find_entry(hash, same) {
            let (at, _) = found.remove();
            self.entries[at] = None;
            if self.entries.len() > 32 && self.table.len() * 2 < self.entries.len() {
                self.compact();
            }
        }
    }

    /// Takes the holes of removed elements out.
    fn compact(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.table.clear();
        for (key, value) in entries.into_iter().flatten() {
            *self.get(&key) = value;
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.table.clear();
    }

    pub fn keys(&self) -> Vec<Str> {
        self.iter().map(|(key, _)| Rc::new(key.to_vec())).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.entries
            .iter()
            .flatten()
            .map(|(key, value)| (&**key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_text() {
        for (text, prefix, whole) in [
            ("12", 12.0, true),
            (" +1.5e2 ", 150.0, true),
            ("1e", 1.0, false),
            ("1e+x", 1.0, false),
            (".", 0.0, false),
            (".5", 0.5, true),
            ("0x1A", 0.0, false),
            ("-", 0.0, false),
            ("inf", 0.0, false),
            ("-inf", f64::NEG_INFINITY, true),
            ("12345678901234567890", 12345678901234567890.0, true),
            ("", 0.0, false),
        ] {
            assert_eq!(prefix_number(text.as_bytes()), prefix, "{text}");
            assert_eq!(whole_number(text.as_bytes()).is_some(), whole, "{text}");
        }
    }

    #[test]
    fn arrays_keep_their_order_through_removals() {
        let mut array = Array::default();
        for n in 0..1000 {
            *array.get(format!("{n}").as_bytes()) = Value::Num(f64::from(n));
        }
        for n in 0..990 {
            array.remove(format!("{n}").as_bytes());
        }
        assert_eq!(array.len(), 10);
        let keys: Vec<String> = array
            .keys()
            .iter()
            .map(|k| String::from_utf8_lossy(k).into_owned())
            .collect();
        assert_eq!(keys[0], "990");
        assert_eq!(keys[9], "999");
        assert!(!array.contains(b"5") && array.contains(b"995"));
    }
}
