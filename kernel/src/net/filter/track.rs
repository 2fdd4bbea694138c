//! Flows of datagrams and echoes, known by both ends, for as long as something goes to and
//! fro. Pure: the caller brings the time and the lock.
//!
//! Flows that this machine began and flows that others began have a table each, so that
//! nobody outside can push out what a program here waits for.

use alloc::collections::BTreeMap;

use smoltcp::wire::IpEndpoint;

use crate::time::NS_PER_SEC;

/// How long an answer is waited for (nf_conntrack_udp_timeout, nf_conntrack_icmp_timeout).
const UNANSWERED_NS: u64 = 30 * NS_PER_SEC;
/// How long a flow that has been answered may be silent (nf_conntrack_udp_timeout_stream).
const ANSWERED_NS: u64 = 120 * NS_PER_SEC;
/// Most flows of a table.
const MOST: usize = 4096;
/// How often those whose time is over are looked for.
const SWEEP_NS: u64 = 10 * NS_PER_SEC;

/// Both ends of a flow. The identifier of an echo stands for its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tracked {
    /// The IP protocol's number.
    pub protocol: u8,
    /// This machine's end.
    pub local: IpEndpoint,
    /// The other end.
    pub remote: IpEndpoint,
}

#[derive(Clone, Copy)]
struct Entry {
    expires_ns: u64,
    answered: bool,
}

struct Table {
    flows: BTreeMap<Tracked, Entry>,
    swept_ns: u64,
}

impl Table {
    const fn new() -> Table {
        Table {
            flows: BTreeMap::new(),
            swept_ns: 0,
        }
    }
    fn get(&mut self, flow: &Tracked, now_ns: u64) -> Option<&mut Entry> {
        self.flows.get_mut(flow).filter(|e| e.expires_ns > now_ns)
    }
    /// The beginning end sent.
    fn sent(&mut self, flow: Tracked, now_ns: u64) {
        if let Some(entry) = self.get(&flow, now_ns) {
            let life = if entry.answered {
                ANSWERED_NS
            } else {
                UNANSWERED_NS
            };
            entry.expires_ns = now_ns + life;
            return;
        }
        if now_ns >= self.swept_ns + SWEEP_NS {
            self.swept_ns = now_ns;
            self.flows.retain(|_, e| e.expires_ns > now_ns);
        }
        if self.flows.len() >= MOST && !self.flows.contains_key(&flow) {
            // The next in order, so that a full table costs no walk. A flow that goes on comes
            // back with its next packet.
            let next = self.flows.range(flow..).next();
            let victim = next.or(self.flows.iter().next()).map(|(f, _)| *f);
            if let Some(victim) = victim {
                self.flows.remove(&victim);
            }
        }
        let entry = Entry {
            expires_ns: now_ns + UNANSWERED_NS,
            answered: false,
        };
        self.flows.insert(flow, entry);
    }
    /// The other end sent; whether the flow is known.
    fn answered(&mut self, flow: &Tracked, now_ns: u64) -> bool {
        let Some(entry) = self.get(flow, now_ns) else {
            return false;
        };
        entry.answered = true;
        entry.expires_ns = now_ns + ANSWERED_NS;
        true
    }
}

/// Both tables.
pub struct Tracker {
    own: Table,
    foreign: Table,
}

impl Tracker {
    /// No flows.
    pub const fn new() -> Tracker {
        Tracker {
            own: Table::new(),
            foreign: Table::new(),
        }
    }
    /// A program sent what rules allow.
    pub fn opened_here(&mut self, flow: Tracked, now_ns: u64) {
        self.own.sent(flow, now_ns);
    }
    /// Something came in that rules allow.
    pub fn opened_by_peer(&mut self, flow: Tracked, now_ns: u64) {
        self.foreign.sent(flow, now_ns);
    }
    /// Something came in: whether a program of this machine waits for it.
    pub fn answered(&mut self, flow: &Tracked, now_ns: u64) -> bool {
        self.own.answered(flow, now_ns)
    }
    /// A program sends: whether it answers what was let in.
    pub fn continues(&mut self, flow: &Tracked, now_ns: u64) -> bool {
        self.foreign.answered(flow, now_ns)
    }
    /// Whether there is such a flow; it lives no longer for that.
    pub fn knows(&mut self, flow: &Tracked, now_ns: u64) -> bool {
        self.own.get(flow, now_ns).is_some() || self.foreign.get(flow, now_ns).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::IpAddress;

    fn flow(port: u16, remote: u8) -> Tracked {
        Tracked {
            protocol: 17,
            local: IpEndpoint::new(IpAddress::v4(10, 0, 0, 1), port),
            remote: IpEndpoint::new(IpAddress::v4(10, 0, 0, remote), 53),
        }
    }

    #[test]
    fn answers_pass_while_the_flow_lives() {
        let mut t = Tracker::new();
        let f = flow(1000, 2);
        assert!(!t.answered(&f, 0));
        t.opened_here(f, 0);
        assert!(!t.answered(&flow(1001, 2), 1) && !t.answered(&flow(1000, 3), 1));
        assert!(t.answered(&f, UNANSWERED_NS - 1));
        // Answered ones live longer, from the last packet on.
        let later = UNANSWERED_NS - 1 + ANSWERED_NS;
        assert!(t.knows(&f, later - 1));
        assert!(!t.answered(&f, later));
    }

    #[test]
    fn unanswered_flows_end() {
        let mut t = Tracker::new();
        t.opened_here(flow(1, 2), 5);
        assert!(!t.answered(&flow(1, 2), 5 + UNANSWERED_NS));
        t.opened_here(flow(3, 2), 5 + 2 * UNANSWERED_NS);
        assert_eq!(t.own.flows.len(), 1, "the old one was swept");
    }

    #[test]
    fn who_began_counts() {
        let mut t = Tracker::new();
        t.opened_by_peer(flow(53, 9), 0);
        assert!(t.continues(&flow(53, 9), 1));
        assert!(!t.answered(&flow(53, 9), 1), "rules judge what comes in");
    }

    #[test]
    fn tables_are_bounded_and_apart() {
        let mut t = Tracker::new();
        t.opened_here(flow(1, 2), 0);
        for i in 0..3 * MOST as u64 {
            let port = (i % 60_000) as u16;
            t.opened_by_peer(flow(port, (i / 60_000) as u8), i);
        }
        assert_eq!(t.foreign.flows.len(), MOST);
        assert!(t.answered(&flow(1, 2), 1));
        for i in 0..2 * MOST as u64 {
            t.opened_here(flow(i as u16, 7), i);
        }
        assert_eq!(t.own.flows.len(), MOST);
    }
}
