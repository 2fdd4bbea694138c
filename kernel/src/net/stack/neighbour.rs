//! Who is where on the wire (RFC 826, RFC 4861): hardware addresses by IP address, and the
//! packets that wait for one.
//!
//! Pure: the link asks and sends, and brings the lock and the time.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use smoltcp::wire::IpAddress;

use crate::net::device::Packet;
use crate::time::NS_PER_SEC;

/// Most neighbours that are remembered.
const MAX: usize = 512;
/// Most packets that wait for one (a datagram of 64 KiB is 45 fragments).
const MAX_WAITING: usize = 64;
/// An answer counts for so long; then it is asked again while it is used.
const FRESH_NS: u64 = 30 * NS_PER_SEC;
/// An answer is forgotten after so long.
const STALE_NS: u64 = 60 * NS_PER_SEC;
/// Time between questions, and their number (RFC 4861, 10).
const RETRY_NS: u64 = NS_PER_SEC;
const TRIES: u8 = 3;

#[derive(Default)]
struct Neighbour {
    mac: Option<[u8; 6]>,
    /// When it last answered.
    heard_ns: u64,
    /// When it was last asked; 0 for never.
    asked_ns: u64,
    tries: u8,
    waiting: VecDeque<Packet>,
}

/// The neighbours of one interface.
#[derive(Default)]
pub struct Table {
    all: BTreeMap<IpAddress, Neighbour>,
}

/// What becomes of a packet.
pub enum Next {
    /// It goes to this address now; whether to ask if that still holds.
    Known([u8; 6], Packet, bool),
    /// It waits; whether to ask, and how many packets were dropped to make room.
    Waits {
        /// A question is due.
        ask: bool,
        /// Packets that found no room.
        dropped: u64,
    },
}

impl Table {
    /// A packet for the neighbour `next`.
    pub fn send(&mut self, next: IpAddress, packet: Packet, now: u64) -> Next {
        if !self.all.contains_key(&next) && self.all.len() >= MAX {
            self.forget_one();
        }
        let n = self.all.entry(next).or_default();
        let due = n.asked_ns == 0 || now >= n.asked_ns + RETRY_NS;
        if let Some(mac) = n.mac
            && now < n.heard_ns + STALE_NS
        {
            let ask = now >= n.heard_ns + FRESH_NS && due;
            if ask {
                n.asked_ns = now.max(1);
            }
            return Next::Known(mac, packet, ask);
        }
        n.mac = None;
        let mut dropped = 0;
        if n.waiting.len() >= MAX_WAITING {
            n.waiting.pop_front();
            dropped = 1;
        }
        if n.waiting.try_reserve(1).is_ok() {
            n.waiting.push_back(packet);
        } else {
            dropped += 1;
        }
        if due {
            n.asked_ns = now.max(1);
            n.tries = 1;
        }
        Next::Waits { ask: due, dropped }
    }

    /// Room for another: the one that answered longest ago.
    fn forget_one(&mut self) {
        let oldest = self
            .all
            .iter()
            .min_by_key(|(_, n)| (!n.waiting.is_empty(), n.heard_ns));
        if let Some(addr) = oldest.map(|(a, _)| *a) {
            self.all.remove(&addr);
        }
    }

    /// A neighbour said where it is; the packets that waited for it. Only those that were
    /// asked for are remembered, so that strangers do not fill the table.
    pub fn learn(&mut self, from: IpAddress, mac: [u8; 6], now: u64) -> VecDeque<Packet> {
        let Some(n) = self.all.get_mut(&from) else {
            return VecDeque::new();
        };
        n.mac = Some(mac);
        n.heard_ns = now;
        n.asked_ns = 0;
        n.tries = 0;
        core::mem::take(&mut n.waiting)
    }

