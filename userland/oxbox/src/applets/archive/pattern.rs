//! Shell patterns on bytes, as fnmatch(3): `*`, `?`, `[...]` and `\`.

/// What matches the end of a name.
#[derive(Clone, Copy, PartialEq)]
pub enum Reach {
    /// The whole name.
    Whole,
    /// The name or a directory that it is in.
    LeadingDirectory,
}

/// Whether `pattern` matches `text`; `*` and `?` match `/` too.
pub fn matches(pattern: &[u8], text: &[u8], reach: Reach) -> bool {
    let mut pattern_at = 0;
    let mut text_at = 0;
    // Where to go on after a `*` when what follows it does not match.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let ended = pattern_at == pattern.len();
        if ended
            && (text_at == text.len()
                || (reach == Reach::LeadingDirectory && text[text_at] == b'/'))
        {
            return true;
        }
        if !ended && pattern[pattern_at] == b'*' {
            pattern_at += 1;
            retry = Some((pattern_at, text_at));
            continue;
        }
        if text_at < text.len()
            && let Some(used) = one(&pattern[pattern_at..], text[text_at])
        {
            pattern_at += used;
            text_at += 1;
            continue;
        }
        match retry {
            Some((after, from)) if from < text.len() => {
                retry = Some((after, from + 1));
                pattern_at = after;
                text_at = from + 1;
            }
            _ => return false,
        }
    }
}

/// How many bytes at the start of `pattern` match `byte`, if they do.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => match set(pattern, byte) {
            Some((found, used)) => found.then_some(used),
            // Without its end it is a bracket.
            None => (byte == b'[').then_some(1),
        },
        other => (other == byte).then_some(1),
    }
}

/// Whether `byte` is in the set that `pattern` begins with, and the set's length.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        let mut low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((found != negated, at + 1));
        }
        if low == b'\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        let mut high = low;
        if pattern.get(at) == Some(&b'-') && pattern.get(at + 1).is_some_and(|b| *b != b']') {
            high = pattern[at + 1];
            at += 2;
        }
        found |= (low..=high).contains(&byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*.o", "main.o", true),
            ("*.o", "main.rs", false),
            ("*.o", "a/main.o", true),
            ("a?c*", "abcdef", true),
            ("a", "ab", false),
            ("", "", true),
            ("*", "", true),
            ("**x", "aax", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "aXbXbXc", true),
        ] {
            let found = matches(pattern.as_bytes(), text.as_bytes(), Reach::Whole);
            assert_eq!(found, expected, "{pattern} {text}");
        }
        assert!(matches(b"a/b", b"a/b/c/d", Reach::LeadingDirectory));
        assert!(!matches(b"a/b", b"a/bc", Reach::LeadingDirectory));
        // Many stars must not take exponential time.
        let hard = b"a*a*a*a*a*a*a*a*a*a*a*a*b";
        assert!(!matches(hard, &[b'a'; 2000], Reach::Whole));
    }
}
