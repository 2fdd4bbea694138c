//! Runs a program. Here: its state, how a run begins and ends, and which rules take a record. `stmt` and `expr`
//! evaluate, `vars` and `assign` keep what variables hold, `input` and `output` move records. The functions that the
//! language brings are in `builtin`.

mod assign;
mod call;
mod expr;
mod input;
mod output;
mod stmt;
mod vars;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::ast::*;
use crate::io::{Input, Output, Separator, reason};
use crate::record::{Record, Splitter};
use crate::value::{Array, ArrayRef, Fatal, Str, Value, input, text};
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
}
