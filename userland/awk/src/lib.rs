//! awk: POSIX's language, with what gawk adds that scripts use: regular expressions as RS, RT, gensub, strftime, bit
//! operations, asort, switch, nextfile, PROCINFO["sorted_in"].
//!
//! In the order of a run: [`lex`] cuts the program into tokens, [`parse`] makes a tree of them in which names are
//! resolved ([`ast`]), [`interp`] walks it, record by record ([`io`], [`record`]). Data are bytes throughout; functions
//! that count characters take UTF-8 unless the locale is C. Not there: `|&`, @include, FPAT, FIELDWIDTHS, IGNORECASE.

mod ast;
mod builtin;
mod format;
mod interp;
mod io;
mod lex;
mod parse;
mod record;
mod value;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use value::Fatal;

const USAGE: &str = "usage: awk [-F fs] [-v var=value] [-f progfile | 'prog'] [file ...]";

/// Runs awk with `args`, its name first; returns its exit status.
pub fn main(args: Vec<OsString>) -> i32 {
    let options = match Options::parse(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return 0;
        }
        Err(message) => {
            eprintln!("awk: {message}");
            return 2;
        }
    };
    match options.run() {
        Ok(status) => status,
        Err(fatal) => {
            eprintln!("awk: {}{}", options.place(fatal.line), fatal.message);
            2
        }
    }
}

#[derive(Default)]
struct Options {
    program: Vec<u8>,
    /// Names of program files with the lines they begin at; none for a program among the arguments.
    files: Vec<(String, usize)>,
    assignments: Vec<(String, Vec<u8>)>,
    operands: Vec<Vec<u8>>,
}

impl Options {
    /// None where only help is wanted.
    fn parse(args: Vec<OsString>) -> Result<Option<Self>, String> {
        let mut options = Options::default();
        let mut args = args.into_iter().skip(1).map(OsStringExt::into_vec);
        let mut separator = None;
        let mut sources: Vec<(Option<String>, Vec<u8>)> = Vec::new();
        while let Some(arg) = args.next() {
            if arg == b"--" {
                options.operands.extend(args.by_ref());
                break;
            }
            if arg.first() != Some(&b'-') || arg == b"-" {
                options.operands.push(arg);
                options.operands.extend(args.by_ref());
                break;
            }
            let shown = String::from_utf8_lossy(&arg).into_owned();
            let (letter, attached) = match arg.strip_prefix(b"--") {
                None => (arg[1], arg[2..].to_vec()),
                Some(long) => {
                    let (name, value) = match long.iter().position(|b| *b == b'=') {
                        Some(at) => (&long[..at], long[at + 1..].to_vec()),
                        None => (long, Vec::new()),
                    };
                    let letter = match name {
                        b"field-separator" => b'F',
                        b"assign" => b'v',
                        b"file" => b'f',
                        b"source" => b'e',
                        b"help" => return Ok(None),
                        b"version" => b'V',
                        // How gawk is told to keep to a standard.
                        b"posix" | b"traditional" | b"re-interval" | b"lint" | b"sandbox"
                        | b"optimize" => continue,
                        _ => return Err(format!("unknown option: {shown}\n{USAGE}")),
                    };
                    (letter, value)
                }
            };
            let mut value = || {
                let attached = if attached.is_empty() {
                    args.next()
                } else {
                    Some(attached.clone())
                };
                attached.ok_or(format!(
                    "option requires an argument -- '{}'\n{USAGE}",
                    char::from(letter)
                ))
            };
            match letter {
                b'F' => separator = Some(value()?),
                b'v' => {
                    let value = value()?;
                    let shown = String::from_utf8_lossy(&value).into_owned();
                    options.assignments.push(assignment(&value).ok_or(format!(
                        "`{shown}' argument to `-v' not in `var=value' form"
                    ))?);
                }
                b'f' => {
                    let name = value()?;
                    let shown = String::from_utf8_lossy(&name).into_owned();
                    let text = read_program(&name).map_err(|error| {
                        format!("cannot open `{shown}' for reading: {}", io::reason(&error))
                    })?;
                    sources.push((Some(shown), text));
                }
                b'e' => sources.push((None, value()?)),
                b'V' => {
                    println!("awk {}", env!("CARGO_PKG_VERSION"));
                    std::process::exit(0);
                }
                b'W' => {
                    value()?;
                }
                b'h' => return Ok(None),
                b'P' | b'c' | b'r' | b'O' | b'S' | b'b' | b'n' | b't' => {}
                _ => return Err(format!("unknown option: {shown}\n{USAGE}")),
            }
        }
        if sources.is_empty() {
            if options.operands.is_empty() {
                return Err(USAGE.to_owned());
            }
            sources.push((None, options.operands.remove(0)));
        }
        let mut line = 1;
        for (name, text) in sources {
            options
                .files
                .push((name.unwrap_or_else(|| "cmd. line".to_owned()), line));
            options.program.extend_from_slice(&text);
            options.program.push(b'\n');
            line += 1 + text.iter().filter(|b| **b == b'\n').count();
        }
        if let Some(separator) = separator {
            // As POSIX says: `t` alone is a tab.
            let separator = if separator == b"t" {
                b"\t".to_vec()
            } else {
                lex::unescape(&separator)
            };
            options.assignments.insert(0, ("FS".to_owned(), separator));
        }
        options.operands.insert(0, b"awk".to_vec());
        Ok(Some(options))
    }

