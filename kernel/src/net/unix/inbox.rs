//! What a unix socket was sent and has not read: messages with what goes along with them.
//!
//! The messages are guarded by a sleeping mutex, which may be held across user copies; how
//! much there is stands in an atomic beside it, so that waiters and `poll` look without it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::Kind;
use super::address::Name;
use super::passing::Passed;
use crate::error::{Errno, Result};
use crate::file::OpenFile;
use crate::net::fifo::Fifo;
use crate::sched::Mutex;
use crate::vm::IoDest;

/// What a message costs beyond its bytes, so that small ones count too.
pub const MESSAGE_COST: usize = 64;

/// (pid, uid, gid) of a sender.
pub type Sender = (i32, u32, u32);

/// One send, or a piece of a stream's.
pub struct Message {
    pub bytes: Vec<u8>,
    /// Bytes before this one were read.
    pub start: usize,
    pub files: Option<Passed>,
    pub sender: Sender,
    /// The sender's name, of datagrams.
    pub from: Option<Arc<Name>>,
}

impl Message {
    fn cost(&self) -> usize {
        self.bytes.len() - self.start + MESSAGE_COST
    }
}

/// What a look into the inbox gave.
#[derive(Default)]
pub struct Taken {
    pub len: usize,
    pub full_len: usize,
    pub files: Vec<Arc<OpenFile>>,
    /// Of the first byte or message.
    pub sender: Option<Sender>,
    pub from: Option<Arc<Name>>,
    /// A stream's read ends here though more is there: other files or senders follow.
    pub ends: bool,
    /// Room was made.
    pub freed: bool,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    pub peek: bool,
    /// The receiver hears who sent: what different ones sent is kept apart.
    pub by_sender: bool,
}

#[derive(Default)]
pub struct Inbox {
    messages: Mutex<Fifo<Message>>,
    /// What the messages cost.
    used: AtomicUsize,
}

impl Inbox {
    /// What its messages cost, in bytes.
    pub fn used(&self) -> usize {
        self.used.load(SeqCst)
    }
    /// Whether there is a message.
    pub fn has_any(&self) -> bool {
        self.used() > 0
    }
    /// Whether a message may come in when `limit` is the most. As on Linux any room is room
    /// for a whole message, which is no longer than `limit` itself.
    pub fn has_room(&self, limit: usize) -> bool {
        self.used() < limit
    }
    /// Adds what `make` makes, if there is room and `open` holds (looked at under the lock).
    /// False: nothing was done.
    pub fn put(
        &self,
        limit: usize,
        open: impl FnOnce() -> Result<()>,
        make: impl FnOnce() -> Result<Message>,
    ) -> Result<bool> {
        let mut messages = self.messages.lock();
        open()?;
        if !self.has_room(limit) {
            return Ok(false);
        }
        if !messages.reserve() {
            return Err(Errno::ENOBUFS);
        }
        let message = make()?;
        self.used.fetch_add(message.cost(), SeqCst);
        // There is room.
        let _ = messages.push_back(message);
        Ok(true)
    }
    /// Takes everything out: the owner is gone. True if there was something.
    pub fn clear(&self) -> bool {
        let gone = core::mem::take(&mut *self.messages.lock());
        self.used.store(0, SeqCst);
        !gone.is_empty()
    }
    /// Gives each file in its messages to `see`, under its lock.
    pub fn each_sent(&self, see: &mut dyn FnMut(&Arc<OpenFile>)) {
        let messages = self.messages.lock();
        let passed = messages.iter().filter_map(|m| m.files.as_ref());
        passed.flat_map(Passed::files).for_each(see);
    }
    /// Unread bytes: of the next message, or of all of a stream's (FIONREAD).
    pub fn nr_readable(&self, kind: Kind) -> usize {
        let messages = self.messages.lock();
        let unread = |m: &Message| m.bytes.len() - m.start;
        match kind {
            Kind::Stream => messages.iter().map(unread).sum(),
            _ => messages.front().map_or(0, unread),
        }
    }
    /// Moves what is there to `dst`; `None` when there is nothing.
    pub fn take(&self, kind: Kind, dst: &mut IoDest<'_>, how: How) -> Result<Option<Taken>> {
        let mut messages = self.messages.lock();
        if messages.is_empty() {
            return Ok(None);
        }
        let mut taken = Taken::default();
        let before: usize = self.used();
        let result = if kind == Kind::Stream {
            self.take_stream(&mut messages, dst, how, &mut taken)
        } else {
            self.take_message(&mut messages, dst, how, &mut taken)
        };
        taken.freed = self.used() < before;
        drop(messages);
        match result {
            Err(e) if taken.len == 0 => Err(e),
            _ => Ok(Some(taken)),
        }
    }

