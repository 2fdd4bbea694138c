//! tar, with the options of GNU tar that people use: what is asked for is read here,
//! [`create`] writes archives, [`extract`] reads them.

mod create;
mod extract;

pub use create::safe_start;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::BufRead as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use super::Args;
use super::codec::Format;
use super::pattern::{Reach, matches};
use crate::sys::fail;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Create,
    Append,
    Update,
    Extract,
    List,
}

/// What to do where a file is in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Existing {
    /// Remove it first.
    #[default]
    Replace,
    /// Write into it.
    Overwrite,
    /// That is an error.
    Keep,
    Skip,
}

/// An operand: they are done in order, each from the directory it is in.
#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Directory(PathBuf),
    Name(OsString),
}

#[derive(Debug, Default)]
struct Options {
    mode: Option<Mode>,
    /// Not given, or `-`: standard input or output.
    file: Option<PathBuf>,
    format: Option<Format>,
    by_name: bool,
    verbose: usize,
    operands: Vec<Operand>,
    excludes: Vec<Vec<u8>>,
    strip: usize,
    to_stdout: bool,
    existing: Existing,
    absolute: bool,
    dereference: bool,
    sparse: bool,
    no_recursion: bool,
    one_filesystem: bool,
    remove_files: bool,
    no_times: bool,
    /// Exactly the modes of the archive; when not told, root does.
    permissions: Option<bool>,
    /// The owners of the archive; when not told, root does.
    owners: Option<bool>,
    numeric: bool,
    wildcards: bool,
    ignore_zeros: bool,
    owner: Option<(u64, Option<String>)>,
    group: Option<(u64, Option<String>)>,
    fixed_mode: Option<u32>,
    fixed_time: Option<u64>,
}

pub fn tar(args: Args) -> i32 {
    let options = match parse(args) {
        Ok(options) => options,
        Err(message) => {
            return fail(
                "tar",
                format!("{message}\nTry 'tar --help' for more information."),
                2,
            );
        }
    };
    let done = match options.mode {
        Some(Mode::Extract | Mode::List) => extract::run(&options),
        _ => create::run(&options),
    };
    match done {
        Ok(0) => 0,
        Ok(2) => fail(
            "tar",
            "Exiting with failure status due to previous errors",
            2,
        ),
        Ok(status) => status,
        Err(error) => fail(
            "tar",
            format!("{error}\ntar: Error is not recoverable: exiting now"),
            2,
        ),
    }
}

/// Long options and the letter that does the same; those without a letter stand for themselves.
const LONG: &[(&str, char)] = &[
    ("create", 'c'),
    ("append", 'r'),
    ("update", 'u'),
    ("extract", 'x'),
    ("get", 'x'),
    ("list", 't'),
    ("file", 'f'),
    ("gzip", 'z'),
    ("gunzip", 'z'),
    ("ungzip", 'z'),
    ("bzip2", 'j'),
    ("xz", 'J'),
    ("auto-compress", 'a'),
    ("verbose", 'v'),
    ("directory", 'C'),
    ("exclude-from", 'X'),
    ("files-from", 'T'),
    ("to-stdout", 'O'),
    ("keep-old-files", 'k'),
    ("preserve-permissions", 'p'),
    ("same-permissions", 'p'),
    ("no-same-owner", 'o'),
    ("absolute-names", 'P'),
    ("dereference", 'h'),
    ("sparse", 'S'),
    ("touch", 'm'),
    ("unlink-first", 'U'),
    ("blocking-factor", 'b'),
    ("ignore-zeros", 'i'),
    ("format", 'H'),
];

/// Letters and long options that take a value.
const VALUED: &str = "fCXTbH";
const VALUED_LONG: &[&str] = &[
    "exclude",
    "strip-components",
    "owner",
    "group",
    "mode",
    "mtime",
    "sort",
    "record-size",
    "warning",
];

