//! A session channel: what the client asks for before it starts a program, the program, and its end.

mod modes;
pub mod process;
pub mod pty;
pub mod stream;

use std::mem::discriminant;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::Sig;
use tokio::process::Child;

use crate::log::{debug, error};
use process::Pipes;
use pty::Terminal;
use stream::{Channel, Endpoint, Kind};

/// Code of standard error in extended data (RFC 4254, 5.2).
const STDERR: u32 = 1;
/// How long a terminal that stays open after its session has ended may be silent.
const DRAIN: Duration = Duration::from_millis(200);

/// A session before and while its program runs.
#[derive(Default)]
pub struct Session {
    /// A terminal that waits for the program.
    pub terminal: Option<Terminal>,
    pub env: Vec<(String, String)>,
    /// The running program's terminal, for changes of its size.
    pub screen: Option<Arc<Endpoint>>,
    pub process_group: Option<i32>,
    pub started: bool,
}

/// Runs a session on a terminal to its end.
pub async fn run_on_terminal(
    channel: Channel,
    mut child: Child,
    master: Arc<Endpoint>,
    greeting: String,
) {
    if !greeting.is_empty() {
        channel
            .send(Bytes::from(greeting.replace('\n', "\r\n")), None)
            .await;
    }
    let output = channel.copy_out(master.clone(), None);
    let input = channel.copy_in(master.clone());
    tokio::pin!(output, input);
    let mut input_open = true;
    let mut output_open = true;
    let status = loop {
        tokio::select! {
            biased;
            () = &mut output, if output_open => output_open = false,
            () = &mut input, if input_open => input_open = false,
            status = child.wait() => break status,
        }
    };
    // Its session's end hangs the terminal up, and what was written before comes first. Somebody may have opened the
    // terminal anew, and then it does not end.
    while output_open {
        let before = master.idle_at();
        match tokio::time::timeout(DRAIN, &mut output).await {
            Ok(()) => output_open = false,
            // Silent all the while, and not because the client is slow.
            Err(_) if before.is_some() && before == master.idle_at() => break,
            Err(_) => {}
        }
    }
    finish(&channel, status).await;
}

/// Runs a session on pipes to its end: the channel stays open as long as anybody has its output, as OpenSSH's does.
pub async fn run_on_pipes(channel: Channel, mut child: Child, pipes: Pipes) {
    let endpoints = || -> std::io::Result<_> {
        Ok((
            Arc::new(Endpoint::new(pipes.stdin, Kind::Pipe)?),
            Arc::new(Endpoint::new(pipes.stdout, Kind::Pipe)?),
            Arc::new(Endpoint::new(pipes.stderr, Kind::Pipe)?),
        ))
    };
    let (stdin, stdout, stderr) = match endpoints() {
        Ok(endpoints) => endpoints,
        Err(error) => {
            error!("pipes of a session: {error}");
            let _ = child.start_kill();
            let status = child.wait().await;
            return finish(&channel, status).await;
        }
    };
    let reader = channel.clone();
    // A task of its own, which drops the pipe's end: that is what the program sees as the end of its input.
    let input = tokio::spawn(async move { reader.copy_in(stdin).await });
    let ((), (), status) = tokio::join!(
        channel.copy_out(stdout, None),
        channel.copy_out(stderr, Some(STDERR)),
        child.wait()
    );
    input.abort();
    finish(&channel, status).await;
}

async fn finish(channel: &Channel, status: std::io::Result<ExitStatus>) {
    let _ = channel.writer.eof().await;
    match status {
        Ok(status) => report(channel, status).await,
        Err(error) => error!("waiting for a session's program: {error}"),
    }
    let _ = channel.writer.close().await;
}

async fn report(channel: &Channel, status: ExitStatus) {
    debug!("session {}: {status}", channel.id);
    if let Some(code) = status.code() {
        let _ = channel.writer.exit_status(code as u32).await;
    } else if let Some(signal) = status.signal() {
        let name = signal_name(signal);
        let dumped = status.core_dumped();
        let _ = channel
            .handle
            .exit_signal_request(channel.id, name, dumped, String::new(), String::new())
            .await;
    }
}

const SIGNALS: [(i32, Sig); 12] = [
    (libc::SIGABRT, Sig::ABRT),
    (libc::SIGALRM, Sig::ALRM),
    (libc::SIGFPE, Sig::FPE),
    (libc::SIGHUP, Sig::HUP),
    (libc::SIGILL, Sig::ILL),
    (libc::SIGINT, Sig::INT),
    (libc::SIGKILL, Sig::KILL),
    (libc::SIGPIPE, Sig::PIPE),
    (libc::SIGQUIT, Sig::QUIT),
    (libc::SIGSEGV, Sig::SEGV),
    (libc::SIGTERM, Sig::TERM),
    (libc::SIGUSR1, Sig::USR1),
];

fn signal_name(number: i32) -> Sig {
    SIGNALS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(
            || Sig::Custom(format!("SIG{number}@openssh.com")),
            |(_, name)| name.clone(),
        )
}

/// The signal of a client's request; `None` for one that is not passed on.
pub fn signal_number(name: &Sig) -> Option<i32> {
    match name {
        Sig::Custom(name) if name == "USR2" => Some(libc::SIGUSR2),
        Sig::Custom(name) if name == "INFO@openssh.com" => None,
        name => SIGNALS
            .iter()
            .find(|(_, known)| discriminant(known) == discriminant(name))
            .map(|(number, _)| *number),
    }
}
