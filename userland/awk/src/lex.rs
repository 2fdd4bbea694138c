//! Program text to tokens. Whether a `/` divides or begins a regular expression follows from the token before it.

use crate::value::Fatal;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Newline,
    Number(f64),
    Text(Vec<u8>),
    Regex(Vec<u8>),
    /// A name; a call of a function when `(` follows at once.
    Name(String),
    Call(String),
    Builtin(&'static str),
    Word(Word),
    /// Punctuation and operators, as written (`**` as `^`).
    Op(&'static str),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    Begin,
    End,
    Function,
    If,
    Else,
    While,
    For,
    Do,
    Break,
    Continue,
    Next,
    NextFile,
    Exit,
    Return,
    Delete,
    In,
    Getline,
    Print,
    Printf,
    Switch,
    Case,
    Default,
}

const WORDS: &[(&str, Word)] = &[
    ("BEGIN", Word::Begin),
    ("END", Word::End),
    ("function", Word::Function),
    ("func", Word::Function),
    ("if", Word::If),
    ("else", Word::Else),
    ("while", Word::While),
    ("for", Word::For),
    ("do", Word::Do),
    ("break", Word::Break),
    ("continue", Word::Continue),
    ("next", Word::Next),
    ("nextfile", Word::NextFile),
    ("exit", Word::Exit),
    ("return", Word::Return),
    ("delete", Word::Delete),
    ("in", Word::In),
    ("getline", Word::Getline),
    ("print", Word::Print),
    ("printf", Word::Printf),
    ("switch", Word::Switch),
    ("case", Word::Case),
    ("default", Word::Default),
];

pub const BUILTINS: &[&str] = &[
    "and", "asort", "asorti", "atan2", "close", "compl", "cos", "exp", "fflush", "gensub", "gsub",
    "index", "int", "isarray", "length", "log", "lshift", "match", "mktime", "or", "rand",
    "rshift", "sin", "split", "sprintf", "sqrt", "srand", "strftime", "strtonum", "sub", "substr",
    "system", "systime", "tolower", "toupper", "typeof", "xor",
];

/// Longest first.
const OPS: &[&str] = &[
    "**=", "&&", "||", "++", "--", "+=", "-=", "*=", "/=", "%=", "^=", "**", "==", "<=", ">=",
    "!=", "!~", ">>", "|&", "{", "}", "(", ")", "[", "]", ";", ",", "+", "-", "*", "/", "%", "^",
    "!", ">", "<", "|", "?", ":", "~", "$", "=",
];

pub struct Lexed {
    pub tokens: Vec<Token>,
    /// Line of each token, from 1.
    pub lines: Vec<usize>,
}

/// Cuts `text` into tokens; the last is `End`.
pub fn lex(text: &[u8]) -> Result<Lexed, Fatal> {
    let mut lexer = Lexer {
        text,
        at: 0,
        line: 1,
        out: Lexed {
            tokens: Vec::new(),
            lines: Vec::new(),
        },
    };
    while lexer.one()? {}
    lexer.push(Token::Newline);
    lexer.push(Token::End);
    Ok(lexer.out)
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    out: Lexed,
}

impl Lexer<'_> {
    fn push(&mut self, token: Token) {
        self.out.tokens.push(token);
        self.out.lines.push(self.line);
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Fatal> {
        Err(Fatal::at(self.line, message))
    }

    /// Reads one token; false at the end.
    fn one(&mut self) -> Result<bool, Fatal> {
        let Some(&byte) = self.text.get(self.at) else {
            return Ok(false);
        };
        match byte {
            b' ' | b'\t' | b'\r' => self.at += 1,
            b'\n' => {
                self.push(Token::Newline);
                self.at += 1;
                self.line += 1;
            }
            b'\\' if self.peek(1) == b'\n' => {
                self.at += 2;
                self.line += 1;
            }
            b'\\' if self.peek(1) == b'\r' && self.peek(2) == b'\n' => {
                self.at += 3;
                self.line += 1;
            }
            b'#' => {
                let rest = &self.text[self.at..];
                self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            }
            b'"' => self.string()?,
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.name(),
            b'/' if self.regex_may_begin() => self.regex()?,
            b'@' => return self.fail("@ directives are not supported"),
            _ => {
                let rest = &self.text[self.at..];
                let Some(op) = OPS.iter().find(|op| rest.starts_with(op.as_bytes())) else {
                    return self.fail(format!(
                        "invalid char '{}' in expression",
                        byte.escape_ascii()
                    ));
                };
                self.at += op.len();
                self.push(Token::Op(match *op {
                    "**" => "^",
                    "**=" => "^=",
                    op => op,
                }));
            }
        }
        Ok(true)
    }

    fn regex_may_begin(&self) -> bool {
        !matches!(
            self.out.tokens.last(),
            Some(
                Token::Name(_)
                    | Token::Number(_)
                    | Token::Text(_)
                    | Token::Regex(_)
                    | Token::Builtin(_)
                    | Token::Op(")" | "]" | "$" | "++" | "--")
            )
        )
    }

    fn number(&mut self) {
        let rest = &self.text[self.at..];
        if rest.len() > 2 && rest[0] == b'0' && rest[1] | 32 == b'x' && rest[2].is_ascii_hexdigit()
        {
            let digits = rest[2..]
                .iter()
                .take_while(|b| b.is_ascii_hexdigit())
                .count();
            let value = rest[2..2 + digits]
                .iter()
                .fold(0.0, |n, b| n * 16.0 + f64::from(hex(*b)));
            self.at += 2 + digits;
            return self.push(Token::Number(value));
        }
        let (value, used) = crate::value::scan_number(rest).unwrap_or((0.0, 1));
        let octal = rest[..used].len() > 1
            && rest[0] == b'0'
            && rest[..used].iter().all(|b| (b'0'..=b'7').contains(b));
        self.at += used;
        self.push(Token::Number(if octal {
            rest[..used]
                .iter()
                .fold(0.0, |n, b| n * 8.0 + f64::from(b - b'0'))
        } else {
            value
        }));
    }

    fn name(&mut self) {
        let rest = &self.text[self.at..];
        let length = rest
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
            .count();
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length;
        let token = if let Some((_, word)) = WORDS.iter().find(|(text, _)| *text == name) {
            Token::Word(*word)
        } else if let Some(builtin) = BUILTINS.iter().find(|text| **text == name) {
            Token::Builtin(builtin)
        } else if self.peek(0) == b'(' {
            Token::Call(name)
        } else {
            Token::Name(name)
        };
        self.push(token);
    }

    fn string(&mut self) -> Result<(), Fatal> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek(0) {
                b'"' if self.at < self.text.len() => break,
                b'\\' if self.at + 1 < self.text.len() => self.at += 2,
                b'\n' => return self.fail("unterminated string"),
                _ if self.at >= self.text.len() => return self.fail("unterminated string"),
                _ => self.at += 1,
            }
        }
        let raw = &self.text[start..self.at];
        self.line += raw.iter().filter(|b| **b == b'\n').count();
        let text = unescape(raw);
        self.at += 1;
        self.push(Token::Text(text));
        Ok(())
    }

    fn regex(&mut self) -> Result<(), Fatal> {
        self.at += 1;
        let mut out = Vec::new();
        let mut bracket = None;
        loop {
            let byte = self.peek(0);
            if self.at >= self.text.len() || byte == b'\n' {
                return self.fail("unterminated regexp");
            }
            match byte {
                b'\\' if self.peek(1) == b'/' => {
                    out.push(b'/');
                    self.at += 2;
                    continue;
                }
                b'\\' if self.peek(1) == b'\n' => {
                    self.at += 2;
                    self.line += 1;
                    continue;
                }
                b'\\' if self.at + 1 < self.text.len() => {
                    out.push(byte);
                    self.at += 1;
                }
                b'/' if bracket.is_none() || !self.bracket_closes() => break,
                b'[' if bracket.is_none() => bracket = Some(out.len()),
                // The first in a bracket expression stands for itself.
                b']' => match bracket {
                    Some(open) if out.len() > open + 1 && out[open + 1..] != *b"^" => {
                        bracket = None
                    }
                    _ => {}
                },
                _ => {}
            }
            out.push(self.peek(0));
            self.at += 1;
        }
        self.at += 1;
        self.push(Token::Regex(out));
        Ok(())
    }

    /// Whether the bracket expression that is open here is closed on this line, before an expression ends that
    /// follows the `/` here. (`/[/]/` is one expression, and so is `/[/`.)
    fn bracket_closes(&self) -> bool {
        let rest = &self.text[self.at..];
        let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
        memchr::memchr(b']', line).is_some_and(|close| line[close..].contains(&b'/'))
    }
}

