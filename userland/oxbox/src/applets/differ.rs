//! diff and cmp. What differs is found by `changes` and shown by `hunks`; cmp and diff -y are uutils diffutils'. (Its
//! diff itself keeps a table of all lines by all lines: two files of 20,000 lines took 2.4 GB.)

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use diffutilslib::utils::get_modification_time;

use super::Args;
use super::changes::{Change, changes};
use super::hunks::{self, Texts};
use crate::sys::{fail, lossy, read_input};

/// No differences, some differences, trouble: the exit statuses of diff.
const SAME: i32 = 0;
const DIFFERENT: i32 = 1;
const TROUBLE: i32 = 2;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Normal,
    Unified,
    Context,
    Ed,
    SideBySide,
}

#[derive(Default)]
struct Options {
    format: Format,
    context: Option<usize>,
    recursive: bool,
    new_file: bool,
    brief: bool,
    report_identical: bool,
    text: bool,
    ignore_case: bool,
    /// Runs of blanks are one, and none at the end of a line.
    ignore_blank_changes: bool,
    ignore_all_blanks: bool,
    ignore_trailing_blanks: bool,
    ignore_blank_lines: bool,
    strip_returns: bool,
    /// What to put in the headings in place of names and times.
    labels: Vec<String>,
    /// File names that recursion leaves out.
    exclude: Vec<String>,
    /// What only side by side takes.
    side: Vec<OsString>,
    /// The options as given, for the headings of a recursive comparison.
    shown: Vec<String>,
    operands: Vec<OsString>,
}

pub fn diff(args: Args) -> i32 {
    let mut options = match Options::parse(args) {
        Ok(options) => options,
        Err(message) => {
            return fail(
                "diff",
                format!("{message}\ndiff: Try 'diff --help' for more information."),
                TROUBLE,
            );
        }
    };
    let operands = std::mem::take(&mut options.operands);
    let [from, to] = match <[OsString; 2]>::try_from(operands) {
        Ok(operands) => operands.map(PathBuf::from),
        Err(operands) => {
            let message = match operands.get(2) {
                Some(extra) => format!("extra operand '{}'", extra.display()),
                None => format!(
                    "missing operand after '{}'",
                    operands
                        .last()
                        .map_or("diff".into(), |o| o.to_string_lossy())
                ),
            };
            return fail(
                "diff",
                format!("{message}\ndiff: Try 'diff --help' for more information."),
                TROUBLE,
            );
        }
    };
    let differ = Differ { options };
    match (from.is_dir(), to.is_dir()) {
        (true, true) => differ.directories(&from, &to),
        // A file against a directory: the file of that name in it.
        (true, false) if to.as_os_str() != "-" => {
            differ.files(&from.join(to.file_name().unwrap_or_default()), &to, false)
        }
        (false, true) if from.as_os_str() != "-" => {
            differ.files(&from, &to.join(from.file_name().unwrap_or_default()), false)
        }
        _ => differ.files(&from, &to, false),
    }
}

