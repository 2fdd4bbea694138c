//! Sockets end to end, without processes: abstract names only.

use super::*;
use crate::file::PollEvents;
use crate::file::eventfd::EventFd;
use crate::mm::pieces::in_pieces;

const WAIT: MsgFlags = MsgFlags {
    peek: false,
    nonblocking: false,
    wait_all: false,
    more: false,
    discard: false,
    errors: false,
};
const NOW: MsgFlags = MsgFlags {
    nonblocking: true,
    ..WAIT
};

struct Open(Arc<OpenFile>);

impl Open {
    fn new(kind: Kind) -> Open {
        Open::of(create(kind as u32, 0).unwrap())
    }
    fn of(file: Arc<dyn File>) -> Open {
        Open(OpenFile::new(file, abi::O_RDWR))
    }
    fn socket(&self) -> &UnixSocket {
        self.0.file.as_any().downcast_ref().unwrap()
    }
    fn send(&self, text: &[u8]) -> Result<usize> {
        self.send_with(text, Outgoing::default())
    }
    fn send_with(&self, text: &[u8], with: Outgoing<'_>) -> Result<usize> {
        self.socket()
            .send(&self.0, &mut IoSource::kernel(text), NOW, with)
    }
    fn receive(&self) -> Result<(Vec<u8>, Received)> {
        let mut buf = alloc::vec![0; 100];
        let received = self
            .socket()
            .receive(&self.0, &mut IoDest::kernel(&mut buf), NOW)?;
        buf.truncate(received.len);
        Ok((buf, received))
    }
    fn text(&self) -> Result<Vec<u8>> {
        self.receive().map(|(text, _)| text)
    }
    fn connect(&self, to: &[u8]) -> Result<()> {
        self.0.set_flags(abi::O_NONBLOCK, abi::O_NONBLOCK);
        self.socket().connect(&self.0, to)
    }
    fn accept(&self) -> Result<Open> {
        self.0.set_flags(abi::O_NONBLOCK, abi::O_NONBLOCK);
        self.socket()
            .accept(&self.0)
            .map(|(file, _)| Open::of(file))
    }
    fn poll(&self) -> PollEvents {
        self.socket().poll(&self.0, None)
    }
}

fn name(text: &str) -> Vec<u8> {
    [&[1, 0, 0], text.as_bytes()].concat()
}

/// What is sent waits in pieces of a page each, where memory has no larger blocks.
#[test]
fn bytes_and_messages_wait_in_pieces() {
    use crate::mm::pieces::in_pieces;
    let (a, b) = (Open::new(Kind::Datagram), Open::new(Kind::Datagram));
    a.socket().bind(&name("pieces")).unwrap();
    let to = || Outgoing {
        address: Some(b"\x01\x00\x00pieces"),
        ..Outgoing::default()
    };
    let nr = in_pieces(|| {
        (0..2000u32)
            .take_while(|i| b.send_with(&i.to_ne_bytes(), to()).is_ok())
            .count()
    });
    assert!(nr > 1000, "{nr} messages found room");
    for i in 0..nr as u32 {
        assert_eq!(a.text().unwrap(), i.to_ne_bytes());
    }
    let server = Open::new(Kind::Stream);
    server.socket().bind(&name("stream of pieces")).unwrap();
    server.socket().listen(1).unwrap();
    let client = Open::new(Kind::Stream);
    client.connect(&name("stream of pieces")).unwrap();
    let peer = server.accept().unwrap();
    let data: Vec<u8> = (0..100_000u32).map(|i| (i >> 5) as u8).collect();
    assert_eq!(in_pieces(|| client.send(&data)), Ok(data.len()));
    let mut got = alloc::vec![0; data.len()];
    let flags = MsgFlags {
        wait_all: true,
        ..NOW
    };
    let mut dst = IoDest::kernel(&mut got);
    let received = peer.socket().receive(&peer.0, &mut dst, flags).unwrap();
    assert_eq!(received.len, data.len());
    assert!(got == data);
}

