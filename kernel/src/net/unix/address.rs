//! Addresses of unix sockets (man 7 unix): names in the tree, abstract names, and which
//! socket has which.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::{AF_UNIX, Endpoint, Kind};
use crate::abi;
use crate::error::{Errno, Result};
use crate::security::cred::MAY_WRITE;
use crate::sync::{Rank, SpinLock};
use crate::vfs::{Caller, Dev, Path};

/// Offset of `sun_path` in `struct sockaddr_un`.
const PATH_AT: usize = 2;
/// `sizeof(struct sockaddr_un)`.
const ADDRESS_MAX: usize = PATH_AT + 108;

/// What a `sockaddr_un` says.
#[derive(Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// Nothing but the family: bind chooses (autobind).
    Unnamed,
    /// A path in the tree.
    Path(&'a [u8]),
    /// A name in the abstract namespace, the first zero byte left out.
    Abstract(&'a [u8]),
}

/// Reads a `sockaddr_un`. EINVAL for other families and bad lengths.
pub fn parse(bytes: &[u8]) -> Result<Address<'_>> {
    let family = bytes.first_chunk::<2>().ok_or(Errno::EINVAL)?;
    if u32::from(u16::from_ne_bytes(*family)) != AF_UNIX || bytes.len() > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(match &bytes[PATH_AT..] {
        [] => Address::Unnamed,
        [0, name @ ..] => Address::Abstract(name),
        path => {
            let end = path.iter().position(|&b| b == 0).unwrap_or(path.len());
            Address::Path(&path[..end])
        }
    })
}

/// The address of a socket without a name, as getsockname gives it.
pub fn unnamed() -> Vec<u8> {
    (AF_UNIX as u16).to_ne_bytes().to_vec()
}

/// What a `sockaddr_un` names: a path, or a zero byte and an abstract name.
pub fn text(address: &[u8]) -> &[u8] {
    match address.get(PATH_AT..).unwrap_or(&[]) {
        [0, ..] => &address[PATH_AT..],
        path => path.strip_suffix(&[0]).unwrap_or(path),
    }
}

/// A socket's name.
pub struct Name {
    /// The `sockaddr_un`.
    pub bytes: Vec<u8>,
}

/// What makes a socket found by its name, until it is dropped.
pub struct Registration(Held);

enum Held {
    /// In the tree; the path keeps the inode, so that its number names no other.
    Node(
        Key,
        #[allow(dead_code, reason = "held for its reference")] Path,
    ),
    Abstract(Kind, Vec<u8>),
}

/// (filesystem, inode number).
type Key = (u64, u64);

struct Names {
    nodes: BTreeMap<Key, Weak<Endpoint>>,
    /// Each kind has its own names, as on Linux.
    abstracts: BTreeMap<(u32, Vec<u8>), Weak<Endpoint>>,
}

static NAMES: SpinLock<Names> = SpinLock::new(
    Rank::Vfs,
    Names {
        nodes: BTreeMap::new(),
        abstracts: BTreeMap::new(),
    },
);

fn address_of(path: &[u8], ends_with_zero: bool) -> Vec<u8> {
    let mut bytes = unnamed();
    bytes.extend_from_slice(path);
    if ends_with_zero {
        bytes.push(0);
    }
    bytes
}

/// Makes a node at `path` for `end`. EADDRINUSE when there is something.
pub fn bind_path(
    end: &Arc<Endpoint>,
    caller: &Caller<'_>,
    path: &[u8],
) -> Result<(Name, Registration)> {
    let made = caller
        .make_node(&caller.cwd, path, abi::S_IFSOCK, 0o777, Dev::default())
        .map_err(|e| match e {
            Errno::EEXIST => Errno::EADDRINUSE,
            e => e,
        })?;
    let key = key_of(&made)?;
    NAMES.lock().nodes.insert(key, Arc::downgrade(end));
    let bytes = address_of(path, true);
    Ok((Name { bytes }, Registration(Held::Node(key, made))))
}

fn key_of(path: &Path) -> Result<Key> {
    Ok((path.dentry.sb.id, path.dentry.inode.attr()?.ino))
}

