//! asort and asorti, and the order in which `for (k in a)` goes.

use std::cmp::Ordering;
use std::rc::Rc;

use crate::ast::*;
use crate::interp::{Interp, Res};
use crate::value::{Array, Str, Value, compare};

impl<'p> Interp<'p> {
    pub(super) fn sort(&mut self, args: &'p [Expr], by_index: bool) -> Res<Value> {
        let (Some(Expr::Var(source)), target) = (args.first(), args.get(1)) else {
            return self.fatal("asort: first argument is not an array");
        };
        let source = self.array(*source)?;
        let order = match args.get(2) {
            Some(order) => self.str(order)?,
            None if by_index => Rc::new(b"@ind_str_asc".to_vec()),
            None => Rc::new(b"@val_type_asc".to_vec()),
        };
        let keys = ordered(
            source.borrow().keys(),
            &source.borrow(),
            &order,
            &self.convfmt,
        );
        let mut sorted = Array::default();
        for (at, key) in keys.iter().enumerate() {
            *sorted.get((at + 1).to_string().as_bytes()) = match by_index {
                true => Value::Str(key.clone()),
                false => source.borrow().peek(key).cloned().unwrap_or_default(),
            };
        }
        let target = match target {
            Some(Expr::Var(var)) => self.array(*var)?,
            _ => source,
        };
        *target.borrow_mut() = sorted;
        Ok(Value::Num(keys.len() as f64))
    }
}

/// `keys` in one of gawk's orders; in the order they came for any other.
pub fn ordered(mut keys: Vec<Str>, array: &Array, order: &[u8], convfmt: &[u8]) -> Vec<Str> {
    let value = |key: &Str| array.peek(key).cloned().unwrap_or_default();
    let number = |key: &Str| crate::value::prefix_number(key);
    let by_type = |a: &Value, b: &Value| match (a.as_number(), b.as_number()) {
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        _ => compare(a, b, convfmt).unwrap_or(Ordering::Equal),
    };
    let order = String::from_utf8_lossy(order);
    match order
        .trim_start_matches('@')
        .trim_end_matches("_asc")
        .trim_end_matches("_desc")
    {
        "ind_str" => keys.sort(),
        "ind_num" => keys.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b))),
        "val_num" => keys.sort_by(|a, b| {
            value(a)
                .num()
                .total_cmp(&value(b).num())
                .then_with(|| a.cmp(b))
        }),
        "val_str" => keys.sort_by(|a, b| {
            value(a)
                .to_str(convfmt)
                .cmp(&value(b).to_str(convfmt))
                .then_with(|| a.cmp(b))
        }),
        "val_type" => keys.sort_by(|a, b| by_type(&value(a), &value(b)).then_with(|| a.cmp(b))),
        _ => return keys,
    }
    if order.ends_with("_desc") {
        keys.reverse();
    }
    keys
}
