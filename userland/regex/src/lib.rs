//! POSIX regular expressions on the regex crate, for awk and sed: the syntax is translated; where the leftmost match
//! could be longer than the first one found, a second search finds its longest end; back-references, which the crate
//! does not have, are matched by trying (`backtrack`).

mod backtrack;

use std::cell::RefCell;

use regex::bytes;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

/// Whose syntax an expression has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// Extended, with awk's escapes, also in brackets.
    Awk,
    /// POSIX basic, with GNU's `\+`, `\?` and `\|`.
    Basic,
    /// POSIX extended, with back-references.
    Extended,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Characters are UTF-8, otherwise bytes.
    pub utf8: bool,
    pub ignore_case: bool,
    /// `^` and `$` match at lines.
    pub lines: bool,
}

/// Where a group matched.
pub type Group = Option<(usize, usize)>;

#[derive(Debug)]
pub struct Regex {
    inner: Inner,
    groups: usize,
}

#[derive(Debug)]
enum Inner {
    Plain(Box<Plain>),
    Trying(backtrack::Matcher),
}

#[derive(Debug)]
struct Plain {
    regex: bytes::Regex,
    /// Finds the longest match from a given start.
    longest: Option<(DFA, RefCell<Cache>)>,
    /// The same expression up to the end of the text: groups of a match that is longer than the first one.
    whole: Option<bytes::Regex>,
}

impl Regex {
    pub fn new(source: &[u8], flavor: Flavor, options: Options) -> Result<Self, String> {
        let options = Options {
            utf8: options.utf8 && std::str::from_utf8(source).is_ok(),
            ..options
        };
        let translated = Translator {
            source,
            at: 0,
            flavor,
            utf8: options.utf8,
            out: String::new(),
            groups: 0,
            references: 0,
        }
        .whole()
        .map_err(str::to_owned)?;
        let (pattern, groups) = (&translated.pattern, translated.groups);
        if translated.references {
            let matcher = backtrack::Matcher::new(pattern, options)?;
            return Ok(Regex {
                inner: Inner::Trying(matcher),
                groups,
            });
        }
        let build = |pattern: &str| {
            bytes::RegexBuilder::new(pattern)
                .unicode(options.utf8)
                .case_insensitive(options.ignore_case)
                .multi_line(options.lines)
                .dot_matches_new_line(true)
                .size_limit(64 << 20)
                .build()
                .map_err(|_| "Invalid regular expression".to_owned())
        };
        let regex = build(pattern)?;
        let longest = if translated.ambiguous {
            all_matches(pattern, options)
        } else {
            None
        };
        let whole = match longest {
            Some(_) if groups > 0 => build(&format!("\\A(?:{pattern})\\z")).ok(),
            _ => None,
        };
        Ok(Regex {
            inner: Inner::Plain(Box::new(Plain {
                regex,
                longest,
                whole,
            })),
            groups,
        })
    }

    /// Number of groups in parentheses.
    pub fn groups(&self) -> usize {
        self.groups
    }

    pub fn is_match(&self, text: &[u8]) -> bool {
        match &self.inner {
            Inner::Plain(plain) => plain.regex.is_match(text),
            Inner::Trying(matcher) => matcher.find(text, 0).is_some(),
        }
    }

    /// The leftmost longest match that begins at `from` or later.
    pub fn find(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        match &self.inner {
            Inner::Plain(plain) => {
                let found = plain.regex.find_at(text, from)?;
                Some((
                    found.start(),
                    longer(&plain.longest, text, found.start(), found.end()),
                ))
            }
            Inner::Trying(matcher) => matcher.find(text, from)?[0],
        }
    }

    /// Like `find`, with the groups: the whole match first.
    pub fn captures(&self, text: &[u8], from: usize) -> Option<Vec<Group>> {
        let plain = match &self.inner {
            Inner::Plain(plain) => plain,
            Inner::Trying(matcher) => return matcher.find(text, from),
        };
        let listed = |found: bytes::Captures, shift: usize| -> Vec<Group> {
            found
                .iter()
                .map(|g| g.map(|g| (g.start() + shift, g.end() + shift)))
                .collect()
        };
        let mut groups = listed(plain.regex.captures_at(text, from)?, 0);
        let (start, end) = groups[0]?;
        let best = longer(&plain.longest, text, start, end);
        if best > end {
            match plain
                .whole
                .as_ref()
                .and_then(|whole| whole.captures(&text[start..best]))
            {
                Some(found) => groups = listed(found, start),
                None => groups[0] = Some((start, best)),
            }
        }
        Some(groups)
    }
}

fn longer(longest: &Option<(DFA, RefCell<Cache>)>, text: &[u8], start: usize, end: usize) -> usize {
    if let Some((dfa, cache)) = longest {
        let input = Input::new(text).range(start..).anchored(Anchored::Yes);
        if let Ok(Some(found)) = dfa.try_search_fwd(&mut cache.borrow_mut(), &input) {
            return end.max(found.offset());
        }
    }
    end
}

