//! Options of TCP sockets (man 7 tcp), and those of all sockets that mean something of their
//! own for TCP.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::super::{Family, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, Options, multicast, tcp_info};
use super::connection::INTERACTIVE;
use super::{Phase, TcpSocket};
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::net::stack::flow::Listener;
use crate::net::{int_option, stack};

/// How long a corked socket holds bytes back (man 7 tcp, TCP_CORK).
const CORK_MS: u64 = 200;
/// The bits of a type of service that mark congestion (RFC 3168).
const ECN: u8 = 3;

impl TcpSocket {
    /// Sets what smoltcp keeps of the options.
    pub(super) fn tune(options: &Options, socket: &mut tcp::Socket<'_>) {
        socket.set_nagle_enabled(!options.no_delay);
        let idle = Duration::from_secs(options.keep_idle_seconds.into());
        let interval = Duration::from_secs(options.keep_interval_seconds.into());
        let idle = options.keep_alive.then_some(idle);
        socket.set_keep_alive(stack::now(), idle, interval, options.keep_probes);
        socket.set_hop_limit(options.hops);
        socket.set_max_segment((options.max_segment != 0).then_some(options.max_segment));
        Self::cork(options.cork, socket);
    }

    /// Tells a listener the type of service that its connections have.
    pub(super) fn mark(options: &Options, listener: &Listener) {
        listener.traffic_classes.0.store(options.tos, SeqCst);
        listener.traffic_classes.1.store(options.tclass, SeqCst);
    }

    /// Holds back what does not fill a segment, or lets it go.
    pub(super) fn cork(on: bool, socket: &mut tcp::Socket<'_>) {
        socket.set_corked(on.then(|| stack::now() + Duration::from_millis(CORK_MS)));
    }

