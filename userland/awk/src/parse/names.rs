//! What names stand for: variables, parameters, functions; and which of them are arrays.

use super::{Parser, Res};
use crate::ast::*;

/// A variable and the function it is a parameter of, if it is one.
pub(super) type Owned = (Option<usize>, Var);

impl Parser<'_> {
    pub(super) fn global(&mut self, name: &str) -> usize {
        if let Some(at) = self.globals.get(name) {
            return *at;
        }
        let at = self.program.globals.len();
        self.program.globals.push(name.to_owned());
        self.globals.insert(name.to_owned(), at);
        at
    }

    pub(super) fn var(&mut self, name: &str) -> Res<Var> {
        if let Some(at) = self.params.iter().position(|p| p == name) {
            return Ok(Var::Local(at));
        }
        if self
            .functions
            .get(name)
            .is_some_and(|at| self.program.functions[*at].body.is_some())
        {
            return self.fail(format!("function `{name}' is used as a variable"));
        }
        Ok(Var::Global(self.global(name)))
    }

    pub(super) fn array(&mut self, name: &str) -> Res<Var> {
        let var = self.var(name)?;
        self.used_as_array.push(self.owned(var));
        Ok(var)
    }

    pub(super) fn owned(&self, var: Var) -> Owned {
        match var {
            Var::Global(_) => (None, var),
            Var::Local(_) => (self.function, var),
        }
    }

    /// The function `name`, which may be defined later.
    pub(super) fn function(&mut self, name: &str) -> usize {
        if let Some(at) = self.functions.get(name) {
            return *at;
        }
        let at = self.program.functions.len();
        self.program.functions.push(Function {
            name: name.to_owned(),
            ..Function::default()
        });
        self.functions.insert(name.to_owned(), at);
        at
    }

    /// What a function takes as an array is an array in its callers too.
    pub(super) fn infer_arrays(&mut self) {
        let mark = |program: &mut Program, (function, var): Owned| -> bool {
            if let (Some(function), Var::Local(at)) = (function, var) {
                let known = &mut program.functions[function].arrays[at];
                return !std::mem::replace(known, true);
            }
            false
        };
        for used in std::mem::take(&mut self.used_as_array) {
            mark(&mut self.program, used);
        }
        loop {
            let mut changed = false;
            for (owned, function, at) in &self.passed {
                if self.program.functions[*function].arrays.get(*at) == Some(&true) {
                    changed |= mark(&mut self.program, *owned);
                }
            }
            if !changed {
                return;
            }
        }
    }
}