    fn run(&self) -> Result<i32, Fatal> {
        let utf8 = oxbow_regex::utf8_locale();
        let program = parse::parse(&lex::lex(&self.program)?, utf8)?;
        let run = |room: usize| {
            interp::run(
                &program,
                utf8,
                &self.assignments,
                self.operands.clone(),
                room,
            )
        };
        if program.functions.is_empty() {
            return run(SMALL_ROOM);
        }
        // Functions may call themselves: they get a stack of their own, of which only what is used takes memory.
        std::thread::scope(|scope| {
            let this = std::panic::AssertUnwindSafe(self);
            let thread =
                std::thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || {
                        let options = this;
                        let program = parse::parse(&lex::lex(&options.program)?, utf8)?;
                        interp::run(
                            &program,
                            utf8,
                            &options.assignments,
                            options.operands.clone(),
                            STACK - (1 << 20),
                        )
                    });
            match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|_| Err(Fatal::at(0, "internal error"))),
                Err(_) => run(SMALL_ROOM),
            }
        })
    }

    /// Where line `line` of the program is, as a message begins.
    fn place(&self, line: usize) -> String {
        match self.files.iter().rev().find(|(_, first)| *first <= line) {
            Some((name, first)) => format!("{name}:{}: ", line - first + 1),
            None => String::new(),
        }
    }
}

const STACK: usize = 128 << 20;
const SMALL_ROOM: usize = 1 << 20;

fn read_program(name: &[u8]) -> std::io::Result<Vec<u8>> {
    if name == b"-" || name == b"/dev/stdin" {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut text)?;
        return Ok(text);
    }
    std::fs::read(std::ffi::OsStr::from_bytes(name))
}

/// `name=value`, as an operand or after -v; the value's escape sequences are replaced.
fn assignment(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let at = text.iter().position(|b| *b == b'=')?;
    let (name, value) = (&text[..at], &text[at + 1..]);
    let first = name.first()?;
    let good =
        !first.is_ascii_digit() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    good.then(|| {
        (
            String::from_utf8_lossy(name).into_owned(),
            lex::unescape(value),
        )
    })
}

fn compile(source: &[u8], utf8: bool) -> Result<oxbow_regex::Regex, String> {
    let options = oxbow_regex::Options {
        utf8,
        ..oxbow_regex::Options::default()
    };
    oxbow_regex::Regex::new(source, oxbow_regex::Flavor::Awk, options)
        .map_err(|error| format!("{error}: /{}/", String::from_utf8_lossy(source)))
}
