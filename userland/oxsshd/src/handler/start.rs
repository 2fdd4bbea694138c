//! Starting a session's program: what it is, what it finds, and the task that serves it.

use std::sync::Arc;

use russh::ChannelId;
use russh::server::Session;

use super::Connection;
use crate::log::error;
use crate::login::Login;
use crate::session::process::{self, Program};
use crate::session::stream::{Endpoint, Kind};
use crate::session::{run_on_pipes, run_on_terminal};

impl Connection {
    /// Starts a session's program and the task that serves it. False when that cannot be done.
    pub(super) fn start(&mut self, id: ChannelId, program: Program, session: &mut Session) -> bool {
        let Some(login) = self.login.clone() else {
            return false;
        };
        let Some((terminal, client_env)) = self
            .channels
            .session(id, |state| {
                let first = !std::mem::replace(&mut state.started, true);
                first.then(|| (state.terminal.take(), std::mem::take(&mut state.env)))
            })
            .flatten()
        else {
            return false;
        };
        let Some(channel) = self.channels.get(id, &session.handle()) else {
            return false;
        };

        let (program, mut own_env) = self.force(program, &login);
        if let Some(path) = self.listeners.agent_path() {
            own_env.push(("SSH_AUTH_SOCK".into(), path.display().to_string()));
        }
        let mut greeting = String::new();
        let program = match process::nologin(&login.account) {
            Some(text) => {
                greeting = text;
                Program::Command(b"exit 254".to_vec())
            }
            None => program,
        };
        if let Some(terminal) = &terminal {
            own_env.push(("SSH_TTY".into(), terminal.name.clone()));
            own_env.push(("TERM".into(), terminal.term.clone()));
            if self.config.print_motd
                && matches!(program, Program::LoginShell)
                && !login.account.home.join(".hushlogin").exists()
            {
                greeting += &process::read_text("/etc/motd".as_ref());
            }
        }
        let key_env: &[_] = if self.config.permit_user_environment {
            &login.options.environment
        } else {
            &[]
        };
        let env = process::environment(
            &login.account,
            self.addresses,
            &client_env,
            key_env,
            &own_env,
        );
        let (child, pipes) = match process::start(&program, &login.account, &env, terminal.as_ref())
        {
            Ok(started) => started,
            Err(error) => {
                error!("starting a session's program: {error}");
                return false;
            }
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        match (terminal, pipes) {
            (Some(terminal), _) => {
                drop(terminal.slave);
                let master = match Endpoint::new(terminal.master, Kind::Terminal) {
                    Ok(master) => Arc::new(master),
                    Err(error) => {
                        error!("terminal of a session: {error}");
                        return false;
                    }
                };
                self.channels.session(id, |state| {
                    state.screen = Some(master.clone());
                    state.process_group = group;
                });
                self.channels
                    .run(id, run_on_terminal(channel, child, master, greeting));
            }
            (None, Some(pipes)) => {
                self.channels
                    .session(id, |state| state.process_group = group);
                self.channels.run(id, async move {
                    if !greeting.is_empty() {
                        channel.send(greeting.into(), Some(1)).await;
                    }
                    run_on_pipes(channel, child, pipes).await;
                });
            }
            (None, None) => return false,
        }
        true
    }

    /// Puts the command that key or configuration force in the place of what the client wants.
    fn force(&self, program: Program, login: &Login) -> (Program, Vec<(String, String)>) {
        // The administrator's comes before the key's.
        let Some(forced) = self
            .config
            .force_command
            .as_ref()
            .or(login.options.command.as_ref())
        else {
            return (program, Vec::new());
        };
        let mut env = Vec::new();
        let original = match program {
            Program::Command(line) => Some(String::from_utf8_lossy(&line).into_owned()),
            Program::Sftp(_) => self.config.subsystem("sftp").map(String::from),
            Program::LoginShell => None,
        };
        if let Some(original) = original {
            // No variable of the environment can hold a NUL.
            env.push(("SSH_ORIGINAL_COMMAND".into(), original.replace('\0', "")));
        }
        (program_of(forced), env)
    }
}

/// What a forced command or a subsystem's command stands for.
pub(super) fn program_of(command: &str) -> Program {
    let mut words = command.split_ascii_whitespace().map(String::from);
    match words.next().as_deref() {
        Some("internal-sftp") => Program::Sftp(words.collect()),
        _ => Program::Command(command.as_bytes().to_vec()),
    }
}
