//! UDP, ping and raw sockets (man 7 udp, man 7 icmp, man 7 raw): packets are built here and
//! given to the interface; what comes waits in a [`Receiver`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpAddress, IpEndpoint, IpProtocol, IpRepr, UdpPacket,
};

use super::multicast::{self, Memberships};
use super::{
    DEFAULT_BUFFER, Family, IPPROTO_IPV6, Name, Options, Owner, SOCK_DGRAM, SOCK_RAW,
    check_bindable, check_port, control, destination, errors, name_of, read_name, write_name,
};
use crate::abi;
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::file::anon::AnonInode;
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::mm::UserAddr;
use crate::net::stack::table::{self, Claim, Port, Protocol, Receiver, Takes};
use crate::net::stack::{self, traffic_class};
use crate::net::{MsgFlags, Outgoing, Received, Shutdown, Socket};
use crate::sched::{Mutex, WaitError};
use crate::sync::{Rank, SpinLock};
use crate::vm::{IoDest, IoSource, UserPtr};

/// Longest payload of a datagram.
const MAX_PAYLOAD: usize = 65507;
/// Bytes of a UDP and of an echo header.
const HEADER: usize = 8;

/// A socket without connections.
pub struct DatagramSocket {
    family: Family,
    takes: Takes,
    owner: Owner,
    inode: AnonInode,
    options: SpinLock<Options>,
    receiver: Arc<Receiver>,
    memberships: Memberships,
    /// Its port, once it has one, which the receiver is known under.
    port: Mutex<Option<Port>>,
    /// Where `connect` pointed it, with its scope.
    peer: SpinLock<Option<Name>>,
    write_shut: AtomicBool,
}

impl DatagramSocket {
    /// An unbound socket; raw ones hear at once.
    pub fn new(family: Family, takes: Takes, owner: Owner) -> Arc<DatagramSocket> {
        let receiver = Receiver::new(
            takes,
            family == Family::V4,
            family == Family::V6,
            DEFAULT_BUFFER,
        );
        if let (Family::V6, Takes::Udp) = (family, takes) {
            // Until IPV6_V6ONLY says otherwise.
            receiver.ends.lock().v4 = true;
        }
        if let Takes::Raw(_) = takes {
            table::add_receiver(&receiver);
        }
        let inode = AnonInode::new(abi::S_IFSOCK | 0o777);
        receiver.holder.set(inode.ino, owner.uid);
        Arc::new(DatagramSocket {
            family,
            takes,
            owner,
            inode,
            options: SpinLock::new(Rank::Object, Options::default()),
            receiver,
            memberships: Memberships::default(),
            port: Mutex::new(None),
            peer: SpinLock::new(Rank::Object, None),
            write_shut: AtomicBool::new(false),
        })
    }

    fn options(&self) -> Options {
        *self.options.lock()
    }

    fn protocol(&self) -> IpProtocol {
        match (self.takes, self.family) {
            (Takes::Udp, _) => IpProtocol::Udp,
            (Takes::Ping, Family::V4) => IpProtocol::Icmp,
            (Takes::Ping, Family::V6) => IpProtocol::Icmpv6,
            (Takes::Raw(p), _) => p.into(),
        }
    }

    /// Claims a port and makes the receiver known under it. EINVAL when it has one.
    fn claim(&self, name: Name) -> Result<()> {
        let protocol = match self.takes {
            Takes::Udp => Protocol::Udp,
            Takes::Ping => Protocol::Ping,
            Takes::Raw(_) => {
                self.receiver.ends.lock().addr = name.addr;
                return Ok(());
            }
        };
        let mut port = self.port.lock();
        if port.is_some() {
            return Err(Errno::EINVAL);
        }
        let options = self.options();
        let (v4, v6) = match (self.family, name.addr) {
            (Family::V4, _) | (_, Some(IpAddress::Ipv4(_))) => (true, false),
            (_, Some(IpAddress::Ipv6(_))) => (false, true),
            (Family::V6, None) => (!options.v6_only && self.takes == Takes::Udp, true),
        };
        let claim = Claim {
            addr: name.addr,
            v4,
            v6,
            reuse_addr: options.reuse_addr,
            reuse_port: options.reuse_port.then_some(self.owner.uid),
            listens: false,
        };
        let new = Port::claim(protocol, name.port, claim)?;
        {
            let mut ends = self.receiver.ends.lock();
            ends.addr = name.addr;
            ends.port = new.number();
            (ends.v4, ends.v6) = (v4, v6);
        }
        table::add_receiver(&self.receiver);
        *port = Some(new);
        Ok(())
    }

