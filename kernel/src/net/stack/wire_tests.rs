//! An interface at a cable whose other end is a smoltcp interface of the test's own, which
//! also plays the DHCP server.

use std::collections::VecDeque;
use std::sync::Mutex as StdMutex;

use smoltcp::iface::{Interface, SocketSet};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Duration;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv6Packet, Icmpv6Repr, IpListenEndpoint, IpProtocol, IpRepr, Ipv4Address, Ipv4Packet,
    NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags, UdpPacket,
};

use super::*;
use crate::abi::net as uapi;
use crate::error::Errno;
use crate::file::{File, OpenFile};
use crate::mm::pieces::in_pieces;
use crate::net::device::Events;
use crate::net::device::{Offloads, Packet};
use crate::net::filter;
use crate::net::inet::datagram::DatagramSocket;
use crate::net::inet::tcp::TcpSocket;
use crate::net::inet::{Family, Name, Owner, write_name};
use crate::net::stack::table::Takes;
use crate::net::{MsgFlags, Outgoing, Socket, of_file};
use crate::vm::{IoDest, IoSource};
use oxbow_firewall::RuleSet;

pub(super) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const PEER: Ipv4Address = Ipv4Address::new(10, 9, 0, 2);
pub(super) const OURS: Ipv4Address = Ipv4Address::new(10, 9, 0, 15);

#[derive(Default)]
pub(super) struct Cable {
    pub(super) to_us: StdMutex<VecDeque<Vec<u8>>>,
    pub(super) to_peer: StdMutex<VecDeque<Vec<u8>>>,
}

struct Card(Arc<Cable>);

impl NetDevice for Card {
    fn mac(&self) -> Option<[u8; 6]> {
        Some(OUR_MAC)
    }
    fn mtu(&self) -> usize {
        1500
    }
    fn offloads(&self) -> Offloads {
        Offloads::default()
    }
    fn link_is_up(&self) -> bool {
        true
    }
    fn needs_dma(&self) -> bool {
        true
    }
    fn set_events(&self, _events: Arc<dyn Events>) {}
    fn has_room(&self) -> bool {
        self.0.to_peer.lock().unwrap().len() < 8
    }
    fn transmit(&self, packet: Packet) -> core::result::Result<(), Packet> {
        let frame = packet.bytes().to_vec();
        self.0.to_peer.lock().unwrap().push_back(frame);
        Ok(())
    }
    fn flush(&self) {}
    fn receive(&self) -> Option<Packet> {
        let frame = self.0.to_us.lock().unwrap().pop_front()?;
        Some(Packet::from_vec(frame))
    }
    fn enable_events(&self) -> bool {
        !self.0.to_us.lock().unwrap().is_empty()
    }
}

pub(super) struct PeerEnd(pub(super) Arc<Cable>);
pub(super) struct Rx(Vec<u8>);
pub(super) struct Tx(Arc<Cable>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}
impl phy::TxToken for Tx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> Option<R> {
        let mut frame = vec![0; len];
        let r = f(&mut frame);
        self.0.to_us.lock().unwrap().push_back(frame);
        Some(r)
    }
}
impl phy::Device for PeerEnd {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx;
    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx)> {
        let frame = self.0.to_peer.lock().unwrap().pop_front()?;
        Some((Rx(frame), Tx(self.0.clone())))
    }
    fn transmit(&mut self, _now: Instant) -> Option<Tx> {
        Some(Tx(self.0.clone()))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1514;
        caps.checksum.tcp = Checksum::Both;
        caps
    }
}

/// The interface under test and the other end.
pub(super) struct Pair {
    pub(super) netif: Arc<Netif>,
    cable: Arc<Cable>,
    peer: Box<Interface>,
    end: PeerEnd,
    pub(super) sockets: SocketSet<'static>,
}

