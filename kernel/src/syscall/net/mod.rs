//! Calls on sockets, each idea in a file: they decode addresses, messages and control data, and
//! call the [`Socket`]. Here is what they share: a descriptor's socket, addresses of programs.

mod control;
pub(super) mod messages;
pub(super) mod sockets;
pub(super) mod transfer;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::mm::UserAddr;
use crate::net::{self, Socket};
use crate::syscall::file::io_file;
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user};

/// `struct sockaddr_storage`.
const ADDRESS_MAX: usize = 128;

/// The description behind `fd`, which must be a socket (ENOTSOCK).
fn socket_file(fd: i32) -> Result<Arc<OpenFile>> {
    let of = io_file(fd)?;
    socket_of(&of)?;
    Ok(of)
}

/// The socket of a description. ENOTSOCK.
fn socket_of(of: &OpenFile) -> Result<&dyn Socket> {
    net::of_file(&*of.file).ok_or(Errno::ENOTSOCK)
}

/// Copies an address in. EINVAL when it is longer than any.
fn read_address(address: UserAddr, len: u32) -> Result<Vec<u8>> {
    if len as usize > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; len as usize];
    copy_from_user(&mut bytes, address)?;
    Ok(bytes)
}

/// Copies an address out, cut to the room that `*len` says; `*len` becomes its full length.
fn write_address(bytes: &[u8], address: UserAddr, len: UserPtr<u32>) -> Result<()> {
    let room = len.read()?;
    if room > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    copy_to_user(address, &bytes[..bytes.len().min(room as usize)])?;
    len.write(bytes.len() as u32)
}
