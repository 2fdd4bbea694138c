//! A connection as its socket sees it, and whether it is a conversation.
//!
//! In a conversation each side waits for the other: an acknowledgement may wait for the answer
//! that will carry it. In a transfer the sender may wait for the acknowledgement.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};

use crate::net::stack::Netif;
use crate::net::stack::flow::{FlowId, FlowKey, Status};

/// Turns that make a conversation (as Linux counts them).
pub(super) const INTERACTIVE: u8 = 3;

/// Bytes from which on it is no talk but a transfer.
const TALK: usize = 1024;

/// Set in the count of turns while bytes were read and nothing was written since.
const READ_LAST: u8 = 0x80;

/// A connection of the stack.
pub(super) struct Connection {
    pub(super) netif: Arc<Netif>,
    pub(super) id: FlowId,
    pub(super) key: FlowKey,
    pub(super) status: Arc<Status>,
    /// The program was told that it is connected.
    pub(super) told: AtomicBool,
    /// Turns of talk in which a read was answered by a write: from [`INTERACTIVE`] on,
    /// acknowledgements wait for the answer.
    pub(super) turns: AtomicU8,
    /// The last send was one with MSG_MORE.
    pub(super) corked: AtomicBool,
    pub(super) read_shut: AtomicBool,
    pub(super) write_shut: AtomicBool,
}

impl Connection {
    /// Flow `id` of `netif`; `told` whether the program knows that it is connected.
    pub(super) fn new(
        netif: Arc<Netif>,
        id: FlowId,
        key: FlowKey,
        status: Arc<Status>,
        told: bool,
    ) -> Connection {
        Connection {
            netif,
            id,
            key,
            status,
            told: AtomicBool::new(told),
            turns: AtomicU8::new(0),
            corked: AtomicBool::new(false),
            read_shut: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
        }
    }

    /// Notes that `n` bytes were read; whether an answer is to be expected, which takes the
    /// acknowledgement along.
    pub(super) fn awaits_answer(&self, n: usize) -> bool {
        let turns = self.turns.load(SeqCst);
        // Two reads without an answer: it is no conversation.
        let turns = if turns & READ_LAST != 0 { 0 } else { turns };
        self.turns.store(turns | READ_LAST, SeqCst);
        turns >= INTERACTIVE && n < TALK
    }

    /// Whether acknowledgements wait for answers.
    pub(super) fn is_conversation(&self) -> bool {
        self.turns.load(SeqCst) & !READ_LAST >= INTERACTIVE
    }

    /// Notes that bytes were written.
    pub(super) fn answered(&self) {
        let turns = self.turns.load(SeqCst);
        if turns & READ_LAST != 0 {
            let turns = (turns & !READ_LAST).saturating_add(1).min(INTERACTIVE);
            self.turns.store(turns, SeqCst);
        }
    }
}
