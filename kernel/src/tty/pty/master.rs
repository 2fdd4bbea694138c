//! The master's file: what a terminal emulator or an SSH daemon holds.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::line::{Found, INPUT_BYTES, OUTPUT_BYTES};
use super::{FEED_BYTES, PTMX, Pty, REGISTRY};
use crate::abi::{self, ioctl as cmd};
use crate::error::{Errno, Result};
use crate::file::{File, OpenFile, PollEvents, PollTable};
use crate::mm::UserAddr;
use crate::process::{self, session};
use crate::tty::Tty;
use crate::tty::ioctl::{End, tty_ioctl};
use crate::vfs::{Caller, Path};
use crate::vm::{IoDest, IoSource, UserPtr};

/// The master's file.
pub struct Master {
    pub(super) pty: Arc<Pty>,
    pub(super) tty: Arc<Tty>,
}

impl Master {
    /// TIOCGPTPEER: a descriptor of the terminal, without going by its name.
    fn open_peer(&self, flags: u32) -> Result<isize> {
        const KNOWN: u32 = abi::O_ACCMODE | abi::O_NOCTTY | abi::O_NONBLOCK | abi::O_CLOEXEC;
        if flags & !(KNOWN | abi::O_LARGEFILE) != 0 {
            return Err(Errno::EINVAL);
        }
        let task = process::current();
        let files = task.files();
        let slot = files.reserve(task.process().limit(abi::RLIMIT_NOFILE))?;
        let file = self.tty.open(flags)?;
        let kept = flags & (abi::O_ACCMODE | abi::O_NONBLOCK | abi::O_LARGEFILE);
        let of = match self.place() {
            Some(path) => OpenFile::new_at(file, kept, Arc::new(path)),
            None => OpenFile::new(file, kept),
        };
        Ok(slot.install(of, flags & abi::O_CLOEXEC != 0) as isize)
    }

    /// The terminal's node in /dev/pts, if that is where the caller sees it (ttyname).
    fn place(&self) -> Option<Path> {
        let task = process::try_current()?;
        let (fs, cred) = (task.fs(), task.cred());
        let caller = Caller::new(&fs, &cred);
        let name = alloc::format!("/dev/pts/{}", self.pty.number);
        let path = caller.resolve(&caller.root, name.as_bytes(), false).ok()?;
        let rdev = path.dentry.inode.attr().ok()?.rdev;
        (rdev == self.pty.dev()).then_some(path)
    }

    fn flush(&self, which: u32) -> Result<isize> {
        let (reads, writes) = match which {
            abi::TCIFLUSH => (true, false),
            abi::TCOFLUSH => (false, true),
            abi::TCIOFLUSH => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        {
            let mut line = self.pty.line.lock();
            if reads {
                line.output.clear();
            }
            if writes {
                line.input.clear();
            }
        }
        self.tty.output_ready();
        self.pty.writable.wake_all();
        Ok(0)
    }
}

impl File for Master {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, of: &OpenFile, dst: &mut IoDest<'_>) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        loop {
            let (found, has_room) = {
                let mut line = self.pty.line.lock();
                let before = line.output.len();
                let found = line.take_output(dst.remaining());
                // Programs on the terminal go on when half of it is free.
                let (mark, now) = (OUTPUT_BYTES / 2, line.output.len());
                (found, before >= mark && now < mark)
            };
            if has_room {
                self.tty.output_ready();
            }
            match found {
                Found::Bytes(bytes) => return dst.put(&bytes),
                Found::Closed => return Err(Errno::EIO),
                Found::Nothing if of.nonblocking() => return Err(Errno::EAGAIN),
                Found::Nothing => {}
            }
            self.pty
                .readable
                .wait_interruptible(None, || {
                    let line = self.pty.line.lock();
                    (line.has_news() || line.is_closed()).then_some(())
                })
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }
    fn write(&self, of: &OpenFile, src: &mut IoSource<'_>) -> Result<usize> {
        let mut done = 0;
        let finish = |done: usize, e: Errno| if done > 0 { Ok(done) } else { Err(e) };
        let mut piece = [0; FEED_BYTES];
        while src.remaining() > 0 {
            if !self.pty.input_has_room() {
                if of.nonblocking() {
                    return finish(done, Errno::EAGAIN);
                }
                let room = || self.pty.input_has_room().then_some(());
                if self.pty.writable.wait_interruptible(None, room).is_err() {
                    return finish(done, Errno::ERESTARTSYS);
                }
                continue;
            }
            let n = match src.get(&mut piece) {
                Ok(n) => n,
                Err(e) => return finish(done, e),
            };
            self.pty.line.lock().input.extend(&piece[..n]);
            done += n;
            self.pty.feed(&self.tty);
        }
        Ok(done)
    }
    fn poll(&self, _of: &OpenFile, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.pty.readable);
            table.register_writers(&self.pty.writable);
        }
        let line = self.pty.line.lock();
        let mut events = PollEvents::empty();
        if line.has_news() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if line.events != 0 {
            events |= PollEvents::PRI;
        }
        if line.is_closed() {
            events |= PollEvents::HUP;
        }
        if line.input.len() < INPUT_BYTES {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }
    fn ioctl(&self, _of: &OpenFile, command: u32, arg: u64) -> Result<isize> {
        let int = UserPtr::<i32>::new(UserAddr(arg));
        match command {
            cmd::TIOCGPTN => int.write(self.pty.number as i32)?,
            cmd::TIOCSPTLCK => {
                let locked = int.read()? != 0;
                self.pty.line.lock().locked = locked;
            }
            cmd::TIOCGPTLCK => {
                let locked = self.pty.line.lock().locked;
                int.write(i32::from(locked))?;
            }
            cmd::TIOCGPTPEER => return self.open_peer(arg as u32),
            cmd::TIOCPKT => {
                let on = int.read()? != 0;
                let mut line = self.pty.line.lock();
                if line.packet != on {
                    line.packet = on;
                    line.events = 0;
                }
            }
            cmd::TIOCGPKT => {
                let on = self.pty.line.lock().packet;
                int.write(i32::from(on))?;
            }
            cmd::TIOCSIG => {
                if !(1..=64).contains(&arg) {
                    return Err(Errno::EINVAL);
                }
                session::signal_foreground(self.tty.device_number(), arg as u32);
            }
            cmd::FIONREAD => {
                let n = self.pty.line.lock().output.len();
                int.write(n as i32)?;
            }
            cmd::TCFLSH => return self.flush(arg as u32),
            // It would stop the master's own output, which no program does.
            cmd::TCXONC => return Err(Errno::EINVAL),
            _ => return tty_ioctl(&self.tty, End::Master, command, arg),
        }
        Ok(0)
    }
    fn stat(&self) -> Result<abi::stat> {
        // SAFETY: a C structure of integers: all zeros is a valid value.
        let mut st: abi::stat = unsafe { core::mem::zeroed() };
        st.st_mode = abi::S_IFCHR | 0o666;
        st.st_nlink = 1;
        st.st_rdev = PTMX.encode();
        st.st_blksize = 4096;
        Ok(st)
    }
    fn describe(&self) -> Vec<u8> {
        b"/dev/ptmx".to_vec()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.pty.line.lock().master_gone = true;
        let gone = REGISTRY.lock().live.remove(&self.pty.number);
        drop(gone);
        self.tty.hang_up_all();
    }
}
