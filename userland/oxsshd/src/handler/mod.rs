//! What the library asks for one connection: authentication goes to [`Authenticator`], channels to [`Channels`],
//! sessions to `session`, listeners to `forward`. Nothing here waits for a program or another machine.

mod start;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{ChannelId, ChannelOpenFailure, Error, Pty, Sig};

use crate::channels::Channels;
use crate::config::Config;
use crate::connection::set_limits;
use crate::forward::{self, Listeners};
use crate::log::{error, info};
use crate::login::{Authenticator, Login};
use crate::pattern;
use crate::report::{Event, Report};
use crate::session::process::{Addresses, Program, read_text};
use crate::session::pty::{self, Size};
use crate::session::signal_number;
use start::program_of;

/// Variables that one session may set, and their total size.
const MAX_ENV: usize = 128;
const MAX_ENV_BYTES: usize = 32 << 10;

pub struct Connection {
    config: Arc<Config>,
    addresses: Addresses,
    report: Report,
    authenticator: Authenticator,
    login: Option<Login>,
    channels: Channels,
    listeners: Listeners,
}

type Opened = russh::Channel<Msg>;

impl Connection {
    pub fn new(config: Arc<Config>, addresses: Addresses, report: Report) -> Connection {
        Connection {
            authenticator: Authenticator::new(config.clone(), addresses, report.clone()),
            config,
            addresses,
            report,
            login: None,
            channels: Channels::default(),
            listeners: Listeners::default(),
        }
    }

    fn answer(&self, id: ChannelId, done: bool, session: &mut Session) -> Result<(), Error> {
        if done {
            session.channel_success(id)
        } else {
            session.channel_failure(id)
        }
    }

    fn may_forward(&self) -> bool {
        self.login
            .as_ref()
            .is_some_and(|login| login.options.port_forwarding)
    }

    /// Accepts a channel once `connect` has a socket for it, and relays.
    fn open_to(
        &mut self,
        opened: Opened,
        reply: ChannelOpenHandle,
        session: &mut Session,
        connect: impl Future<Output = std::io::Result<OwnedFd>> + Send + 'static,
    ) {
        let channel = self.channels.attach(opened, &session.handle());
        self.channels.run(channel.id, async move {
            match connect.await {
                Ok(socket) => {
                    reply.accept().await;
                    channel.relay(socket).await;
                }
                Err(error) => {
                    let reason = ChannelOpenFailure::Other {
                        code: 2,
                        reason: error.to_string(),
                    };
                    reply.reject(reason).await;
                }
            }
        });
    }
}

impl Handler for Connection {
    type Error = Error;

