//! Where datagrams for a socket wait, and what of the traffic is for it.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};

use smoltcp::wire::{IpAddress, IpEndpoint};

use super::errors::{Origin, Report};
use super::flow::Holder;
use crate::error::Errno;
use crate::net::fifo::Fifo;
use crate::sched::WaitQueue;
use crate::sync::{Rank, SpinLock};

/// A packet's payload and where it came from.
pub struct Datagram {
    /// What the socket reads.
    pub bytes: Vec<u8>,
    /// Its sender.
    pub from: IpEndpoint,
    /// The address it was sent to.
    pub to: IpAddress,
    /// TTL or hop limit.
    pub hops: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// The interface it came through.
    pub interface: u32,
    /// When it came (CLOCK_REALTIME, ns).
    pub time_ns: u64,
}

/// What a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// UDP datagrams.
    Udp,
    /// Echo replies with its identifier.
    Ping,
    /// Packets of this IP protocol; 255 for none.
    Raw(u8),
}

/// The ends of a receiver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// Its own address; `None` for all.
    pub addr: Option<IpAddress>,
    /// Port or identifier; 0 while it has none.
    pub port: u16,
    /// The only peer it hears.
    pub remote: Option<IpEndpoint>,
    /// It is for IPv4 packets.
    pub v4: bool,
    /// It is for IPv6 packets.
    pub v6: bool,
}

impl Ends {
    /// How well a packet fits: `None` not at all, more for each end that is fixed.
    pub(super) fn score(&self, from: IpEndpoint, to: IpEndpoint) -> Option<u32> {
        let family = match to.addr {
            IpAddress::Ipv4(_) => self.v4,
            IpAddress::Ipv6(_) => self.v6,
        };
        if !family || self.port != to.port {
            return None;
        }
        let mut score = 0;
        if let Some(addr) = self.addr {
            if addr != to.addr {
                return None;
            }
            score += 1;
        }
        if let Some(remote) = self.remote {
            if remote.addr != from.addr || remote.port != 0 && remote.port != from.port {
                return None;
            }
            score += 2;
        }
        Some(score)
    }
}

/// Which groups' datagrams a receiver takes (man 7 ip, IP_MULTICAST_ALL).
#[derive(Debug)]
pub struct Hears {
    /// Those it joined, with the interface.
    pub groups: Vec<(IpAddress, u32)>,
    /// All IPv4 groups that anybody joined.
    pub all_v4: bool,
    /// All IPv6 groups that anybody joined.
    pub all_v6: bool,
}

impl Hears {
    /// Whether it takes what came to `group` through `interface`.
    pub(super) fn group(&self, group: IpAddress, interface: u32) -> bool {
        let all = match group {
            IpAddress::Ipv4(_) => self.all_v4,
            IpAddress::Ipv6(_) => self.all_v6,
        };
        all || self.groups.contains(&(group, interface))
    }
}

/// Which reports of errors a receiver wants (man 7 ip, IP_RECVERR), and those that wait.
pub struct Reports {
    v4: AtomicBool,
    v6: AtomicBool,
    ignores_size: AtomicBool,
    queue: SpinLock<VecDeque<Report>>,
    nr: AtomicUsize,
}

