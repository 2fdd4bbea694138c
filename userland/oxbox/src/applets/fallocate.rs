//! fallocate: storage for a part of a file, over fallocate(2).

use std::fs::OpenOptions;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::fcntl::FallocateFlags as Flags;

use super::Args;
use crate::sys::{fail, options};

/// man 1 fallocate.
pub fn fallocate(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("length", 'l'),
        ("offset", 'o'),
        ("keep-size", 'n'),
        ("punch-hole", 'p'),
        ("zero-range", 'z'),
        ("collapse-range", 'c'),
        ("insert-range", 'i'),
        ("posix", 'x'),
        ("verbose", 'v'),
    ];
    let parsed = match options(args, "npzcixv", "lo", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("fallocate", message, 1),
    };
    let [path] = parsed.operands.as_slice() else {
        return fail("fallocate", "give one file", 1);
    };
    let Some(length) = parsed.value('l') else {
        return fail("fallocate", "give a length (-l)", 1);
    };
    let (length, offset) = match (bytes(length), bytes(parsed.value('o').unwrap_or("0"))) {
        (Some(length), Some(offset)) if length > 0 => (length, offset),
        _ => {
            return fail(
                "fallocate",
                "a length or an offset is no number of bytes",
                1,
            );
        }
    };
    let mut flags = Flags::empty();
    for (option, flag) in [
        ('n', Flags::FALLOC_FL_KEEP_SIZE),
        (
            'p',
            Flags::FALLOC_FL_PUNCH_HOLE | Flags::FALLOC_FL_KEEP_SIZE,
        ),
        ('z', Flags::FALLOC_FL_ZERO_RANGE),
        ('c', Flags::FALLOC_FL_COLLAPSE_RANGE),
        ('i', Flags::FALLOC_FL_INSERT_RANGE),
    ] {
        if parsed.has(option) {
            flags |= flag;
        }
    }
    // A hole is made in a file that is there.
    let makes = !parsed.has('p') && !parsed.has('c') && !parsed.has('i');
    let file = match OpenOptions::new()
        .write(true)
        .create(makes)
        .truncate(false)
        .open(path)
    {
        Ok(file) => file,
        Err(error) => return fail("fallocate", format!("cannot open {path}: {error}"), 1),
    };
    match nix::fcntl::fallocate(file.as_fd(), flags, offset, length) {
        Ok(()) => {}
        Err(Errno::EOPNOTSUPP) => {
            let message = format!("{path}: the filesystem cannot do that");
            return fail("fallocate", message, 1);
        }
        Err(error) => return fail("fallocate", format!("{path}: {}", error.desc()), 1),
    }
    if parsed.has('v') {
        println!("{path}: {length} bytes from {offset} on");
    }
    0
}

/// A number of bytes as util-linux reads it: `K` and `KiB` are 1024, `KB` is 1000, and so on.
fn bytes(text: &str) -> Option<i64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    let mut letters = suffix.chars();
    let Some(letter) = letters.next() else {
        return Some(number);
    };
    let power = "KMGTPE".find(letter.to_ascii_uppercase())? as u32 + 1;
    let unit: i64 = match letters.as_str() {
        "" | "iB" => 1024,
        "B" => 1000,
        _ => return None,
    };
    number.checked_mul(unit.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_those_of_util_linux() {
        assert_eq!(bytes("10"), Some(10));
        assert_eq!(bytes("2k"), Some(2048));
        assert_eq!(bytes("2KiB"), Some(2048));
        assert_eq!(bytes("3MB"), Some(3_000_000));
        assert_eq!(bytes("1G"), Some(1 << 30));
        for wrong in ["", "k", "1x", "1KiBs", "-1", "9E9", "99999999999999999999"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