#[test]
fn a_connection_from_listen_to_end() {
    let at = name("connection");
    let listener = Open::new(Kind::Stream);
    let client = Open::new(Kind::Stream);
    assert_eq!(client.connect(&at), Err(Errno::ECONNREFUSED));
    assert_eq!(listener.socket().listen(1), Err(Errno::EINVAL));
    listener.socket().bind(&at).unwrap();
    assert_eq!(
        Open::new(Kind::Stream).socket().bind(&at),
        Err(Errno::EADDRINUSE)
    );
    assert_eq!(client.connect(&at), Err(Errno::ECONNREFUSED));
    listener.socket().listen(0).unwrap();
    assert!(matches!(listener.accept(), Err(Errno::EAGAIN)));
    assert_eq!(client.text(), Err(Errno::EINVAL));
    assert_eq!(client.send(b"x"), Err(Errno::ENOTCONN));
    client.connect(&at).unwrap();
    assert_eq!(client.connect(&at), Err(Errno::EISCONN));
    assert_eq!(Open::new(Kind::Stream).connect(&at), Err(Errno::EAGAIN));
    assert!(listener.poll().contains(PollEvents::IN));
    client.send(b"early").unwrap();
    let server = listener.accept().unwrap();
    assert_eq!(server.text().unwrap(), b"early");
    assert_eq!(server.text(), Err(Errno::EAGAIN));
    assert_eq!(client.socket().peer_address().unwrap(), at);
    assert_eq!(server.socket().local_address().unwrap(), at);
    assert_eq!(server.socket().peer_address().unwrap(), [1, 0]);
    server.send(b"answer").unwrap();
    server.socket().shut_down(Shutdown::Write).unwrap();
    assert_eq!(server.send(b"x"), Err(Errno::EPIPE));
    assert_eq!(client.text().unwrap(), b"answer");
    assert_eq!(client.text().unwrap(), b"");
    client.send(b"unread").unwrap();
    drop(server);
    assert_eq!(client.send(b"x"), Err(Errno::EPIPE));
    assert!(client.poll().contains(PollEvents::HUP | PollEvents::ERR));
    assert_eq!(client.text(), Err(Errno::ECONNRESET));
    assert_eq!(client.text().unwrap(), b"");
    drop(listener);
    Open::new(Kind::Stream).socket().bind(&at).unwrap();
}

#[test]
fn a_listener_that_closes_refuses_who_waits() {
    let at = name("closing");
    let listener = Open::new(Kind::Seqpacket);
    listener.socket().bind(&at).unwrap();
    listener.socket().listen(5).unwrap();
    let client = Open::new(Kind::Seqpacket);
    client.connect(&at).unwrap();
    drop(listener);
    assert_eq!(client.text(), Err(Errno::ECONNRESET));
    assert_eq!(client.text().unwrap(), b"");
    assert_eq!(client.send(b"x"), Err(Errno::EPIPE));
}

