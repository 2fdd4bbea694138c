//! The authentication of one connection: what has been tried, what is logged and what the peer learns.
//!
//! A user that does not exist or may not log in goes the same way as one whose secret is wrong, and takes the same
//! time: answers that refuse come at multiples of a fixed time.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};
use tokio::time::Instant;

use crate::auth::account::Account;
use crate::auth::authorized_keys::KeyOptions;
use crate::auth::{self, password};
use crate::config::{Client, Config};
use crate::hostkey::key_type;
use crate::log::{self, info, verbose};
use crate::report::{Event, Report};
use crate::session::process::Addresses;

/// Refused passwords are answered at multiples of this, longer than a hash takes.
const PASSWORD_QUANTUM: Duration = Duration::from_millis(400);
/// Refused keys: long enough to hide the reading of a file.
const KEY_QUANTUM: Duration = Duration::from_millis(10);
/// Shorter RSA keys let nobody in (OpenSSH's RequiredRSASize).
const MIN_RSA_BITS: usize = 1024;

/// Who has logged in, and what the key allows.
#[derive(Clone)]
pub struct Login {
    pub account: Arc<Account>,
    pub options: Arc<KeyOptions>,
}

pub struct Authenticator {
    /// What the daemon was configured with.
    base: Arc<Config>,
    /// The same with what is said of the user.
    config: Arc<Config>,
    addresses: Addresses,
    report: Report,
    user: String,
    /// The account, where it exists and may log in.
    account: Option<Arc<Account>>,
    nr_failures: usize,
    login: Option<Login>,
}

impl Authenticator {
    pub fn new(config: Arc<Config>, addresses: Addresses, report: Report) -> Authenticator {
        Authenticator {
            base: config.clone(),
            config,
            addresses,
            report,
            user: String::new(),
            account: None,
            nr_failures: 0,
            login: None,
        }
    }

    pub fn login(&self) -> Option<Login> {
        self.login.clone()
    }

    /// What holds for the user of the last try.
    pub fn config(&self) -> Arc<Config> {
        self.config.clone()
    }

    /// What holds for `user`, who asks for something.
    pub fn config_for(&mut self, user: &str) -> Arc<Config> {
        self.select(user);
        self.config()
    }

    /// What a client may go on with.
    pub fn methods(config: &Config) -> MethodSet {
        let mut methods = MethodSet::empty();
        for (on, kind) in [
            (config.pubkey_authentication, MethodKind::PublicKey),
            (config.password_authentication, MethodKind::Password),
            (
                config.kbd_interactive_authentication,
                MethodKind::KeyboardInteractive,
            ),
        ] {
            if on {
                methods.push(kind);
            }
        }
        methods
    }

    fn refusal(&self) -> Auth {
        // The library ends the connection when nobody would have a try left; this user may have fewer.
        let spent = self.nr_failures >= self.config.max_auth_tries
            && self.config.max_auth_tries < self.base.most_auth_tries();
        let methods = if spent {
            MethodSet::empty()
        } else {
            Self::methods(&self.config)
        };
        Auth::Reject {
            proceed_with_methods: Some(methods),
            partial_success: false,
        }
    }

    /// Looks the account up; once for all tries as the same user.
    fn select(&mut self, user: &str) -> Option<Arc<Account>> {
        let peer = self.addresses.peer;
        if self.user != user || user.is_empty() {
            self.user = user.to_string();
            let account = Account::find(user);
            self.configure(account.as_ref());
            self.account = match account {
                None => {
                    info!(
                        "Invalid user {user} from {} port {}",
                        peer.ip(),
                        peer.port()
                    );
                    None
                }
                Some(account) => {
                    auth::allowed(&account, peer.ip(), &self.config).then(|| Arc::new(account))
                }
            };
            self.report.user(user, self.account.is_some());
        }
        self.account.clone()
    }

    /// Puts in force what Match blocks say of the user and where the client is.
    fn configure(&mut self, account: Option<&Account>) {
        if !self.base.has_blocks() {
            return;
        }
        let (peer, local) = (self.addresses.peer, self.addresses.local);
        let client = Client {
            user: Some(self.user.clone()),
            invalid_user: account.is_none(),
            groups: account.map_or(Vec::new(), Account::group_names),
            host: Some(peer.ip().to_string()),
            address: Some(peer.ip()),
            local_address: Some(local.ip()),
            local_port: Some(local.port()),
        };
        self.config = Arc::new(self.base.for_client(&client));
        log::set_level(self.config.log_level);
    }

    /// Whether there are tries left; a try takes one.
    fn may_try(&mut self) -> bool {
        self.nr_failures < self.config.max_auth_tries
    }