    /// Claims an ephemeral port unless there is one.
    fn ensure_port(&self) -> Result<u16> {
        let number = self.receiver.ends.lock().port;
        if number != 0 || matches!(self.takes, Takes::Raw(_)) {
            return Ok(number);
        }
        let any = Name {
            addr: None,
            port: 0,
            scope: 0,
        };
        match self.claim(any) {
            Ok(()) | Err(Errno::EINVAL) => Ok(self.receiver.ends.lock().port),
            Err(e) => Err(e),
        }
    }

    /// The packet's payload with its protocol header.
    fn encode(
        &self,
        from: IpAddress,
        own: u16,
        to: IpEndpoint,
        src: &mut IoSource<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        match self.takes {
            Takes::Udp => {
                src.get(&mut out[HEADER..])?;
                let len = out.len() as u16;
                let mut udp = UdpPacket::new_unchecked(out);
                udp.set_src_port(own);
                udp.set_dst_port(to.port);
                udp.set_len(len);
                udp.fill_checksum(&from, &to.addr);
            }
            Takes::Ping => {
                src.get(out)?;
                // Only echo requests, under its own identifier (man 7 icmp).
                let request = match to.addr {
                    IpAddress::Ipv4(_) => 8,
                    IpAddress::Ipv6(_) => 128,
                };
                if out.len() < HEADER || out[0] != request || out[1] != 0 {
                    return Err(Errno::EINVAL);
                }
                match (from, to.addr) {
                    (IpAddress::Ipv6(from), IpAddress::Ipv6(to)) => {
                        let mut icmp = Icmpv6Packet::new_unchecked(out);
                        icmp.set_echo_ident(own);
                        icmp.fill_checksum(&from, &to);
                    }
                    _ => {
                        let mut icmp = Icmpv4Packet::new_unchecked(out);
                        icmp.set_echo_ident(own);
                        icmp.fill_checksum();
                    }
                }
            }
            Takes::Raw(protocol) => {
                src.get(out)?;
                // The kernel's part for ICMPv6 (RFC 3542, 3.1).
                if let (58, IpAddress::Ipv6(from), IpAddress::Ipv6(to)) = (protocol, from, to.addr)
                    && out.len() >= HEADER
                {
                    Icmpv6Packet::new_unchecked(out).fill_checksum(&from, &to);
                }
            }
        }
        Ok(())
    }
}

impl Socket for DatagramSocket {
    fn family_type_protocol(&self) -> (u32, u32, u32) {
        let kind = match self.takes {
            Takes::Raw(_) => SOCK_RAW,
            _ => SOCK_DGRAM,
        };
        (self.family.number(), kind, u8::from(self.protocol()).into())
    }

    fn bind(&self, address: &[u8]) -> Result<()> {
        let name = read_name(self.family, address)?;
        if self.takes == Takes::Udp {
            check_port(name.port)?;
        }
        check_bindable(name.addr)?;
        self.claim(name)
    }

    fn connect(&self, _of: &OpenFile, address: &[u8]) -> Result<()> {
        const AF_UNSPEC: [u8; 2] = [0; 2];
        if address.get(..2) == Some(&AF_UNSPEC) {
            *self.peer.lock() = None;
            self.receiver.ends.lock().remote = None;
            return Ok(());
        }
        let mut to = read_name(self.family, address)?;
        let addr = destination(self.family, to);
        to.addr = Some(addr);
        let options = self.options();
        let own = self.receiver.ends.lock().addr;
        let through = if to.scope != 0 {
            to.scope
        } else {
            options.interface
        };
        stack::route(addr, own, through)?;
        self.ensure_port()?;
        let port = if self.takes == Takes::Udp { to.port } else { 0 };
        self.receiver.ends.lock().remote = Some(IpEndpoint::new(addr, port));
        *self.peer.lock() = Some(to);
        Ok(())
    }

