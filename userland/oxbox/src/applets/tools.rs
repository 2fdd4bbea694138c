//! Fronts to the uutils crates that are not coreutils: grep, sed, find, xargs,
//! and to the awk crate.

use std::ffi::OsString;

use super::Args;
use crate::sys::{fail, lossy};

pub fn grep(args: Args) -> i32 {
    uu_grep::uumain(args.into_iter())
}

/// grep with `option` put before the user's own arguments.
fn grep_with(option: &str, mut args: Args) -> i32 {
    let at = args.len().min(1);
    args.insert(at, OsString::from(option));
    grep(args)
}

pub fn egrep(args: Args) -> i32 {
    grep_with("-E", args)
}

pub fn fgrep(args: Args) -> i32 {
    grep_with("-F", args)
}

pub fn sed(args: Args) -> i32 {
    sed::sed::uumain(args.into_iter())
}

pub fn find(args: Args) -> i32 {
    let args: Vec<String> = args.into_iter().map(lossy).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    findutils::find::find_main(&args, &findutils::find::StandardDependencies::new())
}

pub fn xargs(args: Args) -> i32 {
    let args: Vec<String> = args.into_iter().map(lossy).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    findutils::xargs::xargs_main(&args)
}

pub fn awk(args: Args) -> i32 {
    match awk_run(args) {
        Ok(status) => status,
        Err(error) => fail("awk", error, 2),
    }
}

/// What the crate's own `main` does: options, program, variables, input files.
fn awk_run(args: Args) -> Result<i32, Box<dyn std::error::Error>> {
    use awk_rs::{Interpreter, Lexer, Parser};
    use std::io::{BufRead, BufReader};

    let mut separator = None;
    let mut program: Option<String> = None;
    let mut variables = Vec::new();
    let mut operands = Vec::new();
    let mut args = args.into_iter().skip(1).map(lossy);
    while let Some(arg) = args.next() {
        let mut value = |rest: &str| {
            let next = (rest.is_empty()).then(|| args.next());
            next.unwrap_or_else(|| Some(rest.to_owned()))
                .ok_or(format!("option {arg} requires an argument"))
        };
        if arg == "--" {
            break;
        } else if let Some(rest) = arg.strip_prefix("-F") {
            separator = Some(value(rest)?);
        } else if let Some(rest) = arg.strip_prefix("-v") {
            variables.push(value(rest)?);
        } else if let Some(rest) = arg.strip_prefix("-f") {
            let path = value(rest)?;
            let text = crate::sys::read_input(&path).map_err(|e| format!("{path}: {e}"))?;
            let text = String::from_utf8_lossy(&text);
            program = Some(program.map_or(String::new(), |p| p + "\n") + &text);
        } else if arg.starts_with('-') && arg != "-" {
            return Err(format!("unknown option: {arg}").into());
        } else {
            operands.push(arg);
            break;
        }
    }
    operands.extend(args);
    let program = match program {
        Some(program) => program,
        None if operands.is_empty() => return Err("no program given".into()),
        None => operands.remove(0),
    };

    let tokens = Lexer::new(&program).tokenize()?;
    let program = Parser::new(tokens).parse()?;
    let mut interpreter = Interpreter::new(&program);
    if let Some(separator) = &separator {
        // As POSIX says: `t` alone is a tab.
        interpreter.set_fs(if separator == "t" { "\t" } else { separator });
    }
    let mut argv = vec!["awk".to_owned()];
    argv.extend(operands.iter().cloned());
    interpreter.set_args(argv);
    for variable in &variables {
        let (name, value) = variable
            .split_once('=')
            .ok_or(format!("invalid assignment: {variable}"))?;
        interpreter.set_variable(name, value);
    }
    let mut inputs: Vec<Box<dyn BufRead>> = Vec::new();
    let mut names = Vec::new();
    for name in operands {
        // An assignment takes effect where it stands among the files; the
        // crate knows only the start, which is right where it stands first.
        if let Some((variable, value)) = name.split_once('=')
            && is_name(variable)
        {
            interpreter.set_variable(variable, value);
            continue;
        }
        if name == "-" {
            inputs.push(Box::new(BufReader::new(std::io::stdin())));
        } else {
            let file = std::fs::File::open(&name).map_err(|e| format!("{name}: {e}"))?;
            inputs.push(Box::new(BufReader::new(file)));
        }
        names.push(name);
    }
    if inputs.is_empty() {
        inputs.push(Box::new(BufReader::new(std::io::stdin())));
        names.push(String::new());
    }
    interpreter.set_filenames(names);
    Ok(interpreter.run(inputs, &mut std::io::stdout().lock())?)
}

/// Whether `text` is the name of an awk variable.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
