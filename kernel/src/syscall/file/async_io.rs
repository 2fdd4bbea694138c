//! Signal-driven input and output: which files can do it, and the commands that set it up
//! (man 2 fcntl; man 7 socket, FIOASYNC and SIOCSPGRP).

use alloc::sync::Arc;

use crate::abi;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::file::async_io::{self, Kind};
use crate::file::pipe::PipeEnd;
use crate::mm::UserAddr;
use crate::net;
use crate::process::{Task, session, sigio, sigstate};
use crate::tty::TtyFile;
use crate::tty::pty::master::Master;
use crate::vfs::inotify::Inotify;
use crate::vm::UserPtr;

/// Of what the file tells; `None` for those that never tell, as on Linux.
fn kind_of(of: &OpenFile) -> Option<Kind> {
    let file = of.file.as_any();
    if file.is::<PipeEnd>() {
        Some(Kind::Pipe)
    } else if file.is::<TtyFile>() || file.is::<Master>() {
        Some(Kind::Terminal)
    } else if file.is::<Inotify>() {
        Some(Kind::Events)
    } else {
        net::of_file(&*of.file).map(|_| Kind::Socket)
    }
}

/// Sets or clears O_ASYNC through descriptor `fd`. ENOTTY for files that never tell; ENOMEM.
fn change(task: &Task, of: &Arc<OpenFile>, fd: i32, on: bool) -> Result<()> {
    if on == (of.flags() & abi::FASYNC != 0) {
        return Ok(());
    }
    let kind = kind_of(of).ok_or(Errno::ENOTTY)?;
    if !on {
        async_io::stop(of);
        return Ok(());
    }
    async_io::start(of, fd, kind)?;
    // A terminal tells who is in front unless somebody else is named.
    if kind == Kind::Terminal && async_io::owner(of).is_none() {
        let terminal = of.file.as_any().downcast_ref::<TtyFile>();
        let front = terminal.and_then(|t| session::foreground(t.tty().device_number()));
        match front.filter(|&group| group > 0) {
            Some(group) => sigio::set_owner_of_type(task, of, abi::F_OWNER_PGRP, group),
            None => sigio::set_owner(task, of, task.pid()),
        }?;
    }
    Ok(())
}

/// The part of F_SETFL that concerns O_ASYNC: files that never tell leave it out.
pub(super) fn set_flag(task: &Task, of: &Arc<OpenFile>, fd: i32, on: bool) -> Result<()> {
    match change(task, of, fd, on) {
        Err(Errno::ENOTTY) => Ok(()),
        result => result,
    }
}

/// F_SETOWN to F_GETOWN_EX; `None`: another command.
pub(super) fn command(
    task: &Task,
    of: &Arc<OpenFile>,
    cmd: u32,
    arg: u64,
) -> Option<Result<isize>> {
    // struct f_owner_ex.
    let at = UserPtr::<[i32; 2]>::new(UserAddr(arg));
    let result = match cmd {
        abi::F_SETOWN => sigio::set_owner(task, of, arg as i32).map(|()| 0),
        abi::F_GETOWN => Ok(sigio::owner(of) as isize),
        abi::F_SETSIG if arg > u64::from(sigstate::NSIG) => Err(Errno::EINVAL),
        abi::F_SETSIG => {
            async_io::set_signal(of, arg as u32);
            Ok(0)
        }
        abi::F_GETSIG => Ok(async_io::signal(of) as isize),
        abi::F_SETOWN_EX => at.read().and_then(|owner| {
            let [kind, id] = owner;
            let kind = u32::try_from(kind).map_err(|_| Errno::EINVAL)?;
            sigio::set_owner_of_type(task, of, kind, id)?;
            Ok(0)
        }),
        abi::F_GETOWN_EX => {
            let (kind, pid) = sigio::owner_and_type(of);
            at.write([kind as i32, pid]).map(|()| 0)
        }
        _ => return None,
    };
    Some(result)
}

/// FIOASYNC, and the owner of sockets (FIOSETOWN and its kin); `None`: another command.
pub(super) fn control(
    task: &Task,
    of: &Arc<OpenFile>,
    fd: i32,
    cmd: u32,
    arg: u64,
) -> Option<Result<()>> {
    let int = UserPtr::<i32>::new(UserAddr(arg));
    let is_socket = || kind_of(of) == Some(Kind::Socket);
    match cmd {
        abi::ioctl::FIOASYNC => Some(int.read().and_then(|on| change(task, of, fd, on != 0))),
        abi::ioctl::FIOSETOWN | abi::ioctl::SIOCSPGRP if is_socket() => {
            Some(int.read().and_then(|who| sigio::set_owner(task, of, who)))
        }
        abi::ioctl::FIOGETOWN | abi::ioctl::SIOCGPGRP if is_socket() => {
            Some(int.write(sigio::owner(of)))
        }
        _ => None,
    }
}
