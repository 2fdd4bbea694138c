//! The DHCP client through a lease of an hour, in simulated time: renewed while the server
//! answers, and gone with its address when it does not.

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
};

use super::addresses::announce;
use super::config::{self, Config};
use super::wire_tests::{Cable, OUR_MAC, OURS, PEER, PEER_MAC, PeerEnd, lease};
use super::*;

/// The answer to a question for the server's hardware address.
fn arp(frame: &[u8]) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    match ArpRepr::parse(&packet).ok()? {
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr: PEER,
            ..
        } => {
            let answer = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(PEER_MAC),
                source_protocol_addr: PEER,
                target_hardware_addr: source_hardware_addr,
                target_protocol_addr: source_protocol_addr,
            };
            let mut out = alloc::vec![0; 14 + answer.buffer_len()];
            let mut frame = EthernetFrame::new_unchecked(&mut out[..]);
            frame.set_src_addr(EthernetAddress(PEER_MAC));
            frame.set_dst_addr(source_hardware_addr);
            frame.set_ethertype(EthernetProtocol::Arp);
            answer.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
            Some(out)
        }
        _ => None,
    }
}

/// A client, its server, and what the interface was told.
struct Client {
    cable: Arc<Cable>,
    end: PeerEnd,
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    config: Config,
    /// Seconds at which the server heard of the client.
    heard: Vec<i64>,
}

impl Client {
    fn new() -> Client {
        let cable = Arc::new(Cable::default());
        let mut end = PeerEnd(cable.clone());
        let hardware = HardwareAddress::Ethernet(EthernetAddress(OUR_MAC));
        let config = iface::Config::new(hardware);
        let iface = Interface::new(config, &mut end, Instant::from_secs(0));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(dhcpv4::Socket::new());
        Client {
            cable,
            end,
            iface,
            sockets,
            handle,
            config: Config::default(),
            heard: Vec::new(),
        }
    }

    /// One second, with a server that answers or not.
    fn second(&mut self, second: i64, answers: bool) {
        for turn in 0..10 {
            let now = Instant::from_millis(second * 1000 + turn * 100);
            self.iface.poll(now, &mut self.end, &mut self.sockets);
            let frames = core::mem::take(&mut *self.cable.to_us.lock().unwrap());
            for frame in frames {
                let answer = lease(&frame);
                if answer.is_some() {
                    self.heard.push(second);
                }
                if let (Some(answer), true) = (answer.or_else(|| arp(&frame)), answers) {
                    self.cable.to_peer.lock().unwrap().push_back(answer);
                }
            }
            let socket = self.sockets.get_mut::<dhcpv4::Socket>(self.handle);
            if let Some(change) = config::lease(socket.poll()) {
                self.config = change.apply("test", &self.config);
                announce(&mut self.iface, &self.config);
            }
        }
    }
}

#[test]
fn leases_are_renewed_and_lost() {
    let mut client = Client::new();
    (0..5).for_each(|s| client.second(s, true));
    assert!(client.config.has(OURS.into()));
    assert_eq!(client.config.routes.len(), 1);

    // Nothing is asked before half of the time is over; then it lasts beyond its first end.
    let asked = client.heard.len();
    (5..1795).for_each(|s| client.second(s, true));
    assert_eq!(client.heard.len(), asked, "{:?}", client.heard);
    (1795..3700).for_each(|s| client.second(s, true));
    assert!(client.heard.len() > asked);
    assert!(client.config.has(OURS.into()));

    // The server falls silent: it is asked again and again, then address, route and name
    // servers go, not before the lease ends.
    let last = client.heard.iter().copied().max().unwrap();
    let asked = client.heard.len();
    (3700..last + 3590).for_each(|s| client.second(s, false));
    assert!(client.config.has(OURS.into()));
    assert!(client.heard.len() > asked + 2, "{:?}", client.heard);
    (last + 3590..last + 3700).for_each(|s| client.second(s, false));
    assert!(!client.config.has(OURS.into()));
    assert!(client.config.routes.is_empty() && client.config.dns.is_empty());

    // It comes back, and with it the lease.
    (last + 3700..last + 3800).for_each(|s| client.second(s, true));
    assert!(client.config.has(OURS.into()));
}
