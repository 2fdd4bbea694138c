//! ICMP echo messages, of IPv4 (RFC 792) and IPv6 (RFC 4443): made and read.

/// Bytes before the data of an echo message.
pub const HEADER_BYTES: usize = 8;

/// An echo request. Its checksum is right for IPv4; for IPv6 the kernel, which
/// knows the addresses, fills it in.
pub fn echo_request(v6: bool, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let mut message = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(data);
    if !v6 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    EchoReply {
        id: u16,
        sequence: u16,
        data: &'a [u8],
    },
    /// An error about an echo request of ours, as words.
    Unreachable {
        id: u16,
        sequence: u16,
        what: &'static str,
    },
    /// Anything else, and what is too short to tell.
    Other,
}

/// Reads a message; `message` starts at the ICMP header.
pub fn read(v6: bool, message: &[u8]) -> Message<'_> {
    let (Some(&kind), Some(&code), Some(id), Some(sequence)) = (
        message.first(),
        message.get(1),
        word(message, 4),
        word(message, 6),
    ) else {
        return Message::Other;
    };
    if kind == if v6 { 129 } else { 0 } {
        return Message::EchoReply {
            id,
            sequence,
            data: &message[HEADER_BYTES..],
        };
    }
    let Some(what) = error_text(v6, kind, code) else {
        return Message::Other;
    };
    // The IP header and the first bytes of the message that it is about.
    let inner = &message[HEADER_BYTES..];
    let about = if v6 {
        inner.get(40..)
    } else {
        without_ip_header(inner)
    };
    let request = if v6 { 128 } else { 8 };
    match about {
        Some(about) if about.first() == Some(&request) => match (word(about, 4), word(about, 6)) {
            (Some(id), Some(sequence)) => Message::Unreachable { id, sequence, what },
            _ => Message::Other,
        },
        _ => Message::Other,
    }
}

/// What follows an IPv4 header, which raw sockets hand over.
pub fn without_ip_header(packet: &[u8]) -> Option<&[u8]> {
    let first = packet.first()?;
    (first >> 4 == 4).then_some(())?;
    packet.get(usize::from(first & 15) * 4..)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn error_text(v6: bool, kind: u8, code: u8) -> Option<&'static str> {
    Some(match (v6, kind, code) {
        (false, 3, 0) => "Destination Net Unreachable",
        (false, 3, 1) => "Destination Host Unreachable",
        (false, 3, 2) => "Destination Protocol Unreachable",
        (false, 3, 3) | (true, 1, 4) => "Destination Port Unreachable",
        (false, 3, 9 | 10 | 13) => "Packet filtered",
        (false, 3, _) => "Destination Unreachable",
        (false, 11, _) => "Time to live exceeded",
        (true, 1, 0) => "Destination unreachable: No route",
        (true, 1, 1) => "Destination unreachable: Administratively prohibited",
        (true, 1, 3) => "Destination unreachable: Address unreachable",
        (true, 1, _) => "Destination unreachable",
        (true, 2, _) => "Packet too big",
        (true, 3, _) => "Time exceeded: Hop limit",
        _ => return None,
    })
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_checks_out() {
        for data in [&b""[..], b"abc", b"abcd"] {
            let message = echo_request(false, 0x1234, 7, data);
            assert_eq!(checksum(&message), 0);
            assert_eq!(message.len(), HEADER_BYTES + data.len());
        }
        // RFC 1071's example.
        assert_eq!(checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
    }

    #[test]
    fn a_reply_is_read() {
        let mut message = echo_request(false, 5, 6, b"xy");
        assert_eq!(read(false, &message), Message::Other);
        message[0] = 0;
        let reply = Message::EchoReply {
            id: 5,
            sequence: 6,
            data: b"xy",
        };
        assert_eq!(read(false, &message), reply);
        message[0] = 129;
        assert_eq!(read(true, &message), reply);
    }

    #[test]
    fn an_error_names_its_request() {
        let mut packet = vec![0x45; 1];
        packet.resize(20, 0);
        packet.extend(echo_request(false, 9, 3, b""));
        let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
        error.extend(&packet);
        let expected = Message::Unreachable {
            id: 9,
            sequence: 3,
            what: "Destination Host Unreachable",
        };
        assert_eq!(read(false, &error), expected);
        for cut in 0..error.len() {
            read(false, &error[..cut]);
            read(true, &error[..cut]);
        }
    }
}
