//! Bytes between channels and descriptors: pipes, pseudo-terminals and sockets.
//!
//! From the client: the connection puts what arrives into the channel's [`Inbox`], whose size the channel's window
//! bounds; a task writes it to the descriptor and gives the window back as it goes. To the client: a task reads and
//! sends, and waits where the client's window is used up. Nothing here makes one channel wait for another.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, Bytes, BytesMut};
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// What is read at once; two packets of the usual largest size.
const READ_BYTES: usize = 64 << 10;
/// Window is given back in pieces of at least this size while there is more to write.
const GIVE_BACK_BYTES: u32 = 256 << 10;

/// What a client has sent on a channel and nobody has taken yet.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Notify,
    closed: Notify,
}

#[derive(Default)]
struct State {
    data: BytesMut,
    ended: bool,
}

/// What an [`Inbox`] holds next.
pub enum Next {
    Data(BytesMut),
    End,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn push(&self, data: &[u8]) {
        self.lock().data.extend_from_slice(data);
        self.changed.notify_one();
    }

    /// No more comes.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// No more comes, and the client takes nothing more either.
    pub fn close(&self) {
        self.end();
        // Kept for whoever asks later: one task does.
        self.closed.notify_one();
    }

    /// Waits for [`Inbox::close`]. One task may wait.
    async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Waits for data, or the end after all data. One task may wait.
    pub async fn next(&self) -> Next {
        loop {
            {
                let mut state = self.lock();
                if !state.data.is_empty() {
                    return Next::Data(std::mem::take(&mut state.data));
                }
                if state.ended {
                    return Next::End;
                }
            }
            self.changed.notified().await;
        }
    }
}

/// What kind of descriptor it is, for its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pipe,
    Terminal,
    Socket,
}

/// A descriptor that is read and written without blocking.
pub struct Endpoint {
    fd: AsyncFd<OwnedFd>,
    kind: Kind,
    /// Bytes read so far, and whether a reader waits for more now.
    nr_read: AtomicU64,
    waiting: AtomicBool,
}

impl Endpoint {
    /// # Errors
    /// What fcntl(2) and epoll say.
    pub fn new(fd: OwnedFd, kind: Kind) -> io::Result<Endpoint> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let interest = match kind {
            Kind::Pipe if flags.contains(OFlag::O_WRONLY) => Interest::WRITABLE,
            Kind::Pipe => Interest::READABLE,
            _ => Interest::READABLE | Interest::WRITABLE,
        };
        Ok(Endpoint {
            // SAFETY: the descriptor is owned, so it stays the same open file until it is dropped with its registration.
            fd: unsafe { AsyncFd::register_with_interest(fd, interest) }
                .map_err(|error| error.into_parts().1)?,
            kind,
            nr_read: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
        })
    }

    pub fn descriptor(&self) -> &OwnedFd {
        self.fd.get_ref()
    }

    /// Bytes read so far while a reader waits for more; `None` while one is busy with what it has.
    pub fn idle_at(&self) -> Option<u64> {
        self.waiting
            .load(Ordering::Relaxed)
            .then(|| self.nr_read.load(Ordering::Relaxed))
    }

    async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        buffer.reserve(READ_BYTES);
        self.waiting.store(true, Ordering::Relaxed);
        let got = self.read_into(buffer).await;
        self.waiting.store(false, Ordering::Relaxed);
        self.nr_read
            .fetch_add(*got.as_ref().unwrap_or(&0) as u64, Ordering::Relaxed);
        got
    }

    async fn read_into(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.fd
            .async_io(Interest::READABLE, |fd| {
                let room = buffer.spare_capacity_mut();
                // SAFETY: `room` is memory of the buffer that may be written, with its own length.
                let got = unsafe {
                    libc::read(
                        fd.as_raw_fd(),
                        room.as_mut_ptr().cast(),
                        room.len().min(READ_BYTES),
                    )
                };
                let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
                // SAFETY: read(2) has written that many bytes at the start of the spare room.
                unsafe { buffer.set_len(buffer.len() + got) };
                Ok(got)
            })
            .await
    }

    async fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.fd
            .async_io(Interest::WRITABLE, |fd| {
                // SAFETY: the pointer and length are those of `data`.
                let put = unsafe { libc::write(fd.as_raw_fd(), data.as_ptr().cast(), data.len()) };
                usize::try_from(put).map_err(|_| io::Error::last_os_error())
            })
            .await
    }

    /// After the last byte: a socket's peer sees the end. A pipe ends with its descriptor, a terminal does not end.
    fn finish(&self) {
        if self.kind == Kind::Socket {
            // SAFETY: only the descriptor's number is passed, and it is open.
            unsafe { libc::shutdown(self.fd.as_raw_fd(), libc::SHUT_WR) };
        }
    }
}

