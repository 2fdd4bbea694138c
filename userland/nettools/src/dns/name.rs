//! Domain names: as text, and as labels on the wire (RFC 1035, 3.1 and 4.1.4).

use std::fmt::Write as _;
use std::net::IpAddr;

/// Longest name on the wire, in bytes, its final zero included.
const MAX_NAME_BYTES: usize = 255;
const MAX_LABEL_BYTES: usize = 63;

/// The wire form of `text`, which may end in a dot. `\.` and `\ddd` stand for
/// themselves.
pub fn to_wire(text: &str) -> Result<Vec<u8>, String> {
    let bad = |why: &str| format!("'{text}' is not a legal name ({why})");
    let mut wire = Vec::with_capacity(text.len() + 2);
    let mut label = Vec::new();
    let mut bytes = text.bytes();
    let end_label = |label: &mut Vec<u8>, wire: &mut Vec<u8>| match label.len() {
        0 => Err(bad("empty label")),
        len if len > MAX_LABEL_BYTES => Err(bad("label too long")),
        len => {
            wire.push(len as u8);
            wire.append(label);
            Ok(())
        }
    };
    while let Some(byte) = bytes.next() {
        match byte {
            // The root.
            b'.' if text == "." => {}
            b'.' => end_label(&mut label, &mut wire)?,
            b'\\' => match bytes.next() {
                Some(first @ b'0'..=b'9') => {
                    let mut value = u32::from(first - b'0');
                    for _ in 0..2 {
                        let digit = bytes.next().filter(u8::is_ascii_digit);
                        let digit = digit.ok_or_else(|| bad("bad escape"))?;
                        value = value * 10 + u32::from(digit - b'0');
                    }
                    label.push(u8::try_from(value).map_err(|_| bad("bad escape"))?);
                }
                Some(other) => label.push(other),
                None => return Err(bad("bad escape")),
            },
            other => label.push(other),
        }
    }
    if !label.is_empty() {
        end_label(&mut label, &mut wire)?;
    }
    wire.push(0);
    match wire.len() > MAX_NAME_BYTES {
        true => Err(bad("ran out of space")),
        false => Ok(wire),
    }
}

/// Reads the name at `at` in `packet`, following compression pointers. Returns
/// it as text with its final dot, and where what follows it starts. `None` if
/// it is malformed: pointers may only lead backwards, so none can loop.
pub fn from_wire(packet: &[u8], at: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut next = at;
    let mut after = None;
    let mut lowest = at;
    let mut length = 1;
    loop {
        let byte = usize::from(*packet.get(next)?);
        match byte >> 6 {
            0 if byte == 0 => {
                let after = after.unwrap_or(next + 1);
                if text.is_empty() {
                    text.push('.');
                }
                return Some((text, after));
            }
            0 => {
                let label = packet.get(next + 1..next + 1 + byte)?;
                length += 1 + byte;
                (length <= MAX_NAME_BYTES).then_some(())?;
                show_label(&mut text, label);
                next += 1 + byte;
            }
            3 => {
                let low = usize::from(*packet.get(next + 1)?);
                let target = (byte & 0x3f) << 8 | low;
                after.get_or_insert(next + 2);
                (target < lowest).then_some(())?;
                lowest = target;
                next = target;
            }
            _ => return None,
        }
    }
}

fn show_label(text: &mut String, label: &[u8]) {
    for &byte in label {
        match byte {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            0x21..=0x7e => text.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => _ = write!(text, "\\{byte:03}"),
        }
    }
    text.push('.');
}

/// The name under which an address is found backwards.
pub fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let mut name = String::new();
            for byte in v6.octets().iter().rev() {
                // Writing to a String cannot fail.
                _ = write!(name, "{:x}.{:x}.", byte & 15, byte >> 4);
            }
            name + "ip6.arpa."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for name in ["example.com.", ".", "a\\.b.c.", "x\\032y."] {
            let wire = to_wire(name).expect("legal");
            assert_eq!(from_wire(&wire, 0), Some((name.to_owned(), wire.len())));
        }
        assert_eq!(to_wire("a.b"), to_wire("a.b."));
        assert_eq!(to_wire("").as_deref(), Ok(&[0][..]));
    }

    #[test]
    fn illegal_names_are_refused() {
        assert!(to_wire("a..b").is_err() && to_wire(".a").is_err());
        assert!(to_wire(&"x".repeat(64)).is_err());
        assert!(to_wire(&"x.".repeat(128)).is_err());
        assert!(to_wire("a\\").is_err() && to_wire("a\\999").is_err());
    }

    #[test]
    fn pointers_lead_backwards_only() {
        let packet = b"\x01a\x00\x01b\xc0\x00\xc0\x03\xc0\x09\xc0\x0c";
        assert_eq!(from_wire(packet, 3), Some(("b.a.".into(), 7)));
        assert_eq!(from_wire(packet, 7), Some(("b.a.".into(), 9)));
        // To itself, forwards, past the end.
        assert_eq!(from_wire(packet, 9), None);
        assert_eq!(from_wire(packet, 11), None);
        assert_eq!(from_wire(b"\x05ab", 0), None);
        assert_eq!(from_wire(b"\x40a", 0), None);
    }

    #[test]
    fn backwards_names() {
        let v4: IpAddr = "10.0.2.3".parse().expect("an address");
        assert_eq!(reverse(v4), "3.2.0.10.in-addr.arpa.");
        let v6: IpAddr = "::1".parse().expect("an address");
        assert_eq!(reverse(v6), format!("1.{}ip6.arpa.", "0.".repeat(31)));
    }
}
