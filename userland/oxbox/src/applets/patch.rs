//! patch: applies unified diffs. Hunks are looked for near where they say, first whole, then with up to two lines of
//! context at each end left out ("fuzz"), as GNU patch does; messages are GNU's. Other kinds of diff are not understood.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::Args;
use crate::sys::fail;

const TROUBLE: i32 = 2;

#[derive(Default)]
struct Options {
    strip: Option<usize>,
    reverse: bool,
    forward: bool,
    force: bool,
    dry_run: bool,
    silent: bool,
    remove_empty: bool,
    backup: bool,
    directory: Option<PathBuf>,
    output: Option<PathBuf>,
    fuzz: usize,
    input: Option<PathBuf>,
    file: Option<PathBuf>,
}

/// One line of a hunk, without its mark but with its newline, if it has one.
type Line = (u8, Vec<u8>);

struct Hunk {
    /// Where it begins in the old file and in the new one, from 1; 0 for a file that is not there.
    starts: [usize; 2],
    lines: Vec<Line>,
    /// The text as it stands in the patch, for the file of rejects.
    text: Vec<u8>,
}

struct FilePatch {
    old: Vec<u8>,
    new: Vec<u8>,
    /// Whether the headings say that the file is not there: by the beginning of time, as diff -N does.
    absent: [bool; 2],
    hunks: Vec<Hunk>,
}

pub fn patch(args: Args) -> i32 {
    let options = match options(args) {
        Ok(options) => options,
        Err(message) => return fail("patch", message, TROUBLE),
    };
    if let Some(directory) = &options.directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        return fail(
            "patch",
            format!(
                "Can't change to directory {}: {}",
                directory.display(),
                reason(&error)
            ),
            TROUBLE,
        );
    }
    let text = match &options.input {
        Some(path) if path.as_os_str() != "-" => fs::read(path)
            .map_err(|e| format!("Can't open patch file {}: {}", path.display(), reason(&e))),
        _ => {
            let mut text = Vec::new();
            io::Read::read_to_end(&mut io::stdin(), &mut text)
                .map(|_| text)
                .map_err(|e| reason(&e))
        }
    };
    let patches = match text.and_then(|text| parse(&text)) {
        Ok(patches) => patches,
        Err(message) => return fail("patch", format!("**** {message}"), TROUBLE),
    };
    if patches.is_empty() {
        return fail(
            "patch",
            "**** Only garbage was found in the patch input.",
            TROUBLE,
        );
    }
    let mut status = 0;
    for patch in &patches {
        match apply(patch, &options) {
            Ok(result) => status = status.max(result),
            Err(message) => status = fail("patch", format!("**** {message}"), TROUBLE),
        }
    }
    status
}

fn options(args: Args) -> Result<Options, String> {
    let mut options = Options {
        fuzz: 2,
        ..Options::default()
    };
    let mut args: VecDeque<_> = args.into_iter().skip(1).collect();
    let mut operands = Vec::new();
    while let Some(arg) = args.pop_front() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            operands.extend(args.drain(..));
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            let long = String::from_utf8_lossy(long).into_owned();
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.into())),
                None => (long.as_str(), None),
            };
            let letter = match name {
                "strip" => 'p',
                "input" => 'i',
                "reverse" => 'R',
                "forward" => 'N',
                "force" | "batch" => 'f',
                "dry-run" => '\0',
                "quiet" | "silent" => 's',
                "remove-empty-files" => 'E',
                "backup" => 'b',
                "directory" => 'd',
                "output" => 'o',
                "fuzz" => 'F',
                "unified" => 'u',
                _ => return Err(format!("unrecognized option '--{name}'")),
            };
            options.set(letter, || value.or_else(|| args.pop_front()))?;
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            let mut at = 1;
            while at < bytes.len() {
                let letter = char::from(bytes[at]);
                at += 1;
                let attached =
                    (at < bytes.len()).then(|| OsStr::from_bytes(&bytes[at..]).to_owned());
                if options.set(letter, || attached.or_else(|| args.pop_front()))? {
                    break;
                }
            }
        } else {
            operands.push(arg);
        }
    }
    let mut operands = operands.into_iter().map(PathBuf::from);
    options.file = operands.next();
    options.input = options.input.or_else(|| operands.next());
    match operands.next() {
        Some(extra) => Err(format!("{}: extra operand", extra.display())),
        None => Ok(options),
    }
}

