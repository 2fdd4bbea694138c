//! How things are written: errors, hardware addresses, sizes.

/// The system's message for an error, without the number that Rust adds.
pub fn error(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.rfind(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// A hardware address.
pub fn mac(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    parts.join(":")
}

/// A hardware address from its text.
pub fn parse_mac(text: &str) -> Option<Vec<u8>> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes.filter(|b| b.len() == 6)
}

/// A JSON string.
pub fn json(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(mac(&[0x52, 0x54, 0, 1, 2, 0xff]), "52:54:00:01:02:ff");
        assert_eq!(
            parse_mac("52:54:00:01:02:ff").unwrap(),
            [0x52, 0x54, 0, 1, 2, 0xff]
        );
        assert_eq!(parse_mac("52:54"), None);
        assert_eq!(json("a\"b\n"), "\"a\\\"b\\u000a\"");
        assert_eq!(
            error(&std::io::Error::from_raw_os_error(2)),
            "No such file or directory"
        );
    }
}