#[test]
fn datagrams_tell_where_they_come_from() {
    let (here, there) = (name("here"), name("there"));
    let (a, b) = (Open::new(Kind::Datagram), Open::new(Kind::Datagram));
    a.socket().bind(&here).unwrap();
    let to = |address| Outgoing {
        address: Some(address),
        ..Outgoing::default()
    };
    assert_eq!(b.send(b"x"), Err(Errno::ENOTCONN));
    b.send_with(b"nameless", to(&here)).unwrap();
    assert_eq!(a.receive().unwrap().1.address, b"");
    b.socket().bind(&there).unwrap();
    b.connect(&here).unwrap();
    b.send(b"").unwrap();
    let (text, received) = a.receive().unwrap();
    assert_eq!((text, received.address), (Vec::new(), there.clone()));
    // Who is connected hears from its peer alone.
    let c = Open::new(Kind::Datagram);
    assert_eq!(c.send_with(b"x", to(&there)), Err(Errno::EPERM));
    drop(a);
    assert_eq!(b.send(b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(b.send(b"x"), Err(Errno::ENOTCONN));
    assert_eq!(b.text(), Err(Errno::EAGAIN));
}

#[test]
fn kinds_have_names_of_their_own() {
    let at = name("kinds");
    let s = Open::new(Kind::Stream);
    s.socket().bind(&at).unwrap();
    let d = Open::new(Kind::Datagram);
    d.socket().bind(&at).unwrap();
    let auto = Open::new(Kind::Stream);
    auto.socket().bind(&[1, 0]).unwrap();
    assert_eq!(auto.socket().local_address().unwrap().len(), 8);
    assert_eq!(auto.socket().bind(&name("again")), Err(Errno::EINVAL));
}

#[test]
fn files_come_with_their_bytes_and_a_long_chain_closes() {
    let files = |of: &Open| Outgoing {
        files: alloc::vec![of.0.clone()],
        ..Outgoing::default()
    };
    let (a, b) = ends(Kind::Stream);
    let event = Open(OpenFile::new(EventFd::new(0, false), 0));
    a.send(b"plain").unwrap();
    a.send_with(b"with", files(&event)).unwrap();
    a.send(b"after").unwrap();
    let (text, received) = b.receive().unwrap();
    assert_eq!(text, b"plainwith");
    assert!(Arc::ptr_eq(&received.files[0], &event.0));
    assert_eq!(b.text().unwrap(), b"after");
    // Each pair holds the one before it.
    let mut held = ends(Kind::Stream);
    for _ in 0..20_000 {
        let next = ends(Kind::Stream);
        next.0.send_with(b"x", files(&held.1)).unwrap();
        held = next;
    }
    drop(held);
}

fn ends(kind: Kind) -> (Open, Open) {
    let (a, b) = pair(kind, (1, 0, 0));
    (Open::of(a), Open::of(b))
}

fn carry(from: &Open, what: &Open) {
    let with = Outgoing {
        files: alloc::vec![what.0.clone()],
        ..Outgoing::default()
    };
    from.send_with(b"x", with).unwrap();
}

/// Whether `gone` goes, soon: a search is void while other tests send sockets.
fn is_collected(gone: &alloc::sync::Weak<OpenFile>) -> bool {
    (0..1000).any(|_| {
        garbage::collect();
        std::thread::sleep(core::time::Duration::from_millis(1));
        gone.strong_count() == 0
    })
}

#[test]
fn sockets_that_nobody_can_receive_go() {
    // In its own inbox; with a file that goes along.
    let (a, b) = ends(Kind::Stream);
    let event = Open(OpenFile::new(EventFd::new(0, false), 0));
    carry(&b, &event);
    carry(&b, &a);
    let gone = Arc::downgrade(&a.0);
    let along = Arc::downgrade(&event.0);
    drop((a, b, event));
    assert!(is_collected(&gone) && along.strong_count() == 0);
    // In each other's, and in that of a connection that nobody accepted.
    let listener = Open::new(Kind::Stream);
    let at = name("garbage");
    listener.socket().bind(&at).unwrap();
    listener.socket().listen(1).unwrap();
    let client = Open::new(Kind::Stream);
    client.connect(&at).unwrap();
    let (a, b) = ends(Kind::Datagram);
    carry(&client, &a);
    carry(&b, &listener);
    let gone = Arc::downgrade(&listener.0);
    // `a`'s inbox has the listener, a connection to which has `a` in its inbox.
    drop((b, client));
    let still = Arc::downgrade(&a.0);
    drop(a);
    garbage::collect();
    // The listener is open, so all of it can be received.
    assert_eq!(still.strong_count(), 1);
    drop(listener);
    assert!(is_collected(&gone) && still.strong_count() == 0);
}

#[test]
fn a_search_takes_nothing_that_can_be_received() {
    let stop = core::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    garbage::collect();
                }
            });
        }
        let movers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    // Each goes through the other in turn, so that a search that does not see them
                    // move sees each in the other.
                    let (mut a, to_a) = ends(Kind::Datagram);
                    // Time for a search, between its looks at the two.
                    let _between: Vec<_> = (0..100).map(|_| Open::new(Kind::Datagram)).collect();
                    let (mut b, to_b) = ends(Kind::Datagram);
                    for _ in 0..60_000 {
                        carry(&to_a, &b);
                        drop(b);
                        b = Open(a.receive().unwrap().1.files.remove(0));
                        carry(&to_b, &a);
                        drop(a);
                        a = Open(b.receive().unwrap().1.files.remove(0));
                    }
                })
            })
            .collect();
        let all_well = movers.into_iter().all(|m| m.join().is_ok());
        stop.store(true, SeqCst);
        assert!(all_well);
    });
}

#[test]
fn a_stream_goes_on_where_memory_has_only_pages() {
    let (a, b) = ends(Kind::Stream);
    let data: Vec<u8> = (0..90_000u32).map(|i| (i >> 3) as u8).collect();
    let (mut sent, mut got) = (0, 0);
    let mut buf = alloc::vec![0; data.len()];
    while got < data.len() {
        let end = data.len().min(sent + 30_000);
        sent += in_pieces(|| a.send(&data[sent..end])).unwrap();
        let mut dst = IoDest::kernel(&mut buf[got..]);
        got += b.socket().receive(&b.0, &mut dst, NOW).unwrap().len;
    }
    assert!(buf == data);
    // A datagram is whole or not sent.
    let (a, _b) = ends(Kind::Datagram);
    assert_eq!(in_pieces(|| a.send(&data[..8000])), Err(Errno::ENOBUFS));
}
