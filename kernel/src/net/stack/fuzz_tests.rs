//! Damaged and hostile frames, many of them, always the same ones: nothing panics, smoltcp's
//! own assertions included, what is kept stays bounded, and a connection goes on.

use std::sync::Mutex as StdMutex;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Address,
    Ipv4Packet, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    UdpPacket,
};

use super::*;
use crate::file::OpenFile;
use crate::net::device::Offloads;
use crate::net::device::{Events, Packet};
use crate::net::inet::{Family, Name, Owner, tcp::TcpSocket, write_name};
use crate::net::{filter, of_file};

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 2];
const OURS: Ipv4Address = Ipv4Address::new(10, 99, 0, 15);
const PEER: Ipv4Address = Ipv4Address::new(10, 99, 0, 2);
const PORT: u16 = 22;

/// Numbers that are the same in every run (xorshift).
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed)
    }
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// A card whose sent frames are kept for the test.
#[derive(Default)]
struct Card(StdMutex<Vec<Vec<u8>>>);

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
        true
    }
    fn transmit(&self, packet: Packet) -> core::result::Result<(), Packet> {
        self.0.lock().unwrap().push(packet.bytes().to_vec());
        Ok(())
    }
    fn flush(&self) {}
    fn receive(&self) -> Option<Packet> {
        None
    }
    fn enable_events(&self) -> bool {
        false
    }
}

fn frame(ethertype: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 14 + payload.len()];
    let mut f = EthernetFrame::new_unchecked(&mut out[..]);
    f.set_src_addr(EthernetAddress(PEER_MAC));
    f.set_dst_addr(EthernetAddress(OUR_MAC));
    f.set_ethertype(ethertype);
    f.payload_mut().copy_from_slice(payload);
    out
}

fn ip(protocol: IpProtocol, v6: bool, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ends(v6);
    let repr = IpRepr::new(from, to, protocol, payload.len(), 255);
    let mut out = vec![0; repr.header_len() + payload.len()];
    repr.emit(&mut out[..], &ChecksumCapabilities::default());
    let n = repr.header_len();
    out[n..].copy_from_slice(payload);
    let ethertype = if v6 {
        EthernetProtocol::Ipv6
    } else {
        EthernetProtocol::Ipv4
    };
    frame(ethertype, &out)
}

fn ends(v6: bool) -> (IpAddress, IpAddress) {
    if v6 {
        (
            link_local(PEER_MAC).address().into(),
            link_local(OUR_MAC).address().into(),
        )
    } else {
        (PEER.into(), OURS.into())
    }
}

fn tcp(
    v6: bool,
    from_port: u16,
    control: TcpControl,
    seq: i32,
    ack: Option<i32>,
    data: &[u8],
) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: from_port,
        dst_port: PORT,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: ack.map(TcpSeqNumber),
        window_len: 4000,
        window_scale: (control == TcpControl::Syn).then_some(3),
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: control == TcpControl::Syn,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: data,
        rest: None,
    };
    let (from, to) = ends(v6);
    let mut out = vec![0; repr.buffer_len()];
    repr.emit(
        &mut TcpPacket::new_unchecked(&mut out[..]),
        &from,
        &to,
        &ChecksumCapabilities::default(),
    );
    ip(IpProtocol::Tcp, v6, &out)
}

fn udp(v6: bool, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8 + data.len()];
    let mut p = UdpPacket::new_unchecked(&mut out[..]);
    p.set_src_port(ports.0);
    p.set_dst_port(ports.1);
    p.set_len(8 + data.len() as u16);
    p.payload_mut().copy_from_slice(data);
    let (from, to) = ends(v6);
    p.fill_checksum(&from, &to);
    ip(IpProtocol::Udp, v6, &out)
}

