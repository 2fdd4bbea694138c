//! Bytes and characters: escapes such as `\x41`, the length of a character, and whether the locale has UTF-8.

/// The byte that an escape sequence stands for (`n`, `t`, `x41`...; awk's octal, sed's `d065` and `o101`) and how much
/// of `rest`, which begins behind the backslash, it takes. None for anything else.
pub fn byte_escape(rest: &[u8], awk: bool) -> Option<(u8, usize)> {
    let based = |from: usize, most: usize, base: u32| {
        let digits = rest[from..]
            .iter()
            .take(most)
            .map_while(|b| char::from(*b).to_digit(base));
        let (count, value) = digits.fold((0, 0), |(count, value), digit| {
            (count + 1, value * base + digit)
        });
        (count > 0).then_some((value as u8, from + count))
    };
    let simple = match rest.first()? {
        b'a' => 7,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'b' if awk => 8,
        b'0'..=b'7' if awk => return based(0, 3, 8),
        b'x' => return based(1, 2, 16),
        b'd' if !awk => return based(1, 3, 10),
        b'o' if !awk => return based(1, 3, 8),
        b'c' if !awk && rest.len() > 1 => return Some((rest[1].to_ascii_uppercase() ^ 0x40, 2)),
        _ => return None,
    };
    Some((simple, 1))
}

/// Bytes of the character that `text` begins with; 1 where it is none.
pub fn char_len(text: &[u8]) -> usize {
    let want = match text[0] {
        0..=0x7f => return 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return 1,
    };
    let valid = text
        .get(..want)
        .is_some_and(|c| std::str::from_utf8(c).is_ok());
    if valid { want } else { 1 }
}

/// Whether characters are UTF-8: unless a locale is set that says otherwise.
pub fn utf8_locale() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    !matches!(set.as_deref(), Some("C" | "POSIX"))
}
