//! POSIX regular expressions on the regex crate, for awk and sed: the syntax is translated; where the leftmost match
//! could be longer than the first one found, a second search finds its longest end; back-references, which the crate
//! does not have, are matched by trying. `translate` has the syntax, `longest` the second search, `backtrack` the
//! trying.

mod backtrack;
mod longest;
mod text;
mod translate;

use std::cell::RefCell;

use longest::{all_matches, longer};
use regex::bytes;
use regex_automata::hybrid::dfa::{Cache, DFA};
use translate::translate;

pub use text::{byte_escape, char_len, utf8_locale};

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
        let translated = translate(source, flavor, options.utf8).map_err(str::to_owned)?;
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