/// Gives `end` an abstract name. EADDRINUSE.
pub fn bind_abstract(end: &Arc<Endpoint>, name: &[u8]) -> Result<(Name, Registration)> {
    let key = (end.kind as u32, name.to_vec());
    {
        let mut names = NAMES.lock();
        if names.abstracts.contains_key(&key) {
            return Err(Errno::EADDRINUSE);
        }
        names.abstracts.insert(key, Arc::downgrade(end));
    }
    let mut text = alloc::vec![0];
    text.extend_from_slice(name);
    let bytes = address_of(&text, false);
    let held = Held::Abstract(end.kind, name.to_vec());
    Ok((Name { bytes }, Registration(held)))
}

/// Gives `end` an abstract name of five hexadecimal digits. ENOSPC when all are taken.
pub fn autobind(end: &Arc<Endpoint>, start: u32) -> Result<(Name, Registration)> {
    const NAMES_THERE_ARE: u32 = 1 << 20;
    for i in 0..NAMES_THERE_ARE {
        let n = start.wrapping_add(i) % NAMES_THERE_ARE;
        match bind_abstract(end, alloc::format!("{n:05x}").as_bytes()) {
            Err(Errno::EADDRINUSE) => {}
            other => return other,
        }
    }
    Err(Errno::ENOSPC)
}

impl Drop for Registration {
    fn drop(&mut self) {
        let gone = {
            let mut names = NAMES.lock();
            match &mut self.0 {
                Held::Node(key, _) => names.nodes.remove(key),
                Held::Abstract(kind, name) => {
                    let name = core::mem::take(name);
                    names.abstracts.remove(&(*kind as u32, name))
                }
            }
        };
        drop(gone);
    }
}

/// The socket that `address` names, for a caller of kind `kind`. ECONNREFUSED when nothing
/// has the name, EPROTOTYPE when something of another kind has it; EACCES, ENOENT...
pub fn find(address: &[u8], kind: Kind, caller: Option<&Caller<'_>>) -> Result<Arc<Endpoint>> {
    let found = match parse(address)? {
        Address::Unnamed => return Err(Errno::EINVAL),
        Address::Abstract(name) => {
            let names = NAMES.lock();
            names.abstracts.get(&(kind as u32, name.to_vec())).cloned()
        }
        Address::Path(path) => {
            let caller = caller.ok_or(Errno::ENOENT)?;
            let path = caller.resolve(&caller.cwd, path, true)?;
            caller.check(&path.dentry, MAY_WRITE)?;
            if path.dentry.kind() != abi::S_IFSOCK {
                return Err(Errno::ECONNREFUSED);
            }
            let key = key_of(&path)?;
            let names = NAMES.lock();
            names.nodes.get(&key).cloned()
        }
    };
    let end = found
        .and_then(|end| end.upgrade())
        .filter(|end| !end.is_closed())
        .ok_or(Errno::ECONNREFUSED)?;
    if end.kind == kind {
        Ok(end)
    } else {
        Err(Errno::EPROTOTYPE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn un(path: &[u8]) -> Vec<u8> {
        address_of(path, false)
    }

    #[test]
    fn addresses_are_read_by_their_length() {
        assert_eq!(parse(&un(b"")), Ok(Address::Unnamed));
        assert_eq!(parse(&un(b"/a/b\0junk")), Ok(Address::Path(b"/a/b")));
        assert_eq!(parse(&un(b"/a")), Ok(Address::Path(b"/a")));
        assert_eq!(parse(&un(b"\0a\0b")), Ok(Address::Abstract(b"a\0b")));
        assert_eq!(parse(&un(b"\0")), Ok(Address::Abstract(b"")));
        assert_eq!(parse(&un(&[b'x'; 108])), Ok(Address::Path(&[b'x'; 108])));
        assert_eq!(parse(&un(&[b'x'; 109])), Err(Errno::EINVAL));
        assert_eq!(text(&un(b"/a\0")), b"/a");
        assert_eq!(text(&un(b"\0a\0")), b"\0a\0");
        assert_eq!((text(&un(b"")), text(&[])), (&b""[..], &b""[..]));
        assert_eq!(parse(&[1]), Err(Errno::EINVAL));
        assert_eq!(parse(&[2, 0, 1, 1]), Err(Errno::EINVAL));
    }
}
