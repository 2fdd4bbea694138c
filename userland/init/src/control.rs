//! Requests from `svc`: a unix socket for root, one line in, an answer out.
//!
//! Request: one of the words below, most with the name of a service, ended by a
//! newline. Answer: `ok`, perhaps a word, and a newline, then text up to the end of the
//! connection; or `error MESSAGE`. Every client has a deadline and bounded
//! buffers, and no call here waits for one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::machine::State;
use crate::services::{Service, Services};
use crate::store;

pub const SOCKET: &str = "/run/init.sock";
/// Bytes of a request; every one there is fits.
const MAX_REQUEST: usize = 128;
/// Clients at a time; more wait to be accepted.
const MAX_CLIENTS: usize = 16;
/// Output that a client which follows a log may be behind.
const MAX_BEHIND: usize = 64 * 1024;
/// For a request to come, and for an answer to go.
const PATIENCE: Duration = Duration::from_secs(3);
/// A service that runs this long has started.
const STARTED: Duration = Duration::from_millis(100);
/// How long after a failed accept the next is tried.
const RECOVERY: Duration = Duration::from_secs(1);

/// What a client is waiting for.
enum Doing {
    Asking,
    /// Service by name to be up (`true`) or down.
    Waiting(String, bool),
    Following(String),
    /// Its answer is complete.
    Leaving,
}

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    doing: Doing,
    deadline: Option<Instant>,
}

pub struct Control {
    listener: Option<UnixListener>,
    clients: Vec<Client>,
    /// No accepting before this.
    resume: Option<Instant>,
}

impl Control {
    /// Without a socket there is a message and no `svc`.
    pub fn new() -> Self {
        let listener = listen();
        if let Err(error) = &listener {
            eprintln!("init: {SOCKET}: {error}");
        }
        Self {
            listener: listener.ok(),
            clients: Vec::new(),
            resume: None,
        }
    }

    pub fn descriptor(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        let open = self.clients.len() < MAX_CLIENTS && self.resume.is_none_or(|at| at <= now);
        self.listener.as_ref().filter(|_| open).map(|l| l.as_fd())
    }

    /// Each client's socket and what to wait for.
    pub fn clients(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.clients.iter().map(|client| {
            let mut events = PollFlags::POLLIN;
            if !client.output.is_empty() {
                events |= PollFlags::POLLOUT;
            }
            (client.stream.as_fd(), events)
        })
    }

    pub fn accept(&mut self, now: Instant) {
        let Some(listener) = &self.listener else {
            return;
        };
        match listener.accept() {
            Ok((stream, _)) => {
                let root = getsockopt(&stream, PeerCredentials).is_ok_and(|peer| peer.uid() == 0);
                if root && stream.set_nonblocking(true).is_ok() {
                    self.clients.push(Client {
                        stream,
                        input: Vec::new(),
                        output: Vec::new(),
                        doing: Doing::Asking,
                        deadline: Some(now + PATIENCE),
                    });
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // No descriptors: the client stays in the queue.
            Err(_) => self.resume = Some(now + RECOVERY),
        }
    }

    /// Client `index` has sent something or left.
    pub fn receive(&mut self, index: usize, services: &mut Services, now: Instant) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let mut buffer = [0; MAX_REQUEST];
        match client.stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(0) | Err(_) => {
                client.output.clear();
                client.doing = Doing::Leaving;
                return;
            }
            Ok(length) => client.input.extend_from_slice(&buffer[..length]),
        }
        if !matches!(client.doing, Doing::Asking) {
            // Nothing more is expected; it is not kept either.
            client.input.clear();
            return;
        }
        if let Some(end) = client.input.iter().position(|b| *b == b'\n') {
            let line = String::from_utf8_lossy(&client.input[..end]).into_owned();
            client.input = Vec::new();
            client.deadline = Some(now + PATIENCE);
            client.doing = match serve(&line, services, now) {
                Ok((answer, doing)) => {
                    client.output.extend_from_slice(answer.as_bytes());
                    if matches!(doing, Doing::Following(_)) {
                        client.deadline = None;
                    }
                    if let Doing::Waiting(name, _) = &doing {
                        client.deadline = Some(now + PATIENCE + patience(name, services));
                    }
                    doing
                }
                Err(message) => {
                    client.output = format!("error {message}\n").into_bytes();
                    Doing::Leaving
                }
            };
        } else if client.input.len() >= MAX_REQUEST {
            client.output = b"error request too long\n".to_vec();
            client.doing = Doing::Leaving;
        }
    }

