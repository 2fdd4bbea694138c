//! hexdump, hd, xxd and strings.

use std::fmt::Write as _;
use std::io::Write as _;

use super::Args;
use crate::sys::{fail, options, read_input};

/// Reads all operands, or standard input, one after the other.
fn input(applet: &str, operands: &[String]) -> Result<Vec<u8>, i32> {
    let standard = ["-".to_owned()];
    let paths = if operands.is_empty() {
        &standard
    } else {
        operands
    };
    let mut all = Vec::new();
    for path in paths {
        match read_input(path) {
            Ok(bytes) => all.extend(bytes),
            Err(error) => return Err(fail(applet, format!("{path}: {error}"), 1)),
        }
    }
    Ok(all)
}

fn number(text: &str) -> Result<usize, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => usize::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{text}: {error}"))
}

fn print(text: &str) -> i32 {
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

pub fn hd(args: Args) -> i32 {
    dump("hd", args, true)
}

pub fn hexdump(args: Args) -> i32 {
    dump("hexdump", args, false)
}

fn dump(applet: &str, args: Args, canonical: bool) -> i32 {
    let parsed = match options(args, "Cv", "ns", &[("canonical", 'C')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail(applet, message, 1),
    };
    let limits = (parsed.value('s').map(number), parsed.value('n').map(number));
    let (skip, count) = match (limits.0.transpose(), limits.1.transpose()) {
        (Ok(skip), Ok(count)) => (skip.unwrap_or(0), count.unwrap_or(usize::MAX)),
        (Err(message), _) | (_, Err(message)) => return fail(applet, message, 1),
    };
    let bytes = match input(applet, &parsed.operands) {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    let bytes = &bytes[skip.min(bytes.len())..];
    let bytes = &bytes[..count.min(bytes.len())];
    print(&dump_text(
        bytes,
        skip,
        canonical || parsed.has('C'),
        parsed.has('v'),
    ))
}

/// The dump: 16 bytes a row, repeated rows as one `*`.
fn dump_text(bytes: &[u8], start: usize, canonical: bool, all: bool) -> String {
    let mut out = String::new();
    let mut previous: Option<&[u8]> = None;
    let mut starred = false;
    let width = if canonical { 8 } else { 7 };
    for (row, chunk) in bytes.chunks(16).enumerate() {
        if !all && previous == Some(chunk) {
            if !std::mem::replace(&mut starred, true) {
                out.push_str("*\n");
            }
            continue;
        }
        starred = false;
        previous = Some(chunk);
        let _ = write!(out, "{:0width$x}", start + row * 16);
        if canonical {
            for at in 0..16 {
                let gap = if at == 8 { " " } else { "" };
                let cell = chunk
                    .get(at)
                    .map_or("  ".to_owned(), |b| format!("{b:02x}"));
                let _ = write!(out, " {gap}{cell}");
                if at == 0 {
                    // Two blanks before the first column.
                    out.insert(out.len() - 3, ' ');
                }
            }
            let _ = writeln!(out, "  |{}|", printable(chunk));
        } else {
            for pair in chunk.chunks(2) {
                let high = pair.get(1).copied().unwrap_or(0);
                let _ = write!(out, " {high:02x}{:02x}", pair[0]);
            }
            for _ in chunk.len().div_ceil(2)..8 {
                out.push_str("     ");
            }
            out.push('\n');
        }
    }
    if !bytes.is_empty() {
        let _ = writeln!(out, "{:0width$x}", start + bytes.len());
    }
    out
}

fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|b| {
            if (0x20..0x7f).contains(b) {
                char::from(*b)
            } else {
                '.'
            }
        })
        .collect()
}

pub fn xxd(args: Args) -> i32 {
    let parsed = match options(args, "rpu", "lsc", &[], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("xxd", message, 1),
    };
    let value = |flag| parsed.value(flag).map(number).transpose();
    let (limit, skip, columns) = match (value('l'), value('s'), value('c')) {
        (Ok(limit), Ok(skip), Ok(columns)) => (limit, skip.unwrap_or(0), columns),
        (Err(message), _, _) | (_, Err(message), _) | (_, _, Err(message)) => {
            return fail("xxd", message, 1);
        }
    };
    let bytes = match input("xxd", &parsed.operands) {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    if parsed.has('r') {
        let back = undump(&String::from_utf8_lossy(&bytes), parsed.has('p'));
        return i32::from(std::io::stdout().write_all(&back).is_err());
    }
    let bytes = &bytes[skip.min(bytes.len())..];
    let bytes = &bytes[..limit.unwrap_or(bytes.len()).min(bytes.len())];
    let mut out = String::new();
    if parsed.has('p') {
        for chunk in bytes.chunks(columns.unwrap_or(30).max(1)) {
            let hex: String = chunk.iter().map(|b| format!("{b:02x}")).collect();
            let _ = writeln!(out, "{hex}");
        }
        return print(&out);
    }
    let columns = columns.unwrap_or(16).max(1);
    for (row, chunk) in bytes.chunks(columns).enumerate() {
        let mut hex = String::new();
        for (at, byte) in chunk.iter().enumerate() {
            let gap = if at % 2 == 0 && at > 0 { " " } else { "" };
            let _ = match parsed.has('u') {
                true => write!(hex, "{gap}{byte:02X}"),
                false => write!(hex, "{gap}{byte:02x}"),
            };
        }
        let width = columns * 2 + columns.div_ceil(2) - 1;
        let offset = skip + row * columns;
        let _ = writeln!(out, "{offset:08x}: {hex:width$}  {}", printable(chunk));
    }
    print(&out)
}

/// The bytes that a dump of `xxd` (`plain`: of `xxd -p`) stands for.
fn undump(text: &str, plain: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let hex = match (plain, line.split_once(": ")) {
            (true, _) => line,
            // Two blanks end the hexadecimal part.
            (false, Some((_, rest))) => rest.split("  ").next().unwrap_or(rest),
            (false, None) => continue,
        };
        let digits: Vec<u8> = hex
            .chars()
            .filter_map(|c| c.to_digit(16))
            .map(|d| d as u8)
            .collect();
        bytes.extend(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]));
    }
    bytes
}

