//! What TCP_INFO tells of a connection: `struct tcp_info` (linux/tcp.h), from what smoltcp's
//! socket measured and counted. What nobody measures is zero.

use alloc::vec::Vec;

use smoltcp::socket::tcp::{self, State};
use smoltcp::time::Instant;

use crate::net::stack::flow::state_number;

/// Bytes of `struct tcp_info`.
const SIZE: usize = 248;
/// TCPI_OPT_*.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WSCALE: u8 = 4;
/// TCP_INFINITE_SSTHRESH.
const INFINITE: u32 = 0x7fff_ffff;

/// What there is to tell without a connection.
pub fn without_connection(listens: bool) -> Vec<u8> {
    let mut out = alloc::vec![0; SIZE];
    out[0] = state_number(if listens {
        State::Listen
    } else {
        State::Closed
    });
    out
}

/// The structure of a connection over a device that takes IP packets of `mtu` bytes.
pub fn of(socket: &tcp::Socket<'_>, mtu: usize, now: Instant) -> Vec<u8> {
    let info = socket.info(mtu);
    let counts = &info.counts;
    let mut out = alloc::vec![0; SIZE];
    out[0] = state_number(socket.state());
    out[2] = info.backoff;
    out[3] = info.probes;
    out[4] = info.backoff;
    if info.has_timestamps {
        out[5] |= TIMESTAMPS;
    }
    if info.has_sack {
        out[5] |= SACK;
    }
    if let Some((theirs, ours)) = info.scales {
        out[5] |= WSCALE;
        out[6] = theirs & 15 | ours << 4;
    }
    let segments = |bytes: usize| bytes.div_ceil(info.send_mss.max(1)) as u32;
    let age = |at: Option<Instant>| at.map_or(0, |at| (now - at).total_millis() as u32);
    let unsent = socket.send_queue().saturating_sub(info.in_flight);
    let threshold = if info.ssthresh == usize::MAX {
        INFINITE
    } else {
        segments(info.ssthresh)
    };
    let words: [(usize, u32); 23] = [
        (8, info.rto_ms * 1000),
        (12, 40_000),
        (16, info.send_mss as u32),
        (20, info.receive_mss as u32),
        (24, segments(info.in_flight)),
        (44, age(info.last_data_sent)),
        (52, age(info.last_data_received)),
        (56, age(info.last_ack_received)),
        (60, mtu as u32),
        (64, info.receive_window as u32),
        (68, info.srtt_ms * 1000),
        (72, info.rttvar_ms * 1000),
        (76, threshold),
        (80, (info.cwnd / info.send_mss.max(1)) as u32),
        (84, info.receive_mss as u32),
        (88, 3),
        (96, socket.recv_capacity() as u32),
        (100, counts.resent),
        (136, counts.segments_sent),
        (140, counts.segments_received),
        (144, unsent as u32),
        (228, info.send_window as u32),
        (232, info.receive_window as u32),
    ];
    for (at, value) in words {
        out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    let more: [(usize, u32); 3] = [
        (152, counts.data_segments_received),
        (156, counts.data_segments_sent),
        (224, counts.out_of_order),
    ];
    for (at, value) in more {
        out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    let longs: [(usize, u64); 5] = [
        (112, u64::MAX),
        (120, counts.bytes_acked),
        (128, counts.bytes_received),
        (200, counts.bytes_sent),
        (208, counts.bytes_resent),
    ];
    for (at, value) in longs {
        out[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    out
}