    async fn authentication_banner(&mut self, user: &str) -> Result<Option<String>, Error> {
        let config = self.authenticator.config_for(user);
        let text = config.banner.as_deref().map(read_text);
        Ok(text.filter(|text| !text.is_empty()))
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        Ok(self.authenticator.none(user))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        Ok(self
            .authenticator
            .password(user, password, "password")
            .await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        let config = self.authenticator.config_for(user);
        if !config.kbd_interactive_authentication {
            return Ok(self
                .authenticator
                .password(user, "", "keyboard-interactive")
                .await);
        }
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false)].into(),
            });
        };
        let answer = response.next().unwrap_or_default();
        let secret = String::from_utf8(answer.to_vec()).unwrap_or_default();
        Ok(self
            .authenticator
            .password(user, &secret, "keyboard-interactive")
            .await)
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Ok(self
            .authenticator
            .key_offered(user, offer.public_key, offer.algorithm)
            .await)
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        Ok(self
            .authenticator
            .key_proved(user, key.public_key, key.algorithm)
            .await)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        let Some(login) = self.authenticator.login() else {
            return Err(Error::NotAuthenticated);
        };
        // SAFETY: a plain system call.
        unsafe { libc::alarm(0) };
        login.account.become_it().map_err(|error| {
            error!("cannot become {}: {error}", login.account.name);
            Error::IO(error)
        })?;
        self.report.send(Event::LoggedIn);
        self.login = Some(login);
        self.config = self.authenticator.config();
        if self.config.has_blocks() {
            set_limits(session.config_mut(), &self.config);
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Opened,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        if self.login.is_none() || self.channels.nr_sessions() >= self.config.max_sessions {
            reply
                .reject(ChannelOpenFailure::Other {
                    code: 1,
                    reason: "open failed".into(),
                })
                .await;
            return Ok(());
        }
        self.channels.attach_session(channel, &session.handle());
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Opened,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        let permitted = self.config.tcp_forwarding().local
            && self.may_forward()
            && self
                .login
                .as_ref()
                .is_some_and(|login| login.options.may_open(host, port));
        let Some(number) = u16::try_from(port).ok().filter(|_| permitted) else {
            info!(
                "refused local port forward: originator {} target {host} port {port}",
                self.addresses.peer.ip()
            );
            reply
                .reject(ChannelOpenFailure::Other {
                    code: 1,
                    reason: "open failed".into(),
                })
                .await;
            return Ok(());
        };
        let host = host.to_string();
        self.open_to(channel, reply, session, async move {
            forward::connect(&host, number).await
        });
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Opened,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        // A key that is bound to some targets is bound to those.
        let unbound = self
            .login
            .as_ref()
            .is_some_and(|login| login.options.permit_open.is_empty());
        if !self.config.stream_local_forwarding().local || !self.may_forward() || !unbound {
            reply
                .reject(ChannelOpenFailure::Other {
                    code: 1,
                    reason: "open failed".into(),
                })
                .await;
            return Ok(());
        }
        let path = path.to_string();
        self.open_to(channel, reply, session, async move {
            forward::connect_unix(&path).await
        });
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.channels.confirmed(id);
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.channels.data(id, data);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.channels.end(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.channels.close(id);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let permitted =
            self.config.permit_tty && self.login.as_ref().is_some_and(|login| login.options.pty);
        let free = self
            .channels
            .session(id, |state| state.terminal.is_none() && !state.started)
            == Some(true);
        if !permitted || !free || term.contains('\0') {
            return session.channel_failure(id);
        }
        match pty::open(term, Size(columns, rows, width, height), modes) {
            Ok(terminal) => {
                self.channels
                    .session(id, |state| state.terminal = Some(terminal));
                session.channel_success(id)
            }
            Err(error) => {
                error!("openpty: {error}");
                session.channel_failure(id)
            }
        }
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let size = Size(columns, rows, width, height);
        let done = self
            .channels
            .session(id, |state| match (&state.screen, &state.terminal) {
                (Some(screen), _) => pty::resize(screen.descriptor(), size).is_ok(),
                (None, Some(terminal)) => pty::resize(&terminal.master, size).is_ok(),
                (None, None) => false,
            });
        self.answer(id, done == Some(true), session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let accepted = self
            .config
            .accept_env
            .iter()
            .any(|known| pattern::matches(name, known))
            && !name.contains(['=', '\0'])
            && !value.contains('\0');
        let done = accepted
            && self.channels.session(id, |state| {
                let used: usize = state
                    .env
                    .iter()
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                let room =
                    state.env.len() < MAX_ENV && used + name.len() + value.len() <= MAX_ENV_BYTES;
                if room {
                    state.env.push((name.to_string(), value.to_string()));
                }
                room
            }) == Some(true);
        self.answer(id, done, session)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        let done = self.start(id, Program::LoginShell, session);
        self.answer(id, done, session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        let done =
            !command.contains(&0) && self.start(id, Program::Command(command.to_vec()), session);
        self.answer(id, done, session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let done = match self.config.subsystem(name).map(program_of) {
            Some(program) => self.start(id, program, session),
            None => {
                error!("subsystem request for {name} failed, subsystem not found");
                false
            }
        };
        self.answer(id, done, session)
    }

    async fn signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        session: &mut Session,
    ) -> Result<(), Error> {
        let group = self
            .channels
            .session(id, |state| state.process_group)
            .flatten();
        let done = match (group, signal_number(&signal)) {
            // SAFETY: a plain system call; without such a group it fails.
            (Some(group), Some(number)) => unsafe { libc::killpg(group, number) == 0 },
            _ => false,
        };
        self.answer(id, done, session)
    }

    async fn agent_request(
        &mut self,
        _id: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let permitted = self.config.agent_forwarding()
            && self
                .login
                .as_ref()
                .is_some_and(|login| login.options.agent_forwarding);
        if !permitted {
            return Ok(false);
        }
        let made = self
            .listeners
            .agent_socket(session.handle(), self.channels.clone());
        if let Err(error) = &made {
            error!("socket for the agent: {error}");
        }
        Ok(made.is_ok())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let permitted = self.config.tcp_forwarding().remote
            && self.may_forward()
            && self
                .login
                .as_ref()
                .is_some_and(|login| login.options.may_listen(address, *port));
        if !permitted {
            info!("Server has disabled port forwarding.");
            return Ok(false);
        }
        let (gateway, channels) = (self.config.gateway_ports, self.channels.clone());
        match self
            .listeners
            .add_tcp(address, *port, gateway, session.handle(), channels)
            .await
        {
            Ok(bound) => {
                *port = bound;
                Ok(true)
            }
            Err(error) => {
                info!("bind [{address}]:{port}: {error}");
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove_tcp(address, port))
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut Session,
    ) -> Result<bool, Error> {
        if !self.config.stream_local_forwarding().remote || !self.may_forward() {
            return Ok(false);
        }
        let (unlink, channels) = (self.config.stream_local_unlink, self.channels.clone());
        let made = self
            .listeners
            .add_unix(path, unlink, session.handle(), channels);
        if let Err(error) = &made {
            info!("unix_listener: cannot bind to path {path}: {error}");
        }
        Ok(made.is_ok())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove_unix(path))
    }
}