impl Options {
    fn parse(args: Args) -> Result<Self, String> {
        let mut options = Options::default();
        let mut args: VecDeque<OsString> = args.into_iter().skip(1).collect();
        while let Some(arg) = args.pop_front() {
            let text = arg.to_string_lossy().into_owned();
            if text == "--" {
                options.operands.extend(args.drain(..));
            } else if let Some(long) = text.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let mut next = || args.pop_front().map(lossy);
                options.long(name, value, &mut next)?;
                options.shown.push(quoted(text));
            } else if text.len() > 1 && text.starts_with('-') {
                let mut taken = None;
                options.letters(&text[1..], &mut || {
                    taken = args.pop_front().map(lossy);
                    taken.clone()
                })?;
                options.shown.push(quoted(text));
                options.shown.extend(taken.map(quoted));
            } else {
                options.operands.push(arg);
            }
        }
        Ok(options)
    }

    fn lines(&mut self, format: Format, count: Option<&str>) -> Result<(), String> {
        self.format = format;
        if let Some(count) = count {
            self.context = Some(
                count
                    .parse()
                    .map_err(|_| format!("invalid context length '{count}'"))?,
            );
        }
        Ok(())
    }

    fn long(
        &mut self,
        name: &str,
        value: Option<String>,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), String> {
        let mut needed = || {
            value
                .clone()
                .or_else(&mut *next)
                .ok_or(format!("option '--{name}' requires an argument"))
        };
        let letter = match name {
            "unified" => {
                return self.lines(Format::Unified, value.as_deref().filter(|v| !v.is_empty()));
            }
            "context" => {
                return self.lines(Format::Context, value.as_deref().filter(|v| !v.is_empty()));
            }
            "label" => {
                self.labels.push(needed()?);
                return Ok(());
            }
            "exclude" => {
                self.exclude.push(needed()?);
                return Ok(());
            }
            "width" | "tabsize" => {
                self.side.push(format!("--{name}={}", needed()?).into());
                return Ok(());
            }
            "normal" => {
                self.format = Format::Normal;
                return Ok(());
            }
            "strip-trailing-cr" => {
                self.strip_returns = true;
                return Ok(());
            }
            // Nothing of it changes what is found.
            "color" | "minimal" | "speed-large-files" | "no-dereference" | "horizon-lines" => {
                return Ok(());
            }
            "recursive" => 'r',
            "new-file" => 'N',
            "brief" => 'q',
            "report-identical-files" => 's',
            "text" => 'a',
            "ignore-case" => 'i',
            "ignore-space-change" => 'b',
            "ignore-all-space" => 'w',
            "ignore-trailing-space" => 'Z',
            "ignore-blank-lines" => 'B',
            "ed" => 'e',
            "side-by-side" => 'y',
            "expand-tabs" => 't',
            _ => return Err(format!("unrecognized option '--{name}'")),
        };
        self.letters(&letter.to_string(), next)
    }

    fn letters(
        &mut self,
        letters: &str,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), String> {
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let mut needed = || {
                let attached = Some(std::mem::take(&mut rest).to_owned()).filter(|r| !r.is_empty());
                attached
                    .or_else(&mut *next)
                    .ok_or(format!("option requires an argument -- '{letter}'"))
            };
            match letter {
                'r' => self.recursive = true,
                'N' => self.new_file = true,
                'q' => self.brief = true,
                's' => self.report_identical = true,
                'a' => self.text = true,
                'i' => self.ignore_case = true,
                'b' => self.ignore_blank_changes = true,
                'w' => self.ignore_all_blanks = true,
                'Z' => self.ignore_trailing_blanks = true,
                'B' => self.ignore_blank_lines = true,
                'e' => self.format = Format::Ed,
                'y' => self.format = Format::SideBySide,
                't' => self.side.push("-t".into()),
                'd' | 'p' | 'H' => {}
                'L' => {
                    let label = needed()?;
                    self.labels.push(label);
                }
                'x' => {
                    let pattern = needed()?;
                    self.exclude.push(pattern);
                }
                'W' => {
                    let width = needed()?;
                    self.side.push(format!("--width={width}").into());
                }
                'U' | 'C' => {
                    let count = needed()?;
                    self.lines(
                        if letter == 'U' {
                            Format::Unified
                        } else {
                            Format::Context
                        },
                        Some(&count),
                    )?;
                }
                'u' | 'c' => {
                    // `-u5` too, in the manner of old.
                    let digits =
                        rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                    let (count, others) = rest.split_at(digits);
                    rest = others;
                    let format = if letter == 'u' {
                        Format::Unified
                    } else {
                        Format::Context
                    };
                    self.lines(format, Some(count).filter(|c| !c.is_empty()))?;
                }
                '0'..='9' => {
                    let digits =
                        rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                    let count = format!("{letter}{}", &rest[..digits]);
                    rest = &rest[digits..];
                    let format = if self.format == Format::Context {
                        Format::Context
                    } else {
                        Format::Unified
                    };
                    self.lines(format, Some(&count))?;
                }
                _ => return Err(format!("invalid option -- '{letter}'")),
            }
        }
        Ok(())
    }

    /// What of a line counts.
    fn key(&self, line: &[u8]) -> Vec<u8> {
        let blanks =
            self.ignore_blank_changes || self.ignore_all_blanks || self.ignore_trailing_blanks;
        if !blanks && !self.ignore_case && !self.strip_returns {
            return line.to_vec();
        }
        let mut end = line;
        if self.strip_returns
            && let Some(body) = line.strip_suffix(b"\r\n")
        {
            end = body;
        }
        if blanks {
            end = end.trim_ascii_end();
        }
        let mut out = Vec::with_capacity(end.len() + 1);
        for byte in end {
            if byte.is_ascii_whitespace() && (self.ignore_all_blanks || self.ignore_blank_changes) {
                if !self.ignore_all_blanks && out.last() != Some(&b' ') {
                    out.push(b' ');
                }
                continue;
            }
            out.push(if self.ignore_case {
                byte.to_ascii_lowercase()
            } else {
                *byte
            });
        }
        if end.len() < line.len() && !blanks {
            out.push(b'\n');
        }
        out
    }
}

