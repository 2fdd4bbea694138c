//! The parsed program. Names are resolved: a global is an index, a parameter an index into its function's frame.

use std::rc::Rc;

use crate::value::Value;
use oxbow_regex::Regex;

/// Globals that mean something to the interpreter; their index is their place in [`SPECIALS`].
pub const NF: usize = 0;
pub const NR: usize = 1;
pub const FNR: usize = 2;
pub const FS: usize = 3;
pub const OFS: usize = 4;
pub const ORS: usize = 5;
pub const RS: usize = 6;
pub const SUBSEP: usize = 7;
pub const CONVFMT: usize = 8;
pub const OFMT: usize = 9;
pub const FILENAME: usize = 10;
pub const RSTART: usize = 11;
pub const RLENGTH: usize = 12;
pub const RT: usize = 13;
pub const ENVIRON: usize = 14;
pub const ARGC: usize = 15;
pub const ARGV: usize = 16;
pub const PROCINFO: usize = 17;
pub const SPECIALS: &[&str] = &[
    "NF", "NR", "FNR", "FS", "OFS", "ORS", "RS", "SUBSEP", "CONVFMT", "OFMT", "FILENAME", "RSTART",
    "RLENGTH", "RT", "ENVIRON", "ARGC", "ARGV", "PROCINFO",
];

/// A variable, scalar or array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Var {
    Global(usize),
    Local(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Lt,
    Le,
    Eq,
    Ne,
    Gt,
    Ge,
}

#[derive(Debug)]
pub enum Expr {
    Const(Value),
    Regex(Rc<Regex>),
    Var(Var),
    Field(Box<Expr>),
    Index(Var, Vec<Expr>),
    Assign(Box<Expr>, Box<Expr>),
    Update(Arith, Box<Expr>, Box<Expr>),
    /// `++` and `--`: what is added, and whether the old value is the result.
    Step {
        by: f64,
        old: bool,
        target: Box<Expr>,
    },
    Cond(Box<Expr>, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Plus(Box<Expr>),
    Arith(Arith, Box<Expr>, Box<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Match {
        not: bool,
        text: Box<Expr>,
        regex: Box<Expr>,
    },
    In(Vec<Expr>, Var),
    Call(usize, Vec<Expr>),
    Builtin(&'static str, Vec<Expr>),
    Getline(Source, Option<Box<Expr>>),
    /// A variable in parentheses: its value.
    Plain(Box<Expr>),
    /// `(a, b)`: subscripts before `in`, or all arguments of print.
    Group(Vec<Expr>),
}

#[derive(Debug)]
pub enum Source {
    /// The main input.
    Next,
    File(Box<Expr>),
    Command(Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redirect {
    Write,
    Append,
    Pipe,
}

#[derive(Debug)]
pub struct Stmt {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    Expr(Expr),
    Print(Vec<Expr>, Option<(Redirect, Expr)>),
    Printf(Vec<Expr>, Option<(Redirect, Expr)>),
    If(Expr, Box<Stmt>, Option<Box<Stmt>>),
    While(Expr, Box<Stmt>),
    Do(Box<Stmt>, Expr),
    For(
        Option<Box<Stmt>>,
        Option<Expr>,
        Option<Box<Stmt>>,
        Box<Stmt>,
    ),
    ForIn(Expr, Var, Box<Stmt>),
    /// Cases in order; None is the default.
    Switch(Expr, Vec<(Option<Expr>, Vec<Stmt>)>),
    Block(Vec<Stmt>),
    Next,
    NextFile,
    Exit(Option<Expr>),
    Return(Option<Expr>),
    Break,
    Continue,
    Delete(Var, Option<Vec<Expr>>),
}

#[derive(Debug)]
pub enum Pattern {
    Always,
    Expr(Expr),
    /// From, to, and which range of the program this is.
    Range(Expr, Expr, usize),
}

#[derive(Debug)]
pub struct Rule {
    pub line: usize,
    pub pattern: Pattern,
    /// None prints the record.
    pub action: Option<Vec<Stmt>>,
}

#[derive(Debug, Default)]
pub struct Function {
    pub name: String,
    /// Whether each parameter is an array, as far as the text says.
    pub arrays: Vec<bool>,
    pub body: Option<Vec<Stmt>>,
}

#[derive(Debug, Default)]
pub struct Program {
    pub begin: Vec<Vec<Stmt>>,
    pub rules: Vec<Rule>,
    pub end: Vec<Vec<Stmt>>,
    pub functions: Vec<Function>,
    pub globals: Vec<String>,
    pub nr_ranges: usize,
}