    fn take_stream(
        &self,
        messages: &mut Fifo<Message>,
        dst: &mut IoDest<'_>,
        how: How,
        taken: &mut Taken,
    ) -> Result<()> {
        let mut at = 0;
        while dst.remaining() > 0 {
            let Some(message) = messages.get_mut(at) else {
                return Ok(());
            };
            if how.by_sender && taken.sender.is_some_and(|s| s != message.sender) {
                taken.ends = true;
                return Ok(());
            }
            let n = dst.put(&message.bytes[message.start..])?;
            taken.sender.get_or_insert(message.sender);
            taken.len += n;
            taken.full_len += n;
            let has_files = message.files.is_some();
            if how.peek {
                taken.files = message.files.as_ref().map_or_else(Vec::new, Passed::peek);
                at += 1;
            } else {
                taken.files = message.files.take().map_or_else(Vec::new, Passed::take);
                message.start += n;
                self.used.fetch_sub(n, SeqCst);
                if message.start == message.bytes.len() {
                    messages.pop_front();
                    self.used.fetch_sub(MESSAGE_COST, SeqCst);
                }
            }
            // The files of one message come with its bytes only.
            if has_files {
                taken.ends = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn take_message(
        &self,
        messages: &mut Fifo<Message>,
        dst: &mut IoDest<'_>,
        how: How,
        taken: &mut Taken,
    ) -> Result<()> {
        let Some(message) = messages.front_mut() else {
            return Ok(());
        };
        taken.full_len = message.bytes.len();
        taken.len = dst.put(&message.bytes)?;
        taken.sender = Some(message.sender);
        taken.from = message.from.clone();
        if how.peek {
            taken.files = message.files.as_ref().map_or_else(Vec::new, Passed::peek);
            return Ok(());
        }
        taken.files = message.files.take().map_or_else(Vec::new, Passed::take);
        let cost = message.cost();
        messages.pop_front();
        self.used.fetch_sub(cost, SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Sender = (1, 0, 0);

    fn put(inbox: &Inbox, text: &[u8], sender: Sender) -> bool {
        let message = Message {
            bytes: text.to_vec(),
            start: 0,
            files: None,
            sender,
            from: None,
        };
        inbox.put(1000, || Ok(()), || Ok(message)).unwrap()
    }

    fn take(inbox: &Inbox, kind: Kind, max: usize, how: How) -> Option<(Vec<u8>, usize)> {
        let mut buf = alloc::vec![0; max];
        let taken = inbox
            .take(kind, &mut IoDest::kernel(&mut buf), how)
            .unwrap()?;
        buf.truncate(taken.len);
        Some((buf, taken.full_len))
    }

    #[test]
    fn streams_join_messages_and_messages_stay_apart() {
        let inbox = Inbox::default();
        assert!(take(&inbox, Kind::Stream, 9, How::default()).is_none());
        put(&inbox, b"one", ME);
        put(&inbox, b"two", ME);
        let peek = How {
            peek: true,
            by_sender: false,
        };
        assert_eq!(
            take(&inbox, Kind::Stream, 9, peek),
            Some((b"onetwo".to_vec(), 6))
        );
        assert_eq!(inbox.nr_readable(Kind::Stream), 6);
        assert_eq!(inbox.nr_readable(Kind::Datagram), 3);
        assert_eq!(
            take(&inbox, Kind::Stream, 4, How::default()),
            Some((b"onet".to_vec(), 4))
        );
        assert_eq!(
            take(&inbox, Kind::Stream, 9, How::default()),
            Some((b"wo".to_vec(), 2))
        );
        assert_eq!(inbox.used(), 0);
        put(&inbox, b"first", ME);
        put(&inbox, b"", ME);
        assert_eq!(
            take(&inbox, Kind::Seqpacket, 2, How::default()),
            Some((b"fi".to_vec(), 5))
        );
        assert_eq!(
            take(&inbox, Kind::Seqpacket, 2, How::default()),
            Some((Vec::new(), 0))
        );
        assert_eq!(inbox.used(), 0);
    }

    #[test]
    fn senders_are_kept_apart_for_who_asks() {
        let inbox = Inbox::default();
        put(&inbox, b"a", ME);
        put(&inbox, b"b", ME);
        put(&inbox, b"c", (2, 5, 5));
        let how = How {
            peek: false,
            by_sender: true,
        };
        assert_eq!(
            take(&inbox, Kind::Stream, 9, how),
            Some((b"ab".to_vec(), 2))
        );
        assert_eq!(take(&inbox, Kind::Stream, 9, how), Some((b"c".to_vec(), 1)));
    }

    #[test]
    fn an_inbox_is_bounded() {
        let inbox = Inbox::default();
        assert!(put(&inbox, &[0; 5000], ME));
        assert!(!put(&inbox, b"x", ME));
        assert!(inbox.clear());
        assert!(put(&inbox, b"x", ME));
    }
}
