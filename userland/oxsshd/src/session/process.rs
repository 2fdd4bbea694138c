//! The program of a session: its environment, its descriptors, and starting it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::process::Child;

use super::pty::Terminal;
use crate::auth::account::Account;

/// What programs find where no profile says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a session runs.
pub enum Program {
    LoginShell,
    /// A command line for the user's shell.
    Command(Vec<u8>),
    /// The daemon's own SFTP server.
    Sftp(Vec<String>),
}

/// The addresses of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// The streams of a program that was started without a terminal.
pub struct Pipes {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// The environment of a session, in the order in which settings override each other.
pub fn environment(
    account: &Account,
    addresses: Addresses,
    from_client: &[(String, String)],
    from_key: &[(String, String)],
    own: &[(String, String)],
) -> Vec<(String, String)> {
    let Addresses { peer, local } = addresses;
    let (from, to) = (peer.ip().to_canonical(), local.ip().to_canonical());
    let set = |name: &str, value: String| (name.to_string(), value);
    let mut list = from_client.to_vec();
    list.extend([
        set("USER", account.name.clone()),
        set("LOGNAME", account.name.clone()),
        set("HOME", account.home.display().to_string()),
        set("PATH", PATH.into()),
        set("SHELL", account.shell.display().to_string()),
    ]);
    if let Ok(zone) = std::env::var("TZ") {
        list.push(set("TZ", zone));
    }
    list.extend_from_slice(from_key);
    list.push(set(
        "SSH_CLIENT",
        format!("{from} {} {}", peer.port(), local.port()),
    ));
    list.push(set(
        "SSH_CONNECTION",
        format!("{from} {} {to} {}", peer.port(), local.port()),
    ));
    list.extend_from_slice(own);
    list
}

fn command_for(program: &Program, account: &Account) -> Command {
    let shell = &account.shell;
    let name = shell.file_name().unwrap_or(shell.as_os_str()).to_owned();
    match program {
        Program::LoginShell => {
            let mut command = Command::new(shell);
            let mut login = OsString::from("-");
            login.push(name);
            command.arg0(login);
            command
        }
        Program::Command(line) => {
            let mut command = Command::new(shell);
            command
                .arg0(name)
                .arg("-c")
                .arg(OsString::from_vec(line.clone()));
            command
        }
        Program::Sftp(arguments) => {
            let mut command = Command::new("/proc/self/exe");
            command.arg0("sftp-server").args(arguments);
            command
        }
    }
}

/// Starts `program` as the leader of a session of its own, on the terminal or on pipes.
///
/// This process already has the account's ids (see `Account::become_it`). Descriptors above standard error are all
/// marked to be closed by exec.
///
/// # Errors
/// What fork and exec say.
pub fn start(
    program: &Program,
    account: &Account,
    environment: &[(String, String)],
    terminal: Option<&Terminal>,
) -> io::Result<(Child, Option<Pipes>)> {
    let mut command = command_for(program, account);
    command
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let mut pipes = None;
    let has_terminal = match terminal {
        Some(terminal) => {
            command.stdin(Stdio::from(terminal.slave.try_clone()?));
            command.stdout(Stdio::from(terminal.slave.try_clone()?));
            command.stderr(Stdio::from(terminal.slave.try_clone()?));
            true
        }
        None => {
            let (input, stdin) = std::io::pipe()?;
            let (stdout, output) = std::io::pipe()?;
            let (stderr, errors) = std::io::pipe()?;
            command.stdin(input).stdout(output).stderr(errors);
            pipes = Some(Pipes {
                stdin: stdin.into(),
                stdout: stdout.into(),
                stderr: stderr.into(),
            });
            false
        }
    };
    let home = std::ffi::CString::new(account.home.as_os_str().as_encoded_bytes())?;
    // SAFETY: between fork and exec only system calls are made; no memory is allocated and no lock taken.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            if has_terminal && libc::ioctl(0, libc::TIOCSCTTY as _, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::umask(0o022);
            if libc::chdir(home.as_ptr()) < 0 {
                libc::chdir(c"/".as_ptr());
            }
            Ok(())
        });
    }
    let child = tokio::process::Command::from(command).spawn()?;
    Ok((child, pipes))
}

/// /etc/nologin's text, when it keeps this account out.
pub fn nologin(account: &Account) -> Option<String> {
    if account.uid == 0 || !Path::new("/etc/nologin").exists() {
        return None;
    }
    Some(read_text(Path::new("/etc/nologin")))
}

/// A text to show, at most 64 KiB of it.
pub fn read_text(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = io::Read::read_to_end(&mut io::Read::take(file, 64 << 10), &mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_override_in_order() {
        let account = Account::for_test("alice", 1000, "/home/alice");
        let addresses = Addresses {
            peer: "[::ffff:10.0.2.2]:4000".parse().unwrap(),
            local: "[::ffff:10.0.2.15]:22".parse().unwrap(),
        };
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let list = environment(
            &account,
            addresses,
            &[pair("PATH", "/evil"), pair("LANG", "C")],
            &[pair("HOME", "/key")],
            &[],
        );
        let last = |name: &str| {
            list.iter()
                .rev()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(last("PATH"), Some(PATH));
        assert_eq!(last("LANG"), Some("C"));
        assert_eq!(last("HOME"), Some("/key"));
        assert_eq!(last("SSH_CONNECTION"), Some("10.0.2.2 4000 10.0.2.15 22"));
    }
}
