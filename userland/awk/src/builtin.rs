//! The functions of the language.

use std::cmp::Ordering;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use crate::ast::*;
use crate::format::prefix;
use crate::interp::{Interp, Res};
use crate::io::shell;
use crate::record::{Splitter, split};
use crate::value::{Array, Str, Value, compare, input, text};
use oxbow_regex::char_len;

/// A generator that begins the same way in every run, until srand is called.
pub struct Random {
    seed: f64,
    state: u64,
}

impl Default for Random {
    fn default() -> Self {
        let mut random = Random {
            seed: 0.0,
            state: 0,
        };
        random.seed(0.0);
        random
    }
}

impl Random {
    /// Returns the seed before.
    fn seed(&mut self, seed: f64) -> f64 {
        self.state = seed.to_bits() ^ 0x9e37_79b9_7f4a_7c15;
        std::mem::replace(&mut self.seed, seed)
    }

    /// SplitMix64: from 0 to less than 1.
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What system and close return for a command that ended so.
fn status_value(status: ExitStatus) -> f64 {
    match (status.code(), status.signal()) {
        (Some(code), _) => f64::from(code),
        (_, Some(signal)) => f64::from(256 + signal),
        _ => -1.0,
    }
}

impl<'p> Interp<'p> {
    pub fn builtin(&mut self, name: &str, args: &'p [Expr]) -> Res<Value> {
        let num = |n: f64| Ok(Value::Num(n));
        match name {
            "length" => self.length(args.first()),
            "substr" => self.substr(args),
            "index" => {
                let (text, part) = (self.str(&args[0])?, self.str(&args[1])?);
                let at = memchr::memmem::find(&text, &part);
                num(at.map_or(0.0, |at| self.chars(&text[..at]) as f64 + 1.0))
            }
            "split" => self.split(args),
            "sub" | "gsub" => self.substitute(args, name == "gsub"),
            "gensub" => self.gensub(args),
            "match" => self.match_function(args),
            "sprintf" => {
                let mut out = Vec::new();
                self.formatted(args, &mut out)?;
                Ok(Value::Str(Rc::new(out)))
            }
            "tolower" | "toupper" => {
                let bytes = self.str(&args[0])?;
                Ok(Value::Str(Rc::new(change_case(
                    &bytes,
                    name == "toupper",
                    self.utf8,
                ))))
            }
            "sin" => num(self.num(&args[0])?.sin()),
            "cos" => num(self.num(&args[0])?.cos()),
            "atan2" => {
                let (y, x) = (self.num(&args[0])?, self.num(&args[1])?);
                num(y.atan2(x))
            }
            "exp" => num(self.num(&args[0])?.exp()),
            "log" => num(self.num(&args[0])?.ln()),
            "sqrt" => num(self.num(&args[0])?.sqrt()),
            "int" => num(self.num(&args[0])?.trunc()),
            "rand" => num(self.random.next()),
            "srand" => {
                let seed = match args.first() {
                    Some(seed) => self.num(seed)?,
                    None => now(),
                };
                num(self.random.seed(seed))
            }
            "and" | "or" | "xor" => {
                let mut result = self.integer(&args[0], name)?;
                for arg in &args[1..] {
                    let other = self.integer(arg, name)?;
                    result = match name {
                        "and" => result & other,
                        "or" => result | other,
                        _ => result ^ other,
                    };
                }
                num(result as f64)
            }
            "compl" => num((!self.integer(&args[0], name)? & ((1 << 53) - 1)) as f64),
            "lshift" | "rshift" => {
                let value = self.integer(&args[0], name)?;
                let by = self.integer(&args[1], name)?.min(64) as u32;
                let shifted = if name == "lshift" {
                    value.checked_shl(by)
                } else {
                    value.checked_shr(by)
                };
                num(shifted.unwrap_or(0) as f64)
            }
            "strtonum" => {
                let value = self.eval(&args[0])?;
                num(match &value {
                    Value::Str(text) | Value::Input(text) => based_number(text),
                    other => other.num(),
                })
            }
            "systime" => num(now()),
            "strftime" => self.strftime(args),
            "mktime" => {
                let text = self.str(&args[0])?;
                num(mktime(&text).unwrap_or(-1.0))
            }
            "system" => {
                let command = self.str(&args[0])?;
                self.flush_all();
                num(shell(&command).status().map_or(-1.0, status_value))
            }
            "close" => {
                let name = self.str(&args[0])?;
                self.close(&name)
            }
            "fflush" => {
                let fine = match args.first() {
                    None => self.flush_all(),
                    Some(name) => {
                        let name = self.str(name)?;
                        match self.outputs.get_mut(name.as_slice()) {
                            Some(output) => output.flush().is_ok(),
                            None if name.is_empty() => self.flush_all(),
                            None if name.as_slice() == b"/dev/stdout" => self.flush_stdout(),
                            None => false,
                        }
                    }
                };
                num(if fine { 0.0 } else { -1.0 })
            }
            "asort" | "asorti" => self.sort(args, name == "asorti"),
            "isarray" => {
                let array = match &args[0] {
                    Expr::Var(var) => self.array_if_any(*var).is_some(),
                    _ => false,
                };
                num(f64::from(u8::from(array)))
            }
            "typeof" => {
                if let Expr::Var(var) = &args[0]
                    && self.array_if_any(*var).is_some()
                {
                    return Ok(text(b"array"));
                }
                if let Expr::Regex(_) = &args[0] {
                    return Ok(text(b"regexp"));
                }
                let value = self.eval(&args[0])?;
                Ok(text(match &value {
                    Value::Uninit => b"untyped".as_slice(),
                    Value::Num(_) => b"number",
                    Value::Str(_) => b"string",
                    Value::Input(_) if value.as_number().is_some() => b"strnum",
                    Value::Input(_) => b"string",
                }))
            }
            _ => self.fatal(format!("function `{name}' is not there")),
        }
    }