    /// Passes new log lines of service `name` on to who follows it.
    pub fn deliver(&mut self, name: &str, lines: &[u8]) {
        for client in &mut self.clients {
            if matches!(&client.doing, Doing::Following(own) if own == name) {
                if client.output.len() + lines.len() > MAX_BEHIND {
                    client.doing = Doing::Leaving;
                    client.deadline = Some(Instant::now());
                } else {
                    client.output.extend_from_slice(lines);
                }
            }
        }
    }

    /// Answers who waited for what has come about, sends what can be sent, and
    /// lets go of who is done or too slow.
    pub fn settle(&mut self, services: &Services, now: Instant) {
        for client in &mut self.clients {
            if let Doing::Waiting(name, up) = &client.doing
                && let Some(answer) = outcome(name, *up, services, now)
            {
                client.output = answer.into_bytes();
                client.doing = Doing::Leaving;
                client.deadline = Some(now + PATIENCE);
            }
            client.send();
        }
        self.clients.retain(|client| {
            let late = client.deadline.is_some_and(|at| at <= now);
            let done = matches!(client.doing, Doing::Leaving) && client.output.is_empty();
            !late && !done
        });
    }

    /// How long until [`Self::settle`] has something to do.
    pub fn next_due(&self, services: &Services, now: Instant) -> Option<Duration> {
        let clients = self.clients.iter().flat_map(|client| {
            let started = match &client.doing {
                Doing::Waiting(name, true) => services
                    .index(name)
                    .map(|index| services.all[index].machine.since() + STARTED)
                    .filter(|at| *at > now),
                _ => None,
            };
            [client.deadline, started]
        });
        let due = clients.chain([self.resume.filter(|at| *at > now)]);
        due.flatten()
            .map(|at| at.saturating_duration_since(now))
            .min()
    }

    /// No more requests.
    pub fn close(&mut self) {
        self.listener = None;
        let _ = std::fs::remove_file(SOCKET);
    }
}

impl Client {
    fn send(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) if length > 0 => drop(self.output.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => {
                    // It left.
                    self.output.clear();
                    self.doing = Doing::Leaving;
                }
            }
        }
    }
}

