//! The TCP socket against segments made by hand: what its peer may send although the window
//! that was announced last does not show it.

use std::collections::VecDeque;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::{
    IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::connections::new_tcp;
use super::*;

const PEER: Ipv4Address = Ipv4Address::new(10, 7, 0, 2);
const OURS: Ipv4Address = Ipv4Address::new(10, 7, 0, 1);
/// Announced in units of four.
const LIMIT: usize = 128 << 10;
const FIRST: TcpSeqNumber = TcpSeqNumber(1000);

#[derive(Default)]
struct Queues {
    to_us: VecDeque<Vec<u8>>,
    to_peer: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}
impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> Option<R> {
        let mut packet = vec![0; len];
        let r = f(&mut packet);
        self.0.push_back(packet);
        Some(r)
    }
}
impl phy::Device for Queues {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;
    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.to_us.pop_front()?), Tx(&mut self.to_peer)))
    }
    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.to_peer))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = 1500;
        caps
    }
}

/// A listening socket and its peer.
struct Wire {
    device: Queues,
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    now: Instant,
    /// What the peer sends next.
    next: TcpSeqNumber,
    /// Our socket's number that the peer acknowledges.
    acknowledged: Option<TcpSeqNumber>,
}

impl Wire {
    /// With a connection.
    fn new() -> Wire {
        let mut device = Queues::default();
        let config = iface::Config::new(HardwareAddress::Ip);
        let mut iface = Interface::new(config, &mut device, Instant::from_millis(0));
        iface.update_ip_addrs(|a| {
            let _ = a.push(IpCidr::new(OURS.into(), 24));
        });
        let mut socket = new_tcp((LIMIT, LIMIT));
        socket.listen(80).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let mut wire = Wire {
            device,
            iface,
            sockets,
            handle,
            now: Instant::from_millis(0),
            next: FIRST,
            acknowledged: None,
        };
        let ours = wire.send(TcpControl::Syn, &[]).unwrap().0;
        wire.acknowledged = Some(ours + 1);
        wire.next += 1;
        wire.send(TcpControl::None, &[]);
        wire
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// A segment from the peer; what is said to the last of all there were, 50 ms later:
    /// number, acknowledgement, and the end of the window.
    fn send(
        &mut self,
        control: TcpControl,
        payload: &[u8],
    ) -> Option<(TcpSeqNumber, TcpSeqNumber, TcpSeqNumber)> {
        let tcp = TcpRepr {
            src_port: 4000,
            dst_port: 80,
            control,
            seq_number: self.next,
            ack_number: self.acknowledged,
            window_len: 60000,
            window_scale: (control == TcpControl::Syn).then_some(0),
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None, None, None],
            timestamp: None,
            payload,
            rest: None,
        };
        let ip = Ipv4Repr {
            src_addr: PEER,
            dst_addr: OURS,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let caps = smoltcp::phy::ChecksumCapabilities::default();
        let mut packet = vec![0; ip.buffer_len() + tcp.buffer_len()];
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &caps);
        let mut segment = TcpPacket::new_unchecked(&mut packet[ip.buffer_len()..]);
        tcp.emit(&mut segment, &PEER.into(), &OURS.into(), &caps);
        self.device.to_us.push_back(packet);
        for _ in 0..2 {
            self.iface
                .poll(self.now, &mut self.device, &mut self.sockets);
            self.now += Duration::from_millis(50);
        }
        let answer = self.device.to_peer.drain(..).next_back()?;
        let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        let scale = if tcp.syn() { 0 } else { 2 };
        let end = tcp.ack_number() + (usize::from(tcp.window_len()) << scale);
        Some((tcp.seq_number(), tcp.ack_number(), end))
    }

    /// A segment with data; whether the peer hears that all was taken, and the window's end.
    fn data(&mut self, control: TcpControl, payload: &[u8]) -> (bool, TcpSeqNumber) {
        let after = self.next + payload.len();
        let (_, ack, end) = self.send(control, payload).unwrap();
        self.next = after;
        (ack >= after, end)
    }
}

/// The last octets are beyond the end of the window announced last, which the scale made end
/// before the one announced earlier.
#[test]
fn a_window_that_was_announced_stays_open() {
    let mut wire = Wire::new();
    let (_, early) = wire.data(TcpControl::None, &[1; 4]);
    let (_, late) = wire.data(TcpControl::None, &[2; 1]);
    assert_eq!(early, FIRST + 1 + LIMIT);
    assert_eq!(late + 3, early);
    let mut left = LIMIT - 5;
    while left > 1000 {
        assert!(wire.data(TcpControl::None, &[3; 1000]).0);
        left -= 1000;
    }
    assert!(wire.data(TcpControl::Fin, &vec![4; left]).0);
    assert_eq!(wire.socket().recv_queue(), LIMIT);
    assert!(wire.socket().state() == tcp::State::CloseWait);
}

/// More than fits comes, with the end of the stream behind it: the end waits for the rest.
#[test]
fn an_end_counts_with_all_that_is_before_it() {
    let mut wire = Wire::new();
    let mut left = LIMIT - 100;
    while left > 0 {
        let n = left.min(1000);
        assert!(wire.data(TcpControl::None, &[3; 1000][..n]).0);
        left -= n;
    }
    let start = wire.next;
    assert!(!wire.data(TcpControl::Fin, &[4; 107]).0);
    assert!(wire.socket().state() == tcp::State::Established);
    assert_eq!(wire.socket().recv_queue(), LIMIT);
    let mut read = vec![0; LIMIT];
    assert_eq!(wire.socket().recv_slice(&mut read), Ok(LIMIT));
    wire.next = start;
    assert!(wire.data(TcpControl::Fin, &[4; 107]).0);
    assert!(wire.socket().state() == tcp::State::CloseWait);
    assert_eq!(wire.socket().recv_slice(&mut read), Ok(7));
    assert!(!wire.socket().may_recv());
}
