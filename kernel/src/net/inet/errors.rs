//! Reports about what a datagram socket sent (man 7 ip, IP_RECVERR; man 2 recv, MSG_ERRQUEUE),
//! as programs read them.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpEndpoint};

use super::options::Options;
use super::{Family, IPPROTO_IP, IPPROTO_IPV6, control, name_of, write_name};
use crate::abi::net as uapi;
use crate::error::{Errno, Result};
use crate::net::Received;
use crate::net::stack::errors::{Origin, Report};
use crate::net::stack::table::{Datagram, Receiver};
use crate::vm::IoDest;

/// IP_RECVERR and IPV6_RECVERR; `None` for other options.
pub fn option(level: u32, option: u32, receiver: &Receiver) -> Option<Vec<u8>> {
    let on = match (level, option) {
        (IPPROTO_IP, uapi::IP_RECVERR) => receiver.reports.has_v4(),
        (IPPROTO_IPV6, uapi::IPV6_RECVERR) => receiver.reports.has_v6(),
        _ => return None,
    };
    Some(u32::from(on).to_ne_bytes().to_vec())
}

/// Sets [`option`]; what waits is forgotten when nothing is wanted any more. EINVAL.
pub fn set_option(
    level: u32,
    option: u32,
    value: &[u8],
    receiver: &Receiver,
) -> Option<Result<()>> {
    let on = match (level, value) {
        // A byte will do (man 7 ip).
        (IPPROTO_IP, []) => Ok(false),
        (IPPROTO_IP, [n, rest @ ..]) if rest.len() < 3 => Ok(*n != 0),
        _ => crate::net::int_option(value).map(|n| n != 0),
    };
    let want = |set: &dyn Fn(bool)| {
        on.map(|on| {
            set(on);
            if !on {
                receiver.forget_reports();
            }
        })
    };
    match (level, option) {
        (IPPROTO_IP, uapi::IP_RECVERR) => Some(want(&|on| receiver.reports.want_v4(on))),
        (IPPROTO_IPV6, uapi::IPV6_RECVERR) => Some(want(&|on| receiver.reports.want_v6(on))),
        _ => None,
    }
}

/// A datagram to `to` is longer than the `mtu`: leaves a report of that where reports are
/// wanted.
pub fn too_long(receiver: &Receiver, to: IpEndpoint, mtu: u32) {
    if !receiver.reports.are_wanted(to.addr) {
        return;
    }
    receiver.report(Report {
        errno: Errno::EMSGSIZE,
        origin: Origin::Local,
        kind: 0,
        code: 0,
        info: mtu,
        to,
        quote: Datagram {
            bytes: Vec::new(),
            from: to,
            to: to.addr,
            hops: 0,
            traffic_class: 0,
            interface: 0,
            time_ns: crate::time::realtime_ns(),
        },
    });
}

/// Takes the oldest report. EAGAIN when there is none: nobody waits for one.
pub fn receive(
    family: Family,
    options: &Options,
    receiver: &Receiver,
    dst: &mut IoDest<'_>,
) -> Result<Received> {
    let report = receiver.take_report().ok_or(Errno::EAGAIN)?;
    let quote = &report.quote;
    let mut received = Received {
        full_len: quote.bytes.len(),
        address: write_name(family, name_of(report.to)),
        is_error: true,
        ..Received::default()
    };
    let is_local = report.origin == Origin::Local;
    if !is_local {
        received.control = control::of_received(family, options, quote);
    }
    let (level, kind) = match family {
        Family::V4 => (IPPROTO_IP, uapi::IP_RECVERR),
        Family::V6 => (IPPROTO_IPV6, uapi::IPV6_RECVERR),
    };
    let offender = (!is_local).then_some(quote.from.addr);
    received
        .control
        .push((level, kind, extended(family, &report, offender)));
    received.len = dst.put(&quote.bytes)?;
    Ok(received)
}

/// `struct sock_extended_err` and the address of who found the error (linux/errqueue.h).
fn extended(family: Family, report: &Report, offender: Option<IpAddress>) -> Vec<u8> {
    let mut out = Vec::with_capacity(44);
    out.extend_from_slice(&u32::from(report.errno.code()).to_ne_bytes());
    out.extend_from_slice(&[report.origin as u8, report.kind, report.code, 0]);
    out.extend_from_slice(&report.info.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    match offender {
        Some(addr) => {
            let name = name_of(IpEndpoint::new(addr, 0));
            out.extend_from_slice(&write_name(family, name));
        }
        None => {
            let len = match family {
                Family::V4 => 16,
                Family::V6 => 28,
            };
            out.resize(16 + len, 0);
        }
    }
    out
}
