//! What goes over the wire: ureq's chain of connectors with ears between its
//! links, and with the last word on the request's first lines.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    TcpConnector, Transport,
};
use ureq::{Agent, Error};

use super::url::Url;

/// What happened when, and the heads of both messages as they went.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub resolved: Option<Instant>,
    pub addresses: Vec<SocketAddr>,
    /// TCP's handshake was over.
    pub connected: Option<Instant>,
    /// And TLS's, if there is one.
    pub ready: Option<Instant>,
    pub secure: bool,
    /// The first byte of the answer.
    pub answered: Option<Instant>,
    pub sent: Vec<u8>,
    pub received: Vec<u8>,
}

/// The trace of an exchange that is under way.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Trace>>);

impl Shared {
    pub fn get(&self) -> Trace {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, what: impl FnOnce(&mut Trace)) {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// How the request's head differs from what ureq writes.
#[derive(Clone, Debug)]
pub struct Rewrite {
    pub method: String,
    pub target: String,
    /// Headers to leave out, in lower case.
    pub dropped: HashSet<String>,
}

/// An agent for one request to `url`, through the proxy `via` if that is to be
/// asked itself.
pub fn agent(
    config: Config,
    url: &Url,
    via: Option<(&str, u16)>,
    rewrite: Rewrite,
    trace: Shared,
) -> Agent {
    let chain = ()
        .chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(Mark {
            trace: trace.clone(),
        })
        .chain(RustlsConnector::default())
        .chain(Listen {
            authority: url.authority(),
            rewrite,
            trace: trace.clone(),
        });
    let via = via.and_then(|(host, port)| {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        format!("http://{host}:{port}/").parse().ok()
    });
    Agent::with_parts(config, chain, Resolve { via, trace })
}

/// Looks names up: that of the server or that of the proxy.
struct Resolve {
    via: Option<Uri>,
    trace: Shared,
}

impl fmt::Debug for Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolve")
    }
}

impl Resolver for Resolve {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let uri = self.via.as_ref().unwrap_or(uri);
        let found = DefaultResolver::default().resolve(uri, config, timeout);
        let found = found.map_err(|error| match error {
            // What libc says is always the same: it is not known.
            Error::Io(_) => Error::HostNotFound,
            other => other,
        })?;
        self.trace.note(|trace| {
            trace.resolved = Some(Instant::now());
            trace.addresses = found.iter().copied().collect();
        });
        Ok(found)
    }
}

/// Notes that the connection stands.
#[derive(Debug)]
struct Mark {
    trace: Shared,
}

impl<In: Transport> Connector<In> for Mark {
    type Out = In;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<In>, Error> {
        self.trace
            .note(|trace| trace.connected = Some(Instant::now()));
        Ok(chained)
    }
}

/// Listens to the messages inside of TLS.
#[derive(Debug)]
struct Listen {
    authority: String,
    rewrite: Rewrite,
    trace: Shared,
}

impl<In: Transport> Connector<In> for Listen {
    type Out = Heard<In>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Heard<In>>, Error> {
        // The chain also makes the connection to a proxy that passes bytes on;
        // what is said there is between ureq and the proxy.
        let ours = details
            .uri
            .authority()
            .is_some_and(|a| a.as_str().eq_ignore_ascii_case(&self.authority));
        let Some(transport) = chained else {
            return Ok(None);
        };
        if ours {
            self.trace.note(|trace| {
                trace.ready = Some(Instant::now());
                trace.secure = transport.is_tls();
            });
        }
        Ok(Some(Heard {
            transport,
            rewrite: ours.then(|| self.rewrite.clone()),
            unsent: Vec::new(),
            head_received: !ours,
            trace: self.trace.clone(),
        }))
    }
}

/// A connection that is listened to.
struct Heard<In> {
    transport: In,
    /// `None` once the request's head is out.
    rewrite: Option<Rewrite>,
    /// The request's head as far as ureq has written it.
    unsent: Vec<u8>,
    head_received: bool,
    trace: Shared,
}

