//! print and printf, and the files and commands that they write to.

use std::io;

use super::{Interp, Res, Stop};
use crate::ast::*;
use crate::format;
use crate::io::{Output, reason};

impl<'p> Interp<'p> {
    /// Closes everything, in the end.
    pub(super) fn finish(&mut self) -> Res<()> {
        let mut result = Ok(());
        for (_, output) in self.outputs.drain() {
            let closed = output.close();
            if result.is_ok() {
                result = closed.map(|_| ());
            }
        }
        let result = result.and(self.stdout.flush());
        for (_, input) in self.inputs.drain() {
            let _ = input.close();
        }
        self.written(result)
    }

    /// A write that failed ends the program; nobody needs to hear of a reader that has gone.
    pub fn written(&mut self, result: io::Result<()>) -> Res<()> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.status = 2;
                Err(Box::new(Stop::Exit))
            }
            Err(error) => self.fatal(format!("write error: {}", reason(&error))),
        }
    }

    pub(super) fn print(&mut self, args: &'p [Expr], to: Option<&'p (Redirect, Expr)>) -> Res<()> {
        let mut line = std::mem::take(&mut self.printed);
        line.clear();
        if args.is_empty() {
            line.extend_from_slice(self.record.text(&self.ofs, &self.convfmt));
        }
        for (at, arg) in args.iter().enumerate() {
            if at > 0 {
                line.extend_from_slice(&self.ofs);
            }
            let format = self.ofmt.clone();
            self.append(arg, &mut line, &format)?;
        }
        line.extend_from_slice(&self.ors);
        let result = self.emit(&line, to);
        self.printed = line;
        result
    }

    pub(super) fn printf(&mut self, args: &'p [Expr], to: Option<&'p (Redirect, Expr)>) -> Res<()> {
        let mut line = std::mem::take(&mut self.printed);
        line.clear();
        self.formatted(args, &mut line)?;
        let result = self.emit(&line, to);
        self.printed = line;
        result
    }

    /// What sprintf makes of `args`, the format first.
    pub fn formatted(&mut self, args: &'p [Expr], out: &mut Vec<u8>) -> Res<()> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(arg)?);
        }
        let format = values[0].to_str(&self.convfmt);
        match format::format(out, &format, &values[1..], &self.convfmt, self.utf8) {
            Ok(()) => Ok(()),
            Err(message) => self.fatal(message),
        }
    }

    fn emit(&mut self, bytes: &[u8], to: Option<&'p (Redirect, Expr)>) -> Res<()> {
        let Some((redirect, name)) = to else {
            let result = self.stdout.write(bytes);
            return self.written(result);
        };
        let name = self.eval(name)?.to_str(&self.convfmt);
        if !self.outputs.contains_key(name.as_slice()) {
            if name.as_slice() == b"/dev/stdout"
                || *redirect != Redirect::Pipe && name.as_slice() == b"-"
            {
                let result = self.stdout.write(bytes);
                return self.written(result);
            }
            let opened = match redirect {
                Redirect::Pipe => {
                    self.flush_all();
                    Output::command(&name)
                }
                _ if name.is_empty() => {
                    return self.fatal("expression for `>' redirection has null string value");
                }
                _ if name.as_slice() == b"/dev/stderr" => Ok(Output::stderr()),
                _ => Output::file(&name, *redirect == Redirect::Append),
            };
            match opened {
                Ok(output) => {
                    self.outputs.insert(name.to_vec(), output);
                }
                Err(error) => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    return self.fatal(format!("cannot redirect to `{name}': {}", reason(&error)));
                }
            }
        }
        let result = match self.outputs.get_mut(name.as_slice()) {
            Some(output) => {
                if name.as_slice() == b"/dev/stderr" {
                    let _ = self.stdout.flush();
                }
                output.write(bytes)
            }
            None => Ok(()),
        };
        match result {
            // A command that reads no more.
            Err(error)
                if error.kind() == io::ErrorKind::BrokenPipe && *redirect == Redirect::Pipe =>
            {
                Ok(())
            }
            other => self.written(other),
        }
    }

    /// Writes out everything: a command that starts now must not overtake it.
    pub fn flush_all(&mut self) -> bool {
        let mut fine = self.stdout.flush().is_ok();
        for output in self.outputs.values_mut() {
            fine &= output.flush().is_ok();
        }
        fine
    }

    pub fn flush_stdout(&mut self) -> bool {
        self.stdout.flush().is_ok()
    }
}
