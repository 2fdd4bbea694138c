//! Tokens to program: recursive descent, one function per level of precedence. Here: the parser and what it knows so
//! far. `program` reads rules and functions, `stmt` statements, `expr` operators, `operand` what they stand between,
//! `call` calls; `cursor` moves over the tokens, and `names` tells what a name stands for.

mod call;
mod cursor;
mod expr;
mod names;
mod operand;
mod program;
mod stmt;

use std::collections::HashMap;

use crate::ast::*;
use crate::lex::{Lexed, Token};
use crate::value::Fatal;
use names::Owned;

type Res<T> = Result<T, Fatal>;

/// Deeper nesting is refused, for the stack's sake.
const MAX_DEPTH: usize = 400;

/// Parses a whole program. `utf8` is for its regular expressions.
pub fn parse(lexed: &Lexed, utf8: bool) -> Res<Program> {
    let mut parser = Parser {
        tokens: &lexed.tokens,
        lines: &lexed.lines,
        at: 0,
        utf8,
        depth: 0,
        program: Program::default(),
        globals: HashMap::new(),
        functions: HashMap::new(),
        function: None,
        params: Vec::new(),
        used_as_array: Vec::new(),
        passed: Vec::new(),
        loops: 0,
    };
    for name in SPECIALS {
        parser.global(name);
    }
    parser.whole()?;
    parser.infer_arrays();
    Ok(parser.program)
}

struct Parser<'a> {
    tokens: &'a [Token],
    lines: &'a [usize],
    at: usize,
    utf8: bool,
    depth: usize,
    program: Program,
    globals: HashMap<String, usize>,
    functions: HashMap<String, usize>,
    /// The function whose body this is.
    function: Option<usize>,
    params: Vec<String>,
    used_as_array: Vec<Owned>,
    /// Variables passed whole: to which function, as which argument, and the line.
    passed: Vec<(Owned, usize, usize)>,
    loops: usize,
}

/// What an expression may not contain where it stands.
#[derive(Clone, Copy, Default)]
struct Limits {
    /// `>` and `|` belong to print.
    print: bool,
}