impl<In> fmt::Debug for Heard<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heard")
    }
}

impl<In: Transport> Heard<In> {
    /// Sends bytes that are not in the output buffer.
    fn transmit(&mut self, mut bytes: &[u8], timeout: NextTimeout) -> Result<(), Error> {
        while !bytes.is_empty() {
            let output = self.transport.buffers().output();
            let count = bytes.len().min(output.len());
            output[..count].copy_from_slice(&bytes[..count]);
            self.transport.transmit_output(count, timeout)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

impl<In: Transport> Transport for Heard<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some(rewrite) = &self.rewrite else {
            return self.transport.transmit_output(amount, timeout);
        };
        self.unsent
            .extend_from_slice(&self.transport.buffers().output()[..amount]);
        let Some(end) = end_of_head(&self.unsent) else {
            return Ok(());
        };
        let mut head = rewritten(&self.unsent[..end], rewrite);
        self.trace.note(|trace| trace.sent.clone_from(&head));
        head.extend_from_slice(&self.unsent[end..]);
        self.rewrite = None;
        self.unsent = Vec::new();
        self.transmit(&head, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        if self.head_received {
            return self.transport.await_input(timeout);
        }
        let before = self.transport.buffers().input().len();
        let progress = self.transport.await_input(timeout)?;
        let fresh = self
            .transport
            .buffers()
            .input()
            .get(before..)
            .unwrap_or(&[]);
        let mut done = false;
        self.trace.note(|trace| {
            if trace.answered.is_none() && !fresh.is_empty() {
                trace.answered = Some(Instant::now());
            }
            trace.received.extend_from_slice(fresh);
            // Interim answers (100 Continue) are not the answer.
            while trace.received.starts_with(b"HTTP/1.1 1")
                && let Some(end) = end_of_head(&trace.received)
            {
                trace.received.drain(..end);
            }
            if let Some(end) = end_of_head(&trace.received) {
                trace.received.truncate(end);
                done = true;
            }
        });
        self.head_received = done;
        Ok(progress)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

/// Where the body starts.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    at.map(|at| at + 4).or_else(|| {
        // Some servers end their lines without a return.
        bytes.windows(2).position(|w| w == b"\n\n").map(|at| at + 2)
    })
}

/// The head with the method and target of `to`, without the headers it drops,
/// and with header names in their usual spelling, which some servers insist on.
fn rewritten(head: &[u8], to: &Rewrite) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let mut out = format!("{} {} HTTP/1.1\r\n", to.method, to.target);
    for line in text.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if to.dropped.contains(&name.to_ascii_lowercase()) {
            continue;
        }
        out += &format!("{}: {}\r\n", usual(name), value.trim_start());
    }
    (out + "\r\n").into_bytes()
}

/// `content-type` as `Content-Type`.
fn usual(name: &str) -> String {
    let words = name.split('-').map(|word| match word.chars().next() {
        _ if matches!(word, "te" | "dnt") => word.to_ascii_uppercase(),
        Some(first) => first.to_ascii_uppercase().to_string() + &word[first.len_utf8()..],
        None => String::new(),
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_rewritten() {
        let to = Rewrite {
            method: "PROPFIND".into(),
            target: "http://h/x".into(),
            dropped: HashSet::from(["accept".into()]),
        };
        let head = b"POST /x HTTP/1.1\r\nhost: h\r\nx-a-b: c: d\r\naccept: */*\r\n\r\n";
        assert_eq!(
            String::from_utf8_lossy(&rewritten(head, &to)),
            "PROPFIND http://h/x HTTP/1.1\r\nHost: h\r\nX-A-B: c: d\r\n\r\n"
        );
    }

    #[test]
    fn heads_end_at_an_empty_line() {
        assert_eq!(end_of_head(b"a\r\n\r\nb"), Some(5));
        assert_eq!(end_of_head(b"a\n\nb"), Some(3));
        assert_eq!(end_of_head(b"a\r\nb"), None);
    }
}
