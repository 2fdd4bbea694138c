//! IP fragments (RFC 791, 3.2; RFC 8200, 4.5): cutting what is longer than the wire takes, and
//! putting together what comes in pieces.
//!
//! Pure. What is collected is bounded in number, bytes and time; overlapping pieces end a
//! collection (RFC 5722).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet};

use crate::time::NS_PER_SEC;

/// Collections at a time.
const MAX_COLLECTIONS: usize = 64;
/// Bytes in all of them.
const MAX_BYTES: usize = 1 << 20;
/// Pieces of one.
const MAX_PIECES: usize = 128;
/// How long one may take (net.ipv4.ipfrag_time).
const PATIENCE_NS: u64 = 30 * NS_PER_SEC;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const IPV6_FRAGMENT: u8 = 44;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    from: IpAddress,
    to: IpAddress,
    id: u32,
    protocol: u8,
}

struct Collection {
    /// The IP header that the packet will have.
    header: Vec<u8>,
    pieces: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
    /// Length of the payload, once the last piece came.
    total: Option<usize>,
    until_ns: u64,
}

/// Packets that are being put together.
#[derive(Default)]
pub struct Reassembly {
    all: BTreeMap<Key, Collection>,
    bytes: usize,
}

struct Piece<'a> {
    key: Key,
    header: Vec<u8>,
    offset: usize,
    more: bool,
    payload: &'a [u8],
}

fn read(ip: &[u8]) -> Option<Piece<'_>> {
    match ip.first()? >> 4 {
        4 => {
            let p = Ipv4Packet::new_checked(ip).ok()?;
            let (header, total) = (usize::from(p.header_len()), usize::from(p.total_len()));
            let payload = ip.get(header..total)?;
            Some(Piece {
                key: Key {
                    from: p.src_addr().into(),
                    to: p.dst_addr().into(),
                    id: p.ident().into(),
                    protocol: p.next_header().into(),
                },
                // Options are the first piece's affair, and nobody's here.
                header: ip.get(..V4_HEADER)?.to_vec(),
                offset: p.frag_offset().into(),
                more: p.more_frags(),
                payload,
            })
        }
        6 => {
            let p = Ipv6Packet::new_checked(ip).ok()?;
            let end = V6_HEADER + usize::from(p.payload_len());
            let f = ip.get(V6_HEADER..end)?;
            let head: &[u8; FRAGMENT_HEADER] = f.first_chunk()?;
            let word = u16::from_be_bytes([head[2], head[3]]);
            let mut header = ip.get(..V6_HEADER)?.to_vec();
            header[6] = head[0];
            Some(Piece {
                key: Key {
                    from: p.src_addr().into(),
                    to: p.dst_addr().into(),
                    id: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
                    protocol: head[0],
                },
                header,
                offset: usize::from(word & !7),
                more: word & 1 != 0,
                payload: f.get(FRAGMENT_HEADER..)?,
            })
        }
        _ => None,
    }
}

