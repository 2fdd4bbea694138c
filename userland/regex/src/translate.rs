//! POSIX syntax, with what GNU adds, to the syntax of the engine.

use super::Flavor;
use super::text::{byte_escape, char_len};

pub(super) struct Translated {
    pub(super) pattern: String,
    /// Its longest match may not be its first.
    pub(super) ambiguous: bool,
    pub(super) groups: usize,
    pub(super) references: bool,
}

/// Translates `source`; `utf8` says whether its characters are UTF-8.
pub(super) fn translate(
    source: &[u8],
    flavor: Flavor,
    utf8: bool,
) -> Result<Translated, &'static str> {
    Translator {
        source,
        at: 0,
        flavor,
        utf8,
        out: String::new(),
        groups: 0,
        references: 0,
    }
    .whole()
}

struct Translator<'a> {
    source: &'a [u8],
    at: usize,
    flavor: Flavor,
    utf8: bool,
    out: String,
    groups: usize,
    references: usize,
}

impl Translator<'_> {
    /// The byte here, and whether it is an operator rather than itself; the place moves behind it.
    fn next(&mut self) -> Option<(u8, bool)> {
        let byte = *self.source.get(self.at)?;
        self.at += 1;
        if self.flavor != Flavor::Basic {
            return Some((byte, true));
        }
        if byte == b'\\'
            && let Some(operator @ (b'(' | b')' | b'{' | b'|' | b'+' | b'?')) =
                self.source.get(self.at)
        {
            self.at += 1;
            return Some((*operator, true));
        }
        Some((
            byte,
            !matches!(byte, b'(' | b')' | b'{' | b'|' | b'+' | b'?'),
        ))
    }

    /// Whether a `$` before this place ends a branch of a basic expression.
    fn branch_ends(&self) -> bool {
        let rest = &self.source[self.at..];
        self.flavor != Flavor::Basic
            || rest.is_empty()
            || rest.starts_with(b"\\)")
            || rest.starts_with(b"\\|")
    }

    fn whole(mut self) -> Result<Translated, &'static str> {
        let mut quantifiers = 0;
        let mut alternatives = false;
        // Where the operand of a quantifier begins in the output; None where there is none.
        let mut operand: Option<usize> = None;
        let mut quantified = false;
        let mut branch_begins = true;
        let mut open = Vec::new();
        while let Some((byte, operator)) = self.next() {
            let start = self.out.len();
            let begins = std::mem::take(&mut branch_begins);
            if !operator {
                self.literal(byte);
                operand = Some(start);
                quantified = false;
                continue;
            }
            match byte {
                b'(' => {
                    open.push(start);
                    self.groups += 1;
                    self.out.push('(');
                    operand = None;
                    quantified = false;
                    branch_begins = true;
                    continue;
                }
                b')' if !open.is_empty() => {
                    self.out.push(')');
                    operand = open.pop();
                    quantified = false;
                    continue;
                }
                b')' => return Err("Unmatched ) or \\)"),
                b'|' => {
                    alternatives = true;
                    self.out.push('|');
                    operand = None;
                    quantified = false;
                    branch_begins = true;
                    continue;
                }
                b'*' | b'+' | b'?' if operand.is_some() => {
                    quantifiers += 1;
                    self.wrap(operand, quantified);
                    self.out.push(char::from(byte));
                    quantified = true;
                    continue;
                }
                b'{' if operand.is_some() => {
                    if let Some(interval) = self.interval() {
                        quantifiers += 1;
                        self.wrap(operand, quantified);
                        self.out.push_str(&interval);
                        quantified = true;
                        continue;
                    }
                    if self.flavor == Flavor::Basic {
                        return Err("Invalid content of \\{\\}");
                    }
                    self.out.push_str("\\{");
                }
                b'{' if self.flavor == Flavor::Basic => {
                    return Err("Invalid preceding regular expression");
                }
                b'^' if self.flavor != Flavor::Basic || begins => {
                    self.out.push('^');
                    operand = None;
                    quantified = false;
                    // What follows still begins a branch: `^*` is a star.
                    continue;
                }
                b'$' if self.branch_ends() => self.out.push('$'),
                b'.' => self.out.push('.'),
                b'[' => self.bracket()?,
                b'\\' => self.escape()?,
                _ => self.literal(byte),
            }
            operand = Some(start);
            quantified = false;
        }
        if !open.is_empty() {
            return Err("Unmatched ( or \\(");
        }
        Ok(Translated {
            pattern: self.out,
            ambiguous: alternatives || quantifiers > 1,
            groups: self.groups,
            references: self.references > 0,
        })
    }

    /// A quantifier on a quantifier: the crate would read the second as a modifier of the first.
    fn wrap(&mut self, operand: Option<usize>, quantified: bool) {
        if let (Some(start), true) = (operand, quantified) {
            self.out.insert_str(start, "(?:");
            self.out.push(')');
        }
    }

    fn interval(&mut self) -> Option<String> {
        let rest = &self.source[self.at..];
        let close: &[u8] = if self.flavor == Flavor::Basic {
            b"\\}"
        } else {
            b"}"
        };
        let end = rest.windows(close.len()).position(|w| w == close)?;
        let inside = std::str::from_utf8(&rest[..end]).ok()?;
        let number = |text: &str| {
            (!text.is_empty() && text.len() < 6 && text.bytes().all(|b| b.is_ascii_digit()))
                .then_some(())
        };
        let text = match inside.split_once(',') {
            None => number(inside).map(|()| format!("{{{inside}}}"))?,
            Some(("", most)) => number(most).map(|()| format!("{{0,{most}}}"))?,
            Some((least, "")) => number(least).map(|()| format!("{{{least},}}"))?,
            Some((least, most)) => number(least)
                .and(number(most))
                .map(|()| format!("{{{least},{most}}}"))?,
        };
        self.at += end + close.len();
        Some(text)
    }

    /// One byte of a literal, or the character that begins with it.
    fn literal(&mut self, byte: u8) {
        if byte.is_ascii() {
            push_ascii(&mut self.out, byte);
        } else if self.utf8 {
            let start = self.at - 1;
            let length = char_len(&self.source[start..]);
            self.at = start + length;
            self.out
                .push_str(std::str::from_utf8(&self.source[start..self.at]).unwrap_or(""));
        } else {
            self.out.push_str(&format!("\\x{byte:02x}"));
        }
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        let awk = self.flavor == Flavor::Awk;
        let Some(&byte) = self.source.get(self.at) else {
            if !awk {
                return Err("Trailing backslash");
            }
            self.out.push_str("\\\\");
            return Ok(());
        };
        if !awk && let digit @ b'1'..=b'9' = byte {
            let number = usize::from(digit - b'0');
            if number > self.groups {
                return Err("Invalid back reference");
            }
            self.at += 1;
            self.references += 1;
            // Read again by `backtrack`.
            self.out
                .push_str(&format!("(?P<b{number}_{}>)", self.references));
            return Ok(());
        }
        if let Some(translated) = match byte {
            b'y' if awk => Some("\\b"),
            b'b' if !awk => Some("\\b"),
            b'B' => Some("\\B"),
            b'<' => Some("\\b{start}"),
            b'>' => Some("\\b{end}"),
            b'w' => Some("[[:word:]]"),
            b'W' => Some("[^[:word:]]"),
            b's' => Some("[[:space:]]"),
            b'S' => Some("[^[:space:]]"),
            b'`' => Some("\\A"),
            b'\'' => Some("\\z"),
            _ => None,
        } {
            self.at += 1;
            self.out.push_str(translated);
            return Ok(());
        }
        if !byte.is_ascii() {
            self.at += 1;
            self.literal(byte);
            return Ok(());
        }
        let byte = self.escaped();
        if byte.is_ascii() {
            push_ascii(&mut self.out, byte);
        } else {
            self.out.push_str(&format!("(?-u:\\x{byte:02x})"));
        }
        Ok(())
    }

    /// The byte that the escape at hand stands for; its backslash has been read.
    fn escaped(&mut self) -> u8 {
        match byte_escape(&self.source[self.at..], self.flavor == Flavor::Awk) {
            Some((byte, used)) => {
                self.at += used;
                byte
            }
            None => {
                let byte = self.source.get(self.at).copied().unwrap_or(b'\\');
                self.at += 1;
                byte
            }
        }
    }

    /// `[...]`, whose bracket has been read.
    fn bracket(&mut self) -> Result<(), &'static str> {
        let begin = self.at;
        let mut class = String::from("[");
        if self.source.get(self.at) == Some(&b'^') {
            class.push('^');
            self.at += 1;
        }
        let mut first = true;
        loop {
            let Some(&byte) = self.source.get(self.at) else {
                // awk: a bracket that is not closed stands for itself.
                if begin == self.source.len() && self.flavor == Flavor::Awk {
                    self.out.push_str("\\[");
                    return Ok(());
                }
                return Err("Unmatched [, [^, [:, [., or [=");
            };
            if byte == b']' && !first {
                self.at += 1;
                break;
            }
            first = false;
            let rest = &self.source[self.at..];
            if rest.starts_with(b"[:")
                && let Some(end) = rest
                    .windows(2)
                    .position(|w| w == b":]")
                    .filter(|end| *end >= 2)
            {
                let name = &rest[2..end];
                match name {
                    b"alpha" | b"digit" | b"alnum" | b"upper" | b"lower" | b"space" | b"blank"
                    | b"punct" | b"print" | b"graph" | b"cntrl" | b"xdigit" => {}
                    _ => return Err("Invalid character class name"),
                }
                class.push_str(std::str::from_utf8(&rest[..end + 2]).unwrap_or(""));
                self.at += end + 2;
                continue;
            }
            let low = self.member();
            let range = self.source.get(self.at) == Some(&b'-')
                && !matches!(self.source.get(self.at + 1), None | Some(b']'));
            if range {
                self.at += 1;
                let high = self.member();
                if high < low {
                    return Err("Invalid range end");
                }
                push_member(&mut class, low, self.utf8);
                class.push('-');
                push_member(&mut class, high, self.utf8);
            } else {
                push_member(&mut class, low, self.utf8);
            }
        }
        class.push(']');
        self.out.push_str(&class);
        Ok(())
    }

    /// One character of a bracket expression.
    fn member(&mut self) -> u32 {
        let Some(&byte) = self.source.get(self.at) else {
            return 0;
        };
        let rest = &self.source[self.at..];
        // `[.x.]` and `[=x=]` of one character.
        if rest.len() >= 5
            && rest[0] == b'['
            && matches!(rest[1], b'.' | b'=')
            && rest[3] == rest[1]
            && rest[4] == b']'
        {
            self.at += 5;
            return u32::from(rest[2]);
        }
        self.at += 1;
        // Elsewhere than in awk a backslash in brackets is one, but for what sed makes of it before.
        let escapes = byte == b'\\' && self.at < self.source.len();
        if escapes
            && (self.flavor == Flavor::Awk
                || matches!(
                    self.source[self.at],
                    b'n' | b't' | b'f' | b'v' | b'r' | b'a' | b'x' | b'o' | b'd'
                ))
        {
            return u32::from(self.escaped());
        }
        if self.utf8 && !byte.is_ascii() {
            let length = char_len(rest);
            self.at += length - 1;
            let text = std::str::from_utf8(&rest[..length]).unwrap_or("");
            return text.chars().next().map_or(u32::from(byte), u32::from);
        }
        u32::from(byte)
    }
}

fn push_ascii(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b' ' {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("\\x{byte:02x}"));
    }
}

fn push_member(class: &mut String, member: u32, utf8: bool) {
    if member < 128 {
        push_ascii(class, member as u8);
    } else if utf8 {
        class.push(char::from_u32(member).unwrap_or('?'));
    } else {
        class.push_str(&format!("\\x{:02x}", member & 0xff));
    }
}
