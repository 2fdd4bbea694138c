//! The few system calls that neither std nor socket2 wraps: poll, recvmsg with
//! control messages, interrupts as a flag, random bytes, the clock.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Which addresses of a name count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    #[default]
    Any,
    V4,
    V6,
}

impl Family {
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// The addresses of `host` (a name or a number), in the resolver's order.
/// The error is for the user.
pub fn resolve(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, String> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let known: Vec<SocketAddr> = match (bare.unwrap_or(host), port).to_socket_addrs() {
        Ok(known) => known.collect(),
        Err(_) => return Err(format!("{host}: Name or service not known")),
    };
    let wanted: Vec<SocketAddr> = known.into_iter().filter(|a| family.has(a.ip())).collect();
    match wanted.is_empty() {
        true => Err(format!("{host}: Address family for hostname not supported")),
        false => Ok(wanted),
    }
}

/// Waits until one of `fds` is ready or `until`; the number that are. An
/// interrupt ends the wait as if the time were over.
pub fn poll(fds: &mut [libc::pollfd], until: Option<Instant>) -> io::Result<usize> {
    let timeout = match until {
        None => -1,
        Some(end) => {
            // Rounded up: waking before the time would only wait again.
            let left = end.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
        }
    };
    // SAFETY: `fds` is a writable array of that many pollfd for the length of the call.
    let count = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {
                for fd in fds {
                    fd.revents = 0;
                }
                Ok(0)
            }
            error => Err(error),
        },
    }
}

/// An entry for [`poll`].
pub fn wait_for(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// A datagram with what came beside it.
pub struct Received {
    pub bytes: usize,
    pub from: Option<SocketAddr>,
    /// TTL or hop limit, where the kernel tells.
    pub hops: Option<u32>,
}

/// Receives one datagram without waiting.
pub fn receive(socket: &socket2::Socket, buffer: &mut [u8]) -> io::Result<Received> {
    // A union, so that it is aligned for control messages.
    #[repr(C)]
    union Control {
        bytes: [u8; 128],
        align: libc::cmsghdr,
    }
    let mut control = Control { bytes: [0; 128] };
    let mut from: MaybeUninit<libc::sockaddr_storage> = MaybeUninit::zeroed();
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: every pointer in `message` is to a local or to `buffer`, with its true length.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let bytes = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut hops = None;
    // SAFETY: the kernel filled in `message`; the CMSG functions keep to msg_controllen.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let kind = ((*header).cmsg_level, (*header).cmsg_type);
            if matches!(
                kind,
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
            ) {
                let value: libc::c_int = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                hops = u32::try_from(value).ok();
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    // SAFETY: an all-zero address is valid (AF_UNSPEC), and the kernel wrote at
    // most as much of one as there is room.
    let from = unsafe { address_of(from.as_ptr().cast()) };
    Ok(Received { bytes, from, hops })
}

/// The addresses of all interfaces, in the kernel's order.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills in the pointer to a list of its own.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: the list's entries stay as they are until freeifaddrs; an entry's
    // address, if it has one, is as long as its family says.
    unsafe {
        while let Some(entry) = next.as_ref() {
            let address = address_of(entry.ifa_addr);
            addresses.extend(address.map(|address| address.ip()));
            next = entry.ifa_next;
        }
        libc::freeifaddrs(first);
    }
    Ok(addresses)
}

/// An internet address that libc or the kernel filled in.
///
/// # Safety
///
/// `pointer` must be null or lead to as much of an address as its family has.
unsafe fn address_of(pointer: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: the caller's promise.
    let address = unsafe { pointer.as_ref()? };
    match i32::from(address.sa_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is; the caller, that it is all there.
            let v4 = unsafe { pointer.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(ip, u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { pointer.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = v6.sin6_addr.s6_addr.into();
            let port = u16::from_be(v6.sin6_port);
            let flow = v6.sin6_flowinfo;
            Some(std::net::SocketAddrV6::new(ip, port, flow, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Asks for the TTL of what comes in. Not fatal where it is refused: replies
/// are then shown without.
pub fn want_hops(socket: &socket2::Socket, v6: bool) {
    let (level, name) = match v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
        false => (libc::IPPROTO_IP, libc::IP_RECVTTL),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which `on` is.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on Ctrl-C ends waits and sets [`interrupted`] instead of ending
/// the process.
pub fn catch_interrupts() {
    // SAFETY: the handler only stores to an atomic; a zeroed sigaction has an
    // empty mask and no SA_RESTART.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note_interrupt as *const () as usize;
        libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut());
    }
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Random bytes: what a stranger on the path must not guess.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: `bytes` is writable for its length; small requests are never short.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    match usize::try_from(count) {
        Ok(count) if count == N => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the system's clock to `since_epoch`.
pub fn set_clock(since_epoch: Duration) -> io::Result<()> {
    // SAFETY: all-zero is a valid timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    let too_late = |_| io::Error::from_raw_os_error(libc::EINVAL);
    time.tv_sec = since_epoch.as_secs().try_into().map_err(too_late)?;
    time.tv_nsec = since_epoch.subsec_nanos().into();
    // SAFETY: `time` is a timespec.
    match unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: isatty only looks at a descriptor number.
    unsafe { libc::isatty(fd) == 1 }
}