impl Reassembly {
    /// Takes a fragment; the whole IP packet when it was the one that was missing.
    pub fn add(&mut self, ip: &[u8], now: u64) -> Option<Vec<u8>> {
        let piece = read(ip)?;
        let (start, len) = (piece.offset, piece.payload.len());
        let is_sound = len > 0 && start + len <= 65535 && (!piece.more || len % 8 == 0);
        if !is_sound {
            return None;
        }
        let mut payload = Vec::new();
        payload.try_reserve_exact(len).ok()?;
        payload.extend_from_slice(piece.payload);
        self.expire(now);
        while self.bytes + len > MAX_BYTES
            || self.all.len() >= MAX_COLLECTIONS && !self.all.contains_key(&piece.key)
        {
            // The one that waited longest gives way.
            let oldest = self.all.iter().min_by_key(|(_, c)| c.until_ns);
            let key = oldest.map(|(k, _)| *k)?;
            self.remove(&key);
        }
        let c = self.all.entry(piece.key).or_insert_with(|| Collection {
            header: piece.header.clone(),
            pieces: BTreeMap::new(),
            bytes: 0,
            total: None,
            until_ns: now + PATIENCE_NS,
        });
        let before = c.pieces.range(..=start).next_back();
        if before.is_some_and(|(at, p)| *at == start && p.len() == len) {
            // The same again.
            return None;
        }
        let overlaps = before.is_some_and(|(at, p)| at + p.len() > start)
            || c.pieces
                .range(start..)
                .next()
                .is_some_and(|(at, _)| start + len > *at);
        let end = start + len;
        let is_wrong = c.total.is_some_and(|t| end > t || !piece.more && t != end);
        if overlaps || is_wrong || c.pieces.len() >= MAX_PIECES {
            self.remove(&piece.key);
            return None;
        }
        if !piece.more {
            c.total = Some(end);
        }
        if start == 0 {
            c.header = piece.header;
        }
        c.pieces.insert(start, payload);
        c.bytes += len;
        self.bytes += len;
        if c.total != Some(c.bytes) {
            return None;
        }
        let whole = self.remove(&piece.key)?;
        finish(whole)
    }

    fn remove(&mut self, key: &Key) -> Option<Collection> {
        let c = self.all.remove(key)?;
        self.bytes -= c.bytes;
        Some(c)
    }

    fn expire(&mut self, now: u64) {
        let bytes = &mut self.bytes;
        self.all.retain(|_, c| {
            let keeps = c.until_ns > now;
            if !keeps {
                *bytes -= c.bytes;
            }
            keeps
        });
    }
}

/// Header and pieces as one packet.
fn finish(c: Collection) -> Option<Vec<u8>> {
    let mut out = c.header;
    out.try_reserve_exact(c.bytes).ok()?;
    for piece in c.pieces.values() {
        out.extend_from_slice(piece);
    }
    if out[0] >> 4 == 4 {
        let total = u16::try_from(out.len()).ok()?;
        out[0] = 0x45;
        let mut p = Ipv4Packet::new_unchecked(&mut out[..]);
        p.set_total_len(total);
        p.clear_flags();
        p.set_frag_offset(0);
        p.fill_checksum();
    } else {
        let len = u16::try_from(c.bytes).ok()?;
        Ipv6Packet::new_unchecked(&mut out[..]).set_payload_len(len);
    }
    Some(out)
}