pub fn strings(args: Args) -> i32 {
    let parsed = match options(args, "af", "nt", &[("bytes", 'n'), ("all", 'a')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("strings", message, 1),
    };
    let shortest = match parsed.value('n').map(number).transpose() {
        Ok(number) => number.unwrap_or(4).max(1),
        Err(message) => return fail("strings", message, 1),
    };
    let bytes = match input("strings", &parsed.operands) {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    let mut out = String::new();
    let mut start = 0;
    let is_text = |b: &u8| (0x20..0x7f).contains(b) || *b == b'\t';
    for run in bytes.split(|b| !is_text(b)) {
        if run.len() >= shortest {
            match parsed.value('t') {
                Some("x") => drop(write!(out, "{start:7x} ")),
                Some("d") => drop(write!(out, "{start:7} ")),
                Some("o") => drop(write!(out, "{start:7o} ")),
                _ => {}
            }
            out.push_str(&String::from_utf8_lossy(run));
            out.push('\n');
        }
        start += run.len() + 1;
    }
    print(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_dump() {
        let text = dump_text(b"hello, world\n12345", 0, true, false);
        assert_eq!(
            text,
            "00000000  68 65 6c 6c 6f 2c 20 77  6f 72 6c 64 0a 31 32 33  |hello, world.123|\n\
             00000010  34 35                                             |45|\n00000012\n"
        );
    }

    #[test]
    fn words_and_repeats() {
        let text = dump_text(&[1; 48], 0, false, false);
        let row = "0000000 0101 0101 0101 0101 0101 0101 0101 0101\n";
        assert_eq!(text, format!("{row}*\n0000030\n"));
    }

    #[test]
    fn dumps_read_back() {
        assert_eq!(
            undump(
                "00000000: 6869 0a                                  hi.\n",
                false
            ),
            b"hi\n"
        );
        assert_eq!(undump("68690a", true), b"hi\n");
    }
}