impl Reports {
    fn new() -> Reports {
        Reports {
            v4: AtomicBool::new(false),
            v6: AtomicBool::new(false),
            ignores_size: AtomicBool::new(false),
            queue: SpinLock::new(Rank::Object, VecDeque::new()),
            nr: AtomicUsize::new(0),
        }
    }
    /// Whether those about packets to an address are wanted.
    pub fn are_wanted(&self, to: IpAddress) -> bool {
        match to {
            IpAddress::Ipv4(_) => self.has_v4(),
            IpAddress::Ipv6(_) => self.has_v6(),
        }
    }
    /// Whether those of ICMP are wanted.
    pub fn has_v4(&self) -> bool {
        self.v4.load(SeqCst)
    }
    /// Whether those of ICMPv6 are wanted.
    pub fn has_v6(&self) -> bool {
        self.v6.load(SeqCst)
    }
    /// Sets [`Reports::has_v4`].
    pub fn want_v4(&self, on: bool) {
        self.v4.store(on, SeqCst);
    }
    /// Sets [`Reports::has_v6`].
    pub fn want_v6(&self, on: bool) {
        self.v6.store(on, SeqCst);
    }
    /// Whether it is told that packets were too long: not with IP_PMTUDISC_DONT.
    pub fn minds_size(&self) -> bool {
        !self.ignores_size.load(SeqCst)
    }
    /// Sets [`Reports::minds_size`].
    pub fn mind_size(&self, on: bool) {
        self.ignores_size.store(!on, SeqCst);
    }
}

/// Where datagrams for a socket wait.
pub struct Receiver {
    /// What it takes.
    pub takes: Takes,
    /// Its ends.
    pub ends: SpinLock<Ends>,
    /// Its groups.
    pub hears: SpinLock<Hears>,
    /// Errors about what was sent.
    pub reports: Reports,
    /// Whose it is.
    pub holder: Holder,
    queue: SpinLock<Fifo<Datagram>>,
    /// Bytes that wait, with what keeping them costs.
    used: AtomicUsize,
    nr: AtomicUsize,
    /// Most bytes that wait (SO_RCVBUF).
    pub limit: AtomicUsize,
    /// Datagrams that found no room.
    pub dropped: AtomicUsize,
    error: AtomicU16,
    /// Nothing is read any more.
    pub shut: AtomicBool,
    /// Woken when a datagram or an error came.
    pub readers: Arc<WaitQueue>,
}

/// What a datagram costs beside its bytes.
const OVERHEAD: usize = 256;

