//! The whole program: rules, BEGIN and END, definitions of functions.

use super::{Limits, Parser, Res};
use crate::ast::*;
use crate::lex::{Token, Word};
use crate::value::Fatal;

impl Parser<'_> {
    pub(super) fn whole(&mut self) -> Res<()> {
        loop {
            self.skip_terminators();
            if *self.peek() == Token::End {
                break;
            }
            self.item()?;
            // Two rules on one line need no `;` between them where the first ends in `}`.
            let ended = self.at > 0 && self.tokens[self.at - 1] == Token::Op("}");
            if !(ended
                || *self.peek() == Token::Newline
                || self.is(";")
                || *self.peek() == Token::End)
            {
                return self.unexpected();
            }
        }
        for (_, function, _) in &self.passed {
            debug_assert!(*function < self.program.functions.len());
        }
        match self.program.functions.iter().find(|f| f.body.is_none()) {
            Some(missing) => Err(Fatal::at(
                0,
                format!("function `{}' not defined", missing.name),
            )),
            None => Ok(()),
        }
    }

    fn item(&mut self) -> Res<()> {
        let line = self.line();
        if self.take_word(Word::Begin) {
            self.skip_newlines();
            let block = self.block()?;
            self.program.begin.push(block);
        } else if self.take_word(Word::End) {
            self.skip_newlines();
            let block = self.block()?;
            self.program.end.push(block);
        } else if self.take_word(Word::Function) {
            self.definition()?;
        } else {
            let mut pattern = Pattern::Always;
            if !self.is("{") {
                let from = self.expr(Limits::default())?;
                pattern = if self.take(",") {
                    self.skip_newlines();
                    let to = self.expr(Limits::default())?;
                    self.program.nr_ranges += 1;
                    Pattern::Range(from, to, self.program.nr_ranges - 1)
                } else {
                    Pattern::Expr(from)
                };
            }
            let action = if self.is("{") {
                Some(self.block()?)
            } else {
                None
            };
            self.program.rules.push(Rule {
                line,
                pattern,
                action,
            });
        }
        Ok(())
    }

    fn definition(&mut self) -> Res<()> {
        let name = match self.peek().clone() {
            Token::Name(name) | Token::Call(name) => name,
            _ => return self.unexpected(),
        };
        self.step();
        if self.globals.contains_key(&name) {
            return self.fail(format!("variable `{name}' is used as a function"));
        }
        let function = self.function(&name);
        if self.program.functions[function].body.is_some() {
            return self.fail(format!("function `{name}' defined twice"));
        }
        self.expect("(")?;
        let mut params: Vec<String> = Vec::new();
        self.skip_newlines();
        while !self.is(")") {
            let Token::Name(param) = self.peek().clone() else {
                return self.unexpected();
            };
            if param == name || params.contains(&param) {
                return self.fail(format!(
                    "function `{name}': parameter `{param}' is a name in use"
                ));
            }
            params.push(param);
            self.step();
            self.skip_newlines();
            if self.is(")") {
                break;
            }
            self.expect(",")?;
            self.skip_newlines();
            if self.is(")") {
                return self.unexpected();
            }
        }
        self.expect(")")?;
        self.skip_newlines();
        let entry = &mut self.program.functions[function];
        entry.arrays = vec![false; params.len()];
        // A call of itself is a call of something that is there.
        entry.body = Some(Vec::new());
        self.params = params;
        self.function = Some(function);
        let body = self.block()?;
        self.program.functions[function].body = Some(body);
        self.params.clear();
        self.function = None;
        Ok(())
    }
}
