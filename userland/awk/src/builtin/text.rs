//! length, substr, split, toupper and tolower, strtonum.

use crate::ast::*;
use crate::format::prefix;
use crate::interp::{Interp, Res};
use crate::record::{Splitter, split};
use crate::value::{Array, Str, Value, input, text};

impl<'p> Interp<'p> {
    /// Characters in `bytes`.
    pub(super) fn chars(&self, bytes: &[u8]) -> usize {
        if !self.utf8 || bytes.is_ascii() {
            return bytes.len();
        }
        prefix(bytes, usize::MAX, true).1
    }

    pub(super) fn length(&mut self, arg: Option<&'p Expr>) -> Res<Value> {
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

    pub(super) fn record_text(&mut self) -> Str {
        let convfmt = self.convfmt.clone();
        let ofs = self
            .get_var(Var::Global(OFS))
            .map_or_else(|_| Str::default(), |ofs| ofs.to_str(&convfmt));
        self.record.text(&ofs, &convfmt).clone()
    }

    pub(super) fn substr(&mut self, args: &'p [Expr]) -> Res<Value> {
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

    pub(super) fn split(&mut self, args: &'p [Expr]) -> Res<Value> {
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
}

pub(super) fn change_case(bytes: &[u8], upper: bool, utf8: bool) -> Vec<u8> {
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

/// Decimal, or octal after `0`, or hexadecimal after `0x`.
pub(super) fn based_number(bytes: &[u8]) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;

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
