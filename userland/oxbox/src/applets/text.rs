//! rev, tree and cal.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::Args;
use crate::sys::{fail, options, read_input};

pub fn rev(args: Args) -> i32 {
    let parsed = match options(args, "", "", &[], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("rev", message, 1),
    };
    let mut paths = parsed.paths;
    if paths.is_empty() {
        paths.push("-".into());
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut status = 0;
    for path in paths {
        let bytes = match read_input(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                status = fail("rev", format!("{}: {error}", path.display()), 1);
                continue;
            }
        };
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if out.write_all(&reversed(line)).is_err() {
                return 1;
            }
        }
    }
    if out.flush().is_err() { 1 } else { status }
}

/// The characters of `line` from the last to the first, its newline still at the end. A byte that belongs to no
/// character stands for itself.
fn reversed(line: &[u8]) -> Vec<u8> {
    let (line, end) = match line.strip_suffix(b"\n") {
        Some(line) => (line, b"\n".as_slice()),
        None => (line, b"".as_slice()),
    };
    let mut out = Vec::with_capacity(line.len() + 1);
    let chunks: Vec<_> = line.utf8_chunks().collect();
    for chunk in chunks.into_iter().rev() {
        out.extend(chunk.invalid().iter().rev());
        for character in chunk.valid().chars().rev() {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    out.extend_from_slice(end);
    out
}

pub fn tree(args: Args) -> i32 {
    let parsed = match options(args, "adfi", "L", &[], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("tree", message, 1),
    };
    let depth = match parsed.value('L').map(str::parse) {
        Some(Err(error)) => return fail("tree", format!("-L: {error}"), 1),
        Some(Ok(depth)) => depth,
        None => usize::MAX,
    };
    let mut roots = parsed.operands.clone();
    if roots.is_empty() {
        roots.push(".".to_owned());
    }
    let mut walk = Tree {
        hidden: parsed.has('a'),
        directories_only: parsed.has('d'),
        text: String::new(),
        directories: 0,
        files: 0,
    };
    for root in roots {
        walk.text.push_str(&format!("{root}\n"));
        walk.below(Path::new(&root), "", depth);
    }
    let plural = |count: usize, one: &str, many: &str| {
        format!("{count} {}", if count == 1 { one } else { many })
    };
    walk.text.push('\n');
    walk.text += &plural(walk.directories, "directory", "directories");
    if !walk.directories_only {
        walk.text += ", ";
        walk.text += &plural(walk.files, "file", "files");
    }
    walk.text.push('\n');
    i32::from(std::io::stdout().write_all(walk.text.as_bytes()).is_err())
}

struct Tree {
    hidden: bool,
    directories_only: bool,
    text: String,
    directories: usize,
    files: usize,
}

impl Tree {
    fn below(&mut self, dir: &Path, lead: &str, depth: usize) {
        if depth == 0 {
            return;
        }
        let mut entries: Vec<_> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| self.hidden || !e.file_name().to_string_lossy().starts_with('.'))
            .filter(|e| !self.directories_only || e.path().is_dir())
            .collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        let count = entries.len();
        for (at, entry) in entries.into_iter().enumerate() {
            let last = at + 1 == count;
            let (fork, bar) = if last {
                ("`-- ", "    ")
            } else {
                ("|-- ", "|   ")
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            let link = fs::read_link(entry.path())
                .map(|to| format!(" -> {}", to.display()))
                .unwrap_or_default();
            self.text.push_str(&format!("{lead}{fork}{name}{link}\n"));
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                self.directories += 1;
                self.below(&entry.path(), &format!("{lead}{bar}"), depth - 1);
            } else {
                self.files += 1;
            }
        }
    }
}

/// Year, month and day of a count of days since 1970-01-01, in the Gregorian
/// calendar. (The count is shifted to start in March of year 0, so that the
/// leap day ends a year.)
pub fn civil_date(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// Days from 1970-01-01 to the first of a month: [`civil_date`] backwards.
fn days_to(year: i64, month: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub fn cal(args: Args) -> i32 {
    let parsed = match options(args, "my", "", &[("monday", 'm'), ("year", 'y')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("cal", message, 1),
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let (this_year, this_month, _) = civil_date((now / 86400) as i64);
    let numbers: Option<Vec<i64>> = parsed.operands.iter().map(|o| o.parse().ok()).collect();
    let months: Vec<(i64, u32)> = match numbers.as_deref() {
        Some([]) if parsed.has('y') => (1..=12).map(|m| (this_year, m)).collect(),
        Some([]) => vec![(this_year, this_month)],
        Some([year @ 1..=9999]) => (1..=12).map(|m| (*year, m)).collect(),
        Some([month @ 1..=12, year @ 1..=9999]) => vec![(*year, *month as u32)],
        _ => return fail("cal", "give a year, or a month and a year", 1),
    };
    let text: String = months
        .iter()
        .map(|(year, month)| month_text(*year, *month, parsed.has('m')) + "\n")
        .collect();
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

fn month_text(year: i64, month: u32, monday: bool) -> String {
    let title = format!("{} {year}", MONTHS[(month as usize).clamp(1, 12) - 1]);
    let head = if monday {
        "Mo Tu We Th Fr Sa Su"
    } else {
        "Su Mo Tu We Th Fr Sa"
    };
    let mut text = format!("{}\n{head}\n", format!("{title:^20}").trim_end());
    let first = days_to(year, month);
    let (next_year, next_month) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    let length = days_to(next_year, next_month) - first;
    // 1970-01-01 was a Thursday.
    let weekday = (first + if monday { 3 } else { 4 }).rem_euclid(7) as usize;
    let mut line = "   ".repeat(weekday);
    for day in 1..=length {
        line.push_str(&format!("{day:>2} "));
        if (weekday + day as usize).is_multiple_of(7) || day == length {
            text.push_str(line.trim_end());
            text.push('\n');
            line.clear();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_backwards() {
        assert_eq!(reversed("aäz\n".as_bytes()), "zäa\n".as_bytes());
        assert_eq!(reversed(b"a\xff\xfeb"), b"b\xfe\xffa");
        assert_eq!(reversed(b"\n"), b"\n");
    }

    #[test]
    fn dates_go_both_ways() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(19_782), (2024, 2, 29));
        assert_eq!(days_to(1970, 1), 0);
        assert_eq!(civil_date(days_to(2100, 3) - 1), (2100, 2, 28));
    }

    #[test]
    fn a_month_of_weeks() {
        let text = month_text(2026, 11, false);
        assert_eq!(
            text,
            "   November 2026\nSu Mo Tu We Th Fr Sa\n 1  2  3  4  5  6  7\n 8  9 10 11 12 13 14\n\
             15 16 17 18 19 20 21\n22 23 24 25 26 27 28\n29 30\n"
        );
    }
}