impl Pair {
    /// The only card that is up: the interfaces are the machine's, and those of earlier tests
    /// have the same network. By who holds [`RULES`].
    fn new() -> Pair {
        start_once();
        for netif in netifs().iter().filter(|n| !n.is_loopback()) {
            netif.set_config(config::Config::default());
        }
        let cable = Arc::new(Cable::default());
        let netif = attach(Arc::new(Card(cable.clone()))).unwrap();
        let mut end = PeerEnd(cable.clone());
        let hardware = HardwareAddress::Ethernet(EthernetAddress(PEER_MAC));
        let config = iface::Config::new(hardware);
        let mut peer = Box::new(Interface::new(config, &mut end, instant(now_ns())));
        peer.update_ip_addrs(|a| {
            let _ = a.push(IpCidr::new(PEER.into(), 24));
        });
        Pair {
            netif,
            cable,
            peer,
            end,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    /// A pair whose end under test is up and has its lease.
    pub(super) fn with_lease() -> Pair {
        let mut pair = Pair::new();
        let netif = pair.netif.clone();
        config::bring_up(&netif);
        pair.until(|_| netif.config().has(OURS.into()).then_some(()));
        pair
    }

    /// Lets both ends work until `ready`, or panics.
    pub(super) fn until<R>(
        &mut self,
        ready: impl FnMut(&mut SocketSet<'static>) -> Option<R>,
    ) -> R {
        self.work_until(|netif| netif.work(), ready)
    }

    /// As [`Pair::until`], with this machine's memory in pieces.
    pub(super) fn until_in_pieces<R>(
        &mut self,
        ready: impl FnMut(&mut SocketSet<'static>) -> Option<R>,
    ) -> R {
        self.work_until(|netif| in_pieces(|| netif.work()), ready)
    }

    fn work_until<R>(
        &mut self,
        work: impl Fn(&Arc<Netif>),
        mut ready: impl FnMut(&mut SocketSet<'static>) -> Option<R>,
    ) -> R {
        // Not a number of turns: protocols wait in time.
        let began = std::time::Instant::now();
        while began.elapsed().as_secs() < 20 {
            self.answer_dhcp();
            let now = instant(now_ns());
            self.peer.poll(now, &mut self.end, &mut self.sockets);
            work(&self.netif);
            if let Some(r) = ready(&mut self.sockets) {
                return r;
            }
            std::thread::yield_now();
        }
        panic!("nothing happened");
    }

    /// Plays the server: answers what is a DHCP request among the frames for the peer.
    fn answer_dhcp(&mut self) {
        let frames = core::mem::take(&mut *self.cable.to_peer.lock().unwrap());
        for frame in frames {
            match lease(&frame) {
                Some(answer) => self.cable.to_us.lock().unwrap().push_back(answer),
                None => self.cable.to_peer.lock().unwrap().push_back(frame),
            }
        }
    }
}

/// The answer to a DHCP request; `None` for other frames.
pub(super) fn lease(frame: &[u8]) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    if udp.dst_port() != 67 {
        return None;
    }
    let packet = DhcpPacket::new_checked(udp.payload()).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        _ => DhcpMessageType::Ack,
    };
    let mut answer = DhcpRepr {
        message_type,
        your_ip: OURS,
        server_ip: PEER,
        router: Some(PEER),
        subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
        server_identifier: Some(PEER),
        lease_duration: Some(3600),
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        max_size: None,
        ..request
    };
    let servers = answer.dns_servers.get_or_insert_default();
    servers.clear();
    let _ = servers.push(Ipv4Address::new(10, 9, 0, 3));
    let broadcast = Ipv4Address::BROADCAST;
    let len = answer.buffer_len();
    let ip = IpRepr::new(PEER.into(), broadcast.into(), IpProtocol::Udp, 8 + len, 64);
    let mut out = vec![0; 14 + ip.header_len() + 8 + len];
    let mut frame = EthernetFrame::new_unchecked(&mut out[..]);
    frame.set_src_addr(EthernetAddress(PEER_MAC));
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    ip.emit(&mut out[14..], &ChecksumCapabilities::default());
    let mut udp = UdpPacket::new_unchecked(&mut out[34..]);
    udp.set_src_port(67);
    udp.set_dst_port(68);
    udp.set_len(8 + len as u16);
    answer
        .emit(&mut DhcpPacket::new_unchecked(udp.payload_mut()))
        .unwrap();
    udp.fill_checksum(&PEER.into(), &broadcast.into());
    Some(out)
}

/// A router's advertisement of 2001:db8::/64.
fn advertisement() -> Vec<u8> {
    let from = link_local(PEER_MAC).address();
    let to = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let lifetime = Duration::from_secs(1800);
    let repr = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: lifetime,
        reachable_time: Duration::from_secs(0),
        retrans_time: Duration::from_secs(0),
        lladdr: Some(EthernetAddress(PEER_MAC).into()),
        mtu: None,
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len: 64,
            flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
            valid_lifetime: lifetime,
            preferred_lifetime: lifetime,
            prefix: Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        }),
    });
    let len = repr.buffer_len();
    let ip = IpRepr::new(from.into(), to.into(), IpProtocol::Icmpv6, len, 255);
    let mut out = vec![0; 14 + ip.header_len() + len];
    let mut frame = EthernetFrame::new_unchecked(&mut out[..]);
    frame.set_src_addr(EthernetAddress(PEER_MAC));
    frame.set_dst_addr(EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
    frame.set_ethertype(EthernetProtocol::Ipv6);
    let caps = ChecksumCapabilities::default();
    ip.emit(&mut out[14..], &caps);
    let mut packet = Icmpv6Packet::new_unchecked(&mut out[54..]);
    repr.emit(&from, &to, &mut packet, &caps);
    out
}

