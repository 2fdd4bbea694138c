//! Oxbow's SSH daemon.
//!
//! A small listening process ([`listener`]) forks one process per connection ([`connection`]): a crash, a leak or a
//! flood is one client's affair, and the memory that both have in common is there once. The protocol is `russh`'s; what
//! a login may do and what it runs is decided here, with OpenSSH's configuration, files and words:
//!
//! - `config`: sshd_config; `hostkey`: the host's keys; `log`: where lines go;
//! - `listener`, `sockets`, `limits`, `report`: who may try to log in, and how often;
//! - `login`, `auth`: accounts, keys, passwords;
//! - `handler`, `channels`, `session`, `forward`: what a connection does after the login;
//! - `sftp`, `scp`: the far side of file copies, processes of their own with the user's rights.
//!
//! The connection's process gives up root's rights as soon as the login is known, so that sessions, forwarding and the
//! agent's socket need no checks of their own. SFTP is written here and not taken from `russh-sftp`: file names are
//! bytes, which that crate takes for text.

mod auth;
mod channels;
mod config;
mod connection;
mod forward;
mod handler;
mod hostkey;
mod limits;
mod listener;
mod log;
mod login;
mod options;
mod pattern;
mod report;
mod scp;
mod session;
mod sftp;
mod sockets;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use config::Config;
use listener::{Listener, Outcome};
use log::{Destination, error};
use options::{Mode, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let name = arguments.first().map(String::as_str).unwrap_or_default();
    match Path::new(name).file_name().and_then(|name| name.to_str()) {
        Some("sftp-server") => return sftp::main(&arguments[1..]),
        Some("scp") => return scp::main(&arguments[1..]),
        _ => {}
    }
    let options = match Options::parse(&arguments[1.min(arguments.len())..]) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(1);
        }
    };
    let config = match options.read_config() {
        Ok(config) => config,
        Err(messages) => {
            messages.iter().for_each(|message| eprintln!("{message}"));
            return ExitCode::from(255);
        }
    };
    match options.mode {
        Mode::Version => {
            eprintln!("Oxbow_{}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Mode::Test => ExitCode::SUCCESS,
        Mode::Print => {
            print!("{}", options.text_of(&config));
            ExitCode::SUCCESS
        }
        Mode::Serve => serve(&options, config),
    }
}

fn serve(options: &Options, config: Config) -> ExitCode {
    if let Err(message) = start_log(options, &config) {
        eprintln!("{message}");
        return ExitCode::from(1);
    }
    if options.debug {
        return match listener::serve_one(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => fail(&message),
        };
    }
    let pid_file = config.pid_file.clone();
    let listener = match Listener::new(config) {
        Ok(listener) => listener,
        Err(message) => return fail(&message),
    };
    if !options.foreground {
        // SAFETY: there is one thread, and no lock is held.
        if unsafe { libc::daemon(0, 0) } != 0 {
            return fail(&format!("daemon: {}", std::io::Error::last_os_error()));
        }
    }
    if let Some(path) = &pid_file {
        let written =
            File::create(path).and_then(|mut file| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            error!("Couldn't create pid file \"{}\": {error}", path.display());
        }
    }
    let reload = || match options.read_config() {
        Ok(config) => {
            let _ = start_log(options, &config);
            Some(config)
        }
        Err(messages) => {
            messages.iter().for_each(|message| error!("{message}"));
            None
        }
    };
    match listener.run(reload) {
        Outcome::Terminated => {
            if let Some(path) = &pid_file {
                let _ = std::fs::remove_file(path);
            }
        }
        Outcome::Serve(task) => {
            connection::serve(task.socket, Some(task.pipe), &task.config, &task.server)
        }
    }
    ExitCode::SUCCESS
}

fn fail(message: &str) -> ExitCode {
    error!("{message}");
    ExitCode::from(1)
}

fn start_log(options: &Options, config: &Config) -> Result<(), String> {
    let sink = match &options.log_file {
        Some(path) => File::options()
            .append(true)
            .create(true)
            .open(path)
            .map(log::Sink::File)
            .map_err(|error| format!("Couldn't open logfile {path}: {error}"))?,
        None if options.stderr || options.debug => log::Sink::Stderr,
        None => log::Sink::System {
            facility: config.log_facility,
        },
    };
    let level = if options.debug {
        log::Level::Debug
    } else if options.quiet {
        log::Level::Quiet
    } else {
        config.log_level
    };
    log::start(Destination {
        level,
        fixed: options.debug || options.quiet,
        sink,
    });
    Ok(())
}
