//! sed, as POSIX and GNU have it: [`script`] reads the script, [`exec`] runs it over the input, [`output`] writes lines
//! as they came, with or without a newline at the end. Data are bytes; characters are UTF-8 unless the locale is C.

mod exec;
mod output;
mod script;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use exec::{Machine, Setup, Trouble};
use script::{Settings, Source};

const USAGE: &str = "\
Usage: sed [OPTION]... {script-only-if-no-other-script} [input-file]...

  -n, --quiet, --silent      print no line unless told to
  -e, --expression=SCRIPT    add the script to the commands
  -f, --file=FILE            add the file's lines to the commands
  -E, -r, --regexp-extended  use extended regular expressions
  -i[SUFFIX], --in-place[=SUFFIX]
                             change files in place, with a copy if there is a SUFFIX
  -l, --line-length=N        width of the lines of `l'
  -s, --separate             take files for themselves, not as one input
  -u, --unbuffered           write every line at once
  -z, --null-data            lines end with NUL bytes
      --posix, --sandbox, --debug, --follow-symlinks, --help, --version";

/// Runs sed with `args`, its name first; returns its exit status.
pub fn main(args: Vec<OsString>) -> i32 {
    match run(args) {
        Ok(status) => status,
        Err(Trouble(message, status)) => {
            eprintln!("sed: {message}");
            status
        }
    }
}

struct Options {
    sources: Vec<Source>,
    files: Vec<Vec<u8>>,
    settings: Settings,
    setup: Setup,
}

fn run(args: Vec<OsString>) -> Result<i32, Trouble> {
    let mut options = match options(args)? {
        Some(options) => options,
        None => return Ok(0),
    };
    if options.sources.is_empty() {
        if options.files.is_empty() {
            eprintln!("{USAGE}");
            return Ok(1);
        }
        let text = options.files.remove(0);
        options.sources.push(Source { text, file: None });
    }
    let first = &options.sources[0].text;
    if first.starts_with(b"#n\n") || first == b"#n" {
        options.setup.quiet = true;
    }
    let script = script::parse(&options.sources, &options.settings).map_err(|message| {
        // Found only when all is read, and GNU's status for it is another.
        let status = if message.starts_with("can't find label") {
            4
        } else {
            1
        };
        Trouble(message, status)
    })?;
    if options.files.is_empty() {
        options.files.push(b"-".to_vec());
    }
    let mut machine = Machine::new(&script, &options.setup, options.files)?;
    machine.run()?;
    Ok(machine.status)
}

/// None where the answer has been printed.
fn options(args: Vec<OsString>) -> Result<Option<Options>, Trouble> {
    let mut options = Options {
        sources: Vec::new(),
        files: Vec::new(),
        settings: Settings {
            extended: false,
            utf8: oxbow_regex::utf8_locale(),
            sandbox: false,
            null_data: false,
        },
        setup: Setup {
            quiet: false,
            separate: false,
            in_place: None,
            end: b'\n',
            unbuffered: false,
            width: 70,
            posix: false,
            utf8: oxbow_regex::utf8_locale(),
        },
    };
    let usage = |message: String| Trouble(format!("{message}\n{USAGE}"), 1);
    let mut args = args.into_iter().skip(1).map(OsStringExt::into_vec);
    while let Some(arg) = args.next() {
        if arg == b"--" {
            options.files.extend(args.by_ref());
            break;
        }
        if arg.first() != Some(&b'-') || arg == b"-" {
            options.files.push(arg);
            continue;
        }
        if let Some(long) = arg.strip_prefix(b"--") {
            let (name, value) = match long.iter().position(|b| *b == b'=') {
                Some(at) => (&long[..at], Some(long[at + 1..].to_vec())),
                None => (long, None),
            };
            let name = full_name(name).ok_or_else(|| {
                usage(format!(
                    "unrecognized option '{}'",
                    String::from_utf8_lossy(&arg)
                ))
            })?;
            match name {
                "help" => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                "version" => {
                    println!(
                        "sed (oxbow) {}\nThis is not GNU sed version 4.8",
                        env!("CARGO_PKG_VERSION")
                    );
                    return Ok(None);
                }
                "in-place" => options.set(b'i', value.unwrap_or_default())?,
                "expression" | "file" | "line-length" => {
                    let value = value.or_else(|| args.next());
                    let value = value
                        .ok_or_else(|| usage(format!("option '--{name}' requires an argument")))?;
                    options.set(name.as_bytes()[0], value)?;
                }
                "quiet" | "silent" => options.set(b'n', Vec::new())?,
                "regexp-extended" => options.set(b'E', Vec::new())?,
                "null-data" | "zero-terminated" => options.set(b'z', Vec::new())?,
                "posix" => options.setup.posix = true,
                "sandbox" => options.settings.sandbox = true,
                "separate" => options.set(b's', Vec::new())?,
                "unbuffered" => options.set(b'u', Vec::new())?,
                _ => {}
            }
            continue;
        }
        let mut at = 1;
        while at < arg.len() {
            let letter = arg[at];
            at += 1;
            match letter {
                b'e' | b'f' | b'l' => {
                    let value = if at < arg.len() {
                        Some(arg[at..].to_vec())
                    } else {
                        args.next()
                    };
                    let value = value.ok_or_else(|| {
                        usage(format!(
                            "option requires an argument -- '{}'",
                            char::from(letter)
                        ))
                    })?;
                    options.set(letter, value)?;
                    break;
                }
                b'i' => {
                    options.set(b'i', arg[at..].to_vec())?;
                    break;
                }
                b'n' | b'E' | b'r' | b's' | b'u' | b'z' => options.set(letter, Vec::new())?,
                _ => return Err(usage(format!("invalid option -- '{}'", char::from(letter)))),
            }
        }
    }
    Ok(Some(options))
}

const LONG: &[&str] = &[
    "debug",
    "expression",
    "file",
    "follow-symlinks",
    "help",
    "in-place",
    "line-length",
    "null-data",
    "posix",
    "quiet",
    "regexp-extended",
    "sandbox",
    "separate",
    "silent",
    "unbuffered",
    "version",
    "zero-terminated",
];

/// The long option that `name` is, or is the beginning of.
fn full_name(name: &[u8]) -> Option<&'static str> {
    let mut fitting = LONG.iter().filter(|long| long.as_bytes().starts_with(name));
    let first = fitting.next()?;
    (first.as_bytes() == name || fitting.next().is_none()).then_some(*first)
}

impl Options {
    fn set(&mut self, letter: u8, value: Vec<u8>) -> Result<(), Trouble> {
        match letter {
            b'n' => self.setup.quiet = true,
            b'E' | b'r' => self.settings.extended = true,
            b's' => self.setup.separate = true,
            b'u' => self.setup.unbuffered = true,
            b'z' => {
                self.setup.end = 0;
                self.settings.null_data = true;
            }
            b'i' => {
                self.setup.separate = true;
                self.setup.in_place = Some(value);
            }
            b'l' => {
                let shown = String::from_utf8_lossy(&value).into_owned();
                self.setup.width = shown
                    .parse()
                    .map_err(|_| Trouble(format!("invalid line length: {shown}"), 1))?;
            }
            b'e' => self.sources.push(Source {
                text: value,
                file: None,
            }),
            _ => {
                let name = String::from_utf8_lossy(&value).into_owned();
                let text = if value == b"-" || value == b"/dev/stdin" {
                    let mut text = Vec::new();
                    std::io::Read::read_to_end(&mut std::io::stdin(), &mut text).map(|_| text)
                } else {
                    std::fs::read(path_of(&value))
                };
                let text = text.map_err(|error| {
                    Trouble(format!("couldn't open file {name}: {}", reason(&error)), 4)
                })?;
                self.sources.push(Source {
                    text,
                    file: Some(name),
                });
            }
        }
        Ok(())
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// An error as the C library words it.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error")
        .map_or(text.clone(), |(text, _)| text.to_owned())
}
