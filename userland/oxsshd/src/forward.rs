//! Forwarding: the client's connections to addresses and sockets of this side (`ssh -L`), and listeners here whose
//! connections go to the client (`ssh -R`, the authentication agent).
//!
//! All of it runs with the user's ids: what the user may not connect to or listen on, forwarding may not either.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh::server::{Handle, Msg};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::AbortHandle;

use crate::channels::Channels;
use crate::config::Gateway;
use crate::hostkey::random_bytes;
use crate::log::{debug, error};

/// Connects for `ssh -L`. A name that is an address asks nobody.
pub async fn connect(host: &str, port: u16) -> io::Result<OwnedFd> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await?,
        Err(_) => TcpStream::connect((host, port)).await?,
    };
    let _ = stream.set_nodelay(true);
    Ok(stream.into_std()?.into())
}

/// Connects to a unix socket for `ssh -L port:/path`.
pub async fn connect_unix(path: &str) -> io::Result<OwnedFd> {
    Ok(UnixStream::connect(path).await?.into_std()?.into())
}

/// Listeners of a connection. Dropping it closes them and removes the agent's socket.
#[derive(Default)]
pub struct Listeners {
    /// By the address and port that the client knows them by.
    tcp: HashMap<(String, u32), Vec<AbortHandle>>,
    unix: HashMap<String, AbortHandle>,
    agent: Option<Agent>,
}

struct Agent {
    directory: PathBuf,
    socket: PathBuf,
    task: AbortHandle,
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.tcp
            .values()
            .flatten()
            .chain(self.unix.values())
            .for_each(AbortHandle::abort);
        self.unix
            .keys()
            .for_each(|path| drop(std::fs::remove_file(path)));
        if let Some(agent) = &self.agent {
            agent.task.abort();
            let _ = std::fs::remove_file(&agent.socket);
            let _ = std::fs::remove_dir(&agent.directory);
        }
    }
}

