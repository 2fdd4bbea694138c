//! printf's conversions.

use crate::value::{Str, Value};

/// Appends `format` filled from `args`; Err says what is wrong.
pub fn format(
    out: &mut Vec<u8>,
    format: &[u8],
    args: &[Value],
    convfmt: &[u8],
    utf8: bool,
) -> Result<(), String> {
    let mut args = args.iter();
    let mut next = || {
        let missing = || {
            format!(
                "not enough arguments to satisfy format string `{}'",
                format.escape_ascii()
            )
        };
        args.next().ok_or_else(missing)
    };
    let mut at = 0;
    while at < format.len() {
        let literal = memchr::memchr(b'%', &format[at..]).unwrap_or(format.len() - at);
        out.extend_from_slice(&format[at..at + literal]);
        at += literal;
        if at == format.len() {
            break;
        }
        let start = at;
        at += 1;
        let mut spec = Spec::default();
        while let Some(flag) = format.get(at) {
            match flag {
                b'-' => spec.left = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.alternate = true,
                b'0' => spec.zero = true,
                b'\'' => {}
                _ => break,
            }
            at += 1;
        }
        if format.get(at) == Some(&b'*') {
            let width = next()?.num();
            spec.left |= width < 0.0;
            spec.width = (width.abs() as usize).min(MAX_WIDTH);
            at += 1;
        } else {
            spec.width = digits(format, &mut at);
        }
        if format.get(at) == Some(&b'.') {
            at += 1;
            if format.get(at) == Some(&b'*') {
                let precision = next()?.num();
                spec.precision = (precision >= 0.0).then_some((precision as usize).min(MAX_WIDTH));
                at += 1;
            } else {
                spec.precision = Some(digits(format, &mut at));
            }
        }
        while matches!(
            format.get(at),
            Some(b'h' | b'l' | b'L' | b'q' | b'j' | b'z')
        ) {
            at += 1;
        }
        let Some(&conversion) = format.get(at) else {
            out.extend_from_slice(&format[start..]);
            break;
        };
        at += 1;
        match conversion {
            b'%' => out.push(b'%'),
            b'd' | b'i' => spec.integer(out, next()?.num()),
            b'o' | b'x' | b'X' | b'u' => spec.unsigned(out, next()?.num(), conversion),
            b'e' | b'E' | b'f' | b'F' | b'g' | b'G' | b'a' | b'A' => {
                spec.float(out, next()?.num(), conversion)
            }
            b'c' => spec.character(out, next()?, utf8),
            b's' => {
                let text: Str = next()?.to_str(convfmt);
                spec.text(out, &text, utf8);
            }
            _ => out.extend_from_slice(&format[start..at]),
        }
    }
    Ok(())
}

/// Appends one number by `format` (CONVFMT, OFMT).
pub fn append_one(out: &mut Vec<u8>, format: &[u8], n: f64) {
    if format == b"%.6g" {
        return Spec {
            precision: Some(6),
            ..Spec::default()
        }
        .float(out, n, b'g');
    }
    let _ = self::format(out, format, &[Value::Num(n)], b"%.6g", false);
}

/// Wider than anybody wants, and no way to ask for all memory.
const MAX_WIDTH: usize = 1 << 24;

fn digits(format: &[u8], at: &mut usize) -> usize {
    let mut value = 0usize;
    while let Some(digit @ b'0'..=b'9') = format.get(*at) {
        value = (value * 10 + usize::from(digit - b'0')).min(MAX_WIDTH);
        *at += 1;
    }
    value
}

/// How many bytes the first `count` characters of `text` take, and how many characters these are.
pub fn prefix(text: &[u8], count: usize, utf8: bool) -> (usize, usize) {
    if !utf8 || text.is_ascii() {
        let bytes = text.len().min(count);
        return (bytes, bytes);
    }
    let mut at = 0;
    let mut seen = 0;
    while at < text.len() && seen < count {
        at += oxbow_regex::char_len(&text[at..]);
        seen += 1;
    }
    (at, seen)
}

