//! dmesg: the kernel's message ring, over syslog(2).

use std::io::Write as _;

use super::Args;
use crate::sys::{fail, options};

// man 2 syslog.
const READ_ALL: i32 = 3;
const READ_CLEAR: i32 = 4;
const CLEAR: i32 = 5;
const CONSOLE_LEVEL: i32 = 8;
const SIZE_BUFFER: i32 = 10;

/// What to take for the ring's size when the kernel does not say.
const DEFAULT_RING_BYTES: usize = 1 << 18;

pub fn dmesg(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("clear", 'C'),
        ("read-clear", 'c'),
        ("raw", 'r'),
        ("notime", 't'),
        ("console-level", 'n'),
        ("level", 'l'),
    ];
    let parsed = match options(args, "cCrtTHkx", "nl", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("dmesg", message, 1),
    };
    if let Some(level) = parsed.value('n') {
        return match level.parse() {
            Ok(level) => status(syslog(CONSOLE_LEVEL, &mut [], level)),
            Err(error) => fail("dmesg", format!("{level}: {error}"), 1),
        };
    }
    if parsed.has('C') {
        return status(syslog(CLEAR, &mut [], 0));
    }
    let size = syslog(SIZE_BUFFER, &mut [], 0).unwrap_or(DEFAULT_RING_BYTES);
    let mut ring = vec![0; size.max(1)];
    let how = if parsed.has('c') {
        READ_CLEAR
    } else {
        READ_ALL
    };
    let length = i32::try_from(ring.len()).unwrap_or(i32::MAX);
    let count = match syslog(how, &mut ring, length) {
        Ok(count) => count,
        Err(error) => return fail("dmesg", format!("read kernel buffer failed: {error}"), 1),
    };
    let text = String::from_utf8_lossy(&ring[..count.min(ring.len())]);
    let levels: Option<Vec<&str>> = parsed.value('l').map(|l| l.split(',').collect());
    let mut out = std::io::stdout().lock();
    for line in text.lines() {
        let (level, message) = split_level(line);
        if let Some(wanted) = &levels
            && !wanted.contains(&level_name(level))
        {
            continue;
        }
        let shown = if parsed.has('r') { line } else { message };
        let shown = if parsed.has('t') {
            without_time(shown)
        } else {
            shown
        };
        if writeln!(out, "{shown}").is_err() {
            return 1;
        }
    }
    0
}

fn status(result: nix::Result<usize>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(error) => fail("dmesg", error, 1),
    }
}

/// syslog(2). `length` is the buffer's length, or an argument of `action`.
fn syslog(action: i32, buffer: &mut [u8], length: i32) -> nix::Result<usize> {
    // SAFETY: `buffer` is writable, and `length` exceeds its length only for
    // actions that do not touch it.
    let result = unsafe { nix::libc::klogctl(action, buffer.as_mut_ptr().cast(), length) };
    let count = nix::errno::Errno::result(result)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Splits `<6>text` into the level and the text.
fn split_level(line: &str) -> (u8, &str) {
    let split = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match split.and_then(|(number, text)| Some((number.parse::<u32>().ok()?, text))) {
        Some((number, text)) => ((number & 7) as u8, text),
        None => (6, line),
    }
}

fn level_name(level: u8) -> &'static str {
    [
        "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
    ][usize::from(level & 7)]
}

/// Drops the `[    1.234567] ` at the start.
fn without_time(line: &str) -> &str {
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((_, text)) => text,
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_apart() {
        assert_eq!(split_level("<30>x"), (6, "x"));
        assert_eq!(split_level("plain"), (6, "plain"));
        assert_eq!(without_time("[    0.100000] boot"), "boot");
        assert_eq!(level_name(3), "err");
    }
}
