//! Lines about members of archives, in the form of `ls -l`.

use std::fmt::Write as _;

/// `drwxr-xr-x` for a letter of the type and permission bits.
pub fn mode_text(kind: char, mode: u32) -> String {
    let mut text = String::from(kind);
    for (shift, special, set) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => set,
            (true, false) => set.to_ascii_uppercase(),
        });
    }
    text
}

/// `YYYY-MM-DD HH:MM`, local time, of seconds since 1970.
pub fn date(seconds: i64) -> String {
    let time = crate::sys::local_time(seconds);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}",
        i64::from(time.tm_year) + 1900,
        time.tm_mon + 1,
        time.tm_mday,
        time.tm_hour,
        time.tm_min
    )
}

/// A name with what would disturb a line, and bytes that are no UTF-8, as escapes.
pub fn escaped(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    let octal = |byte: u8, shown: &mut String| {
        let _ = write!(shown, "\\{byte:03o}");
    };
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\n' => shown.push_str("\\n"),
                '\t' => shown.push_str("\\t"),
                '\r' => shown.push_str("\\r"),
                '\\' => shown.push_str("\\\\"),
                '\0'..' ' | '\x7f' => octal(letter as u8, &mut shown),
                other => shown.push(other),
            }
        }
        for byte in chunk.invalid() {
            octal(*byte, &mut shown);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode_text('-', 0o754), "-rwxr-xr--");
        assert_eq!(mode_text('d', 0o1777), "drwxrwxrwt");
        assert_eq!(mode_text('-', 0o6644), "-rwSr-Sr--");
    }

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(
            escaped(b"a\nb\\\x01\xff\xc3\xa4"),
            "a\\nb\\\\\\001\\377\u{e4}"
        );
    }
}
