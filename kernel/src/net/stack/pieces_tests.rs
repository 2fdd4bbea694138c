//! Connections through a card on a machine in trouble: its memory has single pages and no larger
//! blocks, as page cache leaves it, or it stood still for a while.

use smoltcp::socket::tcp;

use super::wire_tests::{OWNER, PEER, Pair, RULES, name, open, socket};
use super::*;
use crate::error::Errno;
use crate::mm::pieces::in_pieces;
use crate::net::filter;
use crate::net::inet::Family;
use crate::net::inet::tcp::TcpSocket;
use crate::net::{MsgFlags, Outgoing};
use crate::vm::{IoDest, IoSource};

/// A connection moves data both ways at full windows though there are only pages: nothing is
/// lost on the way, no write takes nothing, and no byte is left out.
#[test]
fn a_connection_goes_on_in_pieces() {
    let _alone = RULES.lock().unwrap();
    filter::start(false);
    let mut pair = Pair::with_lease();
    let netif = pair.netif.clone();

    let lost = || {
        netif.counters.rx_dropped.load(Ordering::Relaxed)
            + netif.counters.tx_dropped.load(Ordering::Relaxed)
    };
    let before = lost();

    let peer_buffer = || tcp::SocketBuffer::new(512 * 1024);
    let mut listening = tcp::Socket::new(peer_buffer(), peer_buffer());
    listening.listen(7100).unwrap();
    let handle = pair.sockets.add(listening);
    let client = open(TcpSocket::new(Family::V4, OWNER));
    let connected = socket(&client).connect(&client, &name(PEER, 7100));
    assert_eq!(connected, Err(Errno::EINPROGRESS));
    pair.until(|set| set.get::<tcp::Socket>(handle).may_send().then_some(()));

    let data: Vec<u8> = (0..700_000u32).map(|i| ((i * 13) >> 3) as u8).collect();
    let (mut given, mut got) = (0, Vec::new());
    let (mut sent, mut arrived) = (0, Vec::new());
    let mut buf = vec![0; 300_000];
    let mut turns = 0u32;
    pair.until_in_pieces(|set| {
        let peer = set.get_mut::<tcp::Socket>(handle);
        given += peer.send_slice(&data[given..]).unwrap();
        while peer.can_recv() {
            peer.recv(|b| {
                arrived.extend_from_slice(b);
                (b.len(), ())
            })
            .unwrap();
        }
        // In one call what takes several looks at the stack.
        let end = data.len().min(sent + 300_000);
        let mut src = IoSource::kernel(&data[sent..end]);
        let flags = MsgFlags {
            nonblocking: true,
            ..MsgFlags::default()
        };
        let put = in_pieces(|| socket(&client).send(&client, &mut src, flags, Outgoing::default()));
        match put {
            Ok(n) => {
                assert!(n > 0 || sent == data.len());
                sent += n;
            }
            Err(e) => assert_eq!(e, Errno::EAGAIN),
        }
        // What comes is read late, so that the buffer fills.
        turns += 1;
        if turns.is_multiple_of(100) {
            let read = in_pieces(|| client.read(&mut IoDest::kernel(&mut buf)));
            match read {
                Ok(n) => got.extend_from_slice(&buf[..n]),
                Err(e) => assert_eq!(e, Errno::EAGAIN),
            }
        }
        (got.len() == data.len() && arrived.len() == data.len()).then_some(())
    });
    assert!(got == data);
    assert!(arrived == data);
    assert_eq!(lost() - before, 0);
    drop(client);
    filter::start(true);
}

/// The machine stood still for longer than the retransmission timer takes; an acknowledgement
/// came meanwhile. Nothing is sent again.
#[test]
fn acknowledgements_count_before_timers() {
    let _alone = RULES.lock().unwrap();
    filter::start(false);
    let mut pair = Pair::with_lease();
    let netif = pair.netif.clone();
    let buffer = || tcp::SocketBuffer::new(20_000);
    let mut listening = tcp::Socket::new(buffer(), buffer());
    listening.listen(7101).unwrap();
    let handle = pair.sockets.add(listening);
    let client = open(TcpSocket::new(Family::V4, OWNER));
    let connected = socket(&client).connect(&client, &name(PEER, 7101));
    assert_eq!(connected, Err(Errno::EINPROGRESS));
    pair.until(|set| set.get::<tcp::Socket>(handle).may_send().then_some(()));

    let data = [5; 1000];
    assert_eq!(client.write(&mut IoSource::kernel(&data)), Ok(data.len()));
    let shard = netif.shards.iter().find(|s| !s.keys.lock().is_empty());
    let shard = shard.unwrap();
    let id = *shard.keys.lock().values().next().unwrap();
    // Nobody gets at the connection until the timer is long due.
    let state = shard.state.lock();
    let start = std::time::Instant::now();
    pair.until(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        (start.elapsed().as_millis() > 1500).then_some(())
    });
    drop(state);
    let done = || netif.see_tcp(id, |s| (s.send_queue(), s.info(1500).counts.resent));
    pair.until(|_| done().is_ok_and(|(left, _)| left == 0).then_some(()));
    assert_eq!(done(), Ok((0, 0)));
    drop(client);
    filter::start(true);
}
