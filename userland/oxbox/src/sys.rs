//! Small helpers that several applets share: arguments, the terminal, users.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Command-line options in the classic form: letters that may be bundled,
/// some of which take a value, up to `--` or the first operand.
pub struct Options {
    pub flags: Vec<char>,
    /// `(letter, value)` in order.
    pub values: Vec<(char, String)>,
    pub operands: Vec<String>,
    /// The operands as they were given: names of files may be any bytes.
    pub paths: Vec<OsString>,
}

impl Options {
    pub fn has(&self, flag: char) -> bool {
        self.flags.contains(&flag)
    }

    /// The last value given for `flag`.
    pub fn value(&self, flag: char) -> Option<&str> {
        let given = self.values.iter().rev().find(|(letter, _)| *letter == flag);
        given.map(|(_, value)| value.as_str())
    }
}

/// Takes `args` (own name first) apart. `flags` are the letters allowed,
/// `valued` those that take a value, `long` maps long names to letters. With
/// `permute`, options may follow operands. The error is for the user.
pub fn options(
    args: Vec<OsString>,
    flags: &str,
    valued: &str,
    long: &[(&str, char)],
    permute: bool,
) -> Result<Options, String> {
    let mut parsed = Options {
        flags: Vec::new(),
        values: Vec::new(),
        operands: Vec::new(),
        paths: Vec::new(),
    };
    let mut args = args.into_iter().skip(1);
    while let Some(raw) = args.next() {
        let arg = lossy(raw.clone());
        if arg == "--" {
            break;
        }
        if let Some(name) = arg.strip_prefix("--") {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let letter = long.iter().find(|(n, _)| *n == name).map(|(_, l)| *l);
            let letter = letter.ok_or(format!("unrecognized option '{arg}'"))?;
            if valued.contains(letter) {
                let value = value
                    .or_else(|| args.next().map(lossy))
                    .ok_or(format!("option '{arg}' requires an argument"))?;
                parsed.values.push((letter, value));
            } else {
                parsed.flags.push(letter);
            }
            continue;
        }
        let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
            parsed.operands.push(arg);
            parsed.paths.push(raw);
            if permute {
                continue;
            }
            break;
        };
        for (at, letter) in letters.char_indices() {
            if valued.contains(letter) {
                let rest = &arg[1 + at + letter.len_utf8()..];
                let value = match rest {
                    "" => args
                        .next()
                        .map(lossy)
                        .ok_or(format!("option requires an argument -- '{letter}'"))?,
                    rest => rest.to_owned(),
                };
                parsed.values.push((letter, value));
                break;
            }
            if !flags.contains(letter) {
                return Err(format!("invalid option -- '{letter}'"));
            }
            parsed.flags.push(letter);
        }
    }
    for raw in args {
        parsed.operands.push(lossy(raw.clone()));
        parsed.paths.push(raw);
    }
    Ok(parsed)
}

/// An argument as text; bytes that are not UTF-8 are replaced.
pub fn lossy(arg: OsString) -> String {
    arg.into_string()
        .unwrap_or_else(|arg| arg.to_string_lossy().into_owned())
}

/// Prints `message` under the applet's name and returns `status`.
pub fn fail(applet: &str, message: impl std::fmt::Display, status: i32) -> i32 {
    eprintln!("{applet}: {message}");
    status
}

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Rows and columns of the terminal on standard output, else standard input;
/// 24 by 80 where there is none or it does not know (a serial line).
pub fn terminal_size() -> (usize, usize) {
    for descriptor in [1, 0] {
        let mut size = nix::libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCGWINSZ fills in a `winsize`, which `size` is.
        let answer = unsafe { window_size(descriptor, &raw mut size) };
        if answer.is_ok() && size.ws_row > 0 && size.ws_col > 0 {
            return (usize::from(size.ws_row), usize::from(size.ws_col));
        }
    }
    (24, 80)
}

/// The name of user `uid` from /etc/passwd, else the number.
pub fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let id: u32 = fields.nth(1)?.parse().ok()?;
            (id == uid).then(|| name.to_owned())
        })
        .unwrap_or_else(|| uid.to_string())
}

/// The number of a user given by name or number.
pub fn user_id(name: &str) -> Option<u32> {
    if let Ok(uid) = name.parse() {
        return Some(uid);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

/// The number of a group given by name or number.
pub fn group_id(name: &str) -> Option<u32> {
    if let Ok(gid) = name.parse() {
        return Some(gid);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

/// The name of group `gid` from /etc/group, if it has one.
pub fn group_name(gid: u32) -> Option<String> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == gid).then(|| name.to_owned())
    })
}

/// Seconds since 1970 as a date and time of day where `TZ` says we are.
pub fn local_time(seconds: i64) -> nix::libc::tm {
    // SAFETY: all bytes zero are a valid `tm`: integers, and a null name of the zone.
    let mut time: nix::libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call.
    if unsafe { nix::libc::localtime_r(&raw const seconds, &raw mut time) }.is_null() {
        // A year that does not fit: show the beginning of time.
        time.tm_year = 70;
        time.tm_mday = 1;
    }
    time
}

/// Reads all of a file, or of standard input for `-`.
pub fn read_input(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str], permute: bool) -> Options {
        let args = args.iter().map(OsString::from).collect();
        options(args, "ab", "n", &[("all", 'a'), ("count", 'n')], permute).expect("valid")
    }

    #[test]
    fn letters_bundle_and_take_values() {
        let parsed = parse(&["x", "-abn5", "-n", "6", "file", "-a"], false);
        assert!(parsed.has('a') && parsed.has('b'));
        assert_eq!(parsed.value('n'), Some("6"));
        assert_eq!(parsed.operands, ["file", "-a"]);
    }

    #[test]
    fn long_names_and_permutation() {
        let parsed = parse(&["x", "file", "--all", "--count=3", "--", "-b"], true);
        assert!(parsed.has('a') && !parsed.has('b'));
        assert_eq!(parsed.value('n'), Some("3"));
        assert_eq!(parsed.operands, ["file", "-b"]);
    }

    #[test]
    fn unknown_options_are_errors() {
        assert!(options(vec!["x".into(), "-z".into()], "a", "", &[], true).is_err());
        assert!(options(vec!["x".into(), "-n".into()], "", "n", &[], true).is_err());
    }
}
