//! Expressions: their value, truth, number, or text, whichever is asked for, so that none is made that nobody wants.

use std::cmp::Ordering;
use std::rc::Rc;

use super::{Cell, Interp, Res};
use crate::ast::*;
use crate::value::{Str, Value, compare};
use oxbow_regex::Regex;

impl<'p> Interp<'p> {
    pub fn regex_of(&mut self, source: &[u8]) -> Res<Rc<Regex>> {
        if let Some(regex) = self.regexes.get(source) {
            return Ok(regex.clone());
        }
        match crate::compile(source, self.utf8) {
            Ok(regex) => {
                // Programs that make expressions of their data should not keep them all.
                if self.regexes.len() >= 500 {
                    self.regexes.clear();
                }
                let regex = Rc::new(regex);
                self.regexes.insert(source.to_vec(), regex.clone());
                Ok(regex)
            }
            Err(message) => self.fatal(message),
        }
    }

    /// `expr` as a regular expression: itself, or its value.
    pub fn regex(&mut self, expr: &'p Expr) -> Res<Rc<Regex>> {
        match expr {
            Expr::Regex(regex) => Ok(regex.clone()),
            other => {
                let source = self.eval(other)?.to_str(&self.convfmt);
                self.regex_of(&source)
            }
        }
    }

    pub(super) fn truth(&mut self, expr: &'p Expr) -> Res<bool> {
        match expr {
            Expr::Regex(regex) => Ok(regex.is_match(self.record.text(&self.ofs, &self.convfmt))),
            Expr::Not(inner) => Ok(!self.truth(inner)?),
            Expr::And(a, b) => Ok(self.truth(a)? && self.truth(b)?),
            Expr::Or(a, b) => Ok(self.truth(a)? || self.truth(b)?),
            Expr::Compare(op, a, b) => self.compare(*op, a, b),
            Expr::Match { not, text, regex } => {
                self.matches(text, regex).map(|found| found != *not)
            }
            Expr::In(subscripts, var) => {
                let key = self.subscript(subscripts)?;
                let found = match self.array_if_any(*var) {
                    Some(array) => array.borrow().contains(&key),
                    None => {
                        self.array(*var)?;
                        false
                    }
                };
                self.key = key;
                Ok(found)
            }
            other => Ok(self.eval(other)?.truth()),
        }
    }

    fn matches(&mut self, text: &'p Expr, regex: &'p Expr) -> Res<bool> {
        if let Expr::Field(index) = text {
            let at = self.field_number(index)?;
            let regex = self.regex(regex)?;
            if at == 0 {
                return Ok(regex.is_match(self.record.text(&self.ofs, &self.convfmt)));
            }
            self.record.ensure_split(&self.splitter);
            if let Some(bytes) = self.record.field_bytes(at) {
                return Ok(regex.is_match(bytes));
            }
        }
        let text = self.eval(text)?.to_str(&self.convfmt);
        Ok(self.regex(regex)?.is_match(&text))
    }

    fn compare(&mut self, op: Compare, a: &'p Expr, b: &'p Expr) -> Res<bool> {
        let a = self.eval(a)?;
        let b = self.eval(b)?;
        let order = match (&a, &b) {
            (Value::Num(a), Value::Num(b)) => a.partial_cmp(b),
            _ => compare(&a, &b, &self.convfmt),
        };
        Ok(match op {
            Compare::Lt => order == Some(Ordering::Less),
            Compare::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Compare::Eq => order == Some(Ordering::Equal),
            Compare::Ne => order != Some(Ordering::Equal),
            Compare::Gt => order == Some(Ordering::Greater),
            Compare::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        })
    }

    pub fn num(&mut self, expr: &'p Expr) -> Res<f64> {
        match expr {
            Expr::Const(Value::Num(n)) => Ok(*n),
            Expr::Arith(op, a, b) => {
                let (a, b) = (self.num(a)?, self.num(b)?);
                self.arith(*op, a, b)
            }
            Expr::Var(Var::Local(at)) => match self.stack.get(self.base + at) {
                Some(Cell::Scalar(value)) => Ok(value.num()),
                _ => self.eval(expr).map(|value| value.num()),
            },
            Expr::Field(index) => {
                let at = self.field_number(index)?;
                if at > 0 {
                    self.record.ensure_split(&self.splitter);
                    if let Some(bytes) = self.record.field_bytes(at) {
                        return Ok(crate::value::prefix_number(bytes));
                    }
                }
                Ok(self.field(at).num())
            }
            other => Ok(self.eval(other)?.num()),
        }
    }

