//! The listening process: accepts, decides who may try ([`Gate`]), and forks a process for each connection.
//!
//! One thread, no runtime, nothing that can block but the wait for events. It never ends by itself: what cannot be done
//! now (no descriptors, no memory, no process) is done later.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::config::Config;
use crate::connection::{self, server_config};
use crate::hostkey::{self, random_bytes};
use crate::limits::{Gate, Offence, Refusal};
use crate::log::{debug, error, info};
use crate::report::Event;
use crate::sockets::{addresses, listen_on};

/// How long nothing is accepted after the system has run out of something.
const BACK_OFF: Duration = Duration::from_millis(500);
/// Refused connections are logged at most this often.
const REFUSAL_LOG: Duration = Duration::from_secs(1);

static HANGUP: AtomicBool = AtomicBool::new(false);
static TERMINATE: AtomicBool = AtomicBool::new(false);
static CHILD: AtomicBool = AtomicBool::new(false);

const SIGNALS: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGCHLD,
];

extern "C" fn on_signal(number: i32) {
    let flag = match number {
        libc::SIGHUP => &HANGUP,
        libc::SIGCHLD => &CHILD,
        _ => &TERMINATE,
    };
    flag.store(true, Ordering::Relaxed);
}

fn set_handlers(handler: SigHandler) {
    for signal in SIGNALS {
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: `on_signal` only stores to an atomic, and the other handler is the default one.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// A process that serves a connection.
struct Worker {
    peer: SocketAddr,
    /// What it reports; `None` after its login, or after its end.
    pipe: Option<io::PipeReader>,
    logged_in: bool,
    /// Its failed logins have cost its source the penalty: once, however often it tries.
    punished: bool,
}

/// What a forked process has to do.
pub struct Task {
    pub socket: TcpStream,
    pub pipe: OwnedFd,
    pub config: Arc<Config>,
    pub server: Arc<russh::server::Config>,
}

/// How [`Listener::run`] ends.
pub enum Outcome {
    /// In the listening process: it was told to.
    Terminated,
    /// In a new process; the listener's state is gone from it.
    Serve(Task),
}

pub struct Listener {
    config: Arc<Config>,
    server: Arc<russh::server::Config>,
    sockets: Vec<TcpListener>,
    gate: Gate,
    workers: HashMap<i32, Worker>,
    started: Instant,
    /// Not to accept before.
    paused_until: Option<Instant>,
    last_refusal: Option<Instant>,
    nr_unlogged: u64,
}

impl Listener {
    /// Loads host keys and binds all addresses.
    ///
    /// # Errors
    /// When there is no host key, or no address could be bound.
    pub fn new(config: Config) -> Result<Listener, String> {
        let keys = hostkey::load(&config.host_keys);
        if keys.is_empty() {
            return Err("no hostkeys available -- exiting.".into());
        }
        let sockets = listen_on(&config);
        if sockets.is_empty() {
            return Err("Cannot bind any address.".into());
        }
        Ok(Listener {
            server: Arc::new(server_config(&config, keys)),
            config: Arc::new(config),
            sockets,
            gate: Gate::default(),
            workers: HashMap::new(),
            started: Instant::now(),
            paused_until: None,
            last_refusal: None,
            nr_unlogged: 0,
        })
    }

    /// Serves until SIGTERM, or returns in a new process that has a connection. `reload` reads the configuration anew
    /// after SIGHUP.
    pub fn run(mut self, reload: impl Fn() -> Option<Config>) -> Outcome {
        // Signals come only while this process waits, so none is missed between a look at the flags and the wait.
        let mut blocked = SigSet::empty();
        SIGNALS.iter().for_each(|signal| blocked.add(*signal));
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None);
        set_handlers(SigHandler::Handler(on_signal));
        loop {
            if TERMINATE.load(Ordering::Relaxed) {
                info!("Received signal; terminating.");
                return Outcome::Terminated;
            }
            if HANGUP.swap(false, Ordering::Relaxed) {
                info!("Received SIGHUP; restarting.");
                if let Some(config) = reload() {
                    self.reconfigure(config);
                }
            }
            if CHILD.swap(false, Ordering::Relaxed) {
                self.reap();
            }
            let (ready, reports) = self.wait();
            for pid in reports {
                self.read_reports(pid);
            }
            for index in ready {
                if let Some(task) = self.accept(index) {
                    drop(self);
                    set_handlers(SigHandler::SigDfl);
                    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
                    return Outcome::Serve(task);
                }
            }
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Waits for connections and reports. Gives indices of sockets and ids of processes.
    fn wait(&mut self) -> (Vec<usize>, Vec<i32>) {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let limit = self.paused_until.map(|until| {
            TimeSpec::nanoseconds(i64::try_from((until - now).as_nanos()).unwrap_or(i64::MAX))
        });
        let nr_sockets = if self.paused_until.is_some() {
            0
        } else {
            self.sockets.len()
        };
        let mut watched: Vec<PollFd> = Vec::with_capacity(nr_sockets + self.workers.len());
        watched.extend(
            self.sockets[..nr_sockets]
                .iter()
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)),
        );
        let mut pids = Vec::new();
        for (pid, worker) in &self.workers {
            if let Some(pipe) = &worker.pipe {
                pids.push(*pid);
                watched.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
        }
        // EINTR too: the flags say more.
        if ppoll(&mut watched, limit, Some(SigSet::empty())).is_err() {
            return (Vec::new(), Vec::new());
        }
        let fired: Vec<bool> = watched.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let ready = (0..nr_sockets).filter(|index| fired[*index]).collect();
        let reports = pids
            .into_iter()
            .enumerate()
            .filter(|(index, _)| fired[nr_sockets + index])
            .map(|(_, pid)| pid)
            .collect();
        (ready, reports)
    }

    fn read_reports(&mut self, pid: i32) {
        let now = self.now();
        let Some(worker) = self.workers.get_mut(&pid) else {
            return;
        };
        let Some(pipe) = &mut worker.pipe else { return };
        let mut bytes = [0; 16];
        let ip = worker.peer.ip();
        let got = pipe.read(&mut bytes).unwrap_or(0);
        for event in bytes[..got]
            .iter()
            .filter_map(|byte| Event::from_byte(*byte))
        {
            match event {
                Event::LoggedIn => {
                    worker.logged_in = true;
                    self.gate.forgive(ip);
                }
                Event::WrongPassword | Event::OnlyRefusedKeys if worker.punished => {}
                Event::WrongPassword | Event::OnlyRefusedKeys => {
                    worker.punished = true;
                    self.gate
                        .punish(ip, Offence::AuthFail, now, &self.config.penalties);
                }
                Event::NoTry => self
                    .gate
                    .punish(ip, Offence::NoAuth, now, &self.config.penalties),
            }
        }
        if got == 0 || worker.logged_in {
            worker.pipe = None;
            self.gate.settled(ip);
        }
    }

    /// Collects processes that have ended.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid().map(Pid::as_raw) else {
                break;
            };
            // What it said last is still in the pipe.
            while self
                .workers
                .get(&pid)
                .is_some_and(|worker| worker.pipe.is_some())
            {
                self.read_reports(pid);
            }
            let Some(worker) = self.workers.remove(&pid) else {
                continue;
            };
            let WaitStatus::Signaled(_, signal, _) = status else {
                continue;
            };
            let (peer, now) = (worker.peer, self.now());
            if signal == Signal::SIGALRM && !worker.logged_in {
                info!(
                    "Timeout before authentication for connection from {} port {}, pid = {pid}",
                    peer.ip(),
                    peer.port()
                );
                self.gate.punish(
                    peer.ip(),
                    Offence::GraceExceeded,
                    now,
                    &self.config.penalties,
                );
            } else if !worker.logged_in && signal != Signal::SIGTERM && signal != Signal::SIGKILL {
                error!(
                    "process {pid} of the connection from {} port {} died of {signal}",
                    peer.ip(),
                    peer.port()
                );
                self.gate
                    .punish(peer.ip(), Offence::Crash, now, &self.config.penalties);
            }
        }
    }

    /// Accepts one connection. `Some` in the new process.
    fn accept(&mut self, index: usize) -> Option<Task> {
        let (socket, peer) = match self.sockets[index].accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                let passing = [libc::EAGAIN, libc::EINTR, libc::ECONNABORTED];
                if !error
                    .raw_os_error()
                    .is_some_and(|code| passing.contains(&code))
                {
                    error!("accept: {error}");
                    self.pause();
                }
                return None;
            }
        };
        let ip = peer.ip().to_canonical();
        let peer = SocketAddr::new(ip, peer.port());
        let now = self.now();
        if let Err(refusal) = self.gate.admit(ip, now, dice(), &self.config) {
            self.refuse(&socket, peer, &refusal);
            return None;
        }
        match self.fork_for(socket, peer) {
            Ok(task) => task,
            Err(error) => {
                error!("fork for {} port {}: {error}", peer.ip(), peer.port());
                self.gate.settled(ip);
                self.pause();
                None
            }
        }
    }

    fn fork_for(&mut self, socket: TcpStream, peer: SocketAddr) -> io::Result<Option<Task>> {
        let (reader, writer) = io::pipe()?;
        // SAFETY: this process has one thread, so the child may go on as it likes.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => {
                self.workers.insert(
                    child.as_raw(),
                    Worker {
                        peer,
                        pipe: Some(reader),
                        logged_in: false,
                        punished: false,
                    },
                );
                Ok(None)
            }
            ForkResult::Child => {
                drop(reader);
                // A session of its own: who stops the daemon and all of its session leaves
                // logins alone. It cannot fail: a new process leads no group.
                let _ = nix::unistd::setsid();
                Ok(Some(Task {
                    socket,
                    pipe: writer.into(),
                    config: self.config.clone(),
                    server: self.server.clone(),
                }))
            }
        }
    }

    fn pause(&mut self) {
        self.paused_until = Some(Instant::now() + BACK_OFF);
    }

    fn refuse(&mut self, mut socket: &TcpStream, peer: SocketAddr, refusal: &Refusal) {
        let (words, why) = match refusal {
            Refusal::Penalty { seconds } => (
                "Not allowed at this time\r\n",
                format!("penalty for {seconds} s more"),
            ),
            Refusal::MaxStartups => ("Exceeded MaxStartups\r\n", "past MaxStartups".into()),
            Refusal::PerSource => (
                "Exceeded MaxStartups\r\n",
                "past PerSourceMaxStartups".into(),
            ),
        };
        // As much as fits without waiting for the peer.
        let _ = socket.set_nonblocking(true);
        let _ = socket.write(words.as_bytes());
        let now = Instant::now();
        if self
            .last_refusal
            .is_some_and(|last| now - last < REFUSAL_LOG)
        {
            self.nr_unlogged += 1;
            return;
        }
        self.last_refusal = Some(now);
        let more = match std::mem::take(&mut self.nr_unlogged) {
            0 => String::new(),
            more => format!(" (and {more} more before)"),
        };
        info!(
            "drop connection #{} from [{}]:{}: {why}{more}",
            self.gate.pending(),
            peer.ip(),
            peer.port()
        );
    }

    fn reconfigure(&mut self, config: Config) {
        let keys = hostkey::load(&config.host_keys);
        if keys.is_empty() {
            error!("no hostkeys available; the old configuration stays");
            return;
        }
        if addresses(&config) != addresses(&self.config) {
            // The old sockets first: they may have the same ports.
            self.sockets.clear();
            self.sockets = listen_on(&config);
            if self.sockets.is_empty() {
                error!("Cannot bind any address; the old addresses stay");
                self.sockets = listen_on(&self.config);
            }
        }
        self.server = Arc::new(server_config(&config, keys));
        self.config = Arc::new(config);
    }
}

fn dice() -> usize {
    let mut bytes = [0; 4];
    let _ = random_bytes(&mut bytes);
    u32::from_ne_bytes(bytes) as usize % 100
}

/// Serves one connection in this process, for `sshd -d`.
pub fn serve_one(config: Config) -> Result<(), String> {
    let listener = Listener::new(config)?;
    let mut watched: Vec<PollFd> = listener
        .sockets
        .iter()
        .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    ppoll(&mut watched, None, None).map_err(|error| error.to_string())?;
    let accepted = listener
        .sockets
        .iter()
        .find_map(|socket| socket.accept().ok());
    let Some((socket, _)) = accepted else {
        return Err("accept failed".into());
    };
    debug!("one connection, in this process");
    connection::serve(socket, None, &listener.config, &listener.server);
    Ok(())
}