/// Cuts an IP packet into fragments of at most `mtu` bytes, each given to `emit` as header
/// and payload. `id` names them all. False when the packet cannot be cut.
pub fn cut(ip: &[u8], mtu: usize, id: u32, mut emit: impl FnMut(&[u8], &[u8])) -> bool {
    match ip.first().map(|b| b >> 4) {
        Some(4) if ip.len() > V4_HEADER && mtu >= V4_HEADER + 8 => {
            let mut header: [u8; V4_HEADER] = [0; V4_HEADER];
            header.copy_from_slice(&ip[..V4_HEADER]);
            let payload = &ip[V4_HEADER..];
            let size = (mtu - V4_HEADER) & !7;
            for (i, piece) in payload.chunks(size).enumerate() {
                let at = i * size;
                let mut p = Ipv4Packet::new_unchecked(&mut header[..]);
                p.set_total_len((V4_HEADER + piece.len()) as u16);
                p.set_ident(id as u16);
                p.clear_flags();
                p.set_more_frags(at + piece.len() < payload.len());
                p.set_frag_offset(at as u16);
                p.fill_checksum();
                emit(&header, piece);
            }
            true
        }
        Some(6) if ip.len() > V6_HEADER && mtu >= V6_HEADER + FRAGMENT_HEADER + 8 => {
            let mut header = [0; V6_HEADER + FRAGMENT_HEADER];
            header[..V6_HEADER].copy_from_slice(&ip[..V6_HEADER]);
            header[V6_HEADER] = ip[6];
            header[6] = IPV6_FRAGMENT;
            header[V6_HEADER + 4..].copy_from_slice(&id.to_be_bytes());
            let payload = &ip[V6_HEADER..];
            let size = (mtu - V6_HEADER - FRAGMENT_HEADER) & !7;
            for (i, piece) in payload.chunks(size).enumerate() {
                let at = i * size;
                let more = u16::from(at + piece.len() < payload.len());
                let word = (at as u16 | more).to_be_bytes();
                header[V6_HEADER + 2..V6_HEADER + 4].copy_from_slice(&word);
                let len = (FRAGMENT_HEADER + piece.len()) as u16;
                header[4..6].copy_from_slice(&len.to_be_bytes());
                emit(&header, piece);
            }
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::{IpProtocol, IpRepr};

    fn packet(v6: bool, len: usize) -> Vec<u8> {
        let (from, to) = if v6 {
            ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap())
        } else {
            (IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2))
        };
        let ip = IpRepr::new(from, to, IpProtocol::Udp, len, 64);
        let mut out = vec![0; ip.header_len() + len];
        ip.emit(&mut out[..], &smoltcp::phy::ChecksumCapabilities::default());
        let n = ip.header_len();
        for (i, b) in out[n..].iter_mut().enumerate() {
            *b = (i / 7) as u8;
        }
        out
    }

    fn fragments(ip: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        assert!(cut(ip, mtu, id, |h, p| out.push([h, p].concat())));
        out
    }

    #[test]
    fn what_is_cut_is_put_together_in_any_order() {
        for v6 in [false, true] {
            for len in [1481, 2000, 8000, 65507] {
                let ip = packet(v6, len);
                let mut pieces = fragments(&ip, 1500, 7);
                assert!(pieces.iter().all(|p| p.len() <= 1500));
                for turn in 0..3 {
                    let mut r = Reassembly::default();
                    let by = turn % pieces.len();
                    pieces.rotate_left(by);
                    if turn == 2 {
                        pieces.reverse();
                    }
                    let mut got = None;
                    for p in &pieces {
                        assert!(got.is_none());
                        got = r.add(p, 1);
                    }
                    let got = got.unwrap();
                    let header = if v6 { 40 } else { 20 };
                    assert!(got[header..] == ip[header..] && got.len() == ip.len());
                    assert_eq!((r.all.len(), r.bytes), (0, 0));
                }
            }
        }
    }

    #[test]
    fn overlaps_doubles_and_lies_are_harmless() {
        let ip = packet(false, 4000);
        let pieces = fragments(&ip, 1500, 7);
        let mut r = Reassembly::default();
        assert!(r.add(&pieces[0], 1).is_none());
        assert!(r.add(&pieces[0], 1).is_none());
        assert_eq!(r.all.len(), 1);
        // One that reaches into the first.
        let mut evil = pieces[1].clone();
        let mut p = Ipv4Packet::new_unchecked(&mut evil[..]);
        p.set_frag_offset(8);
        p.fill_checksum();
        assert!(r.add(&evil, 1).is_none());
        assert_eq!((r.all.len(), r.bytes), (0, 0));
        // Time ends a collection.
        r.add(&pieces[0], 1);
        r.add(
            &fragments(&packet(false, 3000), 1500, 8)[0],
            PATIENCE_NS + 2,
        );
        assert_eq!(r.all.len(), 1);
    }

    #[test]
    fn a_flood_of_first_pieces_is_bounded() {
        let ip = packet(false, 60000);
        let mut r = Reassembly::default();
        for id in 0..5000 {
            r.add(&fragments(&ip, 40000, id)[0], u64::from(id));
            assert!(r.bytes <= MAX_BYTES && r.all.len() <= MAX_COLLECTIONS);
        }
        // A late packet still goes through.
        let last = fragments(&ip, 1500, 6000);
        let got = last.iter().filter_map(|p| r.add(p, 6000)).count();
        assert_eq!(got, 1);
    }
}
