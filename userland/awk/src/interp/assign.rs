//! What can be assigned to: variables, elements and fields, with `=`, the operators that update, and `++` and `--`.

use std::rc::Rc;

use super::{Cell, Interp, Res};
use crate::ast::*;
use crate::record::MAX_FIELDS;
use crate::value::Value;

/// Whether `expr` surely leaves all variables as they are.
fn changes_nothing(expr: &Expr) -> bool {
    match expr {
        Expr::Const(_) | Expr::Var(_) => true,
        Expr::Field(inner) | Expr::Plain(inner) | Expr::Neg(inner) => changes_nothing(inner),
        Expr::Index(_, list) | Expr::Concat(list) => list.iter().all(changes_nothing),
        Expr::Arith(_, a, b) | Expr::Compare(_, a, b) => changes_nothing(a) && changes_nothing(b),
        Expr::Cond(a, b, c) => [a, b, c].into_iter().all(|e| changes_nothing(e)),
        Expr::Builtin(
            "substr" | "sprintf" | "length" | "toupper" | "tolower" | "index" | "int",
            list,
        ) => list.iter().all(changes_nothing),
        _ => false,
    }
}

impl<'p> Interp<'p> {
    /// Subscripts as one key, in the spare buffer; put it back after use.
    pub(super) fn subscript(&mut self, subscripts: &'p [Expr]) -> Res<Vec<u8>> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for (at, subscript) in subscripts.iter().enumerate() {
            if at > 0 {
                key.extend_from_slice(&self.subsep);
            }
            let format = self.convfmt.clone();
            self.append(subscript, &mut key, &format)?;
        }
        Ok(key)
    }

    pub fn field_number(&mut self, index: &'p Expr) -> Res<usize> {
        let n = match index {
            Expr::Const(Value::Num(n)) => *n,
            _ => self.eval(index)?.num(),
        };
        if !(0.0..=MAX_FIELDS as f64).contains(&n) {
            return self.fatal(format!("attempt to access field {n}"));
        }
        Ok(n as usize)
    }

    pub fn field(&mut self, at: usize) -> Value {
        if at == 0 {
            return Value::Input(self.record.text(&self.ofs, &self.convfmt).clone());
        }
        self.record.ensure_split(&self.splitter);
        self.record.field(at)
    }

    pub fn assign(&mut self, target: &'p Expr, value: Value) -> Res<()> {
        match target {
            Expr::Var(var) => self.set_var(*var, value),
            Expr::Index(var, subscripts) => {
                let key = self.subscript(subscripts)?;
                let array = self.array(*var)?;
                *array.borrow_mut().get(&key) = value;
                self.key = key;
                Ok(())
            }
            Expr::Field(index) => {
                let at = self.field_number(index)?;
                self.set_field(at, value);
                Ok(())
            }
            // sub and gsub on what cannot be changed.
            _ => Ok(()),
        }
    }

    pub fn set_field(&mut self, at: usize, value: Value) {
        if at == 0 {
            let text = value.to_str(&self.convfmt);
            self.record.set(text);
        } else {
            self.record.ensure_split(&self.splitter);
            self.record.set_field(at, value);
        }
    }

    /// An expression for what it does.
    pub(super) fn effect(&mut self, expr: &'p Expr) -> Res<()> {
        match expr {
            // `s = s more`: at the end of what is there.
            Expr::Assign(target, value) => {
                if let (Expr::Var(var), Expr::Concat(parts)) = (&**target, &**value)
                    && matches!(&parts[0], Expr::Var(first) if first == var)
                    && !matches!(var, Var::Global(at) if *at < SPECIALS.len())
                    && parts[1..].iter().all(changes_nothing)
                {
                    let convfmt = self.convfmt.clone();
                    let mut tail = std::mem::take(&mut self.printed);
                    tail.clear();
                    for part in &parts[1..] {
                        self.append(part, &mut tail, &convfmt)?;
                    }
                    if let Cell::Scalar(value @ (Value::Str(_) | Value::Input(_))) = self.cell(*var)
                        && let Value::Str(mut bytes) | Value::Input(mut bytes) =
                            std::mem::take(value)
                    {
                        Rc::make_mut(&mut bytes).extend_from_slice(&tail);
                        *value = Value::Str(bytes);
                        self.printed = tail;
                        return Ok(());
                    }
                    let mut whole = self.get_var(*var)?.to_str(&convfmt).to_vec();
                    whole.extend_from_slice(&tail);
                    self.printed = tail;
                    return self.set_var(*var, Value::Str(Rc::new(whole)));
                }
                let value = self.eval(value)?;
                self.assign(target, value)
            }
            other => self.eval(other).map(|_| ()),
        }
    }

    pub(super) fn update(
        &mut self,
        target: &'p Expr,
        change: impl FnOnce(&Self, f64) -> Res<f64>,
        old: bool,
    ) -> Res<Value> {
        // Subscripts are evaluated once.
        let (before, after) = match target {
            Expr::Index(var, subscripts) => {
                let key = self.subscript(subscripts)?;
                let array = self.array(*var)?;
                let before = array.borrow_mut().get(&key).num();
                let after = change(self, before)?;
                *array.borrow_mut().get(&key) = Value::Num(after);
                self.key = key;
                (before, after)
            }
            Expr::Field(index) => {
                let at = self.field_number(index)?;
                let before = self.field(at).num();
                let after = change(self, before)?;
                self.set_field(at, Value::Num(after));
                (before, after)
            }
            Expr::Var(var) => {
                let before = self.get_var(*var)?.num();
                let after = change(self, before)?;
                self.set_var(*var, Value::Num(after))?;
                (before, after)
            }
            _ => return self.fatal("assignment to what is no variable"),
        };
        Ok(Value::Num(if old { before } else { after }))
    }
}