fn parse(args: Args) -> Result<Options, String> {
    let mut args: VecDeque<OsString> = args.into_iter().skip(1).collect();
    let mut options = Options::default();
    let mut null_lists = false;
    // The old form: letters without a dash, their values after all of them.
    if args
        .front()
        .is_some_and(|first| !first.as_bytes().starts_with(b"-"))
        && let Some(letters) = args.pop_front()
    {
        for letter in letters.to_string_lossy().chars() {
            let value = VALUED.contains(letter).then(|| args.pop_front());
            take(&mut options, letter, value, null_lists)?;
        }
    }
    while let Some(arg) = args.pop_front() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            options.operands.extend(args.drain(..).map(Operand::Name));
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            let (name, value) = match long.iter().position(|b| *b == b'=') {
                Some(at) => (&long[..at], Some(OsStr::from_bytes(&long[at + 1..]))),
                None => (long, None),
            };
            let name = String::from_utf8_lossy(name).into_owned();
            let letter = LONG.iter().find(|(n, _)| *n == name).map(|(_, l)| *l);
            let valued =
                letter.map_or(VALUED_LONG.contains(&name.as_str()), |l| VALUED.contains(l));
            let value = match value {
                Some(value) => Some(Some(value.to_owned())),
                None => valued.then(|| args.pop_front()),
            };
            match letter {
                Some(letter) => take(&mut options, letter, value, null_lists)?,
                None if name == "null" => null_lists = true,
                None => take_long(&mut options, &name, value)?,
            }
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            let mut at = 1;
            while at < bytes.len() {
                let letter = char::from(bytes[at]);
                at += 1;
                let value = VALUED.contains(letter).then(|| {
                    if at == bytes.len() {
                        return args.pop_front();
                    }
                    let rest = OsStr::from_bytes(&bytes[at..]).to_owned();
                    at = bytes.len();
                    Some(rest)
                });
                take(&mut options, letter, value, null_lists)?;
            }
        } else {
            options.operands.push(Operand::Name(arg));
        }
    }
    if options.mode.is_none() {
        return Err("You must specify one of the '-crtux' options".to_owned());
    }
    options.file = options.file.filter(|file| file.as_os_str() != "-");
    if options.by_name
        && options.format.is_none()
        && let Some(file) = &options.file
    {
        options.format = Format::of_name(file.as_os_str().as_bytes());
    }
    Ok(options)
}

/// The value that an option needs. `None`: it takes none; `Some(None)`: none was left.
type Value = Option<Option<OsString>>;

fn required(name: &str, value: Value) -> Result<OsString, String> {
    value
        .flatten()
        .ok_or(format!("option requires an argument -- '{name}'"))
}

fn take(options: &mut Options, letter: char, value: Value, null: bool) -> Result<(), String> {
    let value = || required(&letter.to_string(), value.clone());
    let mode = match letter {
        'c' => Some(Mode::Create),
        'r' => Some(Mode::Append),
        'u' => Some(Mode::Update),
        'x' => Some(Mode::Extract),
        't' => Some(Mode::List),
        _ => None,
    };
    if let Some(mode) = mode {
        if options.mode.is_some_and(|before| before != mode) {
            return Err("You may not specify more than one '-crtux' option".to_owned());
        }
        options.mode = Some(mode);
        return Ok(());
    }
    match letter {
        'f' => options.file = Some(value()?.into()),
        'z' => options.format = Some(Format::Gzip),
        'j' => options.format = Some(Format::Bzip2),
        'J' => options.format = Some(Format::Xz),
        'a' => options.by_name = true,
        'v' => options.verbose += 1,
        'C' => options.operands.push(Operand::Directory(value()?.into())),
        'X' => {
            let patterns = lines(&value()?, b'\n')?;
            options.excludes.extend(patterns);
        }
        'T' => {
            let names = lines(&value()?, if null { 0 } else { b'\n' })?;
            let names = names.into_iter().map(OsString::from_vec);
            options.operands.extend(names.map(Operand::Name));
        }
        'O' => options.to_stdout = true,
        'k' => options.existing = Existing::Keep,
        'U' => options.existing = Existing::Replace,
        'p' => options.permissions = Some(true),
        'o' => options.owners = Some(false),
        'P' => options.absolute = true,
        'h' => options.dereference = true,
        'S' => options.sparse = true,
        'm' => options.no_times = true,
        'i' => options.ignore_zeros = true,
        // How much to write at once is no matter on disks and pipes.
        'b' | 'B' => drop(value().is_ok()),
        'H' => match value()?.to_str() {
            Some("gnu" | "oldgnu") => {}
            other => {
                return Err(format!(
                    "{}: archive format not written",
                    other.unwrap_or("?")
                ));
            }
        },
        'w' | 'A' | 'd' | 'g' | 'M' | 'W' | 'I' | 'Z' => {
            return Err(format!("option -{letter} is not supported"));
        }
        _ => return Err(format!("invalid option -- '{letter}'")),
    }
    Ok(())
}

