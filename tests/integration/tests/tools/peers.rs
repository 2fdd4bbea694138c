//! A name server, a time server and certificates, on the host.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oxbow_harness::host;

/// Records by name and type: data as on the wire.
fn records(name: &str, kind: u16) -> Option<Vec<Vec<u8>>> {
    let known = match name {
        "www.example.test" => match kind {
            1 => vec![vec![10, 0, 2, 2]],
            28 => vec![[vec![0; 15], vec![1]].concat()],
            _ => vec![],
        },
        "example.test" => match kind {
            15 => vec![b"\x00\x0a\x04mail\xc0\x0c".to_vec()],
            16 => vec![b"\x05hello\x05world".to_vec()],
            _ => vec![],
        },
        // Too much for a datagram.
        "big.example.test" => vec![[vec![200], vec![b'x'; 200]].concat(); 10],
        "2.2.0.10.in-addr.arpa" => vec![b"\x03www\x07example\x04test\x00".to_vec()],
        _ => return None,
    };
    Some(known)
}

fn answer(query: &[u8], datagram: bool) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let found = records(&labels.join("."), kind);
    let mut flags: u16 = if found.is_some() { 0x8580 } else { 0x8583 };
    let mut data = found.unwrap_or_default();
    if datagram && data.len() > 5 {
        flags |= 0x200;
        data.clear();
    }
    let mut out = query[..2].to_vec();
    for word in [flags, 1, data.len() as u16, 0, 0] {
        out.extend(word.to_be_bytes());
    }
    out.extend(&query[12..at + 5]);
    for data in data {
        out.extend(b"\xc0\x0c");
        out.extend(kind.to_be_bytes());
        out.extend(b"\x00\x01\x00\x00\x01\x2c");
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

/// A name server for `example.test`, by datagram and by stream; returns its port.
pub fn name_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its address").port();
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the same port");
    thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..count], true), from);
        }
    });
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).expect("a query");
            let answer = answer(&query, false);
            let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
            let _ = stream.write_all(&answer);
        }
    });
    port
}

/// A time server whose clock is `ahead` of the host's; returns its port.
pub fn time_server(ahead: Duration) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its address").port();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((48.., from)) = socket.recv_from(&mut buffer) {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("after 1970")
                + ahead;
            let seconds = (now.as_secs() + 2_208_988_800) as u32;
            let fraction = ((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000) as u32;
            let stamp = [seconds.to_be_bytes(), fraction.to_be_bytes()].concat();
            let mut packet = vec![0x24, 2, 6, 0xec];
            packet.extend([0; 12]);
            packet.extend(&stamp);
            packet.extend(&buffer[40..48]);
            packet.extend(&stamp);
            packet.extend(&stamp);
            let _ = socket.send_to(&packet, from);
        }
    });
    port
}

/// An authority of our own and servers' certificates by it, in a folder.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let folder = std::env::temp_dir().join(format!("oxbow-ca-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let authority = Authority { folder };
        let subject = ["-x509", "-days", "30", "-subj", "/CN=Oxbow test authority"];
        let extension = ["-addext", "basicConstraints=critical,CA:true"];
        authority.request(
            "ca",
            &[&subject[..], &extension[..], &["-out"]].concat(),
            "ca.pem",
        );
        authority
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.file(name).to_string_lossy().into_owned()
    }

    fn request(&self, name: &str, more: &[&str], out: &str) {
        let key = self.text(&format!("{name}.key"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let output = self.text(out);
        let arguments = [
            &["req", "-nodes", "-keyout", &key],
            &curve[..],
            more,
            &[&output],
        ];
        host("openssl", &arguments.concat());
    }

    /// A server's certificate for `names` (`DNS:x,IP:y`); its file and its key's.
    pub fn certificate(&self, name: &str, names: &str) -> (PathBuf, PathBuf) {
        let (csr, pem) = (format!("{name}.csr"), format!("{name}.pem"));
        self.request(name, &["-subj", "/CN=server", "-out"], &csr);
        let extensions = self.text(&format!("{name}.ext"));
        std::fs::write(&extensions, format!("subjectAltName={names}\n")).expect("a file");
        let files = [
            self.text(&csr),
            self.text("ca.pem"),
            self.text("ca.key"),
            self.text(&pem),
        ];
        host(
            "openssl",
            &[
                "x509",
                "-req",
                "-days",
                "30",
                "-CAcreateserial",
                "-in",
                &files[0],
                "-CA",
                &files[1],
                "-CAkey",
                &files[2],
                "-out",
                &files[3],
                "-extfile",
                &extensions,
            ],
        );
        (self.file(&pem), self.file(&format!("{name}.key")))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all::<&Path>(&self.folder);
    }
}
