//! The first line of a script (man 2 execve, "Interpreter scripts"). Pure; host-tested.

use crate::error::{Errno, Result};

/// Bytes of the file that count (BINPRM_BUF_SIZE).
pub const LINE_BYTES: usize = 256;

/// Path of an interpreter, and the one argument its line may give it.
pub type Interpreter<'a> = (&'a [u8], Option<&'a [u8]>);

/// The interpreter from a file's first bytes (at most
/// [`LINE_BYTES`]). `None`: not a script. ENOEXEC: no interpreter named, or its name is cut.
pub fn parse(head: &[u8]) -> Result<Option<Interpreter<'_>>> {
    let Some(rest) = head.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = match rest.iter().position(|&b| b == b'\n' || b == 0) {
        Some(end) => &rest[..end],
        // A line longer than the buffer: the interpreter's name must end within it.
        None if head.len() >= LINE_BYTES && !rest.trim_ascii_start().iter().any(is_blank) => {
            return Err(Errno::ENOEXEC);
        }
        None => rest,
    };
    let line = trim(line);
    let end = line.iter().position(is_blank).unwrap_or(line.len());
    let (name, argument) = line.split_at(end);
    if name.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let argument = trim(argument);
    Ok(Some((name, (!argument.is_empty()).then_some(argument))))
}

fn is_blank(b: &u8) -> bool {
    *b == b' ' || *b == b'\t'
}

fn trim(mut s: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = s
        && is_blank(first)
    {
        s = rest;
    }
    while let [rest @ .., last] = s
        && is_blank(last)
    {
        s = rest;
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let p = |s: &'static str| parse(s.as_bytes());
        assert_eq!(p("\x7fELF"), Ok(None));
        assert_eq!(p("#"), Ok(None));
        assert_eq!(p("#!/bin/sh\nexit"), Ok(Some((&b"/bin/sh"[..], None))));
        assert_eq!(p("#!/bin/sh"), Ok(Some((&b"/bin/sh"[..], None))));
        assert_eq!(
            p("#! \t/usr/bin/env  sh -x \t\n"),
            Ok(Some((&b"/usr/bin/env"[..], Some(&b"sh -x"[..]))))
        );
        assert_eq!(p("#!\n/bin/sh"), Err(Errno::ENOEXEC));
        assert_eq!(p("#!   "), Err(Errno::ENOEXEC));
    }

    #[test]
    fn a_cut_name_is_not_run() {
        let mut long = *b"#!/";
        let mut v = long.to_vec();
        v.resize(LINE_BYTES, b'a');
        assert_eq!(parse(&v), Err(Errno::ENOEXEC));
        v[100] = b' ';
        assert!(parse(&v).unwrap().unwrap().1.is_some());
        long[2] = b' ';
        v[..3].copy_from_slice(&long);
        v[100] = b'a';
        assert_eq!(parse(&v), Err(Errno::ENOEXEC));
    }
}
