//! Kinds of records, and what is in one as zone files write it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::name;

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const AAAA: u16 = 28;

/// Names and numbers of record types (IANA's registry); queries for all of
/// them can be made, [`text`] knows most of them.
const TYPES: &[(&str, u16)] = &[
    ("A", A),
    ("NS", 2),
    ("CNAME", CNAME),
    ("SOA", 6),
    ("PTR", PTR),
    ("HINFO", 13),
    ("MX", MX),
    ("TXT", 16),
    ("AAAA", AAAA),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DNAME", 39),
    ("OPT", 41),
    ("DS", 43),
    ("SSHFP", 44),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("NSEC3", 50),
    ("TLSA", 52),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("ANY", 255),
    ("CAA", 257),
];

/// The number of a type by name, or by `TYPE123`.
pub fn type_number(name: &str) -> Option<u16> {
    let upper = name.to_ascii_uppercase();
    let known = TYPES.iter().find(|(known, _)| *known == upper);
    known
        .map(|(_, number)| *number)
        .or_else(|| upper.strip_prefix("TYPE")?.parse().ok())
}

pub fn type_name(number: u16) -> String {
    match TYPES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("TYPE{number}"),
    }
}

pub fn class_number(name: &str) -> Option<u16> {
    match name.to_ascii_uppercase().as_str() {
        "IN" => Some(1),
        "CH" => Some(3),
        "HS" => Some(4),
        _ => None,
    }
}

pub fn class_name(number: u16) -> String {
    match number {
        1 => "IN".into(),
        3 => "CH".into(),
        4 => "HS".into(),
        _ => format!("CLASS{number}"),
    }
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// With its final dot.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    /// Seconds.
    pub ttl: u32,
    /// What it says, as zone files write it.
    pub text: String,
}

/// The data of a record of type `kind` at `start..end` of `packet` as zone
/// files write it; types not known here in RFC 3597's form. `None` if it is
/// malformed.
pub fn text(packet: &[u8], kind: u16, start: usize, end: usize) -> Option<String> {
    let data = packet.get(start..end)?;
    let mut fields = Fields {
        packet,
        next: start,
        end,
    };
    let mut out = String::new();
    match kind {
        A => out = IpAddr::from(<[u8; 4]>::try_from(data).map(Ipv4Addr::from).ok()?).to_string(),
        AAAA => {
            out = IpAddr::from(<[u8; 16]>::try_from(data).map(Ipv6Addr::from).ok()?).to_string();
        }
        // NS, CNAME, PTR, DNAME.
        2 | CNAME | PTR | 39 => out = fields.name()?,
        6 => {
            out = format!("{} {}", fields.name()?, fields.name()?);
            for _ in 0..5 {
                // Writing to a String cannot fail.
                _ = write!(out, " {}", fields.long()?);
            }
        }
        MX => out = format!("{} {}", fields.short()?, fields.name()?),
        33 => {
            let (priority, weight) = (fields.short()?, fields.short()?);
            out = format!("{priority} {weight} {} {}", fields.short()?, fields.name()?);
        }
        // TXT, SPF, HINFO.
        16 | 99 | 13 => {
            while fields.next < end {
                if !out.is_empty() {
                    out.push(' ');
                }
                out += &quoted(fields.string()?);
            }
        }
        // CAA (RFC 8659): flags, tag, value to the end.
        257 => {
            let flags = fields.byte()?;
            let tag = fields.string()?;
            tag.is_ascii().then_some(())?;
            let tag = String::from_utf8_lossy(tag).into_owned();
            let value = packet.get(fields.next..end)?;
            fields.next = end;
            out = format!("{flags} {tag} {}", quoted(value));
        }
        // SSHFP, TLSA, DS: numbers, then digits.
        44 => out = format!("{} {} {}", fields.byte()?, fields.byte()?, fields.rest()),
        52 => {
            let (usage, selector) = (fields.byte()?, fields.byte()?);
            out = format!("{usage} {selector} {} {}", fields.byte()?, fields.rest());
        }
        43 => {
            let (tag, algorithm) = (fields.short()?, fields.byte()?);
            out = format!("{tag} {algorithm} {} {}", fields.byte()?, fields.rest());
        }
        _ => {
            out = format!("\\# {}", data.len());
            if !data.is_empty() {
                out = format!("{out} {}", fields.rest());
            }
        }
    }
    // Names must end within their record, and nothing may follow.
    let whole = matches!(kind, A | AAAA) || fields.next == end;
    whole.then_some(out)
}

/// Reads the fields of a record's data, one after the other.
struct Fields<'a> {
    packet: &'a [u8],
    next: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let until = self.next.checked_add(count).filter(|u| *u <= self.end)?;
        let bytes = self.packet.get(self.next..until)?;
        self.next = until;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn long(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn name(&mut self) -> Option<String> {
        let (name, after) = name::from_wire(self.packet, self.next)?;
        (after <= self.end).then_some(())?;
        self.next = after;
        Some(name)
    }

    /// A length and as many bytes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// All that is left, in digits.
    fn rest(&mut self) -> String {
        let bytes = self.packet.get(self.next..self.end).unwrap_or(&[]);
        self.next = self.end;
        let mut out = String::new();
        for byte in bytes {
            // Writing to a String cannot fail.
            _ = write!(out, "{byte:02X}");
        }
        out
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..=0x7e => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => _ = write!(out, "\\{byte:03}"),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: u16, data: &[u8]) -> Option<String> {
        text(data, kind, 0, data.len())
    }

    #[test]
    fn types_have_names() {
        assert_eq!(type_number("aaaa"), Some(28));
        assert_eq!(type_number("TYPE99"), Some(99));
        assert_eq!(type_number("nonsense"), None);
        assert_eq!(type_name(33), "SRV");
        assert_eq!(type_name(4711), "TYPE4711");
    }

    #[test]
    fn data_is_shown_as_in_zone_files() {
        assert_eq!(shown(A, &[10, 0, 2, 3]).as_deref(), Some("10.0.2.3"));
        assert_eq!(shown(AAAA, &[0; 16]).as_deref(), Some("::"));
        assert_eq!(shown(MX, b"\0\x0a\x01m\0").as_deref(), Some("10 m."));
        let srv = b"\0\x01\0\x02\0\x50\x01h\0";
        assert_eq!(shown(33, srv).as_deref(), Some("1 2 80 h."));
        assert_eq!(
            shown(16, b"\x02a\"\x01b").as_deref(),
            Some("\"a\\\"\" \"b\"")
        );
        let soa = b"\x01n\0\x01r\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";
        assert_eq!(shown(6, soa).as_deref(), Some("n. r. 1 2 3 4 5"));
        assert_eq!(
            shown(257, b"\0\x05issueca").as_deref(),
            Some("0 issue \"ca\"")
        );
        assert_eq!(shown(9999, b"\x01\xff").as_deref(), Some("\\# 2 01FF"));
    }

    #[test]
    fn malformed_data_is_refused() {
        assert_eq!(shown(A, &[1, 2, 3]), None);
        assert_eq!(shown(16, b"\x05ab"), None);
        assert_eq!(shown(MX, b"\0\x0a\x01m\0x"), None);
        assert_eq!(shown(6, b"\x01n\0"), None);
    }
}
