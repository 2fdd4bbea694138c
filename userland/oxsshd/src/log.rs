//! The daemon's log: syslog where something listens on /dev/log, else the kernel's log; or stderr or a file when asked.
//!
//! Every process of the daemon writes for itself. The kernel's log is opened once, as root, and the descriptor stays
//! with connections that have become an ordinary user. Text from the network is made printable on the way.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

/// How much is logged: everything up to the configured level (man 5 sshd_config, LogLevel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Quiet,
    Fatal,
    Error,
    Info,
    Verbose,
    Debug,
}

impl Level {
    /// The level that `LogLevel` names; DEBUG, DEBUG1, DEBUG2 and DEBUG3 are one here.
    pub fn from_name(name: &str) -> Option<Level> {
        Some(match name.to_ascii_uppercase().as_str() {
            "QUIET" => Level::Quiet,
            "FATAL" => Level::Fatal,
            "ERROR" => Level::Error,
            "INFO" => Level::Info,
            "VERBOSE" => Level::Verbose,
            "DEBUG" | "DEBUG1" | "DEBUG2" | "DEBUG3" => Level::Debug,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Level::Quiet => "QUIET",
            Level::Fatal => "FATAL",
            Level::Error => "ERROR",
            Level::Info => "INFO",
            Level::Verbose => "VERBOSE",
            Level::Debug => "DEBUG",
        }
    }

    /// The severity of RFC 5424, 6.2.1.
    fn severity(self) -> u8 {
        match self {
            Level::Quiet | Level::Fatal => 2,
            Level::Error => 3,
            Level::Info | Level::Verbose => 6,
            Level::Debug => 7,
        }
    }
}

/// Where lines go: to one place, so that nobody reads them twice.
pub enum Sink {
    /// /dev/log, or the kernel's log. The facility's number is 10 for authpriv.
    System { facility: u8 },
    /// Standard error (`-e`, `-d`).
    Stderr,
    /// A file (`-E`).
    File(File),
}

/// Which lines are written, and where to.
pub struct Destination {
    pub level: Level,
    /// The command line says which level, and no configuration changes it.
    pub fixed: bool,
    pub sink: Sink,
}

struct Logger {
    to: Destination,
    kernel: Option<File>,
    syslog: Option<UnixDatagram>,
    /// Standard error is a terminal.
    terminal: bool,
}

static LOGGER: OnceLock<Mutex<Logger>> = OnceLock::new();

/// Starts logging, or changes level and destination after the configuration has been read again.
pub fn start(to: Destination) {
    let kernel = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open("/dev/kmsg")
        .ok();
    let logger = Logger {
        to,
        kernel,
        syslog: None,
        terminal: std::io::stderr().is_terminal(),
    };
    if let Some(old) = LOGGER.get() {
        if let Ok(mut old) = old.lock() {
            *old = logger;
        }
        return;
    }
    let _ = LOGGER.set(Mutex::new(logger));
}

/// Logs up to `level` from now on.
pub fn set_level(level: Level) {
    if let Some(Ok(mut logger)) = LOGGER.get().map(|logger| logger.lock())
        && !logger.to.fixed
    {
        logger.to.level = level;
    }
}

/// Whether lines of `level` are wanted, for those that are costly to make.
pub fn wanted(level: Level) -> bool {
    LOGGER
        .get()
        .and_then(|logger| Some(logger.lock().ok()?.to.level >= level))
        .unwrap_or(false)
}

/// Writes one line. Use the macros.
pub fn write(level: Level, text: &str) {
    let Some(logger) = LOGGER.get() else {
        eprintln!("{text}");
        return;
    };
    let Ok(mut logger) = logger.lock() else {
        return;
    };
    if logger.to.level < level {
        return;
    }
    logger.emit(level, &printable(text));
}

impl Logger {
    fn emit(&mut self, level: Level, text: &str) {
        // One call per line, so that lines of several processes stay whole.
        let facility = match &mut self.to.sink {
            Sink::Stderr => {
                // A terminal may be in raw mode.
                let end = if self.terminal { "\r\n" } else { "\n" };
                let _ = std::io::stderr().write_all(format!("{text}{end}").as_bytes());
                return;
            }
            Sink::File(file) => {
                let _ = file.write_all(format!("{text}\n").as_bytes());
                return;
            }
            Sink::System { facility } => *facility,
        };
        let priority = facility * 8 + level.severity();
        let record = format!("<{priority}>sshd[{}]: {text}", std::process::id());
        if self.send_to_syslog(record.as_bytes()) {
            return;
        }
        if let Some(kernel) = &mut self.kernel {
            let _ = kernel.write_all(record.as_bytes());
        }
    }

    fn send_to_syslog(&mut self, record: &[u8]) -> bool {
        // A daemon that was started again has a new socket under the name.
        for _ in 0..2 {
            if self.syslog.is_none() {
                self.syslog = connect(Path::new("/dev/log"));
            }
            match &self.syslog {
                None => return false,
                Some(socket) if socket.send(record).is_ok() => return true,
                Some(_) => self.syslog = None,
            }
        }
        false
    }
}

fn connect(path: &Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(path).ok()?;
    // A log daemon that hangs must not hang logins.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// `text` with what is not printable ASCII in octal, as OpenSSH's logs have it.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\{byte:03o}");
        }
    }
    out
}

macro_rules! error { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Error, &format!($($arg)*)) } }
macro_rules! info { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, &format!($($arg)*)) } }
macro_rules! verbose { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Verbose, &format!($($arg)*)) } }
macro_rules! debug { ($($arg:tt)*) => {
    if $crate::log::wanted($crate::log::Level::Debug) { $crate::log::write($crate::log::Level::Debug, &format!($($arg)*)) }
} }
pub(crate) use {debug, error, info, verbose};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_lines() {
        assert_eq!(
            printable("root\nAccepted \x1b[2J"),
            "root\\012Accepted \\033[2J"
        );
    }

    #[test]
    fn levels_are_ordered() {
        assert!(Level::from_name("verbose") > Level::from_name("INFO"));
        assert_eq!(Level::from_name("loud"), None);
    }
}