fn take_long(options: &mut Options, name: &str, value: Value) -> Result<(), String> {
    let text = |value: Value| -> Result<String, String> {
        Ok(required(name, value)?.to_string_lossy().into_owned())
    };
    let bad = |text: &str| format!("{text}: invalid --{name}");
    match name {
        "exclude" => options.excludes.push(required(name, value)?.into_vec()),
        "strip-components" => {
            let text = text(value)?;
            options.strip = text.parse().map_err(|_| bad(&text))?;
        }
        "zstd" => options.format = Some(Format::Zstd),
        "lzma" => options.format = Some(Format::Lzma),
        "overwrite" => options.existing = Existing::Overwrite,
        "skip-old-files" => options.existing = Existing::Skip,
        "no-same-permissions" => options.permissions = Some(false),
        "same-owner" => options.owners = Some(true),
        "numeric-owner" => options.numeric = true,
        "no-recursion" => options.no_recursion = true,
        "recursion" => options.no_recursion = false,
        "one-file-system" => options.one_filesystem = true,
        "remove-files" => options.remove_files = true,
        "wildcards" => options.wildcards = true,
        "no-wildcards" => options.wildcards = false,
        "hard-dereference" | "no-overwrite-dir" | "keep-directory-symlink" | "to-command" => {
            return Err(format!("option --{name} is not supported"));
        }
        // What they ask for is what is done anyway, or is about how and not what.
        "no-auto-compress"
        | "delay-directory-restore"
        | "no-delay-directory-restore"
        | "force-local"
        | "quoting-style"
        | "no-xattrs"
        | "no-acls"
        | "no-selinux"
        | "warning"
        | "record-size"
        | "anchored"
        | "seek" => {}
        "sort" => match text(value)?.as_str() {
            // Directories are always read by name.
            "name" | "none" => {}
            other => return Err(bad(other)),
        },
        "owner" => options.owner = Some(identity(&text(value)?, crate::sys::user_id, &bad)?),
        "group" => options.group = Some(identity(&text(value)?, crate::sys::group_id, &bad)?),
        "mode" => {
            let text = text(value)?;
            let mode = u32::from_str_radix(&text, 8).map_err(|_| bad(&text))?;
            options.fixed_mode = Some(mode & 0o7777);
        }
        "mtime" => {
            let text = text(value)?;
            options.fixed_time = Some(moment(&text).ok_or_else(|| bad(&text))?);
        }
        _ => return Err(format!("unrecognized option '--{name}'")),
    }
    Ok(())
}

/// `NAME`, `NAME:NUMBER` or `NUMBER`.
fn identity(
    text: &str,
    number_of: impl Fn(&str) -> Option<u32>,
    bad: &impl Fn(&str) -> String,
) -> Result<(u64, Option<String>), String> {
    if let Some((name, number)) = text.split_once(':') {
        let number = number.parse().map_err(|_| bad(text))?;
        return Ok((number, Some(name.to_owned())));
    }
    if let Ok(number) = text.parse() {
        return Ok((number, None));
    }
    let number = number_of(text).ok_or_else(|| bad(text))?;
    Ok((number.into(), Some(text.to_owned())))
}

/// `@SECONDS`, or `YYYY-MM-DD` with an optional `HH:MM` or `HH:MM:SS`, in UTC.
fn moment(text: &str) -> Option<u64> {
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().ok();
    }
    let text = text.trim_end_matches('Z').trim_end_matches(" UTC");
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "0:0"));
    let number = |part: Option<&str>| part.and_then(|p| p.parse::<i64>().ok());
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (
        number(date.next())?,
        number(date.next())?,
        number(date.next())?,
    );
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (number(time.next())?, number(time.next())?);
    let second = time.next().map_or(Some(0), |s| s.parse().ok())?;
    let known = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..61).contains(&second);
    if !known {
        return None;
    }
    // Days since 1970 with the year beginning in March, so that leap days come last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let days = 365 * shifted + shifted / 4 - shifted / 100
        + shifted / 400
        + (153 * ((month + 9) % 12) + 2) / 5
        + day
        - 1
        - 719_468;
    u64::try_from(days * 86400 + hour * 3600 + minute * 60 + second).ok()
}