#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    /// Puts sign or base and body into the width; `zeros` allows the flag 0.
    fn number(&self, out: &mut Vec<u8>, lead: &str, body: &str, zeros: bool) {
        let fill = self.width.saturating_sub(lead.len() + body.len());
        let zeros = zeros && self.zero && !self.left;
        if !self.left && !zeros {
            out.resize(out.len() + fill, b' ');
        }
        out.extend_from_slice(lead.as_bytes());
        if zeros {
            out.resize(out.len() + fill, b'0');
        }
        out.extend_from_slice(body.as_bytes());
        if self.left {
            out.resize(out.len() + fill, b' ');
        }
    }

    fn odd(&self, out: &mut Vec<u8>, n: f64) -> bool {
        if n.is_finite() {
            return false;
        }
        let sign = if n.is_sign_negative() { "-" } else { "+" };
        self.number(out, sign, if n.is_nan() { "nan" } else { "inf" }, false);
        true
    }

    fn integer(&self, out: &mut Vec<u8>, n: f64) {
        if self.odd(out, n) {
            return;
        }
        let n = n.trunc();
        let body = self.padded(format!("{:.0}", n.abs()));
        self.number(out, self.sign(n < 0.0), &body, self.precision.is_none());
    }

    fn unsigned(&self, out: &mut Vec<u8>, n: f64, conversion: u8) {
        if self.odd(out, n) {
            return;
        }
        let n = n.trunc();
        if !(0.0..18_446_744_073_709_551_616.0).contains(&n) {
            return self.integer(out, n);
        }
        let value = n as u64;
        let body = match conversion {
            b'o' => format!("{value:o}"),
            b'x' => format!("{value:x}"),
            b'X' => format!("{value:X}"),
            _ => format!("{value}"),
        };
        let lead = match conversion {
            b'x' if self.alternate && value != 0 => "0x",
            b'X' if self.alternate && value != 0 => "0X",
            b'o' if self.alternate && value != 0 => "0",
            _ => "",
        };
        self.number(out, lead, &self.padded(body), self.precision.is_none());
    }

    /// An integer's digits, as many as the precision asks for.
    fn padded(&self, body: String) -> String {
        match self.precision {
            Some(0) if body == "0" => String::new(),
            Some(precision) if precision > body.len() => "0".repeat(precision - body.len()) + &body,
            _ => body,
        }
    }

    fn float(&self, out: &mut Vec<u8>, n: f64, conversion: u8) {
        if self.odd(out, n) {
            return;
        }
        let precision = self.precision.unwrap_or(6);
        let size = n.abs();
        let mut body = match conversion | 32 {
            b'f' => fixed(size, precision, self.alternate),
            b'e' => scientific(size, precision, self.alternate),
            b'a' => hexadecimal(size, self.precision),
            _ => {
                let precision = precision.max(1);
                let text = format!("{size:.*e}", precision - 1);
                let exponent: i32 = text
                    .split_once('e')
                    .and_then(|(_, e)| e.parse().ok())
                    .unwrap_or(0);
                let text = if exponent < -4 || exponent >= precision as i32 {
                    scientific(size, precision - 1, self.alternate)
                } else {
                    fixed(
                        size,
                        (precision as i32 - 1 - exponent) as usize,
                        self.alternate,
                    )
                };
                if self.alternate { text } else { trimmed(&text) }
            }
        };
        if conversion.is_ascii_uppercase() {
            body.make_ascii_uppercase();
        }
        self.number(out, self.sign(n.is_sign_negative()), &body, true);
    }

    fn character(&self, out: &mut Vec<u8>, value: &Value, utf8: bool) {
        let mut bytes = Vec::new();
        match value
            .as_number()
            .filter(|_| !matches!(value, Value::Uninit))
        {
            Some(n) => match char::from_u32(n as u32).filter(|_| utf8 && n >= 128.0) {
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                None => bytes.push(n as i64 as u8),
            },
            None => {
                // An empty text still has its terminating zero.
                let text = value.to_str(b"%.6g");
                match prefix(&text, 1, utf8).0 {
                    0 => bytes.push(0),
                    length => bytes.extend_from_slice(&text[..length]),
                }
            }
        }
        Spec {
            precision: None,
            left: self.left,
            width: self.width,
            ..Spec::default()
        }
        .text(out, &bytes, utf8);
    }

    fn text(&self, out: &mut Vec<u8>, text: &[u8], utf8: bool) {
        let (bytes, count) = prefix(text, self.precision.unwrap_or(usize::MAX), utf8);
        let fill = self.width.saturating_sub(count);
        if !self.left {
            out.resize(out.len() + fill, b' ');
        }
        out.extend_from_slice(&text[..bytes]);
        if self.left {
            out.resize(out.len() + fill, b' ');
        }
    }
}