impl Options {
    /// Returns whether the option took the value.
    fn set(
        &mut self,
        letter: char,
        value: impl FnOnce() -> Option<std::ffi::OsString>,
    ) -> Result<bool, String> {
        let value = || value().ok_or(format!("option requires an argument -- '{letter}'"));
        let number = |text: std::ffi::OsString| {
            let shown = text.to_string_lossy().into_owned();
            shown
                .parse::<usize>()
                .map_err(|_| format!("strip count {shown} is not a number"))
        };
        match letter {
            'p' => self.strip = Some(number(value()?)?),
            'F' => self.fuzz = number(value()?)?,
            'i' => self.input = Some(value()?.into()),
            'd' => self.directory = Some(value()?.into()),
            'o' => self.output = Some(value()?.into()),
            _ => {
                match letter {
                    'R' => self.reverse = true,
                    'N' => self.forward = true,
                    'f' | 't' => self.force = true,
                    '\0' => self.dry_run = true,
                    's' => self.silent = true,
                    'E' => self.remove_empty = true,
                    'b' => self.backup = true,
                    'u' | 'l' => {}
                    _ => return Err(format!("invalid option -- '{letter}'")),
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The name in a heading: up to a tab (a time follows), or the end of the line.
fn heading_name(line: &[u8]) -> Vec<u8> {
    let name = line[4..].trim_ascii_end();
    name.split(|b| *b == b'\t').next().unwrap_or(name).to_vec()
}

/// Start and length of `12,3` or `12`.
fn range(text: &str) -> Option<(usize, usize)> {
    match text.split_once(',') {
        Some((start, length)) => Some((start.parse().ok()?, length.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

fn parse(text: &[u8]) -> Result<Vec<FilePatch>, String> {
    let mut patches: Vec<FilePatch> = Vec::new();
    let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if line.starts_with(b"--- ")
            && lines
                .get(at + 1)
                .is_some_and(|next| next.starts_with(b"+++ "))
        {
            patches.push(FilePatch {
                old: heading_name(line),
                new: heading_name(lines[at + 1]),
                absent: [line, lines[at + 1]]
                    .map(|line| String::from_utf8_lossy(line).contains("\t1970-01-01 00:00:00")),
                hunks: Vec::new(),
            });
            at += 2;
        } else if line.starts_with(b"@@ -") && !patches.is_empty() {
            let hunk = parse_hunk(&lines, &mut at)?;
            if let Some(patch) = patches.last_mut() {
                patch.hunks.push(hunk);
            }
        } else {
            at += 1;
        }
    }
    patches.retain(|patch| !patch.hunks.is_empty());
    Ok(patches)
}

fn parse_hunk(lines: &[&[u8]], at: &mut usize) -> Result<Hunk, String> {
    let malformed = |at: usize| {
        let shown = lines
            .get(at)
            .map(|l| String::from_utf8_lossy(l).into_owned())
            .unwrap_or_default();
        format!("malformed patch at line {}: {shown}", at + 1)
    };
    let head = String::from_utf8_lossy(lines[*at]).into_owned();
    let mut words = head.split(' ').skip(1);
    let old = words.next().and_then(|w| range(w.strip_prefix('-')?));
    let new = words.next().and_then(|w| range(w.strip_prefix('+')?));
    let (Some((old_start, mut old)), Some((new_start, mut new))) = (old, new) else {
        return Err(malformed(*at));
    };
    let first = *at;
    *at += 1;
    let mut hunk: Vec<Line> = Vec::new();
    while old > 0 || new > 0 {
        let Some(line) = lines.get(*at) else {
            return Err(format!(
                "unexpected end of file in patch at line {}",
                *at + 1
            ));
        };
        // Some mailers take the blank away from empty lines of context.
        let (mark, rest) = match line.split_first() {
            Some((b'\n', _)) => (b' ', *line),
            Some((mark, rest)) => (*mark, rest),
            None => return Err(malformed(*at)),
        };
        let (takes_old, takes_new) = match mark {
            b' ' => (true, true),
            b'-' => (true, false),
            b'+' => (false, true),
            b'\\' => (false, false),
            _ => return Err(malformed(*at)),
        };
        if takes_old && old == 0 || takes_new && new == 0 {
            return Err(malformed(*at));
        }
        old -= usize::from(takes_old);
        new -= usize::from(takes_new);
        if mark == b'\\' {
            no_newline(&mut hunk);
        } else {
            hunk.push((mark, rest.to_vec()));
        }
        *at += 1;
    }
    if lines.get(*at).is_some_and(|line| line.starts_with(b"\\")) {
        no_newline(&mut hunk);
        *at += 1;
    }
    Ok(Hunk {
        starts: [old_start, new_start],
        lines: hunk,
        text: lines[first..*at].concat(),
    })
}

/// `\ No newline at end of file`: of the line before.
fn no_newline(hunk: &mut [Line]) {
    if let Some((_, line)) = hunk.last_mut()
        && line.last() == Some(&b'\n')
    {
        line.pop();
    }
}

/// `name` without its first `count` directories; only its last part where no count is given.
fn stripped(name: &[u8], count: Option<usize>) -> Option<PathBuf> {
    // Slashes behind each other are one.
    let mut parts = name.split(|b| *b == b'/').collect::<Vec<_>>();
    let absolute = name.first() == Some(&b'/');
    parts.retain(|part| !part.is_empty());
    if absolute {
        parts.insert(0, b"");
    }
    if parts.is_empty() {
        return None;
    }
    let skip = match count {
        Some(count) => count,
        None => parts.len() - 1,
    };
    if skip >= parts.len() {
        return None;
    }
    let rest = parts.split_off(skip).join(&b'/');
    let path = PathBuf::from(std::ffi::OsString::from_vec(rest));
    // A patch has no business outside the directory it is applied in.
    let outside = path.is_absolute()
        || path
            .components()
            .any(|part| part == std::path::Component::ParentDir);
    (!path.as_os_str().is_empty() && !outside).then_some(path)
}

fn target(patch: &FilePatch, options: &Options) -> Option<PathBuf> {
    if let Some(file) = &options.file {
        return Some(file.clone());
    }
    let names = if options.reverse {
        [&patch.new, &patch.old]
    } else {
        [&patch.old, &patch.new]
    };
    let candidates: Vec<PathBuf> = names
        .into_iter()
        .filter(|name| *name != b"/dev/null")
        .filter_map(|name| stripped(name, options.strip))
        .collect();
    candidates
        .iter()
        .find(|path| path.exists())
        .or(candidates.last())
        .cloned()
}

fn apply(patch: &FilePatch, options: &Options) -> Result<i32, String> {
    let Some(path) = target(patch, options) else {
        let name = String::from_utf8_lossy(&patch.new).into_owned();
        return Err(format!("can't find file to patch ({name})"));
    };
    let say = |message: String| {
        if !options.silent {
            println!("{message}");
        }
    };
    let made = (if options.reverse {
        &patch.new
    } else {
        &patch.old
    }) == b"/dev/null"
        || old_length(&patch.hunks[0], options.reverse) == 0;
    let removed = (if options.reverse {
        &patch.old
    } else {
        &patch.new
    }) == b"/dev/null"
        || patch.absent[usize::from(!options.reverse)];
    let before = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && made => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            say(format!("can't find file to patch: {}", path.display()));
            say(format!(
                "{} out of {} hunks ignored",
                patch.hunks.len(),
                patch.hunks.len()
            ));
            return Ok(1);
        }
        Err(error) => {
            return Err(format!(
                "Can't open file {}: {}",
                path.display(),
                reason(&error)
            ));
        }
    };
    let doing = if options.dry_run {
        "checking"
    } else {
        "patching"
    };
    say(format!("{doing} file {}", path.display()));
    let source: Vec<&[u8]> = before.split_inclusive(|b| *b == b'\n').collect();

    // What has been applied already fits the other way round.
    if !options.force && applied(&source, &patch.hunks[0], options.reverse, options.fuzz) {
        let what = if options.reverse {
            "Unreversed"
        } else {
            "Reversed (or previously applied)"
        };
        say(format!("{what} patch detected!  Skipping patch."));
        let count = patch.hunks.len();
        let saved = if options.dry_run {
            String::new()
        } else {
            save_rejects(&path, patch, &patch.hunks.iter().collect::<Vec<_>>())?;
            format!(" -- saving rejects to file {}.rej", path.display())
        };
        println!("{count} out of {count} {} ignored{saved}", hunks(count));
        return Ok(1);
    }

    let mut after = Vec::with_capacity(before.len());
    let mut done = 0;
    let mut offset = 0isize;
    let mut rejected = Vec::new();
    let mut inexact = false;
    for (number, hunk) in patch.hunks.iter().enumerate() {
        let expected = expected_at(hunk, options.reverse).saturating_add_signed(offset);
        let found = (0..=options.fuzz).find_map(|fuzz| {
            let (old, lead) = old_lines(hunk, options.reverse, fuzz);
            let at = locate(&source, &old, expected + lead, done, hunk, fuzz)?;
            Some((at, old.len(), lead, fuzz))
        });
        let Some((at, length, lead, fuzz)) = found else {
            say(format!(
                "Hunk #{} FAILED at {}.",
                number + 1,
                start(hunk, options.reverse).max(1)
            ));
            rejected.push(hunk);
            continue;
        };
        let moved = at as isize - (expected + lead) as isize;
        offset += moved;
        inexact |= offset != 0 || fuzz > 0;
        if offset != 0 || fuzz > 0 {
            let fuzzy = if fuzz > 0 {
                format!(" with fuzz {fuzz}")
            } else {
                String::new()
            };
            let lines = if offset.abs() == 1 { "line" } else { "lines" };
            let shift = if offset != 0 {
                format!(" (offset {offset} {lines})")
            } else {
                String::new()
            };
            say(format!(
                "Hunk #{} succeeded at {}{fuzzy}{shift}.",
                number + 1,
                at - lead + 1
            ));
        }
        source[done..at]
            .iter()
            .for_each(|line| after.extend_from_slice(line));
        let new_mark = if options.reverse { b'-' } else { b'+' };
        let tail = trimmed(hunk, fuzz).1;
        for (mark, line) in &hunk.lines[lead..hunk.lines.len() - tail] {
            if *mark == b' ' || *mark == new_mark {
                after.extend_from_slice(line);
            }
        }
        done = at + length;
    }
    source[done..]
        .iter()
        .for_each(|line| after.extend_from_slice(line));

    if !options.dry_run {
        let to = options.output.as_ref().unwrap_or(&path);
        if rejected.len() < patch.hunks.len() {
            // As it was, where the patch was made for something else.
            let backup = options.backup || inexact || !rejected.is_empty();
            write_result(to, &before, &after, removed, backup, options.remove_empty)?;
        }
        if !rejected.is_empty() {
            println!(
                "{} out of {} {} FAILED -- saving rejects to file {}.rej",
                rejected.len(),
                patch.hunks.len(),
                hunks(patch.hunks.len()),
                path.display()
            );
            save_rejects(&path, patch, &rejected)?;
        }
    } else if !rejected.is_empty() {
        say(format!(
            "{} out of {} {} FAILED",
            rejected.len(),
            patch.hunks.len(),
            hunks(patch.hunks.len())
        ));
    }
    Ok(i32::from(!rejected.is_empty()))
}

fn hunks(count: usize) -> &'static str {
    if count == 1 { "hunk" } else { "hunks" }
}

fn old_length(hunk: &Hunk, reverse: bool) -> usize {
    let new_mark = if reverse { b'-' } else { b'+' };
    hunk.lines
        .iter()
        .filter(|(mark, _)| *mark != new_mark)
        .count()
}

fn start(hunk: &Hunk, reverse: bool) -> usize {
    hunk.starts[usize::from(reverse)]
}

/// Where the hunk should begin, from 0. An insertion names the line before it.
fn expected_at(hunk: &Hunk, reverse: bool) -> usize {
    match old_length(hunk, reverse) {
        0 => start(hunk, reverse),
        _ => start(hunk, reverse).saturating_sub(1),
    }
}

/// Lines of context at the beginning and at the end.
fn contexts(hunk: &Hunk) -> (usize, usize) {
    let context = |(mark, _): &&Line| *mark == b' ';
    (
        hunk.lines.iter().take_while(context).count(),
        hunk.lines.iter().rev().take_while(context).count(),
    )
}

/// How many lines of context `fuzz` leaves out at the beginning and at the end. The shorter context ends where the file
/// ends, and loses lines only after the longer one is as short; below 0 the hunk must stand at that end of the file.
fn fuzzed(hunk: &Hunk, fuzz: usize) -> (isize, isize) {
    let (head, tail) = contexts(hunk);
    let most = head.max(tail) as isize;
    (
        fuzz as isize + head as isize - most,
        fuzz as isize + tail as isize - most,
    )
}

fn trimmed(hunk: &Hunk, fuzz: usize) -> (usize, usize) {
    let (head, tail) = contexts(hunk);
    let (head_cut, tail_cut) = fuzzed(hunk, fuzz);
    (
        (head_cut.max(0) as usize).min(head),
        (tail_cut.max(0) as usize).min(tail),
    )
}

/// The lines that must be in the file, and how many of the hunk's were left out before them.
fn old_lines(hunk: &Hunk, reverse: bool, fuzz: usize) -> (Vec<&[u8]>, usize) {
    let (head, tail) = trimmed(hunk, fuzz);
    let new_mark = if reverse { b'-' } else { b'+' };
    let kept = &hunk.lines[head..hunk.lines.len().saturating_sub(tail).max(head)];
    (
        kept.iter()
            .filter(|(mark, _)| *mark != new_mark)
            .map(|(_, line)| line.as_slice())
            .collect(),
        head,
    )
}

/// The place nearest to `expected`, not before `from`, where `old` stands.
fn locate(
    source: &[&[u8]],
    old: &[&[u8]],
    expected: usize,
    from: usize,
    hunk: &Hunk,
    fuzz: usize,
) -> Option<usize> {
    if old.is_empty() {
        return (from..=source.len())
            .contains(&expected)
            .then_some(expected);
    }
    let last = source.len().checked_sub(old.len())?;
    let here = |at: &usize| *at >= from && *at <= last && source[*at..*at + old.len()] == *old;
    match fuzzed(hunk, fuzz) {
        (..0, ..0) => Some(0).filter(|at| last == 0 && here(at)),
        (..0, _) => Some(0).filter(here),
        (_, ..0) => Some(last).filter(here),
        _ => (0..=source.len().max(expected)).find_map(|distance| {
            let later = expected.checked_add(distance).filter(here);
            later.or_else(|| expected.checked_sub(distance).filter(here))
        }),
    }
}

/// Whether the hunk stands in the file as it is, with so much fuzz.
fn fits(source: &[&[u8]], hunk: &Hunk, reverse: bool, fuzz: usize) -> bool {
    let (old, lead) = old_lines(hunk, reverse, fuzz);
    // Nothing is everywhere, but only an empty file is what a new file's patch expects.
    if old.is_empty() && start(hunk, reverse) == 0 && !source.is_empty() {
        return false;
    }
    locate(
        source,
        &old,
        expected_at(hunk, reverse) + lead,
        0,
        hunk,
        fuzz,
    )
    .is_some()
}

/// Whether the patch has been applied already: it fits the other way round before it fits this way.
fn applied(source: &[&[u8]], hunk: &Hunk, reverse: bool, fuzz: usize) -> bool {
    for fuzz in 0..=fuzz {
        if fits(source, hunk, reverse, fuzz) {
            return false;
        }
        if fits(source, hunk, !reverse, fuzz) {
            return true;
        }
    }
    false
}

fn write_result(
    path: &Path,
    before: &[u8],
    after: &[u8],
    removed: bool,
    backup: bool,
    remove_empty: bool,
) -> Result<(), String> {
    let trouble =
        |error: io::Error| format!("Can't write file {}: {}", path.display(), reason(&error));
    if backup && path.exists() {
        fs::write(with_suffix(path, ".orig"), before).map_err(trouble)?;
    }
    if after.is_empty() && (removed || remove_empty) {
        fs::remove_file(path).map_err(trouble)?;
        // Directories that are empty now go too.
        let mut parents = path
            .ancestors()
            .skip(1)
            .take_while(|d| !d.as_os_str().is_empty());
        while parents
            .next()
            .is_some_and(|directory| fs::remove_dir(directory).is_ok())
        {}
        return Ok(());
    }
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(trouble)?;
    }
    // Into another file that then takes its place, so that a full disk loses nothing.
    let temporary = with_suffix(path, &format!(".patch{}", std::process::id()));
    let permissions = fs::metadata(path).ok().map(|m| m.permissions());
    let written = fs::write(&temporary, after)
        .and_then(|()| match permissions {
            Some(permissions) => fs::set_permissions(&temporary, permissions),
            None => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        trouble(error)
    })
}

fn save_rejects(path: &Path, patch: &FilePatch, rejected: &[&Hunk]) -> Result<(), String> {
    let mut text = [b"--- ".as_slice(), &patch.old, b"\n+++ ", &patch.new, b"\n"].concat();
    rejected
        .iter()
        .for_each(|hunk| text.extend_from_slice(&hunk.text));
    let to = with_suffix(path, ".rej");
    let result = fs::File::create(&to).and_then(|mut file| file.write_all(&text));
    result.map_err(|error| format!("Can't write file {}: {}", to.display(), reason(&error)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error")
        .map_or(text.clone(), |(text, _)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_directories_and_stay_inside() {
        assert_eq!(stripped(b"a/src/x.c", Some(1)), Some("src/x.c".into()));
        assert_eq!(stripped(b"a/src/x.c", None), Some("x.c".into()));
        assert_eq!(stripped(b"x.c", Some(1)), None);
        assert_eq!(stripped(b"a/../../etc/passwd", Some(1)), None);
        assert_eq!(stripped(b"/etc/passwd", Some(0)), None);
    }

    #[test]
    fn broken_patches_are_errors() {
        for bad in [
            "--- a\n+++ b\n@@ -1,2 +1 @@\n x\n",
            "--- a\n+++ b\n@@ -x +1 @@\n",
            "--- a\n+++ b\n@@ -1 +1 @@\n?x\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"nothing\n").is_ok_and(|patches| patches.is_empty()));
    }
}
