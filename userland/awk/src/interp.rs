//! Runs a program: statements and expressions, variables, the main loop. Functions of the language are in `builtin`.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use crate::ast::*;
use crate::format;
use crate::io::{Input, Output, Separator, reason};
use crate::record::{MAX_FIELDS, Record, Splitter};
use crate::value::{Array, ArrayRef, Fatal, Str, Value, compare, input, text};
use oxbow_regex::Regex;

/// What ends the evaluation of a rule.
pub enum Stop {
    Fatal(Fatal),
    Exit,
    Next,
    NextFile,
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Self {
        Stop::Fatal(fatal)
    }
}

pub type Res<T> = Result<T, Box<Stop>>;

/// Where a statement leads.
enum Flow {
    On,
    Break,
    Continue,
    Return,
}

#[derive(Clone)]
pub enum Cell {
    Scalar(Value),
    Array(ArrayRef),
}

impl Default for Cell {
    fn default() -> Self {
        Cell::Scalar(Value::Uninit)
    }
}

enum Main {
    NotBegun,
    Stdin,
    File(Input),
    Ended,
}

pub struct Interp<'p> {
    pub program: &'p Program,
    globals: Vec<Cell>,
    /// Parameters of the functions that run; `base` is where the innermost's begin.
    stack: Vec<Cell>,
    base: usize,
    returned: Value,
    /// Address of a local of the first function: how far the machine's stack may go down from it is `stack_room`.
    stack_top: usize,
    stack_room: usize,

    pub record: Record,
    nr: f64,
    fnr: f64,
    pub splitter: Splitter,
    separator: Rc<Separator>,
    ofs: Str,
    ors: Str,
    subsep: Str,
    pub convfmt: Str,
    ofmt: Str,
    regexes: HashMap<Vec<u8>, Rc<Regex>>,
    pub utf8: bool,

    stdout: Output,
    pub outputs: HashMap<Vec<u8>, Output>,
    pub inputs: HashMap<Vec<u8>, Input>,
    main: Main,
    next_arg: usize,
    any_file: bool,

    ranges: Vec<bool>,
    line: usize,
    pub status: i32,
    pub random: crate::builtin::Random,
    /// Spare buffers.
    key: Vec<u8>,
    next: Vec<u8>,
    printed: Vec<u8>,
    terminator: Vec<u8>,
}