/// An argument as a shell would read it.
fn quoted(arg: String) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./,:+@%".contains(c);
    if arg.chars().all(plain) {
        arg
    } else {
        format!("'{}'", arg.replace('\'', "'\\''"))
    }
}

/// Whether `name` fits a pattern of `*` and `?`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => (0..=name.len()).any(|skip| fits(&pattern[1..], &name[skip..])),
        (Some(b'?'), Some(_)) => fits(&pattern[1..], &name[1..]),
        (Some(a), Some(b)) => a == b && fits(&pattern[1..], &name[1..]),
        _ => false,
    }
}

struct Differ {
    options: Options,
}

impl Differ {
    fn files(&self, from: &Path, to: &Path, heading: bool) -> i32 {
        let options = &self.options;
        // The same one twice, and standard input can be read but once.
        if from == to && (from.as_os_str() == "-" || from.exists()) {
            return self.identical(from, to);
        }
        let read = |path: &Path| {
            if options.new_file && !path.exists() && path.as_os_str() != "-" {
                return Ok(Vec::new());
            }
            let bytes = if path.as_os_str() == "-" {
                read_input("-")
            } else {
                std::fs::read(path)
            };
            bytes.map_err(|error| trouble(path, &error))
        };
        let (old, new) = match (read(from), read(to)) {
            (Ok(old), Ok(new)) => (old, new),
            _ => return TROUBLE,
        };
        if old == new {
            return self.identical(from, to);
        }
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut say = |text: &[u8], status: i32| {
            if out.write_all(text).and_then(|()| out.flush()).is_err() {
                TROUBLE
            } else {
                status
            }
        };
        let binary = |bytes: &[u8]| bytes[..bytes.len().min(32 * 1024)].contains(&0);
        if !options.text && (binary(&old) || binary(&new)) {
            let what = if options.brief {
                "Files"
            } else {
                "Binary files"
            };
            return say(
                format!("{what} {} and {} differ\n", from.display(), to.display()).as_bytes(),
                DIFFERENT,
            );
        }
        let lines = |bytes| <[u8]>::split_inclusive(bytes, |b| *b == b'\n').collect::<Vec<_>>();
        let (old_lines, new_lines) = (lines(&old), lines(&new));
        let texts = Texts {
            old: &old_lines,
            new: &new_lines,
        };
        let context = options.context.unwrap_or(3);
        let horizon = match options.format {
            Format::Unified | Format::Context => context,
            _ => 0,
        };
        let mut found = changes(texts.old, texts.new, |line| options.key(line), horizon);
        let minor = |change: &Change| options.ignore_blank_lines && self.is_blank(&texts, change);
        if found.iter().all(minor) {
            return self.identical(from, to);
        }
        // Without context each change is shown for itself; with it, hunks are shown whole.
        if matches!(options.format, Format::Normal | Format::Ed) {
            found.retain(|change| !minor(change));
        }
        if options.brief {
            return say(
                format!("Files {} and {} differ\n", from.display(), to.display()).as_bytes(),
                DIFFERENT,
            );
        }
        let mut text = Vec::new();
        if heading {
            let shown = options
                .shown
                .iter()
                .map(|option| format!(" {option}"))
                .collect::<String>();
            text = format!("diff{shown} {} {}\n", from.display(), to.display()).into_bytes();
        }
        match options.format {
            Format::Normal => text.extend(hunks::normal(&texts, &found)),
            Format::Ed => text.extend(hunks::ed(&texts, &found)),
            Format::Unified => {
                self.headings(&mut text, ["--- ", "+++ "], [from, to]);
                text.extend(hunks::unified(&texts, &found, context, minor));
            }
            Format::Context => {
                self.headings(&mut text, ["*** ", "--- "], [from, to]);
                text.extend(hunks::context(&texts, &found, context, minor));
            }
            Format::SideBySide => match self.side_by_side(from, to, &old, &new) {
                Ok(columns) => text.extend(columns),
                Err(message) => return fail("diff", message, TROUBLE),
            },
        }
        say(&text, DIFFERENT)
    }

