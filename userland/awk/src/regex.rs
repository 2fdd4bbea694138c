//! POSIX extended regular expressions on the regex crate: the syntax is translated, and where the leftmost match could
//! be longer than the first one found, a second search finds its longest end.

use std::cell::RefCell;

use regex::bytes;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

#[derive(Debug)]
pub struct Regex {
    inner: bytes::Regex,
    /// Finds the longest match from a given start.
    longest: Option<(DFA, RefCell<Cache>)>,
}

impl Regex {
    /// Compiles an expression; `utf8` makes its characters UTF-8, otherwise they are bytes.
    pub fn new(source: &[u8], utf8: bool) -> Result<Self, String> {
        let utf8 = utf8 && std::str::from_utf8(source).is_ok();
        let (pattern, ambiguous) = Translator {
            source,
            at: 0,
            utf8,
            out: String::new(),
        }
        .whole()
        .map_err(|error| format!("{error}: /{}/", source.escape_ascii()))?;
        let explain = |_| format!("invalid regular expression: /{}/", source.escape_ascii());
        let inner = bytes::RegexBuilder::new(&pattern)
            .unicode(utf8)
            .dot_matches_new_line(true)
            .size_limit(64 << 20)
            .build()
            .map_err(explain)?;
        let longest = if ambiguous {
            all_matches(&pattern, utf8)
        } else {
            None
        };
        Ok(Regex { inner, longest })
    }

    pub fn is_match(&self, text: &[u8]) -> bool {
        self.inner.is_match(text)
    }

    /// The leftmost longest match that begins at `from` or later.
    pub fn find(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let found = self.inner.find_at(text, from)?;
        let (start, mut end) = (found.start(), found.end());
        if let Some((dfa, cache)) = &self.longest {
            let input = Input::new(text).range(start..).anchored(Anchored::Yes);
            if let Ok(Some(longer)) = dfa.try_search_fwd(&mut cache.borrow_mut(), &input) {
                end = end.max(longer.offset());
            }
        }
        Some((start, end))
    }

    /// Groups of the first match from `from` on: whole match first.
    pub fn groups(&self, text: &[u8], from: usize) -> Option<Vec<Option<(usize, usize)>>> {
        let found = self.inner.captures_at(text, from)?;
        Some(
            found
                .iter()
                .map(|group| group.map(|g| (g.start(), g.end())))
                .collect(),
        )
    }
}

fn all_matches(pattern: &str, utf8: bool) -> Option<(DFA, RefCell<Cache>)> {
    let dfa = DFA::builder()
        .configure(
            DFA::config()
                .match_kind(MatchKind::All)
                .unicode_word_boundary(true),
        )
        .syntax(
            syntax::Config::new()
                .unicode(utf8)
                .utf8(false)
                .dot_matches_new_line(true),
        )
        .thompson(thompson::Config::new().utf8(false))
        .build(pattern)
        .ok()?;
    let cache = dfa.create_cache();
    Some((dfa, RefCell::new(cache)))
}

struct Translator<'a> {
    source: &'a [u8],
    at: usize,
    utf8: bool,
    out: String,
}

