//! Calls of the functions that the program defines.

use super::{Cell, Flow, Interp, Res};
use crate::ast::*;
use crate::value::Value;

impl<'p> Interp<'p> {
    pub(super) fn call(&mut self, function: usize, args: &'p [Expr]) -> Res<Value> {
        let marker = 0u8;
        if self
            .stack_top
            .abs_diff(std::ptr::from_ref(&marker) as usize)
            > self.stack_room
        {
            return self.fatal("function calls nested too deeply");
        }
        let callee = &self.program.functions[function];
        if args.len() > callee.arrays.len() {
            return self.fatal(format!(
                "function `{}' called with more arguments than declared",
                callee.name
            ));
        }
        let base = self.stack.len();
        for (at, is_array) in callee.arrays.iter().enumerate() {
            let cell = match args.get(at) {
                None => Cell::default(),
                Some(Expr::Var(var)) if *is_array => Cell::Array(self.array(*var)?),
                Some(Expr::Var(var)) => match self.cell(*var) {
                    Cell::Array(array) => Cell::Array(array.clone()),
                    Cell::Scalar(_) => Cell::Scalar(self.get_var(*var)?),
                },
                Some(expr) => Cell::Scalar(self.eval(expr)?),
            };
            self.stack.push(cell);
        }
        let outer = std::mem::replace(&mut self.base, base);
        let line = self.line;
        self.returned = Value::Uninit;
        let result = match &callee.body {
            Some(body) => self.block(body),
            None => Ok(Flow::On),
        };
        self.base = outer;
        self.stack.truncate(base);
        self.line = line;
        result?;
        Ok(std::mem::take(&mut self.returned))
    }
}
