//! What sshd_config says (man 5 sshd_config): the values, their defaults, and how `sshd -T` prints them.
//!
//! `parse` reads the text, `keyword` knows what each line means, `condition` whom a Match block is for. The first value
//! of a keyword counts, except for keywords that make lists.

mod condition;
mod include;
mod keyword;
mod line;
mod parse;
mod value;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::log::Level;
pub use condition::Client;
pub use parse::Parser;
pub use value::{Algorithms, Forwarding, Gateway, PermitRoot, Startups};

/// Where the configuration is, unless `-f` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/ssh/sshd_config";

/// Rate limits per source address (OpenSSH 9.8's PerSourcePenalties).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Penalties {
    pub enabled: bool,
    /// Seconds for a connection that crashed its process.
    pub crash: u64,
    /// Seconds for a wrong password, or a connection that ended after refused keys.
    pub authfail: u64,
    /// Seconds for a connection that never tried to log in.
    pub noauth: u64,
    /// Seconds for one that let LoginGraceTime pass.
    pub grace_exceeded: u64,
    /// No source is refused for longer.
    pub max: u64,
    /// Below this sum nothing is refused.
    pub min: u64,
    pub exempt: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub ports: Vec<u16>,
    /// Addresses to listen on, with a port where one was given; all addresses when empty.
    pub listen: Vec<(IpAddr, Option<u16>)>,
    /// AddressFamily: whether IPv4 and IPv6 are listened on.
    pub inet: bool,
    pub inet6: bool,
    pub host_keys: Vec<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub log_level: Level,
    pub log_facility: u8,

    pub login_grace: Duration,
    pub max_auth_tries: usize,
    pub max_startups: Startups,
    /// Connections of one source that have not logged in.
    pub per_source_startups: Option<usize>,
    pub penalties: Penalties,
    pub max_sessions: usize,
    pub client_alive_interval: Duration,
    pub client_alive_count: usize,
    pub tcp_keep_alive: bool,
    pub kex: Algorithms,
    pub ciphers: Algorithms,
    pub macs: Algorithms,
    pub rekey_bytes: usize,
    pub rekey_time: Duration,

    pub permit_root: PermitRoot,
    pub pubkey_authentication: bool,
    pub password_authentication: bool,
    pub kbd_interactive_authentication: bool,
    pub permit_empty_passwords: bool,
    pub authorized_keys_files: Vec<String>,
    pub strict_modes: bool,
    pub allow_users: Vec<String>,
    pub deny_users: Vec<String>,
    pub allow_groups: Vec<String>,
    pub deny_groups: Vec<String>,
    pub banner: Option<PathBuf>,

    pub accept_env: Vec<String>,
    pub permit_user_environment: bool,
    pub permit_tty: bool,
    pub print_motd: bool,
    pub force_command: Option<String>,
    pub subsystems: Vec<(String, String)>,
    tcp_forwarding: Forwarding,
    stream_local_forwarding: Forwarding,
    pub stream_local_unlink: bool,
    agent_forwarding: bool,
    pub gateway_ports: Gateway,
    /// Whatever the others say.
    disable_forwarding: bool,
    /// Lines of Match blocks.
    conditional: Arc<[parse::Conditional]>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            ports: Vec::new(),
            listen: Vec::new(),
            inet: true,
            inet6: true,
            host_keys: Vec::new(),
            pid_file: Some("/run/sshd.pid".into()),
            log_level: Level::Info,
            log_facility: 10,
            login_grace: Duration::from_secs(120),
            max_auth_tries: 6,
            max_startups: Startups {
                begin: 10,
                rate: 30,
                full: 100,
            },
            per_source_startups: None,
            penalties: Penalties {
                enabled: true,
                crash: 90,
                authfail: 5,
                noauth: 1,
                grace_exceeded: 10,
                max: 600,
                min: 30,
                exempt: Vec::new(),
            },
            max_sessions: 10,
            client_alive_interval: Duration::ZERO,
            client_alive_count: 3,
            tcp_keep_alive: true,
            kex: Algorithms::kex(),
            ciphers: Algorithms::ciphers(),
            macs: Algorithms::macs(),
            rekey_bytes: 1 << 30,
            // Only by volume; OpenSSH sets no time either.
            rekey_time: Duration::from_secs(u64::MAX / 4),
            permit_root: PermitRoot::ProhibitPassword,
            pubkey_authentication: true,
            password_authentication: true,
            kbd_interactive_authentication: true,
            permit_empty_passwords: false,
            authorized_keys_files: Vec::new(),
            strict_modes: true,
            allow_users: Vec::new(),
            deny_users: Vec::new(),
            allow_groups: Vec::new(),
            deny_groups: Vec::new(),
            banner: None,
            accept_env: Vec::new(),
            permit_user_environment: false,
            permit_tty: true,
            print_motd: true,
            force_command: None,
            subsystems: Vec::new(),
            tcp_forwarding: Forwarding::ALL,
            stream_local_forwarding: Forwarding::ALL,
            stream_local_unlink: false,
            agent_forwarding: true,
            gateway_ports: Gateway::No,
            disable_forwarding: false,
            conditional: Arc::new([]),
        }
    }
}