/// Sound frames of every kind, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    let caps = ChecksumCapabilities::default();
    let mut out = Vec::new();
    for v6 in [false, true] {
        for (control, ack) in [
            (TcpControl::Syn, None),
            (TcpControl::Syn, Some(5)),
            (TcpControl::None, Some(1)),
            (TcpControl::Fin, Some(1)),
            (TcpControl::Rst, None),
        ] {
            out.push(tcp(v6, 4000, control, 1000, ack, b""));
            out.push(tcp(v6, 4001, control, 1000, ack, &[7; 100]));
        }
        out.push(udp(v6, (9, 9), b"nobody is there"));
        out.push(udp(v6, (67, 68), &[1; 300]));
        let whole = udp(v6, (5, 6), &[3; 3000]);
        let ethertype = if v6 {
            EthernetProtocol::Ipv6
        } else {
            EthernetProtocol::Ipv4
        };
        fragment::cut(&whole[14..], 1500, 77, |h, p| {
            out.push(frame(ethertype, &[h, p].concat()));
        });
    }
    let echo = Icmpv4Repr::EchoRequest {
        ident: 1,
        seq_no: 2,
        data: b"echo",
    };
    let mut bytes = vec![0; echo.buffer_len()];
    echo.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &caps);
    out.push(ip(IpProtocol::Icmp, false, &bytes));
    let (IpAddress::Ipv6(from), IpAddress::Ipv6(to)) = ends(true) else {
        unreachable!()
    };
    for repr in [
        NdiscRepr::NeighborSolicit {
            target_addr: to,
            lladdr: Some(EthernetAddress(PEER_MAC).into()),
        },
        NdiscRepr::NeighborAdvert {
            flags: NdiscNeighborFlags::SOLICITED,
            target_addr: from,
            lladdr: Some(EthernetAddress(PEER_MAC).into()),
        },
    ] {
        let repr = Icmpv6Repr::Ndisc(repr);
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(
            &from,
            &to,
            &mut Icmpv6Packet::new_unchecked(&mut bytes[..]),
            &caps,
        );
        out.push(ip(IpProtocol::Icmpv6, true, &bytes));
    }
    for operation in [ArpOperation::Request, ArpOperation::Reply] {
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(PEER_MAC),
            source_protocol_addr: PEER,
            target_hardware_addr: EthernetAddress(OUR_MAC),
            target_protocol_addr: OURS,
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        out.push(frame(EthernetProtocol::Arp, &bytes));
    }
    out
}

/// Repairs the IPv4 header's checksum, so that damage behind it is seen at all.
fn repair(frame: &mut [u8]) {
    if frame.len() >= 34 && frame[14] >> 4 == 4 {
        let header = usize::from(frame[14] & 15) * 4;
        if header >= 20 && frame.len() >= 14 + header {
            Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        }
    }
}

struct Machine {
    netif: Arc<Netif>,
    card: Arc<Card>,
}

impl Machine {
    fn give(&self, frame: &[u8], vouched: bool) {
        let mut packet = Packet::from_vec(frame.to_vec());
        packet.checksum_ok = vouched;
        let mut touched = 0;
        self.netif.input(packet, &mut touched);
        for shard in &self.netif.shards {
            shard.serve(&self.netif);
        }
    }
    /// What was sent that is TCP to this port: sequence and acknowledgement number.
    fn answers(&self, port: u16) -> Vec<(i32, i32)> {
        let frames = core::mem::take(&mut *self.card.0.lock().unwrap());
        let tcp = frames.iter().filter_map(|f| {
            let headers = parse_ip(f, 14)?;
            let p = TcpPacket::new_checked(&f[headers.payload.0..headers.payload.1]).ok()?;
            (headers.protocol == IpProtocol::Tcp && p.dst_port() == port)
                .then(|| (p.seq_number().0, p.ack_number().0))
        });
        tcp.collect()
    }
}

