//! Statements, with what ends them.

use super::{Limits, Parser, Res};
use crate::ast::*;
use crate::lex::{Token, Word};

/// Where print prints to.
type Target = (Redirect, Expr);

impl Parser<'_> {
    /// `{ ... }`
    pub(super) fn block(&mut self) -> Res<Vec<Stmt>> {
        self.expect("{")?;
        let mut list = Vec::new();
        loop {
            self.skip_terminators();
            if self.take("}") {
                return Ok(list);
            }
            if *self.peek() == Token::End {
                return self.unexpected();
            }
            let stmt = self.deeper(Self::stmt)?;
            list.push(stmt);
        }
    }

    /// One statement with what ends it.
    fn stmt(&mut self) -> Res<Stmt> {
        let line = self.line();
        let kind = self.stmt_kind()?;
        Ok(Stmt { line, kind })
    }

    /// `;`, a newline, or a `}` to come.
    fn terminator(&mut self) -> Res<()> {
        if self.is("}") || *self.peek() == Token::End {
            return Ok(());
        }
        if self.take(";") || *self.peek() == Token::Newline {
            self.skip_newlines();
            return Ok(());
        }
        self.unexpected()
    }

    /// The statement that a loop or condition rules.
    pub(super) fn body(&mut self) -> Res<Box<Stmt>> {
        self.skip_newlines();
        if self.is(";") {
            let line = self.line();
            self.step();
            let kind = Kind::Block(Vec::new());
            return Ok(Box::new(Stmt { line, kind }));
        }
        Ok(Box::new(self.deeper(Self::stmt)?))
    }

    fn loop_body(&mut self) -> Res<Box<Stmt>> {
        self.loops += 1;
        let body = self.body();
        self.loops -= 1;
        body
    }

    fn condition(&mut self) -> Res<Expr> {
        self.expect("(")?;
        self.skip_newlines();
        let expr = self.expr(Limits::default())?;
        self.skip_newlines();
        self.expect(")")?;
        Ok(expr)
    }

    fn stmt_kind(&mut self) -> Res<Kind> {
        let token = self.peek().clone();
        let Token::Word(word) = token else {
            if self.is("{") {
                let block = self.block()?;
                return Ok(Kind::Block(block));
            }
            let kind = self.simple()?;
            self.terminator()?;
            return Ok(kind);
        };
        let optional = |p: &mut Self| -> Res<Option<Expr>> {
            let ends = p.is(";") || p.is("}") || matches!(p.peek(), Token::Newline | Token::End);
            if ends {
                Ok(None)
            } else {
                p.expr(Limits::default()).map(Some)
            }
        };
        let kind = match word {
            Word::If => {
                self.step();
                let condition = self.condition()?;
                let then = self.body()?;
                let back = self.at;
                self.skip_terminators();
                if self.take_word(Word::Else) {
                    let other = self.body()?;
                    return Ok(Kind::If(condition, then, Some(other)));
                }
                self.at = back;
                return Ok(Kind::If(condition, then, None));
            }
            Word::While => {
                self.step();
                let condition = self.condition()?;
                if self.take(";") {
                    let line = self.line();
                    let kind = Kind::Block(Vec::new());
                    return Ok(Kind::While(condition, Box::new(Stmt { line, kind })));
                }
                let body = self.loop_body()?;
                return Ok(Kind::While(condition, body));
            }
            Word::Do => {
                self.step();
                let body = self.loop_body()?;
                self.skip_terminators();
                if !self.take_word(Word::While) {
                    return self.unexpected();
                }
                Kind::Do(body, self.condition()?)
            }
            Word::For => return self.for_loop(),
            Word::Switch => return self.switch(),
            Word::Next | Word::NextFile => {
                self.step();
                if word == Word::Next {
                    Kind::Next
                } else {
                    Kind::NextFile
                }
            }
            Word::Break | Word::Continue => {
                if self.loops == 0 {
                    let name = if word == Word::Break {
                        "break"
                    } else {
                        "continue"
                    };
                    return self.fail(format!("`{name}' is not allowed outside a loop or switch"));
                }
                self.step();
                if word == Word::Break {
                    Kind::Break
                } else {
                    Kind::Continue
                }
            }
            Word::Exit => {
                self.step();
                Kind::Exit(optional(self)?)
            }
            Word::Return => {
                if self.function.is_none() {
                    return self.fail("`return' used outside function context");
                }
                self.step();
                Kind::Return(optional(self)?)
            }
            _ => self.simple()?,
        };
        self.terminator()?;
        Ok(kind)
    }

    fn for_loop(&mut self) -> Res<Kind> {
        self.step();
        self.expect("(")?;
        self.skip_newlines();
        if let (Token::Name(name), Token::Word(Word::In), Token::Name(array), Token::Op(")")) = (
            self.peek().clone(),
            self.peek_at(1),
            self.peek_at(2).clone(),
            self.peek_at(3),
        ) {
            let var = Expr::Var(self.var(&name)?);
            let array = self.array(&array)?;
            self.at += 4;
            let body = self.loop_body()?;
            return Ok(Kind::ForIn(var, array, body));
        }
        let part = |p: &mut Self| -> Res<Option<Box<Stmt>>> {
            let line = p.line();
            let kind = p.simple()?;
            Ok(Some(Box::new(Stmt { line, kind })))
        };
        let init = if self.is(";") { None } else { part(self)? };
        // `for ((a, b) in c)` and `for (a[i] in c)` end here too.
        self.expect(";")?;
        self.skip_newlines();
        let condition = if self.is(";") {
            None
        } else {
            Some(self.expr(Limits::default())?)
        };
        self.expect(";")?;
        self.skip_newlines();
        let step = if self.is(")") { None } else { part(self)? };
        self.skip_newlines();
        self.expect(")")?;
        let body = self.loop_body()?;
        Ok(Kind::For(init, condition, step, body))
    }

    fn switch(&mut self) -> Res<Kind> {
        self.step();
        let subject = self.condition()?;
        self.skip_newlines();
        self.expect("{")?;
        let mut cases = Vec::new();
        self.loops += 1;
        loop {
            self.skip_terminators();
            if self.take("}") {
                break;
            }
            let label = if self.take_word(Word::Case) {
                Some(self.unary(Limits::default())?)
            } else if self.take_word(Word::Default) {
                None
            } else {
                return self.unexpected();
            };
            self.expect(":")?;
            let mut list = Vec::new();
            loop {
                self.skip_terminators();
                if self.is("}") || matches!(self.peek(), Token::Word(Word::Case | Word::Default)) {
                    break;
                }
                let stmt = self.deeper(Self::stmt)?;
                list.push(stmt);
            }
            cases.push((label, list));
        }
        self.loops -= 1;
        Ok(Kind::Switch(subject, cases))
    }

    /// A statement that may stand in the head of a `for`.
    fn simple(&mut self) -> Res<Kind> {
        match self.peek() {
            Token::Word(Word::Print) => {
                self.step();
                let (args, to) = self.print_args()?;
                Ok(Kind::Print(args, to))
            }
            Token::Word(Word::Printf) => {
                self.step();
                let (args, to) = self.print_args()?;
                if args.is_empty() {
                    return self.fail("printf: no format");
                }
                Ok(Kind::Printf(args, to))
            }
            Token::Word(Word::Delete) => {
                self.step();
                let Token::Name(name) = self.peek().clone() else {
                    return self.unexpected();
                };
                self.step();
                let array = self.array(&name)?;
                let subscripts = if self.take("[") {
                    Some(self.list("]")?)
                } else {
                    None
                };
                Ok(Kind::Delete(array, subscripts))
            }
            _ => Ok(Kind::Expr(self.expr(Limits::default())?)),
        }
    }

    fn print_args(&mut self) -> Res<(Vec<Expr>, Option<Target>)> {
        let limits = Limits { print: true };
        let mut args = Vec::new();
        let ends = |p: &Self| {
            p.is(";")
                || p.is("}")
                || p.is(">")
                || p.is(">>")
                || p.is("|")
                || matches!(p.peek(), Token::Newline | Token::End)
        };
        if !ends(self) {
            loop {
                args.push(self.expr(limits)?);
                if !self.take(",") {
                    break;
                }
                self.skip_newlines();
            }
        }
        if let [Expr::Group(_)] = args.as_slice()
            && let Some(Expr::Group(list)) = args.pop()
        {
            args = list;
        }
        let redirect = match self.peek() {
            Token::Op(">") => Redirect::Write,
            Token::Op(">>") => Redirect::Append,
            Token::Op("|") => Redirect::Pipe,
            Token::Op("|&") => return self.fail("|& is not supported"),
            _ => return Ok((args, None)),
        };
        self.step();
        let to = self.concat(limits)?;
        Ok((args, Some((redirect, to))))
    }
}