    /// man 2 getsockopt.
    pub(super) fn get_option(&self, level: u32, option: u32) -> Result<Vec<u8>> {
        let int = |v: u32| Ok(v.to_ne_bytes().to_vec());
        match (level, option) {
            (uapi::SOL_SOCKET, uapi::SO_ERROR) => {
                let error = match self.phase() {
                    Phase::Connected(c) => c.status.take_error(),
                    _ => None,
                };
                int(error.map_or(0, |e| e.code().into()))
            }
            (uapi::SOL_SOCKET, uapi::SO_ACCEPTCONN) => {
                int(matches!(self.phase(), Phase::Listening(_)).into())
            }
            (IPPROTO_TCP, uapi::TCP_NODELAY) => int(self.options().no_delay.into()),
            (IPPROTO_TCP, uapi::TCP_CORK) => int(self.options().cork.into()),
            (IPPROTO_TCP, uapi::TCP_USER_TIMEOUT) => int(self.options().user_timeout_ms),
            (IPPROTO_TCP, uapi::TCP_DEFER_ACCEPT) => int(self.options().defer_accept_seconds),
            (IPPROTO_TCP, uapi::TCP_QUICKACK) => int(match self.phase() {
                Phase::Connected(c) => u32::from(!c.is_conversation()),
                _ => 1,
            }),
            (IPPROTO_TCP, uapi::TCP_INFO) => Ok(match self.phase() {
                Phase::Connected(c) => {
                    let mtu = c.netif.device.mtu();
                    let told = |s: &tcp::Socket<'_>| tcp_info::of(s, mtu, stack::now());
                    let gone = |_| tcp_info::without_connection(false);
                    c.netif.see_tcp(c.id, told).unwrap_or_else(gone)
                }
                Phase::Listening(_) => tcp_info::without_connection(true),
                Phase::Idle => tcp_info::without_connection(false),
            }),
            (IPPROTO_TCP, uapi::TCP_KEEPIDLE) => int(self.options().keep_idle_seconds),
            (IPPROTO_TCP, uapi::TCP_KEEPINTVL) => int(self.options().keep_interval_seconds),
            (IPPROTO_TCP, uapi::TCP_KEEPCNT) => int(self.options().keep_probes.into()),
            (IPPROTO_TCP, uapi::TCP_MAXSEG) => match self.phase() {
                Phase::Connected(c) => {
                    let mtu = c.netif.device.mtu();
                    let mss = |s: &tcp::Socket<'_>| s.info(mtu).send_mss as u32;
                    int(c.netif.see_tcp(c.id, mss).unwrap_or(uapi::TCP_MSS_DEFAULT))
                }
                _ => int(match self.options().max_segment {
                    0 => uapi::TCP_MSS_DEFAULT,
                    mss => mss.into(),
                }),
            },
            (IPPROTO_TCP, uapi::TCP_CONGESTION) => Ok(b"reno\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
            _ => self.options().get(level, option),
        }
    }

    /// man 2 setsockopt.
    pub(super) fn change_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        if level == IPPROTO_IPV6 && self.family == Family::V4 {
            return Err(Errno::ENOPROTOOPT);
        }
        let mut options = self.options();
        match (level, option) {
            (IPPROTO_TCP, uapi::TCP_NODELAY) => options.no_delay = int_option(value)? != 0,
            (IPPROTO_TCP, uapi::TCP_KEEPIDLE) => {
                options.keep_idle_seconds = in_range(value, 1..=32767)? as u32;
            }
            (IPPROTO_TCP, uapi::TCP_KEEPINTVL) => {
                options.keep_interval_seconds = in_range(value, 1..=32767)? as u32;
            }
            (IPPROTO_TCP, uapi::TCP_KEEPCNT) => {
                options.keep_probes = in_range(value, 1..=127)? as u8;
            }
            (IPPROTO_TCP, uapi::TCP_CORK) => options.cork = int_option(value)? != 0,
            (IPPROTO_TCP, uapi::TCP_USER_TIMEOUT) => {
                options.user_timeout_ms = in_range(value, 0..=i32::MAX)? as u32;
            }
            (IPPROTO_TCP, uapi::TCP_DEFER_ACCEPT) => {
                options.defer_accept_seconds = int_option(value)?.max(0) as u32;
                if let Phase::Listening(l) = self.phase() {
                    l.defer_seconds.store(options.defer_accept_seconds, SeqCst);
                }
            }
            (IPPROTO_TCP, uapi::TCP_MAXSEG) => {
                // 0 is the default again (linux/tcp.h, TCP_MIN_MSS, MAX_TCP_WINDOW).
                let mss = int_option(value)?;
                if mss != 0 && !(88..=32767).contains(&mss) {
                    return Err(Errno::EINVAL);
                }
                options.max_segment = mss as u16;
            }
            (IPPROTO_TCP, uapi::TCP_QUICKACK) => {
                let quick = int_option(value)? != 0;
                if let Phase::Connected(c) = self.phase() {
                    let turns = if quick { 0 } else { INTERACTIVE };
                    c.turns.store(turns, SeqCst);
                    if quick {
                        let _ = c.netif.with_tcp(c.id, tcp::Socket::ack_now);
                    }
                }
                return Ok(());
            }
            (IPPROTO_TCP, uapi::TCP_CONGESTION) => {
                let name = value.split(|&b| b == 0).next().unwrap_or(value);
                return if name == b"reno" {
                    Ok(())
                } else {
                    Err(Errno::ENOENT)
                };
            }
            // Groups are for datagrams.
            _ if multicast::is_membership(level, option) => return Err(Errno::EPROTO),
            (IPPROTO_IP, uapi::IP_MULTICAST_IF | uapi::IP_MULTICAST_TTL) => {
                return Err(Errno::EINVAL);
            }
            (IPPROTO_IPV6, uapi::IPV6_MULTICAST_IF | uapi::IPV6_MULTICAST_HOPS) => {
                return Err(Errno::ENOPROTOOPT);
            }
            _ => options.set(level, option, value)?,
        }
        // The marks of congestion are the protocol's own affair.
        let before = self.options();
        options.tos = options.tos & !ECN | before.tos & ECN;
        options.tclass = options.tclass & !ECN | before.tclass & ECN;
        *self.options.lock() = options;
        if let Phase::Listening(l) = self.phase() {
            Self::mark(&options, &l);
        }
        if let Phase::Connected(c) = self.phase() {
            c.status.set_user_timeout_ms(options.user_timeout_ms);
            let class = options.traffic_class(c.key.remote.addr);
            c.status.traffic_class.store(class, SeqCst);
            let _ = c
                .netif
                .with_tcp(c.id, |socket| Self::tune(&options, socket));
        }
        Ok(())
    }
}

/// The value of an `int` option that must lie in `range`. EINVAL.
fn in_range(value: &[u8], range: core::ops::RangeInclusive<i32>) -> Result<i32> {
    let n = int_option(value)?;
    if range.contains(&n) {
        Ok(n)
    } else {
        Err(Errno::EINVAL)
    }
}
