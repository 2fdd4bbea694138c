//! Variables and arrays by their place in the program, and the special variables, which change what the interpreter
//! does.

use std::rc::Rc;

use super::{Cell, Interp, Res};
use crate::ast::*;
use crate::io::Separator;
use crate::record::{MAX_FIELDS, Splitter};
use crate::value::{ArrayRef, Value};

impl<'p> Interp<'p> {
    pub(super) fn cell(&mut self, var: Var) -> &mut Cell {
        match var {
            Var::Global(at) => &mut self.globals[at],
            Var::Local(at) => {
                let at = self.base + at;
                if at >= self.stack.len() {
                    self.stack.resize(at + 1, Cell::default());
                }
                &mut self.stack[at]
            }
        }
    }

    pub(super) fn name(&self, var: Var) -> String {
        match var {
            Var::Global(at) => self.program.globals.get(at).cloned().unwrap_or_default(),
            Var::Local(at) => format!("parameter {}", at + 1),
        }
    }

    pub fn get_var(&mut self, var: Var) -> Res<Value> {
        match var {
            Var::Global(NF) => {
                self.record.ensure_split(&self.splitter);
                return Ok(Value::Num(self.record.nf() as f64));
            }
            Var::Global(NR) => return Ok(Value::Num(self.nr)),
            Var::Global(FNR) => return Ok(Value::Num(self.fnr)),
            _ => {}
        }
        match self.cell(var) {
            Cell::Scalar(value) => Ok(value.clone()),
            Cell::Array(_) => {
                let name = self.name(var);
                self.fatal(format!("attempt to use array `{name}' in a scalar context"))
            }
        }
    }

    pub fn set_var(&mut self, var: Var, value: Value) -> Res<()> {
        if let Var::Global(at) = var
            && at < SPECIALS.len()
        {
            return self.set_special(at, value);
        }
        match self.cell(var) {
            Cell::Scalar(old) => {
                *old = value;
                Ok(())
            }
            Cell::Array(_) => {
                let name = self.name(var);
                self.fatal(format!("attempt to use array `{name}' in a scalar context"))
            }
        }
    }

    fn set_special(&mut self, at: usize, value: Value) -> Res<()> {
        let bytes = value.to_str(&self.convfmt);
        match at {
            NF => {
                let count = value.num();
                if !(0.0..=MAX_FIELDS as f64).contains(&count) {
                    return self.fatal(format!("NF set to value out of range: {count}"));
                }
                self.record.ensure_split(&self.splitter);
                self.record.set_nf(count as usize);
                return Ok(());
            }
            NR => self.nr = value.num(),
            FNR => self.fnr = value.num(),
            FS => {
                // The record at hand is cut the way that held when it was read.
                self.record.ensure_split(&self.splitter);
                self.globals[FS] = Cell::Scalar(value);
                return self.choose_splitter();
            }
            RS => {
                self.record.ensure_split(&self.splitter);
                self.separator = Rc::new(match bytes.as_slice() {
                    [] => Separator::Paragraph,
                    [byte] => Separator::Byte(*byte),
                    _ => Separator::Regex(self.regex_of(&bytes)?),
                });
                self.globals[RS] = Cell::Scalar(value);
                return self.choose_splitter();
            }
            OFS => self.ofs = bytes,
            ORS => self.ors = bytes,
            SUBSEP => self.subsep = bytes,
            CONVFMT => self.convfmt = bytes,
            OFMT => self.ofmt = bytes,
            _ => {}
        }
        if let Cell::Array(_) = self.globals[at] {
            let name = self.name(Var::Global(at));
            return self.fatal(format!("attempt to use array `{name}' in a scalar context"));
        }
        self.globals[at] = Cell::Scalar(value);
        Ok(())
    }

    fn choose_splitter(&mut self) -> Res<()> {
        let Cell::Scalar(fs) = &self.globals[FS] else {
            return Ok(());
        };
        let fs = fs.to_str(&self.convfmt);
        let paragraph = matches!(*self.separator, Separator::Paragraph);
        self.splitter = match (self.splitter_of(&fs)?, paragraph) {
            (Splitter::Byte(byte), true) => Splitter::ByteOrNewline(byte),
            (Splitter::Regex(_), true) => {
                let both = [b"(".as_slice(), &fs, b")|\n"].concat();
                Splitter::Regex(self.regex_of(&both)?)
            }
            (splitter, _) => splitter,
        };
        Ok(())
    }

    /// How the separator `fs` cuts, as FS or as split's third argument.
    pub fn splitter_of(&mut self, fs: &[u8]) -> Res<Splitter> {
        Ok(match fs {
            b" " => Splitter::Blanks,
            [] => Splitter::Characters,
            [byte] => Splitter::Byte(*byte),
            _ => Splitter::Regex(self.regex_of(fs)?),
        })
    }

    pub fn array(&mut self, var: Var) -> Res<ArrayRef> {
        let cell = self.cell(var);
        match cell {
            Cell::Array(array) => Ok(array.clone()),
            Cell::Scalar(Value::Uninit) => {
                let array = ArrayRef::default();
                *cell = Cell::Array(array.clone());
                Ok(array)
            }
            Cell::Scalar(_) => {
                let name = self.name(var);
                self.fatal(format!("attempt to use scalar `{name}' as an array"))
            }
        }
    }

    /// The array that `var` is, without making it one.
    pub fn array_if_any(&mut self, var: Var) -> Option<ArrayRef> {
        match self.cell(var) {
            Cell::Array(array) => Some(array.clone()),
            Cell::Scalar(_) => None,
        }
    }
}