impl Config {
    /// Reads the configuration from `text`, whose name in messages is `file`.
    ///
    /// # Errors
    /// One problem for each line that is wrong.
    #[cfg(test)]
    pub fn parse(text: &str, file: &str) -> Result<Config, Vec<parse::Problem>> {
        let mut parser = Parser::default();
        parser.file(text, file);
        parser.finish()
    }

    /// Whether what holds depends on the client.
    pub fn has_blocks(&self) -> bool {
        !self.conditional.is_empty()
    }

    /// What holds for `client`: the Match blocks that it fits come first.
    pub fn for_client(&self, client: &Client) -> Config {
        let mut config = self.clone();
        parse::put_in_force(&mut config, &self.conditional, client);
        config
    }

    /// The most tries that any client has.
    pub fn most_auth_tries(&self) -> usize {
        let mut most = self.max_auth_tries;
        for line in self.conditional.iter() {
            let mut config = self.clone();
            line.apply(&mut config);
            most = most.max(config.max_auth_tries);
        }
        most
    }

    /// Which sockets of TCP may be forwarded.
    pub fn tcp_forwarding(&self) -> Forwarding {
        self.unless_disabled(self.tcp_forwarding)
    }

    /// Which sockets of the Unix domain may be forwarded.
    pub fn stream_local_forwarding(&self) -> Forwarding {
        self.unless_disabled(self.stream_local_forwarding)
    }

    /// Whether the client's agent may be forwarded.
    pub fn agent_forwarding(&self) -> bool {
        self.agent_forwarding && !self.disable_forwarding
    }

    fn unless_disabled(&self, forwarding: Forwarding) -> Forwarding {
        if self.disable_forwarding {
            Forwarding::NONE
        } else {
            forwarding
        }
    }

    /// Gives lists that nothing was put into their defaults.
    fn fill(&mut self) {
        if self.ports.is_empty() {
            self.ports.push(22);
        }
        if self.host_keys.is_empty() {
            self.host_keys.push("/etc/ssh/ssh_host_ed25519_key".into());
        }
        if self.authorized_keys_files.is_empty() {
            self.authorized_keys_files = vec![
                ".ssh/authorized_keys".into(),
                ".ssh/authorized_keys2".into(),
            ];
        }
    }