pub(super) fn name(addr: Ipv4Address, port: u16) -> Vec<u8> {
    write_name(
        Family::V4,
        Name {
            addr: Some(addr.into()),
            port,
            scope: 0,
        },
    )
}

pub(super) const OWNER: Owner = Owner { uid: 0 };

pub(super) fn open(file: Arc<dyn File>) -> Arc<OpenFile> {
    OpenFile::new(file, crate::abi::O_RDWR | crate::abi::O_NONBLOCK)
}

pub(super) fn socket(of: &OpenFile) -> &dyn Socket {
    of_file(&*of.file).unwrap()
}

fn stream_buffer() -> tcp::SocketBuffer {
    tcp::SocketBuffer::new(20_000)
}

fn udp_buffer() -> udp::PacketBuffer<'static> {
    udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 8000])
}

/// For tests that rely on the packet filter's rules, which are the machine's.
pub(super) static RULES: StdMutex<()> = StdMutex::new(());

/// One test, because the interfaces are the machine's.
#[test]
fn a_card_gets_a_lease_and_talks() {
    let _alone = RULES.lock().unwrap();
    filter::start(true);
    let mut pair = Pair::with_lease();
    let netif = pair.netif.clone();
    let config = netif.config();
    assert_eq!(config.source(PEER.into()), Some(OURS.into()));
    assert_eq!(config.reaches(Ipv4Address::new(1, 1, 1, 1).into()), Some(0));
    assert_eq!(config.dns, [IpAddress::v4(10, 9, 0, 3)]);

    // A router's prefix gives an address and a way out.
    pair.cable.to_us.lock().unwrap().push_back(advertisement());
    let learned = "2001:db8::ff:fe00:1".parse::<IpAddress>().unwrap();
    pair.until(|_| netif.config().has(learned).then_some(()));
    let far = "2001:db8:1::1".parse::<IpAddress>().unwrap();
    assert_eq!(netif.config().reaches(far), Some(0));
    assert_eq!(netif.config().source(far), Some(learned));
    assert!(netif.config().has(OURS.into()));

    // A connection out: the neighbour is asked for first.
    let mut listening = tcp::Socket::new(stream_buffer(), stream_buffer());
    listening.listen(7000).unwrap();
    let handle = pair.sockets.add(listening);
    let client = open(TcpSocket::new(Family::V4, OWNER));
    let connected = socket(&client).connect(&client, &name(PEER, 7000));
    assert_eq!(connected, Err(Errno::EINPROGRESS));
    pair.until(|set| set.get::<tcp::Socket>(handle).may_send().then_some(()));
    let data: Vec<u8> = (0..200_000u32).map(|i| (i >> 2) as u8).collect();
    let (mut sent, mut back) = (0, Vec::new());
    pair.until(|set| {
        let mut src = IoSource::kernel(&data[sent..]);
        match client.write(&mut src) {
            Ok(n) => sent += n,
            Err(e) => assert!(e == Errno::EAGAIN || sent == data.len(), "{e:?}"),
        }
        let peer = set.get_mut::<tcp::Socket>(handle);
        while peer.can_recv() && peer.send_capacity() > peer.send_queue() {
            let room = peer.send_capacity() - peer.send_queue();
            let mut bytes = vec![0; room];
            let n = peer.recv_slice(&mut bytes).unwrap();
            peer.send_slice(&bytes[..n]).unwrap();
        }
        let mut buf = [0; 4096];
        while let Ok(n) = client.read(&mut IoDest::kernel(&mut buf)) {
            if n == 0 {
                break;
            }
            back.extend_from_slice(&buf[..n]);
        }
        (back.len() == data.len()).then_some(())
    });
    assert!(back == data);
    drop(client);
    pair.until(|set| {
        let peer = set.get_mut::<tcp::Socket>(handle);
        peer.close();
        (!peer.is_open() || peer.state() == tcp::State::Closed).then_some(())
    });

    // Datagrams, and what the packet filter says of them.
    let mut answering = udp::Socket::new(udp_buffer(), udp_buffer());
    answering.bind(7001).unwrap();
    let handle = pair.sockets.add(answering);
    let asking = open(DatagramSocket::new(Family::V4, Takes::Udp, OWNER));
    let to = name(PEER, 7001);
    let with = Outgoing {
        address: Some(&to),
        ..Outgoing::default()
    };
    let mut question = IoSource::kernel(b"question");
    socket(&asking)
        .send(&asking, &mut question, MsgFlags::default(), with)
        .unwrap();
    pair.until(|set| {
        let peer = set.get_mut::<udp::Socket>(handle);
        let (bytes, from) = peer.recv().ok()?;
        assert_eq!(bytes, b"question");
        let from = from.endpoint;
        peer.send_slice(b"answer", from).unwrap();
        Some(())
    });
    let mut buf = [0; 16];
    let n = pair.until(|_| asking.read(&mut IoDest::kernel(&mut buf)).ok());
    assert_eq!(&buf[..n], b"answer");

    // Nobody but SSH is let in.
    let refused = incoming(&mut pair, 7002);
    assert_eq!(refused, tcp::State::SynSent);
    let server = open(TcpSocket::new(Family::V4, OWNER));
    socket(&server).bind(&name(OURS, 22)).unwrap();
    socket(&server).listen(1).unwrap();
    assert_eq!(incoming(&mut pair, 22), tcp::State::Established);
    assert!(socket(&server).accept(&server).is_ok());

    // A rule that rejects answers with a reset; one that denies is silent; and a text that is
    // wrong changes nothing.
    let rules = RuleSet::parse("allow tcp 22\nreject tcp 7003").unwrap();
    filter::install(rules);
    assert_eq!(incoming(&mut pair, 7003), tcp::State::Closed);
    assert_eq!(incoming(&mut pair, 7004), tcp::State::SynSent);
    assert!(filter::show().contains("in reject tcp 7003 # packets 1 "));

    // What programs send is judged, too.
    filter::install(RuleSet::parse("out deny tcp 9\nout reject tcp 10\nout deny udp").unwrap());
    for (port, error) in [(9, Errno::EPERM), (10, Errno::ECONNREFUSED)] {
        let client = open(TcpSocket::new(Family::V4, OWNER));
        let got = socket(&client).connect(&client, &name(PEER, port));
        assert_eq!(got, Err(error));
    }
    let with = Outgoing {
        address: Some(&to),
        ..Outgoing::default()
    };
    let got = socket(&asking).send(
        &asking,
        &mut IoSource::kernel(b"x"),
        MsgFlags::default(),
        with,
    );
    assert_eq!(got, Err(Errno::EPERM));
    filter::install(RuleSet::parse("default in allow\ndefault out allow").unwrap());
    groups(&mut pair);
    marks(&mut pair);
    reports(&pair);
    filter::start(true);
}

