//! Statements: blocks, conditions, loops and switch, and where each leads.

use std::cmp::Ordering;

use super::{Cell, Flow, Interp, Res, Stop};
use crate::ast::*;
use crate::value::{Str, Value, compare};

impl<'p> Interp<'p> {
    pub(super) fn block(&mut self, block: &'p [Stmt]) -> Res<Flow> {
        for stmt in block {
            match self.exec(stmt)? {
                Flow::On => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::On)
    }

    fn exec(&mut self, stmt: &'p Stmt) -> Res<Flow> {
        self.line = stmt.line;
        match &stmt.kind {
            Kind::Expr(expr) => self.effect(expr)?,
            Kind::Print(args, to) => self.print(args, to.as_ref())?,
            Kind::Printf(args, to) => self.printf(args, to.as_ref())?,
            Kind::If(condition, then, other) => {
                if self.truth(condition)? {
                    return self.exec(then);
                } else if let Some(other) = other {
                    return self.exec(other);
                }
            }
            Kind::While(condition, body) => {
                while self.truth(condition)? {
                    match self.exec(body)? {
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                        Flow::On | Flow::Continue => {}
                    }
                }
            }
            Kind::Do(body, condition) => loop {
                match self.exec(body)? {
                    Flow::Break => break,
                    Flow::Return => return Ok(Flow::Return),
                    Flow::On | Flow::Continue => {}
                }
                if !self.truth(condition)? {
                    break;
                }
            },
            Kind::For(init, condition, step, body) => {
                if let Some(init) = init {
                    self.exec(init)?;
                }
                loop {
                    if let Some(condition) = condition
                        && !self.truth(condition)?
                    {
                        break;
                    }
                    match self.exec(body)? {
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                        Flow::On | Flow::Continue => {}
                    }
                    if let Some(step) = step {
                        self.exec(step)?;
                    }
                }
            }
            Kind::ForIn(var, array, body) => {
                let keys = self.keys(*array)?;
                for key in keys {
                    self.assign(var, Value::Str(key))?;
                    match self.exec(body)? {
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                        Flow::On | Flow::Continue => {}
                    }
                }
            }
            Kind::Switch(subject, cases) => return self.switch(subject, cases),
            Kind::Block(block) => return self.block(block),
            Kind::Next => return Err(Box::new(Stop::Next)),
            Kind::NextFile => return Err(Box::new(Stop::NextFile)),
            Kind::Exit(status) => {
                if let Some(status) = status {
                    self.status = (self.eval(status)?.num() as i64 & 255) as i32;
                }
                return Err(Box::new(Stop::Exit));
            }
            Kind::Return(value) => {
                self.returned = match value {
                    Some(value) => self.eval(value)?,
                    None => Value::Uninit,
                };
                return Ok(Flow::Return);
            }
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
            Kind::Delete(var, subscripts) => {
                let array = self.array(*var)?;
                match subscripts {
                    None => array.borrow_mut().clear(),
                    Some(subscripts) => {
                        let key = self.subscript(subscripts)?;
                        array.borrow_mut().remove(&key);
                        self.key = key;
                    }
                }
            }
        }
        Ok(Flow::On)
    }

    /// The keys to go through, in the order that PROCINFO["sorted_in"] asks for.
    fn keys(&mut self, array: Var) -> Res<Vec<Str>> {
        let keys = self.array(array)?.borrow().keys();
        let Cell::Array(procinfo) = &self.globals[PROCINFO] else {
            return Ok(keys);
        };
        let order = procinfo
            .borrow()
            .peek(b"sorted_in")
            .map(|v| v.to_str(b"%.6g"));
        match order {
            None => Ok(keys),
            Some(order) => {
                let array = self.array(array)?;
                Ok(crate::builtin::ordered(
                    keys,
                    &array.borrow(),
                    &order,
                    &self.convfmt,
                ))
            }
        }
    }

    fn switch(&mut self, subject: &'p Expr, cases: &'p [(Option<Expr>, Vec<Stmt>)]) -> Res<Flow> {
        let subject = self.eval(subject)?;
        let mut chosen = None;
        for (at, (label, _)) in cases.iter().enumerate() {
            let fits = match label {
                None => false,
                Some(Expr::Regex(regex)) => regex.is_match(&subject.to_str(&self.convfmt)),
                Some(label) => {
                    let label = self.eval(label)?;
                    compare(&subject, &label, &self.convfmt) == Some(Ordering::Equal)
                }
            };
            if fits {
                chosen = Some(at);
                break;
            }
        }
        let Some(from) = chosen.or_else(|| cases.iter().position(|(label, _)| label.is_none()))
        else {
            return Ok(Flow::On);
        };
        for (_, block) in &cases[from..] {
            match self.block(block)? {
                Flow::On => {}
                Flow::Break => return Ok(Flow::On),
                other => return Ok(other),
            }
        }
        Ok(Flow::On)
    }
}