    fn send(
        &self,
        _of: &OpenFile,
        src: &mut IoSource<'_>,
        _flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        if !with.files.is_empty() || with.credentials.is_some() {
            return Err(Errno::EINVAL);
        }
        if self.write_shut.load(SeqCst) {
            return Err(Errno::EPIPE);
        }
        if let Some(e) = self.receiver.take_error() {
            return Err(e);
        }
        let to = match with.address {
            Some(address) => read_name(self.family, address)?,
            None => self.peer.lock().ok_or(Errno::EDESTADDRREQ)?,
        };
        if self.takes == Takes::Udp && to.port == 0 {
            return Err(Errno::EINVAL);
        }
        let options = self.options();
        let remote = IpEndpoint::new(destination(self.family, to), to.port);
        let wishes = control::of_send(self.family, remote.addr, &with.control)?;
        let through = match (wishes.interface, to.scope) {
            (0, 0) => options.interface,
            (0, scope) => scope,
            (index, scope) => {
                if scope != 0 && scope != index {
                    return Err(Errno::EINVAL);
                }
                index
            }
        };
        if remote.addr.is_broadcast() && !options.broadcast {
            return Err(Errno::EACCES);
        }
        let own = self.ensure_port()?;
        let own_addr = self.receiver.ends.lock().addr.filter(|a| !a.is_multicast());
        let own_addr = wishes.from.or(own_addr);
        let (through, own_addr) = match options.sending.way(remote.addr) {
            (index, from) if remote.addr.is_multicast() => {
                let through = if through == 0 { index } else { through };
                (through, own_addr.or(from))
            }
            _ => (through, own_addr),
        };
        let (netif, from) = stack::route(remote.addr, own_addr, through)?;
        if from.version() != remote.addr.version() {
            return Err(Errno::ENETUNREACH);
        }
        if netif.config().is_broadcast(remote.addr) && !options.broadcast {
            return Err(Errno::EACCES);
        }
        let len = src.remaining();
        if len > MAX_PAYLOAD {
            return Err(Errno::EMSGSIZE);
        }
        let payload = match self.takes {
            Takes::Udp => len + HEADER,
            _ => len,
        };
        let hops = wishes.hops.unwrap_or(if remote.addr.is_multicast() {
            options.multicast_hops
        } else {
            options.hops.unwrap_or(64)
        });
        let ip = IpRepr::new(from, remote.addr, self.protocol(), payload, hops);
        let header = ip.header_len();
        let total = header + payload;
        let mut packet = netif.packet(total)?;
        let bytes = &mut packet.bytes_mut()[netif.prefix()..];
        ip.emit(&mut *bytes, &ChecksumCapabilities::default());
        let class = wishes.traffic_class;
        let class = class.unwrap_or_else(|| options.traffic_class(remote.addr));
        traffic_class::set(bytes, class);
        self.encode(from, own, remote, src, &mut bytes[header..])?;
        // IP_PMTUDISC_DO, IP_PMTUDISC_PROBE: nothing is cut.
        let cut = !matches!(options.mtu_discover, 2 | 3);
        let sent = if remote.addr.is_multicast() {
            let loops = options.sending.loops(remote.addr);
            netif.send_to_group(packet, cut, loops)
        } else {
            netif.send_packet(packet, cut)
        };
        if sent == Err(Errno::EMSGSIZE) {
            errors::too_long(&self.receiver, remote, netif.device.mtu() as u32);
        }
        sent?;
        Ok(len)
    }

    fn receive(&self, _of: &OpenFile, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        let options = self.options();
        let deadline = Options::deadline(options.receive_timeout_ns);
        let receiver = &self.receiver;
        if flags.errors {
            return errors::receive(self.family, &options, receiver, dst);
        }
        let datagram = loop {
            if let Some(e) = receiver.take_error() {
                return Err(e);
            }
            if let Some(datagram) = receiver.pop() {
                break datagram;
            }
            if receiver.shut.load(SeqCst) {
                return Ok(Received::default());
            }
            if flags.nonblocking {
                return Err(Errno::EAGAIN);
            }
            receiver
                .readers
                .wait_interruptible(deadline, || receiver.is_ready().then_some(()))
                .map_err(|e| match e {
                    WaitError::Interrupted => Errno::ERESTARTSYS,
                    WaitError::TimedOut => Errno::EAGAIN,
                })?;
        };
        let copied = dst.put(&datagram.bytes);
        let mut received = Received {
            full_len: datagram.bytes.len(),
            ..Received::default()
        };
        let mut name = name_of(datagram.from);
        if let Some(IpAddress::Ipv6(a)) = name.addr
            && a.is_unicast_link_local()
        {
            name.scope = datagram.interface;
        }
        received.address = write_name(self.family, name);
        received.control = control::of_received(self.family, &options, &datagram);
        if flags.peek {
            receiver.unpop(datagram);
        }
        received.len = copied?;
        Ok(received)
    }