fn fixed(n: f64, precision: usize, point: bool) -> String {
    let mut text = format!("{n:.precision$}");
    if point && precision == 0 {
        text.push('.');
    }
    text
}

fn scientific(n: f64, precision: usize, point: bool) -> String {
    let text = format!("{n:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    let point = if point && precision == 0 { "." } else { "" };
    format!("{digits}{point}e{sign}{:02}", exponent.abs())
}

/// C's `%a`.
fn hexadecimal(n: f64, precision: Option<usize>) -> String {
    let bits = n.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = bits & ((1 << 52) - 1);
    let mut lead = 1;
    if exponent == -1023 {
        lead = 0;
        exponent = if mantissa == 0 { 0 } else { -1022 };
    }
    let mut digits = format!("{mantissa:013x}");
    match precision {
        Some(precision) if precision < 13 => {
            let shift = (13 - precision) * 4;
            let half = 1u64 << (shift - 1);
            mantissa += half;
            lead += mantissa >> 52;
            mantissa &= (1 << 52) - 1;
            digits = format!("{mantissa:013x}");
            digits.truncate(precision);
        }
        Some(precision) => digits.push_str(&"0".repeat(precision - 13)),
        None => digits.truncate(digits.trim_end_matches('0').len()),
    }
    let point = if digits.is_empty() { "" } else { "." };
    format!("0x{lead}{point}{digits}p{exponent:+}")
}

/// Without the zeros at the end of the fraction.
fn trimmed(text: &str) -> String {
    let (digits, exponent) = text.find('e').map_or((text, ""), |at| text.split_at(at));
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    format!("{digits}{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::text;

    fn printed(format: &str, args: &[Value]) -> String {
        let mut out = Vec::new();
        super::format(&mut out, format.as_bytes(), args, b"%.6g", true).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn conversions_are_c_s() {
        let num = Value::Num;
        for (format, value, expected) in [
            ("%d|", num(3.9), "3|"),
            ("%5i|", num(-3.9), "   -3|"),
            ("%05d|", num(-42.0), "-0042|"),
            ("%-5d|", num(42.0), "42   |"),
            ("%+d|", num(5.0), "+5|"),
            ("%.3d|", num(5.0), "005|"),
            ("%x|", num(255.0), "ff|"),
            ("%#o|", num(8.0), "010|"),
            ("%u|", num(-1.0), "-1|"),
            ("%e|", num(12345.678), "1.234568e+04|"),
            ("%g|", num(1e-5), "1e-05|"),
            ("%g|", num(100000.0), "100000|"),
            ("%g|", num(1e6), "1e+06|"),
            ("%G|", num(1e-10), "1E-10|"),
            ("%#g|", num(1.0), "1.00000|"),
            ("%.0f|", num(2.5), "2|"),
            ("%8.3f|", num(3.24159), "   3.242|"),
            ("%08.3f|", num(-3.24159), "-003.242|"),
            ("%a|", num(1.0), "0x1p+0|"),
            ("%a|", num(0.1), "0x1.999999999999ap-4|"),
            ("%c|", num(65.0), "A|"),
            ("%c|", num(233.0), "é|"),
            ("%c|", text("état".as_bytes()), "é|"),
            ("%5.2s|", text("été".as_bytes()), "   ét|"),
            ("%-5s|", text(b"ab"), "ab   |"),
            ("%5%|", num(0.0), "%|"),
            ("%z", num(0.0), "%z"),
            ("%d|", num(1e20), "100000000000000000000|"),
            ("%d|", num(f64::INFINITY), "+inf|"),
        ] {
            assert_eq!(printed(format, &[value]), expected, "{format}");
        }
        assert_eq!(
            printed(
                "%*d|%-*d|%.*f",
                &[num(4.0), num(1.0), num(3.0), num(2.0), num(1.0), num(0.55)]
            ),
            "   1|2  |0.6"
        );
    }

    #[test]
    fn too_few_arguments_are_an_error() {
        assert!(
            super::format(
                &mut Vec::new(),
                b"%s %s",
                &[Value::Num(1.0)],
                b"%.6g",
                false
            )
            .is_err()
        );
    }
}
