//! Options of internet sockets (man 7 socket, man 7 ip, man 7 ipv6): what is kept and honoured
//! by all kinds. TCP's own are in `tcp::options`.

use alloc::vec::Vec;

use smoltcp::wire::IpAddress;

use super::multicast::Sending;
use super::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP};
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::net::{int_option, stack};
use crate::time::{NS_PER_SEC, now_ns};

/// In which form the time of a datagram is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// Not at all.
    None,
    /// `struct timeval` (SO_TIMESTAMP).
    Microseconds,
    /// `struct timespec` (SO_TIMESTAMPNS).
    Nanoseconds,
}

/// Options of man 7 socket, man 7 ip, man 7 ipv6 and man 7 tcp that are kept and honoured.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named as the options are")]
pub struct Options {
    pub reuse_addr: bool,
    pub reuse_port: bool,
    pub keep_alive: bool,
    pub keep_idle_seconds: u32,
    pub keep_interval_seconds: u32,
    pub keep_probes: u8,
    pub cork: bool,
    pub user_timeout_ms: u32,
    pub defer_accept_seconds: u32,
    /// TCP_MAXSEG; 0: the device's.
    pub max_segment: u16,
    pub receive_low: u32,
    pub broadcast: bool,
    pub no_delay: bool,
    /// 0: the stack chooses.
    pub receive_buffer: usize,
    pub send_buffer: usize,
    /// 0: for ever.
    pub receive_timeout_ns: u64,
    pub send_timeout_ns: u64,
    pub linger_seconds: Option<u32>,
    pub v6_only: bool,
    pub hops: Option<u8>,
    pub multicast_hops: u8,
    /// Received datagrams come with their TTL (IP_RECVTTL, IPV6_RECVHOPLIMIT).
    pub receive_hops: bool,
    /// IP_TOS.
    pub tos: u8,
    /// IPV6_TCLASS.
    pub tclass: u8,
    /// Received datagrams come with their type of service (IP_RECVTOS).
    pub receive_tos: bool,
    /// Received datagrams come with their traffic class (IPV6_RECVTCLASS).
    pub receive_traffic_class: bool,
    /// Received datagrams come with the address they were sent to and their interface
    /// (IP_PKTINFO, IPV6_RECVPKTINFO).
    pub receive_info: bool,
    /// Received datagrams come with when they came (SO_TIMESTAMP, SO_TIMESTAMPNS).
    pub timestamps: Timestamps,
    /// IP_MTU_DISCOVER, IPV6_MTU_DISCOVER: from IP_PMTUDISC_DO on nothing is cut.
    pub mtu_discover: u8,
    /// The interface it is tied to (SO_BINDTODEVICE); 0 for none.
    pub interface: u32,
    /// Where datagrams to groups go.
    pub sending: Sending,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            reuse_addr: false,
            reuse_port: false,
            keep_alive: false,
            keep_idle_seconds: 7200,
            keep_interval_seconds: 75,
            keep_probes: 9,
            cork: false,
            user_timeout_ms: 0,
            defer_accept_seconds: 0,
            max_segment: 0,
            receive_low: 1,
            broadcast: false,
            no_delay: false,
            receive_buffer: 0,
            send_buffer: 0,
            receive_timeout_ns: 0,
            send_timeout_ns: 0,
            linger_seconds: None,
            v6_only: false,
            hops: None,
            multicast_hops: 1,
            receive_hops: false,
            tos: 0,
            tclass: 0,
            receive_tos: false,
            receive_traffic_class: false,
            receive_info: false,
            timestamps: Timestamps::None,
            mtu_discover: 1,
            interface: 0,
            sending: Sending::default(),
        }
    }
}

/// What a buffer is when nobody asks (net.core.rmem_default).
pub const DEFAULT_BUFFER: usize = 212_992;
/// The least that is given, to receive and to send; the most is net.core.rmem_max, which is
/// the default.
const LEAST_BUFFERS: (usize, usize) = (1152, 2304);

