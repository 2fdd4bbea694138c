//! Options of unix sockets (man 7 socket, man 7 unix).

use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use super::endpoint::{Endpoint, SEND_BYTES};
use crate::abi::net::{
    SO_ACCEPTCONN, SO_ERROR, SO_PASSCRED, SO_PEERCRED, SO_RCVBUF, SO_RCVTIMEO, SO_REUSEADDR,
    SO_SNDBUF, SO_SNDTIMEO, SOL_SOCKET,
};
use crate::error::{Errno, Result};
use crate::net::int_option;

/// Bounds of SO_SNDBUF as getsockopt tells it, which is twice what was set (man 7 socket).
const SEND_BYTES_MIN: usize = 4608;
const SEND_BYTES_MAX: usize = 2 * SEND_BYTES;

/// man 2 getsockopt.
pub(super) fn get(end: &Endpoint, level: u32, option: u32) -> Result<Vec<u8>> {
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let int = |v: u32| v.to_ne_bytes().to_vec();
    let time = |ns: u64| {
        let parts = [ns / 1_000_000_000, ns % 1_000_000_000 / 1000];
        parts.iter().flat_map(|p| p.to_ne_bytes()).collect()
    };
    Ok(match option {
        SO_ERROR => int(end.error.swap(0, SeqCst) as u32),
        SO_ACCEPTCONN => int(u32::from(end.is_listening())),
        SO_SNDBUF => int(end.send_limit.load(SeqCst) as u32),
        SO_RCVBUF => int(end.receive_limit.load(SeqCst) as u32),
        SO_PASSCRED => int(u32::from(end.pass_credentials.load(SeqCst))),
        SO_REUSEADDR => int(u32::from(end.reuse.load(SeqCst))),
        SO_RCVTIMEO => time(end.receive_timeout.load(SeqCst)),
        SO_SNDTIMEO => time(end.send_timeout.load(SeqCst)),
        SO_PEERCRED => {
            let known = *end.peer_credentials.lock();
            let (pid, uid, gid) = known.unwrap_or((0, u32::MAX, u32::MAX));
            [int(pid as u32), int(uid), int(gid)].concat()
        }
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

/// man 2 setsockopt.
pub(super) fn set(end: &Endpoint, level: u32, option: u32, value: &[u8]) -> Result<()> {
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    match option {
        SO_PASSCRED => end.pass_credentials.store(int_option(value)? != 0, SeqCst),
        // Says nothing about names in the tree, but programs may ask.
        SO_REUSEADDR => end.reuse.store(int_option(value)? != 0, SeqCst),
        SO_SNDBUF | SO_RCVBUF => {
            let asked = int_option(value)?.max(0) as usize;
            let limit = (2 * asked.min(SEND_BYTES)).clamp(SEND_BYTES_MIN, SEND_BYTES_MAX);
            let which = match option {
                SO_SNDBUF => &end.send_limit,
                _ => &end.receive_limit,
            };
            which.store(limit, SeqCst);
            end.sendable.wake_all();
        }
        SO_RCVTIMEO | SO_SNDTIMEO => {
            let (halves, _) = value.as_chunks::<8>();
            let [seconds, us, ..] = halves else {
                return Err(Errno::EINVAL);
            };
            let (seconds, us) = (i64::from_ne_bytes(*seconds), i64::from_ne_bytes(*us));
            if !(0..1_000_000).contains(&us) {
                return Err(Errno::EDOM);
            }
            // A negative time means none is waited, as a tick on Linux.
            let ns = match u64::try_from(seconds) {
                Ok(s) => s
                    .saturating_mul(1_000_000_000)
                    .saturating_add(us as u64 * 1000),
                Err(_) => 1,
            };
            let which = match option {
                SO_RCVTIMEO => &end.receive_timeout,
                _ => &end.send_timeout,
            };
            which.store(ns, SeqCst);
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}
