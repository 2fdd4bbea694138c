//! Boots Oxbow in QEMU for tests and talks to it over the serial console.
//!
//! A [`Machine`] runs on a throw-away overlay of the image, so tests neither see nor disturb
//! each other's files. Every failure ends with the console's tail in the message; the whole
//! log stays in the machine's folder under the build directory.
//!
//! Environment: `IMAGE` (default `dist/oxbow.qcow2`), `ACCEL` (`tcg` or `kvm`),
//! `OXBOW_TEST_SLOW` (multiplies every time limit, for loaded machines).

mod console;
mod disk;
mod machine;
mod ssh;
mod terminal;

pub use disk::{DataDisk, OtherCmdline, check_root_filesystem};
pub use machine::{Config, Firmware, Machine, Output, image};
pub use ssh::{SshGuest, development_key, first_login};
pub use terminal::Terminal;

use std::path::PathBuf;
use std::time::Duration;

/// The project's root folder.
pub fn top() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .canonicalize()
        .expect("the tree")
}

/// A time limit, stretched by `OXBOW_TEST_SLOW`.
pub fn limit(seconds: u64) -> Duration {
    let slow = std::env::var("OXBOW_TEST_SLOW")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1.0);
    Duration::from_secs(seconds).mul_f64(f64::max(slow, 1.0))
}

/// A port of the host's loopback that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// The search path with the folders of administrators' tools, which not every user's has.
fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Runs a host command; panics with its output when it fails. Returns its standard output.
pub fn host(program: &str, args: &[&str]) -> String {
    let done = std::process::Command::new(program)
        .args(args)
        .env("PATH", path_with_sbin())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    assert!(
        done.status.success(),
        "{program} {args:?} failed: {}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The median and the spread (lowest, highest) of some figures.
pub fn median(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (
        figures[figures.len() / 2],
        figures[0],
        figures[figures.len() - 1],
    )
}

/// A command for `program` on the host with every signal at its default, as the guest's shell
/// has them: a test run that was started in the background ignores SIGINT and SIGQUIT, and
/// programs inherit that.
pub fn with_default_signals(program: &str) -> std::process::Command {
    let mut command = std::process::Command::new("env");
    command.args(["--default-signal", program]);
    command
}
