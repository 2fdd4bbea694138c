//! Tokens to program: recursive descent, one function per level of precedence.

use std::collections::HashMap;
use std::rc::Rc;

use crate::ast::*;
use crate::lex::{Lexed, Token, Word};
use crate::value::{Fatal, Value, text};

type Res<T> = Result<T, Fatal>;

/// Where print prints to.
type Target = (Redirect, Expr);

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

/// A variable and the function it is a parameter of, if it is one.
type Owned = (Option<usize>, Var);

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

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)]
    }

    fn line(&self) -> usize {
        self.lines[self.at.min(self.lines.len() - 1)]
    }

    fn step(&mut self) {
        self.at += 1;
    }

    fn is(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(found) if *found == op)
    }

    fn take(&mut self, op: &str) -> bool {
        let found = self.is(op);
        if found {
            self.step();
        }
        found
    }

    fn take_word(&mut self, word: Word) -> bool {
        let found = *self.peek() == Token::Word(word);
        if found {
            self.step();
        }
        found
    }

    fn expect(&mut self, op: &str) -> Res<()> {
        if self.take(op) {
            Ok(())
        } else {
            self.unexpected()
        }
    }

    fn unexpected<T>(&self) -> Res<T> {
        let what = match self.peek() {
            Token::Newline if *self.peek_at(1) == Token::End => "end of program".to_owned(),
            Token::Newline => "end of line".to_owned(),
            Token::End => "end of program".to_owned(),
            Token::Number(n) => n.to_string(),
            Token::Text(_) => "string".to_owned(),
            Token::Regex(_) => "regular expression".to_owned(),
            Token::Name(name) | Token::Call(name) => name.clone(),
            Token::Builtin(name) => (*name).to_owned(),
            Token::Word(word) => format!("{word:?}").to_lowercase(),
            Token::Op(op) => (*op).to_owned(),
        };
        self.fail(format!("syntax error at or near {what}"))
    }

    fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(Fatal::at(self.line(), message))
    }

    fn skip_newlines(&mut self) {
        while *self.peek() == Token::Newline {
            self.step();
        }
    }

    fn skip_terminators(&mut self) {
        while *self.peek() == Token::Newline || self.is(";") {
            self.step();
        }
    }

    /// Runs `parse` one level deeper.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn global(&mut self, name: &str) -> usize {
        if let Some(at) = self.globals.get(name) {
            return *at;
        }
        let at = self.program.globals.len();
        self.program.globals.push(name.to_owned());
        self.globals.insert(name.to_owned(), at);
        at
    }

    fn var(&mut self, name: &str) -> Res<Var> {
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

    fn array(&mut self, name: &str) -> Res<Var> {
        let var = self.var(name)?;
        self.used_as_array.push(self.owned(var));
        Ok(var)
    }

    fn owned(&self, var: Var) -> Owned {
        match var {
            Var::Global(_) => (None, var),
            Var::Local(_) => (self.function, var),
        }
    }

    /// The function `name`, which may be defined later.
    fn function(&mut self, name: &str) -> usize {
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
    fn infer_arrays(&mut self) {
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

    fn whole(&mut self) -> Res<()> {
        loop {
            self.skip_terminators();
            if *self.peek() == Token::End {
                break;
            }
            self.item()?;
            // Two rules on one line need no `;` between them where the first ends in `}`.
            let ended = self.at > 0 && self.tokens[self.at - 1] == Token::Op("}");
            if !(ended
                || *self.peek() == Token::Newline
                || self.is(";")
                || *self.peek() == Token::End)
            {
                return self.unexpected();
            }
        }
        for (_, function, _) in &self.passed {
            debug_assert!(*function < self.program.functions.len());
        }
        match self.program.functions.iter().find(|f| f.body.is_none()) {
            Some(missing) => Err(Fatal::at(
                0,
                format!("function `{}' not defined", missing.name),
            )),
            None => Ok(()),
        }
    }

    fn item(&mut self) -> Res<()> {
        let line = self.line();
        if self.take_word(Word::Begin) {
            self.skip_newlines();
            let block = self.block()?;
            self.program.begin.push(block);
        } else if self.take_word(Word::End) {
            self.skip_newlines();
            let block = self.block()?;
            self.program.end.push(block);
        } else if self.take_word(Word::Function) {
            self.definition()?;
        } else {
            let mut pattern = Pattern::Always;
            if !self.is("{") {
                let from = self.expr(Limits::default())?;
                pattern = if self.take(",") {
                    self.skip_newlines();
                    let to = self.expr(Limits::default())?;
                    self.program.nr_ranges += 1;
                    Pattern::Range(from, to, self.program.nr_ranges - 1)
                } else {
                    Pattern::Expr(from)
                };
            }
            let action = if self.is("{") {
                Some(self.block()?)
            } else {
                None
            };
            self.program.rules.push(Rule {
                line,
                pattern,
                action,
            });
        }
        Ok(())
    }

    fn definition(&mut self) -> Res<()> {
        let name = match self.peek().clone() {
            Token::Name(name) | Token::Call(name) => name,
            _ => return self.unexpected(),
        };
        self.step();
        if self.globals.contains_key(&name) {
            return self.fail(format!("variable `{name}' is used as a function"));
        }
        let function = self.function(&name);
        if self.program.functions[function].body.is_some() {
            return self.fail(format!("function `{name}' defined twice"));
        }
        self.expect("(")?;
        let mut params: Vec<String> = Vec::new();
        self.skip_newlines();
        while !self.is(")") {
            let Token::Name(param) = self.peek().clone() else {
                return self.unexpected();
            };
            if param == name || params.contains(&param) {
                return self.fail(format!(
                    "function `{name}': parameter `{param}' is a name in use"
                ));
            }
            params.push(param);
            self.step();
            self.skip_newlines();
            if self.is(")") {
                break;
            }
            self.expect(",")?;
            self.skip_newlines();
            if self.is(")") {
                return self.unexpected();
            }
        }
        self.expect(")")?;
        self.skip_newlines();
        let entry = &mut self.program.functions[function];
        entry.arrays = vec![false; params.len()];
        // A call of itself is a call of something that is there.
        entry.body = Some(Vec::new());
        self.params = params;
        self.function = Some(function);
        let body = self.block()?;
        self.program.functions[function].body = Some(body);
        self.params.clear();
        self.function = None;
        Ok(())
    }

    /// `{ ... }`
    fn block(&mut self) -> Res<Vec<Stmt>> {
        self.expect("{")?;
        let mut list = Vec::new();
        loop {
            self.skip_terminators();
            if self.take("}") {
                return Ok(list);
            }
            if *self.peek() == Token::End {
                return self.unexpected();
            }
            let stmt = self.deeper(Self::stmt)?;
            list.push(stmt);
        }
    }

    /// One statement with what ends it.
    fn stmt(&mut self) -> Res<Stmt> {
        let line = self.line();
        let kind = self.stmt_kind()?;
        Ok(Stmt { line, kind })
    }

    /// `;`, a newline, or a `}` to come.
    fn terminator(&mut self) -> Res<()> {
        if self.is("}") || *self.peek() == Token::End {
            return Ok(());
        }
        if self.take(";") || *self.peek() == Token::Newline {
            self.skip_newlines();
            return Ok(());
        }
        self.unexpected()
    }

    /// The statement that a loop or condition rules.
    fn body(&mut self) -> Res<Box<Stmt>> {
        self.skip_newlines();
        if self.is(";") {
            let line = self.line();
            self.step();
            let kind = Kind::Block(Vec::new());
            return Ok(Box::new(Stmt { line, kind }));
        }
        Ok(Box::new(self.deeper(Self::stmt)?))
    }

    fn loop_body(&mut self) -> Res<Box<Stmt>> {
        self.loops += 1;
        let body = self.body();
        self.loops -= 1;
        body
    }

    fn condition(&mut self) -> Res<Expr> {
        self.expect("(")?;
        self.skip_newlines();
        let expr = self.expr(Limits::default())?;
        self.skip_newlines();
        self.expect(")")?;
        Ok(expr)
    }

    fn stmt_kind(&mut self) -> Res<Kind> {
        let token = self.peek().clone();
        let Token::Word(word) = token else {
            if self.is("{") {
                let block = self.block()?;
                return Ok(Kind::Block(block));
            }
            let kind = self.simple()?;
            self.terminator()?;
            return Ok(kind);
        };
        let optional = |p: &mut Self| -> Res<Option<Expr>> {
            let ends = p.is(";") || p.is("}") || matches!(p.peek(), Token::Newline | Token::End);
            if ends {
                Ok(None)
            } else {
                p.expr(Limits::default()).map(Some)
            }
        };
        let kind = match word {
            Word::If => {
                self.step();
                let condition = self.condition()?;
                let then = self.body()?;
                let back = self.at;
                self.skip_terminators();
                if self.take_word(Word::Else) {
                    let other = self.body()?;
                    return Ok(Kind::If(condition, then, Some(other)));
                }
                self.at = back;
                return Ok(Kind::If(condition, then, None));
            }
            Word::While => {
                self.step();
                let condition = self.condition()?;
                if self.take(";") {
                    let line = self.line();
                    let kind = Kind::Block(Vec::new());
                    return Ok(Kind::While(condition, Box::new(Stmt { line, kind })));
                }
                let body = self.loop_body()?;
                return Ok(Kind::While(condition, body));
            }
            Word::Do => {
                self.step();
                let body = self.loop_body()?;
                self.skip_terminators();
                if !self.take_word(Word::While) {
                    return self.unexpected();
                }
                Kind::Do(body, self.condition()?)
            }
            Word::For => return self.for_loop(),
            Word::Switch => return self.switch(),
            Word::Next | Word::NextFile => {
                self.step();
                if word == Word::Next {
                    Kind::Next
                } else {
                    Kind::NextFile
                }
            }
            Word::Break | Word::Continue => {
                if self.loops == 0 {
                    let name = if word == Word::Break {
                        "break"
                    } else {
                        "continue"
                    };
                    return self.fail(format!("`{name}' is not allowed outside a loop or switch"));
                }
                self.step();
                if word == Word::Break {
                    Kind::Break
                } else {
                    Kind::Continue
                }
            }
            Word::Exit => {
                self.step();
                Kind::Exit(optional(self)?)
            }
            Word::Return => {
                if self.function.is_none() {
                    return self.fail("`return' used outside function context");
                }
                self.step();
                Kind::Return(optional(self)?)
            }
            _ => self.simple()?,
        };
        self.terminator()?;
        Ok(kind)
    }

    fn for_loop(&mut self) -> Res<Kind> {
        self.step();
        self.expect("(")?;
        self.skip_newlines();
        if let (Token::Name(name), Token::Word(Word::In), Token::Name(array), Token::Op(")")) = (
            self.peek().clone(),
            self.peek_at(1),
            self.peek_at(2).clone(),
            self.peek_at(3),
        ) {
            let var = Expr::Var(self.var(&name)?);
            let array = self.array(&array)?;
            self.at += 4;
            let body = self.loop_body()?;
            return Ok(Kind::ForIn(var, array, body));
        }
        let part = |p: &mut Self| -> Res<Option<Box<Stmt>>> {
            let line = p.line();
            let kind = p.simple()?;
            Ok(Some(Box::new(Stmt { line, kind })))
        };
        let init = if self.is(";") { None } else { part(self)? };
        // `for ((a, b) in c)` and `for (a[i] in c)` end here too.
        self.expect(";")?;
        self.skip_newlines();
        let condition = if self.is(";") {
            None
        } else {
            Some(self.expr(Limits::default())?)
        };
        self.expect(";")?;
        self.skip_newlines();
        let step = if self.is(")") { None } else { part(self)? };
        self.skip_newlines();
        self.expect(")")?;
        let body = self.loop_body()?;
        Ok(Kind::For(init, condition, step, body))
    }

    fn switch(&mut self) -> Res<Kind> {
        self.step();
        let subject = self.condition()?;
        self.skip_newlines();
        self.expect("{")?;
        let mut cases = Vec::new();
        self.loops += 1;
        loop {
            self.skip_terminators();
            if self.take("}") {
                break;
            }
            let label = if self.take_word(Word::Case) {
                Some(self.unary(Limits::default())?)
            } else if self.take_word(Word::Default) {
                None
            } else {
                return self.unexpected();
            };
            self.expect(":")?;
            let mut list = Vec::new();
            loop {
                self.skip_terminators();
                if self.is("}") || matches!(self.peek(), Token::Word(Word::Case | Word::Default)) {
                    break;
                }
                let stmt = self.deeper(Self::stmt)?;
                list.push(stmt);
            }
            cases.push((label, list));
        }
        self.loops -= 1;
        Ok(Kind::Switch(subject, cases))
    }

    /// A statement that may stand in the head of a `for`.
    fn simple(&mut self) -> Res<Kind> {
        match self.peek() {
            Token::Word(Word::Print) => {
                self.step();
                let (args, to) = self.print_args()?;
                Ok(Kind::Print(args, to))
            }
            Token::Word(Word::Printf) => {
                self.step();
                let (args, to) = self.print_args()?;
                if args.is_empty() {
                    return self.fail("printf: no format");
                }
                Ok(Kind::Printf(args, to))
            }
            Token::Word(Word::Delete) => {
                self.step();
                let Token::Name(name) = self.peek().clone() else {
                    return self.unexpected();
                };
                self.step();
                let array = self.array(&name)?;
                let subscripts = if self.take("[") {
                    Some(self.list("]")?)
                } else {
                    None
                };
                Ok(Kind::Delete(array, subscripts))
            }
            _ => Ok(Kind::Expr(self.expr(Limits::default())?)),
        }
    }

    fn print_args(&mut self) -> Res<(Vec<Expr>, Option<Target>)> {
        let limits = Limits { print: true };
        let mut args = Vec::new();
        let ends = |p: &Self| {
            p.is(";")
                || p.is("}")
                || p.is(">")
                || p.is(">>")
                || p.is("|")
                || matches!(p.peek(), Token::Newline | Token::End)
        };
        if !ends(self) {
            loop {
                args.push(self.expr(limits)?);
                if !self.take(",") {
                    break;
                }
                self.skip_newlines();
            }
        }
        if let [Expr::Group(_)] = args.as_slice()
            && let Some(Expr::Group(list)) = args.pop()
        {
            args = list;
        }
        let redirect = match self.peek() {
            Token::Op(">") => Redirect::Write,
            Token::Op(">>") => Redirect::Append,
            Token::Op("|") => Redirect::Pipe,
            Token::Op("|&") => return self.fail("|& is not supported"),
            _ => return Ok((args, None)),
        };
        self.step();
        let to = self.concat(limits)?;
        Ok((args, Some((redirect, to))))
    }

    /// Expressions up to `close`, at least one.
    fn list(&mut self, close: &str) -> Res<Vec<Expr>> {
        let mut list = Vec::new();
        loop {
            self.skip_newlines();
            list.push(self.expr(Limits::default())?);
            self.skip_newlines();
            if self.take(close) {
                return Ok(list);
            }
            self.expect(",")?;
        }
    }

    fn expr(&mut self, limits: Limits) -> Res<Expr> {
        self.deeper(|p| p.ternary(limits))
    }

    fn ternary(&mut self, limits: Limits) -> Res<Expr> {
        let condition = self.or(limits)?;
        if !self.take("?") {
            return Ok(condition);
        }
        self.skip_newlines();
        let yes = self.expr(limits)?;
        self.skip_newlines();
        self.expect(":")?;
        self.skip_newlines();
        let no = self.expr(limits)?;
        Ok(Expr::Cond(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    fn or(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.and(limits)?;
        while self.take("||") {
            self.skip_newlines();
            let right = self.and(limits)?;
            left = Expr::Or(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn and(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.membership(limits)?;
        while self.take("&&") {
            self.skip_newlines();
            let right = self.membership(limits)?;
            left = Expr::And(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn membership(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.matching(limits)?;
        while *self.peek() == Token::Word(Word::In) {
            self.step();
            let Token::Name(name) = self.peek().clone() else {
                return self.unexpected();
            };
            self.step();
            let array = self.array(&name)?;
            let subscripts = match left {
                Expr::Group(list) => list,
                other => vec![other],
            };
            left = Expr::In(subscripts, array);
        }
        Ok(left)
    }

    fn matching(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.comparison(limits)?;
        while self.is("~") || self.is("!~") {
            let not = self.is("!~");
            self.step();
            let regex = Box::new(self.comparison(limits)?);
            let text = Box::new(left);
            left = Expr::Match { not, text, regex };
        }
        Ok(left)
    }

    fn comparison(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.piped(limits)?;
        loop {
            let op = match self.peek() {
                Token::Op("<") => Compare::Lt,
                Token::Op("<=") => Compare::Le,
                Token::Op("==") => Compare::Eq,
                Token::Op("!=") => Compare::Ne,
                Token::Op(">") if !limits.print => Compare::Gt,
                Token::Op(">=") => Compare::Ge,
                _ => return Ok(left),
            };
            self.step();
            let right = self.piped(limits)?;
            left = Expr::Compare(op, Box::new(left), Box::new(right));
        }
    }

    /// `command | getline`, any number of times.
    fn piped(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.concat(limits)?;
        while self.is("|") && *self.peek_at(1) == Token::Word(Word::Getline) {
            self.at += 2;
            let target = self.target()?;
            left = Expr::Getline(Source::Command(Box::new(left)), target);
        }
        Ok(left)
    }

    /// The variable that getline fills, if one is named.
    fn target(&mut self) -> Res<Option<Box<Expr>>> {
        match self.peek() {
            Token::Name(_) | Token::Op("$") => Ok(Some(Box::new(self.place()?))),
            _ => Ok(None),
        }
    }

    fn begins_operand(&self) -> bool {
        matches!(
            self.peek(),
            Token::Number(_)
                | Token::Text(_)
                | Token::Regex(_)
                | Token::Name(_)
                | Token::Call(_)
                | Token::Builtin(_)
                | Token::Op("$" | "!" | "(" | "-" | "+" | "++" | "--")
        )
    }

    fn concat(&mut self, limits: Limits) -> Res<Expr> {
        let first = self.additive(limits)?;
        let mut parts = vec![first];
        // A sign would have been taken as an operator, and `!` begins no operand of a concatenation but of `!~`'s kin.
        while self.begins_operand() && !self.is("-") && !self.is("+") && !self.is("!") {
            parts.push(self.additive(limits)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Expr::Concat(parts),
        })
    }

    fn additive(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.term(limits)?;
        loop {
            let op = match self.peek() {
                Token::Op("+") => Arith::Add,
                Token::Op("-") => Arith::Sub,
                _ => return Ok(left),
            };
            self.step();
            let right = self.term(limits)?;
            left = Expr::Arith(op, Box::new(left), Box::new(right));
        }
    }

    fn term(&mut self, limits: Limits) -> Res<Expr> {
        let mut left = self.unary(limits)?;
        loop {
            let op = match self.peek() {
                Token::Op("*") => Arith::Mul,
                Token::Op("/") => Arith::Div,
                Token::Op("%") => Arith::Mod,
                _ => return Ok(left),
            };
            self.step();
            let right = self.unary(limits)?;
            left = Expr::Arith(op, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self, limits: Limits) -> Res<Expr> {
        let wrap: fn(Box<Expr>) -> Expr = match self.peek() {
            Token::Op("!") => Expr::Not,
            Token::Op("-") => Expr::Neg,
            Token::Op("+") => Expr::Plus,
            _ => return self.power(limits),
        };
        self.step();
        let operand = self.deeper(|p| p.unary(limits))?;
        Ok(wrap(Box::new(operand)))
    }

    fn power(&mut self, limits: Limits) -> Res<Expr> {
        let base = self.postfix(limits)?;
        if !self.take("^") {
            return Ok(base);
        }
        // Right-associative, and a sign may stand before the exponent.
        let exponent = self.deeper(|p| p.unary(limits))?;
        Ok(Expr::Arith(Arith::Pow, Box::new(base), Box::new(exponent)))
    }

    /// An operand with `++` or `--` behind it, or the assignment that it begins.
    fn postfix(&mut self, limits: Limits) -> Res<Expr> {
        let operand = self.primary(limits)?;
        if !is_place(&operand) {
            return Ok(operand);
        }
        let Token::Op(op) = *self.peek() else {
            return Ok(operand);
        };
        let arith = match op {
            "=" => None,
            "+=" => Some(Arith::Add),
            "-=" => Some(Arith::Sub),
            "*=" => Some(Arith::Mul),
            "/=" => Some(Arith::Div),
            "%=" => Some(Arith::Mod),
            "^=" => Some(Arith::Pow),
            "++" | "--" => {
                self.step();
                return Ok(Expr::Step {
                    by: if op == "++" { 1.0 } else { -1.0 },
                    old: true,
                    target: Box::new(operand),
                });
            }
            _ => return Ok(operand),
        };
        self.step();
        self.skip_newlines();
        let value = Box::new(self.expr(limits)?);
        let target = Box::new(operand);
        Ok(match arith {
            None => Expr::Assign(target, value),
            Some(op) => Expr::Update(op, target, value),
        })
    }

    /// Something that can be assigned to.
    fn place(&mut self) -> Res<Expr> {
        match self.peek().clone() {
            Token::Op("$") => {
                self.step();
                let index = self.deeper(|p| p.field_index())?;
                Ok(Expr::Field(Box::new(index)))
            }
            Token::Name(name) => {
                self.step();
                if self.take("[") {
                    let array = self.array(&name)?;
                    let subscripts = self.list("]")?;
                    return Ok(Expr::Index(array, subscripts));
                }
                Ok(Expr::Var(self.var(&name)?))
            }
            _ => self.unexpected(),
        }
    }

    /// What follows `$`: an operand that binds more tightly than anything.
    fn field_index(&mut self) -> Res<Expr> {
        match self.peek() {
            Token::Op("++" | "--") => self.primary(Limits::default()),
            Token::Op("-") => {
                self.step();
                let operand = self.deeper(|p| p.field_index())?;
                Ok(Expr::Neg(Box::new(operand)))
            }
            Token::Op("+" | "!") => self.unexpected(),
            _ => self.primary(Limits::default()),
        }
    }

    fn primary(&mut self, limits: Limits) -> Res<Expr> {
        match self.peek().clone() {
            Token::Number(n) => {
                self.step();
                Ok(Expr::Const(Value::Num(n)))
            }
            Token::Text(bytes) => {
                self.step();
                Ok(Expr::Const(text(&bytes)))
            }
            Token::Regex(source) => {
                let regex = match crate::compile(&source, self.utf8) {
                    Ok(regex) => regex,
                    Err(error) => return self.fail(error),
                };
                self.step();
                Ok(Expr::Regex(Rc::new(regex)))
            }
            Token::Name(_) | Token::Op("$") => self.place(),
            Token::Op(op @ ("++" | "--")) => {
                self.step();
                let target = self.place()?;
                Ok(Expr::Step {
                    by: if op == "++" { 1.0 } else { -1.0 },
                    old: false,
                    target: Box::new(target),
                })
            }
            Token::Op("(") => {
                self.step();
                self.skip_newlines();
                let mut list = self.list(")")?;
                if list.len() > 1 {
                    // Subscripts, or what print prints.
                    let fits = *self.peek() == Token::Word(Word::In) || limits.print;
                    return if fits {
                        Ok(Expr::Group(list))
                    } else {
                        self.unexpected()
                    };
                }
                let inner = list.remove(0);
                // In parentheses it is a value: `(x) = 1` and `(/re/)` lose what they had.
                Ok(match inner {
                    place if is_place(&place) && !self.is("++") && !self.is("--") => {
                        Expr::Plain(Box::new(place))
                    }
                    other => other,
                })
            }
            Token::Op("-" | "+" | "!") => self.unary(limits),
            Token::Call(name) => {
                self.step();
                self.call(&name)
            }
            Token::Builtin(name) => {
                self.step();
                self.builtin(name)
            }
            Token::Word(Word::Getline) => {
                self.step();
                let target = self.target()?;
                if self.take("<") {
                    let file = self.file_operand()?;
                    return Ok(Expr::Getline(Source::File(Box::new(file)), target));
                }
                Ok(Expr::Getline(Source::Next, target))
            }
            _ => self.unexpected(),
        }
    }

    /// The file of `getline <`: no concatenation, no operator.
    fn file_operand(&mut self) -> Res<Expr> {
        self.deeper(|p| p.primary(Limits::default()))
    }

    fn arguments(&mut self) -> Res<Vec<Expr>> {
        self.expect("(")?;
        self.skip_newlines();
        if self.take(")") {
            return Ok(Vec::new());
        }
        self.list(")")
    }

    fn call(&mut self, name: &str) -> Res<Expr> {
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

    fn builtin(&mut self, name: &'static str) -> Res<Expr> {
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

fn is_place(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(_) | Expr::Field(_) | Expr::Index(..))
}
