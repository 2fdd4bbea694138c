//! Operators, from the loosest to the one that binds most tightly.

use super::operand::is_place;
use super::{Limits, Parser, Res};
use crate::ast::*;
use crate::lex::{Token, Word};

impl Parser<'_> {
    /// Expressions up to `close`, at least one.
    pub(super) fn list(&mut self, close: &str) -> Res<Vec<Expr>> {
        let mut list = Vec::new();
        loop {
            self.skip_newlines();
            list.push(self.expr(Limits::default())?);
            self.skip_newlines();
            if self.take(close) {
                return Ok(list);
            }
            self.expect(",")?;
        }
    }

    pub(super) fn expr(&mut self, limits: Limits) -> Res<Expr> {
        self.deeper(|p| p.ternary(limits))
    }

    fn ternary(&mut self, limits: Limits) -> Res<Expr> {
        let condition = self.or(limits)?;
        if !self.take("?") {
            return Ok(condition);
        }
        self.skip_newlines();
        let yes = self.expr(limits)?;
        self.skip_newlines();
        self.expect(":")?;
        self.skip_newlines();
        let no = self.expr(limits)?;
        Ok(Expr::Cond(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    fn or(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.and(limits)?;
        while self.take("||") {
            self.skip_newlines();
            let right = self.and(limits)?;
            left = Expr::Or(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn and(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.membership(limits)?;
        while self.take("&&") {
            self.skip_newlines();
            let right = self.membership(limits)?;
            left = Expr::And(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn membership(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.matching(limits)?;
        while *self.peek() == Token::Word(Word::In) {
            self.step();
            let Token::Name(name) = self.peek().clone() else {
                return self.unexpected();
            };
            self.step();
            let array = self.array(&name)?;
            let subscripts = match left {
                Expr::Group(list) => list,
                other => vec![other],
            };
            left = Expr::In(subscripts, array);
        }
        Ok(left)
    }

    fn matching(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.comparison(limits)?;
        while self.is("~") || self.is("!~") {
            let not = self.is("!~");
            self.step();
            let regex = Box::new(self.comparison(limits)?);
            let text = Box::new(left);
            left = Expr::Match { not, text, regex };
        }
        Ok(left)
    }

    fn comparison(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.piped(limits)?;
        loop {
            let op = match self.peek() {
                Token::Op("<") => Compare::Lt,
                Token::Op("<=") => Compare::Le,
                Token::Op("==") => Compare::Eq,
                Token::Op("!=") => Compare::Ne,
                Token::Op(">") if !limits.print => Compare::Gt,
                Token::Op(">=") => Compare::Ge,
                _ => return Ok(left),
            };
            self.step();
            let right = self.piped(limits)?;
            left = Expr::Compare(op, Box::new(left), Box::new(right));
        }
    }

    /// `command | getline`, any number of times.
    fn piped(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.concat(limits)?;
        while self.is("|") && *self.peek_at(1) == Token::Word(Word::Getline) {
            self.at += 2;
            let target = self.target()?;
            left = Expr::Getline(Source::Command(Box::new(left)), target);
        }
        Ok(left)
    }

    fn begins_operand(&self) -> bool {
        matches!(
            self.peek(),
            Token::Number(_)
                | Token::Text(_)
                | Token::Regex(_)
                | Token::Name(_)
                | Token::Call(_)
                | Token::Builtin(_)
                | Token::Op("$" | "!" | "(" | "-" | "+" | "++" | "--")
        )
    }

    pub(super) fn concat(&mut self, limits: Limits) -> Res<Expr> {
        let first = self.additive(limits)?;
        let mut parts = vec![first];
        // A sign would have been taken as an operator, and `!` begins no operand of a concatenation but of `!~`'s kin.
        while self.begins_operand() && !self.is("-") && !self.is("+") && !self.is("!") {
            parts.push(self.additive(limits)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Expr::Concat(parts),
        })
    }

    fn additive(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.term(limits)?;
        loop {
            let op = match self.peek() {
                Token::Op("+") => Arith::Add,
                Token::Op("-") => Arith::Sub,
                _ => return Ok(left),
            };
            self.step();
            let right = self.term(limits)?;
            left = Expr::Arith(op, Box::new(left), Box::new(right));
        }
    }

    fn term(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.unary(limits)?;
        loop {
            let op = match self.peek() {
                Token::Op("*") => Arith::Mul,
                Token::Op("/") => Arith::Div,
                Token::Op("%") => Arith::Mod,
                _ => return Ok(left),
            };
            self.step();
            let right = self.unary(limits)?;
            left = Expr::Arith(op, Box::new(left), Box::new(right));
        }
    }

    pub(super) fn unary(&mut self, limits: Limits) -> Res<Expr> {
        let wrap: fn(Box<Expr>) -> Expr = match self.peek() {
            Token::Op("!") => Expr::Not,
            Token::Op("-") => Expr::Neg,
            Token::Op("+") => Expr::Plus,
            _ => return self.power(limits),
        };
        self.step();
        let operand = self.deeper(|p| p.unary(limits))?;
        Ok(wrap(Box::new(operand)))
    }

    fn power(&mut self, limits: Limits) -> Res<Expr> {
        let base = self.postfix(limits)?;
        if !self.take("^") {
            return Ok(base);
        }
        // Right-associative, and a sign may stand before the exponent.
        let exponent = self.deeper(|p| p.unary(limits))?;
        Ok(Expr::Arith(Arith::Pow, Box::new(base), Box::new(exponent)))
    }

    /// An operand with `++` or `--` behind it, or the assignment that it begins.
    fn postfix(&mut self, limits: Limits) -> Res<Expr> {
        let operand = self.primary(limits)?;
        if !is_place(&operand) {
            return Ok(operand);
        }
        let Token::Op(op) = *self.peek() else {
            return Ok(operand);
        };
        let arith = match op {
            "=" => None,
            "+=" => Some(Arith::Add),
            "-=" => Some(Arith::Sub),
            "*=" => Some(Arith::Mul),
            "/=" => Some(Arith::Div),
            "%=" => Some(Arith::Mod),
            "^=" => Some(Arith::Pow),
            "++" | "--" => {
                self.step();
                return Ok(Expr::Step {
                    by: if op == "++" { 1.0 } else { -1.0 },
                    old: true,
                    target: Box::new(operand),
                });
            }
            _ => return Ok(operand),
        };
        self.step();
        self.skip_newlines();
        let value = Box::new(self.expr(limits)?);
        let target = Box::new(operand);
        Ok(match arith {
            None => Expr::Assign(target, value),
            Some(op) => Expr::Update(op, target, value),
        })
    }
}