/// A channel as tasks see it.
#[derive(Clone)]
pub struct Channel {
    pub id: ChannelId,
    pub handle: Handle,
    pub writer: Arc<ChannelWriteHalf<Msg>>,
    pub inbox: Arc<Inbox>,
}

impl Channel {
    /// Writes everything that comes to `to`. Once nobody reads there any more the rest is thrown away, as a pipe whose
    /// reader has gone would.
    pub async fn copy_in(&self, to: Arc<Endpoint>) {
        let mut consumed = 0;
        let mut broken = false;
        loop {
            // All that is there has been written: what waits for it gets it back now.
            self.give_back(&mut consumed);
            let Next::Data(mut data) = self.inbox.next().await else {
                break;
            };
            while data.has_remaining() {
                let put = if broken {
                    data.len()
                } else {
                    to.write(&data).await.unwrap_or(0)
                };
                if put == 0 {
                    broken = true;
                    continue;
                }
                data.advance(put);
                consumed += u32::try_from(put).unwrap_or(u32::MAX);
                if consumed >= GIVE_BACK_BYTES {
                    self.give_back(&mut consumed);
                }
            }
        }
        to.finish();
    }

    fn give_back(&self, consumed: &mut u32) {
        if *consumed > 0 {
            let _ = self.handle.adjust_window(self.id, *consumed);
            *consumed = 0;
        }
    }

    /// Sends everything that `from` gives, as data or, with a code, as extended data, until its end.
    pub async fn copy_out(&self, from: Arc<Endpoint>, extended: Option<u32>) {
        let mut buffer = BytesMut::new();
        // A terminal whose last user has gone gives EIO: an end like any other.
        while matches!(from.read(&mut buffer).await, Ok(1..)) {
            if !self.send(buffer.split().freeze(), extended).await {
                return;
            }
        }
    }

    /// Sends `data`; false when the connection is gone.
    pub async fn send(&self, data: Bytes, extended: Option<u32>) -> bool {
        let sent = match extended {
            None => self.writer.data_bytes(data).await,
            Some(code) => self.writer.extended_data_bytes(code, data).await,
        };
        sent.is_ok()
    }

    /// Copies both ways between the channel and a socket, until both directions have ended. When the client closes
    /// the channel, what it has sent before still reaches the socket.
    pub async fn relay(&self, socket: OwnedFd) {
        let Ok(socket) = Endpoint::new(socket, Kind::Socket) else {
            let _ = self.writer.close().await;
            return;
        };
        let socket = Arc::new(socket);
        let out = async {
            self.copy_out(socket.clone(), None).await;
            let _ = self.writer.eof().await;
        };
        let out = async {
            tokio::select! {
                () = out => {}
                () = self.inbox.closed() => {}
            }
        };
        tokio::join!(out, self.copy_in(socket.clone()));
        let _ = self.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_gives_data_before_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let inbox = Inbox::default();
            inbox.push(b"ab");
            inbox.push(b"c");
            inbox.end();
            assert!(matches!(inbox.next().await, Next::Data(data) if &data[..] == b"abc"));
            assert!(matches!(inbox.next().await, Next::End));
        });
    }
}
