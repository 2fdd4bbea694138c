//! chdir, getcwd, chroot, getdents.

use alloc::vec::Vec;

use super::{Context, path_arg};
use crate::abi;
use crate::error::{Errno, Result};
use crate::file::DirSink;
use crate::mm::UserAddr;
use crate::security::cred::MAY_EXEC;
use crate::syscall::SyscallResult;
use crate::vfs::{Path, path_text};
use crate::vm::user::copy_to_user;

/// A directory that the caller may search. ENOTDIR, EACCES.
fn searchable(context: &Context, path: Path) -> Result<Path> {
    if !path.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    context.caller().check(&path.dentry, MAY_EXEC)?;
    Ok(path)
}

pub fn chdir(path: UserAddr) -> SyscallResult {
    let path = path_arg(path)?;
    let context = Context::new();
    let place = context.resolve(abi::AT_FDCWD, &path, true)?;
    let place = searchable(&context, place)?;
    context.fs.set_cwd(place);
    Ok(0)
}

pub fn fchdir(fd: i32) -> SyscallResult {
    let context = Context::new();
    let file = context.task.file(fd)?;
    let place = crate::vfs::location(&file).ok_or(Errno::ENOTDIR)?;
    let place = searchable(&context, place.clone())?;
    context.fs.set_cwd(place);
    Ok(0)
}

pub fn chroot(path: UserAddr) -> SyscallResult {
    let path = path_arg(path)?;
    let context = Context::new();
    let place = context.resolve(abi::AT_FDCWD, &path, true)?;
    let place = searchable(&context, place)?;
    if !context.cred.is_privileged() {
        return Err(Errno::EPERM);
    }
    context.fs.set_root(place);
    Ok(0)
}

pub fn getcwd(buf: UserAddr, size: usize) -> SyscallResult {
    let context = Context::new();
    let cwd = context.fs.cwd();
    if cwd.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let mut text = path_text(&cwd, Some(&context.fs.root()));
    if text.len() >= crate::vfs::inode::PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    text.push(0);
    if text.len() > size {
        return Err(Errno::ERANGE);
    }
    copy_to_user(buf, &text)?;
    Ok(text.len() as isize)
}

/// Most bytes that one call lays out.
const MAX_BYTES: usize = 64 * 1024;

/// Lays entries out in a buffer.
struct Records {
    out: Vec<u8>,
    limit: usize,
    /// `linux_dirent64`, or the older form with the type in the last byte.
    modern: bool,
    /// The first entry did not fit.
    too_small: bool,
}

impl DirSink for Records {
    fn entry(&mut self, name: &[u8], ino: u64, kind: u8, next: u64) -> bool {
        // Header, name, its NUL, and the type byte (before the name or at the very end).
        let len = (16 + 2 + 1 + name.len() + 1).next_multiple_of(8);
        if self.out.len() + len > self.limit {
            self.too_small |= self.out.is_empty();
            return false;
        }
        let start = self.out.len();
        self.out.extend_from_slice(&ino.to_le_bytes());
        self.out.extend_from_slice(&next.to_le_bytes());
        self.out.extend_from_slice(&(len as u16).to_le_bytes());
        if self.modern {
            self.out.push(kind);
        }
        self.out.extend_from_slice(name);
        self.out.resize(start + len, 0);
        if !self.modern
            && let Some(last) = self.out.last_mut()
        {
            *last = kind;
        }
        true
    }
}

fn read_entries(fd: i32, buf: UserAddr, count: usize, modern: bool) -> SyscallResult {
    let file = crate::syscall::file::io_file(fd)?;
    let limit = count.min(MAX_BYTES);
    let mut out = Vec::new();
    out.try_reserve_exact(limit).map_err(|_| Errno::ENOMEM)?;
    let mut records = Records {
        out,
        limit,
        modern,
        too_small: false,
    };
    file.read_dir(&mut records)?;
    if records.too_small {
        return Err(Errno::EINVAL);
    }
    copy_to_user(buf, &records.out)?;
    Ok(records.out.len() as isize)
}

pub fn getdents(fd: i32, buf: UserAddr, count: u32) -> SyscallResult {
    read_entries(fd, buf, count as usize, false)
}

pub fn getdents64(fd: i32, buf: UserAddr, count: u32) -> SyscallResult {
    read_entries(fd, buf, count as usize, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_laid_out_as_linux_does() {
        let mut records = Records {
            out: Vec::new(),
            limit: 56,
            modern: true,
            too_small: false,
        };
        assert!(records.entry(b"a", 7, 4, 1));
        assert!(records.entry(b"12345", 8, 8, 2));
        assert!(!records.entry(b"x", 9, 8, 3));
        assert!(!records.too_small);
        assert_eq!(records.out.len(), 56);
        assert_eq!(records.out[16..18], 24u16.to_le_bytes());
        assert_eq!(
            (records.out[18], records.out[19], records.out[20]),
            (4, b'a', 0)
        );
        assert_eq!(records.out[24 + 16], 32);
    }
}
