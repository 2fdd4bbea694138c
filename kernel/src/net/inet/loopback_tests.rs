//! The stack and its sockets over the loopback interface, on the host.

use std::thread;

use super::datagram::DatagramSocket;
use super::tcp::TcpSocket;
use super::*;
use crate::abi::net as uapi;
use crate::file::{OpenFile, PollEvents};
use crate::net::{MsgFlags, Outgoing, Shutdown, Socket, of_file};
use crate::vm::{IoDest, IoSource};

const O_NONBLOCK: u32 = crate::abi::O_NONBLOCK;
const OWNER: Owner = Owner { uid: 0 };

fn open(file: Arc<dyn File>, flags: u32) -> Arc<OpenFile> {
    OpenFile::new(file, crate::abi::O_RDWR | flags)
}

fn tcp_socket(family: Family, flags: u32) -> Arc<OpenFile> {
    stack::start_once();
    open(TcpSocket::new(family, OWNER), flags)
}

fn socket(of: &OpenFile) -> &dyn Socket {
    of_file(&*of.file).unwrap()
}

fn local(family: Family, port: u16) -> Vec<u8> {
    let addr = match family {
        Family::V4 => IpAddress::v4(127, 0, 0, 1),
        Family::V6 => IpAddress::Ipv6(Ipv6Address::LOCALHOST),
    };
    write_name(
        family,
        Name {
            addr: Some(addr),
            port,
            scope: 0,
        },
    )
}

fn listener(family: Family, backlog: i32) -> (Arc<OpenFile>, Vec<u8>) {
    let of = tcp_socket(family, 0);
    socket(&of).bind(&local(family, 0)).unwrap();
    socket(&of).listen(backlog).unwrap();
    let name = socket(&of).local_address().unwrap();
    (of, name)
}

fn accept(of: &OpenFile) -> Result<Arc<OpenFile>> {
    socket(of).accept(of).map(|(file, _)| open(file, 0))
}

fn poll(of: &OpenFile) -> PollEvents {
    of.file.poll(of, None)
}

