//! The system's names: what uname(2) and /proc/sys/kernel tell, and the host name.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Errno, Result};
use crate::sync::{Rank, SpinLock};

/// `sysname`: programs take it as the name of the system-call interface.
pub const SYSNAME: &str = "Linux";
/// `release`: the version of that interface, then whose kernel it is. Programs compare the
/// number to decide what they may use.
pub const RELEASE: &str = concat!("6.12.0-oxbow-", env!("CARGO_PKG_VERSION"));
/// `version`.
pub const VERSION: &str = concat!("#1 SMP Oxbow ", env!("CARGO_PKG_VERSION"));
/// `machine`.
pub const MACHINE: &str = "x86_64";
/// Longest host or domain name, in bytes.
pub const NAME_MAX: usize = 64;

/// Not leaves: names are copied under the locks, which takes memory.
static HOST: SpinLock<Option<Vec<u8>>> = SpinLock::new(Rank::Object, None);
static DOMAIN: SpinLock<Option<Vec<u8>>> = SpinLock::new(Rank::Object, None);

/// The host name; `oxbow` until it is set.
pub fn hostname() -> Vec<u8> {
    HOST.lock().clone().unwrap_or_else(|| b"oxbow".to_vec())
}

/// The NIS domain name; `(none)` until it is set.
pub fn domainname() -> Vec<u8> {
    DOMAIN.lock().clone().unwrap_or_else(|| b"(none)".to_vec())
}

fn set(slot: &SpinLock<Option<Vec<u8>>>, name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Errno::EINVAL);
    }
    let new = name.to_vec();
    let old = slot.lock().replace(new);
    drop(old);
    Ok(())
}

/// man 2 sethostname. EINVAL when too long; the privilege is the caller's to check.
pub fn set_hostname(name: &[u8]) -> Result<()> {
    set(&HOST, name)
}

/// man 2 setdomainname. EINVAL when too long; the privilege is the caller's to check.
pub fn set_domainname(name: &[u8]) -> Result<()> {
    set(&DOMAIN, name)
}

/// /proc/version's line.
pub fn banner() -> String {
    alloc::format!("{SYSNAME} version {RELEASE} (oxbow@oxbow) (rustc) {VERSION}")
}