    /// Whom to ask again, the packets for those who never answered, and when to come back.
    pub fn expire(&mut self, now: u64) -> (Vec<IpAddress>, Vec<Packet>, Option<u64>) {
        let (mut ask, mut given_up, mut again) = (Vec::new(), Vec::new(), None);
        self.all.retain(|addr, n| {
            if n.waiting.is_empty() {
                // One that was forgotten is asked for when it is needed.
                return now < n.heard_ns.max(n.asked_ns) + 2 * STALE_NS;
            }
            if now >= n.asked_ns + RETRY_NS {
                if n.tries >= TRIES {
                    given_up.extend(n.waiting.drain(..));
                    return false;
                }
                n.tries += 1;
                n.asked_ns = now.max(1);
                ask.push(*addr);
            }
            let at = n.asked_ns + RETRY_NS;
            again = Some(again.map_or(at, |a: u64| a.min(at)));
            true
        });
        (ask, given_up, again)
    }

    /// Whether packets wait for somebody.
    pub fn is_waiting(&self) -> bool {
        self.all.values().any(|n| !n.waiting.is_empty())
    }

    /// Address, hardware address and age of the answer in ns, of all that are known.
    pub fn list(&self, now: u64) -> Vec<(IpAddress, Option<[u8; 6]>, u64)> {
        let all = self.all.iter();
        all.map(|(a, n)| (*a, n.mac, now.saturating_sub(n.heard_ns)))
            .collect()
    }

    /// Forgets one, and the packets that wait for it; whether it was there.
    pub fn forget(&mut self, who: IpAddress) -> bool {
        self.all.remove(&who).is_some()
    }

    /// Forgets all, e.g. because the addresses changed.
    pub fn clear(&mut self) {
        self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: IpAddress = IpAddress::v4(10, 0, 0, 2);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn packet() -> Packet {
        Packet::from_vec(vec![0; 60])
    }

    #[test]
    fn packets_wait_for_the_answer_and_are_given_up() {
        let mut t = Table::default();
        let s = NS_PER_SEC;
        assert!(matches!(
            t.send(WHO, packet(), s),
            Next::Waits { ask: true, .. }
        ));
        assert!(matches!(
            t.send(WHO, packet(), s + 1),
            Next::Waits { ask: false, .. }
        ));
        assert!(t.is_waiting());
        let (ask, lost, again) = t.expire(s + 2);
        assert_eq!((ask.len(), lost.len(), again), (0, 0, Some(2 * s)));
        assert_eq!(t.expire(2 * s).0, [WHO]);
        assert_eq!(t.learn(WHO, MAC, 2 * s + 1).len(), 2);
        assert!(matches!(
            t.send(WHO, packet(), 3 * s),
            Next::Known(MAC, _, false)
        ));
        // In use and old: asked again, and used meanwhile.
        assert!(matches!(
            t.send(WHO, packet(), 40 * s),
            Next::Known(MAC, _, true)
        ));
        assert!(matches!(
            t.send(WHO, packet(), 70 * s),
            Next::Waits { ask: true, .. }
        ));
        for i in 1..TRIES as u64 {
            assert_eq!(t.expire((70 + i) * s).0, [WHO]);
        }
        let (ask, lost, again) = t.expire(80 * s);
        assert_eq!((ask.len(), lost.len(), again), (0, 1, None));
    }

    #[test]
    fn the_table_and_its_queues_are_bounded() {
        let mut t = Table::default();
        for i in 0..2000u32 {
            let who = IpAddress::Ipv4((0x0a00_0000 + i).into());
            t.send(who, packet(), 1 + u64::from(i));
        }
        assert_eq!(t.list(0).len(), MAX);
        for _ in 0..200 {
            t.send(WHO, packet(), 5);
        }
        assert_eq!(t.learn(WHO, MAC, 6).len(), MAX_WAITING);
        // Nobody asked for this one.
        t.learn(IpAddress::v4(1, 1, 1, 1), MAC, 7);
        assert_eq!(t.list(0).len(), MAX);
    }
}
