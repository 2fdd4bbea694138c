//! Connecting: finding a route, a port and an interface for a connection, and waiting for it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;

use smoltcp::wire::{IpAddress, IpEndpoint};

use super::connection::Connection;
use super::{Phase, TcpSocket, interrupted};
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::net::inet::{Name, Options, destination, read_name};
use crate::net::stack;
use crate::net::stack::flow::{FlowKey, Status, bit};
use crate::net::stack::table::{Port, Protocol};

/// Ephemeral ports that are tried for a peer.
const PORT_TRIES: usize = 16;

impl TcpSocket {
    /// Starts a connection to `to`, from `port` or the one that is chosen now.
    fn start(&self, port: &mut Option<Port>, to: Name) -> Result<Arc<Connection>> {
        let options = self.options();
        let remote = IpEndpoint::new(destination(self.family, to), to.port);
        if remote.addr.is_multicast() || remote.addr.is_broadcast() {
            return Err(Errno::ENETUNREACH);
        }
        if to.port == 0 {
            return Err(Errno::ECONNREFUSED);
        }
        if options.v6_only && matches!(remote.addr, IpAddress::Ipv4(_)) {
            return Err(Errno::ENETUNREACH);
        }
        let bound = *self.bound.lock();
        let through = if to.scope != 0 {
            to.scope
        } else {
            options.interface
        };
        let own = bound.and_then(|b| b.addr);
        let (netif, source) = stack::route(remote.addr, own, through)?;
        let chose = port.is_none();
        for _ in 0..PORT_TRIES {
            if port.is_none() {
                let claim = self.claim(Some(source), &options);
                // All are taken.
                let free = Port::claim(Protocol::Tcp, 0, claim);
                *port = Some(free.map_err(|_| Errno::EADDRNOTAVAIL)?);
            }
            let number = port.as_ref().map_or(0, Port::number);
            let key = FlowKey {
                local: IpEndpoint::new(source, number),
                remote,
            };
            let status = Status::new(self.readers.clone(), self.writers.clone());
            status.set_user_timeout_ms(options.user_timeout_ms);
            let class = options.traffic_class(remote.addr);
            status.traffic_class.store(class, SeqCst);
            status.holder.set(self.inode.ino, self.owner.uid);
            let buffers = (options.receive_buffer, options.send_buffer);
            let started = netif.connect(key, buffers, status.clone(), |socket| {
                Self::tune(&options, socket);
            });
            match started {
                Ok(id) => {
                    let connection = Connection::new(netif, id, key, status, false);
                    return Ok(Arc::new(connection));
                }
                // Another port may be free for this peer.
                Err(Errno::EADDRINUSE) if chose => *port = None,
                Err(Errno::EADDRINUSE) => return Err(Errno::EADDRNOTAVAIL),
                Err(e) => {
                    if chose {
                        *port = None;
                    }
                    return Err(e);
                }
            }
        }
        Err(Errno::EADDRNOTAVAIL)
    }

    /// Waits for a connection that was started.
    fn finish_connect(&self, of: &OpenFile, c: &Arc<Connection>) -> Result<()> {
        let over = || c.status.has(bit::CONNECTED | bit::CLOSED).then_some(());
        if over().is_none() {
            if of.nonblocking() {
                return Err(Errno::EINPROGRESS);
            }
            let deadline = Options::deadline(self.options().send_timeout_ns);
            self.writers
                .wait_interruptible(deadline, over)
                .map_err(|e| interrupted(e, Errno::EINPROGRESS))?;
        }
        if c.status.has(bit::CONNECTED) {
            c.told.store(true, SeqCst);
            return Ok(());
        }
        let error = c.status.take_error().unwrap_or(Errno::ECONNABORTED);
        let mut port = self.port.lock();
        // The program may try again; another thread that waited may have done so by now.
        if matches!(self.phase(), Phase::Connected(now) if Arc::ptr_eq(&now, c)) {
            c.netif.release(c.id, true);
            self.set_phase(Phase::Idle);
            if self.bound.lock().is_none() {
                *port = None;
            }
        }
        Err(error)
    }

    /// man 2 connect: starts a connection and waits for it, if the caller waits.
    pub(super) fn connect_to(&self, of: &OpenFile, address: &[u8]) -> Result<()> {
        let to = read_name(self.family, address)?;
        let mut port = self.port.lock();
        let connection = match self.phase() {
            Phase::Listening(_) => return Err(Errno::EISCONN),
            Phase::Connected(c) => {
                if c.told.load(SeqCst) {
                    return Err(Errno::EISCONN);
                }
                if of.nonblocking() && !c.status.has(bit::CONNECTED | bit::CLOSED) {
                    return Err(Errno::EALREADY);
                }
                c
            }
            Phase::Idle => {
                let c = self.start(&mut port, to)?;
                self.set_phase(Phase::Connected(c.clone()));
                if of.nonblocking() {
                    // Whatever came of it is told later, even what is known by now.
                    return Err(Errno::EINPROGRESS);
                }
                c
            }
        };
        drop(port);
        self.finish_connect(of, &connection)
    }
}
