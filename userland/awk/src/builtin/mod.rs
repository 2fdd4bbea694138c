//! The functions that the language brings. Here: which is which, and the short ones; the others are in the modules
//! below.

mod random;
mod replace;
mod sort;
mod text;
mod time;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use crate::ast::*;
use crate::interp::{Interp, Res};
use crate::io::shell;
use crate::value::{Value, text};
use text::{based_number, change_case};
use time::{mktime, now};

pub use random::Random;
pub use sort::ordered;

/// What system and close return for a command that ended so.
fn status_value(status: ExitStatus) -> f64 {
    match (status.code(), status.signal()) {
        (Some(code), _) => f64::from(code),
        (_, Some(signal)) => f64::from(256 + signal),
        _ => -1.0,
    }
}

impl<'p> Interp<'p> {
    pub fn builtin(&mut self, name: &str, args: &'p [Expr]) -> Res<Value> {
        let num = |n: f64| Ok(Value::Num(n));
        match name {
            "length" => self.length(args.first()),
            "substr" => self.substr(args),
            "index" => {
                let (text, part) = (self.str(&args[0])?, self.str(&args[1])?);
                let at = memchr::memmem::find(&text, &part);
                num(at.map_or(0.0, |at| self.chars(&text[..at]) as f64 + 1.0))
            }
            "split" => self.split(args),
            "sub" | "gsub" => self.substitute(args, name == "gsub"),
            "gensub" => self.gensub(args),
            "match" => self.match_function(args),
            "sprintf" => {
                let mut out = Vec::new();
                self.formatted(args, &mut out)?;
                Ok(Value::Str(Rc::new(out)))
            }
            "tolower" | "toupper" => {
                let bytes = self.str(&args[0])?;
                Ok(Value::Str(Rc::new(change_case(
                    &bytes,
                    name == "toupper",
                    self.utf8,
                ))))
            }
            "sin" => num(self.num(&args[0])?.sin()),
            "cos" => num(self.num(&args[0])?.cos()),
            "atan2" => {
                let (y, x) = (self.num(&args[0])?, self.num(&args[1])?);
                num(y.atan2(x))
            }
            "exp" => num(self.num(&args[0])?.exp()),
            "log" => num(self.num(&args[0])?.ln()),
            "sqrt" => num(self.num(&args[0])?.sqrt()),
            "int" => num(self.num(&args[0])?.trunc()),
            "rand" => num(self.random.next()),
            "srand" => {
                let seed = match args.first() {
                    Some(seed) => self.num(seed)?,
                    None => now(),
                };
                num(self.random.seed(seed))
            }
            "and" | "or" | "xor" => {
                let mut result = self.integer(&args[0], name)?;
                for arg in &args[1..] {
                    let other = self.integer(arg, name)?;
                    result = match name {
                        "and" => result & other,
                        "or" => result | other,
                        _ => result ^ other,
                    };
                }
                num(result as f64)
            }
            "compl" => num((!self.integer(&args[0], name)? & ((1 << 53) - 1)) as f64),
            "lshift" | "rshift" => {
                let value = self.integer(&args[0], name)?;
                let by = self.integer(&args[1], name)?.min(64) as u32;
                let shifted = if name == "lshift" {
                    value.checked_shl(by)
                } else {
                    value.checked_shr(by)
                };
                num(shifted.unwrap_or(0) as f64)
            }
            "strtonum" => {
                let value = self.eval(&args[0])?;
                num(match &value {
                    Value::Str(text) | Value::Input(text) => based_number(text),
                    other => other.num(),
                })
            }
            "systime" => num(now()),
            "strftime" => self.strftime(args),
            "mktime" => {
                let text = self.str(&args[0])?;
                num(mktime(&text).unwrap_or(-1.0))
            }
            "system" => {
                let command = self.str(&args[0])?;
                self.flush_all();
                num(shell(&command).status().map_or(-1.0, status_value))
            }
            "close" => {
                let name = self.str(&args[0])?;
                self.close(&name)
            }
            "fflush" => {
                let fine = match args.first() {
                    None => self.flush_all(),
                    Some(name) => {
                        let name = self.str(name)?;
                        match self.outputs.get_mut(name.as_slice()) {
                            Some(output) => output.flush().is_ok(),
                            None if name.is_empty() => self.flush_all(),
                            None if name.as_slice() == b"/dev/stdout" => self.flush_stdout(),
                            None => false,
                        }
                    }
                };
                num(if fine { 0.0 } else { -1.0 })
            }
            "asort" | "asorti" => self.sort(args, name == "asorti"),
            "isarray" => {
                let array = match &args[0] {
                    Expr::Var(var) => self.array_if_any(*var).is_some(),
                    _ => false,
                };
                num(f64::from(u8::from(array)))
            }
            "typeof" => {
                if let Expr::Var(var) = &args[0]
                    && self.array_if_any(*var).is_some()
                {
                    return Ok(text(b"array"));
                }
                if let Expr::Regex(_) = &args[0] {
                    return Ok(text(b"regexp"));
                }
                let value = self.eval(&args[0])?;
                Ok(text(match &value {
                    Value::Uninit => b"untyped".as_slice(),
                    Value::Num(_) => b"number",
                    Value::Str(_) => b"string",
                    Value::Input(_) if value.as_number().is_some() => b"strnum",
                    Value::Input(_) => b"string",
                }))
            }
            _ => self.fatal(format!("function `{name}' is not there")),
        }
    }

    fn integer(&mut self, expr: &'p Expr, name: &str) -> Res<u64> {
        let n = self.num(expr)?;
        if n < 0.0 {
            return self.fatal(format!("{name}: negative values are not allowed"));
        }
        Ok(n as u64)
    }

    fn close(&mut self, name: &[u8]) -> Res<Value> {
        let mut result = -1.0;
        if let Some(output) = self.outputs.remove(name) {
            result = match output.close() {
                Ok(status) => status.map_or(0.0, status_value),
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0.0,
                Err(error) => {
                    self.written(Err(error))?;
                    -1.0
                }
            };
        }
        if let Some(input) = self.inputs.remove(name) {
            result = input
                .close()
                .map_or(-1.0, |status| status.map_or(0.0, status_value));
        }
        Ok(Value::Num(result))
    }
}