impl Translator<'_> {
    /// The pattern in the crate's syntax, and whether its longest match may not be its first.
    fn whole(mut self) -> Result<(String, bool), &'static str> {
        let mut quantifiers = 0;
        let mut alternatives = false;
        // Where the operand of a quantifier begins in the output; None where there is none.
        let mut operand: Option<usize> = None;
        let mut quantified = false;
        let mut open = Vec::new();
        while let Some(&byte) = self.source.get(self.at) {
            let start = self.out.len();
            self.at += 1;
            match byte {
                b'(' => {
                    open.push(start);
                    self.out.push('(');
                    operand = None;
                    quantified = false;
                    continue;
                }
                b')' if !open.is_empty() => {
                    self.out.push(')');
                    operand = open.pop();
                    quantified = false;
                    continue;
                }
                b')' => return Err("unmatched )"),
                b'|' => {
                    alternatives = true;
                    self.out.push('|');
                    operand = None;
                    quantified = false;
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
                    self.out.push_str("\\{");
                }
                b'^' => {
                    self.out.push('^');
                    operand = None;
                    quantified = false;
                    continue;
                }
                b'$' => self.out.push('$'),
                b'.' => self.out.push('.'),
                b'[' => self.bracket()?,
                b'\\' => self.escape(),
                _ => self.literal(byte),
            }
            operand = Some(start);
            quantified = false;
        }
        if !open.is_empty() {
            return Err("unmatched (");
        }
        Ok((self.out, alternatives || quantifiers > 1))
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
        let end = rest.iter().position(|b| *b == b'}')?;
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
        self.at += end + 1;
        Some(text)
    }

    /// One byte of a literal, or the character that begins with it.
    fn literal(&mut self, byte: u8) {
        if byte.is_ascii() {
            push_ascii(&mut self.out, byte);
        } else if self.utf8 {
            let start = self.at - 1;
            let length = crate::format::char_len(&self.source[start..]);
            self.at = start + length;
            self.out
                .push_str(std::str::from_utf8(&self.source[start..self.at]).unwrap_or(""));
        } else {
            self.out.push_str(&format!("\\x{byte:02x}"));
        }
    }

    fn escape(&mut self) {
        let Some(&byte) = self.source.get(self.at) else {
            return self.out.push_str("\\\\");
        };
        if let Some(translated) = match byte {
            b'y' => Some("\\b"),
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
            return self.out.push_str(translated);
        }
        let byte = self.escaped();
        if byte.is_ascii() || self.utf8 && self.at > 0 && self.source[self.at - 1] == byte {
            self.literal(byte);
        } else {
            self.out.push_str(&format!("(?-u:\\x{byte:02x})"));
        }
    }

    /// The byte that the escape at hand stands for; its backslash has been read.
    fn escaped(&mut self) -> u8 {
        let rest = &self.source[self.at..];
        let length = match rest.first() {
            Some(b'0'..=b'7') => rest
                .iter()
                .take(3)
                .take_while(|b| (b'0'..=b'7').contains(*b))
                .count(),
            Some(b'x') => {
                1 + rest[1..]
                    .iter()
                    .take(2)
                    .take_while(|b| b.is_ascii_hexdigit())
                    .count()
            }
            None => return b'\\',
            _ => 1,
        };
        let whole = &self.source[self.at - 1..self.at + length];
        self.at += length;
        match crate::lex::unescape(whole).as_slice() {
            [byte] => *byte,
            _ => whole[1],
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
                // A bracket that is not closed stands for itself.
                if begin == self.source.len() {
                    self.out.push_str("\\[");
                    return Ok(());
                }
                return Err("unmatched [, [^, [:, [., or [=");
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
                    _ => return Err("invalid character class"),
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
                    return Err("invalid range end");
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
        if byte == b'\\' {
            return u32::from(self.escaped());
        }
        if self.utf8 && !byte.is_ascii() {
            let length = crate::format::char_len(rest);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
        let (start, end) = Regex::new(pattern.as_bytes(), true)
            .unwrap()
            .find(text.as_bytes(), 0)?;
        Some(&text[start..end])
    }

    #[test]
    fn posix_syntax_and_longest_match() {
        for (pattern, text, expected) in [
            ("a|ab|abc", "xabcd", Some("abc")),
            ("(a|ab)(c|bcd)", "abcd", Some("abcd")),
            ("a?(ab)?", "ab", Some("ab")),
            ("a+?", "aaa", Some("aaa")),
            ("^*ab", "*ab", Some("*ab")),
            ("a{2}", "aaa", Some("aa")),
            ("a{,2}b", "aab", Some("aab")),
            ("a{x", "a{x", Some("a{x")),
            ("{", "{", Some("{")),
            ("[]a]+", "]a]", Some("]a]")),
            ("[^]a]", "]b", Some("b")),
            ("[a\\]b]+", "a]b", Some("a]b")),
            ("[a-]+", "-a-", Some("-a-")),
            ("[[:digit:][:upper:]]+", "aB1c", Some("B1")),
            ("[&~]+", "a&~b", Some("&~")),
            ("\\.", "a.b", Some(".")),
            ("\\$x", "$x", Some("$x")),
            ("a.c", "a\nc", Some("a\nc")),
            ("\\<b+\\>", "abb bb", Some("bb")),
            ("x(?y)", "xy", None),
            ("é+", "caféé", Some("éé")),
            ("[é]", "é", Some("é")),
            ("a\\/b", "a/b", Some("a/b")),
            ("()", "a", Some("")),
            ("(|a)b", "ab", Some("ab")),
        ] {
            assert_eq!(found(pattern, text), expected, "{pattern}");
        }
    }

    #[test]
    fn bytes_and_mistakes() {
        let any = Regex::new(b"\xff.", true).unwrap();
        assert_eq!(any.find(b"a\xff\x80", 0), Some((1, 3)));
        for bad in ["(", ")", "[a", "[z-a]", "[[:nope:]]"] {
            assert!(Regex::new(bad.as_bytes(), true).is_err(), "{bad}");
        }
    }
}
