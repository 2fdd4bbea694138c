//! How diff shows changes: as commands (normal, ed) or with context (unified, context).

use super::changes::Change;

/// The lines of both files, each with its newline where it has one.
pub struct Texts<'a> {
    pub old: &'a [&'a [u8]],
    pub new: &'a [&'a [u8]],
}

const NO_NEWLINE: &[u8] = b"\n\\ No newline at end of file\n";

fn line(out: &mut Vec<u8>, mark: &str, text: &[u8]) {
    out.extend_from_slice(mark.as_bytes());
    out.extend_from_slice(text);
    if text.last() != Some(&b'\n') {
        out.extend_from_slice(NO_NEWLINE);
    }
}

/// `4` or `4,6` for the lines from `start` (from 0); an empty range is the line before it.
fn range(start: usize, count: usize) -> String {
    match count {
        0 => start.to_string(),
        1 => (start + 1).to_string(),
        _ => format!("{},{}", start + 1, start + count),
    }
}

fn letter(change: &Change) -> char {
    match (change.removed, change.added) {
        (0, _) => 'a',
        (_, 0) => 'd',
        _ => 'c',
    }
}

pub fn normal(texts: &Texts, changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes {
        let (old, new) = (
            range(change.old, change.removed),
            range(change.new, change.added),
        );
        out.extend_from_slice(format!("{old}{}{new}\n", letter(change)).as_bytes());
        for text in &texts.old[change.old..change.old + change.removed] {
            line(&mut out, "< ", text);
        }
        if change.removed > 0 && change.added > 0 {
            out.extend_from_slice(b"---\n");
        }
        for text in &texts.new[change.new..change.new + change.added] {
            line(&mut out, "> ", text);
        }
    }
    out
}

/// An ed script, from the end to the beginning. A line that is `.` would end the text: it goes in as `..`, cut after.
pub fn ed(texts: &Texts, changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes.iter().rev() {
        let command = letter(change);
        out.extend_from_slice(
            format!("{}{command}\n", range(change.old, change.removed)).as_bytes(),
        );
        if change.added == 0 {
            continue;
        }
        let mut open = true;
        for text in &texts.new[change.new..change.new + change.added] {
            if !open {
                out.extend_from_slice(b"a\n");
                open = true;
            }
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            out.extend_from_slice(text);
            if text == b"." {
                out.extend_from_slice(b".\n.\ns/.//\n");
                open = false;
            } else {
                out.push(b'\n');
            }
        }
        if open {
            out.extend_from_slice(b".\n");
        }
    }
    out
}

/// Changes whose contexts of `context` lines touch, with the lines they span in both files. A `minor` change has
/// to be nearer to the one before it, and is not shown without one that matters.
fn groups(
    texts: &Texts,
    changes: &[Change],
    context: usize,
    minor: impl Fn(&Change) -> bool,
) -> Vec<Group> {
    let mut all: Vec<Group> = Vec::new();
    for change in changes {
        let end = change.old + change.removed;
        let near = if minor(change) {
            context
        } else {
            context.saturating_mul(2).saturating_add(1)
        };
        if let Some(last) = all.last_mut()
            && change.old - last.end < near
        {
            last.changes.push(*change);
            last.end = end;
            continue;
        }
        all.push(Group {
            changes: vec![*change],
            end,
            old: (0, 0),
            new: (0, 0),
        });
    }
    all.retain(|group| !group.changes.iter().all(&minor));
    for group in &mut all {
        let (first, last) = (group.changes[0], group.changes[group.changes.len() - 1]);
        let before = context.min(first.old);
        let after = context.min(texts.old.len() - group.end);
        group.old = (first.old - before, group.end + after);
        group.new = (
            first.new - before.min(first.new),
            (last.new + last.added + after).min(texts.new.len()),
        );
    }
    all
}

struct Group {
    changes: Vec<Change>,
    /// Of the last change in the old file.
    end: usize,
    old: (usize, usize),
    new: (usize, usize),
}

pub fn unified(
    texts: &Texts,
    changes: &[Change],
    context: usize,
    minor: impl Fn(&Change) -> bool,
) -> Vec<u8> {
    let span = |(from, to): (usize, usize)| match to - from {
        0 => format!("{from},0"),
        1 => format!("{}", from + 1),
        count => format!("{},{count}", from + 1),
    };
    let mut out = Vec::new();
    for group in groups(texts, changes, context, &minor) {
        out.extend_from_slice(
            format!("@@ -{} +{} @@\n", span(group.old), span(group.new)).as_bytes(),
        );
        let mut at = group.old.0;
        for change in &group.changes {
            texts.old[at..change.old]
                .iter()
                .for_each(|text| line(&mut out, " ", text));
            at = change.old + change.removed;
            texts.old[change.old..at]
                .iter()
                .for_each(|text| line(&mut out, "-", text));
            texts.new[change.new..change.new + change.added]
                .iter()
                .for_each(|text| line(&mut out, "+", text));
        }
        texts.old[at..group.old.1]
            .iter()
            .for_each(|text| line(&mut out, " ", text));
    }
    out
}

/// One side of a hunk of [`context`]: the lines `range` of `text`. Of each change it takes its
/// [`letter`], its first line here and how many there are; those of one side only get `mark`.
fn context_side(
    out: &mut Vec<u8>,
    text: &[&[u8]],
    range: (usize, usize),
    mark: &str,
    changes: impl Iterator<Item = (char, usize, usize)>,
) {
    let mut at = range.0;
    let mut lines = |from: usize, to: usize, mark: &str| {
        text[from..to].iter().for_each(|text| line(out, mark, text));
    };
    for (letter, first, count) in changes {
        lines(at, first, "  ");
        at = first + count;
        lines(first, at, if letter == 'c' { "! " } else { mark });
    }
    lines(at, range.1, "  ");
}

pub fn context(
    texts: &Texts,
    changes: &[Change],
    context: usize,
    minor: impl Fn(&Change) -> bool,
) -> Vec<u8> {
    let span = |(from, to): (usize, usize)| match to - from {
        0 | 1 => to.to_string(),
        _ => format!("{},{to}", from + 1),
    };
    let mut out = Vec::new();
    for group in groups(texts, changes, context, &minor) {
        out.extend_from_slice(
            format!("***************\n*** {} ****\n", span(group.old)).as_bytes(),
        );
        let changes = group.changes.iter();
        if group.changes.iter().any(|change| change.removed > 0) {
            let removed = changes.clone().map(|c| (letter(c), c.old, c.removed));
            context_side(&mut out, texts.old, group.old, "- ", removed);
        }
        out.extend_from_slice(format!("--- {} ----\n", span(group.new)).as_bytes());
        if group.changes.iter().any(|change| change.added > 0) {
            let added = changes.map(|c| (letter(c), c.new, c.added));
            context_side(&mut out, texts.new, group.new, "+ ", added);
        }
    }
    out
}
