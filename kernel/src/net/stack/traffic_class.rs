//! The byte of an IP header that says how the packet wants to be treated: type of service
//! (RFC 2474) and congestion (RFC 3168). smoltcp writes zero; here it is set afterwards.

use smoltcp::wire::Ipv4Packet;

/// The byte of an IP packet; 0 for what is none.
pub fn of(ip: &[u8]) -> u8 {
    match ip {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        _ => 0,
    }
}

/// Sets the byte of an IP packet that smoltcp wrote.
pub fn set(ip: &mut [u8], class: u8) {
    if class == 0 {
        return;
    }
    match ip {
        [first, second, ..] if *first >> 4 == 6 => {
            *first = 6 << 4 | class >> 4;
            *second = class << 4 | *second & 15;
        }
        [first, second, ..] if *first >> 4 == 4 => {
            *second = class;
            if let Ok(mut packet) = Ipv4Packet::new_checked(ip) {
                packet.fill_checksum();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, Ipv6Address, Ipv6Packet};

    use super::*;

    #[test]
    fn the_byte_is_where_both_versions_have_it() {
        let four = IpAddress::v4(127, 0, 0, 1);
        let six = IpAddress::Ipv6(Ipv6Address::LOCALHOST);
        for addr in [four, six] {
            let ip = IpRepr::new(addr, addr, IpProtocol::Udp, 8, 64);
            let mut bytes = vec![0; ip.buffer_len()];
            ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
            assert_eq!(of(&bytes), 0);
            for class in [0x10, 0xb8, 0xff] {
                set(&mut bytes, class);
                assert_eq!(of(&bytes), class);
            }
            if addr == four {
                assert!(
                    Ipv4Packet::new_checked(&bytes[..])
                        .unwrap()
                        .verify_checksum()
                );
            } else {
                let packet = Ipv6Packet::new_checked(&bytes[..]).unwrap();
                assert_eq!((packet.version(), packet.flow_label()), (6, 0));
            }
        }
        set(&mut [], 1);
        assert_eq!(of(&[0x45]), 0);
    }
}
