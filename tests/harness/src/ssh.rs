//! A guest with a card whose port 22 is a port of the host, and the stock OpenSSH clients.

use std::io::Read;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::{Config, Machine, free_port, limit, top};

/// A machine that can be reached by SSH.
pub struct SshGuest {
    machine: Machine,
    port: u16,
    key: PathBuf,
}

/// The private key that a development image trusts.
pub fn development_key() -> PathBuf {
    top().join("dist/ssh/id_ed25519")
}

impl Deref for SshGuest {
    type Target = Machine;
    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl DerefMut for SshGuest {
    fn deref_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

/// `config` with a card whose port 22 is `port` on the host's loopback.
fn with_ssh(mut config: Config, port: u16) -> Config {
    config.extra.extend([
        "-netdev".into(),
        format!("user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:22"),
        "-device".into(),
        "virtio-net-pci,netdev=n0,id=c0,romfile=".into(),
    ]);
    config
}

/// `program` (ssh, scp or sftp) for the guest behind `port` of the host, whoever that is, with
/// `key` alone.
fn client(program: &str, port: u16, key: &Path) -> Command {
    // It asks nobody anything, and ends.
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "240", program, "-F", "/dev/null"]);
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "ConnectTimeout=60",
    ] {
        command.args(["-o", option]);
    }
    command.arg("-o").arg(format!("Port={port}"));
    command.arg("-i").arg(key).env_remove("SSH_AUTH_SOCK");
    command
}

/// Waits for the daemon behind `port` of the host to answer, runs `true` there with the
/// development key, and says when that was done.
#[track_caller]
pub fn first_login(port: u16) -> Instant {
    let end = Instant::now() + limit(60);
    let mut banner = [0; 8];
    // QEMU takes the connection before the guest has a card, and then it leads nowhere.
    while !TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
        stream.read_exact(&mut banner).is_ok()
    }) {
        assert!(Instant::now() < end, "no SSH daemon");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut client = client("ssh", port, &development_key());
    let done = client
        .args(["root@127.0.0.1", "true"])
        .output()
        .expect("ssh");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "the first login: {said}");
    Instant::now()
}

impl SshGuest {
    /// Starts QEMU; waits for nothing.
    pub fn start(config: Config) -> SshGuest {
        let port = free_port();
        SshGuest {
            machine: Machine::start(&with_ssh(config, port)),
            port,
            key: development_key(),
        }
    }

    /// Boots to the console's prompt, and until the daemon answers.
    #[track_caller]
    pub fn boot(config: Config) -> SshGuest {
        let mut guest = SshGuest::start(config);
        guest.machine.wait_for_prompt(30);
        guest.wait_for_banner(30);
        guest
    }

    /// Boots what this machine's disk holds now, once it has ended.
    #[track_caller]
    pub fn boot_again(self, config: Config) -> SshGuest {
        let SshGuest { machine, port, key } = self;
        let guest = SshGuest {
            machine: machine.boot_again(&with_ssh(config, port)),
            port,
            key,
        };
        guest.wait_for_banner(30);
        guest
    }

    /// The host's port that leads to the guest's port 22.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A TCP connection to the daemon, with a time limit on reading and writing.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("QEMU's port");
        stream
            .set_read_timeout(Some(limit(20)))
            .expect("a time limit");
        stream
            .set_write_timeout(Some(limit(20)))
            .expect("a time limit");
        stream
    }

    /// Waits until the daemon says its version.
    #[track_caller]
    pub fn wait_for_banner(&self, seconds: u64) {
        let end = Instant::now() + limit(seconds);
        let mut banner = [0; 8];
        // QEMU accepts whatever the guest does, and hangs up when the guest refuses.
        while !TcpStream::connect(("127.0.0.1", self.port)).is_ok_and(|mut stream| {
            let _ = stream.set_read_timeout(Some(limit(2)));
            stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-2.0-"
        }) {
            assert!(
                Instant::now() < end,
                "no SSH daemon within {seconds} s:\n{}",
                self.machine.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `program` (ssh, scp or sftp) told to trust this guest and to log in with `key` alone.
    pub fn client_with_key(&self, program: &str, key: &Path) -> Command {
        client(program, self.port, key)
    }

    /// As [`Self::client_with_key`], with the development key.
    pub fn client(&self, program: &str) -> Command {
        self.client_with_key(program, &self.key)
    }

    /// Runs `command` as root.
    pub fn ssh(&self, command: &str) -> Output {
        self.client("ssh")
            .args(["root@127.0.0.1", command])
            .output()
            .expect("ssh")
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub fn ssh_ok(&self, command: &str) -> String {
        let done = self.ssh(command);
        assert!(
            done.status.success(),
            "`{command}` by SSH: {}\n{}{}\n{}",
            done.status,
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
            self.machine.log()
        );
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}