    fn identical(&self, from: &Path, to: &Path) -> i32 {
        if self.options.report_identical {
            println!(
                "Files {} and {} are identical",
                from.display(),
                to.display()
            );
        }
        SAME
    }

    /// Whether empty lines are all that went and came. Lines of blanks are empty only where blanks do not count.
    fn is_blank(&self, texts: &Texts, change: &Change) -> bool {
        let blank = |line: &&[u8]| matches!(self.options.key(line).as_slice(), b"" | b"\n");
        let old = &texts.old[change.old..change.old + change.removed];
        let new = &texts.new[change.new..change.new + change.added];
        old.iter().all(blank) && new.iter().all(blank)
    }

    fn headings(&self, text: &mut Vec<u8>, marks: [&str; 2], paths: [&Path; 2]) {
        for (at, (mark, path)) in marks.into_iter().zip(paths).enumerate() {
            let shown = match self.options.labels.get(at) {
                Some(label) => label.clone(),
                // A file that is not there has the beginning of time.
                None if self.options.new_file && !path.exists() && path.as_os_str() != "-" => {
                    format!("{}\t1970-01-01 00:00:00.000000000 +0000", path.display())
                }
                None => format!(
                    "{}\t{}",
                    path.display(),
                    get_modification_time(&path.to_string_lossy())
                ),
            };
            text.extend_from_slice(format!("{mark}{shown}\n").as_bytes());
        }
    }

    fn side_by_side(
        &self,
        from: &Path,
        to: &Path,
        old: &[u8],
        new: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut args: Vec<OsString> = vec!["diff".into(), "-y".into()];
        args.extend(self.options.side.iter().cloned());
        args.extend([from.as_os_str().to_owned(), to.as_os_str().to_owned()]);
        let params = diffutilslib::params::parse_params(args.into_iter().peekable())
            .map_err(|e| e.to_string())?;
        let mut text = Vec::new();
        let more = diffutilslib::side_by_side_diff(old, new, &mut text, &params);
        text.extend(more);
        Ok(text)
    }

