//! Calls of the functions that the program defines and of those that the language brings.

use super::operand::is_place;
use super::{Parser, Res};
use crate::ast::*;
use crate::value::Fatal;

impl Parser<'_> {
    fn arguments(&mut self) -> Res<Vec<Expr>> {
        self.expect("(")?;
        self.skip_newlines();
        if self.take(")") {
            return Ok(Vec::new());
        }
        self.list(")")
    }

    pub(super) fn call(&mut self, name: &str) -> Res<Expr> {
        if self.params.iter().any(|p| p == name) {
            return self.fail(format!("parameter `{name}' is called as a function"));
        }
        let function = self.function(name);
        let line = self.line();
        let args = self.arguments()?;
        for (at, arg) in args.iter().enumerate() {
            if let Expr::Var(var) = arg {
                let owned = self.owned(*var);
                self.passed.push((owned, function, at));
            }
        }
        let defined = &self.program.functions[function];
        if self.function != Some(function)
            && defined.body.is_some()
            && args.len() > defined.arrays.len()
        {
            let message = format!("function `{name}' called with more arguments than declared");
            return Err(Fatal::at(line, message));
        }
        Ok(Expr::Call(function, args))
    }

    pub(super) fn builtin(&mut self, name: &'static str) -> Res<Expr> {
        let args = if self.is("(") {
            self.arguments()?
        } else if name == "length" {
            Vec::new()
        } else {
            return self.unexpected();
        };
        let (least, most) = match name {
            "rand" | "systime" => (0, 0),
            "length" | "srand" | "fflush" => (0, 1),
            "strftime" => (0, 3),
            "atan2" | "index" | "lshift" | "rshift" => (2, 2),
            "match" | "substr" => (2, 3),
            "split" => (2, 4),
            "sub" | "gsub" => (2, 3),
            "gensub" => (3, 4),
            "asort" | "asorti" => (1, 3),
            "close" | "mktime" => (1, 2),
            "and" | "or" | "xor" => (2, usize::MAX),
            "sprintf" => (1, usize::MAX),
            _ => (1, 1),
        };
        if args.len() < least || args.len() > most {
            return self.fail(format!(
                "{} is invalid as number of arguments for {name}",
                args.len()
            ));
        }
        let mut array = |at: usize| -> Res<()> {
            match args.get(at) {
                Some(Expr::Var(var)) => {
                    let owned = match var {
                        Var::Global(_) => (None, *var),
                        Var::Local(_) => (self.function, *var),
                    };
                    self.used_as_array.push(owned);
                    Ok(())
                }
                Some(_) => Err(Fatal::at(
                    0,
                    format!("{name}: argument {} is not an array", at + 1),
                )),
                None => Ok(()),
            }
        };
        match name {
            "split" => {
                array(1)?;
                array(3)?;
            }
            "match" => array(2)?,
            "asort" | "asorti" => {
                array(0)?;
                array(1)?;
            }
            _ => {}
        }
        if let ("sub" | "gsub", Some(target)) = (name, args.get(2))
            && !is_place(target)
            && !matches!(target, Expr::Plain(_))
        {
            return self.fail(format!("{name}: third argument is not a changeable object"));
        }
        Ok(Expr::Builtin(name, args))
    }
}
