//! The table of a connection's open channels: where data that arrives goes, and which task runs each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf};
use tokio::task::AbortHandle;

use crate::session::Session;
use crate::session::stream::{Channel, Inbox};

#[derive(Default)]
struct Entry {
    inbox: Arc<Inbox>,
    writer: Option<Arc<ChannelWriteHalf<Msg>>>,
    task: Option<AbortHandle>,
    session: Option<Session>,
}

/// Shared by the connection's handler and its tasks, all of one thread.
#[derive(Clone, Default)]
pub struct Channels(Arc<Mutex<HashMap<ChannelId, Entry>>>);

impl Channels {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Entry>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes room for what arrives on a channel that the client has just confirmed: its data may come before the task
    /// that asked for it runs.
    pub fn confirmed(&self, id: ChannelId) {
        self.lock().entry(id).or_default();
    }

    /// Enters a channel. What the library would queue for it comes through the handler instead.
    pub fn attach(&self, channel: russh::Channel<Msg>, handle: &Handle) -> Channel {
        let id = channel.id();
        let (_, writer) = channel.split();
        let writer = Arc::new(writer);
        let mut table = self.lock();
        let entry = table.entry(id).or_default();
        entry.writer = Some(writer.clone());
        Channel {
            id,
            handle: handle.clone(),
            writer,
            inbox: entry.inbox.clone(),
        }
    }

    /// Enters a channel of the kind that runs programs.
    pub fn attach_session(&self, channel: russh::Channel<Msg>, handle: &Handle) {
        let id = self.attach(channel, handle).id;
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.session = Some(Session::default());
        }
    }

    /// The channel as its task needs it.
    pub fn get(&self, id: ChannelId, handle: &Handle) -> Option<Channel> {
        let table = self.lock();
        let entry = table.get(&id)?;
        Some(Channel {
            id,
            handle: handle.clone(),
            writer: entry.writer.clone()?,
            inbox: entry.inbox.clone(),
        })
    }

    /// Runs a channel's task; the channel leaves the table at its end.
    pub fn run(&self, id: ChannelId, work: impl Future<Output = ()> + Send + 'static) {
        let channels = self.clone();
        let task = tokio::spawn(async move {
            work.await;
            channels.lock().remove(&id);
        });
        match self.lock().get_mut(&id) {
            Some(entry) => entry.task = Some(task.abort_handle()),
            // Closed by the client in the meantime.
            None => task.abort(),
        }
    }

    pub fn data(&self, id: ChannelId, data: &[u8]) {
        if let Some(entry) = self.lock().get(&id) {
            entry.inbox.push(data);
        }
    }

    pub fn end(&self, id: ChannelId) {
        if let Some(entry) = self.lock().get(&id) {
            entry.inbox.end();
        }
    }

    /// The client has closed the channel. A session's task ends, and with it descriptors and terminal; a forwarded
    /// connection first gets what the client sent before.
    pub fn close(&self, id: ChannelId) {
        let mut table = self.lock();
        match table.get(&id) {
            Some(entry) if entry.session.is_none() => entry.inbox.close(),
            _ => {
                let entry = table.remove(&id);
                drop(table);
                if let Some(task) = entry.and_then(|entry| entry.task) {
                    task.abort();
                }
            }
        }
    }

    /// How many channels are sessions.
    pub fn nr_sessions(&self) -> usize {
        self.lock()
            .values()
            .filter(|entry| entry.session.is_some())
            .count()
    }

    /// Works on a session; `None` where the channel is none.
    pub fn session<R>(&self, id: ChannelId, work: impl FnOnce(&mut Session) -> R) -> Option<R> {
        self.lock().get_mut(&id)?.session.as_mut().map(work)
    }
}