    fn directories(&self, from: &Path, to: &Path) -> i32 {
        let names = |dir: &Path| -> std::io::Result<BTreeSet<OsString>> {
            if self.options.new_file && !dir.exists() {
                return Ok(BTreeSet::new());
            }
            std::fs::read_dir(dir)?
                .map(|e| Ok(e?.file_name()))
                .collect()
        };
        let (old, new) = match (names(from), names(to)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(error), _) | (_, Err(error)) => return fail("diff", error, TROUBLE),
        };
        let mut status = SAME;
        for name in old.union(&new) {
            if self
                .options
                .exclude
                .iter()
                .any(|pattern| fits(pattern.as_bytes(), name.as_encoded_bytes()))
            {
                continue;
            }
            let (a, b) = (from.join(name), to.join(name));
            let only = match (old.contains(name), new.contains(name)) {
                (true, false) => Some(from),
                (false, true) => Some(to),
                _ => None,
            };
            // Whether -N compares it with nothing.
            let counts = |path: &Path| path.is_file() || self.options.recursive && path.is_dir();
            let result = match only {
                Some(dir) if !self.options.new_file || !counts(&dir.join(name)) => {
                    println!("Only in {}: {}", dir.display(), name.to_string_lossy());
                    DIFFERENT
                }
                _ if a.is_dir() && (b.is_dir() || only.is_some())
                    || b.is_dir() && only.is_some() =>
                {
                    if self.options.recursive {
                        self.directories(&a, &b)
                    } else {
                        println!("Common subdirectories: {} and {}", a.display(), b.display());
                        SAME
                    }
                }
                None => self.pair(&a, &b),
                _ => self.files(&a, &b, true),
            };
            status = status.max(result);
        }
        status
    }

    /// Two entries of the same name that are not both directories. Nothing is read of what is no regular file: a fifo
    /// would wait for a writer, a device might never end.
    fn pair(&self, from: &Path, to: &Path) -> i32 {
        let mut found = Vec::new();
        for path in [from, to] {
            match std::fs::metadata(path) {
                Ok(metadata) => found.push(metadata),
                Err(error) => return trouble(path, &error),
            }
        }
        if (found[0].dev(), found[0].ino()) == (found[1].dev(), found[1].ino()) {
            return self.identical(from, to);
        }
        if found.iter().all(Metadata::is_file) {
            return self.files(from, to, true);
        }
        println!(
            "File {} is a {} while file {} is a {}",
            from.display(),
            kind(&found[0]),
            to.display(),
            kind(&found[1])
        );
        DIFFERENT
    }
}

/// What a file is, as GNU's diff says it.
fn kind(file: &Metadata) -> &'static str {
    let of = file.file_type();
    match () {
        () if of.is_file() && file.len() == 0 => "regular empty file",
        () if of.is_file() => "regular file",
        () if of.is_dir() => "directory",
        () if of.is_fifo() => "fifo",
        () if of.is_socket() => "socket",
        () if of.is_block_device() => "block special file",
        () if of.is_char_device() => "character special file",
        () => "weird file",
    }
}

/// Says why `path` cannot be compared.
fn trouble(path: &Path, error: &std::io::Error) -> i32 {
    let text = error.to_string();
    let reason = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(reason, _)| reason);
    fail("diff", format!("{}: {reason}", path.display()), TROUBLE)
}

pub fn cmp(args: Args) -> i32 {
    use diffutilslib::cmp::{Cmp, cmp, parse_params};
    let params = match parse_params(args.into_iter().peekable()) {
        Ok(params) => params,
        Err(message) => return fail("cmp", message, TROUBLE),
    };
    match cmp(&params) {
        Ok(Cmp::Equal) => SAME,
        Ok(Cmp::Different) => DIFFERENT,
        Err(message) => {
            eprintln!("{message}");
            TROUBLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_bundle() {
        let parse = |args: &[&str]| Options::parse(args.iter().map(OsString::from).collect());
        let options = parse(&["diff", "-ruN", "-x", "*.o", "-bU", "5", "a", "b"]).unwrap();
        assert!(options.recursive && options.new_file && options.ignore_blank_changes);
        assert!(options.format == Format::Unified && options.context == Some(5));
        assert!(
            parse(&["diff", "-u7B", "a", "b"])
                .is_ok_and(|o| o.context == Some(7) && o.ignore_blank_lines)
        );
        assert!(parse(&["diff", "--nope"]).is_err() && parse(&["diff", "-U", "x"]).is_err());
    }

    #[test]
    fn what_of_a_line_counts() {
        let key = |letters: &str, line: &str| {
            let mut options = Options::default();
            options.letters(letters, &mut || None).unwrap();
            String::from_utf8(options.key(line.as_bytes())).unwrap()
        };
        assert_eq!(key("b", "a \t b \n"), key("b", "a b"));
        assert_ne!(key("b", " a\n"), key("b", "a\n"));
        assert_eq!(key("w", " a b\n"), key("w", "ab\n"));
        assert_eq!(key("i", "Ab\n"), key("i", "aB\n"));
    }

    #[test]
    fn patterns() {
        assert!(fits(b"*.o", b"x.o") && fits(b"?a*", b"ba") && !fits(b"*.o", b"x.c"));
    }
}