fn syntax_config(options: Options) -> syntax::Config {
    syntax::Config::new()
        .unicode(options.utf8)
        .utf8(false)
        .case_insensitive(options.ignore_case)
        .multi_line(options.lines)
        .dot_matches_new_line(true)
}

fn all_matches(pattern: &str, options: Options) -> Option<(DFA, RefCell<Cache>)> {
    let dfa = DFA::builder()
        .configure(
            DFA::config()
                .match_kind(MatchKind::All)
                .unicode_word_boundary(true),
        )
        .syntax(syntax_config(options))
        .thompson(thompson::Config::new().utf8(false))
        .build(pattern)
        .ok()?;
    let cache = dfa.create_cache();
    Some((dfa, RefCell::new(cache)))
}

struct Translated {
    pattern: String,
    /// Its longest match may not be its first.
    ambiguous: bool,
    groups: usize,
    references: bool,
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

/// The byte that an escape sequence stands for (`n`, `t`, `x41`...; awk's octal, sed's `d065` and `o101`) and how much
/// of `rest`, which begins behind the backslash, it takes. None for anything else.
pub fn byte_escape(rest: &[u8], awk: bool) -> Option<(u8, usize)> {
    let based = |from: usize, most: usize, base: u32| {
        let digits = rest[from..]
            .iter()
            .take(most)
            .map_while(|b| char::from(*b).to_digit(base));
        let (count, value) = digits.fold((0, 0), |(count, value), digit| {
            (count + 1, value * base + digit)
        });
        (count > 0).then_some((value as u8, from + count))
    };
    let simple = match rest.first()? {
        b'a' => 7,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'b' if awk => 8,
        b'0'..=b'7' if awk => return based(0, 3, 8),
        b'x' => return based(1, 2, 16),
        b'd' if !awk => return based(1, 3, 10),
        b'o' if !awk => return based(1, 3, 8),
        b'c' if !awk && rest.len() > 1 => return Some((rest[1].to_ascii_uppercase() ^ 0x40, 2)),
        _ => return None,
    };
    Some((simple, 1))
}

/// Bytes of the character that `text` begins with; 1 where it is none.
pub fn char_len(text: &[u8]) -> usize {
    let want = match text[0] {
        0..=0x7f => return 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return 1,
    };
    let valid = text
        .get(..want)
        .is_some_and(|c| std::str::from_utf8(c).is_ok());
    if valid { want } else { 1 }
}

/// Whether characters are UTF-8: unless a locale is set that says otherwise.
pub fn utf8_locale() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    !matches!(set.as_deref(), Some("C" | "POSIX"))
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

    fn new(pattern: &str, flavor: Flavor) -> Result<Regex, String> {
        let options = Options {
            utf8: true,
            ..Options::default()
        };
        Regex::new(pattern.as_bytes(), flavor, options)
    }

    fn found<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
        let (start, end) = new(pattern, Flavor::Awk)
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
        let options = Options {
            utf8: true,
            ..Options::default()
        };
        let any = Regex::new(b"\xff.", Flavor::Awk, options).unwrap();
        assert_eq!(any.find(b"a\xff\x80", 0), Some((1, 3)));
        for bad in ["(", ")", "[a", "[z-a]", "[[:nope:]]"] {
            assert!(new(bad, Flavor::Awk).is_err(), "{bad}");
        }
    }

    #[test]
    fn basic_syntax_and_groups() {
        for (pattern, text, expected) in [
            ("a+b", "a+b", Some("a+b")),
            ("a\\+b", "xaab", Some("aab")),
            ("*a", "x*a", Some("*a")),
            ("\\(*a\\)", "*a", Some("*a")),
            ("^*a", "*a", Some("*a")),
            ("a^b$c", "a^b$c", Some("a^b$c")),
            ("\\(^a\\)", "ba", None),
            ("a\\{2\\}", "aaa", Some("aa")),
            ("a{2}", "a{2}", Some("a{2}")),
            ("a\\|b$", "b", Some("b")),
            ("[\\]", "a\\", Some("\\")),
            ("[\\n]", "a\n", Some("\n")),
            ("\\(.\\)\\1", "abccd", Some("cc")),
            ("^\\(.*\\)\\n\\1$", "ab\nab", Some("ab\nab")),
            ("\\(a*\\)b\\1", "aabaa", Some("aabaa")),
            ("\\(a\\)*\\1x", "aax", Some("aax")),
            ("\\bb", "ab b", Some("b")),
        ] {
            let regex = new(pattern, Flavor::Basic).unwrap();
            let found = regex
                .find(text.as_bytes(), 0)
                .map(|(from, to)| &text[from..to]);
            assert_eq!(found, expected, "{pattern}");
        }
        let regex = new("(a|ab)(c|bcd)?", Flavor::Extended).unwrap();
        assert_eq!(
            regex.captures(b"xabcd", 0).unwrap(),
            [Some((1, 5)), Some((1, 2)), Some((2, 5))]
        );
        for bad in ["\\(", "\\)", "a\\{1", "\\1", "\\"] {
            assert!(new(bad, Flavor::Basic).is_err(), "{bad}");
        }
    }
}
