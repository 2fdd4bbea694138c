//! Names and listeners: bind, listen, accept.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use smoltcp::wire::IpAddress;

use super::connection::Connection;
use super::{Phase, TcpSocket, interrupted};
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile};
use crate::net::inet::{
    Family, Name, Options, check_bindable, check_port, name_of, read_name, write_name,
};
use crate::net::stack::flow::Listener;
use crate::net::stack::table::{self, Claim, Port, Protocol};

/// Most connections that wait (net.core.somaxconn).
const MAX_BACKLOG: i32 = 4096;

impl TcpSocket {
    /// What the socket asks of a port at `addr`.
    pub(super) fn claim(&self, addr: Option<IpAddress>, options: &Options) -> Claim {
        let (v4, v6) = match (self.family, addr) {
            (Family::V4, _) | (_, Some(IpAddress::Ipv4(_))) => (true, false),
            (_, Some(IpAddress::Ipv6(_))) => (false, true),
            (Family::V6, None) => (!options.v6_only, true),
        };
        Claim {
            addr,
            v4,
            v6,
            reuse_addr: options.reuse_addr,
            reuse_port: options.reuse_port.then_some(self.owner.uid),
            listens: false,
        }
    }

    /// man 2 bind. EINVAL when it has a name or is in use, EADDRINUSE.
    pub(super) fn bind_to(&self, address: &[u8]) -> Result<()> {
        let name = read_name(self.family, address)?;
        check_port(name.port)?;
        check_bindable(name.addr)?;
        let mut port = self.port.lock();
        if port.is_some() || !matches!(self.phase(), Phase::Idle) {
            return Err(Errno::EINVAL);
        }
        let claim = self.claim(name.addr, &self.options());
        let new = Port::claim(Protocol::Tcp, name.port, claim).map_err(|_| Errno::EADDRINUSE)?;
        *self.bound.lock() = Some(Name {
            port: new.number(),
            ..name
        });
        *port = Some(new);
        Ok(())
    }

    /// man 2 listen; a listener only takes the new backlog.
    pub(super) fn start_listening(&self, backlog: i32) -> Result<()> {
        let backlog = backlog.clamp(1, MAX_BACKLOG) as usize;
        let options = self.options();
        let mut port = self.port.lock();
        match self.phase() {
            Phase::Connected(_) => return Err(Errno::EINVAL),
            Phase::Listening(listener) => {
                listener.backlog.store(backlog, SeqCst);
                return Ok(());
            }
            Phase::Idle => {}
        }
        let bound = *self.bound.lock();
        let addr = bound.and_then(|b| b.addr);
        let claim = self.claim(addr, &options);
        if port.is_none() {
            *port = Some(Port::claim(Protocol::Tcp, 0, claim)?);
        }
        let Some(port) = port.as_ref() else {
            return Err(Errno::EADDRINUSE);
        };
        port.update(|c| c.listens = true)?;
        let listener = Listener::new(
            addr,
            port.number(),
            (claim.v4, claim.v6),
            backlog,
            (options.receive_buffer, options.send_buffer),
            (options.max_segment != 0).then_some(options.max_segment),
            self.readers.clone(),
        );
        listener
            .defer_seconds
            .store(options.defer_accept_seconds, SeqCst);
        Self::mark(&options, &listener);
        listener.holder.set(self.inode.ino, self.owner.uid);
        table::listen(listener.clone());
        self.set_phase(Phase::Listening(listener));
        self.readers.wake_all();
        self.writers.wake_all();
        Ok(())
    }

    /// man 2 accept: the oldest connection that waits, and its peer. EINVAL for what does not
    /// listen, EAGAIN.
    pub(super) fn take_connection(&self, of: &OpenFile) -> Result<(Arc<dyn File>, Vec<u8>)> {
        let Phase::Listening(listener) = self.phase() else {
            return Err(Errno::EINVAL);
        };
        let options = self.options();
        let deadline = Options::deadline(options.receive_timeout_ns);
        let accepted = loop {
            if let Some(accepted) = listener.pop() {
                break accepted;
            }
            if listener.is_closed() {
                return Err(Errno::EINVAL);
            }
            if of.nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.readers
                .wait_interruptible(deadline, || {
                    (listener.nr_queued() > 0 || listener.is_closed()).then_some(())
                })
                .map_err(|e| interrupted(e, Errno::EAGAIN))?;
        };
        accepted.netif.adopt(accepted.id);
        accepted.status.set_user_timeout_ms(options.user_timeout_ms);
        let _ = accepted
            .netif
            .with_tcp(accepted.id, |socket| Self::tune(&options, socket));
        let peer = write_name(self.family, name_of(accepted.key.remote));
        let status = accepted.status;
        let connection = Connection::new(
            accepted.netif,
            accepted.id,
            accepted.key,
            status.clone(),
            true,
        );
        let socket = Self::with(
            self.family,
            self.owner,
            options,
            Phase::Connected(Arc::new(connection)),
            (status.readers.clone(), status.writers.clone()),
        );
        status.holder.set(socket.inode.ino, socket.owner.uid);
        Ok((socket, peer))
    }
}

/// Ends a listener and resets who waited there.
pub(super) fn stop_listening(listener: &Arc<Listener>) {
    table::unlisten(listener);
    for waiting in listener.close() {
        waiting.netif.release(waiting.id, true);
    }
}