impl Receiver {
    /// A receiver; `add_receiver` makes it known.
    pub fn new(takes: Takes, v4: bool, v6: bool, limit: usize) -> Arc<Receiver> {
        Arc::new(Receiver {
            takes,
            holder: Holder::default(),
            ends: SpinLock::new(
                Rank::Leaf,
                Ends {
                    v4,
                    v6,
                    ..Ends::default()
                },
            ),
            hears: SpinLock::new(
                Rank::Leaf,
                Hears {
                    groups: Vec::new(),
                    all_v4: true,
                    all_v6: true,
                },
            ),
            reports: Reports::new(),
            queue: SpinLock::new(Rank::Object, Fifo::new()),
            used: AtomicUsize::new(0),
            nr: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            dropped: AtomicUsize::new(0),
            error: AtomicU16::new(0),
            shut: AtomicBool::new(false),
            readers: Arc::new(WaitQueue::new()),
        })
    }
    /// Queues a datagram; drops it when there is no room, as UDP may.
    pub fn push(&self, datagram: Datagram) {
        let cost = datagram.bytes.len() + OVERHEAD;
        let used = self.used.load(SeqCst);
        if used != 0 && used + cost > self.limit.load(SeqCst) || self.shut.load(SeqCst) {
            self.dropped.fetch_add(1, SeqCst);
            return;
        }
        self.enter(datagram, Fifo::push_back);
    }
    /// Puts a datagram into the queue; without memory it is lost.
    fn enter(
        &self,
        datagram: Datagram,
        put: impl FnOnce(&mut Fifo<Datagram>, Datagram) -> Result<(), Datagram>,
    ) {
        let cost = datagram.bytes.len() + OVERHEAD;
        let mut queue = self.queue.lock();
        let lost = put(&mut queue, datagram);
        if lost.is_ok() {
            self.used.fetch_add(cost, SeqCst);
            self.nr.store(queue.len(), SeqCst);
        }
        drop(queue);
        match lost {
            Ok(()) => self.readers.wake_all(),
            Err(_) => drop(self.dropped.fetch_add(1, SeqCst)),
        };
    }
    /// Takes the oldest datagram.
    pub fn pop(&self) -> Option<Datagram> {
        let mut queue = self.queue.lock();
        let datagram = queue.pop_front()?;
        self.used.fetch_sub(datagram.bytes.len() + OVERHEAD, SeqCst);
        self.nr.store(queue.len(), SeqCst);
        Some(datagram)
    }
    /// Puts a datagram back that was only looked at.
    pub fn unpop(&self, datagram: Datagram) {
        self.enter(datagram, Fifo::push_front);
    }
    /// Bytes of the next datagram (FIONREAD).
    pub fn next_len(&self) -> usize {
        self.queue.lock().front().map_or(0, |d| d.bytes.len())
    }
    /// Whether a datagram or an error waits.
    pub fn is_ready(&self) -> bool {
        self.nr.load(SeqCst) > 0 || self.has_error() || self.shut.load(SeqCst)
    }
    /// Whether a datagram waits.
    pub fn has_datagram(&self) -> bool {
        self.nr.load(SeqCst) > 0
    }
    /// Whether an error waits to be reported.
    pub fn has_error(&self) -> bool {
        self.error.load(SeqCst) != 0
    }
    /// Whether a report of an error waits.
    pub fn has_report(&self) -> bool {
        self.reports.nr.load(SeqCst) > 0
    }
    /// Queues a report; it is lost when there is no room.
    pub fn report(&self, report: Report) {
        let cost = report.quote.bytes.len() + OVERHEAD;
        if self.used.load(SeqCst) + cost > self.limit.load(SeqCst) {
            self.dropped.fetch_add(1, SeqCst);
            return;
        }
        let mut queue = self.reports.queue.lock();
        if queue.try_reserve(1).is_err() {
            return;
        }
        queue.push_back(report);
        self.used.fetch_add(cost, SeqCst);
        self.reports.nr.store(queue.len(), SeqCst);
        drop(queue);
        self.readers.wake_all();
    }
    /// Takes the oldest report; the error that is pending is the next one's.
    pub fn take_report(&self) -> Option<Report> {
        let mut queue = self.reports.queue.lock();
        let report = queue.pop_front()?;
        self.used
            .fetch_sub(report.quote.bytes.len() + OVERHEAD, SeqCst);
        self.reports.nr.store(queue.len(), SeqCst);
        let next = queue.front().map(|r| (r.origin, r.errno.code()));
        drop(queue);
        match (report.origin, next) {
            (_, Some((Origin::Icmp | Origin::Icmp6, code))) => self.error.store(code, SeqCst),
            (Origin::Local, _) => {}
            (_, _) => self.error.store(0, SeqCst),
        }
        Some(report)
    }
    /// Drops the reports that wait.
    pub fn forget_reports(&self) {
        let all = core::mem::take(&mut *self.reports.queue.lock());
        self.reports.nr.store(0, SeqCst);
        for report in &all {
            self.used
                .fetch_sub(report.quote.bytes.len() + OVERHEAD, SeqCst);
        }
    }
    /// Takes the pending error.
    pub fn take_error(&self) -> Option<Errno> {
        Errno::from_code(self.error.swap(0, SeqCst))
    }
    pub(super) fn set_error(&self, error: Errno) {
        self.error.store(error.code(), SeqCst);
        self.readers.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_receiver_drops() {
        let r = Receiver::new(Takes::Udp, true, false, 1000);
        let any = IpEndpoint::new(IpAddress::v4(1, 1, 1, 1), 1);
        for _ in 0..3 {
            r.push(Datagram {
                bytes: vec![0; 300],
                from: any,
                to: any.addr,
                hops: 64,
                traffic_class: 0,
                interface: 1,
                time_ns: 0,
            });
        }
        assert_eq!(r.dropped.load(SeqCst), 2);
        assert!(r.pop().is_some() && r.pop().is_none());
    }
}
