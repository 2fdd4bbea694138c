//! A web server on the host, plain or over TLS, that also does what servers
//! should not: break off, ignore, lie.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The file that the server has: the same bytes each time, none of them repeating soon.
pub fn file() -> Arc<Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(SIZE + 8);
    while bytes.len() < SIZE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(SIZE);
    Arc::new(bytes)
}

/// Odd, and more than any buffer on the way.
pub const SIZE: usize = 8_000_003;

/// Serves on a port of the host's loopback, over TLS with a certificate and key;
/// returns the port.
pub fn serve(tls: Option<(&Path, &Path)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let config = tls.map(|(certificate, key)| {
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate that fits its key");
        Arc::new(config)
    });
    let file = file();
    // How often something was asked for that fails at first.
    let tries = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, file, tries) = (config.clone(), file.clone(), tries.clone());
            thread::spawn(move || {
                // What a client that leaves early causes is its own affair.
                let _ = match config {
                    None => answer(stream, &file, &tries),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a configuration");
                        answer(StreamOwned::new(connection, stream), &file, &tries)
                    }
                };
            });
        }
    });
    port
}

/// A stream that can be ended so that the peer sees the end.
trait End {
    fn end(&mut self);
}

impl End for TcpStream {
    fn end(&mut self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
        let _ = self.read_to_end(&mut Vec::new());
    }
}

impl End for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
        self.sock.end();
    }
}

struct Asked {
    method: String,
    path: String,
    range: Option<usize>,
    body: Vec<u8>,
}

fn read(stream: &mut impl Read) -> std::io::Result<Asked> {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let (mut length, mut range) = (0, None);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "range" => {
                let from = value
                    .strip_prefix("bytes=")
                    .and_then(|v| v.strip_suffix('-'));
                range = from.and_then(|from| from.parse().ok());
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body)?;
    Ok(Asked {
        method: method.unwrap_or_default(),
        path: path.unwrap_or_default(),
        range,
        body,
    })
}

fn answer(
    mut stream: impl Read + Write + End,
    file: &[u8],
    tries: &AtomicUsize,
) -> std::io::Result<()> {
    let asked = read(&mut stream)?;
    let size = file.len();
    let mut say = |status: &str, headers: &str, length: usize, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        if asked.method != "HEAD" {
            stream.write_all(body)?;
        }
        stream.flush()
    };
    let tag = "ETag: \"one\"\r\n";
    let part = |from: usize| format!("{tag}Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
    match (asked.path.as_str(), asked.range) {
        ("/file", Some(from)) if from >= size => {
            let range = format!("Content-Range: bytes */{size}\r\n");
            say("416 Range Not Satisfiable", &range, 0, b"")?;
        }
        ("/file", Some(from)) => say(
            "206 Partial Content",
            &part(from),
            size - from,
            &file[from..],
        )?,
        ("/file", None) => say("200 OK", tag, size, file)?,
        // Breaks off the first time, then goes on.
        ("/flaky", from) => {
            let start = from.unwrap_or(0);
            let end = match tries.fetch_add(1, Ordering::Relaxed) {
                0 => size / 3,
                _ => size,
            };
            match from {
                Some(from) => say(
                    "206 Partial Content",
                    &part(from),
                    size - start,
                    &file[start..end],
                )?,
                None => say("200 OK", tag, size, &file[..end])?,
            }
        }
        ("/short", _) => say("200 OK", "", 1000, b"only this")?,
        ("/hello", _) => say("200 OK", "", 6, b"hello\n")?,
        ("/moved", _) => say("302 Found", "Location: /hello\r\n", 0, b"")?,
        ("/sum", _) => {
            let sum = asked
                .body
                .iter()
                .fold(0u64, |sum, b| sum.rotate_left(5) ^ u64::from(*b));
            let text = format!("{} {} {sum:x}\n", asked.method, asked.body.len());
            say("200 OK", "", text.len(), text.as_bytes())?;
        }
        _ => say("404 Not Found", "", 5, b"none\n")?,
    }
    stream.end();
    Ok(())
}