    fn failed(&mut self, method: &str) {
        self.nr_failures += 1;
        let invalid = if self.account.is_some() {
            ""
        } else {
            "invalid user "
        };
        let (user, peer) = (&self.user, self.addresses.peer);
        let text = format!(
            "Failed {method} for {invalid}{user} from {} port {} ssh2",
            peer.ip(),
            peer.port()
        );
        if method == "password" || method == "keyboard-interactive" {
            info!("{text}");
            self.report.send(Event::WrongPassword);
        } else {
            // Clients offer one key after the other; that is no attack yet.
            verbose!("{text}");
            self.report.refused_key();
        }
    }

    fn accepted(
        &mut self,
        account: Arc<Account>,
        options: KeyOptions,
        method: &str,
        detail: &str,
    ) -> Auth {
        let peer = self.addresses.peer;
        info!(
            "Accepted {method} for {} from {} port {} ssh2{detail}",
            account.name,
            peer.ip(),
            peer.port()
        );
        self.login = Some(Login {
            account,
            options: Arc::new(options),
        });
        Auth::Accept
    }

    /// The request that asks which methods there are; it succeeds for accounts without a password if those may log in.
    pub fn none(&mut self, user: &str) -> Auth {
        let account = self.select(user);
        match account {
            Some(account)
                if self.config.permit_empty_passwords
                    && self.config.password_authentication
                    && auth::password_allowed(&account, &self.config)
                    && password::check(Some(&account), "", true) =>
            {
                self.accepted(account, KeyOptions::default(), "none", "")
            }
            _ => self.refusal(),
        }
    }

    pub async fn password(&mut self, user: &str, secret: &str, method: &str) -> Auth {
        let start = Instant::now();
        let account = self.select(user);
        let enabled = match method {
            "password" => self.config.password_authentication,
            _ => self.config.kbd_interactive_authentication,
        };
        if !enabled || !self.may_try() {
            return self.refusal();
        }
        let permit_empty = self.config.permit_empty_passwords;
        let fits = password::check(account.as_deref(), secret, permit_empty);
        if let Some(account) = account {
            match (fits, auth::password_allowed(&account, &self.config)) {
                (true, true) => return self.accepted(account, KeyOptions::default(), method, ""),
                (true, false) => {
                    let peer = self.addresses.peer;
                    info!("ROOT LOGIN REFUSED FROM {} port {}", peer.ip(), peer.port());
                }
                _ => {}
            }
        }
        self.failed(method);
        wait_for_multiple(start, PASSWORD_QUANTUM).await;
        self.refusal()
    }

    /// Whether a key would do; asked before the client signs with it.
    pub async fn key_offered(
        &mut self,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Auth {
        let start = Instant::now();
        let account = self.select(user);
        if self.may_try()
            && account.is_some_and(|account| self.options_of(&account, key, algorithm).is_some())
        {
            return Auth::Accept;
        }
        self.failed("publickey");
        wait_for_multiple(start, KEY_QUANTUM).await;
        self.refusal()
    }

    /// The client has proved that it has the key.
    pub async fn key_proved(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Auth {
        let start = Instant::now();
        if let Some(account) = self.select(user)
            && self.may_try()
            && let Some(options) = self.options_of(&account, key, algorithm)
        {
            let print = format!(
                ": {} {}",
                key_type(&key.algorithm()),
                key.fingerprint(HashAlg::Sha256)
            );
            return self.accepted(account, options, "publickey", &print);
        }
        self.failed("publickey");
        wait_for_multiple(start, KEY_QUANTUM).await;
        self.refusal()
    }

    fn options_of(
        &self,
        account: &Account,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Option<KeyOptions> {
        if !self.config.pubkey_authentication || !strong_enough(key, algorithm) {
            return None;
        }
        let options = auth::find_key(account, key, self.addresses.peer.ip(), &self.config)?;
        if auth::key_allowed(account, &options, &self.config) {
            return Some(options);
        }
        info!(
            "ROOT LOGIN REFUSED FROM {} port {}",
            self.addresses.peer.ip(),
            self.addresses.peer.port()
        );
        None
    }
}

/// No SHA-1 signatures, no DSA, no short RSA keys.
fn strong_enough(key: &PublicKey, algorithm: &Algorithm) -> bool {
    match algorithm {
        Algorithm::Rsa { hash: None } | Algorithm::Dsa => false,
        Algorithm::Rsa { .. } => key.key_data().rsa().is_some_and(|key| {
            key.n()
                .as_positive_bytes()
                .is_some_and(|n| n.len() * 8 >= MIN_RSA_BITS)
        }),
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => true,
        // Signatures of security keys carry flags that nobody here checks.
        _ => false,
    }
}

async fn wait_for_multiple(start: Instant, quantum: Duration) {
    let spent = start.elapsed().as_millis() / quantum.as_millis().max(1) + 1;
    tokio::time::sleep_until(start + quantum * u32::try_from(spent).unwrap_or(1)).await;
}