fn read_timeout(value: &[u8]) -> Result<u64> {
    let word = |at: usize| {
        let bytes = value.get(at..at + 8).and_then(|b| b.first_chunk());
        bytes.map(|b| i64::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
    };
    let (seconds, us) = (word(0)?, word(8)?);
    if !(0..1_000_000).contains(&us) {
        return Err(Errno::EDOM);
    }
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Ok(seconds
        .saturating_mul(NS_PER_SEC)
        .saturating_add(us as u64 * 1000))
}

fn write_timeout(ns: u64) -> Vec<u8> {
    let seconds = (ns / NS_PER_SEC) as i64;
    let us = (ns % NS_PER_SEC / 1000) as i64;
    [seconds.to_ne_bytes(), us.to_ne_bytes()].concat()
}

impl Options {
    /// When a wait that begins now ends.
    pub fn deadline(timeout_ns: u64) -> Option<u64> {
        (timeout_ns != 0).then(|| now_ns().saturating_add(timeout_ns))
    }

    /// Type of service or traffic class of what is sent to `addr`.
    pub fn traffic_class(&self, addr: IpAddress) -> u8 {
        match addr {
            IpAddress::Ipv4(_) => self.tos,
            IpAddress::Ipv6(_) => self.tclass,
        }
    }

    /// The value of an option that all kinds share. ENOPROTOOPT.
    pub fn get(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        let int = |v: u32| Ok(v.to_ne_bytes().to_vec());
        let size = |n: usize| int(if n == 0 { DEFAULT_BUFFER } else { n * 2 } as u32);
        match (level, option) {
            (uapi::SOL_SOCKET, uapi::SO_REUSEADDR) => int(self.reuse_addr.into()),
            (uapi::SOL_SOCKET, uapi::SO_REUSEPORT) => int(self.reuse_port.into()),
            (uapi::SOL_SOCKET, uapi::SO_KEEPALIVE) => int(self.keep_alive.into()),
            (uapi::SOL_SOCKET, uapi::SO_BROADCAST) => int(self.broadcast.into()),
            (uapi::SOL_SOCKET, uapi::SO_RCVBUF) => size(self.receive_buffer),
            (uapi::SOL_SOCKET, uapi::SO_SNDBUF) => size(self.send_buffer),
            (uapi::SOL_SOCKET, uapi::SO_RCVLOWAT) => int(self.receive_low),
            (uapi::SOL_SOCKET, uapi::SO_SNDLOWAT) => int(1),
            (uapi::SOL_SOCKET, uapi::SO_LINGER) => {
                let on = u32::from(self.linger_seconds.is_some());
                let seconds = self.linger_seconds.unwrap_or(0);
                Ok([on.to_ne_bytes(), seconds.to_ne_bytes()].concat())
            }
            (uapi::SOL_SOCKET, uapi::SO_RCVTIMEO_OLD) => Ok(write_timeout(self.receive_timeout_ns)),
            (uapi::SOL_SOCKET, uapi::SO_SNDTIMEO_OLD) => Ok(write_timeout(self.send_timeout_ns)),
            (IPPROTO_IP, uapi::IP_TOS) => int(self.tos.into()),
            (IPPROTO_IP, uapi::IP_RECVTOS) => int(self.receive_tos.into()),
            (IPPROTO_IPV6, uapi::IPV6_TCLASS) => int(self.tclass.into()),
            (IPPROTO_IPV6, uapi::IPV6_RECVTCLASS) => int(self.receive_traffic_class.into()),
            (IPPROTO_IP, uapi::IP_TTL) => int(self.hops.unwrap_or(64).into()),
            (IPPROTO_IP, uapi::IP_MULTICAST_TTL) => int(self.multicast_hops.into()),
            (IPPROTO_IP, uapi::IP_RECVTTL) => int(self.receive_hops.into()),
            (IPPROTO_IP, uapi::IP_PKTINFO) | (IPPROTO_IPV6, uapi::IPV6_RECVPKTINFO) => {
                int(self.receive_info.into())
            }
            (IPPROTO_IP, uapi::IP_MTU_DISCOVER) | (IPPROTO_IPV6, uapi::IPV6_MTU_DISCOVER) => {
                int(self.mtu_discover.into())
            }
            (uapi::SOL_SOCKET, uapi::SO_TIMESTAMP_OLD) => {
                int((self.timestamps == Timestamps::Microseconds).into())
            }
            (uapi::SOL_SOCKET, uapi::SO_TIMESTAMPNS_OLD) => {
                int((self.timestamps == Timestamps::Nanoseconds).into())
            }
            (IPPROTO_IPV6, uapi::IPV6_V6ONLY) => int(self.v6_only.into()),
            (IPPROTO_IPV6, uapi::IPV6_UNICAST_HOPS) => int(self.hops.unwrap_or(64).into()),
            (IPPROTO_IPV6, uapi::IPV6_MULTICAST_HOPS) => int(self.multicast_hops.into()),
            (IPPROTO_IPV6, uapi::IPV6_RECVHOPLIMIT) => int(self.receive_hops.into()),
            (uapi::SOL_SOCKET | IPPROTO_IP | IPPROTO_IPV6 | IPPROTO_TCP, _) => {
                let known = self.sending.get(level, option);
                known.ok_or(Errno::ENOPROTOOPT)
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Sets an option that all kinds share. ENOPROTOOPT; EINVAL; ENODEV.
    pub fn set(&mut self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        let int = || int_option(value);
        let flag = || Ok::<bool, Errno>(int()? != 0);
        let size = |least: usize| {
            let asked = usize::try_from(int()?).unwrap_or(0);
            Ok::<usize, Errno>(asked.clamp(least, DEFAULT_BUFFER))
        };
        // A byte will do for options of this level (man 7 ip), and nothing is 0.
        let small = || match (level, value) {
            (IPPROTO_IP, []) => Ok(0),
            (IPPROTO_IP, [n, rest @ ..]) if rest.len() < 3 => Ok(i32::from(*n)),
            _ => int(),
        };
        let hops = || match small()? {
            -1 => Ok(None),
            n @ 1..=255 => Ok(Some(n as u8)),
            _ => Err(Errno::EINVAL),
        };
        match (level, option) {
            (uapi::SOL_SOCKET, uapi::SO_REUSEADDR) => self.reuse_addr = flag()?,
            (uapi::SOL_SOCKET, uapi::SO_REUSEPORT) => self.reuse_port = flag()?,
            (uapi::SOL_SOCKET, uapi::SO_KEEPALIVE) => self.keep_alive = flag()?,
            (uapi::SOL_SOCKET, uapi::SO_BROADCAST) => self.broadcast = flag()?,
            (uapi::SOL_SOCKET, uapi::SO_RCVBUF) => self.receive_buffer = size(LEAST_BUFFERS.0)?,
            (uapi::SOL_SOCKET, uapi::SO_SNDBUF) => self.send_buffer = size(LEAST_BUFFERS.1)?,
            (uapi::SOL_SOCKET, uapi::SO_RCVLOWAT) => {
                let n = int()?;
                self.receive_low = if n < 0 {
                    i32::MAX as u32
                } else {
                    n.max(1) as u32
                };
            }
            (uapi::SOL_SOCKET, uapi::SO_LINGER) => {
                let seconds = int_option(value.get(4..).unwrap_or(&[]))?;
                // What is negative is very long, as on Linux.
                self.linger_seconds = flag()?.then_some(seconds as u32);
            }
            (uapi::SOL_SOCKET, uapi::SO_RCVTIMEO_OLD) => {
                self.receive_timeout_ns = read_timeout(value)?;
            }
            (uapi::SOL_SOCKET, uapi::SO_SNDTIMEO_OLD) => {
                self.send_timeout_ns = read_timeout(value)?;
            }
            (uapi::SOL_SOCKET, uapi::SO_BINDTODEVICE) => {
                let name = value.split(|&b| b == 0).next().unwrap_or(value);
                let name = core::str::from_utf8(name).map_err(|_| Errno::ENODEV)?;
                self.interface = if name.is_empty() {
                    0
                } else {
                    stack::by_name(name).ok_or(Errno::ENODEV)?.index
                };
            }
            // What does not fit is cut off, as on Linux.
            (IPPROTO_IP, uapi::IP_TOS) => self.tos = small()? as u8,
            (IPPROTO_IPV6, uapi::IPV6_TCLASS) => {
                self.tclass = match int()? {
                    -1 => 0,
                    n @ 0..=255 => n as u8,
                    _ => return Err(Errno::EINVAL),
                };
            }
            (IPPROTO_IP, uapi::IP_RECVTOS) => self.receive_tos = small()? != 0,
            (IPPROTO_IPV6, uapi::IPV6_RECVTCLASS) => self.receive_traffic_class = flag()?,
            (IPPROTO_IP, uapi::IP_TTL) | (IPPROTO_IPV6, uapi::IPV6_UNICAST_HOPS) => {
                self.hops = hops()?;
            }
            (IPPROTO_IP, uapi::IP_MULTICAST_TTL) | (IPPROTO_IPV6, uapi::IPV6_MULTICAST_HOPS) => {
                if value.is_empty() {
                    return Err(Errno::EINVAL);
                }
                self.multicast_hops = match small()? {
                    -1 => 1,
                    n @ 0..=255 => n as u8,
                    _ => return Err(Errno::EINVAL),
                };
            }
            (IPPROTO_IP, uapi::IP_RECVTTL) | (IPPROTO_IPV6, uapi::IPV6_RECVHOPLIMIT) => {
                self.receive_hops = small()? != 0;
            }
            (IPPROTO_IP, uapi::IP_PKTINFO) | (IPPROTO_IPV6, uapi::IPV6_RECVPKTINFO) => {
                self.receive_info = small()? != 0;
            }
            (IPPROTO_IP, uapi::IP_MTU_DISCOVER) | (IPPROTO_IPV6, uapi::IPV6_MTU_DISCOVER) => {
                self.mtu_discover = match int()? {
                    n @ 0..=5 => n as u8,
                    _ => return Err(Errno::EINVAL),
                };
            }
            (uapi::SOL_SOCKET, uapi::SO_TIMESTAMP_OLD) => {
                self.timestamps = match flag()? {
                    true => Timestamps::Microseconds,
                    false => Timestamps::None,
                };
            }
            (uapi::SOL_SOCKET, uapi::SO_TIMESTAMPNS_OLD) => {
                self.timestamps = match flag()? {
                    true => Timestamps::Nanoseconds,
                    false => Timestamps::None,
                };
            }
            (IPPROTO_IPV6, uapi::IPV6_V6ONLY) => self.v6_only = flag()?,
            _ => {
                let known = self.sending.set(level, option, value, self.interface);
                known.unwrap_or(Err(Errno::ENOPROTOOPT))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let mut o = Options::default();
        let one = 1i32.to_ne_bytes();
        o.set(uapi::SOL_SOCKET, uapi::SO_REUSEADDR, &one).unwrap();
        assert!(o.reuse_addr);
        let short = o.set(uapi::SOL_SOCKET, uapi::SO_REUSEADDR, &one[..3]);
        assert_eq!(short, Err(Errno::EINVAL));
        let timeout = write_timeout(1_500_000_000);
        o.set(uapi::SOL_SOCKET, uapi::SO_RCVTIMEO_OLD, &timeout)
            .unwrap();
        assert_eq!(o.receive_timeout_ns, 1_500_000_000);
        let unknown = o.set(uapi::SOL_SOCKET, 9999, &one);
        assert_eq!(unknown, Err(Errno::ENOPROTOOPT));
        assert_eq!(o.set(IPPROTO_IP, uapi::IP_TTL, &[0; 4]), Err(Errno::EINVAL));
    }
}
