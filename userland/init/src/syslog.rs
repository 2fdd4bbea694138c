//! The system log: datagrams on /dev/log, written to /var/log/messages.
//!
//! The messages are what syslog(3) sends: `<PRI>Mmm dd hh:mm:ss TAG: TEXT`
//! (RFC 3164, which calls that HEADER and MSG). The sender's time is dropped for ours, the
//! priority is spelt out. A sender that floods loses lines, not the others:
//! the socket is always emptied, and what is over the budget is counted.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Instant, SystemTime};

use crate::budget::Budget;
use crate::clock::stamp;
use crate::log::{Log, push_line};

const SOCKET: &str = "/dev/log";
const FILE: &str = "/var/log/messages";
const LIMIT: u64 = 1024 * 1024;
/// The longest message; the rest of a longer one is cut off.
const MAX_MESSAGE: usize = 2048;
/// Messages taken in one go.
const BATCH: usize = 64;

/// RFC 3164, 4.1.1: by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

pub struct Syslog {
    socket: Option<UnixDatagram>,
    log: Log,
    budget: Budget,
    nr_lost: u64,
}

impl Syslog {
    pub fn new(now: Instant) -> Self {
        Self {
            socket: None,
            log: Log::new(Path::new(FILE), LIMIT),
            budget: Budget::new(now),
            nr_lost: 0,
        }
    }

    /// Makes /dev/log, for everybody to write to.
    pub fn listen(&mut self) -> std::io::Result<()> {
        let _ = std::fs::remove_file(SOCKET);
        let socket = UnixDatagram::bind(SOCKET)?;
        socket.set_nonblocking(true)?;
        std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o666))?;
        self.socket = Some(socket);
        Ok(())
    }

    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Takes what has come.
    pub fn receive(&mut self, now: Instant) {
        let mut message = [0; MAX_MESSAGE];
        let mut lines = Vec::new();
        let wall = SystemTime::now();
        let time = stamp(wall);
        for _ in 0..BATCH {
            let Some(socket) = &self.socket else { break };
            let Ok(length) = socket.recv(&mut message) else {
                break;
            };
            if self.budget.wait(now).is_some() {
                self.nr_lost += 1;
                continue;
            }
            if self.nr_lost > 0 {
                let note = format!("syslog.warning init: {} messages lost", self.nr_lost);
                push_line(&mut lines, &time, note.as_bytes());
                self.nr_lost = 0;
            }
            self.budget.spend(length + time.len());
            let (priority, text) = decode(&message[..length]);
            let mut line = priority.into_bytes();
            line.extend_from_slice(text);
            push_line(&mut lines, &time, &line);
        }
        self.log.add(&lines, wall);
    }

    /// A message of init's own.
    pub fn note(&mut self, text: &str) {
        let wall = SystemTime::now();
        let mut line = Vec::new();
        push_line(
            &mut line,
            &stamp(wall),
            format!("daemon.info init: {text}").as_bytes(),
        );
        self.log.add(&line, wall);
    }

    pub fn close(&mut self) {
        self.log.close();
    }
}

/// Takes a message apart: `facility.level `, and the text after priority and time.
fn decode(message: &[u8]) -> (String, &[u8]) {
    let (number, mut text) = priority(message).unwrap_or((13, message));
    if has_time(text) {
        text = &text[16..];
    }
    let end = text.iter().rposition(|b| !matches!(b, b'\n' | 0));
    let text = &text[..end.map_or(0, |at| at + 1)];
    // `priority` lets no facility past 23 through.
    let facility = FACILITIES.get(number / 8).copied().unwrap_or("user");
    (format!("{facility}.{} ", LEVELS[number % 8]), text)
}

/// `<PRI>` and what follows it.
fn priority(message: &[u8]) -> Option<(usize, &[u8])> {
    let rest = message.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|b| *b == b'>')?;
    let number: usize = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    (number < 8 * FACILITIES.len()).then(|| (number, &rest[end + 1..]))
}

/// Whether `text` starts with `Nov 21 01:54:19 `.
fn has_time(text: &[u8]) -> bool {
    let Some(time) = text.get(..16) else {
        return false;
    };
    let pattern = b"Aaa 99 99:99:99 ";
    time.iter().zip(pattern).all(|(byte, like)| match like {
        b'A' | b'a' => byte.is_ascii_alphabetic(),
        b'9' => byte.is_ascii_digit() || *byte == b' ',
        other => byte == other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_decoded() {
        for (message, priority, text) in [
            (
                "<38>Nov 21 01:54:19 sshd[12]: hello\n",
                "auth.info ",
                "sshd[12]: hello",
            ),
            ("<0>Jan  1 00:00:00 x: y", "kern.emerg ", "x: y"),
            ("<191>tag: z", "local7.debug ", "tag: z"),
            ("no priority", "user.notice ", "no priority"),
            ("<192>too high", "user.notice ", "<192>too high"),
            ("<99999>x", "user.notice ", "<99999>x"),
            ("<1", "user.notice ", "<1"),
            ("<>", "user.notice ", "<>"),
            ("", "user.notice ", ""),
        ] {
            let (p, t) = decode(message.as_bytes());
            assert_eq!((p.as_str(), t), (priority, text.as_bytes()), "{message}");
        }
    }
}