    fn arith(&self, op: Arith, a: f64, b: f64) -> Res<f64> {
        Ok(match op {
            Arith::Add => a + b,
            Arith::Sub => a - b,
            Arith::Mul => a * b,
            Arith::Div if b == 0.0 => return self.fatal("division by zero"),
            Arith::Div => a / b,
            Arith::Mod if b == 0.0 => return self.fatal("division by zero in %"),
            Arith::Mod => a % b,
            Arith::Pow if b == b.trunc() && b.abs() < 1024.0 => a.powi(b as i32),
            Arith::Pow => a.powf(b),
        })
    }

    pub fn str(&mut self, expr: &'p Expr) -> Res<Str> {
        Ok(self.eval(expr)?.to_str(&self.convfmt))
    }

    /// Appends the text of `expr`; `format` is for numbers that are no integers.
    pub(super) fn append(&mut self, expr: &'p Expr, out: &mut Vec<u8>, format: &[u8]) -> Res<()> {
        match expr {
            Expr::Const(value) => value.append_to(out, format),
            Expr::Field(index) => {
                let at = self.field_number(index)?;
                if at == 0 {
                    out.extend_from_slice(self.record.text(&self.ofs, &self.convfmt));
                    return Ok(());
                }
                self.record.ensure_split(&self.splitter);
                match self.record.field_bytes(at) {
                    Some(bytes) => out.extend_from_slice(bytes),
                    None => self.record.field(at).append_to(out, format),
                }
            }
            Expr::Concat(parts) => {
                let convfmt = self.convfmt.clone();
                for part in parts {
                    self.append(part, out, &convfmt)?;
                }
            }
            Expr::Index(var, subscripts) => {
                let key = self.subscript(subscripts)?;
                let array = self.array(*var)?;
                array.borrow_mut().get(&key).append_to(out, format);
                self.key = key;
            }
            other => self.eval(other)?.append_to(out, format),
        }
        Ok(())
    }

    pub fn eval(&mut self, expr: &'p Expr) -> Res<Value> {
        let flag = |b: bool| Ok(Value::Num(f64::from(u8::from(b))));
        match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Var(var) => self.get_var(*var),
            Expr::Plain(inner) => self.eval(inner),
            Expr::Field(index) => {
                let at = self.field_number(index)?;
                Ok(self.field(at))
            }
            Expr::Index(var, subscripts) => {
                let key = self.subscript(subscripts)?;
                let array = self.array(*var)?;
                let value = array.borrow_mut().get(&key).clone();
                self.key = key;
                Ok(value)
            }
            Expr::Assign(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value.clone())?;
                Ok(value)
            }
            Expr::Update(op, target, value) => {
                let by = self.num(value)?;
                self.update(target, |interp, old| interp.arith(*op, old, by), false)
            }
            Expr::Step { by, old, target } => self.update(target, |_, value| Ok(value + by), *old),
            Expr::Cond(condition, yes, no) => {
                if self.truth(condition)? {
                    self.eval(yes)
                } else {
                    self.eval(no)
                }
            }
            Expr::Regex(_)
            | Expr::And(..)
            | Expr::Or(..)
            | Expr::Not(_)
            | Expr::Compare(..)
            | Expr::Match { .. }
            | Expr::In(..) => flag(self.truth(expr)?),
            Expr::Neg(inner) => Ok(Value::Num(-self.num(inner)?)),
            Expr::Plus(inner) => Ok(Value::Num(self.num(inner)?)),
            Expr::Arith(op, a, b) => {
                let (a, b) = (self.num(a)?, self.num(b)?);
                self.arith(*op, a, b).map(Value::Num)
            }
            Expr::Concat(_) => {
                let mut out = Vec::new();
                let convfmt = self.convfmt.clone();
                self.append(expr, &mut out, &convfmt)?;
                Ok(Value::Str(Rc::new(out)))
            }
            Expr::Call(function, args) => self.call(*function, args),
            Expr::Builtin(name, args) => self.builtin(name, args),
            Expr::Getline(source, target) => self.getline(source, target.as_deref()),
            Expr::Group(_) => self.fatal("syntax error: a list in parentheses is no value"),
        }
    }
}