    /// Characters in `bytes`.
    fn chars(&self, bytes: &[u8]) -> usize {
        if !self.utf8 || bytes.is_ascii() {
            return bytes.len();
        }
        prefix(bytes, usize::MAX, true).1
    }

    fn length(&mut self, arg: Option<&'p Expr>) -> Res<Value> {
        let bytes = match arg {
            None => self.record_text(),
            Some(Expr::Field(index)) => {
                let at = self.field_number(index)?;
                if at > 0 {
                    self.record.ensure_split(&self.splitter);
                    if let Some(bytes) = self.record.field_bytes(at) {
                        return Ok(Value::Num(self.chars(bytes) as f64));
                    }
                }
                self.field(at).to_str(&self.convfmt)
            }
            Some(Expr::Var(var)) => match self.array_if_any(*var) {
                Some(array) => return Ok(Value::Num(array.borrow().len() as f64)),
                None => self.get_var(*var)?.to_str(&self.convfmt),
            },
            Some(other) => self.str(other)?,
        };
        Ok(Value::Num(self.chars(&bytes) as f64))
    }

    fn record_text(&mut self) -> Str {
        let convfmt = self.convfmt.clone();
        let ofs = self
            .get_var(Var::Global(OFS))
            .map_or_else(|_| Str::default(), |ofs| ofs.to_str(&convfmt));
        self.record.text(&ofs, &convfmt).clone()
    }

    fn substr(&mut self, args: &'p [Expr]) -> Res<Value> {
        let bytes = self.str(&args[0])?;
        // What begins before the text begins with it, as in every awk.
        let from = self.num(&args[1])?.trunc().max(1.0);
        let length = match args.get(2) {
            Some(length) => self.num(length)?.trunc(),
            None => f64::INFINITY,
        };
        if length.is_nan() || length <= 0.0 {
            return Ok(text(b""));
        }
        let skip = prefix(&bytes, (from - 1.0) as usize, self.utf8).0;
        let rest = &bytes[skip..];
        let take = prefix(rest, length as usize, self.utf8).0;
        Ok(text(&rest[..take]))
    }