/// Runs `program`; returns its exit status or what went wrong.
pub fn run(
    program: &Program,
    utf8: bool,
    assignments: &[(String, Vec<u8>)],
    args: Vec<Vec<u8>>,
    stack_room: usize,
) -> Result<i32, Fatal> {
    let stdout =
        Output::stdout().map_err(|e| Fatal::at(0, format!("standard output: {}", reason(&e))))?;
    let marker = 0u8;
    let mut interp = Interp {
        program,
        globals: vec![Cell::default(); program.globals.len()],
        stack: Vec::new(),
        base: 0,
        returned: Value::Uninit,
        stack_top: std::ptr::from_ref(&marker) as usize,
        stack_room,
        record: Record::new(utf8),
        nr: 0.0,
        fnr: 0.0,
        splitter: Splitter::Blanks,
        separator: Rc::new(Separator::Byte(b'\n')),
        ofs: Rc::new(b" ".to_vec()),
        ors: Rc::new(b"\n".to_vec()),
        subsep: Rc::new(b"\x1c".to_vec()),
        convfmt: Rc::new(b"%.6g".to_vec()),
        ofmt: Rc::new(b"%.6g".to_vec()),
        regexes: HashMap::new(),
        utf8,
        stdout,
        outputs: HashMap::new(),
        inputs: HashMap::new(),
        main: Main::NotBegun,
        next_arg: 1,
        any_file: false,
        ranges: vec![false; program.nr_ranges],
        line: 0,
        status: 0,
        random: crate::builtin::Random::default(),
        key: Vec::new(),
        next: Vec::new(),
        printed: Vec::new(),
        terminator: Vec::new(),
    };
    interp.start(assignments, args);
    let ended = interp.all();
    let closed = interp.finish();
    match ended.and(closed).map_err(|stop| *stop) {
        Err(Stop::Fatal(fatal)) => Err(fatal),
        _ => Ok(interp.status),
    }
}

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
    fn start(&mut self, assignments: &[(String, Vec<u8>)], args: Vec<Vec<u8>>) {
        for (at, value) in [
            (FS, " "),
            (OFS, " "),
            (ORS, "\n"),
            (RS, "\n"),
            (SUBSEP, "\x1c"),
            (CONVFMT, "%.6g"),
            (OFMT, "%.6g"),
            (FILENAME, ""),
            (RT, ""),
        ] {
            self.globals[at] = Cell::Scalar(text(value.as_bytes()));
        }
        self.globals[RSTART] = Cell::Scalar(Value::Num(0.0));
        self.globals[RLENGTH] = Cell::Scalar(Value::Num(-1.0));
        self.globals[ARGC] = Cell::Scalar(Value::Num(args.len() as f64));
        let mut argv = Array::default();
        for (at, arg) in args.into_iter().enumerate() {
            *argv.get(at.to_string().as_bytes()) = input(&arg);
        }
        self.globals[ARGV] = Cell::Array(Rc::new(RefCell::new(argv)));
        let mut environ = Array::default();
        for (name, value) in std::env::vars_os() {
            use std::os::unix::ffi::OsStrExt;
            *environ.get(name.as_bytes()) = input(value.as_bytes());
        }
        self.globals[ENVIRON] = Cell::Array(Rc::new(RefCell::new(environ)));
        self.globals[PROCINFO] = Cell::Array(Rc::default());
        for (name, value) in assignments {
            self.assign_by_name(name, value);
        }
    }

    /// `name=value` of the command line; a variable that the program does not have is of no use.
    fn assign_by_name(&mut self, name: &str, value: &[u8]) {
        if let Some(at) = self.program.globals.iter().position(|n| n == name)
            && matches!(self.globals[at], Cell::Scalar(_))
        {
            let _ = self.set_var(Var::Global(at), input(value));
        }
    }

    pub fn fatal<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(Box::new(Stop::Fatal(Fatal::at(self.line, message))))
    }

    // ---- the main loop

    fn begin_and_rules(&mut self) -> Res<()> {
        let program = self.program;
        for block in &program.begin {
            self.top_block(block)?;
        }
        if program.rules.is_empty() && program.end.is_empty() {
            return Ok(());
        }
        while self.next_record()? {
            match self.rules() {
                Err(stop) if matches!(*stop, Stop::Next) => {}
                Err(stop) if matches!(*stop, Stop::NextFile) => self.main = self.after_file(),
                other => other?,
            }
        }
        Ok(())
    }

    fn all(&mut self) -> Res<()> {
        let body = self.begin_and_rules();
        match body {
            Err(stop) if matches!(*stop, Stop::Exit) => {}
            other => other?,
        }
        for block in &self.program.end {
            match self.top_block(block) {
                Err(stop) if matches!(*stop, Stop::Exit) => break,
                other => other?,
            }
        }
        Ok(())
    }

    fn after_file(&self) -> Main {
        match self.main {
            Main::Ended => Main::Ended,
            _ => Main::NotBegun,
        }
    }

    fn top_block(&mut self, block: &'p [Stmt]) -> Res<()> {
        match self.block(block) {
            Err(stop) if matches!(*stop, Stop::Next | Stop::NextFile) => {
                self.fatal("`next' used in BEGIN or END action")
            }
            other => other.map(|_| ()),
        }
    }

    fn rules(&mut self) -> Res<()> {
        for rule in &self.program.rules {
            self.line = rule.line;
            let selected = match &rule.pattern {
                Pattern::Always => true,
                Pattern::Expr(expr) => self.truth(expr)?,
                Pattern::Range(from, to, at) => {
                    if !self.ranges[*at] {
                        self.ranges[*at] = self.truth(from)?;
                        let begins = self.ranges[*at];
                        if begins {
                            self.ranges[*at] = !self.truth(to)?;
                        }
                        begins
                    } else {
                        self.ranges[*at] = !self.truth(to)?;
                        true
                    }
                }
            };
            if !selected {
                continue;
            }
            match &rule.action {
                Some(block) => {
                    self.block(block)?;
                }
                None => {
                    let mut line = std::mem::take(&mut self.printed);
                    line.clear();
                    line.extend_from_slice(self.record.text(&self.ofs, &self.convfmt));
                    line.extend_from_slice(&self.ors);
                    let written = self.stdout.write(&line);
                    self.printed = line;
                    self.written(written)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the next record of the main input into $0.
    fn next_record(&mut self) -> Res<bool> {
        let mut next = std::mem::take(&mut self.next);
        let found = self.next_into(&mut next);
        // At the end the last record stays, for END.
        self.next = match found {
            Ok(true) => self.record.replace(next),
            _ => next,
        };
        found
    }

    fn next_into(&mut self, record: &mut Vec<u8>) -> Res<bool> {
        let mut terminator = std::mem::take(&mut self.terminator);
        let found = loop {
            let read = match &mut self.main {
                Main::Ended => break false,
                Main::NotBegun => {
                    if !self.next_file()? {
                        self.main = Main::Ended;
                    }
                    continue;
                }
                Main::Stdin => self.stdin().and_then(|(input, separator)| {
                    input.record(&separator, record, &mut terminator)
                }),
                Main::File(input) => input.record(&self.separator, record, &mut terminator),
            };
            match read {
                Ok(true) => {
                    self.nr += 1.0;
                    self.fnr += 1.0;
                    break true;
                }
                Ok(false) => self.main = Main::NotBegun,
                Err(error) => {
                    self.warn(format!("read error: {}", reason(&error)));
                    self.status = 2;
                    self.main = Main::NotBegun;
                }
            }
        };
        self.set_terminator(&terminator);
        self.terminator = terminator;
        Ok(found)
    }

    fn set_terminator(&mut self, terminator: &[u8]) {
        if let Cell::Scalar(Value::Str(old)) = &self.globals[RT]
            && old.as_slice() == terminator
        {
            return;
        }
        self.globals[RT] = Cell::Scalar(text(terminator));
    }

    /// Standard input, which the main input and getline share.
    fn stdin(&mut self) -> io::Result<(&mut Input, Rc<Separator>)> {
        if !self.inputs.contains_key(b"-".as_slice()) {
            self.inputs.insert(b"-".to_vec(), Input::stdin()?);
        }
        let input = self
            .inputs
            .get_mut(b"-".as_slice())
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((input, self.separator.clone()))
    }

    /// Begins with the next file that the arguments name.
    fn next_file(&mut self) -> Res<bool> {
        loop {
            let count = self.get_var(Var::Global(ARGC))?.num();
            if self.next_arg as f64 >= count {
                if self.any_file {
                    return Ok(false);
                }
                self.any_file = true;
                self.fnr = 0.0;
                self.main = Main::Stdin;
                return Ok(true);
            }
            let key = self.next_arg.to_string();
            self.next_arg += 1;
            let argv = self.array(Var::Global(ARGV))?;
            let name = match argv.borrow().peek(key.as_bytes()) {
                Some(value) => value.to_str(&self.convfmt),
                None => continue,
            };
            if name.is_empty() {
                continue;
            }
            if let Some((variable, value)) = crate::assignment(&name) {
                self.assign_by_name(&variable, &value);
                continue;
            }
            self.any_file = true;
            self.fnr = 0.0;
            self.globals[FILENAME] = Cell::Scalar(input(&name));
            if name.as_slice() == b"-" || name.as_slice() == b"/dev/stdin" {
                self.main = Main::Stdin;
                return Ok(true);
            }
            match Input::file(&name) {
                Ok(input) => {
                    self.main = Main::File(input);
                    return Ok(true);
                }
                Err(error) => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    self.line = 0;
                    return self.fatal(format!(
                        "cannot open file `{name}' for reading: {}",
                        reason(&error)
                    ));
                }
            }
        }
    }

    fn warn(&mut self, message: String) {
        let _ = self.stdout.flush();
        eprintln!("awk: {message}");
    }

    /// Closes everything, in the end.
    fn finish(&mut self) -> Res<()> {
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

    // ---- statements

    fn block(&mut self, block: &'p [Stmt]) -> Res<Flow> {
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

    fn print(&mut self, args: &'p [Expr], to: Option<&'p (Redirect, Expr)>) -> Res<()> {
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

    fn printf(&mut self, args: &'p [Expr], to: Option<&'p (Redirect, Expr)>) -> Res<()> {
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

    // ---- variables

    fn cell(&mut self, var: Var) -> &mut Cell {
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

    fn name(&self, var: Var) -> String {
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

    /// Subscripts as one key, in the spare buffer; put it back after use.
    fn subscript(&mut self, subscripts: &'p [Expr]) -> Res<Vec<u8>> {
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

    // ---- expressions

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

    fn truth(&mut self, expr: &'p Expr) -> Res<bool> {
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
    fn append(&mut self, expr: &'p Expr, out: &mut Vec<u8>, format: &[u8]) -> Res<()> {
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

    /// An expression for what it does.
    fn effect(&mut self, expr: &'p Expr) -> Res<()> {
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

    fn update(
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

    fn call(&mut self, function: usize, args: &'p [Expr]) -> Res<Value> {
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

    fn getline(&mut self, source: &'p Source, target: Option<&'p Expr>) -> Res<Value> {
        let mut record = Vec::new();
        let found = match source {
            Source::Next => self.next_into(&mut record).map(Some)?,
            Source::File(name) | Source::Command(name) => {
                let command = matches!(source, Source::Command(_));
                let name = self.eval(name)?.to_str(&self.convfmt);
                self.read_from(&name, command, &mut record)
            }
        };
        let Some(found) = found else {
            return Ok(Value::Num(-1.0));
        };
        if !found {
            return Ok(Value::Num(0.0));
        }
        match target {
            Some(target) => self.assign(target, Value::Input(Rc::new(record)))?,
            None => self.record.set(Rc::new(record)),
        }
        Ok(Value::Num(1.0))
    }

    /// A record of a file or command; None if it cannot be read.
    fn read_from(&mut self, name: &Str, command: bool, record: &mut Vec<u8>) -> Option<bool> {
        let mut terminator = Vec::new();
        if !command && (name.as_slice() == b"-" || name.as_slice() == b"/dev/stdin") {
            let (input, separator) = self.stdin().ok()?;
            return input.record(&separator, record, &mut terminator).ok();
        }
        if !self.inputs.contains_key(name.as_slice()) {
            let input = if command {
                self.flush_all();
                Input::command(name)
            } else {
                Input::file(name)
            };
            self.inputs.insert(name.to_vec(), input.ok()?);
        }
        let separator = self.separator.clone();
        let input = self.inputs.get_mut(name.as_slice())?;
        let found = input.record(&separator, record, &mut terminator).ok()?;
        if found {
            self.set_terminator(&terminator);
        }
        Some(found)
    }
}
