//! The host's end of the rows that talk to the host: one TCP and one UDP port on loopback, which
//! guests reach as 10.0.2.2 through QEMU's user networking. `program/net.c` has the protocol.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

const CHUNK: usize = 65536;

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut byte = [0];
    stream.set_nodelay(true)?;
    stream.read_exact(&mut byte)?;
    match byte[0] {
        b'e' => loop {
            match stream.read(&mut byte)? {
                0 => return Ok(()),
                _ => stream.write_all(&byte)?,
            }
        },
        b's' => {
            while stream.read(&mut chunk)? > 0 {}
            stream.write_all(&byte)
        }
        b'g' => loop {
            stream.write_all(&chunk)?;
        },
        _ => Ok(()),
    }
}

/// Serves from threads until the process ends; returns the port, the same for TCP and UDP.
pub fn start() -> std::io::Result<u16> {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let port = tcp.local_addr()?.port();
    let udp = UdpSocket::bind(("127.0.0.1", port))?;
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            // A guest that ends in the middle is no concern of the host's.
            std::thread::spawn(move || drop(serve(stream)));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            // What cannot be sent is lost, as datagrams may be.
            let _ = udp.send_to(&buffer[..n], from);
        }
    });
    Ok(port)
}