    fn shut_down(&self, how: Shutdown) -> Result<()> {
        if self.peer.lock().is_none() {
            return Err(Errno::ENOTCONN);
        }
        if how != Shutdown::Write {
            self.receiver.shut.store(true, SeqCst);
        }
        if how != Shutdown::Read {
            self.write_shut.store(true, SeqCst);
        }
        self.receiver.readers.wake_all();
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let ends = *self.receiver.ends.lock();
        let options = self.options();
        // A connected socket sends from one address.
        let addr = ends.addr.or_else(|| {
            let peer = ends.remote?;
            stack::route(peer.addr, None, options.interface)
                .ok()
                .map(|(_, from)| from)
        });
        let name = Name {
            addr,
            port: ends.port,
            scope: 0,
        };
        Ok(write_name(self.family, name))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let peer = self.peer.lock().ok_or(Errno::ENOTCONN)?;
        Ok(write_name(self.family, peer))
    }

    fn option(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        let int = |v: u32| Ok(v.to_ne_bytes().to_vec());
        match (level, option) {
            (uapi::SOL_SOCKET, uapi::SO_ERROR) => {
                let error = self.receiver.take_error();
                int(error.map_or(0, |e| e.code().into()))
            }
            (uapi::SOL_SOCKET, uapi::SO_ACCEPTCONN) => int(0),
            _ => multicast::all_option(level, option, &self.receiver)
                .or_else(|| errors::option(level, option, &self.receiver))
                .map_or_else(|| self.options().get(level, option), Ok),
        }
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        if level == IPPROTO_IPV6 && self.family == Family::V4 {
            return Err(Errno::ENOPROTOOPT);
        }
        if multicast::is_membership(level, option) {
            let asked = multicast::read_membership(level, option, value)?;
            return self.memberships.change(asked, &self.receiver);
        }
        if let Some(done) = multicast::set_all_option(level, option, value, &self.receiver) {
            return done;
        }
        if let Some(done) = errors::set_option(level, option, value, &self.receiver) {
            return done;
        }
        let mut options = self.options();
        options.set(level, option, value)?;
        *self.options.lock() = options;
        self.receiver.reports.mind_size(options.mtu_discover != 0);
        if options.receive_buffer != 0 {
            self.receiver
                .limit
                .store(options.receive_buffer * 2, SeqCst);
        }
        if self.family == Family::V6 && self.takes == Takes::Udp {
            let mut ends = self.receiver.ends.lock();
            if ends.port == 0 {
                ends.v4 = !options.v6_only;
            }
        }
        Ok(())
    }
}

impl File for DatagramSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        self.read_bytes(of, dst)
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        self.write_bytes(of, src)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        let receiver = &self.receiver;
        if let Some(table) = table {
            table.register(&receiver.readers);
        }
        // There is always room: packets that cannot go out are lost.
        let mut events = PollEvents::OUT | PollEvents::WRNORM;
        let shut = receiver.shut.load(SeqCst);
        if receiver.has_datagram() || shut {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if receiver.has_error() || receiver.has_report() {
            events |= PollEvents::ERR;
        }
        if shut {
            events |= PollEvents::RDHUP;
        }
        if shut && self.write_shut.load(SeqCst) {
            events |= PollEvents::HUP;
        }
        events
    }
    fn raises_sigpipe(&self) -> bool {
        false
    }
    fn ioctl(&self, _of: &OpenFile, cmd: u32, arg: u64) -> Result<isize> {
        let out = UserPtr::<i32>::new(UserAddr(arg));
        match cmd {
            abi::ioctl::FIONREAD => out.write(self.receiver.next_len() as i32)?,
            // Nothing waits to be sent.
            abi::ioctl::TIOCOUTQ => out.write(0)?,
            _ => return super::ioctl::interface(cmd, arg),
        }
        Ok(0)
    }
    fn stat(&self) -> Result<abi::stat> {
        Ok(self.inode.stat())
    }
    fn describe(&self) -> Vec<u8> {
        self.inode.describe("socket")
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        table::remove_receiver(&self.receiver);
    }
}