#[test]
fn hostile_frames_are_harmless() {
    let _alone = super::wire_tests::RULES.lock().unwrap();
    filter::start(true);
    start_once();
    let card = Arc::new(Card::default());
    let netif = attach(card.clone()).unwrap();
    netif.change_config(|c| {
        c.is_up = true;
        c.addresses.push(IpCidr::new(OURS.into(), 24));
        c.addresses.push(IpCidr::Ipv6(link_local(OUR_MAC)));
    });
    let m = Machine { netif, card };
    let any = |addr| Name {
        addr: Some(addr),
        port: PORT,
        scope: 0,
    };
    let server = OpenFile::new(
        TcpSocket::new(Family::V4, Owner { uid: 0 }),
        crate::abi::O_NONBLOCK,
    );
    let socket = of_file(&*server.file).unwrap();
    socket
        .bind(&write_name(Family::V4, any(OURS.into())))
        .unwrap();
    socket.listen(8).unwrap();
    let seeds = seeds();
    for seed in &seeds {
        m.give(seed, true);
    }
    // A connection that lives through all of it.
    m.give(&tcp(false, 5000, TcpControl::Syn, 100, None, b""), true);
    // It asked who that is.
    if let Some(reply) = seeds.last() {
        m.give(reply, true);
    }
    let (seq, ack) = m.answers(5000)[0];
    assert_eq!(ack, 101);
    let own = seq.wrapping_add(1);
    m.give(
        &tcp(false, 5000, TcpControl::None, 101, Some(own), b""),
        true,
    );
    let mut rng = Rng::new(0x0b0c_0d0e);
    for round in 0..20_000u32 {
        let mut frame = if round % 3 == 0 {
            // Into the connection: any position, any flags.
            let at = 101i32.wrapping_add(rng.below(9000) as i32 - 300);
            let len = rng.below(1400);
            let ack = own.wrapping_add(rng.below(5) as i32 - 2);
            let control = [TcpControl::None, TcpControl::Psh][rng.below(2)];
            tcp(false, 5001, control, at, Some(ack), &vec![0; len])
        } else {
            seeds[rng.below(seeds.len())].clone()
        };
        for _ in 0..1 + rng.below(6) {
            // The destination's hardware address stays: a card would not let it through.
            let at = 12 + rng.below(frame.len() - 12);
            match rng.below(3) {
                0 => frame[at] = rng.below(256) as u8,
                1 => frame[at] ^= 1 << rng.below(8),
                _ => frame[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            }
        }
        match rng.below(8) {
            0 => frame.truncate(rng.below(frame.len())),
            1 => frame.extend_from_slice(&[0x55; 40]),
            _ => {}
        }
        if rng.below(4) != 0 {
            repair(&mut frame);
        }
        m.give(&frame, rng.below(4) != 0);
        m.card.0.lock().unwrap().truncate(100);
    }
    assert!(m.netif.nr_flows() < 2000, "{}", m.netif.nr_flows());
    assert!(m.netif.neighbours().len() <= 512);
    // The connection is still there.
    m.answers(5000);
    m.give(
        &tcp(false, 5000, TcpControl::Psh, 101, Some(own), b"alive"),
        true,
    );
    let peer = loop {
        let (file, peer) = socket.accept(&server).unwrap();
        if peer[2..4] == 5000u16.to_be_bytes() {
            break OpenFile::new(file, crate::abi::O_NONBLOCK);
        }
    };
    let mut buf = [0; 16];
    let n = peer.read(&mut crate::vm::IoDest::kernel(&mut buf)).unwrap();
    assert_eq!(&buf[..n], b"alive");
}

/// A flood of first segments: half-open connections are bounded, and whoever completes the
/// handshake gets in.
#[test]
fn a_flood_of_syns_leaves_others_alone() {
    start_once();
    let server = OpenFile::new(
        TcpSocket::new(Family::V4, Owner { uid: 0 }),
        crate::abi::O_NONBLOCK,
    );
    let socket = of_file(&*server.file).unwrap();
    let name = Name {
        addr: Some(IpAddress::v4(127, 0, 0, 1)),
        port: 0,
        scope: 0,
    };
    socket.bind(&write_name(Family::V4, name)).unwrap();
    socket.listen(100).unwrap();
    let to = socket.local_address().unwrap();
    let port = u16::from_be_bytes([to[2], to[3]]);
    let lo = by_index(1).unwrap();
    let before = lo.nr_flows();
    for i in 0..5000u32 {
        // From addresses that do not answer.
        let from = IpAddress::Ipv4((0x0a63_0100u32 + (i >> 8)).into());
        let repr = TcpRepr {
            src_port: 1024 + (i & 0xff) as u16,
            dst_port: port,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(i as i32),
            ack_number: None,
            window_len: 1000,
            window_scale: None,
            max_seg_size: Some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: b"",
            rest: None,
        };
        let own = IpAddress::v4(127, 0, 0, 1);
        let ip = IpRepr::new(from, own, IpProtocol::Tcp, repr.buffer_len(), 64);
        let mut packet = lo.packet(ip.header_len() + repr.buffer_len()).unwrap();
        let bytes = packet.bytes_mut();
        let caps = ChecksumCapabilities::default();
        ip.emit(&mut *bytes, &caps);
        let mut segment = TcpPacket::new_unchecked(&mut bytes[ip.header_len()..]);
        repr.emit(&mut segment, &from, &own, &caps);
        // What it answers goes nowhere: nobody has that address.
        lo.send_packet(packet, false).unwrap();
        assert!(lo.nr_flows() - before < 1500);
    }
    let client = OpenFile::new(
        TcpSocket::new(Family::V4, Owner { uid: 0 }),
        crate::abi::O_RDWR,
    );
    of_file(&*client.file)
        .unwrap()
        .connect(&client, &to)
        .unwrap();
    assert!(socket.accept(&server).is_ok());
}
