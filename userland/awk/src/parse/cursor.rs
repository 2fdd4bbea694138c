//! The tokens ahead, and what is said of one that does not fit.

use super::{MAX_DEPTH, Parser, Res};
use crate::lex::{Token, Word};
use crate::value::Fatal;

impl Parser<'_> {
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Token {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)]
    }

    pub(super) fn line(&self) -> usize {
        self.lines[self.at.min(self.lines.len() - 1)]
    }

    pub(super) fn step(&mut self) {
        self.at += 1;
    }

    pub(super) fn is(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(found) if *found == op)
    }

    pub(super) fn take(&mut self, op: &str) -> bool {
        let found = self.is(op);
        if found {
            self.step();
        }
        found
    }

    pub(super) fn take_word(&mut self, word: Word) -> bool {
        let found = *self.peek() == Token::Word(word);
        if found {
            self.step();
        }
        found
    }

    pub(super) fn expect(&mut self, op: &str) -> Res<()> {
        if self.take(op) {
            Ok(())
        } else {
            self.unexpected()
        }
    }

    pub(super) fn unexpected<T>(&self) -> Res<T> {
        let what = match self.peek() {
            Token::Newline if *self.peek_at(1) == Token::End => "end of program".to_owned(),
            Token::Newline => "end of line".to_owned(),
            Token::End => "end of program".to_owned(),
            Token::Number(n) => n.to_string(),
            Token::Text(_) => "string".to_owned(),
            Token::Regex(_) => "regular expression".to_owned(),
            Token::Name(name) | Token::Call(name) => name.clone(),
            Token::Builtin(name) => (*name).to_owned(),
            Token::Word(word) => format!("{word:?}").to_lowercase(),
            Token::Op(op) => (*op).to_owned(),
        };
        self.fail(format!("syntax error at or near {what}"))
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(Fatal::at(self.line(), message))
    }

    pub(super) fn skip_newlines(&mut self) {
        while *self.peek() == Token::Newline {
            self.step();
        }
    }

    pub(super) fn skip_terminators(&mut self) {
        while *self.peek() == Token::Newline || self.is(";") {
            self.step();
        }
    }

    /// Runs `parse` one level deeper.
    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }
}