fn hex(byte: u8) -> u32 {
    char::from(byte).to_digit(16).unwrap_or(0)
}

/// Replaces the escape sequences of a string. An unknown one keeps its backslash, which is what the author of a
/// dynamic regular expression wants.
pub fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let byte = raw[at];
        at += 1;
        if byte != b'\\' || at == raw.len() {
            out.push(byte);
            continue;
        }
        let escaped = raw[at];
        at += 1;
        match escaped {
            b'\n' => {}
            b'"' | b'\\' | b'/' => out.push(escaped),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                let mut value = u32::from(escaped - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = raw.get(at).copied() else {
                        break;
                    };
                    value = value * 8 + u32::from(digit - b'0');
                    at += 1;
                }
                out.push(value as u8);
            }
            b'x' if raw.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                let mut value = 0;
                for _ in 0..2 {
                    let Some(digit) = raw.get(at).filter(|b| b.is_ascii_hexdigit()) else {
                        break;
                    };
                    value = value * 16 + hex(*digit);
                    at += 1;
                }
                out.push(value as u8);
            }
            _ => out.extend([b'\\', escaped]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        let mut tokens = lex(text.as_bytes()).unwrap().tokens;
        tokens.truncate(tokens.len() - 2);
        tokens
    }

    #[test]
    fn slash_divides_or_begins_an_expression() {
        assert_eq!(tokens("a / b / c").len(), 5);
        assert_eq!(
            tokens("x ~ /a\\/[/]b/"),
            [
                Token::Name("x".into()),
                Token::Op("~"),
                Token::Regex(b"a/[/]b".to_vec())
            ]
        );
        assert_eq!(tokens("/[/"), [Token::Regex(b"[".to_vec())]);
        assert_eq!(tokens("/=/"), [Token::Regex(b"=".to_vec())]);
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(br#"a\tb\\\"\/\101\x41\."#), b"a\tb\\\"/AA\\.");
        assert_eq!(unescape(b"end\\"), b"end\\");
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        for text in ["\"abc", "/abc", "\"a\nb\"", "`"] {
            assert!(lex(text.as_bytes()).is_err(), "{text}");
        }
    }
}