/// What this machine itself finds wrong with a datagram: it is too long, or nobody is there.
fn reports(pair: &Pair) {
    let asks = open(DatagramSocket::new(Family::V4, Takes::Udp, OWNER));
    for (option, value) in [(uapi::IP_RECVERR, 1u32), (uapi::IP_MTU_DISCOVER, 2)] {
        let value = value.to_ne_bytes();
        socket(&asks).set_option(0, option, &value).unwrap();
    }
    let to = name(PEER, 7012);
    let send = |bytes: &[u8]| {
        let with = Outgoing {
            address: Some(&to),
            ..Outgoing::default()
        };
        let mut src = IoSource::kernel(bytes);
        socket(&asks).send(&asks, &mut src, MsgFlags::default(), with)
    };
    // Errno, origin, type, code and info of the oldest report, and the sender of the error.
    let report = || {
        let flags = MsgFlags {
            errors: true,
            ..MsgFlags::default()
        };
        let mut buf = [0; 16];
        let got = socket(&asks).receive(&asks, &mut IoDest::kernel(&mut buf), flags)?;
        assert!(got.is_error && got.address == to);
        let (level, kind, data) = got.control.into_iter().next_back().unwrap();
        assert_eq!((level, kind, data.len()), (0, uapi::IP_RECVERR, 32));
        Ok::<_, Errno>((
            data[0],
            data[4],
            data[5],
            data[6],
            data[8..10].to_vec(),
            data[20..24].to_vec(),
        ))
    };
    assert_eq!(send(&[0; 2000]), Err(Errno::EMSGSIZE));
    let mtu = 1500u16.to_ne_bytes().to_vec();
    assert_eq!(report(), Ok((90, 1, 0, 0, mtu, vec![0; 4])));
    assert_eq!(report(), Err(Errno::EAGAIN));
    // As when the neighbour did not answer.
    pair.cable.to_peer.lock().unwrap().clear();
    assert_eq!(send(b"hello"), Ok(5));
    let frame = pair.cable.to_peer.lock().unwrap().pop_back().unwrap();
    pair.netif.unreachable(&Packet::from_vec(frame));
    let own = OURS.octets().to_vec();
    assert_eq!(report(), Ok((113, 2, 3, 1, vec![0; 2], own)));
    assert_eq!(report(), Err(Errno::EAGAIN));
}