fn listen() -> std::io::Result<UnixListener> {
    let _ = std::fs::remove_file(SOCKET);
    // The mode is right from the first moment on.
    let usual = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(SOCKET);
    nix::sys::stat::umask(usual);
    let listener = listener?;
    std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What a start or stop of service `name` may take.
fn patience(name: &str, services: &Services) -> Duration {
    let service = services.index(name).map(|index| &services.all[index].unit);
    service.map_or(Duration::ZERO, |unit| {
        unit.stop_timeout + unit.start_timeout + Duration::from_secs(5)
    })
}

/// Does what `line` asks.
fn serve(line: &str, services: &mut Services, now: Instant) -> Result<(String, Doing), String> {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let name = words.next();
    let number = words.next();
    if verb == "list" {
        let lines: String = services.all.iter().map(|s| row(s, now)).collect();
        return Ok((format!("ok\n{lines}"), Doing::Leaving));
    }
    if verb == "reload" && name.is_none() {
        let problems = services.load(now);
        let lines: String = problems.iter().map(|p| format!("{p}\n")).collect();
        return Ok((format!("ok\n{lines}"), Doing::Leaving));
    }
    let name = name.ok_or("no service named")?;
    let index = services
        .index(name)
        .ok_or_else(|| format!("unknown service '{name}'"))?;
    let wait = |up| Ok((String::new(), Doing::Waiting(name.to_owned(), up)));
    match verb {
        "status" => {
            let service = &services.all[index];
            let word = service.machine.state();
            Ok((format!("ok {word}\n{}", row(service, now)), Doing::Leaving))
        }
        "start" => {
            services.start(index, now);
            wait(true)
        }
        "stop" => {
            services.stop(index, now);
            wait(false)
        }
        "restart" => {
            services.stop(index, now);
            services.start(index, now);
            wait(true)
        }
        "reload" => {
            if !services.reload_one(index) {
                return Err(format!("{name} is not running"));
            }
            Ok(("ok\n".to_owned(), Doing::Leaving))
        }
        "lines" => {
            let count = number.and_then(|n| n.parse().ok()).unwrap_or(10);
            let lines = services.all[index].log.last_lines(count);
            let lines = String::from_utf8_lossy(lines);
            Ok((format!("ok\n{lines}"), Doing::Leaving))
        }
        "follow" => {
            let size = services.all[index].log.size();
            Ok((format!("ok {size}\n"), Doing::Following(name.to_owned())))
        }
        "enable" | "disable" => {
            let enabled = verb == "enable";
            store::choose(Path::new(store::FOLDER), name, enabled)
                .map_err(|error| format!("{}: {error}", store::FOLDER))?;
            services.all[index].unit.enabled = enabled;
            Ok(("ok\n".to_owned(), Doing::Leaving))
        }
        _ => Err(format!("unknown request '{verb}'")),
    }
}

/// A service as tab-separated fields, which the client lays out.
fn row(service: &Service, now: Instant) -> String {
    let machine = &service.machine;
    let pid = machine.pid().map_or("-".to_owned(), |pid| pid.to_string());
    let since = now.saturating_duration_since(machine.since()).as_secs();
    let last = machine
        .last_exit()
        .map_or("-".to_owned(), |e| e.to_string());
    let boot = if service.unit.enabled { "on" } else { "off" };
    let fields = [
        &service.unit.name,
        &machine.state().to_string(),
        &pid,
        &since.to_string(),
        &machine.restarts().to_string(),
        &last,
        boot,
        &service.remark,
        &service.unit.description,
        &service.unit.command.join(" "),
    ];
    let fields: Vec<String> = fields
        .iter()
        .map(|field| field.replace(['\t', '\n'], " "))
        .collect();
    fields.join("\t") + "\n"
}

/// The answer once service `name` is up or down, or will not be.
fn outcome(name: &str, up: bool, services: &Services, now: Instant) -> Option<String> {
    let Some(index) = services.index(name) else {
        // Its unit is gone and it has stopped.
        return Some(if up { "error it is gone\n" } else { "ok\n" }.to_owned());
    };
    let service = &services.all[index];
    let machine = &service.machine;
    let last = machine.last_exit().map_or(String::new(), |e| e.to_string());
    match (machine.state(), up) {
        (State::Running, true) if now < machine.since() + STARTED => None,
        (State::Running, true) => {
            let pid = machine.pid().unwrap_or(0);
            Some(format!("ok running, process {pid}\n"))
        }
        (State::Done, true) => Some("ok done\n".to_owned()),
        // A command that ended well and is not meant to stay.
        (State::Stopped, true) if last == "exit 0" => Some("ok done\n".to_owned()),
        (State::Stopped, true) => Some("error it was stopped\n".to_owned()),
        (State::Skipped, true) => Some(format!("error skipped: {}\n", service.remark)),
        (State::Failed | State::BackingOff, true) => {
            Some(format!("error {}: {last}\n", machine.state()))
        }
        (State::Stopped | State::Waiting, false) => Some("ok stopped\n".to_owned()),
        (State::Failed | State::Running, false) => Some(format!("error {}\n", machine.state())),
        _ => None,
    }
}