    /// The command of a subsystem.
    pub fn subsystem(&self, name: &str) -> Option<&str> {
        self.subsystems
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, command)| command.as_str())
    }

    /// The lines of `sshd -T`.
    pub fn print(&self) -> String {
        let yes_no = |value: bool| if value { "yes" } else { "no" }.to_string();
        let mut lines: Vec<(&str, String)> = Vec::new();
        lines.extend(self.ports.iter().map(|port| ("port", port.to_string())));
        lines.push((
            "addressfamily",
            match (self.inet, self.inet6) {
                (true, false) => "inet".into(),
                (false, true) => "inet6".into(),
                _ => "any".into(),
            },
        ));
        for (address, port) in &self.listen {
            for port in port.map_or(self.ports.clone(), |port| vec![port]) {
                lines.push((
                    "listenaddress",
                    std::net::SocketAddr::new(*address, port).to_string(),
                ));
            }
        }
        lines.push(("logingracetime", self.login_grace.as_secs().to_string()));
        lines.push(("maxauthtries", self.max_auth_tries.to_string()));
        lines.push(("maxsessions", self.max_sessions.to_string()));
        lines.push(("maxstartups", self.max_startups.to_string()));
        lines.push((
            "persourcemaxstartups",
            self.per_source_startups
                .map_or("none".into(), |n| n.to_string()),
        ));
        lines.push(("persourcepenalties", self.penalties.to_string()));
        lines.push((
            "clientaliveinterval",
            self.client_alive_interval.as_secs().to_string(),
        ));
        lines.push(("clientalivecountmax", self.client_alive_count.to_string()));
        lines.push(("tcpkeepalive", yes_no(self.tcp_keep_alive)));
        lines.push(("permitrootlogin", self.permit_root.name().into()));
        lines.push(("pubkeyauthentication", yes_no(self.pubkey_authentication)));
        lines.push((
            "passwordauthentication",
            yes_no(self.password_authentication),
        ));
        lines.push((
            "kbdinteractiveauthentication",
            yes_no(self.kbd_interactive_authentication),
        ));
        lines.push(("permitemptypasswords", yes_no(self.permit_empty_passwords)));
        lines.push(("strictmodes", yes_no(self.strict_modes)));
        lines.push((
            "permituserenvironment",
            yes_no(self.permit_user_environment),
        ));
        lines.push(("permittty", yes_no(self.permit_tty)));
        lines.push(("printmotd", yes_no(self.print_motd)));
        lines.push(("allowtcpforwarding", self.tcp_forwarding.name().into()));
        lines.push((
            "allowstreamlocalforwarding",
            self.stream_local_forwarding.name().into(),
        ));
        lines.push(("streamlocalbindunlink", yes_no(self.stream_local_unlink)));
        lines.push(("allowagentforwarding", yes_no(self.agent_forwarding)));
        lines.push(("disableforwarding", yes_no(self.disable_forwarding)));
        lines.push(("gatewayports", self.gateway_ports.name().into()));
        lines.push(("x11forwarding", "no".into()));
        lines.push(("loglevel", self.log_level.name().into()));
        lines.push(("kexalgorithms", self.kex.to_string()));
        lines.push(("ciphers", self.ciphers.to_string()));
        lines.push(("macs", self.macs.to_string()));
        lines.push(("authorizedkeysfile", self.authorized_keys_files.join(" ")));
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map_or("none".into(), |path| path.display().to_string())
        };
        lines.push(("banner", path(&self.banner)));
        lines.push(("pidfile", path(&self.pid_file)));
        lines.push((
            "forcecommand",
            self.force_command.clone().unwrap_or_else(|| "none".into()),
        ));
        lines.extend(
            self.host_keys
                .iter()
                .map(|key| ("hostkey", key.display().to_string())),
        );
        for (name, list) in [
            ("acceptenv", &self.accept_env),
            ("allowusers", &self.allow_users),
            ("denyusers", &self.deny_users),
            ("allowgroups", &self.allow_groups),
            ("denygroups", &self.deny_groups),
        ] {
            lines.extend(list.iter().map(|entry| (name, entry.clone())));
        }
        lines.extend(
            self.subsystems
                .iter()
                .map(|(name, command)| ("subsystem", format!("{name} {command}"))),
        );
        lines
            .into_iter()
            .map(|(name, value)| format!("{name} {value}\n"))
            .collect()
    }
}