impl Listeners {
    /// Listens on `address` and `port` for `ssh -R`, and gives the port, which is new where `port` is 0.
    pub async fn add_tcp(
        &mut self,
        address: &str,
        port: u32,
        gateway: Gateway,
        handle: Handle,
        channels: Channels,
    ) -> io::Result<u32> {
        let number = u16::try_from(port).map_err(|_| io::ErrorKind::InvalidInput)?;
        if self.tcp.contains_key(&(address.to_string(), port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mut sockets: Vec<TcpListener> = Vec::new();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for ip in bind_addresses(address, gateway) {
            // All families on the same port.
            let number = sockets
                .first()
                .and_then(|socket| socket.local_addr().ok())
                .map_or(number, |own| own.port());
            match listen(SocketAddr::new(ip, number)) {
                Ok(socket) => sockets.push(socket),
                Err(error) => last = error,
            }
        }
        let Some(first) = sockets.first() else {
            return Err(last);
        };
        let bound = u32::from(first.local_addr()?.port());
        let tasks = sockets.into_iter().map(|socket| {
            let task = accept_tcp(
                socket,
                address.to_string(),
                bound,
                handle.clone(),
                channels.clone(),
            );
            tokio::spawn(task).abort_handle()
        });
        self.tcp
            .insert((address.to_string(), bound), tasks.collect());
        Ok(bound)
    }

    /// Ends a listener; false when there is none.
    pub fn remove_tcp(&mut self, address: &str, port: u32) -> bool {
        let tasks = self.tcp.remove(&(address.to_string(), port));
        tasks.iter().flatten().for_each(AbortHandle::abort);
        tasks.is_some()
    }

    /// Listens on the unix socket `path`, which only its owner may use.
    pub fn add_unix(
        &mut self,
        path: &str,
        unlink: bool,
        handle: Handle,
        channels: Channels,
    ) -> io::Result<()> {
        if unlink {
            let _ = std::fs::remove_file(path);
        }
        let socket = listen_unix(Path::new(path))?;
        let name = path.to_string();
        let task = tokio::spawn(async move {
            while let Some(stream) = accept_unix(&socket).await {
                let opened = handle
                    .channel_open_forwarded_streamlocal(name.clone())
                    .await;
                start_relay(opened, &handle, &channels, stream);
            }
        });
        self.unix.insert(path.to_string(), task.abort_handle());
        Ok(())
    }

    pub fn remove_unix(&mut self, path: &str) -> bool {
        let task = self.unix.remove(path);
        if let Some(task) = &task {
            task.abort();
            let _ = std::fs::remove_file(path);
        }
        task.is_some()
    }

    /// The socket that leads to the client's authentication agent; made at the first call.
    pub fn agent_socket(&mut self, handle: Handle, channels: Channels) -> io::Result<()> {
        if self.agent.is_some() {
            return Ok(());
        }
        let mut random = [0u8; 8];
        random_bytes(&mut random)?;
        let directory = PathBuf::from(format!("/tmp/ssh-{:016x}", u64::from_ne_bytes(random)));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let socket = directory.join(format!("agent.{}", std::process::id()));
        let listener =
            listen_unix(&socket).inspect_err(|_| drop(std::fs::remove_dir(&directory)))?;
        let task = tokio::spawn(async move {
            while let Some(stream) = accept_unix(&listener).await {
                let opened = handle.channel_open_agent().await;
                start_relay(opened, &handle, &channels, stream);
            }
        });
        self.agent = Some(Agent {
            directory,
            socket,
            task: task.abort_handle(),
        });
        Ok(())
    }

    /// SSH_AUTH_SOCK's value.
    pub fn agent_path(&self) -> Option<&Path> {
        self.agent.as_ref().map(|agent| agent.socket.as_path())
    }
}

/// Where a listener for `address` binds (man 5 sshd_config, GatewayPorts).
fn bind_addresses(address: &str, gateway: Gateway) -> Vec<IpAddr> {
    let loopback = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let any = vec![
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    match gateway {
        Gateway::No => loopback,
        Gateway::Yes => any,
        Gateway::ClientSpecified => match address {
            "" | "*" => any,
            "localhost" => loopback,
            _ => address.parse().map_or(Vec::new(), |address| vec![address]),
        },
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt,
        socket, sockopt,
    };
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(
        family,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        &SockaddrStorage::from(address),
    )?;
    listen(&fd, Backlog::MAXCONN)?;
    TcpListener::from_std(fd.into())
}

fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

async fn accept_tcp(
    socket: TcpListener,
    address: String,
    port: u32,
    handle: Handle,
    channels: Channels,
) {
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                wait_after(&error).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (ip, from) = (peer.ip().to_canonical().to_string(), u32::from(peer.port()));
        let (handle, channels, address) = (handle.clone(), channels.clone(), address.clone());
        // The client's answer must not keep others waiting.
        tokio::spawn(async move {
            let opened = handle
                .channel_open_forwarded_tcpip(address, port, ip, from)
                .await;
            if let Ok(stream) = stream.into_std() {
                start_relay(opened, &handle, &channels, stream.into());
            }
        });
    }
}

async fn accept_unix(socket: &UnixListener) -> Option<OwnedFd> {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => return Some(stream.into_std().ok()?.into()),
            Err(error) => wait_after(&error).await,
        }
    }
}

/// Out of descriptors or memory: later is another time.
async fn wait_after(error: &io::Error) {
    error!("accept: {error}");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

fn start_relay(
    opened: Result<russh::Channel<Msg>, russh::Error>,
    handle: &Handle,
    channels: &Channels,
    socket: OwnedFd,
) {
    match opened {
        Ok(opened) => {
            let channel = channels.attach(opened, handle);
            channels.run(channel.id, async move { channel.relay(socket).await });
        }
        Err(error) => debug!("the client refuses a forwarded connection: {error}"),
    }
}
