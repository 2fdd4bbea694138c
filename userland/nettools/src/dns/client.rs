//! Asks name servers: datagrams first, a stream where the answer was cut.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{self, Message, Question};
use crate::sys;

/// How to ask.
#[derive(Clone, Debug)]
pub struct Asking {
    pub servers: Vec<SocketAddr>,
    /// A stream from the start.
    pub tcp: bool,
    /// Take a cut answer as it is.
    pub keep_truncated: bool,
    pub recursive: bool,
    pub timeout: Duration,
    /// Rounds over all servers.
    pub attempts: u32,
}

/// An answer and how it came.
pub struct Reply {
    pub message: Message,
    pub server: SocketAddr,
    pub tcp: bool,
    pub time: Duration,
    pub bytes: usize,
}

impl Asking {
    /// Asks one server after the other until one answers. `on_failure` hears of
    /// each that did not.
    pub fn ask(
        &self,
        question: &Question,
        mut on_failure: impl FnMut(SocketAddr, &io::Error),
    ) -> Result<Reply, Unanswered> {
        for _ in 0..self.attempts.max(1) {
            for server in &self.servers {
                match self.ask_one(*server, question) {
                    Ok(reply) => return Ok(reply),
                    Err(Problem::Name(text)) => return Err(Unanswered::Name(text)),
                    Err(Problem::Io(error)) => on_failure(*server, &error),
                }
            }
        }
        Err(Unanswered::NoServer)
    }

    fn ask_one(&self, server: SocketAddr, question: &Question) -> Result<Reply, Problem> {
        let id = u16::from_ne_bytes(sys::random()?);
        let query = message::query(id, question, self.recursive).map_err(Problem::Name)?;
        let start = Instant::now();
        let end = start + self.timeout;
        let reply = |message: Message, bytes: usize, tcp: bool| Reply {
            message,
            server,
            tcp,
            time: start.elapsed(),
            bytes,
        };
        if !self.tcp {
            let (message, bytes) = by_datagram(server, &query, id, question, end)?;
            if !message.truncated() || self.keep_truncated {
                return Ok(reply(message, bytes, false));
            }
        }
        let (message, bytes) = by_stream(server, &query, id, question, end)?;
        Ok(reply(message, bytes, true))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The name cannot be asked for.
    Name(String),
    NoServer,
}

enum Problem {
    Name(String),
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Io(error)
    }
}

/// Time left until `end`; an error when there is none.
fn left(end: Instant) -> io::Result<Duration> {
    match end.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(timed_out()),
        left => Ok(left),
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timed out")
}

fn by_datagram(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    question: &Question,
    end: Instant,
) -> io::Result<(Message, usize)> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    // A fresh port each time, chosen by the kernel, and only this server's datagrams.
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = vec![0; 65_536];
    loop {
        socket.set_read_timeout(Some(left(end)?))?;
        let bytes = match socket.recv(&mut buffer) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // Anything else is a late answer or a forged one.
        if let Some(message) = Message::read(&buffer[..bytes])
            && message.answers(id, question)
        {
            return Ok((message, bytes));
        }
    }
}

fn by_stream(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    question: &Question,
    end: Instant,
) -> io::Result<(Message, usize)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut stream = TcpStream::connect_timeout(&server, left(end)?)?;
    let length = u16::try_from(query.len()).map_err(|_| bad("query too long"))?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, end)?;
    let mut packet = vec![0; u16::from_be_bytes(length).into()];
    read_until(&mut stream, &mut packet, end)?;
    match Message::read(&packet) {
        Some(message) if message.answers(id, question) => Ok((message, packet.len())),
        Some(_) => Err(bad("unexpected answer")),
        None => Err(bad("malformed answer")),
    }
}

/// Fills `buffer` before `end`.
fn read_until(stream: &mut TcpStream, buffer: &mut [u8], end: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => {
                let text = "end of file";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