#[test]
fn a_stream_carries_all_bytes_both_ways() {
    for family in [Family::V4, Family::V6] {
        let (server, name) = listener(family, 5);
        let echo = thread::spawn(move || {
            let peer = accept(&server).unwrap();
            let mut buf = vec![0; 30_000];
            loop {
                let n = peer.read(&mut IoDest::kernel(&mut buf)).unwrap();
                if n == 0 {
                    break;
                }
                let mut src = IoSource::kernel(&buf[..n]);
                assert_eq!(peer.write(&mut src).unwrap(), n);
            }
        });
        let client = tcp_socket(family, 0);
        socket(&client).connect(&client, &name).unwrap();
        assert_eq!(socket(&client).peer_address().unwrap(), name);
        let data: Vec<u8> = (0..1_500_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        let (writer, sent) = (client.clone(), data.clone());
        let writing = thread::spawn(move || {
            let mut src = IoSource::kernel(&sent);
            assert_eq!(writer.write(&mut src).unwrap(), sent.len());
            socket(&writer).shut_down(Shutdown::Write).unwrap();
            let again = writer.write(&mut IoSource::kernel(b"x"));
            assert_eq!(again, Err(Errno::EPIPE));
        });
        let mut back = vec![0; data.len()];
        let flags = MsgFlags {
            wait_all: true,
            ..MsgFlags::default()
        };
        let mut dst = IoDest::kernel(&mut back);
        let got = socket(&client).receive(&client, &mut dst, flags).unwrap();
        assert_eq!(got.len, data.len());
        assert!(back == data);
        writing.join().unwrap();
        echo.join().unwrap();
        let mut byte = [0];
        assert_eq!(client.read(&mut IoDest::kernel(&mut byte)), Ok(0));
        assert!(poll(&client).contains(PollEvents::IN | PollEvents::RDHUP | PollEvents::HUP));
    }
}

/// A stream of `len` bytes between two sockets, in the hands of this thread. `step` runs `f`
/// with the memory that there is in step `i`, one after the other, and says how it went on.
fn carry(len: usize, mut step: impl FnMut(usize, &mut dyn FnMut())) {
    let (server, name) = listener(Family::V4, 5);
    let client = tcp_socket(Family::V4, O_NONBLOCK);
    let connected = socket(&client).connect(&client, &name);
    assert!(connected.is_ok() || connected == Err(Errno::EINPROGRESS));
    let peer = accept(&server).unwrap();
    let data: Vec<u8> = (0..len as u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut got = vec![0; len];
    let (mut sent, mut read) = (0, 0);
    let flags = MsgFlags {
        nonblocking: true,
        ..MsgFlags::default()
    };
    let start = std::time::Instant::now();
    for i in 0.. {
        let before = (sent, read);
        step(i, &mut || {
            let end = len.min(sent + 100_000);
            if sent < end {
                let mut src = IoSource::kernel(&data[sent..end]);
                match socket(&client).send(&client, &mut src, flags, Outgoing::default()) {
                    Ok(n) => sent += n,
                    Err(e) => assert_eq!(e, Errno::EAGAIN),
                }
            }
            // Now and then the reader is late, so that buffers fill.
            if i % 8 < 3 {
                return;
            }
            let mut dst = IoDest::kernel(&mut got[read..]);
            match socket(&peer).receive(&peer, &mut dst, flags) {
                Ok(received) => read += received.len,
                Err(e) => assert_eq!(e, Errno::EAGAIN),
            }
        });
        if read == len {
            break;
        }
        if before == (sent, read) {
            // Timers run on another thread.
            thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(start.elapsed().as_secs() < 60, "{sent} sent, {read} read");
    }
    assert!(got == data);
}

/// Without blocks of more than a page nothing is lost, and nobody waits for a timer.
#[test]
fn a_stream_goes_on_in_pieces() {
    let start = std::time::Instant::now();
    carry(20_000_000, |_, f| crate::mm::pieces::in_pieces(f));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// Without memory for some time it stands still, and goes on when there is some.
#[test]
fn a_stream_survives_without_memory() {
    for least in [4096, 1500, 700] {
        carry(3_000_000, |i, f| {
            let has_none = i % 40 > 30;
            let largest = if has_none { least } else { usize::MAX };
            crate::mm::pieces::without_blocks_above(largest, f);
        });
    }
}

#[test]
fn nobody_listens() {
    let (server, name) = listener(Family::V4, 1);
    drop(server);
    let client = tcp_socket(Family::V4, 0);
    let refused = socket(&client).connect(&client, &name);
    assert_eq!(refused, Err(Errno::ECONNREFUSED));
    let unconnected = client.write(&mut IoSource::kernel(b"x"));
    assert_eq!(unconnected, Err(Errno::EPIPE));
    let mut byte = [0];
    let read = client.read(&mut IoDest::kernel(&mut byte));
    assert_eq!(read, Err(Errno::ENOTCONN));
}

#[test]
fn non_blocking_calls_say_so() {
    let (server, name) = listener(Family::V4, 5);
    server.set_flags(O_NONBLOCK, O_NONBLOCK);
    assert_eq!(accept(&server).err(), Some(Errno::EAGAIN));
    assert!(poll(&server).is_empty());
    let client = tcp_socket(Family::V4, O_NONBLOCK);
    match socket(&client).connect(&client, &name) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        other => panic!("{other:?}"),
    }
    assert!(poll(&client).contains(PollEvents::OUT));
    assert!(poll(&server).contains(PollEvents::IN));
    let peer = accept(&server).unwrap();
    let mut buf = [0; 8];
    let empty = client.read(&mut IoDest::kernel(&mut buf));
    assert_eq!(empty, Err(Errno::EAGAIN));
    peer.write(&mut IoSource::kernel(b"hello")).unwrap();
    assert!(poll(&client).contains(PollEvents::IN));
    // What is only looked at stays.
    let peek = MsgFlags {
        peek: true,
        nonblocking: true,
        ..MsgFlags::default()
    };
    for flags in [peek, MsgFlags::default()] {
        let mut dst = IoDest::kernel(&mut buf);
        let got = socket(&client).receive(&client, &mut dst, flags).unwrap();
        assert_eq!((got.len, &buf[..5]), (5, &b"hello"[..]));
    }
    // Filled until it says stop, and readable on the other side.
    let chunk = [0; 50_000];
    let mut total = 0;
    let stopped = loop {
        match client.write(&mut IoSource::kernel(&chunk)) {
            Ok(n) => total += n,
            Err(e) => break e,
        }
        assert!(total < 10_000_000);
    };
    assert_eq!(stopped, Errno::EAGAIN);
    assert!(!poll(&client).contains(PollEvents::OUT) && total > 0);
}

#[test]
fn a_socket_that_closes_unread_resets() {
    let (server, name) = listener(Family::V4, 5);
    let client = tcp_socket(Family::V4, 0);
    socket(&client).connect(&client, &name).unwrap();
    let peer = accept(&server).unwrap();
    client.write(&mut IoSource::kernel(b"unread")).unwrap();
    drop(peer);
    let mut buf = [0; 8];
    let read = client.read(&mut IoDest::kernel(&mut buf));
    assert_eq!(read, Err(Errno::ECONNRESET));
    assert!(poll(&client).contains(PollEvents::HUP));
}

#[test]
fn a_listener_that_closes_resets_who_waits() {
    let (server, name) = listener(Family::V4, 5);
    let client = tcp_socket(Family::V4, 0);
    socket(&client).connect(&client, &name).unwrap();
    drop(server);
    let mut buf = [0; 8];
    let read = client.read(&mut IoDest::kernel(&mut buf));
    assert_eq!(read, Err(Errno::ECONNRESET));
}

#[test]
fn connections_do_not_stay_behind() {
    let (server, name) = listener(Family::V4, 100);
    for _ in 0..200 {
        let client = tcp_socket(Family::V4, 0);
        socket(&client).connect(&client, &name).unwrap();
        let peer = accept(&server).unwrap();
        let options = Options {
            linger_seconds: Some(0),
            ..Options::default()
        };
        let linger = options.get(uapi::SOL_SOCKET, uapi::SO_LINGER).unwrap();
        socket(&client)
            .set_option(uapi::SOL_SOCKET, uapi::SO_LINGER, &linger)
            .unwrap();
        drop(client);
        drop(peer);
    }
    let lo = stack::by_index(1).unwrap();
    let port = read_name(Family::V4, &name).unwrap().port;
    let mut left = 0;
    lo.for_each_tcp(|key, _, _| {
        left += usize::from(key.local.port == port || key.remote.port == port);
    });
    assert_eq!(left, 0);
}

#[test]
fn closing_waits_for_the_peer_when_told_to() {
    let seconds = |n: u32| [1u32.to_ne_bytes(), n.to_ne_bytes()].concat();
    let (server, name) = listener(Family::V4, 1);
    let full = |linger: u32| {
        let client = tcp_socket(Family::V4, O_NONBLOCK);
        let _ = socket(&client).connect(&client, &name);
        let peer = accept(&server).unwrap();
        // Until nothing moves any more.
        let mut refused = 0;
        while refused < 5 {
            match client.write(&mut IoSource::kernel(&[7; 40_000])) {
                Ok(_) => refused = 0,
                Err(_) => {
                    refused += 1;
                    thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        }
        socket(&client)
            .set_option(uapi::SOL_SOCKET, uapi::SO_LINGER, &seconds(linger))
            .unwrap();
        (client, peer)
    };
    let (client, peer) = full(1);
    let start = std::time::Instant::now();
    drop(client);
    let waited = start.elapsed().as_millis();
    assert!((900..5000).contains(&waited), "{waited} ms");
    drop(peer);
    // Until all is read.
    let (client, peer) = full(60);
    let reading = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(200));
        let mut buf = vec![0; 100_000];
        while peer.read(&mut IoDest::kernel(&mut buf)).unwrap() > 0 {}
    });
    let start = std::time::Instant::now();
    drop(client);
    let waited = start.elapsed().as_millis();
    assert!((150..30_000).contains(&waited), "{waited} ms");
    reading.join().unwrap();
}

#[test]
fn a_port_is_taken_once() {
    let (server, name) = listener(Family::V4, 1);
    let other = tcp_socket(Family::V4, 0);
    assert_eq!(socket(&other).bind(&name), Err(Errno::EADDRINUSE));
    drop(server);
    assert_eq!(socket(&other).bind(&name), Ok(()));
    let elsewhere = write_name(
        Family::V4,
        Name {
            addr: Some(IpAddress::v4(192, 0, 2, 1)),
            port: 0,
            scope: 0,
        },
    );
    let third = tcp_socket(Family::V4, 0);
    assert_eq!(socket(&third).bind(&elsewhere), Err(Errno::EADDRNOTAVAIL));
}

#[test]
fn a_v6_listener_takes_v4_connections() {
    let server = tcp_socket(Family::V6, 0);
    let any = write_name(
        Family::V6,
        Name {
            addr: None,
            port: 0,
            scope: 0,
        },
    );
    socket(&server).bind(&any).unwrap();
    socket(&server).listen(1).unwrap();
    let name = socket(&server).local_address().unwrap();
    let port = read_name(Family::V6, &name).unwrap().port;
    let client = tcp_socket(Family::V4, 0);
    socket(&client)
        .connect(&client, &local(Family::V4, port))
        .unwrap();
    let (_, peer) = socket(&server).accept(&server).unwrap();
    // A mapped address: ::ffff:127.0.0.1.
    assert_eq!(peer[18..24], [0xff, 0xff, 127, 0, 0, 1]);
}

fn datagram_socket(takes: Takes, flags: u32) -> Arc<OpenFile> {
    stack::start_once();
    open(DatagramSocket::new(Family::V4, takes, OWNER), flags)
}

fn send_to(of: &OpenFile, bytes: &[u8], to: &[u8]) -> Result<usize> {
    let with = Outgoing {
        address: Some(to),
        ..Outgoing::default()
    };
    socket(of).send(of, &mut IoSource::kernel(bytes), MsgFlags::default(), with)
}

#[test]
fn datagrams_keep_their_bounds() {
    let a = datagram_socket(Takes::Udp, O_NONBLOCK);
    let b = datagram_socket(Takes::Udp, O_NONBLOCK);
    socket(&b).bind(&local(Family::V4, 0)).unwrap();
    let to = socket(&b).local_address().unwrap();
    for len in [0, 1, 1472, 4096, 65507] {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        assert_eq!(send_to(&a, &data, &to), Ok(len), "{len} bytes");
        let mut buf = vec![0; 70_000];
        let mut dst = IoDest::kernel(&mut buf);
        let nonblocking = MsgFlags {
            nonblocking: true,
            ..MsgFlags::default()
        };
        let got = socket(&b).receive(&b, &mut dst, nonblocking).unwrap();
        assert_eq!((got.len, got.full_len), (len, len));
        assert_eq!(buf[..len], data);
        // The answer finds its way by the sender's name.
        assert_eq!(send_to(&b, b"ok", &got.address), Ok(2));
        let n = a.read(&mut IoDest::kernel(&mut buf[..1])).unwrap();
        assert_eq!(n, 1);
    }
    assert_eq!(send_to(&a, &[0; 65508], &to), Err(Errno::EMSGSIZE));
    let mut buf = [0; 4];
    let empty = b.read(&mut IoDest::kernel(&mut buf));
    assert_eq!(empty, Err(Errno::EAGAIN));
}

#[test]
fn a_connected_datagram_socket_hears_of_closed_ports() {
    let gone = datagram_socket(Takes::Udp, 0);
    socket(&gone).bind(&local(Family::V4, 0)).unwrap();
    let to = socket(&gone).local_address().unwrap();
    drop(gone);
    let a = datagram_socket(Takes::Udp, 0);
    socket(&a).connect(&a, &to).unwrap();
    assert_eq!(a.write(&mut IoSource::kernel(b"x")), Ok(1));
    let mut buf = [0; 4];
    let read = a.read(&mut IoDest::kernel(&mut buf));
    assert_eq!(read, Err(Errno::ECONNREFUSED));
}

#[test]
fn echo_requests_are_answered() {
    let a = datagram_socket(Takes::Ping, 0);
    let mut request = vec![8, 0, 0, 0, 0, 0, 0, 7];
    request.extend_from_slice(b"payload");
    let to = local(Family::V4, 0);
    assert_eq!(send_to(&a, &request, &to), Ok(request.len()));
    let mut buf = [0; 64];
    let n = a.read(&mut IoDest::kernel(&mut buf)).unwrap();
    assert_eq!((n, buf[0], &buf[6..n]), (15, 0, &request[6..]));
    // Nothing but echo requests goes out.
    assert_eq!(
        send_to(&a, &[3, 0, 0, 0, 0, 0, 0, 0], &to),
        Err(Errno::EINVAL)
    );
}

#[test]
fn raw_sockets_see_whole_packets() {
    let raw = datagram_socket(Takes::Raw(253), O_NONBLOCK);
    assert_eq!(send_to(&raw, b"abc", &local(Family::V4, 0)), Ok(3));
    let mut buf = [0; 64];
    let n = raw.read(&mut IoDest::kernel(&mut buf)).unwrap();
    assert_eq!(
        (n, buf[0], buf[9], &buf[20..n]),
        (23, 0x45, 253, &b"abc"[..])
    );
}

#[test]
fn the_unspecified_address_is_this_machine() {
    let (_server, name) = listener(Family::V4, 1);
    let mut name = name;
    name[4..8].fill(0);
    let client = tcp_socket(Family::V4, 0);
    socket(&client).connect(&client, &name).unwrap();
    let mapped = [
        10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let udp = datagram_socket(Takes::Udp, 0);
    assert_eq!(send_to(&udp, b"x", &mapped), Err(Errno::EAFNOSUPPORT));
    let v6 = open(DatagramSocket::new(Family::V6, Takes::Udp, OWNER), 0);
    assert_eq!(send_to(&v6, b"x", &mapped), Ok(1));
}

#[test]
fn members_hear_their_group_over_both_protocols() {
    let lo = 1u32.to_ne_bytes();
    for family in [Family::V4, Family::V6] {
        let mut group = [0; 16];
        let (level, join, leave, through, request) = match family {
            Family::V4 => {
                let request = [&[239, 9, 9, 9, 0, 0, 0, 0], &lo[..]].concat();
                let through = [&[0; 8], &lo[..]].concat();
                let (join, leave) = (uapi::IP_ADD_MEMBERSHIP, uapi::IP_DROP_MEMBERSHIP);
                (
                    IPPROTO_IP,
                    join,
                    leave,
                    (uapi::IP_MULTICAST_IF, through),
                    request,
                )
            }
            Family::V6 => {
                (group[0], group[1], group[15]) = (0xff, 5, 9);
                let request = [&group[..], &lo[..]].concat();
                let through = (uapi::IPV6_MULTICAST_IF, lo.to_vec());
                let (join, leave) = (uapi::IPV6_ADD_MEMBERSHIP, uapi::IPV6_DROP_MEMBERSHIP);
                (IPPROTO_IPV6, join, leave, through, request)
            }
        };
        let addr = match family {
            Family::V4 => IpAddress::v4(239, 9, 9, 9),
            Family::V6 => IpAddress::Ipv6(Ipv6Address::from(group)),
        };
        stack::start_once();
        let make = || open(DatagramSocket::new(family, Takes::Udp, OWNER), O_NONBLOCK);
        let (hears, sends) = (make(), make());
        let name = |addr, port| {
            let scope = 0;
            write_name(family, Name { addr, port, scope })
        };
        socket(&hears).bind(&name(None, 0)).unwrap();
        let port = read_name(family, &socket(&hears).local_address().unwrap())
            .unwrap()
            .port;
        let (option, value) = through;
        socket(&sends).set_option(level, option, &value).unwrap();
        let to = name(Some(addr), port);
        let heard = || {
            let with = Outgoing {
                address: Some(&to),
                ..Outgoing::default()
            };
            let mut src = IoSource::kernel(b"all");
            let sent = socket(&sends).send(&sends, &mut src, MsgFlags::default(), with);
            assert_eq!(sent, Ok(3));
            hears.read(&mut IoDest::kernel(&mut [0; 8]))
        };
        assert_eq!(heard(), Err(Errno::EAGAIN));
        socket(&hears).set_option(level, join, &request).unwrap();
        assert_eq!(heard(), Ok(3));
        // Another one keeps the group, and takes it along when it goes.
        let other = make();
        socket(&other).set_option(level, join, &request).unwrap();
        socket(&hears).set_option(level, leave, &request).unwrap();
        assert_eq!(heard(), Ok(3));
        drop(other);
        assert_eq!(heard(), Err(Errno::EAGAIN));
    }
}

/// Threads that connect one socket, or connect it while another listens with it, make one
/// thing of it: nothing stays in the stack when it is closed.
#[test]
fn threads_that_connect_one_socket_make_one_connection() {
    let (first, first_name) = listener(Family::V4, 100);
    let (second, second_name) = listener(Family::V4, 100);
    let ports = [&first_name, &second_name].map(|n| read_name(Family::V4, n).unwrap().port);
    let mut inodes = Vec::new();
    for turn in 0..100 {
        let client = tcp_socket(Family::V4, 0);
        inodes.push(client.file.stat().unwrap().st_ino);
        let done = thread::scope(|threads| {
            let client = &client;
            let calls = [(&first_name, false), (&second_name, turn % 3 == 0)];
            let calls = calls.map(|(name, listens)| {
                threads.spawn(move || match listens {
                    true => socket(client).listen(1),
                    false => socket(client).connect(client, name),
                })
            });
            calls.map(|call| call.join().unwrap())
        });
        assert!(done.iter().any(|r| r.is_ok()), "{done:?}");
        assert!(
            done.iter().all(|r| match r {
                Ok(()) | Err(Errno::EISCONN | Errno::EINVAL | Errno::EADDRINUSE) => true,
                Err(_) => false,
            }),
            "{done:?}"
        );
    }
    drop((first, second));
    let mut left = 0;
    stack::by_index(1).unwrap().for_each_tcp(|key, _, _| {
        left += usize::from(ports.contains(&key.local.port) || ports.contains(&key.remote.port));
    });
    assert_eq!(left, 0);
    let listening = stack::table::listeners();
    assert!(
        listening
            .iter()
            .all(|l| !inodes.contains(&l.holder.get().0))
    );
}