    fn split(&mut self, args: &'p [Expr]) -> Res<Value> {
        let bytes = self.str(&args[0])?;
        let splitter = match args.get(2) {
            None => self.splitter.clone(),
            Some(Expr::Regex(regex)) => Splitter::Regex(regex.clone()),
            Some(separator) => {
                let separator = self.str(separator)?;
                self.splitter_of(&separator)?
            }
        };
        let mut parts = Array::default();
        let mut seps = Array::default();
        let mut count = 0;
        let mut last = 0;
        split(&bytes, &splitter, self.utf8, |part| {
            if count > 0 {
                *seps.get(count.to_string().as_bytes()) = text(&bytes[last..part.start]);
            }
            count += 1;
            last = part.end;
            *parts.get(count.to_string().as_bytes()) = input(&bytes[part]);
        });
        if let Some(Expr::Var(var)) = args.get(3) {
            *self.array(*var)?.borrow_mut() = seps;
        }
        if let Expr::Var(var) = &args[1] {
            *self.array(*var)?.borrow_mut() = parts;
        }
        Ok(Value::Num(f64::from(count)))
    }

    fn substitute(&mut self, args: &'p [Expr], all: bool) -> Res<Value> {
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

    fn gensub(&mut self, args: &'p [Expr]) -> Res<Value> {
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

    fn match_function(&mut self, args: &'p [Expr]) -> Res<Value> {
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

    fn integer(&mut self, expr: &'p Expr, name: &str) -> Res<u64> {
        let n = self.num(expr)?;
        if n < 0.0 {
            return self.fatal(format!("{name}: negative values are not allowed"));
        }
        Ok(n as u64)
    }

    fn close(&mut self, name: &[u8]) -> Res<Value> {
        let mut result = -1.0;
        if let Some(output) = self.outputs.remove(name) {
            result = match output.close() {
                Ok(status) => status.map_or(0.0, status_value),
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0.0,
                Err(error) => {
                    self.written(Err(error))?;
                    -1.0
                }
            };
        }
        if let Some(input) = self.inputs.remove(name) {
            result = input
                .close()
                .map_or(-1.0, |status| status.map_or(0.0, status_value));
        }
        Ok(Value::Num(result))
    }

    fn strftime(&mut self, args: &'p [Expr]) -> Res<Value> {
        let format = match args.first() {
            Some(format) => self.str(format)?,
            None => Rc::new(b"%a %b %e %H:%M:%S %Z %Y".to_vec()),
        };
        let seconds = match args.get(1) {
            Some(seconds) => self.num(seconds)?,
            None => now(),
        };
        let utc = match args.get(2) {
            Some(utc) => self.eval(utc)?.truth(),
            None => false,
        };
        let zone = if utc {
            jiff::tz::TimeZone::UTC
        } else {
            jiff::tz::TimeZone::system()
        };
        let formatted = jiff::Timestamp::from_second(seconds as i64)
            .and_then(|time| jiff::fmt::strtime::format(&*format, &time.to_zoned(zone)));
        match formatted {
            Ok(out) => Ok(text(out.as_bytes())),
            Err(error) => self.fatal(format!("strftime: {error}")),
        }
    }

    fn sort(&mut self, args: &'p [Expr], by_index: bool) -> Res<Value> {
        let (Some(Expr::Var(source)), target) = (args.first(), args.get(1)) else {
            return self.fatal("asort: first argument is not an array");
        };
        let source = self.array(*source)?;
        let order = match args.get(2) {
            Some(order) => self.str(order)?,
            None if by_index => Rc::new(b"@ind_str_asc".to_vec()),
            None => Rc::new(b"@val_type_asc".to_vec()),
        };
        let keys = ordered(
            source.borrow().keys(),
            &source.borrow(),
            &order,
            &self.convfmt,
        );
        let mut sorted = Array::default();
        for (at, key) in keys.iter().enumerate() {
            *sorted.get((at + 1).to_string().as_bytes()) = match by_index {
                true => Value::Str(key.clone()),
                false => source.borrow().peek(key).cloned().unwrap_or_default(),
            };
        }
        let target = match target {
            Some(Expr::Var(var)) => self.array(*var)?,
            _ => source,
        };
        *target.borrow_mut() = sorted;
        Ok(Value::Num(keys.len() as f64))
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
fn replace(out: &mut Vec<u8>, replacement: &[u8], matched: &[u8]) {
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

fn change_case(bytes: &[u8], upper: bool, utf8: bool) -> Vec<u8> {
    if utf8
        && !bytes.is_ascii()
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return if upper {
            text.to_uppercase()
        } else {
            text.to_lowercase()
        }
        .into_bytes();
    }
    if upper {
        bytes.to_ascii_uppercase()
    } else {
        bytes.to_ascii_lowercase()
    }
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs() as f64)
}

/// Decimal, or octal after `0`, or hexadecimal after `0x`.
fn based_number(bytes: &[u8]) -> f64 {
    let trimmed = bytes.trim_ascii_start();
    let (sign, rest) = match trimmed.first() {
        Some(b'-') => (-1.0, &trimmed[1..]),
        Some(b'+') => (1.0, &trimmed[1..]),
        _ => (1.0, trimmed),
    };
    let digits = |text: &[u8], base: u32| {
        let digits = text.iter().map_while(|b| char::from(*b).to_digit(base));
        digits.fold(0.0, |n, digit| n * f64::from(base) + f64::from(digit))
    };
    sign * match rest {
        [b'0', b'x' | b'X', hex @ ..] => digits(hex, 16),
        [b'0', b'0'..=b'7', ..]
            if !rest.contains(&b'.') && !rest.contains(&b'8') && !rest.contains(&b'9') =>
        {
            digits(rest, 8)
        }
        _ => crate::value::prefix_number(rest),
    }
}

/// Seconds of "YYYY MM DD HH MM SS"; parts out of range carry over.
fn mktime(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let parts: Vec<i64> = text
        .split_whitespace()
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second, ..] = parts[..] else {
        return None;
    };
    let months = year.checked_mul(12)?.checked_add(month - 1)?;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let first =
        jiff::civil::DateTime::new(year.try_into().ok()?, month as i8, 1, 0, 0, 0, 0).ok()?;
    let span = jiff::Span::new()
        .try_days(day - 1)
        .and_then(|s| s.try_hours(hour))
        .and_then(|s| s.try_minutes(minute))
        .and_then(|s| s.try_seconds(second))
        .ok()?;
    let local = first.checked_add(span).ok()?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    Some(zoned.timestamp().as_second() as f64)
}

/// `keys` in one of gawk's orders; in the order they came for any other.
pub fn ordered(mut keys: Vec<Str>, array: &Array, order: &[u8], convfmt: &[u8]) -> Vec<Str> {
    let value = |key: &Str| array.peek(key).cloned().unwrap_or_default();
    let number = |key: &Str| crate::value::prefix_number(key);
    let by_type = |a: &Value, b: &Value| match (a.as_number(), b.as_number()) {
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        _ => compare(a, b, convfmt).unwrap_or(Ordering::Equal),
    };
    let order = String::from_utf8_lossy(order);
    match order
        .trim_start_matches('@')
        .trim_end_matches("_asc")
        .trim_end_matches("_desc")
    {
        "ind_str" => keys.sort(),
        "ind_num" => keys.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b))),
        "val_num" => keys.sort_by(|a, b| {
            value(a)
                .num()
                .total_cmp(&value(b).num())
                .then_with(|| a.cmp(b))
        }),
        "val_str" => keys.sort_by(|a, b| {
            value(a)
                .to_str(convfmt)
                .cmp(&value(b).to_str(convfmt))
                .then_with(|| a.cmp(b))
        }),
        "val_type" => keys.sort_by(|a, b| by_type(&value(a), &value(b)).then_with(|| a.cmp(b))),
        _ => return keys,
    }
    if order.ends_with("_desc") {
        keys.reverse();
    }
    keys
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

    #[test]
    fn numbers_in_bases() {
        for (text, expected) in [
            ("0x1F", 31.0),
            ("017", 15.0),
            ("-0x10", -16.0),
            ("19", 19.0),
            ("089", 89.0),
            ("1.5x", 1.5),
        ] {
            assert_eq!(based_number(text.as_bytes()), expected, "{text}");
        }
    }
}
