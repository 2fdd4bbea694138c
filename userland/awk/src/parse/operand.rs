//! What operators stand between: constants, variables, fields, getline, expressions in parentheses.

use std::rc::Rc;

use super::{Limits, Parser, Res};
use crate::ast::*;
use crate::lex::{Token, Word};
use crate::value::{Value, text};

impl Parser<'_> {
    /// The variable that getline fills, if one is named.
    pub(super) fn target(&mut self) -> Res<Option<Box<Expr>>> {
        match self.peek() {
            Token::Name(_) | Token::Op("$") => Ok(Some(Box::new(self.place()?))),
            _ => Ok(None),
        }
    }

    /// Something that can be assigned to.
    fn place(&mut self) -> Res<Expr> {
        match self.peek().clone() {
            Token::Op("$") => {
                self.step();
                let index = self.deeper(|p| p.field_index())?;
                Ok(Expr::Field(Box::new(index)))
            }
            Token::Name(name) => {
                self.step();
                if self.take("[") {
                    let array = self.array(&name)?;
                    let subscripts = self.list("]")?;
                    return Ok(Expr::Index(array, subscripts));
                }
                Ok(Expr::Var(self.var(&name)?))
            }
            _ => self.unexpected(),
        }
    }

    /// What follows `$`: an operand that binds more tightly than anything.
    fn field_index(&mut self) -> Res<Expr> {
        match self.peek() {
            Token::Op("++" | "--") => self.primary(Limits::default()),
            Token::Op("-") => {
                self.step();
                let operand = self.deeper(|p| p.field_index())?;
                Ok(Expr::Neg(Box::new(operand)))
            }
            Token::Op("+" | "!") => self.unexpected(),
            _ => self.primary(Limits::default()),
        }
    }

    pub(super) fn primary(&mut self, limits: Limits) -> Res<Expr> {
        match self.peek().clone() {
            Token::Number(n) => {
                self.step();
                Ok(Expr::Const(Value::Num(n)))
            }
            Token::Text(bytes) => {
                self.step();
                Ok(Expr::Const(text(&bytes)))
            }
            Token::Regex(source) => {
                let regex = match crate::compile(&source, self.utf8) {
                    Ok(regex) => regex,
                    Err(error) => return self.fail(error),
                };
                self.step();
                Ok(Expr::Regex(Rc::new(regex)))
            }
            Token::Name(_) | Token::Op("$") => self.place(),
            Token::Op(op @ ("++" | "--")) => {
                self.step();
                let target = self.place()?;
                Ok(Expr::Step {
                    by: if op == "++" { 1.0 } else { -1.0 },
                    old: false,
                    target: Box::new(target),
                })
            }
            Token::Op("(") => {
                self.step();
                self.skip_newlines();
                let mut list = self.list(")")?;
                if list.len() > 1 {
                    // Subscripts, or what print prints.
                    let fits = *self.peek() == Token::Word(Word::In) || limits.print;
                    return if fits {
                        Ok(Expr::Group(list))
                    } else {
                        self.unexpected()
                    };
                }
                let inner = list.remove(0);
                // In parentheses it is a value: `(x) = 1` and `(/re/)` lose what they had.
                Ok(match inner {
                    place if is_place(&place) && !self.is("++") && !self.is("--") => {
                        Expr::Plain(Box::new(place))
                    }
                    other => other,
                })
            }
            Token::Op("-" | "+" | "!") => self.unary(limits),
            Token::Call(name) => {
                self.step();
                self.call(&name)
            }
            Token::Builtin(name) => {
                self.step();
                self.builtin(name)
            }
            Token::Word(Word::Getline) => {
                self.step();
                let target = self.target()?;
                if self.take("<") {
                    let file = self.file_operand()?;
                    return Ok(Expr::Getline(Source::File(Box::new(file)), target));
                }
                Ok(Expr::Getline(Source::Next, target))
            }
            _ => self.unexpected(),
        }
    }

    /// The file of `getline <`: no concatenation, no operator.
    fn file_operand(&mut self) -> Res<Expr> {
        self.deeper(|p| p.primary(Limits::default()))
    }
}

pub(super) fn is_place(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(_) | Expr::Field(_) | Expr::Index(..))
}
