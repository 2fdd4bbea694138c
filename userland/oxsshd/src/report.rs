//! What a connection's process tells the listener: one byte per event, through a pipe that ends with the login.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

/// An event of a connection that has not logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    LoggedIn,
    WrongPassword,
    /// It ended, and all it had tried were keys that were refused.
    OnlyRefusedKeys,
    /// It ended without a try.
    NoTry,
}

impl Event {
    const ALL: [(u8, Event); 4] = [
        (b'A', Event::LoggedIn),
        (b'P', Event::WrongPassword),
        (b'K', Event::OnlyRefusedKeys),
        (b'N', Event::NoTry),
    ];

    fn byte(self) -> u8 {
        Event::ALL
            .iter()
            .find(|(_, event)| *event == self)
            .map_or(b'?', |(byte, _)| *byte)
    }

    pub fn from_byte(byte: u8) -> Option<Event> {
        Event::ALL
            .iter()
            .find(|(known, _)| *known == byte)
            .map(|(_, event)| *event)
    }
}

/// The connection's end of the pipe, and what its last log line needs.
#[derive(Clone)]
pub struct Report(Arc<Mutex<State>>);

struct State {
    pipe: Option<std::fs::File>,
    tried_password: bool,
    tried_key: bool,
    logged_in: bool,
    /// The user of the last try, and whether the account exists and may log in.
    user: Option<(String, bool)>,
}

impl Report {
    pub fn new(pipe: Option<OwnedFd>) -> Report {
        let pipe = pipe.map(std::fs::File::from);
        Report(Arc::new(Mutex::new(State {
            pipe,
            tried_password: false,
            tried_key: false,
            logged_in: false,
            user: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn send(&self, event: Event) {
        let mut state = self.lock();
        if let Some(pipe) = &mut state.pipe {
            let _ = pipe.write_all(&[event.byte()]);
        }
        match event {
            Event::LoggedIn => {
                state.logged_in = true;
                state.pipe = None;
            }
            Event::WrongPassword => state.tried_password = true,
            _ => {}
        }
    }

    pub fn refused_key(&self) {
        self.lock().tried_key = true;
    }

    pub fn user(&self, name: &str, valid: bool) {
        self.lock().user = Some((name.to_string(), valid));
    }

    /// The connection ends. Gives its state and user in the words of log lines.
    pub fn ended(&self) -> (String, &'static str) {
        let last = {
            let state = self.lock();
            match (state.logged_in, state.tried_password, state.tried_key) {
                (true, ..) | (_, true, _) => None,
                (_, _, true) => Some(Event::OnlyRefusedKeys),
                _ => Some(Event::NoTry),
            }
        };
        if let Some(event) = last {
            self.send(event);
        }
        let state = self.lock();
        let who = match (&state.user, state.logged_in) {
            (Some((user, _)), true) => format!("user {user} "),
            (Some((user, true)), false) => format!("authenticating user {user} "),
            (Some((user, false)), false) => format!("invalid user {user} "),
            (None, _) => String::new(),
        };
        (who, if state.logged_in { "" } else { " [preauth]" })
    }
}