/// The lines of a file, or of standard input for `-`.
fn lines(path: &OsStr, end: u8) -> Result<Vec<Vec<u8>>, String> {
    let explain =
        |error: std::io::Error| format!("{}: {}", path.display(), super::codec::plain(&error));
    let input: Box<dyn std::io::BufRead> = if path == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::io::BufReader::new(
            std::fs::File::open(path).map_err(explain)?,
        ))
    };
    let lines: Result<Vec<Vec<u8>>, _> = input.split(end).collect();
    let mut lines = lines.map_err(explain)?;
    lines.retain(|line| !line.is_empty());
    Ok(lines)
}

impl Options {
    fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::List)
    }

    /// Whether a pattern of `--exclude` matches the name, a directory it is in,
    /// or either from any of its components on.
    fn excluded(&self, name: &[u8]) -> bool {
        self.excludes.iter().any(|pattern| {
            let starts = name.iter().enumerate().filter(|(_, b)| **b == b'/');
            std::iter::once(0)
                .chain(starts.map(|(at, _)| at + 1))
                .any(|at| matches(pattern, &name[at..], Reach::LeadingDirectory))
        })
    }
}

/// Tells of something that is wrong with a member.
fn complain(name: &[u8], text: &str) {
    use std::io::Write as _;
    let name = super::listing::escaped(name);
    // With standard error closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "tar: {name}: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, String> {
        parse(["tar"].iter().chain(args).map(OsString::from).collect())
    }

    #[test]
    fn old_and_new_forms() {
        for args in [
            &["-xzf", "a.tgz", "-C", "/tmp", "--strip-components=1"][..],
            &["xzfC", "a.tgz", "/tmp", "--strip-components", "1"],
            &[
                "--extract",
                "-za",
                "--file=a.tgz",
                "-C/tmp",
                "--strip-components=1",
            ],
        ] {
            let options = parsed(args).expect("valid");
            assert_eq!(options.mode, Some(Mode::Extract));
            assert_eq!(options.format, Some(Format::Gzip));
            assert_eq!(options.strip, 1);
            assert_eq!(options.operands, [Operand::Directory("/tmp".into())]);
            assert_eq!(options.file, Some("a.tgz".into()));
        }
        for args in [
            &["-f", "x"][..],
            &["cx"],
            &["-cf"],
            &["c", "--nonsense"],
            &["c", "--mode=9"],
            &["cQ"],
            &[],
        ] {
            assert!(parsed(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn compression_by_name() {
        for (name, format) in [
            ("a.tar.gz", Some(Format::Gzip)),
            ("a.tbz2", Some(Format::Bzip2)),
            ("a.txz", Some(Format::Xz)),
            ("a.tar.zst", Some(Format::Zstd)),
            ("a.tar", None),
        ] {
            assert_eq!(parsed(&["caf", name]).expect("valid").format, format);
        }
    }

    #[test]
    fn exclusion_reaches_below_and_inside() {
        let options = parsed(&["c", "--exclude=*.o", "--exclude", "b/skip"]).expect("valid");
        for (name, expected) in [
            ("x.o", true),
            ("a/x.o", true),
            ("a/x.c", false),
            ("b/skip", true),
            ("a/b/skip/f", true),
            ("a/b/skipped", false),
        ] {
            assert_eq!(options.excluded(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn moments() {
        for (text, seconds) in [
            ("@5", Some(5)),
            ("1970-01-01", Some(0)),
            ("2023-11-14 22:13:20", Some(1_700_000_000)),
            ("2024-02-29T00:00Z", Some(1_709_164_800)),
            ("yesterday", None),
            ("2024-13-01", None),
        ] {
            assert_eq!(moment(text), seconds, "{text}");
        }
    }
}
