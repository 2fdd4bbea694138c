//! diff and cmp, over uutils diffutils; this adds directories to what the
//! crate compares.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use diffutilslib::params::{Format, Params, parse_params};

use super::Args;
use crate::sys::{fail, read_input};

/// No differences, some differences, trouble: the exit statuses of diff.
const SAME: i32 = 0;
const DIFFERENT: i32 = 1;
const TROUBLE: i32 = 2;

pub fn diff(args: Args) -> i32 {
    // Options for directories are ours; the crate knows the rest.
    let mut recursive = false;
    let mut new_file = false;
    let mut labels = Vec::new();
    let mut rest = Vec::new();
    let mut shown = Vec::new();
    let mut args = args.into_iter().enumerate();
    while let Some((at, arg)) = args.next() {
        match arg.to_str() {
            Some("-L" | "--label") => {
                let label = args.next().map(|(_, label)| label).unwrap_or_default();
                labels.push(label.to_string_lossy().into_owned());
                continue;
            }
            Some(text) if text.starts_with("--label=") => {
                labels.push(text["--label=".len()..].to_owned());
                continue;
            }
            Some("--recursive") => recursive = true,
            Some("--new-file") => new_file = true,
            Some(text)
                if at > 0
                    && text.len() > 1
                    && text.starts_with('-')
                    && !text.starts_with("--")
                    && text.contains(['r', 'N']) =>
            {
                recursive |= text.contains('r');
                new_file |= text.contains('N');
                let others: String = text.chars().filter(|c| !"rN".contains(*c)).collect();
                if others.len() > 1 {
                    rest.push(OsString::from(others));
                }
            }
            _ => rest.push(arg.clone()),
        }
        if at > 0 && arg.to_string_lossy().starts_with('-') && arg.len() > 1 {
            shown.push(arg.to_string_lossy().into_owned());
        }
    }
    let params = match parse_params(rest.into_iter().peekable()) {
        Ok(params) => params,
        Err(message) => return fail("diff", message, TROUBLE),
    };
    let differ = Differ {
        params,
        recursive,
        new_file,
        labels,
        options: shown.join(" "),
    };
    let (from, to) = (
        PathBuf::from(&differ.params.from),
        PathBuf::from(&differ.params.to),
    );
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

struct Differ {
    params: Params,
    recursive: bool,
    new_file: bool,
    /// What to put in the headings in place of names and times.
    labels: Vec<String>,
    /// The options as given, for the headings of a recursive comparison.
    options: String,
}

impl Differ {
    fn files(&self, from: &Path, to: &Path, heading: bool) -> i32 {
        let read = |path: &Path| {
            if self.new_file && !path.exists() {
                return Ok(Vec::new());
            }
            read_input(&path.to_string_lossy())
                .map_err(|error| fail("diff", format!("{}: {error}", path.display()), TROUBLE))
        };
        let (old, new) = match (read(from), read(to)) {
            (Ok(old), Ok(new)) => (old, new),
            _ => return TROUBLE,
        };
        if old == new {
            if self.params.report_identical_files {
                println!(
                    "Files {} and {} are identical",
                    from.display(),
                    to.display()
                );
            }
            return SAME;
        }
        if self.params.brief {
            println!("Files {} and {} differ", from.display(), to.display());
            return DIFFERENT;
        }
        if old.contains(&0) || new.contains(&0) {
            println!(
                "Binary files {} and {} differ",
                from.display(),
                to.display()
            );
            return DIFFERENT;
        }
        let mut params = self.params.clone();
        params.from = from.as_os_str().to_owned();
        params.to = to.as_os_str().to_owned();
        let mut out = std::io::stdout().lock();
        let text = match params.format {
            Format::Normal => diffutilslib::normal_diff(&old, &new, &params),
            Format::Unified => diffutilslib::unified_diff(&old, &new, &params),
            Format::Context => diffutilslib::context_diff(&old, &new, &params),
            Format::Ed => match diffutilslib::ed_diff(&old, &new, &params) {
                Ok(text) => text,
                Err(error) => return fail("diff", error, TROUBLE),
            },
            Format::SideBySide => diffutilslib::side_by_side_diff(&old, &new, &mut out, &params),
        };
        if text.is_empty() {
            return SAME;
        }
        let text = match params.format {
            Format::Normal => plain_ranges(&text),
            Format::Unified | Format::Context => self.label(text),
            _ => text,
        };
        if heading {
            let options = if self.options.is_empty() { "" } else { " " };
            let _ = writeln!(
                out,
                "diff{options}{} {} {}",
                self.options,
                from.display(),
                to.display()
            );
        }
        if out.write_all(&text).is_err() {
            return TROUBLE;
        }
        DIFFERENT
    }

    /// Replaces the names and times in the two lines of the heading.
    fn label(&self, text: Vec<u8>) -> Vec<u8> {
        if self.labels.is_empty() {
            return text;
        }
        let mut out = Vec::with_capacity(text.len());
        for (at, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            match self.labels.get(at) {
                Some(label) if at < 2 && line.len() > 4 => {
                    out.extend_from_slice(&line[..4]);
                    out.extend_from_slice(label.as_bytes());
                    out.push(b'\n');
                }
                _ => out.extend_from_slice(line),
            }
        }
        out
    }

    fn directories(&self, from: &Path, to: &Path) -> i32 {
        let names = |dir: &Path| -> std::io::Result<BTreeSet<OsString>> {
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
            let (a, b) = (from.join(name), to.join(name));
            let only = match (old.contains(name), new.contains(name)) {
                (true, false) => Some(from),
                (false, true) => Some(to),
                _ => None,
            };
            let result = match only {
                Some(dir) if !self.new_file || a.is_dir() || b.is_dir() => {
                    println!("Only in {}: {}", dir.display(), name.to_string_lossy());
                    DIFFERENT
                }
                _ if a.is_dir() && b.is_dir() => {
                    if self.recursive {
                        self.directories(&a, &b)
                    } else {
                        println!("Common subdirectories: {} and {}", a.display(), b.display());
                        SAME
                    }
                }
                _ if a.is_dir() != b.is_dir() => {
                    let kind = |path: &Path| {
                        if path.is_dir() {
                            "directory"
                        } else {
                            "regular file"
                        }
                    };
                    println!(
                        "File {} is a {} while file {} is a {}",
                        a.display(),
                        kind(&a),
                        b.display(),
                        kind(&b)
                    );
                    DIFFERENT
                }
                _ => self.files(&a, &b, true),
            };
            status = status.max(result);
        }
        status
    }
}

/// Writes ranges of one line, which the crate gives as `4,4`, as `4`.
fn plain_ranges(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|b| *b == b'\n') {
        let head = line.first().is_some_and(u8::is_ascii_digit);
        let Some(header) = std::str::from_utf8(line).ok().filter(|_| head) else {
            out.extend_from_slice(line);
            continue;
        };
        let command = header.find(['a', 'c', 'd']).unwrap_or(header.len());
        let (old, new) = header.split_at(command);
        let plain = |range: &str| match range.split_once(',') {
            Some((from, to)) if from == to => from.to_owned(),
            _ => range.to_owned(),
        };
        let new = new.trim_end();
        let (letter, new) = new.split_at(new.len().min(1));
        out.extend_from_slice(format!("{}{letter}{}\n", plain(old), plain(new)).as_bytes());
    }
    out
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
    use super::plain_ranges;

    #[test]
    fn single_lines_are_no_ranges() {
        assert_eq!(plain_ranges(b"3a4,4\n> d\n"), b"3a4\n> d\n");
        assert_eq!(plain_ranges(b"2,3c2,2\n< 4,4\n"), b"2,3c2\n< 4,4\n");
    }
}
