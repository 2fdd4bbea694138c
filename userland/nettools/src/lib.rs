//! The network's client programs: one module per program, each with a
//! `main(args) -> status` that `oxbox` calls with the program's own name first.
//!
//! * [`ping`] over [`icmp`]: echo requests;
//! * [`dig`], [`nslookup`], [`host`] over [`dns`]: questions to name servers;
//! * [`wget`], [`curl`] over [`http`]: files from and to web servers;
//! * [`nc`]: streams and datagrams by hand;
//! * [`addresses`]: `hostname -I`;
//! * [`ntp`]: `ntpd -q` and `ntpdate`, the clock by SNTP.
//!
//! Not here: what configures interfaces and lists sockets.

pub mod addresses;
mod cli;
pub mod curl;
pub mod dig;
mod dns;
pub mod host;
mod http;
mod icmp;
pub mod nc;
pub mod nslookup;
pub mod ntp;
pub mod ping;
mod progress;
mod sys;
pub mod wget;

use std::ffi::OsString;

/// Arguments of a program, its own name first.
pub type Args = Vec<OsString>;

/// A program: its name and what runs it.
pub type Program = (&'static str, fn(Args) -> i32);

/// Every program of this crate, sorted by name.
pub const PROGRAMS: &[Program] = &[
    ("curl", curl::main),
    ("dig", dig::main),
    ("host", host::main),
    ("nc", nc::main),
    ("nslookup", nslookup::main),
    ("ntpd", ntp::ntpd),
    ("ntpdate", ntp::ntpdate),
    ("ping", ping::ping),
    ("ping6", ping::ping6),
    ("wget", wget::main),
];
