//! The process of one connection: from the accepted socket to its end.
//!
//! It is a fork of the listener, so host keys and configuration are there already, and whatever happens in it happens
//! to one client alone. Before the login a hard timer (alarm(2)) ends it; after the login it becomes the user for good.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use russh::SshId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Config;
use crate::handler::Connection;
use crate::log::{debug, error, info};
use crate::login::Authenticator;
use crate::report::Report;
use crate::session::process::Addresses;

/// How long a client may take to close its side after the connection has been ended here.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const WINDOW_BYTES: u32 = 2 << 20;
const PACKET_BYTES: u32 = 32 << 10;

/// The library's configuration; made once by the listener and inherited.
pub fn server_config(config: &Config, keys: Vec<russh::keys::PrivateKey>) -> russh::server::Config {
    let mut server = russh::server::Config {
        server_id: SshId::Standard(concat!("SSH-2.0-Oxbow_", env!("CARGO_PKG_VERSION")).into()),
        methods: Authenticator::methods(config),
        // Delays are the authenticator's.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        auto_adjust_window: false,
        event_buffer_size: 16,
        preferred: russh::Preferred {
            kex: config.kex.kex_names(),
            cipher: config.ciphers.cipher_names(),
            mac: config.macs.mac_names(),
            ..russh::Preferred::DEFAULT
        },
        // The request for the list of methods counts there, and the authenticator refuses one try earlier.
        max_auth_attempts: config.most_auth_tries() + 1,
        inactivity_timeout: None,
        ..russh::server::Config::default()
    };
    set_limits(&mut server, config);
    server
}

/// Sets what may depend on who has logged in: how long keys are used and a silent client is kept.
pub fn set_limits(server: &mut russh::server::Config, config: &Config) {
    let alive = config.client_alive_interval;
    server.limits = russh::Limits {
        rekey_write_limit: config.rekey_bytes,
        rekey_read_limit: config.rekey_bytes,
        rekey_time_limit: config.rekey_time,
    };
    server.keepalive_interval = (!alive.is_zero()).then_some(alive);
    server.keepalive_max = config.client_alive_count;
}

/// Serves `socket` to its end. `report` is the pipe to the listener.
pub fn serve(
    socket: TcpStream,
    report: Option<OwnedFd>,
    config: &Arc<Config>,
    server: &Arc<russh::server::Config>,
) {
    let report = Report::new(report);
    let (Ok(peer), Ok(local)) = (socket.peer_addr(), socket.local_addr()) else {
        return;
    };
    let plain = |address: std::net::SocketAddr| {
        std::net::SocketAddr::new(address.ip().to_canonical(), address.port())
    };
    let addresses = Addresses {
        peer: plain(peer),
        local: plain(local),
    };
    let peer = addresses.peer;
    debug!(
        "Connection from {} port {} on {} port {}",
        peer.ip(),
        peer.port(),
        addresses.local.ip(),
        addresses.local.port()
    );
    let _ = socket.set_nodelay(true);
    let _ = setsockopt(&socket.as_fd(), sockopt::KeepAlive, &config.tcp_keep_alive);
    let grace = u32::try_from(config.login_grace.as_secs()).unwrap_or(0);
    // SAFETY: a plain system call; SIGALRM has its default action here, which ends the process.
    unsafe { libc::alarm(grace) };

    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return error!("runtime: {error}"),
    };
    let ended = runtime.block_on(run(socket, addresses, report.clone(), config, server));
    let (who, stage) = report.ended();
    let from = format!("{who}{} port {}{stage}", peer.ip(), peer.port());
    match ended {
        Ok(()) => info!("Disconnected from {from}"),
        Err(russh::Error::HUP | russh::Error::Disconnect) => info!("Connection closed by {from}"),
        Err(russh::Error::IO(error)) => match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
                info!("Connection closed by {from}")
            }
            ErrorKind::ConnectionReset => info!("Connection reset by {from}"),
            _ => info!("Connection from {from} ended: {error}"),
        },
        Err(russh::Error::KeepaliveTimeout) => info!("Timeout, client not responding from {from}"),
        Err(error) => info!("Connection from {from} ended: {error}"),
    }
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
}

async fn run(
    socket: TcpStream,
    addresses: Addresses,
    report: Report,
    config: &Arc<Config>,
    server: &Arc<russh::server::Config>,
) -> Result<(), russh::Error> {
    socket.set_nonblocking(true)?;
    let socket = Socket {
        tcp: tokio::net::TcpStream::from_std(socket)?,
        closing: None,
    };
    let handler = Connection::new(config.clone(), addresses, report);
    russh::server::run_stream(server.clone(), socket, handler)
        .await?
        .await
}

/// The socket, which gives up waiting for a client that does not close its side.
struct Socket {
    tcp: tokio::net::TcpStream,
    /// Set when our side has been closed.
    closing: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(timer) = &mut self.closing
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.closing.is_none() {
            self.closing = Some(Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
