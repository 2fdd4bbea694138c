//! Neighbours (RTM_*NEIGH, man 7 rtnetlink): shown and forgotten; the wire says who is where,
//! so nobody sets one.

use super::message::{
    Answer, CAP_NET_ADMIN, NLM_F_MULTI, address, attributes, family, octets, word,
};
use crate::error::{Errno, Result};
use crate::net::stack::{self, Netif};
use crate::time::NS_PER_SEC;

pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const RTN_UNICAST: u8 = 1;
// linux/neighbour.h.
const NUD_INCOMPLETE: u16 = 1;
const NUD_REACHABLE: u16 = 2;
const NUD_STALE: u16 = 4;
/// As long as an answer counts without another question.
const FRESH_NS: u64 = 30 * NS_PER_SEC;

/// All neighbours behind an interface, of the family `wanted` (0: of both).
pub(super) fn put_neighbours(answer: &mut Answer, netif: &Netif, wanted: u8) {
    for (addr, mac, age_ns) in netif.neighbours() {
        if wanted != 0 && wanted != family(addr) {
            continue;
        }
        let state = match mac {
            None => NUD_INCOMPLETE,
            Some(_) if age_ns < FRESH_NS => NUD_REACHABLE,
            Some(_) => NUD_STALE,
        };
        let mut head = [0; 12];
        head[0] = family(addr);
        head[4..8].copy_from_slice(&netif.index.to_ne_bytes());
        head[8..10].copy_from_slice(&state.to_ne_bytes());
        head[11] = RTN_UNICAST;
        answer.begin(RTM_NEWNEIGH, NLM_F_MULTI, &head);
        answer.attribute(NDA_DST, &octets(addr));
        if let Some(mac) = mac {
            answer.attribute(NDA_LLADDR, &mac);
        }
        answer.end();
    }
}

/// RTM_DELNEIGH: forgets one. ENOENT, ENODEV.
pub(super) fn forget(body: &[u8]) -> Result<()> {
    crate::net::may(CAP_NET_ADMIN)?;
    let netif = stack::by_index(word(body, 4)?).ok_or(Errno::ENODEV)?;
    let attributes = attributes(body.get(12..).unwrap_or(&[]));
    let who = attributes.iter().find(|a| a.0 == NDA_DST);
    let who = address(who.ok_or(Errno::EINVAL)?.1)?;
    if netif.forget_neighbour(who) {
        Ok(())
    } else {
        Err(Errno::ENOENT)
    }
}
