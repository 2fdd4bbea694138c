//! Moving bytes between a program and a connection, through a bounce buffer: no page fault
//! happens under the stack's lock. Writers are serialised by a sleeping lock, taken before the
//! stack's and never held while waiting for room.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use super::connection::Connection;
use super::{Phase, TcpSocket, interrupted};
use crate::error::{Errno, Result};
use crate::mm::PAGE_SIZE;
use crate::net::inet::Options;
use crate::net::stack::flow::bit;
use crate::net::{MsgFlags, Outgoing, Received};
use crate::vm::{IoDest, IoSource};

/// Bytes that one look at the stack moves.
const CHUNK: usize = 64 * 1024;

/// Memory for `want` bytes; where memory has no such block for a page, or for less. ENOMEM.
fn bounce_buffer(want: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for len in [want, want.min(PAGE_SIZE), want.min(512)] {
        if bytes.try_reserve_exact(len).is_ok() {
            bytes.resize(len, 0);
            return Ok(bytes);
        }
    }
    Err(Errno::ENOMEM)
}

impl TcpSocket {
    /// Moves what is there to `dst`: `None` when nothing is, or the end is reached.
    fn take(&self, c: &Connection, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Option<usize>> {
        let ready = c.status.readable.load(SeqCst);
        let want = ready.min(dst.remaining()).min(CHUNK);
        if want == 0 {
            return Ok(None);
        }
        let mut bounce = bounce_buffer(want)?;
        let n = c.netif.with_tcp(c.id, |socket| {
            if flags.peek {
                return socket.peek_slice(&mut bounce).unwrap_or(0);
            }
            let n = socket.recv_slice(&mut bounce).unwrap_or(0);
            if n > 0 && !c.awaits_answer(n) {
                // The sender may wait for it (RFC 896).
                socket.ack_now();
            }
            n
        })?;
        if n == 0 {
            return Ok(None);
        }
        if flags.discard {
            dst.skip(n);
            return Ok(Some(n));
        }
        dst.put(&bounce[..n]).map(Some)
    }

    /// man 2 send. EPIPE when it may not or no longer write, EAGAIN when nothing was taken.
    pub(super) fn send_bytes(
        &self,
        src: &mut IoSource<'_>,
        flags: MsgFlags,
        with: Outgoing<'_>,
    ) -> Result<usize> {
        if !with.files.is_empty() || with.credentials.is_some() {
            return Err(Errno::EINVAL);
        }
        // An address is ignored for a connected stream (man 2 send).
        let c = match self.phase() {
            Phase::Connected(c) => c,
            _ => return Err(Errno::EPIPE),
        };
        let status = &c.status;
        let deadline = Options::deadline(self.options().send_timeout_ns);
        let was_corked = c.corked.swap(flags.more, SeqCst);
        let corked = flags.more || self.options().cork;
        let mut sent = 0;
        let mut bounce = Vec::new();
        // Bytes of it that the connection has not taken yet.
        let mut rest = 0..0;
        loop {
            let failure = if status.has(bit::WRITE_END) || c.write_shut.load(SeqCst) {
                Some(status.take_error().unwrap_or(Errno::EPIPE))
            } else {
                None
            };
            if let Some(e) = failure {
                return if sent > 0 { Ok(sent) } else { Err(e) };
            }
            if src.remaining() == 0 && rest.is_empty() {
                return Ok(sent);
            }
            // Alone, so that the room that is seen is there when the bytes come.
            let writing = self.writing.lock();
            let room = status.room.load(SeqCst);
            if room > 0 {
                if rest.is_empty() {
                    let want = room.min(src.remaining()).min(CHUNK);
                    if bounce.len() < want {
                        bounce = match bounce_buffer(want) {
                            Ok(bounce) => bounce,
                            Err(_) if sent > 0 => return Ok(sent),
                            Err(e) => return Err(e),
                        };
                    }
                    let want = want.min(bounce.len());
                    rest = match src.get(&mut bounce[..want]) {
                        Ok(n) => 0..n,
                        Err(_) if sent > 0 => return Ok(sent),
                        Err(e) => return Err(e),
                    };
                }
                let queued = c.netif.with_tcp(c.id, |socket| {
                    if corked || was_corked {
                        Self::cork(corked, socket);
                    }
                    socket.send_slice(&bounce[rest.clone()])
                })?;
                c.answered();
                // Fewer than there was room for when there was no memory; what is left then
                // waits for room. A connection that just broke takes none.
                let queued = queued.unwrap_or(0);
                sent += queued;
                rest.start += queued;
                continue;
            }
            drop(writing);
            if flags.nonblocking {
                return if sent > 0 {
                    Ok(sent)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            let waited = self.writers.wait_interruptible(deadline, || {
                let ready = status.room.load(SeqCst) > 0
                    || status.has(bit::WRITE_END)
                    || c.write_shut.load(SeqCst);
                ready.then_some(())
            });
            if let Err(e) = waited {
                return if sent > 0 {
                    Ok(sent)
                } else {
                    Err(interrupted(e, Errno::EAGAIN))
                };
            }
        }
    }

    /// man 2 recv. ENOTCONN, EAGAIN.
    pub(super) fn receive_bytes(&self, dst: &mut IoDest<'_>, flags: MsgFlags) -> Result<Received> {
        if flags.errors {
            // Streams tell their errors by calls that fail.
            return Err(Errno::EAGAIN);
        }
        let c = self.connection()?;
        let status = &c.status;
        let deadline = Options::deadline(self.options().receive_timeout_ns);
        let mut total = Received::default();
        if dst.remaining() == 0 {
            return Ok(total);
        }
        // SO_RCVLOWAT: what one call waits for.
        let target = (self.options().receive_low as usize).clamp(1, dst.remaining());
        loop {
            // Looked at before the bytes: what came before the end is not missed.
            let over = status.has(bit::READ_END | bit::CLOSED) || c.read_shut.load(SeqCst);
            match self.take(&c, dst, flags) {
                Ok(Some(n)) => {
                    total.len += n;
                    total.full_len = total.len;
                    if flags.peek || dst.remaining() == 0 {
                        return Ok(total);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(_) if total.len > 0 => return Ok(total),
                Err(Errno::ENOTCONN) => {}
                Err(e) => return Err(e),
            }
            if total.len >= target && !flags.wait_all {
                return Ok(total);
            }
            if over {
                return match status.take_error() {
                    Some(e) if total.len == 0 => Err(e),
                    _ => Ok(total),
                };
            }
            if !status.has(bit::CONNECTED) && !c.told.load(SeqCst) && status.has(bit::CLOSED) {
                return Err(Errno::ENOTCONN);
            }
            if flags.nonblocking {
                return if total.len > 0 {
                    Ok(total)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            let waited = self.readers.wait_interruptible(deadline, || {
                let wanted = target.saturating_sub(total.len).max(1);
                let ready = status.readable.load(SeqCst) >= wanted
                    || status.has(bit::READ_END | bit::CLOSED)
                    || c.read_shut.load(SeqCst);
                ready.then_some(())
            });
            if let Err(e) = waited {
                return if total.len > 0 {
                    Ok(total)
                } else {
                    Err(interrupted(e, Errno::EAGAIN))
                };
            }
        }
    }
}