/// What TCP sends, a reset included, has the type of service that its socket was given.
fn marks(pair: &mut Pair) {
    let client = open(TcpSocket::new(Family::V4, OWNER));
    socket(&client)
        .set_option(0, uapi::IP_TOS, &0x48u32.to_ne_bytes())
        .unwrap();
    let _ = socket(&client).connect(&client, &name(PEER, 7010));
    let seen = |pair: &Pair| -> Vec<u8> {
        let frames = core::mem::take(&mut *pair.cable.to_peer.lock().unwrap());
        let sound = frames.iter().filter_map(|f| parse_ip(f, 14));
        sound
            .filter(|h| h.protocol == IpProtocol::Tcp)
            .map(|h| h.traffic_class)
            .collect()
    };
    assert_eq!(seen(pair), [0x48]);
    let mut listening = tcp::Socket::new(stream_buffer(), stream_buffer());
    listening.listen(7011).unwrap();
    let handle = pair.sockets.add(listening);
    let other = open(TcpSocket::new(Family::V4, OWNER));
    let _ = socket(&other).connect(&other, &name(PEER, 7011));
    pair.until(|set| set.get::<tcp::Socket>(handle).may_send().then_some(()));
    seen(pair);
    let on = [1u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat();
    socket(&other)
        .set_option(0, uapi::IP_TOS, &0x20u32.to_ne_bytes())
        .unwrap();
    socket(&other)
        .set_option(uapi::SOL_SOCKET, uapi::SO_LINGER, &on)
        .unwrap();
    drop(other);
    assert_eq!(seen(pair), [0x20]);
}

/// A socket joins a group: routers are told, it hears what comes and what is sent here.
fn groups(pair: &mut Pair) {
    let group = Ipv4Address::new(239, 5, 5, 5);
    let index = pair.netif.index.to_ne_bytes();
    let request = [&group.octets()[..], &[0; 4], &index].concat();
    let hears = open(DatagramSocket::new(Family::V4, Takes::Udp, OWNER));
    socket(&hears).bind(&name(group, 7005)).unwrap();
    let mut sending = udp::Socket::new(udp_buffer(), udp_buffer());
    sending.bind(7006).unwrap();
    let handle = pair.sockets.add(sending);
    let from_peer = |pair: &mut Pair| {
        let peer = pair.sockets.get_mut::<udp::Socket>(handle);
        peer.send_slice(b"peer", (group, 7005)).unwrap();
        let mut turns = 0;
        pair.until(|_| {
            turns += 1;
            let got = hears.read(&mut IoDest::kernel(&mut [0; 8]));
            (got.is_ok() || turns > 200).then_some(got)
        })
    };
    assert_eq!(from_peer(pair), Err(Errno::EAGAIN));
    // IGMP version 2: a report to the group, a goodbye to the routers (RFC 2236, 2.1).
    let told = |pair: &mut Pair, kind: u8| {
        for _ in 0..1000 {
            pair.netif.work();
            let frames = core::mem::take(&mut *pair.cable.to_peer.lock().unwrap());
            let told = frames.iter().any(|f| {
                let ip = f.get(14..).and_then(|ip| Ipv4Packet::new_checked(ip).ok());
                ip.is_some_and(|ip| {
                    ip.next_header() == IpProtocol::Igmp
                        && ip.payload()[0] == kind
                        && ip.payload()[4..8] == group.octets()
                })
            });
            if told {
                return true;
            }
        }
        false
    };
    let (level, join, leave) = (0, uapi::IP_ADD_MEMBERSHIP, uapi::IP_DROP_MEMBERSHIP);
    socket(&hears).set_option(level, join, &request).unwrap();
    assert!(told(pair, 0x16));
    assert_eq!(from_peer(pair), Ok(4));
    // What this machine sends comes back, too, unless it is told not to.
    let sends = open(DatagramSocket::new(Family::V4, Takes::Udp, OWNER));
    let through = [&[0; 8][..], &index].concat();
    socket(&sends)
        .set_option(level, uapi::IP_MULTICAST_IF, &through)
        .unwrap();
    for (loops, expected) in [(1, Ok(3)), (0, Err(Errno::EAGAIN))] {
        socket(&sends)
            .set_option(level, uapi::IP_MULTICAST_LOOP, &[loops])
            .unwrap();
        let to = name(group, 7005);
        let with = Outgoing {
            address: Some(&to),
            ..Outgoing::default()
        };
        let mut src = IoSource::kernel(b"own");
        let sent = socket(&sends).send(&sends, &mut src, MsgFlags::default(), with);
        assert_eq!(sent, Ok(3));
        assert_eq!(hears.read(&mut IoDest::kernel(&mut [0; 8])), expected);
    }
    socket(&hears).set_option(level, leave, &request).unwrap();
    assert!(told(pair, 0x17));
    assert_eq!(from_peer(pair), Err(Errno::EAGAIN));
}

/// What becomes of the peer's connection to our `port`.
fn incoming(pair: &mut Pair, port: u16) -> tcp::State {
    let mut dialing = tcp::Socket::new(stream_buffer(), stream_buffer());
    let local = IpListenEndpoint::from(40_000 + port);
    dialing
        .connect(pair.peer.context(), (OURS, port), local)
        .unwrap();
    let handle = pair.sockets.add(dialing);
    let mut turns = 0;
    pair.until(|set| {
        turns += 1;
        let state = set.get::<tcp::Socket>(handle).state();
        (turns > 200 || state != tcp::State::SynSent).then_some(state)
    })
}

/// Interfaces are made on a kernel stack of 32 KiB before they move to the heap, maybe with
/// a copy.
#[test]
fn an_interface_fits_the_stack() {
    println!("{} bytes", size_of::<Interface>());
    assert!(size_of::<Interface>() <= 10 * 1024);
}
